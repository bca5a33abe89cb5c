"""Every number on a screen: error over the horizon with its baselines, the oscillation measures and their verdict.

Pure functions of tensors in [0, 1], never of encoded pictures; `evaluate` applies them to a model and a film.
Notation as in the docs: y are T generated frames, x real film, d(a, b) = mean |a − b| over pixels and channels,
D(p) = mean over t of d(y_t, y_{t−p}).
"""

from __future__ import annotations

import cmath
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import RoadtripError
from .film import evenly_spaced
from .frames import as_float, l1, psnr, sharpness, ssim
from .rollout import rollout

if TYPE_CHECKING:
    from .film import Film
    from .model import NextFrame

MIN_WINDOW = 16  # frames an oscillation can be read from
LAGS = range(1, 9)
METHODS = ("model", "copy_last", "linear", "mean_frame")
N_STARTS = 8  # evenly spaced starts whose median is a run's R, N, S, B


# --- baselines --------------------------------------------------------------------------------------------------------


def baselines(f1: Tensor, f2: Tensor, horizon: int, mean_frame: Tensor) -> dict[str, Tensor]:
    """What needs no network: copying the last frame, linear extrapolation f2 + t·(f2 − f1) clamped to [0, 1], and the
    mean training frame (resized if it has another size); f1, f2 float [B, 3, H, W] in [0, 1] → [B, horizon, 3, H, W]."""
    ahead = torch.arange(1, horizon + 1, device=f2.device).view(1, -1, 1, 1, 1)
    mean_frame = as_float(mean_frame).to(f2.device)[None]
    if mean_frame.shape[-2:] != f2.shape[-2:]:
        mean_frame = F.interpolate(mean_frame, f2.shape[-2:], mode="bilinear", antialias=True)
    shape = (-1, horizon, -1, -1, -1)
    return {
        "copy_last": f2[:, None].expand(shape),
        "linear": (f2[:, None] + ahead * (f2 - f1)[:, None]).clamp(0, 1),
        "mean_frame": mean_frame[:, None].expand(len(f2), *shape[1:]),
    }


# --- oscillation ------------------------------------------------------------------------------------------------------


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


def frame_distances(frames: Tensor, lag: int) -> list[float | None]:
    """d(y_t, y_{t−lag}) for each of T frames [T, 3, H, W] in [0, 1] → T values in [0, 1], the first `lag` of them None."""
    return [None] * min(lag, len(frames)) + l1(frames[lag:], frames[:-lag]).tolist()


def verdict_window(horizon: int) -> int:
    """How many frames at the end of a rollout its verdict is read from: the second half, at least 16, an even number."""
    return max(MIN_WINDOW, horizon // 2) // 2 * 2


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
    step_ratio: float
    sharpness_ratio: float
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
    median = {"S": max(step.median().item(), EPS_STEP), "sharpness": max(sharp.median().item(), EPS_STEP)}
    spread = {"R": defined, "N": nyquist, "S": step / median["S"], "sharpness": sharp / median["sharpness"]}
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


EPS_STEP = 1e-6  # a D(1) below this is a still picture: what is divided by it is undefined


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
        step_ratio S = D_y(1) / D_x(1); sharpness_ratio likewise of `sharpness`, real ones as medians over windows.
        verdict, and period: 2, p* (the smallest p ≥ 2 with r(p) ≤ min r + 0.05) or None.
    Raises RoadtripError for fewer than 16 frames on either side.
    """
    if len(frames) < MIN_WINDOW:
        raise RoadtripError(
            f"{len(frames)} frames are too few to read an oscillation from; generate at least {MIN_WINDOW}."
        )
    y = as_float(frames)
    x = real if isinstance(real, RealFilm) else real_windows([real], len(y))
    D = lag_distances(y)
    moving = D[0] > EPS_STEP
    r = tuple(d / D[0] if moving else None for d in D)
    N = nyquist_excess(y)
    B, w = two_modes(y)
    S = D[0] / x.step if x.step > EPS_STEP else float("inf") if moving else 0.0
    verdict, period = _verdict(S, r, N, B, w, len(y), x)
    sharp = sharpness(y).mean().item() / max(x.sharpness, EPS_STEP)
    return Oscillation(r[1], N, r, period, B, w, S, sharp, verdict, len(y), x)


def _verdict(
    S: float, r: tuple[float | None, ...], N: float, B: float | None, w: int, T: int, real: RealFilm
) -> tuple[str, int | None]:
    """The first rule that fits; r(p) stands at r[p − 1]."""
    profile = [value for value in r if value is not None]
    if S < 0.1 or not profile:
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


def median_oscillation(each: list[Oscillation]) -> Oscillation:
    """A run's measures: medians over its starts, its verdict the most frequent (of equals the first seen), its period
    that of the verdict."""
    verdict = Counter(o.verdict for o in each).most_common(1)[0][0]

    def middle(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return statistics.median(known) if known else None

    def certain(values: list[float]) -> float:
        return statistics.median(values)

    return Oscillation(
        middle([o.return_ratio for o in each]),
        certain([o.nyquist_excess for o in each]),
        tuple(middle([o.lag_profile[i] for o in each]) for i in range(len(LAGS))),
        next(o.period for o in each if o.verdict == verdict),
        middle([o.two_mode_share for o in each]),
        certain([o.switches for o in each]),
        certain([o.step_ratio for o in each]),
        certain([o.sharpness_ratio for o in each]),
        verdict,
        each[0].frames,
        each[0].real,
    )


@dataclass(frozen=True)
class Multiplier:
    """The dominant multiplier of a rollout map, see `multiplier`: a complex number, how well two steps of the
    iteration fit it (0 … 1, 0 is exact), and how far the map moves the picture it was linearised at (mean |difference|)."""

    real: float
    imaginary: float
    residual: float
    distance: float


def multiplier(model: NextFrame, frames: Tensor, steps: int = 100, seed: int = 0) -> Multiplier:
    """The eigenvalue of largest modulus of the rollout map (a, b) → (b, G(a, b)), its memory carried along, linearised
    at (m, m): near −1 a picture flips, near +1 it drifts. m is the mean of the even frames' mean and the odd frames'
    of `frames` [T, 3, H, W] in [0, 1].

    Power iteration in float32 on the transposed Jacobian, which has the same eigenvalues and needs plain backward
    passes alone. As a complex pair never settles, three iterates are fitted by v_{k+2} = α·v_{k+1} + β·v_k, and the
    larger root of λ² = α·λ + β is reported.
    """
    m = ((frames[::2].mean(dim=0) + frames[1::2].mean(dim=0)) / 2)[None].to(next(model.parameters()).device)
    with torch.no_grad():
        state = model.observe(m)
        for _ in range(MIN_WINDOW):  # a memory settles on the picture
            state = model.step(m, state)[1]
    inputs = tuple(x.detach().requires_grad_() for x in (m, *state))
    picture, after = model.step(inputs[0], inputs[1:])
    outputs = (picture, *after)

    def transposed(vector: list[Tensor]) -> list[Tensor]:
        found = torch.autograd.grad(outputs, inputs, vector, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found)]

    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(x.shape, generator=generator).to(x.device) for x in inputs]
    for _ in range(steps):
        vector = transposed(vector)
        size = torch.cat([v.flatten() for v in vector]).norm().clamp_min(1e-30)
        vector = [v / size for v in vector]
    one = transposed(vector)
    v0, v1, v2 = (torch.cat([x.flatten() for x in v]).double().cpu() for v in (vector, one, transposed(one)))
    fit = torch.linalg.lstsq(torch.stack([v1, v0], dim=1), v2[:, None]).solution[:, 0]
    alpha, beta = fit.tolist()
    residual = ((v2 - alpha * v1 - beta * v0).norm() / v2.norm().clamp_min(1e-30)).item()
    root = cmath.sqrt(alpha * alpha + 4 * beta)
    largest = max((alpha + root) / 2, (alpha - root) / 2, key=abs)
    return Multiplier(largest.real, largest.imag, residual, l1(picture, m).mean().item())


# --- a model on a film ------------------------------------------------------------------------------------------------


_known_windows: dict[tuple[str, int, int], RealFilm] = {}
CACHE_SIZE = 64  # of them at most; the oldest is forgotten first


def film_windows(film: Film, window: int) -> RealFilm:
    """`real_windows` over all of a film at its gap, no window across a cut; kept for the last few films, gaps
    and lengths."""
    key = (film.fingerprint, film.gap, window)
    if key not in _known_windows:
        if len(_known_windows) >= CACHE_SIZE:
            del _known_windows[next(iter(_known_windows))]
        edges = [0, *film.cuts, len(film.frames)]
        spans = [(a + phase, b) for a, b in pairwise(edges) for phase in range(film.gap)]
        _known_windows[key] = real_windows([film.frames[a : b : film.gap] for a, b in spans], window)
    return _known_windows[key]


@dataclass(frozen=True)
class Evaluation:
    """Errors over the horizon, a list for each of METHODS, None where there is no real frame to compare with; and the
    rollouts' oscillation, None below a horizon of 16 frames."""

    horizon: int
    n_starts: int
    n_starts_at: tuple[int, ...]
    psnr: dict[str, list[float | None]]
    l1: dict[str, list[float | None]]
    ssim: dict[str, list[float | None]]
    sharpness: dict[str, list[float | None]]
    oscillation: Oscillation | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the fields, and the oscillation's measures under their row; None for what is undefined."""
        o = self.oscillation
        values = {k: v for k, v in asdict(self).items() if k != "oscillation"}
        row = {
            "R": o and o.return_ratio,
            "N": o and o.nyquist_excess,
            "S": o and o.step_ratio,
            "lag_profile": o and list(o.lag_profile),
            "period": o and o.period,
            "two_mode_share": o and o.two_mode_share,
            "switches": o and o.switches,
            "sharpness_ratio": o and o.sharpness_ratio,
            "verdict": o and o.verdict,
            "R_real": o and o.real.return_ratio,
            "N_real": o and o.real.nyquist_excess,
        }
        return values | row

    def best_baseline(self, step: int) -> tuple[str, float] | None:
        """The baseline with the highest PSNR at horizon `step` (from 1) and its dB; None past the end of real film."""
        known = [(m, self.psnr[m][step - 1]) for m in METHODS[1:]]
        return max(((m, v) for m, v in known if v is not None), key=lambda pair: pair[1], default=None)


def evaluate(
    model: NextFrame,
    film: Film,
    horizon: int = 64,
    part: str = "held_out",
    held_out: float = 0.2,
    most: int | None = None,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measures a model on a film.

    Every start of the part that has a next frame is rolled out as far as its real film goes, at most `horizon`; the
    errors at each horizon are means over the starts that reach it (of per-frame values). The oscillation is read from
    8 evenly spaced starts, rolled out to the whole horizon, on the second half of it (at least 16 frames): medians.

    Args:
        part, held_out: which stretch of the film, see Film.starts.
        most: at most this many starts, evenly spaced; None takes all.
        progress: called with (starts done, starts).
    Raises RoadtripError where the part is too short for one clip of three frames.
    """
    if horizon < 1:
        raise RoadtripError(f"A horizon of {horizon} is no rollout; choose at least 1.")
    starts = film.starts(3, part, held_out)
    if not len(starts):
        raise RoadtripError(
            f"The {part.replace('_', '-')} stretch of {film.name} is too short for one clip at gap {film.gap}; "
            f"choose a smaller gap or hold out more."
        )
    if most:
        starts = evenly_spaced(starts, most)
    # how far real film reaches from each start: the largest n for which it is still a start of n frames
    reach = torch.ones(len(starts), dtype=torch.long)
    for ahead in range(2, horizon + 1):
        still = torch.isin(starts, film.starts(2 + ahead, part, held_out))
        if not still.any():
            break
        reach[still] = ahead

    names = ("psnr", "l1", "ssim", "sharpness")
    sums = {name: torch.zeros(len(METHODS), horizon, dtype=torch.float64) for name in names}
    counts = [int((reach >= h).sum()) for h in range(1, horizon + 1)]
    done = 0
    for h in reach.unique().tolist():
        for group in starts[reach == h].split(batch):
            frames = as_float(film.clips(group, 2 + h))
            f1, f2, real = frames[:, 0], frames[:, 1], frames[:, 2:]
            generated = {"model": rollout(model, f1, f2, h).to(real.device)}
            generated |= baselines(f1, f2, h, model.mean_frame)
            for i, method in enumerate(METHODS):
                y = generated[method]
                ratio = sharpness(y) / sharpness(real).clamp_min(EPS_STEP)
                for name, values in zip(names, (psnr(y, real), l1(y, real), ssim(y, real), ratio)):
                    sums[name][i, :h] += values.double().sum(dim=0).cpu()
            done += len(group)
            if progress:
                progress(done, len(starts))

    def curves(name: str) -> dict[str, list[float | None]]:
        rows = sums[name].tolist()
        return {m: [v / n if n else None for v, n in zip(row, counts)] for m, row in zip(METHODS, rows)}

    moves = measure_rollouts(model, film, horizon, part, held_out) if horizon >= MIN_WINDOW else None
    errors = [curves(name) for name in names]
    return Evaluation(horizon, len(starts), tuple(counts), errors[0], errors[1], errors[2], errors[3], moves)


def measure_rollouts(
    model: NextFrame, film: Film, horizon: int = 64, part: str = "held_out", held_out: float = 0.2
) -> Oscillation | None:
    """A run's oscillation: 8 evenly spaced starts, the second half of the horizon (at least 16 frames), medians.
    None where the film has no 16 frames in a row to compare with."""
    starts = film.starts(2, part, held_out)
    frames = film.clips(evenly_spaced(starts, N_STARTS), 2)
    y = rollout(model, frames[:, 0], frames[:, 1], horizon)
    window = verdict_window(horizon)
    try:
        real = film_windows(film, window)
    except RoadtripError:
        return None
    return median_oscillation([oscillation(rows[-window:], real) for rows in y.cpu()])


# --- a rollout beside the baselines -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaselineComparison:
    """A rollout's PSNR beside that of the baselines, frame by frame; see `compare_to_baselines`.

    best: for each frame, the baseline with the highest PSNR, and its dB. gain: the model's dB minus that.
    copy_last_wins: the frames, counted from 1, in which copying the last frame is at least as close as the model.
    overtaken: (frame, baseline), the first frame from which on one baseline is at least as close as the model in every
    frame to the end; of several the best in that frame. None where there is no such baseline.
    """

    best: tuple[tuple[str, float], ...]
    gain: tuple[float, ...]
    copy_last_wins: tuple[int, ...]
    overtaken: tuple[int, str] | None


def compare_to_baselines(psnr: Mapping[str, Sequence[float]]) -> BaselineComparison:
    """psnr: dB for each of METHODS, lists of one length T ≥ 1; a higher PSNR is a closer frame."""
    model, frames = psnr["model"], range(len(psnr["model"]))
    best = [max(((m, psnr[m][t]) for m in METHODS[1:]), key=lambda pair: pair[1]) for t in frames]
    overtaken = None
    for t in frames:
        ahead = [m for m in METHODS[1:] if all(psnr[m][later] >= model[later] for later in frames[t:])]
        if ahead:
            overtaken = t + 1, max(ahead, key=lambda m: psnr[m][t])
            break
    return BaselineComparison(
        tuple(best),
        tuple(model[t] - best[t][1] for t in frames),
        tuple(t + 1 for t in frames if psnr["copy_last"][t] >= model[t]),
        overtaken,
    )
