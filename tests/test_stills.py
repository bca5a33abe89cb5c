"""One still: what is damaged beside its pixels costs nothing, and its colours and greys are those that were meant."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

import roadtrip as rt
from roadtrip import stills

SIZE = (48, 80)
RED, GREEN = (200, 40, 30), (30, 160, 60)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROADTRIP_CACHE", str(tmp_path / "cache"))


def picture(size=(160, 96)) -> Image.Image:
    """Red on the left, green on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (size[0] // 2, 0, *size))
    return image


def encoded(kind: str, image: Image.Image | None = None, **how) -> bytes:
    file = io.BytesIO()
    (image or picture()).save(file, kind, **how)
    return file.getvalue()


def colours(frame) -> list[list[int]]:
    return [frame[:, 24, x].tolist() for x in (20, 60)]


def is_picture(frame, within: int = 4) -> bool:
    return np.abs(np.subtract(colours(frame), [RED, GREEN])).max() <= within


def read(data: bytes) -> np.ndarray:
    stills.prepare()
    return stills.read_still(io.BytesIO(data), SIZE)[0]


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


LARGE = zlib.compress(b"long " * 900_000)
BESIDE = {
    "large compressed text": chunk(b"zTXt", b"workflow\0\0" + LARGE),
    "large international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + LARGE),
    "100 MB of text": chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 900_000)) * 120,
    "text with a wrong sum": chunk(b"tEXt", b"Comment\0hello", damage=1),
    "text of an unknown compression": chunk(b"zTXt", b"Comment\0\7hello"),
    "a large profile": chunk(b"iCCP", b"sRGB\0\0" + LARGE),
    "an empty profile": chunk(b"iCCP", b""),
    "half a resolution": chunk(b"pHYs", b"\0\0"),
    "half a gamma": chunk(b"gAMA", b"\0"),
    "an animation of nothing": chunk(b"acTL", b"\0"),
    "EXIF as text": chunk(b"eXIf", b"b'Exif\\x00\\x00II*'"),
    "EXIF of nothing": chunk(b"eXIf", b""),
}


@pytest.mark.parametrize("beside", BESIDE)
def test_what_stands_beside_the_pixels_of_a_png_costs_no_still(beside):
    whole = encoded("PNG")
    for at in (33, len(whole) - 12):  # behind the header, before the end
        assert is_picture(read(whole[:at] + BESIDE[beside] + whole[at:]), 0)


def test_a_png_with_damaged_text_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = encoded("PNG", picture().rotate(180), exif=exif)
    assert is_picture(read(whole[:33] + BESIDE["text with a wrong sum"] + whole[33:]), 0)


def test_a_png_that_breaks_off_is_no_still():
    whole = encoded("PNG", Image.effect_noise((160, 96), 90))
    with pytest.raises(OSError):
        read(whole[: len(whole) // 2])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "PNG", "AVIF"])
def test_exif_and_profiles_of_nothing_cost_no_still(kind):
    if kind not in ("AVIF", "TIFF"):  # PIL itself won't write it there
        assert is_picture(read(encoded(kind, exif=b"Exif\0\0not a TIFF", quality=95)), 12)
    assert is_picture(read(encoded(kind, icc_profile=b"no profile", quality=95)), 12)


@pytest.mark.parametrize("pointer", [b"\x87\x69\0\x04\0\0\0\1\0\1\0\0", b"\x87\x69\0\2\0\0\0\4abcd"])
def test_exif_that_points_nowhere_still_turns_the_picture(pointer):
    """To 65 536, or, of a wrong type, to text."""
    entries = b"\x01\x12\0\3\0\0\0\1\0\3\0\0" + pointer
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + entries + b"\0\0\0\0"
    assert is_picture(read(encoded("JPEG", picture().rotate(180), exif=exif, quality=95)), 6)


def profile_of_swapped_red_and_green() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_applied(kind, mode):
    if mode not in ("RGB", "RGBA" if kind in ("PNG", "WEBP") else "RGB", "P" if kind in ("PNG", "TIFF") else "RGB"):
        pytest.skip("no such pictures")
    r, g, b = picture().split()
    swapped = Image.merge("RGB", (g, r, b)).convert(mode)
    assert is_picture(read(encoded(kind, swapped, icc_profile=profile_of_swapped_red_and_green(), quality=97)), 8)


def test_a_profile_of_another_kind_is_left_aside():
    """sRGB's in a picture of greys, and in one of inks."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = read(encoded("PNG", Image.new("L", (80, 48), 90), icc_profile=srgb))
    assert (grey == 90).all()
    assert is_picture(read(encoded("JPEG", picture().convert("CMYK"), icc_profile=srgb, quality=97)), 8)


def test_lab_is_shown_in_srgb():
    way = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    assert is_picture(read(encoded("TIFF", ImageCms.applyTransform(picture(), way))), 4)


@pytest.mark.parametrize("top", [4095, 65535])
def test_grey_of_12_and_16_bits_in_16(top):
    ramp = np.tile(np.linspace(0, top, 80).round().astype(np.uint16), (48, 1))
    for kind in ("PNG", "TIFF"):
        assert np.abs(read(encoded(kind, Image.fromarray(ramp)))[0, 24] - np.linspace(0, 255, 80)).max() <= 1


@pytest.mark.parametrize("top, white", [(1, 1), (1, 1.2), (255, 250), (4095, 4000), (65535, 6e4)])
def test_floats_of_any_range(top, white):
    ramp = np.tile(np.linspace(0, white, 80, dtype=np.float32), (48, 1))
    ramp[0, :2] = np.inf, np.nan  # a dead pixel is not the brightest
    shown = read(encoded("TIFF", Image.fromarray(ramp)))[0, 24]
    assert np.abs(shown - np.linspace(0, 255 * white / top, 80).clip(max=255)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PPM", "GIF", "AVIF", "WEBP", "BMP", "TIFF"])
def test_kinds_of_stills(kind):
    assert is_picture(read(encoded(kind)), 16)


def test_a_jpeg_larger_than_pil_allows_is_decoded_scaled_down_up_to_a_limit(monkeypatch):
    """PIL's own limit is 179 megapixels, a phone's pictures have 200."""
    assert stills.MAX_PIXELS_JPEG > 16320 * 12240
    data = encoded("JPEG", picture((1600, 960)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert is_picture(read(data), 12)
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(Image.DecompressionBombError):
        read(data[:at] + b"\xff\xdc\xff\xdc" + data[at + 4 :])  # 65500×65500


def test_a_large_progressive_jpeg_is_refused_which_would_be_held_whole(monkeypatch):
    monkeypatch.setattr("roadtrip.stills.MAX_PIXELS", 200_000)
    assert is_picture(read(encoded("JPEG", picture((1600, 960)))), 12)
    with pytest.raises(rt.RoadtripError, match="too large"):
        read(encoded("JPEG", picture((1600, 960)), progressive=True))


def test_heic_is_told_by_content(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for i, name in enumerate(("a.jpg", "b.HEIC", "c.png")):
        image = picture((160 + 2 * i, 96))
        (tmp_path / name).write_bytes(encoded("HEIF", image, quality=95) if i < 2 else encoded("PNG", image))
    film = rt.open_film(tmp_path, SIZE, gap=1, cache=False)
    assert film.skipped == () and all(is_picture(frame, 8) for frame in film.frames)


def test_without_a_reader_of_heic_a_hint_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    fake = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    (tmp_path / "IMG_0007.JPG").write_bytes(fake)
    with pytest.raises(rt.RoadtripError, match="pip install pillow-heif"):
        rt.open_film(tmp_path, SIZE, cache=False)
    for i in range(3):
        picture().resize((80 + i, 48)).save(tmp_path / f"{i}.png")
    film = rt.open_film(tmp_path, SIZE, gap=1, cache=False)
    assert film.skipped == ("IMG_0007.JPG",) and "1 stills are HEIC" in film.describe().sentence()
