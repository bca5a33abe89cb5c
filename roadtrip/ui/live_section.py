"""Drive on, live: frames stream to the page as they are generated, for as long as one watches.

Takes the model, film and start of the tab it stands in. Computes no number itself.
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
from ..export import write
from ..film import Film
from ..model import NextFrame
from ..oscillation import RealFilm, oscillation
from ..rollout import drive
from .budget import DRIVES, MAX_DRIVE_SECONDS, check_rollout, number
from .compute import interleave, on_compute_thread
from .player import download, live_player, live_value, note
from .session import Session
from .starts import film_for, nearest_start, offered_starts
from .tab import QUIET, VIEW, two_decimals, user_errors

FPS = 12  # frames a second that are shown
CHUNK = 6  # frames that are sent at once
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


def begin(session: Session, model_name: str, film_name: str, start: float, seed: int) -> LiveDrive:
    model = copy.copy(session.model(model_name))
    film = film_for(session, film_name, model)
    check_rollout(model, film.size)
    first = nearest_start(offered_starts(film, [model]), start)
    f1, f2 = film.frames[first], film.frames[first + film.gap]
    real, roads = compared_with(film, model)
    return LiveDrive((model_name, film_name, int(start)), seed, model, real, roads, drive(model, f1, f2, seed))


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
    live, temperature = session.live, number(temperature, "the temperature")
    if live and live.model.sampler:
        live.model.sampler = replace(live.model.sampler, temperature=temperature)


def chunks(live: LiveDrive) -> Generator[dict[str, Any] | None]:
    """The live player's values, one for each CHUNK of frames, without an end; None wherever others may compute."""
    said = ""
    while True:
        for frame in islice(live.stream, CHUNK - len(live.coming)):
            live.coming.append((frame[0] * 255).round().byte().cpu())
            yield None
        frames, live.coming = live.coming, []
        live.recent.extend(frames)
        live.count += CHUNK
        if live.count >= WINDOW and live.count // CHUNK % 3 == 0:
            said = in_words(live)
        key = f"{live.asked} {live.seed}"
        yield live_value(torch.stack(frames), key, live.count - CHUNK, FPS, f"frame {live.count}{said}")


def in_words(live: LiveDrive) -> str:
    frames = torch.stack([*live.recent][-WINDOW:])
    said = ""
    if live.real:
        o = oscillation(frames, live.real)
        said = f" · last {WINDOW} frames: {o.verdict}, S {two_decimals(o.step_ratio)}, sharpness "
        said += two_decimals(o.sharpness_ratio)
    return said + (f", nn {newness(frames, live.road):.2f}" if live.road else "")


def watch(
    session: Session, model_name: str, film_name: str, start: float, temperature: float, other: bool = False
) -> Iterator[Any]:
    """Goes on with the drive that was paused, if the page still asks for it, else begins one. other: with another seed."""
    with user_errors():
        live = session.live
        seed = (live.seed if live else 0) + other
        if other or live is None or live.asked != (model_name, film_name, int(number(start, "a start frame"))):
            live = on_compute_thread(begin, session, model_name, film_name, start, seed)
            session.live = live
        set_temperature(session, temperature)
        began, first = time.monotonic(), live.count
        for value in interleave(session, chunks(live)):
            yield value or gr.skip()
            shown = time.monotonic() - began
            if shown > MAX_DRIVE_SECONDS:
                return
            # no faster than it is watched: half a second ahead
            time.sleep(max(0.0, (live.count - first - CHUNK) / FPS - 0.5 - shown))


def watch_another(session: Session, model_name: str, film_name: str, start: float, temperature: float) -> Iterator[Any]:
    yield from watch(session, model_name, film_name, start, temperature, other=True)


@user_errors()
def save_clip(session: Session) -> str:
    if not session.live or not session.live.recent:
        raise RoadtripError("Drive on first; then what was shown can be saved.")
    return str(write(session.download_dir() / "drive.mp4", torch.stack([*session.live.recent])))


def build(session: gr.State, asked: list[Any]) -> None:
    """asked: the components that say which model, film and start."""
    gr.Markdown("### Drive on, live\nFrames appear as the model generates them, for as long as you watch.")
    with gr.Row():
        go = gr.Button("Drive on", variant="primary", elem_id="rt-live-go")
        pause = gr.Button("Pause", elem_id="rt-live-pause")
        another = gr.Button("Another drive", elem_id="rt-live-another")
        download("Save the clip", "rt-live-file", save_clip, [session], "save_drive", **VIEW)
    heat = gr.Slider(0, 1.5, 1, step=0.05, label="Temperature", info="Of what v4 draws: lower is calmer.")
    show = live_player("rt-live")
    note(
        "What you see: the rollout alone. S is its motion over real motion; sharpness is over real film's; nn is the "
        "distance to the nearest training still, over that of held-out film: 0 is playback, 1 is as new as real film."
    )
    how: dict[str, Any] = {"concurrency_id": "live", "concurrency_limit": DRIVES, "show_progress": "hidden"}
    going: Any = go.click(watch, [session, *asked, heat], show, api_name="drive_on", **how)
    # the drive before ends first: two would paint in turns
    ended = another.click(None, cancels=going, **QUIET)
    changed = ended.then(watch_another, [session, *asked, heat], show, api_visibility="private", **how)
    pause.click(None, cancels=[going, changed], **QUIET)
    heat.release(set_temperature, [session, heat], None, **QUIET | VIEW)
