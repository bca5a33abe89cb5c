"""Sets how much a network draws and how much of it carries over, so that its rollouts are as lively as its film.

What decides it shows only in long rollouts: where each step draws a little too little, they end where little changes.
Independent of how the network was trained.
"""

import math
from dataclasses import asdict, dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from .diffusion import SPANS, Sampler
from .evaluation import HELD_OUT
from .film import Film, evenly_spaced
from .frames import as_float, l1, sharpness
from .model import NextFrame
from .oscillation import EPS_STEP, return_ratio
from .rollout import drive

ROLLOUTS, FRAMES = 4, 256  # of these frames the second half is measured
ROUNDS = 3
WINDOW, WINDOWS = 16, 64  # of real film, which they are compared with
STEEPEST = (1.5, 8.0)  # how steeply ln liveliness rises with ln temperature, at least and at most
RISE = 0.6  # how steeply R rises with carry, as it did on four films
TEMPERATURES = (0.85, 1.2)


@dataclass(frozen=True)
class Motion:
    """Of film or of rollouts. step: mean |difference| of two frames in a row, in [0, 1]; sharpness: see frames.sharpness;
    R: D(2) / D(1), in [0, 2]."""

    step: float
    sharpness: float
    R: float


@dataclass(frozen=True)
class Round:
    """What rollouts are like with one setting, relative to film but for R: S and sharpness are 1 in film."""

    temperature: float
    carry: float
    S: float
    sharpness: float
    R: float

    @property
    def liveliness(self) -> float:
        """The geometric mean of S and sharpness."""
        return math.sqrt(self.S * self.sharpness)


def calibrate(model: NextFrame, film: Film, held_out: float = HELD_OUT) -> list[Round]:
    """Sets the temperature and carry of a model that draws, in place, by rollouts from the film that it was trained on, and
    returns what each round found. There are no rounds, and nothing is changed, for a model that doesn't draw and for film
    whose training part has no WINDOW frames in a row; they end where rollouts are no numbers.

    Liveliness rises with temperature, R with carry: each round sets them to where, by the slopes that are known, liveliness
    is 1 and R is film's.
    """
    starts, windows = (film.starts(n, "train", held_out) for n in (2, WINDOW))
    if not model.sampler or not len(windows):
        return []
    clips = film.clips(evenly_spaced(starts, ROLLOUTS), 2)
    real = motion(film.clips(evenly_spaced(windows, WINDOWS), WINDOW))
    rounds: list[Round] = []
    for _ in range(ROUNDS):
        frames = islice(drive(model, clips[:, 0], clips[:, 1]), FRAMES)
        own = motion(torch.stack([g.cpu() for i, g in enumerate(frames) if i >= FRAMES // 2], dim=1))
        if not all(map(math.isfinite, (own.step, own.sharpness, own.R))):
            break
        now, relative = model.sampler, (own.step / real.step, own.sharpness / real.sharpness)
        rounds.append(Round(now.temperature, now.carry, *relative, own.R))
        model.sampler = following(now, rounds, real.R)
        model.architecture["sampler"] = asdict(model.sampler)
    return rounds


def motion(clips: Tensor) -> Motion:
    """Of clips taken together, uint8 or float in [0, 1], [B, T, 3, H, W] with T ≥ 3."""
    clips = as_float(clips)
    step, sharp = (x.mean().item() for x in (l1(clips[:, 1:], clips[:, :-1]), sharpness(clips.flatten(0, 1))))
    return Motion(max(step, EPS_STEP), max(sharp, EPS_STEP), return_ratio(clips).item())


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
