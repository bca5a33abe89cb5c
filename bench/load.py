"""python -m bench.load [--visitors N] [--seconds S]: the served app under load, and what it forgets when visitors leave.

30 visitors scrub (every second rollout is one that is known already) while two train: p50, p95 and errors of the scrubs,
and the share of its lone steps that the trainings keep. Then the largest v4 that may be trained, stopped and left: until
when it computes. Then a tab with an uploaded film, closed: until when its memory is back. Then many short sessions: the
slope of the server's memory, and files left. The server is a process of its own; both share the cores.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path

import httpx
import torch

import roadtrip as rt
from roadtrip.errors import RoadtripError
from roadtrip.export import write
from roadtrip.ui import budget

SERVER = "from app import launch; launch(prevent_thread_lock=False, quiet=True)"  # with what it sets for OpenMP
ROAD = "the rendered road"


class Visitor:
    def __init__(self, address: str, name: str):
        self.http, self.name, self.heard = httpx.Client(base_url=address, timeout=600), name, ""

    def ask(self, name: str, data: list) -> tuple[bool, object]:
        """(whether it worked, the answer)."""
        joined = self.http.post(f"/gradio_api/call{name}", json={"data": data, "session_hash": self.name})
        if joined.status_code != 200:
            return False, joined.text
        self.heard = self.http.get(f"/gradio_api/call{name}/{joined.json()['event_id']}").text
        event, _, value = self.heard.strip().split("\n\n")[-1].partition("\n")
        answer = json.loads(value.removeprefix("data: "))
        wrong = (
            bool(answer) and isinstance(answer, list) and isinstance(answer[0], dict) and "error" in answer[0]
        )  # in a player's place
        return event == "event: complete" and not wrong, answer


class Tab(Visitor):
    """A visitor's page as a browser has it: it says that it is there, and takes answers, until it is closed."""

    def __init__(self, address: str, name: str):
        super().__init__(address, name)
        events = self.http.get("/config").json()["dependencies"]
        self.index = {d["api_name"]: d["id"] for d in events}
        self.beat = self.stream(f"heartbeat/{name}")
        self.beats = self.beat.iter_raw()  # kept: one that is dropped closes its stream, and the page would be gone
        next(self.beats)
        (arrival,) = (d for d in events if any(target[1] == "load" for target in d["targets"]))
        self.wait(self.begin(arrival["id"], [None] * len(arrival["inputs"])))

    def stream(self, route: str) -> httpx.Response:
        return self.http.send(self.http.build_request("GET", f"/gradio_api/{route}"), stream=True)

    def begin(self, index: int, data: list) -> str:
        asked = {"data": data, "fn_index": index, "session_hash": self.name}
        event = self.http.post("/gradio_api/queue/join", json=asked).json()["event_id"]
        self.answers = self.stream(f"queue/data?session_hash={self.name}")
        return event

    def messages(self) -> Iterator[dict]:
        for line in self.answers.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    def wait(self, event: str) -> dict:
        return next(m for m in self.messages() if m["msg"] == "process_completed" and m["event_id"] == event)

    def close(self) -> None:
        for stream in (self.answers, self.beat):
            stream.close()
        self.http.close()


def serve(port: int, files: str) -> tuple[subprocess.Popen[bytes], str]:
    """The app, whose temporary files lie in this folder."""
    where = {"GRADIO_SERVER_PORT": str(port), "TMPDIR": files}
    process = subprocess.Popen([sys.executable, "-c", SERVER], cwd=Path(__file__).parents[1], env=os.environ | where)
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/config", timeout=5).status_code == 200:
                return process, address
        time.sleep(0.5)
    raise SystemExit("the server did not start")


def train(address: str, seconds: float, into: list[float], name: str) -> None:
    """Steps a second of one training, on the clock."""
    began = time.monotonic()
    visitor = Visitor(address, name)
    visitor.ask("/train", [ROAD, "", "v2", "", seconds, 0])
    steps = re.findall(r"step (\d+)", visitor.heard)
    into.append(int(steps[-1]) / (time.monotonic() - began) if steps else float("nan"))


def scrub(address: str, name: str, ends: float, times: list[tuple[bool, float]], errors: list[object]) -> None:
    visitor, draw = Visitor(address, name), random.Random(name)
    while time.monotonic() < ends:
        known = draw.random() < 0.5
        start = 1300 if known else draw.randrange(1210, 1400)
        began = time.monotonic()
        good, answer = visitor.ask("/scrub", ["v2", ROAD, start, 64, False])
        times.append((known, time.monotonic() - began))
        if not good:
            errors.append(answer)
        time.sleep(draw.uniform(2, 6))


def together(*targets: tuple) -> None:
    threads = [threading.Thread(target=function, args=arguments) for function, *arguments in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def memory(pid: int) -> float:
    """MB that are the process's own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def load(address: str, visitors: int, seconds: float) -> None:
    Visitor(address, "first").ask("/scrub", ["v2", ROAD, 1300, 64, False])
    lone: list[float] = []
    train(address, seconds, lone, "lone")
    pair: list[float] = []
    together(*((train, address, seconds, pair, f"pair {i}") for i in range(2)))
    busy: list[float] = []
    times: list[tuple[bool, float]] = []
    errors: list[object] = []
    ends = time.monotonic() + seconds
    together(
        *((train, address, seconds, busy, f"busy {i}") for i in range(2)),
        *((scrub, address, f"visitor {i}", ends, times, errors) for i in range(visitors)),
    )
    print(f"\n{visitors} visitors, {len(times)} scrubs, {len(errors)} errors {errors[:1] or ''}")
    print("| | p50, s | p95, s |\n|---|---:|---:|")
    for said, kind in (("known", True), ("new", False)):
        found = sorted(t for known, t in times if known is kind)
        if len(found) > 1:
            print(f"| {said} | {statistics.median(found):.2f} | {found[int(0.95 * (len(found) - 1))]:.2f} |")
    print(
        f"trainings: {sum(busy):.1f} steps/s together, {sum(pair):.1f} without visitors ({sum(busy) / sum(pair):.0%}); "
        f"one alone {lone[0]:.1f} ({sum(busy) / lone[0]:.0%})"
    )


def processor(pid: int) -> float:
    """Seconds that it has computed."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def computes_on(pid: int, most: float = 60) -> float:
    """Seconds until it computes no longer: less than a tenth of a core for a second."""
    began = ended = time.monotonic()
    before = processor(pid)
    while time.monotonic() < min(ended + 1, began + most):
        time.sleep(0.1)
        now = processor(pid)
        if now - before >= 0.02:
            ended = time.monotonic()
        before = now
    return ended - began


def may_be_trained(batch: int) -> bool:
    film = rt.Film(torch.zeros(3, 3, 72, 128, dtype=torch.uint8), (), 1, None, (0,), "", "0" * 64)
    with suppress(RoadtripError):
        budget.check_training(replace(rt.RECIPES["v4"], batch=batch), film)
        return True
    return False


def stopping(address: str, pid: int, times: int = 5) -> None:
    batch = max(takewhile(may_be_trained, count(1)))
    computes_on(pid)  # what other visitors began
    print(f"\nv4 with batch {batch}: seconds until it computes no more")
    for how in ("stop", "close"):
        found = []
        for i in range(times):
            tab = Tab(address, f"{how} {i}")
            event = tab.begin(tab.index["train"], [None, ROAD, "", "v4", f"batch={batch}", 300, 0])
            before = processor(pid)
            time.sleep(random.Random(i).uniform(4, 7))
            assert processor(pid) - before > 1, "it does not train"
            if how == "stop":
                tab.http.post(
                    "/gradio_api/cancel",
                    json={"session_hash": tab.name, "fn_index": tab.index["train"], "event_id": event},
                )
            else:
                tab.close()
            found.append(computes_on(pid))
            tab.close()
        print(f"{how}: {', '.join(f'{t:.1f}' for t in found)}")


def closing(address: str, pid: int, frames: int = 3000) -> None:
    """A tab with a film, as large as a drive."""
    noise = torch.randint(256, (frames, 3, 9, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as home:
        clip = write(Path(home) / "drive.mp4", noise, 25, 8)
        tab = Tab(address, "with a film")
        before = memory(pid)
        with clip.open("rb") as file:
            (path,) = tab.http.post("/gradio_api/upload", files={"files": file}).json()
    said = tab.wait(tab.begin(tab.index["upload"], [None, [{"path": path, "meta": {"_type": "gradio.FileData"}}], "1"]))
    held = memory(pid)
    tab.close()
    began = time.monotonic()
    while memory(pid) > before + 0.1 * (held - before) and time.monotonic() < began + 30:
        time.sleep(0.1)
    print(
        f"\na tab with a film of {frames} frames ({'read' if said['success'] else said['output']}): {before:.0f} → "
        f"{held:.0f} MB; {time.monotonic() - began:.1f} s after it was closed {memory(pid):.0f} MB"
    )


def sessions(address: str, pid: int, n: int, files: Path) -> None:
    sizes = []
    before = {*files.rglob("*")}
    for i in range(n):
        tab = Tab(address, f"short {i}")
        tab.ask("/scrub", ["v2", ROAD, 1300, 64, False])
        if i % 5 == 0:  # it takes longer than all the rest
            tab.ask("/save_clip", ["v2", ROAD, 1300, 64, "webp"])
        tab.close()
        sizes.append(memory(pid))
        if i % 50 == 49:
            print(f"{i + 1} sessions: {sizes[-1]:.0f} MB", flush=True)
    time.sleep(budget.GRACE + 2)
    left = {*files.rglob("*")} - before
    later = sizes[len(sizes) // 2 :]
    slope = statistics.linear_regression(range(len(later)), later).slope
    print(
        f"\n{n} short sessions: {sizes[0]:.0f} → {sizes[-1]:.0f} MB; {1000 * slope:.0f} KB a session in the second half; "
        f"{len([p for p in left if p.is_file()])} files and {len([p for p in left if p.is_dir()])} folders more"
    )


def run() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.load")
    options.add_argument("--visitors", type=int, default=30)
    options.add_argument("--seconds", type=float, default=60, help="of each training")
    options.add_argument("--sessions", type=int, default=500)
    options.add_argument("--stops", type=int, default=5, help="of each kind")
    options.add_argument("--port", type=int, default=7899)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as files:
        process, address = serve(asked.port, files)
        try:
            computes_on(process.pid, 600)  # what every first visit shows
            if asked.visitors:
                load(address, asked.visitors, asked.seconds)
            if asked.stops:
                stopping(address, process.pid, asked.stops)
            if asked.sessions:
                closing(address, process.pid)
                sessions(address, process.pid, asked.sessions, Path(files))
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    run()
