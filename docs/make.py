"""Builds docs/findings.md and its figures from checkpoints/results.json alone: `make findings`. Runs of that table that
were made again with wider vectors are in checkpoints/again.json, and only {{again}} and what begins so is
from there.

The prose is in docs/findings.template.md. In it {{…}} stands for what the table says, and each becomes a link to the
row that it came from. TABLE is a film, or film+setting (scenery+output=change), where another number of steps than the
study's own is part of the setting (scenery+output=picture+steps=2400); SETTING is the part after the film.

    {{judged single oscillating_share}}  {{judged window ends}}                     runs that came back, by what judges them
    {{pair TABLE R}}  {{pair TABLE R range}}  {{pair TABLE verdicts}}     median, least and most, verdicts over seeds
    {{p pair v2 R SETTING}}  {{p pair v2 oscillates SETTING}}             an adjusted p value; no SETTING is the arms' own
    {{table TABLE}}  {{comparisons SETTING}}  {{sweep}}  {{sizes}}  {{judged}}
    {{averaged TABLE}}  {{figure R TABLE}}  {{figure whole}}  {{runs}}  {{hours}}  {{seconds pair TABLE}}
    {{again}}  {{again pair TABLE}}  {{again alike}}  {{again seconds pair TABLE}}
"""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from roadtrip import evidence
from roadtrip.study import SIZE, STEPS, Row, is_row_of, job_of, read_results, unnamed
from roadtrip.ui import charts

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "checkpoints" / "results.json"
AGAIN = RESULTS.with_name("again.json")


def setting_of(setting: str, steps: int) -> str:
    return "+".join([*setting.split(), *([f"steps={steps}"] if steps != STEPS else [])])


def table_of(film: str, setting: str) -> str:
    return "+".join(filter(None, [film, setting]))


def own_table(row: Row) -> str:
    return table_of(row["film"], setting_of(row["setting"], row["steps"]))


KINDS = {"nothing": "there is none", "single": "one frame at a time", "window": "two frames or three at once"}


def kind_of(row: Row) -> str:
    recipe = row["recipe"]
    seen = recipe["disc_frames"] + recipe["disc_context"]
    return "nothing" if not recipe["gan_weight"] else "single" if seen == 1 else "window"


def distinct(rows: list[Row]) -> list[Row]:
    """Every run once: some are in two tables, as pair-picture and as pair with the setting output=picture."""
    what = ("film", "seed", "steps", "size")
    known: dict[str, Row] = {}
    for row in rows:
        known.setdefault(repr([unnamed(row["recipe"]), *(row[k] for k in what)]), row)
    return list(known.values())


class Findings:
    """What the template may ask for."""

    def __init__(self, rows: list[Row], again: list[Row]):
        self.all = rows
        self.again = Again([row for row in rows if any(is_row_of(row, job_of(other)) for other in again)], again)
        self.rows = [row for row in rows if evidence.is_published(row)]
        self.runs = distinct(self.rows)
        self.groups = {(g.arm, table_of(g.film, setting_of(g.setting, g.steps))): g for g in evidence.groups(self.rows)}
        self.figures: dict[str, dict[str, Any]] = {}

    def __call__(self, asked: str) -> str:
        match asked.split():
            case ["runs"]:
                return str(len(self.runs))
            case ["hours"]:
                return f"{sum(row['seconds'] for row in self.runs) / 3600:.1f}"
            case ["steps"]:
                return str(STEPS)
            case ["table", table]:
                return self.table(table)
            case ["sweep"]:
                return self.listed([row for row in self.all if row["seed"] >= evidence.FIRST_SWEEP_SEED])
            case ["sizes"]:
                return self.listed([row for row in self.all if tuple(row["size"]) != SIZE])
            case ["judged"]:
                return self.judged()
            case ["judged", kind, measure]:
                return _link(self.counted(kind, measure), f"judged-{kind}")
            case ["averaged", table]:
                return self.averaged(table)
            case ["comparisons", *setting]:
                return self.comparisons("+".join(setting))
            case ["figure", "whole"]:
                return self.whole()
            case ["figure", measure, table]:
                return self.figure(measure, table)
            case ["p", arm, other, measure, *setting]:
                return self.p(arm, other, measure, "+".join(setting))
            case ["again", *what]:
                return self.again(*what)
            case ["seconds", arm, table]:
                return _link(_seconds(self.of(table), arm), _anchor(arm, table))
            case [arm, table, "verdicts"]:
                return _link(_verdicts(self.group(arm, table)), _anchor(arm, table))
            case [arm, table, measure]:
                return _link(_number(self.spread(arm, table, measure)[0]), _anchor(arm, table))
            case [arm, table, measure, "range"]:
                spread = self.spread(arm, table, measure)
                ends = dict.fromkeys([_number(spread[1]), _number(spread[2])])
                return _link(" to ".join(ends), _anchor(arm, table))
        raise SystemExit(f"The template asks for {asked!r}, which there is no answer to.")

    def of(self, table: str) -> list[Row]:
        return [row for row in self.rows if own_table(row) == table]

    def at(self, setting: str) -> list[Row]:
        return [row for row in self.rows if setting_of(row["setting"], row["steps"]) == setting]

    def group(self, arm: str, table: str) -> evidence.Group:
        if (arm, table) not in self.groups:
            raise SystemExit(f"The table has no row of {arm} on {table}.")
        return self.groups[arm, table]

    def spread(self, arm: str, table: str, measure: str) -> evidence.Spread:
        spread = self.group(arm, table).spread[measure]
        if spread is None:
            raise SystemExit(f"{measure} of {arm} on {table} is undefined.")
        return spread

    def p(self, arm: str, other: str, measure: str, setting: str) -> str:
        found = next(c for c in evidence.compare(self.at(setting), arm, measure) if c.other == other)
        return _link(_number(found.adjusted), _anchor(f"{arm}-against-{other}", setting))

    def table(self, table: str) -> str:
        lines = [
            "| arm | seeds | verdicts | R | N | S | B | sharpness | returns | gain at 1, dB | at 4 | at 16 "
            "| multiplier of each seed |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        real = next(row["real"] for row in self.of(table))
        lines.append(
            f"| real film | – | moves | {_number(real['return_ratio'])} | {_number(real['nyquist_excess'])} | 1 | | 1 "
            "| | | | | |"
        )
        for group in (g for (_, t), g in self.groups.items() if t == table):
            cells = [_range(group.spread[m]) for m in evidence.MEASURES]
            cells.append(", ".join(_root(row["multiplier"]) for row in self.of(table) if row["arm"] == group.arm))
            anchor = f'<a id="{_anchor(group.arm, table)}"></a>'
            lines.append(
                f"| {anchor}{group.arm} | {len(group.seeds)} | {_verdicts(group)} | " + " | ".join(cells) + " |"
            )
        return "\n".join(lines)

    def averaged(self, table: str) -> str:
        """Every arm with a discriminator, measured with its raw and with its averaged weights."""
        lines = [
            "| arm | raw weights | averaged weights | R, averaged | gain at 1, dB, averaged |",
            "|---|---|---|---|---|",
        ]
        judged = [row for row in self.of(table) if kind_of(row) != "nothing"]
        averaged = {g.arm: g for g in evidence.groups([row | row["ema"] for row in judged])}
        for raw in evidence.groups(judged):
            group = averaged[raw.arm]
            cells = [_verdicts(raw), _verdicts(group), _range(group.spread["R"]), _range(group.spread["gain1"])]
            lines.append(f"| {raw.arm} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def judged(self) -> str:
        """All runs by what judges them, and how many came back."""
        lines = [
            "| what the discriminator sees | arms | runs | came back at some look | ended so |",
            "|---|---|---|---|---|",
        ]
        for kind, words in KINDS.items():
            arms = dict.fromkeys(row["arm"] for row in self.runs if kind_of(row) == kind)
            back, ended = self.counted(kind, "oscillating_share"), self.counted(kind, "ends")
            runs = sum(kind_of(row) == kind for row in self.runs)
            lines.append(f'| <a id="judged-{kind}"></a>{words} | {", ".join(arms)} | {runs} | {back} | {ended} |')
        return "\n".join(lines)

    def counted(self, kind: str, measure: str) -> str:
        rows = [row for row in self.runs if kind_of(row) == kind]
        values = [
            evidence.measure_value(row, "oscillating_share")
            if measure == "oscillating_share"
            else evidence.is_periodic(row["verdict"])
            for row in rows
        ]
        return f"{sum(bool(value) for value in values)} of {len(rows)}"

    def listed(self, rows: list[Row]) -> str:
        """Runs that are in no published table: those that chose a setting, those of another size."""
        lines = [
            "| film | arm | setting | steps | size | seeds | verdicts | R | S | sharpness | gain at 1, dB |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for g in sorted(evidence.groups(rows), key=lambda g: (g.film, g.steps, g.setting)):
            cells = [g.film, g.arm, g.setting, str(g.steps), "{}×{}".format(*g.size), ", ".join(map(str, g.seeds))]
            cells += [_verdicts(g), *(_range(g.spread[m]) for m in ("R", "S", "sharpness", "gain1"))]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def comparisons(self, setting: str) -> str:
        lines = [
            "| pair against | films | R, difference | p | p, Holm | “oscillates”, difference of shares | p, Holm "
            "| returns, difference | p | p, Holm |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        shares = {c.other: c for c in evidence.compare(self.at(setting), "pair", "oscillates")}
        returns = {c.other: c for c in evidence.compare(self.at(setting), "pair", "oscillating_share")}
        for c in evidence.compare(self.at(setting), "pair"):
            share, back, anchor = shares[c.other], returns[c.other], _anchor(f"pair-against-{c.other}", setting)
            lines.append(
                f'| <a id="{anchor}"></a>{c.other} | {len(c.films)} | {_number(c.difference)} | '
                f"{_number(c.p)} | {_number(c.adjusted)} | {_number(share.difference)} | {_number(share.adjusted)} | "
                f"{_number(back.difference)} | {_number(back.p)} | {_number(back.adjusted)} |"
            )
        return "\n".join(lines)

    def whole(self) -> str:
        tables: dict[str, list[Row]] = {}
        for row in self.rows:
            tables.setdefault(own_table(row).replace("+", ", "), []).append(row)
        self.figures["whole.svg"] = charts.whole_study(tables)
        return "![how many seeds oscillate, of every arm on every film](figures/whole.svg)"

    def figure(self, measure: str, table: str) -> str:
        name = f"{measure}-{_anchor(table)}.svg"
        self.figures[name] = charts.seeds_of_arms(self.of(table), measure)
        return f"![{charts.MEASURES[measure]} of every seed, {table.replace('+', ', ')}](figures/{name})"


class Again:
    """Runs that were made twice: as the table has them, and again with the widest vectors of another kind of processor."""

    def __init__(self, first: list[Row], then: list[Row]):
        self.first, self.then = first, then

    def __call__(self, *what: str) -> str:
        match what:
            case []:
                return self.table()
            case ["alike"]:
                verdicts = [{job_of(row): row["verdict"] for row in rows} for rows in (self.first, self.then)]
                alike = sum(verdicts[1][job] == verdict for job, verdict in verdicts[0].items())
                return _link(f"{alike} of {len(self.then)}", "again")
            case ["seconds", arm, table]:
                return _link(_seconds([row for row in self.then if own_table(row) == table], arm), "again")
            case [arm, table]:
                rows = [row for row in self.then if row["arm"] == arm and own_table(row) == table]
                return _link(_verdicts(evidence.groups(rows)[0]), _anchor("again", arm, table))
        raise SystemExit(f"The template asks for {what!r} again, which there is no answer to.")

    def table(self) -> str:
        lines = [
            '| <a id="again"></a>table | arm | seeds | verdicts, in the table | verdicts, wider vectors '
            "| R, in the table | R, wider vectors |",
            "|---|---|---|---|---|---|---|",
        ]
        first = {(own_table(row), row["arm"]): [] for row in self.then}
        for row in self.first:
            first[own_table(row), row["arm"]].append(row)
        for then in evidence.groups(self.then):
            table = table_of(then.film, setting_of(then.setting, then.steps))
            before = evidence.groups(first[table, then.arm])[0]
            cells = [_verdicts(before), _verdicts(then), _range(before.spread["R"]), _range(then.spread["R"])]
            name = f'<a id="{_anchor("again", then.arm, table)}"></a>{table.replace("+", ", ")}'
            lines.append(f"| {name} | {then.arm} | {', '.join(map(str, then.seeds))} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def text(rows: list[Row], again: list[Row]) -> tuple[str, dict[str, dict[str, Any]]]:
    """(the findings, figures by file name)."""
    findings = Findings(rows, again)
    template = (DOCS / "findings.template.md").read_text()
    return re.sub(r"\{\{(.+?)\}\}", lambda m: findings(m[1].strip()), template, flags=re.S), findings.figures


def _seconds(rows: list[Row], arm: str) -> str:
    return f"{statistics.median(row['seconds'] for row in rows if row['arm'] == arm):.0f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def _range(spread: evidence.Spread | None) -> str:
    return "–" if spread is None else f"{_number(spread[0])} ({_number(spread[1])} … {_number(spread[2])})"


def _root(multiplier: dict[str, float]) -> str:
    imaginary = abs(multiplier["imaginary"])
    return f"{multiplier['real']:.2f}" + (f" ± {imaginary:.2f}i" if imaginary >= 0.005 else "")


def _verdicts(group: evidence.Group) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in group.verdicts)


def _anchor(*parts: str) -> str:
    return "-".join(p for p in parts if p).replace(":", "-").replace("+", "-").replace("=", "-")


def _link(words: str, anchor: str) -> str:
    return f"[{words}](#{anchor})"


def main() -> None:
    import plotly.io

    written, figures = text(read_results(RESULTS), read_results(AGAIN))
    (DOCS / "findings.md").write_text(written)
    (DOCS / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        height = figure["layout"].get("height", 420)
        plotly.io.write_image(figure, DOCS / "figures" / name, width=900, height=height)
    print(f"Wrote docs/findings.md and {len(figures)} figures.")


if __name__ == "__main__":
    main()
