"""Checkpoints: what comes back, and what is refused before a network is built."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import roadtrip as rt
from roadtrip import study
from roadtrip.checkpoint import CONFIG, MODEL
from roadtrip.evaluation import N_STARTS, film_windows
from roadtrip.film import evenly_spaced
from roadtrip.oscillation import median_oscillation, oscillation
from roadtrip.train import mean_frame


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = rt.NextFrame(width=8, depth=1, size=(16, 24), provenance={"seed": 5, "held_out": 0.2})
    model.mean_frame.fill_(7)
    torch.nn.init.normal_(model.decoder.out.weight)
    return rt.save(tmp_path / "run", model)


def drive(model):
    f1, f2 = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    return rt.rollout(model, f1, f2, 4)


def test_comes_back(folder):
    model = rt.load(folder)
    assert model.provenance == {"seed": 5, "held_out": 0.2} and (model.mean_frame == 7).all()
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, MODEL]
    # one uploaded file is enough, and the Hub's own way gives the same
    assert torch.equal(drive(model), drive(rt.load(folder / MODEL)))
    assert torch.equal(drive(model), drive(rt.NextFrame.from_pretrained(folder)))
    assert rt.NextFrame.from_pretrained(folder).provenance["seed"] == 5


def test_saving_again_leaves_other_files(folder):
    (folder / "notes.txt").write_text("mine")
    rt.save(folder, rt.load(folder))
    assert (folder / "notes.txt").read_text() == "mine" and len(list(folder.iterdir())) == 3


def test_interrupted_save_keeps_the_old(folder, monkeypatch):
    before = (folder / MODEL).read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("roadtrip.checkpoint.save_file", full)
    with pytest.raises((OSError, rt.RoadtripError)):
        rt.save(folder, rt.load(folder))
    assert (folder / MODEL).read_bytes() == before and len(list(folder.iterdir())) == 2


def rewritten(folder, config=None, **tensors):
    state = load_file(folder / MODEL) | tensors
    text = json.loads((folder / CONFIG).read_text()) | (config or {})
    save_file(state, folder / MODEL, metadata={"config": json.dumps(text)})
    return folder


@pytest.mark.parametrize("config", [
    {"width": 4096}, {"width": "8"}, {"depth": -1}, {"bottleneck": "os"}, {"size": [7, 8]}, {"size": 3}, {"provenance": []},
    {"width": True},
], ids=str)  # fmt: skip
def test_hostile_config_is_a_sentence(folder, config):
    with pytest.raises(rt.RoadtripError, match="does not describe"):
        rt.load(rewritten(folder, config))


def test_weights_that_do_not_fit(folder):
    with pytest.raises(rt.RoadtripError, match="don't fit"):
        rt.load(rewritten(folder, {"width": 16}))
    with pytest.raises(rt.RoadtripError, match="NaN"):
        rt.load(rewritten(folder, **{"decoder.out.bias": torch.full((48,), float("nan"))}))


def test_a_pickle_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    (tmp_path / MODEL).write_bytes(pickle.dumps(Bomb()))
    for path in (tmp_path, tmp_path / MODEL):
        with pytest.raises(rt.RoadtripError, match="not a safetensors file"):
            rt.load(path)


def test_not_there_or_cut_off(folder, tmp_path):
    with pytest.raises(rt.RoadtripError, match="no checkpoint"):
        rt.load(tmp_path / "nowhere")
    data = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(data[: len(data) // 2])
    with pytest.raises(rt.RoadtripError, match="not a safetensors"):
        rt.load(folder)
    (folder / MODEL).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(rt.RoadtripError, match="not a safetensors"):
        rt.load(folder)


SHIPPED = sorted((Path(__file__).parents[1] / "checkpoints").glob(f"*/{MODEL}"))


def test_every_recipe_is_shipped():
    assert {file.parent.name for file in SHIPPED} >= set(rt.RECIPES)


@pytest.fixture(scope="module")
def road():
    """As it is rendered now, whatever an earlier day has kept."""
    return rt.open_film("scenery", size=study.SIZE, cache=False)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_what_ships_was_trained_on_the_road_that_is_rendered(file, road):
    model = rt.load(file.parent)
    recipe = rt.Recipe.from_dict(model.provenance["recipe"])
    seen = road.starts(recipe.clip, "train", model.provenance["held_out"])
    rendered = mean_frame(road, seen, recipe.clip)
    assert model.provenance["film"]["fingerprint"] == road.fingerprint
    assert (model.mean_frame.int() - rendered.int()).abs().max() <= 1  # a rounding between machines


def test_what_ships_is_a_run_of_the_study(road):
    """Its row is its number: the same run, and measured again it moves as the row says."""
    rows = study.read_results(SHIPPED[0].parents[1] / "results.json")
    for file in SHIPPED:
        model = rt.load(file.parent)
        row, *_ = [r for r in rows if study.is_model_of(model, r)]
        assert tuple(row["size"]) == study.SIZE
        begin = road.clips(evenly_spaced(road.starts(2, "held_out", 0.2), N_STARTS), 2)
        late = rt.rollout(model, begin[:, 0], begin[:, 1], study.HORIZON)[:, -study.HORIZON // 2 :]
        measured = median_oscillation([oscillation(y, film_windows(road, late.shape[1])) for y in late])
        assert measured.verdict == row["verdict"]
        assert row["R"] is None or measured.return_ratio == pytest.approx(row["R"], rel=0.2)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_shipped_checkpoints_drive(file):
    assert file.stat().st_size <= 8e6
    model = rt.load(file.parent)
    recipe = rt.Recipe.from_dict(model.provenance["recipe"])
    ours = rt.RECIPES.get(file.parent.name, recipe)
    assert recipe == replace(ours, name=recipe.name)  # the study calls v3-pair and v3-single pair and single
    f1, f2 = torch.rand(2, 3, 72, 128, generator=torch.Generator().manual_seed(0))
    assert rt.rollout(model, f1, f2, 2).isfinite().all()
