"""unroll: THE loop. Training heads (v1: one step, v2: two, on the model's own output) and rollouts both call it.

The post calls its two-step unroll *teacher forcing*; in the literature that is feeding the real previous frame (what v1
does). Independent of losses, films and recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat

import torch
from torch import Tensor

from .cuda_graph import CudaGraphed
from .diffusion import latents
from .errors import RoadtripError
from .frames import as_float
from .model import Denoising, NextFrame, State


def unroll(
    model: NextFrame | Denoising | GraphedModel,
    f1: Tensor,
    f2: Tensor,
    steps: int,
    feedback: Callable[[Tensor], Tensor] | None = None,
    noise: Tensor | None = None,
    z: Tensor | None = None,
    anchor: Tensor | None = None,
) -> Tensor:
    """Drives on from two frames: g3 = G(f1, f2), g4 = G(f2, g3), g5 = G(g3, g4), …

    Args:
        f1, f2: float [B, 3, H, W] in [0, 1].
        steps: how many frames to generate, ≥ 1.
        feedback: what happens to a generated frame before the model sees it again (noise, rounding, detach);
            what is returned is the frame before it.
        noise: float [B, 1], the standard deviation of the noise on what goes in, for a noise-conditioned model.
        z: float [B, steps, …], the random input of each frame, for a model that samples.
        anchor: float [B, 3, H, W] in [0, 1], a still of the same drive, for an anchored model; None is f1.

    Returns: float [B, steps, 3, H, W] in [0, 1], differentiable through every step.
    """
    drawn = repeat(None) if z is None else z.unbind(dim=1)
    frames = frames_in_turn(model, f1, f2, drawn, feedback, noise, anchor)
    return torch.stack(list(islice(frames, steps)), dim=1)


def frames_in_turn(
    model: NextFrame | Denoising | GraphedModel,
    f1: Tensor,
    f2: Tensor,
    drawn: Iterable[Tensor | None],
    feedback: Callable[[Tensor], Tensor] | None = None,
    noise: Tensor | None = None,
    anchor: Tensor | None = None,
) -> Iterator[Tensor]:
    """The frames of `unroll` one by one, float [B, 3, H, W], for as long as random inputs are drawn."""
    state, frame = model.observe(f1, noise, anchor), f2
    for z in drawn:
        g, state = model.step(frame, state, noise, z)
        yield g
        frame = feedback(g) if feedback else g


@torch.no_grad()
def drive(model: NextFrame, f1: Tensor, f2: Tensor, seed: int = 0, temperature: float = 1.0) -> Iterator[Tensor]:
    """Lets the model drive on by itself for as long as frames are asked for, in float32 on the model's device.

    Args:
        f1, f2: uint8 or float [0, 1], [B, 3, H, W] or [3, H, W], two frames one gap apart.
        seed: of a model that samples; each of the B clips has random numbers of its own. Others ignore it.
        temperature: of what is drawn, beside that of the model's own sampler; 0 draws what is in the middle.

    Yields float32 [B, 3, H, W] in [0, 1]. Raises RoadtripError, with the first frame, when the frames' shapes differ or
    are not divisible by 8.
    """
    device = next(model.parameters()).device
    f1, f2 = (as_float(f).to(device) for f in (f1, f2))
    if f1.dim() == 3:
        f1, f2 = f1[None], f2[None]
    if f1.shape != f2.shape or f1.dim() != 4 or f1.shape[1] != 3 or f1.shape[2] % 8 or f1.shape[3] % 8:
        raise RoadtripError(
            f"A rollout starts from two frames of one shape, 3 × H × W with H and W divisible by 8, "
            f"not {tuple(f1.shape[1:])} and {tuple(f2.shape[1:])}."
        )
    shape, generator = model.latent_shape(*f1.shape[2:]), torch.Generator().manual_seed(seed)
    drawn: Iterable[Tensor | None] = repeat(None)
    if shape:
        # read anew for each frame, so that it may change on the way
        own = lambda: model.sampler.temperature if model.sampler else 1.0  # noqa: E731
        carry = model.sampler.carry if model.sampler else 0.0
        drawn = (temperature * own() * z.to(device) for z in latents((len(f1), *shape), carry, generator))
    f1, f2 = (f.contiguous(memory_format=torch.channels_last) for f in (f1, f2))
    driver = GraphedModel(model) if device.type == "cuda" else model
    for g in frames_in_turn(driver, f1, f2, drawn):
        yield g.clamp(0, 1)


def rollout(model: NextFrame, f1: Tensor, f2: Tensor, horizon: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
    """The first `horizon` frames of `drive`, which see: float32 [B, horizon, 3, H, W] in [0, 1].

    Raises RoadtripError as it does, and for horizon < 1.
    """
    if horizon < 1:
        raise RoadtripError(f"The horizon is {horizon}; it must be at least 1.")
    return torch.stack(list(islice(drive(model, f1, f2, seed, temperature), horizon)), dim=1)


class GraphedModel:
    """A model on a GPU for rollouts without gradients: a frame is one launch. Later changes of its weights are seen."""

    def __init__(self, model: NextFrame):
        self.observe = model.observe
        self.graphed = CudaGraphed(lambda frame, z, *state: model.step(frame, state, z=z))

    def step(
        self, frame: Tensor, state: State, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, State]:
        g, state = self.graphed(frame, z, *state)
        return g.clone(), state
