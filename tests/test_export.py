"""Frames to files: what is written, what is refused in one sentence, and that nothing half-written stays."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import roadtrip as rt
from roadtrip.__main__ import main
from roadtrip.atomic import whole_file
from roadtrip.export import beside, rate_of
from roadtrip.frames import flow_colours, heat, sheet

KINDS = ("mp4", "gif", "webp", "png")


def count(path: Path) -> int:
    if path.suffix == ".mp4":
        with av.open(str(path)) as video:
            return sum(1 for _ in video.decode(video=0))
    return getattr(Image.open(path), "n_frames", 1)


def refused(call, *args, **kwargs) -> str:
    with pytest.raises(rt.RoadtripError) as error:
        call(*args, **kwargs)
    said = str(error.value)
    assert "\n" not in said and said.endswith(".")
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_one_rollout_is_written_as_it_comes(tmp_path, kind):
    rollout = torch.rand(1, 5, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    for name, frames in (("a", rollout), ("b", rollout[0]), ("c", (rollout[0] * 255).round().byte())):
        assert count(rt.write(tmp_path / f"{name}.{kind}", frames)) == (1 if kind == "png" else 5)
    assert len({(tmp_path / f"{name}.{kind}").read_bytes() for name in "abc"}) == 1
    assert sheet(rollout, 5).size == (5 * 26 + 2, 20)


def test_the_same_frames_are_the_same_file_whatever_lies_in_memory(tmp_path):
    """glibc fills what it hands out with another byte in each process: an encoder that reads it unwritten is found."""
    code = """if True:
        import sys, torch, roadtrip as rt
        for path in sys.argv[1:]:
            rt.write(path, torch.rand(5, 3, 48, 80, generator=torch.Generator().manual_seed(0)))"""
    for byte in ("1", "85", "128"):
        paths = [tmp_path / f"{byte}.{kind}" for kind in KINDS]
        subprocess.run([sys.executable, "-c", code, *paths], env=os.environ | {"MALLOC_PERTURB_": byte}, check=True)
    for kind in KINDS:
        assert len({path.read_bytes() for path in tmp_path.glob(f"*.{kind}")}) == 1, kind


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_are_none_are_refused(tmp_path, kind):
    path, good = tmp_path / f"x.{kind}", torch.zeros(4, 3, 16, 24)
    wrong = [
        (torch.zeros(0, 3, 16, 24), "no frames"),
        (torch.zeros(1, 0, 3, 16, 24), "no frames"),
        (torch.zeros(4, 3, 0, 24), "no frames"),
        (torch.zeros(0, 4, 3, 16, 24), "0 rollouts"),
        (torch.zeros(2, 4, 3, 16, 24), "2 rollouts"),
        (good[0], "shape [3, 16, 24]"),
        (good[:, :1], "shape [4, 1, 16, 24]"),
        (good.permute(0, 2, 3, 1), "shape [4, 16, 24, 3]"),
        (torch.tensor(0.5), "shape []"),
        (good.long(), "int64"),
        (good.bool(), "bool"),
        (good.to(torch.complex64), "complex64"),
        (good + 1.5, "[0, 1]"),
        (good - 0.1, "[0, 1]"),
        (good * float("nan"), "NaN"),
        (good.numpy(), "ndarray"),
        (None, "NoneType"),
        ([good], "list"),
    ]
    for frames, says in wrong:
        assert says in refused(rt.write, path, frames)
        assert says in refused(rt.sheet, frames, 4)
    assert not list(tmp_path.iterdir())
    assert "columns" in refused(rt.sheet, good, 0)


def test_what_else_is_refused(tmp_path):
    good = torch.zeros(2, 3, 8, 1100)
    for fps in (0, 121, -1, float("nan"), float("inf"), "8", None):
        assert "frames a second" in refused(rt.write, tmp_path / "x.gif", good, fps=fps)
    for scale in (0, 17, 1.5, "2", None):
        assert "scale" in refused(rt.write, tmp_path / "x.gif", good, scale=scale)
    for quality in (-1, 101, 0.5, "good"):
        assert "quality" in refused(rt.write, tmp_path / "x.webp", good, quality=quality)
    assert "17600" in refused(rt.write, tmp_path / "x.webp", good, scale=16)
    assert "1×1" in refused(rt.write, tmp_path / "x.mp4", torch.zeros(2, 3, 1, 1), scale=1)
    for name in ("x.exe", "x", "", ".mp4"):
        assert "name it" in refused(rt.write, tmp_path / name, good)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_can_be_written(tmp_path, kind):
    (tmp_path / f"folder.{kind}").mkdir()
    (tmp_path / "file").write_text("old")
    for path in (f"folder.{kind}", f"file/x.{kind}", f"file/deep/x.{kind}", f"{'n' * 300}.{kind}", f"a\0b.{kind}"):
        assert "Cannot write" in refused(rt.write, tmp_path / path, torch.zeros(2, 3, 8, 8))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", f"folder.{kind}"]
    assert not list((tmp_path / f"folder.{kind}").iterdir())
    long = f"{'n' * 240}.{kind}"  # a name that fits, where a longer one beside it does not
    assert rt.write(tmp_path / long, torch.zeros(2, 3, 8, 8)).exists()


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.webp", "x.png", "x.film", "x.txt", "model"])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(name, full_disk, tmp_path):
    """Whoever writes through whole_file: exports, films, checkpoints, text."""
    frames = torch.randint(0, 255, (40, 3, 64, 96), dtype=torch.uint8)

    def text(path):
        with whole_file(path) as file:
            file.write_text("a" * 50000)

    film, model = rt.Film(frames, (), 1, None, (0,), "film", ""), rt.NextFrame(size=(16, 16), width=32, depth=2)
    others = {"x.film": film.save, "x.txt": text, "model": lambda path: rt.save(path, model)}
    (tmp_path / "x.gif").write_text("old")
    with full_disk(20_000), pytest.raises(rt.RoadtripError, match="^Cannot write .*File too large"):
        others.get(name, lambda path: rt.write(path, frames))(tmp_path / name)
    assert [p.name for p in tmp_path.rglob("*")] == ["x.gif"] and (tmp_path / "x.gif").read_text() == "old"


def test_a_file_has_the_mode_of_any_new_file_and_the_umask_is_left_alone(tmp_path, monkeypatch):
    mask = os.umask(0o027)
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the whole process's umask was changed"))
    try:
        for name in ("a.txt", "b.txt"):
            with whole_file(tmp_path / name) as file:
                file.write_text(name)
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == (0o640 if os.name != "nt" else 0o666)
    finally:
        monkeypatch.undo()
        os.umask(mask)


def test_two_threads_write_one_file_whole(tmp_path):
    def work(letter: str) -> None:
        for _ in range(20):
            with whole_file(tmp_path / "x") as file:
                file.write_text(letter * 10000)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set((tmp_path / "x").read_text())) == 1 and [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(os.name == "nt", reason="no folder can be locked there")
@pytest.mark.parametrize("again", ["write", "train", "import"])
def test_what_a_killed_write_left_goes_and_what_is_being_written_stays(tmp_path, again):
    """With the next write beside it, or already where a command that will write there begins."""
    killed = tmp_path / f".roadtrip-{'0' * 16}"
    killed.mkdir()
    (killed / "x.film").write_bytes(b"half")
    with whole_file(tmp_path / "y.txt") as file:
        file.write_text("mine")
        if again == "write":
            rt.write(tmp_path / "x.gif", torch.zeros(2, 3, 8, 8))
        else:
            source = ["nowhere"] if again == "import" else ["--film", "nowhere"]
            out = tmp_path if again == "train" else tmp_path / "x.film"
            assert main([again, *source, "--out", str(out)]) == 2
        assert not killed.exists() and file.exists()
    assert (tmp_path / "y.txt").read_text() == "mine"


def test_an_error_of_the_writer_s_own_is_not_turned_into_a_sentence(tmp_path):
    (tmp_path / "x").write_text("old")
    for error in (ArithmeticError, KeyboardInterrupt):
        with pytest.raises(error), whole_file(tmp_path / "x"):
            raise error
    assert (tmp_path / "x").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_bytes_repeat_pixels(tmp_path):
    frames = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    path = rt.write(tmp_path / "x.webp", frames, scale=2)
    shown = Image.open(path)
    for i, frame in enumerate(frames):
        shown.seek(i)
        found = np.asarray(shown.convert("RGB"))
        assert (found == frame.permute(1, 2, 0).repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()).all()


@pytest.mark.parametrize(
    "fps, played", [(8, 100 / 12), (24, 25), (30, 100 / 3), (50, 50), (59.94, 50), (120, 50), (0.1, 0.1)]
)
def test_a_gif_has_a_rate_that_browsers_play(tmp_path, fps, played):
    """They take a delay under 20 ms for one of 100 ms."""
    path = rt.write(tmp_path / "x.gif", torch.rand(3, 3, 16, 16), fps=fps)
    delay = Image.open(path).info["duration"]
    assert delay >= 20 and 1000 / delay == pytest.approx(played) == pytest.approx(rate_of(path, fps))
    assert rate_of("x.webp", fps) == rate_of("x.mp4", fps) == fps


@pytest.mark.parametrize("side", [48, 720])
def test_an_mp4_says_what_its_colours_are_and_has_its_index_in_front(tmp_path, side):
    """Whatever a player guesses by the size."""
    colours = torch.tensor([(200, 40, 30), (30, 160, 60), (40, 60, 190)], dtype=torch.uint8)
    frames = colours.repeat_interleave(side // 3, 0).T[None, :, None].expand(4, 3, side, side // 3 * 3)
    path = rt.write(tmp_path / "x.mp4", frames, scale=1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat") and b"colrnclx\0\1\0\1\0\1" in data
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)
        shown = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    assert np.abs(shown[side // 2, side // 6 :: side // 3][:3].astype(int) - colours.numpy()).max() <= 4


def test_films_beside_each_other_are_labelled_and_loop():
    """Every pixel of each film is there, at least 1280 in all, and a shorter one begins again."""
    long, short = torch.rand(5, 3, 48, 80), torch.rand(2, 3, 72, 128)
    frames = beside({"a pair": long, "real": short}, {"a pair": "alternates " * 12})
    assert frames.dtype == torch.uint8 and len(frames) == 5 and frames.shape[-1] >= 1280
    assert not any(side % 2 for side in frames.shape[-2:])
    head = frames.shape[-2] - 8 * 48  # the higher of the two
    for film, left, times, t in ((long, 0, 8, 3), (short, 8 * 80 + 8, 5, 1)):
        height, width = (times * n for n in film.shape[-2:])
        own = frames[3, :, head : head + height, left : left + width]
        assert torch.equal(own[:, ::times, ::times], (film[t] * 255).round().byte())
        assert (frames[0, :, :head, left : left + width] == 255).any()  # it has words above it
    with pytest.raises(rt.RoadtripError, match="no frames"):
        beside({"nothing": torch.rand(0, 3, 8, 8)}, {})


def test_colours_of_flows_and_scores():
    still, right, left = (
        torch.zeros(2, 1, 1),
        torch.tensor([8.0, 0]).view(2, 1, 1),
        torch.tensor([-99.0, 0]).view(2, 1, 1),
    )
    assert flow_colours(still).flatten().tolist() == [1, 1, 1]  # white
    assert flow_colours(right).flatten().tolist() == [1, 0, 0]  # red
    assert flow_colours(left).flatten().tolist() == pytest.approx([0, 1, 1])  # what is opposite
    grey = torch.full((3, 8, 8), 0.5)
    seen = heat(grey, torch.tensor([[2.0, -2.0], [0.0, 0.0]]))
    assert seen[2, 0, 0] > 0.6 > 0.4 > seen[0, 0, 0] and seen[0, 0, 7] > 0.6 > 0.4 > seen[2, 0, 7]
    assert torch.equal(seen[:, 4:], grey[:, 4:])
