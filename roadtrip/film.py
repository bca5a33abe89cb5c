"""Film: uint8 frames, their cuts, and the gap between f1 f2 f3; the clips in it, and the film file.

Independent of where the frames come from (sources.py), and of models and training.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from .atomic import whole_file
from .errors import RoadtripError
from .frames import as_float, psnr
from .video import moving

VERSION = 1  # of the film file, where films are saved
GAPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50)
DIGEST = re.compile("(?:[0-9a-f]{64})?")  # of a fingerprint or an id
TIME_LAPSE_PSNR = 21.5  # dB that copying the last frame gets where the gap is like a time lapse's


@dataclass(frozen=True, eq=False)
class Film:
    """A road trip on film.

    frames: uint8 [T, 3, H, W], every stored frame.
    cuts: the first index after each cut, ascending; no clip straddles one.
    gap: frames from f1 to f2 and from f2 to f3.
    fps: frames a second, None for stills and where drives differ.
    drives: the first index of each source; the last share of each is what is held out.
    fingerprint: sha256 over what the film holds; for the rendered road over what it is rendered from.
    skipped: names of what could not be read.
    drive_ids: what each drive was made from, whatever its size and gap: sha256 over the source's files (see
        decode.Footage), for the rendered road over VERSION and seed. The fingerprint where none are given.
    notes: a sentence on each thing that was left out, moved or told apart when it was read.
    rates: the fps of each drive; that of all where none are given.
    """

    frames: Tensor
    cuts: tuple[int, ...]
    gap: int
    fps: float | None
    drives: tuple[int, ...]
    name: str
    fingerprint: str
    skipped: tuple[str, ...] = ()
    drive_ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rates: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.drive_ids:
            object.__setattr__(self, "drive_ids", (self.fingerprint,) * len(self.drives))
        if not self.rates:
            object.__setattr__(self, "rates", (self.fps,) * len(self.drives))

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[2], self.frames.shape[3]

    def with_gap(self, gap: int | str | None) -> Film:
        """The same frames at another gap; see open_film. Raises RoadtripError where no clip of three fits.

        One gap in seconds is none in frames where drives differ in fps: then all are thinned to the slowest.
        """
        film = self._of_one_rate() if str(gap).strip().lower().endswith("s") and not self.fps else self
        film = replace(film, gap=parse_gap(gap, film))
        if not len(film.starts(3, "all")):
            raise RoadtripError(
                f"{self.name} is too short for gap {film.gap}: three frames span {film.span(3)}, its longest stretch "
                f"without a cut has {max(b - a for a, b in film.stretches())}; choose a smaller gap."
            )
        return film

    def _of_one_rate(self) -> Film:
        """Each drive at the rate of the slowest; the film itself where a drive has none."""
        rates = [rate for rate in self.rates if rate]
        if len(rates) < len(self.rates):
            return self
        fps = min(rates)
        steps = [rate / fps if rate > 1.02 * fps else 1.0 for rate in rates]  # 29.97 and 30 are one
        ends = (*self.drives[1:], len(self.frames))
        if max(steps) == 1:
            return replace(self, fps=fps)
        times = [torch.arange(a, b, s, dtype=torch.float64) for a, b, s in zip(self.drives, ends, steps)]
        kept = torch.cat(times).add(1e-6).long()
        cuts, drives = (torch.searchsorted(kept, torch.tensor([*at]).long()) for at in (self.cuts, self.drives))
        film = replace(
            self,
            frames=self.frames[kept.to(self.frames.device)],
            cuts=tuple(cuts[cuts < len(kept)].unique().tolist()),
            drives=tuple(drives.tolist()),
            fps=fps,
            rates=(),
            notes=(*self.notes, f"Clips were thinned to {fps:.4g} frames a second, the rate of the slowest."),
        )
        return replace(film, fingerprint=fingerprint_of(film.frames, film.cuts))

    def at_gap_one(self) -> Film:
        """The same clips at gap 1: the phases of the gap one after the other, each a drive of its own, whose last share is
        the same stretch of road. So films of different gaps can be one."""
        order: list[int] = []
        cuts: list[int] = []
        drives: list[int] = []
        ids: list[str] = []
        rates: list[float | None] = []
        parts = pairwise((*self.drives, len(self.frames)))
        for (first, end), drive_id, rate in zip(parts, self.drive_ids, self.rates):
            for phase in range(min(self.gap, end - first)):
                drives.append(len(order))
                ids.append(drive_id)
                rates.append(rate and rate / self.gap)
                for a, b in self.stretches():
                    if first <= a < end and a + phase < b:
                        cuts.append(len(order))
                        order += range(a + phase, b, self.gap)
        film = replace(
            self, gap=1, frames=self.frames[order], cuts=tuple(cuts[1:]), fps=self.fps and self.fps / self.gap
        )
        return replace(film, drives=tuple(drives), drive_ids=tuple(ids), rates=tuple(rates))

    def to(self, device: torch.device | str) -> Film:
        """The same film with its frames on another device."""
        return replace(self, frames=self.frames.to(device))

    def span(self, n: int) -> int:
        """Frames from the first to the last of a clip of n, both counted."""
        return (n - 1) * self.gap + 1

    def stretches(self) -> list[tuple[int, int]]:
        """(first, end) of each stretch without a cut."""
        return list(pairwise(sorted({0, *self.cuts, *self.drives, len(self.frames)})))

    def starts(self, n: int, part: str = "train", held_out: float = 0.2) -> Tensor:
        """Every t from which n frames t, t + gap, … lie in a part of the film and straddle no cut, int64 [·].

        part: "held_out" is the last share `held_out` of each drive, whole; "train" is what comes before it, ending a
        clip's span earlier; "all" is both.
        """
        if part not in ("train", "held_out", "all"):
            raise ValueError(f"no part {part!r}")
        span, parts = self.span(n), []
        for first, border, end in self._borders([held_out] * len(self.drives)):
            margin = span if border < end else 0
            parts.append({"train": (first, border - margin), "held_out": (border, end), "all": (first, end)}[part])
        return self._starts_within(parts, span)

    def unseen_starts(self, n: int, trained: Sequence[tuple[Sequence[str], float]]) -> Tensor:
        """Every start of a clip of n frames that none of several models has seen in training, int64 [·], ascending.

        trained: for each model the drive_ids of the film it was trained on and the share of each drive it held out. Of
        a drive that models were trained on, clips count that lie whole in the last share, the smallest of theirs; of
        any other drive all clips count.
        """
        shares = [min((held_out for ids, held_out in trained if i in ids), default=1.0) for i in self.drive_ids]
        return self._starts_within([(border, end) for _, border, end in self._borders(shares)], self.span(n))

    def _borders(self, held_out: Sequence[float]) -> list[tuple[int, int, int]]:
        """(first, border, end) of each drive: from its border on it is held out, the last share `held_out` of it.

        Raises RoadtripError for a share outside 0 … 1.
        """
        for share in held_out:
            if not 0 <= share <= 1:
                raise RoadtripError(f"A share of {share} can't be held out; it must be from 0 to 1.")
        edges = pairwise((*self.drives, len(self.frames)))
        return [(a, b - int((b - a) * share + 1e-9), b) for (a, b), share in zip(edges, held_out)]

    def _starts_within(self, parts: list[tuple[int, int]], span: int) -> Tensor:
        """Every start of `span` frames that lie in one of the parts (first, end) and straddle no cut."""
        found = [torch.empty(0, dtype=torch.long)]
        for low, high in parts:
            for a, b in self.stretches():
                a, b = max(a, low), min(b, high)
                if b - a >= span:
                    found.append(torch.arange(a, b - span + 1))
        return torch.cat(found)

    def clips(self, starts: Tensor, n: int) -> Tensor:
        """The clips of n frames that begin at `starts` (int64 [B]), uint8 [B, n, 3, H, W] on the frames' device."""
        index = starts[:, None] + self.gap * torch.arange(n)
        return self.frames[index.to(self.frames.device)]

    def describe(self) -> FilmSummary:
        """Facts about the film in plain values; reads at most a few hundred pairs of frames."""
        return FilmSummary(
            self.name,
            len(self.frames),
            self.size,
            self.gap,
            self.fps,
            len(self.frames) / self.fps if self.fps else None,
            self.cuts,
            len(self.drives),
            len(self.starts(3, "all")),
            copy_last_psnr(self),
            suggest_gap(self),
            self.skipped,
            self.notes,
        )

    def save(self, path: str | Path) -> Path:
        """Writes the film as one file that open_film opens again, mapped into memory.

        Raises RoadtripError where it can't be written.
        """
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "frames"} | {"version": VERSION}
        with whole_file(path) as file:
            save_file({"frames": self.frames.cpu().contiguous()}, file, {"film": json.dumps(facts)})
        return Path(path)


@dataclass(frozen=True)
class FilmSummary:
    """Facts about a film in plain values; copy_last_psnr in dB at the film's gap."""

    name: str
    frames: int
    size: tuple[int, int]
    gap: int
    fps: float | None
    seconds: float | None
    cuts: tuple[int, ...]
    drives: int
    clips: int
    copy_last_psnr: float
    suggested_gap: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]

    def sentence(self) -> str:
        height, width = self.size
        length = f" ({self.seconds:.0f} s)" if self.seconds else ""
        cuts = {0: "no cuts", 1: "one cut"}.get(len(self.cuts), f"{len(self.cuts)} cuts")
        text = (
            f"{self.name}: {self.frames} frames{length} of {width}×{height}, {cuts}; at gap {self.gap} copying the last "
            f"frame gets {self.copy_last_psnr:.1f} dB (the baseline to beat)."
        )
        if self.suggested_gap != self.gap and abs(self.copy_last_psnr - TIME_LAPSE_PSNR) > 2:
            text += f" A gap of {self.suggested_gap} would be most like the post's time lapse."
        if self.skipped:
            shown = ", ".join(self.skipped[:3]) + (" …" if len(self.skipped) > 3 else "")
            text += f" Left out as unreadable: {len(self.skipped)} ({shown})."
        return " ".join((text, *self.notes))


# --- gaps and cuts ----------------------------------------------------------------------------------------------------


def parse_gap(gap: int | str | None, film: Film) -> int:
    """The gap in frames, at least 1, of frames or of seconds of video as "0.5s"; None is suggest_gap's.

    Raises RoadtripError for anything else.
    """
    if gap is None:
        return suggest_gap(film)
    text = str(gap).strip().lower()
    try:
        if text.endswith("s"):
            seconds = float(text[:-1])
            if not film.fps:
                raise RoadtripError("A gap in seconds needs a video; for stills give it in frames, as 1 or 8.")
            frames = max(1, round(seconds * film.fps)) if 0 < seconds < 1e6 else 0
        else:
            frames = int(text)
    except RoadtripError:
        raise
    except (ValueError, OverflowError):
        frames = 0
    if frames < 1:
        raise RoadtripError(f"{gap!r} is not a gap; give frames as 8, or seconds of video as 0.5s.")
    return frames


def copy_last_psnr(film: Film, most: int = 200) -> float:
    """Mean PSNR in dB of copying the last frame: of frames one gap apart, over at most `most` pairs. 100 where frames
    are equal, 0 where there are no pairs."""
    starts = film.starts(2, "all")
    if not len(starts):
        return 0.0
    pairs = as_float(film.clips(evenly_spaced(starts, most), 2))
    return psnr(pairs[:, 0], pairs[:, 1]).mean().item()


def evenly_spaced(starts: Tensor, most: int) -> Tensor:
    """At most `most` of these starts (int64 [·]), evenly spaced, first and last among them; all where they are fewer."""
    return starts[torch.linspace(0, len(starts) - 1, min(most, len(starts))).round().long()]


def suggest_gap(film: Film) -> int:
    """The gap at which the film is most like a time lapse: copying the last frame gets closest to 21.5 dB (six real
    drives at a time-lapse gap: 18.7 … 27.4 dB), of those that leave clips enough to train on."""
    longest = max(b - a for a, b in film.stretches())
    usable = [g for g in GAPS if 16 * g <= longest] or [1]
    return min(usable, key=lambda g: abs(copy_last_psnr(replace(film, gap=g), most=48) - TIME_LAPSE_PSNR))


def find_cuts(frames: Tensor) -> tuple[int, ...]:
    """First indices after hard cuts, uint8 [T, 3, H, W].

    Frames are compared as 9×16 mosaics x, and as z: x without its mean and contrast, so that a tunnel or a change of
    exposure is none. A frame stored again counts once. At a cut
    - most of the picture changes: the median of |Δx| is 1.5 times that of either side (a caption is none);
    - none of the three frames before is like any of the three after (a flash is none): the least distance is 1.6 times
      the step on either side in x, and twice the usual one around it in z;
    - the four frames before and the four after are apart: in z, twice their mean distance exceeds the mean distances
      within either four by 0.3, and by up to 0.8 where it gets lighter or darker, which burns out some of the picture
      (the energy distance of Székely and Rizzo 2013; within a time lapse it is near 0).
    bench/cuts.py measures how well that does.
    """
    # written in place: small results kept between large temporaries would hold every one of their holes in the heap
    x = torch.empty(len(frames), 3, 9, 16)
    for i in range(0, len(frames), 64):
        x[i : i + 64] = F.adaptive_avg_pool2d(frames[i : i + 64].float() / 255, (9, 16))
    x = x.flatten(1)
    moves = moving((x[1:] - x[:-1]).abs().mean(1).numpy())
    new = torch.cat([torch.zeros(1).long(), 1 + torch.from_numpy(moves).nonzero()[:, 0]])
    x = x[new]
    z = x - x.mean(1, keepdim=True)
    contrast = z.square().mean(1, keepdim=True).sqrt()
    flat = F.max_pool1d(contrast.T, 9, 1, 4).T < 0.02  # fog, say: there is only brightness to tell two scenes apart
    z = torch.where(flat, x / 0.02, z / contrast.clamp_min(0.02))
    x_step, z_step = ((v[1:] - v[:-1]).abs().mean(1) for v in (x, z))  # [t]: from t to t + 1
    most = (x[1:] - x[:-1]).abs().median(1).values
    x_beside, most_beside = (torch.maximum(v[:-2], v[2:]) for v in (x_step, most))
    x_beside.clamp_(min=0.02)
    likely = (x_step[1:-1] > 1.6 * x_beside) & (most[1:-1] > 1.5 * most_beside.clamp(min=0.005))
    cuts: dict[int, float] = {}
    for t in (2 + torch.nonzero(likely)[:, 0]).tolist():
        n = min(4, t)
        usual = torch.cat([z_step[max(0, t - 9) : t - 1], z_step[t : t + 8]]).median().clamp(min=0.03)
        x_apart, z_apart = (torch.cdist(v[t - n : t + 4], v[t - n : t + 4], 1) / v.shape[1] for v in (x, z))
        x_least, z_least = (d[max(0, n - 3) : n, n : n + 3].min() for d in (x_apart, z_apart))
        within = [d.sum() / max(1, len(d) * (len(d) - 1)) for d in (z_apart[:n, :n], z_apart[n:, n:])]
        energy = 2 * z_apart[:n, n:].mean() - within[0] - within[1]
        needed = 0.3 + (3 * (x[t].mean() - x[t - 1].mean()).abs()).clamp(max=0.5)
        if x_least > 1.6 * x_beside[t - 2] and z_least > 2 * usual and energy > needed:
            cuts[t] = energy.item()
    # of several close by, the clearest
    return tuple(int(new[t]) for t in cuts if cuts[t] == max(cuts.get(s, 0.0) for s in range(t - 3, t + 4)))


# --- files ------------------------------------------------------------------------------------------------------------


def fingerprint_of(frames: Tensor, cuts: Iterable[int]) -> str:
    """sha256 over shape, cuts and every byte of the frames, 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps([list(frames.shape), list(cuts)]).encode())
    for chunk in frames.split(256):
        digest.update(chunk.cpu().contiguous().numpy())
    return digest.hexdigest()


def is_film_file(path: Path) -> bool:
    """Whether a file begins as safetensors does: with the length of its JSON header."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**24


def load_film(path: Path) -> Film:
    """The film that Film.save wrote, its frames mapped into memory. Raises RoadtripError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["film"])
            frames = file.get_tensor("frames")
        cuts, drives = tuple(facts["cuts"]), tuple(facts["drives"])
        if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[1] != 3 or facts["version"] != VERSION:
            raise ValueError
        if not all(n and n % 8 == 0 for n in frames.shape[2:]) or type(facts["gap"]) is not int or facts["gap"] < 0:
            raise ValueError
        if not all(type(c) is int and 0 < c < len(frames) for c in (*cuts, *drives[1:])) or drives[0] != 0:
            raise ValueError
        if any(list(at) != sorted(set(at)) for at in (cuts, drives)) or not set(drives[1:]) <= set(cuts):
            raise ValueError
        fps = None if facts["fps"] is None else float(facts["fps"])
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise ValueError
        name, fingerprint, skipped = str(facts["name"]), facts["fingerprint"], tuple(map(str, facts["skipped"]))
        ids = facts.get("drive_ids") or [fingerprint] * len(drives)  # older files have none
        notes, rates = tuple(map(str, facts.get("notes", ()))), tuple(facts.get("rates", ()))
        if rates and (len(rates) != len(drives) or not all(r is None or 0 < r < math.inf for r in rates)):
            raise ValueError
        if len(ids) != len(drives) or not all(type(i) is str and DIGEST.fullmatch(i) for i in (fingerprint, *ids)):
            raise ValueError
        return Film(frames, cuts, facts["gap"], fps, drives, name, fingerprint, skipped, tuple(ids), notes, rates)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError):
        raise RoadtripError(f"{path.name} is not a film file, or is damaged; import the footage again.") from None
