"""Makes the checkpoints that ship with the app: runs of the study, each picked from results.json by a rule.

`make checkpoints` makes those that are not there; a run that the study's folder (--runs) still keeps is not made again.
"""

import argparse
import sys
from pathlib import Path

import roadtrip as rt
from roadtrip.study import PUBLISHED, SIZE, STEPS, Row, is_model_of, job_of, key_of, read_results, study
from roadtrip.study.analysis import FIRST_SWEEP_SEED, best_cure, median_seed

POST, POST_STEPS = "output=picture", 2400  # the post's kind of network, trained for as long as it takes
MEDIANS = {  # arm, setting and steps of which each is the seed whose R is the median
    "v1": ("v1", "", STEPS),
    "v2": ("v2", "", STEPS),
    "v3-pair": ("pair", "", STEPS),
    "v3-single": ("single", "", STEPS),
    "lstm": ("lstm", "", STEPS),
    "replay-v2": ("v2", "replay=8", STEPS),
    "replay-pair": ("pair", "replay=8", STEPS),
    "replay-single": ("single", "replay=8", STEPS),
    "replay-detached": ("cure-detached", "replay=8", STEPS),
    "post-pair": ("pair", POST, POST_STEPS),
    "post-single": ("single", POST, POST_STEPS),
    "post-replay-pair": ("pair", f"{POST} replay=8", POST_STEPS),
    "post-replay-single": ("single", f"{POST} replay=8", POST_STEPS),
}
LARGE = (72, 128)  # size of the one that drives on live, stored in half precision
# the first of the sweep's own runs; picked because it flips, and called so wherever it is shown
FLIP = ("pair", f"l1_weight=100 {POST}", POST_STEPS)


def chosen(rows: list[Row]) -> dict[str, Row]:
    """The row that each shipped checkpoint is the run of, by the checkpoint's name."""
    road = [row for row in rows if row["film"] == "scenery" and tuple(row["size"]) == SIZE]
    table = [row for row in road if row["seed"] < FIRST_SWEEP_SEED]

    def median(run: tuple[str, str, int]) -> Row:
        return median_seed([row for row in table if (row["arm"], row["setting"], row["steps"]) == run])

    answer = {name: median(run) for name, run in MEDIANS.items()}
    first = FIRST_SWEEP_SEED, *FLIP
    drives = ("scenery", LARGE, "v4", "")
    large = [r for r in rows if (r["film"], tuple(r["size"]), r["arm"], r["setting"]) == drives]
    if large:
        answer["v4"] = min(large, key=lambda row: row["seed"])
    answer["post-flip"] = next(r for r in road if (r["seed"], r["arm"], r["setting"], r["steps"]) == first)
    for name, setting, sharp in (("v3-cure", "", False), ("replay-cure", "replay=8", True)):
        cure = best_cure([row for row in table if (row["setting"], row["steps"]) == (setting, STEPS)], sharp)
        if cure:
            answer[name] = median((cure, setting, STEPS))
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.checkpoints", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="where the study keeps finished runs")
    runs, home = parser.parse_args().runs, PUBLISHED.parent
    wanted: dict[str, Row] = {}
    for name, row in chosen(read_results(PUBLISHED)).items():
        if (home / name).exists() and is_model_of(rt.load(home / name), row):
            print(f"{name} is there already", file=sys.stderr)
        else:
            wanted[name] = row
    for made in study([*dict.fromkeys(map(job_of, wanted.values()))], runs):
        key = key_of(made)
        names = [name for name, row in wanted.items() if key_of(row) == key]
        if not names:
            parser.exit(2, f"The film called {made['film']} is not the table's; study it again.\n")
        for name in names:
            rt.save(home / name, rt.load(runs / job_of(made).folder(key)), half=name == "v4")
            print(f"{name}: {made['arm']}, seed {made['seed']}, R {made['R']}, {made['verdict']}", flush=True)


if __name__ == "__main__":
    main()
