"""A training that a visitor watches: what the Train tab and the duel share.

Only generators can be stopped, so a training is one. Independent of the components that show it.
"""

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any

import gradio as gr

from ..checkpoint import load_state
from ..errors import RoadtripError
from ..evaluation import HELD_OUT
from ..film import Film
from ..model import NextFrame
from ..recipes import Recipe
from ..train import Paused, Progress, Run, find_device, train
from . import budget
from .compute import ZERO_GPU, gpu, interleave
from .library import ROAD
from .session import Session, Snapshot, Training
from .tab import QUIET, escape_markdown, sentence_of, ui_error

READY = "Getting ready …"
WAITING = f"Waiting: this server runs {budget.TRAININGS} trainings at a time."
KEPT = "in the menus of the other tabs"
training_now: set[object] = set()  # trainings on this server


Plan = tuple[Recipe, Film, int, Progress | Paused | Path | None]  # recipe, film, seed, what to go on from


@gpu(lambda plans, seconds, steps: round(seconds or 0.5 * steps * len(plans)) + 30)
def snapshots(plans: list[Plan], seconds: float | None, steps: int | None) -> Iterator[tuple[int, Snapshot] | None]:
    """(which plan, Snapshot) of each training in turn, until all have ended: for `seconds`, or to `steps` steps each; None
    wherever others may compute. Raises RoadtripError where a training is over its budget."""
    with ExitStack() as open_streams:
        streams: dict[int, Iterator[Snapshot | None]] = {}
        for i, (recipe, film, seed, resume) in enumerate(plans):
            budget.check_training(recipe, film)
            # a lent GPU is lent to one visitor alone
            stream = train(recipe, film, seconds=seconds, steps=steps, seed=seed, resume=resume, slices=not ZERO_GPU)
            streams[i] = _snapshots(open_streams.enter_context(closing(stream)), resume is None)  # type: ignore[type-var]
        while streams:
            for i, reports in list(streams.items()):
                for snapshot in reports:
                    yield (i, snapshot) if snapshot else None
                    if snapshot:
                        break
                else:
                    del streams[i]


def _snapshots(stream: Iterator[Progress | None], is_new: bool) -> Iterator[Snapshot | None]:
    spent, began = 0.0, monotonic()
    for p in stream:
        spent += monotonic() - began  # without what others computed in between
        if p is None:
            yield None
        else:
            if is_new:
                budget.check_first_step(spent / p.step)
            is_new = False
            # a copy, as the network goes on learning while others download it or roll it out
            model = copy.deepcopy(p.model).cpu().requires_grad_(False)
            so_far = p.step, p.steps, p.losses, p.steps_per_second, p.seconds_left
            # a borrowed GPU lends another process, and only what is yielded comes back from there
            going = _paused(model, p.run) if ZERO_GPU else p
            inside = p.run.inside() if p.preview is not None else None
            yield Snapshot(*so_far, model, p.preview, p.psnr, p.preview_start, going, inside)
        began = monotonic()


def _paused(model: NextFrame, run: Run) -> Paused:
    tensors, facts = run.state()
    return Paused(model, {name: value.cpu() for name, value in tensors.items()}, facts)


@gpu(lambda plan, only, steps: steps // 2 + 30)
def snapshots_by_hand(plan: Plan, only: str | None, steps: int) -> Iterator[Snapshot | None]:
    """Snapshots of some steps of a training that is paused, of both networks or of one alone; None wherever others may
    compute."""
    recipe, film, seed, last = plan
    assert last is not None
    if isinstance(last, Progress):
        run = last.run
    else:
        run = Run(recipe, film, seed, HELD_OUT, find_device(), "auto")
        run.restore(*(last.state() if isinstance(last, Paused) else load_state(last)), unbroken=True)
    for _ in range(steps):
        losses = run.step_by_hand(only)
        preview, psnr = yield from run.preview_in_slices()
        model = copy.deepcopy(run.model).cpu().requires_grad_(False)
        going = last if isinstance(last, Progress) else _paused(model, run)
        so_far = run.step_count, run.planned, losses, 0.0, None
        yield Snapshot(*so_far, model, preview, psnr, run.preview_start, going, run.inside())


def new_training(session: Session, film_name: str, gap: str, recipe: Recipe, seed: float) -> Training:
    seed = int(budget.number(seed, "the seed"))
    film = session.film(film_name, gap)
    session.runs += 1
    yours = "(yours)" if session.runs == 1 else f"(yours, no. {session.runs})"
    where = [] if film_name == ROAD else [film_name]
    where += [f"gap {film.gap}"] if film.gap != session.film(film_name).gap else []
    return Training(", ".join([recipe.name, *where, f"seed {seed}"]), yours, recipe, film, seed, film_name=film_name)


def learn(
    session: Session, trainings: list[Training], view: Callable[[], Any], seconds: float | None, steps: int | None
) -> Generator[Any]:
    """Trains for `seconds`, or to `steps` steps each, in turns. Yields view() whenever the session has kept a snapshot, and
    None wherever others may compute. Raises RoadtripError where they compute so much that it takes too long."""
    limit = budget.OVERTIME * seconds if seconds else budget.MAX_SECONDS
    ends = monotonic() + limit + 10  # what is needed for the first time takes seconds to load
    plans = [(t.recipe, t.film, t.seed, t.latest.progress if t.latest else None) for t in trainings]
    with closing(snapshots(plans, seconds, steps)) as stream:  # type: ignore[type-var]
        for item in stream:
            if item:
                trainings[item[0]].take(session, item[1])
            yield view() if item else None
            if monotonic() > ends and not ZERO_GPU:  # where one waits for a GPU that is lent for a time of its own
                raise RoadtripError(
                    f"Others compute here, too: this run was stopped after {limit:.0f} s. What it learned was kept; "
                    "Continue goes on with it."
                )


def by_hand(
    session: Session, training: Training, view: Callable[[], Any], only: str | None, steps: int
) -> Generator[Any]:
    """Some steps of a training that is paused, of both networks or of one alone; yields view() after each."""
    last = training.latest
    if last is None:
        raise RoadtripError("Only a run that was started and paused here can be stepped.")
    plan = training.recipe, training.film, training.seed, last.progress
    with closing(snapshots_by_hand(plan, only, steps)) as stream:  # type: ignore[type-var]
        for snapshot in stream:
            if snapshot:
                training.take(session, replace(snapshot, speed=last.speed))
            yield view() if snapshot else None


def live(views: Callable[..., Generator[tuple[Any, ...]]], others: int) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """Decorator of what yields (status, *others) as a training goes on: it says first that it gets ready, and computes
    in turns with other visitors, until it is stopped. An error is the status, and nothing else on the page."""

    @wraps(views)
    def watched(session: Session, *asked: Any) -> Iterator[tuple[Any, ...]]:
        unchanged, me, ongoing = (gr.skip(),) * others, object(), session.training
        try:
            if ongoing.runs and not ongoing.stops:
                raise RoadtripError("Another training of yours is running; stop it first, or wait for its end.")
            with ongoing.begin():
                training_now.add(me)
                session.learned = False
                yield gr.skip() if ongoing.stops else READY, *unchanged
                if ongoing.stops:  # before its turn in the queue came
                    return
                for shown in interleave(session, views(session, *asked), training=True):
                    yield shown or (gr.skip(), *unchanged)
                    if ongoing.stops:  # nothing is left for the page to show after what Stop says
                        yield gr.skip(), *unchanged
                        break
        except Exception as error:
            sentence = sentence_of(error)
            yield escape_markdown(sentence), *unchanged
            raise ui_error(sentence, visible=False) from None
        finally:
            training_now.discard(me)

    return watched


def queue_status(session: Session) -> str:
    """What the page says from the click until the training starts."""
    session.training.ask()
    return WAITING if len(training_now) >= budget.TRAININGS else READY


def stop(session: Session, status: str) -> str:
    """Stops what is training, or waits to; what the page says then, from what it said before."""
    session.training.stop()  # the step that is running is finished, and counts
    if session.newest and (" s left" in status or (status == READY and session.learned)):
        return f"Stopped; what it learned was kept: **{escape_markdown(session.newest)}**, {KEPT}."
    return "Stopped before the first step; nothing was learned." if status in (READY, WAITING) else status


def on_start(
    button: gr.Button, session: gr.State, status: Any, run: Any, inputs: list[Any], others: list[Any], api_name: str
) -> Any:
    """The event in which a button trains. While others wait, gradio tells the place in the queue beside the status."""
    waiting = button.click(queue_status, session, status, queue=False, **QUIET)
    how: dict[str, Any] = {
        "concurrency_limit": budget.TRAININGS,
        "show_progress": "minimal",
        "show_progress_on": status,
    }
    return waiting.then(run, [session, *inputs], [status, *others], api_name=api_name, concurrency_id="train", **how)


def on_stop(button: gr.Button, session: gr.State, status: Any) -> Any:
    """The event in which a button stops what is training."""
    return button.click(stop, [session, status], status, queue=False, **QUIET)
