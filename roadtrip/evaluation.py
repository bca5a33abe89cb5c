"""How a model is measured on a film: errors over the horizon beside their baselines, and the oscillation of its rollouts.

The protocol stands here once: the app, the command line and the study call it. Independent of how a model was trained.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import RoadtripError
from .film import evenly_spaced
from .frames import as_float, l1, psnr, sharpness, ssim
from .oscillation import (
    EPS_STEP,
    MIN_WINDOW,
    Oscillation,
    RealFilm,
    as_row,
    median_oscillation,
    oscillation,
    real_windows,
)
from .rollout import rollout

if TYPE_CHECKING:
    from .film import Film
    from .model import NextFrame

HORIZON = 64  # frames of a rollout that is measured
HORIZONS = (1, 4, 16)  # of errors in tables and sentences
HELD_OUT = 0.2  # share at the end of each drive that a training leaves out, unless told otherwise
N_STARTS = 8  # evenly spaced starts whose median is a run's R, N, S, B
N_ERROR_STARTS = 32  # evenly spaced starts whose mean is a run's error at HORIZONS
METHODS = ("model", "copy_last", "linear", "mean_frame")
CACHE_SIZE = 64  # films, gaps and lengths whose `film_windows` are kept; the oldest is forgotten first


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


# --- a model on a film ------------------------------------------------------------------------------------------------


_known_windows: dict[tuple[str, int, int], RealFilm] = {}


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
        """Plain JSON: the fields, and the oscillation's measures under the letters of the docs; None for what is
        undefined."""
        o, row = self.oscillation, as_row(self.oscillation)
        values = {k: v for k, v in asdict(self).items() if k != "oscillation"}
        row["two_mode_share"], row["sharpness_ratio"] = row.pop("B"), row.pop("sharpness")
        return values | row | {"R_real": o and o.real.return_ratio, "N_real": o and o.real.nyquist_excess}

    def best_baseline(self, step: int) -> tuple[str, float] | None:
        """The baseline with the highest PSNR at horizon `step` (from 1) and its dB; None past the end of real film."""
        known = [(m, self.psnr[m][step - 1]) for m in METHODS[1:]]
        return max(((m, v) for m, v in known if v is not None), key=lambda pair: pair[1], default=None)


def evaluate(
    model: NextFrame,
    film: Film,
    horizon: int = HORIZON,
    part: str = "held_out",
    held_out: float = HELD_OUT,
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
        raise RoadtripError(f"The horizon is {horizon}; it must be at least 1.")
    if most is not None and most < 1:
        raise RoadtripError(f"{most} starts can't be measured; choose 1 or more.")
    starts = film.starts(3, part, held_out)
    if not len(starts):
        raise RoadtripError(
            f"The {part.replace('_', '-')} stretch of {film.name} is too short for one clip at gap {film.gap}; "
            f"choose a smaller gap or hold out more."
        )
    if most is not None:
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
    counts = torch.stack([(reach >= h).sum() for h in range(1, horizon + 1)])
    sharp_counts = torch.zeros(
        horizon, dtype=torch.long
    )  # real frames that are not flat: only they can be compared with
    done = 0
    for h in reach.unique().tolist():
        for group in starts[reach == h].split(batch):
            frames = as_float(film.clips(group, 2 + h))
            f1, f2, real = frames[:, 0], frames[:, 1], frames[:, 2:]
            generated = {"model": rollout(model, f1, f2, h).to(real.device)}
            generated |= baselines(f1, f2, h, model.mean_frame)
            sharp = sharpness(real)
            sharp_counts[:h] += (sharp > EPS_STEP).sum(dim=0).cpu()
            for i, method in enumerate(METHODS):
                y = generated[method]
                ratio = torch.where(sharp > EPS_STEP, sharpness(y) / sharp.clamp_min(EPS_STEP), 0.0)
                for name, values in zip(names, (psnr(y, real), l1(y, real), ssim(y, real), ratio)):
                    sums[name][i, :h] += values.double().sum(dim=0).cpu()
            done += len(group)
            if progress:
                progress(done, len(starts))

    def curves(name: str) -> dict[str, list[float | None]]:
        known = (sharp_counts if name == "sharpness" else counts).tolist()
        rows = sums[name].tolist()
        return {m: [v / n if n else None for v, n in zip(row, known)] for m, row in zip(METHODS, rows)}

    moves = measure_rollouts(model, film, horizon, part, held_out) if horizon >= MIN_WINDOW else None
    errors = {name: curves(name) for name in names}
    return Evaluation(horizon, len(starts), tuple(counts.tolist()), **errors, oscillation=moves)


def start_clips(film: Film, part: str = "held_out", held_out: float = HELD_OUT) -> Tensor:
    """f1 and f2 at N_STARTS evenly spaced starts of a part, uint8 [n, 2, 3, H, W]; n = 0 where it holds none."""
    return film.clips(evenly_spaced(film.starts(2, part, held_out), N_STARTS), 2)


def verdict_window(horizon: int) -> int:
    """Frames of a rollout of `horizon` that its verdict is read from: the second half, an even number, at least 16."""
    return max(MIN_WINDOW, horizon // 2) // 2 * 2


def oscillations(frames: Tensor, film: Film) -> list[Oscillation]:
    """The oscillation of each rollout [B, T, 3, H, W] against all windows of T frames of the film. Raises RoadtripError
    where T or the film is shorter than 16 frames."""
    real = film_windows(film, frames.shape[1])
    return [oscillation(y, real) for y in frames.cpu()]


def measure_rollouts(
    model: NextFrame, film: Film, horizon: int = HORIZON, part: str = "held_out", held_out: float = HELD_OUT
) -> Oscillation | None:
    """A run's oscillation: medians over `start_clips`, each read from the `verdict_window` of its rollout. None where the
    part holds no start, or the film no 16 frames in a row to compare with."""
    clips, window = start_clips(film, part, held_out), verdict_window(horizon)
    if not len(clips):
        return None
    try:
        film_windows(film, window)
    except RoadtripError:
        return None
    return median_oscillation(oscillations(rollout(model, clips[:, 0], clips[:, 1], horizon)[:, -window:], film))


def psnr_at_horizons(model: NextFrame, film: Film, held_out: float = HELD_OUT) -> dict[str, list[float]]:
    """PSNR in dB at HORIZONS of each of METHODS, means over N_ERROR_STARTS evenly spaced held-out starts whose real film
    reaches the furthest. Raises RoadtripError where there is none."""
    ahead = max(HORIZONS)
    starts = film.starts(2 + ahead, "held_out", held_out)
    if not len(starts):
        raise RoadtripError(f"The held-out stretch of {film.name} has no {2 + ahead} frames in a row at this gap.")
    real = as_float(film.clips(evenly_spaced(starts, N_ERROR_STARTS), 2 + ahead))
    f1, f2 = real[:, 0], real[:, 1]
    guesses = {"model": rollout(model, f1, f2, ahead).to(real.device)} | baselines(f1, f2, ahead, model.mean_frame)
    means = {method: psnr(guess, real[:, 2:]).mean(dim=0).tolist() for method, guess in guesses.items()}
    return {method: [curve[h - 1] for h in HORIZONS] for method, curve in means.items()}


def spread_over_skill(
    model: NextFrame, film: Film, draws: int = 8, most: int = N_ERROR_STARTS, held_out: float = HELD_OUT
) -> float:
    """Whether a model that samples scatters its next frames like the real ones (Fortin et al. 2014): with K draws,
    sqrt((K + 1) / K · mean variance of the draws) over the RMSE of their mean, on at most `most` evenly spaced held-out
    clips of three frames. 1 is right, less too sure, 0 a model that doesn't sample. Raises RoadtripError where there is
    no such clip, and for fewer than 2 draws."""
    starts = film.starts(3, "held_out", held_out)
    if not len(starts) or draws < 2:
        raise RoadtripError(f"Spread needs 2 draws and a held-out clip; {film.name} has {len(starts)}, draws: {draws}.")
    if not model.latent_shape(*film.size):
        return 0.0
    f1, f2, real = as_float(film.clips(evenly_spaced(starts, most), 3)).unbind(1)
    drawn = torch.stack([rollout(model, f1, f2, 1, seed)[:, 0].to(real.device) for seed in range(draws)])
    variance, error = drawn.var(dim=0).mean(), (drawn.mean(dim=0) - real).square().mean()
    return ((draws + 1) / draws * variance / error.clamp_min(1e-12)).sqrt().item()


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


# --- the rollout map --------------------------------------------------------------------------------------------------


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
    device = next(model.parameters()).device
    m = ((frames[::2].mean(dim=0) + frames[1::2].mean(dim=0)) / 2)[None].to(device)
    shape = model.latent_shape(*m.shape[2:])
    # a model that samples is linearised at z = 0, the mean of what it draws
    z = torch.zeros(1, *shape, device=device) if shape else None
    with torch.no_grad():
        state = model.observe(m)
        for _ in range(MIN_WINDOW):  # a memory settles on the picture
            state = model.step(m, state, z=z)[1]
    inputs = [x.detach().requires_grad_() for x in (m, *state)]
    picture, after = model.step(inputs[0], tuple(inputs[1:]), z=z)
    # what a step hands on as it is, an anchor, is no coordinate of the map
    moving = [(x, y) for x, y in zip(inputs, (picture, *after)) if x is not y]
    inputs, outputs = ([pair[i] for pair in moving] for i in (0, 1))

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
