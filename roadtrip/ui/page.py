"""The page: three tabs over one session. Builds the app; app.py launches it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import gradio as gr

from ..recipes import RECIPES
from . import compare_tab, recipe_section, scrub_tab, train_tab
from .compute import on_compute_thread
from .library import ROAD, shipped_names
from .opening import opens_on
from .player import plotly_folder
from .session import Session, restore_session
from .starts import start_range

CSS = (Path(__file__).parent / "style.css").read_text()
HEAD = f"<script>{(Path(__file__).parent / 'share.js').read_text()}</script>"
TABS = ("compare", "train", "scrub")
HELLO = """# Roadtrip
**Can a network that sees two frames of a road trip drive on by itself, and why does it start to flip?**

A month in an RV through California, Utah, Nevada and Colorado left Mat Kelcey with 16,000 time-lapse stills. In 2019 he
trained a small network to guess the third frame from two, fed it its own guesses, and watched it drive. It blurred; then,
with a discriminator, it flipped between two pictures. He never found out why. Here you can watch it, measure it, and
train it again: on a rendered road or on film of your own."""


def theme() -> gr.themes.Base:
    """Fonts that every system has: nothing is fetched from elsewhere. On amber, white is hardly read."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    soft = gr.themes.Soft(primary_hue="amber", neutral_hue="stone", font=sans, font_mono=["ui-monospace", "monospace"])
    dark = "*neutral_900"
    return soft.set(
        block_title_text_color="*primary_900",
        button_primary_text_color=dark,
        button_primary_text_color_dark=dark,
        checkbox_label_text_color_selected=dark,
        checkbox_label_text_color_selected_dark=dark,
    )


def build() -> gr.Blocks:
    gr.set_static_paths([plotly_folder()])
    # files that were made for download go an hour after they were
    with gr.Blocks(title="Roadtrip", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        session = gr.State(Session())
        left, right, model = _opening(shipped_names())
        gr.Markdown(HELLO)
        with gr.Tabs():
            with gr.Tab("Compare", id="compare") as compare_page:
                compare = compare_tab.build(session, left, right)
            with gr.Tab("Train", id="train") as train_page:
                train = train_tab.build(session)
            with gr.Tab("Scrub", id="scrub") as scrub_page:
                scrub = scrub_tab.build(session, model)
        menus: list[Any] = [compare.left, compare.right, scrub.model, compare.film, scrub.film, train.film.film]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        # which session on this server is the visitor's, so that a reload finds it again
        key = gr.BrowserState(None, storage_key="roadtrip")
        asked: list[Any] = [*menus, compare.start, scrub.start, scrub.horizon, train.recipe.name]
        asked += [train.recipe.seconds, train.recipe.seed]
        # first what takes no time, so that nothing is put back that a visitor has chosen while the road was rendered
        arrival = page.load(
            arrive, [session, key], [session, key, *asked, *train.outputs, *train.recipe.filled], **quiet
        ).then(
            begin,
            [session, compare.left, compare.right, compare.film, compare.start, scrub.model, scrub.film, scrub.start],
            [*compare.draw["outputs"], compare.start, scrub.start],
            **quiet,
        )
        later = arrival
        for picture in (scrub.draw, train.film.draw, scrub.draw_strip):
            later = later.then(**picture)  # one after the other: they share the cores
        for name, tab in zip(TABS, (compare_page, train_page, scrub_page)):
            tab.select(None, js=f"() => {{ window.rtTab('{name}') }}", **quiet)
        shares("compare", {"left": compare.left, "right": compare.right, "film": compare.film, "start": compare.start})
        shares("scrub", {"model": scrub.model, "film": scrub.film, "start": scrub.start, "horizon": scrub.horizon})
        recipe = train.recipe
        shares(
            "train", {"recipe": recipe.name, "changes": recipe.changes, "seconds": recipe.seconds, "seed": recipe.seed}
        )
        for event in (*compare.changes, *train.changes, scrub.taken):
            event.then(refresh, [session, *menus], menus, **quiet)
    # rendered and rolled out while the first visitor's browser is still loading the page
    threading.Thread(target=warm_up, daemon=True).start()
    return page


def _opening(names: list[str]) -> list[str | None]:
    """The models that the page opens with: the pair beside the single frame, and v2 to scrub."""
    wanted = (("v3-pair", 0), ("v3-single", 1), ("v2", 0))
    return [w if w in names else names[min(i, len(names) - 1)] if names else None for w, i in wanted]


def shares(tab: str, parts: dict[str, Any]) -> None:
    """Lets the browser's address follow these components (see share.js)."""
    names = ", ".join(parts)
    js = f"({names}) => {{ window.rtShare('{tab}', {{ {names} }}) }}"
    for part in parts.values():
        part.change(None, list(parts.values()), js=js, api_visibility="private", show_progress="hidden")


def arrive(session: Session, key: str | None, request: gr.Request) -> list[Any]:
    """The visitor's own session, menus and fields as the link asks for them, and the run that was trained last. What the
    link does not ask for, or is not there, stays as the page has it. Computes nothing: it must not keep anyone waiting."""
    session, key = restore_session(session, key)
    asked = dict(request.query_params) if request else {}
    names, roads = session.model_names(), session.film_names()
    tab = asked.get("tab", TABS[0])
    menus = [_menu(names, asked.get(part)) for part in ("left", "right", "model")]
    menus += [_menu(roads, asked.get("film") if tab == owner else None) for owner in ("compare", "scrub", None)]
    start, horizon, seconds, seed = (_whole(asked.get(part)) for part in ("start", "horizon", "seconds", "seed"))
    rest = [
        *(gr.skip() if start is None or tab != owner else start for owner in ("compare", "scrub")),
        horizon if horizon and horizon <= scrub_tab.LONGEST else gr.skip(),
        asked["recipe"] if asked.get("recipe") in RECIPES else gr.skip(),
        seconds if seconds and seconds <= train_tab.LONGEST else gr.skip(),
        seed if seed is not None and seed < 2**31 else gr.skip(),
    ]
    return [session, key, *menus, *rest, *train_tab.restored_view(session), *_fields(asked)]


def _menu(choices: list[str], wanted: str | None) -> Any:
    return gr.update(choices=choices, value=wanted) if wanted in choices else gr.update(choices=choices)


def _fields(asked: dict[str, str]) -> list[Any]:
    """Train's fields after the link's recipe and changes; those of a recipe that can't be, as without the link."""
    recipe = asked["recipe"] if asked.get("recipe") in RECIPES else "v1"
    try:
        fields = recipe_section.choose(recipe, asked.get("changes"))
    except gr.Error:
        fields = recipe_section.choose(recipe)
    return fields if {"recipe", "changes"} & asked.keys() else [gr.skip()] * len(fields)


def begin(session: Session, left: str, right: str, film: str, start: float, *scrub: Any) -> list[Any]:
    """What Compare shows, and its and Scrub's ranges of starts; a start that is in its range stays."""
    return on_compute_thread(_begun, session, left, right, film, start, *scrub)


def _begun(session: Session, left: str, right: str, film: str, start: float, *scrub: Any) -> list[Any]:
    try:
        starts = [compare_tab.start_range_of_both(session, left, right, film, start), start_range(session, *scrub)]
        seen = compare_tab.update_view(session, left, right, film, starts[0]["value"], False)
    except gr.Error:  # without a model there is nothing to see
        return [gr.skip()] * (compare_tab.SEEN + 2)
    return [*seen, *starts]


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 11 else None


def warm_up() -> None:
    """Makes what every first visit shows. What fails here is told to the visitor who asks for it."""
    with contextlib.suppress(gr.Error):
        session = Session()
        left, right, model = _opening(session.model_names())
        if left and right and model:
            first = compare_tab.start_range_of_both(session, left, right, ROAD)["value"]
            compare_tab.update_view(session, left, right, ROAD, first, False)
            opens_on(on_compute_thread(compare_tab.opening_film, session, left, right, ROAD, first))
            first = start_range(session, model, ROAD)["value"]
            scrub_tab.update_view(session, model, ROAD, first, 64, False)
        for _ in train_tab.run(session, ROAD, "", "v1", "", 1, 0):
            pass  # what a training needs for the first time takes seconds to load


def refresh(session: Session, left: str, right: str, model: str, *films: str) -> list[Any]:
    """The menus with what is new in the session; what was chosen stays chosen, unless it has gone."""
    names, roads = session.model_names(), session.film_names()
    first = names[0] if names else None
    chosen = [gr.update(choices=names, value=n if n in names else first) for n in (left, right, model)]
    return chosen + [gr.update(choices=roads, value=f if f in roads else ROAD) for f in films]
