"""What one request, one visitor and all of them together may take: every limit of the app and its API, and the sentence
that says what to lower.

Costs are estimated before anything is computed, from sizes alone; a training's first step checks the estimate. Independent
of sessions and components.
"""

from math import isfinite
from typing import Any

import torch

from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import Recipe
from ..train import find_device

OUR_FAULT = "Something went wrong on our side; try again, or with other settings."
DISK_FULL = "The disk of the machine that runs this is full or can't be written; try again later, or make room on it."

# --- a training ---------------------------------------------------------------------------------------------------------

GPU = 50  # cores that a GPU is worth
MAX_SECONDS, MAX_STEPS, MAX_SEED = 1800, 2000, 2**31 - 1
MAX_STEP_SECONDS = 2.5  # of one core, by the estimate; the heaviest recipe, v4, takes 0.2
MAX_MEASURED_SECONDS = 12.0  # the same on the clock, where others may take the cores
MAX_STEP_BYTES = 2 * 2**30
OVERTIME = 2  # times what was asked for: how long a training may take where others compute, too

# --- a rollout ----------------------------------------------------------------------------------------------------------

MAX_HORIZON = 256
MAX_FRAME_SECONDS, MAX_ROLLOUT_SECONDS = 0.6, 60.0  # of one core, by the estimate
MAX_DRIVE_SECONDS = 15 * 60  # until a live drive pauses by itself: a forgotten tab would compute for ever

# --- a visitor, and all of them -----------------------------------------------------------------------------------------

MAX_MODELS, MAX_FILMS = 6, 2  # of one visitor; the newest are kept
MAX_SESSIONS = 32  # that are kept for a reload, the latest visitors'
MAX_SESSION_BYTES, MAX_BYTES = 2**30, 2 * 2**30  # of one visitor and of all; a film of 16,000 stills is 440 MB
MAX_UPLOAD, MAX_UPLOADS = 500 * 2**20, 4 * 2**30  # bytes of one file, and of all that lie on the server at once
MAX_FILES, MAX_TEXT = 20_000, 2_000  # files in one upload; characters in a field
UPLOAD_SILENCE = 10 * 60  # seconds without a byte until what has come of an upload is removed
UPLOADS_KEPT = 30 * 60  # seconds that a file lies on the server at most: with its page it goes, too
GRACE = 4.0  # seconds after a tab was closed until what it held leaves the memory: a reload is faster

# --- turns --------------------------------------------------------------------------------------------------------------

TURN = 0.1  # seconds that one visitor computes until it is another's turn
TRAINING_SHARE = 0.72  # of the time, while others want to compute; they may run ahead of it by so many seconds:
BURST = 1.0
PATIENCE = 0.25  # seconds from one moment at which a training can be stopped to the next, as gradio sees it
TRAININGS, VIEWS, DRIVES = 2, 48, 2  # requests of a kind that are in progress at a time; the others queue
MAX_WAITING, MAX_QUEUE = 6, 200  # requests that wait, of one visitor and of all
MAX_STATES = 128  # visitors whose page gradio remembers
THREADS = 64  # that gradio answers with; most only wait for their turn


def check_training(recipe: Recipe, film: Film) -> None:
    """Raises RoadtripError where a step of this recipe takes more than there is, before anything is allocated."""
    taken, seconds = step_cost(recipe, film.size)
    lower = "lower batch, unroll or width"
    if taken > MAX_STEP_BYTES:
        raise RoadtripError(
            f"A step of this recipe takes about {taken / 2**30:.1f} GB of memory, and here it may take "
            f"{MAX_STEP_BYTES / 2**30:.0f}; {lower}."
        )
    if seconds > MAX_STEP_SECONDS:
        raise RoadtripError(
            f"A step of this recipe takes about {seconds:.1f} s of a core, and here it may take "
            f"{MAX_STEP_SECONDS:g}; {lower}."
        )


def check_first_step(seconds: float) -> None:
    """Raises RoadtripError where a step took longer than it may, whatever the estimate was."""
    if seconds > MAX_MEASURED_SECONDS:
        raise RoadtripError(
            f"A step of this recipe takes {seconds:.0f} s, and here it may take {MAX_MEASURED_SECONDS:g}; lower batch, "
            "unroll or width."
        )


def check_rollout(model: NextFrame, size: tuple[int, int], horizon: int = 1) -> None:
    """Raises RoadtripError where a model is too slow to drive so far on frames of this size."""
    facts: dict[str, Any] = model.architecture
    sampler = model.sampler
    each = frame_seconds(facts["width"], facts["depth"], size, sampler.refine if sampler else 0) / 3
    each *= (sampler.evaluations if sampler else 1) / _cores(next(model.parameters()).device)
    if each > MAX_FRAME_SECONDS:
        raise RoadtripError(
            f"This model takes about {each:.1f} s of a core for one frame, and here it may take "
            f"{MAX_FRAME_SECONDS:g}; use a narrower one, or one that draws with fewer evaluations."
        )
    if each * horizon > MAX_ROLLOUT_SECONDS:
        raise RoadtripError(
            f"This model takes about {each * horizon:.0f} s of a core for {horizon} frames, and here it may take "
            f"{MAX_ROLLOUT_SECONDS:.0f}; lower the horizon to {int(MAX_ROLLOUT_SECONDS / each)}."
        )


def step_cost(recipe: Recipe, size: tuple[int, int]) -> tuple[float, float]:
    """(bytes, seconds of one core) of a training step on frames of this size (H, W), roughly: within a factor of two of
    what was measured for 14 recipes at 72×128. The bytes are those of activations; weights are at most 0.5 GB."""
    pixels, wide = size[0] * size[1] / 9216, recipe.width / 48
    refine = recipe.refine if recipe.evaluations else 0
    frames = recipe.batch * recipe.unroll * (2 if recipe.pingpong_weight else 1)
    each = frame_seconds(recipe.width, recipe.depth, size, refine)
    seconds = 0.03 * wide**2 + frames * each * (1.7 if recipe.bottleneck == "lstm" else 1)
    rolled_out = min(recipe.replay, 1) * recipe.evaluations if recipe.evaluations else recipe.replay / 2
    seconds += recipe.batch * recipe.replay_share * rolled_out * each / 3
    taken = frames * pixels * (wide * (3.0 + 0.45 * recipe.depth) + 0.8 * refine) * 2**20
    taken += 3 * recipe.batch * recipe.clip * 3 * pixels * 9216 * 4
    if recipe.gan_weight:
        judged = recipe.batch * recipe.unroll * pixels
        seconds += 0.0025 * judged * (recipe.disc_width / 32) ** 2 * (2 if recipe.r1_weight else 1)
        taken += 2.0 * judged * recipe.disc_width / 32 * 2**20
    return taken, seconds / _cores(find_device())


def frame_seconds(width: int, depth: int, size: tuple[int, int], refine: int) -> float:
    """Seconds of one core, roughly, to train on one frame; to generate it takes a third."""
    pixels = size[0] * size[1] / 9216
    return pixels * ((0.004 + 0.0024 * depth) * (width / 48) ** 2 + 0.02 * (refine / 16) ** 1.5)


def _cores(device: torch.device) -> int:
    return 1 if device.type == "cpu" else GPU


def check_waiting(waiting: int) -> None:
    """Raises RoadtripError where so many requests of one visitor wait already."""
    if waiting >= MAX_WAITING:
        raise RoadtripError(f"{waiting} of your requests wait to be computed already; wait for their answers.")


def check_files(files: list[Any] | None) -> None:
    if files and len(files) > MAX_FILES:
        raise RoadtripError(
            f"An upload may have {MAX_FILES} files, not {len(files)}; put them into a zip, or use fewer."
        )


def number(value: Any, what: str, low: float | None = None, high: float | None = None) -> float:
    """The number in a field, moved into the range from low to high, or to what an integer of torch holds. Raises
    RoadtripError where there is none."""
    if type(value) not in (int, float) or not isfinite(value):
        raise RoadtripError(f"A field is empty or no number: fill in {what}.")
    return min(max(float(value), -1e15 if low is None else low), 1e15 if high is None else high)


def number_between(value: Any, what: str, low: float, high: float) -> float:
    """The number in a field. Raises RoadtripError where there is none, or it is out of range."""
    value = number(value, what)
    if not low <= value <= high:
        raise RoadtripError(f"A field is out of range: choose {what} from {low:,} to {high:,}.")
    return value


def horizon_in_range(value: Any) -> int:
    """Frames of a rollout. Raises RoadtripError for what is no number from 1 to MAX_HORIZON."""
    return round(number_between(value, "the horizon", 1, MAX_HORIZON))
