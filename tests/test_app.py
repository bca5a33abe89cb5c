"""The app without a browser: its handlers, its API, and what it says to bad input."""

import asyncio
import json
import pickle
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import gradio as gr
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image
from safetensors.torch import load as safetensors_load
from safetensors.torch import load_file

import roadtrip as rt
from roadtrip import study
from roadtrip.diffusion import Sampler
from roadtrip.export import write
from roadtrip.model import NextFrame
from roadtrip.ui import (
    budget,
    charts,
    compare_tab,
    diagram,
    drive_tab,
    film_section,
    guard,
    page,
    recipe_section,
    scrub_tab,
    study_tab,
    train_tab,
    training,
    views,
    words,
)
from roadtrip.ui.budget import MAX_MODELS
from roadtrip.ui.library import ROAD, open_upload, shipped_names
from roadtrip.ui.player import clip_buttons
from roadtrip.ui.session import Session, restore_session
from roadtrip.ui.starts import film_for
from roadtrip.ui.tab import Field, Tab, escape_markdown, whole_number

ROOT = Path(__file__).parents[1]


def scrub(*asked):
    return scrub_tab.scrubbed.now(*asked).answer


def compare(*asked):
    return compare_tab.compared.now(*asked).answer


@pytest.fixture
def client(served):
    return Client(served, verbose=False)


def test_shipped_models_stand_in_story_order(served):
    assert shipped_names() == ["v1", "v2", "v3-pair", "v3-single", "lstm", "v4"]


def test_train_over_the_api(client):
    status, chart, errors, words, player, inside = client.predict(ROAD, "", "v1", "", 3, 5, api_name="/train")
    assert inside.count("<img") == 7 and "patch" not in inside
    assert "seed 5" in status and "finished" in status
    lines = {line["name"]: line for line in chart["figure"]["data"]}
    assert len(lines["L1"]["x"]) >= 1 and all(v > 0 for v in lines["L1"]["y"])
    assert player["frames"] == 16 and len(player["views"]) == 2
    names = [line["name"] for line in errors["figure"]["data"]]
    assert names == [f"{start}{h} ahead" for h in (1, 4, 16) for start in ("", "best baseline, ")]
    assert all(f"at horizon {h} " in words for h in (1, 4, 16)) and "dB" in words


def test_a_live_drive_is_paused_goes_on_and_is_saved(served):
    """What was shown is one rollout, whatever the pauses; another drive has another seed and begins anew."""
    session, start = Session(), 1250
    torch.manual_seed(0)
    drawing = NextFrame(8, 1, anchored=True, sampler=Sampler(2, refine=0), size=(48, 80))
    session.add_model("mine", drawing)

    def shown(n, **how):
        stream = drive_tab.watch(session, "mine", ROAD, start, 1.0, **how)
        values = list(islice((value for value in stream if "first" in value), n))
        stream.close()
        return values

    first, more = shown(6), shown(2)
    counts = [value["first"] for value in first + more]
    # one chunk may be computed ahead when a drive pauses
    assert counts[:6] == [0, 6, 12, 18, 24, 30] and counts[6] in (36, 42) and counts[7] == counts[6] + 6
    assert "the last 32: " in first[5]["said"] and "newness " in first[5]["said"]
    live = session.live
    film = film_for(session, ROAD, drawing)
    f1, f2 = film.frames[start], film.frames[start + film.gap]
    whole = rt.rollout(drawing, f1, f2, live.count)[0]
    assert torch.equal(torch.stack([*live.recent]), (whole * 255).round().byte())
    assert Path(drive_tab.save_clip(session, "webp")).stat().st_size > 1000
    drive_tab.set_temperature(session, 0.0)
    assert live.model.sampler.temperature == 0 and drawing.sampler.temperature == 1
    assert shown(1, other=True)[0]["first"] == 0 and session.live.seed == 1
    start += 8
    assert shown(1)[0]["first"] == 0, "another start is another drive"


def test_a_live_drive_of_a_model_that_draws_nothing(served):
    session = Session()
    stream = drive_tab.watch(session, "v1", ROAD, 1250, 1.0)
    values = list(islice((value for value in stream if "first" in value), 6))
    stream.close()
    assert values[5]["first"] == 30 and "of real motion" in values[5]["said"]
    with pytest.raises(gr.Error, match="temperature"):
        list(drive_tab.watch(session, "v1", ROAD, 1250, None))
    with pytest.raises(gr.Error, match="Generate some frames first"):
        drive_tab.save_clip(Session(), "mp4")


def test_a_training_over_its_time_is_stopped_within_a_step(served, monkeypatch):
    clock = iter([0.0])
    monkeypatch.setattr(training, "monotonic", lambda: next(clock, 1e4))
    session = Session()
    heavy = training.new_training(session, ROAD, "", replace(rt.RECIPES["v2"], width=8, depth=1), 0)
    with pytest.raises(rt.RoadtripError, match="Others compute here, too: this run was stopped after 10 s"):
        for slices, _ in enumerate(training.learn(session, [heavy], lambda: None, 5, None)):
            assert slices == 0
    assert heavy.latest is None


@pytest.mark.parametrize("rates", [(), (12, 6)])
def test_the_menu_of_clips_says_how_fast_a_gif_plays(rates):
    """Which has not every rate, and so the other kinds another."""
    kind, _ = clip_buttons(*rates)
    session = Session()
    said = {value: label for label, value in kind.choices}
    assert list(said) == ["mp4", "gif", "webp"]
    for rate in rates or [6]:
        played = Image.open(views.save(views.Clip({"a": torch.rand(3, 3, 16, 16)}, {}, 0), session, "x", "gif", rate))
        assert f"{1000 / played.info['duration']:.3g}" in said["gif"]


def test_a_recipe_with_other_values_and_another_gap(served):
    session = Session()
    *_, last = train_tab.run(session, ROAD, "5", "v2", "unroll=3 width=16", 0.5, 0)
    (model,) = session.models.values()
    facts = model.provenance
    assert facts.film.gap == 5 and (facts.recipe.unroll, facts.recipe.width) == (3, 16)
    assert "v2, unroll=3, width=16, gap 5, seed 0" in last[0].replace("\\", "")
    assert charts.colours([facts.recipe.name]) == [charts.RECIPE["v2"]]


def test_fields_of_the_recipe_are_changed_and_put_back():
    changes, sketch, note, wrong = recipe_section.change("unroll", "v1", "", 4)
    assert changes == "unroll=4" and "g6" in sketch and "unroll=4" in note and not wrong
    assert recipe_section.change("unroll", "v1", changes, 1)[0] == ""
    sketch, note, *values = recipe_section.read("v1", "unroll=2 spectral=True")
    assert "g4" in sketch and dict(zip((f.name for f in recipe_section.FIELDS), values))["spectral"] is True
    assert "no field" in recipe_section.read("v1", "wings=2")[1]
    refused = recipe_section.change("unroll", "v1", changes, 99)
    assert "from 1 to 16" in refused[3] and "stays" in refused[3] and refused[0] == gr.skip()
    assert "is empty" in recipe_section.change("unroll", "v1", changes, None)[3]
    _, _, _, *values = recipe_section.choose("lstm")
    assert [*map(type, values)] == [f.type for f in recipe_section.FIELDS]


def test_presets_are_recipes():
    for preset in recipe_section.PRESETS:
        name, seconds, changes, *_ = recipe_section.fill_in(preset)
        assert (
            recipe_section.recipe_of_choice(name, changes).to_dict()["name"].startswith(name)
            and 0 < seconds <= train_tab.MAX_SECONDS
        )


def test_the_sketch_shows_which_frames_the_discriminator_sees():
    seen = {n: diagram.disc_windows(r, r.unroll) for n, r in study.ARMS.items() if r.gan_weight}
    assert seen["pair"] == [[2, 3]] and seen["single"] == [[2], [3]] and seen["single-first"] == [[2]]
    assert seen["pair-context"] == [[1, 2], [2, 3]] and seen["triple-context"] == [[0, 1, 2], [1, 2, 3]]
    assert seen["pair-u4"] == [[2, 3], [3, 4], [4, 5]]
    assert diagram.diagram(study.ARMS["pair-shuffled"]).count("in random order") == 1


def test_a_look_at_the_film_and_its_gap(served):
    about, pictures, player = film_section.update_view(Session(), ROAD, "12")
    assert "at gap 12" in about and pictures.count("<img") == 2 and player["views"][0]["label"] == "real film"
    assert "1,500 stills: 1,200 to train, 300 held out; errors 1, 4 and 16 ahead." in about
    about, pictures, _ = film_section.update_view(Session(), ROAD, "fast")
    assert "is not a gap" in about and pictures == ""


def test_two_versions_trained_side_by_side(client):
    status, chart, player = client.predict(ROAD, "v1", "v2", 3, 0, api_name="/duel")
    assert "step 3 of 3" in status and "finished" in status
    assert [line["name"] for line in chart["figure"]["data"]] == ["v1: L1", "v2: L1"]
    assert [view["label"] for view in player["views"]] == ["v1", "v2", "real"]
    with pytest.raises(Exception, match="different"):
        client.predict(ROAD, "v1", "v1", 3, 0, api_name="/duel")


def test_a_reload_finds_the_run_again(served):
    session, secret = restore_session(Session(), None)
    assert train_tab.restored_view(session) == (gr.skip(),) * 7
    running = train_tab.run(session, ROAD, "", "v1", "", 60, 0)
    while not (session.learned and session.unfinished.errors):
        next(running)
    running.close()
    again, same = restore_session(Session(), secret)
    assert again is session and same == secret and restore_session(Session(), "guessed")[0] is not session
    film, status, losses, errors, words, player, _ = train_tab.restored_view(again)
    assert film == ROAD and "Continue goes on" in status and player["frames"] == 16 and "horizon" in words
    assert losses["figure"]["data"] and errors["figure"]["data"]
    before = session.unfinished.latest.step
    *_, last = train_tab.resume(again, 1)
    assert "finished" in last[0] and session.unfinished.latest.step > before
    assert train_tab.reset(again)[0] == train_tab.IDLE and session.unfinished is None and session.models


def test_sessions_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("roadtrip.ui.session._sessions", {})
    monkeypatch.setattr("roadtrip.ui.budget.MAX_SESSIONS", 2)

    def visitor():
        session, secret = restore_session(Session(), None)
        session.add_model("mine", NextFrame(8, 0, size=(16, 16)))
        return session, secret

    first, secret = visitor()
    visitor()
    assert restore_session(Session(), secret)[0] is first  # the latest visitor is not the one to go
    visitor()
    visitor()
    assert restore_session(Session(), secret)[0] is not first and not first.models


def test_a_visitor_keeps_no_more_than_the_memory_there_is(monkeypatch):
    """Films and models count alike; models go first, the oldest first, and what is new always stays."""
    film = rt.open_film("scenery", size=(16, 16)).with_gap(1)
    frames = film.frames[:500]
    small = NextFrame(8, 0, "conv", "picture", False, (16, 16))
    model_bytes = sum(t.nbytes for t in small.state_dict().values())
    monkeypatch.setattr("roadtrip.ui.budget.MAX_SESSION_BYTES", frames.nbytes + 2 * model_bytes)
    session = Session()
    for name in "abc":
        session.add_model(name, deepcopy(small))
    assert [*session.models] == ["a", "b", "c"] and session.bytes() == 3 * model_bytes
    session.add_film(replace(film, frames=frames, cuts=(), name="first"))
    assert [*session.films] == ["first"] and [*session.models] == ["b", "c"]
    session.add_model("d", deepcopy(small))
    assert [*session.models] == ["c", "d"] and [*session.films] == ["first"]
    session.add_film(replace(film, frames=film.frames, cuts=(), name="larger than all"))
    assert [*session.films] == ["larger than all"] and not session.models
    monkeypatch.undo()
    for i in range(MAX_MODELS + 2):
        session.add_model(str(i), deepcopy(small))
    assert len(session.models) == MAX_MODELS and [*session.models][-1] == str(MAX_MODELS + 1)


def test_a_checkpoint_of_ones_own(served, checkpoints, client, tmp_path):
    session = Session()
    update = scrub_tab.take_checkpoint(session, str(checkpoints / "v2" / "model.safetensors"))
    assert update["value"] == "v2, seed 0, 3 steps (uploaded)" and update["value"] in session.models
    assert scrub(session, update["value"], ROAD, 1300, 4, False)[0]["frames"] == 4
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    assert "not a safetensors file" in says(
        lambda: scrub_tab.take_checkpoint(session, str(tmp_path / "model.safetensors"))
    )
    assert "Choose a model" in says(lambda: scrub_tab.take_checkpoint(session, None))


def test_the_strip_shows_starts_of_the_film(served):
    strip = scrub_tab.strip_of(Session(), "v1", ROAD)
    starts = [item["picked"]["start"] for item in strip["items"]]
    assert len(starts) == scrub_tab.STRIP_STARTS and strip["sprite"].startswith("data:image")
    assert starts[0] >= 1200 and starts == sorted(starts)


def test_resume_goes_on_with_the_last_run(client):
    with pytest.raises(Exception, match="no run to resume"):
        client.predict(2, api_name="/resume")
    client.predict(ROAD, "", "v2", "", 2, 1, api_name="/train")
    status, chart, *_ = client.predict(2, api_name="/resume")
    assert "v2, seed 1" in status and "finished" in status
    steps = chart["figure"]["data"][0]["x"]
    assert steps == sorted(set(steps))  # one curve, on from where it stopped


def test_a_tab_opens_on_the_newest_model_until_it_has_shown_it(served):
    session = Session()
    *_, _ = train_tab.run(session, ROAD, "", "v1", "width=8 depth=1", 0.5, 0)
    for module, menus in ((scrub_tab, ["v2"]), (compare_tab, ["v2", "v1"])):
        asked = (session, *menus, ROAD, 0, *[4] * (module is scrub_tab), False)
        lost = module.with_newest(*asked)
        next(lost)
        lost.close()
        shown = [*module.with_newest(*asked)]
        assert any(answer[0] == session.newest and answer[2].get("views") for answer in shown)
        if module is scrub_tab:
            assert shown[0][-1] is None and shown[-1][-1]["items"]  # the starts, too
        assert list(module.with_newest(*asked)) == [(gr.skip(),) * len(shown[0])]


def test_a_paused_run_is_stepped_by_hand(served):
    session = Session()
    with pytest.raises(gr.Error, match="start one"):
        list(train_tab.step(session))
    *_, _ = train_tab.run(session, ROAD, "", "v3-pair", "width=8 depth=1 disc_width=8", 0.5, 0)
    before = session.unfinished.latest.step
    for n, only in enumerate((None, "generator", "discriminator"), 1):
        shown = [seen for seen in train_tab.step(session, only) if isinstance(seen[0], str)]  # not where others compute
        status, losses, _, _, player, inside = shown[-1]
        assert f"step {before + n} " in status and losses["figure"]["data"][0]["x"][-1] == before + n
        assert inside.count("patch by patch") == 2 and player["frames"] == 16
    assert session.newest == session.unfinished.name and str(before + 3) in session.newest
    *_, _ = train_tab.resume(session, 0.5)
    *_, _ = train_tab.run(session, ROAD, "", "v1", "width=8 depth=1", 0.5, 0)
    with pytest.raises(gr.Error, match="no discriminator"):
        list(train_tab.step(session, "discriminator"))


def test_dots_never_hide_each_other():
    """Seventy equal values and some near each other, in a chart of as many columns as the study has."""
    rows = [
        {"arm": arm, "seed": n, "R": (1.0, 1.01, 0.2)[n % 3], "verdict": "moves"} for arm in "ab" for n in range(15)
    ]
    rows[0] |= {"real": {"bands": {}}, "linear": {}}
    (dots,) = charts.seeds_of_arms(rows, "R")["data"]
    places = [(500 * x, 200 * y) for x, y in zip(dots["x"], dots["y"])]
    assert all(max(abs(a - c), abs(b - d)) > 11 for i, (a, b) in enumerate(places) for c, d in places[:i])


def test_the_download_holds_what_repeats_the_run(client, tmp_path, monkeypatch):
    client.predict(ROAD, "", "v1", "", 1, 2, api_name="/train")
    with zipfile.ZipFile(client.predict(api_name="/checkpoint")) as archive:
        parts = {Path(n).name: archive.read(n) for n in archive.namelist()}
    assert set(parts) == {"model.safetensors", "config.json", "losses.csv", "reproduce.py"}
    facts = json.loads(parts["config.json"])["provenance"]
    head, *lines = parts["losses.csv"].decode().splitlines()
    assert head == "step,l1" and int(lines[-1].split(",")[0]) == facts["step"]
    monkeypatch.chdir(tmp_path)
    exec(compile(parts["reproduce.py"], "reproduce.py", "exec"), {})
    again, kept = load_file(tmp_path / "run" / "model.safetensors"), safetensors_load(parts["model.safetensors"])
    assert again.keys() == kept.keys() and all(torch.equal(again[k], kept[k]) for k in kept)


@pytest.mark.parametrize("file", ["README.md", "docs/api.md"])
def test_the_documented_calls_run(served, file, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.S)
    (code,) = [block for block in blocks if "gradio_client" in block]
    assert "http://127.0.0.1:7860" in code
    exec(code.replace("http://127.0.0.1:7860", served), {})
    said = capsys.readouterr().out
    assert "mp4" in said if file == "README.md" else "finished" in said


def test_every_named_endpoint_is_documented(client):
    named = set(client.view_api(print_info=False, return_format="dict")["named_endpoints"])
    assert named == set(re.findall(r"^\| `(/\w+)` \|", (ROOT / "docs" / "api.md").read_text(), re.M))


def test_what_the_api_measures_is_the_protocol(client, checkpoints):
    facts = client.predict("v1", ROAD, 16, api_name="/measure")
    film = rt.open_film("scenery")
    there = rt.evaluate(rt.load(checkpoints / "v1"), film, 16, most=scrub_tab.MEASURED)
    assert facts["psnr"]["model"] == pytest.approx(there.psnr["model"], abs=1e-3)
    assert facts["verdict"] == there.oscillation.verdict and facts["horizon"] == 16


def test_scrub_over_the_api(client):
    player, start, words, chart = client.predict("v2", ROAD, 1300, 40, True, api_name="/scrub")
    assert player["frames"] == 40 and player["labels"][0] == "g3" and player["start"] == 1300
    assert "value" not in start  # it may have been moved on meanwhile
    assert [view["label"] for view in player["views"]] == ["generated", "real film", "difference"]
    assert player["views"][0]["sprite"].startswith("data:image/png")
    assert chart["figure"]["data"][0]["name"].startswith("v2: ") and len(chart["figure"]["data"]) == 4
    assert "opying the last frame" in player["headline"] and "Its last 20 frames" in words


def test_compare_over_the_api(client):
    player, _, words, sizes, matrix, lags, spectrum = client.predict(
        "v3-pair", "v3-single", ROAD, 1300, False, api_name="/compare"
    )
    assert player["frames"] == 64 and len(player["views"]) == 3 and player["begin"] == 32
    assert all(view["said"] for view in player["views"][:2])
    assert len(lags["figure"]["data"][0]["y"]) == 8 and len(sizes["figure"]["data"]) == 4
    assert "| v3-pair: pair discriminator | **" in words
    assert len(matrix["figure"]["data"]) == 2 and len(spectrum["figure"]["data"][0]["y"]) == 16
    colours = [line["line"]["color"] for line in lags["figure"]["data"][:2]]
    assert colours == [charts.RECIPE["v3-pair"], charts.RECIPE["v3-single"]]


def test_a_rollout_is_saved_in_each_format(client):
    for kind, ending in scrub_tab.FORMATS.items():
        assert client.predict("v1", ROAD, 1300, 3, kind, api_name="/export").endswith(ending)


def test_upload_of_stills_and_training_on_them(served, tmp_path):
    files = []
    for t in range(40):
        files.append(str(tmp_path / f"{t}.png"))
        Image.linear_gradient("L").rotate(t).resize((64, 48)).save(files[-1])
    session = Session()
    menu, sentence, *_ = film_section.upload(session, files, "1", gr.Progress())
    assert menu["value"] == "your stills" and "40 frames" in sentence
    *_, last = train_tab.run(session, "your stills", "", "v1", "", 1, 0)
    (name,) = session.models
    steps = session.models[name].provenance.step
    assert name == f"v1, your stills, seed 0, {steps} steps (yours)" and "finished" in last[0]
    with zipfile.ZipFile(train_tab.package(session)) as archive:
        archive.extractall(tmp_path / "zip")
    (folder,) = (tmp_path / "zip").iterdir()
    assert rt.load(folder).provenance.step == steps
    assert scrub(session, name, "your stills", 0, 4, False)[0]["frames"] == 4


def test_an_upload_of_several_kinds(tmp_path):
    """Stills of two folders with the same names, clips under whatever suffix, a zip: one film, nothing lost."""
    files = []
    for k, folder in enumerate("ab"):
        for i in range(4):
            files.append(tmp_path / folder / f"{i}.png")
            files[-1].parent.mkdir(exist_ok=True)
            Image.new("L", (64, 48), 100 * k + 10 * i).save(files[-1])
    with zipfile.ZipFile(tmp_path / "card.zip", "w") as archive:
        for file in files[4:]:
            archive.write(file, f"again/{file.name}")
    clip = write(tmp_path / "clip.mp4", torch.rand(9, 3, 48, 64))
    for suffix in (".insv", ".LRV"):
        film = open_upload([str(clip.rename(clip.with_suffix(suffix)))], "1", lambda *_: None)
        clip = clip.with_suffix(suffix)
        assert len(film.frames) == 9 and film.name == "clip"
    film = open_upload([str(f) for f in (tmp_path / "card.zip", *files, clip)], "1", lambda *_: None)
    assert film.drives == (0, 8, 17) and film.name == "your stills"
    greys = film.frames.float().mean((1, 2, 3)).round().int().tolist()
    assert greys[:8] == [0, 10, 20, 30, 100, 110, 120, 130] and greys[17:] == greys[4:8]


def test_stop_keeps_what_was_learned(served, monkeypatch):
    session = Session()
    running = train_tab.run(session, ROAD, "", "v1", "", 60, 0)
    while not session.learned:
        next(running)
    assert session.training.runs and training.queue_status(session) == training.READY
    monkeypatch.setattr("roadtrip.ui.budget.TRAININGS", 1)
    assert training.queue_status(session) == training.WAITING
    with pytest.raises(gr.Error, match="Another training of yours"):
        list(train_tab.run(session, ROAD, "", "v1", "", 60, 0))
    assert scrub(session, "v1", ROAD, 1301, 5, False)[0]["frames"] == 5  # while it trains
    with ThreadPoolExecutor() as thread:
        stopped = thread.submit(training.stop, session, "step 3 · 50 s left")
        *_, last = running
    (name,) = session.models
    assert name in stopped.result().replace("\\", "") and last == (gr.skip(),) * 6
    assert not session.training.runs and training.queue_status(session) == training.READY
    training.stop(session, training.WAITING)  # before its turn in the queue has come
    assert all(seen[0] == gr.skip() for seen in train_tab.run(session, ROAD, "", "v1", "", 60, 0))
    assert scrub(session, name, ROAD, 1300, 4, False)[0]["frames"] == 4


def test_stop_says_what_is_so():
    session = Session()
    assert training.stop(session, train_tab.IDLE) == train_tab.IDLE
    assert "nothing was learned" in training.stop(session, training.WAITING)


def test_runs_alike_do_not_replace_each_other(served):
    session = Session()
    for _ in range(2):
        *_, _ = train_tab.run(session, ROAD, "", "v1", "", 0.3, 0)
    assert (
        len(session.models) == 2
        and page.refreshed(Field("left", None, choices=Session.model_choices), session, "gone")["value"]
        in session.models
    )


def test_two_visitors_do_not_share(served):
    assert Session().models is not Session().models
    assert Session().download_dir() != Session().download_dir()


def test_words_say_where_the_model_loses():
    flat = {"linear": [10.0] * 4, "mean_frame": [11.0] * 4, "copy_last": [20.0] * 4}

    def said(*model):
        psnr = {"model": [*model]} | flat
        return f"{words.beside_copying(psnr)} {words.errors_in_words(psnr)}"

    assert "beats" not in said(21.0, 21, 21, 21)
    assert "Copying the last frame beats it in all 4" in said(19.0, 19, 19, 19)
    assert "in the first frame, and in 2 of 4 in all" in said(19.0, 21, 19, 21)
    for_good = said(21.0, 21, 19, 19)
    assert "up to g4; from g5 on, copying beats it in 2 of 4" in for_good
    assert "From g5 on, even “copy the last frame” scores better" in for_good
    assert "scores better" not in said(21.0, 19, 19, 21)


def test_a_link_sets_what_it_asks_for_and_names_what_it_can_not():
    """Each kind of value in the address, as it may be written by hand."""
    wrong: list[str] = []

    def linked(field, **asked):
        wrong.clear()
        return page.from_link(field, Session(), asked, wrong)

    said = [("v1: a model", "v1"), ("v2: another", "v2")]
    menu, choices = Field("model", None, choices=lambda session: said), gr.update(choices=said)
    assert linked(menu, model="v2") == choices | {"value": "v2"} and not wrong
    assert linked(menu) == choices and not wrong
    # a model of another browser: nothing else is shown in its place
    assert linked(menu, model="<script>") == choices | {"value": None} and "another" not in wrong[0]
    assert r"“\<script\>” is not here" in wrong[0]
    whole = Field("seed", None, lambda text: whole_number(text, 0, 9))
    assert linked(whole, seed="7") == 7
    for text in ("", "-1", "10", "1e3", "0x1", "٣", "9" * 5000, "nan"):
        assert linked(whole, seed=text) == gr.skip() and "seed can't be" in wrong[0] and len(wrong[0]) < 200, text
    changes = Field("changes", None, train_tab.changes_of)
    assert linked(changes, changes="unroll=4 l1_weight=10") == "unroll=4 l1_weight=10" and not wrong
    for text in ("wings=2", "unroll=many", "unroll"):
        assert linked(changes, changes=text) == gr.skip() and wrong, text
    recipe = Field("recipe", None, train_tab.recipe_name)
    assert linked(recipe, recipe="lstm") == "lstm"
    assert linked(recipe, recipe="\0") == gr.skip() and wrong


def test_the_first_visit_finds_its_views_made(served):
    """Warming up makes the opening before what else takes a while, and goes on where one fails."""
    calls = []

    def fails():
        calls.append("opening")
        raise rt.RoadtripError("no model")

    tabs = [Tab([], [], [], warm_up=lambda: calls.append("warm")), Tab([], [], [], pinned=fails)]
    page.warm_up(gr.Blocks(), tabs)
    assert calls == ["opening", "warm"]


def test_what_is_shipped_is_computed_once(served, monkeypatch):
    """Whoever asks again, also two at once; and an error is a sentence in place of the film."""
    calls, plain = [], compare_tab.rolled_out
    monkeypatch.setattr(compare_tab, "rolled_out", lambda *asked: (calls.append(asked[2]), plain(*asked))[1])
    asked = "v1", "v2", ROAD, 1311, False
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: [*compare_tab.compared.stream(Session(), *asked)][-1], range(2))
    assert calls.count(1311) == 2  # the server may still be making its examples
    assert first[0].pop("turn") != second[0].pop("turn")
    assert first == second == compare(Session(), *asked)
    (answer,) = compare_tab.compared.stream(Session(), "v1", "v1", ROAD, 1311, False)
    assert "different" in answer[0]["error"] and answer[1:] == (gr.skip(),) * 6


@pytest.mark.parametrize("served", [None, "", "another film", "this film"])
def test_a_page_says_what_it_is_doing_whether_or_not_it_came_with_the_opening(served, monkeypatch):
    """Also one that was opened before the opening was made: only the film that it came with is not sent again."""
    steps = [{"busy": {"what": "v1"}}, {"error": "No room."}, {"key": "this film", "start": 1289}]
    view = compare_tab.compared._replace(stream=lambda *_: iter([(step, "numbers") for step in steps]))
    monkeypatch.setattr(compare_tab, "compared", view)
    for start in (1289, 1301):
        sent = [*compare_tab.unless_served(served, Session(), "v1", "v2", ROAD, start, False)]
        there = served == "this film" and start == 1289
        assert sent == [(step, "numbers") for step in steps[:2]] + [(gr.skip() if there else steps[2], "numbers")]


@pytest.mark.parametrize("fault", [KeyError(1), ValueError("x"), TypeError("x"), OSError("x"), RuntimeError("x")])
@pytest.mark.parametrize("streams", [False, True])
def test_a_handler_that_fails_is_our_fault_and_never_the_visitors(fault, streams, caplog):
    def call(text):
        raise fault

    def stream(text):
        yield text
        raise fault

    with guard.Page() as blocks:
        box = gr.Textbox()
        box.change(stream if streams else call, box, box)

    async def ask():
        asked = blocks.fns[0], ["a"]
        answer = await blocks.process_api(*asked)
        await blocks.process_api(*asked, iterator=answer["iterator"])

    with pytest.raises(gr.Error) as wrong:
        asyncio.run(ask())
    assert wrong.value.message == budget.OUR_FAULT and not wrong.value.print_exception
    assert f"{type(fault).__name__}: {fault}" in caplog.text


def test_kept_answers_stay_within_their_memory(monkeypatch):
    monkeypatch.setattr(views, "MAX_KEPT", 250)
    kept = views._Kept()
    for name in "abcd":
        kept.pinned |= {"a"} & {name}
        kept.keep(name, views.Shown(("x" * 90,)))
    assert [*kept.answers] == ["a", "c", "d"] and kept.find("b") is None and kept.find("a")


def test_models_of_two_sizes_are_compared_each_in_its_own(served, checkpoints, tmp_path, monkeypatch):
    """A model of the study's size is not held to be on other film because the app's is larger."""
    session = Session()
    small = rt.open_film("scenery", size=(48, 80))
    *_, p = rt.train(replace(rt.RECIPES["v1"], width=8, depth=1, batch=2), small, steps=2, preview_every=1e9)
    session.add_model("small", p.model)
    player, _, words, *_ = compare(session, "small", "v2", ROAD, 1300, False)
    assert [(view["width"], view["height"]) for view in player["views"]] == [(80, 48), (128, 72), (80, 48)]
    assert "not on this film" not in words
    assert scrub(session, "small", ROAD, 1300, 4, False)[0]["views"][0]["width"] == 80
    assert film_for(session, ROAD, session.model("v2")).size == (72, 128)


def test_film_that_stands_still_or_ends_at_once(served):
    """Nothing to divide by, and no 16 frames in a row: words, not a failure."""
    film = replace(rt.open_film("scenery"), drive_ids=("another",))
    still = replace(film, frames=film.frames[:1].expand(60, -1, -1, -1), cuts=(), fingerprint="still", name="still")
    session = Session()
    session.add_film(still.with_gap(1))
    session.add_film(replace(still, frames=film.frames[:5], fingerprint="short", name="short").with_gap(1))
    for name in ("still", "short"):
        answer = compare(session, "v1", "v2", name, 0, False)
        assert json.dumps(answer, allow_nan=False) and "not on this film" in answer[2] and "inf" not in answer[2]
        answer = scrub(session, "v1", name, 0, 40, False)
        assert json.dumps(answer, allow_nan=False) and "inf" not in answer[2]


def test_long_curves_travel_thinned():
    points = [(step, 1.0) for step in range(5000)]
    (line,) = charts.loss_curves({"l1": points})["data"]
    assert len(line["x"]) <= charts.MAX_POINTS and line["x"][-1] == 4999


def test_names_of_files_are_not_markup():
    assert escape_markdown("a|b_c *d* [e](f) <g>") == r"a\|b\_c \*d\* \[e\](f) \<g\>"


def says(run) -> str:
    with pytest.raises((gr.Error, rt.RoadtripError)) as error:
        run()
    message = getattr(error.value, "message", str(error.value))
    assert "\n" not in message and "Traceback" not in message and "/" not in message.replace("D(2)/D(1)", "")
    return message


def test_bad_input_is_one_sentence(served, tmp_path):
    session = Session()
    (tmp_path / "trip.jpg").write_text("not a picture")
    (tmp_path / "trip.zip").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "trip.mp4").write_bytes(b"\0" * 2000)
    for name, word in (("trip.jpg", "can be read"), ("trip.zip", "zip"), ("trip.mp4", "video")):
        said = says(lambda name=name: film_section.upload(session, [str(tmp_path / name)], "", gr.Progress()))
        assert word in said and "tmp" not in said
    assert "Choose" in says(lambda: film_section.upload(session, [], "", gr.Progress()))
    assert "no longer here" in says(lambda: film_section.update_view(session, "gone", ""))
    assert "Choose a model" in says(lambda: scrub(session, "../v1", ROAD, 0, 4, False))
    assert "different" in says(lambda: compare(session, "v1", "v1", ROAD, 0, False))
    assert "from 0.01 to 1,800" in says(lambda: list(train_tab.run(session, ROAD, "", "v1", "", -5, 0)))
    assert "Seed" in says(lambda: list(train_tab.run(session, ROAD, "", "v1", "", 5, -5)))
    assert "empty" in says(lambda: list(train_tab.run(session, ROAD, "", "v1", "", None, 0)))
    assert "empty" in says(lambda: scrub(session, "v1", ROAD, None, 4, False))
    assert "nothing to download" in says(lambda: train_tab.package(session))
    assert "choose one of v1, v2, v3-pair" in says(lambda: list(train_tab.run(session, ROAD, "", "v9", "", 5, 0)))


def test_limits_hold_on_the_server(served):
    assert scrub(Session(), "v1", ROAD, -(10**9), 1, False)[0]["frames"] == 1
    for horizon in (0, -3, 257, 1e9):
        with pytest.raises(rt.RoadtripError, match="from 1 to 256"):
            scrub(Session(), "v1", ROAD, 1300, horizon, False)
    assert json.dumps(scrub(Session(), "v1", ROAD, 10**9, 20, False), allow_nan=False)


def test_bad_upload_over_the_api(client, tmp_path):
    (tmp_path / "trip.jpg").write_text("not a picture")
    with pytest.raises(Exception, match="can be read"):
        client.predict([handle_file(str(tmp_path / "trip.jpg"))], "", api_name="/upload")


def test_the_study_says_what_its_seeds_do(tmp_path, monkeypatch):
    monkeypatch.setenv("ROADTRIP_CHECKPOINTS", str(tmp_path))
    assert study_tab.tables() == {}

    def row(arm, seed, R, verdict):
        psnr = {"model": [20.0, 18.0, 17.5], "copy_last": [19.0, 16.0, 14.0]}
        values = {"R": R, "N": 1.0, "S": 0.5, "B": 0.5, "sharpness": 1.0, "verdict": verdict, "psnr": psnr}
        about = {"arm": arm, "film": "scenery", "setting": "", "steps": study.STEPS, "size": [*study.SIZE]}
        about |= {"seed": seed, "training_curve": []}
        return about | values | {"real": {"return_ratio": 1.3, "bands": {"R": [1.1, 1.6]}}, "linear": {"R": [1.9, 2.0]}}

    rows = [row("pair", 0, 0.2, "oscillates"), row("pair", 1, 1.4, "moves"), row("single", 0, None, "frozen")]
    (tmp_path / "results.json").write_text(json.dumps({"runs": rows}))
    (name,) = study_tab.tables()
    chart, words = study_tab.update_view(name, "R")
    dots = {line["name"]: line for line in chart["figure"]["data"]}
    assert dots["oscillates"]["y"] == [0.2] and dots["moves"]["y"] == [1.4]
    assert dots["frozen"]["y"][0] < 0  # undefined: below the axis
    assert "pair 1 of 2" in words and "3 runs in all, 1 of them frozen" in words
    with pytest.raises(gr.Error, match="no such table"):
        study_tab.update_view("another", "R")
    (cells,) = study_tab.whole()["figure"]["data"]
    assert cells["y"] == ["pair", "single"] and cells["z"] == [[0.5], [0.0]] and cells["text"] == [["1/2"], ["0/1"]]
    assert cells["customdata"][0] == [(name, "1 oscillates, 1 moves")]
    assert study_tab.choose(gr.EventData(None, {"picked": [name, "what else"]})) == name
    for nonsense in (["another"], name, None, [], [[]]):
        with pytest.raises(gr.Error, match="no such table"):
            study_tab.choose(gr.EventData(None, {"picked": nonsense}))


def test_a_dot_puts_its_model_above_where_it_is_shipped(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("ROADTRIP_CHECKPOINTS", str(tmp_path))
    model = rt.load(checkpoints / "v2")
    rt.save(tmp_path / "study-v2", model)
    facts = model.provenance
    row = {"arm": "v2", "film": "scenery", "setting": "", "steps": facts.step, "seed": facts.seed, "seconds": 90}
    row |= {
        "R": 1.5,
        "N": 1.0,
        "S": 0.5,
        "B": 0.5,
        "sharpness": 1.0,
        "verdict": "moves",
        "command": "python -m roadtrip",
    }
    row |= {
        "onset": [{"frames": [1, 16], "R": 1.2}, {"frames": [17, 32], "R": None}],
        "training_curve": [{"step": 3, "R": 0.4, "verdict": "oscillates"}],
    }
    row |= {
        "real": {"return_ratio": 1.3, "bands": {"R": [1.1, 1.6]}},
        "linear": {"R": [1.9, 2.0]},
        "recipe": facts.recipe.to_dict(),
        "fingerprint": facts.film.fingerprint,
        "size": [72, 128],
        "psnr": {"model": [20.0, 18.0, 17.5], "copy_last": [19.0, 16.0, 14.0], "mean_frame": [16.0, 16.5, 17.0]},
    }
    row["gap"] = facts.film.gap
    same = row | {"arm": "another", "recipe": row["recipe"] | {"name": "another"}}  # one run under two names
    (tmp_path / "results.json").write_text(json.dumps({"runs": [same, row, row | {"seed": 7}]}))
    (table,) = study_tab.tables()

    def picked(what):
        return study_tab.pick(table, gr.EventData(None, {"picked": what}))

    words, onset, clock = picked(["v2", facts.seed, 1.5])
    assert "model=study-v2)" in words and "R 1.50" in words and "gain16 0.50" in words
    assert "model=study-v2)" in picked(["another", facts.seed, 1.5])[0]
    assert [line["y"] for line in onset["figure"]["data"][:2]] == [[1.2, None]] * 2  # both seeds of the arm
    assert [line["name"] for line in clock["figure"]["data"]] == [f"seed {facts.seed}", "seed 7", "real film"]
    words, *_ = picked(["v2", 7, 1.5])
    assert "model=" not in words and "python -m roadtrip" in words
    said = study_tab.study_note(study_tab.shipped_names())
    assert "as the median by R of seeds 0 to 4; verdict: moves (same for 2 of 2 seeds)" in said
    for nonsense in (["v2", 99], "v2", None, [[]]):
        with pytest.raises(gr.Error, match="no longer there"):
            picked(nonsense)
