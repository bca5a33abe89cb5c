"""Train both yourself: two versions side by side from one seed, as many steps each. Stands under Compare."""

from collections.abc import Generator
from functools import partial
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..recipes import RECIPES
from ..train import PREVIEW_FRAMES
from .budget import MAX_SEED, MAX_STEPS, number_between
from .charts import duel_curves
from .player import chart, chart_value, note, player, player_value
from .session import Session, Training
from .starts import real_frames
from .tab import Limits, range_note
from .training import KEPT, learn, live, new_training, on_start, on_stop


@partial(live, others=2)
def run(
    session: Session, film_name: str, one: str, other: str, steps: float, seed: float
) -> Generator[tuple[Any, ...]]:
    """Yields (status, chart, player); both models are in the session from their first snapshots on."""
    names = one, other
    if len({*names}) < 2 or not {*names} <= RECIPES.keys():
        raise RoadtripError("Choose two different versions.")
    steps = round(number_between(steps, "how many steps to train", 1, MAX_STEPS))
    both = [new_training(session, film_name, "", RECIPES[name], seed) for name in names]
    yield from learn(session, both, partial(duel_view, both), None, steps)


def duel_view(both: list[Training]) -> tuple[Any, ...]:
    """Where two trainings stand, as `run` yields it."""
    latest = {t.recipe.name: t.latest for t in both if t.latest}
    parts = [f"**{name}** step {s.step} of {s.steps}" for name, s in latest.items()]
    done = len(latest) == len(both) and all(s.step == s.steps for s in latest.values())
    left = sum(s.left or 0.0 for s in latest.values())
    parts.append(f"finished; both are {KEPT} and of this one" if done else f"{left:.0f} s left")
    curves = chart_value(duel_curves({t.recipe.name: t.curves for t in both if t.latest}, [*latest]))
    views = {t.recipe.name: t.preview for t in both if t.preview is not None}
    if len(views) < len(both):
        return " · ".join(parts), curves, gr.skip()
    start = both[0].preview_start
    views["real"] = real_frames(both[0].film, start, PREVIEW_FRAMES)
    return " · ".join(parts), curves, player_value(views, f"duel {start}", autoplay=True)


def build(session: gr.State, film: gr.Dropdown) -> list[Any]:
    """The events after which there are new models."""
    note(
        "Both versions are trained in turns on the film chosen above, from the same first weights and on the same clips. "
        "60 s shows a trend; 5 min is better."
    )
    with gr.Row():
        one = gr.Dropdown(list(RECIPES), value="v3-pair", label="Model A", min_width=140)
        other = gr.Dropdown(list(RECIPES), value="v3-single", label="Model B", min_width=140)
        steps = gr.Number(150, label="Steps of each", min_width=110)
        seed = gr.Number(0, label="Seed of both", min_width=110)
    range_note(Limits(steps, 1, MAX_STEPS), Limits(seed, 0, MAX_SEED))
    with gr.Row():
        start = gr.Button("Train both", variant="primary", elem_id="rt-duel-start")
        stop = gr.Button("Stop", elem_id="rt-duel-stop")
    status = gr.Markdown(elem_id="rt-duel-status")
    show = player("rt-duel-player")
    losses = chart("rt-duel-losses")
    note(
        "What you see: rollouts of both from the same two held-out frames, remade as they learn, beside the real road; "
        "below, each one's L1 distance, summed over the two unrolled frames, and what its discriminator loses."
    )
    training = on_start(start, session, status, run, [film, one, other, steps, seed], [losses, show], "duel")
    return [training, on_stop(stop, session, status)]
