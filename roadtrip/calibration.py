"""Sets how much a network draws and how much of it carries over, so that its rollouts are as lively as its film.

What decides it shows only in long rollouts: where each step draws a little too little, they end where little changes.
Independent of how the network was trained.
"""

import math
import statistics
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from .diffusion import SPANS, Sampler
from .evaluation import HELD_OUT
from .film import Film, evenly_spaced
from .model import NextFrame
from .oscillation import MIN_WINDOW, RealFilm, oscillation, real_windows
from .rollout import drive

ROLLOUTS, FRAMES, WINDOW = 4, 256, 32  # the second half of these frames is measured, in such windows
ROUNDS = 3
SHARPEST = 1.2  # times film's; where rollouts slow down for another reason, more of what is drawn would be grain
STEEPEST = (1.5, 8.0)  # how steeply ln liveliness rises with ln temperature, at least and at most
RISE = 0.6  # how steeply R rises with carry, as it did on forest_road
TEMPERATURES = (0.98, 1.1)  # hardly below 1, see docs/log.md


@dataclass(frozen=True)
class Round:
    """What rollouts are like with one setting, medians over their windows: S and sharpness relative to training film, and
    R, as in oscillation.py."""

    temperature: float
    carry: float
    S: float
    sharpness: float
    R: float

    @property
    def liveliness(self) -> float:
        """What should be 1: S, or sharpness over what it may be at most, where that is more."""
        return max(self.S, self.sharpness / SHARPEST)


def calibrate(model: NextFrame, film: Film, held_out: float = HELD_OUT) -> list[Round]:
    """Sets the temperature and carry of a model that draws, in place, by rollouts from the film that it was trained on, and
    returns what each round found. There are no rounds, and nothing is changed, for a model that doesn't draw and for film
    whose training part has no 16 frames in a row or stands still; they end where rollouts do, or are no numbers.

    Liveliness rises with temperature, R with carry: each round sets them to where, by the slopes that are known, liveliness
    is 1 and R is film's.
    """
    stretches = training_stretches(film, held_out)
    if not model.sampler or max(map(len, stretches), default=0) < MIN_WINDOW:
        return []
    real, starts = real_windows(stretches, WINDOW), film.starts(2, "train", held_out)
    clips = film.clips(evenly_spaced(starts, ROLLOUTS), 2)
    rounds: list[Round] = []
    for _ in range(ROUNDS):
        frames = islice(drive(model, clips[:, 0], clips[:, 1]), FRAMES)
        now, later = model.sampler, torch.stack([g.cpu() for i, g in enumerate(frames) if i >= FRAMES // 2], dim=1)
        found = measured(later, real)
        if found is None or real.return_ratio is None:
            break
        rounds.append(Round(now.temperature, now.carry, *found))
        model.use(following(now, rounds, real.return_ratio))
    return rounds


def training_stretches(film: Film, held_out: float) -> list[Tensor]:
    """The training film at its gap, uint8 [n, 3, H, W] each: every stretch without a cut, in every phase of the gap."""
    train, found = film.starts(1, "train", held_out), []
    for a, b in film.stretches():
        mine = train[(train >= a) & (train < b)]
        if len(mine):
            first, end = int(mine[0]), int(mine[-1]) + 1
            found += [film.frames[first + phase : end : film.gap] for phase in range(film.gap)]
    return found


def measured(frames: Tensor, real: RealFilm) -> tuple[float, float, float] | None:
    """(S, sharpness, R) of rollouts float [B, T, 3, H, W], medians over windows; None where one is undefined."""
    if not frames.isfinite().all():
        return None
    each = [oscillation(w, real) for y in frames for w in y.split(real.window) if len(w) == real.window]
    values = [(o.step_ratio, o.sharpness_ratio, o.return_ratio) for o in each]
    if not values or not all(v for o in values for v in o):
        return None
    S, sharp, R = (statistics.median(column) for column in zip(*values))
    return S, sharp, R


def following(now: Sampler, rounds: list[Round], R: float) -> Sampler:
    """The sampler for the next round. R: the film's."""
    last, steep = rounds[-1], sum(STEEPEST) / 2
    if len(rounds) > 1:  # the secant, where the two lie far enough apart for one
        rise, apart = (math.log(getattr(last, k) / getattr(rounds[-2], k)) for k in ("liveliness", "temperature"))
        if abs(apart) > 0.005:
            steep = _between(rise / apart, STEEPEST)
    temperature = _between(now.temperature * last.liveliness ** (-1 / steep), TEMPERATURES)
    return replace(now, temperature=temperature, carry=_between(now.carry + (R - last.R) / RISE, SPANS["carry"]))


def _between(value: float, span: tuple[float, float]) -> float:
    return min(max(value, span[0]), span[1])
