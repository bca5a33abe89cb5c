"""Trains and calibrates v4 on several drives at once, then drives on from two frames of drives that it never saw: how long
does it stay in the drive that it was shown?

    python -m scripts.unseen --train A:8 B:3 --unseen C:5 D:1 --out runs/unseen

Each frame of a rollout is compared with the stills of the drive that it began on and with those of all other training
drives, held-out stretches too; "own" is the share of frames whose nearest still is of its own drive. A line of JSON a
drive. A drive of --train may be among --unseen, too: its rollouts begin on its held-out stretch, and tell what is lost
already where a drive is known.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import roadtrip as rt
from roadtrip.endless import WINDOW, nearest, pool
from roadtrip.evaluation import N_STARTS, film_windows
from roadtrip.film import Film, evenly_spaced
from roadtrip.oscillation import oscillation
from roadtrip.recipes import parse_values
from roadtrip.study.rows import film_and_gap

SPANS = ((0, 8), (8, 32), (32, 64), (64, 100))


def opened(texts: list[str], size: tuple[int, int]) -> dict[str, Film]:
    pairs = [film_and_gap(text) for text in texts]
    return {Path(source).name: rt.open_film(source, size=size, gap=gap) for source, gap in pairs}


def rows(
    model: rt.NextFrame, known: dict[str, Film], unseen: dict[str, Film], horizon: int
) -> Iterator[dict[str, Any]]:
    """What the rollouts from each unseen drive are like."""
    for name, film in unseen.items():
        others = torch.cat([pool(other.frames) for drive, other in known.items() if drive != name])
        starts = film.starts(2, "held_out") if name in known else film.starts(2, "all", 0.0)
        clips = film.clips(evenly_spaced(starts, N_STARTS), 2)
        frames = rt.rollout(model, clips[:, 0], clips[:, 1], horizon)
        stills = pool(film.frames)
        own = torch.stack([nearest(pool(y), stills)[0] < nearest(pool(y), others)[0] for y in frames]).float()
        real = film_windows(film, WINDOW)
        windows = [oscillation(w, real) for y in frames for w in y.split(WINDOW) if len(w) == WINDOW]
        verdicts = [w.verdict for w in windows]
        yield {
            "drive": name,
            "own": {f"{a + 1}-{b}": round(own[:, a:b].mean().item(), 3) for a, b in SPANS if a < horizon},
            "verdicts": {v: verdicts.count(v) / len(verdicts) for v in sorted(set(verdicts))},
            "S": statistics.median(w.step_ratio or 0 for w in windows),
            "sharpness": statistics.median(w.sharpness_ratio or 0 for w in windows),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.unseen", description=__doc__)
    parser.add_argument("--train", nargs="+", required=True, help="drives as PATH:GAP")
    parser.add_argument("--unseen", nargs="+", required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(48, 80))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--horizon", type=int, default=100)
    parser.add_argument("--set", nargs="+", default=[], help="Recipe fields, as in the study")
    parser.add_argument(
        "--out", type=Path, required=True, help="where the model is kept, and taken up from if it is there"
    )
    args = parser.parse_args()
    known, unseen = (opened(texts, tuple(args.size)) for texts in (args.train, args.unseen))
    if not (args.out / "config.json").exists():
        recipe = replace(rt.RECIPES["v4"], **parse_values(args.set))
        film = rt.open_film([*known.values()], size=tuple(args.size))
        *_, last = rt.train(recipe, film, steps=args.steps)
        for found in rt.calibrate(last.ema, film):
            print(found, file=sys.stderr)
        rt.save(args.out, last.ema)
    for row in rows(rt.load(args.out), known, unseen, args.horizon):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
