"""One run of the study: trained, measured by the protocol, and kept as a checkpoint and its row.

Independent of how many runs there are and of where they run.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from ..atomic import whole_file
from ..calibration import calibrate
from ..checkpoint import load_state, save, save_or_keep, versions
from ..endless import endless_row, measure_endless
from ..errors import RoadtripError, tell
from ..evaluation import (
    HELD_OUT,
    HORIZON,
    HORIZONS,
    baselines,
    film_windows,
    multiplier,
    oscillations,
    psnr_at_horizons,
    spread_over_skill,
    start_clips,
    verdict_window,
)
from ..film import Film, evenly_spaced
from ..frames import as_float
from ..model import NextFrame
from ..oscillation import COMPARED, MIN_WINDOW, ROW, as_row, median_oscillation
from ..rollout import rollout
from ..sources import open_film
from ..train import Paused, Run, find_device
from .rows import Job, Row, film_and_gap, key_of, to_json

CHECKS = 12  # at a fixed start while a run trains
SAVE_EVERY = 60.0  # seconds between saves of a run that trains
LATE = verdict_window(HORIZON)  # frames at the end of a rollout that are measured


def run(job: Job, folder: Path, device: str | None = None) -> Row:
    """The row of one run: trained, measured and written whole to its folder, or read from there if it was before.

    On a CPU it has one thread and, unless it is endless, float32: with another number of threads, sums are added up in
    another order, and a row would be another on another machine. Several cores take several runs at once, which costs
    less than to share one run between them. Of the processor's vectors it takes what the process has; `study` starts
    processes with VECTORS.

    A run that was killed goes on from where it was saved last and gives the same row; each save is told on standard
    error. Raises RoadtripError where the film can't be opened or has no held-out stretch that is long enough to measure on.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        film = open_job(job)
        key = job.key(film.fingerprint, film.gap)
        home = folder / job.folder(key)
        row_file = home / "row.json"
        with suppress(OSError, ValueError):  # not there, or damaged
            row: Row = json.loads(row_file.read_text())
            if key_of(row) == key:
                return row
        row, model = _trained(job, film, find_device(device), home)
    finally:
        torch.set_num_threads(threads)
    save_or_keep(home, model)
    with whole_file(row_file) as file:
        file.write_text(json.dumps(row, allow_nan=False))
    return row


def open_job(job: Job) -> Film:
    source, gap = film_and_gap(job.film)
    return open_film(source, size=job.size, gap=gap)


def _trained(job: Job, film: Film, device: torch.device, home: Path) -> tuple[Row, NextFrame]:
    """The row of a run, and what it trained. Until it is done it is kept in `home`."""
    ahead = 2 + max(HORIZONS)
    if not len(film.starts(ahead, "held_out", HELD_OUT)):
        raise RoadtripError(
            f"The held-out stretch of {film.name} has no {ahead} frames in a row at gap {film.gap}; give a longer film or "
            f"a smaller gap."
        )
    about_film = of_film(film)
    starts = film.starts(2, "held_out", HELD_OUT)
    middle = film.clips(starts[len(starts) // 2].view(1), 2)  # uint8 [1, 2, 3, H, W]
    exact = device.type == "cpu" and not job.endless
    training = Run(job.recipe, film, job.seed, HELD_OUT, device, "float32" if exact else "auto")
    training_curve = _go_on(training, home)
    began = time.perf_counter() - training.spent
    saved = time.perf_counter()
    checks = {round(job.steps * (i + 1) / CHECKS) for i in range(CHECKS)}
    while training.step_count < job.steps:
        losses = training.step(job.steps)
        if training.step_count in checks:  # at a fixed start, a clock of its own (H4): of 32 frames the second half
            frames = rollout(training.model, middle[:, 0], middle[:, 1], 2 * MIN_WINDOW)[:, -MIN_WINDOW:]
            measures = as_row(median_oscillation(oscillations(frames, film)))
            at = {"step": training.step_count}
            training_curve.append(at | measures | {k: v.item() for k, v in losses.items()})
        now = time.perf_counter()
        if training.step_count < job.steps and now - saved > SAVE_EVERY:
            training.spent = now - began
            _keep(training, training_curve, home)
            saved = time.perf_counter()
            tell(f"{job.arm} on {job.film_name}, seed {job.seed}: step {training.step_count} of {job.steps}")
    calibration = calibrate(training.model, film) if job.endless else []
    if training.model.sampler:
        training.ema.use(training.model.sampler)
    seconds = time.perf_counter() - began
    for model in (training.model, training.ema):
        model.provenance = replace(model.provenance, step=job.steps, steps=job.steps)
    averaged = measure(training.ema, film)
    middle = film.clips(evenly_spaced(starts, 3)[1:2], 2)  # the rollout map's multiplier (H3) is taken at this one
    late = rollout(training.model, middle[:, 0], middle[:, 1], HORIZON)[0, -LATE:]
    row = {
        "arm": job.arm,
        "film": job.film_name,
        "seed": job.seed,
        "steps": job.steps,
        "size": job.size,
        "setting": job.setting,
        "recipe": job.recipe.to_dict(),
        **measure(training.model, film),
        **about_film,
        "ema": {k: averaged[k] for k in (*ROW, "onset", "psnr")},
        "multiplier": asdict(multiplier(training.model, late)),
        "training_curve": training_curve,
        **({"endless": measure_endlessly(training.model, film, job.endless)} if job.endless else {}),
        **({"calibration": [asdict(found) for found in calibration]} if calibration else {}),
        "nonfinite": bool(training.nonfinite),
        "command": job.command,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "device": training.device.type,
        "dtype": training.dtype,
        "versions": versions(),
    }
    # five digits are more than any measure is good for; and as it is read from its file, where a tuple is a list
    return cast(Row, to_json(row, digits=5)), training.model


def _keep(training: Run, training_curve: list[dict[str, Any]], home: Path) -> None:
    """Saves a run on its way; where that can't be, says so and leaves it to the end."""
    tensors, facts = training.state()
    facts |= {"training_curve": to_json(training_curve), "nonfinite": bool(training.nonfinite)}
    try:
        save(home, Paused(training.model, tensors, facts), resumable=True)
    except RoadtripError as error:  # there may be room again when it ends
        tell(str(error))


def _go_on(training: Run, home: Path) -> list[dict[str, Any]]:
    """Takes up the run that `home` keeps, and returns its training curve so far; a run that isn't there, is damaged or is
    another one's begins anew."""
    try:
        tensors, facts = load_state(home)
        curve, nonfinite = facts["training_curve"], facts["nonfinite"]
        if type(curve) is not list or type(nonfinite) is not bool:
            return []
        training.restore(tensors, facts, unbroken=True)
    except (RoadtripError, KeyError):
        return []
    training.nonfinite += nonfinite
    return curve


def measure(model: NextFrame, film: Film) -> dict[str, Any]:
    """What a row says of a model on held-out film: R, N, S, B … on frames 33–64 of 8 starts (medians; each start's own
    in "starts"), the same in windows of 16 ("onset"), and PSNR in dB at horizons 1, 4, 16 of the model and its
    baselines, means over 32 starts."""
    clips = start_clips(film)
    frames = rollout(model, clips[:, 0], clips[:, 1], HORIZON)
    each = oscillations(frames[:, -LATE:], film)
    windows = [(first, first + MIN_WINDOW) for first in range(0, HORIZON, MIN_WINDOW)]
    return {
        **as_row(median_oscillation(each)),
        "starts": [{k: v for k, v in as_row(o).items() if k in ("R", "N", "S", "B", "verdict")} for o in each],
        "onset": [
            {"frames": [a + 1, b], **as_row(median_oscillation(oscillations(frames[:, a:b], film)))} for a, b in windows
        ],
        "psnr": psnr_at_horizons(model, film),
    }


def measure_endlessly(model: NextFrame, film: Film, horizon: int) -> dict[str, Any]:
    """A row's "endless": rollouts of `horizon` frames from 8 held-out starts."""
    began = time.perf_counter()
    each = measure_endless(model, film, horizon)
    speed = len(each) * horizon / (time.perf_counter() - began)
    of_draws = {"frames_per_second": speed, "spread_over_skill": spread_over_skill(model, film)}
    return {"horizon": horizon, **endless_row(each), **of_draws}


def of_film(film: Film) -> dict[str, Any]:
    """What a row says of the film alone: what real film does in windows of 32 frames ("real"), and the least and most
    that linear extrapolation, which needs no network, gets from the starts that a model is measured on ("linear")."""
    clips = as_float(start_clips(film))
    guesses = baselines(clips[:, 0], clips[:, 1], HORIZON, clips[0, 0])["linear"]
    found = [as_row(o) for o in oscillations(guesses[:, -LATE:], film)]
    known = {k: [o[k] for o in found if o[k] is not None] for k in COMPARED}
    return {
        "real": asdict(film_windows(film, LATE)),
        "linear": {k: (min(values), max(values)) for k, values in known.items() if values},
        "gap": film.gap,
        "fingerprint": film.fingerprint,
        "source": f"{len(film.frames)} frames of {film.name}",
    }
