"""Scrub: how long a rollout stays realistic. One server call, then everything in the browser.

Puts what evaluation.py finds into words; computes no number itself. Independent of the other tabs.
"""

from collections.abc import Generator
from typing import Any

import gradio as gr
from torch import Tensor

from ..checkpoint import load
from ..errors import RoadtripError
from ..evaluation import (
    HELD_OUT,
    HORIZON,
    N_STARTS,
    baselines,
    compare_to_baselines,
    evaluate,
    film_windows,
    verdict_window,
)
from ..export import write
from ..film import Film, evenly_spaced
from ..frames import as_float, psnr
from ..oscillation import MIN_WINDOW, oscillation
from . import live_section
from .budget import MAX_HORIZON, check_rollout, horizon_in_range
from .charts import NAMES, error_curves
from .compute import computed
from .player import carried, chart, chart_value, download, lossless_box, note, player, player_value, strip, strip_value
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
    Field,
    Tab,
    address_of,
    escape_markdown,
    film_and_start,
    model_menu,
    two_decimals,
    user_errors,
    whole_number,
)  # fmt: skip

PLAYER = "rt-scrub-player"
STRIP_STARTS = 12  # to pick from
MAX_MEASURED, MEASURED = 32, 8  # frames ahead and starts of what the API measures
FORMATS = {"mp4": ".mp4", "gif": ".gif", "webp": ".webp", "png strip": ".png"}


@user_errors()
@cached_view
def update_view(
    session: Session, model_name: str, film_name: str, start: float, horizon: float, lossless: bool
) -> Generator[None, None, tuple[Any, Any, str]]:
    """(the player's value, the error curves, what they say)."""
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    first, horizon = nearest_start(offered_starts(film, [model]), start), horizon_in_range(horizon)
    f1, f2 = (as_float(film.frames[t])[None] for t in (first, first + film.gap))
    y = (yield from rollout_in_turns(model, film, first, horizon))[None]
    real = as_float(real_frames(film, first, horizon))
    views = {"real": real, "generated": y[0], "difference": (y[0, : len(real)] - real).abs()}
    film_value = player_value(views, f"{film_name} {first} {horizon}", lossless)
    about = how_it_moves(y[0], film) + provenance_note(model_name, film, model, first)
    deepest = model.provenance.recipe.deepest if model.provenance else 0
    if not len(real):
        nothing = chart_value(error_curves({"model": []}, deepest, model_name, recipe_of(model)))
        return film_value, nothing, f"Real film ends here: there is nothing to compare the rollout with. {about}"
    generated = {"model": y} | baselines(f1, f2, horizon, model.mean_frame)
    errors = {m: psnr(v[0, : len(real)], real).tolist() for m, v in generated.items()}
    curves = chart_value(error_curves(errors, deepest, model_name, recipe_of(model)), PLAYER)
    return film_value, curves, f"{in_words(errors)}\n\n{about}"


def open_view(session: Session, model_name: str, film_name: str, start: float, horizon: float) -> tuple[Any, ...]:
    """(the range of starts, *what `update_view` gives); a start that is in its range stays."""
    try:
        starts = start_range(session, film_name, model_name, start=start)
        return starts, *update_view(session, model_name, film_name, starts["value"], horizon, False)
    except gr.Error:  # without a model there is nothing to see
        return (gr.skip(),) * 4


def in_words(psnr: dict[str, list[float]]) -> str:
    """The model beside copying the last frame, and beside the best of all baselines."""
    found = compare_to_baselines(psnr)
    lost, n = found.copy_last_wins, len(psnr["model"])
    every = "the one frame there is real film for" if n == 1 else f"all {n} frames there is real film for"
    if not lost:
        said = f"The model is closer to the real road than copying the last frame in {every}."
    elif len(lost) == n:
        said = f"**Copying the last frame beats the model** in {every}."
    elif lost[0] == 1:
        said = f"**Copying the last frame beats the model** in the first frame, and in {len(lost)} of {n} in all."
    else:
        said = (
            f"The model is closer to the real road than copying the last frame up to g{lost[0] + 1}; "
            f"**copying the last frame beats it** in {len(lost)} of {n} frames, first in g{lost[0] + 2}."
        )
    if found.overtaken and 1 < found.overtaken[0] < n:
        frame, baseline = found.overtaken
        said += f" From g{frame + 2} on, even “{NAMES[baseline]}” stays closer."
    best, dB = found.best[0]
    return f"{said} At g3 the model gets {psnr['model'][0]:.1f} dB, the best baseline ({NAMES[best]}) {dB:.1f} dB."


def how_it_moves(y: Tensor, film: Film) -> str:
    """The oscillation of one rollout [T, 3, H, W]."""
    if len(y) < MIN_WINDOW:
        return f"A rollout of {MIN_WINDOW} frames or more would be measured for oscillation, too."
    window = verdict_window(len(y))
    try:
        o = oscillation(y[-window:], film_windows(film, window))
    except RoadtripError as error:
        return escape_markdown(str(error))
    R, S = (two_decimals(value, "undefined") for value in (o.return_ratio, o.step_ratio))
    return (
        f"Its last {window} frames: **{o.verdict}**. R {R} (D(2)/D(1): near 0 in a two-cycle), N {o.nyquist_excess:.2f} "
        f"(alternation: 1 in noise, {window // 2} at most), S {S} (step size relative to real film)."
    )


@user_errors()
@computed
def strip_of(session: Session, model_name: str, film_name: str) -> Any:
    """Pictures of the starts that there are for this model and film."""
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    starts = evenly_spaced(offered_starts(film, [model]), STRIP_STARTS)
    return strip_value(film.frames[starts], starts.tolist())


def pick_start(event: gr.EventData) -> Any:
    """The start of the picture that was clicked."""
    start = carried(event, "start")
    return start if isinstance(start, int) else gr.skip()


@user_errors()
@computed
def take_checkpoint(session: Session, file: str | None) -> Any:
    """A visitor's own weights, into the session; checked before a network is built from them."""
    if not file:
        raise RoadtripError("Choose a model.safetensors first; the download in Train holds one.")
    model = load(file)
    facts = model.provenance
    about = f"{facts.recipe.name}, seed {facts.seed}, {facts.step} steps" if facts else "a model"
    name = f"{about} (uploaded)"
    session.add_model(name, model)
    return gr.update(choices=session.model_names(), value=name)


@user_errors()
@computed
def export(session: Session, model_name: str, film_name: str, start: float, horizon: float, kind: str) -> Any:
    """The file's path."""
    if kind not in FORMATS:
        raise RoadtripError(f"Choose one of {', '.join(FORMATS)}.")
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    first = nearest_start(offered_starts(film, [model]), start)
    y = yield from rollout_in_turns(model, film, first, horizon_in_range(horizon))
    return str(write(session.download_dir() / f"rollout{FORMATS[kind]}", y))


@user_errors()
@computed
def measure(session: Session, model_name: str, film_name: str, horizon: float) -> dict[str, Any]:
    """Evaluation.to_dict of a model on held-out film, of MEASURED starts and at most MAX_MEASURED frames ahead. For scripts
    alone: the page shows one rollout."""
    horizon = min(horizon_in_range(horizon), MAX_MEASURED)
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    check_rollout(model, film.size, (MEASURED + N_STARTS) * horizon)
    held_out = model.provenance.held_out if model.provenance else HELD_OUT
    return evaluate(model, film, horizon, held_out=held_out, most=MEASURED).to_dict()


def build(session: gr.State) -> Tab:
    gr.Markdown(
        "## How long does it stay realistic?\n"
        "Two real frames go in, then the network continues from its own output. Scrub to see how long the rollout stays "
        "realistic, beside what really came and against no-network baselines."
    )
    with gr.Row():
        model = model_menu("Model", "v2")
        film, start = film_and_start()
        horizon = gr.Slider(1, MAX_HORIZON, HORIZON, step=1, label="Horizon", info="Frames to generate.", min_width=230)
    starts = strip("rt-starts")
    note("What you see: where on the held-out film a rollout can start; a click picks f1.")
    with gr.Accordion("A checkpoint of your own", open=False):
        file = gr.File(label="model.safetensors", file_types=[".safetensors"], height=110)
        use = gr.Button("Use this model")
    asked = [session, model, film, start, horizon]
    with gr.Row(equal_height=True):
        go = gr.Button("Generate", variant="primary", elem_id="rt-drive")
        lossless = lossless_box()
        kind = gr.Dropdown(list(FORMATS), label="Save as", info="Pixels are repeated, never smoothed.", min_width=120)
        download("Save the rollout", "rt-export", export, [*asked, kind], "export", **VIEW)
    words = gr.Markdown(elem_id="rt-words", elem_classes="rt-words")
    show = player(PLAYER)
    note(
        "What you see: the real road, the rollout from the same two frames, and the absolute difference; arrow keys "
        "step, space plays. Where real film ends, only the rollout goes on."
    )
    errors = chart("rt-errors")
    note(
        "What you see: PSNR of each generated frame against the real one, higher is closer. Dashed lines need no "
        "network: copying the last frame, linear extrapolation, the mean training frame. The vertical line is how "
        "deep into its own rollouts the network was trained."
    )
    live_section.build(session, [model, film, start])
    outputs = [show, errors, words]
    go.click(update_view, [*asked, lossless], outputs, api_name="scrub", **VIEW)
    draw: Event = QUIET | VIEW | {"fn": update_view, "inputs": [*asked, lossless], "outputs": outputs}
    draw_first: Event = QUIET | VIEW | {"fn": open_view, "inputs": asked, "outputs": [start, *outputs]}
    draw_strip: Event = QUIET | VIEW | {"fn": strip_of, "inputs": [session, model, film], "outputs": starts}
    gr.on([lossless.input, start.release, horizon.release], **draw)
    gr.Button(visible=False).click(measure, asked[:3] + asked[4:], gr.JSON(visible=False), api_name="measure", **VIEW)
    taken = use.click(take_checkpoint, [session, file], model, api_name="checkpoint_upload")
    for chosen in (model.input, film.input, taken.success):
        chosen(start_range, [session, film, model], start, **QUIET | VIEW).then(**draw).then(**draw_strip)
    starts.click(pick_start, None, start, **QUIET | VIEW).then(**draw)
    return Tab(
        address=[
            *address_of({"model": model}, film, start),
            Field("horizon", horizon, lambda text: whole_number(text, 1, MAX_HORIZON)),
        ],
        first=[draw_first, draw_strip],
        changes=[taken],
    )
