"""Opens film from stills, video, film files or the rendered road, joins several, and keeps what was read in a cache.

Independent of models, training and any UI.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from time import time
from typing import Any

import torch
from filelock import FileLock, Timeout

from . import scenery
from .decode import Footage, Report, read_footage
from .errors import RoadtripError
from .film import Film, find_cuts, fingerprint_of, is_film_file, load_film

VERSION = 3  # of what the cache keeps; raise it when decode.py, find_cuts or the film file give anything else
# which vectors torch, oneDNN and MKL use, read when they start; the study sets them for its runs
VECTOR_SETTINGS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
MAX_UNUSED = 60 * 24 * 3600  # seconds after which a film that nobody opened leaves the cache
MAX_BYTES = 20 * 10**9  # of the cache: 16,000 frames of 72×128 are 0.44 · 10⁹
KEPT = re.compile(r"\.?([0-9a-f]{32})(?:-v([0-9]{1,9}))?[-.]")  # names of films, unfinished imports, older locks


def open_film(
    source: str | Path | Film | Sequence[str | Path | Film],
    size: tuple[int, int] = (72, 128),
    gap: int | str | None = None,
    progress: Report | None = None,
    cache: bool = True,
) -> Film:
    """Opens film.

    Args:
        source: a folder or zip of stills, clips or both, a video, a film file, a Film, or "scenery": the rendered road
            with seed 0. "scenery:7" is the road with seed 7, never a gap, whatever lies in the working folder (a folder
            of that name is "./scenery"). Several of these become one film with a cut between them.
        size: (H, W) of the frames, each divisible by 8, 16 … 1024; aspect is kept by a centre crop.
        gap: frames between f1, f2, f3, or seconds of video as "0.5s"; None takes what the source was saved or rendered
            with, or else the gap at which copying the last frame is as good as in a time lapse. Several films that were
            saved with different gaps keep their own: each is taken apart into its phases, and the whole has gap 1.
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
    if not sources or any(isinstance(s, str) and not s.strip() for s in sources):
        raise RoadtripError("No film was given; give a folder of stills, a zip, a video or scenery.")
    films = [_open_one(s, (int(size[0]), int(size[1])), report, cache) for s in sources]  # type: ignore[arg-type]
    gaps = {film.gap for film in films}
    if gap is None and len(gaps) > 1 and all(gaps):
        films = [film.at_gap_one() for film in films]
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
    try:
        if isinstance(source, str) and source.partition(":")[0] == "scenery":
            return _open_scenery(source, size, report, cache)
        return _open_path(Path(source), size, report, cache)
    except OSError as error:
        name = Path(source).name
        name = name if len(name) < 60 else f"{name[:60]}…"
        raise RoadtripError(f"{name} can't be opened: {error.strerror or 'unreadable'}; check the path.") from None


def _open_path(path: Path, size: tuple[int, int], report: Report, cache: bool) -> Film:
    with suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    if path.is_file() and is_film_file(path):
        return _resized(load_film(path), size)

    def read(unfinished: Path | None) -> Film:
        footage = read_footage(path, size, report, unfinished)
        report(0, None, "looking for cuts")
        return film_from_footage(footage, path.stem if path.is_file() else path.resolve().name)

    return _cached(_listing(path), size, read, report, cache)


def film_from_footage(footage: Sequence[Footage], name: str) -> Film:
    """What was read as a film with its cuts, a drive each; its gap is 0 until open_film(film) chooses one."""
    films = []
    for drive in footage:
        frames = torch.from_numpy(drive.frames)
        cuts = tuple(sorted({*find_cuts(frames), *drive.joins}))
        fingerprint = fingerprint_of(frames, cuts)
        films.append(Film(frames, cuts, 0, drive.fps, (0,), name, fingerprint, drive.skipped, (drive.id,), drive.notes))
    return replace(_join(films), name=name) if len(films) > 1 else films[0]


def _open_scenery(source: str, size: tuple[int, int], report: Report, cache: bool) -> Film:
    _, _, tail = source.partition(":")
    if tail and not (tail.isdecimal() and len(tail) < 19):
        raise RoadtripError(f"{source!r} is not scenery; write scenery, or scenery:7 for seed 7.")
    seed = int(tail or 0)
    name = f"scenery:{seed}" if seed else "scenery"  # one name a road: it is kept under its first
    fingerprint = scenery.fingerprint(seed, size)

    def render(_: Path | None) -> Film:
        report(0, None, "rendering the road")
        frames, cuts, gap = scenery.render(seed, size)
        drive_id = hashlib.sha256(f"scenery {scenery.VERSION} {seed}".encode()).hexdigest()
        return Film(frames, cuts, gap, None, (0,), name, fingerprint, (), (drive_id,))

    # other vectors round some pixels otherwise: a process must not find what another kind has rendered
    vectors = [torch.backends.cpu.get_cpu_capability(), *map(os.environ.get, VECTOR_SETTINGS)]
    return _cached([fingerprint, vectors], size, render, report, cache)


def _join(films: list[Film]) -> Film:
    """Several films of one size as one, a cut between them; it has their gap and rate where they agree."""
    offsets = [*accumulate((len(film.frames) for film in films), initial=0)]
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
        tuple(note for film in films for note in film.notes),
        tuple(rate for film in films for rate in film.rates),
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
    return replace(film, frames=frames, fingerprint=fingerprint_of(frames, film.cuts))


# --- the cache --------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    return Path(os.environ.get("ROADTRIP_CACHE") or Path.home() / ".cache" / "roadtrip")


def _listing(path: Path) -> list[Any]:
    """Path, sizes and times of a source's files: they tell its states apart without reading it."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return [str(path.resolve()), facts]


def _cached(
    key: list[Any], size: tuple[int, int], make: Callable[[Path | None], Film], report: Report, cache: bool
) -> Film:
    """The film that `make` made before of the same key and size, or makes now, given a folder for an unfinished one."""
    if not cache:
        return make(None)
    digest = hashlib.sha256(json.dumps([VERSION, size, key]).encode()).hexdigest()[:32]
    file = cache_folder() / "films" / f"{digest}-v{VERSION}.film"
    if film := _kept(file):
        # left where an import was killed after the film was whole
        shutil.rmtree(file.with_suffix(".unfinished"), ignore_errors=True)
        return film
    with _locked(file, report):
        if film := _kept(file):  # made by the import that was waited for
            return film
        unfinished = file.with_suffix(".unfinished")
        film = make(unfinished)
        try:
            film.save(file)
            film = load_film(file)
        except RoadtripError:
            return film  # nowhere to keep it: go on from memory
        shutil.rmtree(unfinished, ignore_errors=True)
    with suppress(OSError):
        _evict(file.parent, digest)
    return film


def _kept(file: Path) -> Film | None:
    """The film kept in a file, which counts as used now; None where there is none."""
    try:
        film = load_film(file)
    except RoadtripError:
        return None  # also a damaged one: the source is only read again
    with suppress(OSError):
        os.utime(file)
    return film


def _evict(folder: Path, but: str) -> None:
    """Removes films and unfinished imports of older versions; those not used for MAX_UNUSED; and, the longest unused
    first, those that are over MAX_BYTES. Never `but` nor what is being imported. A film that a process has mapped into
    its memory stays whole there; where a file in use can't be removed (Windows), it stays."""
    found = []
    for path in folder.iterdir():
        if match := KEPT.match(path.name):
            with suppress(OSError):  # another process removes it just now
                stats = [f.stat() for f in (path, *path.rglob("*"))]
                used, size = max(s.st_mtime for s in stats), sum(s.st_size for s in stats)
                found.append((used, size, path, match[1], int(match[2] or 1)))
    total = sum(size for _, size, *_ in found)
    for used, size, path, digest, version in sorted(found):
        if digest == but or not (version < VERSION or used < time() - MAX_UNUSED or total > MAX_BYTES):
            continue
        with suppress(Timeout, OSError, NotImplementedError), _lock(folder, digest).acquire(blocking=False):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            total -= size


def _lock(folder: Path, digest: str) -> FileLock:
    """The lock of a film. There are 256 in all, of empty files that are never removed: to remove a lock that another
    process has just opened would let two in."""
    return FileLock(folder / f"{digest[:2]}.lock")


def _locked(file: Path, report: Report) -> AbstractContextManager:
    """Lets one import of a film run at a time, over all threads and processes: two would write to the same unfinished
    folder. Where no lock can be written there is no folder to share either, and nothing to wait for."""
    lock, wait = _lock(file.parent, file.name), 0.0
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return lock.acquire(timeout=wait)
        except Timeout:
            wait = 0.5
        except (OSError, NotImplementedError):
            return nullcontext()
        report(0, None, "waiting for another import of this film")
