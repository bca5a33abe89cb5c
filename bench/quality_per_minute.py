"""What a minute of training buys: `python -m bench.quality_per_minute --film DRIVE:GAP …`.

Trains recipes for given seconds on each film by itself, its last fifth held out, and prints PSNR and SSIM there at
horizons 1, 4, 16 minus the best baseline. `--set width=64` tries another value of a Recipe field; `--elsewhere` measures
on further films what was trained on all of `--film` together. Close everything else first: seconds are what is compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import roadtrip as rt
from roadtrip.evaluation import METHODS
from roadtrip.recipes import parse_values
from roadtrip.study.rows import film_and_gap

HORIZONS = (1, 4, 16)
Row = dict[str, Any]


def opened(text: str) -> rt.Film:
    """A film from PATH or PATH:GAP."""
    path, gap = film_and_gap(text)
    return rt.open_film(path, gap=gap)


def gains(measured: rt.Evaluation) -> dict[str, list[float | None]]:
    """PSNR in dB and SSIM at each of HORIZONS minus the best baseline's; None past the end of real film."""
    answer: dict[str, list[float | None]] = {}
    for name in ("psnr", "ssim"):
        curves = getattr(measured, name)
        rows = [[curves[m][h - 1] for m in METHODS] for h in HORIZONS]
        answer[name] = [None if None in row else row[0] - max(row[1:]) for row in rows]
    return answer


def trained(recipe: rt.Recipe, film: rt.Film, seconds: float, seed: int, device: str | None) -> rt.Progress:
    *_, last = rt.train(recipe, film, seconds=seconds, seed=seed, device=device, preview_every=1e9)
    return last


def grid(args: argparse.Namespace) -> Iterator[Row]:
    values = parse_values(args.set)
    films = [opened(text) for text in args.film]
    for name in args.recipe:
        recipe = replace(rt.RECIPES[name], **values)
        for seconds in args.seconds:
            for seed in args.seeds:
                for film in films:
                    p = trained(recipe, film, seconds, seed, args.device)
                    yield row(
                        name, seconds, seed, film.name, film.name, p, rt.evaluate(p.model, film, 16, most=args.most)
                    )
                if args.elsewhere:
                    p = trained(recipe, rt.open_film(films), seconds, seed, args.device)
                    for text in args.elsewhere:
                        other = opened(text)
                        measured = rt.evaluate(p.model, other, 16, "all", most=args.most)
                        yield row(name, seconds, seed, "all of them", other.name, p, measured)


def row(
    recipe: str, seconds: float, seed: int, trained_on: str, measured_on: str, p: rt.Progress, measured: rt.Evaluation
) -> Row:
    facts = {"recipe": recipe, "seconds": seconds, "seed": seed, "trained_on": trained_on, "measured_on": measured_on}
    answer = facts | {"steps": p.step, "starts": measured.n_starts} | gains(measured)
    psnr, ssim = (
        " ".join("     –" if v is None else f"{v:+6.{digits}f}" for v in answer[k])
        for k, digits in (("psnr", 2), ("ssim", 3))
    )
    print(
        f"{recipe:10} {seconds:5g} s {seed:3}  {trained_on:20} {measured_on:20} {p.step:6}  {psnr}  {ssim}", flush=True
    )
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.quality_per_minute", description=__doc__)
    parser.add_argument("--film", nargs="+", required=True, metavar="PATH:GAP")
    parser.add_argument("--elsewhere", nargs="*", default=[], metavar="PATH:GAP")
    parser.add_argument("--recipe", nargs="+", default=["v1", "v2"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[15, 60, 300])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--most", type=int, default=120, help="starts measured, evenly spaced")
    parser.add_argument("--device")
    parser.add_argument("--json", help="file to keep the rows in")
    args = parser.parse_args()
    head = "dB over the best baseline at horizons 1, 4, 16, then SSIM over it"
    print(f"{'recipe':10} {'time':>7} seed {'trained on':20} {'measured on':20} {'steps':>6}  {head}")
    try:
        rows = list(grid(args))
    except rt.RoadtripError as error:
        parser.exit(2, f"{error}\n")
    for recipe in args.recipe:
        for seconds in args.seconds:
            own = [
                r["psnr"][0]
                for r in rows
                if r["recipe"] == recipe and r["seconds"] == seconds and r["trained_on"] == r["measured_on"]
            ]
            print(f"{recipe} {seconds:g} s: mean gain at horizon 1 over {len(own)} runs {statistics.mean(own):+.2f} dB")
    if args.json:
        Path(args.json).write_text(json.dumps({"change": args.set, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
