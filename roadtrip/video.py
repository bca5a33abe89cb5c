"""A video or an animated picture as frames: upright, in sRGB, whole, each once, at the rate they are shown.

Independent of folders, films and caches; PIL and PyAV are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby, islice, pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from .contents import DEMUXERS, kind_of, read_head
from .errors import RoadtripError
from .stills import FORMATS, MAX_PIXELS, prepare, shaped

Report = Callable[[int, int | None, str], None]  # (done, total or None, what is being done)

MAX_FRAMES = 100_000
MAX_SECONDS = 3600  # of reading a video
OPENING: dict[str, Any] = {"metadata_errors": "replace", "options": {"format_whitelist": DEMUXERS}}
UNSPECIFIED, PQ, HLG = 2, 16, 18  # codes of ITU-T H.273: of a matrix, of transfer characteristics
# linear BT.2020 (9) and P3 with white D65 (12) to linear BT.709; the matrices follow from the primaries in H.273
TO_BT709 = {
    9: ((1.66049, -0.58764, -0.07285), (-0.12455, 1.13290, -0.00835), (-0.01815, -0.10058, 1.11873)),
    12: ((1.22494, -0.22494, 0), (-0.04206, 1.04206, 0), (-0.01964, -0.07864, 1.09827)),
}


Frames = tuple[list[np.ndarray], list[float | None], float, tuple[str, ...]]  # with times, the header's rate, skipped


def read_video(
    path: Path, size: tuple[int, int], report: Report
) -> tuple[np.ndarray, float, tuple[str, ...], tuple[str, ...]]:
    """Frames uint8 [T, 3, H, W] of a video or an animated picture, its frames a second, names of what is damaged, and
    a sentence on what was left out. Raises RoadtripError for what is neither, for a single still, for what is too long.

    Frames that were stored once more are left out; the rate is that of the times of the others.
    """
    head = read_head(lambda: path.open("rb"))
    still = kind_of(head, path.name) in ("still", "animation") and not head.startswith(b"GIF8")
    frames, times, rate, skipped = (_animation if still else _stream)(path, size, report)
    if not frames:
        raise RoadtripError(f"No frame of {path.name} can be read; export it again, as mp4 for example.")
    kept = _distinct(frames)
    measured = _rate([times[i] for i in kept])
    if measured and abs(measured - rate) > 0.02 * rate:  # else the header's, which is exact
        rate = measured
    again = len(frames) - len(kept)
    notes = (f"Left out of {path.name}: {again} frames that only repeat the one before.",) if again else ()
    return np.stack([frames[i] for i in kept]), rate, skipped, notes


def _stream(path: Path, size: tuple[int, int], report: Report) -> Frames:
    """Every frame of a video's main stream; what is damaged costs its own frames, a file that breaks off its end."""
    import av
    from av.video.reformatter import VideoReformatter

    frames: list[np.ndarray] = []
    times: list[float | None] = []
    damaged, began = 0, monotonic()
    scaler = VideoReformatter()  # each has threads, and a frame's own one keeps them until garbage is collected
    try:
        with av.open(str(path), **OPENING) as container:
            stream = _main_stream(container, path)
            stream.thread_type = "AUTO"
            if stream.width * stream.height > MAX_PIXELS:
                raise RoadtripError(f"{path.name} is {stream.width}×{stream.height}; convert it to at most 8K.")
            rate = float(stream.average_rate or 0)  # 0 where the header has none, as from a browser's recorder
            # without a count, a rate as of milliseconds says nothing of the number of frames
            total = stream.frames or int((container.duration or 0) / 1e6 * (rate if rate <= 240 else 0)) or None
            if total and total > MAX_FRAMES:
                raise _too_long(path, f"{total:,}", rate)
            for frame in _deinterlaced(_decoded(container, stream)):
                if frame is None:
                    damaged += 1
                    continue
                frames.append(_video_frame(frame, stream, size, scaler))
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
    report(len(frames), len(frames), "reading video")
    return frames, times, rate, (f"{damaged} damaged packet(s) of {path.name}",) if damaged else ()


def _animation(path: Path, size: tuple[int, int], report: Report) -> Frames:
    """Every frame of an animated webp, png or avif. Raises RoadtripError for a single still."""
    from PIL import Image

    frames: list[np.ndarray] = []
    times: list[float | None] = []
    skipped: tuple[str, ...] = ()
    time, count = 0.0, 1
    prepare()
    try:
        image = Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN])
        if image.format in ("WEBP", "PNG", "AVIF") and image.width * image.height <= MAX_PIXELS:
            count = getattr(image, "n_frames", 1)
    except Exception:
        raise RoadtripError(f"{path.name} is no picture that can be read; give stills, a zip or a video.") from None
    if count < 2:
        raise RoadtripError(f"{path.name} is a single still; give a folder or a zip of at least 3.")
    if count > MAX_FRAMES:
        raise _too_long(path, f"{count:,}", 25)
    for i in range(count):
        try:
            image.seek(i)
            frames.append(shaped(image, size))
        except Exception:
            skipped = (f"the end of {path.name}",)
            break
        times.append(time)
        time += image.info.get("duration", 0) / 1000
        if i % 16 == 0:
            report(i, count, "reading frames")
    return frames, times, 25, skipped


def _too_long(path: Path, frames: str, rate: float) -> RoadtripError:
    minutes = MAX_FRAMES / (rate or 25) / 60
    return RoadtripError(
        f"{path.name} has {frames} frames; at most {MAX_FRAMES:,} are read, {minutes:.0f} minutes at {rate or 25:.4g} "
        "frames a second; cut it into shorter pieces."
    )


def _rate(times: list[float | None]) -> float | None:
    """Frames a second of presentation times, without pauses: steps of 10 times the usual. None where no time passes."""
    steps = np.diff([t for t in times if t is not None])
    steps = steps[steps > 0]
    steps = steps[steps < 10 * np.median(steps)] if len(steps) else steps
    return 1 / float(steps.mean()) if len(steps) else None


def _distinct(frames: list[np.ndarray]) -> np.ndarray:
    """Indices of frames uint8 [3, H, W] without those that only repeat the one before, as after a change of rate: that
    are not `moving`, by half a level at most or, as coded again, by a tenth of what the liveliest fifth move.

    Where most runs have n frames, every nth of a run is kept; else runs of up to 3 count as repeats. A longer one is a
    car that stands and stays whole.
    """
    moves = np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(frames)])
    most = max(0.5, 0.1 * np.quantile(moves, 0.8)) if len(moves) else 0.5
    new = np.append(True, moving(moves) | (moves > most))
    starts = np.flatnonzero(new)
    if len(starts) < 8:
        return np.arange(len(frames))
    lengths = np.diff([*starts, len(frames)])
    usual = int(np.percentile(lengths, 90))
    run = np.cumsum(new) - 1
    place = np.arange(len(frames)) - starts[run]
    return np.flatnonzero(np.where(lengths[run] <= max(3, usual), place == 0, place % usual == 0))


def moving(moves: np.ndarray) -> np.ndarray:
    """Which frames are new and not stored once more, of how far each is from the one before (float [T]): those that
    move by more than a tenth of what the liveliest fifth of 31 frames around do, bool [T]."""
    if len(moves) < 16:
        return moves > 0
    around = np.lib.stride_tricks.sliding_window_view(np.pad(moves, 15, "reflect"), 31)
    return moves > 0.1 * np.quantile(around, 0.8, axis=1)


def _main_stream(container: Any, path: Path) -> Any:
    """The largest of the video streams that have many packets: a cover has one, a preview few or small ones."""
    import av

    # one whose coding is not known here has no codec context, and no width
    streams = [s for s in container.streams.video if s.codec_context is not None]
    if not streams:
        raise RoadtripError(f"{path.name} has no video in it that can be read; give a video or a folder of stills.")
    packets = dict.fromkeys((s.index for s in streams), 0)
    if len(streams) > 1:
        # a container of its own: not every kind of file can be set back to its beginning
        with suppress(av.FFmpegError), av.open(str(path), **OPENING) as probe:
            for packet in islice(probe.demux([probe.streams[i] for i in packets]), 600):
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


def _video_frame(frame: Any, stream: Any, size: tuple[int, int], scaler: Any) -> np.ndarray:
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
    small = scaler.reformat(frame, w, h, kind, src_colorspace=matrix, interpolation="AREA").to_ndarray()
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
