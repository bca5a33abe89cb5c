"""The page: three tabs over one garage. Builds the app; app.py launches it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import gradio as gr

from . import compare_tab, scrub_tab, train_tab
from .garage import Garage, rendered_road
from .player import plotly_folder

CSS = (Path(__file__).parent / "style.css").read_text()
HELLO = """# Roadtrip
Can a network that sees two frames of a road trip drive on by itself, and why does it start to flip?
After Mat Kelcey's 2019 experiment with 16,000 stills from a month in an RV."""


def theme() -> gr.themes.Base:
    """Fonts that every system has: nothing is fetched from elsewhere."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return gr.themes.Soft(primary_hue="amber", neutral_hue="stone", font=sans, font_mono=["ui-monospace", "monospace"])


def build() -> gr.Blocks:
    gr.set_static_paths([plotly_folder()])
    with gr.Blocks(title="Roadtrip", analytics_enabled=False) as page:
        garage = gr.State(Garage())
        gr.Markdown(HELLO)
        with gr.Tabs():
            with gr.Tab("Compare"):
                left, right, compare_film, compare, compare_place = compare_tab.build(garage)
            with gr.Tab("Train"):
                changed = train_tab.build(garage)
            with gr.Tab("Scrub"):
                model, scrub_film, scrub, place = scrub_tab.build(garage)
        menus = [left, right, model, compare_film, scrub_film]
        arrival = page.load(open_menus, garage, menus, api_visibility="private", show_progress="hidden")
        arrival.then(**compare_place).then(**compare).then(**place).then(**scrub)
        for event in changed:
            event.then(refresh, [garage, *menus], menus, api_visibility="private", show_progress="hidden")
    # the road is rendered while the visitor's browser is still loading the page
    threading.Thread(target=rendered_road, daemon=True).start()
    return page


def open_menus(garage: Garage) -> tuple[Any, ...]:
    """The menus as they open: the pair beside the single frame."""
    names = garage.model_names()

    def menu(wanted: str, otherwise: int) -> Any:
        value = wanted if wanted in names else names[min(otherwise, len(names) - 1)] if names else None
        return gr.update(choices=names, value=value)

    films = gr.update(choices=garage.film_names())
    return menu("v3-pair", 0), menu("v3-single", 1), menu("v2", 0), films, films


def refresh(garage: Garage, left: str, right: str, model: str, *films: str) -> list[Any]:
    """The menus with what is new in the garage; what was chosen stays chosen."""
    names = garage.model_names()
    chosen = [gr.update(choices=names, value=name) for name in (left, right, model)]
    return chosen + [gr.update(choices=garage.film_names(), value=film) for film in films]
