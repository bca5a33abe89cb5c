"""A model on a film: where its rollouts may start, the real frames they are compared with, what to say of the pair."""

from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ..film import Film
from ..model import NextFrame
from ..rollout import drive
from .budget import check_rollout, number
from .compute import in_turns
from .library import ROADS, SIZE, rendered_road
from .session import Session
from .tab import escape_markdown


def film_for(session: Session, name: str, model: NextFrame) -> Film:
    """A film as this model was trained on it, if it was: a rendered road in the model's size, and its gap."""
    film = session.film(name)
    smaller = model.size[0] * model.size[1] < SIZE[0] * SIZE[1]  # an uploaded model may ask for any size
    if name in ROADS and smaller:
        film = rendered_road(name, model.size)
    known = model.provenance
    return film.with_gap(known.film.gap) if known and known.trained_on(film) else film


def unseen_starts(film: Film, models: Sequence[NextFrame], frames: int = 2) -> Tensor:
    """Where clips of `frames` may start on film that none of the models was trained on, int64 [·]."""
    return film.unseen_starts(frames, [model.provenance.seen(film) for model in models if model.provenance])


def offered_starts(film: Film, models: Sequence[NextFrame]) -> Tensor:
    """Where rollouts of all the models may start: on film that none was trained on; where there is none, that the first
    was not; or else anywhere, and provenance_note says who was trained on it."""
    found = (unseen_starts(film, among) for among in (models, models[:1], []))
    return next(starts for starts in found if len(starts))


def first_start(film: Film, models: Sequence[NextFrame], horizon: int) -> int:
    """A start whose real film reaches as far as the horizon, where there is one; the middle one of those."""
    starts = unseen_starts(film, models, 2 + horizon)
    starts = starts if len(starts) else offered_starts(film, models)
    return int(starts[len(starts) // 2])


def nearest_start(starts: Tensor, start: float | None) -> int:
    """The one nearest to what was asked for."""
    return int(starts[(starts - round(number(start, "a start frame"))).abs().argmin()])


def rollout_in_turns(model: NextFrame, film: Film, start: int, horizon: int) -> Generator[None, None, Tensor]:
    """Returns float [horizon, 3, H, W], the rollout from a start; others compute in between. Raises RoadtripError where it
    takes too long."""
    check_rollout(model, film.size, horizon)
    f1, f2 = (film.frames[t] for t in (start, start + film.gap))
    frames = yield from in_turns(islice(drive(model, f1, f2), horizon))
    return torch.cat(frames).cpu()


def start_near(film: Film, models: Sequence[NextFrame], start: float | None, horizon: int) -> int:
    """The start nearest to the one that was asked for; beyond the last one, which a longer film had, see `first_start`."""
    starts = offered_starts(film, models)
    within = number(start, "a start frame") <= int(starts.max())
    return nearest_start(starts, start) if within else first_start(film, models, horizon)


def start_slider(starts: Tensor, first: int, asked: float) -> dict[str, Any]:
    """The slider over these starts, at the one that is shown; it stays where it is, perhaps moved on meanwhile, if that is
    the one that was asked for."""
    there: dict[str, Any] = {} if first == asked else {"value": first}
    return gr.update(minimum=int(starts.min()), maximum=int(starts.max()), **there)


def recipe_of(model: NextFrame) -> str:
    return model.provenance.recipe.name if model.provenance else ""


def provenance_note(name: str, film: Film, model: NextFrame, start: int) -> str:
    """A warning where a model is shown other film, or another gap, than it was trained on, or from a start that it was
    trained on; else nothing."""
    known, name = model.provenance, escape_markdown(name)
    if known is None or not known.trained_on(film):
        trained = escape_markdown(known.film.name) if known else "other film"
        return f" {name} was trained on {trained}, not on this film."
    note = ""
    if start not in unseen_starts(film, [model]):
        note += f" **{name} was trained on this film**, from this start, too: it has seen what comes."
    if known.film.gap != film.gap:
        note += f" {name} was trained at gap {known.film.gap}, here the gap is {film.gap}."
    return note


def real_frames(film: Film, start: int, horizon: int) -> Tensor:
    """The real frames f3 f4 … after f1 = start, as far as there are any before a cut, at most `horizon`."""
    end = next((b for a, b in film.stretches() if a <= start < b), len(film.frames))
    last = min(end, start + film.span(2 + horizon))
    return film.frames[start + 2 * film.gap : last : film.gap]
