"""Uploads are decoded in a process with limits: the same footage, and one sentence for whatever ends the process."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import roadtrip as rt
from roadtrip import decode_process
from roadtrip.decode import read_footage
from roadtrip.decode_process import decode_apart

SIZE = (48, 80)


def silent(*_) -> None:
    pass


@pytest.fixture
def clip(tmp_path) -> Path:
    """What looks like a clip, so that a decoder is asked."""
    file = tmp_path / "x.mp4"
    file.write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    return file


@pytest.fixture
def decoder(tmp_path, monkeypatch):
    """Puts code in the place of PyAV, in the other process."""

    def put(code: str) -> None:
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "av.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))

    return put


def test_the_same_footage_comes_back(tmp_path, monkeypatch):
    folder = tmp_path / "stills"
    folder.mkdir()
    for t, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, *SIZE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{t}.png")
    (folder / "7.png").write_bytes(b"no picture")
    said = []
    monkeypatch.chdir(tmp_path)  # wherever the app was started
    (apart,) = decode_apart([folder], SIZE, lambda *report: said.append(report))
    (here,) = read_footage(folder, SIZE, silent)
    assert np.array_equal(apart.frames, here.frames) and (20, 20, "reading stills") in said
    for name in ("fps", "skipped", "id", "joins", "notes"):
        assert getattr(apart, name) == getattr(here, name)


def test_no_upload_waits_for_torch(decoder, clip):
    decoder("import sys, os; os._exit(3 if any(m in sys.modules for m in ('torch', 'kornia', 'gradio')) else 0)")
    began = []
    with pytest.raises(rt.RoadtripError), pytest.MonkeyPatch.context() as patch:
        start = subprocess.Popen
        patch.setattr(subprocess, "Popen", lambda *of, **how: began.append(start(*of, **how)) or began[0])
        decode_apart([clip], SIZE, silent)
    assert began[0].returncode == 0


def test_what_the_reader_refuses_is_its_own_sentence(tmp_path):
    (tmp_path / "x.txt").write_text("no film")
    with pytest.raises(rt.RoadtripError, match="x.txt is not footage"):
        decode_apart([tmp_path / "x.txt"], SIZE, silent)


@pytest.mark.skipif(os.name == "nt", reason="no limits there")
@pytest.mark.parametrize("code, says", [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "damaged"),
    ("import os; os.write(1, b'{\"error\": 3'); os._exit(0)", "damaged"),
    ("kept = bytearray(2**31)", "over 0.5 GB"),
    ("while True: pass", "takes too long"),
], ids=["crash", "silent end", "memory", "hang"])  # fmt: skip
def test_a_decoder_that_goes_wrong_costs_one_upload(code, says, clip, decoder, tmp_path, monkeypatch):
    decoder(code)
    monkeypatch.setattr(decode_process, "MAX_BYTES", 2**29)
    if "while" in code:
        monkeypatch.setattr(decode_process, "MAX_SILENCE", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with pytest.raises(rt.RoadtripError, match=says) as error:
        decode_apart([clip], SIZE, silent)
    assert str(error.value).startswith("x.mp4") and not [*(tmp_path / "tmp").iterdir()]


def test_a_report_that_raises_ends_the_process(clip, decoder, monkeypatch):
    """As where a visitor stops it."""
    decoder("while True: pass")
    started, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *of, **how: started.append(start(*of, **how)) or started[0])

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_apart([clip], SIZE, stop)
    assert started[0].returncode
