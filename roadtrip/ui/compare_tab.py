"""Compare: two models and the real film under one playhead, with their measures and verdicts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .. import measure
from ..errors import RoadtripError
from ..teacher_forcing import as_float, rollout
from .charts import lag_profiles, step_sizes
from .garage import ROAD, Garage, held_out_starts, nearest, real_after, shipped_names, told, with_gap_of
from .player import chart, drawn, payload, player
from .scrub_tab import range_of_starts

HORIZON = 64


def look(
    garage: Garage, left: str, right: str, film_name: str, start: float, lossless: bool
) -> tuple[Any, Any, Any, str]:
    """The player's payload, lag profiles, step sizes, and the verdicts in words."""
    with told():
        models = {left: garage.model(left), right: garage.model(right)}
        if len(models) == 1:
            raise RoadtripError("Choose two different models to compare.")
        film = with_gap_of(garage.film(film_name), models[left])
        first = nearest(held_out_starts(film, models[left]), start)
        f1, f2 = (as_float(film.frames[t])[None] for t in (first, first + film.gap))
        rollouts = {name: rollout(model, f1, f2, HORIZON)[0].cpu() for name, model in models.items()}
        real = real_after(film, first, HORIZON)
        window = HORIZON // 2
        around = measure.film_windows(film, window)
        found = {name: measure.oscillation(y[-window:], around) for name, y in rollouts.items()}

        views = {left: rollouts[left], right: rollouts[right], "real": real}
        labels = [f"g{t + 3}" for t in range(HORIZON)]
        key = f"{left} {right} {film_name} {first}"
        profiles = {name: list(o.lag_profile) for name, o in found.items()}
        if len(real) >= measure.SHORTEST:
            D = measure.lag_distances(as_float(real))
            profiles["real film"] = [d / D[0] for d in D]
        sizes = {}
        for name, y in rollouts.items():
            sizes[f"{name}: D(1)"] = [None, *measure.l1(y[1:], y[:-1]).tolist()]
            sizes[f"{name}: D(2)"] = [None, None, *measure.l1(y[2:], y[:-2]).tolist()]
        return (
            payload(views, labels, key, lossless=lossless, autoplay=True),
            drawn(lag_profiles(profiles)),
            drawn(step_sizes(sizes)),
            _words(found, around),
        )


def _words(found: dict[str, measure.Oscillation], real: measure.RealFilm) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    rows = [
        f"| {name} | **{o.verdict}** | {number(o.return_ratio)} | {number(o.nyquist_excess)} | {number(o.step_ratio)} | "
        f"{number(o.two_mode_share)} | {number(o.sharpness_ratio)} |"
        for name, o in found.items()
    ]
    rows.append(f"| real film | | {number(real.return_ratio)} | {number(real.nyquist_excess)} | 1.00 | | 1.00 |")
    table = "\n".join(["| | verdict | R | N | S | B | sharpness |", "|---|---|---|---|---|---|---|", *rows])
    flips = [name for name, o in found.items() if o.verdict == "oscillates"]
    said = (
        f"**{' and '.join(flips)}** {'oscillates' if len(flips) == 1 else 'oscillate'} from this start: every second "
        f"frame returns to the one before."
        if flips
        else "**The oscillation does not appear** in either rollout from this start."
    )
    return (
        f"{said} One start of one seed each; measured on frames 33 to 64.\n\n{table}\n\n"
        "R = D(2)/D(1), near 0 in a two-cycle · N, the share of motion at the highest frequency, 16 in pure alternation "
        "· S, step size beside real film · B, how well two pictures explain all frames · sharpness beside real film."
    )


def build(garage: gr.State) -> tuple[gr.Dropdown, gr.Dropdown, gr.Dropdown, Any, Any]:
    """The tab; returns its menus, how to draw it, and how to find its range of starts."""
    gr.Markdown(
        "In the post, a discriminator that sees *pairs* of frames made the rollout flip between two pictures, and one "
        "that sees *single* frames stopped it. Here are both, from the same two frames, beside the real road."
    )
    with gr.Row():
        left = gr.Dropdown(shipped_names(), label="First model", interactive=True)
        right = gr.Dropdown(shipped_names(), label="Second model", interactive=True)
        film = gr.Dropdown([ROAD], value=ROAD, label="Film", interactive=True)
        start = gr.Slider(
            0, 10**6, 0, step=1, label="Start frame", info="Index of f1, on film the first model has not seen."
        )
    with gr.Row():
        go = gr.Button("Compare", variant="primary", elem_id="rt-compare")
        lossless = gr.Checkbox(False, label="Exact pixels", info="Lossless, to look for artefacts.")
    show = player("rt-compare-player")
    gr.Markdown("What you see: both rollouts and the real film, frame-locked; step with the arrow keys to see a flip.",
                elem_classes="rt-note")  # fmt: skip
    words = gr.Markdown(elem_id="rt-verdict")
    with gr.Row():
        with gr.Column(min_width=320):
            lags = chart("rt-lags")
            gr.Markdown("How far apart frames are that lie p apart, beside neighbours. A two-cycle dips at 2, 4, 6, 8.",
                        elem_classes="rt-note")  # fmt: skip
        with gr.Column(min_width=320):
            sizes = chart("rt-sizes")
            gr.Markdown("D(1), solid: from one frame to the next. D(2), dotted: to the one after that.",
                        elem_classes="rt-note")  # fmt: skip
    inputs, outputs = [garage, left, right, film, start, lossless], [show, lags, sizes, words]
    how: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2, "show_progress": "hidden"}
    private: dict[str, Any] = how | {"api_visibility": "private"}
    go.click(look, inputs, outputs, api_name="compare", **how)
    draw: dict[str, Any] = {"fn": look, "inputs": inputs, "outputs": outputs} | private
    place: dict[str, Any] = {"fn": range_of_starts, "inputs": [garage, left, film], "outputs": start} | private
    for listen in (right.input, lossless.input, start.release):
        listen(**draw)
    for menu in (left, film):
        menu.input(**place).then(**draw)
    return left, right, film, draw, place
