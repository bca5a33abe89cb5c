"""Train: film, recipe, seconds, seed; losses, errors and a held-out rollout while it learns. Stop keeps what was learned.

How a training runs is in training.py; this file shows one. Independent of the other tabs.
"""

import time
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

import gradio as gr
import torch

from ..errors import RoadtripError
from ..evaluation import HELD_OUT, HORIZONS, compare_to_baselines
from ..recipes import find_recipe, parse_values
from ..reproduce import write_zip
from ..train import PREVIEW_FRAMES, Run
from . import film_section, recipe_section
from .budget import MAX_SECONDS, MAX_SEED, number_between
from .charts import NAMES, learning_curves, loss_curves
from .compute import ZERO_GPU, computed, on_compute_thread
from .diagram import tensors
from .library import ROAD, rendered_road
from .player import chart_value, copy_link, download, noted_charts, player, player_value
from .recipe_section import recipe_of_choice
from .session import Session, Training
from .starts import real_frames
from .tab import QUIET, Field, Tab, escape_markdown, user_errors, whole_number
from .training import KEPT, by_hand, learn, live, new_training, on_start, on_stop

PLAYER = film_section.PLAYER
SLOW_STEPS = 60
IDLE = "Nothing is training yet. Choose a film and a recipe, then Start."


@partial(live, others=5)
def run(
    session: Session, film_name: str, gap: str, recipe_name: str, changes: str, seconds: float, seed: float
) -> Generator[tuple[Any, ...]]:
    """Yields (status, losses, errors, what the errors say, player); the model is in the session from the first snapshot
    on, whenever this is closed."""
    training = new_training(session, film_name, gap, recipe_of_choice(recipe_name, changes), seed)
    yield from _go_on(session, training, seconds)


@partial(live, others=5)
def resume(session: Session, seconds: float) -> Generator[tuple[Any, ...]]:
    """Goes on with the run that was trained last, for `seconds` more; yields what `run` does."""
    last = session.unfinished
    if last is None or last.latest is None:
        raise RoadtripError("There is no run to resume here; start one first.")
    yield from _go_on(session, last, seconds)


@partial(live, others=5)
def step(session: Session, only: str | None = None, steps: int = 1) -> Generator[tuple[Any, ...]]:
    """Steps the run that was paused, both networks or one alone; yields what `run` does."""
    if session.unfinished is None:
        raise RoadtripError("There is no run to step here; start one and pause it first.")
    yield from by_hand(session, session.unfinished, partial(training_view, session.unfinished), only, steps)


def stepped(only: str | None, session: Session) -> Iterator[tuple[Any, ...]]:
    yield from step(session, only)


def slowly(session: Session) -> Iterator[tuple[Any, ...]]:
    """SLOW_STEPS steps, one a second, so that each can be seen."""
    for shown in step(session, None, SLOW_STEPS):
        yield shown
        time.sleep(1)


def _go_on(session: Session, training: Training, seconds: float) -> Generator[tuple[Any, ...]]:
    seconds = number_between(seconds, "how many seconds to train", 0.01, MAX_SECONDS)
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
    inside = tensors(now.inside) if now.inside else gr.skip()
    if training.preview is None or (now.preview is None and not everything):
        return status, losses, gr.skip(), gr.skip(), gr.skip(), inside
    errors = chart_value(learning_curves(training.errors, HORIZONS)) if training.errors else gr.skip()
    start, generated = training.preview_start, f"generated, step {training.preview_step}"
    views = {"real": real_frames(training.film, start, PREVIEW_FRAMES), generated: training.preview}
    headline = f"{training.title}, step {training.preview_step}: {len(training.preview)} frames from two held-out ones"
    film_value = player_value(views, f"preview {start}", autoplay=True, headline=headline)
    return status, losses, errors, in_words(training.errors), film_value, inside


def restored_view(session: Session) -> tuple[Any, ...]:
    """(film, *as `run`): what the page shows of the last film and run when its browser comes back, or nothing."""
    last = session.unfinished
    if last is None or last.latest is None:
        return (next(reversed(session.films), gr.skip()), *(gr.skip(),) * 6)
    status, *rest = on_compute_thread(training_view, last, True)
    step, title = last.latest.step, escape_markdown(last.title)
    if step != last.latest.steps:
        status = f"**{title}** · stopped at step {step}, or when this page was left; Continue goes on with it."
    return last.film_name, status, *rest


def in_words(errors: list[tuple[int, dict[str, list[float]]]]) -> str:
    """The model beside the best baseline on the held-out clips, at each of HORIZONS."""
    if not errors:
        return "Too little film is held out to measure the errors on it."
    step, psnr = errors[-1]
    found = compare_to_baselines(psnr)
    parts = []
    for h in [h for h in HORIZONS if h <= len(found.gain)]:
        gain, (best, _) = found.gain[h - 1], found.best[h - 1]
        side = f"{gain:.1f} dB above" if gain > 0 else f"**{-gain:.1f} dB below**"
        parts.append(f"at horizon {h} {side} {NAMES[best]}")
    return f"On held-out film after step {step}: " + ", ".join(parts) + "."


def reset(session: Session) -> tuple[Any, ...]:
    """Forgets the last run; its model stays in the menus."""
    session.unfinished = None
    return IDLE, None, None, "", None, ""


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
    """What a training needs for the first time takes seconds to load. Where a GPU is lent only a batch is made: while no
    visitor is there none is lent, and autograd that was used without a GPU finds none in a process forked from it."""
    if ZERO_GPU:
        recipe = find_recipe("v1")
        on_compute_thread(Run(recipe, rendered_road(), 0, HELD_OUT, torch.device("cpu"), "auto").sample_batch)
        return
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
    show = player(PLAYER)
    status = gr.Markdown(IDLE, elem_id="rt-status")
    with gr.Row(elem_classes="rt-actions"):
        start = gr.Button("Start", variant="primary", elem_id="rt-start", min_width=100)
        stop = gr.Button("Pause", elem_id="rt-stop", min_width=80)
        again = gr.Button("Continue", elem_id="rt-resume", min_width=90)
        one = gr.Button("Step", elem_id="rt-step", min_width=70)
        one_g = gr.Button("Step G alone", elem_id="rt-step-g", min_width=110)
        one_d = gr.Button("Step D alone", elem_id="rt-step-d", min_width=110)
        slow = gr.Button("Slow", elem_id="rt-slow", min_width=70)
        clear = gr.Button("Reset", elem_id="rt-reset", min_width=80)
        zipped = gr.Button("Download", min_width=100, elem_id="rt-download")
        copy_link()
    with gr.Row(elem_classes="rt-controls"):
        film = film_section.menu()
        recipe = recipe_section.build(MAX_SECONDS, MAX_SEED)
    gap, draw, uploaded = film_section.build(session, film, show)
    words = gr.Markdown(elem_id="rt-gains", elem_classes="rt-words")
    losses, errors = noted_charts(
        [
            (
                "rt-losses",
                "losses over training steps, lower is better for L1. L1 is summed over the unrolled frames; generator and "
                "discriminator are the two sides of the GAN loss, and neither should win.",
            ),
            (
                "rt-learning",
                "PSNR in dB on held-out clips, higher is closer; the dashed line of the same colour is the best no-network "
                "baseline.",
            ),
        ]
    )
    inside = gr.HTML(apply_default_css=False, elem_id="rt-inside")
    with gr.Accordion("The recipe: what feeds what, presets, every field", open=False):
        changes, fill = recipe_section.details(recipe)
    others = [losses, errors, words, show, inside]
    asked = [film, gap, recipe.name, changes, recipe.seconds, recipe.seed]
    training = on_start(start, session, status, run, asked, others, "train")
    resuming = on_start(again, session, status, resume, [recipe.seconds], others, "resume")
    slowed = on_start(slow, session, status, slowly, [], others, "slow")
    running = [training, resuming, slowed]
    for button, only, name in ((one, None, "step"), (one_g, "generator", "step_g"), (one_d, "discriminator", "step_d")):
        running.append(on_start(button, session, status, partial(stepped, only), [], others, name))
    stopping = on_stop(stop, session, status)
    clearing = on_stop(clear, session, status).then(reset, session, [status, *others], queue=False, **QUIET)
    clearing.then(**draw)
    download(zipped, "rt-zip", package, [session], "checkpoint")
    return Tab(
        address=[
            Field("film", film, choices=Session.film_choices),
            Field("recipe", recipe.name, recipe_name),
            Field("changes", changes, changes_of),
            Field("seconds", recipe.seconds, lambda text: whole_number(text, 1, MAX_SECONDS)),
            Field("seed", recipe.seed, lambda text: whole_number(text, 0, MAX_SEED)),
        ],
        restore=[fill, QUIET | {"fn": restored_view, "inputs": session, "outputs": [film, status, *others]}],
        first=[draw | {"fn": first_film, "inputs": [session, film, gap]}],
        changes=[*running, stopping, clearing, uploaded],
        warm_up=warm_up,
    )


def first_film(session: Session, name: str, gap: str) -> tuple[Any, ...]:
    """What is seen of the film on arrival; a run that was found again keeps its pictures."""
    about, pictures, shown = film_section.update_view(session, name, gap)
    return about, pictures, gr.skip() if session.unfinished else shown
