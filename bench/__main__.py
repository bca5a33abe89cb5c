"""`make bench`: what the project costs, each figure as a ratio to a limit or reference measured in the same run.

Prints one table and, with --json FILE, keeps it for `make bench-compare OLD=… NEW=…`. Under five minutes on two cores;
close everything else first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import roadtrip as rt
from roadtrip import scenery
from roadtrip.augment import augment
from roadtrip.train import best_dtype, find_device

Row = dict[str, str | float]
ROOT = Path(__file__).parents[1]


def best(function: Callable[[], object], times: int = 5, device: torch.device | None = None) -> float:
    """Seconds of the fastest of several calls, after one to warm up."""

    def once() -> float:
        began = time.perf_counter()
        function()
        if device and device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(times))


def row(what: str, value: float, unit: str, ratio: float, reference: str) -> Row:
    print(f"{what:34} {value:10.2f} {unit:12} {ratio:8.2f} × {reference}", flush=True)
    return {"what": what, "value": value, "unit": unit, "ratio": ratio, "reference": reference}


def fresh(code: str, *args: str) -> str:
    """What a fresh process prints, from the root of the repository."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


# --- starting ---------------------------------------------------------------------------------------------------------


def starts() -> list[Row]:
    """Fresh processes, in turn, the fastest of each: what a visitor waits for before anything happens."""
    serve = "import app; app.launch(prevent_thread_lock=True, quiet=True); import os; os._exit(0)"
    codes = {"torch": "import torch", "roadtrip": "import roadtrip", "gradio": "import gradio, torch", "app": serve}
    took: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(3):
        for name, code in codes.items():
            began = time.perf_counter()
            fresh(code)
            took[name].append(time.perf_counter() - began)
    least = {name: min(times[1:]) for name, times in took.items()}  # the first read the disk
    return [
        row("import roadtrip", least["roadtrip"], "s", least["roadtrip"] / least["torch"], "import torch"),
        row("the app answers", least["app"], "s", least["app"] / least["gradio"], "import gradio and torch"),
    ]


# --- film -------------------------------------------------------------------------------------------------------------

PEAK = """
import pathlib, re, sys, roadtrip as rt
rt.open_film(sys.argv[1], gap=1, cache=False)
# not getrusage, whose maximum is the parent's where that was larger
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024)
"""


def stills(count: int = 200) -> list[Row]:
    """Importing 12-megapixel JPEGs against opening and resizing them one by one with plain PIL, and against nothing
    but decoding them at the scale the import uses, over two threads. Memory is the peak of fresh processes."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as home:
        folder, half = Path(home) / "all", Path(home) / "half"
        folder.mkdir()
        half.mkdir()
        noise = Image.fromarray(rng.integers(0, 255, (150, 200, 3), dtype=np.uint8))
        wide = np.asarray(noise.resize((4000, 3000)))

        def write(i: int) -> None:
            Image.fromarray(np.roll(wide, 20 * i, axis=1)).save(folder / f"{i}.jpg", quality=88)
            if i % 2:
                (half / f"{i}.jpg").symlink_to(folder / f"{i}.jpg")

        with ThreadPoolExecutor() as pool:
            list(pool.map(write, range(count)))
        few = [folder / f"{i}.jpg" for i in range(24)]

        def plain() -> None:
            for path in few[:8]:
                with Image.open(path) as image:
                    image.convert("RGB").resize((128, 72), Image.Resampling.LANCZOS)

        def scaled(path: Path) -> None:
            with Image.open(path) as image:
                image.draft("RGB", (256, 192))
                image.load()

        def scaled_all() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(scaled, few))

        slow, pure = 8 / best(plain, 2), len(few) / best(scaled_all, 3)
        rate = count / best(lambda: rt.open_film(folder, gap=1, cache=False), 2)
        peaks = [0.0, 0.0]
        if Path("/proc/self/status").exists():
            peaks = [min(float(fresh(PEAK, str(f))) for _ in range(2)) for f in (half, folder)]
    film = count / 2 * 72 * 128 * 3 / 2**20
    grown = peaks[1] - peaks[0]
    return [
        row("12 MP stills imported", rate, "stills/s", rate / slow, "plain PIL, one by one"),
        row("12 MP stills imported, of the limit", rate, "stills/s", rate / pure, "scaled decode alone, two threads"),
        row(
            f"peak {peaks[0]:.0f} MB of {count // 2} stills, of {count}",
            grown,
            "MB more",
            grown / film,
            f"their {film:.1f} MB of film",
        ),
    ]


def road(device: torch.device) -> list[Row]:
    rate = 300 / best(lambda: scenery.render(1, drives=2, frames=150), 2)
    return [row("scenery", rate, "frames/s", rate / 200, "200 frames/s")]


# --- network ----------------------------------------------------------------------------------------------------------


def peak(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """GFLOP/s that the device reaches: a matrix product on a GPU, a 64 → 64 convolution on a CPU."""
    if device.type == "cuda":
        a = torch.randn(8192, 8192, device=device, dtype=dtype)
        return 2 * 8192**3 / best(lambda: a @ a, 10, device) / 1e9, "matrix peak"
    x = torch.randn(16, 64, 36, 64, dtype=dtype).to(memory_format=torch.channels_last)
    w = torch.randn(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    return 2 * 64 * 64 * 9 * 16 * 36 * 64 / best(lambda: F.conv2d(x, w, padding=1), 20) / 1e9, "convolution peak"


def training(film: rt.Film, device: torch.device, dtype: str) -> list[Row]:
    from torch.utils.flop_counter import FlopCounterMode

    limit, name = peak(device, getattr(torch, dtype))
    rows = []
    for recipe in rt.RECIPES:
        # few enough that on a GPU the counted step is not yet recorded, which would hide its arithmetic
        *_, p = rt.train(recipe, film, steps=2, preview_every=1e9, device=device, dtype=dtype)
        with FlopCounterMode(display=False) as counter:
            p.run.step(100)
        each = best(lambda p=p: p.run.step(100), 12, device)  # type: ignore[misc]
        share = counter.get_total_flops() / each / 1e9 / limit
        rows.append(row(f"{recipe}, training", 1 / each, "steps/s", share, f"{name} ({limit:.0f} GFLOP/s)"))
        if recipe == "v1":
            first, v1_step = p.run, each
    if device.type == "cuda":
        *_, p = rt.train(
            replace(rt.RECIPES["v1"], batch=16), film, steps=4, preview_every=1e9, device=device, dtype=dtype
        )
        recorded = best(lambda: p.run.step(100), 30, device)
        p.run.learn = p.run._learn
        eager = best(lambda: p.run.step(100), 30, device)
        rows.append(row("v1, batch 16, recorded", 1 / recorded, "steps/s", eager / recorded, "the same step, eager"))
    clips = first.film.clips(first.starts[: first.recipe.batch], first.recipe.clip).float() / 255
    took = best(lambda: augment(clips, first.recipe, first.random), 10, device)
    rows.append(row("augmentation of a batch", took * 1e3, "ms", took / v1_step, "a v1 step"))
    return rows


def rollouts(film: rt.Film, device: torch.device) -> list[Row]:
    rows = []
    for name, model, batch in (("", rt.NextFrame(), 1), ("", rt.NextFrame(), 16), (" of v4", rt.load("v4"), 1)):
        f1, f2 = film.clips(film.starts(2)[:batch], 2).to(device).unbind(1)
        drive = partial(rt.rollout, model.to(device), f1, f2, 32)
        rate = batch * 32 / best(drive, 5, device)
        rows.append(row(f"rollout{name}, batch {batch}", rate, "frames/s", rate / 25, "25 frames/s"))
    return rows


def checkpoints(film: rt.Film) -> list[Row]:
    """Against writing and reading the same bytes as one plain file."""
    *_, p = rt.train("v1", film, steps=1, preview_every=1e9, device="cpu")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "checkpoint"
        save = best(lambda: rt.save(folder, p))
        load = best(lambda: rt.load(folder))
        data, plain = b"".join(f.read_bytes() for f in folder.iterdir()), Path(home) / "plain"

        def write() -> None:
            with plain.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        wrote, read = best(write), best(plain.read_bytes)
    return [
        row("checkpoint saved", save * 1e3, "ms", save / wrote, "the same bytes, written and synced"),
        row("checkpoint loaded", load * 1e3, "ms", load / read, "the same bytes, read"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", help="file to keep the table in")
    parser.add_argument("--device", default=find_device().type)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument(
        "--only", nargs="+", choices=("starts", "film", "network"), default=["starts", "film", "network"]
    )
    args = parser.parse_args()
    device = torch.device(args.device)
    dtype = best_dtype(device) if args.dtype == "auto" else args.dtype
    about: dict[str, Any] = {"torch": torch.__version__, "device": args.device, "dtype": dtype}
    about["name"] = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    film = rt.open_film("scenery")
    rows: list[Row] = []
    if "starts" in args.only:
        rows += starts()
    if "film" in args.only:
        rows += stills() + road(device)
    if "network" in args.only:
        rows += training(film, device, dtype) + rollouts(film, device) + checkpoints(film)
    if args.json:
        Path(args.json).write_text(json.dumps(about | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
