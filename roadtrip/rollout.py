"""unroll: THE loop. Training heads (v1: one step, v2: two, on the model's own output) and rollouts both call it.

The post calls its two-step unroll *teacher forcing*; in the literature that is feeding the real previous frame (what v1
does). Independent of losses, films and recipes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .cuda_graph import WARMUP_CALLS, CudaGraphed
from .errors import RoadtripError
from .frames import as_float
from .model import NextFrame, State


def unroll(
    model: NextFrame | _GraphedModel,
    f1: Tensor,
    f2: Tensor,
    steps: int,
    feedback: Callable[[Tensor], Tensor] | None = None,
    noise: Tensor | None = None,
    z: Tensor | None = None,
) -> Tensor:
    """Drives on from two frames: g3 = G(f1, f2), g4 = G(f2, g3), g5 = G(g3, g4), …

    Args:
        f1, f2: float [B, 3, H, W] in [0, 1].
        steps: how many frames to generate, ≥ 1.
        feedback: what happens to a generated frame before the model sees it again (noise, rounding, detach);
            what is returned is the frame before it.
        noise: float [B, 1], the standard deviation of the noise on what goes in, for a noise-conditioned model.
        z: float [B, steps, …], the random input of each frame, for a model that samples.

    Returns: float [B, steps, 3, H, W] in [0, 1], differentiable through every step.
    """
    state, frame, generated = model.observe(f1, noise), f2, []
    for t in range(steps):
        g, state = model.step(frame, state, noise, None if z is None else z[:, t])
        generated.append(g)
        frame = feedback(g) if feedback else g
    return torch.stack(generated, dim=1)


@torch.no_grad()
def rollout(model: NextFrame, f1: Tensor, f2: Tensor, horizon: int, seed: int = 0) -> Tensor:
    """Lets the model drive on by itself for `horizon` frames, in float32 on the model's device.

    Args:
        f1, f2: uint8 or float [0, 1], [B, 3, H, W] or [3, H, W], two frames one gap apart.
        seed: of a model that samples; each of the B clips has random numbers of its own. Others ignore it.

    Returns: float32 [B, horizon, 3, H, W] in [0, 1].
    Raises RoadtripError when the frames' shapes differ or are not divisible by 8, or horizon < 1.
    """
    if horizon < 1:
        raise RoadtripError(f"The horizon is {horizon}; it must be at least 1.")
    device = next(model.parameters()).device
    f1, f2 = (as_float(f).to(device) for f in (f1, f2))
    if f1.dim() == 3:
        f1, f2 = f1[None], f2[None]
    if f1.shape != f2.shape or f1.dim() != 4 or f1.shape[1] != 3 or f1.shape[2] % 8 or f1.shape[3] % 8:
        raise RoadtripError(
            f"A rollout starts from two frames of one shape, 3 × H × W with H and W divisible by 8, "
            f"not {tuple(f1.shape[1:])} and {tuple(f2.shape[1:])}."
        )
    driver = _GraphedModel(model) if device.type == "cuda" and horizon > 2 * WARMUP_CALLS else model
    shape, z = model.latent_shape(*f1.shape[2:]), None
    if shape:
        z = torch.randn(len(f1), horizon, *shape, generator=torch.Generator().manual_seed(seed)).to(device)
    return unroll(driver, f1, f2, horizon, z=z).clamp(0, 1)


class _GraphedModel:
    """A model on a GPU for one rollout without gradients: a frame is one launch."""

    def __init__(self, model: NextFrame):
        self.observe = model.observe
        self.graphed = CudaGraphed(lambda frame, z, *state: model.step(frame, state, z=z))

    def step(
        self, frame: Tensor, state: State, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, State]:
        g, state = self.graphed(frame, z, *state)
        return g.clone(), state
