"""`make bench`: what the project costs, each figure as a ratio to a reference measured in the same run.

Prints one table and, with --json FILE, keeps it. Takes a few minutes on two cores; close everything else first.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import roadtrip as rt
from roadtrip import scenery

Row = dict[str, str | float]


def best(function: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of several calls, after one to warm up."""
    function()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        took.append(time.perf_counter() - began)
    return min(took)


def row(what: str, value: float, unit: str, reference: str, ratio: float) -> Row:
    print(f"{what:34} {value:10.2f} {unit:12} {ratio:8.2f} × {reference}", flush=True)
    return {"what": what, "value": value, "unit": unit, "ratio": ratio, "reference": reference}


def imports() -> list[Row]:
    def start(code: str) -> float:
        return best(lambda: subprocess.run([sys.executable, "-c", code], check=True), 3)

    torch_alone = start("import torch")
    ours = start("import roadtrip")
    return [row("import roadtrip", ours, "s", "import torch", ours / torch_alone)]


def stills(count: int = 200) -> list[Row]:
    """Importing 12-megapixel JPEGs against opening and resizing them one by one with plain PIL."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        small = Image.fromarray(rng.integers(0, 255, (150, 200, 3), dtype=np.uint8)).resize((4000, 3000))
        for i in range(count):
            path = Path(folder) / f"{i}.jpg"
            if i < 4:
                small.rotate(i).save(path, quality=88)
            else:
                path.symlink_to(Path(folder) / f"{i % 4}.jpg")
        few = [Path(folder) / f"{i}.jpg" for i in range(12)]

        def plain() -> None:
            for path in few:
                with Image.open(path) as image:
                    image.convert("RGB").resize((128, 72), Image.Resampling.LANCZOS)

        def scaled(path: Path) -> None:
            with Image.open(path) as image:
                image.draft("RGB", (256, 192))
                image.load()

        def scaled_all() -> None:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(scaled, few * 4))

        slow, pure = len(few) / best(plain, 2), 4 * len(few) / best(scaled_all, 2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rate = count / best(lambda: rt.open_film(folder, gap=1, cache=False), 1)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return [
        row("12 MP stills imported", rate, "stills/s", "plain PIL, one by one", rate / slow),
        row("12 MP stills imported", rate, "stills/s", "scaled decode alone, two threads", rate / pure),
        row(
            f"peak memory over {count} stills",
            grown,
            "MB",
            "the film's own bytes",
            grown / (count * 72 * 128 * 3 / 2**20),
        ),
    ]


def convolution_peak() -> float:
    """GFLOP/s of a 64 → 64 convolution as the network has them."""
    x = torch.randn(16, 64, 36, 64).to(memory_format=torch.channels_last)
    w = torch.randn(64, 64, 3, 3).to(memory_format=torch.channels_last)
    return 2 * 64 * 64 * 9 * 16 * 36 * 64 / best(lambda: F.conv2d(x, w, padding=1), 10) / 1e9


def training(film: rt.Film, peak: float) -> list[Row]:
    from torch.utils.flop_counter import FlopCounterMode

    rows = []
    for name in rt.RECIPES:
        *_, p = rt.train(name, film, steps=3, preview_every=1e9, dtype="float32")
        with FlopCounterMode(display=False) as counter:
            p.run.step(100)
        each = best(lambda p=p: p.run.step(100), 6)
        share = counter.get_total_flops() / each / 1e9 / peak
        rows.append(row(f"{name}, training", 1 / each, "steps/s", f"convolution peak ({peak:.0f} GFLOP/s)", share))
    return rows


def rollouts(film: rt.Film) -> list[Row]:
    model = rt.NextFrame()
    rows = []
    for batch in (1, 16):
        f1, f2 = film.clips(film.starts(2)[:batch], 2).unbind(1)
        rate = batch * 32 / best(lambda f1=f1, f2=f2: rt.rollout(model, f1, f2, 32), 3)
        rows.append(row(f"rollout, batch {batch}", rate, "frames/s", "25 frames/s", rate / 25))
    return rows


def road() -> list[Row]:
    rate = 300 / best(lambda: scenery.render(1, drives=2, frames=150), 2)
    return [row("scenery", rate, "frames/s", "200 frames/s", rate / 200)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="file to keep the table in")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32 on the CPU")
    film = rt.open_film("scenery")
    rows = imports() + stills() + training(film, convolution_peak()) + rollouts(film) + road()
    if args.json:
        Path(args.json).write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
