"""What is installed where: the ranges of a Space, and a wheel that works where there is nothing else."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IN_THE_WHEEL = """
import sys
for name in ("gradio", "plotly", "ray", "pillow_heif"):
    sys.modules[name] = None  # as if it were not installed
import roadtrip as rt
from roadtrip.checkpoint import shipped_names
from roadtrip.study import PUBLISHED, read_results

assert rt.__file__.startswith(sys.argv[1]), rt.__file__
assert set(rt.RECIPES) <= {*shipped_names()}, shipped_names()
film = rt.open_film("scenery", size=(48, 80))
for name in ("v1", "v4"):
    f1, f2 = film.clips(film.starts(2, "held_out")[:1], 2)[0]
    assert rt.rollout(rt.load(name), f1, f2, 2).shape == (1, 2, 3, 48, 80)
*_, p = rt.train("v1", film, steps=2)
assert len(read_results(PUBLISHED)) > 100
try:
    rt.app()
except rt.RoadtripError as error:
    print(error)
"""


def test_a_space_installs_the_app_and_nothing_else():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    extras = PROJECT["optional-dependencies"]
    assert [line for line in lines if not line.startswith("#")] == [
        *PROJECT["dependencies"],
        *extras["app"],
        *extras["heic"],
    ]


def test_the_front_matter_is_one_that_a_space_takes():
    matter = (ROOT / "README.md").read_text().split("---\n")[1]
    facts = dict(re.findall(r'^(\w+): "?([^"\n]*)"?$', matter, re.M))
    least = re.search(r"gradio>=([\d.]+),<(\d+)", " ".join(PROJECT["optional-dependencies"]["app"]))
    numbers = [int(n) for n in facts["sdk_version"].split(".")]
    assert least and [int(n) for n in least[1].split(".")] <= numbers < [int(least[2])]
    assert facts["sdk"] == "gradio" and facts["python_version"] == "3.12"
    assert len(facts["short_description"]) <= 60
    assert (ROOT / facts["app_file"]).exists()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, unpacked as pip does; built from links, so that nothing of an earlier build is in it."""
    source, out, home = (tmp_path_factory.mktemp(name) for name in ("source", "out", "home"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "roadtrip", "checkpoints"):
        (source / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (file,) = out.glob("*.whl")
    assert file.stat().st_size < 60e6
    with zipfile.ZipFile(file) as archive:
        archive.extractall(home)
    return home


def test_the_wheel_alone_trains_and_drives(wheel, tmp_path):
    there = os.environ | {"PYTHONPATH": str(wheel)}
    command = [sys.executable, "-c", IN_THE_WHEEL, str(wheel)]
    done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "The app needs gradio: pip install 'roadtrip[app]'.\n"
