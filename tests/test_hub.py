"""A model goes to the Hub and comes back: its card, its weights, and what is known of them. The Hub is a stand-in on
loopback that keeps what it is sent in memory; the real client talks to it, in a process of its own."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from PIL import Image

import roadtrip as rt
from roadtrip.hub import card, write_folder

ROOT = Path(__file__).parents[1]
SMALL = rt.Recipe("v1 `of` | <b>mine</b>", width=8, depth=1, disc_width=8, batch=2)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as one small model needs; every file travels in the commit, none by LFS."""

    kept: ClassVar[dict[str, dict[str, bytes]]] = {}  # repository → path → content
    tokens: ClassVar[set[str | None]] = set()

    def answer(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
            self.send_header(name, headers.pop(name.replace("-", "_"), value))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.tokens.add(self.headers.get("Authorization"))
        if "/forbidden/" in self.path:
            return self.answer(403)
        if self.path == "/api/validate-yaml":  # of the card
            return self.answer(200, b'{"errors": [], "warnings": []}')
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            self.kept.setdefault(name, {})
            return self.answer(200, json.dumps({"url": f"http://{self.headers['Host']}/{name}"}).encode())
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/preupload/main", self.path):
            files = [f | {"uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            return self.answer(200, json.dumps({"files": files}).encode())
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/commit/main", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.kept[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/{found[1]}/commit/{'0' * 40}"
            return self.answer(
                200, json.dumps({"success": True, "commitOid": "0" * 40, "commitUrl": url, "hookOutput": ""}).encode()
            )
        return self.answer(404)

    def do_GET(self) -> None:
        if found := re.fullmatch(r"/(\w+/\w+)/resolve/main/([\w.-]+)", self.path):
            repository = self.kept.get(found[1])
            if repository is None:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if found[2] not in repository:
                return self.answer(404, X_Error_Code="EntryNotFound")
            body = repository[found[2]]
            etag = f'"{hashlib.sha1(body).hexdigest()}"'
            return self.answer(200, body, ETag=etag, X_Repo_Commit="0" * 40, Content_Type="application/octet-stream")
        if found := re.fullmatch(r"/api/models/(\w+/\w+)(/revision/main)?", self.path):
            facts = {"id": found[1], "sha": "0" * 40, "siblings": [], "private": False, "tags": []}
            return self.answer(200, json.dumps(facts).encode())
        return self.answer(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def film():
    return rt.open_film("scenery", size=(48, 80))


@pytest.fixture(scope="module")
def model(film):
    *_, p = rt.train(SMALL, film, steps=3, seed=5, preview_every=1e9)
    return p.model


@pytest.fixture(scope="module")
def there(model, film, tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("hub"), model, film, name="someone/mine", license="mit")


CLIENT = """
import json, sys
import torch
import roadtrip as rt

def refused(function, *arguments):
    try:
        function(*arguments)
    except rt.RoadtripError as error:
        return str(error)

mine = rt.load(sys.argv[1])
said = {"address": rt.push_to_hub(mine, "someone/mine")}
again = rt.load("someone/mine")
ready = rt.NextFrame.from_pretrained("someone/mine")
said["same"] = [all(torch.equal(v, mine.state_dict()[k]) for k, v in m.state_dict().items()) for m in (again, ready)]
said["known"] = again.provenance == mine.provenance == ready.provenance
said["trains"] = ready.encoder.stem.weight.requires_grad
said["refused"] = [
    refused(rt.load, "someone/nothing"),
    refused(rt.push_to_hub, mine, "mine"),
    refused(rt.push_to_hub, mine, "someone/forbidden"),
]
print(json.dumps(said))
"""


def client(code: str, address: str, home: Path, *arguments: str) -> str:
    env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_TOKEN": "hf_secret", "PYTHONPATH": str(ROOT)}
    env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def test_a_model_goes_to_the_hub_and_comes_back(there, address, tmp_path):
    said = json.loads(client(CLIENT, address, tmp_path, str(there)))
    assert said["address"] == f"{address}/someone/mine"
    assert said["same"] == [True, True] and said["known"] and said["trains"]
    nothing, name, forbidden = said["refused"]
    assert "the Hub has no model.safetensors of that name" in nothing and "404" in nothing
    assert "write it as user/name" in name
    assert forbidden.startswith("someone/forbidden was not uploaded: the Hub answered 403.")
    kept = Hub.kept["someone/mine"]
    assert {"README.md", "config.json", "model.safetensors"} <= kept.keys()
    assert kept["model.safetensors"] == (there / "model.safetensors").read_bytes()
    assert Hub.tokens == {"Bearer hf_secret"}


def test_without_a_hub_it_is_a_sentence(there, tmp_path):
    code = CLIENT.split("mine = ")[0] + (
        "print(json.dumps([refused(rt.load, 'someone/mine'), refused(rt.push_to_hub, rt.load(sys.argv[1]), 'a/b')]))"
    )
    load, push = json.loads(client(code, "http://127.0.0.1:9", tmp_path, str(there)))
    assert load.startswith(
        "There is no checkpoint at someone/mine: it is not a folder here, and the Hub can't be reached"
    )
    assert push.startswith("a/b was not uploaded: the Hub can't be reached.")


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    monkeypatch.setattr("roadtrip.checkpoint.hub_file", lambda *_: pytest.fail("asked the Hub"))
    for name in ("runs/v1", "nowhere", "../v1", tmp_path / "a" / "b"):
        with pytest.raises(rt.RoadtripError, match=r"no checkpoint at .* or a name that ships: lstm,"):
            rt.load(name)


def test_a_name_that_ships_is_enough_unless_there_is_a_folder(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    shipped = rt.load("v1")
    assert shipped.provenance.recipe == rt.RECIPES["v1"]
    rt.save("v1", model)
    assert rt.load("v1").provenance.recipe.name == SMALL.name
    with pytest.raises(rt.RoadtripError):
        rt.load("../checkpoints/v1")


def test_the_card_says_what_was_measured(there, model, film):
    text = (there / "README.md").read_text()
    _, matter, body = text.split("---\n", 2)
    facts = yaml.safe_load(matter)
    assert facts["license"] == "mit" and facts["library_name"] == "roadtrip" and "video-prediction" in facts["tags"]
    measured = rt.evaluate(model, film, most=32)
    for method in ("model", "copy_last", "linear", "mean_frame"):
        row = " | ".join(f"{measured.psnr[method][h - 1]:.2f}" for h in (1, 4, 16, 64))
        assert f"| {method.replace('_', ' ')} | {row} |" in body
    assert f"**{measured.oscillation.verdict}**" in body
    assert "| seed | 5 |" in body and film.fingerprint in body and "width=8" in body
    assert 'rt.load("someone/mine")' in body
    # a name is text, whatever is in it
    assert "<b>" not in re.sub("`[^`]*`", "", body) and "| recipe | `v1 'of' &#124; <b>mine</b>`: " in body
    with Image.open(there / "rollout.webp") as moving:
        assert moving.n_frames == 64 and moving.size == (2 * 2 * 80, 2 * 48)


def test_the_cards_own_lines_run(there, tmp_path, monkeypatch):
    code = (there / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    for wanted, given in (("someone/mine", str(there)), ("PATH OF YOUR STILLS OR VIDEO", "scenery")):
        assert wanted in code
        code = code.replace(wanted, given)
    exec(code, {})
    assert Path("drive.mp4").stat().st_size > 0


def test_a_card_of_what_is_not_known():
    text = card(rt.NextFrame(width=8, depth=1, size=(16, 24)))
    assert "carry no provenance" in text and "Nothing was measured" in text


def test_the_mixins_own_way_writes_the_card_too(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert "Nothing was measured" in (tmp_path / "README.md").read_text()
    assert torch.equal(rt.load(tmp_path).encoder.stem.weight, model.encoder.stem.weight)
