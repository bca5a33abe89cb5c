"""The film a visitor trains on: the rendered road or their own, its gap, and a look at both before anything is trained."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import gradio as gr

from ..errors import RoadtripError
from ..film import evenly_spaced
from ..frames import sheet
from .compute import on_compute_thread
from .library import ROAD, ROADS, open_upload
from .messages import escape_markdown, user_errors
from .session import Session

COLUMNS, ON_SHEET = 8, 16  # of the contact sheet


def update_view(session: Session, name: str, gap: str) -> tuple[str, str]:
    """(what the film is, pictures of it and of its gap). A gap that is none is said there, where it is being written."""
    with user_errors():
        return on_compute_thread(_update_view, session, name, gap)


def _update_view(session: Session, name: str, gap: str) -> tuple[str, str]:
    session.film(name)  # that it has gone is no fault of the gap
    try:
        film = session.film(name, gap)
    except RoadtripError as error:
        return escape_markdown(str(error)), ""
    starts = film.starts(3, "train", 0.2)
    if not len(starts):
        return f"{escape_markdown(film.describe().sentence())} No three frames in a row are that far apart.", ""
    three = film.clips(starts[len(starts) // 2].view(1), 3)[0]
    all_of_it = film.frames[evenly_spaced(film.starts(1, "all"), ON_SHEET)]
    return escape_markdown(film.describe().sentence()), "".join(
        [
            _picture(three, 3, "f1 f2 f3, three frames one gap apart: from the first two, the third is to be guessed"),
            _picture(all_of_it, COLUMNS, "the whole film, from beginning to end"),
        ]
    )


def _picture(frames: Any, columns: int, said: str) -> str:
    file = io.BytesIO()
    sheet(frames, columns).save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="rt-sheet"><img alt="{said}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def upload(session: Session, files: list[str] | None, gap: str, progress: gr.Progress) -> tuple[Any, str, str]:
    with user_errors():
        film = open_upload(files or [], gap, lambda done, total, note: progress((done, total), desc=note))
        session.add_film(film)
        return gr.update(choices=session.film_names(), value=film.name), *update_view(session, film.name, gap)


class Part(NamedTuple):
    film: gr.Dropdown
    gap: gr.Textbox
    draw: dict[str, Any]  # the event that draws it
    taken: Any  # the event after which there is a new film


def build(session: gr.State) -> Part:
    film = gr.Dropdown(list(ROADS), value=ROAD, label="Film", info="A road rendered on the spot, or your own.")
    with gr.Accordion("Your own film", open=False):
        files = gr.File(
            label="Stills, a zip of stills, or a video",
            file_count="multiple",
            file_types=["image", "video", ".zip"],
            height=180,  # hundreds of stills scroll in here, and Start stays in sight
        )
        use = gr.Button("Use this film")
    gap = gr.Textbox(
        label="Gap",
        placeholder="suggested",
        info='Frames from f1 to f2 to f3, as 8, or seconds of video, as "0.5s". Empty: what suits the film.',
        elem_id="rt-gap",
    )
    about = gr.Markdown(elem_classes="rt-note", elem_id="rt-about")
    pictures = gr.HTML(apply_default_css=False, elem_id="rt-film")
    draw: dict[str, Any] = {"fn": update_view, "inputs": [session, film, gap], "outputs": [about, pictures]}
    draw |= {"api_visibility": "private", "show_progress": "hidden"}
    film.input(lambda: "", None, gap, api_visibility="private", show_progress="hidden").then(**draw)
    gap.input(**draw, trigger_mode="always_last")
    taken = use.click(_upload_with_progress, [session, files, gap], [film, about, pictures], api_name="upload")
    return Part(film, gap, draw, taken)


def _upload_with_progress(
    session: Session,
    files: list[str] | None,
    gap: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[Any, str, str]:
    return upload(session, files, gap, progress)
