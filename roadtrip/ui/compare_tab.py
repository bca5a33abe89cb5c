"""Compare: two models and the real film under one playhead, their verdicts in words, and the numbers behind them.

Computes no number itself. Independent of the other tabs.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
import torch

from ..errors import RoadtripError
from ..evaluation import HORIZON, film_windows, verdict_window
from ..frames import as_float, to_bytes
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
from . import duel_section, study_tab
from .charts import distances, lag_profiles, spectra, step_sizes
from .compute import on_compute_thread
from .library import ROAD, shipped_names, short_titles
from .player import (
    Item,
    carried,
    chart_value,
    clip_buttons,
    copy_link,
    download,
    lossless_box,
    noted_charts,
    player,
    player_value,
    strip,
    strip_value,
)
from .session import Session
from .starts import film_for, offered_starts, provenance_note, real_frames, recipe_of, start_near, start_slider
from .tab import (
    FIRST,
    QUIET,
    VIEW,
    Event,
    Tab,
    address_of,
    busy,
    escape_markdown,
    film_and_start,
    model_menu,
    two_decimals,
    user_errors,
)
from .views import Busy, Clip, Drawing, Shown, rolled_out, save, view, warm
from .words import describe, who_flips

WINDOW = verdict_window(HORIZON)
PLAYER = "rt-compare-player"


class Example(NamedTuple):
    label: str
    left: str
    right: str
    start: int


# The page opens on the first. Starts are where what the label says is measured most clearly, of eight spread evenly.
EXAMPLES = (
    Example("It flips", "post-replay-pair", "post-replay-single", 1289),
    Example("It stands still", "replay-single", "replay-pair", 1304),
    Example("It blurs", "v2", "v1", 1200),
    Example("It drives on", "v4", "v2", 1304),
)
CHARTS = {  # in the order in which `update_view` gives them, and what is seen in each
    "rt-sizes": "D(1), solid, how far each frame is from the one before; D(2), dotted, from the one before that. In a flip "
    "the dotted line lies near 0. A click moves the film there.",
    "rt-matrix": "how far every frame is from every other. A flip is a chessboard.",
    "rt-lags": "how far apart frames are that lie p apart, relative to neighbours. A flip dips at 2, 4, 6, 8.",
    "rt-spectrum": "how much of the motion is at each frequency. A flip is a peak at the right end.",
}


@view(outputs=7)
def compared(session: Session, left: str, right: str, film_name: str, start: float, lossless: bool) -> Drawing:
    """(the player's value, the slider of starts, the numbers in words, step sizes, distances, lag profiles, spectra)."""
    if left == right:
        raise RoadtripError("Choose two different models to compare.")
    names = (left, right)
    found_models = [session.model(name) for name in names]
    labels = short_titles(*map(session.title, names))
    models = dict(zip(labels, found_models))
    recipes = [recipe_of(model) for model in found_models]
    film = film_for(session, film_name, found_models[0])
    starts = offered_starts(film, found_models)
    first = start_near(film, found_models, start, HORIZON)
    # each rollout in the size that its model was trained at, all at the gap of the first
    films = {name: film_for(session, film_name, model).with_gap(film.gap) for name, model in models.items()}
    rollouts = {}
    for name, model in models.items():
        rollouts[name] = yield from rolled_out(model, films[name], first, HORIZON, name)
    real = as_float(real_frames(film, first, HORIZON))
    yield Busy("measuring", HORIZON, HORIZON)
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
    notes += f"\n\n{study_tab.study_note(names)}"
    try:
        around = {name: film_windows(f, WINDOW) for name, f in films.items()}
    except RoadtripError as error:  # pictures there are even so
        said, headline, lags = {}, str(error), chart_value(lag_profiles({}, []))
        numbers = notes
    else:
        found = {name: oscillation(y, around[name]) for name, y in late.items()}
        profiles = {name: list(o.lag_profile) for name, o in found.items()}
        real_profile = None if late_real is None else list(oscillation(late_real, around[labels[0]]).lag_profile)
        lags = chart_value(lag_profiles(profiles, recipes, real_profile))
        said = {name: describe(o) for name, o in found.items()}
        headline, numbers = who_flips(found), table(found, around[labels[0]]) + notes
    pictures = rollouts | ({"real film": real} if len(real) else {})
    begin = HORIZON - WINDOW  # where the verdict is read from, and a flip is running
    film_value = player_value(
        pictures,
        f"{left} {right} {film_name} {first}",
        lossless,
        autoplay=True,
        headline=headline,
        said=said,
        begin=begin,
        asked={"left": left, "right": right, "film": film_name, "start": start},
        start=first,
    )
    clip = Clip({n: (y * 255).round().byte() for n, y in pictures.items()}, said, begin)
    yield Shown((film_value, start_slider(starts, first, start), numbers, *charts, lags, rhythm), clip)


def table(found: dict[str, Oscillation], real: RealFilm) -> str:
    """The measures of each rollout beside real film's."""
    rows = [(escape_markdown(n), f"**{o.verdict}**", as_row(o)) for n, o in found.items()]
    medians = {"R": real.return_ratio, "N": real.nyquist_excess, "S": 1.0, "sharpness": 1.0}
    head = ["", "verdict", *COMPARED]
    lines = [head, ["---"] * len(head)]
    for name, verdict, values in [*rows, ("real film", "", medians)]:
        lines.append([name, verdict, *(two_decimals(values.get(letter)) for letter in COMPARED)])
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{drawn}\n\nOne start, one seed of each; read from the last {WINDOW} of {HORIZON} frames. No unit; as real film "
        f"is better. **R** = D(2)/D(1): 0 in a flip, 1 without memory, 2 at constant speed. "
        f"**N**: how far the fastest alternation stands out, 1 in noise, {WINDOW // 2} when there is nothing else. **S**: "
        f"step size relative to real film. **B**: share of variance explained by two images. **sharpness**: relative to "
        f"real film; below 1 is blurred."
    )


def picked_example(session: Session, event: gr.EventData) -> Any:
    """(left, right, film, *what `compared` gives) of the example that was clicked."""
    known = {e.label: e for e in examples()}
    example = known.get(str(carried(event, "label")))
    if example is None:
        yield (gr.skip(),) * 10
        return
    for film, slider, *others in compared.stream(session, example.left, example.right, ROAD, example.start, False):
        yield example.left, example.right, ROAD, film, slider | {"value": example.start}, *others


def with_newest(session: Session, left: str, right: str, film_name: str, *rest: Any) -> Iterator[Any]:
    """(left, film, *what `compared` gives) when the tab is opened for the first time since a training began."""
    newest, run = session.offer("compare"), session.runs
    if newest is None:  # to yield nothing would empty all of them
        yield (gr.skip(),) * 9
    else:
        for shown in compared.stream(session, newest[0], right, newest[1], *rest):
            yield *newest, *shown
        session.offered["compare"] = run  # gradio drops what a page waits for when that stops a training


def examples() -> list[Example]:
    """Those whose models are shipped."""
    there = {*shipped_names()}
    return [e for e in EXAMPLES if {e.left, e.right} <= there]


def thumbnails() -> Iterator[Any]:
    """The examples as buttons, one more each time: two frames in a row of each one's own rollout, which differ where it
    flips."""
    items, frames = [], []
    if not examples():
        yield None
    for e in examples():
        with user_errors():
            clip = compared.pin(e.left, e.right, ROAD, e.start, False).clip
        assert clip
        label, drawn = next(iter(clip.views.items()))
        frames.append(on_compute_thread(shrunk, drawn[clip.begin + 8 : clip.begin + 10]))
        picked = {"left": e.left, "right": e.right, "film": ROAD, "start": e.start}
        items.append(Item(picked, f"{label}: {clip.said.get(label, '')}", e.label))
        yield strip_value(torch.cat(frames), items, PLAYER, span=2)


def shrunk(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [T, 3, H, W] as [T, 3, 48, 80], the size of a thumbnail."""
    small = torch.nn.functional.interpolate(as_float(frames), (48, 80), mode="bilinear", antialias=True)
    return to_bytes(small).movedim(-1, 1)


def save_clip(session: Session, left: str, right: str, film_name: str, start: float, kind: str) -> str:
    with user_errors():
        return save(compared.now(session, left, right, film_name, start, False).clip, session, "compare", kind)


def build(session: gr.State) -> Tab:
    opening = next(iter(examples()), None)
    show = player(PLAYER)
    with gr.Row(elem_classes="rt-actions"):
        live = gr.Button("Watch v4 drive on, live", variant="primary", elem_id="rt-go-live", min_width=200)
        kind, saving = clip_buttons()
        copy_link()
    picks = strip("rt-examples", "Examples")
    with gr.Row(elem_classes="rt-controls"):
        left = model_menu("First model", opening.left if opening else "v3-pair")
        right = model_menu("Second model", opening.right if opening else "v3-single", 1)
        film, start = film_and_start(opening.start if opening else FIRST)
    with gr.Accordion("Numbers", open=False):
        numbers = gr.Markdown(elem_id="rt-numbers", elem_classes="rt-words")
        lossless = lossless_box()
        charts = [*noted_charts([*CHARTS.items()][:2]), *noted_charts([*CHARTS.items()][2:])]
    with gr.Accordion("Train both yourself, side by side", open=False):
        changes = duel_section.build(session, film)
    asked, outputs = [session, left, right, film, start], [show, start, numbers, *charts]
    draw: Event = QUIET | VIEW | {"fn": compared.stream, "inputs": [*asked, lossless], "outputs": outputs}
    served = gr.Textbox(visible=False)  # the key of the film that the page came with
    redraws = [left.input, right.input, film.input, start.release, lossless.input]
    busy(PLAYER, *redraws)
    gr.on(redraws, **draw | {"api_visibility": "public", "api_name": "compare"})
    picks.click(picked_example, session, [left, right, film, *outputs], **QUIET | {"concurrency_limit": 4})
    live.click(None, js="() => window.rtOpen('drive')", **QUIET)
    download(saving, "rt-compare-file", save_clip, [*asked, kind], "save_comparison", **VIEW)
    return Tab(
        address=address_of({"left": left, "right": right}, film, start),
        first=[
            draw | {"fn": unless_served, "inputs": [served, *draw["inputs"]]},
            QUIET | {"fn": thumbnails, "inputs": [], "outputs": picks},
        ],
        changes=changes,
        opened=draw | {"fn": with_newest, "outputs": [left, film, *outputs]},
        pinned=partial(pin_examples, show, served),
    )


def pin_examples(show: gr.HTML, served: gr.Textbox) -> None:
    """Makes the examples, which stay for all visitors; pages opened from now on come with the first of them."""
    for e in examples():
        warm(partial(compared.pin, e.left, e.right, ROAD, e.start, False))
    if opening := next(iter(examples()), None):
        show.value = compared.pin(opening.left, opening.right, ROAD, opening.start, False).answer[0]
        served.value = show.value["key"]


def unless_served(
    served: str | None, session: Session, left: str, right: str, film: str, start: float, *rest: Any
) -> Any:
    """What `compared` gives, less the film that the page came with."""
    for shown, *others in compared.stream(session, left, right, film, start, *rest):
        # a page that came before the opening was made has no key, as what says how far the work is has none
        there = bool(served) and (shown.get("key"), shown.get("start")) == (served, start)
        yield gr.skip() if there else shown, *others
