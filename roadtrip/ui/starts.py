"""A model on a film: where its rollouts may start, the real frames they are compared with, what to say of the pair."""

from __future__ import annotations

from typing import Any

import gradio as gr
from torch import Tensor

from ..evaluation import HELD_OUT, HORIZON
from ..film import Film
from ..model import NextFrame
from .compute import on_compute_thread
from .library import ROADS, SIZE, rendered_road
from .messages import escape_markdown, number, user_errors
from .session import Session


def film_for(session: Session, name: str, model: NextFrame) -> Film:
    """A film as this model was trained on it, if it was: a rendered road in the model's size, and its gap."""
    film = session.film(name)
    smaller = model.size[0] * model.size[1] < SIZE[0] * SIZE[1]  # an uploaded model may ask for any size
    if name in ROADS and smaller:
        film = rendered_road(name, model.size)
    return film.with_gap(model.provenance.film.gap) if trained_on(film, model) else film


def held_out_starts(film: Film, model: NextFrame, frames: int = 2) -> Tensor:
    """Where clips of `frames` may start on film that the model has not seen; anywhere, if it was trained on other film."""
    held_out = model.provenance.held_out if model.provenance else HELD_OUT
    part = "held_out" if trained_on(film, model) and held_out else "all"
    starts = film.starts(frames, part, held_out)
    return starts if len(starts) or frames > 2 else film.starts(2, "all")


def first_start(film: Film, model: NextFrame, horizon: int) -> int:
    """A start whose real film reaches as far as the horizon, where there is one; the middle one of those."""
    starts = held_out_starts(film, model, 2 + horizon)
    if not len(starts):
        starts = held_out_starts(film, model)
    return int(starts[len(starts) // 2])


def nearest_start(starts: Tensor, start: float | None) -> int:
    return int(starts[(starts - round(number(start, "a start frame"))).abs().argmin()])


def start_range(
    session: Session, model_name: str, film_name: str, start: float | None = None, horizon: int = HORIZON
) -> dict[str, Any]:
    """The slider over the starts of this model and film. `start` stays if it is in range, else a first one is chosen."""
    with user_errors():
        return on_compute_thread(_start_range, session, model_name, film_name, start, horizon)


def _start_range(session: Session, model_name: str, film_name: str, start: float | None, horizon: int) -> Any:
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    starts = held_out_starts(film, model)
    low, high = int(starts.min()), int(starts.max())
    kept = start is not None and low <= start <= high
    return gr.update(minimum=low, maximum=high, value=start if kept else first_start(film, model, horizon))


def trained_on(film: Film, model: NextFrame) -> bool:
    return bool(model.provenance and model.provenance.film.fingerprint == film.fingerprint)


def recipe_of(model: NextFrame) -> str:
    return model.provenance.recipe.name if model.provenance else ""


def provenance_note(name: str, film: Film, model: NextFrame) -> str:
    """A warning where a model is shown other film, or another gap, than it was trained on; else nothing."""
    known = model.provenance.film if model.provenance else None
    if not trained_on(film, model):
        trained = escape_markdown(known.name) if known else "other film"
        return f" {escape_markdown(name)} was trained on {trained}, not on this film."
    if known and known.gap != film.gap:
        return f" {escape_markdown(name)} was trained at gap {known.gap}, here the gap is {film.gap}."
    return ""


def real_frames(film: Film, start: int, horizon: int) -> Tensor:
    """The real frames f3 f4 … after f1 = start, as far as there are any before a cut, at most `horizon`."""
    end = next((b for a, b in film.stretches() if a <= start < b), len(film.frames))
    last = min(end, start + film.span(2 + horizon))
    return film.frames[start + 2 * film.gap : last : film.gap]
