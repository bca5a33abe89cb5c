"""The zip of a training: its script repeats the run, and no name in it becomes a path or code."""

import ast
import json
import sys
import zipfile
from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip.checkpoint import new_provenance
from roadtrip.reproduce import script, slug, write_zip

# no warm-up, and steps large enough that another step size is another network
RECIPE = replace(rt.RECIPES["v3-pair"], width=8, depth=1, disc_width=8, batch=1, warmup=0, lr=1e-2, ema=0.5)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Noise, in a file, so that a script can open it."""
    frames = torch.randint(256, (30, 3, 16, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made = rt.Film(frames, (), 2, None, (0,), "trip", "ab" * 32)
    return rt.open_film(made.save(tmp_path_factory.mktemp("film") / "trip.film"), size=(16, 24))


@pytest.fixture
def every_step(monkeypatch):
    """A Progress after each step, so that a run can be stopped anywhere."""
    monkeypatch.setattr(sys.modules["roadtrip.train"], "REPORT_EVERY", 0)


def stopped(film, after: int, **how):
    stream = rt.train(RECIPE, film, seed=3, held_out=0.3, preview_every=1e9, **how)
    p = next(p for p in stream if p.step == after)
    stream.close()
    return p


def run(archive, film, folder, monkeypatch):
    """What the script in a zip trains on a film."""
    with zipfile.ZipFile(archive) as opened:
        (name,) = (n for n in opened.namelist() if n.endswith("reproduce.py"))
        text = opened.read(name).decode()
    monkeypatch.chdir(folder)
    path = json.dumps(str(film.save(folder / "again.film")))
    exec(compile(text.replace('"PUT THE PATH OF YOUR FILM HERE"', path), "reproduce.py", "exec"), {})
    return rt.load(folder / "run")


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("how, after", [
    ({"steps": 6}, 6),  # finished
    ({"steps": 12}, 10),  # stopped while the step size fell
    ({"steps": 12}, 3),  # stopped on the plateau
    ({"seconds": 1e6}, 5),  # stopped before the seconds had become steps
], ids=str)  # fmt: skip
def test_the_script_repeats_the_run(how, after, film, tmp_path, monkeypatch, every_step):
    p = stopped(film, after, **how)
    archive = write_zip(tmp_path, p.model, {"l1": [(after, 0.5)]})
    there = run(archive, film, tmp_path, monkeypatch)
    assert same(there, p.model) and there.provenance.step == after
    if after not in (6, 3):  # that many steps planned would be another run: this test can fail
        assert not same(stopped(film, after, steps=after).model, p.model)


def test_the_script_begins_where_the_run_began(film, tmp_path, monkeypatch, every_step):
    begun = stopped(film, 2, steps=2).model
    p = stopped(film, 3, steps=3, start=begun)
    text = script(p.model.provenance, (16, 24))
    assert "PUT THE FOLDER OF THE WEIGHTS THAT IT BEGAN FROM HERE" in text
    monkeypatch.setattr("roadtrip.checkpoint.SHIPPED", tmp_path)
    rt.save(tmp_path / "begun", begun)
    p = stopped(film, 3, steps=3, start="begun")
    assert same(run(write_zip(tmp_path, p.model), film, tmp_path, monkeypatch), p.model)
    assert not same(stopped(film, 3, steps=3).model, p.model)


def test_the_script_of_a_resumed_run_says_that_it_is_none(film, tmp_path, monkeypatch, every_step, capsys):
    first = stopped(film, 4, steps=5)
    *_, p = rt.train(RECIPE, film, steps=20, seed=3, held_out=0.3, resume=first, preview_every=1e9)
    there = run(write_zip(tmp_path, p.model), film, tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "gone on with at step 4" in said and "not repeated" in said
    assert there.provenance.step == 20 and not same(there, p.model)


def test_another_film_is_told(film, tmp_path, monkeypatch, every_step, capsys):
    p = stopped(film, 1, steps=1)
    other = replace(film, fingerprint="cd" * 32)
    run(write_zip(tmp_path, p.model), other, tmp_path, monkeypatch)
    assert "not the film" in capsys.readouterr().out


def known(film, **values):
    return replace(new_provenance(RECIPE, film, 3, 0.3, "float32", "cpu"), step=2, **values)


NASTY = [
    "'''", '"""', "\\", "\\'", "'); import os #", "{run}", "{{", "%s", "\\u0027\\n", "é漢🚗", "a" * 200, "r'''", "\\\\'''",
]  # fmt: skip


def without_data(text: str) -> str:
    """The script's statements, but for the one literal that holds its data."""
    tree = ast.parse(text)
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "json.loads")
    call.args[0].value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("name", NASTY)
def test_no_name_becomes_code(name, film):
    plain = known(film)
    nasty = replace(plain, recipe=replace(RECIPE, name=name), film=replace(plain.film, name=name))
    check_script(nasty, plain, {"name": name})


@pytest.mark.parametrize("text", [*NASTY, "\n", "\nimport os\n", "\r", "\0", "\u2028", "\ud800", "\u202e"])
def test_nor_does_what_was_not_checked(text, film):
    """As if a Provenance had let it through."""
    plain, nasty = known(film), known(film)
    object.__setattr__(nasty, "film", replace(plain.film))
    object.__setattr__(nasty.film, "fingerprint", text)
    for field in ("dtype", "device", "seed", "held_out"):
        object.__setattr__(nasty, field, text)
    object.__setattr__(nasty, "versions", {text: text})
    check_script(nasty, plain, {})


def check_script(nasty, plain, recipe):
    text = script(nasty, (16, 24))
    assert text.isascii() and without_data(text) == without_data(script(plain, (16, 24)))
    (data,) = (n.args[0].value for n in ast.walk(ast.parse(text))
               if isinstance(n, ast.Call) and ast.unparse(n.func) == "json.loads")  # fmt: skip
    values = json.loads(data)
    assert values["fingerprint"] == nasty.film.fingerprint and values["seed"] == nasty.seed
    assert values["recipe"] == RECIPE.to_dict() | recipe


def test_only_the_rendered_road_is_opened_as_such(film):
    """A visitor's folder may be called scenery."""
    road = rt.open_film("scenery:1", size=(16, 24))
    assert '"film": "scenery:1"' in script(known(road), (16, 24))
    assert "PATH OF YOUR FILM" in script(known(replace(film, name="scenery:1")), (16, 24))
    assert "PATH OF YOUR FILM" in script(known(replace(road, name="scenery:2")), (16, 24))


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "..", "", "C:\\x", "nul\u00e9\u6f22", "x" * 200, "a/./b", "~"]
)
def test_no_name_becomes_a_path(name, film, tmp_path, every_step):
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    p = stopped(film, 1, steps=1)
    p.model.provenance = replace(p.model.provenance, recipe=replace(RECIPE, name=name))
    archive = write_zip(home, p.model)
    assert archive.parent == home and [*home.iterdir()] == [archive] and [*tmp_path.iterdir()] == [tmp_path / "a"]
    assert archive.stem == slug(archive.stem) and len(archive.stem) <= 80
    with zipfile.ZipFile(archive) as opened:
        for part in opened.namelist():
            folder, file = part.split("/")
            assert folder == archive.stem and file in ("model.safetensors", "config.json", "reproduce.py")


def test_slugs():
    assert slug("v2, unroll=3 seed 5") == "v2-unroll-3-seed-5" and slug("Été") == "ete"
    assert slug("漢") == slug("../..") == slug("") == "unnamed" and slug("a" * 99 + " b", 10) == "a" * 10
    assert slug("aa bb", 3) == "aa"


def test_a_model_from_nowhere_has_no_zip(tmp_path):
    with pytest.raises(rt.RoadtripError, match="Nothing is known"):
        write_zip(tmp_path, rt.NextFrame(width=8, depth=1, size=(16, 24)))
