"""Train: film, recipe, seconds, seed; losses, errors and a held-out rollout while it learns. Stop keeps what was learned.

How a training runs is in training.py; this file shows one. Independent of the other tabs.
"""

from collections.abc import Generator
from functools import partial
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..evaluation import HORIZONS, compare_to_baselines
from ..recipes import find_recipe, parse_values
from ..reproduce import write_zip
from ..train import PREVIEW_FRAMES
from . import film_section, recipe_section
from .budget import MAX_SECONDS, MAX_SEED, number
from .charts import NAMES, learning_curves, loss_curves
from .compute import computed, on_compute_thread
from .library import ROAD
from .player import chart, chart_value, download, note, player, player_value
from .recipe_section import recipe_of_choice
from .session import Session, Training
from .starts import real_frames
from .tab import QUIET, Field, Tab, escape_markdown, user_errors, whole_number
from .training import KEPT, learn, live, new_training, on_start, on_stop

IDLE = "Nothing is training."


@partial(live, others=4)
def run(
    session: Session, film_name: str, gap: str, recipe_name: str, changes: str, seconds: float, seed: float
) -> Generator[tuple[Any, ...]]:
    """Yields (status, losses, errors, what the errors say, player); the model is in the session from the first snapshot
    on, whenever this is closed."""
    training = new_training(session, film_name, gap, recipe_of_choice(recipe_name, changes), seed)
    yield from _go_on(session, training, seconds)


@partial(live, others=4)
def resume(session: Session, seconds: float) -> Generator[tuple[Any, ...]]:
    """Goes on with the run that was trained last, for `seconds` more; yields what `run` does."""
    last = session.unfinished
    if last is None or last.latest is None:
        raise RoadtripError("There is no run to resume here; start one first.")
    yield from _go_on(session, last, seconds)


def _go_on(session: Session, training: Training, seconds: float) -> Generator[tuple[Any, ...]]:
    seconds = number(seconds, "how many seconds to train", high=MAX_SECONDS)
    session.unfinished = training
    yield from learn(session, [training], partial(training_view, training), seconds, None)


def training_view(training: Training, everything: bool = False) -> tuple[Any, ...]:
    """Where a training stands, as `run` yields it: only what has changed since the last snapshot, or everything."""
    now = training.latest
    assert now is not None
    steps = f"{now.step} of {now.steps}" if now.steps else now.step
    status = f"**{escape_markdown(training.title)}** · step {steps} · {now.speed:.1f} steps/s"
    if now.step == now.steps:
        status += f" · finished; it is {KEPT}."
    elif now.left is not None:
        status += f" · {now.left:.0f} s left"
    losses = chart_value(loss_curves(training.curves))
    if training.preview is None or (now.preview is None and not everything):
        return status, losses, gr.skip(), gr.skip(), gr.skip()
    errors = chart_value(learning_curves(training.errors, HORIZONS)) if training.errors else gr.skip()
    start, generated = training.preview_start, f"generated, step {training.preview_step}"
    views = {"real": real_frames(training.film, start, PREVIEW_FRAMES), generated: training.preview}
    return status, losses, errors, in_words(training.errors), player_value(views, f"preview {start}", autoplay=True)


def restored_view(session: Session) -> tuple[Any, ...]:
    """What the page shows of the last run when its browser comes back: as `run`, or nothing."""
    last = session.unfinished
    if last is None or last.latest is None:
        return (gr.skip(),) * 5
    status, *rest = on_compute_thread(training_view, last, True)
    step, title = last.latest.step, escape_markdown(last.title)
    if step != last.latest.steps:
        status = f"**{title}** · stopped at step {step}, or when this page was left; Resume goes on with it."
    return status, *rest


def in_words(errors: list[tuple[int, dict[str, list[float]]]]) -> str:
    """The model beside the best baseline on the held-out clips, at each of HORIZONS."""
    if not errors:
        return "Too little film is held out to measure the errors on it."
    step, psnr = errors[-1]
    found = compare_to_baselines(psnr)
    parts = []
    for h in HORIZONS:
        gain, (best, _) = found.gain[h - 1], found.best[h - 1]
        side = f"{gain:.1f} dB above" if gain > 0 else f"**{-gain:.1f} dB below**"
        parts.append(f"at horizon {h} {side} {NAMES[best]}")
    return f"On held-out film after step {step}: " + ", ".join(parts) + "."


def reset(session: Session) -> tuple[Any, ...]:
    """Forgets the last run; its model stays in the menus."""
    session.unfinished = None
    return IDLE, None, None, "", None


@user_errors()
@computed
def package(session: Session) -> str:
    """What was trained last as one zip: the checkpoint, its losses, and a script that trains it again."""
    model, last = session.trained, session.unfinished
    if model is None:
        raise RoadtripError("There is nothing to download yet; train a recipe first.")
    curves = last.curves if last and last.latest and last.latest.model is model else None
    return str(write_zip(session.download_dir(), model, curves))


def warm_up() -> None:
    """What a training needs for the first time takes seconds to load."""
    for _ in run(Session(), ROAD, "", "v1", "", 1, 0):
        pass


def recipe_name(text: str) -> str:
    """Raises RoadtripError for what is not one of the recipes."""
    return find_recipe(text).name


def changes_of(text: str) -> str:
    """Raises RoadtripError for what no recipe has."""
    parse_values(text.split())
    return text


def build(session: gr.State) -> Tab:
    gr.Markdown(
        "## Watch one learn\n"
        "The post came to its question in three steps. **v1** predicts the next frame from two; in a rollout it has to "
        "continue from its own predictions, which it never saw in training, and blurs. **v2** predicts one frame more, "
        "from its own first, so that it learns to get back on track. **v3** adds a discriminator. *Teacher forcing* is "
        "the post's word for v2's second step; in the literature it is feeding the real previous frame, as v1 does.\n\n"
        "The film's last fifth is held out: the rollout starts there, on road the network has never seen."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            film, gap, draw, uploaded = film_section.build(session)
            recipe = recipe_section.build(MAX_SECONDS, MAX_SEED)
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="rt-start", min_width=70)
                stop = gr.Button("Stop", elem_id="rt-stop", min_width=70)
                again = gr.Button("Resume", elem_id="rt-resume", min_width=70)
                clear = gr.Button("Reset", elem_id="rt-reset", min_width=70)
            status = gr.Markdown(IDLE, elem_id="rt-status")
            show = player("rt-train-player")
            note(
                "What you see: a rollout from held-out film, real beside generated; it is made again every few seconds "
                "while the network learns."
            )
            words = gr.Markdown(elem_id="rt-gains", elem_classes="rt-words")
            errors = chart("rt-learning")
            note(
                "What you see: PSNR on four held-out clips 1, 4 and 16 frames ahead, higher is closer; the dashed line "
                "of the same colour is the best baseline, which needs no network."
            )
            losses = chart("rt-losses")
            note(
                "What you see: losses over training steps, on a log axis where none is negative. L1 is summed over the "
                "unrolled frames; generator and discriminator are the two sides of the GAN loss."
            )
            download("Download what was trained last", "rt-zip", package, [session], "checkpoint")
            note(
                "What you get: a zip with the checkpoint, its losses as a table, and a script that trains the same again."
            )
    others = [losses, errors, words, show]
    asked = [session, film, gap, recipe.name, recipe.changes, recipe.seconds, recipe.seed]
    training = on_start(start, status, run, asked, others, "train")
    resuming = on_start(again, status, resume, [session, recipe.seconds], others, "resume")
    stopping = on_stop(stop, session, status, [training, resuming])
    clearing = on_stop(clear, session, status, [training, resuming]).then(
        reset, session, [status, *others], queue=False, **QUIET
    )
    return Tab(
        address=[
            Field("film", film, choices=Session.film_names),
            Field("recipe", recipe.name, recipe_name),
            Field("changes", recipe.changes, changes_of),
            Field("seconds", recipe.seconds, lambda text: whole_number(text, 1, MAX_SECONDS)),
            Field("seed", recipe.seed, lambda text: whole_number(text, 0, MAX_SEED)),
        ],
        restore=[recipe.fill, QUIET | {"fn": restored_view, "inputs": session, "outputs": [status, *others]}],
        first=[draw],
        changes=[training, resuming, stopping, clearing, uploaded],
        warm_up=warm_up,
    )
