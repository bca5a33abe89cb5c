"""One visitor's films, models and last training, within a budget of memory; on disk while no page shows them.

Independent of components; what all visitors share is in library.py.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from torch import Tensor

from ..checkpoint import load, save
from ..errors import RoadtripError
from ..film import Film, load_film
from ..model import NextFrame
from ..recipes import Recipe
from ..train import Paused, Progress
from . import budget
from .compute import release_memory
from .library import ROADS, rendered_road, shipped, shipped_names, shipped_titles

RELEASE_EVERY = 10  # seconds: it takes half of one, and most visitors leave nothing behind but holes
MAX_VIEWS = 64  # that are remembered for all visitors


@dataclass
class Snapshot:
    """Where a training stands from time to time; plain enough to come back from another process."""

    step: int
    steps: int | None
    losses: dict[str, float]
    speed: float
    left: float | None
    model: NextFrame
    preview: Tensor | None
    psnr: dict[str, list[float]] | None
    start: int
    progress: Progress | Paused | Path  # to go on from, also as a folder
    inside: dict[str, Tensor] | None = None  # see train.Run.inside


@dataclass
class Training:
    """A run that a visitor started, and where it stands. name: what its model is called in the session; errors: PSNR in
    dB by method, whenever there was a preview."""

    title: str
    yours: str
    recipe: Recipe
    film: Film
    seed: int
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    errors: list[tuple[int, dict[str, list[float]]]] = field(default_factory=list)
    film_name: str = ""  # as the menus call it
    name: str | None = None
    latest: Snapshot | None = None
    preview: Tensor | None = None  # the latest there was
    preview_start: int = 0
    preview_step: int = 0

    def take(self, session: Session, snapshot: Snapshot) -> None:
        """Keeps what a snapshot brought: its model in the session, under a name that says how far it is."""
        name = f"{self.title}, {snapshot.step} steps {self.yours}"
        session.models.pop(self.name or "", None)  # what it was called when it had fewer steps
        session.add_model(name, snapshot.model)
        session.newest, session.trained, session.learned = name, snapshot.model, True
        self.name, self.latest = name, snapshot
        for key, value in snapshot.losses.items():
            self.curves.setdefault(key, []).append((snapshot.step, value))
        if snapshot.psnr:
            self.errors.append((snapshot.step, snapshot.psnr))
        if snapshot.preview is not None:
            self.preview, self.preview_start, self.preview_step = snapshot.preview, snapshot.start, snapshot.step


class Parked(NamedTuple):
    """Where films and models are while no page shows them: files by their names, those of Session.trained and of the last
    run's model."""

    folder: Path
    films: dict[str, Path]
    models: dict[str, Path]
    trained: Path | None
    latest: Path | None


@dataclass
class Ongoing:
    """What goes on until it is stopped, or its page is left. By a flag: gradio's own `cancels` ends the stream of a page's
    answers, and with it whatever else that page waits for."""

    waits: bool = False  # was asked for, and has not begun
    runs: bool = False
    stops: bool = False

    def ask(self) -> None:
        self.waits, self.stops = True, self.stops and self.runs

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Ends the one before first."""
        self.waits = False
        if self.runs:
            self.stop()
        self.runs = True
        try:
            yield
        finally:
            self.runs = self.stops = False

    def stop(self) -> None:
        """Returns when it has ended."""
        self.stops = self.waits or self.runs
        patience = monotonic() + 10
        while self.runs and monotonic() < patience:
            sleep(0.05)


@dataclass
class Session:
    """One visitor's films and models, by what the menus call them; never shared with another visitor."""

    films: dict[str, Film] = field(default_factory=dict)
    models: dict[str, NextFrame] = field(default_factory=dict)
    newest: str | None = None  # what the model is called that was trained here last
    trained: NextFrame | None = None  # that model itself: an uploaded one is never it, whatever its name
    runs: int = 0  # trainings started, so that each run's name is its own
    training: Ongoing = field(default_factory=Ongoing)
    driving: Ongoing = field(default_factory=Ongoing)
    learned: bool = False  # whether the latest training has kept a model yet
    unfinished: Training | None = None  # the latest, which Resume continues
    offered: dict[str, int] = field(default_factory=dict)  # by tab, the run whose model it has shown
    live: Any = None  # the LiveDrive that is watched or paused
    uploads: set[str] = field(default_factory=set)  # files as they came
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(16))  # under which its browser finds it again
    _parked: Parked | None = None
    # made when first needed, so that gradio can copy an empty session; deleted with the session
    _download_dir: tempfile.TemporaryDirectory[str] | None = None

    def film_names(self) -> list[str]:
        return [*ROADS, *self.films]

    def film_choices(self) -> list[tuple[str, str]]:
        return [(name, name) for name in self.film_names()]

    def model_names(self) -> list[str]:
        return [*self.models, *shipped_names()]

    def model_choices(self) -> list[tuple[str, str]]:
        """(what a menu says, name) of each model."""
        return [
            *((name, name) for name in reversed(self.models)),
            *((said, name) for name, said in shipped_titles().items()),
        ]

    def title(self, name: str) -> str:
        """What the page calls a model."""
        return name if name in self.models else shipped_titles().get(name, name)

    def offer(self, tab: str) -> tuple[str, str] | None:
        """The model that was trained last and its film; None where `offered` says that the tab has shown them."""
        run = self.unfinished
        if run is None or run.name is None or self.offered.get(tab) == self.runs:
            return None
        return run.name, run.film_name

    def film(self, name: str, gap: str | None = None) -> Film:
        """gap: as a visitor wrote it; empty for the film's own."""
        if name not in ROADS and name not in self.films:
            raise RoadtripError("That film is no longer here; upload it again.")
        film = rendered_road(name) if name in ROADS else self.films[name]
        gap = (gap or "").strip()
        return film.with_gap(gap) if gap else film

    def model(self, name: str) -> NextFrame:
        if name in self.models:
            return self.models[name]
        if name not in shipped_names():
            raise RoadtripError("Choose a model; train one in the Train tab if there is none.")
        return shipped(name)

    def add_film(self, film: Film) -> None:
        self.films.pop(film.name, None)
        self.films[film.name] = film
        self._drop_oldest(film)

    def add_model(self, name: str, model: NextFrame) -> None:
        self.models.pop(name, None)
        self.models[name] = model
        self._drop_oldest(model)

    def bytes(self) -> int:
        """Memory of the films, the models, and what Resume needs: the network that goes on learning, its EMA and two
        moments of Adam. Of a session that is parked what it takes on disk."""
        if self._parked:
            return sum(file.stat().st_size for file in self._parked.folder.rglob("*") if file.is_file())
        models = list(self.models.values())
        if self.trained and all(model is not self.trained for model in models):
            models.append(self.trained)
        if (
            self.unfinished
            and self.unfinished.latest
            and isinstance(self.unfinished.latest.progress, Progress | Paused)
        ):
            models += [self.unfinished.latest.model] * 4
        weights = sum(t.nbytes for model in models for t in model.state_dict().values())
        return weights + sum(film.frames.nbytes for film in list(self.films.values()))

    def download_dir(self) -> Path:
        if self._download_dir is None:
            self._download_dir = tempfile.TemporaryDirectory()
        return Path(self._download_dir.name)

    def _drop_oldest(self, newest: Film | NextFrame) -> None:
        """Models go before films: a film took an upload. The newest stays, however large it is."""
        for shelf, most in ((self.models, budget.MAX_MODELS), (self.films, budget.MAX_FILMS)):
            for name in [n for n, item in shelf.items() if item is not newest]:
                if len(shelf) > most or self.bytes() > budget.MAX_SESSION_BYTES:
                    del shelf[name]
        _keep(self)

    def drop_files(self) -> None:
        """Removes what was uploaded, where no other visitor did, too, and what was made to be saved."""
        with _lock:  # gradio keeps two files of the same bytes as one
            theirs = {path for other in [*_pages.values()] if other is not self for path in other.uploads}
            for path in self.uploads - theirs:
                Path(path).unlink(missing_ok=True)
            self.uploads.clear()
        if self._download_dir:
            for file in self.download_dir().iterdir():
                if file.is_file():  # what is parked is a folder
                    file.unlink(missing_ok=True)
            if not any(self.download_dir().iterdir()):
                self._download_dir.cleanup()
                self._download_dir = None

    def park(self) -> None:
        """Moves films, models and what Resume needs to disk, until `unpark`; they stay where there is no room."""
        last = self.unfinished
        latest = last.latest if last else None
        if self._parked or self.training.runs or not (self.films or self.models):
            return
        folder = self.download_dir() / "parked"
        paths: dict[int, Path] = {}

        def kept(model: NextFrame | None) -> Path | None:
            if model is not None and id(model) not in paths:
                paths[id(model)] = save(folder / f"model {len(paths)}", model)
            return paths.get(id(model))

        try:
            films = {name: film.save(folder / f"film {i}") for i, (name, film) in enumerate(self.films.items())}
            models = {name: path for name, model in self.models.items() if (path := kept(model))}
            parked = Parked(folder, films, models, kept(self.trained), kept(latest.model if latest else None))
            if latest and isinstance(latest.progress, Progress | Paused):
                latest.progress = save(folder / "run", latest.progress, resumable=True)
        except RoadtripError:
            shutil.rmtree(folder, ignore_errors=True)
            return
        if last and self.films.get(last.film.name):
            last.film = replace(last.film, frames=last.film.frames[:0].clone())  # the rest is the session's
        if latest:
            del latest.model
        self.films, self.models, self.trained, self.live, self._parked = {}, {}, None, None, parked

    def unpark(self) -> None:
        if not self._parked:
            return
        last, parked, self._parked = self.unfinished, self._parked, None
        latest = last.latest if last else None
        try:
            models = {path: load(path) for path in {*parked.models.values(), parked.trained, parked.latest} if path}
            self.films = {name: load_film(path) for name, path in parked.films.items()}
        except (RoadtripError, OSError):  # it was cleared away
            self.unfinished = None
            return
        self.models = {name: models[path] for name, path in parked.models.items()}
        self.trained = models[parked.trained] if parked.trained else None
        if latest and parked.latest:
            latest.model = models[parked.latest]
        if last and last.film.name in self.films:
            last.film = replace(self.films[last.film.name], gap=last.film.gap)

    def clear(self) -> None:
        """Forgets films, models and the last run."""
        self.films, self.models, self.trained, self.unfinished, self.live, self._parked = {}, {}, None, None, None, None
        self.drop_files()
        if self._download_dir:
            self._download_dir.cleanup()
            self._download_dir = None


# visitors that have films or models, by their secret, the latest last; those whose page is open, by its session hash; and
# which pages are open now
_sessions: dict[str, Session] = {}
_pages: WeakValueDictionary[str, Session] = WeakValueDictionary()
_open: set[str] = set()
_lock = threading.RLock()
_released = 0.0  # when memory was given back last


def restore_session(session: Session, secret: str | None, page: str | None = None) -> tuple[Session, str]:
    """(the session this browser left here, its secret), or this new one: a reload finds what was uploaded and trained
    before it. page: the session hash of the page that is being loaded."""
    with _lock:
        session = _sessions.get(secret or "", session)
        session.unpark()
        if page:
            _pages[page] = session
        if session.secret in _sessions:
            _keep(session)
    return session, session.secret


def _keep(session: Session) -> None:
    """The latest visitor is this one. Where there are too many, or they take too much, the oldest are cleared, first those
    that no page shows."""
    with _lock:
        _sessions.pop(session.secret, None)
        _sessions[session.secret] = session
        shown = {id(_pages[page]) for page in _open if page in _pages}
        oldest = sorted(list(_sessions.values())[:-1], key=lambda s: id(s) in shown)
        while oldest and (
            len(_sessions) > budget.MAX_SESSIONS or sum(s.bytes() for s in _sessions.values()) > budget.MAX_BYTES
        ):
            _sessions.pop(oldest[0].secret)
            oldest.pop(0).clear()


def page_opened(page: str) -> None:
    """Its browser has connected, or is back."""
    with _lock:
        _open.add(page)
        if page in _pages:
            _pages[page].unpark()


def page_closed(page: str) -> None:
    """Its browser has gone; what it showed leaves the memory, and its files the disk, unless it is back soon."""
    _open.discard(page)
    timer = threading.Timer(budget.GRACE, _park_unless_open, [page])
    timer.daemon = True
    timer.start()


def _park_unless_open(page: str) -> None:
    held = 0
    with _lock:
        session = _pages.get(page)
        if session and all(_pages.get(other) is not session for other in _open):
            held = session.bytes()
            session.park()
            session.drop_files()
    global _released
    if held or monotonic() - _released > RELEASE_EVERY:
        _released = monotonic()
        release_memory()
