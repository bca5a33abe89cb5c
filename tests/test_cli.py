"""The command line as a user calls it: import, train, measure, rollout, and one sentence for what is wrong."""

import io
import json
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageSequence

import roadtrip as rt
from roadtrip import __main__ as main_module
from roadtrip.__main__ import main
from roadtrip.diffusion import Sampler
from roadtrip.export import rate_of


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trip")
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 400, 3), dtype=np.uint8))
    wide = wide.filter(ImageFilter.GaussianBlur(3))
    for t in range(120):
        wide.crop((2 * t, 0, 2 * t + 80, 48)).save(folder / f"{t}.png")
    return folder


@pytest.fixture(scope="module")
def film(stills, tmp_path_factory):
    out = tmp_path_factory.mktemp("film") / "trip.film"
    assert main(["import", str(stills), "--out", str(out), "--gap", "2", "--size", "48x80"]) == 0
    return out


@pytest.fixture(scope="module")
def run(film, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    arguments = ["train", "--film", str(film), "--size", "48x80", "--recipe", "v1", "--steps", "4", "--out", str(out)]
    assert main([*arguments, "--resumable"]) == 0
    return out


def answer(capsys) -> dict:
    """The last line of standard output, as strict JSON."""

    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    return json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=refuse)


def test_import(film, stills, capsys):
    assert (
        main(["import", str(stills), str(stills), "--size", "48x80", "--out", str(film.parent / "two.film"), "--json"])
        == 0
    )
    said = answer(capsys)
    assert said["frames"] == 240 and said["cuts"] == [120] and said["drives"] == 2
    assert rt.open_film(film, size=(48, 80)).gap == 2


def test_train_says_what_it_did(run, film, capsys):
    config = json.loads((run / "config.json").read_text())["provenance"]
    assert config["seed"] == 0 and config["step"] == 4 and config["held_out"] == 0.2 and config["film"]["gap"] == 2
    arguments = ["train", "--film", str(film), "--size", "48x80", "--steps", "6", "--out", str(run), "--json"]
    assert main([*arguments, "--resume", str(run), "--resumable"]) == 0
    assert answer(capsys)["step"] == 6


def test_train_begins_from_weights_that_ship(film, tmp_path, capsys):
    arguments = ["train", "--film", str(film), "--size", "48x80", "--steps", "1", "--out", str(tmp_path), "--json"]
    assert main([*arguments, "--start", "v1"]) == 0
    assert answer(capsys)["start"]["name"] == "v1"
    assert main([*arguments, "--recipe", "lstm", "--start", "v1"]) == 2
    assert "another network" in capsys.readouterr().err


@pytest.mark.parametrize("horizon", [1, 8, 16, 32])
def test_measure(run, film, horizon, capsys):
    assert main(["measure", "--checkpoint", str(run), "--film", str(film), "--horizon", str(horizon), "--json"]) == 0
    said = answer(capsys)
    for error in ("psnr", "l1", "ssim", "sharpness"):
        assert set(said[error]) == {"model", "copy_last", "linear", "mean_frame"}
        assert all(len(values) == horizon for values in said[error].values())
    # 24 held-out frames at gap 2: real film reaches 10 steps ahead, and no further
    known = [v is not None for v in said["psnr"]["model"]]
    assert known == [h < 10 for h in range(horizon)]
    assert said["n_starts"] == 20 and said["part"] == "held_out" and said["gap"] == 2
    for name in ("R", "N", "S", "lag_profile", "period", "two_mode_share", "switches", "verdict"):
        assert name in said and (horizon >= 16 or said[name] is None)
    if horizon >= 16:
        assert isinstance(said["verdict"], str) and math.isfinite(said["N"]) and len(said["lag_profile"]) == 8


def test_calibrate_writes_a_checkpoint_that_draws_otherwise(film, run, tmp_path, capsys):
    model = rt.NextFrame(8, 0, sampler=Sampler(1, refine=0), size=(48, 80))
    rt.save(tmp_path / "drawing", model)
    arguments = ["calibrate", "--film", str(film), "--size", "48x80", "--json"]
    out = tmp_path / "calibrated"
    assert main([*arguments, "--checkpoint", str(tmp_path / "drawing"), "--out", str(out)]) == 0
    found, sampler = answer(capsys), rt.load(out).sampler
    assert (found["temperature"], found["carry"]) == (sampler.temperature, sampler.carry) != (1.0, 0.3)
    assert found["rounds"][0]["temperature"] == 1.0 and rt.load(tmp_path / "drawing").sampler.carry == 0.3
    assert main([*arguments, "--checkpoint", str(run), "--out", str(tmp_path / "none")]) == 2
    assert "nothing to calibrate" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_measure_is_what_a_loop_by_hand_gives(run, film, capsys):
    """PSNR at horizon 1 against a plain loop over every held-out start."""
    assert main(["measure", "--checkpoint", str(run), "--film", str(film), "--horizon", "3", "--json"]) == 0
    said = answer(capsys)
    frames, model = rt.open_film(film, size=(48, 80)).frames.float() / 255, rt.load(run)
    errors: dict[str, list[float]] = {"model": [], "copy_last": [], "linear": [], "mean_frame": []}
    for t in range(96, 120 - 4):
        f1, f2, f3 = frames[t], frames[t + 2], frames[t + 4]
        made = {
            "model": rt.rollout(model, f1, f2, 1)[0, 0],
            "copy_last": f2,
            "linear": (2 * f2 - f1).clamp(0, 1),
            "mean_frame": model.mean_frame / 255,
        }
        for name, picture in made.items():
            errors[name].append(-10 * math.log10((picture - f3).square().mean().item()))
    for name, values in errors.items():
        assert said["psnr"][name][0] == pytest.approx(sum(values) / len(values), abs=1e-3)


def test_measure_all_sees_more_or_at_most_so_many(run, film, capsys):
    asked = ["measure", "--checkpoint", str(run), "--film", str(film), "--horizon", "1", "--all", "--json"]
    for more, starts in (([], 116), (["--most", "5"], 5)):
        assert main([*asked, *more]) == 0
        assert answer(capsys)["n_starts"] == starts


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.webp", "x.png"])
def test_rollout(run, film, tmp_path, name, capsys):
    arguments = ["rollout", "--checkpoint", str(run), "--film", str(film), "--start", "7", "--horizon", "9"]
    assert main([*arguments, "--out", str(tmp_path / name), "--json"]) == 0
    assert answer(capsys)["start"] == 7
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if name == "x.mp4":
        with av.open(str(tmp_path / name)) as video:
            assert sum(1 for _ in video.decode(video=0)) == 9
    else:
        image = Image.open(tmp_path / name)
        if name == "x.png":
            assert getattr(image, "n_frames", 1) == 1
        else:  # pictures in a row that are alike are written as one, for as long as all of them
            shown = sum(frame.copy().info["duration"] for frame in ImageSequence.Iterator(image)) / 1000
            assert round(shown * rate_of(name, 8)) == 9


@pytest.mark.parametrize("arguments, says", [
    (["train", "--film", "FILM", "--recipe", "v9", "--steps", "1", "--out", "OUT"], "no recipe 'v9'"),
    (["train", "--film", "FILM", "--gap", "90", "--steps", "1", "--out", "OUT"], "too short for gap 90"),
    (["train", "--film", "FILM", "--gap", "often", "--steps", "1", "--out", "OUT"], "'often' is not a gap"),
    (["train", "--film", "FILM", "--gap", "0.5s", "--steps", "1", "--out", "OUT"], "needs a video"),
    (["train", "--film", "nowhere", "--steps", "1", "--out", "OUT"], "nothing called nowhere"),
    (["train", "--film", "FILM", "--size", "70x128", "--steps", "1", "--out", "OUT"], "divisible by 8"),
    (["measure", "--film", "FILM", "--checkpoint", "nowhere"], "no checkpoint"),
    (["measure", "--film", "FILM", "--checkpoint", "RUN", "--horizon", "0"], "horizon"),
    (["measure", "--film", "FILM", "--checkpoint", "RUN", "--most", "0"], "choose 1 or more"),
    (["rollout", "--film", "FILM", "--checkpoint", "RUN", "--start", "119", "--out", "x.mp4"], "no two frames at"),
    (["rollout", "--film", "FILM", "--checkpoint", "RUN", "--out", "x.exe"], "Can't write x.exe"),
    (["train", "--film", "nowhere", "--steps", "1", "--out", "OUT", "--device", "foo"], "'foo' can't be used"),
    (["measure", "--film", "nowhere", "--checkpoint", "RUN", "--device", "foo"], "'foo' can't be used"),
    (["rollout", "--film", "nowhere", "--checkpoint", "RUN", "--device", "cuda:99", "--out", "x.mp4"], "'cuda:99' can't"),
    (["train", "--film", "FILM", "--steps", "1", "--out", "OUT", "--device", "meta"], "'meta' can't be used"),
    (["train", "--film", "FILM", "--steps", "0", "--out", "OUT"], "at least one step"),
    (["train", "--film", "FILM", "--seconds", "0", "--out", "OUT"], "more than zero seconds"),
    (["train", "--film", "FILM", "--seconds", "0", "--steps", "1", "--out", "OUT"], "either seconds or steps"),
    (["train", "--film", "FILM", "--seconds", "1", "--steps", "1", "--out", "OUT"], "either seconds or steps"),
    (["train", "--film", "nowhere", "--steps", "1", "--out", "FILM"], "is not a folder"),
    (["train", "--film", "nowhere", "--steps", "1", "--out", "FILM/run"], "Cannot write"),
    (["import", "nowhere", "--out", "OUT"], "is a folder"),
    (["import", "nowhere", "--out", "FILM/x.film"], "Cannot write"),
    (["rollout", "--film", "nowhere", "--checkpoint", "RUN", "--out", "OUT"], "is a folder"),
    (["rollout", "--film", "nowhere", "--checkpoint", "RUN", "--out", "FILM/x.mp4"], "Cannot write"),
    (["rollout", "--film", "nowhere", "--checkpoint", "RUN", "--out", "x" * 300 + ".mp4"], "Cannot write"),
    (["study", "--films", "nowhere", "--runs", "FILM"], "is not a folder"),
    (["study", "--films", "nowhere", "--runs", "FILM/runs"], "Cannot write"),
    (["study", "--films", "nowhere", "--runs", "OUT", "--out", "OUT"], "is a folder"),
    (["study", "--films", "nowhere", "--runs", "OUT", "--out", "FILM"], "is not a study's table"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_what_the_user_got_wrong(arguments, says, run, film, tmp_path, capsys):
    names = {"FILM": str(film), "RUN": str(run), "OUT": str(tmp_path)}
    first = {a: a.partition("/")[0] for a in arguments}
    assert main([a.replace(first[a], names.get(first[a], first[a]), 1) for a in arguments]) == 2
    captured = capsys.readouterr()
    sentences = [line for line in captured.err.splitlines() if line.strip() and "frame/s" not in line]
    assert says in sentences[-1] and "Traceback" not in captured.err and captured.out == ""


TINY = ["--set", "width=8", "depth=0", "batch=1"]
WRITES = [
    ["import", "FILM", "--out", "OUT/x.film"],
    ["train", "--film", "FILM", "--steps", "1", "--out", "OUT/run"],
    ["train", "--film", "FILM", "--steps", "1", "--out", "OUT/run", "--resumable"],
    *(
        ["rollout", "--film", "FILM", "--checkpoint", "RUN", "--horizon", "8", "--out", f"OUT/x.{kind}"]
        for kind in ("mp4", "gif", "webp", "png")
    ),
    ["study", "--films", "FILM:1", "--arms", "v1", "--seeds", "0", "--steps", "1", *TINY, "--runs", "OUT/runs"],
]


@pytest.mark.parametrize("arguments", WRITES, ids=lambda a: f"{a[0]} {a[-1]}")
def test_a_disk_that_is_full_in_the_end(arguments, run, film, full_disk, tmp_path, monkeypatch, capsys):
    """One sentence, nothing partial, and what was trained is kept, if not here then there."""
    names = {"FILM": str(film), "RUN": str(run), "OUT": str(tmp_path / "out")}
    told = [re.sub("FILM|RUN|OUT", lambda found: names[found[0]], a) for a in arguments]
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("ROADTRIP_CACHE", str(tmp_path / "cache"))
    with full_disk(5000):
        status = main([*told, *(["--size", "48x80"] if told[0] != "rollout" else [])])
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (said,) = [line for line in lines if line.strip() and not re.search(r"\?|%\|", line)]
    assert status == 2 and said.startswith("Cannot write") and "File too large" in said
    assert ("nor is there room for what was trained in" in said) == (told[0] in ("train", "study"))
    left = [p for p in (tmp_path / "out").rglob("*") if not p.name.endswith(".lock")]
    assert left == ([tmp_path / "out" / "runs"] if told[0] == "study" else [])


def test_what_was_trained_is_kept_where_there_is_room(film, tmp_path, monkeypatch, capsys):
    """In a folder that was taken away meanwhile, a file in its place."""
    monkeypatch.setenv("ROADTRIP_CACHE", str(tmp_path / "cache"))
    out, steps = tmp_path / "run", main_module.train

    def trained(*recipe, **how):
        yield from steps(*recipe, **how)
        out.write_text("mine")

    monkeypatch.setattr(main_module, "train", trained)
    assert main(["train", "--film", str(film), "--size", "48x80", "--steps", "2", "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    kept = Path(said.partition("is kept in ")[2].removesuffix("."))
    assert rt.load(kept).provenance.step == 2 and out.read_text() == "mine"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_the_same_command_goes_on(name, film, tmp_path, monkeypatch, request):
    """With the bits of a run that was not stopped."""
    number, steps = getattr(signal, name, signal.SIGINT), main_module.train
    before = signal.signal(number, signal.SIG_DFL)  # a shell's background job ignores SIGINT, and so would this
    request.addfinalizer(lambda: signal.signal(number, before))
    monkeypatch.setitem(rt.RECIPES, "v1", replace(rt.RECIPES["v1"], width=8, depth=0, batch=1))
    monkeypatch.setattr(sys.modules["roadtrip.train"], "REPORT_EVERY", 0)
    command = ["train", "--film", str(film), "--size", "48x80", "--steps", "6", "--seed", "3", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0

    def signalled(*recipe, **how):
        for p in steps(*recipe, **how):
            if p.step == 3:
                signal.raise_signal(number)
            yield p

    with monkeypatch.context() as stopped, pytest.raises(SystemExit) as status:
        stopped.setattr(main_module, "train", signalled)
        main([*command, str(tmp_path / "run")])
    assert status.value.code == 128 + number and rt.load(tmp_path / "run").provenance.step == 3
    assert main([*command, str(tmp_path / "run")]) == 0
    a, b = (rt.load(tmp_path / run).state_dict() for run in ("whole", "run"))
    assert all(torch.equal(a[k], b[k]) for k in a) and not (tmp_path / "run" / "train-state.safetensors").exists()


def test_whoever_reads_the_progress_may_go(film, tmp_path, monkeypatch):
    """As `… 2>&1 | tee log` does at Ctrl-C, before the training has saved."""

    class Gone(io.StringIO):
        def write(self, text):
            if "%" in text:  # of the steps
                raise BrokenPipeError
            return len(text)

    monkeypatch.setattr(sys, "stderr", Gone())
    main(["train", "--film", str(film), "--size", "48x80", "--steps", "2", "--out", str(tmp_path / "run")])
    assert rt.load(tmp_path / "run").provenance.step == 2
    assert main(["train", "--film", "nowhere", "--steps", "2", "--out", str(tmp_path / "run")]) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_result_that_nobody_can_read_is_one_sentence(film, tmp_path):
    command = [sys.executable, "-m", "roadtrip", "import", str(film), "--size", "48x80", "--json", "--out"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, str(tmp_path / "x.film")], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stderr.splitlines()[-1] == "Cannot write the result to standard output: No space left on device."


def test_the_api_says_so_too(film):
    for device in ("foo", "meta", 1.5):
        with pytest.raises(rt.RoadtripError, match="can't be used"):
            rt.train("v1", film, steps=1, device=device)


@pytest.mark.parametrize("part", ["nothing", "one frame"])
def test_a_rollout_starts_where_it_can(part, film, stills, tmp_path, capsys):
    """Of a model that held nothing out, and on a film whose last fifth is one frame."""
    common = ["--size", "48x80", "--gap", "1"]
    share = {"nothing": "0", "one frame": "0.2"}[part]
    few = str(film)
    if part == "one frame":
        few = str(tmp_path / "few")
        (tmp_path / "few").mkdir()
        for t in range(6):
            (tmp_path / "few" / f"{t}.png").write_bytes((stills / f"{t}.png").read_bytes())
    out = str(tmp_path / "run")
    arguments = ["train", "--film", str(film), "--steps", "1", "--held-out-fraction", share, "--out", out]
    assert main([*arguments, *common]) == 0
    arguments = ["rollout", "--film", few, "--checkpoint", out, "--horizon", "2", "--out", str(tmp_path / "x.png")]
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["start"] in (2, 3, 58, 59) and "no two frames of it are held out" in captured.err


def test_a_state_that_is_not_the_models_is_not_kept(film, tmp_path, capsys):
    """Saved again without --resumable, a checkpoint can't go on from what another run left there."""
    out = str(tmp_path)
    arguments = ["train", "--film", str(film), "--size", "48x80", "--out", out]
    assert main([*arguments, "--steps", "1", "--resumable"]) == 0
    assert main([*arguments, "--steps", "2"]) == 0
    assert main([*arguments, "--steps", "4", "--resume", out]) == 2
    assert "can't be resumed" in capsys.readouterr().err


def test_json_without_infinity(stills, tmp_path, capsys):
    """Of a film that stands still the share of its motion is infinite: null in JSON."""
    (tmp_path / "same").mkdir()
    for t in range(100):
        (tmp_path / "same" / f"{t:03}.png").write_bytes((stills / "0.png").read_bytes())
    common = ["--film", str(tmp_path / "same"), "--size", "48x80", "--gap", "1", "--json"]
    assert main(["train", *common, "--recipe", "v1", "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    assert main(["measure", *common, "--checkpoint", str(tmp_path / "run"), "--horizon", "16"]) == 0
    assert answer(capsys)["S"] is None


def test_a_fresh_process(run, film, tmp_path):
    """As `python -m roadtrip`, and without gradio or plotly in the core."""
    late = ("gradio", "plotly", "torchvision", "kornia", "av")
    code = f"import sys, roadtrip; sys.exit(any(m in sys.modules for m in {late}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    command = [sys.executable, "-m", "roadtrip", "train", "--film", str(tmp_path), "--out", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "There are no stills" in result.stderr and "Traceback" not in result.stderr
