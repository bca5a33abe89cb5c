"""Scrub: how far a rollout holds. One server call, then everything in the browser.

Puts what measure.py found into words; computes no number itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from .. import measure
from ..checkpoint import load
from ..errors import RoadtripError
from ..export import write
from ..film import Film, evenly_spaced
from ..frames import as_float
from ..rollout import rollout
from .charts import NAMES, error_curves
from .compute import on_compute_thread
from .library import ROAD, ROADS, shipped_names
from .messages import escape_markdown, number, user_errors
from .player import chart, chart_value, download, player, player_value, strip, strip_value
from .session import Session, cached_view
from .starts import film_for, nearest_start, offered_starts, provenance_note, real_frames, recipe_of, start_range

LONGEST = 256
PLAYER = "rt-scrub-player"
ON_STRIP = 12  # starts to pick from
FORMATS = {"mp4": ".mp4", "gif": ".gif", "webp": ".webp", "png strip": ".png"}


def update_view(
    session: Session, model_name: str, film_name: str, start: float, horizon: float, lossless: bool
) -> tuple[Any, Any, str]:
    """The player's payload, the error curves, and what they say."""
    with user_errors():
        return cached_view(_update_view, session, model_name, film_name, start, horizon, lossless)


def _update_view(
    session: Session, model_name: str, film_name: str, start: float, horizon: float, lossless: bool
) -> tuple[Any, Any, str]:
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    first, horizon = nearest_start(offered_starts(film, [model]), start), _within(horizon)
    f1, f2 = (as_float(film.frames[t])[None] for t in (first, first + film.gap))
    y = rollout(model, f1, f2, horizon).cpu()
    real = as_float(real_frames(film, first, horizon))
    views = {"real": real, "generated": y[0], "difference": (y[0, : len(real)] - real).abs()}
    labels = [f"g{t + 3}" for t in range(horizon)]
    shown = player_value(views, labels, key=f"{film_name} {first} {horizon}", lossless=lossless)
    about = _how_it_moves(y[0], film) + provenance_note(model_name, film, model, first)
    deepest = model.provenance.recipe.deepest if model.provenance else 0
    if not len(real):
        nothing = error_curves({"model": []}, deepest, model_name, recipe_of(model))
        return (
            shown,
            chart_value(nothing),
            f"Real film ends here: there is nothing to compare the rollout with. {about}",
        )
    generated = {"model": y} | measure.baselines(f1, f2, horizon, model.mean_frame)
    psnr = {m: measure.psnr(v[0, : len(real)], real).tolist() for m, v in generated.items()}
    return (
        shown,
        chart_value(error_curves(psnr, deepest, model_name, recipe_of(model)), PLAYER),
        f"{who_wins(psnr)}\n\n{about}",
    )


def _within(horizon: float) -> int:
    return max(1, min(LONGEST, round(number(horizon, "the horizon"))))


def who_wins(psnr: dict[str, list[float]]) -> str:
    """The model beside copying the last frame, and beside the best of all baselines, in words."""
    model, copy_last = psnr["model"], psnr["copy_last"]
    lost = [h for h, (m, c) in enumerate(zip(model, copy_last)) if m <= c]
    n = len(model)
    if not lost:
        said = f"The model is closer to the real road than repeating the last frame in {_all(n)}"
    elif len(lost) == n:
        said = f"**The model loses to repeating the last frame** in {_all(n)}"
    elif lost[0] == 0:
        said = f"**The model loses to repeating the last frame** at once, and in {len(lost)} of {n} frames"
    else:
        said = (
            f"The model is closer to the real road than repeating the last frame up to g{lost[0] + 2}; "
            f"**it loses to that** in {len(lost)} of {n} frames, first in g{lost[0] + 3}"
        )
    best, which = max((psnr[m][0], m) for m in measure.METHODS[1:])
    every = list(zip(*(psnr[m] for m in measure.METHODS[1:])))
    passed = next((h for h, values in enumerate(every) if max(values) >= model[h]), 0)
    if passed:
        first = max(zip(every[passed], measure.METHODS[1:]))[1]
        said += f". The first of all baselines to pass it is “{NAMES[first]}”, in g{passed + 3}"
    return f"{said}. At g3 it has {model[0]:.1f} dB, the best baseline ({NAMES[which]}) {best:.1f} dB."


def _all(n: int) -> str:
    return "the one frame there is real film for" if n == 1 else f"all {n} frames there is real film for"


def _how_it_moves(y: Any, film: Film) -> str:
    if len(y) < measure.MIN_WINDOW:
        return f"A rollout of {measure.MIN_WINDOW} frames or more would be measured for oscillation, too."
    window = max(measure.MIN_WINDOW, len(y) // 2) // 2 * 2
    try:
        o = measure.oscillation(y[-window:], measure.film_windows(film, window))
    except RoadtripError as error:
        return escape_markdown(str(error))
    R = "undefined" if o.return_ratio is None else f"{o.return_ratio:.2f}"
    return (
        f"Its last {window} frames: **{o.verdict}**. R {R} (D(2)/D(1): near 0 in a two-cycle), N {o.nyquist_excess:.2f} "
        f"(alternation: 1 in noise, {window // 2} at most), S {o.step_ratio:.2f} (step beside a real one)."
    )


def strip_of(session: Session, model_name: str, film_name: str) -> Any:
    """Pictures of the starts that there are for this model and film."""
    with user_errors():
        return on_compute_thread(_strip_of, session, model_name, film_name)


def _strip_of(session: Session, model_name: str, film_name: str) -> Any:
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    starts = evenly_spaced(offered_starts(film, [model]), ON_STRIP)
    return strip_value(film.frames[starts], starts.tolist())


def picked(event: gr.EventData) -> Any:
    start = event._data.get("start") if isinstance(event._data, dict) else None
    return start if isinstance(start, int) else gr.skip()


def take_checkpoint(session: Session, file: str | None) -> Any:
    """A visitor's own weights, into the session; checked before a network is built from them."""
    with user_errors():
        if not file:
            raise RoadtripError("Choose a model.safetensors first; the download in Train holds one.")
        model = on_compute_thread(load, file)
        facts = model.provenance
        about = f"{facts.recipe.name}, seed {facts.seed}, {facts.step} steps" if facts else "a model"
        name = f"{about} (uploaded)"
        session.add_model(name, model)
        return gr.update(choices=session.model_names(), value=name)


def export(session: Session, model_name: str, film_name: str, start: float, horizon: float, kind: str) -> str:
    with user_errors():
        if kind not in FORMATS:
            raise RoadtripError(f"Choose one of {', '.join(FORMATS)}.")
        return str(on_compute_thread(_export, session, model_name, film_name, start, horizon, kind))


def _export(session: Session, model_name: str, film_name: str, start: float, horizon: float, kind: str) -> Path:
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    first = nearest_start(offered_starts(film, [model]), start)
    y = rollout(model, film.frames[first], film.frames[first + film.gap], _within(horizon))[0]
    return write(session.download_dir() / f"rollout{FORMATS[kind]}", y)


class Tab(NamedTuple):
    model: gr.Dropdown
    film: gr.Dropdown
    start: gr.Slider
    horizon: gr.Slider
    draw: dict[str, Any]  # the event that draws it
    draw_strip: dict[str, Any]
    taken: Any  # the event after which there is a new model


def build(session: gr.State, opening: str | None) -> Tab:
    """opening: the model that it opens with."""
    gr.Markdown(
        "## How far does it hold?\n"
        "Two real frames go in, then the network is alone with its own output. Scrub to see how far it holds, beside "
        "what really came and beside what needs no network at all."
    )
    with gr.Row():
        model = gr.Dropdown(
            shipped_names(), value=opening, label="Model", info="Shipped, or trained by you.", min_width=230
        )
        film = gr.Dropdown(list(ROADS), value=ROAD, label="Film", info="Add your own in Train.", min_width=230)
        start = gr.Slider(
            0, 10**6, 0, step=1, label="Start frame", info="f1, on film the model has not seen.", min_width=230
        )
        horizon = gr.Slider(1, LONGEST, 64, step=1, label="Horizon", info="Frames to generate.", min_width=230)
    starts = strip("rt-starts")
    gr.Markdown(
        "What you see: where on the held-out film a rollout can start; a click picks f1.", elem_classes="rt-note"
    )
    with gr.Accordion("A checkpoint of your own", open=False):
        file = gr.File(label="model.safetensors", file_types=[".safetensors"], height=110)
        use = gr.Button("Use this model")
    inputs = [session, model, film, start, horizon]
    how: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2, "show_progress": "hidden"}
    private: dict[str, Any] = how | {"api_visibility": "private"}
    with gr.Row(equal_height=True):
        go = gr.Button("Drive on", variant="primary", elem_id="rt-drive")
        lossless = gr.Checkbox(False, label="Exact pixels", info="Lossless, to look for artefacts.")
        kind = gr.Dropdown(list(FORMATS), label="Save as", info="Pixels are repeated, never smoothed.", min_width=120)
        download("Save the rollout", "rt-export", export, [*inputs, kind], "export", **how)
    words = gr.Markdown(elem_id="rt-words", elem_classes="rt-words")
    show = player(PLAYER)
    gr.Markdown(
        "What you see: the real road, the rollout from the same two frames, and the absolute difference; arrow keys "
        "step, space plays. Where real film ends, only the rollout goes on.",
        elem_classes="rt-note",
    )
    errors = chart("rt-errors")
    gr.Markdown(
        "What you see: PSNR of each generated frame against the real one, higher is closer. Broken lines need no "
        "network: copying the last frame, linear extrapolation, the mean training frame. The upright line is how "
        "deep into its own rollouts the network was trained.",
        elem_classes="rt-note",
    )
    inputs, outputs = [*inputs, lossless], [show, errors, words]
    go.click(update_view, inputs, outputs, api_name="scrub", **how)
    draw: dict[str, Any] = {"fn": update_view, "inputs": inputs, "outputs": outputs} | private
    for listen in (lossless.input, start.release, horizon.release):
        listen(**draw)
    draw_strip: dict[str, Any] = {"fn": strip_of, "inputs": [session, model, film], "outputs": starts} | private
    taken = use.click(take_checkpoint, [session, file], model, api_name="checkpoint_upload")
    for chosen in (model.input, film.input, taken.success):
        chosen(start_range, [session, model, film], start, **private).then(**draw).then(**draw_strip)
    starts.click(picked, None, start, **private).then(**draw)
    return Tab(model, film, start, horizon, draw, draw_strip, taken)
