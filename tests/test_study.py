"""The study: arms, rows that are kept, processes and Ray that give the same ones, and what a table says."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import roadtrip as rt
from roadtrip import calibration, study
from roadtrip.__main__ import main
from roadtrip.oscillation import ROW
from roadtrip.study import analysis, pool, running

TOO_LITTLE = {"width": 8, "depth": 1, "disc_width": 8, "batch": 2}
SMALL = tuple(f"{k}={v}" for k, v in sorted(TOO_LITTLE.items()))


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """A film file of a pattern that slides and wobbles."""
    folder = tmp_path_factory.mktemp("drive")
    noise = np.random.default_rng(0).integers(0, 255, (32, 500, 3), dtype=np.uint8)
    wide = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
    for t in range(120):
        x = 3 * t + t % 5
        wide.crop((x, 0, x + 48, 32)).save(folder / f"{t}.png")
    return rt.open_film(folder, size=(32, 48), gap=1, cache=False).save(folder.parent / "wobble.film")


def rows_of(path) -> list[study.Row]:
    return json.loads(path.read_text())["runs"]


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def arguments(drive, home):
    common = ["study", "--films", f"{drive}:1", "--size", "32x48", "--steps", "3", "--set", *SMALL]
    common += ["--arms", "v2", "pair", "--seeds", "0", "1"]
    return [*common, "--runs", str(home / "runs"), "--out", str(home / "results.json")]


def call(drive, home, *more):
    return main([*arguments(drive, home), *more])


@pytest.fixture(scope="module")
def table(drive, tmp_path_factory):
    home = tmp_path_factory.mktemp("table")
    assert call(drive, home, "--jobs", "1") == 0
    return home


@pytest.mark.parametrize("arm", study.ARMS)
def test_every_arm_trains(drive, arm):
    film = rt.open_film(drive, size=(32, 48), gap=1)
    *_, p = rt.train(replace(study.ARMS[arm], **TOO_LITTLE), film, steps=2, preview_every=1e9)
    assert all(math.isfinite(v) for v in p.losses.values())


def test_arms_differ_from_the_pair_in_what_they_are_called_after():
    pair = study.ARMS["pair"].to_dict()
    for name, changed in {
        "single": {"disc_frames"},
        "single-first": {"disc_frames", "disc_windows"},
        "pair-u4": {"unroll"},
        "pair-shuffled": {"disc_shuffle"},
        "cure-r1": {"r1_weight"},
        "cure-lstm": {"bottleneck", "depth"},
    }.items():
        arm = study.ARMS[name].to_dict()
        assert {k for k in pair if k != "name" and pair[k] != arm[k]} == changed


def test_a_second_setting_of_all_arms():
    assert study.Job("pair", changes=("l1_weight=10", "output=change")).recipe.output == "change"
    assert study.Job("v2", changes=("l1_weight=10",)).recipe == study.ARMS["v2"]  # nothing to weigh against
    pingpong = study.Job("cure-pingpong", changes=("l1_weight=10",)).recipe
    assert pingpong.pingpong_weight / pingpong.l1_weight == pytest.approx(
        study.ARMS["cure-pingpong"].pingpong_weight / study.ARMS["cure-pingpong"].l1_weight
    )
    plain, changed = study.Job("pair"), study.Job("pair", changes=("l1_weight=10",))
    assert plain.folder(plain.key("f", 1)) != changed.folder(changed.key("f", 1))
    for wrong in ("nonsense=1", "width=wide", "disc_shuffle=perhaps", "width"):
        with pytest.raises(rt.RoadtripError):
            study.Job("pair", changes=(wrong,))


def test_rows_say_everything(table):
    rows = rows_of(table / "results.json")
    assert [(r["arm"], r["seed"]) for r in rows] == [("v2", 0), ("v2", 1), ("pair", 0), ("pair", 1)]
    for row in rows:
        assert (row["film"], row["gap"], row["steps"], row["size"]) == ("wobble:1", 1, 3, [32, 48])
        for key in ("R", "N", "S", "B", "switches", "period", "sharpness", "verdict", "psnr", "ema", "multiplier"):
            assert key in row
        assert rt.Recipe.from_dict(row["recipe"]) == replace(study.ARMS[row["arm"]], **TOO_LITTLE)
        assert len(row["onset"]) == 4 and len(row["training_curve"]) == 3 and len(row["starts"]) == 8
        assert row["versions"]["torch"] == torch.__version__ and row["versions"]["cpu"]
        assert row["command"].startswith("python -m roadtrip study --arms")
        assert str(table) not in json.dumps(row)


def test_a_row_is_its_checkpoints_number(table, drive):
    row = rows_of(table / "results.json")[2]
    job = study.Job(row["arm"], f"{drive}:1", row["seed"], 3, (32, 48), SMALL)
    film = rt.open_film(drive, size=(32, 48), gap=1)
    model = rt.load(table / "runs" / job.folder(study.key_of(row)))
    assert study.is_model_of(model, row) and not study.is_model_of(model, row | {"gap": 2})
    measured = rt.evaluate(model, film, 64).to_dict()
    assert measured["R"] == pytest.approx(row["R"], rel=1e-4)
    assert measured["verdict"] == row["verdict"]


def test_a_row_is_never_run_again(table, drive, monkeypatch):
    before = (table / "results.json").read_text()
    forbid_runs(monkeypatch)
    assert call(drive, table) == 0
    assert (table / "results.json").read_text() == before


def test_processes_give_the_same_table_and_go_on_where_they_were_killed(table, drive, tmp_path):
    command = [sys.executable, "-m", "roadtrip", *arguments(drive, tmp_path), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 120
    while not (tmp_path / "results.json").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    workers = children_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(map(alive, workers)) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    kept = rows_of(tmp_path / "results.json")
    assert 1 <= len(kept) <= 4
    assert call(drive, tmp_path, "--jobs", "1") == 0
    rows = rows_of(tmp_path / "results.json")
    assert all(row in rows for row in kept)
    assert without_time(rows) == without_time(rows_of(table / "results.json"))


def children_of(pid):
    """Of a process, where the system tells."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_run_that_drives_on_is_calibrated_before_it_is_measured(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "FRAMES", 64)
    for arm, changes in (("v4", ("evaluations=1", "refine=0")), ("v2", ())):
        job = study.Job(arm, f"{drive}:1", 0, 3, (32, 48), (*SMALL, *changes), 64)
        row = running.run(job, tmp_path, "cpu")
        assert row["endless"]["horizon"] == 64 and ("calibration" in row) == (arm == "v4")
        assert running.run(job, tmp_path, "cpu") == row, "a finished run is read"
        if arm == "v4":
            (folder,) = tmp_path.glob("v4-*")
            sampler, rounds = rt.load(folder).sampler, row["calibration"]
            assert (rounds[0]["temperature"], rounds[0]["carry"]) != (sampler.temperature, sampler.carry)
            assert rounds[0]["temperature"] == row["recipe"]["temperature"] == 1.0


def test_neither_threads_nor_wider_vectors_change_a_bit(table, drive, tmp_path, monkeypatch):
    for name in study.VECTORS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    job = study.Job("pair", f"{drive}:1", 1, 3, (32, 48), SMALL)
    (row,) = study.study([job], tmp_path, workers=1)
    assert without_time([row]) == without_time(rows_of(table / "results.json")[3:])
    assert row["threads"] == 1 and not study.VECTORS.keys() & os.environ.keys()
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        assert row["versions"]["cpu"] == "AVX2"


def test_a_run_leaves_the_callers_threads_as_they_were(drive, tmp_path):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        row = study.run(study.Job("pair", f"{drive}:1", 1, 3, (32, 48), SMALL), tmp_path)
        assert torch.get_num_threads() == 3 and row["threads"] == 1
    finally:
        torch.set_num_threads(threads)


class Killed(BaseException):
    pass


def killed_at(monkeypatch, step):
    """Runs end at this step, as by a signal, and are saved after each; the list tells which steps are made."""
    made, whole_step = [], running.Run.step

    def end(self, steps, only=None):
        if self.step_count == step:
            raise Killed
        made.append(self.step_count)
        return whole_step(self, steps, only)

    monkeypatch.setattr(running, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(running.Run, "step", end)
    return made


@pytest.fixture
def unmeasured(monkeypatch):
    """Rows say what was trained, not how that drives."""
    monkeypatch.setattr(running, "measure", lambda *_: dict.fromkeys((*ROW, "onset", "psnr")))


@pytest.mark.parametrize("arm", ["pair", "v4"])
def test_a_run_that_was_killed_goes_on_and_gives_the_same_row(drive, tmp_path, monkeypatch, unmeasured, capsys, arm):
    job = study.Job(arm, f"{drive}:1", 3, 14, (32, 48), SMALL)
    unbroken = running.run(job, tmp_path / "unbroken")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, 9)
        running.run(job, tmp_path / "killed")
    assert "seed 3: step 8 of 14" in capsys.readouterr().err
    made = killed_at(monkeypatch, None)
    assert without_time([running.run(job, tmp_path / "killed")]) == without_time([unbroken])
    assert made == [*range(9, 14)]
    for name in sorted(p.relative_to(tmp_path / "unbroken") for p in (tmp_path / "unbroken").rglob("*.safetensors")):
        assert (tmp_path / "unbroken" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert not list(tmp_path.rglob("train-state*")), "what only an unfinished run needs goes with its end"


@pytest.mark.parametrize("fault", ["no state", "torn", "another seed", "no curve"])
def test_what_a_run_cannot_go_on_from_is_made_anew(drive, tmp_path, monkeypatch, unmeasured, fault):
    job = study.Job("v2", f"{drive}:1", 3, 5, (32, 48), SMALL)
    unbroken = running.run(job, tmp_path / "unbroken")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, 3)
        running.run(job, tmp_path / "killed")
    (state,) = tmp_path.rglob("train-state.safetensors")
    if fault == "no state":
        state.unlink()
    elif fault == "torn":
        state.write_bytes(state.read_bytes()[:-100])
    else:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            if fault == "no curve":
                patch.setattr(running, "to_json", lambda curve: None)
            killed_at(patch, 2)
            running.run(replace(job, seed=3 + (fault == "another seed")), tmp_path / "other")
        (other,) = (tmp_path / "other").rglob("train-state.safetensors")
        state.write_bytes(other.read_bytes())
    made = killed_at(monkeypatch, None)
    assert without_time([running.run(job, tmp_path / "killed")]) == without_time([unbroken])
    assert made == [*range(5)]


def test_a_run_that_cannot_be_saved_on_its_way_says_so_and_goes_on(drive, tmp_path, monkeypatch, unmeasured, capsys):
    def full(*_, **__):
        raise rt.RoadtripError("Cannot write the checkpoint: the disk is full; free some room.")

    monkeypatch.setattr(running, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(running, "save", full)
    row = running.run(study.Job("v2", f"{drive}:1", 3, 3, (32, 48), SMALL), tmp_path)
    assert len(row["training_curve"]) == 3 and capsys.readouterr().err.count("the disk is full") == 2


def test_vectors_set_by_hand_stay(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "DEFAULT")
    assert "ONEDNN_MAX_CPU_ISA" not in pool._vectors([])


def test_ray_gives_the_same_table(table, drive, tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra and not installed: pip install -e '.[study]'")
    assert call(drive, tmp_path, "--ray", "local") == 0
    assert without_time(rows_of(tmp_path / "results.json")) == without_time(rows_of(table / "results.json"))


def test_bad_calls_are_one_sentence(drive, tmp_path, capsys):
    for wrong in (["--arms", "nonsense"], ["--size", "7x9"], ["--size", "x"], ["--films", str(tmp_path / "none")]):
        out = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results.json")]
        assert main(["study", "--steps", "1", "--seeds", "0", "--arms", "v1", *out, *wrong]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].endswith(".")
    (tmp_path / "other.json").write_text("[]")
    for out, says in (("other.json", "is not a study's table"), (".", "is a folder"), ("other.json/x", "Cannot write")):
        assert main(["study", "--films", "nowhere", "--out", str(tmp_path / out)]) == 2
        assert says in capsys.readouterr().err
    assert main(["study", "--films", "nowhere", "--runs", str(tmp_path / "other.json")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    for wrong, says in (
        (["--steps", "0"], "at least 1"),
        (["--seeds", "-1"], "Seed -1"),
        (["--device", "foo"], "'foo'"),
    ):
        assert main(["study", "--films", "nowhere", "--runs", str(tmp_path / "runs"), *wrong]) == 2
        assert says in capsys.readouterr().err


def forbid_runs(monkeypatch):
    monkeypatch.setattr(pool, "_in_processes", lambda *_: pytest.fail("a run began"))


def test_a_published_row_is_taken_and_the_published_table_stays(tmp_path, monkeypatch):
    """As README calls it, from a folder of one's own and with the project's."""
    forbid_runs(monkeypatch)
    for home, out in ((tmp_path, "runs/study/results.json"), (study.PUBLISHED.parents[1], str(tmp_path / "own.json"))):
        monkeypatch.chdir(home)
        before = study.PUBLISHED.read_bytes()
        more = ["--out", out] if home != tmp_path else []
        assert main(["study", "--arms", "pair", "--films", "scenery", "--seeds", "0", "3", *more]) == 0
        assert study.PUBLISHED.read_bytes() == before
        rows = study.read_results(out)
        assert [(r["arm"], r["film"], r["seed"]) for r in rows] == [("pair", "scenery", 0), ("pair", "scenery", 3)]
        assert all(row in study.read_results(study.PUBLISHED) for row in rows)


def test_a_row_of_another_film_by_that_name_is_not_taken():
    row = next(r for r in study.read_results(study.PUBLISHED) if study.job_of(r) == study.Job("pair"))
    assert study.plan([study.Job("pair")], [row]) == ([row], [])
    for other in (row | {"fingerprint": "0" * 64}, row | {"gap": row["gap"] + 1}):
        assert study.plan([study.Job("pair")], [other]) == ([], [study.Job("pair")])
    # the same film under another name, and asked for twice
    twice = [study.Job("pair", "scenery:0"), study.Job("pair", f"scenery:0:{row['gap']}")]
    assert study.plan(twice, [row]) == ([row], []) and len(study.plan(twice, [])[1]) == 1


def test_two_folders_of_one_name_have_a_row_each(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (2, 130, 32, 48, 3), dtype=np.uint8)
    for home, frames in zip("ab", noise):
        (tmp_path / home / "stills").mkdir(parents=True)
        for t in range(100):
            Image.fromarray(frames[t]).filter(ImageFilter.GaussianBlur(2)).save(tmp_path / home / "stills" / f"{t}.png")
    films = [f"{tmp_path / home / 'stills'}:1" for home in "ab"]
    common = [
        "study",
        "--films",
        *films,
        "--arms",
        "v1",
        "--size",
        "32x48",
        "--steps",
        "1",
        "--seeds",
        "0",
        "--set",
        *SMALL,
    ]
    assert main([*common, "--jobs", "1", "--runs", str(tmp_path / "runs")]) == 0
    rows = rows_of(tmp_path / "runs" / "results.json")
    assert [r["film"] for r in rows] == ["stills:1"] * 2 and len({r["fingerprint"] for r in rows}) == 2
    assert len(list((tmp_path / "runs").glob("*/row.json"))) == 2
    assert [len(g.seeds) for g in analysis.groups(rows)] == [1, 1]


def test_what_another_study_adds_meanwhile_stays(table, drive, tmp_path, monkeypatch):
    first, second, *_ = rows_of(table / "results.json")

    def runs(*_):
        study.write_results(tmp_path / "results.json", [second])  # as another study would
        yield first

    monkeypatch.setattr(study, "study", runs)
    assert call(drive, tmp_path) == 0
    assert rows_of(tmp_path / "results.json") == [first, second]


def test_two_processes_write_one_table(table, tmp_path):
    code = """
import json, sys
from roadtrip import study
(row, *_), out, first = study.read_results(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for seed in range(first, first + 25):
    study.add_rows(out, [row | {"seed": seed}])
"""
    out, source = str(tmp_path / "results.json"), str(table / "results.json")
    writers = [subprocess.Popen([sys.executable, "-c", code, source, out, first]) for first in ("0", "25", "25")]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert [row["seed"] for row in rows_of(tmp_path / "results.json")] == list(range(50))


def test_a_row_from_before_a_field_was_added_is_still_the_runs(table, drive):
    row = rows_of(table / "results.json")[0]
    job = study.Job(row["arm"], f"{drive}:1", row["seed"], 3, (32, 48), SMALL)
    older = row | {"recipe": {k: v for k, v in row["recipe"].items() if k not in ("ema", "spectral")}}
    assert study.plan([job], [older]) == ([older], [])
    for broken in (row | {"recipe": {"nonsense": 1}}, row | {"size": 48}, {"arm": "v2"}):
        with pytest.raises(rt.RoadtripError, match="not one of the study's"):
            study.plan([job], [broken])


def test_a_film_and_its_gap(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take:2").mkdir()
    for text, film, gap in [
        ("stills", "stills", None),
        ("ca_freeway:8", "ca_freeway", "8"),
        ("drive.mp4:0.5s", "drive.mp4", "0.5s"),
        ("scenery", "scenery", None),
        ("scenery:7", "scenery:7", None),  # a seed, as in open_film
        ("scenery:7:12", "scenery:7", "12"),
        ("./scenery:7", "./scenery", "7"),
        ("C:\\trips\\stills", "C:\\trips\\stills", None),
        ("C:\\trips\\stills:8", "C:\\trips\\stills", "8"),
        ("take:2", "take:2", None),  # there is a folder of that name
        ("take:2:8", "take:2", "8"),
        (":8", ":8", None),
        ("x" * 5000 + ":8", "x" * 5000, "8"),
    ]:
        assert study.rows.film_and_gap(text) == (film, gap)
    assert study.Job("pair", "scenery:7").film_name == "scenery:7"
    assert study.Job("pair", "take:2:8").film_name == "take-2:8"
    assert study.Job("pair", "~/trips/v1.2:8").film_name == "v1.2:8"
    seven = rt.open_film("scenery:7", size=(32, 48))
    (job,) = study.plan([study.Job("pair", "scenery:7", size=(32, 48))], [])[1]
    assert running.open_job(job).fingerprint == seven.fingerprint
    other = running.open_job(study.Job("pair", "scenery:7:12", size=(32, 48)))
    assert (other.fingerprint, other.gap) == (seven.fingerprint, 12)


def test_a_film_too_short_to_measure_on_is_told_before_training(drive, tmp_path, monkeypatch):
    film = rt.open_film(drive, size=(32, 48))
    short = replace(film, frames=film.frames[:60]).save(tmp_path / "short.film")
    monkeypatch.setattr(running, "Run", lambda *_: pytest.fail("a run began"))
    with pytest.raises(rt.RoadtripError, match="held-out stretch"):
        study.run(study.Job("v1", f"{short}:1", 0, 1, (32, 48), SMALL), tmp_path)


# --- what a table says ------------------------------------------------------------------------------------------------


def test_permutation_test_by_hand():
    # 3 against 3, all of one side below the other: 2 of 20 deals are as far apart
    assert analysis.permutation_test([([1.0, 2, 3], [4.0, 5, 6])]) == pytest.approx(2 / 20)
    # in two films at once: both sums at their end, or both at the other
    assert analysis.permutation_test([([1.0, 2, 3], [4.0, 5, 6])] * 2) == pytest.approx(2 / 400)
    assert analysis.permutation_test([([1.0, 1], [1.0, 1])]) == 1
    # of ten and five and five on either side, too many deals to make each, all the way apart
    apart = [([0.0] * n, [1.0] * n) for n in (10, 5, 5)]
    assert analysis.permutation_test(apart) == pytest.approx(2 / (184756 * 252 * 252))
    with pytest.raises(rt.RoadtripError):
        analysis.permutation_test([([], [1.0])])
    with pytest.raises(rt.RoadtripError, match="too many"):
        analysis.permutation_test(apart * 2)


def test_permutation_test_counts_what_brute_force_counts():
    rng = np.random.default_rng(3)
    strata = [(list(rng.normal(0.5, 1, n)), list(rng.normal(0, 1, m))) for n, m in ((3, 4), (2, 3), (4, 2))]

    def deals(a, b):
        values = np.array(a + b)
        for picked in itertools.combinations(range(len(values)), len(a)):
            rest = np.setdiff1d(range(len(values)), picked)
            yield values[list(picked)].mean() - values[rest].mean()

    seen = abs(sum(np.mean(a) - np.mean(b) for a, b in strata))
    ways = [abs(sum(w)) >= seen - 1e-9 for w in itertools.product(*(deals(a, b) for a, b in strata))]
    assert analysis.permutation_test(strata) == pytest.approx(np.mean(ways))


def test_holm_by_hand():
    assert analysis.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert analysis.holm([]) == []


def test_the_best_cure_oscillates_least_and_is_nearest_to_real_film():
    def row(arm, seed, verdict, R, oscillating, sharpness=1.0):
        checks = ["oscillates"] * oscillating + ["moves"] * (12 - oscillating)
        curve = [{"step": i, "verdict": verdict} for i, verdict in enumerate(checks)]
        known = {"R": R, "sharpness": sharpness, "training_curve": curve, "real": {"return_ratio": 1.25}}
        return {"arm": arm, "seed": seed, "verdict": verdict} | known

    def best(*runs, **rule):
        return analysis.best_cure([row(*run) for run in runs], **rule)

    r1, noise = [("cure-r1", i, "moves", 1.7, 0) for i in (0, 1)], [("cure-noise", i, "moves", 1.5, 0) for i in (0, 1)]
    assert best(*r1, *noise) == "cure-noise"
    assert best(*r1, noise[0], ("cure-noise", 1, "moves", 1.5, 3)) == "cure-r1"  # it oscillated now and then
    assert best(*r1, noise[0], ("cure-noise", 1, "3-cycle", 1.5, 0)) == "cure-r1"  # it ended so
    assert best(noise[0], ("cure-noise", 1, "frozen", None, 0)) is None
    assert best(*r1, noise[0]) == "cure-r1"  # one seed is not enough
    assert best(*noise, ("cure-noise", 2, "oscillates", 0.2, 12)) == "cure-noise"  # chosen at two
    assert best(("pair", 0, "moves", 1.25, 0), ("pair", 1, "moves", 1.25, 0)) is None
    stripes = [("cure-noise", i, "moves", 1.25, 0, 2.5) for i in (0, 1)]
    assert best(*r1, *stripes) == "cure-noise" and best(*r1, *stripes, sharp=True) == "cure-r1"
    blurred = [("cure-noise", i, "moves", 1.25, 0, 0.6) for i in (0, 1)]
    assert best(*blurred, sharp=True) == "cure-noise" and best(*r1, *blurred, sharp=True) == "cure-r1"


def test_frozen_runs_are_counted_apart(table):
    rows = [row | {"R": 1.5, "verdict": "moves"} for row in rows_of(table / "results.json")]
    rows[0] |= {"R": 1.99, "verdict": "frozen"}  # a ratio of two distances that are both too small to see
    group = next(g for g in analysis.groups(rows) if g.arm == "v2")
    assert group.share("frozen") == 0.5 and group.spread["R"] == (1.5, 1.5, 1.5)
    (found,) = analysis.compare(rows, "pair")
    assert (found.other, found.films) == ("v2", ("wobble:1",)) and 0 < found.p <= found.adjusted <= 1
    (share,) = analysis.compare(rows, "pair", "frozen")
    assert share.difference <= 0


def test_what_is_not_a_measure_is_told(table):
    rows = rows_of(table / "results.json")
    for wrong in ("Rr", "oscilates", "returns", "2-cycle", "9-cycle", ""):
        with pytest.raises(rt.RoadtripError, match="choose from: R, N, .*oscillates.*8-cycle"):
            analysis.measure_value(rows[0], wrong)
        with pytest.raises(rt.RoadtripError, match="choose from"):
            analysis.compare(rows, "pair", wrong)
        with pytest.raises(rt.RoadtripError, match="choose from"):
            analysis.groups(rows)[0].share(wrong)
    with pytest.raises(rt.RoadtripError, match="no arm 'pear'"):
        analysis.compare(rows, "pear")
    assert {row["verdict"] for row in study.read_results(study.PUBLISHED)} <= {*analysis.VERDICTS}


def test_the_share_of_checks_that_oscillate():
    training_curve = [{"verdict": v} for v in ("moves", "oscillates", "3-cycle", "frozen")]
    assert analysis.measure_value({"training_curve": training_curve}, "oscillating_share") == 0.5
    assert analysis.measure_value({"training_curve": []}, "oscillating_share") is None
    assert analysis.measure_value({"verdict": "frozen", "R": None}, "frozen") == 1


def test_gains_are_over_the_best_baseline_there():
    row = {
        "psnr": {"model": [20, 18, 17], "copy_last": [19, 16, 14], "linear": [17, 12, 8], "mean_frame": [16, 17, 18]}
    }
    assert [analysis.measure_value(row, gain) for gain in ("gain1", "gain4", "gain16")] == [1, 1, -1]


def test_the_median_seed():
    rows = [{"R": r, "seed": i, "verdict": "moves"} for i, r in enumerate((0.5, None, 1.5, 1.0, 0.7))]
    assert analysis.median_seed(rows)["seed"] == 4
    assert analysis.median_seed([row | {"verdict": "frozen"} if row["R"] == 1.5 else row for row in rows])["seed"] == 0
    assert analysis.median_seed(rows[:2])["seed"] == 1
    later = [rows[0] | {"seed": analysis.SELECTION_SEEDS + i, "R": 0.0} for i in range(9)]
    assert analysis.median_seed(rows + later)["seed"] == 4
