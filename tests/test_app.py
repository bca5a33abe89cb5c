"""The app without a browser: its handlers, its API, and what it says to bad input."""

import json
import pickle

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from roadtrip.ui import compare_tab, scrub_tab, train_tab
from roadtrip.ui.garage import ROAD, Garage, shipped_names


@pytest.fixture
def client(served):
    return Client(served, verbose=False)


def test_shipped_models_stand_in_story_order(served):
    assert shipped_names() == ["v1", "v2", "v3-pair", "v3-single", "lstm"]


def test_train_over_the_api(client):
    status, chart, player = client.predict(ROAD, "v1", 3, 5, api_name="/train")
    assert "seed 5" in status and "finished" in status
    lines = {line["name"]: line for line in chart["figure"]["data"]}
    assert len(lines["L1"]["x"]) >= 1 and all(v > 0 for v in lines["L1"]["y"])
    assert player["frames"] == 16 and len(player["views"]) == 2


def test_scrub_over_the_api(client):
    player, chart, words = client.predict("v2", ROAD, 1300, 40, True, api_name="/scrub")
    assert player["frames"] == 40 and player["labels"][0] == "g3"
    assert [view["label"] for view in player["views"]] == ["real", "generated", "difference"]
    assert player["views"][0]["sprite"].startswith("data:image/png")
    assert chart["figure"]["data"][0]["name"] == "model" and len(chart["figure"]["data"]) == 4
    assert "baseline" in words and "Its last 20 frames" in words


def test_compare_over_the_api(client):
    player, lags, sizes, words = client.predict("v3-pair", "v3-single", ROAD, 1300, False, api_name="/compare")
    assert player["frames"] == 64 and len(player["views"]) == 3
    assert len(lags["figure"]["data"][0]["y"]) == 8 and len(sizes["figure"]["data"]) == 4
    assert "| v3-pair | **" in words and "oscillat" in words


def test_mp4_over_the_api(client):
    assert client.predict("v1", ROAD, 1300, 8, api_name="/mp4").endswith(".mp4")


def test_upload_of_stills_and_training_on_them(served, tmp_path):
    files = []
    for t in range(40):
        files.append(str(tmp_path / f"{t}.png"))
        Image.linear_gradient("L").rotate(t).resize((64, 48)).save(files[-1])
    garage = Garage()
    menu, sentence = train_tab.upload(garage, files, "1", gr.Progress())
    assert menu["value"] == "your stills" and "40 frames" in sentence
    *_, last = train_tab.run(garage, "your stills", "v1", 1, 0)
    name = "v1, your stills, seed 0 (yours)"
    assert list(garage.models) == [name] and "finished" in last[0]
    assert train_tab.package(garage, "your stills", "v1", 0).endswith(".zip")
    assert scrub_tab.look(garage, name, "your stills", 0, 4, False)[0]["frames"] == 4


def test_stop_keeps_what_was_learned(served):
    garage = Garage()
    running = train_tab.run(garage, ROAD, "v1", 60, 0)
    for _ in range(3):
        next(running)
    running.close()
    (name,) = garage.models
    assert scrub_tab.look(garage, name, ROAD, 1300, 4, False)[0]["frames"] == 4


def test_two_visitors_do_not_share(served):
    assert Garage().models is not Garage().models


def says(run) -> str:
    with pytest.raises(gr.Error) as error:
        run()
    message = error.value.message
    assert "\n" not in message and "Traceback" not in message and "/" not in message.replace("D(2)/D(1)", "")
    return message


def test_bad_input_is_one_sentence(served, tmp_path):
    garage = Garage()
    (tmp_path / "trip.jpg").write_text("not a picture")
    (tmp_path / "trip.zip").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "trip.mp4").write_bytes(b"\0" * 2000)
    for name, word in (("trip.jpg", "can be read"), ("trip.zip", "zip"), ("trip.mp4", "video")):
        assert word in says(lambda name=name: train_tab.upload(garage, [str(tmp_path / name)], "", gr.Progress()))
    assert "Choose" in says(lambda: train_tab.upload(garage, [], "", gr.Progress()))
    assert "no longer here" in says(lambda: train_tab.describe(garage, "gone"))
    assert "Choose a model" in says(lambda: scrub_tab.look(garage, "../v1", ROAD, 0, 4, False))
    assert "different" in says(lambda: compare_tab.look(garage, "v1", "v1", ROAD, 0, False))
    assert "zero seconds" in says(lambda: list(train_tab.run(garage, ROAD, "v1", -5, 0)))
    assert "Seed" in says(lambda: list(train_tab.run(garage, ROAD, "v1", 5, -5)))
    assert "five recipes" in says(lambda: list(train_tab.run(garage, ROAD, "v9", 5, 0)))


def test_limits_hold_on_the_server(served):
    assert scrub_tab.look(Garage(), "v1", ROAD, -(10**9), 0, False)[0]["frames"] == 1
    assert json.dumps(scrub_tab.look(Garage(), "v1", ROAD, 10**9, 20, False), allow_nan=False)


def test_bad_upload_over_the_api(client, tmp_path):
    (tmp_path / "trip.jpg").write_text("not a picture")
    with pytest.raises(Exception, match="can be read"):
        client.predict([handle_file(str(tmp_path / "trip.jpg"))], "", api_name="/upload")
