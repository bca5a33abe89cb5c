"""Random numbers that belong to a run, not to the process.

torch's layers, spectral norm and kornia draw from torch's global generator, which any other thread may use meanwhile.
Inside `use_generator(generator)` this thread's draws come from the run's own generator instead, and the global one is
neither read nor moved: two trainings side by side each give the bits they would give alone.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Everything that draws and takes `generator=`. nn.init's functions are themselves overridable, so that what they call
# inside would pass by unseen: they are named too.
_DRAWS: frozenset[Callable[..., Any]] = frozenset(
    [torch.rand, torch.randn, torch.randint, torch.randperm, torch.bernoulli, torch.normal, torch.multinomial]
    + [getattr(Tensor, f"{n}_") for n in ("uniform", "normal", "bernoulli", "random", "exponential", "log_normal")]
    + [getattr(nn.init, f"{n}_") for n in ("uniform", "normal", "trunc_normal", "orthogonal", "sparse")]
    + [getattr(nn.init, f"{kind}_{n}_") for kind in ("kaiming", "xavier") for n in ("uniform", "normal")]
)


class use_generator(TorchFunctionMode):
    """Context: every torch draw on this thread uses `generator` (of the same device as what is drawn)."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)
