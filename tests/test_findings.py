"""The published table and what is written about it: every row whole, and no number in the prose that is not its own."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import roadtrip as rt
from roadtrip import study

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "checkpoints" / "results.json"

if not RESULTS.exists():
    pytest.skip("no study has been run yet", allow_module_level=True)


def script(file):
    spec = importlib.util.spec_from_file_location(file.parent.name + "_make", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make():
    return script(ROOT / "docs" / "make.py")


@pytest.mark.parametrize("name", ["results", "again"])
def test_every_row_is_whole(name):
    table = RESULTS.with_name(f"{name}.json").read_text()
    rows = json.loads(table, parse_constant=lambda name: pytest.fail(f"{name} in the table"))["runs"]
    assert rows
    for row in rows:
        assert isinstance(row["arm"], str) and isinstance(row["film"], str) and "/" not in row["film"]
        assert isinstance(row["seed"], int) and isinstance(row["steps"], int) and len(row["size"]) == 2
        for key in ("R", "N", "S", "B", "switches", "period", "sharpness", "psnr", "verdict", "command", "versions"):
            assert key in row
        assert row["fingerprint"] and row["source"].endswith(row["film"].partition(":")[0]) and not row["nonfinite"]
        assert rt.Recipe.from_dict(row["recipe"]).to_dict() == row["recipe"]
        assert row["command"] == study.job_of(row).command
    keys = [(r["arm"], r["film"], r["seed"], r["steps"], tuple(r["size"]), r["setting"]) for r in rows]
    assert len(set(keys)) == len(keys)


def test_what_was_run_again_is_in_the_table(make):
    first = study.read_results(RESULTS)
    for row in study.read_results(make.AGAIN):
        twin = next(other for other in first if study.is_row_of(other, study.job_of(row)))
        assert twin["fingerprint"] == row["fingerprint"]
        assert twin["versions"].get("cpu", "AVX2") != row["versions"]["cpu"]  # rows from before it was noted have AVX2


def test_what_ships_is_what_the_rule_picks():
    chosen = script(ROOT / "checkpoints" / "make.py").chosen(study.read_results(RESULTS))
    assert (
        {*rt.RECIPES, "post-flip"} <= {*chosen} == {file.parent.name for file in RESULTS.parent.glob("*/config.json")}
    )
    for name, row in chosen.items():
        assert study.is_model_of(rt.load(RESULTS.parent / name), row), name


def test_the_findings_are_the_tables_own_numbers(make):
    written, figures = make.text(study.read_results(RESULTS), study.read_results(make.AGAIN))
    assert written == (ROOT / "docs" / "findings.md").read_text(), "run `make findings`"
    assert "{{" not in written
    for name in figures:
        assert (ROOT / "docs" / "figures" / name).exists()
    anchors = set(re.findall(r'<a id="([^"]+)">', written))
    assert set(re.findall(r"\]\(#([^)]+)\)", written)) <= anchors
