"""The published table and what is written about it: every row whole, and no number in the prose that is not its own."""

import json
import statistics

import pytest

import roadtrip as rt
from roadtrip import study
from roadtrip.study import analysis
from scripts import checkpoints, findings

RESULTS = study.PUBLISHED


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
        assert row["recipe"].items() <= rt.Recipe.from_dict(row["recipe"]).to_dict().items()
        assert row["command"] == study.job_of(row).command
        assert study.key_of(row) == study.job_of(row).key(row["fingerprint"], row["gap"])
    assert len({study.key_of(row) for row in rows}) == len(rows)
    assert len({(row["film"], row["gap"], *row["size"]) for row in rows}) == len({row["fingerprint"] for row in rows})


def test_what_was_run_again_is_in_the_table():
    first = {study.key_of(row): row for row in study.read_results(RESULTS)}
    for row in study.read_results(findings.AGAIN):
        twin = first[study.key_of(row)]
        assert twin["versions"].get("cpu", "AVX2") != row["versions"]["cpu"]  # rows from before it was noted have AVX2


def test_what_ships_is_what_the_rule_picks():
    chosen = checkpoints.chosen(study.read_results(RESULTS))
    shipped = {file.parent.name for file in RESULTS.parent.glob("*/config.json")}
    assert {*rt.RECIPES, "post-flip"} <= {*chosen} == shipped
    for name, row in chosen.items():
        assert study.is_model_of(rt.load(RESULTS.parent / name), row), name


def test_the_findings_are_the_tables_own_numbers():
    written, figures = findings.text(study.read_results(RESULTS), study.read_results(findings.AGAIN))
    assert written == (findings.DOCS / "findings.md").read_text(), "run `make findings`"
    assert "{{" not in written
    for name in figures:
        assert (findings.DOCS / "figures" / name).exists()


def test_a_template_that_asks_for_what_is_not_there_is_told():
    asked = findings.Findings(study.read_results(RESULTS), [])
    median = statistics.median(row["R"] for row in asked.tables["scenery"] if row["arm"] == "pair")
    assert asked("R pair scenery") == f"{median:.2f}"
    for wrong in (
        "R pear scenery",
        "returns pair scenery",
        "R pair nowhere",
        "table nowhere",
        "figure R",
        "p:R pair x",
        "a",
    ):
        with pytest.raises(SystemExit, match="asks for"):
            asked(wrong)


def test_what_the_findings_say_in_words():
    """Where the prose says never, no or every without a number."""
    tables = findings.Findings(study.read_results(RESULTS), []).tables

    def checks(arm, table):
        return [analysis.measure_value(row, "oscillating_share") for row in tables[table] if row["arm"] == arm]

    films = ("scenery", "ca_freeway:8", "dashcam_motorway:8")
    post = "scenery+output=picture+steps=2400"
    assert not any(any(checks("v2", f"{film}+replay=8")) for film in films)
    assert all(checks("pair", post)) and not any(checks("single", post))
    assert not any(any(checks("pair", film)) for film in films[1:])
    assert not any(checks("cure-lstm", "scenery"))
    flips = [row for rows in tables.values() for row in rows if analysis.is_periodic(row["verdict"])]
    assert {findings._kind(row) for row in flips} == {"more"}
    assert not [r for f in films for r in tables[f] if r["arm"] == "pair" and r["verdict"] == "oscillates"]
    replay = {t: rows for t, rows in tables.items() if "replay=8" in t}
    for row in (row for rows in replay.values() for row in rows):
        if row["arm"] == "single":
            assert 0.9 < row["multiplier"]["real"] < 1.4
        if row["arm"] == "pair" and row["verdict"] == "oscillates":
            assert row["multiplier"]["real"] < 0
