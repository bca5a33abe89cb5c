"""Measures of endless rollouts, 64 to 20,000 frames: whether they go on moving, stay on the road and stay new.

Numbers from frames and film alone; only `measure_endless` knows of models. Frames are compared as pooled stills, area
means at a quarter of the film's size; their distance is the root mean square difference, in [0, 1].
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import RoadtripError
from .evaluation import HELD_OUT, N_STARTS, film_windows
from .film import evenly_spaced
from .frames import as_float
from .oscillation import LAGS, ROW, Oscillation, RealFilm, oscillation
from .perceptual import perceptual_distance
from .rollout import drive

if TYPE_CHECKING:
    from .film import Film
    from .model import NextFrame

WINDOW = 32  # frames of which each has a verdict, S, R, N and sharpness
LAST = 100  # frames at the end whose nn tells where a rollout has got to
CHUNK = 256  # frames that are floats at a time
WIDER = 0.2  # of its width, by which a band of real film is widened, half of it at each end
JUDGED = ("S", "R", "N", "sharpness")  # what real windows have a band of
CACHE_SIZE = 4  # films whose `road` is kept


@dataclass(frozen=True, eq=False)
class Road:
    """What a rollout is compared with, see `road`.

    windows: real windows of the film, their bands widened. size (H, W) and gap: the film's. stretches: its pooled stills
    at its gap, one tensor [n, D] a stretch and phase. stills, index: pooled training stills [M, D] and where they stand
    in the film, int64 [M]. newness: median distance of a held-out still to its nearest training still. Pooled stills
    are float16 on the CPU.
    """

    windows: RealFilm
    size: tuple[int, int]
    gap: int
    stretches: tuple[Tensor, ...]
    stills: Tensor
    index: Tensor
    newness: float


@dataclass(frozen=True)
class Endless:
    """The measures of one rollout.

    windows: `oscillation` of each run of WINDOW frames; what is left at the end has none.
    nn: distance of a frame to its nearest training still over the same of held-out stills, medians: 0 is playback, 1 as
        new as real film, far over 1 off the road. A picture without contrast, as the mean frame, lies near to all
        film (0.7 to 1): sharpness tells it. nn_last: of the last 100 frames. nn_windows: of each window.
    diversity: sqrt of the variance over time, mean over pixels, over the film's own. Variance grows with length, so both
        are means over runs of n frames: n = T, or the film's longest stretch where that is shorter.
    playback: frames in the longest run whose nearest training stills follow each other, each 0.5 to 1.5 gaps after the
        one before; 1 where none do.
    loop: (period, length) in frames, or None. The rollout repeats what it did `period` frames before for `length` ≥ 2
        periods, so three times in all: of any 32 of these frames, four of five have a nearest still within half a gap of
        that a period later, but fewer than a quarter at some shorter lag. Cycles of up to 8 frames don't count, they
        have a verdict; of several loops, the longest.
    perceptual: see perceptual_distance; None without its weights, or where the held-out film is too short.
    """

    frames: int
    windows: tuple[Oscillation, ...]
    nn: float
    nn_last: float
    nn_windows: tuple[float, ...]
    diversity: float
    playback: int
    loop: tuple[int, int] | None
    perceptual: float | None = None


_known: dict[tuple[str, int, float], Road] = {}


def road(film: Film, held_out: float = HELD_OUT) -> Road:
    """What rollouts on a film are compared with; kept for the last few films. Raises RoadtripError where the film has no
    training stills, no two held-out ones a gap apart, or no 16 frames in a row."""
    key = (film.fingerprint, film.gap, held_out)
    if key not in _known:
        train, rest = film.starts(1, "train", held_out), film.starts(1, "held_out", held_out)
        if not len(train) or not len(film.starts(2, "held_out", held_out)):
            raise RoadtripError(
                f"An endless rollout is compared with both training and held-out film; of {film.name} hold out more "
                f"than nothing and less than all, such as {HELD_OUT}, not {held_out}."
            )
        real = film_windows(film, WINDOW)
        wider = {k: (a - WIDER / 2 * (b - a), b + WIDER / 2 * (b - a)) for k, (a, b) in real.bands.items()}
        stills = pool(film.frames)
        stretches = tuple(stills[a + phase : b : film.gap] for a, b in film.stretches() for phase in range(film.gap))
        newness = nearest(stills[rest], stills[train])[0].median().clamp_min(1e-6).item()
        if len(_known) >= CACHE_SIZE:
            del _known[next(iter(_known))]
        _known[key] = Road(replace(real, bands=wider), film.size, film.gap, stretches, stills[train], train, newness)
    return _known[key]


def endless(frames: Tensor, road: Road) -> Endless:
    """Measures one rollout [T, 3, H, W] of the film's size, uint8 or float in [0, 1], T ≥ 64, of which a few hundred
    frames at a time become floats. Raises RoadtripError for another shape and for NaN."""
    if frames.dim() != 4 or len(frames) < 2 * WINDOW or frames.shape[1:] != (3, *road.size):
        raise RoadtripError(
            f"An endless rollout is at least {2 * WINDOW} frames of its film's size, {road.size[0]} × {road.size[1]}; "
            f"these are {' × '.join(map(str, frames.shape))}."
        )
    size, count = road.windows.window, len(frames) // road.windows.window
    windows = tuple(oscillation(w.cpu(), road.windows) for w in frames.split(size)[:count])
    stills = pool(frames)
    distance, which = nearest(stills, road.stills)
    nn, index = distance / road.newness, road.index[which]
    n = min(len(frames), max(map(len, road.stretches)))
    own = statistics.fmean(_variance(s, n) for s in road.stretches if len(s) >= n)
    follows = (index.diff() - road.gap).abs() * 2 <= road.gap
    return Endless(
        len(frames),
        windows,
        nn.median().item(),
        nn[-LAST:].median().item(),
        tuple(w.median().item() for w in nn.split(size)[:count]),
        (_variance(stills, n) / max(own, 1e-12)) ** 0.5,
        _longest_run(follows) + 1,
        _longest_loop(index, max(1, road.gap // 2)),
    )


def newness(frames: Tensor, road: Road) -> float:
    """Endless.nn of a few frames [T, 3, H, W], uint8 or float in [0, 1]."""
    return nearest(pool(frames), road.stills)[0].median().item() / road.newness


def pool(frames: Tensor) -> Tensor:
    """Pooled stills: uint8 or float [0, 1], [T, 3, H, W] → float16 [T, 3 · H/4 · W/4] on the CPU."""
    T, C, H, W = frames.shape
    # written in place: small results kept between large temporaries would hold every one of their holes in the heap
    stills = torch.empty(T, C * (H // 4) * (W // 4), dtype=torch.float16)
    for i in range(0, T, CHUNK):
        stills[i : i + CHUNK] = F.adaptive_avg_pool2d(as_float(frames[i : i + CHUNK]), (H // 4, W // 4)).flatten(1)
    return stills


def nearest(stills: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each still [T, D] to the nearest of the others [M, D], float32 [T], and which that is, int64 [T]."""
    others = others.float()
    found = [torch.cdist(s.float(), others).min(dim=1) for s in stills.split(CHUNK)]
    return torch.cat([f.values for f in found]) / others.shape[1] ** 0.5, torch.cat([f.indices for f in found])


def _variance(stills: Tensor, n: int) -> float:
    """Variance over time, mean over pixels, mean over runs of n stills that overlap by half; [T, D], T ≥ n ≥ 2."""
    starts = range(0, len(stills) - n + 1, n // 2)
    return statistics.fmean(stills[i : i + n].float().var(dim=0).mean().item() for i in starts)


def _longest_run(mask: Tensor) -> int:
    """How often True stands in a row at most, bool [T] → 0 … T."""
    return int(F.pad(~mask, (1, 1), value=True).nonzero().flatten().diff().max()) - 1


def _longest_loop(index: Tensor, tolerance: int) -> tuple[int, int] | None:
    """Endless.loop of nearest stills, int64 [T]; `tolerance` is half a gap."""
    best, T = None, len(index)
    left = cycles = torch.zeros(T - WINDOW, dtype=torch.bool)  # runs of WINDOW frames that left, and were back too soon
    for period in range(1, T // 3 + 1):
        count = F.pad(((index[period:] - index[:-period]).abs() <= tolerance).cumsum(0), (1, 0))
        share = (count[WINDOW:] - count[:-WINDOW]) / WINDOW
        left, cycles = left[: len(share)] | (share < 0.25), cycles[: len(share)]
        back = left & ~cycles & (share >= 0.8)
        if period in LAGS:
            cycles = cycles | back
        elif back.any() and (length := _longest_run(back) + WINDOW - 1) >= max(2 * period, best[1] + 1 if best else 0):
            best = period, length
    return best


# --- several rollouts -------------------------------------------------------------------------------------------------


def endless_row(each: Sequence[Endless]) -> dict[str, Any]:
    """One or several rollouts on a film as plain JSON: verdicts as shares of all windows; S, R, N and sharpness as
    medians of all windows, and the shares of windows in the real bands (an undefined R is in none); nn, nn_last,
    diversity and perceptual as medians of the rollouts; the longest playback; how many loop, and the longest loop."""
    windows = [w for e in each for w in e.windows]
    loops = [e.loop for e in each if e.loop]
    longest = max(loops, key=lambda loop: loop[1], default=None)
    row: dict[str, Any] = {"rollouts": len(each), "frames": each[0].frames, "windows": len(windows)}
    row["verdicts"] = {v: n / len(windows) for v, n in Counter(w.verdict for w in windows).most_common()}
    row["in_band"] = {}
    for letter in JUDGED:
        values = [v for w in windows if (v := getattr(w, ROW[letter])) is not None]
        low, high = windows[0].real.bands.get(letter, (0.0, -1.0))
        row[letter] = statistics.median(values) if values else None
        row["in_band"][letter] = sum(low <= v <= high for v in values) / len(windows)
    row |= {k: statistics.median(getattr(e, k) for e in each) for k in ("nn", "nn_last", "diversity")}
    seen = [e.perceptual for e in each if e.perceptual is not None]
    row["perceptual"] = statistics.median(seen) if seen else None
    row |= {"playback": max(e.playback for e in each), "loops": len(loops)}
    return row | {"loop": longest and {"period": longest[0], "length": longest[1]}}


def sentence(row: dict[str, Any]) -> str:
    """An `endless_row` in plain words."""
    windows, loop = row["windows"], row["loop"]
    first, *others = [(verdict, round(share * windows)) for verdict, share in row["verdicts"].items()]
    text = f"{first[0]} in {first[1]} of {windows} windows" + "".join(f", {verdict} in {n}" for verdict, n in others)
    text += f"; {row['nn']:.2f} times as far from training film as held-out film is ({row['nn_last']:.2f} at the end)"
    text += f"; {row['diversity']:.2f} of real film's diversity; "
    text += f"a loop of {loop['period']} frames over {loop['length']}" if loop else "no loop"
    return f"{text}; longest playback {row['playback']} frames."


def measure_endless(
    model: NextFrame,
    film: Film,
    horizon: int = 1000,
    n_starts: int = N_STARTS,
    seeds: Sequence[int] = (0,),
    held_out: float = HELD_OUT,
    last: int | None = None,
) -> list[Endless]:
    """Lets a model drive `horizon` frames from evenly spaced held-out starts with each seed, and measures the last so many
    of each rollout (None: all); starts vary fastest. Raises RoadtripError, see `road` and `endless`."""
    truth, found = road(film, held_out), []
    clips = film.clips(evenly_spaced(film.starts(2, "held_out", held_out), n_starts), 2)
    kept = horizon if last is None else max(0, min(last, horizon))
    for seed in seeds:
        # bytes at rest: 20,000 frames of 72×128 are 0.55 · 10⁹ of them
        frames = torch.empty(len(clips), kept, *clips.shape[2:], dtype=torch.uint8)
        for t, frame in enumerate(islice(drive(model, clips[:, 0], clips[:, 1], seed), horizon), kept - horizon):
            if t >= 0:
                frames[:, t] = (frame * 255).round()
        for y in frames:
            measured = endless(y, truth)
            with suppress(RoadtripError):
                measured = replace(measured, perceptual=perceptual_distance(y, film, held_out))
            found.append(measured)
    return found
