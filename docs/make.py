"""Builds docs/findings.md and its figures from checkpoints/results.json alone: `make findings`.

The prose is in docs/findings.template.md. In it {{…}} stands for what the table says, and each becomes a link to the
row that it came from: {{pair scenery R}} the median over seeds, {{pair scenery R range}} least and most, {{pair scenery
verdicts}}, {{pair v2 p}} and {{pair v2 oscillates p}} adjusted p values. {{table scenery}}, {{comparisons}} and
{{figure R scenery}} are whole tables and figures; {{runs}} and {{hours}} speak of all rows.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from roadtrip import evidence
from roadtrip.study import ARMS, SIZE, STEPS, Row, read_results
from roadtrip.ui import charts

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "checkpoints" / "results.json"
LABELS = {
    "R": "return ratio R",
    "N": "Nyquist excess N",
    "S": "step ratio S",
    "B": "two-mode share B",
    "sharpness": "sharpness ratio",
}


def is_main(row: Row) -> bool:
    """Whether a row is of the published table: its arm as it is, at the study's steps and size, from seeds 0 … 99."""
    arm = ARMS.get(row["arm"])
    same = arm is not None and row["recipe"] == arm.to_dict()
    return same and (row["steps"], tuple(row["size"])) == (STEPS, SIZE) and row["seed"] < 100


class Findings:
    """What the template may ask for."""

    def __init__(self, rows: list[Row]):
        self.all = rows
        self.rows = [row for row in rows if is_main(row)]
        self.groups = {(g.arm, g.film): g for g in evidence.groups(self.rows)}
        self.figures: dict[str, dict[str, Any]] = {}

    def __call__(self, asked: str) -> str:
        words = asked.split()
        match words:
            case ["runs"]:
                return str(len(self.rows))
            case ["hours"]:
                return f"{sum(row['seconds'] for row in self.rows) / 3600:.1f}"
            case ["table", film]:
                return self.table(film)
            case ["sweep"]:
                return self.sweep()
            case ["comparisons"]:
                return self.comparisons()
            case ["figure", measure, film]:
                return self.figure(measure, film)
            case [arm, other, "p"]:
                return self.p(arm, other, "R")
            case [arm, other, verdict, "p"]:
                return self.p(arm, other, verdict)
            case [arm, film, "verdicts"]:
                return _link(_verdicts(self.group(arm, film)), arm, film)
            case [arm, film, measure]:
                spread = self.spread(arm, film, measure)
                return _link(_number(spread[0]), arm, film)
            case [arm, film, measure, "range"]:
                spread = self.spread(arm, film, measure)
                return _link(f"{_number(spread[1])} to {_number(spread[2])}", arm, film)
        raise SystemExit(f"The template asks for {asked!r}, which there is no answer to.")

    def group(self, arm: str, film: str) -> evidence.Group:
        if (arm, film) not in self.groups:
            raise SystemExit(f"The table has no row of {arm} on {film}.")
        return self.groups[arm, film]

    def spread(self, arm: str, film: str, measure: str) -> evidence.Spread:
        group = self.group(arm, film)
        spread = group.gain if measure == "gain" else group.spread[measure]
        if spread is None:
            raise SystemExit(f"{measure} of {arm} on {film} is undefined.")
        return spread

    def p(self, arm: str, other: str, measure: str) -> str:
        found = next(c for c in evidence.compare(self.rows, arm, measure) if c.other == other)
        return f"[{_number(found.adjusted)}](#{arm}-against-{other})"

    def table(self, film: str) -> str:
        lines = [
            "| arm | seeds | verdicts | R | N | S | B | sharpness | gain at 1, dB |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        real = next(row["real"] for row in self.rows if row["film"] == film)
        lines.append(
            f"| real film | – | moves | {_number(real['return_ratio'])} | {_number(real['nyquist_excess'])} | 1 | | 1 | |"
        )
        for group in (g for (_, f), g in self.groups.items() if f == film):
            cells = [_range(group.spread[m]) for m in evidence.MEASURES] + [_range(group.gain)]
            anchor = f'<a id="{_anchor(group.arm, film)}"></a>'
            lines.append(
                f"| {anchor}{group.arm} | {len(group.seeds)} | {_verdicts(group)} | " + " | ".join(cells) + " |"
            )
        return "\n".join(lines)

    def sweep(self) -> str:
        """Runs of the pair that are not of the table: other L1 weights, other seeds."""
        rows = [r for r in self.all if r["arm"] == "pair" and not is_main(r)]
        lines = [
            "| film | setting | steps | size | seeds | verdicts | R | S | sharpness | gain at 1, dB |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for g in sorted(evidence.groups(rows), key=lambda g: (g.film, g.steps, g.setting)):
            lines.append(
                f"| {g.film} | {g.setting} | {g.steps} | {g.size[0]}×{g.size[1]} | {', '.join(map(str, g.seeds))} | "
                f"{_verdicts(g)} | {_range(g.spread['R'])} | {_range(g.spread['S'])} | {_range(g.spread['sharpness'])} | "
                f"{_range(g.gain)} |"
            )
        return "\n".join(lines)

    def comparisons(self) -> str:
        lines = [
            "| pair against | films | R, difference | p | p, Holm | “oscillates”, difference of shares | p, Holm |",
            "|---|---|---|---|---|---|---|",
        ]
        shares = {c.other: c for c in evidence.compare(self.rows, "pair", "oscillates")}
        for c in evidence.compare(self.rows, "pair"):
            share = shares[c.other]
            lines.append(
                f'| <a id="pair-against-{c.other}"></a>{c.other} | {len(c.films)} | {_number(c.difference)} | '
                f"{_number(c.p)} | {_number(c.adjusted)} | {_number(share.difference)} | {_number(share.adjusted)} |"
            )
        return "\n".join(lines)

    def figure(self, measure: str, film: str) -> str:
        rows = [row for row in self.rows if row["film"] == film]
        name = f"{measure}-{film.replace(':', '-')}.svg"
        self.figures[name] = charts.seeds_of_arms(rows, measure, LABELS[measure])
        return f"![{LABELS[measure]} of every seed on {film}](figures/{name})"


def text(rows: list[Row]) -> tuple[str, dict[str, dict[str, Any]]]:
    """(the findings, figures by file name)."""
    findings = Findings(rows)
    template = (DOCS / "findings.template.md").read_text()
    return re.sub(r"\{\{(.+?)\}\}", lambda m: findings(m[1].strip()), template), findings.figures


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def _range(spread: evidence.Spread | None) -> str:
    return "–" if spread is None else f"{_number(spread[0])} ({_number(spread[1])} … {_number(spread[2])})"


def _verdicts(group: evidence.Group) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in group.verdicts)


def _anchor(arm: str, film: str) -> str:
    return f"{arm}-{film.replace(':', '-')}"


def _link(words: str, arm: str, film: str) -> str:
    return f"[{words}](#{_anchor(arm, film)})"


def main() -> None:
    import plotly.io

    written, figures = text(read_results(RESULTS))
    (DOCS / "findings.md").write_text(written)
    (DOCS / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        plotly.io.write_image(figure, DOCS / "figures" / name, width=900, height=420)
    print(f"Wrote docs/findings.md and {len(figures)} figures.")


if __name__ == "__main__":
    main()
