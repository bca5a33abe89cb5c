"""One run of the study as data: the job that asks for it, the key that tells it from every other, its row, and files
of rows. Independent of how a run is made.
"""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from ..atomic import whole_file
from ..checkpoint import SHIPPED
from ..errors import RoadtripError
from ..model import NextFrame
from ..recipes import Recipe, parse_values
from .arms import ARMS

STEPS, SIZE = 600, (48, 80)  # of every run of the published table
# the table that ships with the project; scripts that write to it name it as their --out
PUBLISHED = SHIPPED / "results.json"


class Row(TypedDict):
    """What the table says of one run. Its measures, under the letters of the docs, are medians over 8 held-out starts, on
    frames 33–64 of 64, and None where undefined; see roadtrip/oscillation.py for formulas and ranges."""

    R: float | None
    N: float
    S: float | None
    B: float | None
    switches: float
    period: int | None
    sharpness: float | None
    lag_profile: list[float | None]
    verdict: str
    arm: str
    film: str  # the film's name, with ":GAP" where a gap was asked for
    fingerprint: str  # of the film, at this size
    gap: int
    source: str  # in words
    seed: int
    steps: int
    size: list[int]  # [H, W]
    setting: str  # Recipe fields that differ from the arm's, as "l1_weight=10 replay=8"
    recipe: dict[str, Any]
    starts: list[dict[str, Any]]  # R, N, S, B and verdict of each start
    onset: list[dict[str, Any]]  # the measures in windows of 16 frames, each with its "frames" [first, last]
    psnr: dict[str, list[float]]  # dB at HORIZONS of "model" and each baseline
    ema: dict[str, Any]  # measures, onset and psnr of the averaged weights
    multiplier: dict[str, float]
    training_curve: list[dict[str, Any]]  # measures and losses at each check, with its "step"
    real: dict[str, Any]  # a RealFilm: the film itself in windows of 32 frames
    linear: dict[str, list[float]]  # least and most of each measure that linear extrapolation gets from the starts
    # endless_row of 8 held-out starts, its "horizon", "frames_per_second" and "spread_over_skill"; where it was asked for
    endless: NotRequired[dict[str, Any]]
    calibration: NotRequired[list[dict[str, float]]]  # rounds of `calibrate`, of a network that draws; before `endless`
    nonfinite: bool  # whether a gradient was ever not a number
    command: str  # makes the row again
    seconds: float
    threads: int
    device: str
    dtype: str
    versions: dict[str, str]


class Key(NamedTuple):
    """What tells one run from every other. The film is known by what it holds (fingerprint and gap), not by its name:
    two folders may be called stills."""

    arm: str
    setting: str
    recipe: Recipe
    fingerprint: str
    gap: int
    seed: int
    steps: int
    size: tuple[int, int]
    endless: int = 0


@dataclass(frozen=True)
class Job:
    """A run that is asked for.

    film: see film_and_gap; size: (H, W); changes: Recipe fields that differ from the arm's, a second setting of the whole
    table (the weight of L1 goes only to arms with a discriminator, which it is weighed against; ping-pong's goes with it).
    endless: frames of a rollout that are measured beside the usual 64, 0 for none; such a run is in the fastest dtype.
    Raises RoadtripError for an arm or a field that is not there, and for a seed or steps out of range.
    """

    arm: str
    film: str = "scenery"
    seed: int = 0
    steps: int = STEPS
    size: tuple[int, int] = SIZE
    changes: tuple[str, ...] = ()  # as "l1_weight=10"
    endless: int = 0

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise RoadtripError(f"There is no arm {self.arm!r}; choose from: {', '.join(ARMS)}.")
        if self.steps < 1:
            raise RoadtripError(f"Steps must be at least 1, not {self.steps}.")
        if self.endless and not 64 <= self.endless <= 10**6:
            raise RoadtripError(f"An endless rollout has from 64 to a million frames, not {self.endless}.")
        if not 0 <= self.seed < 2**31:
            raise RoadtripError(f"Seed {self.seed} is out of range; choose from 0 to {2**31 - 1}.")
        parse_values(list(self.changes))

    @property
    def recipe(self) -> Recipe:
        recipe, changes = ARMS[self.arm], parse_values(list(self.changes))
        if not recipe.gan_weight:
            changes.pop("l1_weight", None)
        elif recipe.pingpong_weight and "l1_weight" in changes:
            changes.setdefault("pingpong_weight", recipe.pingpong_weight * changes["l1_weight"] / recipe.l1_weight)
        return replace(recipe, **changes)

    @property
    def setting(self) -> str:
        return " ".join(self.changes)

    @property
    def film_name(self) -> str:
        """What tables call the film: its name without folder and ending, and the gap where one is asked for."""
        source, gap = film_and_gap(self.film)
        if source.split(":")[0] != "scenery" or _exists(source):
            path = Path(source)
            name = (path.stem if path.is_file() else path.name) or path.resolve().name
            source = name.replace(":", "-")
        return source + (f":{gap}" if gap else "")

    @property
    def command(self) -> str:
        """The command that makes this row again, with the film looked for where one stands."""
        words = ["python", "-m", "roadtrip", "study", "--arms", self.arm, "--films", self.film_name]
        words += ["--seeds", str(self.seed), "--steps", str(self.steps), "--size", "{}x{}".format(*self.size)]
        if self.changes:
            words += ["--set", *self.changes]
        if self.endless:
            words += ["--endless", str(self.endless)]
        return shlex.join(words)

    def key(self, fingerprint: str, gap: int) -> Key:
        """The key of this run on the film of this fingerprint and gap."""
        return Key(
            self.arm, self.setting, self.recipe, fingerprint, gap, self.seed, self.steps, self.size, self.endless
        )

    def folder(self, key: Key) -> str:
        """The name of the run's own folder. Recipe fields at their defaults are not in it, so that fields which are
        added later leave it as it is."""
        usual = Recipe()
        changed = {k: v for k, v in key.recipe.to_dict().items() if v != getattr(usual, k)}
        facts = [changed, *(v for name, v in key._asdict().items() if name != "recipe" and (v or name != "endless"))]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        film = re.sub(r"[^\w.-]+", "-", self.film_name)[:40]
        return f"{self.arm}-{film}-{self.seed}-{digest[:8]}"


def film_and_gap(text: str) -> tuple[str, str | None]:
    """What open_film takes, and the gap, of PATH:GAP: ("stills", "8") of "stills:8". The gap is None where the text has
    none, and where a file or folder has the whole text as its name.

    The number after "scenery:" is the road's seed, as in open_film; a gap follows the seed, as in "scenery:0:12".
    """
    source, _, gap = text.rpartition(":")
    if not source or not gap.removesuffix("s").replace(".", "", 1).isdigit() or _exists(text):
        return text, None
    return (text, None) if source == "scenery" else (source, gap)


def _exists(path: str) -> bool:
    # unlike Path's, these never raise: not for a name that is too long, nor for a user that is not there
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111


def key_of(row: Row) -> Key:
    """Of a row. Recipe fields that were added after it was written have their defaults.

    Raises RoadtripError where the row lacks what a key is made of."""
    try:
        recipe, (height, width) = Recipe.from_dict(row["recipe"]), row["size"]
        endless = row.get("endless", {}).get("horizon", 0)
        where = row["fingerprint"], row["gap"], row["seed"], row["steps"], (height, width)
        words, numbers = (row["arm"], row["setting"], row["film"], where[0]), (*where[1:4], height, width, endless)
        if not all(type(w) is str for w in words) or not all(type(n) is int for n in numbers):
            raise TypeError("a value of another kind")
        return Key(row["arm"], row["setting"], recipe, *where, endless)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RoadtripError(f"A row of the table is not one of the study's ({error}); remove it.") from None


def job_of(row: Row) -> Job:
    """The job that makes this row again, with its film looked for where one stands."""
    height, width = row["size"]
    job = Job(row["arm"], row["film"], row["seed"], row["steps"], (height, width), tuple(row["setting"].split()))
    return replace(job, endless=key_of(row).endless)


def is_model_of(model: NextFrame, row: Row) -> bool:
    """Whether a model is what the run of this row trained, under whatever name: one run may stand in two tables, as an
    arm of its own and as another arm with a setting."""
    known = model.provenance
    if known is None:
        return False
    facts = known.seed, known.step, known.film.fingerprint, known.film.gap, replace(known.recipe, name="")
    recipe = replace(Recipe.from_dict(row["recipe"]), name="")
    return facts == (row["seed"], row["steps"], row["fingerprint"], row["gap"], recipe)


def read_results(path: str | Path) -> list[Row]:
    """The rows of a results file; none where there is no file. Raises RoadtripError where it is not a results file."""
    path = Path(path)
    try:
        return [row | {} for row in json.loads(path.read_text())["runs"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RoadtripError(f"{path.name} is not a study's table; give another --out, or delete it.") from None


def write_results(path: str | Path, rows: Sequence[Row]) -> None:
    """Writes {"runs": rows}, a row a line, by film, setting, arm (in ARMS' order) and seed; whole or not at all."""
    order = [*ARMS]

    def place(row: Row) -> tuple[Any, ...]:
        arm = order.index(row["arm"]) if row["arm"] in ARMS else len(order)
        return row["steps"], row["size"], row["film"], row["fingerprint"], row["setting"], arm, row["seed"]

    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in sorted(rows, key=place))
    with whole_file(path) as file:
        file.write_text(f'{{"runs": [\n{lines}\n]}}\n')


def add_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Adds rows to a results file, whatever other processes add to it meanwhile. Of a run that is in it already the
    row stays as it is."""
    from filelock import FileLock

    path = Path(path)
    with ExitStack() as stack:
        with suppress(
            OSError, NotImplementedError
        ):  # no lock is to be had: nothing waits, and writing tells what is wrong
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_name(f".{path.name}.lock")))
        known = {key_of(row): row for row in read_results(path)}
        merged = known | {key_of(row): row for row in rows if key_of(row) not in known}
        if len(merged) > len(known):
            write_results(path, list(merged.values()))


def to_json(value: Any, digits: int | None = None) -> Any:
    """JSON's own types without NaN or infinity: what is undefined is null. digits: significant ones to keep of a float."""
    if isinstance(value, dict):
        return {k: to_json(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v, digits) for v in value]
    if isinstance(value, float):
        if not abs(value) < float("inf"):
            return None
        return float(f"{value:.{digits}g}") if digits else value
    return value
