"""python -m bench.chain [--stills N] [--seconds S] [--folder DIR]: what a trip of N stills of 12 megapixels takes.

The command line's own chain, each command a process of its own: import, train v1 and v4 for S seconds each, measure both,
drive v4 on. Prints its time, and the most memory that it and its children held at once. The stills are of a rendered road,
enlarged and with a camera's grain: DISTINCT pictures in turn, each file with a name, a time and so bytes of its own, of
1.4 MB; there is a cut where they begin again.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

import roadtrip as rt
from roadtrip.frames import images

DISTINCT, SIZE = 200, (4000, 3000)
MEASURED = 256  # starts
PAGE = os.sysconf("SC_PAGE_SIZE")


def make_stills(folder: Path, number: int) -> float:
    """MB a still."""
    grain = np.random.default_rng(0).normal(0, 5, (SIZE[1], SIZE[0], 1)).astype(np.int8)
    pictures, began, total = [], datetime(2019, 6, 1, 9), 0
    for picture in images(rt.open_film("scenery").frames[: min(DISTINCT, number)]):
        large = np.asarray(picture.resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
        pictures.append(file.getvalue())
    for i in range(number):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[36867] = f"{began + timedelta(seconds=15 * i):%Y:%m:%d %H:%M:%S}"
        said, picture = exif.tobytes(), pictures[i % len(pictures)]
        with (folder / f"IMG_{i:05}.jpg").open("wb") as still:  # the start of the file, its EXIF, the rest
            total += still.write(picture[:2] + b"\xff\xe1" + (len(said) + 2).to_bytes(2, "big") + said + picture[2:])
    return total / number / 1e6


def held(process: int) -> int:
    """Bytes of memory that a process and its children hold."""
    with suppress(OSError):
        own = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
        children = [task.read_text().split() for task in Path(f"/proc/{process}/task").glob("*/children")]
        return own + sum(held(int(child)) for some in children for child in some)
    return 0


def stage(title: str, *arguments: object, cwd: Path) -> None:
    began, most = time.monotonic(), 0
    env = os.environ | {"ROADTRIP_CACHE": str(cwd / "cache"), "PYTHONPATH": str(Path(__file__).parents[1])}
    env["TQDM_DISABLE"] = "1"
    command = [sys.executable, "-m", "roadtrip", *map(str, arguments)]
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, held(process.pid))
            time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{title} failed: {' '.join(command)}")
    print(f"{title:22} {time.monotonic() - began:8.1f} s {most / 2**20:8.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stills", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", help="where the stills lie for as long as this runs; the system's own otherwise")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as home:
        cwd, began = Path(home), time.monotonic()
        (cwd / "stills").mkdir()
        mean = make_stills(cwd / "stills", args.stills)
        print(f"{args.stills:,} stills of {mean:.1f} MB, made in {time.monotonic() - began:.0f} s", flush=True)
        stage("import", "import", "stills", "--out", "trip.film", cwd=cwd)
        for name in ("v1", "v4"):
            train = "train", "--film", "trip.film", "--recipe", name, "--seconds", args.seconds, "--out", name
            stage(f"train {name} {args.seconds:g} s", *train, cwd=cwd)
            measure = "measure", "--checkpoint", name, "--film", "trip.film", "--horizon", 16, "--most", MEASURED
            stage(f"measure {name}", *measure, cwd=cwd)
        drive = "rollout", "--checkpoint", "v4", "--film", "trip.film", "--horizon", 256, "--out", "drive.mp4"
        stage("v4, 256 frames", *drive, cwd=cwd)


if __name__ == "__main__":
    main()
