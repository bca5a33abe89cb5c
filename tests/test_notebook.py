"""Notebooks use public names only, and are in git as they were written; `make test` runs each whole, in a process of its
own."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import roadtrip as rt

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_public_names_only(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert set(re.findall(r"\brt\.(\w+)", text)) <= set(rt.__all__)
    assert {line.strip() for line in re.findall(r"^\s*(?:import|from) .*", text, re.M)} == {"import roadtrip as rt"}
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in cells)
    # in Colab there is nothing yet
    assert "%pip install" in "".join(next(c for c in cells if c["cell_type"] == "code")["source"])


def test_the_readme_opens_each_in_colab():
    opened = re.findall(
        r"colab\.research\.google\.com/github/[\w-]+/[\w-]+/blob/main/([\w/]+\.ipynb)", (ROOT / "README.md").read_text()
    )
    assert sorted(opened) == [f"notebooks/{file.name}" for file in NOTEBOOKS]


def test_one_command_puts_the_owner_in(tmp_path):
    """A repository does not know where it will lie: one placeholder, and only where that command finds it."""
    (command,) = re.findall(r"^sed .*OWNER.*$", (ROOT / "docs" / "deploy.md").read_text(), re.M)
    placed = {}
    for file in (f for part in (ROOT, ROOT / "docs", ROOT / "notebooks") for f in part.iterdir()):
        if file.suffix in {".md", ".ipynb", ".toml", ".cff"}:
            name = file.relative_to(ROOT)
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / name)
            placed[str(name)] = file.read_text().count("OWNER/")
    notebooks = {f"notebooks/{file.name}": 1 for file in NOTEBOOKS}
    assert {name: n for name, n in placed.items() if n} == notebooks | {"README.md": 5, "docs/deploy.md": 5}
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert not any("OWNER/" in (tmp_path / name).read_text() for name in placed)


def test_a_film_plays_in_a_cell():
    frames = torch.rand(5, 3, 8, 16)
    shown = rt.play({"<one>": frames, "two": (frames[None, :3] * 255).byte()}, scale=1)
    page = shown._repr_html_()
    assert shown.names == ("<one>", "two") and "&lt;one&gt;" in page and "data:video/mp4;base64," in page
    assert shown.video[4:8] == b"ftyp"
    with pytest.raises(rt.RoadtripError, match="one height"):
        rt.play({"one": frames, "two": torch.rand(5, 3, 16, 16)})
    with pytest.raises(rt.RoadtripError, match="one height"):
        rt.play({})
