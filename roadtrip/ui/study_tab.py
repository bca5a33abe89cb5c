"""Study: every seed of every arm, from checkpoints/results.json; a click leads to a seed's curves and its model.

Counts and medians come from study/analysis.py; computes no number itself.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..study import SIZE, STEPS, Row, is_model_of, read_results
from ..study.analysis import SELECTION_SEEDS, Group, groups, is_published, measure_value, median_seed
from .charts import BETTER, MEASURES, onsets, seeds_of_arms, training_curves, whole_study
from .library import checkpoints, shipped, shipped_names, shipped_titles
from .player import carried, chart, chart_value, note, noted_charts
from .starts import recipe_of
from .tab import QUIET, Event, Field, Tab, escape_markdown, user_errors

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
    said = f"Seeds that oscillate: {each}." if flips else "**No seed of any variant oscillates** in this table."
    return f"{said} {runs} runs in all, {frozen} of them frozen, for which R is undefined or says little."


def pick(table: str, event: gr.EventData) -> tuple[Any, ...]:
    """What is known of the run whose dot was clicked, with a link to its model where that is shipped; the onset and the
    clock of its arm's runs."""
    with user_errors():
        picked, rows = carried(event, "picked"), tables().get(table, [])
        row = next((r for r in rows if isinstance(picked, list) and picked[:2] == [r["arm"], r["seed"]]), None)
        if row is None:
            raise RoadtripError("That dot is no longer there; choose the table again.")
        numbers = ", ".join(f"{k} {v:.2f}" for k in MEASURES if (v := measure_value(row, k)) is not None)
        said = f"**{escape_markdown(row['arm'])}, seed {row['seed']}: {row['verdict']}** ({numbers}). "
        name = next((n for n in shipped_names() if is_model_of(shipped(n), row)), None)
        if name:
            said += f"It is among the pretrained models: **[watch it in Scrub](?tab=scrub&model={name})**."
        else:
            minutes = row["seconds"] / 60
            said += f"It is no pretrained model; this trains it again in about {minutes:.0f} minutes of one core:"
            said += f"\n\n```\n{row['command']}\n```"
        arm = [r for r in rows if r["arm"] == row["arm"]]
        return said, chart_value(onsets(arm)), chart_value(training_curves(arm))


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
        median = row in ruled and median_seed(ruled) == row
        why = f"as the median by R of seeds 0 to {SELECTION_SEEDS - 1}" if median else "for its verdict"
        facts = [row["arm"], f"seed {row['seed']}", f"{row['steps']} steps", *filter(None, [row["setting"]])]
        title, run = (escape_markdown(text) for text in (shipped_titles()[name], ", ".join(facts)))
        verdict = f"{escape_markdown(row['verdict'])} (same for {alike} of {len(others)} seeds)"
        said.append(f"*{title}* is a run of the study ({run}), chosen {why}; verdict: {verdict}.")
    return " ".join(said)


def build(session: gr.State) -> Tab:
    names = list(tables())
    if not names:
        gr.Markdown("There are no results beside the checkpoints here; `python -m roadtrip study` makes some.")
        return Tab([], [], [])
    gr.Markdown(
        "**One rollout proves nothing.** Rows: variants. Columns: film and settings. *3/5*: the rollouts of three of five "
        "seeds flip. Discriminators see pairs in *pair…* and *cure-…*, single frames in *single…*; *v1*, *v2* and *lstm* "
        "have none. A click on a cell shows its column's seeds.",
        elem_classes="rt-note",
    )
    cells = chart("rt-whole")
    with gr.Row(elem_classes="rt-controls"):
        how: dict[str, Any] = {"label": "Dataset and settings", "filterable": False, "min_width": 320}
        table = gr.Dropdown(names, value=names[0], **how)
        measure = gr.Dropdown(
            [(f"{label} ({BETTER[key]})", key) for key, label in MEASURES.items()],
            value="R",
            label="Y axis",
            min_width=220,
        )
    dots = chart("rt-seeds")
    words = gr.Markdown(elem_classes="rt-note")
    note(
        "What you see: each dot is one training run, measured on 8 held-out starts; colour and shape are its verdict. "
        "Bands are real film and linear extrapolation. A click on a dot shows its curves. `docs/findings.md` has what "
        "follows and what does not."
    )
    with gr.Column(elem_id="rt-run"):
        picked: list[Any] = [gr.Markdown(elem_id="rt-picked", elem_classes="rt-words")]
        onset = "R in windows of 16 frames along the rollout, of every seed of the variant whose dot was clicked."
        clock = "R of its rollouts from one start while it was trained, over training steps."
        picked += noted_charts([("rt-onset", onset), ("rt-clock", clock)])
    draw: Event = QUIET | {"fn": update_view, "inputs": [table, measure], "outputs": [dots, words]}
    gr.on([table.input, measure.input], **draw)
    shown: Any = cells.click(choose, None, table, **QUIET).success(**draw)
    shown.success(None, js="() => window.rtShow('rt-seeds')", **QUIET)
    run = dots.click(pick, table, picked, **QUIET)
    run.success(None, js="() => window.rtShow('rt-run')", **QUIET)
    map_event: Event = QUIET | {"fn": whole, "inputs": [], "outputs": cells}
    return Tab(
        address=[Field("table", table, choices=lambda _: [(n, n) for n in tables()])],
        first=[map_event, draw],
        changes=[],
    )
