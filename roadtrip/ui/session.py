"""One visitor's films, models and last training, within a budget of memory; kept on the server for a reload.

Independent of components; what all visitors share is in library.py.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import Recipe
from ..train import Progress
from .compute import T, on_compute_thread
from .library import ROADS, checkpoints, rendered_road, shipped, shipped_names

MAX_MODELS, MAX_FILMS = 6, 2  # of one visitor; the newest are kept
MAX_SESSIONS = 32
MAX_SESSION_BYTES, MAX_BYTES = 2**30, 2 * 2**30  # of one visitor and of all; a film of 16,000 stills is 440 MB


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
    progress: Progress | None  # to go on from; not from another process


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


@dataclass
class Session:
    """One visitor's films and models, by what the menus call them; never shared with another visitor."""

    films: dict[str, Film] = field(default_factory=dict)
    models: dict[str, NextFrame] = field(default_factory=dict)
    newest: str | None = None  # what the model is called that was trained here last
    trained: NextFrame | None = None  # that model itself: an uploaded one is never it, whatever its name
    runs: int = 0  # trainings started, so that each run's name is its own
    training: bool = False
    learned: bool = False  # whether the latest training has kept a model yet
    unfinished: Training | None = None  # the latest, which Resume continues
    live: Any = None  # the LiveDrive that is watched or paused
    # made when first needed, so that gradio can copy an empty session; deleted with the session
    _download_dir: tempfile.TemporaryDirectory[str] | None = None

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
        moments of Adam."""
        models = list(self.models.values())
        if self.trained and all(model is not self.trained for model in models):
            models.append(self.trained)
        if self.unfinished and self.unfinished.latest and self.unfinished.latest.progress:
            models += [self.unfinished.latest.model] * 4
        weights = sum(t.nbytes for model in models for t in model.state_dict().values())
        return weights + sum(film.frames.nbytes for film in list(self.films.values()))

    def download_dir(self) -> Path:
        if self._download_dir is None:
            self._download_dir = tempfile.TemporaryDirectory()
        return Path(self._download_dir.name)

    def _drop_oldest(self, newest: Film | NextFrame) -> None:
        """Models go before films: a film took an upload. The newest stays, however large it is."""
        for shelf, most in ((self.models, MAX_MODELS), (self.films, MAX_FILMS)):
            for name in [n for n, item in shelf.items() if item is not newest]:
                if len(shelf) > most or self.bytes() > MAX_SESSION_BYTES:
                    del shelf[name]


_sessions: dict[str, Session] = {}  # by the secret that its browser keeps, the latest visitor last
_lock = threading.Lock()


def restore_session(session: Session, secret: str | None) -> tuple[Session, str]:
    """(the session this browser left here, its secret), or this new one under a new secret: a reload finds what was
    uploaded and trained before it. The oldest sessions go when there are too many, or they take too much memory."""
    with _lock:
        secret = secret if secret in _sessions else secrets.token_urlsafe(16)
        session = _sessions.pop(secret, session)
        _sessions[secret] = session
        while len(_sessions) > 1 and (
            len(_sessions) > MAX_SESSIONS or sum(s.bytes() for s in _sessions.values()) > MAX_BYTES
        ):
            _sessions.pop(next(iter(_sessions)))
    return session, secret


def cached_view(view: Callable[..., T]) -> Callable[..., T]:
    """Decorator of a view(session, *choices): calls it `on_compute_thread`, and remembers it for all visitors where nothing
    of this one's own is chosen."""

    @lru_cache(maxsize=16)  # more than there are examples
    def shared(folder: str, choices: tuple[Any, ...]) -> T:
        return view(Session(), *choices)

    @wraps(view)
    def cached(session: Session, *choices: Any) -> T:
        if (session.models.keys() | session.films.keys()).intersection(choices):
            return on_compute_thread(view, session, *choices)
        return on_compute_thread(shared, str(checkpoints()), choices)

    return cached
