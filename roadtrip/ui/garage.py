"""What one visitor has at hand: films and models, shipped, uploaded or trained here. Shared by the tabs.

Says in one sentence what went wrong; knows nothing of players and charts.
"""

from __future__ import annotations

import html
import logging
import math
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from torch import Tensor

from ..checkpoint import MODEL, load
from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import RECIPES
from ..sources import open_film

ROAD = "the rendered road"
# what the menus call them, and what open_film does; the shipped models know the first only
ROADS = {ROAD: "scenery", "another rendered road": "scenery:1", "a third rendered road": "scenery:2"}
BORROWED = find_spec("spaces") is not None  # a ZeroGPU Space, where a GPU is lent for the length of a call
SIZE = (72, 128)  # height and width of the films here
MAX_MODELS, MAX_FILMS = 6, 2  # a visitor keeps, the newest; a film of 16,000 stills is 440 MB
MAX_PARKED, MAX_BYTES = 32, 2 * 2**30  # garages kept for a reload, and their films
T = TypeVar("T")


def checkpoints() -> Path:
    return Path(os.environ.get("ROADTRIP_CHECKPOINTS") or Path(__file__).parents[2] / "checkpoints")


@lru_cache(maxsize=16)
def _shipped(folder: str) -> NextFrame:
    return load(folder)


_rendering = threading.Lock()  # whoever comes while the road is being rendered waits for it and renders no second one


@lru_cache(maxsize=2 * len(ROADS))
def _rendered(road: str, size: tuple[int, int]) -> Film:
    return open_film(road, size=size)


def rendered_road(name: str = ROAD, size: tuple[int, int] = SIZE) -> Film:
    with _rendering:
        return _rendered(ROADS[name], size)


@dataclass
class Garage:
    """One visitor's films and models by what the menus call them; never shared with another visitor."""

    films: dict[str, Film] = field(default_factory=dict)
    models: dict[str, NextFrame] = field(default_factory=dict)
    newest: str | None = None  # what the model is called that was trained here last
    trained: NextFrame | None = None  # that model itself: an uploaded one is never it, whatever its name
    runs: int = 0  # trainings begun, so that each run's name is its own
    training: bool = False
    learned: bool = False  # whether the latest training has kept a model yet
    unfinished: Any = None  # the latest Training (see train_tab), to go on with
    # what is ready to download; made when first needed (a copy of an empty garage has none), gone with the visitor
    _outbox: tempfile.TemporaryDirectory[str] | None = None

    def film_names(self) -> list[str]:
        return [*ROADS, *self.films]

    def model_names(self) -> list[str]:
        return [*self.models, *shipped_names()]

    def film(self, name: str, gap: str | None = None) -> Film:
        """gap: as a visitor wrote it; empty for the film's own."""
        if name not in ROADS and name not in self.films:
            raise RoadtripError("That film is no longer here; upload it again.")
        film = rendered_road(name) if name in ROADS else self.films[name]
        gap = (gap or "").strip()
        return film.with_gap(gap) if gap else film

    def film_for(self, name: str, model: NextFrame) -> Film:
        """A film as this model was trained on it, where it was: a rendered road in its size, and its gap."""
        film = self.film(name)
        smaller = model.size[0] * model.size[1] < SIZE[0] * SIZE[1]  # an uploaded model may ask for any size
        if name in ROADS and smaller:
            film = rendered_road(name, model.size)
        return film.with_gap(model.provenance.film.gap) if trained_on(film, model) else film

    def model(self, name: str) -> NextFrame:
        if name in self.models:
            return self.models[name]
        if name not in shipped_names():
            raise RoadtripError("Choose a model; train one in the Train tab if there is none.")
        return shipped(name)

    def keep_film(self, film: Film) -> None:
        _shelve(self.films, film.name, film, MAX_FILMS)

    def keep_model(self, name: str, model: NextFrame) -> None:
        _shelve(self.models, name, model, MAX_MODELS)

    def keep_trained(self, name: str, model: NextFrame, instead_of: str | None = None) -> None:
        """Of a training here; `instead_of`: what the same run was called when it had fewer steps."""
        self.trained = model
        self.models.pop(instead_of or "", None)
        self.keep_model(name, model)
        self.newest, self.learned = name, True

    def bytes(self) -> int:
        return sum(film.frames.nbytes for film in self.films.values())

    def outbox(self) -> Path:
        if self._outbox is None:
            self._outbox = tempfile.TemporaryDirectory()
        return Path(self._outbox.name)


_parked: dict[str, Garage] = {}  # by the secret that its browser keeps, the latest visitor last
_parking = threading.Lock()


def park(garage: Garage, secret: str | None) -> tuple[Garage, str]:
    """(the garage this browser left here, its secret), or this new one under a new secret: a reload finds what was
    uploaded and trained before it. The oldest go when there are too many, or their films too large."""
    with _parking:
        secret = secret if secret in _parked else secrets.token_urlsafe(16)
        garage = _parked.pop(secret, garage)
        _parked[secret] = garage
        while len(_parked) > MAX_PARKED or (len(_parked) > 1 and sum(g.bytes() for g in _parked.values()) > MAX_BYTES):
            _parked.pop(next(iter(_parked)))
    return garage, secret


def _shelve(shelf: dict[str, T], name: str, thing: T, most: int) -> None:
    shelf.pop(name, None)
    shelf[name] = thing
    while len(shelf) > most:
        shelf.pop(next(iter(shelf)))


def shipped_names() -> list[str]:
    """Shipped checkpoints, in story order where a recipe of that name is known."""
    there = {p.parent.name for p in checkpoints().glob(f"*/{MODEL}")}
    return [n for n in RECIPES if n in there] + sorted(there - set(RECIPES))


def shipped(name: str) -> NextFrame:
    return alone(_shipped, str(checkpoints() / name))


def recipe_of(model: NextFrame) -> str:
    return model.provenance.recipe.name if model.provenance else ""


def open_upload(files: list[str], gap: str, report: Callable[[int, int | None, str], None]) -> Film:
    """A visitor's files as a film: stills, one zip or one video."""
    if not files:
        raise RoadtripError("Choose stills, a zip of stills or a video first.")
    wanted = (gap or "").strip() or None
    if len(files) == 1 and Path(files[0]).suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        return open_film(files[0], gap=wanted, progress=report, cache=False)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "your stills"  # what the film, and a complaint about it, will be called
        folder.mkdir()
        for file in files:
            target, twins = folder / Path(file).name, 1
            while target.exists():  # two folders may each have a 1.jpg
                twins += 1
                target = folder / f"{Path(file).stem} ({twins}){Path(file).suffix}"
            target.symlink_to(Path(file).resolve())
        return open_film(folder, gap=wanted, progress=report, cache=False)


# --- where a rollout begins, and the film it is held against --------------------------------------------------------


def held_out_starts(film: Film, model: NextFrame, frames: int = 2) -> Tensor:
    """Where clips of `frames` may begin on film that the model has not seen; anywhere, if it comes from other film."""
    held_out = model.provenance.held_out if model.provenance else 0.2
    part = "held_out" if trained_on(film, model) and held_out else "all"
    starts = film.starts(frames, part, held_out)
    return starts if len(starts) or frames > 2 else film.starts(2, "all")


def first_start(film: Film, model: NextFrame, horizon: int) -> int:
    """A start whose real film reaches as far as the horizon, where there is one; the middle one of those."""
    starts = held_out_starts(film, model, 2 + horizon)
    if not len(starts):
        starts = held_out_starts(film, model)
    return int(starts[len(starts) // 2])


def nearest(starts: Tensor, start: float | None) -> int:
    return int(starts[(starts - round(number(start, "a start frame"))).abs().argmin()])


def trained_on(film: Film, model: NextFrame) -> bool:
    return bool(model.provenance and model.provenance.film.fingerprint == film.fingerprint)


def elsewhere(name: str, film: Film, model: NextFrame) -> str:
    """What to know of a model that meets other film, or another gap, than it was trained on; else nothing."""
    known = model.provenance.film if model.provenance else None
    if not trained_on(film, model):
        return f" {plain(name)} was trained on {plain(known.name) if known else 'other film'}, not on this film."
    if known and known.gap != film.gap:
        return f" {plain(name)} was trained at gap {known.gap}, here the gap is {film.gap}."
    return ""


def real_after(film: Film, start: int, horizon: int) -> Tensor:
    """The real frames f3 f4 … after f1 = start, as far as there are any before a cut, at most `horizon`."""
    end = next((b for a, b in film.stretches() if a <= start < b), len(film.frames))
    last = min(end, start + film.span(2 + horizon))
    return film.frames[start + 2 * film.gap : last : film.gap]


# One computation at a time, and all of them in one thread. OpenMP's threads spin while they wait for each other, so a
# rollout beside a training on two cores takes ten times as long as one after the other; and it keeps a team for every
# thread that ever computed and, once they are more than the cores, puts them to sleep between any two operations, which
# halves the steps a second.
_computing = ThreadPoolExecutor(1, "computing")


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """function(*arguments) while nothing else is computed here; on a borrowed GPU, at once."""
    if BORROWED or threading.current_thread().name.startswith("computing"):
        return function(*arguments)
    return _computing.submit(function, *arguments).result()


def in_turns(stream: Generator[T]) -> Iterator[T]:
    """The items of a stream, each computed `alone`; between two, others get their turn. The next is begun before one is
    handed on, as gradio takes its time with each; closing this waits for it."""
    with closing(stream):
        if BORROWED:
            yield from stream
            return
        coming = _computing.submit(next, stream, None)
        try:
            while (item := coming.result()) is not None:
                coming = _computing.submit(next, stream, None)
                yield item
        finally:
            coming.exception()


@lru_cache(maxsize=8)
def _known_look(look: Callable[..., T], folder: str, choices: tuple[Any, ...]) -> T:
    return look(Garage(), *choices)


def shared_look(look: Callable[..., T], garage: Garage, *choices: Any) -> T:
    """look(garage, *choices), remembered for all visitors where nothing of this one's own is chosen."""
    if (garage.models.keys() | garage.films.keys()).intersection(choices):
        return alone(look, garage, *choices)
    return alone(_known_look, look, str(checkpoints()), choices)


# --- words ------------------------------------------------------------------------------------------------------------


@contextmanager
def told() -> Iterator[None]:
    """What the user got wrong, as one sentence in the page; anything else as our fault, its details in the log only."""
    try:
        yield
    except gr.Error:
        raise
    except RoadtripError as error:
        raise complaint(str(error)) from None
    except Exception:
        logging.getLogger("roadtrip").exception("unexpected")
        raise complaint("That went wrong, and not by your doing; try again, or with other settings.") from None


def complaint(sentence: str) -> gr.Error:
    """The message is shown as HTML, and a sentence may hold the name of an uploaded file."""
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)


def number(value: float | None, what: str) -> float:
    """A field's number; raises RoadtripError where it was left empty."""
    if value is None or not math.isfinite(value):
        raise RoadtripError(f"A field is empty: fill in {what}.")
    return float(value)


def plain(text: str) -> str:
    """Text that Markdown takes literally: names of films come from uploaded files."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$])", r"\\\1", text)


def gpu(duration: Callable[..., int]) -> Callable[[T], T]:
    """Borrows a GPU for the length of a call on a ZeroGPU Space, `duration` seconds of the call's arguments at most;
    elsewhere the function itself."""
    if not BORROWED:
        return lambda function: function
    import spaces

    return spaces.GPU(duration=duration)
