"""Optimisers and the schedule of their step size: Muon for the generator's convolutions, Adam for all else.

A minute is a few hundred steps, and each counts: docs/speed.md has what Muon buys over Adam. Independent of models.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: five rounds bring singular values to 0.7 … 1.2
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, replaced by the nearest orthogonal matrix (Jordan et al. 2024, "Muon").

    Each weight [out, in, h, w] is taken as a matrix out × in·h·w. Steps are scaled to the size that Adam's would have
    (Liu et al. 2025: scale·√max(rows, columns) with a scale of 0.2), so that one learning rate serves biases under Adam
    as well.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float, scale: float = 0.2):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "scale": scale})
        self.found_inf = torch.zeros(())  # as the fused Adam has it: where 1, a step changes nothing

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of all weights, which must have gradients; none changes where `found_inf` is 1 (no host sync)."""
        bad = self.found_inf.bool()
        if not bad.is_cuda and bad:  # only on a GPU would reading it cost a sync
            return
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                alike[weight.shape].append(weight)
            for (rows, inside, h, w), weights in alike.items():
                gradients: list[Tensor] = [weight.grad for weight in weights]  # type: ignore[misc]
                if bad.is_cuda:
                    gradients = [torch.where(bad, 0.0, g) for g in gradients]
                for weight in weights:
                    if not self.state[weight]:
                        self.state[weight]["momentum"] = torch.zeros_like(weight)
                moments = [self.state[weight]["momentum"] for weight in weights]
                torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, moments, group["momentum"])
                # columns in memory order (channels last), so nothing is copied; their order makes no difference
                matrices = torch.stack([m.permute(0, 2, 3, 1).flatten(1) for m in ahead])
                changes = orthogonal(matrices) * (-group["scale"] * group["lr"] * max(rows, inside * h * w) ** 0.5)
                if bad.is_cuda:
                    changes = torch.where(bad, 0.0, changes)
                changes = changes.view(-1, rows, h, w, inside).permute(0, 1, 4, 2, 3)
                torch._foreach_add_(weights, list(changes.unbind()))


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [n, r, c] with their singular values brought near 1, by Newton–Schulz rounds of a quintic.

    A round is X ← (aI + bA + cA²)·X with A = X·Xᵀ. All these factors are polynomials of the first A, so they commute
    and the rounds are done on the small square matrices alone: A ← Q·A·Q, and X is multiplied once at the end.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    same = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)

    def factor_of(gram: Tensor) -> Tensor:
        return torch.baddbmm(torch.add(a * same, gram, alpha=b), gram, gram, alpha=c)

    gram = x @ x.mT
    product = factor = factor_of(gram)
    for _ in range(ROUNDS - 1):
        gram = factor @ gram @ factor
        factor = factor_of(gram)
        product = product @ factor
    x = product @ x
    return x if wide else x.mT


def lr_share(
    step: int, steps: int | None, warmup: int, plateau: float = 0.5, last: float = 0.01, first: float = 0.0
) -> float:
    """The share of the full step size at `step` (from 0) of `steps`, in (0, 1]: a linear rise over `warmup` steps, a
    plateau, then half a cosine to `last`.

    plateau: share of the steps before the cosine begins. Until then the schedule is the same for every `steps`, so that a
    training whose length is still being timed leaves no trace. first: the share to rise from, where a training goes on
    after its plan has ended.
    """
    rise = first + (1 - first) * min(1.0, (step + 1) / (warmup + 1))
    if steps is None:
        return rise
    along = max(0.0, step - plateau * steps) / ((1 - plateau) * steps)
    return rise * (last + (1 - last) * (1 + math.cos(math.pi * min(1.0, along))) / 2)


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Sets the step size; on a GPU in place, where a recorded step reads it."""
    (group,) = optimiser.param_groups
    device = group["params"][0].device
    if device.type != "cuda":
        group["lr"] = lr
    elif isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = torch.tensor(lr, device=device)


def optimizer_step(
    optimisers: Sequence[torch.optim.Optimizer], module: nn.Module, loss: Tensor, largest_norm: float = 0.0
) -> Tensor:
    """Backward and one step, the gradient of all of `module` scaled down to `largest_norm` where its norm is larger (0:
    never). Where the gradient is not a number no weight changes; returns whether that is so, a float scalar on the
    module's device, 1 or 0 (no host sync)."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), largest_norm or math.inf, foreach=True)
    nonfinite = (~torch.isfinite(norm)).float()
    for optimiser in optimisers:
        optimiser.found_inf = nonfinite  # type: ignore[attr-defined]
        optimiser.step()
    return nonfinite
