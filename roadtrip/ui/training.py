"""A training that a visitor watches: what the Train tab and the duel share.

Only generators can be stopped, so a training is one. Independent of the components that show it.
"""

import copy
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import wraps
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..film import Film
from ..recipes import Recipe
from ..train import Progress, train
from .compute import ZERO_GPU, gpu, interleave
from .library import ROAD
from .session import Session, Snapshot, Training
from .tab import QUIET, escape_markdown, number, user_errors

READY = "Getting ready …"
WAITING = "Waiting: another training is running on this server, and there is one at a time."
KEPT = "in the menus of the other tabs"
training_now: set[object] = set()  # trainings on this server; there is one at a time, the others wait


Plan = tuple[Recipe, Film, int, Progress | None]  # recipe, film, seed, what to go on from


@gpu(lambda plans, seconds, steps: round(seconds or 0.5 * steps * len(plans)) + 30)
def snapshots(plans: list[Plan], seconds: float | None, steps: int | None) -> Iterator[tuple[int, Snapshot]]:
    """(which plan, Snapshot) of each training in turn, until all have ended: for `seconds`, or to `steps` steps each."""
    with ExitStack() as open_streams:
        streams = {}
        for i, (recipe, film, seed, resume) in enumerate(plans):
            stream = train(recipe, film, seconds=seconds, steps=steps, seed=seed, resume=resume)
            streams[i] = open_streams.enter_context(closing(stream))  # type: ignore[type-var]
        while streams:
            for i, stream in list(streams.items()):
                p = next(stream, None)
                if p is None:
                    del streams[i]
                    continue
                # a copy, as the network goes on learning while others download it or roll it out
                model = copy.deepcopy(p.model).cpu().requires_grad_(False)
                so_far = p.step, p.steps, p.losses, p.steps_per_second, p.seconds_left
                # a borrowed GPU lends another process, and only what is yielded comes back from there
                yield i, Snapshot(*so_far, model, p.preview, p.psnr, p.preview_start, None if ZERO_GPU else p)


def new_training(session: Session, film_name: str, gap: str, recipe: Recipe, seed: float) -> Training:
    seed = int(number(seed, "the seed"))
    film = session.film(film_name, gap)
    session.runs += 1
    yours = "(yours)" if session.runs == 1 else f"(yours, no. {session.runs})"
    where = [] if film_name == ROAD else [film_name]
    where += [f"gap {film.gap}"] if film.gap != session.film(film_name).gap else []
    return Training(", ".join([recipe.name, *where, f"seed {seed}"]), yours, recipe, film, seed)


def learn(
    session: Session, trainings: list[Training], view: Callable[[], Any], seconds: float | None, steps: int | None
) -> Generator[Any]:
    """Trains for `seconds`, or to `steps` steps each, in turns. Yields view() whenever the session has kept a snapshot."""
    plans = [(t.recipe, t.film, t.seed, t.latest.progress if t.latest else None) for t in trainings]
    with closing(snapshots(plans, seconds, steps)) as stream:  # type: ignore[type-var]
        for i, snapshot in stream:
            trainings[i].take(session, snapshot)
            yield view()


def live(views: Callable[..., Generator[tuple[Any, ...]]], others: int) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """Decorator of what yields (status, *others) as a training goes on: it says first that it gets ready, and computes
    in turns with other visitors. A user's error stays on the page as the status."""

    @wraps(views)
    def shown(session: Session, *asked: Any) -> Iterator[tuple[Any, ...]]:
        unchanged, me = (gr.skip(),) * others, object()
        with user_errors():
            training_now.add(me)
            session.training, session.learned = True, False
            try:
                yield READY, *unchanged
                yield from interleave(views(session, *asked))
            except RoadtripError as error:
                yield escape_markdown(str(error)), *unchanged
                raise
            finally:
                training_now.discard(me)
                session.training = False

    return shown


def queue_status() -> str:
    """What the page says from the click until the training starts."""
    return WAITING if training_now else READY


def stop_status(session: Session, status: str) -> str:
    """What the page says after Stop, from what it said before."""
    patience = time.monotonic() + 10
    while session.training and time.monotonic() < patience:  # the step that is running is finished, and counts
        time.sleep(0.05)
    if session.newest and (" s left" in status or (status == READY and session.learned)):
        return f"Stopped; what it learned was kept: **{escape_markdown(session.newest)}**, {KEPT}."
    return "Stopped before the first step; nothing was learned." if status in (READY, WAITING) else status


def on_start(button: gr.Button, status: Any, run: Any, inputs: list[Any], others: list[Any], api_name: str) -> Any:
    """The event in which a button trains. While others wait, gradio tells the place in the queue beside the status."""
    waiting = button.click(queue_status, None, status, queue=False, **QUIET)
    how: dict[str, Any] = {"concurrency_limit": 1, "show_progress": "minimal", "show_progress_on": status}
    return waiting.then(run, inputs, [status, *others], api_name=api_name, concurrency_id="train", **how)


def on_stop(button: gr.Button, session: gr.State, status: Any, trainings: list[Any]) -> Any:
    """The event in which a button stops what is training. Two events in truth: gradio sends a cancel only after the
    function beside it has returned, and `stop_status` waits for the end."""
    cancel = button.click(None, cancels=trainings, **QUIET)
    return cancel.then(stop_status, [session, status], status, queue=False, **QUIET)
