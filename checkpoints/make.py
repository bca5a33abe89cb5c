"""Makes the checkpoints that ship with the app: runs of the study, each picked from results.json by a rule.

`make checkpoints` makes those that are not there; a run that the study's folder (--runs) still keeps is not made again.
"""

import argparse
import sys
from pathlib import Path

import roadtrip as rt
from roadtrip.evidence import FIRST_SWEEP_SEED, best_cure, median_seed
from roadtrip.study import SIZE, STEPS, Job, Row, is_model_of, is_row_of, job_of, read_results, study

HERE = Path(__file__).parent
POST = {"setting": "output=picture", "steps": 2400}  # the post's kind of network, trained for as long as it takes
POST_REPLAY = POST | {"setting": "output=picture replay=8"}
MEDIANS = {  # of each the seed whose R is the median
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
FLIP = {"arm": "pair", "seed": FIRST_SWEEP_SEED, "setting": "l1_weight=100 output=picture", "steps": POST["steps"]}


def chosen(rows: list[Row]) -> dict[str, Row]:
    """The row that each shipped checkpoint is the run of, by the checkpoint's name."""
    road = [row for row in rows if row["film"] == "scenery" and tuple(row["size"]) == SIZE]
    table = [row for row in road if row["seed"] < FIRST_SWEEP_SEED]

    def alike(among: list[Row], wanted: Row) -> list[Row]:
        wanted = {"setting": "", "steps": STEPS} | wanted
        return [row for row in among if all(row[k] == v for k, v in wanted.items())]

    answer = {name: median_seed(alike(table, wanted)) for name, wanted in MEDIANS.items()}
    answer["post-flip"] = alike(road, FLIP)[0]
    for name, setting, sharp in (("v3-cure", "", False), ("replay-cure", "replay=8", True)):
        cure = best_cure(alike(table, {"setting": setting}), sharp)
        if cure:
            answer[name] = median_seed(alike(table, {"arm": cure, "setting": setting}))
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="where the study keeps finished runs")
    runs = parser.parse_args().runs
    wanted: dict[str, Job] = {}
    for name, row in chosen(read_results(HERE / "results.json")).items():
        if (HERE / name).exists() and is_model_of(rt.load(HERE / name), row):
            print(f"{name} is there already", file=sys.stderr)
        else:
            wanted[name] = job_of(row)
    for made in study([*dict.fromkeys(wanted.values())], runs):
        for name, job in wanted.items():
            if is_row_of(made, job):
                rt.save(HERE / name, rt.load(runs / job.folder))
                print(f"{name}: {made['arm']}, seed {made['seed']}, R {made['R']}, {made['verdict']}", flush=True)


if __name__ == "__main__":
    main()
