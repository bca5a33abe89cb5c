"""Models in the app: where they come from, what leaves the server, and on which film they are shown."""

import hashlib
import json
import zipfile

import gradio as gr
import pytest
from roadtrip.ui.garage import ROAD, Garage, recipe_of
from safetensors.torch import load_file, save_file

import roadtrip as rt
from roadtrip.checkpoint import CONFIG, MODEL
from roadtrip.ui import scrub_tab, train_tab


def digest(model) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in model.state_dict().values())).hexdigest()


WAYS = ["x/../../../shipped", "/../../../shipped", "../../shipped", "x\n/../../../shipped", ".."]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("field", ["name", "seed", "step"])
def test_no_checkpoint_is_a_way_to_another_folder(field, way, served, checkpoints, tmp_path, monkeypatch):
    """The attack: a value that leads to the shipped folder, whose files were written over and whose neighbours sent."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(home))
    victim = rt.save(tmp_path / "shipped", rt.load(checkpoints / "v2"))
    (victim / "secret.txt").write_text("secret")
    before = {file.name: file.read_bytes() for file in victim.iterdir()}
    config = json.loads((checkpoints / "v1" / CONFIG).read_text())
    known = config["provenance"]
    (known["recipe"] if field == "name" else known)[field] = way
    save_file(load_file(checkpoints / "v1" / MODEL), tmp_path / MODEL, metadata={"config": json.dumps(config)})
    garage = Garage()
    if field == "name" and "\n" not in way:
        scrub_tab.take_checkpoint(garage, str(tmp_path / MODEL))
    else:
        with pytest.raises(gr.Error, match="provenance"):
            scrub_tab.take_checkpoint(garage, str(tmp_path / MODEL))
    with pytest.raises(gr.Error, match="nothing to download"):  # it was not trained here
        train_tab.package(garage)
    if garage.models:
        (garage.trained,) = garage.models.values()  # as if it were
        file = train_tab.package(garage)
        with zipfile.ZipFile(file) as archive:
            assert not any("secret" in n or ".." in n or n.startswith("/") for n in archive.namelist())
        assert file.startswith(f"{garage.outbox()}/") and home in garage.outbox().parents
    assert {file.name: file.read_bytes() for file in victim.iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"home", "shipped", MODEL}


def test_what_was_trained_here_is_packaged_whatever_was_uploaded_since(served, checkpoints):
    garage = Garage()
    *_, _ = train_tab.run(garage, ROAD, "", "v1", "width=8 depth=1", 0.3, 5)
    (name,) = garage.models
    scrub_tab.take_checkpoint(garage, str(checkpoints / "v2" / MODEL))
    garage.keep_model(name, rt.load(checkpoints / "v2"))  # even under the same name
    with zipfile.ZipFile(train_tab.package(garage)) as archive:
        (config,) = (n for n in archive.namelist() if n.endswith(CONFIG))
        assert json.loads(archive.read(config))["provenance"]["seed"] == 5
        assert "v1" in config and any(n.endswith("losses.csv") for n in archive.namelist())


def test_an_uploaded_model_from_nowhere(served, tmp_path):
    garage = Garage()
    rt.save(tmp_path, rt.NextFrame(width=8, depth=1))
    name = scrub_tab.take_checkpoint(garage, str(tmp_path / MODEL))["value"]
    assert name == "a model (uploaded)" and recipe_of(garage.model(name)) == ""
    words = scrub_tab.look(garage, name, ROAD, 0, 4, False)[2]
    assert "not on this film" in words
