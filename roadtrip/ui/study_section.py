"""What the study found, every seed of every arm, from checkpoints/results.json: stands under Compare.

Counts and medians come from study/analysis.py; computes no number itself.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import gradio as gr

from ..errors import RoadtripError
from ..study import SIZE, STEPS, Row, is_model_of, read_results
from ..study.analysis import SELECTION_SEEDS, Group, groups, is_published, measure_value, median_seed
from .charts import MEASURES, onsets, seeds_of_arms, training_curves, whole_study
from .library import checkpoints, shipped, shipped_names
from .player import carried, chart, chart_value, note, noted_charts
from .starts import recipe_of
from .tab import QUIET, Event, escape_markdown, user_errors

NO_TABLE = "The study has no such table; choose one from the menu."


@lru_cache(maxsize=1)
def _tables(file: str, changed: float) -> dict[str, list[Row]]:
    """Rows by film and setting, as the menu calls them."""
    tables: dict[str, list[Row]] = {}
    for row in read_results(file):
        parts = [row["film"], row["setting"], f"{row['steps']} steps", "{}×{}".format(*row["size"])]
        tables.setdefault(", ".join(filter(None, parts)), []).append(row)
    return dict(sorted(tables.items(), key=lambda item: -len(item[1])))


def tables() -> dict[str, list[Row]]:
    """The study's tables, the longest first; none where no results are shipped."""
    file = checkpoints() / "results.json"
    return _tables(str(file), file.stat().st_mtime) if file.exists() else {}


def whole() -> dict[str, Any]:
    """The map of all published tables."""
    published = {name: [row for row in rows if is_published(row)] for name, rows in tables().items()}
    usual = f", {STEPS} steps", f", {SIZE[0]}×{SIZE[1]}"
    return chart_value(whole_study({name: rows for name, rows in published.items() if rows}, usual))


def choose(event: gr.EventData) -> str:
    """The table whose cell was clicked."""
    with user_errors():
        picked = carried(event, "picked")
        name = next((name for name in tables() if isinstance(picked, list) and picked[:1] == [name]), None)
        if name is None:
            raise RoadtripError(NO_TABLE)
        return name


def update_view(table: str, measure: str) -> tuple[Any, str]:
    """The dots and what they say."""
    with user_errors():
        rows = tables().get(table)
        if not rows or measure not in MEASURES:
            raise RoadtripError(NO_TABLE)
        return chart_value(seeds_of_arms(rows, measure)), in_words(groups(rows))


def in_words(found: list[Group]) -> str:
    """The shares of seeds that oscillate, most first; and how many stood still."""
    flips = sorted((g for g in found if g.count("oscillates")), key=lambda g: -g.share("oscillates"))
    runs, frozen = sum(len(g.seeds) for g in found), sum(g.count("frozen") for g in found)
    each = ", ".join(f"{escape_markdown(g.arm)} {g.count('oscillates')} of {len(g.seeds)}" for g in flips)
    said = f"Seeds that oscillate: {each}." if flips else "**No seed of any arm oscillates** in this table."
    return f"{said} {runs} runs in all, {frozen} of them frozen, for which R is undefined or says little."


def pick(table: str, event: gr.EventData) -> tuple[Any, ...]:
    """What is known of the run whose dot was clicked, the onset and the clock of its arm's runs, and the name of its
    model where that is shipped."""
    with user_errors():
        picked, rows = carried(event, "picked"), tables().get(table, [])
        row = next((r for r in rows if isinstance(picked, list) and picked[:2] == [r["arm"], r["seed"]]), None)
        if row is None:
            raise RoadtripError("That dot is no longer there; choose the table again.")
        numbers = ", ".join(f"{k} {v:.2f}" for k in MEASURES if (v := measure_value(row, k)) is not None)
        said = f"**{escape_markdown(row['arm'])}, seed {row['seed']}: {row['verdict']}** ({numbers}). "
        name = next((n for n in shipped_names() if is_model_of(shipped(n), row)), None)
        if name:
            said += "It is the first model above now."
        else:
            said += (
                f"Its weights are not shipped; this makes them again in about {row['seconds'] / 60:.0f} minutes of one "
            )
            said += f"core:\n\n```\n{row['command']}\n```"
        arm = [r for r in rows if r["arm"] == row["arm"]]
        return said, chart_value(onsets(arm)), chart_value(training_curves(arm)), name or gr.skip()


def study_note(names: Iterable[str]) -> str:
    """Of each of these models that ships and is a run of the study: which, why this one, and how its other seeds ended."""
    said = []
    for name in [n for n in names if n in shipped_names()]:
        model = shipped(name)
        found = [(r, rows) for rows in tables().values() for r in rows if is_model_of(model, r)]
        if not found:
            continue
        row, rows = min(found, key=lambda pair: pair[0]["arm"] != recipe_of(model))
        others = [r for r in rows if r["arm"] == row["arm"]]
        alike = groups(others)[0].count(row["verdict"])
        ruled = [r for r in others if r["seed"] < SELECTION_SEEDS]
        why = f"ends as “{escape_markdown(row['verdict'])}”"
        median = row in ruled and median_seed(ruled) == row
        why = f"as the median by R of seeds 0 to {SELECTION_SEEDS - 1}; it {why}" if median else f"because it {why}"
        facts = [row["arm"], f"seed {row['seed']}", f"{row['steps']} steps", *filter(None, [row["setting"]])]
        said.append(
            f"*{escape_markdown(name)}* is a run of the study below ({escape_markdown(', '.join(facts))}), shipped {why} "
            f"({alike} of {len(others)} seeds do)."
        )
    return " ".join(said)


class Section(NamedTuple):
    table: gr.Dropdown
    dots: gr.HTML
    picked: list[Any]  # words, onset, clock


def build() -> Section | None:
    names = list(tables())
    if not names:
        return None
    gr.Markdown(
        "## The whole study\nOne rollout proves nothing. Here is every arm, on every film and network that it was run "
        "on, and how many of its seeds end in a rollout that flips."
    )
    cells = chart("rt-whole", whole())
    note(
        "What you see: rows are variants, columns are film and settings. *3/5* means that three of five seeds "
        "oscillate. A discriminator sees pairs in the arms that begin with *pair* and in the cures, which are pairs too, "
        "single frames in those that begin with *single*, and there is none in v1, v2 and lstm. A click on a cell shows "
        "its column's seeds below."
    )
    gr.Markdown("## Every seed")
    with gr.Row():
        how: dict[str, Any] = {"label": "Film and setting", "info": "Dataset and settings.", "min_width": 320}
        table = gr.Dropdown(names, value=names[0], **how)
        how = {"value": "R", "label": "Measure", "info": "Y axis.", "min_width": 320}
        measure = gr.Radio([(label, key) for key, label in MEASURES.items()], **how)
    shown, said = update_view(names[0], "R")
    dots = chart("rt-seeds", shown)
    words = gr.Markdown(said, elem_classes="rt-note")
    note(
        "What you see: each dot is one training run, measured on 8 held-out starts; colour and shape are its verdict. "
        "The bands are real film and linear extrapolation. A click on a dot says what it is, and puts its model above "
        "where that is shipped. `docs/findings.md` has what follows and what does not."
    )
    picked: list[Any] = [gr.Markdown(elem_id="rt-picked", elem_classes="rt-words")]
    onset = "R in windows of 16 frames along the rollout, of every seed of the arm whose dot was clicked."
    clock = "R of its rollouts from one start while it was trained, over training steps."
    picked += noted_charts([("rt-onset", onset), ("rt-clock", clock)])
    draw: Event = QUIET | {"fn": update_view, "inputs": [table, measure], "outputs": [dots, words]}
    gr.on([table.input, measure.input], **draw)
    cells.click(choose, None, table, **QUIET).success(**draw)
    return Section(table, dots, picked)
