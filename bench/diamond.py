"""A peer of v4: DIAMOND's world model (Alonso et al. 2024, arXiv 2405.12399) written from its paper at its smallest.

Trained on one film for so many minutes and measured as v4 is; without actions and policy, which a road trip has none of.

What is its own: a U-Net over the noisy frame and the past ones side by side, EDM's preconditioning for the picture itself
(no flow, no moved frame), white noise, three Euler evaluations. What is not told there for film of this kind: width, and
the step size, higher than the paper's since minutes and not days are trained.

    python -m bench.diamond ca_freeway:8 --minutes 16 --endless 1000 --keep
"""

import argparse
import json
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import roadtrip as rt
from roadtrip.endless import endless_row, measure_endless
from roadtrip.evaluation import HELD_OUT
from roadtrip.film import Film
from roadtrip.model import State
from roadtrip.study.rows import Job, film_and_gap
from roadtrip.train import best_dtype
from scripts.controls import keep

SIGMA_DATA, MEAN, DEVIATION = 0.5, -0.4, 1.2  # of the pictures in [−1, 1], and of ln σ in training
SIGMAS = [(5.0 ** (1 / 7) + i / 2 * (0.002 ** (1 / 7) - 5.0 ** (1 / 7))) ** 7 for i in range(3)]  # Karras et al., ρ = 7
FEATURES = 128


class Block(nn.Module):
    """A residual block whose normalisation is scaled and shifted by the noise level."""

    def __init__(self, before: int, channels: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(before, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.levels = nn.ModuleList(nn.Linear(FEATURES, 2 * n) for n in (before, channels))
        self.across = nn.Conv2d(before, channels, 1) if before != channels else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        y = self.first(F.silu(_normalised(x, self.levels[0](level))))
        return self.across(x) + self.second(F.silu(_normalised(y, self.levels[1](level))))


def _normalised(x: Tensor, film: Tensor) -> Tensor:
    scale, shift = film[:, :, None, None].chunk(2, dim=1)
    return F.group_norm(x, max(1, x.shape[1] // 32)) * (1 + scale) + shift


class Diamond(nn.Module):
    """The U-Net and its sampler, with NextFrame's interface to a rollout."""

    sampler = None  # of v4's kind: there is none

    def __init__(self, widths: tuple[int, ...] = (32, 32, 64, 64)):
        super().__init__()
        self.register_buffer("rates", 2 * torch.pi * torch.randn(FEATURES // 2))
        self.level = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.SiLU(), nn.Linear(FEATURES, FEATURES))
        self.stem = nn.Conv2d(9, widths[0], 3, padding=1)
        pairs = list(zip((widths[0], *widths), widths))
        self.down = nn.ModuleList(Block(a, b) for a, b in pairs)
        self.up = nn.ModuleList(Block(2 * b, a) for a, b in reversed(pairs))
        self.out = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        """The denoised picture: x [B, 3, H, W] and context [B, 6, H, W] in [−1, 1], sigma [B, 1, 1, 1]."""
        scale = (sigma**2 + SIGMA_DATA**2).sqrt()
        phase = sigma.log().flatten(1) / 4 * self.rates
        level = self.level(torch.cat([phase.sin(), phase.cos()], dim=1))
        h, skips = self.stem(torch.cat([x / scale, context / SIGMA_DATA], dim=1)), []
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if i else h, level)
            skips.append(h)
        for i, block in enumerate(self.up):
            skip = skips.pop()
            h = block(torch.cat([F.interpolate(h, skip.shape[-2:]) if i else h, skip], dim=1), level)
        return x * (SIGMA_DATA / scale) ** 2 + sigma * SIGMA_DATA / scale * self.out(F.silu(h)).float()

    def observe(self, frame: Tensor, noise: Tensor | None = None, anchor: Tensor | None = None) -> State:
        return (frame,)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        return (3, height, width)

    def step(
        self, frame: Tensor, state: State, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, State]:
        context, x = torch.cat([state[0], frame], dim=1) * 2 - 1, z
        assert x is not None, "it draws"
        for sigma, after in zip(SIGMAS, (*SIGMAS[1:], 0.0)):  # begun from N(0, 1) while σ = 5 is told, on purpose
            guess = self(x, x.new_full((len(x), 1, 1, 1), sigma), context)
            x = x + (x - guess) / sigma * (after - sigma)
        return ((x + 1) / 2).clamp(0, 1), (frame,)


def trained(film: Film, minutes: float, lr: float, batch: int = 16, seed: int = 0) -> tuple[Diamond, int]:
    """The averaged network after so many minutes, and its steps."""
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model, averaged = Diamond(), Diamond()
    optimiser = torch.optim.AdamW(model.parameters(), lr, weight_decay=1e-2)
    starts, began, steps = film.starts(3, "train", HELD_OUT), time.perf_counter(), 0
    half = best_dtype(torch.device("cpu")) == "bfloat16"
    while (spent := (time.perf_counter() - began) / (60 * minutes)) < 1:
        optimiser.param_groups[0]["lr"] = lr * min(1.0, (steps + 1) / 100, 2 * (1 - spent) + 0.01)
        clips = film.clips(starts[torch.randint(len(starts), (batch,), generator=random)], 3).float() / 127.5 - 1
        sigma = (MEAN + DEVIATION * torch.randn(batch, 1, 1, 1, generator=random)).exp()
        x = clips[:, 2] + sigma * torch.randn(clips[:, 2].shape, generator=random)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            guess = model(x, sigma, clips[:, :2].flatten(1, 2))
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        loss = (weight * (guess - clips[:, 2]).square()).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_([*averaged.parameters()], [*model.parameters()], 1 - min(0.998, steps / (steps + 10)))
        steps += 1
    averaged.rates.copy_(model.rates)
    return averaged, steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.diamond", description=__doc__.splitlines()[0])
    parser.add_argument("film", help="as PATH:GAP")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--endless", type=int, default=500, help="frames of each of 8 rollouts")
    parser.add_argument("--size", type=int, nargs=2, default=(48, 80))
    parser.add_argument("--keep", action="store_true", help="add the row to checkpoints/controls.json")
    args = parser.parse_args()
    source, gap = film_and_gap(args.film)
    film = rt.open_film(source, size=tuple(args.size), gap=gap)
    model, steps = trained(film, args.minutes, args.lr)
    row = endless_row(measure_endless(model, film, args.endless))  # type: ignore[arg-type]
    if args.keep:
        size = "{}x{}".format(*args.size)
        keep(Job("v4", args.film).film_name, size, f"DIAMOND's U-Net, {args.minutes:g} minutes", row)
    numbers = sum(p.numel() for p in model.parameters())
    print(json.dumps({"film": args.film, "minutes": args.minutes, "steps": steps, "numbers": numbers} | row))


if __name__ == "__main__":
    main()
