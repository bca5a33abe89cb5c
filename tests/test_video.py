"""A video as frames: which track, each frame once, upright, in sRGB, whole, and how many a second."""

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import roadtrip as rt
from roadtrip import video

SIZE = (48, 80)
PATCHES = np.array([(190, 40, 50), (40, 150, 60), (50, 70, 190), (120, 120, 120)])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROADTRIP_CACHE", str(tmp_path / "cache"))


def patches(width: int = 160, height: int = 96) -> np.ndarray:
    """Red, green, blue and grey in the four quarters, uint8 [H, W, 3]."""
    return PATCHES.reshape(2, 2, 3).repeat(height // 2, 0).repeat(width // 2, 1).astype(np.uint8)


def shown(frame) -> np.ndarray:
    """The colours of the four quarters, int [4, 3]."""
    return np.array([frame[:, y, x].tolist() for y in (12, 36) for x in (20, 60)])


def drive(frames: int, seed: int = 0, step: int = 4) -> list[np.ndarray]:
    """A landscape that slides by, uint8 [96, 160, 3] each."""
    noise = np.random.default_rng(seed).integers(0, 256, (96, 160 + step * frames, 3), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4))).astype(float)
    wide = ((wide - wide.mean()) * 6 + 120).clip(0, 255).astype(np.uint8)
    return [wide[:, step * t : step * t + 160] for t in range(frames)]


def film(path: Path, pictures, codec="libx264", rate=20, pix_fmt="yuv420p", times=None, tags=None, **options) -> Path:
    """A video of pictures uint8 [H, W, 3], or frames of PyAV; times in ms where they are not even."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"crf": "8"})
        first = pictures[0]
        stream.width, stream.height = (first.width, first.height) if hasattr(first, "width") else first.shape[1::-1]
        stream.pix_fmt = pix_fmt
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = picture if hasattr(picture, "width") else av.VideoFrame.from_ndarray(np.ascontiguousarray(picture))
            frame.pts, frame.time_base = (times[i], Fraction(1, 1000)) if times else (i, Fraction(1, rate))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def opened(path: Path, **how) -> rt.Film:
    return rt.open_film(path, SIZE, **{"gap": 1, "cache": False, **how})


# --- what is damaged, and which track ---------------------------------------------------------------------------------


def mjpeg_chunks(data: bytes) -> list[tuple[int, int]]:
    """(begin, length) of each frame of an AVI."""
    found, at = [], data.index(b"movi")
    while (at := data.find(b"00dc", at)) >= 0 and data[at + 8 : at + 10] == b"\xff\xd8":
        found.append((at + 8, struct.unpack_from("<I", data, at + 4)[0]))
        at += 8
    return found


@pytest.mark.parametrize("damaged", [(3,), (0, 7, 8), (18, 19)])
def test_a_damaged_packet_costs_its_own_frame(tmp_path, damaged):
    pictures = [np.full((96, 160, 3), 10 * i, np.uint8) for i in range(20)]
    path = film(tmp_path / "dash.avi", pictures, "mjpeg", pix_fmt="yuvj420p", qscale="2")
    data = bytearray(path.read_bytes())
    chunks = mjpeg_chunks(bytes(data))
    for begin, length in (chunks[i] for i in damaged):
        data[begin : begin + length] = bytes(length)
    path.write_bytes(data)
    read = opened(path)
    assert [round(v / 10) for v in read.frames.float().mean((1, 2, 3)).tolist()] == [
        i for i in range(20) if i not in damaged
    ]
    assert f"{len(damaged)} damaged packet(s) of dash.avi" in read.describe().sentence()


def two_tracks(path: Path, tracks) -> Path:
    """A video of several tracks: (codec, pix_fmt, pictures) each."""
    with av.open(str(path), "w") as container:
        streams = []
        for codec, pix_fmt, pictures in tracks:
            stream = container.add_stream(codec, rate=20)
            stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
            streams.append(stream)
        for i in range(max(len(pictures) for *_, pictures in tracks)):
            for stream, (*_, pictures) in zip(streams, tracks):
                if i < len(pictures):
                    frame = av.VideoFrame.from_ndarray(pictures[i])
                    frame.pts, frame.time_base = i, Fraction(1, 20)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_cover_or_a_preview_is_not_the_film(tmp_path, kind):
    main = [np.full((96, 160, 3), 60 + 5 * i, np.uint8) for i in range(30)]
    cover = [np.full((480, 640, 3), 255, np.uint8)]
    small = [np.full((48, 80, 3), 255, np.uint8)] * 30
    few = [np.full((192, 320, 3), 255, np.uint8)] * 6
    for i, (codec, pix_fmt, extra) in enumerate(
        (("mjpeg", "yuvj420p", cover), *[("mpeg4", "yuv420p", x) for x in (small, few)])
    ):
        path = two_tracks(tmp_path / f"{i}.{kind}", [(codec, pix_fmt, extra), ("libx264", "yuv420p", main)])
        read = opened(path)
        assert len(read.frames) == 30 and abs(read.frames[5].float().mean() - 85) < 4


# --- upright, in sRGB, whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_display_matrix(tmp_path, turns, mirrored):
    """Stored turned and mirrored; the matrix says how it is shown."""
    upright = patches()
    stored = np.rot90(upright, turns)  # shown, it is turned back: clockwise
    a, b, c, d = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][turns]
    if mirrored:  # stored mirrored left to right before it was turned
        stored, (a, b, c, d) = np.rot90(upright[:, ::-1], turns), (-a, b, -c, d)
    path = film(tmp_path / "phone.mp4", [np.ascontiguousarray(stored)] * 5)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert np.abs(shown(opened(path).frames[2]) - PATCHES).max() < 12


@pytest.mark.parametrize("size, matrix", [((1280, 720), "ITU709"), ((720, 576), "ITU601"), ((640, 360), "ITU601")])
@pytest.mark.parametrize("tagged", [False, True])
def test_colours_follow_the_tag_or_else_the_size(tmp_path, size, matrix, tagged):
    if tagged:  # against what the size says
        matrix = {"ITU709": "ITU601", "ITU601": "ITU709"}[matrix]
    frame = av.VideoFrame.from_ndarray(patches(*size)).reformat(format="yuv444p", dst_colorspace=matrix)
    tags = {"colorspace": {"ITU709": 1, "ITU601": 6}[matrix] if tagged else 2}
    path = film(tmp_path / "film.mkv", [frame] * 4, "ffv1", pix_fmt="yuv444p", tags=tags, level="3")
    assert np.abs(shown(opened(path).frames[2]) - PATCHES).max() <= 3


def linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def pq(light):  # SMPTE ST 2084, of cd/m²
    y = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):  # ITU-R BT.2100, scene light in [0, 1]
    return np.where(
        light <= 1 / 12, np.sqrt(3 * light), 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
    )


TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
HDR = {
    "PQ": (16, 9, lambda light: pq(203 * (light @ TO_2020.T))),
    "PQ of BT.709": (16, 1, lambda light: pq(203 * light)),
    "HLG": (18, 9, lambda light: hlg(0.26496 * (light @ TO_2020.T))),
    "BT.2020": (
        14,
        9,
        lambda light: np.interp(light @ TO_2020.T, linear(np.linspace(0, 1, 999)), np.linspace(0, 1, 999)),
    ),
}


@pytest.mark.parametrize("kind", HDR)
def test_hdr_and_wide_colours_become_srgb(tmp_path, kind):
    transfer, primaries, encode = HDR[kind]
    signal = (encode(linear(patches() / 255)) * 65535).round().astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(signal, format="rgb48le").reformat(format="yuv444p10le", dst_colorspace="BT2020")
    tags = {"colorspace": 9, "color_trc": transfer, "color_primaries": primaries, "color_range": 1}
    path = film(tmp_path / "hdr.mkv", [frame] * 4, "ffv1", pix_fmt="yuv444p10le", tags=tags, level="3")
    assert np.abs(shown(opened(path).frames[2]) - PATCHES).max() <= 4


def test_what_is_brighter_than_white_keeps_its_shades():
    levels = np.array([100, 203, 300, 400, 1000]) / 10000  # in 10,000 cd/m²
    signal = np.broadcast_to((pq(10000 * levels) * 65535).round().astype(np.uint16)[None, :, None], (1, 5, 3))
    found = video._srgb(signal, 16, 1)[0, :, 0].tolist()
    assert found == sorted(found) and 240 < found[1] < found[2] < found[3] <= 255


def test_woven_fields_become_whole_frames(tmp_path):
    """Bars that move by half their width from field to field."""
    x = np.arange(160)
    pictures = []
    for i in range(12):
        picture = np.empty((96, 160, 3), np.uint8)
        for field in (0, 1):
            picture[field::2] = (60 + 120 * ((x + 16 * i + 8 * field) // 16 % 2))[None, :, None]
        pictures.append(picture)
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "4"}
    read = rt.open_film(film(tmp_path / "tv.mp4", pictures, **options), (96, 160), gap=1, cache=False)
    assert len(read.frames) == 12
    rows = read.frames[2:-2].float()
    assert (rows[:, :, 1::2] - rows[:, :, ::2]).abs().mean() < 12  # woven: 60
    assert rows.std(dim=-1).mean() > 40  # and the bars are still there


# --- rate, repeats, length --------------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_frames_times(tmp_path):
    times = np.random.default_rng(3).integers(20, 60, 50).cumsum().tolist()
    read = opened(film(tmp_path / "recorded.mkv", drive(50), times=times, rate=1000))
    assert len(read.frames) == 50 and read.fps == pytest.approx(49 / (times[-1] - times[0]) * 1000, rel=0.03)
    pause = [t + (60_000 if i > 20 else 0) for i, t in enumerate(times)]  # a dashcam that slept
    assert opened(film(tmp_path / "slept.mkv", drive(50), times=pause, rate=1000)).fps == pytest.approx(
        read.fps, rel=0.05
    )


@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
@pytest.mark.parametrize("pattern", [(2,), (3,), (1, 1, 1, 2), (1, 2), (2, 3), (4,)])
def test_frames_that_were_stored_again_are_left_out(tmp_path, codec, pattern):
    pictures = drive(40)
    copies = [pattern[i % len(pattern)] for i in range(40)]
    path = film(tmp_path / "copies.mkv", [p for p, n in zip(pictures, copies) for _ in range(n)], codec, crf="18")
    read = opened(path)
    assert len(read.frames) == 40 and read.cuts == ()
    assert read.fps == pytest.approx(20 / np.mean(pattern), rel=0.06)
    assert f"{sum(copies) - 40} frames that only repeat" in read.describe().sentence()
    wanted = torch.stack([torch.from_numpy(p[1::2, 1::2].copy()).permute(2, 0, 1) for p in pictures])
    assert (read.frames.float() - wanted.float()).abs().mean() < 8


def test_frames_that_were_coded_again_differ_a_little():
    draw, frames = np.random.default_rng(1), []
    for picture in drive(40):
        again = picture.astype(int) + draw.choice([-1, 0, 1], picture.shape, p=[0.4, 0.2, 0.4])
        frames += [picture, again.clip(0, 255).astype(np.uint8)]
    assert video._distinct(frames).tolist() == [*range(0, 80, 2)]


@pytest.mark.parametrize("stood", [4, 30])
def test_a_car_that_stands_stays_whole(tmp_path, stood):
    pictures = drive(30)
    parked = [*pictures[:15], *[pictures[15]] * stood, *pictures[16:]]
    assert len(opened(film(tmp_path / "parked.mkv", parked, "ffv1")).frames) == 29 + stood
    assert len(opened(film(tmp_path / "still.mkv", pictures[:1] * 9, "ffv1")).frames) == 9


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of threads")
def test_a_long_video_takes_no_more_threads_than_a_short_one(tmp_path):
    """Which a process with limits would not get."""
    threads = []
    path = film(tmp_path / "long.mkv", drive(40) * 20, "mpeg4")
    video.read_video(path, (48, 80), lambda *_: threads.append(len([*Path("/proc/self/task").iterdir()])))
    assert len(threads) > 40 and max(threads) <= threads[0] + 2


def test_too_many_frames_are_counted_and_told_in_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr("roadtrip.video.MAX_FRAMES", 120)
    pictures = drive(125, step=1)
    film(tmp_path / "long.mp4", pictures, rate=1)
    with pytest.raises(rt.RoadtripError, match="has 125 frames; at most 120 are read, 2 minutes at 1 frames a second"):
        opened(tmp_path / "long.mp4")
    film(tmp_path / "a.mkv", pictures, times=[500 * i for i in range(125)], rate=1000)  # a header without a count
    with pytest.raises(rt.RoadtripError, match="at most 120 are read, 1 minutes at 2 frames a second"):
        opened(tmp_path / "a.mkv")


def test_a_slow_time_lapse_may_span_hours(tmp_path):
    read = opened(film(tmp_path / "lapse.mp4", drive(12), times=[600_000 * i for i in range(12)], rate=1000))
    assert len(read.frames) == 12 and read.fps == pytest.approx(1 / 600)


def test_clips_of_different_rates_share_a_gap_in_seconds(tmp_path):
    fast = film(tmp_path / "fast.mp4", [*drive(60, 1), *drive(40, 2)], rate=50)
    slow = film(tmp_path / "slow.mp4", drive(40, 3), rate=20)
    joined = opened([fast, slow], gap="0.2s")
    assert (joined.fps, joined.gap, joined.drives, joined.cuts) == (20, 4, (0, 40), (24, 40))
    assert len(joined.frames) == 80 and "thinned to 20" in joined.describe().sentence()
    kept = opened(fast).frames[torch.arange(0, 100, 2.5).long()]
    assert torch.equal(joined.frames[:40], kept)
    as_frames = opened([fast, slow], gap=4)
    assert len(as_frames.frames) == 140 and as_frames.rates == (50, 20)
    again = rt.open_film(as_frames.save(tmp_path / "x.film"), SIZE, gap="0.2s")
    assert torch.equal(again.frames, joined.frames) and again.gap == 4
    ntsc = film(tmp_path / "ntsc.mp4", drive(30, 4), rate=Fraction(30000, 1001))
    pal = film(tmp_path / "thirty.mp4", drive(30, 5), rate=30)
    assert len(opened([ntsc, pal], gap="0.2s").frames) == 60  # all but the same: nothing is thinned


@pytest.mark.parametrize("kind", ["webp", "png", "gif", "avif"])
def test_animated_pictures_open(tmp_path, kind):
    pictures = [Image.fromarray(p) for p in drive(20)]
    path = tmp_path / f"trip.{kind}"
    how = {"lossless": True} if kind == "webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[50] * 10 + [150] * 10, **how)
    read = opened(path)
    assert len(read.frames) == 20 and read.fps == pytest.approx(10, rel=0.06)
    pictures[0].save(tmp_path / f"single.{kind}")
    with pytest.raises(rt.RoadtripError, match="single|at least 3"):
        opened(tmp_path / f"single.{kind}")


def test_what_rollout_writes_opens_again(tmp_path):
    frames = torch.stack([torch.from_numpy(p[::2, ::2].copy()).permute(2, 0, 1) for p in drive(16)])
    read = opened(rt.write(tmp_path / "x.webp", frames, fps=10, scale=1))
    assert torch.equal(read.frames, frames) and read.fps == pytest.approx(10)
    # a process that has opened nothing yet knows fewer kinds of pictures
    fresh = "import sys, roadtrip as rt; print(len(rt.open_film(sys.argv[1], gap=1, cache=False).frames))"
    done = subprocess.run([sys.executable, "-c", fresh, tmp_path / "x.webp"], capture_output=True, text=True)
    assert done.stdout.strip() == "16", done.stderr


def test_a_coding_that_is_not_known_and_a_picture_without_a_first_frame_are_refused(tmp_path):
    unknown = film(tmp_path / "x.avi", drive(8), codec="mjpeg", pix_fmt="yuvj420p")
    unknown.write_bytes(unknown.read_bytes().replace(b"MJPG", b"ZZ9\0"))
    with pytest.raises(rt.RoadtripError, match="no video in it that can be read"):
        opened(unknown)
    whole = tmp_path / "y.png"
    one, *others = (Image.fromarray(picture) for picture in drive(4))
    one.save(whole, save_all=True, append_images=others)
    data = bytearray(whole.read_bytes())
    first = data.index(b"IDAT")
    data[first + 4 : first + 40] = bytes(36)
    whole.write_bytes(data)
    with pytest.raises(rt.RoadtripError, match=r"No frame of y\.png can be read"):
        opened(whole)
