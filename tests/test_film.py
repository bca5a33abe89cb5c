"""Film: what is read, in which order, where it is cut, what is held out, and what is refused in one sentence."""

import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

import roadtrip as rt
from roadtrip.film import find_cuts

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


def greys(film: rt.Film) -> list[int]:
    return film.frames.float().mean(dim=(1, 2, 3)).round().int().tolist()


def plain(grey: int, size=(80, 48)) -> Image.Image:
    return Image.new("RGB", size, (grey, grey, grey))


def mp4(path: Path, pictures, fps: int = 20) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
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


def test_exif_time_orders_where_all_have_one(tmp_path):
    folder = folder_of(tmp_path, [plain(0)] * 3)
    for i, grey in enumerate((100, 50, 10)):
        exif = Image.Exif()
        exif[0x8769] = {36867: f"2019:06:0{3 - i} 10:00:00"}
        plain(grey).save(folder / f"frame{i}.png", exif=exif)
    assert greys(rt.open_film(folder, SIZE, gap=1)) == [10, 50, 100]
    plain(100).save(folder / "frame0.png")
    assert greys(rt.open_film(folder, SIZE, gap=1)) == [100, 50, 10]


def test_orientation_is_honoured(tmp_path):
    upright = Image.new("RGB", (80, 48))
    upright.paste((255, 255, 255), (0, 0, 80, 24))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left: shown turned right
    folder = folder_of(tmp_path, [upright] * 3)
    upright.rotate(90, expand=True).save(folder / "frame1.jpg", exif=exif, quality=95)
    frames = rt.open_film(folder, SIZE, gap=1).frames.float()
    assert (frames[:, :, :20].mean() > 240) and (frames[:, :, 28:].mean() < 15)


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


def test_grey_16_bit_palette_alpha_cmyk(tmp_path):
    folder = folder_of(tmp_path, [plain(128)])
    Image.fromarray(np.full((48, 80), 128 * 257, dtype=np.uint16)).save(folder / "frame1.png")
    plain(128).convert("L").save(folder / "frame2.png")
    plain(128).convert("P").save(folder / "frame3.png")
    plain(128).convert("CMYK").save(folder / "frame4.jpg")
    Image.new("RGBA", (80, 48), (255, 255, 255, 128)).save(folder / "frame5.png")
    Image.new("LA", (80, 48), (255, 0)).save(folder / "frame6.png")
    film = rt.open_film(folder, SIZE, gap=1)
    assert film.skipped == ()
    assert [abs(g - 128) <= 2 for g in greys(film)[:6]] == [True] * 6 and greys(film)[6] == 0


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
        archive.writestr("__MACOSX/._evil0.png", b"nothing")
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    film = rt.open_film(path, SIZE, gap=1)
    assert len(film.frames) == 5 and film.skipped == ("bad.jpg",)
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before


def test_video_keeps_every_frame_and_knows_seconds(tmp_path):
    pictures = slide(40)
    film = rt.open_film(mp4(tmp_path / "trip.mp4", pictures), SIZE, gap="0.2s")
    assert film.frames.shape[0] == 40 and film.fps == 20 and film.gap == 4
    assert (film.frames.float() - as_frames(pictures).float()).abs().mean() < 4
    pictures[0].save(tmp_path / "trip.gif", save_all=True, append_images=pictures[1:], duration=50)
    assert len(rt.open_film(tmp_path / "trip.gif", SIZE, gap=1).frames) == 40
    # another shape is cropped, not stretched
    assert rt.open_film(tmp_path / "trip.mp4", (48, 48), gap=1).size == (48, 48)


def test_a_video_that_breaks_off(tmp_path):
    path = tmp_path / "trip.mkv"  # has no index at its end
    data = mp4(path, slide(60)).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    film = rt.open_film(path, SIZE, gap=1)
    assert 3 <= len(film.frames) < 60


def test_several_sources_make_one_film(tmp_path):
    a, b = folder_of(tmp_path, slide(20, 0), "a"), folder_of(tmp_path, slide(30, 1), "b")
    film = rt.open_film([a, b], SIZE, gap=2)
    assert len(film.frames) == 50 and film.cuts == (20,) and film.drives == (0, 20)
    held = film.starts(1, "held_out").tolist()
    assert held == [*range(16, 20), *range(44, 50)]


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


@pytest.mark.skipif(not FOOTAGE.exists(), reason="the shared footage is not beside this checkout")
def test_cuts_of_real_film():
    assert {53, 70} <= set(rt.open_film(FOOTAGE / "nuscenes_a", SIZE, gap=1).cuts)
    assert rt.open_film(FOOTAGE / "camvid_0001TP", SIZE, gap=1).cuts == ()  # a time lapse is no row of cuts


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
            assert last < border and (border in cuts or border - last > film.span(n))
        assert not len(held) or (held.min() >= border and held.max() + film.span(n) <= T)
        assert set(train.tolist()) | set(held.tolist()) <= set(both.tolist())
        for t in both.tolist():
            assert not any(t < c <= t + film.span(n) - 1 for c in cuts)


def test_scenery_holds_out_whole_drives():
    film = rt.open_film("scenery", SIZE)
    assert len(film.cuts) == 4
    assert film.starts(1, "held_out").min() == film.cuts[-1]
    assert film.starts(3, "train").max() + film.span(3) == film.cuts[-1]  # up to the cut: no film is shared across it


def test_clips_are_a_gap_apart():
    frames = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1).expand(50, 3, 8, 8)
    film = rt.Film(frames, (), 4, None, (0,), "film", "")
    assert film.clips(torch.tensor([0, 7]), 3)[:, :, 0, 0, 0].tolist() == [[0, 4, 8], [7, 11, 15]]


def test_suggested_gap_is_like_a_time_lapse(tmp_path):
    """A slow film is suggested a larger gap than a fast one."""
    slow = rt.open_film(folder_of(tmp_path, slide(120, step=1), "slow"), SIZE)
    fast = rt.open_film(folder_of(tmp_path, slide(120, step=4), "fast"), SIZE)
    assert slow.gap >= fast.gap and slow.describe().suggested_gap == slow.gap


# --- files ------------------------------------------------------------------------------------------------------------


def test_opened_again_without_reading(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, slide(10))
    first = rt.open_film(folder, SIZE, gap=1)
    monkeypatch.setattr("roadtrip.film.read_footage", lambda *_: pytest.fail("read again"))
    again = rt.open_film(folder, SIZE, gap=2)
    assert torch.equal(first.frames, again.frames) and again.gap == 2 and first.fingerprint == again.fingerprint


def test_a_changed_source_or_damaged_cache_is_read_again(tmp_path):
    folder = folder_of(tmp_path, slide(10))
    rt.open_film(folder, SIZE, gap=1)
    plain(1).save(folder / "frame10.png")
    assert len(rt.open_film(folder, SIZE, gap=1).frames) == 11
    for file in (tmp_path / "cache" / "films").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert len(rt.open_film(folder, SIZE, gap=1).frames) == 11


def test_saved_and_opened(tmp_path):
    film = rt.open_film([folder_of(tmp_path, slide(20, s), str(s)) for s in (0, 1)], SIZE, gap=3)
    again = rt.open_film(film.save(tmp_path / "x.film"), SIZE)
    assert torch.equal(film.frames, again.frames)
    assert (again.gap, again.cuts, again.drives, again.fingerprint) == (3, (20,), (0, 20), film.fingerprint)
    assert rt.open_film(tmp_path / "x.film", (24, 40)).size == (24, 40)
    assert rt.open_film(film, SIZE, gap=1).gap == 1


@pytest.mark.parametrize("damage", ["cut", "dtype", "cuts", "facts"])
def test_damaged_film_files(tmp_path, damage):
    path = rt.open_film(folder_of(tmp_path, slide(10)), SIZE, gap=1).save(tmp_path / "x.film")
    facts = '{"cuts": [99], "drives": [0], "gap": 1, "fps": null, "name": "", "fingerprint": "", "skipped": [], '
    facts += '"version": 1}'
    frames = torch.zeros(10, 3, 48, 80, dtype=torch.uint8)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        frames = frames.float() if damage == "dtype" else frames
        save_file({"frames": frames}, path, {"film": facts.replace("99", "5") if damage == "dtype" else facts}
                  if damage != "facts" else None)  # fmt: skip
    assert "not a film" in refused(path, tmp_path)


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(source, tmp_path, gap=1, size=SIZE) -> str:
    with pytest.raises(rt.RoadtripError) as error:
        rt.open_film(source, size, gap=gap)
    said = str(error.value)
    assert "\n" not in said and str(tmp_path) not in said and said.endswith(".")
    return said


def huge_png(path: Path) -> Path:
    """17000×10000 pixels of nothing in 21 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * ((17000 // 8 + 1) * 10000), 9)
    header = struct.pack(">IIBBBBB", 17000, 10000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_bad_folders(tmp_path):
    assert "no stills" in refused(folder_of(tmp_path, [], "empty"), tmp_path)
    assert "at least 3" in refused(folder_of(tmp_path, slide(2), "two"), tmp_path)
    text = folder_of(tmp_path, [], "text")
    (text / "a.jpg").write_text("hello")
    assert "None of the 1 stills" in refused(text, tmp_path)
    assert "single still" in refused(text / "a.jpg", tmp_path)
    assert "None of the 1 stills" in refused(huge_png(folder_of(tmp_path, [], "huge") / "a.png").parent, tmp_path)
    assert "nothing called nowhere" in refused(tmp_path / "nowhere", tmp_path)


def test_bad_videos(tmp_path):
    whole = mp4(tmp_path / "trip.mp4", slide(30)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:2000])
    assert "not a readable video" in refused(tmp_path / "cut.mp4", tmp_path)
    assert "at least 3" in refused(mp4(tmp_path / "one.mp4", slide(1)), tmp_path)
    (tmp_path / "text.mov").write_text("hello")
    assert "video" in refused(tmp_path / "text.mov", tmp_path)


def test_bad_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 2**27)
    assert "no zip of stills" in refused(tmp_path / "bomb.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "no stills" in refused(tmp_path / "none.zip", tmp_path)
    (tmp_path / "no.zip").write_bytes(pickle.dumps([1, 2, 3]))
    assert "not a readable zip" in refused(tmp_path / "no.zip", tmp_path)
    (tmp_path / "film.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    assert "not footage" in refused(tmp_path / "film.pkl", tmp_path)


def test_bad_arguments(tmp_path):
    folder = folder_of(tmp_path, slide(10))
    assert "too short for gap 8" in refused(folder, tmp_path, gap=8)
    assert "needs a video" in refused(folder, tmp_path, gap="0.5s")
    for gap in (0, -3, "often", 1.5):
        assert "is no gap" in refused(folder, tmp_path, gap=gap)
    video = mp4(tmp_path / "trip.mp4", slide(10))
    for gap in ("0s", "nans", "-1s", "infs"):
        assert "is no gap" in refused(video, tmp_path, gap=gap)
    for size in ((47, 80), (8, 8), (48, 80.0), (4096, 4096)):
        assert "divisible by 8" in refused(folder, tmp_path, size=size)
    for source in (None, 3, [], {}):
        refused(source, tmp_path)
    assert "no scenery" in refused("scenery:x", tmp_path)
