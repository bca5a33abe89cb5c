"""The app as a ZeroGPU Space runs it: a process of its own with a stand-in for the package `spaces`, and a visitor who
goes through every tab."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image

import roadtrip as rt
from roadtrip.ui.library import ROAD

ROOT = Path(__file__).parents[1]
SMALL = "width=8 depth=1 disc_width=8 batch=2"


@pytest.fixture(scope="module")
def client(checkpoints, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"SPACES_ZERO_GPU": "true", "PYTHONPATH": str(Path(__file__).parent / "zero_gpu")}
    env |= {"ROADTRIP_CHECKPOINTS": str(checkpoints), "GRADIO_SERVER_PORT": port}
    env |= {"HOME": str(tmp_path_factory.mktemp("home"))}
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env)
    try:
        while app.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/config") as answer:
                answer.read()
                break
            time.sleep(0.2)
        yield Client(f"http://127.0.0.1:{port}", verbose=False)
    finally:
        app.kill()
        app.wait()


@pytest.fixture
def ask(client):
    return lambda name, *values: client.predict(*values, api_name=f"/{name}")


@contextmanager
def watching(client, name, *values):
    """What an endpoint streams, until this is left: then it is stopped, as a click on Stop does."""
    job = client.submit(*values, api_name=f"/{name}")
    yield job
    job.cancel()


def until(shown, what):
    """What is said as soon as this is in it."""
    for item in shown:
        said = str(item[0] if isinstance(item, tuple) else item)
        if what in said:
            return said
    return pytest.fail(f"ended without {what!r}")


def step_in(status):
    return int(re.search(r"step (\d+)", status)[1])


def test_a_visitor_goes_through_every_tab(client, ask, tmp_path):
    own = {d["api_name"]: client.endpoints[d["id"]] for d in client.config["dependencies"]}
    own["refresh"].is_valid = own["whole"].is_valid = True  # the page's own, which the client leaves to it
    assert ask("compare", "v1", "v2", ROAD, 1300, False)[0]["views"]
    assert Path(ask("save_comparison", "v1", "v2", ROAD, 1300, "webp")).stat().st_size
    assert "finished" in ask("duel", ROAD, "v1", "v2", 2, 0)[0]

    for t in range(60):
        Image.linear_gradient("L").rotate(5 * t).resize((128, 72)).save(tmp_path / f"{t:02}.png")
    film, *_ = ask("upload", [handle_file(str(file)) for file in sorted(tmp_path.iterdir())], "")
    asked = film["value"], "1", "v3-pair", SMALL
    with watching(client, "train", *asked, 60, 0) as shown:
        step = step_in(until(shown, " s left"))
    status = ask("resume", 1)[0]
    assert "finished" in status and step_in(status) > step
    for n, name in enumerate(("step", "step_g", "step_d"), 1):
        assert step_in(ask(name)[0]) == step_in(status) + n
    with watching(client, "slow") as shown:
        until(shown, f"step {step_in(status) + 5} of")
    assert "finished" in ask("resume", 1)[0]
    with zipfile.ZipFile(ask("checkpoint")) as archive:
        archive.extractall(tmp_path / "run")
    (weights,) = (tmp_path / "run").rglob("model.safetensors")
    stops = rt.load(weights).provenance.resumed_at
    assert len(stops) == 3 and stops[1][1] == 0  # once by hand in between

    mine = ask("checkpoint_upload", handle_file(str(weights)))["value"]
    menus = own["refresh"].dependency["inputs"][1:]  # after the session
    shown = {c["id"]: c["props"].get("value") for c in client.config["components"]}
    client.predict(*map(shown.get, menus), fn_index=own["refresh"].fn_index)
    assert ask("scrub", mine, ROAD, 1300, 4, False)[0]["frames"] == 4
    assert ask("measure", mine, ROAD, 4)["psnr"]["model"]
    assert Path(ask("export", mine, ROAD, 1300, 2, "gif")).stat().st_size
    assert Path(ask("save_clip", mine, ROAD, 1300, 8, "mp4")).stat().st_size
    with watching(client, "drive_on", mine, ROAD, 1250, 1.0) as shown:
        until(shown, "Frame 12")
    assert Path(ask("save_drive", "mp4")).stat().st_size

    assert client.predict(fn_index=own["whole"].fn_index)["figure"]["data"]


def test_what_is_refused_is_a_sentence(ask):
    """From this app in the forked process, and from who lends."""
    with pytest.raises(Exception, match="lower batch, unroll or width"):
        ask("train", ROAD, "", "v1", "batch=512 unroll=16", 5, 0)
    with pytest.raises(Exception, match="larger than the maximum"):
        ask("train", ROAD, "", "v1", SMALL, 1800, 0)


def test_nothing_is_left_to_import_that_another_thread_may_be_importing_at_a_fork():
    """A forked training waited for ever for kornia, which the warm-up had begun to import."""
    env = os.environ | {"SPACES_ZERO_GPU": "true", "PYTHONPATH": f"{ROOT}:{Path(__file__).parent / 'zero_gpu'}"}
    code = "import sys, roadtrip.ui.training; print(*(n for n in sys.modules if n.startswith('kornia.')))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    lazily = {
        name
        for file in (ROOT / "roadtrip").glob("*.py")
        for name in re.findall(r"^\s+from (kornia\.\w+) import", file.read_text(), re.M)
    }
    assert lazily and lazily <= {*done.stdout.split()}
