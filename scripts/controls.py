"""What endless rollouts are compared with: Video Textures and others that need no network, measured like a model.

`python -m scripts.controls --films scenery PATH:GAP … --size 72x128` adds rows to checkpoints/controls.json.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import roadtrip as rt
from roadtrip.atomic import whole_file
from roadtrip.endless import endless, endless_row, road
from roadtrip.evaluation import N_STARTS
from roadtrip.film import evenly_spaced
from roadtrip.perceptual import perceptual_distance
from roadtrip.study import PUBLISHED, Job
from roadtrip.study.running import open_job
from roadtrip.video_textures import video_textures

CONTROLS = PUBLISHED.with_name("controls.json")
FRAMES = 1000


def controls(film: rt.Film) -> Iterator[tuple[str, list[Tensor]]]:
    """(name, a rollout of FRAMES, uint8, from each of 8 held-out starts) of each control."""
    starts = evenly_spaced(film.starts(2, "held_out"), N_STARTS).tolist()
    yield "Video Textures", [video_textures(film, start, FRAMES, seed) for seed, start in enumerate(starts)]
    train = film.starts(1, "train")
    random = torch.Generator().manual_seed(0)
    shuffled = [film.frames[train[torch.randint(len(train), (FRAMES,), generator=random)]] for _ in starts]
    yield "training stills, shuffled", shuffled
    blurred = []
    for seed, start in enumerate(starts):
        frames = video_textures(film, start, FRAMES, seed)
        coarse = F.avg_pool2d(frames.float(), 8)
        blurred.append(F.interpolate(coarse, frames.shape[-2:], mode="bilinear").round().byte())
    yield "Video Textures, blurred", blurred


def keep(film: str, size: str, model: str, row: dict[str, Any]) -> None:
    """Adds a row to checkpoints/controls.json, in place of one of the same film, size and model."""
    rows = json.loads(CONTROLS.read_text()) if CONTROLS.exists() else []
    rows = [r for r in rows if (r["film"], r["size"], r["model"]) != (film, size, model)]
    rows.append({"film": film, "size": size, "model": model, "endless": row})
    with whole_file(CONTROLS) as file:
        file.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.controls", description=__doc__)
    parser.add_argument("--films", nargs="+", default=["scenery"], metavar="FILM", help="scenery or PATH:GAP")
    parser.add_argument("--size", default="72x128", help="height×width")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    for name in args.films:
        job = Job("v1", name, size=(height, width))
        film = open_job(job)
        truth = road(film)
        for control, rollouts in controls(film):
            row = endless_row([endless(y, truth) for y in rollouts])
            row["perceptual"] = perceptual_distance(torch.cat(rollouts), film)
            keep(job.film_name, args.size, control, row)
            print(job.film_name, control, json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
