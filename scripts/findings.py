"""Builds docs/findings.md and its figures from checkpoints/results.json: `make findings`.

The prose is in docs/findings.template.md. In it {{BLOCK …}} stands for a generated table, figure or count, a method of
Findings each, and {{WHAT ARM TABLE}} for one number: WHAT is verdicts (of all seeds), a measure (the median of the
seeds), seconds, or p:MEASURE, where ARM is two arms (pair/single) and TABLE only a setting. TABLE is a film and its
setting: scenery, scenery+replay=8, scenery+output=picture+steps=2400.

Runs that were let drive on stand in {{endless}}, with checkpoints/controls.json, which scripts/controls.py writes, in
{{minute}}, and in {{parts}}, where one part each is left out.
Runs that were made a second time with wider vectors are in checkpoints/again.json, which only {{again}} reads.
"""

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from roadtrip.study import PUBLISHED, SIZE, STEPS, Row, analysis, key_of, read_results
from roadtrip.study.analysis import MEASURES, Group, Spread, compare, groups, is_periodic, measure_value
from roadtrip.ui import charts

DOCS = Path(__file__).parents[1] / "docs"
AGAIN, CONTROLS = (PUBLISHED.with_name(name) for name in ("again.json", "controls.json"))
KINDS = {"none": "no discriminator", "one": "one frame", "more": "two or three frames"}  # at a time; v4 is of none


class Findings:
    """What the template may ask for; `figures` are plotly figures by file name, gathered as they are asked for."""

    def __init__(self, rows: list[Row], again: list[Row]):
        self.all, self.second = rows, again
        self.rows = [row for row in rows if analysis.is_published(row)]
        self.tables: dict[str, list[Row]] = {}
        runs = {}  # by what they train: some are in two tables, as pair-picture and as pair with the setting output=picture
        for row in self.rows:
            self.tables.setdefault(_table(row["film"], row["setting"], row["steps"]), []).append(row)
            key = key_of(row)
            runs[key._replace(arm="", setting="", recipe=replace(key.recipe, name=""))] = row
        self.runs = [*runs.values()]
        self.groups = {(g.arm, _table(g.film, g.setting, g.steps)): g for g in groups(self.rows)}
        self.figures: dict[str, dict[str, Any]] = {}
        self.blocks: dict[str, Callable[..., str]] = {
            "runs": lambda: str(len(self.runs)),
            "hours": lambda: f"{sum(row['seconds'] for row in self.runs) / 3600:.1f}",
            "map": self.map,
            "kinds": self.kinds,
            "ever": lambda kind: self.count(kind, lambda row: bool(measure_value(row, "oscillating_share"))),
            "ended": lambda kind: self.count(kind, lambda row: is_periodic(row["verdict"])),
            "table": self.table,
            "averaged": self.averaged,
            "comparisons": self.comparisons,
            "figure": self.figure,
            "sweep": lambda: self.listed([row for row in self.all if row["seed"] >= analysis.FIRST_SWEEP_SEED]),
            "sizes": lambda: self.listed(
                [row for row in self.all if tuple(row["size"]) != SIZE and "endless" not in row]
            ),
            "endless": lambda: self.endless([r for r in self.all if _purpose(r) == "drive"], CONTROLS),
            "minute": lambda: self.endless([r for r in self.all if _purpose(r) == "minute"]),
            "parts": lambda: self.parts([r for r in self.all if _purpose(r) == "parts"]),
            "again": self.again,
        }

    def __call__(self, asked: str) -> str:
        words = asked.split()
        try:
            if words[0] in self.blocks:
                return self.blocks[words[0]](*words[1:])
            what, arm, table = words
            return self.number(what, arm, table)
        except (KeyError, TypeError, ValueError, StopIteration):
            raise SystemExit(f"The template asks for {asked!r}, which the table does not have.") from None

    def number(self, what: str, arm: str, table: str) -> str:
        if what.startswith("p:"):
            arm, other = arm.split("/")
            found = compare(self.at(table), arm, what[2:])
            return _number(next(c for c in found if c.other == other).adjusted)
        if what == "seconds":
            return f"{statistics.median(row['seconds'] for row in self.tables[table] if row['arm'] == arm):.0f}"
        group = self.groups[arm, table]
        return _verdicts(group) if what == "verdicts" else _number(group.spread[what][0])  # type: ignore[index]

    def at(self, setting: str) -> list[Row]:
        """The rows of all films at one setting; "" is the arms' own."""
        return [row for row in self.rows if _table("", row["setting"], row["steps"]) == setting]

    # --- blocks -------------------------------------------------------------------------------------------------------

    def table(self, table: str) -> str:
        rows = self.tables[table]
        real = rows[0]["real"]
        film = ["real film", "–", "moves", _number(real["return_ratio"]), _number(real["nyquist_excess"]), "1", "", "1"]
        lines = [film + [""] * 5]
        for group in (g for (_, t), g in self.groups.items() if t == table):
            roots = ", ".join(_complex(row["multiplier"]) for row in rows if row["arm"] == group.arm)
            spread = [_range(group.spread[m]) for m in MEASURES]
            lines.append([group.arm, str(len(group.seeds)), _verdicts(group), *spread, roots])
        head = "arm, seeds, verdicts, R, N, S, B, sharpness, periodic checks, dB at 1, at 4, at 16, multipliers"
        return _markdown(head, lines)

    def averaged(self, table: str) -> str:
        """Every arm with a discriminator, measured with its raw and with its averaged weights."""
        rows = [row for row in self.tables[table] if _kind(row) != "none"]
        averaged = {g.arm: g for g in groups([row | row["ema"] for row in rows])}  # type: ignore[misc]
        lines = []
        for raw in groups(rows):
            ema = averaged[raw.arm]
            spread = [_range(ema.spread[m]) for m in ("R", "gain1")]
            lines.append([raw.arm, _verdicts(raw), _verdicts(ema), *spread])
        return _markdown("arm, raw weights, averaged weights, averaged: R, averaged: dB at 1", lines)

    def count(self, kind: str, holds: Callable[[Row], bool]) -> str:
        rows = [row for row in self.runs if _kind(row) == kind]
        return f"{sum(map(holds, rows))} of {len(rows)}"

    def kinds(self) -> str:
        lines = []
        for kind, words in KINDS.items():
            arms = dict.fromkeys(row["arm"] for row in self.rows if _kind(row) == kind)
            lines.append([words, ", ".join(arms), self.blocks["ever"](kind), self.blocks["ended"](kind)])
        return _markdown("the discriminator sees at once, arms, periodic at some check, periodic at the end", lines)

    def listed(self, rows: list[Row]) -> str:
        """Runs that are in no published table: those that chose a setting, those of another size."""
        lines = []
        for g in sorted(groups(rows), key=lambda g: (g.film, g.steps, g.setting)):
            about = [g.film, g.arm, g.setting, str(g.steps), "{}×{}".format(*g.size), " ".join(map(str, g.seeds))]
            lines.append([*about, _verdicts(g), *(_range(g.spread[m]) for m in ("R", "S", "sharpness", "gain1"))])
        return _markdown("film, arm, setting, steps, size, seeds, verdicts, R, S, sharpness, dB at 1", lines)

    def comparisons(self, setting: str = "") -> str:
        lines = []
        shares, periodic = (compare(self.at(setting), "pair", m) for m in ("oscillates", "oscillating_share"))
        for c, share, checks in zip(compare(self.at(setting), "pair"), shares, periodic):
            numbers = [c.difference, c.p, c.adjusted, share.difference, share.adjusted]
            numbers += [checks.difference, checks.p, checks.adjusted]
            lines.append([c.other, str(len(c.films)), *map(_number, numbers)])
        head = "pair against, films, R: difference, p, p (Holm), “oscillates”: difference of shares, p (Holm)"
        return _markdown(f"{head}, periodic checks: difference, p, p (Holm)", lines)

    def endless(self, rows: list[Row], controls: Path | None = None) -> str:
        """Runs that were let drive on, and below them what was measured alike and needs no network."""
        lines = []
        for row in rows:
            name = " ".join([row["arm"], row["setting"]]).strip()
            about = [row["film"], name, str(row["seed"]), "{}×{}".format(*row["size"]), str(row["steps"])]
            minutes = f"{row['seconds'] / 60:.0f}" + (" on a GPU" if row["device"] == "cuda" else "")
            lines.append([*about, minutes, *_endless_cells(row["endless"])])
        for control in json.loads(controls.read_text()) if controls else []:
            lines.append([control["film"], control["model"], "–", control["size"].replace("x", "×"), "–", "–"])
            lines[-1] += _endless_cells(control["endless"])
        head = (
            "film, model, seed, size, steps, minutes, rollouts, windows of 32, S, sharpness, R (in band), N (in band)"
        )
        more = "nn, nn at the end, diversity, perceptual, spread / skill, longest playback, loop"
        return _markdown(f"{head}, {more}", lines)

    def parts(self, rows: list[Row]) -> str:
        """Short runs that were let drive on, v4 without one part each: the median of the seeds, the least and the most."""
        arms: dict[tuple[str, str], list[Row]] = {}
        for row in sorted(rows, key=lambda row: (row["film"], row["arm"])):
            arms.setdefault((row["film"], row["arm"]), []).append(row)
        lines = []
        for (film, arm), seeds in arms.items():
            each = [row["endless"] for row in seeds]
            of = {k: [e[k] for e in each] for k in ("S", "sharpness", "nn_last", "diversity", "perceptual")}
            of |= {k: [e["in_band"][k] for e in each] for k in ("R", "N")}
            moves = [e["verdicts"].get("moves", 0.0) for e in each]
            spread = [_range((statistics.median(v), min(v), max(v))) for v in [moves, *of.values()]]
            lines.append([film, arm, " ".join(str(row["seed"]) for row in seeds), *spread])
        names = "nn at the end, diversity, perceptual, R in band, N in band"
        return _markdown(f"film, model, seeds, moves, S, sharpness, {names}", lines)

    def map(self) -> str:
        tables = {table.replace("+", ", "): rows for table, rows in self.tables.items()}
        self.figures["whole.svg"] = charts.whole_study(tables)
        return "![how many seeds oscillate, of every arm on every film](figures/whole.svg)"

    def figure(self, measure: str, table: str) -> str:
        name = f"{measure}-{re.sub('[:+=]', '-', table)}.svg"
        self.figures[name] = charts.seeds_of_arms(self.tables[table], measure)
        return f"![{charts.MEASURES[measure]} of every seed, {table.replace('+', ', ')}](figures/{name})"

    def again(self) -> str:
        """Runs that were made twice: as the table has them, and with the widest vectors of another processor."""
        table = {key_of(row): row for row in self.all}
        first = [table[key_of(row)] for row in self.second]
        lines = []
        for one, two in zip(groups(first), groups(self.second)):
            name = _table(one.film, one.setting, one.steps).replace("+", ", ")
            cells = [_verdicts(one), _verdicts(two), _range(one.spread["R"]), _range(two.spread["R"])]
            lines.append([name, one.arm, " ".join(map(str, one.seeds)), *cells])
        alike = sum(one["verdict"] == two["verdict"] for one, two in zip(first, self.second))
        head = "film and setting, arm, seeds, verdicts, verdicts with wider vectors, R, R with wider vectors"
        return f"{_markdown(head, lines)}\n\n{alike} of {len(first)} end with the verdict that they have in the table."


def _table(film: str, setting: str, steps: int) -> str:
    """As the template calls it; another number of steps than the study's is part of the setting."""
    parts = [film, *setting.split(), f"steps={steps}" if steps != STEPS else ""]
    return "+".join(filter(None, parts))


def _purpose(row: Row) -> str:
    """Which table a run that was let drive on is for: "drive", "minute", or "parts"; "" for other runs."""
    if "endless" not in row:
        return ""
    return "drive" if row["steps"] > STEPS else "minute" if row["endless"]["horizon"] >= 1000 else "parts"


def _kind(row: Row) -> str:
    recipe = key_of(row).recipe
    if recipe.sampler:
        return "drawn"
    return "none" if not recipe.gan_weight else "one" if recipe.disc_frames + recipe.disc_context == 1 else "more"


def _endless_cells(e: dict[str, Any]) -> list[str]:
    cells = [f"{e['rollouts']} × {e['frames']}", ", ".join(f"{share:.0%} {v}" for v, share in e["verdicts"].items())]
    cells += [_number(e[k]) for k in ("S", "sharpness")]
    cells += [f"{_number(e[k])} ({e['in_band'][k]:.0%})" for k in ("R", "N")]
    cells += [_number(e.get(k)) for k in ("nn", "nn_last", "diversity", "perceptual", "spread_over_skill")]
    return [*cells, str(e["playback"]), f"{e['loop']['period']} frames" if e["loop"] else "none"]


def _markdown(head: str, lines: list[list[str]]) -> str:
    names = head.split(", ")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *lines))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def _range(spread: Spread | None) -> str:
    return "–" if spread is None else f"{_number(spread[0])} ({_number(spread[1])} … {_number(spread[2])})"


def _complex(multiplier: dict[str, float]) -> str:
    imaginary = abs(multiplier["imaginary"])
    return f"{multiplier['real']:.2f}" + (f" ± {imaginary:.2f}i" if imaginary >= 0.005 else "")


def _verdicts(group: Group) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in group.verdicts)


def text(rows: list[Row], again: list[Row]) -> tuple[str, dict[str, dict[str, Any]]]:
    """(the findings, figures by file name)."""
    findings = Findings(rows, again)
    template = (DOCS / "findings.template.md").read_text()
    return re.sub(r"\{\{(.+?)\}\}", lambda m: findings(m[1]), template, flags=re.S), findings.figures


def main() -> None:
    import plotly.io

    written, figures = text(read_results(PUBLISHED), read_results(AGAIN))
    (DOCS / "findings.md").write_text(written)
    (DOCS / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        height = figure["layout"].get("height", 420)
        plotly.io.write_image(figure, DOCS / "figures" / name, width=900, height=height)
    print(f"Wrote docs/findings.md and {len(figures)} figures.")


if __name__ == "__main__":
    main()
