"""Film: uint8 frames, their cuts, and the gap between f1 f2 f3; opened from stills, video or the rendered road.

Draws clips and keeps stretches held out whole. Knows nothing of models or training.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from .atomic import whole_file
from .decode import Report, read_footage
from .errors import RoadtripError

VERSION = 1  # of the film file
_MAKERS = ("film", "decode", "scenery")  # modules that a film's pixels depend on
GAPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 30, 40, 50)
DIGEST = re.compile("(?:[0-9a-f]{64})?")  # of a fingerprint or an id
TIME_LAPSE_PSNR = 21.5  # dB that copying the last frame gets where the gap is like a time lapse's


@dataclass(frozen=True, eq=False)
class Film:
    """A road trip on film.

    frames: uint8 [T, 3, H, W], every stored frame.
    cuts: the first index after each cut, ascending; no clip straddles one.
    gap: frames from f1 to f2 and from f2 to f3.
    fps: frames a second, None for stills.
    drives: the first index of each source; the last share of each is what is held out.
    fingerprint: sha256 over what the film holds; for the rendered road over what it is rendered from.
    skipped: names of what could not be read.
    drive_ids: what each drive was made from, whatever its size and gap: sha256 over the source's files (see
        decode.Footage), for the rendered road over VERSION and seed. The fingerprint where none are given.
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

    def __post_init__(self) -> None:
        if not self.drive_ids:
            object.__setattr__(self, "drive_ids", (self.fingerprint,) * len(self.drives))

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[2], self.frames.shape[3]

    def with_gap(self, gap: int | str | None) -> Film:
        """The same frames at another gap; see open_film. Raises RoadtripError where no clip of three fits."""
        film = replace(self, gap=_gap(gap, self))
        if not len(film.starts(3, "all")):
            raise RoadtripError(
                f"{self.name} is too short for gap {film.gap}: three frames span {film.span(3)}, its longest stretch "
                f"without a cut has {max(b - a for a, b in film.stretches())}; choose a smaller gap."
            )
        return film

    def to(self, device: torch.device | str) -> Film:
        """The same film with its frames on another device."""
        return replace(self, frames=self.frames.to(device))

    def span(self, n: int) -> int:
        """Frames from the first to the last of a clip of n, both counted."""
        return (n - 1) * self.gap + 1

    def stretches(self) -> list[tuple[int, int]]:
        """(first, end) of each stretch without a cut."""
        edges = sorted({0, *self.cuts, *self.drives, len(self.frames)})
        return list(pairwise(edges))

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
        shares = [min([1.0, *(held_out for ids, held_out in trained if i in ids)]) for i in self.drive_ids]
        return self._starts_within([(border, end) for _, border, end in self._borders(shares)], self.span(n))

    def _borders(self, held_out: Sequence[float]) -> list[tuple[int, int, int]]:
        """(first, border, end) of each drive: from its border on it is held out, the last share `held_out` of it."""
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
        """What this film is; looks at no more than a few hundred pairs of frames."""
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
        )

    def save(self, path: str | Path) -> Path:
        """Writes the film as one file that open_film opens again, mapped into memory.

        Raises RoadtripError where it can't be written.
        """
        names = ("cuts", "gap", "fps", "drives", "name", "fingerprint", "skipped", "drive_ids")
        facts = {k: getattr(self, k) for k in names}
        frames = self.frames.cpu().contiguous()
        try:
            with whole_file(path) as file:
                save_file({"frames": frames}, file, {"film": json.dumps(facts | {"version": VERSION})})
        except (SafetensorError, OSError):
            raise RoadtripError(
                f"Cannot write {Path(path).name}; check that it is no folder and that the disk is not full."
            ) from None
        return Path(path)


@dataclass(frozen=True)
class FilmSummary:
    """What a film is, in plain values; copy_last_psnr in dB at the film's gap."""

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

    def sentence(self) -> str:
        height, width = self.size
        length = f" ({self.seconds:.0f} s)" if self.seconds else ""
        cuts = {0: "no cuts", 1: "one cut"}.get(len(self.cuts), f"{len(self.cuts)} cuts")
        text = (
            f"{self.name}: {self.frames} frames{length} of {width}×{height}, {cuts}; at gap {self.gap} copying the last "
            f"frame gets {self.copy_last_psnr:.1f} dB."
        )
        if self.suggested_gap != self.gap and abs(self.copy_last_psnr - TIME_LAPSE_PSNR) > 2:
            text += f" A gap of {self.suggested_gap} would be most like the post's time lapse."
        if self.skipped:
            shown = ", ".join(self.skipped[:3]) + (" …" if len(self.skipped) > 3 else "")
            text += f" Left out as unreadable: {len(self.skipped)} ({shown})."
        return text


def open_film(
    source: str | Path | Film | Sequence[str | Path | Film],
    size: tuple[int, int] = (72, 128),
    gap: int | str | None = None,
    progress: Report | None = None,
    cache: bool = True,
) -> Film:
    """Opens film.

    Args:
        source: a folder or zip of stills, a video, a film file, "scenery" (or "scenery:7" for seed 7), a Film, or
            several of these, which become one film with a cut between them.
        size: (H, W) of the frames, each divisible by 8, 16 … 1024; aspect is kept by a centre crop.
        gap: frames between f1, f2, f3, or seconds of video as "0.5s"; None takes what the source was saved or rendered
            with, or else the gap at which copying the last frame is as good as in a time lapse.
        progress: called with (done, total or None, what is being done).
        cache: keep what was read as one file in $ROADTRIP_CACHE (or ~/.cache/roadtrip) and reopen that.

    Raises RoadtripError, one sentence, for whatever can't be opened.
    """
    pair = tuple(size) if isinstance(size, (tuple, list, torch.Size)) else (size,)
    if len(pair) != 2 or not all(isinstance(n, int) and 16 <= n <= 1024 and n % 8 == 0 for n in pair):
        raise RoadtripError(
            f"Frames can't be {'×'.join(map(str, pair))}; both sides must be divisible by 8, from 16 to 1024."
        )
    report = progress or (lambda done, total, note: None)
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise RoadtripError("No film was given; give a folder of stills, a zip, a video or scenery.")
    films = [_open_one(s, (int(size[0]), int(size[1])), report, cache) for s in sources]  # type: ignore[arg-type]
    film = films[0] if len(films) == 1 else _join(films)
    if len(film.frames) < 3:
        raise RoadtripError(f"{film.name} has {len(film.frames)} readable frame(s); at least 3 are needed.")
    return film.with_gap(gap if gap is not None else film.gap or None)


def _open_one(source: str | Path | Film, size: tuple[int, int], report: Report, cache: bool) -> Film:
    """One source; its gap is 0 where it has none of its own."""
    if isinstance(source, Film):
        return _resized(source, size)
    if not isinstance(source, (str, os.PathLike)):
        raise RoadtripError(f"Film can't be opened from a {type(source).__name__}; give a path, a Film or scenery.")
    if not str(source).strip():
        raise RoadtripError("No film was given; give a folder of stills, a zip, a video or scenery.")
    try:
        if str(source).split(":")[0] == "scenery" and not Path(source).exists():
            return _open_scenery(str(source), size, report, cache)
        return _open_path(Path(source), size, report, cache)
    except OSError as error:
        name = Path(source).name
        name = name if len(name) < 60 else f"{name[:60]}…"
        raise RoadtripError(f"{name} can't be opened: {error.strerror or 'unreadable'}; check the path.") from None


def _open_path(path: Path, size: tuple[int, int], report: Report, cache: bool) -> Film:
    with suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    if path.is_file() and _is_film_file(path):
        return _resized(_load(path), size)

    def read(unfinished: Path | None) -> Film:
        footage = read_footage(path, size, report, unfinished)
        report(0, None, "looking for cuts")
        frames, name = footage.frames, path.stem if path.is_file() else path.resolve().name
        cuts = find_cuts(frames)
        fingerprint = _fingerprint(frames, cuts)
        return Film(frames, cuts, 0, footage.fps, (0,), name, fingerprint, footage.skipped, (footage.id,))

    return _cached(_listing(path), size, read, report, cache)


def _open_scenery(source: str, size: tuple[int, int], report: Report, cache: bool) -> Film:
    from . import scenery

    _, _, tail = source.partition(":")
    if tail and not (tail.isdecimal() and len(tail) < 19):
        raise RoadtripError(f"{source!r} is no scenery; write scenery, or scenery:7 for seed 7.")
    seed = int(tail or 0)
    fingerprint = scenery.fingerprint(seed, size)

    def render(_: Path | None) -> Film:
        report(0, None, "rendering the road")
        frames, cuts, gap = scenery.render(seed, size)
        drive_id = hashlib.sha256(f"scenery {scenery.VERSION} {seed}".encode()).hexdigest()
        return Film(frames, cuts, gap, None, (0,), source, fingerprint, (), (drive_id,))

    return _cached([fingerprint], size, render, report, cache)


def _join(films: list[Film]) -> Film:
    """Several films as one, a cut between them. Their own gap holds where they agree."""
    sizes = {film.size for film in films}
    assert len(sizes) == 1
    offsets = [0]
    for film in films:
        offsets.append(offsets[-1] + len(film.frames))
    cuts = {offset + c for film, offset in zip(films, offsets) for c in film.cuts} | set(offsets[1:-1])
    rates, gaps = {film.fps for film in films}, {film.gap for film in films}
    return Film(
        torch.cat([film.frames for film in films]),
        tuple(sorted(cuts)),
        gaps.pop() if len(gaps) == 1 else 0,
        rates.pop() if len(rates) == 1 else None,
        tuple(offset + d for film, offset in zip(films, offsets) for d in film.drives),
        " + ".join(film.name for film in films),
        hashlib.sha256("".join(film.fingerprint for film in films).encode()).hexdigest(),
        tuple(name for film in films for name in film.skipped),
        tuple(i for film in films for i in film.drive_ids),
    )


def _resized(film: Film, size: tuple[int, int]) -> Film:
    """Film of another size: centre-cropped to its shape and resized."""
    if film.size == size:
        return film
    from torchvision.transforms.v2 import functional as T

    (h, w), (height, width) = film.size, size
    scale = min(h / height, w / width)
    crop = [max(1, round(height * scale)), max(1, round(width * scale))]
    frames = torch.cat([T.resize(T.center_crop(c, crop), list(size), antialias=True) for c in film.frames.split(256)])
    return replace(film, frames=frames, fingerprint=_fingerprint(frames, film.cuts))


# --- gaps and cuts ----------------------------------------------------------------------------------------------------


def _gap(gap: int | str | None, film: Film) -> int:
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
    except (ValueError, OverflowError) as error:
        if isinstance(error, RoadtripError):
            raise
        frames = 0
    if frames < 1:
        raise RoadtripError(f"{gap!r} is no gap; give frames as 8, or seconds of video as 0.5s.")
    return frames


def copy_last_psnr(film: Film, most: int = 200) -> float:
    """How far copying the last frame gets: the mean PSNR in dB of frames one gap apart, over at most `most` pairs."""
    from .measure import psnr
    from .rollout import as_float

    starts = film.starts(2, "all")
    if not len(starts):
        return 0.0
    pairs = as_float(film.clips(evenly_spaced(starts, most), 2))
    return psnr(pairs[:, 0], pairs[:, 1]).mean().item()


def evenly_spaced(starts: Tensor, most: int) -> Tensor:
    """`most` of these starts, evenly spaced, first and last among them; all where there are no more."""
    return starts[torch.linspace(0, len(starts) - 1, min(most, len(starts))).round().long()]


def suggest_gap(film: Film) -> int:
    """The gap at which the film is most like a time lapse: copying the last frame gets closest to 21.5 dB (six real
    drives at a time-lapse gap: 18.7 … 27.4 dB), of those that leave clips enough to train on."""
    longest = max(b - a for a, b in film.stretches())
    usable = [g for g in GAPS if 16 * g <= longest] or [1]
    return min(usable, key=lambda g: abs(copy_last_psnr(replace(film, gap=g), most=48) - TIME_LAPSE_PSNR))


def find_cuts(frames: Tensor) -> tuple[int, ...]:
    """First indices after hard cuts, uint8 [T, 3, H, W].

    Frames are compared as 9×16 mosaics. At a cut, nothing of the two frames before is like anything of the two after
    (which a flash is not), by more than three times what is usual around it, and by more than either side moves (which
    a time lapse is not), or by very much more than is usual.
    """
    T = len(frames)
    # written in place: small results kept between large temporaries would hold every one of their holes in the heap
    x = torch.empty(T, 3, 9, 16)
    for i in range(0, T, 64):
        x[i : i + 64] = F.adaptive_avg_pool2d(frames[i : i + 64].float() / 255, (9, 16))
    x = x.flatten(1)
    if T < 4:
        return ()
    ends = [(i, min(i + 1024, T)) for i in range(0, T, 1024)]
    one, two, three = (  # one[i] = d(i, i + 1)
        torch.cat([(x[i + p : j + p] - x[i : min(j, T - p)]).abs().mean(dim=1) for i, j in ends]) for p in (1, 2, 3)
    )
    cuts: list[int] = []
    for t in range(2, T - 1):
        across = min(one[t - 1], two[t - 2], two[t - 1], three[t - 2]).item()
        if across < 0.06:
            continue
        around = torch.cat([one[max(0, t - 9) : t - 1], one[t : t + 8]])
        usual = max(0.01, around.median().item())
        beside = max(0.01, one[t - 2].item(), one[t].item())
        if across > 3 * usual and (across > 1.8 * beside or across > 9 * usual):
            cuts.append(t)
    return tuple(cuts)


# --- files ------------------------------------------------------------------------------------------------------------


def _fingerprint(frames: Tensor, cuts: Iterable[int]) -> str:
    digest = hashlib.sha256(json.dumps([list(frames.shape), list(cuts)]).encode())
    for chunk in frames.split(256):
        digest.update(chunk.cpu().contiguous().numpy())
    return digest.hexdigest()


def _listing(path: Path) -> list[Any]:
    """What tells one state of a source from another without reading it."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return [str(path.resolve()), facts]


def _cached(
    key: list[Any], size: tuple[int, int], make: Callable[[Path | None], Film], report: Report, cache: bool
) -> Film:
    if not cache:
        return make(None)
    digest = hashlib.sha256(json.dumps([VERSION, _code(), size, key]).encode()).hexdigest()[:32]
    home = Path(os.environ.get("ROADTRIP_CACHE") or Path.home() / ".cache" / "roadtrip")
    file = home / "films" / f"{digest}.film"
    film = _kept(file)
    if film:
        return film
    with _alone(file.with_suffix(".lock"), report):
        film = _kept(file)  # made by whoever was waited for
        if film:
            return film
        unfinished = file.with_suffix(".unfinished")
        film = make(unfinished)
        try:
            film.save(file)
            film = _load(file)
        except RoadtripError:
            return film  # nowhere to keep it: go on from memory
        shutil.rmtree(unfinished, ignore_errors=True)
    return film


def _kept(file: Path) -> Film | None:
    if not file.is_file():
        return None
    try:
        return _load(file)
    except RoadtripError:
        return None  # a damaged cache is only read again


@contextmanager
def _alone(lock_file: Path, report: Report) -> Iterator[None]:
    """One import of a film at a time, whichever threads and processes want it: two would write to the same unfinished
    folder. Where nothing can be written there is none, and nothing to wait for."""
    from filelock import FileLock, Timeout

    lock: FileLock | None = None
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        lock.acquire(blocking=False)
    except Timeout:
        pass  # somebody has it
    except (OSError, NotImplementedError):
        lock = None
    while lock and not lock.is_locked:
        report(0, None, "waiting for another import of this film")
        with suppress(Timeout):
            lock.acquire(timeout=0.5)
    try:
        yield
    finally:
        if lock:
            lock.release()


@lru_cache
def _code() -> str:
    """A digest of the code that makes films: none that is kept outlives it, or it would be taken for what is made now."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / f"{name}.py").read_bytes() for name in _MAKERS)).hexdigest()


def _is_film_file(path: Path) -> bool:
    """safetensors begins with the length of its JSON header."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**24


def _load(path: Path) -> Film:
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
        if len(ids) != len(drives) or not all(type(i) is str and DIGEST.fullmatch(i) for i in (fingerprint, *ids)):
            raise ValueError
        return Film(frames, cuts, facts["gap"], fps, drives, name, fingerprint, skipped, tuple(ids))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError):
        raise RoadtripError(
            f"{path.name} is not a film of Roadtrip's, or is damaged; import the footage again."
        ) from None
