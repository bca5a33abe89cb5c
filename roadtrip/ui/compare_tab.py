"""Compare: two models and the real film under one playhead, with their measures and verdicts.

Puts what evaluation.py finds into words; computes no number itself. Independent of the other tabs.
"""

from collections.abc import Generator
from typing import Any

import gradio as gr

from ..errors import RoadtripError
from ..evaluation import HORIZON, film_windows, verdict_window
from ..frames import as_float
from ..oscillation import (
    COMPARED,
    MIN_WINDOW,
    Oscillation,
    RealFilm,
    as_row,
    distance_matrix,
    frame_distances,
    oscillation,
    spectrum,
)
from . import duel_section, study_section
from .charts import distances, lag_profiles, spectra, step_sizes
from .library import shipped_names
from .player import chart_value, lossless_box, note, noted_charts, player, player_value
from .session import Session, cached_view
from .starts import (
    film_for,
    nearest_start,
    offered_starts,
    provenance_note,
    real_frames,
    recipe_of,
    rollout_in_turns,
    start_range,
)
from .tab import (
    QUIET,
    VIEW,
    Event,
    Tab,
    address_of,
    escape_markdown,
    film_and_start,
    model_menu,
    two_decimals,
    user_errors,
)

WINDOW = verdict_window(HORIZON)
PLAYER = "rt-compare-player"
# pairs of shipped models that are worth a click, as far as both are there
MATCHES = [
    ("Pair vs single frame", "v3-pair", "v3-single"),
    ("Where it flips", "post-replay-pair", "post-replay-single"),
    ("Same, flow-based network", "replay-pair", "replay-single"),
    ("Pair, gradient between frames cut", "replay-pair", "replay-detached"),
    ("Stays a road (blurry)", "replay-v2", "v2"),
    ("The post's network", "post-pair", "post-single"),
    ("The post's, flipping", "post-flip", "post-single"),
    ("v1 vs v2", "v1", "v2"),
    ("LSTM vs v2", "lstm", "v2"),
    ("It drives on", "v4", "replay-v2"),
]
CHARTS = {  # in the order in which `update_view` gives them, and what is seen in each
    "rt-sizes": "D(1), solid, how far each frame is from the one before; D(2), dotted, from the one before that. In a "
    "two-cycle the dotted line lies near 0. A click moves the film there.",
    "rt-matrix": "how far every frame is from every other. A two-cycle is a chessboard.",
    "rt-lags": "how far apart frames are that lie p apart, relative to neighbours. A two-cycle dips at 2, 4, 6, 8.",
    "rt-spectrum": "how much of the motion is at each frequency. A flip is a peak at the right end.",
}


@user_errors()
@cached_view
def update_view(
    session: Session, left: str, right: str, film_name: str, start: float, lossless: bool
) -> Generator[None, None, tuple[Any, ...]]:
    """(the player's value, step sizes, distances, lag profiles, spectra, the verdicts in words)."""
    models = {left: session.model(left), right: session.model(right)}
    if len(models) == 1:
        raise RoadtripError("Choose two different models to compare.")
    recipes = [recipe_of(model) for model in models.values()]
    film = film_for(session, film_name, models[left])
    first = nearest_start(offered_starts(film, [*models.values()]), start)
    # each rollout in the size that its model was trained at, all at the gap of the first
    films = {name: film_for(session, film_name, model).with_gap(film.gap) for name, model in models.items()}
    rollouts = {}
    for name, model in models.items():
        rollouts[name] = yield from rollout_in_turns(model, films[name], first, HORIZON)
    real = as_float(real_frames(film, first, HORIZON))
    key = f"{left} {right} {film_name} {first}"
    film_value = player_value(rollouts | {"real": real}, key, lossless, autoplay=True)
    sizes = {n: (frame_distances(y, 1), frame_distances(y, 2)) for n, y in rollouts.items()}
    late = {name: y[-WINDOW:] for name, y in rollouts.items()}
    late_real = real[-WINDOW:] if len(real) >= MIN_WINDOW else None
    powers = {name: spectrum(y) for name, y in late.items()}
    charts = [
        chart_value(step_sizes(sizes, recipes), PLAYER),
        chart_value(distances({name: distance_matrix(y) for name, y in rollouts.items()})),
    ]
    rhythm = chart_value(spectra(powers, recipes, None if late_real is None else spectrum(late_real)))
    notes = "".join(provenance_note(name, films[name], model, first) for name, model in models.items())
    notes += f"\n\n{study_section.study_note(models)}"
    try:
        around = {name: film_windows(f, WINDOW) for name, f in films.items()}
    except RoadtripError as error:  # pictures there are even so
        return film_value, *charts, chart_value(lag_profiles({}, [])), rhythm, escape_markdown(str(error)) + notes
    found = {name: oscillation(y, around[name]) for name, y in late.items()}
    profiles = {name: list(o.lag_profile) for name, o in found.items()}
    real_profile = None if late_real is None else list(oscillation(late_real, around[left]).lag_profile)
    lags = chart_value(lag_profiles(profiles, recipes, real_profile))
    return film_value, *charts, lags, rhythm, in_words(found, around[left]) + notes


def keep_start(session: Session, film_name: str, left: str, right: str, start: float) -> dict[str, Any]:
    return start_range(session, film_name, left, right, start=start)


def open_view(session: Session, left: str, right: str, film_name: str, start: float) -> tuple[Any, ...]:
    """(the range of starts, *what `update_view` gives); a start that is in its range stays."""
    try:
        starts = keep_start(session, film_name, left, right, start)
        return starts, *update_view(session, left, right, film_name, starts["value"], False)
    except gr.Error:  # without a model there is nothing to see
        return (gr.skip(),) * 7


def describe(o: Oscillation) -> str:
    """A verdict and a sharpness, in words with their numbers."""
    step = "where real film stands still" if o.step_ratio is None else f"at {o.step_ratio:.0%} of real motion"
    moves = {
        "frozen": f"stands still ({step})",
        "oscillates": f"alternates between two pictures (R {two_decimals(o.return_ratio)}, {step})",
        "moves": f"keeps changing, {step}",
        "flickers": f"flickers: it alternates more than real film (N {o.nyquist_excess:.1f}) but does not return",
        "switches between two modes": f"stays in one of two pictures, then the other (B {two_decimals(o.two_mode_share)})",
    }.get(o.verdict, f"repeats every {o.period} frames, {step}")
    sharp = o.sharpness_ratio
    if sharp is None:
        return moves
    if sharp < 0.8:
        return f"{moves}, blurred to {sharp:.0%} of real sharpness"
    if sharp > 1.5:
        return f"{moves}, {sharp:.1f} times as sharp as real film: checkerboards or noise, not detail"
    return f"{moves}, about as sharp as real film"


def in_words(found: dict[str, Oscillation], real: RealFilm) -> str:
    names = {name: escape_markdown(name) for name in found}
    flips = [names[n] for n, o in found.items() if o.verdict == "oscillates"]
    if not flips:
        said = "**The oscillation does not appear** in either rollout from this start."
    elif len(flips) == 1:
        said = f"**{flips[0]} oscillates** from this start, the other does not."
    else:
        said = "**Both oscillate** from this start."
    each = ". ".join(f"{names[n]} {describe(o)}" for n, o in found.items())
    rows = [(names[n], f"**{o.verdict}**", as_row(o)) for n, o in found.items()]
    medians = {"R": real.return_ratio, "N": real.nyquist_excess, "S": 1.0, "sharpness": 1.0}
    head = ["", "verdict", *COMPARED]
    lines = [head, ["---"] * len(head)]
    for name, verdict, values in [*rows, ("real film", "", medians)]:
        lines.append([name, verdict, *(two_decimals(values.get(letter)) for letter in COMPARED)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{said} {each}. That is one start and one seed of each; read from the last {WINDOW} of {HORIZON} frames.\n\n"
        f"{table}\n\n"
        f"R = D(2)/D(1): 0 in a two-cycle, 1 without memory, 2 at constant speed · N: how far the fastest alternation "
        f"stands out, 1 in noise, {WINDOW // 2} when there is nothing else · S: step size relative to real film · B: "
        f"share of variance explained by two images · sharpness: relative to real film."
    )


def build(session: gr.State) -> Tab:
    gr.Markdown(
        "## Pair vs single-frame discriminator\n"
        "A network trained on distance alone blurs, since a blur is the safest prediction. A discriminator that tells "
        "real frames from generated ones punishes blur. The post's saw *pairs*, g3 and g4 at once, and its rollouts began "
        "to flip: this picture, that picture, this one again. With one that saw *single* frames the flip was gone. Here "
        "are both, from the same two frames, beside the real road. *Where it flips*: trained from deep in their own "
        "rollouts too, most pairs flip, and single frames creep or come to rest. *Pair, gradient between frames cut*: "
        "where the second frame can't shape the first in training, the flip comes later. *Stays a road*: v2 trained from "
        "deep in its rollouts, without a discriminator, blurs and stands still.",
        elem_classes="rt-first",
    )
    with gr.Row():
        left, right = model_menu("First model", "v3-pair"), model_menu("Second model", "v3-single", 1)
        film, start = film_and_start()
    matches = [m for m in MATCHES if {m[1], m[2]} <= {*shipped_names()}]
    with gr.Row():
        buttons = [gr.Button(label, size="sm", min_width=120) for label, _, _ in matches]
    with gr.Row(equal_height=True):
        go = gr.Button("Compare", variant="primary", elem_id="rt-compare")
        lossless = lossless_box()
    show = player(PLAYER)
    note(
        "What you see: both rollouts and the real film, frame-locked. Step with the arrow keys to see a flip; 1, 2, 3 "
        "show one alone. In a flip the mean of the even frames and the mean of the odd ones are two different pictures.",
        "rt-first",
    )
    words = gr.Markdown(elem_id="rt-verdict", elem_classes=["rt-words", "rt-first"])
    gr.Markdown(
        "## Four ways to see a flip\nThe eye is easily fooled at six frames a second. Each of these shows a return to the "
        "frame before last, if there is one, in its own way."
    )
    charts = [*noted_charts([*CHARTS.items()][:2]), *noted_charts([*CHARTS.items()][2:])]
    study = study_section.build()
    changes = duel_section.build(session, film)
    asked, outputs = [session, left, right, film, start], [show, *charts, words]
    go.click(update_view, [*asked, lossless], outputs, api_name="compare", **VIEW)
    draw: Event = QUIET | VIEW | {"fn": update_view, "inputs": [*asked, lossless], "outputs": outputs}
    gr.on([lossless.input, start.release], **draw)
    chosen = [left.input, film.input]
    if study:
        chosen.append(study.dots.click(study_section.pick, study.table, [*study.picked, left], **QUIET | VIEW).success)
    for button, (_, *pair) in zip(buttons, matches):
        chosen.append(button.click(lambda pair=pair: pair, None, [left, right], **QUIET | VIEW).then)
    for event in chosen:
        event(start_range, [session, film, left, right], start, **QUIET | VIEW).then(**draw)
    right.input(keep_start, [session, film, left, right, start], start, **QUIET | VIEW).then(**draw)
    return Tab(
        address=address_of({"left": left, "right": right}, film, start),
        first=[QUIET | VIEW | {"fn": open_view, "inputs": asked, "outputs": [start, *outputs]}],
        changes=changes,
    )
