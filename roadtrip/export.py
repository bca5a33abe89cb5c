"""Frames to files: mp4, gif, webp, a png strip. Independent of models and films."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from .atomic import whole_file
from .errors import RoadtripError
from .frames import images, one_film, sheet, to_bytes

FORMATS = (".mp4", ".gif", ".webp", ".png")
BT709 = 1  # the code of its matrix, primaries and transfer characteristics in ITU-T H.273
GAP = 8  # pixels between films that stand beside each other
MAX_SIDE = 16383  # pixels that webp and h264 hold
# 18 is visually lossless; the macroblock tree reads memory that nobody wrote: the same frames give other bytes
X264 = {"crf": "18", "mbtree": "0"}


def write(path: str | Path, frames: Tensor, fps: float = 8, scale: int = 3, quality: int | None = None) -> Path:
    """Writes frames as what the name ends in: .mp4, .gif, .webp or .png (a strip of all).

    frames: uint8 or float in [0, 1], [T, 3, H, W], or the [1, T, 3, H, W] of one rollout.
    fps: frames a second; the file has rate_of(path, fps).
    quality: of .webp, 0 … 100; None is lossless.
    Raises RoadtripError for another ending, what frames.one_film refuses, a rate outside 0.1 … 120, a scale outside
    1 … 16 or one that makes a side longer than MAX_SIDE, and where the file can't be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise RoadtripError(f"Can't write {path.name}; name it {', '.join('x' + f for f in FORMATS)}.")
    if not (isinstance(fps, (int, float)) and 0.1 <= fps <= 120 and scale in range(1, 17)):
        raise RoadtripError("Choose 0.1 to 120 frames a second and a scale from 1 to 16.")
    if not (quality is None or quality in range(101)):
        raise RoadtripError("Choose a quality from 0 to 100, or None for lossless.")
    frames = one_film(frames)
    height, width = (scale * n for n in frames.shape[-2:])
    if (kind != ".png" and max(height, width) > MAX_SIDE) or (kind == ".mp4" and min(height, width) < 2):
        raise RoadtripError(f"Frames of {width}×{height} can't be written; choose another scale.")
    with whole_file(path) as file:
        if kind == ".mp4":
            _write_mp4(file, to_bytes(frames, scale), fps)
        elif kind == ".png":
            sheet(frames, min(len(frames), 8), scale).save(file)
        else:
            first, *rest = images(frames, scale)
            how: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
            first.save(
                file, save_all=True, append_images=rest, duration=round(1000 / rate_of(path, fps)), loop=0, **how
            )
    return path


def beside(views: Mapping[str, Tensor], said: Mapping[str, str], width: int = 1280) -> Tensor:
    """Films beside each other, each under its label and above what is said of it.

    views: by label, uint8 or float in [0, 1], [T, 3, H, W] of any lengths and sizes; a shorter one begins again. said: by
    label, a sentence or nothing. width: at least so many pixels in all; pixels are repeated, never smoothed.
    Returns uint8 [T, 3, H, W] of the longest T, with even sides. Raises RoadtripError as frames.one_film does.
    """
    from PIL import Image, ImageDraw, ImageFont

    films = {label: one_film(frames) for label, frames in views.items()}
    each = -(-(width - GAP * (len(films) - 1)) // len(films))  # of each film, at least
    drawn = [to_bytes(frames, -(-each // frames.shape[-1])) for frames in films.values()]  # [T, h, w, 3]
    font = ImageFont.load_default(size=22)
    lines = [[*_wrapped(label, font, v.shape[2]), *_wrapped(said.get(label, ""), font, v.shape[2])]
             for label, v in zip(films, drawn)]  # fmt: skip
    head = max(len(own) for own in lines) * 28 + 12
    sides = sum(v.shape[2] for v in drawn) + GAP * (len(drawn) - 1), head + max(v.shape[1] for v in drawn)
    ground = Image.new("RGB", (sides[0] + sides[0] % 2, sides[1] + sides[1] % 2), (20, 20, 20))
    pen, left = ImageDraw.Draw(ground), 0
    for own, v in zip(lines, drawn):
        for i, line in enumerate(own):
            pen.text((left + 6, 4 + 28 * i), line, (255, 255, 255), font)
        left += v.shape[2] + GAP
    still = torch.from_numpy(numpy.array(ground))
    frames = still.expand(max(len(v) for v in drawn), *still.shape).clone()
    left = 0
    for v in drawn:
        for t in range(len(frames)):
            frames[t, head : head + v.shape[1], left : left + v.shape[2]] = v[t % len(v)]
        left += v.shape[2] + GAP
    return frames.movedim(-1, 1)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    """Text in lines of at most `width` pixels; a word that is longer stands alone."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width - 12:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def rate_of(path: str | Path, fps: float) -> float:
    """Frames a second that a file of this name can have, the nearest to `fps`: delays in a gif are whole hundredths of
    a second, and browsers take less than two of them for ten."""
    return 100 / max(2, round(100 / fps)) if Path(path).suffix.lower() == ".gif" else fps


def _write_mp4(file: Path, pixels: Tensor, fps: float) -> None:
    import av
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()  # each has threads, and a frame's own one keeps them until garbage is collected
    # its index in front: a browser plays it before it has all of it
    with av.open(str(file), "w", format="mp4", options={"movflags": "faststart"}) as container:
        # yuv420p plays everywhere and wants even sides
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=X264)
        stream.height, stream.width = (n // 2 * 2 for n in pixels.shape[1:3])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709  # else a player guesses by the size
        context.color_range = 1  # 16 … 235
        for picture in pixels[:, : stream.height, : stream.width]:
            frame = av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")
            yuv = scaler.reformat(frame, format="yuv420p", dst_colorspace="ITU709")  # type: ignore[arg-type]
            container.mux(stream.encode(yuv))
        container.mux(stream.encode())
