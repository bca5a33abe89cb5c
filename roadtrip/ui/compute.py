"""Where the app computes: in one thread, one computation at a time, or on a borrowed GPU.

Independent of films, models and components.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import wraps
from importlib.util import find_spec
from typing import Any, TypeVar

from .messages import user_errors

T = TypeVar("T")
ZERO_GPU = find_spec("spaces") is not None  # a ZeroGPU Space, where a GPU is lent for the length of a call

# OpenMP's threads spin while they wait for each other, so a rollout beside a training on two cores takes ten times as
# long as one after the other. And OpenMP keeps a team for every thread that ever computed; once they are more than the
# cores, it puts them to sleep between any two operations, which halves the steps a second. Hence one thread for all.
_computing = ThreadPoolExecutor(1, "computing")


def on_compute_thread(function: Callable[..., T], *arguments: Any) -> T:
    """function(*arguments) while nothing else is computed here; on a borrowed GPU, at once."""
    if ZERO_GPU or threading.current_thread().name.startswith("computing"):
        return function(*arguments)
    return _computing.submit(function, *arguments).result()


def answer(function: Callable[..., T]) -> Callable[..., T]:
    """Decorator of what the page asks for: computed `on_compute_thread`, and what is wrong said as `user_errors` does."""

    @wraps(function)
    def ask(*arguments: Any) -> T:
        with user_errors():
            return on_compute_thread(function, *arguments)

    return ask


def interleave(stream: Generator[T]) -> Iterator[T]:
    """The items of a stream, each computed `on_compute_thread`; between two, other computations get their turn.

    The next item is begun before one is handed on, since Gradio takes its time with each. Closing this waits for the
    item that is being computed.
    """
    with closing(stream):
        if ZERO_GPU:
            yield from stream
            return
        coming = _computing.submit(next, stream, None)
        try:
            while (item := coming.result()) is not None:
                coming = _computing.submit(next, stream, None)
                yield item
        finally:
            coming.exception()


def gpu(duration: Callable[..., int]) -> Callable[[T], T]:
    """Decorator that borrows a GPU for each call on a ZeroGPU Space, for at most `duration` seconds, a function of the
    call's arguments; elsewhere the function itself."""
    if not ZERO_GPU:
        return lambda function: function
    import spaces

    return spaces.GPU(duration=duration)
