"""Checkpoints: what comes back, and what is refused before a network is built."""

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import roadtrip as rt
from roadtrip import study
from roadtrip.checkpoint import (
    ARCHITECTURE,
    CONFIG,
    MAX_BYTES,
    MODEL,
    STATE,
    Provenance,
    Start,
    load_state,
    new_provenance,
)
from roadtrip.evaluation import HORIZON, N_STARTS, film_windows
from roadtrip.film import evenly_spaced
from roadtrip.oscillation import median_oscillation, oscillation
from roadtrip.train import mean_frame

small = replace(rt.RECIPES["v1"], width=8, depth=1, batch=1)


def film_of(name: str = "stills") -> rt.Film:
    """Frames of noise, as of one source."""
    noise = torch.randint(256, (20, 3, 16, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return rt.Film(noise, (), 1, 25.0, (0,), name, "ab" * 32, drive_ids=("cd" * 32,))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = rt.NextFrame(width=8, depth=1, size=(16, 24))
    model.provenance = replace(new_provenance(small, film_of(), 5, 0.25, "float32", "cpu"), step=2)
    model.mean_frame.fill_(7)
    torch.nn.init.normal_(model.decoder.out.weight)
    return rt.save(tmp_path / "run", model)


def drive(model):
    f1, f2 = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    return rt.rollout(model, f1, f2, 4)


def test_comes_back(folder):
    model = rt.load(folder)
    assert (model.provenance.step, model.provenance.seed, model.provenance.film.frames) == (2, 5, 20)
    assert (model.mean_frame == 7).all()
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, MODEL]
    # one uploaded file is enough, and the Hub's own way gives the same
    assert torch.equal(drive(model), drive(rt.load(folder / MODEL)))
    assert torch.equal(drive(model), drive(rt.NextFrame.from_pretrained(folder)))
    assert rt.NextFrame.from_pretrained(folder).provenance.seed == 5


def test_fresh_weights_come_from_nowhere(tmp_path):
    for known in (None, {}):
        rt.save(tmp_path, rt.NextFrame(width=8, depth=1, size=(16, 24)))
        assert rt.load(rewritten(tmp_path, {"provenance": known})).provenance is None


def test_the_hub_gets_what_training_knows(tmp_path):
    """save_pretrained, which push_to_hub calls, writes what was trained and not what the network was made with."""
    *_, p = rt.train(small, film_of(), steps=2, seed=3, preview_every=1e9)
    p.model.save_pretrained(tmp_path)
    there = rt.NextFrame.from_pretrained(tmp_path)
    assert (there.provenance.seed, there.provenance.step, there.provenance.recipe) == (3, 2, small)
    assert all(torch.equal(a, b) for a, b in zip(there.parameters(), p.model.parameters(), strict=True))
    assert all(w.requires_grad for w in there.parameters())
    assert (tmp_path / "README.md").exists() and rt.load(tmp_path).provenance == there.provenance


def test_the_hub_opens_no_pickle_either(folder):
    (folder / MODEL).unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(rt.RoadtripError, match="no checkpoint"):
        rt.NextFrame.from_pretrained(folder)


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


HOSTILE = [
    ("seed", -1), ("seed", 2**31), ("seed", True), ("seed", "5"), ("seed", 1.0), ("seed", 10**400), ("seed", None),
    ("step", -1), ("step", 2**60), ("step", [3]), ("steps", 1), ("steps", "9"), ("steps", float("nan")),
    ("held_out", float("nan")), ("held_out", 0.95), ("held_out", -0.1), ("held_out", "0.2"), ("held_out", False),
    ("dtype", "float8"), ("dtype", ["float32"]), ("device", "../cpu"), ("device", "cpu\n"), ("device", ""),
    ("versions", []), ("versions", {"torch": 2}), ("versions", {"torch": "2\n"}), ("versions", {"a" * 99: "1"}),
    ("versions", {str(i): "1" for i in range(99)}),
    ("start", "v1"), ("start", {}), ("start", {"name": "v1", "digest": "ab"}), ("start", {"name": 1, "digest": "ab" * 32}),
    ("start", {"name": "v1", "digest": "ab" * 32, "drive_ids": ["x"]}),
    ("resumed_at", 3), ("resumed_at", [3]), ("resumed_at", [[1, 2, 3]]), ("resumed_at", [["1", 2]]),
    ("resumed_at", [[1, -2]]), ("resumed_at", [[1, 2]] * 20000),
    ("film", None), ("film", []), ("film", {}), ("film", "scenery"), ("film.name", 3), ("film.name", ["x"]),
    ("film.fingerprint", "../../x"), ("film.fingerprint", "ab" * 32 + "\n"), ("film.fingerprint", "AB" * 32),
    ("film.fingerprint", "ab"), ("film.fingerprint", "ab" * 10**5), ("film.fingerprint", None),
    ("film.fingerprint", "٣" * 64),
    ("film.gap", 0), ("film.gap", 1.5), ("film.gap", True), ("film.gap", "1"), ("film.gap", 10**30), ("film.fps", 10**400),
    ("film.fps", 0), ("film.fps", float("inf")), ("film.fps", float("nan")), ("film.fps", "25"), ("film.fps", True),
    ("film.frames", -1), ("film.frames", 1e3), ("film.drive_ids", "cd" * 32), ("film.drive_ids", ["../x"]),
    ("film.drive_ids", [None]), ("film.drive_ids", ["cd" * 32] * 20000), ("film.extra", 1), ("extra", 1),
    ("recipe", None), ("recipe", []), ("recipe", "v1"), ("recipe.width", 7), ("recipe.width", "8"),
    ("recipe.width", [[[8]]]), ("recipe.lr", float("nan")), ("recipe.lr", 10**400), ("recipe.wings", 2),
    ("recipe.feedback", "x" * 10**6), ("recipe.name", None), ("recipe.__class__", "x"),
]  # fmt: skip
TEXTS = {
    "a line": "a\nb", "nothing": "a\0b", "a return": "a\r", "an escape": "\x1b[2J", "much": "x" * 10**5,
    "a surrogate": "\ud800", "leftwards": "\u202egnp.exe", "a separator": "a\u2028b", "no width": "a\u200bb",
}  # fmt: skip
HOSTILE += [(name, text) for name in ("film.name", "recipe.name") for text in TEXTS.values()]


@pytest.mark.parametrize("name, value", HOSTILE, ids=lambda v: repr(v)[:30])
def test_hostile_provenance_is_a_sentence(folder, name, value):
    known = json.loads((folder / CONFIG).read_text())["provenance"]
    *inner, last = name.split(".")
    (known[inner[0]] if inner else known)[last] = value
    with pytest.raises(rt.RoadtripError) as error:
        rt.load(rewritten(folder, {"provenance": known}))
    said = str(error.value)
    assert len(said) < 300 and said.isprintable() and said.endswith(".")


@pytest.mark.parametrize("name", ["recipe", "film", "seed", "film.name", "film.fingerprint", "film.gap"])
def test_provenance_that_lacks_something(folder, name):
    known = json.loads((folder / CONFIG).read_text())["provenance"]
    *inner, last = name.split(".")
    del (known[inner[0]] if inner else known)[last]
    with pytest.raises(rt.RoadtripError, match="lacks|should be"):
        rt.load(rewritten(folder, {"provenance": known}))


def test_older_provenance_gets_its_defaults(folder):
    known = json.loads((folder / CONFIG).read_text())["provenance"]
    for part, name in ((known, "resumed_at"), (known["film"], "drive_ids"), (known["recipe"], "replay")):
        del part[name]
    there = rt.load(rewritten(folder, {"provenance": known})).provenance
    assert there.resumed_at == there.film.drive_ids == () and there.recipe == small


def test_provenance_there_and_back():
    known = replace(new_provenance(small, film_of(), 5, 0.0, "bfloat16", "cuda"), step=7, steps=9)
    known = replace(known, resumed_at=((3, None), (5, 9)), start=Start("v1", "ab" * 32, ("cd" * 32,)))
    assert Provenance.from_dict(json.loads(json.dumps(known.to_dict(), allow_nan=False))) == known


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_trained_here_can_be_loaded_whatever_its_name(text, tmp_path):
    *_, p = rt.train(replace(small, name=text), film_of(text), steps=1, preview_every=1e9)
    known = rt.load(rt.save(tmp_path, p)).provenance
    assert known.film.name.isprintable() and known.recipe.name.isprintable() and known == p.model.provenance


def deep(n: int) -> str:
    return "[" * n + "]" * n


@pytest.mark.parametrize("depth", [30, 900, 100_000])
def test_deeply_nested_json_is_a_sentence(folder, depth):
    text = (folder / CONFIG).read_text()
    nested = [text.replace(f'"{name}": {old}', f'"{name}": {deep(depth)}')
              for name, old in (("seed", "5"), ("width", "8"), ("gap", "1"), ("dtype", '"float32"'))]  # fmt: skip
    for config in (*nested, deep(depth)):
        assert config != text
        for metadata in ({"config": config}, None):  # in the weights' header, or beside them
            save_file(load_file(folder / MODEL), folder / MODEL, metadata=metadata)
            (folder / CONFIG).write_text(config)
            with pytest.raises(rt.RoadtripError) as error:
                rt.load(folder)
            assert len(str(error.value)) < 300


@pytest.mark.parametrize("facts", [deep(100_000), deep(20), "3", "null", "{", '{"step": []}', '{"step": "x"}'])
def test_a_damaged_train_state_is_a_sentence(facts, tmp_path):
    *_, p = rt.train(small, film_of(), steps=1, preview_every=1e9)
    rt.save(tmp_path, p, resumable=True)
    if facts.startswith('{"'):
        facts = json.dumps(load_state(tmp_path)[1] | json.loads(facts))
    save_file(load_file(tmp_path / STATE), tmp_path / STATE, metadata={"facts": facts})
    with pytest.raises(rt.RoadtripError, match="damaged"):
        rt.train(small, film_of(), steps=3, resume=tmp_path)


def test_a_train_state_goes_with_the_weights_it_belongs_to(tmp_path):
    *_, p = rt.train(small, film_of(), steps=1, preview_every=1e9)
    rt.save(tmp_path, p, resumable=True)
    *_, p = rt.train(small, film_of(), steps=2, preview_every=1e9)
    rt.save(tmp_path, p)
    with pytest.raises(rt.RoadtripError, match="can't be resumed"):
        rt.train(small, film_of(), steps=3, resume=tmp_path)


def test_every_network_that_a_recipe_describes_can_be_loaded():
    """The largest there is, with a mean frame of the largest size that a config may hold."""
    spans = {f.name: f.metadata["span"] for f in fields(rt.Recipe) if f.name in ("width", "depth")}
    assert spans == {name: (ARCHITECTURE[name][0], ARCHITECTURE[name][-1]) for name in spans}
    with torch.device("meta"):
        largest = rt.NextFrame(256, 16, "lstm", "warp", True, (4096, 4096))
    assert sum(t.nbytes for t in largest.state_dict().values()) + 2**20 < MAX_BYTES


def test_a_file_that_is_too_large_is_not_read(folder):
    with (folder / MODEL).open("r+b") as file:
        file.truncate(MAX_BYTES + 1)  # sparse
    with pytest.raises(rt.RoadtripError, match="larger than 512 MB"):
        rt.load(folder)


def test_a_resumed_run_says_where(tmp_path):
    *_, p = rt.train(small, film_of(), steps=2, preview_every=1e9)
    rt.save(tmp_path, p, resumable=True)
    *_, p = rt.train(small, film_of(), steps=3, resume=tmp_path, preview_every=1e9)
    assert p.model.provenance.resumed_at == ((2, 2),) and p.model.provenance.step == 3
    *_, p = rt.train(small, film_of(), steps=5, resume=p, preview_every=1e9)
    assert p.ema.provenance.resumed_at == ((2, 2), (3, 3))


def test_a_checkpoint_of_an_earlier_version_is_called_so(folder):
    config = json.loads((folder / CONFIG).read_text())
    old = {{"bottleneck": "middle", "noise_conditioned": "told"}.get(k, k): v for k, v in config.items()}
    save_file(load_file(folder / MODEL), folder / MODEL, metadata={"config": json.dumps(old)})
    with pytest.raises(rt.RoadtripError, match="earlier Roadtrip"):
        rt.load(folder)


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
    recipe = model.provenance.recipe
    road = road if model.size == road.size else rt.open_film("scenery", size=model.size)
    seen = road.starts(recipe.clip, "train", model.provenance.held_out)
    rendered = mean_frame(road, seen, recipe.clip)
    assert model.provenance.film.fingerprint == road.fingerprint and model.provenance.film.drive_ids == road.drive_ids
    assert (model.mean_frame.int() - rendered.int()).abs().max() <= 1  # a rounding between machines


def test_what_ships_is_a_run_of_the_study(road):
    """Its row is its number: the same run, and measured again it moves as the row says."""
    rows = study.read_results(SHIPPED[0].parents[1] / "results.json")
    for file in SHIPPED:
        model = rt.load(file.parent)
        row, *_ = [r for r in rows if study.is_model_of(model, r)]
        film = road if tuple(row["size"]) == study.SIZE else rt.open_film("scenery", size=tuple(row["size"]))
        begin = film.clips(evenly_spaced(film.starts(2, "held_out", 0.2), N_STARTS), 2)
        late = rt.rollout(model, begin[:, 0], begin[:, 1], HORIZON)[:, -HORIZON // 2 :]
        measured = median_oscillation([oscillation(y, film_windows(film, late.shape[1])) for y in late])
        assert measured.verdict == row["verdict"]
        assert row["R"] is None or measured.return_ratio == pytest.approx(row["R"], rel=0.2)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_shipped_checkpoints_drive(file):
    assert file.stat().st_size <= 8e6
    model = rt.load(file.parent)
    recipe = model.provenance.recipe
    ours = rt.RECIPES.get(file.parent.name, recipe)
    assert recipe == replace(ours, name=recipe.name)  # the study calls v3-pair and v3-single pair and single
    f1, f2 = torch.rand(2, 3, 72, 128, generator=torch.Generator().manual_seed(0))
    assert rt.rollout(model, f1, f2, 2).isfinite().all()
