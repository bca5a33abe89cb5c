"""What a tab shows: streamed with how far it is, an error as its sentence in place of the film, computed once and kept.

Independent of what is shown.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import count
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from ..errors import RoadtripError
from ..export import FORMATS as EXPORTS
from ..export import beside, write
from ..film import Film
from ..model import NextFrame
from .compute import interleave
from .library import checkpoints
from .player import FPS
from .session import Session
from .starts import rollout_in_turns
from .tab import sentence_of

MAX_KEPT = 2**28  # bytes of answers; those of the opening and the examples stay whatever comes
SAY_EVERY = 0.25  # seconds between two words of how far a rollout is


class Busy(NamedTuple):
    """How far a view is: `done` of `of` frames of what is named."""

    what: str
    done: int
    of: int


class Clip(NamedTuple):
    """The pictures of a view, for a file: uint8 [T, 3, H, W] by label, what is said of each, and the frame to begin at."""

    views: dict[str, Tensor]
    said: dict[str, str]
    begin: int


class Shown(NamedTuple):
    """answer: a value for each component, the player's first. clip: what the player shows, None where there is nothing."""

    answer: tuple[Any, ...]
    clip: Clip | None = None


Drawing = Generator[Busy | Shown | None]  # ends with a Shown; None wherever others may compute


class _Kept:
    """Answers by what was asked, up to a number of bytes; the least recently used go first, pinned ones never."""

    def __init__(self) -> None:
        self.answers: OrderedDict[Any, tuple[Shown, int]] = OrderedDict()
        self.pinned: set[Any] = set()
        self.lock = threading.Lock()
        self.drawing: dict[Any, threading.Lock] = {}  # so that two who ask at once share one computation

    def find(self, key: Any) -> Shown | None:
        with self.lock:
            found = self.answers.get(key)
            if found:
                self.answers.move_to_end(key)
            return found[0] if found else None

    def keep(self, key: Any, shown: Shown) -> None:
        size = len(json.dumps(shown.answer))
        size += sum(frames.nbytes for frames in shown.clip.views.values()) if shown.clip else 0
        with self.lock:
            self.answers[key] = shown, size
            loose = [k for k in self.answers if k not in self.pinned]
            total = sum(self.answers[k][1] for k in loose)
            for old in loose[:-1]:
                if total <= MAX_KEPT:
                    break
                total -= self.answers.pop(old)[1]

    @contextmanager
    def alone(self, key: Any) -> Iterator[None]:
        with self.lock:
            mine = self.drawing.setdefault(key, threading.Lock())
        with mine:
            yield
        with self.lock:
            self.drawing.pop(key, None)


_kept = _Kept()
# a page passes over a value that is the same as the one before, and would stay dimmed; no two servers begin alike
_turns = count(int(1000 * time.time()))


class View(NamedTuple):
    """A view as its tab calls it. stream: (session, *choices) → an iterator of what its components show, for gradio.
    now: the Shown of the same; raises RoadtripError. pin: makes it for all visitors, and keeps it for good."""

    stream: Callable[..., Iterator[tuple[Any, ...]]]
    now: Callable[..., Shown]
    pin: Callable[..., Shown]


def view(outputs: int) -> Callable[[Callable[..., Drawing]], View]:
    """Decorator of draw(session, *choices), which yields Busy now and then, and a Shown at last: it is computed in turns
    with other visitors, and kept for all of them where nothing of this one's own is chosen."""

    def decorate(draw: Callable[..., Drawing]) -> View:
        def drawn(session: Session, choices: tuple[Any, ...], pinned: bool = False) -> Iterator[Busy | Shown]:
            if (session.models.keys() | session.films.keys()).intersection(c for c in choices if isinstance(c, str)):
                own: Iterator[Any] = interleave(session, draw(session, *choices))
                yield from (step for step in own if step is not None)
                return
            key = draw.__module__, str(checkpoints()), choices
            if pinned:
                _kept.pinned.add(key)
            found = _kept.find(key)
            if found is None:
                with _kept.alone(key):
                    found = _kept.find(key)
                    steps: Iterator[Any] = interleave(session, draw(Session(), *choices))
                    for step in steps if found is None else ():
                        if isinstance(step, Shown):
                            found = step
                            _kept.keep(key, step)
                        elif step is not None:
                            yield step
            assert found
            yield found

        @wraps(draw)
        def stream(session: Session, *choices: Any) -> Iterator[tuple[Any, ...]]:
            unchanged = (gr.skip(),) * (outputs - 1)
            try:
                for step in drawn(session, choices):
                    shown = step.answer if isinstance(step, Shown) else ({"busy": step._asdict()}, *unchanged)
                    yield shown[0] | {"turn": next(_turns)}, *shown[1:]
            except Exception as error:
                yield {"error": sentence_of(error), "turn": next(_turns)}, *unchanged

        def now(session: Session, *choices: Any) -> Shown:
            *_, shown = drawn(session, choices)
            assert isinstance(shown, Shown)
            return shown

        def pin(*choices: Any) -> Shown:
            *_, shown = drawn(Session(), choices, pinned=True)
            assert isinstance(shown, Shown)
            return shown

        return View(stream, now, pin)

    return decorate


def rolled_out(
    model: NextFrame, film: Film, start: int, horizon: int, what: str
) -> Generator[Busy | None, None, Tensor]:
    """`rollout_in_turns`, which says now and then how far it is."""
    slices, done, said = rollout_in_turns(model, film, start, horizon), 0, time.monotonic()
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value
        done += 1
        late = time.monotonic() - said > SAY_EVERY
        said = time.monotonic() if late else said
        yield Busy(what, done, horizon) if late else None


def warm(made: Callable[[], Any]) -> None:
    """Makes what a first visit shows. What fails here is said to the visitor who asks for it."""
    with suppress(RoadtripError, gr.Error):
        made()


def save(clip: Clip | None, session: Session, name: str, kind: str, fps: float = FPS) -> str:
    """A view's pictures beside each other as a looping file, at least 1280 pixels wide: labelled, from where its
    verdict is read to the end. Raises RoadtripError where nothing is shown, and for a kind that is not offered."""
    if clip is None:
        raise RoadtripError("There is nothing to save yet; choose a model first.")
    if f".{kind}" not in EXPORTS[:3]:
        raise RoadtripError("Choose mp4, gif or webp.")
    views = {label: frames[clip.begin :] for label, frames in clip.views.items()}
    quality = {"webp": 80}.get(kind)
    return str(write(session.download_dir() / f"roadtrip-{name}.{kind}", beside(views, clip.said), fps, 1, quality))
