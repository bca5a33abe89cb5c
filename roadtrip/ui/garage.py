"""What one visitor has at hand: films and models, shipped, uploaded or trained here. Shared by the tabs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from ..checkpoint import MODEL, load
from ..errors import RoadtripError
from ..film import Film, open_film
from ..model import NextFrame

ROAD = "the rendered road"
MOST_KEPT = 6  # trained models and uploaded films a visitor keeps


def checkpoints() -> Path:
    return Path(os.environ.get("ROADTRIP_CHECKPOINTS") or Path(__file__).parents[2] / "checkpoints")


@lru_cache(maxsize=16)
def _shipped(folder: str) -> NextFrame:
    return load(folder)


@lru_cache(maxsize=1)
def rendered_road() -> Film:
    return open_film("scenery")


@dataclass
class Garage:
    """One visitor's films and models by what the menus call them; never shared with another visitor."""

    films: dict[str, Film] = field(default_factory=dict)
    models: dict[str, NextFrame] = field(default_factory=dict)

    def film_names(self) -> list[str]:
        return [ROAD, *self.films]

    def model_names(self) -> list[str]:
        return [*self.models, *shipped_names()]

    def film(self, name: str) -> Film:
        if name == ROAD:
            return rendered_road()
        if name not in self.films:
            raise RoadtripError("That film is no longer here; upload it again.")
        return self.films[name]

    def model(self, name: str) -> NextFrame:
        if name in self.models:
            return self.models[name]
        if name not in shipped_names():
            raise RoadtripError("Choose a model; train one in the Train tab if there is none.")
        return _shipped(str(checkpoints() / name))

    def keep(self, shelf: dict[str, Any], name: str, thing: Any) -> None:
        shelf[name] = thing
        while len(shelf) > MOST_KEPT:
            shelf.pop(next(iter(shelf)))


def shipped_names() -> list[str]:
    """Shipped checkpoints, in story order where a recipe of that name is known."""
    from ..recipes import RECIPES

    there = {p.parent.name for p in checkpoints().glob(f"*/{MODEL}")}
    return [n for n in RECIPES if n in there] + sorted(there - set(RECIPES))


def open_upload(files: list[str], gap: str, report: Callable[[int, int | None, str], None]) -> Film:
    """A visitor's files as a film: stills, one zip or one video."""
    if not files:
        raise RoadtripError("Choose stills, a zip of stills or a video first.")
    wanted = gap.strip() or None
    if len(files) == 1 and Path(files[0]).suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        return open_film(files[0], gap=wanted, progress=report, cache=False)
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            target = Path(folder) / Path(file).name
            if not target.exists():
                target.symlink_to(Path(file).resolve())
        film = open_film(folder, gap=wanted, progress=report, cache=False)
    from dataclasses import replace

    return replace(film, name="your stills")


def held_out_starts(film: Film, model: NextFrame) -> Tensor:
    """Where a rollout may begin on film that the model has not seen; anywhere, if the model comes from other film."""
    held_out = float(model.provenance.get("held_out", 0.2))
    same = model.provenance.get("film", {}).get("fingerprint") == film.fingerprint
    starts = film.starts(2, "held_out" if same and held_out else "all", held_out)
    return starts if len(starts) else film.starts(2, "all")


def nearest(starts: Tensor, start: float) -> int:
    return int(starts[(starts - round(start)).abs().argmin()])


@contextmanager
def told() -> Iterator[None]:
    """What the user got wrong, as a message in the page; anything else without its details."""
    try:
        yield
    except RoadtripError as error:
        raise gr.Error(str(error), print_exception=False) from None


def with_gap_of(film: Film, model: NextFrame) -> Film:
    """Film as the model was trained on it, if it was; else as it is."""
    facts = model.provenance.get("film", {})
    return film.with_gap(facts["gap"]) if facts.get("fingerprint") == film.fingerprint else film


def real_after(film: Film, start: int, horizon: int) -> Tensor:
    """The real frames f3 f4 … after f1 = start, as far as there are any before a cut, at most `horizon`."""
    end = next((b for a, b in film.stretches() if a <= start < b), len(film.frames))
    last = min(end, start + film.span(2 + horizon))
    return film.frames[start + 2 * film.gap : last : film.gap]


def gpu(function: Any) -> Any:
    """Borrows a GPU for the length of a call on a ZeroGPU Space; elsewhere the function itself."""
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(duration=120)(function)
