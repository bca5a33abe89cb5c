"""Whether a rollout oscillates: the measures R, N, B, S, the lag profile and their verdict, read from frames alone.

Pure functions of tensors in [0, 1], never of encoded pictures; independent of models and films. Notation as in the docs:
y are T generated frames, x real film, d(a, b) = mean |a − b| over pixels and channels, D(p) = mean over t of
d(y_t, y_{t−p}).
"""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import RoadtripError
from .frames import as_float, l1, sharpness

MIN_WINDOW = 16  # frames an oscillation can be read from
LAGS = range(1, 9)
EPS_STEP = 1e-6  # a D(1) or sharpness below this is that of a still or flat picture: ratios to it are undefined


def nyquist_excess(frames: Tensor) -> float:
    """N = P(T/2) / mean_{k=1..T/2} P(k), P(k) the mean over pixels of |rFFT_t|² of the linearly detrended frames.

    [T, ...] → 0 … T/2; 1 for white noise, T/2 for pure alternation, 0 where nothing moves. T is made even by leaving
    out the first frame.
    """
    return _windowed_nyquist(frames[len(frames) % 2 :].flatten(1), len(frames) // 2 * 2).item()


def spectrum(frames: Tensor) -> list[float]:
    """P(k) / Σ P for k = 1 … T/2, P(k) the mean over pixels of |rFFT_t|² of the linearly detrended frames, [T, ...] →
    T/2 shares of motion that sum to 1 (all 0 where nothing moves); the last, times T/2, is the Nyquist excess. T is
    made even by leaving out the first frame."""
    series = frames[len(frames) % 2 :].flatten(1).double()
    t = torch.arange(len(series), device=series.device, dtype=series.dtype) - (len(series) - 1) / 2
    series = series - series.mean(dim=0)
    series = series - t[:, None] * (t @ series) / t.square().sum()
    power = torch.fft.rfft(series, dim=0)[1:].abs().square().mean(dim=1)
    return (power / power.sum().clamp_min(1e-12)).tolist()


def distance_matrix(frames: Tensor) -> list[list[float]]:
    """d(y_i, y_j), the mean |difference| of every two frames, [T, 3, H, W] in [0, 1] → T rows of T values in [0, 1]."""
    flat = frames.flatten(1)
    return (torch.cdist(flat, flat, p=1) / flat.shape[1]).tolist()


def _windowed_nyquist(series: Tensor, size: int) -> Tensor:
    """nyquist_excess of every run of `size` (even) rows of series [M, D] → [M − size + 1].

    By Parseval the powers 1 … T/2 follow from the detrended energy and the power at T/2, so three weighted sums
    over each window replace its FFT.
    """
    count = len(series) - size + 1
    t = torch.arange(size, device=series.device, dtype=series.dtype) - (size - 1) / 2
    sign = 1 - 2 * (torch.arange(size, device=series.device, dtype=series.dtype) % 2)
    slope_of = t / t.square().sum()
    kernel = torch.stack([torch.ones_like(t) / size, slope_of, sign])  # [3, T]
    series = series - series.mean(dim=0)  # for precision: the measure does not see it
    energy = series.square().cumsum(dim=0)
    energy = energy[size - 1 :] - F.pad(energy, (0, 0, 1, 0))[:count]  # [count, D]
    band = series.new_zeros(3, count, len(series))
    for i in range(count):
        band[:, i, i : i + size] = kernel
    mean, slope, alternation = (band.flatten(0, 1) @ series).view(3, count, -1)
    detrended = (energy - size * mean.square() - slope.square() * t.square().sum()).clamp_min(0).mean(dim=1)
    nyquist = (alternation - slope * (sign @ t)).square().mean(dim=1)
    total = (size * detrended + nyquist) / 2
    # below a millionth of the scale of a picture nothing has moved, whatever rounding leaves behind
    return torch.where(detrended > 1e-9 * size, nyquist * (size // 2) / total.clamp_min(1e-20), torch.zeros_like(total))


def lag_distances(frames: Tensor) -> list[float]:
    """D(p) for p = 1 … 8, [T, 3, H, W] in [0, 1] → eight values in [0, 1]."""
    return [l1(frames[p:], frames[:-p]).mean().item() for p in LAGS]


def return_ratio(clips: Tensor) -> Tensor:
    """R = D(2) / D(1) of clips taken together, float [B, T, 3, H, W] in [0, 1] with T ≥ 3 → a scalar; 0 where nothing
    moves."""
    once, twice = (l1(clips[:, p:], clips[:, :-p]).mean() for p in (1, 2))
    return twice / once.clamp_min(EPS_STEP)


def frame_distances(frames: Tensor, lag: int) -> list[float | None]:
    """d(y_t, y_{t−lag}) for each of T frames [T, 3, H, W] in [0, 1] → T values in [0, 1], the first `lag` of them None."""
    return [None] * min(lag, len(frames)) + l1(frames[lag:], frames[:-lag]).tolist()


def two_modes(frames: Tensor) -> tuple[float | None, int]:
    """Two-mode share B = 1 − SS_within / SS_total of 2-means on the frames pooled to 8×8, and how often the mode
    changes from one frame to the next. [T, 3, H, W] → (0 … 1, or None where nothing moves; 0 … T − 1)."""
    points = F.adaptive_avg_pool2d(frames, 8).flatten(1).double()
    points = points - points.mean(dim=0)
    total = points.square().sum().item()
    if total < 1e-9 * len(points):
        return None, 0
    # three deterministic ways to begin; Lloyd's iteration only finds the optimum nearest to its beginning
    main = points @ torch.linalg.svd(points, full_matrices=False).Vh[0]
    far = int(torch.cdist(points, points).max(dim=1).values.argmax())
    distance = (points - points[far]).square().sum(dim=1)
    even = torch.arange(len(points), device=points.device) % 2 == 0
    best: tuple[float, Tensor] = (0.0, even)
    for mode in (main > 0, distance > distance.median(), even):
        for _ in range(50):
            if mode.all() or not mode.any():
                break
            centres = torch.stack([points[~mode].mean(dim=0), points[mode].mean(dim=0)])
            nearer = torch.cdist(points, centres).argmin(dim=1).bool()
            if torch.equal(nearer, mode):
                break
            mode = nearer
        if mode.all() or not mode.any():
            continue
        within = sum((points[m] - points[m].mean(dim=0)).square().sum().item() for m in (mode, ~mode))
        best = max(best, (1 - within / total, mode), key=lambda pair: pair[0])
    return best[0], int((best[1][1:] != best[1][:-1]).sum())


@dataclass(frozen=True)
class RealFilm:
    """What real film does over `window` frames: medians over all its windows of that length.

    bands: (5th, 95th percentile) over those windows of R, N, and S and sharpness beside their own medians; a measure
    that is undefined in all of them has none.
    """

    window: int
    windows: int
    step: float  # D(1), mean |x_t − x_{t−1}|
    return_ratio: float | None
    nyquist_excess: float
    sharpness: float
    bands: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Oscillation:
    """The measures of one rollout (or the medians of several), see `oscillation`; None is undefined."""

    return_ratio: float | None
    nyquist_excess: float
    lag_profile: tuple[float | None, ...]
    period: int | None
    two_mode_share: float | None
    switches: float
    step_ratio: float | None
    sharpness_ratio: float | None
    verdict: str
    frames: int
    real: RealFilm


def real_windows(stretches: list[Tensor], window: int) -> RealFilm:
    """Medians and bands of D(1), R, N and sharpness over every run of `window` frames of each stretch [M, 3, H, W],
    uint8 or float in [0, 1]. Raises RoadtripError where no stretch is 16 frames long; shorter windows than asked for are
    used where film is short, and `window` says so."""
    steps, returns, nyquists, sharps = [], [], [], []
    stretches = [s for s in stretches if len(s) >= MIN_WINDOW]
    if not stretches:
        raise RoadtripError(
            f"The film has no {MIN_WINDOW} frames in a row at this gap; an oscillation can't be read from less."
        )
    window = min(window, max(len(s) for s in stretches)) // 2 * 2
    for stretch in stretches:
        for block in _blocks(stretch, window):
            x = as_float(block)
            one, two = l1(x[1:], x[:-1]), l1(x[2:], x[:-2])
            one, two = _sliding_mean(one, window - 1), _sliding_mean(two, window - 2)
            steps.append(one)
            returns.append(two / one)
            nyquists.append(_windowed_nyquist(x.flatten(1), window))
            sharps.append(_sliding_mean(sharpness(x), window))
    step, back, nyquist, sharp = (torch.cat(values).cpu() for values in (steps, returns, nyquists, sharps))
    defined = back[step > EPS_STEP]
    median = {"S": step.median().item(), "sharpness": sharp.median().item()}
    spread = {
        "R": defined,
        "N": nyquist,
        "S": step / median["S"] if median["S"] > EPS_STEP else step[:0],
        "sharpness": sharp / median["sharpness"] if median["sharpness"] > EPS_STEP else sharp[:0],
    }
    quantiles = torch.tensor([0.05, 0.95])
    return RealFilm(
        window,
        len(step),
        step.median().item(),
        defined.median().item() if len(defined) else None,
        nyquist.median().item(),
        sharp.median().item(),
        {k: tuple(v.double().quantile(quantiles.double()).tolist()) for k, v in spread.items() if len(v)},
    )


def _blocks(stretch: Tensor, window: int, most: int = 128) -> Iterator[Tensor]:
    """Overlapping pieces of a stretch that hold each of its windows once, at most 128 windows a piece."""
    for first in range(0, len(stretch) - window + 1, most):
        yield stretch[first : first + most + window - 1]


def _sliding_mean(values: Tensor, size: int) -> Tensor:
    return values.unfold(0, size, 1).mean(dim=1)


def oscillation(frames: Tensor, real: Tensor | RealFilm) -> Oscillation:
    """All oscillation measures of one rollout and their verdict.

    Args:
        frames: generated frames [T, 3, H, W], uint8 or float in [0, 1], T ≥ 16.
        real: film of the same drive at the same gap, [M, 3, H, W] with M ≥ 16, of any length; or its `real_windows`.

    Returns an Oscillation:
        return_ratio R = D(2) / D(1): 0 a two-cycle, 1 no memory, 2 constant velocity; None where nothing moves.
        nyquist_excess N, see `nyquist_excess`. lag_profile r(p) = D(p) / D(1) for p = 1 … 8.
        two_mode_share B and switches w, see `two_modes`.
        step_ratio S = D_y(1) / D_x(1); sharpness_ratio likewise of `sharpness`, real ones as medians over windows; None
        where real film stands still, or is flat.
        verdict, and period: 2, p* (the smallest p ≥ 2 with r(p) ≤ min r + 0.05) or None.
    Raises RoadtripError for fewer than 16 frames on either side, and for frames of another shape or that hold NaN.
    """
    if frames.dim() != 4 or frames.shape[1] != 3:
        raise RoadtripError(
            f"An oscillation is read from frames of shape T × 3 × H × W, not {' × '.join(map(str, frames.shape))}."
        )
    if len(frames) < MIN_WINDOW:
        raise RoadtripError(
            f"{len(frames)} frames are too few to read an oscillation from; generate at least {MIN_WINDOW}."
        )
    y = as_float(frames)
    if not y.isfinite().all():
        raise RoadtripError("The frames hold NaN or infinity; an oscillation can't be read from them.")
    x = real if isinstance(real, RealFilm) else real_windows([real], len(y))
    D = lag_distances(y)
    moving = D[0] > EPS_STEP
    r = tuple(d / D[0] if moving else None for d in D)
    N = nyquist_excess(y)
    B, w = two_modes(y)
    S = D[0] / x.step if x.step > EPS_STEP else None
    verdict, period = _verdict(S, r, N, B, w, len(y), x)
    sharp = sharpness(y).mean().item() / x.sharpness if x.sharpness > EPS_STEP else None
    return Oscillation(r[1], N, r, period, B, w, S, sharp, verdict, len(y), x)


def _verdict(
    S: float | None, r: tuple[float | None, ...], N: float, B: float | None, w: int, T: int, real: RealFilm
) -> tuple[str, int | None]:
    """The first rule that fits; r(p) stands at r[p − 1]."""
    profile = [value for value in r if value is not None]
    if not profile or (S is not None and S < 0.1):
        return "frozen", None
    R, least = profile[1], min(profile[1:])
    star = next(p for p in LAGS if p >= 2 and profile[p - 1] <= least + 0.05)
    if R < 0.9 and (N > 2 or star == 2):
        return "oscillates", 2
    if min(profile[2], profile[3]) < 0.5:
        return f"{star}-cycle", star
    if B is not None and B > 0.9 and w >= 3 and T / (w + 1) >= 3:
        return "switches between two modes", None
    if least < 0.9:
        return f"{star}-cycle", star
    if real.return_ratio is not None and 0.8 * real.return_ratio > R and 2 * real.nyquist_excess < N:
        return "flickers", None
    return "moves", None


# under which letter or word a measure stands in rows, tables and charts
ROW = {
    "R": "return_ratio",
    "N": "nyquist_excess",
    "S": "step_ratio",
    "B": "two_mode_share",
    "switches": "switches",
    "period": "period",
    "sharpness": "sharpness_ratio",
    "lag_profile": "lag_profile",
    "verdict": "verdict",
}
COMPARED = ("R", "N", "S", "B", "sharpness")  # of these, the numbers that tables and charts compare


def as_row(o: Oscillation | None) -> dict[str, Any]:
    """An oscillation's measures under the letters of the docs, plain JSON; of None, every one None."""
    row = {letter: o and getattr(o, field) for letter, field in ROW.items()}
    return row | {"lag_profile": o and list(o.lag_profile)}


def median_oscillation(each: list[Oscillation]) -> Oscillation:
    """A run's measures: medians over its starts, its verdict the most frequent (of equals the first seen), its period
    that of the verdict."""
    verdict = Counter(o.verdict for o in each).most_common(1)[0][0]

    def median(values: list[float | None]) -> Any:
        known = [v for v in values if v is not None]
        return statistics.median(known) if known else None

    first = next(o for o in each if o.verdict == verdict)
    scalars = set(ROW.values()) - {"period", "verdict", "lag_profile"}
    medians = {field: median([getattr(o, field) for o in each]) for field in scalars}
    profile = tuple(median([o.lag_profile[i] for o in each]) for i in range(len(LAGS)))
    return replace(first, lag_profile=profile, **medians)
