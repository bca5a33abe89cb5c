"""What every tab is built with: its value for the page, how its events are queued, shared menus, errors and texts.

Independent of what the tab shows.
"""

import html
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gradio as gr

from ..errors import RoadtripError, no_room
from .budget import DISK_FULL, OUR_FAULT, VIEWS
from .library import ROAD, opening_model, shipped_titles
from .session import Session

Event = dict[str, Any]  # what gradio listens with: fn, inputs, outputs, and how it is queued
# of what happens while the answer to the same is awaited, the last counts; gradio would pass over all of it
QUIET: Event = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
FIRST = 1200  # the rendered road's first held-out frame
# beside a training; most of them only wait for their turn
VIEW: Event = {"concurrency_id": "view", "concurrency_limit": VIEWS, "show_progress": "hidden"}


class Field(NamedTuple):
    """A value that stands in the address, under its name.

    parse: from a link's text to the component's value; raises ValueError or RoadtripError for what it can't be.
    choices: of a menu whose choices differ between sessions, as (what it says, value); a link may ask for a value.
    """

    name: str
    component: Any
    parse: Callable[[str], Any] = str
    choices: Callable[[Session], list[tuple[str, str]]] | None = None


class Tab(NamedTuple):
    """restore: events that put back, as soon as the page is there, what the address and the session say; they compute
    next to nothing. first: events that draw the tab for the first time, one after the other. changes: events after which
    there are other models or films. opened: what happens when the tab is opened. pinned, warm_up: called once when the
    server starts, all tabs' pinned before the first warm_up, so that no visitor waits."""

    address: list[Field]
    first: list[Event]
    changes: list[Any]
    restore: Sequence[Event] = ()
    opened: Event | None = None
    pinned: Callable[[], None] | None = None
    warm_up: Callable[[], None] | None = None


def model_menu(label: str, wanted: str, place: int = 0) -> gr.Dropdown:
    """A menu of models that opens as `opening_model` says."""
    choices = [(title, name) for name, title in shipped_titles().items()]
    return gr.Dropdown(choices, value=opening_model(wanted, place), label=label, filterable=False, min_width=220)


# A number may be typed out of its slider's range: our own code says what it takes instead, where gradio would say so in a
# corner of the page and leave the film waiting. Of the class, as gradio makes a slider anew whenever its range changes.
gr.Slider.preprocess = lambda self, payload: payload  # type: ignore[method-assign]


class Limits(NamedTuple):
    """What a number field takes."""

    field: Any
    low: float
    high: float
    whole: bool = True


def range_note(*limits: Limits) -> None:
    """One sentence below number fields, while there is anything in one of them that it can't take."""
    wrong = gr.Markdown(elem_classes="rt-wrong")

    def check(*values: float | None) -> str:
        for (field, low, high, whole), value in zip(limits, values):
            if value is None or not low <= value <= high or (whole and value != int(value)):
                return f"**{field.label}: choose a {'whole ' * whole}number from {low:,g} to {high:,}.**"
        return ""

    fields = [limit.field for limit in limits]
    gr.on([field.change for field in fields], check, fields, wrong, **QUIET | {"queue": False})


def film_and_start(first: int = FIRST) -> tuple[gr.Dropdown, gr.Slider]:
    """The menu of films, and a slider over starts, which `start_slider` fits to a film."""
    film = gr.Dropdown(Session().film_choices(), value=ROAD, label="Film", filterable=False, min_width=160)
    info = "Held out from the models; out of range, the nearest."
    how: dict[str, Any] = {"label": "First input frame", "info": info, "min_width": 240}
    return film, gr.Slider(0, 10**6, first, step=1, **how)


def address_of(models: dict[str, gr.Dropdown], film: gr.Dropdown, start: gr.Slider) -> list[Field]:
    """What the address says of them, the models under these names."""
    fields = [Field(name, menu, choices=Session.model_choices) for name, menu in models.items()]
    fields.append(Field("film", film, choices=Session.film_choices))
    return [*fields, Field("start", start, lambda text: whole_number(text, 0, 10**9))]


def whole_number(text: str, low: int, high: int) -> int:
    """Raises ValueError where a link's text is not a whole number in this range."""
    if not (text.isascii() and text.isdigit() and len(text) < 11 and low <= int(text) <= high):
        raise ValueError(text)
    return int(text)


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows a RoadtripError in the page as its sentence; any other error as our fault, with its details in the log only."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise ui_error(sentence_of(error)) from None


def sentence_of(error: Exception) -> str:
    """What the page says of an error: a RoadtripError as its sentence, but a disk that is full in words for one who chooses
    no folder; any other is our fault, its details in the log."""
    if no_room(error):
        logging.getLogger("roadtrip").error("no room: %s", type(error).__name__)
        return DISK_FULL
    if isinstance(error, RoadtripError):
        return str(error)
    logging.getLogger("roadtrip").error("unexpected", exc_info=error)
    return OUR_FAULT


def ui_error(sentence: str, visible: bool = True) -> gr.Error:
    """A sentence as a gr.Error, which is shown as HTML; the sentence may hold the name of an uploaded file. visible: False
    where the page says it already."""
    return gr.Error(html.escape(sentence, quote=False), visible=visible, print_exception=False)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is: names of films come from uploaded files."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$])", r"\\\1", text)


def two_decimals(value: float | None, undefined: str = "–") -> str:
    return undefined if value is None else f"{value:.2f}"


def busy(player_id: str, *triggers: Any) -> None:
    """Dims a tab's film at once, in the browser, whenever one of these happens."""
    gr.on([*triggers], None, js=f"() => window.rtBusy('{player_id}')", **QUIET)
