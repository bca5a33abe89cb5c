"""The components of every tab, player, chart, strip, download and note, and the values they show. Independent of models."""

import base64
import io
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from ..export import rate_of
from ..frames import to_bytes

HERE = Path(__file__).parent
COLUMNS = 8
SPEEDS = "".join(f'<option value="{v}"{" selected" * (v == 1)}>{v}×</option>' for v in (0.1, 0.25, 0.5, 1, 2, 4))
FPS = 6  # frames a second at 1×: a flip is three flashes a second then, the most that WCAG allows
PLAYER = f"""<div class="rt-player" data-testid="player" data-frame="0" data-frames="0" tabindex="0" role="group"
 aria-label="Film player: space plays, arrows step, Home and End jump, 1 2 3 show one view alone">
<p class="rt-headline" aria-live="polite"></p><p class="rt-busy" role="status" hidden></p><div class="rt-views"></div>
<p class="rt-warning" role="alert" hidden></p>
<div class="rt-bar"><button type="button" aria-label="One frame back">◀</button>
<button type="button" aria-label="Play">▶</button><button type="button" aria-label="One frame on">▶▏</button>
<input type="range" min="0" max="0" value="0" step="1" data-testid="player-slider" aria-label="Frame">
<span class="rt-label"></span><select aria-label="Speed">{SPEEDS}</select>
<select aria-label="At the end"><option>loop</option><option>ping-pong</option><option>once</option></select>
<select aria-label="View"><option value="frames">side by side</option></select>
<button type="button" aria-label="Save this frame" title="Save this frame as a labelled picture">⤓</button></div></div>"""


def _html(elem_id: str, skeleton: str, script: str, value: Any = None) -> gr.HTML:
    js = (HERE / script).read_text()
    return gr.HTML(value, html_template=skeleton, js_on_load=js, apply_default_css=False, elem_id=elem_id)


def player(elem_id: str) -> gr.HTML:
    """An empty player; its value is a `player_value`."""
    return _html(elem_id, PLAYER, "player.js")


def chart(elem_id: str, value: dict[str, Any] | None = None) -> gr.HTML:
    """A chart; its value is a `chart_value`. Its click event carries the customdata `picked`, where points have some."""
    return _html(elem_id, '<div class="rt-chart"></div>', "chart.js", value)


def strip(elem_id: str, about: str) -> gr.HTML:
    """Small pictures in a row, each a button; its value is a `strip_value`. Its click event carries what was `picked`."""
    return _html(elem_id, f'<div class="rt-strip" role="group" aria-label="{about}"></div>', "strip.js")


def live_player(elem_id: str) -> gr.HTML:
    """A screen for frames as they come; its value is a `live_value`."""
    skeleton = '<div class="rt-live" data-testid="live" data-frame="0"><canvas></canvas><p aria-live="off"></p></div>'
    return _html(elem_id, skeleton, "live.js")


def live_value(frames: Tensor, key: str, first: int, fps: float, said: str) -> dict[str, Any]:
    """The next frames [T, 3, H, W] of a drive: `key` tells drives apart, `first` is how many came before, `said` stands
    below the picture."""
    about = {"width": frames.shape[-1], "height": frames.shape[-2], "frames": len(frames), "columns": COLUMNS}
    return about | {"sprite": _sprite(frames, False), "key": key, "first": first, "fps": fps, "said": said}


def carried(event: gr.EventData, name: str) -> Any:
    """What a click event carries under a name, from the browser, so it may be anything; None where there is nothing."""
    return event._data.get(name) if isinstance(event._data, dict) else None


class Item(NamedTuple):
    """A button of a strip. picked: what a click on it sets, by the names in the address; it is marked while that is set."""

    picked: dict[str, Any]
    title: str
    label: str = ""


def strip_value(frames: Tensor, items: list[Item], player_id: str, span: int = 1) -> dict[str, Any]:
    """Frames [len(items) · span, 3, H, W], `span` of them on each button, beside each other. player_id: the player that a
    click changes, which dims at once."""
    about = {"columns": COLUMNS, "width": frames.shape[-1], "height": frames.shape[-2], "span": span}
    return about | {
        "sprite": _sprite(frames, lossless=False),
        "items": [i._asdict() for i in items],
        "player": player_id,
    }


def download(
    button: gr.Button, elem_id: str, file: Callable[..., str], inputs: list[Any], api_name: str, **how: Any
) -> None:
    """Has a button make a file and then save it: gradio's own would want a second click for that."""
    ready = gr.DownloadButton(elem_id=elem_id, visible="hidden")
    click = f"() => {{ setTimeout(() => document.getElementById('{elem_id}').click(), 150); }}"
    button.click(file, inputs, ready, api_name=api_name, **how).success(None, js=click, api_visibility="private")


def clip_buttons(*rates: float) -> tuple[gr.Dropdown, gr.Button]:
    """(the kind of file, the button that saves what is shown as one). rates: frames a second that it may have, FPS where
    none is given; those of a gif are told, which has others."""
    how: dict[str, Any] = {"show_label": False, "container": False, "filterable": False, "min_width": 140}
    gif = " or ".join(f"{rate_of('x.gif', rate):.3g}" for rate in rates or [FPS])
    kind = gr.Dropdown(["mp4", (f"gif, {gif} fps", "gif"), "webp"], value="mp4", label="Kind of clip", scale=0, **how)
    return kind, gr.Button("Save clip", min_width=100, elem_classes="rt-save")


def lossless_box() -> gr.Checkbox:
    """Whether a player's pictures are lossless, see `player_value`."""
    return gr.Checkbox(False, label="Lossless (PNG); JPEG can hide or mimic artefacts", min_width=200)


def copy_link() -> gr.Button:
    """A button that copies the address, which leads back to what is on the screen."""
    button = gr.Button("Copy link", min_width=110, elem_classes="rt-copy")
    button.click(None, js="() => window.rtCopy()", api_visibility="private")
    return button


def note(text: str, *classes: str) -> None:
    """Small print, which says what is seen."""
    gr.Markdown(text, elem_classes=["rt-note", *classes])


def noted_charts(charts: list[tuple[str, str]]) -> list[gr.HTML]:
    """Charts side by side, by (elem_id, what is seen in it)."""
    drawn = []
    with gr.Row():
        for elem_id, seen in charts:
            with gr.Column(min_width=320):
                drawn.append(chart(elem_id))
                note(f"What you see: {seen}")
    return drawn


def plotly_folder() -> Path:
    """Where the plotly package keeps its plotly.min.js, found without importing it."""
    spec = find_spec("plotly")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "package_data"


def chart_value(figure: dict[str, Any], player_id: str | None = None, first: int = 1) -> dict[str, Any]:
    """A plotly figure as plain JSON, and where its library is served from. player_id: the player whose playhead is
    drawn into it; its frame 0 lies at x = first."""
    follow = {"player": player_id, "first": first} if player_id else None
    return {"src": f"gradio_api/file={plotly_folder() / 'plotly.min.js'}", "figure": figure, "follow": follow}


def player_value(
    views: Mapping[str, Tensor],
    key: str,
    lossless: bool = False,
    autoplay: bool = False,
    headline: str = "",
    said: Mapping[str, str] | None = None,
    begin: int = 0,
    asked: dict[str, Any] | None = None,
    start: int | None = None,
    real: bool = False,
) -> dict[str, Any]:
    """Frames g3 g4 … for the player, as one sprite sheet a view.

    Args:
        views: label → frames [T, 3, H, W] in [0, 1] or uint8; a shorter view is shown again from its first frame.
        key: the same for two values if the playhead should stay where it is.
        lossless: PNG instead of JPEG, which may hide or mimic what a network drew.
        headline, said: plain text above all views, and below each.
        begin: the frame that the film opens at and returns to.
        asked: what of the address this is the answer to; the player passes over an answer that came too late.
        start: what else of the address was found with it.
        real: these are f1 f2 …, none of them generated.
    """
    frames = max(len(v) for v in views.values())
    return {
        "views": [
            {
                "label": n,
                "said": (said or {}).get(n, ""),
                "frames": len(v),
                "width": v.shape[-1],
                "height": v.shape[-2],
                "sprite": _sprite(v, lossless),
            }
            for n, v in views.items()
            if len(v)
        ],
        "frames": frames,
        "columns": COLUMNS,
        "fps": FPS,
        "labels": [f"f{i + 1}" if real else f"g{i + 3}" for i in range(frames)],
        "key": key,
        "autoplay": autoplay,
        "headline": headline,
        "begin": begin if begin < frames else 0,
        "asked": asked,
        "start": start,
    }


def _sprite(frames: Tensor, lossless: bool) -> str:
    from PIL import Image
    from torchvision.utils import make_grid

    grid = make_grid(to_bytes(frames).movedim(-1, 1), nrow=COLUMNS, padding=0)  # [3, rows * H, columns * W]
    # at this quality, for the first visit loads three of 64 frames
    how = {"compress_level": 1} if lossless else {"quality": 85, "subsampling": 0}
    file, kind = io.BytesIO(), "png" if lossless else "jpeg"
    Image.fromarray(grid.movedim(0, -1).contiguous().numpy()).save(file, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
