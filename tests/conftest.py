"""What several test files share: a served app with tiny stand-in checkpoints. Sets OpenMP to wait without spinning."""

import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest

import roadtrip as rt
from roadtrip import study


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Each recipe after three steps of a tiny network: models that run, not models that are any good; and some of the
    study's published rows."""
    folder = tmp_path_factory.mktemp("checkpoints")
    film = rt.open_film("scenery")
    for name, recipe in rt.RECIPES.items():
        small = replace(recipe, width=8, depth=1, disc_width=8, batch=2)
        for p in rt.train(small, film, steps=3, preview_every=1e9):
            rt.save(folder / name, p)
    rows = study.read_results(Path(__file__).parents[1] / "checkpoints" / "results.json")
    wanted = {"film": "scenery", "steps": study.STEPS, "size": [*study.SIZE]}
    rows = [row for row in rows if row["arm"] in ("v2", "pair", "single") and wanted.items() <= row.items()]
    study.write_results(folder / "results.json", [row for row in rows if row["setting"] in ("", "replay=8")])
    return folder


@pytest.fixture(scope="session")
def served(checkpoints):
    """The app's address."""
    os.environ["ROADTRIP_CHECKPOINTS"] = str(checkpoints)
    import app

    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True)
    return address


@pytest.fixture
def full_disk():
    """A context in which no file grows beyond so many bytes, here and in processes started from here: stands for a full
    disk, where a system has such limits."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def full(most: int):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full
