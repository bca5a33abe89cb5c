"""Makes the checkpoints that ship with the app: runs of the study, each picked from results.json by a rule.

`make checkpoints` makes those that are not there; a run that the study's folder (--runs) still keeps is not made again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import roadtrip as rt
from roadtrip.study import PUBLISHED, SIZE, STEPS, Row, is_model_of, job_of, key_of, read_results, study
from roadtrip.study.analysis import FIRST_SWEEP_SEED, best_cure, median_seed

# the post's kind of network, trained for as long as it takes
POST: dict[str, Any] = {"setting": "output=picture", "steps": 2400}
POST_REPLAY = POST | {"setting": "output=picture replay=8"}
MEDIANS: dict[str, dict[str, Any]] = {  # of each the seed whose R is the median
    "v1": {"arm": "v1"},
    "v2": {"arm": "v2"},
    "v3-pair": {"arm": "pair"},
    "v3-single": {"arm": "single"},
    "lstm": {"arm": "lstm"},
    "replay-v2": {"arm": "v2", "setting": "replay=8"},
    "replay-pair": {"arm": "pair", "setting": "replay=8"},
    "replay-single": {"arm": "single", "setting": "replay=8"},
    "replay-detached": {"arm": "cure-detached", "setting": "replay=8"},
    "post-pair": {"arm": "pair"} | POST,
    "post-single": {"arm": "single"} | POST,
    "post-replay-pair": {"arm": "pair"} | POST_REPLAY,
    "post-replay-single": {"arm": "single"} | POST_REPLAY,
}
# of the sweep's own runs; picked because it flips, and called so wherever it is shown
FLIP: dict[str, Any] = {
    "arm": "pair",
    "seed": FIRST_SWEEP_SEED,
    "setting": "l1_weight=100 output=picture",
    "steps": POST["steps"],
}


def chosen(rows: list[Row]) -> dict[str, Row]:
    """The row that each shipped checkpoint is the run of, by the checkpoint's name."""
    road = [row for row in rows if row["film"] == "scenery" and tuple(row["size"]) == SIZE]
    table = [row for row in road if row["seed"] < FIRST_SWEEP_SEED]

    def alike(among: list[Row], wanted: dict[str, Any]) -> list[Row]:
        wanted = {"setting": "", "steps": STEPS} | wanted
        return [row for row in among if wanted.items() <= row.items()]

    answer = {name: median_seed(alike(table, wanted)) for name, wanted in MEDIANS.items()}
    answer["post-flip"] = alike(road, FLIP)[0]
    for name, setting, sharp in (("v3-cure", "", False), ("replay-cure", "replay=8", True)):
        cure = best_cure(alike(table, {"setting": setting}), sharp)
        if cure:
            answer[name] = median_seed(alike(table, {"arm": cure, "setting": setting}))
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
            rt.save(home / name, rt.load(runs / job_of(made).folder(key)))
            print(f"{name}: {made['arm']}, seed {made['seed']}, R {made['R']}, {made['verdict']}", flush=True)


if __name__ == "__main__":
    main()
