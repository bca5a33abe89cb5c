"""Film: what is read, in which order, where it is cut, what is held out, and what is refused in one sentence."""

import hashlib
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from time import monotonic, sleep, time
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image, ImageFile, ImageFilter
from safetensors import SafetensorError
from safetensors.torch import save_file

import roadtrip as rt
from roadtrip import decode, scenery, sources
from roadtrip.film import evenly_spaced, find_cuts
from roadtrip.frames import sharpness

SIZE = (48, 80)
FOOTAGE = Path(__file__).resolve().parents[2] / "shared" / "footage"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROADTRIP_CACHE", str(tmp_path / "cache"))


def slide(frames: int, seed: int = 0, step: int = 2) -> list[Image.Image]:
    """A picture that slides by."""
    noise = np.random.default_rng(seed).integers(0, 255, (48, 80 + step * frames, 3), dtype=np.uint8)
    base = 60 * (seed % 4)
    wide = Image.fromarray((noise // 4 + base).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    return [wide.crop((step * t, 0, step * t + 80, 48)) for t in range(frames)]


def folder_of(tmp_path: Path, pictures, name: str = "trip", suffix: str = "png") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    for i, picture in enumerate(pictures):
        picture.save(folder / f"frame{i}.{suffix}")
    return folder


def as_frames(pictures) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures])


def killed_at_30(done, total, note):
    if done == 30:
        raise KeyboardInterrupt


def greys(film: rt.Film) -> list[int]:
    return film.frames.float().mean(dim=(1, 2, 3)).round().int().tolist()


def plain(grey: int, size=(80, 48)) -> Image.Image:
    return Image.new("RGB", size, (grey, grey, grey))


def mp4(path: Path, pictures, fps: int = 20, aspect: Fraction | None = None, title: str = "", front=False) -> Path:
    with av.open(str(path), "w", options={"movflags": "faststart"} if front else {}) as container:
        container.metadata.update({"title": title} if title else {})
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


# --- reading ----------------------------------------------------------------------------------------------------------


def test_natural_order_and_every_frame(tmp_path):
    film = rt.open_film(folder_of(tmp_path, [plain(10 * i) for i in range(12)]), SIZE, gap=2)
    assert film.frames.shape == (12, 3, *SIZE) and film.frames.dtype == torch.uint8
    assert greys(film) == [10 * i for i in range(12)]
    assert film.gap == 2 and film.fps is None and film.size == SIZE


def test_names_of_any_digits_are_ordered(tmp_path):
    """Not every digit is a number: ² and the Arabic ٣ stand among letters; 01 and 1 are told apart."""
    folder = folder_of(tmp_path, [])
    names = ["01.png", "1.png", "1a2.png", "1²2.png", "1٣2.png", "2.png", "10.png", "A3.png", "a4.png"]
    for i in random.Random(0).sample(range(len(names)), len(names)):
        plain(10 * i).save(folder / names[i])
    assert greys(rt.open_film(folder, SIZE, gap=1)) == [10 * i for i in range(len(names))]


def test_exif_time_orders_where_all_have_one(tmp_path):
    folder = folder_of(tmp_path, [plain(0)] * 3)
    for i, grey in enumerate((100, 50, 10)):
        exif = Image.Exif()
        exif[0x8769] = {36867: f"2019:06:0{3 - i} 10:00:00"}
        plain(grey).save(folder / f"frame{i}.png", exif=exif)
    assert greys(rt.open_film(folder, SIZE, gap=1)) == [10, 50, 100]
    plain(100).save(folder / "frame0.png")
    assert greys(rt.open_film(folder, SIZE, gap=1)) == [100, 50, 10]


def test_exif_tells_when_and_by_what_a_still_was_taken(tmp_path):
    """Original, digitised or changed; with fraction and offset; by one camera of two."""
    folder = folder_of(tmp_path, [])

    def save(name: str, grey: int, top: dict, details: dict):
        exif = Image.Exif()
        exif.update(top)
        exif.get_ifd(0x8769).update(details)
        plain(grey).save(folder / name, exif=exif)

    hour = "2022:02:02 10:00:0"
    save("c.jpg", 10, {306: hour + "1"}, {36880: "+00:00"})
    save("a.jpg", 20, {306: "2023:01:01 00:00:00"}, {36868: hour + "2", 37522: "25", 36882: "Z"})
    save("e.png", 30, {306: "2023:01:01 00:00:00"}, {36867: hour + "2", 37521: b"750", 36881: "+0:00"})
    save("b.jpg", 40, {306: ""}, {36867: "2022:02:02 09:00:03", 36881: "-01:00"})
    save("d.tif", 50, {306: hour + "4"}, {36867: "0000:00:00 00:00:00", 36880: "+00:00"})
    film = rt.open_film(folder, SIZE, gap=1)
    assert greys(film) == [10, 20, 30, 40, 50] and film.drives == (0,)
    for i, name in enumerate("ywx"):
        save(f"{name}.jpg", 100 + i, {271: "Sony", 272: "ZV-1"}, {36867: hour + str(i), 42033: "0042"})
        save(f"{name}{name}.jpg", 200 + i, {271: "Sony", 272: "ZV-1"}, {36867: hour + str(i), 42033: "0043"})
    film = rt.open_film(folder, SIZE, gap=1)
    assert greys(film)[-3:] == [200, 201, 202] and film.drives == (0, 8) and "Sony ZV-1 #0043 (3)" in film.notes[-1]


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"b'Exif'",
        b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x60\xea\0\0",  # a pointer beyond the end
        b"II*\0\x08\0\0\0\x01\0\x69\x87\x02\0\x04\0\0\0abc\0",  # a pointer of letters
        b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(256)),
    ],
)
def test_broken_exif_costs_no_still(tmp_path, exif):
    folder = folder_of(tmp_path, [plain(10 * i) for i in range(1, 9)])
    for i in (0, 3, 4):
        plain(10 * i + 10).save(folder / f"frame{i}.jpg")
        (folder / f"frame{i}.png").unlink()
        block = b"\xff\xe1" + (len(exif) + 8).to_bytes(2, "big") + b"Exif\0\0" + exif
        data = (folder / f"frame{i}.jpg").read_bytes()
        (folder / f"frame{i}.jpg").write_bytes(data[:2] + block + data[2:])
    data, block = (folder / "frame6.png").read_bytes(), b"eXIf" + exif
    block = len(exif).to_bytes(4, "big") + block + zlib.crc32(block).to_bytes(4, "big")
    (folder / "frame6.png").write_bytes(data[:33] + block + data[33:])
    film = rt.open_film(folder, SIZE, gap=1)
    assert greys(film) == [10 * i for i in range(1, 9)] and film.skipped == ()
    assert film.notes == ()


def tree(tmp_path: Path) -> Path:
    """A card as a NAS and a file manager leave it, of twelve good stills and one poster."""
    root = tmp_path / "card"
    for i in range(12):
        file = root / f"DCIM/10{i // 6}ABCDE/P10{i:02d}.JPG"
        others = ["@eaDir/{0}/SYNOPHOTO_THUMB_M.jpg", "@eaDir/SYNO@.fileindexdb/{0}", ".thumbnails/{0}", "Thumbs/{0}"]
        others += ["#recycle/{0}", ".Trashes/501/{0}", "$RECYCLE.BIN/{0}", "Lightroom Previews.lrdata/{0}", "._{0}"]
        others += ["iPod Photo Cache/{0}", "Recently Deleted/{0}"]
        for k, other in enumerate(["{0}", *others]):
            path = file.parent / other.format(file.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            plain(10 * i + 5 + 3 * k).save(path)
        for suffix in ("THM", "DNG", "GPR", "NRW", "JPG_original"):
            plain(200).save(file.with_suffix(f".{suffix}"), "JPEG")
        file.with_suffix(".MOV").write_bytes(b"\0\0\0\x14ftypqt  ")
    plain(250).save(root / "poster.png")
    (root / "notes.txt").write_text("P1 of my trip")
    return root


def test_a_folder_and_a_zip_of_one_tree_are_alike(tmp_path):
    root = tree(tmp_path)
    folder = rt.open_film(root, SIZE, gap=1)
    assert [abs(g - (10 * i + 5)) < 2 for i, g in enumerate(greys(folder))] == [True] * 12 and folder.skipped == ()
    with zipfile.ZipFile(tmp_path / "card.zip", "w") as archive:
        for file in root.rglob("*"):
            archive.write(file, f"card\\{file.relative_to(root)}".replace("/", "\\"))
    film = rt.open_film(tmp_path / "card.zip", SIZE, gap=1)
    assert torch.equal(film.frames, folder.frames) and film.drive_ids == folder.drive_ids and film.notes == folder.notes
    assert [note.partition(":")[0] for note in film.notes] == [
        "Left out as thumbnails, previews or deleted",
        "Left out as clips of a moment beside a still",
        "Left out, as they are not numbered like the others",
    ]
    assert film.describe().sentence().endswith(" ".join(film.notes))
    assert rt.open_film(film.save(tmp_path / "x.film"), SIZE).notes == film.notes
    assert rt.open_film([film, folder], SIZE).notes == film.notes * 2


def test_the_first_bytes_of_a_still_count_not_its_suffix(tmp_path):
    folder, kinds = folder_of(tmp_path, []), ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
    for i, suffix in enumerate((".jfif", "", ".mp4", ".jpeg_large", ".5", ".txt")):
        plain(20 * i + 20).save(folder / f"{i}{suffix}", kinds[i])
    assert [round(g, -1) for g in greys(rt.open_film(folder, SIZE, gap=1))] == [20, 40, 60, 80, 100, 120]
    assert "single still" in refused(folder / "2.mp4", tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_or_zip_of_clips_is_a_film(tmp_path, zipped):
    folder = folder_of(tmp_path, [])
    shown = slide(60, 1)
    mp4(folder / "GX010007.mp4", shown[:20]).rename(folder / "GX010007.MP4")
    mp4(folder / "GX020007.mp4", shown[20:40]).rename(folder / "GX020007.insv")
    mp4(folder / "GX010008.mp4", shown[40:]).rename(folder / "GX010008.MP4")
    mp4(folder / "GL010007.mp4", shown[:20]).rename(folder / "GL010007.LRV")
    plain(3).save(folder / "GX010007.THM", "JPEG")
    plain(3).save(folder / "cover.jpg")
    (folder / "GX010009.mp4").write_bytes(b"\0\0\0\x14ftypqt  damaged")
    source = zip_of(tmp_path / "trip.zip", folder) if zipped else folder
    film = rt.open_film(source, SIZE)
    assert film.cuts == (40,) and film.drives == (0,) and film.fps == 20 and film.skipped == ("GX010009.mp4",)
    assert (film.frames.float() - as_frames(shown).float()).abs().mean() < 4
    assert film.notes == (
        "Left out as small copies of clips: 1 files.",
        "Left out as too few stills beside clips: 1 files.",
    )
    (one,) = film.drive_ids
    assert rt.open_film(folder.rename(tmp_path / "b"), (24, 40)).drive_ids == (one,)


def test_clips_of_two_cameras_or_rates_and_stills_are_drives_of_their_own(tmp_path):
    folder = folder_of(tmp_path, [])
    for i in range(3):
        for k, side in enumerate("FR"):
            mp4(folder / f"2021_0314_09{26 + i}_{side}.mp4", slide(10, k)[: 8 + i])
    film = rt.open_film(folder, SIZE, gap=1)
    assert film.drives == (0, 27) and {8, 17, 27, 35, 44} <= set(film.cuts) and film.fps == 20
    mp4(folder / "slow.mp4", slide(6, 2), fps=5)
    for i, picture in enumerate(slide(4, 3)):
        picture.save(folder / f"{i}.png")
    film = rt.open_film(folder, SIZE, gap=1)
    assert film.drives == (0, 4, 31, 37) and film.fps is None and len(set(film.drive_ids)) == 4
    assert film.notes == ("4 stills, then 7 clips, each a drive of its own.",)


def test_a_far_larger_clip_has_its_thumbnail_beside_it(tmp_path):
    folder = folder_of(tmp_path, [])
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 160, 3), dtype=np.uint8)
    for i in range(4):
        mp4(folder / f"DJI_{i:04d}.mp4", [Image.fromarray(n) for n in noise[15 * i : 15 * i + 15]])
        plain(9).save(folder / f"DJI_{i:04d}.jpg")
    film = rt.open_film(folder, SIZE, gap=1)
    assert len(film.frames) == 60 and film.notes == ("Left out as thumbnails of clips: 4 files.",)


def test_playlists_are_never_followed(tmp_path):
    """FFmpeg would open what a playlist names, whatever the playlist is called."""
    mp4(tmp_path / "secret.mp4", slide(9))
    for text in ("ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"):
        for padding in ("", "#\0\1\2\n"):
            (tmp_path / "a.mp4").write_text(text.replace("\n", "\n" + padding, 1))
            refused(tmp_path / "a.mp4", tmp_path)


def test_orientation_is_honoured(tmp_path):
    upright = Image.new("RGB", (80, 48))
    upright.paste((255, 255, 255), (0, 0, 80, 24))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left: shown turned right
    folder = folder_of(tmp_path, [upright] * 3)
    upright.rotate(90, expand=True).save(folder / "frame1.jpg", exif=exif, quality=95)
    frames = rt.open_film(folder, SIZE, gap=1).frames.float()
    assert (frames[:, :, :20].mean() > 240) and (frames[:, :, 28:].mean() < 15)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_every_orientation_shows_the_same(tmp_path, mode):
    """The tag says how to turn what is stored: each picture is stored turned the other way."""
    ways = Image.Transpose
    stored = [None, ways.FLIP_LEFT_RIGHT, ways.ROTATE_180, ways.FLIP_TOP_BOTTOM]
    stored += [ways.TRANSPOSE, ways.ROTATE_90, ways.TRANSVERSE, ways.ROTATE_270]
    values = np.add.outer(np.arange(48) * 3, np.arange(80)).astype(np.uint8)  # grows to the right and downward
    picture = Image.fromarray(values).convert("RGB")
    if mode == "I;16":
        picture = Image.fromarray(values.astype(np.uint16) * 257)
    folder = folder_of(tmp_path, [])
    for tag, way in enumerate(stored, 1):
        exif = Image.Exif()
        exif[0x0112] = tag
        (picture if way is None else picture.transpose(way)).save(folder / f"{tag}.png", exif=exif)
    frames = rt.open_film(folder, SIZE, gap=1).frames
    assert frames.shape == (8, 3, *SIZE)
    assert (frames.int() - torch.from_numpy(values).int()).abs().max() <= 2


def test_float_stills_from_0_to_1_are_not_black(tmp_path):
    values = np.linspace(0, 1, 80, dtype=np.float32)[None].repeat(48, 0)
    folder = folder_of(tmp_path, [])
    values[0, 0] = np.nan
    for i in range(3):
        Image.fromarray(values).save(folder / f"{i}.tif")
    frames = rt.open_film(folder, SIZE, gap=1).frames
    assert (frames[0, :, 24].int() - torch.linspace(0, 255, 80).int()).abs().max() <= 2


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (4000, 2600)])
def test_centre_crop_is_not_stretched(tmp_path, size):
    """A centred square stays a square."""
    picture = Image.new("RGB", size)
    half = min(size) // 8
    x, y = size[0] // 2, size[1] // 2
    picture.paste((255, 255, 255), (x - half, y - half, x + half, y + half))
    film = rt.open_film(folder_of(tmp_path, [picture] * 3, suffix="jpg"), SIZE, gap=1)
    bright = film.frames[0].float().mean(0) > 127
    rows, columns = bright.any(dim=1).sum().item(), bright.any(dim=0).sum().item()
    assert abs(rows - columns) <= 1 and rows > 4
    assert abs(bright.nonzero().float().mean(0) - torch.tensor([23.5, 39.5])).max() < 1


def test_every_size_of_still_fits_every_size_of_frame(tmp_path):
    """450 / 56 · 56 is a little more than 450: a crop must not reach over the edge."""
    folder = folder_of(tmp_path, [plain(50, (450, 450)), plain(60, (29, 29)), plain(70, (123, 58)), plain(80, (1, 1))])
    for size in ((56, 56), (56, 80), (224, 224), (1024, 16)):
        film = rt.open_film(folder, size, gap=1, cache=False)
        assert film.skipped == () and greys(film) == [50, 60, 70, 80]


def test_16_bit_is_scaled_not_cut_off(tmp_path):
    folder = folder_of(tmp_path, [])
    ramp = np.linspace(0, 65535, 80).astype(np.uint16)
    for i, most in enumerate((1, 2, 256)):  # the last is all but black, and stays it
        Image.fromarray(np.tile(ramp // most, (48, 1))).save(folder / f"{i}.png")
    film = rt.open_film(folder, SIZE, gap=1)
    for frame, most in zip(film.frames, (1, 2, 256)):
        assert (frame.int() - torch.from_numpy(np.round(ramp / most / 257).astype(int))).abs().max() <= 1


def test_grey_16_bit_palette_alpha_cmyk(tmp_path):
    folder = folder_of(tmp_path, [plain(128)])
    Image.fromarray(np.full((48, 80), 128 * 257, dtype=np.uint16)).save(folder / "frame1.png")
    plain(128).convert("L").save(folder / "frame2.png")
    plain(128).convert("P").save(folder / "frame3.png")
    plain(128).convert("CMYK").save(folder / "frame4.jpg")
    Image.new("RGBA", (80, 48), (255, 255, 255, 128)).save(folder / "frame5.png")
    Image.new("LA", (80, 48), (255, 0)).save(folder / "frame6.png")
    plain(128).convert("1").save(folder / "frame7.png")
    Image.new("P", (80, 48)).save(folder / "frame8.png", transparency=0)
    film = rt.open_film(folder, SIZE, gap=1)
    assert film.skipped == ()
    assert [abs(g - 128) <= 2 for g in greys(film)[:6]] == [True] * 6 and greys(film)[6] == 0
    assert 100 < greys(film)[7] < 155 and greys(film)[8] == 0


def test_unreadable_stills_are_skipped_and_named(tmp_path):
    folder = folder_of(tmp_path, [plain(9)] * 4)
    (folder / "frame9.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("not a still")
    film = rt.open_film(folder, SIZE, gap=1)
    assert len(film.frames) == 4 and film.skipped == ("frame9.jpg",)
    assert "frame9.jpg" in film.describe().sentence()


def test_zip_names_are_flattened(tmp_path):
    path = tmp_path / "deep" / "trip.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for i, picture in enumerate(folder_of(tmp_path, slide(5)).iterdir()):
            archive.write(picture, f"../../evil{i}.png")
        archive.writestr("../bad.jpg", b"nothing")
        archive.writestr("..\\..\\worse.jpg", b"nothing")
        archive.writestr("/tmp/" + "1" * 5000 + "/last.jpg", b"nothing")
        archive.writestr("__MACOSX/._evil0.png", b"nothing")
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    film = rt.open_film(path, SIZE, gap=1)
    assert len(film.frames) == 5 and sorted(film.skipped) == ["bad.jpg", "last.jpg", "worse.jpg"]
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before


def test_video_keeps_every_frame_and_knows_seconds(tmp_path):
    pictures = slide(40)
    film = rt.open_film(mp4(tmp_path / "trip.mp4", pictures), SIZE, gap="0.2s")
    assert film.frames.shape[0] == 40 and film.fps == 20 and film.gap == 4
    assert (film.frames.float() - as_frames(pictures).float()).abs().mean() < 4
    pictures[0].save(tmp_path / "trip.gif", save_all=True, append_images=pictures[1:], duration=50)
    film = rt.open_film(tmp_path / "trip.gif", SIZE, gap="0.5s")
    assert len(film.frames) == 40 and film.fps == 20 and film.gap == 10
    assert (film.frames.float() - as_frames(pictures).float()).abs().mean() < 6
    # another shape is cropped, not stretched
    assert rt.open_film(tmp_path / "trip.mp4", (48, 48), gap=1).size == (48, 48)


def test_video_is_upright_and_of_square_pixels(tmp_path):
    bright = Image.new("RGB", (80, 48))
    bright.paste((255, 255, 255), (0, 0, 40, 48))  # the left half: on top once turned right
    data = bytearray(mp4(tmp_path / "trip.mp4", [bright] * 4).read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 * 65536, 0, 2**30)
    (tmp_path / "phone.mp4").write_bytes(data)
    frames = rt.open_film(tmp_path / "phone.mp4", (80, 48), gap=1).frames.float()
    assert frames[:, :, :38].mean() > 240 and frames[:, :, 42:].mean() < 15
    # a square of pixels twice as wide as high
    square = Image.new("RGB", (80, 96))
    square.paste((255, 255, 255), (30, 28, 50, 68))
    film = rt.open_film(mp4(tmp_path / "wide.mp4", [square] * 4, aspect=Fraction(2, 1)), (96, 160), gap=1)
    lit = film.frames[0].float().mean(0) > 127
    assert abs(lit.any(dim=1).sum() - 40) <= 1 and abs(lit.any(dim=0).sum() - 40) <= 1


def test_video_with_a_title_in_another_alphabet(tmp_path):
    path = mp4(tmp_path / "trip.mp4", slide(5), title="Autobahn")
    data = path.read_bytes()
    assert b"Autobahn" in data
    path.write_bytes(data.replace(b"Autobahn", "Autobähn".encode("latin-1")))
    assert len(rt.open_film(path, SIZE, gap=1).frames) == 5


def test_a_video_that_breaks_off(tmp_path):
    path = tmp_path / "trip.mkv"  # has no index at its end
    data = mp4(path, slide(60)).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    film = rt.open_film(path, SIZE, gap=1)
    assert 3 <= len(film.frames) < 60
    path = tmp_path / "front.mp4"  # has its index at its beginning
    data = mp4(path, slide(100), front=True).read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    film = rt.open_film(path, SIZE, gap=1)
    assert 3 <= len(film.frames) < 100


def test_several_sources_make_one_film(tmp_path):
    a, b = folder_of(tmp_path, slide(20, 0), "a"), folder_of(tmp_path, slide(30, 1), "b")
    film = rt.open_film([a, b], SIZE, gap=2)
    assert len(film.frames) == 50 and film.cuts == (20,) and film.drives == (0, 20)
    held = film.starts(1, "held_out").tolist()
    assert held == [*range(16, 20), *range(44, 50)]
    # of any kind, each with its own cuts
    video = mp4(tmp_path / "c.mp4", [*slide(20, 2), *slide(20, 3)])
    again = rt.open_film([film, video, film.save(tmp_path / "ab.film")], SIZE)
    assert len(again.frames) == 140 and again.cuts == (20, 50, 70, 90, 110) and again.drives == (0, 20, 50, 90, 110)
    assert again.name == "a + b + c + a + b" and again.fps is None and again.gap > 0


def test_progress_is_reported(tmp_path):
    seen = []
    rt.open_film(folder_of(tmp_path, slide(40)), SIZE, gap=1, progress=lambda *args: seen.append(args))
    assert (40, 40, "reading stills") in seen


# --- cuts, gaps, parts ------------------------------------------------------------------------------------------------


def test_hard_cuts_are_found_and_nothing_else():
    a, b, c = (as_frames(slide(30, s)) for s in (0, 1, 2))
    assert find_cuts(torch.cat([a, b, c])) == (30, 60)
    assert find_cuts(a) == ()
    flash = a.clone()
    flash[15] = 255
    assert find_cuts(flash) == ()
    assert find_cuts(a[:3]) == ()


@pytest.mark.parametrize("step", [1, 2, 5])
def test_no_cut_in_a_slide_and_each_join_is_one(step):
    for seed in range(6):
        parts = [as_frames(slide(length, seed + k, step)) for k, length in enumerate((12, 25, 8, 40))]
        assert find_cuts(torch.cat(parts)) == (12, 37, 45)
        assert [find_cuts(part) for part in parts] == [()] * 4
        parts[1][10] = 255 * (seed % 2)  # a flash, or a black frame
        assert find_cuts(parts[1]) == ()


def landscape(frames: int, seed: int = 0, step: int = 3) -> torch.Tensor:
    """A picture of large shapes that slides by, uint8 [T, 3, 72, 128]."""
    small = np.random.default_rng(seed).integers(20, 220, (9, 14 + frames * step // 8, 3), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(small).resize((128 + step * frames, 72), Image.Resampling.BICUBIC))
    return torch.stack([torch.tensor(wide[:, step * t : step * t + 128]).permute(2, 0, 1) for t in range(frames)])


def lit(frames: torch.Tensor, gain: float, plus: float = 0) -> torch.Tensor:
    return (frames * gain + plus).clamp(0, 255).byte()


@pytest.mark.parametrize("step", [2, 6, 16])
def test_what_is_no_cut(step):
    """Frames stored again, flashes, a tunnel, another exposure, a caption."""
    film = landscape(60, step, step)
    for copies in (2, 3, torch.tensor([1, 1, 1, 2] * 15), torch.tensor([1, 3] * 30)):
        assert find_cuts(film.repeat_interleave(copies, 0)) == ()
    for first, length in ((20, 1), (30, 2), (57, 1)):
        flash = film.clone()
        flash[first : first + length] = lit(film[first : first + length], 0.2, 200)
        assert find_cuts(flash) == ()
    tunnel = torch.cat([film[:25], lit(film[25:40], 0.12), lit(film[40:43], 1.2), film[43:]])
    assert find_cuts(tunnel) == ()
    assert find_cuts(torch.cat([film[:30], lit(film[30:], 0.6)])) == ()
    caption = film.clone()
    caption[33:, :, 50:66, 20:110] = torch.tensor([0, 255]).repeat(45).byte()
    assert find_cuts(caption) == ()


@pytest.mark.parametrize("step", [1, 3])
def test_a_cut_is_found_where_frames_are_stored_again_or_in_the_dark(step):
    film = torch.cat([landscape(30, 5, step), landscape(30, 6, step)])
    assert find_cuts(film) == (30,)
    assert find_cuts(film.repeat_interleave(2, 0)) == (60,)
    assert find_cuts(film.repeat_interleave(torch.tensor([1, 1, 1, 2] * 15), 0)) == (37,)
    assert find_cuts(lit(film, 0.2)) == (30,)
    assert find_cuts(torch.cat([film[:30], lit(film[30:], 0.25)])) == (30,)


@pytest.mark.skipif(not FOOTAGE.exists(), reason="the shared footage is not beside this checkout")
def test_cuts_of_real_film():
    assert {53, 70} <= set(rt.open_film(FOOTAGE / "nuscenes_a", SIZE, gap=1).cuts)
    assert rt.open_film(FOOTAGE / "camvid_0001TP", SIZE, gap=1).cuts == ()  # a time lapse is no row of cuts


@pytest.mark.skipif(not FOOTAGE.exists(), reason="the shared footage is not beside this checkout")
def test_no_cut_on_a_winding_road(tmp_path):
    folder = tmp_path / "forest"
    folder.mkdir()
    for file in sorted((FOOTAGE / "forest_road").glob("*.jpg"))[:200]:
        (folder / file.name).symlink_to(file)
    film = rt.open_film(folder, SIZE)
    assert len(film.frames) == 200 and film.cuts == () and film.gap <= 6


@pytest.mark.parametrize("T, cuts", [(100, ()), (100, (30, 80)), (57, (10, 11, 50)), (200, (160,))])
@pytest.mark.parametrize("gap", [1, 3, 8])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_parts_are_apart_and_whole(T, cuts, gap, n):
    film = rt.Film(torch.zeros(T, 3, 8, 8, dtype=torch.uint8), cuts, gap, None, (0,), "film", "")
    for share in (0.0, 0.2, 0.35):
        border = T - int(T * share)
        train, held, both = (film.starts(n, part, share) for part in ("train", "held_out", "all"))
        last = train.max().item() + film.span(n) - 1 if len(train) else -1
        if share:
            assert last < border and border - last > film.span(n)
        assert not len(held) or (held.min() >= border and held.max() + film.span(n) <= T)
        assert set(train.tolist()) | set(held.tolist()) <= set(both.tolist())
        for t in both.tolist():
            assert not any(t < c <= t + film.span(n) - 1 for c in cuts)


def test_training_never_sees_what_is_held_out():
    """Over many films of several drives: what is held out is exactly the last share of each drive, training film ends
    at least a clip's span earlier, no clip straddles a cut, and none that could be is missing."""
    draw = random.Random(0)
    for _ in range(400):
        lengths = [draw.randint(1, 90) for _ in range(draw.randint(1, 3))]
        drives = [sum(lengths[:i]) for i in range(len(lengths))]
        T, gap, n = sum(lengths), draw.randint(1, 9), draw.randint(1, 4)
        cuts = {*drives[1:], *(draw.randrange(1, T) for _ in range(draw.randint(0, 4)) if T > 1)}
        share = draw.choice([Fraction(k, 20) for k in range(20)] + [Fraction(29, 100), Fraction(1, 3)])
        frames = torch.zeros(T, 3, 8, 8, dtype=torch.uint8)
        film = rt.Film(frames, tuple(sorted(cuts)), gap, None, tuple(drives), "film", "")
        held = {t for a, length in zip(drives, lengths) for t in range(a + length - int(length * share), a + length)}
        assert set(film.starts(1, "held_out", float(share)).tolist()) == held
        span = film.span(n)
        whole = {t for t in range(T - span + 1) if not any(t < c < t + span for c in cuts)}
        train, kept, both = (film.starts(n, part, float(share)).tolist() for part in ("train", "held_out", "all"))
        assert both == sorted(whole)
        assert kept == sorted(t for t in whole if {t, t + span - 1} <= held)

        borders = [a + length - int(length * share) for a, length in zip(drives, lengths)]
        ends = [a + length for a, length in zip(drives, lengths)]
        # the last frame of training film before each held-out stretch, plus one
        ends = [b if b == end else b - span for b, end in zip(borders, ends)]
        expected = {t for t in whole for a, end in zip(drives, ends) if a <= t <= end - span}
        assert train == sorted(expected)
        assert not held & {t + k * gap for t in train for k in range(n)}


def test_scenery_holds_out_whole_drives():
    film = rt.open_film("scenery", SIZE)
    assert len(film.cuts) == 4
    assert film.starts(1, "held_out").min() == film.cuts[-1]
    assert film.starts(3, "train").max() + 2 * film.span(3) == film.cuts[-1]


@pytest.mark.parametrize("share", [-0.1, 1.01, 5, float("nan"), float("inf")])
def test_no_more_than_a_whole_drive_is_held_out(share):
    frames = torch.zeros(20, 3, 8, 8, dtype=torch.uint8)
    film = rt.Film(frames, (10,), 1, None, (0, 10), "film", "", (), ("a", "b"))
    for call in (lambda: film.starts(2, "held_out", share), lambda: film.unseen_starts(2, [("b", share)])):
        with pytest.raises(rt.RoadtripError, match="must be from 0 to 1"):
            call()
    assert film.starts(10, "held_out", 1).tolist() == [0, 10] and not len(film.starts(1, "train", 1))


@pytest.mark.parametrize("T", range(3, 10))
@pytest.mark.parametrize("still", [True, False])
def test_films_of_three_to_nine_frames(tmp_path, T, still):
    """Nothing may be held out, nothing may move: numbers stay finite and nothing is raised."""
    pictures = [plain(7)] * T if still else [p for s in range(T) for p in slide(1, s)]
    film = rt.open_film(folder_of(tmp_path, pictures), SIZE)
    summary = film.describe()
    assert film.gap == summary.suggested_gap == 1 and 0 <= summary.copy_last_psnr <= 100 and "dB" in summary.sentence()
    assert not still or summary.copy_last_psnr == 100
    for n in (1, 2, 3, T, T + 1):
        for share in (0, 0.01, 0.2, 1):
            border = T - int(T * share)
            starts = film.starts(n, "held_out", share)
            assert starts.tolist() == [t for t in film.starts(n, "all").tolist() if t >= border]
            assert film.clips(evenly_spaced(starts, 5), n).shape == (min(5, len(starts)), n, 3, *SIZE)


def test_clips_are_a_gap_apart():
    frames = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1).expand(50, 3, 8, 8)
    film = rt.Film(frames, (), 4, None, (0,), "film", "")
    assert film.clips(torch.tensor([0, 7]), 3)[:, :, 0, 0, 0].tolist() == [[0, 4, 8], [7, 11, 15]]


def test_suggested_gap_is_like_a_time_lapse(tmp_path):
    """A slow film is suggested a larger gap than a fast one."""
    slow = rt.open_film(folder_of(tmp_path, slide(120, step=1), "slow"), SIZE)
    fast = rt.open_film(folder_of(tmp_path, slide(120, step=4), "fast"), SIZE)
    assert slow.gap > fast.gap >= 1 and slow.describe().suggested_gap == slow.gap
    assert slow.describe().copy_last_psnr > rt.open_film(slow, SIZE, gap=slow.gap + 2).describe().copy_last_psnr
    assert "A gap of" in slow.with_gap(1).describe().sentence() and 16 * slow.gap <= 120
    assert rt.open_film(folder_of(tmp_path, slide(3), "tiny"), SIZE).gap == 1
    assert rt.open_film(folder_of(tmp_path, [plain(5)] * 40, "still"), SIZE).gap >= 1


# --- which source it is -----------------------------------------------------------------------------------------------


def zip_of(path: Path, folder: Path, kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for file in folder.iterdir():
            archive.write(file, f"another/place/{file.name}")
    return path


def test_a_source_is_the_same_at_every_size_and_gap_and_wherever_it_lies(tmp_path):
    folder = folder_of(tmp_path, slide(30))
    (one,) = rt.open_film(folder, SIZE, gap=1).drive_ids
    assert len(one) == 64 and one != rt.open_film(folder, SIZE, gap=1).fingerprint
    films = [rt.open_film(folder, (24, 40), gap=1), rt.open_film(folder, SIZE, gap=3), rt.open_film(folder, SIZE)]
    films += [rt.open_film(film, (72, 128)).with_gap(2) for film in films]
    films += [rt.open_film(film.save(tmp_path / f"{i}.film"), (32, 32)) for i, film in enumerate(films)]
    for i, kind in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        films.append(rt.open_film(zip_of(tmp_path / f"{i}.zip", folder, kind), SIZE, gap=1, cache=bool(i)))
    films.append(rt.open_film(folder.rename(tmp_path / "renamed"), SIZE, gap=1))
    assert [film.drive_ids for film in films] == [(one,)] * len(films)
    assert len({film.fingerprint for film in films}) > 1


def test_another_source_is_another(tmp_path):
    """One still changed, one fewer, two in another order; one that is damaged is as good as not there."""
    folder = folder_of(tmp_path, slide(12))
    ids = [rt.open_film(folder, SIZE, gap=1).drive_ids]
    slide(1, 1)[0].save(folder / "frame11.png")
    ids.append(rt.open_film(folder, SIZE, gap=1).drive_ids)
    (folder / "frame11.png").unlink()
    ids.append(rt.open_film(folder, SIZE, gap=1).drive_ids)
    (folder / "frame11.png").write_bytes(b"damaged")
    assert rt.open_film(folder, SIZE, gap=1).drive_ids == ids[-1]
    (folder / "frame0.png").rename(folder / "frame2000.png")
    ids.append(rt.open_film(folder, SIZE, gap=1).drive_ids)
    assert len(set(ids)) == 4


@pytest.mark.parametrize("at", [0, 2**15, -1])
def test_a_still_far_larger_than_what_is_looked_at(tmp_path, at):
    """Uncompressed, so that one byte changes neither its length nor any other byte."""
    folder = folder_of(tmp_path, [plain(5, (480, 288))] * 3, suffix="bmp")
    one = rt.open_film(folder, SIZE, gap=1).drive_ids
    data = bytearray((folder / "frame1.bmp").read_bytes())
    assert len(data) > 6 * decode.ENDS // 2
    data[54 if at == 0 else at] ^= 1
    (folder / "frame1.bmp").write_bytes(data)
    assert rt.open_film(folder, SIZE, gap=1).drive_ids != one


def test_a_video_is_the_same_under_another_name_and_a_resumed_import_too(tmp_path, monkeypatch):
    video = mp4(tmp_path / "trip.mp4", slide(20))
    one = rt.open_film(video, SIZE, gap=1)
    assert rt.open_film(video.rename(tmp_path / "b.mp4"), (24, 40), gap="0.1s").drive_ids == one.drive_ids
    assert rt.open_film(mp4(tmp_path / "c.mp4", slide(20, 1)), SIZE, gap=1).drive_ids != one.drive_ids
    folder = folder_of(tmp_path, slide(30))
    whole = rt.open_film(folder, SIZE, gap=1, cache=False)
    monkeypatch.setattr("roadtrip.decode.KEEP_EVERY", 10)

    with pytest.raises(KeyboardInterrupt):
        rt.open_film(folder, SIZE, gap=1, progress=killed_at_30)
    assert rt.open_film(folder, SIZE, gap=1).drive_ids == whole.drive_ids


def test_joined_films_and_the_road_know_their_sources(tmp_path):
    a, b = (rt.open_film(folder_of(tmp_path, slide(12, s), str(s)), SIZE, gap=1) for s in (0, 1))
    joined = rt.open_film([a, b, a], SIZE, gap=1)
    assert joined.drive_ids == (*a.drive_ids, *b.drive_ids, *a.drive_ids)
    assert rt.open_film(joined.save(tmp_path / "x.film"), (24, 40)).drive_ids == joined.drive_ids
    road = hashlib.sha256(f"scenery {scenery.VERSION} 0".encode()).hexdigest()
    assert {rt.open_film("scenery", size).drive_ids for size in ((16, 16), (16, 24))} == {(road,)}
    assert rt.open_film("scenery:7", (16, 16)).drive_ids != (road,)


def test_a_film_file_from_before_sources_were_known(tmp_path):
    frames = torch.zeros(10, 3, *SIZE, dtype=torch.uint8)
    facts = GOOD | {"fingerprint": "ab" * 32, "cuts": [5], "drives": [0, 5]}
    save_file({"frames": frames}, tmp_path / "x.film", {"film": json.dumps(facts)})
    assert rt.open_film(tmp_path / "x.film", SIZE).drive_ids == ("ab" * 32,) * 2


def test_unseen_starts_by_hand():
    film = rt.Film(torch.zeros(20, 3, 8, 8, dtype=torch.uint8), (10,), 2, None, (0, 10), "film", "", (), ("a", "b"))
    everything = [*range(6), *range(10, 16)]
    assert film.unseen_starts(3, []).tolist() == film.unseen_starts(3, [(("c",), 0.2)]).tolist() == everything
    assert film.unseen_starts(3, [(("a",), 0.5)]).tolist() == [5, *range(10, 16)]
    assert film.unseen_starts(3, [(("a",), 0.5), (("b",), 0.6)]).tolist() == [5, 14, 15]
    assert film.unseen_starts(3, [(("b", "a"), 0.6), (("x", "b"), 0.5)]).tolist() == [4, 5, 15]
    assert film.unseen_starts(3, [(("a", "b"), 0.0)]).tolist() == []
    twice = replace(film, drive_ids=("a", "a"))
    assert twice.unseen_starts(3, [(("a",), 0.5)]).tolist() == [5, 15]


def test_unseen_starts_are_those_no_model_was_trained_on():
    """Against a loop over every start, every model and every frame."""
    draw = random.Random(0)
    for _ in range(300):
        lengths = [draw.randint(1, 60) for _ in range(draw.randint(1, 4))]
        drives = [sum(lengths[:i]) for i in range(len(lengths))]
        T, gap, n = sum(lengths), draw.randint(1, 6), draw.randint(1, 4)
        cuts = tuple(sorted({*drives[1:], *(draw.randrange(1, T) for _ in range(draw.randint(0, 3)) if T > 1)}))
        ids = tuple(draw.choice("abcd") for _ in drives)
        frames = torch.zeros(T, 3, 8, 8, dtype=torch.uint8)
        film = rt.Film(frames, cuts, gap, None, tuple(drives), "film", "", (), ids)
        shares = [Fraction(k, 10) for k in range(10)]
        models = [(draw.choices("abcde", k=draw.randint(0, 3)), draw.choice(shares)) for _ in range(draw.randint(0, 3))]

        def unseen(t, models=models, drives=drives, lengths=lengths, ids=ids):
            (d,) = [d for d, a in enumerate(drives) if a <= t < a + lengths[d]]
            return all(
                ids[d] not in known or t >= drives[d] + lengths[d] - int(lengths[d] * share) for known, share in models
            )

        span = film.span(n)
        expected = [
            t
            for t in range(T - span + 1)
            if not any(t < c < t + span for c in cuts) and all(unseen(t + k) for k in range(span))
        ]
        found = film.unseen_starts(n, [(known, float(share)) for known, share in models])
        assert found.dtype == torch.int64 and found.tolist() == expected


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_process_never_finds_a_road_that_other_vectors_rendered(tmp_path):
    """Some of its pixels would be another rounding, and a training on it another training."""
    code = (
        "import sys, hashlib, roadtrip as rt\n"
        "for kept in (True, False):\n"
        "    frames = rt.open_film('scenery', size=(24, 40), cache=kept).frames\n"
        "    print(hashlib.sha256(frames.contiguous().numpy().tobytes()).hexdigest())\n"
    )
    for more in ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}):
        env = {k: v for k, v in os.environ.items() if k not in sources.VECTOR_SETTINGS}
        command = [sys.executable, "-c", code]
        out = subprocess.run(
            command, env=env | more | {"ROADTRIP_CACHE": str(tmp_path)}, capture_output=True, text=True, check=True
        ).stdout.split()
        assert out[0] == out[1]
    assert len(list((tmp_path / "films").glob("*.film"))) == 2


def test_scenery_is_the_road_whatever_lies_in_the_working_folder(tmp_path, monkeypatch):
    """scenery:7 is seed 7; a folder of that name is opened by a path."""
    folder_of(tmp_path, slide(9), "scenery"), folder_of(tmp_path, slide(9), "scenery:7")
    monkeypatch.chdir(tmp_path)
    for source, name in (("scenery", "scenery"), ("scenery:7", "scenery:7"), ("scenery:07", "scenery:7")):
        film = rt.open_film(source, (16, 16))
        assert len(film.frames) == 1500 and film.gap == scenery.DEFAULT_GAP and film.name == name
    assert rt.open_film("scenery:0", (16, 16)).drive_ids == rt.open_film("scenery", (16, 16)).drive_ids
    for source in ("./scenery", Path("scenery"), "./scenery:7", Path("scenery:7")):
        assert len(rt.open_film(source, (16, 16), gap=1).frames) == 9


def test_opened_again_without_reading(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, slide(10))
    first = rt.open_film(folder, SIZE, gap=1)
    monkeypatch.setattr("roadtrip.sources.read_footage", lambda *_: pytest.fail("read again"))
    again = rt.open_film(folder, SIZE, gap=2)
    assert torch.equal(first.frames, again.frames) and again.gap == 2 and first.fingerprint == again.fingerprint


def test_a_killed_import_goes_on_where_it_was(tmp_path, monkeypatch):
    """Killed after 20 of 30 stills: the second time the first 20 are not read again, and the film is the same."""
    folder = folder_of(tmp_path, slide(30))
    (folder / "frame7.png").write_bytes(b"no picture")
    whole = rt.open_film(folder, SIZE, gap=1, cache=False)
    monkeypatch.setattr("roadtrip.decode.KEEP_EVERY", 10)
    read, seen = decode.read_still, []

    def counted(file, size):
        seen.append(1)
        return read(file, size)

    monkeypatch.setattr("roadtrip.decode.read_still", counted)

    with pytest.raises(KeyboardInterrupt):
        rt.open_film(folder, SIZE, gap=1, progress=killed_at_30)
    (settled,) = (tmp_path / "cache").rglob("done")
    assert settled.read_text() == "20"
    seen.clear()
    film = rt.open_film(folder, SIZE, gap=1)
    assert len(seen) == 10
    assert torch.equal(film.frames, whole.frames) and film.skipped == whole.skipped == ("frame7.png",)
    assert not settled.parent.exists()


def test_an_import_that_is_killed_beside_its_whole_film_leaves_nothing(tmp_path, monkeypatch):
    """Before it has removed what was read so far: the next one reads nothing, and does that."""
    folder = folder_of(tmp_path, slide(30))

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(sources, "shutil", SimpleNamespace(rmtree=kill))
        rt.open_film(folder, SIZE, gap=1)
    assert {file.suffix for file in (tmp_path / "cache" / "films").iterdir()} == {".film", ".unfinished", ".lock"}
    monkeypatch.setattr("roadtrip.sources.read_footage", lambda *_: pytest.fail("read again"))
    assert len(rt.open_film(folder, SIZE, gap=1).frames) == 30
    assert {file.suffix for file in (tmp_path / "cache" / "films").iterdir()} == {".film", ".lock"}


def test_imports_of_one_folder_at_once_read_it_once(tmp_path, monkeypatch):
    """Two threads stand for two processes: a lock on a file keeps both alike apart."""
    folder = folder_of(tmp_path, slide(30))
    whole = rt.open_film(folder, SIZE, gap=1, cache=False)
    read, seen, notes = decode.read_still, [], []

    def slow(file, size):
        seen.append(1)
        sleep(0.05)
        return read(file, size)

    monkeypatch.setattr("roadtrip.decode.read_still", slow)
    with ThreadPoolExecutor(2) as pool:
        imports = [
            pool.submit(rt.open_film, folder, SIZE, gap=1, progress=lambda *said: notes.append(said[-1])) for _ in "ab"
        ]
        films = [done.result(timeout=60) for done in imports]
    assert all(torch.equal(film.frames, whole.frames) and not film.skipped for film in films)
    assert len(seen) == 30
    assert "waiting for another import of this film" in notes


def test_the_cache_does_not_depend_on_the_text_of_the_code(tmp_path, monkeypatch):
    """A comment edited in the package must not read every film again."""
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(self.name) if self.suffix == ".py" else read(self))
    folder = folder_of(tmp_path, slide(6))
    rt.open_film(folder, SIZE, gap=1)
    assert kept(tmp_path)[0].endswith(f"-v{sources.VERSION}.film")
    monkeypatch.setattr("roadtrip.sources.VERSION", sources.VERSION + 1)
    rt.open_film(folder, SIZE, gap=1)
    assert [name.rpartition("-v")[2] for name in kept(tmp_path)] == [f"{sources.VERSION}.film"]


def test_a_changed_source_or_damaged_cache_is_read_again(tmp_path):
    folder = folder_of(tmp_path, slide(10))
    rt.open_film(folder, SIZE, gap=1)
    plain(1).save(folder / "frame10.png")
    assert len(rt.open_film(folder, SIZE, gap=1).frames) == 11
    for file in (tmp_path / "cache" / "films").glob("*.film"):
        file.write_bytes(file.read_bytes()[:100])
    assert len(rt.open_film(folder, SIZE, gap=1).frames) == 11


def kept(tmp_path: Path) -> list[str]:
    """What the cache holds but for its locks."""
    return sorted(f.name for f in (tmp_path / "cache" / "films").iterdir() if f.suffix != ".lock")


def aged(path: Path, days: float) -> Path:
    for file in (path, *path.rglob("*")):
        os.utime(file, (time() - days * 86400,) * 2)
    return path


def test_films_unused_for_long_leave_the_cache(tmp_path):
    """Each import removes what nobody opened for 60 days; opening a film is using it."""
    folders = [folder_of(tmp_path, slide(6, s), str(s)) for s in range(3)]
    first = rt.open_film(folders[0], SIZE, gap=1)
    (name,) = kept(tmp_path)
    for days in (59, 61):
        aged(tmp_path / "cache" / "films" / name, days)
        rt.open_film(folders[1 if days < 60 else 0], SIZE, gap=1)
        assert name in kept(tmp_path) and len(kept(tmp_path)) == 2
    before = first.frames.clone()
    aged(tmp_path / "cache" / "films" / name, 61)
    rt.open_film(folders[2], SIZE, gap=1)
    assert name not in kept(tmp_path) and len(kept(tmp_path)) == 2
    assert torch.equal(first.frames, before)  # whoever has it open keeps it


def test_the_longest_unused_films_leave_a_cache_over_its_size(tmp_path, monkeypatch):
    one = 6 * 3 * SIZE[0] * SIZE[1]  # bytes of a film's frames
    monkeypatch.setattr("roadtrip.sources.MAX_BYTES", int(2.5 * one))
    names = []
    for s, days in enumerate((1, 3, 2, 0)):
        rt.open_film(folder_of(tmp_path, slide(6, s), str(s)), SIZE, gap=1)
        (name,) = {*kept(tmp_path)} - {*names}
        names.append(name)
        aged(tmp_path / "cache" / "films" / name, days)
        wanted = [{0}, {0, 1}, {0, 2}, {0, 3}][s]
        assert kept(tmp_path) == sorted(names[i] for i in wanted)
    monkeypatch.setattr("roadtrip.sources.MAX_BYTES", one // 2)  # even then the film just made is kept
    rt.open_film(folder_of(tmp_path, slide(6, 9), "last"), SIZE, gap=1)
    assert len(kept(tmp_path)) == 1 and kept(tmp_path)[0] not in names


def test_what_older_versions_and_dead_imports_left_leaves_the_cache(tmp_path):
    films = tmp_path / "cache" / "films"
    a, b, c, d, e = ("0123456789abcdef" * 2, "1" * 32, "2" * 32, "3" * 32, "4" * 32)
    newer = f"-v{sources.VERSION}"
    old = [f"{a}.film", f"{a}.lock", f"{b}-v1.film", f".{c}{newer}-ab12.film", f"{d}{newer}.unfinished"]
    for name in (*old, f"{e}{newer}.unfinished", "notes.txt", "my.film"):
        file = films / name / "frames" if name.endswith("unfinished") else films / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    for name in (f".{c}{newer}-ab12.film", f"{d}{newer}.unfinished", "notes.txt", "my.film"):
        aged(films / name, 100)
    rt.open_film(folder_of(tmp_path, slide(6)), SIZE, gap=1)
    found = {f.name for f in films.iterdir()}
    assert not found & set(old) and {f"{e}{newer}.unfinished", "notes.txt", "my.film"} <= found


def test_a_film_that_is_being_imported_stays(tmp_path):
    films = tmp_path / "cache" / "films"
    films.mkdir(parents=True)
    for start in ("aa", "bb"):
        (films / f"{start:0<32}-v1.film").write_bytes(b"12345")
    with FileLock(films / "aa.lock"):
        sources._evict(films, "")
    assert [name[:2] for name in kept(tmp_path) if "-v1" in name] == ["aa"]


def test_a_film_that_cannot_be_removed_does_no_harm(tmp_path, monkeypatch):
    """As on Windows, where a file that is open stays."""
    films = tmp_path / "cache" / "films"
    films.mkdir(parents=True)
    (films / f"{'a' * 32}-v1.film").write_bytes(b"12345")

    def busy(self, missing_ok=False):
        if "-v1" in self.name:
            raise PermissionError(13, "in use", str(self))
        unlink(self, missing_ok)

    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", busy)
    assert len(rt.open_film(folder_of(tmp_path, slide(6)), SIZE, gap=1).frames) == 6
    assert len(kept(tmp_path)) == 2


def test_frames_read_are_those_of_this_version(tmp_path):
    """The cache keeps films by VERSION: whoever changes how a still, a video or a cut is read raises it and puts the
    new numbers here. Waves finer than a pixel of the film, so that another filter, crop or rounding shows."""
    y, x = np.mgrid[0:420, 0:640] / 40
    waves = np.stack([np.sin(9 * x + y * y), np.sin(x * x / 2 + 7 * y), np.sin(x * y)], 2)
    pictures = [Image.fromarray((waves * k + 128).astype(np.uint8)) for k in (120, 90, 60)]
    sideways = Image.Exif()
    sideways[0x0112] = 6
    folder = folder_of(tmp_path, pictures)
    pictures[0].save(folder / "frame3.jpg", quality=95)
    pictures[1].rotate(90, expand=True).save(folder / "frame4.jpg", quality=95, exif=sideways)
    Image.fromarray((waves[..., 0] * 32000 + 32768).astype(np.uint16)).save(folder / "frame5.png")
    video = mp4(tmp_path / "waves.mp4", pictures, 10)
    found = []
    for source in (folder, video):
        x = rt.open_film(source, SIZE, gap=1, cache=False).frames.float()
        found += [x.mean((1, 2, 3)), x.std((1, 2, 3)), sharpness(x), x[:, 1, :9, :9].mean((1, 2))]
    assert sources.VERSION == 3
    expected = [128.4, 128.2, 128.0, 128.3, 128.1, 127.6, 75.6, 56.7, 37.8, 75.6, 56.7, 71.7, 242.9, 182.1, 121.4, 242.9,
                182.2, 280.5, 127.5, 127.5, 127.6, 127.4, 127.4, 126.5, 126.8, 127.4, 126.9, 57.4, 43.2, 28.7, 173.5,
                130.1, 86.3, 125.9, 126.3, 126.8]  # fmt: skip
    assert torch.allclose(torch.cat(found), torch.tensor(expected), rtol=0, atol=0.3)


def test_no_cache_and_a_full_disk(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, slide(10))
    film = rt.open_film(folder, SIZE, gap=1, cache=False)
    assert not (tmp_path / "cache").exists()

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("roadtrip.film.save_file", full)
    assert torch.equal(rt.open_film(folder, SIZE, gap=1).frames, film.frames)
    with pytest.raises(rt.RoadtripError, match=r"x\.film"):
        film.save(tmp_path / "x.film")
    with pytest.raises(rt.RoadtripError, match="deep"):
        film.save(folder / "frame0.png" / "deep.film")
    monkeypatch.setenv("ROADTRIP_CACHE", str(folder / "frame0.png"))
    assert torch.equal(rt.open_film(folder, SIZE, gap=1).frames, film.frames)


def test_a_film_of_another_size(tmp_path):
    """Cropped at the centre, never stretched."""
    picture = Image.new("RGB", (320, 192))
    picture.paste((255, 255, 255), (140, 76, 180, 116))
    film = rt.open_film(folder_of(tmp_path, [picture] * 4), (192, 320), gap=1)
    for size in ((96, 160), (96, 96), (64, 256), (192, 64), (16, 1024), (1024, 16)):
        small = rt.open_film(film, size)
        lit = small.frames[0].float().mean(0) > 127
        rows, columns = lit.any(dim=1).sum().item(), lit.any(dim=0).sum().item()
        assert small.size == size and (abs(rows - columns) <= 1 or max(size) == 1024)
    thin = rt.open_film(rt.open_film(film, (16, 1024)), (1024, 16))
    assert thin.size == (1024, 16)


def test_saved_and_opened(tmp_path):
    film = rt.open_film([folder_of(tmp_path, slide(20, s), str(s)) for s in (0, 1)], SIZE, gap=3)
    again = rt.open_film(film.save(tmp_path / "x.film"), SIZE)
    assert torch.equal(film.frames, again.frames)
    assert (again.gap, again.cuts, again.drives, again.fingerprint) == (3, (20,), (0, 20), film.fingerprint)
    assert rt.open_film(tmp_path / "x.film", (24, 40)).size == (24, 40)
    assert rt.open_film(film, SIZE, gap=1).gap == 1


GOOD = {"cuts": [5], "drives": [0], "gap": 1, "fps": 25.0, "name": "x", "fingerprint": "", "skipped": [], "version": 1}
DAMAGE = {
    "a cut out of range": {"cuts": [99]},
    "cuts of text": {"cuts": "5"},
    "drives out of order": {"drives": [0, 8, 4]},
    "cuts out of order": {"cuts": [8, 4]},
    "a drive without a cut": {"drives": [0, 7]},
    "a negative gap": {"gap": -2},
    "a gap of text": {"gap": "8"},
    "endless frames a second": {"fps": float("inf")},
    "frames a second that are no number": {"fps": float("nan")},
    "negative frames a second": {"fps": -25},
    "many frames a second": {"fps": 10**400},
    "another version": {"version": 99},
    "no name": {"name": ...},
    "a fingerprint that is code": {"fingerprint": "0\nimport os"},
    "too many ids": {"drive_ids": ["0" * 64] * 2},
    "an id that is code": {"drive_ids": ["0" * 64 + "\n"]},
    "an id of a number": {"drive_ids": [5]},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_facts_of_a_film(tmp_path, damage):
    path, frames = tmp_path / "x.film", torch.zeros(10, 3, *SIZE, dtype=torch.uint8)
    save_file({"frames": frames}, path, {"film": json.dumps(GOOD)})
    assert rt.open_film(path, SIZE).cuts == (5,)
    facts = {k: v for k, v in (GOOD | DAMAGE[damage]).items() if v is not ...}
    save_file({"frames": frames}, path, {"film": json.dumps(facts)})
    assert "not a film" in refused(path, tmp_path, gap="0.5s")


def test_damaged_film_files(tmp_path):
    path, kind = tmp_path / "x.film", torch.uint8
    wrong = [torch.zeros(10, 3, *SIZE), torch.zeros(10, 1, *SIZE, dtype=kind), torch.zeros(10, 3, 48, dtype=kind)]
    wrong += [torch.zeros(10, 3, 47, 80, dtype=kind), torch.zeros(10, 3, 0, 80, dtype=kind)]
    for frames in wrong:
        save_file({"frames": frames}, path, {"film": json.dumps(GOOD)})
        assert "not a film" in refused(path, tmp_path)
    frames = torch.zeros(10, 3, *SIZE, dtype=kind)
    for facts in (None, {}, {"film": "["}, {"film": "[]"}, {"film": "[" * 10**6}):
        save_file({"frames": frames}, path, facts)
        assert "not a film" in refused(path, tmp_path)
    save_file({"pictures": frames}, path, {"film": json.dumps(GOOD)})
    assert "not a film" in refused(path, tmp_path)
    whole = rt.open_film(folder_of(tmp_path, slide(10)), SIZE, gap=1).save(path).read_bytes()
    for length in (5000, len(whole) - 1, 40, 9, 8, 0):
        path.write_bytes(whole[:length])
        refused(path, tmp_path)
    path.write_bytes(pickle.dumps({"frames": [1, 2, 3]}))
    assert "not footage" in refused(path, tmp_path)


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(source, tmp_path, gap=1, size=SIZE) -> str:
    with pytest.raises(rt.RoadtripError) as error:
        rt.open_film(source, size, gap=gap)
    said = str(error.value)
    assert "\n" not in said and str(tmp_path) not in said and said.endswith(".")
    return said


def huge_png(path: Path, bits: int = 1, colour: int = 0) -> Path:
    """17000×10000 pixels of nothing, in a few KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * ((17000 // 8 + 1) * 10000), 9)  # all of it at one bit, the top of it at more
    header = struct.pack(">IIBBBBB", 17000, 10000, bits, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_bad_folders(tmp_path):
    assert "no stills" in refused(folder_of(tmp_path, [], "empty"), tmp_path)
    folder_of(folder_of(tmp_path, [], "small"), slide(4), "thumbs")
    assert "thumbnails, previews or deleted: 4 files" in refused(tmp_path / "small", tmp_path)
    assert "at least 3" in refused(folder_of(tmp_path, slide(2), "two"), tmp_path)
    text = folder_of(tmp_path, [], "text")
    (text / "a.jpg").write_text("hello")
    assert "None of the 1 stills" in refused(text, tmp_path)
    assert "can be read" in refused(text / "a.jpg", tmp_path)
    assert "nothing called nowhere" in refused(tmp_path / "nowhere", tmp_path)
    for source in ("a" * 5000, "~nobody-of-that-name/trip", tmp_path / "two" / "frame0.png" / "x.png"):
        refused(source, tmp_path)


@pytest.mark.parametrize("bits, colour", [(1, 0), (8, 2), (16, 6)])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch, bits, colour):
    """17000×10000 pixels would be half a gigabyte."""
    folder = folder_of(tmp_path, [])
    huge_png(folder / "a.png", bits, colour)
    loaded, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: loaded.append(self.size) or load(self))
    began = monotonic()
    assert "None of the 1 stills" in refused(folder, tmp_path)
    assert monotonic() - began < 1 and (17000, 10000) not in loaded
    slide(1)[0].save(folder / "b.png")  # a good one is decoded
    assert "at least 3" in refused(folder, tmp_path) and set(loaded) == {(80, 48)}


def test_a_folder_that_must_not_be_read(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, slide(4))

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    assert "trip" in refused(folder, tmp_path)


def test_bad_videos(tmp_path):
    whole = mp4(tmp_path / "trip.mp4", slide(30)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:2000])
    assert "not a readable video" in refused(tmp_path / "cut.mp4", tmp_path)
    assert "at least 3" in refused(mp4(tmp_path / "one.mp4", slide(1)), tmp_path)
    for length in (200, len(whole) // 2):
        (tmp_path / "cut.mp4").write_bytes(whole[:length])
        assert "cut.mp4" in refused(tmp_path / "cut.mp4", tmp_path)
    (tmp_path / "text.mov").write_text("hello")
    assert "video" in refused(tmp_path / "text.mov", tmp_path)


def test_bad_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * (2**28 + 1))
    assert "not a zip of stills" in refused(tmp_path / "bomb.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "no stills" in refused(tmp_path / "none.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("a.jpg", "hello")
    assert "None of the 1 stills in bad.zip" in refused(tmp_path / "bad.zip", tmp_path)
    (tmp_path / "no.zip").write_bytes(pickle.dumps([1, 2, 3]))
    assert "not a readable zip" in refused(tmp_path / "no.zip", tmp_path)
    (tmp_path / "film.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    assert "not footage" in refused(tmp_path / "film.pkl", tmp_path)


def test_a_zip_that_cannot_be_read_says_why(tmp_path):
    folder = folder_of(tmp_path, slide(4))
    data = zip_of(tmp_path / "a.zip", folder).read_bytes()
    for flag, at_local, at_directory, says in ((1, 6, 8, "password"), (9, 8, 10, "Deflate64"), (97, 8, 10, "pack it")):
        changed = bytearray(data)
        for mark, at in ((b"PK\3\4", at_local), (b"PK\1\2", at_directory)):
            found = -1
            while (found := data.find(mark, found + 1)) >= 0:
                changed[found + at] = flag
        (tmp_path / "a.zip").write_bytes(changed)
        assert says in refused(tmp_path / "a.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "night.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for i in range(5):
            plain(i, (1600, 900)).save(folder / "night.bmp")
            archive.write(folder / "night.bmp", f"{i}.bmp")
    assert greys(rt.open_film(tmp_path / "night.zip", SIZE, gap=1)) == [*range(5)]


def test_damaged_zips(tmp_path):
    """Whatever byte of a zip is damaged: its good stills, or a sentence."""
    folder, path = folder_of(tmp_path, slide(4)), tmp_path / "trip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, file in enumerate(sorted(folder.iterdir())):
            archive.write(file, f"främe{i}.png")
    whole, draw = path.read_bytes(), random.Random(0)
    directory = whole.index(b"PK\1\2")
    for at in range(directory, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([draw.randrange(256)]) + whole[at + 1 :])
        try:
            assert 3 <= len(rt.open_film(path, SIZE, gap=1, cache=False).frames) <= 4
        except rt.RoadtripError as error:
            assert "\n" not in str(error) and str(tmp_path) not in str(error)


def test_bad_arguments(tmp_path):
    folder = folder_of(tmp_path, slide(10))
    assert "too short for gap 8" in refused(folder, tmp_path, gap=8)
    assert "needs a video" in refused(folder, tmp_path, gap="0.5s")
    for gap in (0, -3, "often", 1.5, "0", "", "s", [8], "8" * 5000):
        assert "is not a gap" in refused(folder, tmp_path, gap=gap)
    video = mp4(tmp_path / "trip.mp4", slide(10))
    assert "too short" in refused(video, tmp_path, gap="0.5s") and "too short" in refused(video, tmp_path, gap=10**30)
    for gap in ("0s", "nans", "-1s", "infs"):
        assert "is not a gap" in refused(video, tmp_path, gap=gap)
    for size in ((47, 80), (8, 8), (48, 80.0), (4096, 4096), (48,), (), None, 48, "ab", (0, 0)):
        assert "divisible by 8" in refused(folder, tmp_path, size=size)
    for source in (None, 3, [], {}, [None], [[folder]], [folder, 3], b"trip", "", " "):
        refused(source, tmp_path)
    for source in ("scenery:x", "scenery:-1", "scenery:²", "scenery:" + "9" * 99, "scenery:1:2"):
        assert "not scenery" in refused(source, tmp_path)


def test_two_stills_of_a_longer_film_are_read(tmp_path):
    """Two stills are no film, but part of one."""
    film = rt.open_film([folder_of(tmp_path, slide(2), "two"), folder_of(tmp_path, slide(9), "nine")], SIZE, gap=1)
    assert film.cuts == (2,) and film.starts(3, "all").min() == 2


def test_films_of_different_gaps_keep_their_own(tmp_path):
    """Joined, every clip is a clip of one of them at its own gap, and the same stretch of road is held out."""

    def film(n, gap, value, cuts=()):
        frames = torch.zeros(n, 3, 16, 16, dtype=torch.uint8)
        frames[:, 0] = torch.arange(n)[:, None, None]
        frames[:, 1] = value
        return rt.Film(frames, cuts, gap, 30.0, (0,), f"film {value}", f"{value:064x}")

    films = film(60, 4, 1, cuts=(21,)), film(50, 3, 2)
    saved = [f.save(tmp_path / f"{i}.film") for i, f in enumerate(films)]
    joined = rt.open_film(saved, size=(16, 16))
    assert joined.gap == 1 and len(joined.frames) == 110 and len(joined.drives) == 4 + 3
    assert joined.drive_ids == films[0].drive_ids * 4 + films[1].drive_ids * 3

    def clips(of, part):
        found = of.clips(of.starts(3, part), 3)[:, :, :2, 0, 0]
        return sorted(tuple(map(tuple, clip.tolist())) for clip in found)

    assert clips(joined, "all") == sorted(clips(films[0], "all") + clips(films[1], "all"))
    for value, of in enumerate(films, 1):
        last = [clip[0][0] for clip in clips(joined, "held_out") if clip[0][1] == value]
        border = len(of.frames) * 0.8
        assert last and min(last) >= border - 4
        assert max(clip[2][0] for clip in clips(joined, "train") if clip[0][1] == value) < border
    assert rt.open_film(saved, size=(16, 16), gap=2).gap == 2
    assert len(rt.open_film(saved, size=(16, 16), gap=2).drives) == 2
