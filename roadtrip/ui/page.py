"""The page: its tabs, one session a visitor, and what stands in the address. Builds the app and launches it.

To add a tab, write its file and one line in TABS.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from . import budget, compare_tab, drive_tab, scrub_tab, study_tab, train_tab
from .guard import MIDDLEWARE, Page
from .player import plotly_folder
from .session import Session, restore_session
from .tab import QUIET, Field, Tab, escape_markdown
from .views import warm

TABS: dict[str, Callable[[gr.State], Tab]] = {  # the first is the one that opens
    "Compare": compare_tab.build,
    "Train": train_tab.build,
    "Scrub": scrub_tab.build,
    "Drive": drive_tab.build,
    "Study": study_tab.build,
}
CSS = (Path(__file__).parent / "style.css").read_text()
HEAD = f"<script>{(Path(__file__).parent / 'share.js').read_text()}</script>"
POST = "https://matpalm.com/blog/"
HELLO = f"""<header class="rt-hello"><h1>Roadtrip</h1><p>Can a network that sees two frames of a road trip drive on by
itself, and why does it start to flip? <span class="rt-wide">Watch it, measure it, train it on film of your
own.</span> After <a href="{POST}" target="_blank" rel="noopener">Mat Kelcey's post</a>.</p><details><summary>More</summary>
<p>A month in an RV through California, Utah, Nevada and
Colorado left him with 16,000 time-lapse stills. In 2019 he trained a small network to predict the third
frame from two, fed it its own predictions, and watched it drive. It blurred (v1, v2); then, with a
discriminator that sees pairs of frames (v3), it alternated between two pictures, and with one that sees
single frames it did not. He never found out why. <b>Compare</b> puts two networks beside the real road;
<b>Train</b> runs any of them live, on a rendered road or your own film; <b>Scrub</b> shows how long a
rollout stays realistic; <b>Drive</b> goes on for as long as you watch; <b>Study</b> has every seed of
every variant that was trained. Two real frames go in, everything after is the network's
own.</p></details>
</header>"""


def theme() -> gr.themes.Base:
    """Fonts that every system has: nothing is fetched from elsewhere. On amber, white is hardly read."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    soft = gr.themes.Soft(primary_hue="amber", neutral_hue="stone", font=sans, font_mono=["ui-monospace", "monospace"])
    dark = "*neutral_900"
    return soft.set(
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_300",
        # a field and a box to tick are seen on white, too
        input_border_width="1px",
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_500",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        button_border_width="1px",
        button_secondary_border_color="*neutral_500",
        button_secondary_border_color_dark="*neutral_500",
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
        gr.HTML(HELLO, apply_default_css=False)
        notice = gr.Markdown(elem_id="rt-notice", elem_classes="rt-wrong")
        tabs: dict[str, Tab] = {}
        with gr.Tabs():
            for title, build_tab in TABS.items():
                with gr.Tab(title, id=title.lower(), elem_id=f"rt-tab-{title.lower()}") as opened:
                    tabs[title.lower()] = build_tab(session)
                opened.select(None, js=f"() => {{ window.rtTab('{title.lower()}') }}", **QUIET)
                if event := tabs[title.lower()].opened:
                    opened.select(**event)
        address = [(name, field) for name, tab in tabs.items() for field in tab.address]
        menus = [field for _, field in address if field.choices]

        def arrive(session: Session, key: str | None, request: gr.Request) -> list[Any]:
            """The visitor's own session, what can't be as the link asks, and menus and fields as it does."""
            session, key = restore_session(session, key, request.session_hash if request else None)
            asked = dict(request.query_params) if request else {}
            opens_on = asked.get("tab", next(iter(tabs)))
            wrong: list[str] = [] if opens_on in tabs else [f"there is no tab {short(opens_on)}"]
            fields = [from_link(f, session, asked if name == opens_on else {}, wrong) for name, f in address]
            said = f"**Not all of this link can be shown:** {'; '.join(wrong)}." if wrong else ""
            return [session, key, said, *fields]

        def refresh(session: Session, *chosen: str) -> list[Any]:
            return [refreshed(field, session, value) for field, value in zip(menus, chosen)]

        # first what takes no time, so that nothing is put back that a visitor has chosen while the road was rendered
        outputs = [session, key, notice, *(f.component for _, f in address)]
        last = arrival = page.load(arrive, [session, key], outputs, **QUIET)
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
    threading.Thread(target=warm_up, args=[page, [*tabs.values()]], daemon=True).start()
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


def from_link(field: Field, session: Session, asked: dict[str, str], wrong: list[str]) -> Any:
    """The update of a field on arrival. What the link does not ask for stays as the page has it; what it asks for and can't
    be is named in `wrong`, and a menu without it is left empty, so that nothing else is shown in its place."""
    text = asked.get(field.name)
    if field.choices:
        choices = field.choices(session)
        if text is None or text in (value for _, value in choices):
            return gr.update(choices=choices) if text is None else gr.update(choices=choices, value=text)
        wrong.append(f"{field.name} {short(text)} is not here; if it is yours, it lives in the browser that made it")
        return gr.update(choices=choices, value=None)
    try:
        return gr.skip() if text is None else field.parse(text)
    except ValueError:  # a RoadtripError is one, too
        wrong.append(f"{field.name} can't be {short(text or '')}")
        return gr.skip()


def short(text: str) -> str:
    """What a link says, quoted in a sentence."""
    return f"“{escape_markdown(text[:60])}”"


def refreshed(menu: Field, session: Session, chosen: str) -> Any:
    """The update of a menu with what is new in the session; what was chosen stays chosen, unless it has gone."""
    assert menu.choices
    choices = menu.choices(session)
    values = [value for _, value in choices]
    return gr.update(choices=choices, value=chosen if chosen in values else next(iter(values), None))


def warm_up(page: gr.Blocks, tabs: list[Tab]) -> None:
    """Makes what every first visit shows, the opening first. What fails here is said to the visitor who asks for it."""
    for made in [tab.pinned for tab in tabs if tab.pinned]:
        warm(made)
    page.config = page.get_config_file()  # with the opening, which a page then shows before it has asked for anything
    for made in [tab.warm_up for tab in tabs if tab.warm_up]:
        warm(made)
