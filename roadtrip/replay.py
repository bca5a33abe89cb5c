"""Replay: clips that a network drives on through while it trains, one frame a step, so that it also learns from frames of
its own (the train window's recipe). Rolled out anew for each step, they would take more time than the step itself.

Independent of films and losses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .cuda_graph import CudaGraphed
from .model import NextFrame
from .oscillation import return_ratio
from .recipes import Recipe


class Replay:
    """n clips of 2 + K + U frames: n is the replayed share of a batch, K the recipe's `replay`, U its `unroll`. Each begins
    on real frames, and after K of the network's own another takes its place; they are at different depths, so that few do
    so at once.

    `held` is all that goes on from step to step, on the model's device but for depth; a step replaces its tensors and
    changes none: "clips" float [n, 2 + K + U, 3, H, W] in [0, 1], real; "anchor" float [n, 3, H, W]; "frames" float
    [n, 3, 3, H, W], the newest three; "z" float [n, 3, H, W], the noise of the next; "near" bool [n], which stay near to
    the real frames; "depth" int64 [n], how many frames are the network's own.
    """

    def __init__(self, model: NextFrame, recipe: Recipe, size: tuple[int, int], device: torch.device):
        self.model, self.recipe, self.longest = model, recipe, recipe.replay
        self.n = n = round(recipe.replay_share * recipe.batch)
        frame = 3, *size
        shapes = {"clips": (recipe.clip, *frame), "anchor": frame, "frames": (3, *frame), "z": frame}
        self.held = {name: torch.zeros(n, *shape, device=device) for name, shape in shapes.items()}
        self.held["near"] = torch.zeros(n, dtype=torch.bool, device=device)
        # all have ended, and will begin at depths from 0 to K
        self.held["depth"] = (self.longest + 1) + torch.arange(n) * (self.longest + 1) // max(n, 1)
        self.frame = CudaGraphed(self._frame) if device.type == "cuda" else self._frame

    def ended(self) -> Tensor:
        """Which clips have ended, int64 [m]: `begin` gives others in their place."""
        return (self.held["depth"] > self.longest).nonzero().flatten()

    def begin(self, clips: Tensor, anchor: Tensor | None, random: torch.Generator) -> None:
        """Puts new clips [m, 2 + K + U, 3, H, W] and their anchors [m, 3, H, W] in the place of those that have ended."""
        ended = self.ended()
        depth = self.held["depth"][ended] - (self.longest + 1)
        there = [clips[range(len(clips)), (depth + i).clamp_min(0)] for i in (-1, 0, 1)]
        new = {"clips": clips, "frames": torch.stack(there, dim=1), "depth": depth}
        new["z"] = torch.randn(clips.shape[:1] + clips.shape[2:], generator=random)
        new["near"] = torch.rand(len(clips), generator=random) < self.recipe.replay_near
        if anchor is not None:
            new["anchor"] = anchor
        self.held = {k: v.clone() for k, v in self.held.items()}
        for name, value in new.items():
            self.held[name][ended.to(self.held[name].device)] = value.to(self.held[name].device)

    @torch.no_grad()
    def go_on(self, carry: float, random: torch.Generator) -> float:
        """Drives all clips on by one frame. Returns by how much sooner than the same real frames those return that are the
        network's alone, R of the real ones less R of its own in [−1, 1]; 0 where there are none yet."""
        held, rows = self.held, range(self.n)
        clips, frames, depth = held["clips"], held["frames"], held["depth"] + 1
        z = self.recipe.temperature * held["z"]
        g = self.frame(frames[:, 1], frames[:, 2], held["anchor"], z, clips[rows, depth + 1], held["near"])
        frames = torch.cat([frames[:, 1:], g[:, None]], dim=1)
        fresh = torch.randn(z.shape, generator=random).to(z.device, non_blocking=True)
        z = carry * held["z"] + math.sqrt(1 - carry**2) * fresh
        self.held = held | {"frames": frames, "z": z, "depth": depth}
        alone = ((depth >= 3) & ~held["near"].cpu()).nonzero().flatten()
        if not len(alone):
            return 0.0
        real = torch.stack([clips[alone, depth[alone] + i] for i in (-1, 0, 1)], dim=1)
        return (return_ratio(real) - return_ratio(frames[alone])).clamp(-1, 1).item()

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Training clips float [n, 2 + U, 3, H, W] that begin where their networks' frames are, those two frames float
        [n, 2, 3, H, W], and the anchors."""
        rows, depth = range(self.n), self.held["depth"]
        clips = [self.held["clips"][rows, depth + i] for i in range(2 + self.recipe.unroll)]
        return torch.stack(clips, dim=1), self.held["frames"][:, 1:], self.held["anchor"]

    def _frame(self, f1: Tensor, f2: Tensor, anchor: Tensor, z: Tensor, real: Tensor, near: Tensor) -> Tensor:
        f1, f2, anchor = (f.contiguous(memory_format=torch.channels_last) for f in (f1, f2, anchor))
        state = self.model.observe(f1, anchor=anchor)
        return self.model.step(f2, state, z=z, near=(real, near[:, None, None, None]))[0]
