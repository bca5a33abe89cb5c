"""One still as pixels: any kind of picture that PIL opens, upright, in sRGB; and what its EXIF says.

Independent of folders, films and caches; PIL is imported where it is used. Stills are always decoded on the CPU: a GPU's
JPEG decoder gives other bits, and the same stills must give the same film on every machine.
"""

from __future__ import annotations

import io
import warnings
import zlib
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import RoadtripError
from .order import moment

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "HEIF")  # as PIL calls them
MAX_PIXELS = 64e6  # of a decoded picture
MAX_PIXELS_JPEG = 256e6  # of a JPEG before it is scaled down
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation: PIL's Image.Transpose that shows it upright
GREYS = ("1", "L", "LA", "La", "I;16", "I;16B", "I", "F")
EXIF = ["taken", "subsec", "offset", "camera"]  # as order.Shot has them


def prepare() -> bool:
    """Tells PIL what it may open, in the whole process: pictures of any size, which read_still refuses itself, and HEIC.
    Whether it can read that."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
    Image.MAX_IMAGE_PIXELS = int(MAX_PIXELS_JPEG) // 2  # PIL refuses what has twice as many
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return "HEIF" in Image.OPEN


def read_still(file: IO[bytes], size: tuple[int, int]) -> tuple[np.ndarray, tuple[bytes, ...]]:
    """One still, upright, its centre cut to the shape of `size` and resized, in sRGB, uint8 [3, H, W]; and what its
    EXIF says of when and by what it was taken, as the fields EXIF name it.

    Raises nearly anything for what is no picture, RoadtripError for one that is too large.
    """
    from PIL import Image

    # nothing that hands its input on to another program (EPS), whatever the file is called
    formats = [f for f in FORMATS if f in Image.OPEN]
    try:
        image: Image.Image = Image.open(file, formats=formats)
    except Exception:
        file.seek(0)
        if file.read(4) != b"\x89PNG":
            raise
        image = Image.open(_bare_png(file), formats=formats)
    large = False
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
    exif = _exif(image)
    with suppress(Exception):  # damaged EXIF costs its facts, not the still
        image = image.transpose(Image.Transpose(TURNS[image.getexif()[0x0112]]))
    return shaped(image, size), exif


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


def shaped(image: Image, size: tuple[int, int]) -> np.ndarray:
    """A picture's centre cut to the shape of `size` (H, W) and resized, in sRGB, uint8 [3, H, W]."""
    from PIL import Image, ImageCms

    profile, mode = image.info.get("icc_profile"), image.mode
    if mode != "CMYK":  # which is converted last, by its profile
        image = _rgb(image)
    (w, h), (height, width) = image.size, size
    scale = min(w / width, h / height)
    # width · (w / width) may be a little more than w, and PIL takes no box beyond the edge
    x, y = max(0.0, (w - width * scale) / 2), max(0.0, (h - height * scale) / 2)
    image = image.resize((width, height), Image.Resampling.LANCZOS, (x, y, w - x, h - y), 3.0)
    with suppress(Exception):  # a profile that is damaged, or of another kind of picture, is left aside
        if profile:
            image = image.convert("L") if mode in GREYS else image
            source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _rgb(image: Image) -> Image:
    """Any mode to 8-bit RGB: what is transparent becomes black. Integers are of 16 bits, or of 12 where none is above
    4095; floats end at 1, 255 or 65535, whichever is next above the brightest."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        brightest = np.where(np.isfinite(values), values, 0).max()
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
