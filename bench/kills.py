"""python -m bench.kills [--train N] [--import N] [--study N]: commands killed at random moments, and what is left.

Each is a process that has the package loaded already and is ended by SIGKILL, started again, and perhaps killed again,
until it comes to its end. What it has then made must equal, bit for bit, what one makes that was never killed; and no
temporary file may be left. Prints a table.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

import roadtrip as rt
from roadtrip import recipes
from roadtrip.__main__ import main
from roadtrip.study import pool, running

training = sys.modules["roadtrip.train"]  # the function has its name


def child(arguments: list[str], after: float | None) -> int:
    """The command in a process of its own, killed `after` seconds; its exit status, −9 where it was killed."""
    pid = os.fork()
    if pid == 0:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            status = 99
            try:
                status = main(arguments)
            finally:
                os._exit(status)
    ends = time.monotonic() + (after if after is not None else 600)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= ends:
            os.kill(pid, signal.SIGKILL)
            ends = float("inf")
        time.sleep(0.002)


def leftovers(folder: Path) -> list[str]:
    """What only an unfinished write leaves."""
    return [str(p) for p in folder.rglob("*") if p.name.startswith(".roadtrip-") or p.suffix in (".tmp", ".unfinished")]


def digest(folder: Path) -> str:
    """Of all that was made, less times and paths."""
    sha = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        sha.update(str(file.relative_to(folder)).encode())
        if file.suffix == ".json":
            facts = json.loads(file.read_text())
            sha.update(json.dumps(without_times(facts), sort_keys=True).encode())
        elif file.suffix == ".safetensors":
            sha.update(b"".join(t.numpy().tobytes() for t in tensors(file)))
        else:
            sha.update(file.read_bytes())
    return sha.hexdigest()


def tensors(file: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return [tensor.contiguous() for _, tensor in sorted(load_file(file).items())]


def without_times(facts: Any) -> Any:
    if isinstance(facts, dict):
        return {k: without_times(v) for k, v in facts.items() if k not in ("seconds", "command", "source", "film")}
    return [without_times(v) for v in facts] if isinstance(facts, list) else facts


def campaign(
    name: str, kills: int, command: Callable[[Path], list[str]], seed: int = 0
) -> tuple[str, int, int, list[str]]:
    """(name, runs that were killed at least once, kills, failures)."""
    draw, failures, done, runs = random.Random(seed), [], 0, 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["ROADTRIP_CACHE"] = str(Path(home) / "cache")
        whole = Path(home) / "whole"
        whole.mkdir()
        with contextlib.redirect_stderr(io.StringIO()):
            main(command(whole))  # here, so that what is needed for the first time is loaded in every child
        shutil.rmtree(whole)
        shutil.rmtree(os.environ["ROADTRIP_CACHE"], ignore_errors=True)
        whole.mkdir()
        began = time.monotonic()
        assert child(command(whole), None) == 0
        long, wanted = time.monotonic() - began, digest(whole)
        while done < kills:
            out = Path(home) / f"run {runs}"
            out.mkdir()
            shutil.rmtree(os.environ["ROADTRIP_CACHE"], ignore_errors=True)
            killed, status = 0, -9
            while status == -9 and killed < 20:
                status = child(command(out), None if killed > 2 else draw.uniform(0, 1.1 * long))
                killed += status == -9
            runs += killed > 0
            done += killed
            if status != 0:
                failures.append(f"{name}: exit {status} after {killed} kills")
            elif (found := digest(out)) != wanted:
                failures.append(f"{name}: {found[:8]}, not {wanted[:8]}, after {killed} kills")
            elif left := leftovers(Path(home)):
                failures.append(f"{name}: left {left[:3]}")
            shutil.rmtree(out)
            if status:
                break  # and so would all others
            if sys.stderr.isatty():
                print(f"\r{name}: {done} kills", end="", file=sys.stderr)
    return name, runs, done, failures


def trained(film: Path) -> Callable[[Path], list[str]]:
    how = ["--recipe", "tiny", "--steps", "30", "--seed", "3", "--save-every", "0", "--resumable"]
    return lambda out: ["train", "--film", str(film), *how, "--out", str(out / "run")]


def imported(stills: Path) -> Callable[[Path], list[str]]:
    return lambda out: ["import", str(stills), "--size", "64x64", "--out", str(out / "trip.film")]


def studied(film: Path) -> Callable[[Path], list[str]]:
    how = ["--arms", "v1", "v2", "--seeds", "0", "--steps", "2", "--set", "width=8", "depth=0", "batch=1"]
    return lambda out: ["study", "--films", f"{film}:1", *how, "--size", "16x24", "--runs", str(out / "runs")]


def run() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.kills")
    for name, most in (("train", 200), ("import", 100), ("study", 50)):
        options.add_argument(f"--{name}", type=int, default=most, help="kills")
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = vars(options.parse_args())
    tqdm.monitor_interval = 0  # its thread would be forked
    training.REPORT_EVERY, running.SAVE_EVERY = 0.02, 0.0  # seconds, so that a short run is saved many times
    torch.set_num_threads(1)  # a process with OpenMP's threads can't be forked
    recipes.RECIPES["tiny"] = replace(recipes.RECIPES["v2"], name="tiny", width=8, depth=0, batch=1)
    # runs of a study in the process that is killed: its workers would load the package anew each time
    pool._in_processes = lambda jobs, folder, device, workers: (running.run(job, folder, device) for job in jobs)  # type: ignore
    print("| command | runs killed | kills | failures |\n|---|---:|---:|---:|", flush=True)
    failures = []
    with tempfile.TemporaryDirectory() as home:
        stills, film = Path(home) / "stills", Path(home) / "film"
        stills.mkdir()
        noise = torch.randint(256, (64, 400, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
        for i in range(240):  # a slide
            Image.fromarray(noise[:, i : i + 96]).save(stills / f"{i:03}.png")
        rt.open_film(stills, size=(16, 24), gap=1, cache=False).save(film)
        for still in sorted(stills.iterdir())[40:]:
            still.unlink()
        for name, of in (("train", trained(film)), ("import", imported(stills)), ("study", studied(film))):
            if asked[name]:
                _, runs, kills, failed = campaign(name, asked[name], of, asked["seed"])
                print(f"| {name} | {runs} | {kills} | {len(failed)} |", flush=True)
                failures += failed
    print(*failures, sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(run())
