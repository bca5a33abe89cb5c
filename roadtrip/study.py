"""study: arms × seeds × films → rows of one table. A run is a Recipe, a seed and a film; a finished one is kept.

One function, `run`, works here, in several processes or on Ray. Knows nothing of tests, prose or figures.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shlex
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .atomic import whole_file
from .checkpoint import save, versions
from .errors import RoadtripError
from .evaluation import N_STARTS, baselines, film_windows, multiplier
from .film import Film, evenly_spaced
from .frames import psnr
from .model import NextFrame
from .oscillation import MIN_WINDOW, Oscillation, median_oscillation, oscillation
from .recipes import RECIPES, Recipe, parse_values
from .rollout import as_float, rollout
from .sources import open_film
from .train import Run, best_device

HORIZON, HORIZONS = 64, (1, 4, 16)  # of rollouts; of errors in the table
CHECKS = 12  # at a fixed start while a run trains
# With wider vectors, sums are added up in another order and a run becomes another: where an x86 processor has AVX2 a run
# keeps to it, and rows were seen to come out alike on two kinds. Read by torch, oneDNN and MKL when they start.
VECTORS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
HELD_OUT = 0.2
STEPS, SIZE = 600, (48, 80)  # of every run of the published table
Row = dict[str, Any]


def _arms() -> dict[str, Recipe]:
    pair, single = RECIPES["v3-pair"], RECIPES["v3-single"]
    four = replace(pair, unroll=4)
    arms = {
        "v1": RECIPES["v1"],
        "v2": RECIPES["v2"],
        "lstm": RECIPES["lstm"],
        "pair": pair,
        "single": single,
        "single-first": replace(single, disc_windows="first"),
        "single-u1": replace(single, unroll=1),
        "pair-picture": replace(pair, output="picture"),
        "pair-u4": four,
        "pair-shuffled": replace(pair, disc_shuffle=True),
        "pair-context": replace(pair, disc_context=1),
        "triple-context": replace(pair, disc_frames=3, disc_context=2),
        "triple-u4": replace(four, disc_frames=3),
        # cures of the pair, one at a time; EMA needs none, since every run's averaged weights are measured too
        "cure-noise": replace(pair, context_noise=0.1),
        "cure-8bit": replace(pair, feedback="8-bit"),
        "cure-detached": replace(pair, feedback="detached"),
        "cure-r1": replace(pair, r1_weight=1.0),
        "cure-spectral": replace(pair, spectral=True),
        "cure-lstm": replace(pair, bottleneck="lstm", depth=3),
        "cure-pingpong": replace(pair, pingpong_weight=pair.l1_weight / 2),
        "cure-replay": replace(pair, replay=8),
    }
    return {name: replace(recipe, name=name) for name, recipe in arms.items()}


ARMS: dict[str, Recipe] = _arms()


@dataclass(frozen=True)
class Job:
    """One run of the study.

    film: what open_film takes, as PATH or PATH:GAP; size: (H, W); changes: Recipe fields that differ from the arm's, a
    second setting of the whole table (the weight of L1 goes only to arms with a discriminator, which it is weighed
    against; ping-pong's goes with it). Raises RoadtripError for an arm or a field that is not there.
    """

    arm: str
    film: str = "scenery"
    seed: int = 0
    steps: int = STEPS
    size: tuple[int, int] = SIZE
    changes: tuple[str, ...] = ()  # as "l1_weight=10"

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise RoadtripError(f"There is no arm {self.arm!r}; choose from: {', '.join(ARMS)}.")
        parse_values(list(self.changes))

    @property
    def recipe(self) -> Recipe:
        recipe, changes = ARMS[self.arm], parse_values(list(self.changes))
        if not recipe.gan_weight:
            changes.pop("l1_weight", None)
        elif recipe.pingpong_weight and "l1_weight" in changes:
            changes.setdefault("pingpong_weight", recipe.pingpong_weight * changes["l1_weight"] / recipe.l1_weight)
        return replace(recipe, **changes)

    @property
    def key(self) -> Row:
        """What tells this run from every other, and its row from every other row; the film without its folder."""
        path, gap = film_and_gap(self.film)
        film = Path(path).stem + (f":{gap}" if gap else "")
        recipe = self.recipe.to_dict()
        return {
            "arm": self.arm,
            "film": film,
            "seed": self.seed,
            "steps": self.steps,
            "size": list(self.size),
            "setting": " ".join(self.changes),
            "recipe": recipe,
        }

    @property
    def folder(self) -> str:
        """The run's own folder, by name."""
        key = self.key
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return f"{self.arm}-{key['film'].replace(':', '-')}-{self.seed}-{digest[:8]}"

    @property
    def command(self) -> str:
        """The command that makes this row again, with the film looked for where one stands."""
        words = ["python", "-m", "roadtrip", "study", "--arms", self.arm, "--films", self.key["film"]]
        words += ["--seeds", str(self.seed), "--steps", str(self.steps), "--size", "{}x{}".format(*self.size)]
        if self.changes:
            words += ["--set", *self.changes]
        return shlex.join(words)


def job_of(row: Row) -> Job:
    """The run that a row is of, with its film looked for where one stands."""
    return Job(row["arm"], row["film"], row["seed"], row["steps"], tuple(row["size"]), tuple(row["setting"].split()))


def film_and_gap(text: str) -> tuple[str, str | None]:
    """("ca_freeway", "8") of "ca_freeway:8"; the gap is None where the text has none."""
    path, _, gap = text.rpartition(":")
    return (path, gap) if path and gap.removesuffix("s").replace(".", "", 1).isdigit() else (text, None)


def run(job: Job, folder: Path, device: str | None = None) -> Row:
    """The row of one run: trained, measured and written whole to its folder, or read from there if it was before.

    On a CPU it has one thread and float32: with another number of threads, sums are added up in another order, and a row
    would be another on another machine. Several cores take several runs at once, which costs less than to share one run
    between them. Of the processor's vectors it takes what the process has; `study` starts processes with VECTORS.

    A run that was killed is trained again from its beginning and gives the same row. Raises RoadtripError where the
    film can't be opened.
    """
    row_file = folder / job.folder / "row.json"
    if row_file.is_file():
        row: Row = json.loads(row_file.read_text())
        if is_row_of(row, job):
            return row
    with _one_thread():
        row, model = _trained(job, device or best_device())
    save(row_file.parent, model)
    with whole_file(row_file) as file:
        file.write_text(json.dumps(row, allow_nan=False))
    return row


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _trained(job: Job, device: str | torch.device) -> tuple[Row, NextFrame]:
    """The row of a run, and what it trained."""
    path, gap = film_and_gap(job.film)
    film = open_film(path, size=job.size, gap=gap)
    began = time.perf_counter()
    device = torch.device(device)
    training = Run(job.recipe, film, job.seed, HELD_OUT, device, "float32" if device.type == "cpu" else "auto")
    checks = {round(job.steps * (i + 1) / CHECKS) for i in range(CHECKS)}
    training_curve = []
    for step in range(1, job.steps + 1):
        losses = training.step(job.steps)
        if step in checks:
            training_curve.append(_check(training, step) | {k: v.item() for k, v in losses.items()})
    seconds = time.perf_counter() - began
    for model in (training.model, training.ema):
        model.provenance = replace(model.provenance, step=job.steps, steps=job.steps)
    averaged = measure(training.ema, film)
    row = job.key | measure(training.model, film) | of_film(film)
    row |= {
        "ema": {k: averaged[k] for k in (*as_row(None), "onset", "psnr")},
        "multiplier": _root(training.model, film),
        "training_curve": training_curve,
        "nonfinite": bool(training.nonfinite),
        "command": job.command,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "device": training.device.type,
        "dtype": training.dtype,
        "versions": versions(),
    }
    # as it is read from its file, where a tuple is a list
    return json.loads(json.dumps(_plain(row), allow_nan=False)), training.model


def measure(model: NextFrame, film: Film) -> Row:
    """What a row says of a model on held-out film: R, N, S, B … on frames 33–64 of 8 starts (medians; each start's own
    in "starts"), the same in windows of 16 ("onset"), and PSNR in dB at horizons 1, 4, 16 of the model and its
    baselines, means over 32 starts."""
    clips = start_clips(film)
    frames = rollout(model, clips[:, 0], clips[:, 1], HORIZON).cpu()
    each = late_windows(frames, film)
    onset = [
        {"frames": [first + 1, first + MIN_WINDOW]} | _row_of_frames(frames[:, first : first + MIN_WINDOW], film)
        for first in range(0, HORIZON, MIN_WINDOW)
    ]
    return as_row(median_oscillation(each)) | {
        "starts": [{k: v for k, v in as_row(o).items() if k in ("R", "N", "S", "B", "verdict")} for o in each],
        "onset": onset,
        "psnr": _psnr(model, film),
    }


def of_film(film: Film) -> Row:
    """What a row says of the film alone: what real film does in windows of 32 frames ("real"), and the least and most
    that linear extrapolation, which needs no network, gets from the starts that a model is measured on ("linear")."""
    clips = as_float(start_clips(film))
    guesses = baselines(clips[:, 0], clips[:, 1], HORIZON, clips[0, 0])["linear"].cpu()
    found = [as_row(o) for o in late_windows(guesses, film)]
    known = {k: [o[k] for o in found if o[k] is not None] for k in ("R", "N", "S", "B", "sharpness")}
    return {
        "real": asdict(film_windows(film, HORIZON // 2)),
        "linear": {k: (min(values), max(values)) for k, values in known.items() if values},
        "gap": film.gap,
        "fingerprint": film.fingerprint,
        "source": f"{len(film.frames)} frames of {film.name}",
    }


def start_clips(film: Film) -> Tensor:
    return film.clips(evenly_spaced(film.starts(2, "held_out", HELD_OUT), N_STARTS), 2)


def late_windows(frames: Tensor, film: Film) -> list[Oscillation]:
    late = HORIZON // 2
    return [oscillation(y[-late:], film_windows(film, late)) for y in frames]


def _psnr(model: NextFrame, film: Film) -> dict[str, list[float]]:
    ahead = max(HORIZONS)
    starts = film.starts(2 + ahead, "held_out", HELD_OUT)
    if not len(starts):
        raise RoadtripError(f"The held-out stretch of {film.name} has no {2 + ahead} frames in a row at this gap.")
    real = as_float(film.clips(evenly_spaced(starts, 32), 2 + ahead))
    f1, f2 = real[:, 0], real[:, 1]
    guesses = {"model": rollout(model, f1, f2, ahead).to(real.device)} | baselines(f1, f2, ahead, model.mean_frame)
    means = {method: psnr(guess, real[:, 2:]).mean(dim=0).tolist() for method, guess in guesses.items()}
    return {method: [curve[h - 1] for h in HORIZONS] for method, curve in means.items()}


def _root(model: NextFrame, film: Film) -> Row:
    """The rollout map's multiplier (H3) at the middle one of the starts."""
    clip = film.clips(evenly_spaced(film.starts(2, "held_out", HELD_OUT), 3)[1:2], 2)
    frames = rollout(model, clip[:, 0], clip[:, 1], HORIZON)[0]
    return asdict(multiplier(model, frames[-HORIZON // 2 :]))


def as_row(o: Oscillation | None) -> Row:
    """An oscillation's measures under the letters of the docs; of None, every one None."""
    return {
        "R": o and o.return_ratio,
        "N": o and o.nyquist_excess,
        "S": o and o.step_ratio,
        "B": o and o.two_mode_share,
        "switches": o and o.switches,
        "period": o and o.period,
        "sharpness": o and o.sharpness_ratio,
        "lag_profile": o and list(o.lag_profile),
        "verdict": o and o.verdict,
    }


def _row_of_frames(frames: Tensor, film: Film) -> Row:
    real = film_windows(film, frames.shape[1])
    return as_row(median_oscillation([oscillation(y, real) for y in frames]))


def _check(training: Run, step: int) -> Row:
    """The measures at a fixed start while training, a clock of its own (H4): of 32 frames the second half."""
    starts = training.film.starts(2, "held_out", HELD_OUT)
    clip = training.film.clips(starts[len(starts) // 2].view(1), 2)
    frames = rollout(training.model, clip[:, 0], clip[:, 1], 2 * MIN_WINDOW).cpu()
    return {"step": step} | _row_of_frames(frames[:, -MIN_WINDOW:], training.film)


def is_row_of(row: Row, job: Job) -> bool:
    return all(row.get(k) == v for k, v in job.key.items())


def is_model_of(model: NextFrame, row: Row) -> bool:
    """Whether a model is what the run of this row trained, under whatever name: one run may stand in two tables, as an
    arm of its own and as another arm with a setting."""
    facts = model.provenance
    return (
        facts is not None
        and (facts.seed, facts.step, facts.film.fingerprint) == (row["seed"], row["steps"], row["fingerprint"])
        and facts.recipe == replace(Recipe.from_dict(row["recipe"]), name=facts.recipe.name)
    )


def unnamed(recipe: Row) -> Row:
    """A recipe's values without its name, which trains nothing."""
    return {k: v for k, v in recipe.items() if k != "name"}


def study(
    jobs: list[Job],
    folder: str | Path,
    known: list[Row] | None = None,
    device: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> Iterator[Row]:
    """The rows of `jobs`: those among `known` first, the others as they finish. Runs are in processes of their own,
    so a script calls this under `if __name__ == "__main__":`.

    Args:
        folder: where finished runs are kept, checkpoint and row each.
        workers: processes, one run in each at a time; by default one for each core, on a GPU one. They are started with
            VECTORS, but for those of its variables that are set already.
        ray: "local" or the address of a Ray cluster, whose machines see the films and `folder` under the same paths.
    Raises RoadtripError where a film can't be opened, a worker is killed, or Ray is not there.
    """
    folder = Path(folder).resolve()
    missing = []
    for job in jobs:
        row = next((r for r in known or [] if is_row_of(r, job)), None)
        if row:
            yield row
        else:
            missing.append(job)
    if workers is None:
        workers = torch.get_num_threads() if torch.device(device or best_device()).type == "cpu" else 1
    if ray:
        yield from _on_ray(missing, folder, device, ray)
    elif missing:
        yield from _in_processes(missing, folder, device, max(1, min(workers, len(missing))))


def _in_processes(jobs: list[Job], folder: Path, device: str | None, workers: int) -> Iterator[Row]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        with _environment(_vectors()):  # as many processes are started as there are runs, up to `workers`
            futures = [pool.submit(run, job, folder, device) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
        pool.shutdown()  # all is done: left to Python's own exit, 3.11 may print a traceback about a closed pipe
    except BrokenProcessPool:
        raise RoadtripError("A worker of the study was killed; start the study again, it goes on from there.") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _vectors() -> dict[str, str]:
    """VECTORS where the processor has them, less what is set by hand."""
    known = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return {k: v for k, v in VECTORS.items() if known and k not in os.environ}


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            del os.environ[name]


def _end_with_parent() -> None:
    """Ends this worker when the study is killed: what it would still write, the next study makes too."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(jobs: list[Job], folder: Path, device: str | None, address: str) -> Iterator[Row]:
    try:
        import ray
    except ImportError:
        raise RoadtripError("Ray is not installed; pip install 'roadtrip[ray]', or leave out --ray.") from None
    settings = {"log_to_driver": False, "runtime_env": {"env_vars": _vectors()}}
    if address == "local":
        ray.init(num_cpus=torch.get_num_threads(), include_dashboard=False, **settings)
    else:
        ray.init(address=address, **settings)
    try:
        task = ray.remote(num_cpus=1, num_gpus=1 if device == "cuda" else 0)(run)
        waiting = [task.remote(job, folder, device) for job in jobs]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    finally:
        ray.shutdown()


def read_results(path: str | Path) -> list[Row]:
    """The rows of a results file; none where there is no file. Raises RoadtripError where it is no results file."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())["runs"]
        return [row | {} for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise RoadtripError(f"{path.name} is not a study's table; give another --out, or delete it.") from None


def write_results(path: str | Path, rows: list[Row]) -> None:
    """Writes {"runs": rows}, a row a line, by film, setting, arm (in ARMS' order) and seed; whole or not at all."""
    order = {arm: i for i, arm in enumerate(ARMS)}

    def place(row: Row) -> tuple[Any, ...]:
        return row["steps"], row["size"], row["film"], row["setting"], order.get(row["arm"], len(order)), row["seed"]

    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in sorted(rows, key=place))
    with whole_file(path) as file:
        file.write_text(f'{{"runs": [\n{lines}\n]}}\n')


def _plain(value: Any) -> Any:
    """JSON without NaN or infinity: what is undefined is null. Five digits are more than any measure is good for."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if abs(value) < float("inf") else None
    return value
