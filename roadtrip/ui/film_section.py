"""The film a visitor trains on: the rendered road or their own, its gap, and pictures of both before training."""

import base64
import io
import math
from dataclasses import replace
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..evaluation import HELD_OUT, HORIZONS
from ..film import Film, evenly_spaced
from ..frames import sheet
from .compute import computed
from .library import ROAD, open_upload
from .player import player_value
from .session import Session
from .tab import QUIET, Event, busy, escape_markdown, user_errors

PLAYER = "rt-train-player"
COLUMNS, ON_SHEET = 8, 16  # of the contact sheet
MAX_SHOWN = 32  # frames of the film itself


@user_errors()
@computed
def update_view(session: Session, name: str, gap: str) -> tuple[str, str, Any]:
    """(what the film is and what it allows, pictures of it and of its gap, its own frames for the player). What is wrong
    with a gap is said there, while it is typed."""
    session.film(name)  # first: that it has gone is no fault of the gap
    try:
        film = session.film(name, gap)
    except RoadtripError as error:
        return escape_markdown(str(error)), "", gr.skip()
    about, starts = escape_markdown(replace(film, name=name).describe().sentence()), film.starts(3, "train", HELD_OUT)
    held_out = film.starts(1, "held_out", HELD_OUT)
    frames = film.frames[held_out[:: film.gap][:MAX_SHOWN]]
    headline = f"{name}: real frames from the stretch that training never sees."
    shown = player_value({"real film": frames}, f"film {name} {film.gap}", headline=headline, autoplay=True, real=True)
    if not len(starts):
        return f"{about} No three frames in a row are that far apart.", "", shown
    three = film.clips(starts[len(starts) // 2].view(1), 3)[0]
    all_of_it = film.frames[evenly_spaced(film.starts(1, "all"), ON_SHEET)]
    pictures = _picture(three, 3, f"f1 f2 f3, {film.gap} frames apart: from the first two, the third is predicted")
    allowed = f"{about} {escape_markdown(what_it_allows(film))}"
    return allowed, pictures + _picture(all_of_it, COLUMNS, "the whole film in its order, row by row"), shown


def what_it_allows(film: Film) -> str:
    """How many stills are trained on and how far errors reach, and how many it would take for all of HORIZONS."""
    held_out = len(film.starts(1, "held_out", HELD_OUT))
    reached = [str(h) for h in HORIZONS if len(film.starts(2 + h, "held_out", HELD_OUT))]
    said = f"{len(film.frames):,} stills: {len(film.frames) - held_out:,} to train, {held_out:,} held out; "
    said += (
        f"errors {', '.join(reached[:-1]) + ' and ' * bool(reached[1:]) + reached[-1]} ahead"
        if reached
        else "too few for errors on held-out film"
    )
    if len(reached) == len(HORIZONS):
        return f"{said}."
    farthest = max(HORIZONS)
    needed = math.ceil(film.span(2 + farthest) / HELD_OUT)
    return f"{said}; give {needed:,} for {farthest}."


def _picture(frames: Any, columns: int, said: str) -> str:
    file = io.BytesIO()
    sheet(frames, columns).save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="rt-sheet"><img alt="{said}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def upload(
    session: Session,
    files: list[str] | None,
    gap: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008 (so gradio hands it over)
) -> tuple[Any, str, str, Any]:
    with user_errors():
        session.uploads.update(files or [])
        film = open_upload(files or [], gap, lambda done, total, note: progress((done, total), desc=note))
        session.add_film(film)
        return gr.update(choices=session.film_choices(), value=film.name), *update_view(session, film.name, gap)


def menu() -> gr.Dropdown:
    return gr.Dropdown(
        Session().film_choices(),
        value=ROAD,
        label="Film",
        info="Your own: drop it below.",
        filterable=False,
        min_width=180,
    )


def build(session: gr.State, film: gr.Dropdown, show: gr.HTML) -> tuple[gr.Textbox, Event, Any]:
    """(gap, the event that draws the film, the event after which there is a new film). show: the player of its tab."""
    with gr.Row(elem_classes="rt-drop"):
        files = gr.File(
            label="Your own film: drop stills, clips or zips, together",
            file_count="multiple",  # of any type: a browser does not know .insv, .lrv or .mts
            height=130,  # hundreds of stills scroll in here, and Start stays in sight
            elem_id="rt-files",
            min_width=260,
        )
        with gr.Column(min_width=260):
            gap = gr.Textbox(
                label="Frame spacing (frames, or 0.5s); blank = automatic",
                placeholder="automatic",
                elem_id="rt-gap",
            )
            about = gr.Markdown(elem_classes="rt-note", elem_id="rt-about")
    pictures = gr.HTML(apply_default_css=False, elem_id="rt-film")
    draw: Event = QUIET | {"fn": update_view, "inputs": [session, film, gap], "outputs": [about, pictures, show]}
    film.input(lambda: "", None, gap, **QUIET).then(**draw)
    gap.input(**draw)
    busy(PLAYER, film.input, files.upload)
    uploaded = files.upload(
        upload, [session, files, gap], [film, about, pictures, show], api_name="upload", show_progress_on=[about]
    )
    uploaded.failure(None, js=f"() => window.rtBusy('{PLAYER}', '')", **QUIET)
    return gap, draw, uploaded
