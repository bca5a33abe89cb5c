"""Decoding: a folder or zip of stills, or a video, to frames uint8 [T, 3, H, W]. Hostile input ends in one sentence.

Independent of gaps, cuts and caches; PIL and PyAV are imported where they are used. Stills are always decoded on the
CPU: a GPU's JPEG decoder gives other bits, and the same stills must give the same film on every machine.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .atomic import whole_file
from .errors import RoadtripError

if TYPE_CHECKING:
    from PIL.Image import Image

Report = Callable[[int, int | None, str], None]  # (done, total or None, what is being done)
Still = tuple[str, Callable[[], Any]]  # its path within the source, and what opens it as IO[bytes]

STILLS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIF")  # as PIL calls them
VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif", ".m4v", ".mpg", ".mpeg"}
MAX_PIXELS = 64e6  # of a decoded picture: a JPEG is decoded scaled down and may be far larger on disk
MAX_FRAMES = 100_000
MAX_SECONDS = 3600  # of a video, and of reading it
MAX_ENTRIES = 100_000  # of a zip
MAX_BYTES = 64 * 2**30  # of a zip, unpacked
MAX_BYTES_STILL = 256 * 2**20  # of one of its members
MAX_RATIO = 200  # unpacked over packed: pictures hardly compress, bombs do
KEEP_EVERY = 256  # stills after which an import that is killed loses no more than these
ENDS = 2**16  # bytes at either end of a file that its identity is taken from
FACTS = np.dtype([("good", "?"), ("time", "S40"), ("digest", "V32")])


@dataclass(frozen=True)
class Footage:
    """A source's content: frames uint8 [T, 3, H, W], frames a second (None for stills), names of unreadable stills.

    id: sha256 over length, first and last 64 KB of the video or of each still that was read, in film order: the same
    at any size and gap, under any name, in a folder or a zip. Not the same for what was encoded again. An edit that
    leaves a file's length and both its ends alone is not noticed: then two sources pass for one, never one for two.
    """

    frames: Tensor
    fps: float | None
    skipped: tuple[str, ...]
    id: str


def read_footage(path: Path, size: tuple[int, int], report: Report, unfinished: Path | None = None) -> Footage:
    """Reads a folder of stills, a zip of stills or a video. Raises RoadtripError for anything else.

    unfinished: a folder for what was read of stills so far. An import that was killed goes on from there; whoever
    keeps the footage removes it.
    """
    if path.is_dir():
        files = [p for p in path.iterdir() if _is_still(p.name) and p.is_file()]
        files = files or [p for p in path.rglob("*") if _is_still(p.name) and p.is_file()]
        stills = [(str(p.relative_to(path)), partial(p.open, "rb")) for p in files]
        return _read_stills(stills, size, report, path.name or str(path), unfinished)
    if not path.exists():
        raise RoadtripError(f"There is nothing called {path.name}; check the path.")
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return _read_zip(path, size, report, unfinished)
    if path.suffix.lower() in VIDEOS:
        return _read_video(path, size, report)
    if path.suffix.lower() in STILLS:
        raise RoadtripError(f"{path.name} is a single still; give a folder or a zip of at least 3.")
    raise RoadtripError(f"{path.name} is not footage; give a folder or a zip of stills, or a video.")


# --- stills -----------------------------------------------------------------------------------------------------------


def natural(name: str) -> tuple[list[Any], str]:
    """Sorts frame10 after frame9, and names that differ in case or zeros alone always the same way."""
    parts: list[Any] = re.split(r"([0-9]+)", name.lower())
    # digits, at the odd places, compare by value: by length, then as text (a hostile name has more than int() takes)
    parts[1::2] = [(len(digits), digits) for digits in (part.lstrip("0") for part in parts[1::2])]
    return parts, name


def _base(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _is_still(name: str) -> bool:
    return Path(_base(name)).suffix.lower() in STILLS and not _base(name).startswith(".")


def _read_zip(path: Path, size: tuple[int, int], report: Report, unfinished: Path | None) -> Footage:
    """Members are read in memory, one at a time a thread, by their base names; nothing is ever unpacked to disk."""
    try:
        archive = zipfile.ZipFile(path)
    # a damaged directory also raises UnicodeDecodeError, NotImplementedError and more
    except Exception:
        raise RoadtripError(f"{path.name} is not a readable zip; pack the stills again.") from None
    with archive:
        members = [m for m in archive.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
        if len(members) > MAX_ENTRIES:
            raise RoadtripError(f"{path.name} holds {len(members)} files; at most {MAX_ENTRIES} are read.")
        packed, unpacked = (sum(getattr(m, k) for m in members) for k in ("compress_size", "file_size"))
        if unpacked > MAX_BYTES or unpacked > MAX_RATIO * max(packed, 2**16):
            raise RoadtripError(f"{path.name} would unpack to {unpacked / 2**30:.1f} GB; that is not a zip of stills.")
        stills = [(m.filename, partial(_unpacked, archive, m)) for m in members if _is_still(m.filename)]
        return _read_stills(stills, size, report, path.name, unfinished)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    with archive.open(member) as file:
        data = file.read(MAX_BYTES_STILL + 1)
    if len(data) > MAX_BYTES_STILL:
        raise OSError("too large")
    return io.BytesIO(data)


def _read_stills(
    stills: Sequence[Still], size: tuple[int, int], report: Report, source: str, unfinished: Path | None
) -> Footage:
    """Decodes in threads (PIL releases the GIL) straight into the film's own memory, or into a file."""
    from PIL import Image

    if not stills:
        raise RoadtripError(f"There are no stills in {source}; give a folder or a zip with jpg, png or webp pictures.")
    # pictures over the limit are refused by _read_still; PIL's own warning would only reach the log
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.init()
    stills = sorted(stills, key=lambda still: natural(still[0]))
    heic = any(name.lower().endswith((".heic", ".heif")) for name, _ in stills)
    if heic:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    stills = stills[:MAX_FRAMES]
    reading = _PartialImport(len(stills), size, unfinished)
    frames, facts = reading.frames, reading.facts

    def decode(i: int) -> None:
        # PIL's decoders raise nearly anything on hostile input; whatever it is, this still is unreadable
        with suppress(Exception), stills[i][1]() as file:
            facts["digest"][i] = np.void(_digest(file))
            frames[i], facts["time"][i] = _read_still(file, size)
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
    skipped = tuple(_base(name) for (name, _), good in zip(stills, facts["good"]) if not good)
    taken = facts["time"][kept]
    if all(taken):
        kept = kept[np.argsort(taken, kind="stable")]  # stills of one instant stay in the order of their names
    whole = np.array_equal(kept, np.arange(len(stills)))
    identity = hashlib.sha256(facts["digest"][kept].tobytes()).hexdigest()
    return Footage(torch.from_numpy(frames if whole else frames[kept]), None, skipped, identity)


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
    """Stills read so far: `frames` uint8 [T, 3, H, W] and `facts` (was it good, its EXIF time and digest), the first
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


def _read_still(file: IO[bytes], size: tuple[int, int]) -> tuple[np.ndarray, bytes]:
    """One still, upright, its centre cut to the shape of `size` and resized, uint8 [3, H, W]; and its EXIF time, empty
    where it has none."""
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
    details = image.getexif().get_ifd(0x8769)  # not before: to look for it in a PNG decodes all of that
    time = str(details.get(36867) or "").strip()
    image = _rgb(ImageOps.exif_transpose(image))
    w, h = image.size
    scale = min(w / width, h / height)
    # width · (w / width) may be a little more than w, and PIL takes no box beyond the edge
    x, y = max(0.0, (w - width * scale) / 2), max(0.0, (h - height * scale) / 2)
    small = image.resize((width, height), Image.Resampling.LANCZOS, (x, y, w - x, h - y), 3.0)
    taken = f"{time}.{details.get(37521, '')}" if time else ""
    return np.asarray(small).transpose(2, 0, 1), taken.encode("ascii", "ignore")


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
        with av.open(str(path), metadata_errors="replace") as container:
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
