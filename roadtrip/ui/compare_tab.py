"""Compare: two models and the real film under one playhead, with their measures and verdicts.

Puts what measure.py found into words; computes no number itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import gradio as gr
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .. import measure
from ..errors import RoadtripError
from ..export import write
from ..film import Film
from ..frames import as_float
from ..model import NextFrame
from ..rollout import rollout
from . import duel_section, study_section
from .charts import distances, lag_profiles, spectra, step_sizes
from .library import ROAD, ROADS, shipped_names
from .messages import escape_markdown, user_errors
from .player import chart, chart_value, player, player_value
from .session import Session, cached_view
from .starts import film_for, nearest_start, offered_starts, provenance_note, real_frames, recipe_of, start_range

HORIZON = 64
WINDOW = HORIZON // 2  # the verdict is read from the second half
PLAYER = "rt-compare-player"
SEEN = 6  # what `update_view` gives
# pairs of shipped models that are worth a click, as far as both are there
MATCHES = [
    ("The pair and the single frame", "v3-pair", "v3-single"),
    ("Where it flips", "post-replay-pair", "post-replay-single"),
    ("So with the flow", "replay-pair", "replay-single"),
    ("With the gradient cut", "replay-pair", "replay-detached"),
    ("What keeps a road", "replay-v2", "v2"),
    ("The post's network", "post-pair", "post-single"),
    ("The post's, flipping", "post-flip", "post-single"),
    ("v1 and v2", "v1", "v2"),
    ("A memory", "lstm", "v2"),
]
CHARTS = [  # in the order in which `update_view` gives them, and what is seen in each
    (
        "rt-sizes",
        "D(1), solid, how far each frame is from the one before; D(2), dotted, from the one before that. In a two-cycle "
        "the dotted line lies near 0. A click moves the film there.",
    ),
    ("rt-matrix", "how far every frame is from every other. A two-cycle is a chessboard."),
    ("rt-lags", "how far apart frames are that lie p apart, beside neighbours. A two-cycle dips at 2, 4, 6, 8."),
    ("rt-spectrum", "how much of the motion has which rhythm. A flip is a peak at the right end."),
]


def update_view(
    session: Session, left: str, right: str, film_name: str, start: float, lossless: bool
) -> tuple[Any, ...]:
    """The player's payload, step sizes, distances, lag profiles, spectra, and the verdicts in words."""
    with user_errors():
        return cached_view(_update_view, session, left, right, film_name, start, lossless)


def _update_view(
    session: Session, left: str, right: str, film_name: str, start: float, lossless: bool
) -> tuple[Any, ...]:
    models = {left: session.model(left), right: session.model(right)}
    if len(models) == 1:
        raise RoadtripError("Choose two different models to compare.")
    recipes = [recipe_of(model) for model in models.values()]
    film = film_for(session, film_name, models[left])
    first = nearest_start(offered_starts(film, [*models.values()]), start)
    # each drives in the size that it was trained at, all at the gap of the first
    films = {name: film_for(session, film_name, model).with_gap(film.gap) for name, model in models.items()}
    rollouts = {name: _driven(model, films[name], first) for name, model in models.items()}
    real = as_float(real_frames(film, first, HORIZON))
    labels = [f"g{t + 3}" for t in range(HORIZON)]
    shown = player_value(
        rollouts | {"real": real}, labels, f"{left} {right} {film_name} {first}", lossless=lossless, autoplay=True
    )
    sizes: dict[str, Any] = {}
    for name, y in rollouts.items():
        one, two = (measure.l1(y[p:], y[:-p]).tolist() for p in (1, 2))
        sizes[name] = [None, *one], [None, None, *two]
    late = {name: y[-WINDOW:] for name, y in rollouts.items()}
    enough = len(real) >= measure.MIN_WINDOW
    real_spectrum = measure.spectrum(real[-WINDOW:]) if enough else None
    charts = [
        chart_value(step_sizes(sizes, recipes), PLAYER),
        chart_value(distances({name: measure.distance_matrix(y) for name, y in rollouts.items()})),
    ]
    powers = {name: measure.spectrum(y) for name, y in late.items()}
    spectrum = chart_value(spectra(powers, recipes, real_spectrum))
    notes = "".join(provenance_note(name, films[name], model, first) for name, model in models.items())
    notes += f"\n\n{study_section.study_note(models)}"
    try:
        around = {name: measure.film_windows(f, WINDOW) for name, f in films.items()}
    except RoadtripError as error:  # pictures there are even so
        return shown, *charts, chart_value(lag_profiles({}, [])), spectrum, escape_markdown(str(error)) + notes
    found = {name: measure.oscillation(y, around[name]) for name, y in late.items()}
    profiles = {name: list(o.lag_profile) for name, o in found.items()}
    real_profile = list(measure.oscillation(real[-WINDOW:], around[left]).lag_profile) if enough else None
    lags = chart_value(lag_profiles(profiles, recipes, real_profile))
    return shown, *charts, lags, spectrum, in_words(found, around[left]) + notes


def opening_film(session: Session, left: str, right: str, film_name: str, start: int) -> bytes:
    """The beginning of both rollouts and of the real film side by side, as one small webp that moves."""
    models = [session.model(name) for name in (left, right)]
    films = [film_for(session, film_name, model) for model in models]
    real = real_frames(films[0], start, WINDOW)
    views = [*(_driven(model, film, start)[: len(real)] for model, film in zip(models, films)), as_float(real)]
    height, width = real.shape[-2:]
    wide = torch.cat([interpolate(view, (height, width)) for view in views], -1)
    return write(session.download_dir() / "opening.webp", wide, fps=6, scale=1, quality=60).read_bytes()


def _driven(model: NextFrame, film: Film, start: int) -> Tensor:
    f1, f2 = (as_float(film.frames[t])[None] for t in (start, start + film.gap))
    return rollout(model, f1, f2, HORIZON)[0].cpu()


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def describe(o: measure.Oscillation) -> str:
    """A verdict and a sharpness, in words with their numbers."""
    step = f"{o.step_ratio:.2f} of a real step a frame"
    moves = {
        "frozen": f"stands still ({step})",
        "oscillates": f"flips: every second frame goes back to the one before (R {_two(o.return_ratio)}, {step})",
        "moves": f"moves on without coming back, {step}",
        "flickers": f"flickers: it alternates more than real film (N {o.nyquist_excess:.1f}) but does not come back",
        "switches between two modes": f"stays in one of two pictures, then in the other (B {_two(o.two_mode_share)})",
    }.get(o.verdict, f"comes back every {o.period} frames, {step}")
    sharp = o.sharpness_ratio
    if sharp < 0.8:
        return f"{moves}, blurred to {sharp:.2f} of real sharpness"
    if sharp > 1.5:
        return f"{moves}, {sharp:.1f} times as sharp as real film: checkerboards or noise, not detail"
    return f"{moves}, about as sharp as real film"


def in_words(found: dict[str, measure.Oscillation], real: measure.RealFilm) -> str:
    names = {name: escape_markdown(name) for name in found}
    flips = [names[n] for n, o in found.items() if o.verdict == "oscillates"]
    if not flips:
        said = "**The oscillation does not appear** in either rollout from this start."
    elif len(flips) == 1:
        said = f"**{flips[0]} oscillates** from this start, the other does not."
    else:
        said = "**Both oscillate** from this start."
    each = ". ".join(f"{names[n]} {describe(o)}" for n, o in found.items())
    rows = [
        (
            names[n],
            f"**{o.verdict}**",
            o.return_ratio,
            o.nyquist_excess,
            o.step_ratio,
            o.two_mode_share,
            o.sharpness_ratio,
        )
        for n, o in found.items()
    ]
    rows.append(("real film", "", real.return_ratio, real.nyquist_excess, 1.0, None, 1.0))
    lines = ["| " + " | ".join(v if isinstance(v, str) else _two(v) for v in row) + " |" for row in rows]
    table = "\n".join(["| | verdict | R | N | S | B | sharpness |", "|---|---|---|---|---|---|---|", *lines])
    return (
        f"{said} {each}. That is one start and one seed of each; read from the last {WINDOW} of {HORIZON} frames.\n\n"
        f"{table}\n\n"
        f"R = D(2)/D(1): 0 in a two-cycle, 1 without memory, 2 at constant speed · N, how far the fastest alternation "
        f"stands out: 1 in noise, {WINDOW // 2} when there is nothing else · S, the step beside a real one · B, how much "
        f"two pictures explain of all: 1 is everything · sharpness beside real film."
    )


def start_range_of_both(session: Session, left: str, right: str, film_name: str, start: float | None = None) -> Any:
    return start_range(session, left, film_name, start, HORIZON, right)


def _both(one: str, other: str) -> tuple[str, str]:
    return one, other


def _note(text: str, *classes: str) -> None:
    gr.Markdown(text, elem_classes=["rt-note", *classes])


class Tab(NamedTuple):
    left: gr.Dropdown
    right: gr.Dropdown
    film: gr.Dropdown
    start: gr.Slider
    draw: dict[str, Any]  # the event that draws it
    changes: list[Any]  # the events after which the menus are out of date


def build(session: gr.State, one: str | None, other: str | None) -> Tab:
    """one, other: the models that it opens with."""
    gr.Markdown(
        "## The pair beside the single frame\n"
        "A network trained on distance alone blurs, since a blur is the safest guess. A discriminator that tells real "
        "frames from generated ones punishes blur. The post's one saw *pairs*, g3 and g4 at once, and its rollouts "
        "began to flip: this picture, that picture, this one again. One that saw *single* frames flipped no more. Here "
        "are both, from the same two frames, beside the real road. *Where it flips* shows them trained on frames from deep "
        "in their own rollouts too: there most pairs flip and single frames creep or come to rest. *With the gradient cut* "
        "is such a pair beside one whose second frame is kept, in training, from shaping the first: it flips later. "
        "*What keeps a road*, blurred and standing still, is v2 trained from deep in its rollouts, with no discriminator.",
        elem_classes="rt-first",
    )
    with gr.Row():
        left = gr.Dropdown(
            shipped_names(), value=one, label="First model", info="Shipped, or trained by you.", min_width=230
        )
        right = gr.Dropdown(
            shipped_names(), value=other, label="Second model", info="Shipped, or trained by you.", min_width=230
        )
        film = gr.Dropdown(list(ROADS), value=ROAD, label="Film", info="Add your own in Train.", min_width=230)
        start = gr.Slider(
            0, 10**6, 0, step=1, label="Start frame", info="f1, on film that neither has seen.", min_width=230
        )
    matches = [m for m in MATCHES if {m[1], m[2]} <= {*shipped_names()}]
    with gr.Row():
        buttons = [gr.Button(label, size="sm", min_width=120) for label, _, _ in matches]
    with gr.Row(equal_height=True):
        go = gr.Button("Compare", variant="primary", elem_id="rt-compare")
        lossless = gr.Checkbox(False, label="Exact pixels", info="Lossless, to look for artefacts.")
    show = player(PLAYER)
    _note(
        "What you see: both rollouts and the real film, frame-locked. Step with the arrow keys to see a flip; 1, 2, 3 "
        "show one alone. In a flip the mean of the even frames and the mean of the odd ones are two different pictures.",
        "rt-first",
    )
    words = gr.Markdown(elem_id="rt-verdict", elem_classes=["rt-words", "rt-first"])
    gr.Markdown(
        "## Four ways to see a flip\nThe eye is easily fooled at six frames a second. Each of these shows a return to the "
        "frame before last, if there is one, in its own way."
    )
    charts = []
    for row in (CHARTS[:2], CHARTS[2:]):
        with gr.Row():
            for name, seen in row:
                with gr.Column(min_width=320):
                    charts.append(chart(name))
                    _note(f"What you see: {seen}")
    study = study_section.build()
    duel = duel_section.build(session, film)
    inputs, outputs = [session, left, right, film, start, lossless], [show, *charts, words]
    how: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2, "show_progress": "hidden"}
    private: dict[str, Any] = how | {"api_visibility": "private"}
    go.click(update_view, inputs, outputs, api_name="compare", **how)
    draw: dict[str, Any] = {"fn": update_view, "inputs": inputs, "outputs": outputs} | private
    for listen in (lossless.input, start.release):
        listen(**draw)
    chosen = [left.input, film.input]
    if study:
        chosen.append(study.dots.click(study_section.pick, study.table, [*study.picked, left], **private).success)
    for button, (_, one, other) in zip(buttons, matches):
        chosen.append(button.click(partial(_both, one, other), None, [left, right], **private).then)
    for event in chosen:
        event(start_range_of_both, [session, left, right, film], start, **private).then(**draw)
    right.input(start_range_of_both, [session, left, right, film, start], start, **private).then(**draw)
    return Tab(left, right, film, start, draw, duel.changes)
