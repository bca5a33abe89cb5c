"""The served app over HTTP, as a stranger calls it: every answer is a value or one sentence, nothing of the server's or of
others' is told, and what a tab held leaves the memory with it."""

import hashlib
import html
import json
import os
import re
import socket
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

import roadtrip as rt
from roadtrip.export import write
from roadtrip.ui import budget, guard, session, train_tab
from roadtrip.ui.library import ROAD
from roadtrip.ui.session import Session, restore_session

FILE = {"meta": {"_type": "gradio.FileData"}}
VALID = {
    "/scrub": ["v1", ROAD, 1300, 2, False],
    "/export": ["v1", ROAD, 1300, 2, "png strip"],
    "/compare": ["v1", "v2", ROAD, 1300, False],
    "/train": [ROAD, "", "v1", "width=8 depth=1", 0.05, 0],
    "/duel": [ROAD, "v1", "v1", 1, 0],
    "/resume": [0.05],
    "/upload": [None, ""],
    "/checkpoint_upload": [None],
    "/checkpoint": [],
    "/drive_on": ["v1", ROAD, 1300, -1],
    "/save_drive": [],
    "/measure": ["v1", ROAD, 2],
    "/save_clip": ["v1", ROAD, 1300, 4, "webp"],
    "/save_comparison": ["v1", "v2", ROAD, 1300, "webp"],
    "/step": [],
    "/step_g": [],
    "/step_d": [],
    "/slow": [],
}
WRONG = [
    None,
    True,
    -1,
    1e300,
    "",
    "x" * 3000,
    "\0../../etc/passwd",
    "http://localhost:1/x",
    [],
    {},
    [[1]],
    FILE | {"path": "http://lookup.invalid/x.png"},
    [FILE | {"path": "/etc/passwd"}],
    [FILE | {"path": "x.png", "url": "http://lookup.invalid/x.png"}],
]
TELLS = re.compile(r"/tmp|/home|/root|/usr|site-packages|Traceback|File \"|\.py\b|0x[0-9a-f]{6}")


@pytest.fixture
def browser(served):
    with httpx.Client(base_url=served, timeout=120) as client:
        yield client


def ask(browser, name: str, data, visitor: str = "stranger") -> tuple[str, object]:
    """("complete" or "error", what came with it)."""
    answer = browser.post(f"/gradio_api/call{name}", json={"data": data, "session_hash": visitor})
    if answer.status_code != 200:
        return "error", answer.json()
    events = browser.get(f"/gradio_api/call{name}/{answer.json()['event_id']}").text.strip().split("\n\n")
    event, _, data = events[-1].partition("\n")
    event, said = event.removeprefix("event: "), json.loads(data.removeprefix("data: "))
    shown = said[0] if event == "complete" and said else None
    if isinstance(shown, dict) and "error" in shown:  # what a player says in place of its film
        return "error", shown
    return event, said


def is_sentence(said) -> bool:
    text = (said or {}).get("error") or (said or {}).get("detail") if isinstance(said, dict) else None
    return isinstance(text, str) and len(text) > 15 and "\n" not in text and not TELLS.search(text)


def test_every_endpoint_takes_anything_and_says_what_is_wrong(browser, monkeypatch, capfd):
    """Wrong types, sizes and orders of everything that is public; and no host is looked up for it."""
    looked_up, plain = [], socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **how: looked_up.append(host) or plain(host, *more, **how)
    )
    public = set(browser.get("/gradio_api/info").json()["named_endpoints"])
    assert public == set(VALID)
    calls = []
    for name, valid in VALID.items():
        calls += [(name, valid[:-1])] * bool(valid) + [(name, [*valid, "more"]), (name, valid[::-1])]
        for i in range(len(valid)):
            calls += [(name, [*valid[:i], wrong, *valid[i + 1 :]]) for wrong in WRONG]
    assert len(calls) > 300
    refused = 0
    for name, data in calls:
        event, said = ask(browser, name, data)
        refused += event == "error"
        assert event == "complete" or is_sentence(said), (name, data, said)
    assert refused > 0.7 * len(calls)
    assert not [host for host in looked_up if host not in ("127.0.0.1", "localhost", None)]
    out = capfd.readouterr()
    assert "Traceback" not in out.err + out.out and "lookup.invalid" not in out.err + out.out


ROUTES = [
    ("POST", "queue/join", {"json": {"fn_index": 9999, "data": [], "session_hash": "q"}}),
    ("POST", "queue/join", {"json": {"fn_index": "a"}}),
    ("POST", "queue/join", {"content": b"\xff{"}),
    ("POST", "call/nothing", {"json": {"data": []}}),
    ("POST", "call/scrub", {"json": {"data": {"a": 1}}}),
    ("POST", "call/v2/scrub", {"json": {"a": 1}}),
    ("POST", "call/v2/nothing", {"json": {}}),
    ("POST", "run/scrub", {"json": {"data": []}}),
    ("POST", "api/scrub", {"json": {"data": VALID["/scrub"]}}),
    ("POST", "upload", {"content": b"x"}),
    ("POST", "upload", {"files": {"other": b"x"}}),
    ("POST", "component_server", {"json": {"data": 1, "component_id": 3, "fn_name": "x", "session_hash": "s"}}),
    ("POST", "cancel", {"json": {"fn_index": "a"}}),
    ("GET", "file=/etc/passwd", {}),
    ("GET", "file=http://lookup.invalid/x", {}),
    ("GET", "file=%2e%2e%2f%2e%2e%2fetc/passwd", {}),
    ("GET", "proxy=http://lookup.invalid/x", {}),
    ("GET", "upload_progress?upload_id=none", {}),
    ("GET", "call/scrub/none", {}),
    ("GET", "stream/a/b/c/playlist.m3u8", {}),
    ("GET", "custom_component/a/b/c/d", {}),
    ("DELETE", "config", {}),
]


@pytest.mark.parametrize("method, route, how", ROUTES)
def test_every_route_says_what_is_wrong(method, route, how, browser, capfd):
    with browser.stream(method, f"/gradio_api/{route}", **how) as answer:
        body = next(answer.iter_text(), "")
    if answer.status_code >= 400:
        assert is_sentence(json.loads(body)), body
    else:
        assert not TELLS.search(body.replace("/upload", "")), body
    out = capfd.readouterr()
    assert "Traceback" not in out.err + out.out


def test_only_what_was_trained_here_is_packaged(browser, checkpoints):
    weights = (checkpoints / "v2" / "model.safetensors").read_bytes()
    (path,) = browser.post("/gradio_api/upload", files={"files": ("model.safetensors", weights)}).json()
    event, update = ask(browser, "/checkpoint_upload", [FILE | {"path": path}], "thief")
    assert event == "complete" and "(uploaded)" in update[0]["value"]
    event, said = ask(browser, "/checkpoint", [], "thief")
    assert event == "error" and "nothing to download" in said["error"]
    other = ask(browser, "/checkpoint_upload", [FILE | {"path": path.replace("model.safetensors", "../x")}], "thief")
    assert other[0] == "error" and is_sentence(other[1])


def test_a_budget_is_the_same_over_the_api(browser):
    heavy = [ROAD, "", "v1", "batch=512 unroll=16", 5, 0]
    event, said = ask(browser, "/train", heavy)
    assert event == "error" and "lower batch, unroll or width" in said["error"]
    event, said = ask(browser, "/scrub", ["v1", ROAD, 1300, 10**6, False])
    assert event == "error" and str(budget.MAX_HORIZON) in said["error"]


def test_a_full_disk_is_one_sentence_for_whatever_is_written(browser, full_disk, tmp_path, monkeypatch, capfd):
    """Uploads, clips that a zip holds, clips and checkpoints to be saved; and nothing partial stays for long."""
    clip = write(tmp_path / "drive.mp4", torch.randint(256, (20, 3, 72, 128), dtype=torch.uint8), 25)
    with zipfile.ZipFile(tmp_path / "drive.zip", "w") as archive:
        archive.write(clip, clip.name)
    assert clip.stat().st_size > 2**16
    (path,) = browser.post(
        "/gradio_api/upload", files={"files": ("drive.zip", (tmp_path / "drive.zip").read_bytes())}
    ).json()
    (ours := tmp_path / "ours").mkdir()
    uploads = Path(path).parents[1]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    monkeypatch.setattr(tempfile, "tempdir", str(ours))
    assert ask(browser, "/train", [ROAD, "", "v1", "width=8 depth=1", 0.05, 0], "unlucky")[0] == "complete"
    with full_disk(2**16):
        before = {*uploads.iterdir()}
        answer = browser.post("/gradio_api/upload", files={"files": ("more.zip", bytes(2**18))})
        assert answer.status_code == 507 and answer.json()["error"] == budget.DISK_FULL
        for name, data in (
            ("/upload", [[FILE | {"path": path}], "1"]),
            ("/save_clip", ["v1", ROAD, 1300, 16, "webp"]),
            ("/save_comparison", ["v1", "v2", ROAD, 1300, "mp4"]),
            ("/export", ["v1", ROAD, 1300, 64, "png strip"]),
            ("/checkpoint", []),
        ):
            event, said = ask(browser, name, data, "unlucky")
            assert event == "error" and said["error"] == html.escape(budget.DISK_FULL, quote=False), (name, said)
        (partial,) = (p for p in {*uploads.iterdir()} - before if p.is_file() and p.stat().st_size)
    assert not [p for p in ours.rglob("*") if p.is_file()]
    assert guard.remove_partial(partial.parent) is None and partial.exists(), "it may be coming still"
    os.utime(partial, (0, time.time() - budget.UPLOAD_SILENCE - 1))
    assert guard.remove_partial(partial.parent) is None and not partial.exists() and Path(path).exists()
    assert "Traceback" not in "".join(capfd.readouterr())
    assert ask(browser, "/save_clip", ["v1", ROAD, 1300, 16, "webp"], "unlucky")[0] == "complete"


# --- what a tab held ----------------------------------------------------------------------------------------------------


def own_film() -> rt.Film:
    frames = torch.randint(256, (60, 3, 72, 128), dtype=torch.uint8)
    there = hashlib.sha256(b"own").hexdigest()
    return rt.Film(frames, (), 1, None, (0,), "mine", there, drive_ids=(there,))


def test_a_closed_tab_leaves_the_memory_and_a_reload_finds_all(served):
    """Also a training that can be resumed, with the bits that it would have had."""
    visitor, secret = restore_session(Session(), None, "a page")
    visitor.add_film(own_film())
    *_, _ = train_tab.run(visitor, "mine", "1", "v1", "width=8 depth=1", 0.3, 0)
    model, before, names = visitor.trained, visitor.unfinished.latest.step, visitor.model_names()
    frames = visitor.film("mine").frames
    visitor.park()
    assert not visitor.films and not visitor.models and visitor.trained is None
    assert visitor.bytes() > frames.nbytes, "it counts on the disk, too"
    again, _ = restore_session(Session(), secret, "another page")
    assert again is visitor and visitor.model_names() == names and visitor.trained is visitor.models[visitor.newest]
    assert torch.equal(visitor.film("mine").frames, frames)
    assert all(torch.equal(a, b) for a, b in zip(visitor.trained.parameters(), model.parameters(), strict=True))
    assert train_tab.package(visitor) and train_tab.restored_view(visitor)[0]
    *_, _ = train_tab.step(visitor)
    assert visitor.unfinished.latest.step == before + 1
    *_, _ = train_tab.resume(visitor, 0.3)
    assert visitor.unfinished.latest.step > before + 1
    folder = visitor.download_dir()
    visitor.park()
    visitor.clear()
    assert not folder.exists(), "files go with the session"


def test_a_page_that_closes_parks_unless_it_is_back(monkeypatch):
    monkeypatch.setattr(budget, "GRACE", 0.05)
    visitor, _ = restore_session(Session(), None, "page 1")
    session.page_opened("page 1")
    visitor.add_film(replace(own_film(), name="other"))
    parked = []
    monkeypatch.setattr(Session, "park", lambda self: parked.append(self))
    session.page_opened("page 2")
    restore_session(Session(), visitor.secret, "page 2")
    session.page_closed("page 1")
    session._park_unless_open("page 1")
    assert parked == [], "the other page shows it"
    session.page_closed("page 2")
    session._park_unless_open("page 2")
    assert parked[0] is visitor


def test_files_go_with_the_page(tmp_path):
    """What was uploaded, unless another visitor's is kept as the same file, and what was made to be saved."""
    (a, _), (b, _) = (restore_session(Session(), None, f"files of {name}") for name in "ab")
    own, shared = tmp_path / "own.mp4", tmp_path / "shared.mp4"
    for file in (own, shared, saved := a.download_dir() / "clip.webp"):
        file.write_bytes(b"x")
    a.uploads, b.uploads = {str(own), str(shared)}, {str(shared)}
    a.add_film(own_film())
    session.page_opened("files of b")
    session._park_unless_open("files of a")
    assert not own.exists() and not saved.exists() and shared.exists()
    a.unpark()
    assert len(a.film("mine").frames) == 60
    folder = b.download_dir()
    session.page_closed("files of b")
    session._park_unless_open("files of b")
    assert not shared.exists() and not folder.exists(), "nothing of this visitor's is parked in it"
    assert b.download_dir().exists(), "the page may be back"
