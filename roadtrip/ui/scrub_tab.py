"""Scrub: how long a rollout stays realistic. One server call, then everything in the browser.

Computes no number itself. Independent of the other tabs.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ..checkpoint import load
from ..errors import RoadtripError
from ..evaluation import (
    HELD_OUT,
    HORIZON,
    N_STARTS,
    baselines,
    evaluate,
    film_windows,
    verdict_window,
)
from ..export import rate_of, write
from ..film import evenly_spaced
from ..frames import as_float, psnr
from ..oscillation import MIN_WINDOW, oscillation
from .budget import MAX_HORIZON, check_rollout, horizon_in_range
from .charts import error_curves
from .compute import computed
from .player import (
    Item,
    chart,
    chart_value,
    clip_buttons,
    copy_link,
    download,
    lossless_box,
    note,
    player,
    player_value,
    strip,
    strip_value,
)
from .session import Session
from .starts import (
    film_for,
    nearest_start,
    offered_starts,
    provenance_note,
    real_frames,
    recipe_of,
    rollout_in_turns,
    start_near,
    start_slider,
)
from .tab import (
    QUIET,
    VIEW,
    Event,
    Field,
    Tab,
    address_of,
    busy,
    escape_markdown,
    film_and_start,
    model_menu,
    two_decimals,
    user_errors,
    whole_number,
)
from .views import Clip, Drawing, Shown, rolled_out, save, view
from .words import beside_copying, describe, errors_in_words

PLAYER = "rt-scrub-player"
STRIP_STARTS = 12  # to pick from
MAX_MEASURED, MEASURED = 32, 8  # frames ahead and starts of what the API measures
FORMATS = {"mp4": ".mp4", "gif": ".gif", "webp": ".webp", "png strip": ".png"}


@view(outputs=4)
def scrubbed(
    session: Session, model_name: str, film_name: str, start: float, horizon: float, lossless: bool
) -> Drawing:
    """(the player's value, the slider of starts, the numbers in words, the error curves)."""
    model, title = session.model(model_name), session.title(model_name)
    film = film_for(session, film_name, model)
    horizon = horizon_in_range(horizon)
    first = start_near(film, [model], start, HORIZON)
    f1, f2 = (as_float(film.frames[t])[None] for t in (first, first + film.gap))
    y = yield from rolled_out(model, film, first, horizon, title)
    real = as_float(real_frames(film, first, horizon))
    views = {"generated": y, "real film": real, "difference": (y[: len(real)] - real).abs()}
    said, numbers = {}, provenance_note(title, film, model, first)
    if len(y) >= MIN_WINDOW:
        window = verdict_window(len(y))
        try:
            o = oscillation(y[-window:], film_windows(film, window))
        except RoadtripError as error:
            numbers += escape_markdown(f" {error}")
        else:
            said = {"generated": describe(o)}
            R, S = (two_decimals(value, "undefined") for value in (o.return_ratio, o.step_ratio))
            numbers += (
                f"\n\nIts last {window} frames: **{o.verdict}**. R {R} (D(2)/D(1): 0 in a flip, about 1.3 in real film), "
                f"N {o.nyquist_excess:.2f} (alternation: 1 in noise, {window // 2} at most; lower is better), S {S} (step "
                f"size relative to real film; 1 is best)."
            )
    deepest = model.provenance.recipe.deepest if model.provenance else 0
    if len(real):
        generated = {"model": y[None]} | baselines(f1, f2, horizon, model.mean_frame)
        errors = {m: psnr(v[0, : len(real)], real).tolist() for m, v in generated.items()}
        headline, numbers = beside_copying(errors), f"{errors_in_words(errors)} {numbers}"
        curves = chart_value(error_curves(errors, deepest, title, recipe_of(model)), PLAYER)
    else:
        headline, curves = "No more real frames from this start: there is nothing to compare the rollout with.", None
    key = f"{model_name} {film_name} {first} {horizon}"
    asked = {"model": model_name, "film": film_name, "start": start}
    film_value = player_value(views, key, lossless, headline=headline, said=said, asked=asked, start=first)
    pictures = {"real film": real, title: y} if len(real) else {title: y}
    clip = Clip({n: (v * 255).round().byte() for n, v in pictures.items()}, {title: said.get("generated", "")}, 0)
    yield Shown((film_value, start_slider(offered_starts(film, [model]), first, start), numbers, curves), clip)


@user_errors()
@computed
def strip_of(session: Session, model_name: str, film_name: str) -> Any:
    """Pictures of the starts that there are for this model and film."""
    model = session.model(model_name)
    film = film_for(session, film_name, model)
    starts = evenly_spaced(offered_starts(film, [model]), STRIP_STARTS)
    items = [Item({"start": start}, f"frame {start}") for start in starts.tolist()]
    return strip_value(film.frames[starts], items, PLAYER)


def with_newest(session: Session, model_name: str, film_name: str, *rest: Any) -> Iterator[Any]:
    """(model, film, *what `scrubbed` gives, the starts) when the tab is opened for the first time since a training."""
    newest, run = session.offer("scrub"), session.runs
    if newest is None:  # to yield nothing would empty all of them
        yield (gr.skip(),) * 7
    else:
        for shown in scrubbed.stream(session, *newest, *rest):
            yield *newest, *shown, None  # starts of another film go at once
        yield *(gr.skip(),) * 6, strip_of(session, *newest)
        session.offered["scrub"] = run  # gradio drops what a page waits for when that stops a training


@user_errors()
@computed
def take_checkpoint(session: Session, file: str | None) -> Any:
    """A visitor's own weights, into the session; checked before a network is built from them."""
    if not file:
        raise RoadtripError("Choose a model.safetensors first; the download in Train holds one.")
    session.uploads.add(file)
    model = load(file)
    facts = model.provenance
    about = f"{facts.recipe.name}, seed {facts.seed}, {facts.step} steps" if facts else "a model"
    name = f"{about} (uploaded)"
    session.add_model(name, model)
    return gr.update(choices=session.model_choices(), value=name)


@user_errors()
@computed
def export(session: Session, model_name: str, film_name: str, start: float, horizon: float, kind: str) -> Any:
    """The path of the rollout alone, pixel for pixel."""
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


def save_clip(session: Session, model: str, film_name: str, start: float, horizon: float, kind: str) -> str:
    with user_errors():
        return save(scrubbed.now(session, model, film_name, start, horizon, False).clip, session, "rollout", kind)


def build(session: gr.State) -> Tab:
    show = player(PLAYER)
    with gr.Row(elem_classes="rt-actions"):
        kind, saving = clip_buttons()
        copy_link()
    with gr.Row(elem_classes="rt-controls"):
        model = model_menu("Model", "v2")
        film, start = film_and_start()
        horizon = gr.Slider(
            1,
            MAX_HORIZON,
            HORIZON,
            step=1,
            label="Horizon",
            info="Frames to generate; out of range, the nearest.",
            min_width=200,
        )
    starts = strip("rt-starts", "Start frames")
    note("Where on the held-out film the rollout starts: a click picks its first input frame.")
    with gr.Accordion("Numbers", open=False):
        words = gr.Markdown(elem_id="rt-words", elem_classes="rt-words")
        errors = chart("rt-errors")
        note(
            "What you see: PSNR of each generated frame against the real one in dB, higher is closer. Dashed lines are "
            "no-network baselines: copying the last frame, linear extrapolation, the mean training frame. The vertical "
            "line is how deep into its own rollouts the network was trained."
        )
        lossless = lossless_box()
    with gr.Accordion("Files: the rollout alone, a checkpoint of your own", open=False):
        with gr.Row():
            info = f"Pixels are repeated, never smoothed. A gif plays {rate_of('x.gif', 8):.3g} frames a second, not 8."
            kinds = gr.Dropdown(list(FORMATS), label="Rollout as", info=info)
            alone = gr.Button("Save the rollout")
        file = gr.File(label="model.safetensors: drop it to use it", file_types=[".safetensors"], height=110)
    asked = [session, model, film, start, horizon]
    outputs = [show, start, words, errors]
    draw: Event = QUIET | VIEW | {"fn": scrubbed.stream, "inputs": [*asked, lossless], "outputs": outputs}
    draw_strip: Event = QUIET | VIEW | {"fn": strip_of, "inputs": [session, model, film], "outputs": starts}
    redraws = [model.input, film.input, start.release, horizon.release, lossless.input]
    taken = file.upload(take_checkpoint, [session, file], model, api_name="checkpoint_upload")
    busy(PLAYER, *redraws, file.upload)
    gr.on(redraws, **draw | {"api_visibility": "public", "api_name": "scrub"})
    taken.success(**draw).then(**draw_strip)
    others = [model.input, film.input]
    gr.on(others, None, outputs=starts, js="() => null", **QUIET)  # old starts never stand under a new name
    gr.on(others, **draw_strip)
    pick = f"() => window.rtPicked('{PLAYER}', 'start')"
    starts.click(None, None, start, js=pick, **QUIET).then(**draw)
    download(saving, "rt-scrub-file", save_clip, [*asked, kind], "save_clip", **VIEW)
    download(alone, "rt-export", export, [*asked, kinds], "export", **VIEW)
    gr.Button(visible=False).click(measure, asked[:3] + asked[4:], gr.JSON(visible=False), api_name="measure", **VIEW)
    return Tab(
        address=[
            *address_of({"model": model}, film, start),
            Field("horizon", horizon, lambda text: whole_number(text, 1, MAX_HORIZON)),
        ],
        first=[draw, draw_strip],
        changes=[taken],
        opened=draw | {"fn": with_newest, "outputs": [model, film, *outputs, starts]},
    )
