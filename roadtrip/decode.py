"""Decoding: a folder or zip of stills, or a video, to frames uint8 [T, 3, H, W]. Hostile input ends in one sentence.

Independent of gaps, cuts and caches, and of how a picture (stills.py) or a video (video.py) is decoded; and of torch,
which would cost every upload seconds (decode_process.py).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import numpy as np

from . import order
from .atomic import whole_file
from .contents import HEIF, Entry, choose, in_folder, in_zip, kind_of, read_head
from .errors import RoadtripError
from .order import Shot, cameras_of_clips, natural, same_recording
from .stills import EXIF, prepare, read_still
from .video import MAX_FRAMES, Report, read_video

KEEP_EVERY = 256  # stills after which an import that is killed loses no more than these
WORKERS = min(8, max(2, os.cpu_count() or 2))  # each may hold a large still, within the memory of decode_process
ENDS = 2**16  # bytes at either end of a file that its identity is taken from
FACTS = np.dtype([("good", "?"), *zip(EXIF, ("S24", "S9", "S9", "S120")), ("digest", "V32")])


@dataclass(frozen=True)
class Footage:
    """One drive of a source: frames uint8 [T, 3, H, W], frames a second (None for stills), names of what is unreadable.

    id: sha256 over length, first and last 64 KB of the video or of each still that was read, in film order: the same
    at any size and gap, under any name, in a folder or a zip. Not the same for what was encoded again. An edit that
    leaves a file's length and both its ends alone is not noticed: then two sources pass for one, never one for two.
    joins: the first frame of each clip after the first. notes: what was left out or moved, a sentence each.
    """

    frames: np.ndarray
    fps: float | None
    skipped: tuple[str, ...]
    id: str
    joins: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_footage(path: Path, size: tuple[int, int], report: Report, unfinished: Path | None = None) -> list[Footage]:
    """Reads a folder or zip of stills, of clips or of both, or a video: a drive for each camera, stills before clips.
    Raises RoadtripError for anything else.

    unfinished: a folder for what was read of stills so far. An import that was killed goes on from there; whoever
    keeps the footage removes it.
    """
    if path.is_dir():
        return _read_entries(*in_folder(path), size, report, path.name or str(path), unfinished)
    if not path.exists():
        raise RoadtripError(f"There is nothing called {path.name}; check the path.")
    head = read_head(lambda: path.open("rb"))
    if head.startswith(b"PK") or path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        # a damaged directory also raises UnicodeDecodeError, NotImplementedError and more
        except Exception:
            raise RoadtripError(f"{path.name} is not a readable zip; pack the stills again.") from None
        with archive:
            return _read_entries(*in_zip(archive, path.name), size, report, path.name, unfinished)
    kind = kind_of(head, path.name)
    if kind:
        return [_read_video(path, size, report)]
    raise RoadtripError(f"{path.name} is not footage; give a folder or a zip of stills, or a video.")


def _read_entries(
    entries: Sequence[Entry],
    notes: Sequence[str],
    size: tuple[int, int],
    report: Report,
    source: str,
    unfinished: Path | None,
) -> list[Footage]:
    stills, clips, more = choose(entries)
    if not stills and not clips:
        said = f"There are no stills in {source}; give a folder or a zip with jpg, png or webp pictures."
        raise RoadtripError(" ".join((said, *notes)))
    found = _read_stills(stills, size, report, source, unfinished) if stills else []
    found += _read_clips(clips, size, report, source) if clips else []
    return [replace(found[0], notes=(*notes, *more, *found[0].notes)), *found[1:]]


def _base(name: str) -> str:
    return re.split(r"[/\\]", name)[-1].encode("utf-8", "replace").decode()  # a name may be no Unicode


# --- clips ------------------------------------------------------------------------------------------------------------


def _read_clips(clips: Sequence[Entry], size: tuple[int, int], report: Report, source: str) -> list[Footage]:
    """Clips in the order of their names: a drive for each camera and rate, with a cut before each clip."""
    drives: list[list[tuple[str, Footage]]] = []
    skipped: list[str] = []
    for camera in cameras_of_clips([clip.name for clip in clips]):
        rate = None
        for name, entry in ((clips[i].name, clips[i]) for i in camera):
            try:
                clip = _read_clip(entry, size, report)
            except RoadtripError:
                if len(clips) == 1:
                    raise
                skipped.append(_base(name))
                continue
            if rate is None or abs((clip.fps or 0) - rate) > 0.01 * rate:
                rate = clip.fps or 0
                drives.append([])
            drives[-1].append((name, clip))
            if sum(len(clip.frames) for drive in drives for _, clip in drive) > MAX_FRAMES:
                raise RoadtripError(f"The clips in {source} have over {MAX_FRAMES} frames; give fewer at a time.")
    if not drives:
        raise RoadtripError(f"None of the {len(clips)} clips in {source} can be read; export them again, as mp4 say.")
    found = []
    for drive in drives:
        names, read = zip(*drive)
        starts = accumulate(len(clip.frames) for clip in read)
        joins = tuple(at for at, (a, b) in zip(starts, pairwise(names)) if not same_recording(a, b))
        identity = read[0].id if len(read) == 1 else hashlib.sha256("".join(c.id for c in read).encode()).hexdigest()
        frames = np.concatenate([clip.frames for clip in read]) if len(read) > 1 else read[0].frames
        left_out, notes = (tuple(w for clip in read for w in getattr(clip, k)) for k in ("skipped", "notes"))
        found.append(Footage(frames, read[0].fps, left_out, identity, joins, notes))
    return [replace(found[0], skipped=(*skipped, *found[0].skipped)), *found[1:]]


def _read_video(path: Path, size: tuple[int, int], report: Report) -> Footage:
    frames, rate, skipped, notes = read_video(path, size, report)
    with path.open("rb") as file:
        return Footage(frames, rate, skipped, _digest(file).hex(), (), notes)


def _read_clip(clip: Entry, size: tuple[int, int], report: Report) -> Footage:
    if clip.file:
        return _read_video(clip.file, size, report)
    with TemporaryDirectory() as home:  # a decoder seeks, which a member of a zip can't do
        path = Path(home) / _base(clip.name)[-60:]
        try:
            with clip.open() as member, path.open("wb") as file:
                shutil.copyfileobj(member, file, 2**20)
        except OSError:
            raise
        except Exception:  # a damaged zip raises nearly anything
            raise RoadtripError(f"{path.name} is damaged; pack it again.") from None
        return _read_video(path, size, report)


# --- stills -----------------------------------------------------------------------------------------------------------


def _read_stills(
    stills: Sequence[Entry], size: tuple[int, int], report: Report, source: str, unfinished: Path | None
) -> list[Footage]:
    """Decodes in threads (PIL releases the GIL) straight into the film's own memory, or into a file."""
    reads_heic = prepare()
    stills = [stills[i] for i in natural([still.name for still in stills])][:MAX_FRAMES]
    reading = _PartialImport(len(stills), size, unfinished)
    frames, facts = reading.frames, reading.facts

    def decode(i: int) -> None:
        # PIL's decoders raise nearly anything on hostile input; whatever it is, this still is unreadable
        with suppress(Exception), stills[i].open() as file:
            facts["digest"][i] = np.void(_digest(file))
            frames[i], facts[EXIF][i] = read_still(file, size)
            facts["good"][i] = True

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for done, _ in enumerate(pool.map(decode, range(reading.done, len(stills))), reading.done + 1):
                if done % 16 == 0 or done == len(stills):
                    report(done, len(stills), "reading stills")
                if done % KEEP_EVERY == 0:
                    reading.keep(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Stop, or a report that raises, does not wait for thousands of stills
            raise

    kept = np.flatnonzero(facts["good"])
    heic = sum(read_head(stills[i].open)[8:12] in HEIF for i in np.flatnonzero(~facts["good"]))
    hint = (
        f"{heic} stills are HEIC; pip install pillow-heif, or convert them to jpg." if heic and not reads_heic else ""
    )
    if not len(kept) and hint:
        raise RoadtripError(f"No still in {source} can be read: {hint}")
    if not len(kept):
        raise RoadtripError(
            f"None of the {len(stills)} stills in {source} can be read; give jpg, png or webp pictures."
        )
    skipped = tuple(_base(still.name) for still, good in zip(stills, facts["good"]) if not good)

    @lru_cache(4096)
    def mosaic(i: int) -> np.ndarray:
        height, width = size
        return frames[kept[i]].reshape(3, height // 8, 8, width // 8, 8).mean((2, 4))

    said = facts[kept]
    texts = zip(*(said[field].tolist() for field in EXIF))
    digests = said["digest"].tolist()
    shots = [Shot(stills[i].name, d, *map(bytes.decode, t)) for i, t, d in zip(kept, texts, digests)]
    drives, notes = order.drives(shots, lambda a, b: float(np.abs(mosaic(a) - mosaic(b)).mean()))
    found = []
    for drive in drives:
        of = kept[drive]
        whole = np.array_equal(of, np.arange(len(stills)))
        identity = hashlib.sha256(facts["digest"][of].tobytes()).hexdigest()
        found.append(Footage(frames if whole else frames[of], None, (), identity))
    return [replace(found[0], skipped=skipped, notes=(*notes, hint) if hint else tuple(notes)), *found[1:]]


def _digest(file: IO[bytes]) -> bytes:
    """sha256 of a file's length, first and last 64 KB; leaves it at its beginning. A still of 12 megapixels read whole
    for it would make an import a tenth slower."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(ENDS)
    file.seek(max(0, length - ENDS))
    tail = file.read(ENDS)
    file.seek(0)
    return hashlib.sha256(length.to_bytes(8, "little") + head + tail).digest()


class _PartialImport:
    """Stills read so far: `frames` uint8 [T, 3, H, W] and `facts` (was it good, its EXIF and digest), the first
    `done` of them settled. In memory, or in files of a folder, where the next process finds them again."""

    def __init__(self, count: int, size: tuple[int, int], folder: Path | None):
        self.done, self.mark = 0, folder / "done" if folder else None
        frames, facts = ((count, 3, *size), np.dtype(np.uint8)), ((count,), FACTS)
        try:
            if folder and self.mark:
                folder.mkdir(parents=True, exist_ok=True)
                self.frames, self.facts = _mapped(folder / "frames", *frames), _mapped(folder / "facts", *facts)
                with suppress(OSError, ValueError):
                    self.done = min(count, max(0, int(self.mark.read_text())))
        except OSError:
            self.mark = None  # nowhere to keep it: go on in memory
        if not self.mark:
            self.frames, self.facts = np.zeros(*frames), np.zeros(*facts)
        self.facts[self.done :] = np.zeros((), FACTS)

    def keep(self, done: int) -> None:
        """What lies before `done` is on the disk when this returns, and only then called done."""
        if self.mark:
            for array in (self.frames, self.facts):
                array.flush()  # type: ignore[attr-defined]
            with suppress(RoadtripError), whole_file(self.mark) as file:
                file.write_text(str(done))


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    if not path.exists() or path.stat().st_size != size:
        (path.parent / "done").unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                # a full disk is to be an error here and not a signal at the first write to the map
                os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=shape)
