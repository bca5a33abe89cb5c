"""Train: film, recipe, seconds, seed; losses, errors and a held-out rollout while it learns. Stop keeps what was learned.

Only generators can be stopped, so a training is one; it knows nothing of the other tabs.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import Recipe
from ..reproduce import write_zip
from ..train import PREVIEW_FRAMES, Progress, train
from . import film_section, recipe_section
from .charts import NAMES, learning_curves, loss_curves
from .compute import ZERO_GPU, gpu, interleave, on_compute_thread
from .library import ROAD
from .messages import escape_markdown, number, user_errors
from .player import chart, chart_value, download, player, player_value
from .recipe_section import recipe_of_choice
from .session import Session
from .starts import real_frames

LONGEST = 1800
HORIZONS = (1, 4, 16)  # whose errors are followed
IDLE, READY = "Nothing is training.", "Getting ready …"
WAITING = "Waiting: another training is under way on this server, and there is one at a time."
KEPT = "in the menus of the other tabs"
NOTHING_NEW = (gr.skip(),) * 4  # beside a status
training_now: set[object] = set()  # trainings under way on this server; there is one at a time, the others wait


@dataclass
class Training:
    """A run that a visitor began, and where it stands. name: what its model is called in the session; errors: PSNR in dB
    by method, whenever there was a preview."""

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

    def take(self, session: Session, look: Snapshot) -> None:
        """Keeps what a look brought: its model in the session, under a name that says how far it is."""
        name = f"{self.title}, {look.step} steps {self.yours}"
        session.add_trained(name, look.model, instead_of=self.name)
        self.name, self.latest = name, look
        for key, value in look.losses.items():
            self.curves.setdefault(key, []).append((look.step, value))
        if look.psnr:
            self.errors.append((look.step, look.psnr))
        if look.preview is not None:
            self.preview, self.preview_start, self.preview_step = look.preview, look.start, look.step


@dataclass
class Snapshot:
    """What a training shows from time to time; plain enough to come back from another process."""

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


Plan = tuple[Recipe, Film, int, Progress | None]  # recipe, film, seed, what to go on from


@gpu(lambda plans, seconds, steps: round(seconds or 0.5 * steps * len(plans)) + 30)
def snapshots(plans: list[Plan], seconds: float | None, steps: int | None) -> Iterator[tuple[int, Snapshot]]:
    """(which plan, Look) of each training in turn, until all have ended: for `seconds`, or to `steps` steps each."""
    with ExitStack() as open_streams:
        streams = {
            i: open_streams.enter_context(
                closing(train(recipe, film, seconds=seconds, steps=steps, seed=seed, resume=resume))  # type: ignore[type-var]
            )
            for i, (recipe, film, seed, resume) in enumerate(plans)
        }
        while streams:
            for i, stream in list(streams.items()):
                p = next(stream, None)
                if p is None:
                    del streams[i]
                    continue
                # a copy, as the network goes on learning while others download it or let it drive
                model = copy.deepcopy(p.model).cpu().requires_grad_(False)
                told_so_far = p.step, p.steps, p.losses, p.steps_per_second, p.seconds_left
                # a borrowed GPU is in another process, and only what is yielded comes back from there
                resumable = None if ZERO_GPU else p
                yield i, Snapshot(*told_so_far, model, p.preview, p.psnr, p.preview_start, resumable)


def run(
    session: Session, film_name: str, gap: str, recipe_name: str, changes: str, seconds: float, seed: float
) -> Iterator[tuple[Any, ...]]:
    """Yields (status, losses, errors, what the errors say, player); the model is in the session from the first look on,
    whenever this is closed."""
    yield from _told(
        session, lambda: new_training(session, film_name, gap, recipe_of_choice(recipe_name, changes), seed), seconds
    )


def resume(session: Session, seconds: float) -> Iterator[tuple[Any, ...]]:
    """Goes on with the run that was trained last, for `seconds` more; yields what `run` does."""
    yield from _told(session, lambda: _last(session), seconds)


def _told(session: Session, training: Callable[[], Training], seconds: float) -> Iterator[tuple[Any, ...]]:
    with training_slot(session), user_errors():
        try:
            seconds = min(number(seconds, "how many seconds to train"), LONGEST)
            yield READY, *NOTHING_NEW
            yield from interleave(_run(session, training, seconds))
        except RoadtripError as error:
            yield escape_markdown(str(error)), *NOTHING_NEW  # it stays on the page when the message has gone
            raise


@contextmanager
def training_slot(session: Session) -> Iterator[None]:
    """While this server trains for a visitor."""
    me = object()
    training_now.add(me)
    session.training, session.learned = True, False
    try:
        yield
    finally:
        training_now.discard(me)
        session.training = False


def new_training(session: Session, film_name: str, gap: str, recipe: Recipe, seed: float) -> Training:
    seed = int(number(seed, "the seed"))
    film = session.film(film_name, gap)
    session.runs += 1
    yours = "(yours)" if session.runs == 1 else f"(yours, no. {session.runs})"
    where = [] if film_name == ROAD else [film_name]
    where += [f"gap {film.gap}"] if film.gap != session.film(film_name).gap else []
    return Training(", ".join([recipe.name, *where, f"seed {seed}"]), yours, recipe, film, seed)


def _last(session: Session) -> Training:
    last = session.unfinished
    if last is None or last.latest is None or last.latest.progress is None:
        raise RoadtripError("There is no run here to go on with; start one first.")
    return last


def _run(session: Session, begin: Callable[[], Training], seconds: float) -> Generator[tuple[Any, ...]]:
    session.unfinished = training = begin()
    progress = training.latest.progress if training.latest else None
    plan = training.recipe, training.film, training.seed, progress
    with closing(snapshots([plan], seconds, None)) as stream:  # type: ignore[type-var]
        for _, look in stream:
            training.take(session, look)
            yield shown(training)


def shown(training: Training, everything: bool = False) -> tuple[Any, ...]:
    """Where a training stands, as `run` yields it: of what is unchanged since the last look nothing, or everything."""
    look = training.latest
    assert look is not None
    first = _status(training.title, look), chart_value(loss_curves(training.curves))
    if training.preview is None or (look.preview is None and not everything):
        return *first, gr.skip(), gr.skip(), gr.skip()
    errors = chart_value(learning_curves(training.errors, HORIZONS)) if training.errors else gr.skip()
    return *first, errors, in_words(training.errors), _preview(training)


def restored_view(session: Session) -> tuple[Any, ...]:
    """What the page shows of the last run when its browser comes back: as `run`, or nothing."""
    last = session.unfinished
    if last is None or last.latest is None:
        return (gr.skip(),) * 5
    status, *rest = on_compute_thread(shown, last, True)
    step, steps = last.latest.step, last.latest.steps
    title = escape_markdown(last.title)
    halted = f"**{title}** · stopped at step {step}, or when this page was left; Resume goes on with it."
    return status if step == steps else halted, *rest


def in_words(errors: list[tuple[int, dict[str, list[float]]]]) -> str:
    """The model beside the best baseline on the held-out clips, at each of HORIZONS."""
    if not errors:
        return "Too little film is held out to follow the errors on it."
    step, psnr = errors[-1]
    parts = []
    for h in HORIZONS:
        best, which = max((psnr[m][h - 1], m) for m in psnr if m != "model")
        gain = psnr["model"][h - 1] - best
        side = f"{gain:.1f} dB above" if gain > 0 else f"**{-gain:.1f} dB below**"
        parts.append(f"at horizon {h} {side} {NAMES[which]}")
    return f"On held-out film after step {step}: " + ", ".join(parts) + "."


def _status(title: str, look: Snapshot) -> str:
    steps = f"{look.step} of {look.steps}" if look.steps else look.step
    text = f"**{escape_markdown(title)}** · step {steps} · {look.speed:.1f} steps/s"
    if look.step == look.steps:
        return f"{text} · finished; it is {KEPT}."
    return text if look.left is None else f"{text} · {look.left:.0f} s left"


def queue_status() -> str:
    """What the page says from the click until the training begins."""
    return WAITING if training_now else READY


def stop_status(session: Session, status: str) -> str:
    """What the page says after Stop, from what it said before."""
    patience = time.monotonic() + 10
    while session.training and time.monotonic() < patience:  # a step under way is finished, and counts
        time.sleep(0.05)
    if session.newest and (" s left" in status or (status == READY and session.learned)):
        return f"Stopped; what it learned was kept: **{escape_markdown(session.newest)}**, {KEPT}."
    return "Stopped before the first step; nothing was learned." if status in (READY, WAITING) else status


def reset(session: Session) -> tuple[Any, ...]:
    """Forgets the last run; its model stays in the menus."""
    session.unfinished = None
    return IDLE, None, None, "", None


def _preview(training: Training) -> dict[str, Any]:
    assert training.preview is not None
    start, step = training.preview_start, training.preview_step
    views = {"real": real_frames(training.film, start, PREVIEW_FRAMES), f"generated, step {step}": training.preview}
    labels = [f"g{t + 3}" for t in range(PREVIEW_FRAMES)]
    return player_value(views, labels, key=f"preview {start}", autoplay=True)


def package(session: Session) -> str:
    """What was trained last as one zip: the checkpoint, its losses, and a script that trains it again."""
    with user_errors():
        return str(on_compute_thread(_package, session))


def _package(session: Session) -> Path:
    model, last = session.trained, session.unfinished
    if model is None:
        raise RoadtripError("There is nothing to download yet; train a recipe first.")
    curves = last.curves if last and last.latest and last.latest.model is model else None
    return write_zip(session.download_dir(), model, curves)


class Tab(NamedTuple):
    film: film_section.Part
    recipe: recipe_section.Part
    outputs: list[Any]  # status, losses, errors, their words, player
    changes: list[Any]  # the events after which the other tabs' menus are out of date


def build(session: gr.State) -> Tab:
    gr.Markdown(
        "## Watch one learn\n"
        "The post came to its question in three steps. **v1** guesses the next frame from two and is told how far off it "
        "was. Driving on, it has to live on its own guesses, which it never saw in training, and blurs. **v2** guesses "
        "one frame more, from its own first guess, so that it learns to get back on track. **v3** adds a discriminator "
        "that tells real frames from generated ones.\n\n"
        "Pick film and a version and watch it learn. The film's last fifth is held out: the rollout starts there, on "
        "road the network has never seen. *Teacher forcing* is the post's word for v2's second step on its own output; "
        "in the literature it is feeding the real previous frame, which is what v1 does."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            film = film_section.build(session)
            recipe = recipe_section.build(LONGEST)
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="rt-start", min_width=70)
                stop = gr.Button("Stop", elem_id="rt-stop", min_width=70)
                again = gr.Button("Resume", elem_id="rt-resume", min_width=70)
                clear = gr.Button("Reset", elem_id="rt-reset", min_width=70)
            status = gr.Markdown(IDLE, elem_id="rt-status")
            show = player("rt-train-player")
            _seen(
                "a rollout from held-out film, real beside generated; it is remade every few seconds while the network "
                "learns."
            )
            words = gr.Markdown(elem_id="rt-gains", elem_classes="rt-words")
            errors = chart("rt-learning")
            _seen(
                "PSNR on four held-out clips 1, 4 and 16 frames ahead, higher is closer; the broken line of the same "
                "colour is the best that needs no network."
            )
            losses = chart("rt-losses")
            _seen(
                "losses over training steps, on a log axis where none is negative. L1 is summed over the unrolled "
                "frames; generator and discriminator are the two sides of the GAN loss."
            )
            download("Download what was trained last", "rt-zip", package, [session], "checkpoint")
            _seen(
                "a zip with the checkpoint, its losses as a table, and a script that trains the same again.",
                "What you get",
            )
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [status, losses, errors, words, show]
    # where others wait, gradio tells the place in the queue beside the status
    in_line: dict[str, Any] = {"concurrency_id": "train", "concurrency_limit": 1}
    in_line |= {"show_progress": "minimal", "show_progress_on": status}
    begins = start.click(queue_status, None, status, queue=False, **private)
    asked = [session, film.film, film.gap, recipe.name, recipe.changes, recipe.seconds, recipe.seed]
    training = begins.then(run, asked, outputs, api_name="train", **in_line)
    begins = again.click(queue_status, None, status, queue=False, **private)
    resuming = begins.then(resume, [session, recipe.seconds], outputs, api_name="resume", **in_line)
    # two events: gradio sends a cancel only after the function beside it has returned, and this one waits for the end
    cancel = stop.click(None, cancels=[training, resuming], **private)
    stopping = cancel.then(stop_status, [session, status], status, queue=False, **private)
    cancel = clear.click(None, cancels=[training, resuming], **private)
    clearing = cancel.then(stop_status, [session, status], status, queue=False, **private).then(
        reset, session, outputs, queue=False, **private
    )
    return Tab(film, recipe, outputs, [training, resuming, stopping, clearing, film.taken])


def _seen(what: str, verb: str = "What you see") -> None:
    gr.Markdown(f"{verb}: {what}", elem_classes="rt-note")
