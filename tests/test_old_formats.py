"""Files of earlier versions open, or are refused in one sentence.

One zip for each state that a format had on disk, called after when it was new. Checkpoints and rows of results are what
was published then, with zeros for weights; films and train-states have zeros for pixels and the facts that were saved then.
"""

import zipfile
from pathlib import Path

import pytest
import torch

import roadtrip as rt
from roadtrip import study

OLD = sorted((Path(__file__).parent / "old_formats").glob("*.zip"))
RENAMED = "2026-11-25-1250"  # from here on networks have the names that they have now


@pytest.fixture(params=OLD, ids=lambda file: file.stem)
def old(request, tmp_path):
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return request.param.stem, tmp_path


def test_there_are_some():
    assert len(OLD) == 9 and sum(file.stat().st_size for file in OLD) < 100_000


def test_a_file_of_an_earlier_version(old):
    when, folder = old
    if (folder / "x.film").exists():
        film = rt.open_film(folder / "x.film", size=(16, 24), cache=False)
        assert film.frames.shape == (30, 3, 16, 24) and len(film.drive_ids) == 1
    if (folder / "results.json").exists():
        (row,) = study.read_results(folder / "results.json")
        assert row["seed"] == 0 or row["arm"]
    if (folder / "model.safetensors").exists() and when >= RENAMED:
        model = rt.load(folder)
        frames = torch.zeros(2, 3, 16, 24)
        assert rt.rollout(model, *frames, 2).shape == (1, 2, 3, 16, 24)
    elif (folder / "model.safetensors").exists():
        with pytest.raises(rt.RoadtripError, match="earlier Roadtrip"):
            rt.load(folder)
    if (folder / "train-state.safetensors").exists():
        frames = torch.zeros(30, 3, 16, 24, dtype=torch.uint8)
        film = rt.Film(frames, (), 1, None, (0,), "stills", "a" * 64, drive_ids=("b" * 64,))
        with pytest.raises(rt.RoadtripError, match="can't be resumed|damaged"):
            rt.train("v1", film, steps=3, resume=folder)
