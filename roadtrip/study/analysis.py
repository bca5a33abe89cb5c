"""What a table of runs says: medians and ranges over seeds, shares of verdicts, exact tests between arms.

Reads rows and nothing else. Independent of networks, prose and figures.
"""

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ..errors import RoadtripError
from ..evaluation import HORIZONS
from ..oscillation import COMPARED, LAGS
from .arms import ARMS
from .rows import SIZE, Row

SELECTION_SEEDS = 5  # a shipped run is picked from its first so many seeds, so that what is run later changes nothing
FIRST_SWEEP_SEED = 100  # seeds from here on chose a setting and are in no published table
GAINS = {f"gain{h}": i for i, h in enumerate(HORIZONS)}  # by name, and where they stand in a row's "psnr"
MEASURES = (*COMPARED, "oscillating_share", *GAINS)
VERDICTS: tuple[str, ...] = ("moves", "frozen", "oscillates", "flickers", "switches between two modes")
VERDICTS += tuple(f"{p}-cycle" for p in LAGS[2:])
Spread = tuple[float, float, float]  # median, least, most


@dataclass(frozen=True)
class Group:
    """The runs of one arm on one film. verdicts: how many seeds have each, most frequent first; spread: median, least
    and most over the seeds of each of MEASURES, None where it is undefined for all of them."""

    arm: str
    film: str
    setting: str
    steps: int
    size: tuple[int, ...]  # (H, W)
    seeds: tuple[int, ...]
    verdicts: tuple[tuple[str, int], ...]
    spread: dict[str, Spread | None]

    def count(self, verdict: str) -> int:
        """How many seeds have this verdict. Raises RoadtripError for what is not one of VERDICTS."""
        _check_name(verdict, VERDICTS, "verdict")
        return dict(self.verdicts).get(verdict, 0)

    def share(self, verdict: str) -> float:
        """The share of seeds with this verdict, in [0, 1]."""
        return self.count(verdict) / len(self.seeds)


def is_published(row: Row) -> bool:
    """Whether a row is of a published table: at the study's size, of a seed that chose nothing. Endless runs have a table
    of their own."""
    return tuple(row["size"]) == SIZE and row["seed"] < FIRST_SWEEP_SEED and "endless" not in row


def groups(rows: list[Row]) -> list[Group]:
    """One Group for each film, setting and arm, in the table's order. Films are told apart by what they hold."""
    gathered: dict[tuple[str, str | None, int, tuple[int, ...], str, str], list[Row]] = defaultdict(list)
    for row in rows:
        film = row["film"], row.get("fingerprint")
        gathered[*film, row["steps"], tuple(row["size"]), row["setting"], row["arm"]].append(row)
    answer = []
    for (name, _, steps, size, setting, arm), members in gathered.items():
        verdicts = Counter(row["verdict"] for row in members).most_common()
        spread: dict[str, Spread | None] = {}
        for measure in MEASURES:
            values = [v for row in members if (v := measure_value(row, measure)) is not None]
            spread[measure] = (statistics.median(values), min(values), max(values)) if values else None
        seeds = tuple(sorted(row["seed"] for row in members))
        answer.append(Group(arm, name, setting, steps, size, seeds, tuple(verdicts), spread))
    return answer


def median_seed(rows: list[Row]) -> Row:
    """The row whose R is the median of the first SELECTION_SEEDS seeds among these rows (of two in the middle the
    lower), which is how a shipped run is picked; frozen runs, whose R is undefined, stand below all others, and equal ones
    go by seed."""
    rows = [row for row in rows if row["seed"] < SELECTION_SEEDS]
    if not rows:
        raise RoadtripError("There are no runs to pick one from.")

    def place(row: Row) -> tuple[float, int]:
        R = measure_value(row, "R")
        return (-1.0 if R is None else R), row["seed"]

    ranked = sorted(rows, key=place)
    return ranked[(len(ranked) - 1) // 2]


def best_cure(rows: list[Row], sharp: bool = False) -> str | None:
    """The cure arm that ships, by the rules of docs/findings.md: of those none of whose seeds 0 and 1 ends frozen or
    periodic, the one with the smallest median of "oscillating_share"; among equals the one whose median R is nearest to
    real film's.

    sharp: the later rule, which asks that the median sharpness be within a factor of two of real film's, and among equals
    for the nearest to it. None where there is none. rows: of one film and setting."""
    found = []
    for arm in [arm for arm in ARMS if arm.startswith("cure-")]:
        of = [row for row in rows if row["arm"] == arm and row["seed"] in (0, 1)]
        if len(of) < 2 or any(row["verdict"] == "frozen" or is_periodic(row["verdict"]) for row in of):
            continue
        share, R, sharpness = (
            statistics.median(measure_value(row, k) or 0.0 for row in of)
            for k in ("oscillating_share", "R", "sharpness")
        )
        distance = abs(math.log2(max(sharpness, 1e-9))) if sharp else abs(R - of[0]["real"]["return_ratio"])
        if not sharp or distance <= 1:
            found.append((share, distance, arm))
    return min(found)[2] if found else None


@dataclass(frozen=True)
class Comparison:
    """An arm against this other one. difference: of means, averaged over films; p: exact, two-sided; adjusted: after Holm,
    over the comparisons made together. None where the measure is undefined for one of the two on every film."""

    other: str
    films: tuple[str, ...]
    difference: float | None
    p: float | None
    adjusted: float | None


def compare(rows: list[Row], arm: str, measure: str = "R") -> list[Comparison]:
    """`arm` against each other arm, by an exact permutation test of `measure` that shuffles seeds between the two arms
    within each film. The rows must share steps, size and setting.

    measure: one of MEASURES, for which runs where it is undefined (R of frozen ones) are left out; or one of VERDICTS,
    whose shares of seeds are compared. Raises RoadtripError for another one, and for an arm that is not there.
    """
    _check_name(arm, tuple(ARMS), "arm")
    _check_name(measure, (*MEASURES, *VERDICTS), "measure or verdict")
    found = []
    films = sorted({(row["film"], row["fingerprint"]) for row in rows})
    for other in [a for a in ARMS if a != arm and any(row["arm"] == a for row in rows)]:
        names, strata = [], []
        for film in films:
            values = [(r["arm"], measure_value(r, measure)) for r in rows if (r["film"], r["fingerprint"]) == film]
            one, two = ([v for a, v in values if a == side and v is not None] for side in (arm, other))
            if one and two:
                names.append(film[0])
                strata.append((one, two))
        difference = statistics.fmean(statistics.fmean(a) - statistics.fmean(b) for a, b in strata) if strata else None
        found.append(Comparison(other, tuple(names), difference, permutation_test(strata) if strata else None, None))
    adjusted = iter(holm([c.p for c in found if c.p is not None]))
    return [c if c.p is None else replace(c, adjusted=next(adjusted)) for c in found]


def permutation_test(strata: list[tuple[list[float], list[float]]]) -> float:
    """Two-sided p of "both sides of every stratum come from one distribution", in (0, 1].

    Exact: the statistic, the sum over strata of the difference of means, is computed for every way to deal each
    stratum's values to its two sides, and p is the share of ways that are at least as far from 0 as what was seen
    (Fisher 1935). Raises RoadtripError where a stratum has an empty side or there are too many ways to count.
    """
    if not strata or not all(a and b for a, b in strata):
        raise RoadtripError("A comparison needs at least one run on either side.")
    # the ways of the largest stratum are sorted and looked up in, those of all others are gone through
    *others, largest = sorted(math.comb(len(a) + len(b), len(a)) for a, b in strata)
    if math.prod(others) > 1e7 or largest > 1e6:
        raise RoadtripError("There are too many runs for an exact test; compare fewer films or seeds.")
    seen = sum(statistics.fmean(a) - statistics.fmean(b) for a, b in strata)
    ways = []
    for a, b in strata:
        values = np.array(a + b)
        picked = values[np.array(list(combinations(range(len(values)), len(a))))].sum(axis=1)
        ways.append(picked / len(a) - (values.sum() - picked) / len(b))
    *most, last = sorted(ways, key=len)
    sums = np.zeros(1)
    for way in most:
        sums = np.add.outer(sums, way).ravel()
    last = np.sort(last)
    bound = abs(seen) - 1e-9  # what was seen counts itself, whatever rounding does
    above = len(last) - np.searchsorted(last, bound - sums, side="left")
    below = np.searchsorted(last, -bound - sums, side="right")
    return min(1.0, float((above + below).sum()) / (len(sums) * len(last)))


def holm(p: list[float]) -> list[float]:
    """p values adjusted so that the chance of any false alarm among them is bounded (Holm 1979), in their order."""
    answer, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        answer[i] = least
    return answer


def measure_value(row: Row, measure: str) -> float | None:
    """A run's own value of one of MEASURES, None where it is undefined; 1 or 0 for one of VERDICTS that it has or has
    not. Raises RoadtripError for another name.

    R and N are undefined for a frozen run: they are ratios of motions that are too small to see.
    "oscillating_share" is the share of checks during training (12 in the published table, from one start) at which the
    rollout oscillated or cycled: it depends less than the verdict on the moment at which training ends. "gain1", "gain4"
    and "gain16" are PSNR so many frames ahead over the best baseline's there, in dB.
    """
    _check_name(measure, (*MEASURES, *VERDICTS), "measure or verdict")
    if measure in VERDICTS:
        return float(row["verdict"] == measure)
    if measure == "oscillating_share":
        found = [is_periodic(check["verdict"]) for check in row["training_curve"]]
        return statistics.fmean(found) if found else None
    if measure in GAINS:
        at = GAINS[measure]
        return row["psnr"]["model"][at] - max(dB[at] for name, dB in row["psnr"].items() if name != "model")
    if measure in ("R", "N") and row["verdict"] == "frozen":
        return None
    return row.get(measure)  # type: ignore[return-value]  # which older rows may lack


def _check_name(name: str, choices: tuple[str, ...], what: str) -> None:
    if name not in choices:
        raise RoadtripError(f"There is no {what} {name!r}; choose from: {', '.join(choices)}.")


def is_periodic(verdict: str) -> bool:
    """Whether a verdict says that a rollout repeats itself: oscillates, or cycles through 3 to 8 pictures."""
    return verdict == "oscillates" or verdict.endswith("-cycle")
