"""How well cuts are found: `python -m bench.cuts FOOTAGE [--write docs/reliability.md]`.

Joins stretches of real drives, each a folder in FOOTAGE, and counts which joins find_cuts reports, and what it reports
where there is none: in stretches as they are, with frames stored again, flashes, tunnels and changes of exposure.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

import roadtrip as rt
from roadtrip.film import TIME_LAPSE_PSNR, copy_last_psnr, find_cuts

JOINED = ("nuscenes_a",)  # drives that are joined of scenes themselves
EACH = 60  # cases of each kind
APART = 100  # frames of video between two stretches of one drive that are joined; 20 of a time lapse
MARKS = "<!-- cuts: python -m bench.cuts -->\n", "<!-- /cuts -->\n"


def stored(frames: Tensor, how: str, draw: random.Random) -> tuple[Tensor, list[int]]:
    """Frames uint8 [T, 3, H, W] as a kind of film has them, and where each of them begins in that."""
    T = len(frames)
    copies = {"stored twice": [2] * T, "stored 4 in 5": [2 if i % 4 == 3 else 1 for i in range(T)]}.get(how, [1] * T)
    light = torch.ones(T, 1, 1, 1)
    shift = torch.zeros(T, 1, 1, 1)
    first, last = draw.randrange(4, T // 2), draw.randrange(T // 2 + 2, T - 4)
    if how == "flash":  # of one or two frames
        flash = slice(first, first + draw.choice((1, 2)))
        light[flash], shift[flash] = 0.2, 200
    elif how == "tunnel":  # dark at once, and dazzled at its end
        light[first:last] = 0.15
        light[last : last + 4] = torch.tensor([1.6, 1.45, 1.3, 1.15])[: T - last, None, None, None]
    elif how == "exposure":
        light[first:] = draw.choice((0.5, 1.6))
    shown = (frames * light + shift).clamp(0, 255).round().byte()
    starts = torch.tensor([0, *copies]).cumsum(0)[:-1].tolist()
    return shown.repeat_interleave(torch.tensor(copies), 0), starts


def cases(footage: Path, seed: int = 0) -> list[tuple[str, Tensor, set[int]]]:
    """(kind, frames, cuts), EACH of every kind: joins of two drives, of two times in one, and stretches without a cut."""
    draw = random.Random(seed)
    drives = {p.name: rt.open_film(p, gap=1) for p in sorted(footage.iterdir()) if p.is_dir() and p.name not in JOINED}
    lapses = {name for name, film in drives.items() if copy_last_psnr(film) < TIME_LAPSE_PSNR}

    def stretch(name: str, length: int) -> tuple[Tensor, int]:
        """Frames of a drive, every first, second, fourth or eighth of a video, and where they begin."""
        frames = drives[name].frames
        step = draw.choice([s for s in (1, 2, 4, 8) if s * length < len(frames)]) if name not in lapses else 1
        first = draw.randrange(len(frames) - step * (length - 1))
        return frames[first : first + step * (length - 1) + 1 : step], first

    found: list[tuple[str, Tensor, set[int]]] = []
    kinds = {
        "two videos": [*drives.keys() - lapses],
        "with a time lapse": [*drives],
        "two times of one drive": [*drives],
    }
    for kind, names in kinds.items():
        names.sort()
        while sum(k == kind for k, *_ in found) < EACH + EACH // 3:
            a, b = draw.choice(names), draw.choice(names)
            b = a if kind == "two times of one drive" else b
            (before, i), (after, j) = stretch(a, draw.randrange(12, 30)), stretch(b, draw.randrange(12, 30))
            near = a == b and (kind != "two times of one drive" or abs(i - j) < (20 if a in lapses else APART))
            if near or (kind == "with a time lapse" and not {a, b} & lapses):
                continue
            how = draw.choice(("as it is", "as it is", "stored twice", "stored 4 in 5"))
            frames, starts = stored(torch.cat([before, after]), how, draw)
            found.append((kind, frames, {starts[len(before)]}))
    for kind in ("as it is", "stored twice", "stored 4 in 5", "flash", "tunnel", "exposure"):
        for _ in range(EACH):
            frames, _ = stored(stretch(draw.choice([*drives]), draw.randrange(24, 60))[0], kind, draw)
            found.append((kind, frames, set()))
    return found


def table(footage: Path) -> str:
    """Precision and recall, and a table of every kind, in Markdown."""
    count, right, false = Counter[str](), Counter[str](), Counter[str]()
    wanted = 0
    for kind, frames, cuts in cases(footage):
        said = {*find_cuts(frames)}
        count[kind], right[kind], false[kind] = (
            count[kind] + 1,
            right[kind] + len(said & cuts),
            false[kind] + len(said - cuts),
        )
        wanted += len(cuts)
    hits, wrong = right.total(), false.total()
    lines = [
        f"{wanted} joins and {count.total() - wanted} stretches without one: precision {hits / (hits + wrong):.3f}, recall "
        f"{hits / wanted:.3f}.\n\n| kind | cases | cuts found | false cuts |\n|---|---:|---:|---:|\n"
    ]
    lines += [f"| {k} | {count[k]} | {right[k] if i < 3 else '–'} | {false[k]} |\n" for i, k in enumerate(count)]
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cuts", description=__doc__)
    parser.add_argument("footage", type=Path, help="a folder of drives, each a folder of stills")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on cuts is renewed")
    args = parser.parse_args()
    text = table(args.footage)
    print(text)
    if args.write:
        before, _, rest = args.write.read_text().partition(MARKS[0])
        args.write.write_text(before + MARKS[0] + text + MARKS[1] + rest.partition(MARKS[1])[2])


if __name__ == "__main__":
    main()
