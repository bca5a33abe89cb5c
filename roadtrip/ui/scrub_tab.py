"""Scrub: how far a rollout holds. One server call, then everything in the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from .. import measure
from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..pictures import write
from ..teacher_forcing import as_float, rollout
from .charts import error_curves
from .garage import ROAD, Garage, held_out_starts, nearest, real_after, shipped_names, told, with_gap_of
from .player import chart, drawn, payload, player

LONGEST = 256


def look(
    garage: Garage, model_name: str, film_name: str, start: float, horizon: float, lossless: bool
) -> tuple[Any, Any, str]:
    """The player's payload, the error curves, and what they say."""
    with told():
        model = garage.model(model_name)
        film = with_gap_of(garage.film(film_name), model)
        first, horizon = nearest(held_out_starts(film, model), start), _within(horizon)
        f1, f2 = (as_float(film.frames[t])[None] for t in (first, first + film.gap))
        y = rollout(model, f1, f2, horizon).cpu()
        real = as_float(real_after(film, first, horizon))
        views = {"real": real, "generated": y[0], "difference": (y[0, : len(real)] - real).abs()}
        labels = [f"g{t + 3}" for t in range(horizon)]
        shown = payload(views, labels, key=f"{film_name} {first} {horizon}", lossless=lossless)
        if not len(real):
            return shown, gr.skip(), "Real film ends here: there is nothing to compare the rollout with."
        generated = {"model": y} | measure.baselines(f1, f2, horizon, model.mean_frame)
        psnr = {m: measure.psnr(v[0, : len(real)], real).tolist() for m, v in generated.items()}
        unroll = model.provenance.get("recipe", {}).get("unroll", 1)
        text = [_who_wins(psnr), _how_it_moves(y[0], film)]
        if film.fingerprint != model.provenance.get("film", {}).get("fingerprint"):
            text.append(f"This model was trained on {model.provenance.get('film', {}).get('name', 'other film')}.")
        return shown, drawn(error_curves(psnr, unroll)), " ".join(text)


def _within(horizon: float) -> int:
    return max(1, min(LONGEST, round(horizon)))


def _who_wins(psnr: dict[str, list[Any]]) -> str:
    """Where the model's curve crosses the best baseline's, in words."""
    best = [max(values) for values in zip(*(psnr[m] for m in measure.METHODS[1:]))]
    ahead = [m > b for m, b in zip(psnr["model"], best)]
    gap = f"At g3 it has {psnr['model'][0]:.1f} dB, the best baseline {best[0]:.1f} dB."
    if not ahead[0]:
        return f"**The model loses to its best baseline from the first frame on.** {gap}"
    if all(ahead):
        return f"The model is ahead of every baseline for all {len(ahead)} frames that have real film. {gap}"
    return f"The model is ahead of every baseline up to g{ahead.index(False) + 2}, then a baseline is better. {gap}"


def _how_it_moves(y: Any, film: Film) -> str:
    if len(y) < measure.SHORTEST:
        return f"A rollout of {measure.SHORTEST} frames or more would be measured for oscillation, too."
    window = max(measure.SHORTEST, len(y) // 2) // 2 * 2
    try:
        o = measure.oscillation(y[-window:], measure.film_windows(film, window))
    except RoadtripError as error:
        return str(error)
    R = "undefined" if o.return_ratio is None else f"{o.return_ratio:.2f}"
    return f"Its last {window} frames: **{o.verdict}** (R {R}, N {o.nyquist_excess:.2f}, S {o.step_ratio:.2f})."


def range_of_starts(garage: Garage, model_name: str, film_name: str) -> Any:
    """The slider over start frames for this model and film."""
    with told():
        model = garage.model(model_name)
        starts = held_out_starts(with_gap_of(garage.film(film_name), model), model)
        low, high = int(starts.min()), int(starts.max())
        return gr.update(minimum=low, maximum=high, value=nearest(starts, (low + high) / 2))


def export(garage: Garage, model_name: str, film_name: str, start: float, horizon: float) -> str:
    with told():
        model: NextFrame = garage.model(model_name)
        film = with_gap_of(garage.film(film_name), model)
        first = nearest(held_out_starts(film, model), start)
        y = rollout(model, film.frames[first], film.frames[first + film.gap], _within(horizon))[0]
        return str(write(Path(tempfile.mkdtemp()) / "rollout.mp4", y))


def build(garage: gr.State) -> tuple[gr.Dropdown, gr.Dropdown, Any, Any]:
    """The tab; returns its menus, how to draw it, and how to find its range of starts."""
    gr.Markdown(
        "Two real frames go in, then the network is alone with its own output. Scrub to see how far it holds, beside "
        "what really came and beside what needs no network at all."
    )
    with gr.Row():
        model = gr.Dropdown(shipped_names(), label="Model", interactive=True)
        film = gr.Dropdown([ROAD], value=ROAD, label="Film", interactive=True)
        start = gr.Slider(0, 10**6, 0, step=1, label="Start frame", info="Index of f1, on film the model has not seen.")
        horizon = gr.Slider(1, LONGEST, 64, step=1, label="Horizon", info="How many frames to generate.")
    with gr.Row():
        go = gr.Button("Drive on", variant="primary", elem_id="rt-drive")
        lossless = gr.Checkbox(False, label="Exact pixels", info="Lossless, to look for artefacts.")
        save = gr.DownloadButton("Make an mp4")
    words = gr.Markdown(elem_id="rt-words")
    show = player("rt-scrub-player")
    gr.Markdown(
        "What you see: the real road, the rollout from the same two frames, and the absolute difference; arrow keys "
        "step, space plays. Where real film ends, only the rollout goes on.",
        elem_classes="rt-note",
    )
    errors = chart("rt-errors")
    gr.Markdown(
        "PSNR of each generated frame against the real one, higher is closer. Dashed: copying the last frame, linear "
        "extrapolation, the mean training frame.",
        elem_classes="rt-note",
    )
    inputs, outputs = [garage, model, film, start, horizon, lossless], [show, errors, words]
    how: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2, "show_progress": "hidden"}
    private: dict[str, Any] = how | {"api_visibility": "private"}
    go.click(look, inputs, outputs, api_name="scrub", **how)
    draw: dict[str, Any] = {"fn": look, "inputs": inputs, "outputs": outputs} | private
    place: dict[str, Any] = {"fn": range_of_starts, "inputs": [garage, model, film], "outputs": start} | private
    for listen in (lossless.input, start.release, horizon.release):
        listen(**draw)
    for menu in (model, film):
        menu.input(**place).then(**draw)
    save.click(export, [garage, model, film, start, horizon], save, api_name="mp4", **how)
    return model, film, draw, place
