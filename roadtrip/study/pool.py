"""Many runs: which of them are known already, and the others in processes of their own or on a Ray cluster."""

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

import torch

from ..errors import RoadtripError
from ..sources import VECTOR_SETTINGS
from ..train import find_device
from .rows import Job, Key, Row, key_of
from .running import open_job, run

# With wider vectors, sums are added up in another order and a run becomes another: where an x86 processor has AVX2 a run
# keeps to it, and rows were seen to come out alike on two kinds (on a third they did not).
VECTORS = dict(zip(VECTOR_SETTINGS, ("avx2", "AVX2", "AVX2")))


def plan(jobs: Iterable[Job], known: Sequence[Row]) -> tuple[list[Row], list[Job]]:
    """The rows of `jobs` that are known, and the jobs that are yet to run; a run that is asked for twice is there once.

    Opens each film, as a run is known by what its film holds. Raises RoadtripError where one can't be opened.
    """
    rows = {key_of(row): row for row in reversed(known)}
    films: dict[tuple[str, tuple[int, int]], tuple[str, int]] = {}
    asked: dict[Key, Job] = {}
    for job in jobs:
        if (job.film, job.size) not in films:
            film = open_job(job)
            films[job.film, job.size] = film.fingerprint, film.gap
        asked.setdefault(job.key(*films[job.film, job.size]), job)
    return [rows[key] for key in asked if key in rows], [job for key, job in asked.items() if key not in rows]


def study(
    jobs: Sequence[Job],
    folder: str | Path,
    device: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> Iterator[Row]:
    """The rows of `jobs` as they finish. Runs are in processes of their own, so a script calls this under
    `if __name__ == "__main__":`.

    Args:
        folder: where finished runs are kept, checkpoint and row each; one that is there is read and not run again.
        workers: processes, one run in each at a time; by default one for each core, on a GPU one. They are started with
            VECTORS, but for those of its variables that are set already, unless a job is endless.
        ray: "local" or the address of a Ray cluster, whose machines see the films and `folder` under the same paths.
    Raises RoadtripError where a film can't be opened, a worker is killed, or Ray is not there.
    """
    folder = Path(folder).resolve()
    if not jobs:
        return
    if ray:
        yield from _on_ray(jobs, folder, device, ray)
        return
    if workers is None:
        workers = torch.get_num_threads() if find_device(device).type == "cpu" else 1
    yield from _in_processes(jobs, folder, device, max(1, min(workers, len(jobs))))


def _in_processes(jobs: Sequence[Job], folder: Path, device: str | None, workers: int) -> Iterator[Row]:
    pool, vectors = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent), _vectors(jobs)
    try:
        os.environ.update(vectors)
        try:  # as many processes are started as there are runs, up to `workers`
            futures = [pool.submit(run, job, folder, device) for job in jobs]
        finally:
            for name in vectors:
                del os.environ[name]
        for future in as_completed(futures):
            yield future.result()
        pool.shutdown()  # all is done: left to Python's own exit, 3.11 may print a traceback about a closed pipe
    except BrokenProcessPool:
        raise RoadtripError("A worker of the study was killed; start the study again, it goes on from there.") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _vectors(jobs: Sequence[Job]) -> dict[str, str]:
    """VECTORS where the processor has them and no job is endless, less what is set by hand."""
    known = torch.backends.cpu.get_cpu_capability().startswith("AVX") and not any(job.endless for job in jobs)
    return {k: v for k, v in VECTORS.items() if known and k not in os.environ}


def _end_with_parent() -> None:
    """Ends this worker when the study is killed: what it would still write, the next study makes too."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(jobs: Sequence[Job], folder: Path, device: str | None, address: str) -> Iterator[Row]:
    try:
        import ray
    except ImportError:
        raise RoadtripError("Ray is not installed; pip install 'roadtrip[study]', or leave out --ray.") from None
    settings = {"log_to_driver": False, "runtime_env": {"env_vars": _vectors(jobs)}}
    if address == "local":
        ray.init(num_cpus=torch.get_num_threads(), include_dashboard=False, **settings)
    else:
        try:
            ray.init(address=address, **settings)
        except (ConnectionError, ValueError):
            raise RoadtripError(f"There is no Ray cluster at {address}; check the address, or use local.") from None
    try:
        task = ray.remote(num_cpus=1, num_gpus=1 if device and device.startswith("cuda") else 0)(run)
        waiting = [task.remote(job, folder, device) for job in jobs]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    finally:
        ray.shutdown()
