"""Decoding: a folder or zip of stills, or a video, to frames uint8 [T, 3, H, W]. Hostile input ends in one sentence.

Independent of gaps, cuts and caches; PIL and PyAV are imported where they are used. Stills are always decoded on the
CPU: a GPU's JPEG decoder gives other bits, and the same stills must give the same film on every machine.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import order
from .atomic import whole_file
from .contents import DEMUXERS, Entry, choose, in_folder, in_zip, kind_of, read_head
from .errors import RoadtripError
from .order import Shot, cameras_of_clips, moment, natural, same_recording

if TYPE_CHECKING:
    from PIL.Image import Image

Report = Callable[[int, int | None, str], None]  # (done, total or None, what is being done)

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIF")  # as PIL calls them
MAX_PIXELS = 64e6  # of a decoded picture: a JPEG is decoded scaled down and may be far larger on disk
MAX_FRAMES = 100_000
MAX_SECONDS = 3600  # of a video, and of reading it
KEEP_EVERY = 256  # stills after which an import that is killed loses no more than these
ENDS = 2**16  # bytes at either end of a file that its identity is taken from
EXIF = ["taken", "subsec", "offset", "camera"]  # as order.Shot has them
FACTS = np.dtype([("good", "?"), *zip(EXIF, ("S24", "S9", "S9", "S120")), ("digest", "V32")])


@dataclass(frozen=True)
class Footage:
    """One drive of a source: frames uint8 [T, 3, H, W], frames a second (None for stills), names of what is unreadable.

    id: sha256 over length, first and last 64 KB of the video or of each still that was read, in film order: the same
    at any size and gap, under any name, in a folder or a zip. Not the same for what was encoded again. An edit that
    leaves a file's length and both its ends alone is not noticed: then two sources pass for one, never one for two.
    joins: the first frame of each clip after the first. notes: what was left out or moved, a sentence each.
    """

    frames: Tensor
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
    if kind == "clip" or head.startswith(b"GIF8"):
        return [_read_video(path, size, report)]
    if kind:
        raise RoadtripError(f"{path.name} is a single still; give a folder or a zip of at least 3.")
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
        raise RoadtripError(f"There are no stills in {source}; give a folder or a zip with jpg, png or webp pictures.")
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
        frames = torch.cat([clip.frames for clip in read]) if len(read) > 1 else read[0].frames
        left_out = tuple(what for clip in read for what in clip.skipped)
        found.append(Footage(frames, read[0].fps, left_out, identity, joins))
    return [replace(found[0], skipped=(*skipped, *found[0].skipped)), *found[1:]]


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
    from PIL import Image

    # pictures over the limit are refused by _read_still; PIL's own warning would only reach the log
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
    Image.init()
    heic = any(still.name.lower().endswith((".heic", ".heif")) for still in stills)
    if heic:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    stills = [stills[i] for i in natural([still.name for still in stills])][:MAX_FRAMES]
    reading = _PartialImport(len(stills), size, unfinished)
    frames, facts = reading.frames, reading.facts

    def decode(i: int) -> None:
        # PIL's decoders raise nearly anything on hostile input; whatever it is, this still is unreadable
        with suppress(Exception), stills[i].open() as file:
            facts["digest"][i] = np.void(_digest(file))
            frames[i], facts[EXIF][i] = _read_still(file, size)
            facts["good"][i] = True

    with ThreadPoolExecutor(max(2, torch.get_num_threads())) as pool:
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
    if not len(kept) and heic and "HEIF" not in Image.OPEN:
        raise RoadtripError(f"The stills in {source} are HEIC; install roadtrip[heic] or convert them to jpg.")
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
        found.append(Footage(torch.from_numpy(frames if whole else frames[of]), None, (), identity))
    return [replace(found[0], skipped=skipped, notes=tuple(notes)), *found[1:]]


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


def _read_still(file: IO[bytes], size: tuple[int, int]) -> tuple[np.ndarray, tuple[bytes, ...]]:
    """One still, upright, its centre cut to the shape of `size` and resized, uint8 [3, H, W]; and what _exif says."""
    from PIL import Image, ImageOps

    # nothing that hands its input on to another program (EPS), whatever the file is called
    image: Image.Image = Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN])
    height, width = size
    if image.format in ("JPEG", "MPO"):
        sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        scale = min(image.width / (height if sideways else width), image.height / (width if sideways else height))
        # decodes at 1/2, 1/4 or 1/8, never below twice the size wanted
        wanted = max(1, int(2 * image.width / scale)), max(1, int(2 * image.height / scale))
        image.draft("RGB" if image.mode != "L" else "L", wanted)
    if image.width * image.height > MAX_PIXELS:
        raise RoadtripError(f"A picture of {image.width}×{image.height} pixels is too large.")
    exif = _exif(image)  # not before: to look for it in a PNG decodes all of that
    image = _rgb(ImageOps.exif_transpose(image))
    w, h = image.size
    scale = min(w / width, h / height)
    # width · (w / width) may be a little more than w, and PIL takes no box beyond the edge
    x, y = max(0.0, (w - width * scale) / 2), max(0.0, (h - height * scale) / 2)
    small = image.resize((width, height), Image.Resampling.LANCZOS, (x, y, w - x, h - y), 3.0)
    return np.asarray(small).transpose(2, 0, 1), exif


def _exif(image: Image) -> tuple[bytes, ...]:
    """What a still's EXIF says of when and by what it was taken, as the fields EXIF name it; empty where it is
    missing or damaged."""
    top: Any = {}
    details: Any = {}
    with suppress(Exception):
        top = image.getexif()
        details = top.get_ifd(0x8769)

    def text(of: Any, tag: int) -> str:
        with suppress(Exception):
            value = of.get(tag, "")
            return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).rstrip("\0 ")
        return ""

    taken = subsec = offset = ""
    # when it was taken, digitised, or the file was last changed; each with its fraction and offset
    for ifd, when, fraction, zone in (
        (details, 36867, 37521, 36881),
        (details, 36868, 37522, 36882),
        (top, 306, 37520, 36880),
    ):
        if moment(taken := text(ifd, when)):
            subsec, offset = text(details, fraction), text(details, zone) or text(details, 36880)
            break
    else:
        taken = ""
    number = text(details, 42033)
    camera = f"{text(top, 271)} {text(top, 272)}".strip() + (f" #{number}" if number else "")
    return tuple(value.encode("ascii", "replace") for value in (taken, subsec, offset, camera))


def _rgb(image: Image) -> Image:
    """Any mode to 8-bit RGB: 16 bits and floats in [0, 1] are scaled, not cut off; what is transparent becomes black."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        brightest = values.max(initial=0)
        top = 65535 if image.mode.startswith("I;16") or brightest > 255 else 255
        if image.mode == "F" and brightest <= 1:
            top = 1
        return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


# --- video ------------------------------------------------------------------------------------------------------------


def _read_video(path: Path, size: tuple[int, int], report: Report) -> Footage:
    """Every frame of the first video stream; a file that breaks off keeps what could be decoded."""
    import av

    height, width = size
    frames: list[np.ndarray] = []
    skipped: tuple[str, ...] = ()
    began = monotonic()
    try:
        with av.open(str(path), metadata_errors="replace", options={"format_whitelist": DEMUXERS}) as container:
            if not container.streams.video:
                raise RoadtripError(f"{path.name} has no video in it; give a video or a folder of stills.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > MAX_PIXELS:
                raise RoadtripError(f"{path.name} is {stream.width}×{stream.height}; convert it to at most 8K.")
            fps = float(stream.average_rate or stream.guessed_rate or 25)
            total = stream.frames or None
            if (total or 0) > MAX_FRAMES or (container.duration or 0) / 1e6 > MAX_SECONDS:
                raise RoadtripError(f"{path.name} is too long; cut it to at most {MAX_SECONDS // 60} minutes.")
            try:
                for frame in container.decode(stream):
                    frames.append(_video_frame(frame, stream, width, height))
                    if len(frames) >= MAX_FRAMES or monotonic() - began > MAX_SECONDS:
                        raise RoadtripError(f"{path.name} takes too long to read; cut it into shorter pieces.")
                    if len(frames) % 16 == 0:
                        report(len(frames), total, "reading video")
            except av.FFmpegError:
                skipped = (f"the end of {path.name}",)
    except RoadtripError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError):
        raise RoadtripError(f"{path.name} is not a readable video; it may be cut off, export it again.") from None
    if not frames:
        raise RoadtripError(f"No frame of {path.name} can be read; export it again, as mp4 for example.")
    report(len(frames), len(frames), "reading video")
    with path.open("rb") as file:
        identity = _digest(file).hex()
    return Footage(torch.from_numpy(np.stack(frames)), fps, skipped, identity)


def _video_frame(frame: Any, stream: Any, width: int, height: int) -> np.ndarray:
    """One decoded frame, upright, square pixels, centre-cropped and resized, uint8 [3, height, width]."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if turns % 2:
        width, height = height, width
    wide = frame.width * float(stream.sample_aspect_ratio or 1)
    scale = max(width / wide, height / frame.height)
    w, h = max(width, round(wide * scale)), max(height, round(frame.height * scale))
    small = frame.reformat(w, h, format="rgb24", interpolation="AREA").to_ndarray()
    y, x = (h - height) // 2, (w - width) // 2
    return np.ascontiguousarray(np.rot90(small[y : y + height, x : x + width], turns).transpose(2, 0, 1))
