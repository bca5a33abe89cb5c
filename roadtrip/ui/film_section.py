"""The film a visitor trains on: the rendered road or their own, its gap, and pictures of both before training."""

import base64
import io
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..evaluation import HELD_OUT
from ..film import evenly_spaced
from ..frames import sheet
from .compute import computed
from .library import ROAD, ROADS, open_upload
from .session import Session
from .tab import QUIET, Event, escape_markdown, user_errors

COLUMNS, ON_SHEET = 8, 16  # of the contact sheet


@user_errors()
@computed
def update_view(session: Session, name: str, gap: str) -> tuple[str, str]:
    """(what the film is, pictures of it and of its gap). What is wrong with a gap is said there, while it is typed."""
    session.film(name)  # first: that it has gone is no fault of the gap
    try:
        film = session.film(name, gap)
    except RoadtripError as error:
        return escape_markdown(str(error)), ""
    about, starts = escape_markdown(film.describe().sentence()), film.starts(3, "train", HELD_OUT)
    if not len(starts):
        return f"{about} No three frames in a row are that far apart.", ""
    three = film.clips(starts[len(starts) // 2].view(1), 3)[0]
    all_of_it = film.frames[evenly_spaced(film.starts(1, "all"), ON_SHEET)]
    pictures = _picture(three, 3, "f1 f2 f3, three frames one gap apart: from the first two, the third is predicted")
    return about, pictures + _picture(all_of_it, COLUMNS, "the whole film, from beginning to end")


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
) -> tuple[Any, str, str]:
    with user_errors():
        film = open_upload(files or [], gap, lambda done, total, note: progress((done, total), desc=note))
        session.add_film(film)
        return gr.update(choices=session.film_names(), value=film.name), *update_view(session, film.name, gap)


def build(session: gr.State) -> tuple[gr.Dropdown, gr.Textbox, Event, Any]:
    """(film, gap, the event that draws them, the event after which there is a new film)."""
    film = gr.Dropdown(list(ROADS), value=ROAD, label="Film", info="A road rendered on the spot, or your own.")
    with gr.Accordion("Your own film", open=False):
        files = gr.File(
            label="Stills, clips, or a zip of them",
            file_count="multiple",  # of any type: a browser does not know .insv, .lrv or .mts
            height=180,  # hundreds of stills scroll in here, and Start stays in sight
        )
        use = gr.Button("Use this film")
    gap = gr.Textbox(
        label="Gap",
        placeholder="suggested",
        info="Frame spacing from f1 to f2 to f3: frames, as 8, or seconds of video, as 0.5s. Blank: automatic.",
        elem_id="rt-gap",
    )
    about = gr.Markdown(elem_classes="rt-note", elem_id="rt-about")
    pictures = gr.HTML(apply_default_css=False, elem_id="rt-film")
    draw: Event = QUIET | {"fn": update_view, "inputs": [session, film, gap], "outputs": [about, pictures]}
    film.input(lambda: "", None, gap, **QUIET).then(**draw)
    gap.input(**draw, trigger_mode="always_last")
    uploaded = use.click(upload, [session, files, gap], [film, about, pictures], api_name="upload")
    return film, gap, draw, uploaded
