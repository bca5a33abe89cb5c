"""Drive: frames stream to the page as they are generated, for as long as one watches. Begins when the tab is opened.

Computes no number itself. Independent of the other tabs.
"""

import copy
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from ..endless import WINDOW, Road, newness, road
from ..errors import RoadtripError
from ..evaluation import film_windows
from ..film import Film
from ..model import NextFrame
from ..oscillation import RealFilm, oscillation
from ..rollout import drive
from .budget import DRIVES, MAX_DRIVE_SECONDS, check_rollout, number, number_between
from .compute import computed, interleave, on_compute_thread
from .library import ROAD, opening_model
from .player import clip_buttons, copy_link, download, live_player, live_value, note
from .session import Session
from .starts import film_for, nearest_start, offered_starts, start_near, start_slider
from .tab import (
    QUIET,
    VIEW,
    Event,
    Tab,
    address_of,
    film_and_start,
    model_menu,
    sentence_of,
    two_decimals,
    ui_error,
    user_errors,
)
from .views import Clip, save
from .words import describe

FIRST = 1250  # f1 of the drive that the tab opens with, on the rendered road's held-out stretch
FPS = 12  # frames a second that are shown of a model that samples, which does not flip; of others half as many, since a
# flip is three flashes a second then, the most that WCAG allows
CHUNK = 6  # frames that are sent at once
MAX_TEMPERATURE = 1.5
KEPT = 256  # newest frames that can be saved


@dataclass
class LiveDrive:
    """A drive that a visitor watches or has paused. asked: model, film and start as the page had them."""

    asked: tuple[str, str, int]
    seed: int
    model: NextFrame  # a copy, so that its temperature is this drive's alone
    real: RealFilm | None
    road: Road | None
    stream: Iterator[Tensor]
    recent: deque[Tensor] = field(default_factory=lambda: deque(maxlen=KEPT))  # uint8 [3, H, W]
    count: int = 0
    coming: list[Tensor] = field(default_factory=list)  # of the next chunk, when it was paused within one
    said: str = ""
    own: float = 1.0  # temperature of the model as it was trained; the page's is a share of it

    @property
    def fps(self) -> int:
        return FPS if self.model.sampler else FPS // 2


def begin(session: Session, model_name: str, film_name: str, start: float, seed: int) -> LiveDrive:
    model = copy.copy(session.model(model_name))
    film = film_for(session, film_name, model)
    check_rollout(model, film.size)
    first = nearest_start(offered_starts(film, [model]), start)
    f1, f2 = film.frames[first], film.frames[first + film.gap]
    real, roads = compared_with(film, model)
    asked, own = (model_name, film_name, int(start)), model.sampler.temperature if model.sampler else 1.0
    return LiveDrive(asked, seed, model, real, roads, drive(model, f1, f2, seed), own=own)


def compared_with(film: Film, model: NextFrame) -> tuple[RealFilm | None, Road | None]:
    """Real windows of the film and its training stills, each where it has any."""
    found: list[Any] = []
    held_out = model.provenance.held_out if model.provenance else 0.2
    for made in (lambda: film_windows(film, WINDOW), lambda: road(film, held_out)):
        try:
            found.append(made())
        except RoadtripError:
            found.append(None)
    return found[0], found[1]


@user_errors()
def set_temperature(session: Session, temperature: float) -> None:
    live, temperature = session.live, number(temperature, "the temperature", 0, MAX_TEMPERATURE)
    if live and live.model.sampler:
        live.model.sampler = replace(live.model.sampler, temperature=live.own * temperature)


def chunks(live: LiveDrive) -> Generator[dict[str, Any] | None]:
    """The live player's values, one for each CHUNK of frames, without an end; None wherever others may compute."""
    while True:
        for frame in islice(live.stream, CHUNK - len(live.coming)):
            live.coming.append((frame[0] * 255).round().byte().cpu())
            yield None
        frames, live.coming = live.coming, []
        live.recent.extend(frames)
        live.count += CHUNK
        if live.count >= WINDOW and live.count // CHUNK % 3 == 0:
            live.said = in_words(live)
        key = f"{live.asked} {live.seed}"
        yield live_value(
            torch.stack(frames),
            key,
            live.count - CHUNK,
            live.fps,
            f"Frame {live.count}{live.said and ' · '}{live.said}",
        )


def in_words(live: LiveDrive) -> str:
    frames = torch.stack([*live.recent][-WINDOW:])
    said = ""
    if live.real:
        o = oscillation(frames, live.real)
        said = f"the last {WINDOW}: {describe(o)}, sharpness {two_decimals(o.sharpness_ratio)}"
    return said + (f", newness {newness(frames, live.road):.2f}" if live.road else "")


def watch(
    session: Session, model_name: str, film_name: str, start: float, temperature: float, other: bool = False
) -> Iterator[Any]:
    """Goes on with the drive that was paused, if the page still asks for it, else begins one. other: with another seed."""
    ongoing = session.driving
    try:
        with ongoing.begin():
            number_between(temperature, "the temperature", 0, MAX_TEMPERATURE)
            if ongoing.stops:  # the page was left before its turn came
                yield gr.skip()
                return
            live = session.live
            seed = (live.seed if live else 0) + other
            if other or live is None or live.asked != (model_name, film_name, int(number(start, "a start frame"))):
                yield {"key": "begins", "said": f"{session.title(model_name)}: generating the first frames …"}
                live = on_compute_thread(begin, session, model_name, film_name, start, seed)
                session.live = live
            set_temperature(session, temperature)
            began, first = time.monotonic(), live.count
            for value in interleave(session, chunks(live)):
                yield gr.skip() if ongoing.stops else value or gr.skip()
                shown = time.monotonic() - began
                if ongoing.stops or shown > MAX_DRIVE_SECONDS:
                    return
                # no faster than it is watched: half a second ahead
                time.sleep(max(0.0, (live.count - first - CHUNK) / live.fps - 0.5 - shown))
    except Exception as error:
        sentence = sentence_of(error)
        yield {"key": "failed", "said": sentence}
        raise ui_error(sentence, visible=False) from None


def watch_another(session: Session, model_name: str, film_name: str, start: float, temperature: float) -> Iterator[Any]:
    yield from watch(session, model_name, film_name, start, temperature, other=True)


def restart(session: Session) -> None:
    """The drive before ends first: two would paint in turns."""
    session.driving.stop()
    session.driving.ask()


@user_errors()
def save_clip(session: Session, kind: str) -> str:
    live = session.live
    if not live or not live.recent:
        raise RoadtripError("Generate some frames first; then they can be saved.")
    title = session.title(live.asked[0])
    return save(Clip({title: torch.stack([*live.recent])}, {title: live.said}, 0), session, "drive", kind, live.fps)


def build(session: gr.State) -> Tab:
    show = live_player("rt-live")
    with gr.Row(elem_classes="rt-actions"):
        go = gr.Button("Generate", variant="primary", elem_id="rt-live-go", min_width=110)
        pause = gr.Button("Pause", elem_id="rt-live-pause", min_width=80)
        another = gr.Button("Another drive", elem_id="rt-live-another", min_width=120)
        kind, saving = clip_buttons(FPS, FPS // 2)
        copy_link()
    with gr.Row(elem_classes="rt-controls"):
        model = model_menu("Model", "v4")
        film, start = film_and_start(FIRST)
        info = "Scale of v4's noise; lower is calmer."
        heat = gr.Slider(0, MAX_TEMPERATURE, 1, step=0.05, label="Temperature", info=info, min_width=200)
    note(
        "What you see: the rollout alone, from two real frames, for as long as you watch. Motion and sharpness are "
        "relative to real film, 1 is best; newness is the distance to the nearest training still, relative to that of "
        "held-out film: 0 is playback, 1 as new as real film."
    )
    asked = [session, model, film, start, heat]
    how: dict[str, Any] = {"concurrency_id": "live", "concurrency_limit": DRIVES, "show_progress": "hidden"}
    at_once: Event = QUIET | {"inputs": session, "queue": False}
    go.click(lambda session: session.driving.ask(), **at_once).then(watch, asked, show, api_name="drive_on", **how)
    # the drive before may not have ended for the page when the next one is asked for
    how |= {"api_visibility": "private", "trigger_mode": "multiple"}
    another.click(restart, **at_once).then(watch_another, asked, show, **how)
    gr.on([model.input, film.input, start.release], restart, **at_once).then(watch, asked, show, **how)
    pause.click(lambda session: session.driving.stop(), **at_once)
    heat.release(set_temperature, [session, heat], None, **QUIET | VIEW)
    download(saving, "rt-live-file", save_clip, [session, kind], "save_drive", **VIEW)
    asked_range: Event = QUIET | VIEW | {"fn": start_range, "inputs": [session, model, film, start], "outputs": start}
    gr.on([model.input, film.input], **asked_range)
    return Tab(address=address_of({"model": model}, film, start), first=[asked_range], changes=[], warm_up=warm_up)


@computed
def start_range(session: Session, model_name: str, film_name: str, start: float) -> Any:
    """The slider over the starts that there are."""
    try:
        model = session.model(model_name)
        film = film_for(session, film_name, model)
        return start_slider(offered_starts(film, [model]), start_near(film, [model], start, WINDOW), start)
    except RoadtripError:  # the drive itself says it
        return gr.skip()


def warm_up() -> None:
    """What a drive is compared with takes a moment to read."""
    model = opening_model("v4")
    if model:
        on_compute_thread(begin, Session(), model, ROAD, FIRST, 0)
