"""Where the app computes: in one thread, one computation at a time, or on a borrowed GPU.

Independent of films, models and components.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial, wraps
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ZERO_GPU = find_spec("spaces") is not None  # a ZeroGPU Space, where a GPU is lent for the length of a call

# OpenMP's threads spin while they wait for each other, so a rollout beside a training on two cores takes ten times as
# long as one after the other. And OpenMP keeps a team for every thread that ever computed; once they are more than the
# cores, it puts them to sleep between any two operations, which halves the steps a second. Hence one thread for all.
_computing = ThreadPoolExecutor(1, "computing")


def on_compute_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """function(*arguments, **named) while nothing else is computed here; on a borrowed GPU, at once."""
    if ZERO_GPU or threading.current_thread().name.startswith("computing"):
        return function(*arguments, **named)
    return _computing.submit(function, *arguments, **named).result()


def computed(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: calls the function `on_compute_thread`."""
    return wraps(function)(partial(on_compute_thread, function))


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
