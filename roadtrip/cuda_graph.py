"""CudaGraphed: a function on a GPU as one launch. A step of a small network is hundreds of kernels, each shorter than it
takes to launch; a CUDA graph launches them together.

Independent of models and training.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# calls before one is recorded: optimisers make their state and libraries choose their kernels meanwhile
WARMUP_CALLS = 3


class CudaGraphed:
    """A function of tensors on a GPU, recorded as a CUDA graph at its fourth call and replayed from then on.

    Called with tensors, None and plain values; for each combination of shapes and values there is a recording of its
    own. The function must not look at what is in the tensors, and must not draw random numbers. What it returns holds
    until the next call. Where it can't be recorded, it is simply called.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.calls: Counter[tuple[Any, ...]] = Counter()
        self.recordings: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, tuple[Any, ...], Any] | None] = {}
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, *arguments: Any) -> Any:
        kind = tuple((a.shape, a.dtype) if isinstance(a, Tensor) else a for a in arguments)
        self.calls[kind] += 1
        if self.calls[kind] <= WARMUP_CALLS:
            return self._beside(arguments)
        if kind not in self.recordings:
            self.recordings[kind] = self._record(arguments)
        recording = self.recordings[kind]
        if recording is None:
            return self.function(*arguments)
        graph, held, result = recording
        for mine, theirs in zip(held, arguments):
            if isinstance(mine, Tensor):
                mine.copy_(theirs, non_blocking=True)
        graph.replay()
        return result

    def _beside(self, arguments: tuple[Any, ...]) -> Any:
        """A plain call on the stream that records later, since autograd remembers which stream it was made on."""
        self.stream = self.stream or torch.cuda.Stream()
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = self.function(*arguments)
        here.wait_stream(self.stream)
        return result

    def _record(self, arguments: tuple[Any, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Any, ...], Any] | None:
        held = tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)
        graph = torch.cuda.CUDAGraph()
        # weights that autocast has cast already would not be cast in the recording: it would go on with old ones, freed
        # when that autocast ends
        torch.clear_autocast_cache()
        try:
            # another thread may be using the GPU meanwhile
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                result = self.function(*held)
        except RuntimeError:
            return None
        finally:
            torch.clear_autocast_cache()
        return graph, held, result
