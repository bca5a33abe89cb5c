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
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, pairwise
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
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "HEIF")  # as PIL calls them
VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif", ".m4v", ".mpg", ".mpeg"}
MAX_PIXELS = 64e6  # of a decoded picture: a JPEG is decoded scaled down and may be far larger on disk
MAX_PIXELS_JPEG = 256e6  # of a JPEG before it is scaled down
MAX_FRAMES = 100_000
MAX_SECONDS = 3600  # of reading a video
MAX_ENTRIES = 100_000  # of a zip
MAX_BYTES = 64 * 2**30  # of a zip, unpacked
MAX_BYTES_STILL = 256 * 2**20  # of one of its members
MAX_RATIO = 200  # unpacked over packed: pictures hardly compress, bombs do
KEEP_EVERY = 256  # stills after which an import that is killed loses no more than these
ENDS = 2**16  # bytes at either end of a file that its identity is taken from
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation: PIL's Image.Transpose that shows it upright
GREYS = ("1", "L", "LA", "La", "I;16", "I;16B", "I", "F")
UNSPECIFIED, PQ, HLG = 2, 16, 18  # codes of ITU-T H.273: of a matrix, of transfer characteristics
# linear BT.2020 (9) and P3 with white D65 (12) to linear BT.709; the matrices follow from the primaries in H.273
TO_BT709 = {
    9: ((1.66049, -0.58764, -0.07285), (-0.12455, 1.13290, -0.00835), (-0.01815, -0.10058, 1.11873)),
    12: ((1.22494, -0.22494, 0), (-0.04206, 1.04206, 0), (-0.01964, -0.07864, 1.09827)),
}
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
        return _read_animation(path, size, report)
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
    Image.MAX_IMAGE_PIXELS = int(MAX_PIXELS_JPEG) // 2  # PIL refuses what has twice as many
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    stills = sorted(stills, key=lambda still: natural(still[0]))
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
    hint = "" if "HEIF" in Image.OPEN else ": HEIC, which needs pillow-heif"
    skipped = tuple(
        _base(stills[i][0]) + (hint if _is_heic(stills[i][1]) else "") for i in np.flatnonzero(~facts["good"])
    )
    if not len(kept) and hint and skipped[0].endswith(hint):
        raise RoadtripError(f"The stills in {source} are HEIC; pip install pillow-heif, or convert them to jpg.")
    if not len(kept):
        raise RoadtripError(
            f"None of the {len(stills)} stills in {source} can be read; give jpg, png or webp pictures."
        )
    taken = facts["time"][kept]
    if all(taken):
        kept = kept[np.argsort(taken, kind="stable")]  # stills of one instant stay in the order of their names
    whole = np.array_equal(kept, np.arange(len(stills)))
    identity = hashlib.sha256(facts["digest"][kept].tobytes()).hexdigest()
    return Footage(torch.from_numpy(frames if whole else frames[kept]), None, skipped, identity)


def _is_heic(opened: Callable[[], Any]) -> bool:
    with suppress(Exception), opened() as file:
        head = file.read(12)
        return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
    return False


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
    """One still, upright, its centre cut to the shape of `size` and resized, in sRGB, uint8 [3, H, W]; and its EXIF
    time, empty where it has none."""
    from PIL import Image

    # nothing that hands its input on to another program (EPS), whatever the file is called
    formats = [f for f in FORMATS if f in Image.OPEN]
    try:
        image: Image.Image = Image.open(file, formats=formats)
    except Exception:
        image = Image.open(_bare_png(file), formats=formats)
    large, time = False, b""
    if image.format in ("JPEG", "MPO"):
        # decodes at 1/2, 1/4 or 1/8, never below twice the size wanted, however the picture is turned
        scale = min(image.size) / (2 * max(size))
        wanted = max(1, int(image.width / scale)), max(1, int(image.height / scale))
        # a progressive one is held whole, as coefficients, however small it is decoded
        large = "progressive" in image.info and image.width * image.height > 2 * MAX_PIXELS
        image.draft("RGB" if image.mode != "L" else "L", wanted)
    if large or image.width * image.height > MAX_PIXELS:
        raise RoadtripError(f"A picture of {image.width}×{image.height} pixels is too large.")
    try:
        image.load()
    except Exception:
        if image.format != "PNG":
            raise
        image = Image.open(_bare_png(file), formats=formats)
    with suppress(Exception):  # damaged EXIF costs its facts, not the still
        exif = image.getexif()
        details = exif.get_ifd(0x8769)
        if taken := str(details.get(36867) or "").strip():
            time = f"{taken}.{details.get(37521, '')}".encode("ascii", "ignore")
        image = image.transpose(Image.Transpose(TURNS[exif[0x0112]]))
    return _shaped(image, size), time


def _bare_png(file: IO[bytes]) -> IO[bytes]:
    """A PNG with nothing but its pixels and EXIF: PIL refuses the whole for text that is damaged or large."""
    file.seek(0)
    data, at = file.read(), 8
    kept = [data[:at]]
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        kind, sum_ = data[at + 4 : at + 8], int.from_bytes(data[end - 4 : end])
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf") and sum_ == zlib.crc32(
            data[at + 4 : end - 4]
        ):
            kept.append(data[at:end])
        at = end
    return io.BytesIO(b"".join(kept))


def _shaped(image: Image, size: tuple[int, int]) -> np.ndarray:
    """A picture's centre cut to the shape of `size` (H, W) and resized, in sRGB, uint8 [3, H, W]."""
    from PIL import Image, ImageCms

    profile, mode = image.info.get("icc_profile"), image.mode
    if mode not in ("CMYK", "LAB"):  # those are converted last, by their profile
        image = _rgb(image)
    (w, h), (height, width) = image.size, size
    scale = min(w / width, h / height)
    # width · (w / width) may be a little more than w, and PIL takes no box beyond the edge
    x, y = max(0.0, (w - width * scale) / 2), max(0.0, (h - height * scale) / 2)
    image = image.resize((width, height), Image.Resampling.LANCZOS, (x, y, w - x, h - y), 3.0)
    with suppress(Exception):  # a profile that is damaged, or of another kind of picture, is left aside
        if profile or mode == "LAB":
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
            image = image.convert("L") if mode in GREYS else image
            image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _rgb(image: Image) -> Image:
    """Any mode to 8-bit RGB: what is transparent becomes black. Integers are of 16 bits, or of 12 where none is above
    4095; floats end at 1, 255 or 65535, whichever is next above the brightest."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        brightest = values.max(initial=0, where=np.isfinite(values))
        if image.mode == "F" and brightest <= 1.5:
            top = 1  # some overshoot a little
        elif brightest <= 255:
            top = 65535 if image.mode.startswith("I;16") else 255  # 16 bits for 8 would be a waste: it is dark
        else:
            top = 4095 if brightest <= 4095 else 65535
        values = np.nan_to_num(values).clip(0, top) * np.float32(255 / top)
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


# --- video ------------------------------------------------------------------------------------------------------------


def _read_video(path: Path, size: tuple[int, int], report: Report) -> Footage:
    """Every frame of a video's main stream; what is damaged costs its own frames, a file that breaks off its end."""
    import av

    frames: list[np.ndarray] = []
    times: list[float | None] = []
    damaged, began = 0, monotonic()
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _main_stream(container, path)
            stream.thread_type = "AUTO"
            if stream.width * stream.height > MAX_PIXELS:
                raise RoadtripError(f"{path.name} is {stream.width}×{stream.height}; convert it to at most 8K.")
            rate = float(stream.average_rate or 0)  # 0 where the header has none, as from a browser's recorder
            total = stream.frames or int((container.duration or 0) / 1e6 * rate) or None
            if total and total > MAX_FRAMES:
                raise _too_long(path, f"{total:,}", rate)
            for frame in _deinterlaced(_decoded(container, stream)):
                if frame is None:
                    damaged += 1
                    continue
                frames.append(_video_frame(frame, stream, size))
                times.append(frame.time)
                if len(frames) > MAX_FRAMES:
                    raise _too_long(path, f"over {MAX_FRAMES:,}", _rate(times) or rate)
                if monotonic() - began > MAX_SECONDS:
                    raise RoadtripError(f"{path.name} takes too long to read; cut it into shorter pieces.")
                if len(frames) % 16 == 0:
                    report(len(frames), total, "reading video")
            rate = rate or float(stream.guessed_rate or 25)
    except RoadtripError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError):
        raise RoadtripError(f"{path.name} is not a readable video; it may be cut off, export it again.") from None
    if not frames:
        raise RoadtripError(f"No frame of {path.name} can be read; export it again, as mp4 for example.")
    report(len(frames), len(frames), "reading video")
    return _footage(path, frames, times, rate, (f"{damaged} damaged packet(s) of {path.name}",) if damaged else ())


def _read_animation(path: Path, size: tuple[int, int], report: Report) -> Footage:
    """Every frame of an animated webp, png or avif. Raises RoadtripError for a single still."""
    from PIL import Image

    frames: list[np.ndarray] = []
    times: list[float | None] = []
    skipped: tuple[str, ...] = ()
    time, count = 0.0, 1
    with suppress(Exception):
        image = Image.open(path, formats=[f for f in ("WEBP", "PNG", "AVIF") if f in Image.OPEN])
        count = getattr(image, "n_frames", 1) if image.width * image.height <= MAX_PIXELS else 1
    if count < 2:
        raise RoadtripError(f"{path.name} is a single still; give a folder or a zip of at least 3.")
    if count > MAX_FRAMES:
        raise _too_long(path, f"{count:,}", 25)
    for i in range(count):
        try:
            image.seek(i)
            frames.append(_shaped(image, size))
        except Exception:
            skipped = (f"the end of {path.name}",)
            break
        times.append(time)
        time += image.info.get("duration", 0) / 1000
        if i % 16 == 0:
            report(i, count, "reading frames")
    return _footage(path, frames, times, 25, skipped)


def _too_long(path: Path, frames: str, rate: float) -> RoadtripError:
    minutes = MAX_FRAMES / (rate or 25) / 60
    return RoadtripError(
        f"{path.name} has {frames} frames; at most {MAX_FRAMES:,} are read, {minutes:.0f} minutes at {rate or 25:.4g} "
        "frames a second; cut it into shorter pieces."
    )


def _footage(
    path: Path, frames: list[np.ndarray], times: list[float | None], rate: float, skipped: tuple[str, ...]
) -> Footage:
    """Frames that were stored once more are left out; the rate is that of the times of the others."""
    kept = _distinct(frames)
    measured = _rate([times[i] for i in kept])
    if measured and abs(measured - rate) > 0.02 * rate:  # else the header's, which is exact
        rate = measured
    with path.open("rb") as file:
        identity = _digest(file).hex()
    return Footage(torch.from_numpy(np.stack([frames[i] for i in kept])), rate, skipped, identity)


def _rate(times: list[float | None]) -> float | None:
    """Frames a second of presentation times, without pauses: steps of 10 times the usual. None where no time passes."""
    steps = np.diff([t for t in times if t is not None])
    steps = steps[steps > 0]
    steps = steps[steps < 10 * np.median(steps)] if len(steps) else steps
    return 1 / float(steps.mean()) if len(steps) else None


def _distinct(frames: list[np.ndarray]) -> np.ndarray:
    """Indices of frames uint8 [3, H, W] without those that only repeat the one before, as after a change of rate.

    A frame repeats where it moves by less than half a level and than a tenth of what is usual around it. Where most
    runs have n frames, every nth of a run is kept; else runs of up to 3 count as repeats. A longer one is a car that
    stands and stays whole.
    """
    moves = np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(frames)])
    if len(moves) < 16:
        return np.arange(len(frames))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(moves, 15, "reflect"), 31)
    new = np.concatenate([[True], moves > np.minimum(0.5, 0.1 * np.percentile(around, 80, axis=1))])
    starts = np.flatnonzero(new)
    lengths = np.diff([*starts, len(frames)])
    if len(starts) < 8:
        return np.arange(len(frames))
    usual = int(np.percentile(lengths, 90))
    run = np.cumsum(new) - 1
    place = np.arange(len(frames)) - starts[run]
    return np.flatnonzero(np.where(lengths[run] <= max(3, usual), place == 0, place % usual == 0))


def _main_stream(container: Any, path: Path) -> Any:
    """The largest of the video streams that have many packets: a cover has one, a preview few or small ones."""
    import av

    streams = container.streams.video
    if not streams:
        raise RoadtripError(f"{path.name} has no video in it; give a video or a folder of stills.")
    packets = dict.fromkeys((s.index for s in streams), 0)
    if len(streams) > 1:
        # a container of its own: not every kind of file can be set back to its beginning
        with suppress(av.FFmpegError), av.open(str(path), metadata_errors="replace") as probe:
            for packet in islice(probe.demux(probe.streams.video), 600):
                packets[packet.stream.index] += 1
    most = max(packets.values())
    return max((s for s in streams if 2 * packets[s.index] >= most), key=lambda s: s.width * s.height)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """A stream's frames, and None for each packet that can't be read or decoded."""
    import av

    for _ in range(100):  # of these the file itself is damaged, perhaps in the same place for ever
        try:
            for packet in container.demux(stream):
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    yield None
            return
        except av.FFmpegError:
            yield None


def _deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """Frames woven of two fields as one whole picture each (bwdif); all others, and None, as they are."""
    import av

    def pulled(graph: Any) -> Iterator[Any]:
        with suppress(av.BlockingIOError, av.EOFError):  # it wants another frame, or has given its last
            while True:
                yield graph.vpull()

    for _, same in groupby(frames, key=lambda f: f and (f.width, f.height, f.format.name)):
        graph: Any = None
        for frame in same:
            if not graph and not (frame and frame.interlaced_frame):
                yield frame
                continue
            if not graph:
                graph, facts = av.filter.Graph(), {"format": frame.format, "time_base": frame.time_base}
                source = graph.add_buffer(width=frame.width, height=frame.height, **facts)
                graph.link_nodes(source, graph.add("bwdif", "send_frame:auto:interlaced"), graph.add("buffersink"))
                graph.configure()
            graph.vpush(frame)
            yield from pulled(graph)
        if graph:
            graph.vpush(None)
            yield from pulled(graph)


def _video_frame(frame: Any, stream: Any, size: tuple[int, int]) -> np.ndarray:
    """One decoded frame, upright, of square pixels, centre-cropped and resized, in sRGB, uint8 [3, H, W]."""
    from av.sidedata.sidedata import Type

    height, width = size
    # a stored pixel (x, y) is shown at (a·x + c·y, b·x + d·y)
    shown = frame.side_data.get(Type.DISPLAYMATRIX)
    a, b, c, d = np.frombuffer(shown, np.int32)[[0, 1, 3, 4]].tolist() if shown else (1, 0, 0, 1)
    turned = abs(b) > abs(a)
    if turned:
        width, height = height, width
    wide = frame.width * float(stream.sample_aspect_ratio or 1)
    scale = max(width / wide, height / frame.height)
    w, h = max(width, round(wide * scale)), max(height, round(frame.height * scale))
    matrix = None
    if frame.colorspace == UNSPECIFIED:
        matrix = "ITU709" if frame.width >= 1280 or frame.height > 576 else "ITU601"
    transfer, primaries = stream.codec_context.color_trc, stream.codec_context.color_primaries
    convert = transfer in (PQ, HLG) or primaries in TO_BT709
    kind = "rgb48le" if convert else "rgb24"
    small = frame.reformat(w, h, format=kind, src_colorspace=matrix, interpolation="AREA").to_ndarray()
    y, x = (h - height) // 2, (w - width) // 2
    small = small[y : y + height, x : x + width]
    if convert:
        small = _srgb(small, transfer, primaries)
    if turned:
        small, down, right = small.transpose(1, 0, 2), b, c
    else:
        down, right = d, a
    small = small[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return np.ascontiguousarray(small.transpose(2, 0, 1))


def _srgb(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Pixels uint16 [H, W, 3] of HDR or of wide primaries to sRGB, uint8 [H, W, 3].

    PQ and HLG as in ITU-R BT.2100, white where BT.2408 has it: 203 cd/m² or 75 % of the signal. HLG without the
    OOTF: as an SDR camera would have seen the scene. What is brighter than 0.8 approaches white and never reaches it.
    """
    signal = pixels / 65535
    if transfer == PQ:
        power = signal ** (32 / 2523)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (8192 / 1305) * 10000 / 203
    elif transfer == HLG:
        high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = np.where(signal <= 0.5, signal**2 / 3, high) / 0.26496
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    light = np.maximum(light @ np.array(TO_BT709.get(primaries, np.eye(3))).T, 0)
    if transfer in (PQ, HLG):
        light = np.where(light > 0.8, 1 - 0.2 * np.exp((0.8 - light) / 0.2), light)
    light = light.clip(max=1)
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * signal).round().astype(np.uint8)
