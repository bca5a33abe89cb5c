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

from ..errors import RoadtripError
from .budget import VIEWS
from .library import ROAD, ROADS, opening_model, shipped_names
from .session import Session

Event = dict[str, Any]  # what gradio listens with: fn, inputs, outputs, and how it is queued
QUIET: Event = {"api_visibility": "private", "show_progress": "hidden"}
# beside a training; most of them only wait for their turn
VIEW: Event = {"concurrency_id": "view", "concurrency_limit": VIEWS, "show_progress": "hidden"}


OUR_FAULT = "Something went wrong on our side; try again, or with other settings."


class Field(NamedTuple):
    """A value that stands in the address, under its name.

    parse: from a link's text to the component's value; raises ValueError or RoadtripError for what it can't be.
    choices: of a menu whose choices differ between sessions; a link may ask for one of them.
    """

    name: str
    component: Any
    parse: Callable[[str], Any] = str
    choices: Callable[[Session], list[str]] | None = None


class Tab(NamedTuple):
    """restore: events that put back, as soon as the page is there, what the address and the session say; they compute
    next to nothing. first: events that draw the tab for the first time, one after the other. changes: events after which
    there are other models or films. warm_up: called once when the server starts, so that no visitor waits for it."""

    address: list[Field]
    first: list[Event]
    changes: list[Any]
    restore: Sequence[Event] = ()
    warm_up: Callable[[], None] | None = None


def model_menu(label: str, wanted: str, place: int = 0) -> gr.Dropdown:
    """A menu of models that opens as `opening_model` says."""
    value, info = opening_model(wanted, place), "Pretrained, or trained by you."
    return gr.Dropdown(shipped_names(), value=value, label=label, info=info, min_width=230)


def film_and_start() -> tuple[gr.Dropdown, gr.Slider]:
    """The menu of films, and a slider over starts, which `start_range` fits to a film."""
    film = gr.Dropdown(list(ROADS), value=ROAD, label="Film", info="Add your own in Train.", min_width=230)
    info = "First input frame, held out in training."
    return film, gr.Slider(0, 10**6, 0, step=1, label="Start frame", info=info, min_width=230)


def address_of(models: dict[str, gr.Dropdown], film: gr.Dropdown, start: gr.Slider) -> list[Field]:
    """What the address says of them, the models under these names."""
    fields = [Field(name, menu, choices=Session.model_names) for name, menu in models.items()]
    fields.append(Field("film", film, choices=Session.film_names))
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
    except RoadtripError as error:
        raise ui_error(str(error)) from None
    except Exception:
        logging.getLogger("roadtrip").exception("unexpected")
        raise ui_error(OUR_FAULT) from None


def ui_error(sentence: str) -> gr.Error:
    """A sentence as a gr.Error, which is shown as HTML; the sentence may hold the name of an uploaded file."""
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is: names of films come from uploaded files."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$])", r"\\\1", text)


def two_decimals(value: float | None, undefined: str = "–") -> str:
    return undefined if value is None else f"{value:.2f}"
