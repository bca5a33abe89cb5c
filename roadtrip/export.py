"""Frames to files: mp4, gif, webp, a png strip. Independent of models and films."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from .atomic import whole_file
from .errors import RoadtripError
from .frames import images, one_film, sheet, to_bytes

FORMATS = (".mp4", ".gif", ".webp", ".png")
BT709 = 1  # the code of its matrix, primaries and transfer characteristics in ITU-T H.273
MAX_SIDE = 16383  # pixels that webp and h264 hold


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


def rate_of(path: str | Path, fps: float) -> float:
    """Frames a second that a file of this name can have, the nearest to `fps`: delays in a gif are whole hundredths of
    a second, and browsers take less than two of them for ten."""
    return 100 / max(2, round(100 / fps)) if Path(path).suffix.lower() == ".gif" else fps


def _write_mp4(file: Path, pixels: Tensor, fps: float) -> None:
    import av

    # its index in front: a browser plays it before it has all of it
    with av.open(str(file), "w", format="mp4", options={"movflags": "faststart"}) as container:
        # yuv420p plays everywhere and wants even sides; 18 is visually lossless for x264
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "18"})
        stream.height, stream.width = (n // 2 * 2 for n in pixels.shape[1:3])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709  # else a player guesses by the size
        context.color_range = 1  # 16 … 235
        for picture in pixels[:, : stream.height, : stream.width]:
            frame = av.VideoFrame.from_ndarray(picture.contiguous().numpy(), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())
