"""The notebook uses public names only; `make test` runs it whole, in a process of its own."""

import json
import re
from pathlib import Path

import roadtrip as rt

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "roadtrip.ipynb"


def test_public_names_only():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert set(re.findall(r"\brt\.(\w+)", text)) <= set(rt.__all__)
    assert re.findall(r"^\s*(?:import|from) .*", text, re.M) == ["import roadtrip as rt"]
    assert all(not c.get("outputs") for c in cells)
