"""Opens film from stills, video, film files or the rendered road, joins several, and keeps what was read in a cache.

Independent of models, training and any UI.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from .decode import Report, read_footage
from .errors import RoadtripError
from .film import VERSION, Film, find_cuts, fingerprint_of, is_film_file, load_film

_MAKERS = ("film", "decode", "scenery")  # modules that a film's pixels depend on


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
    if path.is_file() and is_film_file(path):
        return _resized(load_film(path), size)

    def read(unfinished: Path | None) -> Film:
        footage = read_footage(path, size, report, unfinished)
        report(0, None, "looking for cuts")
        frames, name = footage.frames, path.stem if path.is_file() else path.resolve().name
        cuts = find_cuts(frames)
        fingerprint = fingerprint_of(frames, cuts)
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
    return replace(film, frames=frames, fingerprint=fingerprint_of(frames, film.cuts))


# --- the cache --------------------------------------------------------------------------------------------------------


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
            film = load_film(file)
        except RoadtripError:
            return film  # nowhere to keep it: go on from memory
        shutil.rmtree(unfinished, ignore_errors=True)
    return film


def _kept(file: Path) -> Film | None:
    if not file.is_file():
        return None
    try:
        return load_film(file)
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
