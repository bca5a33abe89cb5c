"""The recipe a visitor trains: the versions of the story, a few presets, and every other field of a Recipe in a fold.

Fields, their help and their ranges are read from the Recipe itself; a new one appears here by itself.
"""

from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from ..errors import RoadtripError
from ..recipes import RECIPES, Recipe, find_recipe, parse_values
from .budget import number
from .diagram import diagram
from .player import note
from .tab import QUIET, Event, Limits, escape_markdown, range_note, user_errors

STORY = {
    "v1": "predicts one frame (learns fast, blurs)",
    "v2": "predicts two, the second from its own first",
    "v3-pair": "v2 + a discriminator that sees two frames at once",
    "v3-single": "v2 + a discriminator that sees one frame at a time",
    "lstm": "v2 + an LSTM between encoder and decoder",
    "v4": "draws each frame by diffusion (needs minutes)",
}
# the first field of each group
GROUPS = {
    "width": "The network",
    "unroll": "What the losses see",
    "disc_frames": "The discriminator",
    "batch": "Optimisation",
    "flip": "Augmentation",
}
FIELDS = [f for f in fields(Recipe) if f.name != "name"]


class Preset(NamedTuple):
    """What one click fills in. changes: as the page has them, "unroll=3 l1_weight=10"."""

    label: str
    recipe: str
    seconds: int
    changes: str = ""


PRESETS = (
    Preset("A 20 s look", "v1", 20),
    Preset("60 s of v2", "v2", 60),
    Preset("A road that stays", "v2", 120, "replay=8"),
    Preset("The post's oscillation", "v3-pair", 360, "replay=8"),
)


def recipe_of_choice(name: str, changes: str | None = "") -> Recipe:
    """One of the five with some of its fields changed, which its name then says. Raises RoadtripError for a field that
    is not there, a value that is out of range, or a combination that can't be."""
    recipe, values = find_recipe(name), _changed(name, parse_values((changes or "").split()))
    return replace(recipe, **values | {"name": ", ".join([name, *_written(values)])})


def choose(name: str, changes: str | None = "") -> list[Any]:
    """[changes, sketch, note, a value for each field] of a recipe that was picked, or of a preset."""
    with user_errors():
        return [changes or "", *_filled(recipe_of_choice(name, changes))]


def fill_in(preset: Preset) -> list[Any]:
    """[name, seconds, *what `choose` gives]."""
    return [preset.recipe, preset.seconds, *choose(preset.recipe, preset.changes)]


def read(name: str, changes: str) -> list[Any]:
    """[sketch, note, a value for each field] of the recipe that a name and changes make; what is wrong is the note."""
    try:
        return _filled(recipe_of_choice(name, changes))
    except RoadtripError as error:
        return [gr.skip(), f"**{escape_markdown(str(error))}**", *(gr.skip() for _ in FIELDS)]


def change(field: str, name: str, changes: str, value: Any) -> list[Any]:
    """[changes, sketch, note, what is wrong with it] after one field was set."""
    try:
        kind = type(getattr(RECIPES[name], field))
        value = number(value, field.replace("_", " ")) if kind in (int, float) else value
        values = parse_values(changes.split()) | {field: kind(value)}
        recipe = recipe_of_choice(name, " ".join(_written(values)))
    except RoadtripError as error:
        return [*(gr.skip(),) * 3, f"**{escape_markdown(str(error))}** It stays as it was."]
    return [" ".join(_written(_changed(name, values))), *_filled(recipe)[:2], ""]


def _changed(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in values.items() if value != getattr(RECIPES[name], field)}


def _filled(recipe: Recipe) -> list[Any]:
    said = f"What is trained: **{escape_markdown(recipe.name)}**."
    return [diagram(recipe), said, *(getattr(recipe, f.name) for f in FIELDS)]


def _written(values: dict[str, Any]) -> list[str]:
    return [f"{field}={value}" for field, value in values.items()]


class Section(NamedTuple):
    name: gr.Dropdown
    seconds: gr.Number
    seed: gr.Number


def build(max_seconds: int, max_seed: int) -> Section:
    """The controls that stand beside the film: which recipe, how long, which seed."""
    recipes = [(f"{n}: {STORY[n]}" if n in STORY else n, n) for n in RECIPES]
    name = gr.Dropdown(
        recipes,
        value="v1",
        label="Recipe",
        info="Each adds one thing to an earlier one.",
        elem_id="rt-recipe",
        filterable=False,
        min_width=260,
    )
    seconds = gr.Number(
        60, label="Seconds", info="60 s shows a trend; 5 min is better.", elem_id="rt-seconds", min_width=150
    )
    seed = gr.Number(0, label="Seed", info="The same seed, the same run.", elem_id="rt-seed", min_width=150)
    range_note(Limits(seconds, 1, max_seconds, whole=False), Limits(seed, 0, max_seed))
    return Section(name, seconds, seed)


def details(section: Section) -> tuple[gr.Textbox, Event]:
    """(the overrides, the event that shows the recipe that name and overrides make): presets, a sketch, every field."""
    name, seconds, _ = section
    sketch = gr.HTML(diagram(RECIPES["v1"]), apply_default_css=False, elem_id="rt-diagram")
    note(
        "What you see: what feeds what in training. G is the one network, used again for each frame; dashed frames are "
        "its own; L1 and D, the discriminator, are the losses and the frames that each of them sees. One click fills in:"
    )
    with gr.Row():
        buttons = [gr.Button(p.label, size="sm", min_width=90) for p in PRESETS]
    changes = gr.Textbox(
        label="Overrides, e.g. unroll=3 l1_weight=10",
        placeholder="none",
        info="What differs from the recipe; write it here or set the fields below.",
        elem_id="rt-changes",
    )
    about = gr.Markdown(elem_classes="rt-note")
    parts, notes = _fields(RECIPES["v1"])
    filled = [changes, sketch, about, *parts]
    name.input(choose, name, filled, **QUIET)
    fill: Event = QUIET | {"fn": read, "inputs": [name, changes], "outputs": filled[1:]}
    changes.input(**fill)
    for button, preset in zip(buttons, PRESETS):
        button.click(partial(fill_in, preset), None, [name, seconds, *filled], **QUIET)
    for f, part, wrong in zip(FIELDS, parts, notes):
        part.input(partial(change, f.name), [name, changes, part], [changes, sketch, about, wrong], **QUIET)
    return changes, fill


def _fields(recipe: Recipe) -> tuple[list[Any], list[Any]]:
    """(a component for each of FIELDS, under the headings of their groups; what is wrong in its group)."""
    parts: list[Any] = []
    notes: list[Any] = []
    row: Any = None
    for f in FIELDS:
        if f.name in GROUPS:
            gr.Markdown(f"**{GROUPS[f.name]}**")
            row, wrong = gr.Row(), gr.Markdown(elem_classes="rt-wrong")
        notes.append(wrong)
        how: dict[str, Any] = {"label": f.name.replace("_", " "), "info": f.metadata["help"]}
        how |= {"value": getattr(recipe, f.name), "min_width": 200}
        with row:
            if f.metadata["choices"]:
                parts.append(gr.Dropdown(list(f.metadata["choices"]), **how))
            elif f.type is bool:
                parts.append(gr.Checkbox(**how))
            else:  # the range is checked by the Recipe, which says it in a sentence
                parts.append(gr.Number(**how, **({"precision": 0} if f.type is int else {"step": 0.1})))
    return parts, notes
