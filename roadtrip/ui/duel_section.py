"""Run it yourself: two versions trained side by side from one seed, as many steps each. Stands under Compare."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import gradio as gr

from ..errors import RoadtripError
from ..recipes import RECIPES
from ..train import PREVIEW_FRAMES
from .charts import duel_curves
from .compute import interleave
from .messages import escape_markdown, number, user_errors
from .player import chart, chart_value, player, player_value
from .session import Session
from .starts import real_frames
from .train_tab import KEPT, READY, Training, new_training, queue_status, snapshots, stop_status, training_slot

MAX_STEPS = 2000


def run(
    session: Session, film_name: str, one: str, other: str, steps: float, seed: float
) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (status, chart, player); both models are in the session from their first snapshots on."""
    with training_slot(session), user_errors():
        try:
            yield READY, gr.skip(), gr.skip()
            if one == other or not {one, other} <= RECIPES.keys():
                raise RoadtripError("Choose two different versions.")
            steps = max(1, min(MAX_STEPS, round(number(steps, "how many steps to train"))))
            yield from interleave(_run(session, film_name, (one, other), steps, seed))
        except RoadtripError as error:
            yield escape_markdown(str(error)), gr.skip(), gr.skip()  # it stays on the page when the message has gone
            raise


def _run(
    session: Session, film_name: str, names: tuple[str, str], steps: int, seed: float
) -> Generator[tuple[Any, Any, Any]]:
    both = [new_training(session, film_name, "", RECIPES[name], seed) for name in names]
    plans = [(t.recipe, t.film, t.seed, None) for t in both]
    with closing(snapshots(plans, None, steps)) as stream:  # type: ignore[type-var, arg-type]
        for i, look in stream:
            both[i].take(session, look)
            yield _shown(both)


def _shown(both: list[Training]) -> tuple[str, Any, Any]:
    known = [t for t in both if t.latest]
    parts, left = [], 0.0
    for t in known:
        assert t.latest is not None
        parts.append(f"**{t.recipe.name}** step {t.latest.step} of {t.latest.steps}")
        left += t.latest.left or 0.0
    done = len(known) == len(both) and all(t.latest and t.latest.step == t.latest.steps for t in known)
    end = f"finished; both are {KEPT} and of this one" if done else f"{left:.0f} s left"
    curves = chart_value(duel_curves({t.recipe.name: t.curves for t in known}, [t.recipe.name for t in known]))
    views = {t.recipe.name: t.preview for t in both if t.preview is not None}
    if len(views) < len(both):
        return " · ".join([*parts, end]), curves, gr.skip()
    start, film = both[0].preview_start, both[0].film
    views["real"] = real_frames(film, start, PREVIEW_FRAMES)
    labels = [f"g{t + 3}" for t in range(PREVIEW_FRAMES)]
    return " · ".join([*parts, end]), curves, player_value(views, labels, key=f"duel {start}", autoplay=True)


class Part(NamedTuple):
    changes: list[Any]  # the events after which there are new models


def build(session: gr.State, film: gr.Dropdown) -> Part:
    gr.Markdown(
        "## Run it yourself\nBoth versions are trained here and now, in turns, on the film chosen above: the same seed, so "
        "the same first weights and the same clips, and as many steps each. A minute shows where they part, not where "
        "they end."
    )
    with gr.Row():
        one = gr.Dropdown(
            list(RECIPES), value="v3-pair", label="One", info="Trained first in each turn.", min_width=140
        )
        other = gr.Dropdown(list(RECIPES), value="v3-single", label="The other", info="Trained in turn.", min_width=140)
        steps = gr.Number(
            150, label="Steps", info="Of each of the two.", precision=0, minimum=1, maximum=MAX_STEPS, min_width=110
        )
        seed = gr.Number(0, label="Seed", info="Of both.", precision=0, minimum=0, maximum=2**31 - 1, min_width=110)
    with gr.Row():
        start = gr.Button("Train both", variant="primary", elem_id="rt-duel-start")
        stop = gr.Button("Stop", elem_id="rt-duel-stop")
    status = gr.Markdown(elem_id="rt-duel-status")
    show = player("rt-duel-player")
    losses = chart("rt-duel-losses")
    gr.Markdown(
        "What you see: rollouts of both from the same two held-out frames, remade as they learn, beside the real road; "
        "below, each one's L1 distance, summed over the two unrolled frames, and what its discriminator loses.",
        elem_classes="rt-note",
    )
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    begins = start.click(queue_status, None, status, queue=False, **private)
    training = begins.then(
        run,
        [session, film, one, other, steps, seed],
        [status, losses, show],
        api_name="duel",
        concurrency_id="train",
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=status,
    )
    cancel = stop.click(None, cancels=[training], **private)
    stopping = cancel.then(stop_status, [session, status], status, queue=False, **private)
    return Part([training, stopping])
