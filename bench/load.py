"""python -m bench.load [--visitors N] [--seconds S]: the served app under load, and what it forgets when visitors leave.

30 visitors scrub (every second rollout is one that is known already) while two train: p50, p95 and errors of the scrubs,
and the share of its lone steps that the trainings keep. Then many short sessions: the slope of the server's memory, and
what a tab with a film holds after it closed. The server is a process of its own; both share the cores.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

SERVER = "from roadtrip.ui.page import launch; launch(prevent_thread_lock=False, quiet=True)"
ROAD = "the rendered road"


class Visitor:
    def __init__(self, address: str, name: str):
        self.http, self.name = httpx.Client(base_url=address, timeout=600), name

    def ask(self, name: str, data: list) -> tuple[bool, object]:
        """(whether it worked, the answer)."""
        joined = self.http.post(f"/gradio_api/call{name}", json={"data": data, "session_hash": self.name})
        if joined.status_code != 200:
            return False, joined.text
        last = self.http.get(f"/gradio_api/call{name}/{joined.json()['event_id']}").text.strip().split("\n\n")[-1]
        event, _, value = last.partition("\n")
        return event == "event: complete", json.loads(value.removeprefix("data: "))


def serve(port: int) -> tuple[subprocess.Popen[bytes], str]:
    import os

    process = subprocess.Popen([sys.executable, "-c", SERVER], env=os.environ | {"GRADIO_SERVER_PORT": str(port)})
    address = f"http://127.0.0.1:{port}"
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/config", timeout=5).status_code == 200:
                return process, address
        time.sleep(0.5)


def steps_of(answer: object) -> int:
    return int(str(answer[0]).split("step ")[1].split(" of")[0].split()[0])  # type: ignore[index]


def train(address: str, seconds: float, into: list[float], name: str) -> None:
    """Steps a second of one training, on the clock."""
    began = time.monotonic()
    good, answer = Visitor(address, name).ask("/train", [ROAD, "", "v2", "width=16 depth=1", seconds, 0])
    into.append(steps_of(answer) / (time.monotonic() - began) if good else float("nan"))


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


def sessions(address: str, pid: int, n: int) -> None:
    sizes = []
    for i in range(n):
        visitor = Visitor(address, f"short {i}")
        with visitor.http.stream("GET", f"/gradio_api/heartbeat/short {i}") as beat:
            next(beat.iter_bytes())
            visitor.ask("/scrub", ["v2", ROAD, 1300, 64, False])
        visitor.http.close()
        sizes.append(memory(pid))
    later = sizes[len(sizes) // 2 :]
    slope = statistics.linear_regression(range(len(later)), later).slope
    print(
        f"{n} short sessions: {sizes[0]:.0f} → {sizes[-1]:.0f} MB; {1000 * slope:.0f} KB a session in the second half"
    )


def run() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.load")
    options.add_argument("--visitors", type=int, default=30)
    options.add_argument("--seconds", type=float, default=60, help="of each training")
    options.add_argument("--sessions", type=int, default=500)
    options.add_argument("--port", type=int, default=7899)
    asked = options.parse_args()
    process, address = serve(asked.port)
    try:
        if asked.visitors:
            load(address, asked.visitors, asked.seconds)
        if asked.sessions:
            sessions(address, process.pid, asked.sessions)
    finally:
        process.terminate()


if __name__ == "__main__":
    run()
