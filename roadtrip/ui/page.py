"""The page: its tabs, one session a visitor, and what stands in the address. Builds the app and launches it.

To add a tab, write its file and one line in TABS.
"""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from . import budget, compare_tab, scrub_tab, train_tab
from .guard import MIDDLEWARE, Page
from .player import plotly_folder
from .session import Session, restore_session
from .tab import QUIET, Field, Tab

TABS: dict[str, Callable[[gr.State], Tab]] = {  # the first is the one that opens
    "Compare": compare_tab.build,
    "Train": train_tab.build,
    "Scrub": scrub_tab.build,
}
CSS = (Path(__file__).parent / "style.css").read_text()
HEAD = f"<script>{(Path(__file__).parent / 'share.js').read_text()}</script>"
HELLO = """# Roadtrip
**Can a network that sees two frames of a road trip drive on by itself, and why does it start to flip?**

A month in an RV through California, Utah, Nevada and Colorado left Mat Kelcey with 16,000 time-lapse stills. In 2019 he
trained a small network to predict the third frame from two, fed it its own predictions, and watched it drive. It blurred;
then, with a discriminator, it flipped between two pictures. He never found out why. Here you can watch it, measure it, and
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
    kept = budget.UPLOADS_KEPT
    with Page(title="Roadtrip", analytics_enabled=False, delete_cache=(kept // 2, kept)) as page:
        session = gr.State(Session())
        key = gr.BrowserState(None, storage_key="roadtrip")  # of the visitor's session here, so that a reload finds it
        gr.Markdown(HELLO)
        tabs: dict[str, Tab] = {}
        with gr.Tabs():
            for title, build_tab in TABS.items():
                with gr.Tab(title, id=title.lower()) as opened:
                    tabs[title.lower()] = build_tab(session)
                opened.select(None, js=f"() => {{ window.rtTab('{title.lower()}') }}", **QUIET)
        address = [(name, field) for name, tab in tabs.items() for field in tab.address]
        menus = [field for _, field in address if field.choices]

        def arrive(session: Session, key: str | None, request: gr.Request) -> list[Any]:
            """The visitor's own session, and menus and fields as the link asks for them."""
            session, key = restore_session(session, key, request.session_hash if request else None)
            asked = dict(request.query_params) if request else {}
            opens_on = asked.get("tab", next(iter(tabs)))
            return [session, key, *(from_link(f, session, asked if name == opens_on else {}) for name, f in address)]

        def refresh(session: Session, *chosen: str) -> list[Any]:
            return [refreshed(field, session, value) for field, value in zip(menus, chosen)]

        # first what takes no time, so that nothing is put back that a visitor has chosen while the road was rendered
        last = arrival = page.load(arrive, [session, key], [session, key, *(f.component for _, f in address)], **QUIET)
        for tab in tabs.values():
            for event in tab.restore:
                arrival.then(**event)
            for event in tab.first:
                last = last.then(**event)  # one after the other: they share the cores
            for change in tab.changes:
                change.then(refresh, [session, *(f.component for f in menus)], [f.component for f in menus], **QUIET)
        for name, tab in tabs.items():
            values = ", ".join(field.name for field in tab.address)
            js = f"({values}) => {{ window.rtShare('{name}', {{ {values} }}) }}"  # see share.js
            for field in tab.address:
                field.component.change(None, [f.component for f in tab.address], js=js, **QUIET)
    # rendered and rolled out while the first visitor's browser is still loading the page
    threading.Thread(target=warm_up, args=[[*tabs.values()]], daemon=True).start()
    return page


def launch(**how: Any) -> Any:
    """Serves the page; `how` goes to gradio's launch. Returns what that returns."""
    page = build().queue(default_concurrency_limit=4, api_open=False, max_size=budget.MAX_QUEUE)
    # how often the queue looks for work: a thousand times a second, its default, costs a training a tenth of its steps
    page._queue.sleep_when_free = 0.02
    return page.launch(
        theme=theme(),
        css=CSS,
        head=HEAD,
        max_file_size=budget.MAX_UPLOAD,
        max_threads=budget.THREADS,
        state_session_capacity=budget.MAX_STATES,
        app_kwargs={"middleware": MIDDLEWARE},
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        **how,
    )


def from_link(field: Field, session: Session, asked: dict[str, str]) -> Any:
    """The update of a field on arrival. What the link does not ask for, or can't be, stays as the page has it."""
    text = asked.get(field.name)
    if field.choices:
        choices = field.choices(session)
        return gr.update(choices=choices, value=text) if text in choices else gr.update(choices=choices)
    with contextlib.suppress(ValueError):  # a RoadtripError is one, too
        if text is not None:
            return field.parse(text)
    return gr.skip()


def refreshed(menu: Field, session: Session, chosen: str) -> Any:
    """The update of a menu with what is new in the session; what was chosen stays chosen, unless it has gone."""
    assert menu.choices
    choices = menu.choices(session)
    return gr.update(choices=choices, value=chosen if chosen in choices else next(iter(choices), None))


def warm_up(tabs: list[Tab]) -> None:
    """Makes what every first visit shows. What fails here is said to the visitor who asks for it."""
    for event in [event for tab in tabs for event in tab.first]:
        with contextlib.suppress(gr.Error):
            event["fn"](Session(), *(component.value for component in event["inputs"][1:]))
    for tab in tabs:
        if tab.warm_up:
            with contextlib.suppress(gr.Error):
                tab.warm_up()
