"""Models in the app: where they come from, what leaves the server, and on which film they are shown."""

import hashlib
import json
import shutil
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

import roadtrip as rt
from roadtrip.checkpoint import CONFIG, MODEL, new_provenance
from roadtrip.ui import compare_tab, compute, film_section, library, scrub_tab, study_tab, train_tab, training
from roadtrip.ui.library import ROAD
from roadtrip.ui.session import Session, Training
from roadtrip.ui.starts import film_for, offered_starts, provenance_note, recipe_of


def scrub(*asked):
    return scrub_tab.scrubbed.now(*asked).answer


def compare(*asked):
    return compare_tab.compared.now(*asked).answer


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
    session = Session()
    if field == "name" and "\n" not in way:
        scrub_tab.take_checkpoint(session, str(tmp_path / MODEL))
    else:
        with pytest.raises(gr.Error, match="provenance"):
            scrub_tab.take_checkpoint(session, str(tmp_path / MODEL))
    with pytest.raises(gr.Error, match="nothing to download"):  # it was not trained here
        train_tab.package(session)
    if session.models:
        (session.trained,) = session.models.values()  # as if it were
        file = train_tab.package(session)
        with zipfile.ZipFile(file) as archive:
            assert not any("secret" in n or ".." in n or n.startswith("/") for n in archive.namelist())
        assert file.startswith(f"{session.download_dir()}/") and home in session.download_dir().parents
    assert {file.name: file.read_bytes() for file in victim.iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"home", "shipped", MODEL}


def test_what_was_trained_here_is_packaged_whatever_was_uploaded_since(served, checkpoints):
    session = Session()
    *_, _ = train_tab.run(session, ROAD, "", "v1", "width=8 depth=1", 0.3, 5)
    (name,) = session.models
    scrub_tab.take_checkpoint(session, str(checkpoints / "v2" / MODEL))
    session.add_model(name, rt.load(checkpoints / "v2"))  # even under the same name
    with zipfile.ZipFile(train_tab.package(session)) as archive:
        (config,) = (n for n in archive.namelist() if n.endswith(CONFIG))
        assert json.loads(archive.read(config))["provenance"]["seed"] == 5
        assert "v1" in config and any(n.endswith("losses.csv") for n in archive.namelist())


def test_an_uploaded_model_from_nowhere(served, tmp_path):
    session = Session()
    rt.save(tmp_path, rt.NextFrame(width=8, depth=1))
    name = scrub_tab.take_checkpoint(session, str(tmp_path / MODEL))["value"]
    assert name == "a model (uploaded)" and recipe_of(session.model(name)) == ""
    words = scrub(session, name, ROAD, 0, 4, False)[2]
    assert "not on this film" in words


def test_a_download_during_training_is_whole(served, tmp_path, monkeypatch):
    """Each file holds the weights after a step, of the step that it says."""
    steps, plain = {}, sys.modules["roadtrip.train"].Run.step_in_slices

    def step(self, planned):
        losses = yield from plain(self, planned)
        steps[self.step_count] = digest(self.model)
        return losses

    monkeypatch.setattr(sys.modules["roadtrip.train"].Run, "step_in_slices", step)
    session, files, failures = Session(), [], []
    running = train_tab.run(session, ROAD, "", "v1", "width=32", 60, 0)
    while session.trained is None:
        next(running)

    def download():
        try:
            for i in range(8):
                files.append(shutil.copy(train_tab.package(session), tmp_path / f"{i}.zip"))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=download)
    thread.start()
    while thread.is_alive():
        next(running)
    running.close()
    thread.join()
    files.append(train_tab.package(session))
    assert not failures and len(files) == 9
    found = set()
    for file in files:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(tmp_path / "out")
        (folder,) = (tmp_path / "out").iterdir()
        model = rt.load(folder)
        assert digest(model) == steps[model.provenance.step]
        table = (folder / "losses.csv").read_text().splitlines()
        assert int(table[-1].split(",")[0]) == model.provenance.step
        found.add(model.provenance.step)
        shutil.rmtree(tmp_path / "out")
    assert len(found) > 1


def test_a_rollout_during_training_is_of_one_network(served):
    """What the menus hold does not change under whoever looks at it."""
    session = Session()
    running = train_tab.run(session, ROAD, "", "v1", "width=8 depth=1", 60, 0)
    while session.trained is None:
        next(running)
    model = session.trained
    before = digest(model)
    while digest(session.trained) == before:
        next(running)
    running.close()
    assert digest(model) == before


def test_on_a_lent_gpu_training_stops_and_goes_on(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent / "zero_gpu")
    for module in (compute, training):
        monkeypatch.setattr(module, "ZERO_GPU", True)
    monkeypatch.setattr(sys.modules["roadtrip.train"], "REPORT_EVERY", 0)
    monkeypatch.setattr(training, "snapshots", compute.gpu(lambda *_: 30)(training.snapshots))
    session, film = Session(), at_size(stills(3), 16, 24)
    small = replace(rt.RECIPES["v3-pair"], width=8, depth=1, disc_width=8, batch=1)
    run = Training("mine", "(yours)", small, film, 3)
    stream = training.learn(session, [run], lambda: run.latest.step, None, 6)
    assert [next(stream) for _ in range(3)] == [1, 2, 3]
    stream.close()
    stopped = run.latest
    assert session.models[run.name] is stopped.model and stopped.step == 3
    *_, last = training.learn(session, [run], lambda: run.latest.step, None, 6)
    assert last == 6
    whole = Training("whole", "(yours)", small, film, 3)  # on as many threads
    *_, _ = training.learn(session, [whole], lambda: whole.latest.step, None, 6)
    assert digest(run.latest.model) == digest(whole.latest.model)
    assert run.latest.model.provenance.resumed_at == ((3, 6),)


# --- starts -------------------------------------------------------------------------------------------------------------


def stills(seed: int, n: int = 60) -> rt.Film:
    frames = torch.randint(256, (n, 3, 72, 128), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    there = hashlib.sha256(str(seed).encode()).hexdigest()
    return rt.Film(frames, (), 1, None, (0,), f"stills {seed}", there, drive_ids=(there,))


def trained(film: rt.Film, held_out: float = 0.2, **values) -> rt.NextFrame:
    """As if it were: fresh weights with a provenance."""
    model = rt.NextFrame(width=8, depth=1, size=film.size)
    recipe = replace(rt.RECIPES["v1"], width=8, depth=1, **values)
    model.provenance = replace(new_provenance(recipe, film, 0, held_out, "float32", "cpu"), step=1)
    return model


def at_size(film: rt.Film, *size: int) -> rt.Film:
    """The same stills read at another size: other frames, another fingerprint."""
    return rt.open_film(film, size=size)


@pytest.fixture
def session(served, monkeypatch):
    """A visitor with two films of their own and the two as one."""
    monkeypatch.setattr("roadtrip.ui.budget.MAX_FILMS", 9)
    session = Session()
    for film in (stills(1), stills(2)):
        session.films[film.name] = film
    session.films["both"] = rt.open_film([stills(1), stills(2)], gap=1)
    return session


def firsts(session, film, *models) -> list[int]:
    return offered_starts(session.film(film), models).tolist()


def test_a_model_knows_its_film_at_another_size(session):
    small = trained(at_size(stills(1), 48, 80), 0.25)
    assert small.provenance.film.fingerprint != session.film("stills 1").fingerprint
    session.add_model("small", small)
    assert firsts(session, "stills 1", small) == list(range(45, 59))
    player, _, words, _ = scrub(session, "small", "stills 1", 0, 4, False)
    assert player["key"].split()[-2] == "45" and "not on this film" not in words and "trained" not in words
    assert scrub_tab.strip_of(session, "small", "stills 1")["items"][0]["picked"] == {"start": 45}
    update = scrub(session, "small", "stills 1", 0, 4, False)[1]
    assert (update["minimum"], update["maximum"]) == (45, 58)
    assert "not on this film" in scrub(session, "small", "stills 2", 0, 4, False)[2]
    assert firsts(session, "stills 2", small) == list(range(59))


def test_nor_does_it_forget_its_film_at_another_gap(session):
    model = trained(stills(1).with_gap(3), 0.2)
    session.add_model("gap 3", model)
    assert film_for(session, "stills 1", model).gap == 3
    assert firsts(session, "stills 1", model) == list(range(48, 59))
    note = provenance_note("gap 3", session.film("stills 1"), model, 50)
    assert "trained at gap 3, here the gap is 1" in note and "not on this film" not in note
    assert offered_starts(session.film("stills 1").with_gap(7), [model]).tolist() == list(range(48, 53))


def test_starts_are_held_out_for_both_that_are_compared(session):
    """In whichever order they stand."""
    much, little = trained(stills(1), 0.5), trained(at_size(stills(1), 48, 80), 0.1)
    session.add_model("much", much)
    session.add_model("little", little)
    for one, other in (("much", "little"), ("little", "much")):
        update = compare(session, one, other, "stills 1", 1289, False)[1]
        assert (update["minimum"], update["maximum"]) == (54, 58) and 54 <= update["value"] <= 58
        shown, slider, *_ = compare(session, one, other, "stills 1", 57, False)
        assert shown["start"] == 57 and "value" not in slider
        shown, slider, *_ = compare(session, one, other, "stills 1", 99, False)
        assert 54 <= shown["start"] == slider["value"] <= 58
        player, _, words, *_ = compare(session, one, other, "stills 1", 30, False)
        assert player["key"].endswith(" 54") and "trained on this film" not in words
    assert firsts(session, "stills 1", much) == list(range(30, 59))


def test_where_no_start_is_held_out_for_both_the_page_says_whose_film_it_is(session):
    some, none = trained(stills(1), 0.2), trained(stills(1), 0.0)
    session.add_model("some", some)
    session.add_model("none", none)
    for one, other, first in (("some", "none", 48), ("none", "some", 3)):
        player, _, words, *_ = compare(session, one, other, "stills 1", 3, False)
        assert player["key"].endswith(f" {first}")
        assert "**none was trained on this film**" in words
        assert ("**some was trained on this film**" in words) == (first == 3)
    words = scrub(session, "none", "stills 1", 3, 4, False)[2]
    assert "**none was trained on this film**" in words


def test_of_a_joined_film_the_other_drive_is_unseen(session):
    one, two = trained(stills(1), 0.2), trained(at_size(stills(2), 48, 80), 0.5)
    assert firsts(session, "both", one) == [*range(48, 59), *range(60, 119)]
    assert firsts(session, "both", one, two) == [*range(48, 59), *range(90, 119)]
    both = trained(session.film("both"), 0.25)
    assert firsts(session, "stills 2", both) == list(range(45, 59))
    assert provenance_note("x", session.film("both"), one, 70) == ""
    assert "trained on this film" in provenance_note("x", session.film("both"), one, 20)


def test_weights_that_do_not_say_which_drives_are_known_by_their_fingerprint(session):
    old = trained(stills(1))
    old.provenance = replace(old.provenance, film=replace(old.provenance.film, drive_ids=()))
    assert firsts(session, "stills 1", old) == list(range(48, 59))
    assert firsts(session, "stills 2", old) == list(range(59))


def test_the_mark_says_how_deep_a_model_was_trained(session):
    """With replay, the trained frames come after as many as 8 generated ones."""
    for name, values, deepest in (("plain", {"unroll": 3}, 3), ("replay", {"unroll": 2, "replay": 8}, 10)):
        session.add_model(name, trained(stills(1), **values))
        chart = scrub(session, name, "stills 1", 0, 8, False)[3]["figure"]
        assert chart["layout"]["shapes"][0]["x0"] == chart["layout"]["annotations"][0]["x"] == deepest
    session.add_model("fresh", rt.NextFrame(width=8, depth=1))
    chart = scrub(session, "fresh", "stills 1", 0, 8, False)[3]["figure"]
    assert not chart["layout"].get("shapes")


# --- one thread that computes -------------------------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """Every computation of torch in this thread is a failure; a view of what is there is none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func not in (torch.ops.aten.lift_fresh.default, torch.ops.aten.detach.default):
            pytest.fail(f"{func} outside the compute thread")
        return func(*args, **kwargs or {})


def test_no_handler_computes_outside_the_compute_thread(session, checkpoints, tmp_path):
    files = []
    for t in range(40):
        files.append(str(tmp_path / f"{t}.png"))
        Image.linear_gradient("L").rotate(t).resize((64, 48)).save(files[-1])
    with zipfile.ZipFile(tmp_path / "trip.zip", "w") as archive:
        for file in files:
            archive.write(file, Path(file).name)
    *_, _ = train_tab.run(session, "stills 1", "1", "v1", "width=8 depth=1", 0.5, 0)
    name = session.newest
    library._rendered.cache_clear()
    with Watch():
        film_section.upload(session, files, "", gr.Progress())
        film_section.upload(session, [str(tmp_path / "trip.zip")], "2", gr.Progress())
        film_section.update_view(session, "your stills", "3")
        *_, _ = train_tab.run(session, "another rendered road", "1", "v1", "width=8 depth=1", 0.5, 0)
        train_tab.restored_view(session)
        train_tab.package(session)
        scrub_tab.take_checkpoint(session, str(checkpoints / "v2" / MODEL))
        library._rendered.cache_clear()
        for kind in scrub_tab.FORMATS:
            scrub_tab.export(session, name, ROAD, 1300, 3, kind)
        scrub(session, name, "stills 1", 3, 5, True)
        scrub_tab.strip_of(session, name, "stills 1")
        compare(session, name, "v2", "stills 1", 3, False)
        study_tab.study_note(["v2"])
        (table, *_) = study_tab.tables()
        study_tab.update_view(table, "R")
