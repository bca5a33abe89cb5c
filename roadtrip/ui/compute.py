"""Where the app computes: on one thread, in short turns from visitor to visitor; trainings perhaps on a borrowed GPU.

Independent of films, models and components. How the turns are shared is in budget.py.
"""

import atexit
import ctypes
import gc
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import closing, suppress
from functools import wraps
from importlib import import_module
from inspect import isgeneratorfunction
from time import monotonic
from typing import Any, ParamSpec, TypeVar

import torch

from ..errors import RoadtripError
from . import budget

P = ParamSpec("P")
T = TypeVar("T")
# a ZeroGPU Space, where a GPU is lent for the length of a call; every other Space has the package `spaces`, too
ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


class Turns:
    """Runs jobs on one thread, each for a short turn until it is done: of those that wait, the owner's whose last turn is
    longest ago. A job is a generator that yields wherever it can be interrupted; what it returns is its result.

    OpenMP's threads spin while they wait for each other, so a rollout beside a training on two cores takes ten times as
    long as one after the other. And OpenMP keeps a team for every thread that ever computed; once they are more than the
    cores, it puts them to sleep between any two operations, which halves the steps a second. Hence one thread for all.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # owner → their jobs, the owner whose turn is next first; of trainings and of everything else
        self._views: dict[int, deque[_Job]] = {}
        self._trainings: dict[int, deque[_Job]] = {}
        self._ended = False
        self._owed = 0.0  # seconds that trainings have waited beyond their share
        self._thread = threading.Thread(target=self._work, name="computing", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def here(self) -> bool:
        return threading.current_thread() is self._thread

    def submit(self, owner: object, steps: Generator[Any, None, T], training: bool = False) -> "_Job":
        """Raises RoadtripError where the owner has too much waiting already."""
        job, waiting = _Job(steps), self._trainings if training else self._views
        with self._changed:
            mine = waiting.setdefault(id(owner), deque())
            budget.check_waiting(len(mine))
            mine.append(job)
            self._changed.notify_all()
        return job

    def _end(self) -> None:
        """An interpreter that ends while this computes would crash."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(10)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._ended or self._views or self._trainings):
                    self._changed.wait()
                if self._ended:
                    return
                late = self._owed >= budget.BURST
                waiting = self._trainings if self._trainings and (late or not self._views) else self._views
                owner = next(iter(waiting))
                jobs = waiting.pop(owner)
            began = monotonic()
            if not jobs[0].advance(began + budget.TURN):
                jobs.popleft()
            spent = monotonic() - began
            with self._changed:
                jobs.extend(waiting.pop(owner, ()))  # what came meanwhile
                if jobs:
                    waiting[owner] = jobs  # behind all others
                if waiting is self._trainings:
                    self._owed = max(0.0, self._owed - spent)
                elif self._trainings:
                    self._owed += spent * budget.TRAINING_SHARE / (1 - budget.TRAINING_SHARE)


class _Job:
    def __init__(self, steps: Generator[Any, None, Any]):
        self._steps, self._running, self._stopped = steps, threading.Lock(), False
        self.future: Future[Any] = Future()

    def advance(self, until: float) -> bool:
        """Whether there is more to do."""
        with self._running:
            try:
                while not self._stopped:
                    next(self._steps)
                    if monotonic() >= until:
                        return True
                self._steps.close()
                self.future.cancel()
            except StopIteration as done:
                self.future.set_result(done.value)
            except BaseException as error:
                self.future.set_exception(error)
        return False

    def stop(self) -> None:
        """Returns as soon as nothing of it is computed any more."""
        self._stopped = True
        with self._running:
            pass


_turns = Turns()


def on_compute_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """function(*arguments, **named) while nothing else is computed here, in its turn. The first argument is whose turn it
    is: a visitor's session. A generator function is called in slices, and gives what it returns.
    """
    steps = _steps(function, *arguments, **named)
    if _turns.here():
        return _finish(steps)
    job = _turns.submit(arguments[0] if arguments else threading.current_thread(), steps)
    try:
        return job.future.result()
    except BaseException:
        job.stop()
        raise


def computed(function: Callable[P, Any]) -> Callable[P, Any]:
    """Decorator: calls the function `on_compute_thread`."""

    @wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> Any:
        return on_compute_thread(function, *arguments, **named)

    return called


def _steps(function: Callable[..., Any], *arguments: Any, **named: Any) -> Generator[None, None, Any]:
    if isgeneratorfunction(function):
        return (yield from function(*arguments, **named))
    return function(*arguments, **named)
    yield


def _finish(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def in_turns(items: Iterator[T]) -> Generator[None, None, list[T]]:
    """All items, each computed when it is this computation's turn."""
    found = []
    for item in items:
        found.append(item)
        yield
    return found


def interleave(owner: object, stream: Generator[T | None], training: bool = False) -> Iterator[T | None]:
    """The items of a stream, computed in turns with others wherever it yields None; and None whenever there was nothing
    for a while, so that whoever takes them can stop.

    The next item is begun before one is handed on, since Gradio takes its time with each. Closing this waits until nothing
    is computed any more, not for the item to come.
    """

    def advance() -> Generator[None, None, tuple[bool, T | None]]:
        for item in stream:
            if item is not None:
                return False, item
            yield
        return True, None

    with closing(stream):
        if ZERO_GPU and training:  # another process computes, for the visitor whose request this thread answers
            yield from (item for item in stream if item is not None)
            return
        job = _turns.submit(owner, advance(), training)
        try:
            while True:
                if wait([job.future], budget.PATIENCE).not_done:
                    yield None
                    continue
                ended, item = job.future.result()
                if ended:
                    return
                job = _turns.submit(owner, advance(), training)
                yield item
        finally:
            job.stop()


def release_memory() -> None:
    """Gives freed memory back to the system, where its allocator would keep it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def gpu(seconds: Callable[..., int]) -> Callable[[Callable[..., Iterator[T]]], Callable[..., Iterator[T]]]:
    """Decorator of a generator function that borrows a GPU for each call on a ZeroGPU Space, for at most `seconds`, a
    function of the call's arguments; elsewhere the function itself.

    What goes in and comes out is pickled here: left to the queue between the processes, every tensor would be a piece of
    shared memory and an open file, and a container has few of both. An error is told as its sentence, too, where that
    queue would only tell its type.
    """
    if not ZERO_GPU:
        return lambda function: function
    import gradio as gr
    import spaces

    # what a training imports when it first needs it: one that is forked while another thread imports it waits for ever
    for name in ("enhance", "filters", "geometry", "metrics"):
        import_module(f"kornia.{name}")

    def decorate(function: Callable[..., Iterator[T]]) -> Callable[..., Iterator[T]]:
        @spaces.GPU(duration=lambda most, _: most)
        def lent(_: int, sent: bytes) -> Iterator[bytes]:
            torch.set_num_threads(1)  # OpenMP's threads are not there in a forked process, and would be waited for
            try:
                for item in function(*pickle.loads(sent)):
                    yield pickle.dumps(item)
            except RoadtripError as error:
                yield pickle.dumps(error)

        @wraps(function)
        def borrowing(*arguments: Any) -> Iterator[T]:
            try:
                with closing(lent(seconds(*arguments), pickle.dumps(arguments))) as stream:
                    for item in map(pickle.loads, stream):
                        if isinstance(item, RoadtripError):
                            raise item
                        yield item
            except gr.Error as refused:  # there is none to lend, say
                raise RoadtripError(str(refused.message)) from None

        return borrowing

    return decorate
