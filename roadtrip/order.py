"""The order of stills, from their names and EXIF times together; which are copies, and which are another camera's.

Pure functions over what was read of each still; independent of files and decoders.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise
from statistics import median
from typing import Any

Distance = Callable[[int, int], float]  # how far two stills are apart, in grey levels, by their indices

COPY = re.compile(r"(?i)(?: ?\([0-9]{1,3}\)|(?: -)? (?:copy|kopie|copie)(?: \(?[0-9]{1,3}\)?)?|~[0-9]{1,2})+$")
# GoPro: chapter 02 of recording 0001 is GH020001 or GX020001, or GP020001 after GOPR0001
CHAPTER = re.compile(r"(?i)G(?:[HXLSP]([0-9]{2})|OPR)([0-9]{4})$")
DATE = re.compile(  # from year to second
    "(?<![0-9])((?:19|20)[0-9]{2})"
    + "(?:[-_. t]{0,3}| at )".join(
        ["", "(0[1-9]|1[0-2])", "([0-2][0-9]|3[01])", "([01][0-9]|2[0-3])", *["([0-5][0-9])"] * 2]
    )
)
DECIMAL = r"(?<![0-9.])[0-9]+\.[0-9]+(?![0-9.])"
DAY = 24 * 3600
LEAP = 10  # numbers that a counter may leave out where others follow each other, for stills that were deleted
SAMPLE = 256  # stills that are compared to find cameras in turn
SAME = 6.0  # grey levels that one shot saved in two formats may differ by
NOISE = 2.0  # grey levels by which two stills of nothing new differ


@dataclass(frozen=True)
class Shot:
    """What tells a still's place: its path within the source, a digest of its bytes and, of its EXIF, each empty where
    there is none, date and time, fraction of a second, offset from UTC, and the camera as "make model #number"."""

    name: str
    digest: bytes = b""
    taken: str = ""
    subsec: str = ""
    offset: str = ""
    camera: str = ""


@dataclass(frozen=True)
class Name:
    """label: the folder, and the stem with 0 for each number. numbers: these. width: digits of the last one. date: the
    seconds of a date and time among them, which is no counter."""

    label: tuple[str, str]
    numbers: tuple[float, ...]
    width: int
    date: float | None


# --- names ------------------------------------------------------------------------------------------------------------


def split_path(name: str) -> tuple[list[str], str, str]:
    """(folders, stem, suffix) of a path in a folder or a zip; digits alone are no suffix (1565012345.03)."""
    *folders, base = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")] or ["_"]
    suffix = re.search(r"(?<=.)\.(?=[0-9_]*[A-Za-z])\w{1,12}$", base)
    return folders, base[: suffix.start()] if suffix else base, suffix[0].lower() if suffix else ""


def natural(names: Sequence[str]) -> list[int]:
    """The indices of names sorted as people count: frame10 after frame9, 0.5 after 0.25, a copy after its original,
    a recording's chapters in a row. Names that differ in case or zeros alone are always sorted the same way."""
    paths = [split_path(name) for name in names]
    number = _number([stem for _, stem, _ in paths])

    def key(text: str) -> list[Any]:
        parts: list[Any] = number.split(text.lower())
        for i in range(1, len(parts), 2):
            # by value: by length, then as text (a hostile name has more digits than int() takes)
            whole, _, fraction = parts[i].partition(".")
            parts[i] = len(whole.lstrip("0")), whole.lstrip("0"), fraction
        return parts

    def keys(i: int) -> tuple[Any, ...]:
        folders, stem, _ = paths[i]
        if chapter := CHAPTER.match(stem):
            stem = f"gopro{chapter[2]}-{chapter[1] or '00'}"
        bare = COPY.sub("", stem)
        return [*map(key, folders)], key(bare), key(stem[len(bare) :]), names[i]

    return sorted(range(len(names)), key=keys)


def _number(stems: Sequence[str]) -> re.Pattern[str]:
    """What is one number in these stems. Whether 1.25 is, or is two counters, they tell together: decimals drop zeros
    at their end, counters at their beginning."""
    fractions = [found.partition(".")[2] for stem in stems for found in re.findall(DECIMAL, stem)]
    long = [f for f in fractions if len(f) > 1]
    decimals = any(f[0] == "0" for f in long) or not any(f[-1] == "0" for f in long)
    return re.compile(f"({DECIMAL}|[0-9]+)" if fractions and decimals else "([0-9]+)")


def _parsed(names: Sequence[str]) -> list[Name]:
    paths = [("/".join(folders).lower(), stem.lower()) for folders, stem, _ in map(split_path, names)]
    number, found = _number([stem for _, stem in paths]), []
    for folder, stem in paths:
        digits, date = number.findall(stem), DATE.search(stem)
        numbers = tuple(float(d[-300:]) for d in digits)
        when = moment(" ".join(date.groups())) if date else None
        found.append(Name((folder, number.sub("0", stem)), numbers, len(digits[-1]) if digits else 0, when))
    return found


def _by_name(shots: Sequence[Shot], names: Sequence[Name], rollover: bool) -> list[int]:
    """Natural order; with `rollover` a counter that holds the numbers at both its ends, and a gap between, begins after
    the gap: 9998, 9999, 0001, 0002."""
    order: list[int] = []
    for (*_, width), group in groupby(
        natural([shot.name for shot in shots]),
        lambda i: (names[i].label, names[i].numbers[:-1], names[i].date is None and names[i].width),
    ):
        run = list(group)
        if rollover and width >= 3 and len(run) > 2:
            values = [names[i].numbers[-1] for i in run]
            steps = [b - a for a, b in pairwise(values)]
            gap = steps.index(max(steps))
            usual = max([1, *steps[:gap], *steps[gap + 1 :]])
            if 2 * steps[gap] > 10**width and values[0] + 10**width - values[-1] <= usual + 1:
                run = run[gap + 1 :] + run[: gap + 1]
        order += run
    return order


# --- times ------------------------------------------------------------------------------------------------------------


def moment(text: str) -> float | None:
    """Seconds of a date and time as EXIF writes it, read as UTC; None where it is blank, zero or before 1990, which is
    a clock that was never set."""
    numbers = re.findall("[0-9]+", text)[:6]
    with suppress(ValueError, OverflowError):
        if len(numbers) > 4 and int(numbers[0]) >= 1990:
            return datetime(*map(int, numbers), tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]
    return None


def _times(shots: Sequence[Shot], names: Sequence[Name], order: Sequence[int]) -> list[float | None]:
    """Seconds at which each still was taken, comparable over time zones; None where that is unknown."""
    local = [moment(shot.taken) for shot in shots]
    apart = [t - n.date for t, n in zip(local, names) if t is not None and n.date is not None]
    shift = median(apart) if apart else 0.0  # from the clock in the names to the one in the EXIF
    for i, (t, name) in enumerate(zip(local, names)):
        if name.date is not None and (t is None or abs(t - name.date - shift) > DAY):
            local[i] = name.date + shift

    zone, zones = 0.0, {}
    for i in (*order[::-1], *order):  # one without an offset has that of the still before, the first ones of the next
        if offset := re.match(r"\s*([+-])([0-9]{1,2}):?([0-9]{2})?", shots[i].offset):
            zone = float(offset[1] + "1") * (int(offset[2]) * 3600 + int(offset[3] or 0) * 60)
        elif shots[i].offset.strip() == "Z":
            zone = 0.0
        zones[i] = zone

    # 85 ms are "085", in some cameras " 85", in some "85", which should be 850 ms: the order of the names tells
    fractions = [re.sub("[^0-9]", "", shot.subsec.rstrip().replace(" ", "0")) for shot in shots]
    width = max(map(len, fractions))
    readings = [fractions, [digits.rjust(width, "0") for digits in fractions]]
    if any(digits[0] == "0" for digits in fractions if 1 < len(digits) < width):
        del readings[1]
    first, *other = (
        [None if t is None else t - zones[i] + float(f"0.{digits[i] or 0}") for i, t in enumerate(local)]
        for digits in readings
    )
    falls = [_falls(times[i] for i in order) for times in (first, *other)]
    return other[0] if 2 * falls[-1] < falls[0] else first


def _falls(times: Iterable[float | None]) -> int:
    return sum(b < a for a, b in pairwise(t for t in times if t is not None))


def rising(values: Sequence[float]) -> list[int]:
    """The indices of a longest part of the values that never falls."""
    tops: list[float] = []
    chains: list[Any] = []  # (index, the chain before it), for each length the one with the lowest top
    for i, value in enumerate(values):
        at = bisect_right(tops, value)
        tops[at : at + 1] = [value]
        chains[at : at + 1] = [(i, chains[at - 1] if at else None)]
    found, chain = [], chains[-1] if chains else None
    while chain:
        found.append(chain[0])
        chain = chain[1]
    return found[::-1]


# --- both -------------------------------------------------------------------------------------------------------------


def arrange(shots: Sequence[Shot]) -> tuple[list[int], list[str]]:
    """The indices of one camera's stills as they were taken, and a sentence on each thing that is odd.

    Where a camera counted on from one name to the next, names tell the order better than its clock, which may be lost,
    set back or missing for some: such a row keeps the order of its names, and those of its times that rise along most
    of it say where the row belongs. A row that its times contradict throughout was named by somebody else; its stills,
    and those whose names don't go on from others (another label, a counter that ran over, random letters), follow their
    times. One without a time stays behind the name before it.
    """
    names = _parsed([shot.name for shot in shots])
    by_names = [_by_name(shots, names, rollover) for rollover in (True, False)]
    # a counter that may have run over has, unless the times contradict it
    order, times = min(
        ((order, _times(shots, names, order)) for order in by_names), key=lambda c: _falls(c[1][i] for i in c[0])
    )
    place: dict[int, float | None] = {}
    for row in _rows(names, order):
        timed = {i: t for i in row if (t := times[i]) is not None}
        good = {[*timed][k]: None for k in rising([*timed.values()])}
        if 2 * len(good) < len(timed) < 4 * _falls(timed.values()):
            good = dict.fromkeys(timed)
        at = timed[next(iter(good))] if good else None
        for i in row:
            at = place[i] = timed[i] if i in good else at
    known = [t for i in order if (t := place[i]) is not None]
    if not known:
        ran_over = "The counter in the names ran over: the stills before that come first."
        return order, [ran_over] if by_names[1] != order else []
    at = known[0]
    for i in order:
        at = place[i] = at if place[i] is None else place[i]
    rank = {i: k for k, i in enumerate(by_names[1])}
    found = sorted(order, key=lambda i: place[i])  # type: ignore[arg-type, return-value]
    return found, _told(found, times, rank)


def _rows(names: Sequence[Name], order: Sequence[int]) -> list[list[int]]:
    """The stills in the order of their names, cut where a camera that counts would not have named one after the other."""
    steps: dict[tuple[str, str], list[float]] = {}
    rows: list[list[int]] = []
    for a, b in pairwise(order):
        if names[a].label == names[b].label and names[b].numbers:
            steps.setdefault(names[a].label, []).append(names[b].numbers[-1] - names[a].numbers[-1])
    reach = {label: LEAP * max(1.0, median([s for s in found if s > 0] or [1.0])) for label, found in steps.items()}
    for i in order:
        name, before = names[i], names[rows[-1][-1]] if rows else None
        counted = before and name.numbers and name.date is None
        if counted and (name.label, name.numbers[:-1]) == (before.label, before.numbers[:-1]):  # type: ignore[union-attr]
            step = name.numbers[-1] - before.numbers[-1]  # type: ignore[union-attr]
            if (step if step >= 0 else step + 10**name.width) <= reach[name.label]:
                rows[-1].append(i)
                continue
        rows.append([i])
    return rows


def _told(order: Sequence[int], times: Sequence[float | None], rank: dict[int, int]) -> list[str]:
    """What is odd about an order: stills without a time, against their times, against their names."""
    n = len(order)
    known = [t for i in order if (t := times[i]) is not None]
    late, renamed = len(known) - len(rising(known)), n - len(rising([rank[i] for i in order]))
    told = {
        "Placed by their names, as they have no usable time": n - len(known),
        "Placed by their names, as their times disagree with the others'": late,
        "Placed by their times, not in the order of their names": renamed,
    }
    return [f"{what}: {count} of {n}." for what, count in told.items() if count]


def copies(shots: Sequence[Shot], distance: Distance) -> list[int]:
    """The indices of stills that are there before: the same bytes in another folder, under another label or number
    that a copy has, or with the same time; the same picture under the same name in another format.

    Numbered stills of one folder without a time stay, as of a car that stands.
    """
    names = _parsed([shot.name for shot in shots])
    seen: dict[Any, tuple[int, set[tuple[float, ...]]]] = {}
    found = []
    for i in natural([shot.name for shot in shots]):
        shot, name = shots[i], names[i]
        folders, stem, _ = split_path(shot.name)
        first, numbers = seen.setdefault(shot.digest, (i, set()))
        saved, _ = seen.setdefault((*folders, stem), (i, set()))
        apart = name.label == names[first].label and name.numbers not in numbers and moment(shot.taken) is None
        numbers.add(name.numbers)
        if (first != i and not apart and distance(first, i) < 0.5) or (saved != i and distance(saved, i) < SAME):
            found.append(i)
    return found


def drives(shots: Sequence[Shot], distance: Distance) -> tuple[list[list[int]], list[str]]:
    """The indices of the stills that count, in order, one list for each camera; and a sentence on each thing that was
    left out, moved or told apart."""
    gone = set(copies(shots, distance))
    notes = [f"Left out as copies of others: {len(gone)} of {len(shots)}."] if gone else []
    rest = [i for i in range(len(shots)) if i not in gone]
    names = _parsed([shot.name for shot in shots])
    strays = [i for i in rest if not names[i].numbers and moment(shots[i].taken) is None]
    if 0 < 10 * len(strays) <= len(rest):
        rest = [i for i in rest if i not in strays]
        shown = ", ".join(split_path(shots[i].name)[1] for i in strays[:3])
        notes.append(f"Left out, as they are not numbered like the others: {shown}.")
    found: list[list[int]] = []
    for camera in _by_camera(shots, names, rest):
        order, odd = arrange([shots[i] for i in camera])
        turns = in_turns([camera[k] for k in order], names, distance)
        if len(turns) > 1:  # each has an order of its own
            arranged = [arrange([shots[i] for i in turn]) for turn in turns]
            turns = [[turn[k] for k in order] for turn, (order, _) in zip(turns, arranged)]
            odd = [note for _, of in arranged for note in of]
        found += turns
        notes += odd
    if len(found) > 1:
        found.sort(key=lambda drive: moment(shots[drive[0]].taken) or 0)
        models = [next((shots[i].camera for i in d if shots[i].camera), split_path(shots[d[0]].name)[1]) for d in found]
        shown = ", ".join(f"{model} ({len(drive)})" for model, drive in zip(models[:4], found))
        notes.append(f"Told apart as {len(found)} cameras, which follow one another as drives of their own: {shown}.")
    return found, notes


def cameras_of_clips(names: Sequence[str]) -> list[list[int]]:
    """The indices of clips in the order of their names, a list for each of the cameras that ran side by side."""
    return in_turns(natural(names), _parsed(names), None)


def same_recording(name: str, other: str) -> bool:
    """Whether two clips are chapters of one GoPro recording, between which no frame is lost."""
    chapters = [CHAPTER.match(split_path(n)[1]) for n in (name, other)]
    return all(chapters) and chapters[0][2] == chapters[1][2]  # type: ignore[index]


def _by_camera(shots: Sequence[Shot], names: Sequence[Name], of: Sequence[int]) -> list[list[int]]:
    """Stills of one EXIF camera each. One that does not say which, or not its number, is of the one that took most of
    those that are named like it, or most of all."""
    cameras: dict[Any, Counter[str]] = {}
    for i in of:
        for among in (None, names[i].label):
            cameras.setdefault(among, Counter())[shots[i].camera] += 1
    groups: dict[str, list[int]] = {}
    for i in of:
        camera = shots[i].camera
        for among in (names[i].label, None):
            fuller = [c for c, _ in cameras[among].most_common() if c and (not camera or c.startswith(f"{camera} #"))]
            camera = fuller[0] if fuller else camera
        groups.setdefault(camera, []).append(i)
    return list(groups.values())


def in_turns(order: Sequence[int], names: Sequence[Name], distance: Distance | None) -> list[list[int]]:
    """A row of stills or clips taken apart where two cameras or more take turns in it: their names differ but for the
    numbers, which are the same (0001F, 0001R), or, by `distance`, each still is unlike the one before and like the one
    two, three or four before. That would read as a cycle of as many frames."""
    sample = order[:SAMPLE]
    # " (1)" or "_1" after a time is the second shot of its second
    label = {i: (names[i].label[0], re.sub("(?:[ _.-]0)+$", "", COPY.sub("", names[i].label[1]))) for i in order}
    labels: dict[tuple[str, str], list[int]] = {}
    for i in order:
        labels.setdefault(label[i], []).append(i)
    if sum(label[a] != label[b] for a, b in pairwise(order)) > 2 * (len(labels) - 1) > 0:
        numbers = {name: {names[i].date or names[i].numbers for i in of} for name, of in labels.items()}
        most = max(labels, key=lambda name: len(labels[name]))
        unlike = False
        if distance:
            across = [distance(a, b) for a, b in pairwise(sample) if label[a] != label[b]]
            within = [distance(a, b) for of in labels.values() for a, b in pairwise(of[:SAMPLE])]
            unlike = bool(across and within) and median(across) > 2 * median(within) + NOISE
        apart = [
            name
            for name, of in numbers.items()
            if name != most and (unlike or 5 * len(of & numbers[most]) >= 4 * len(of))
        ]
        if apart:
            return [[i for i in order if label[i] not in apart], *(labels[name] for name in apart)]
    for turn in (2, 3, 4):
        if not distance or len(sample) < 4 * turn:
            break
        far = [[distance(a, b) for a, b in zip(sample, sample[p:])] for p in range(1, turn + 1)]
        alike = sum(a < b for a, b in zip(far[-1], far[0])) >= 0.9 * len(far[-1])
        if alike and 2 * median(far[-1]) + NOISE < min(median(d) for d in far[:-1]):
            rows = [[i] for i in order[:turn]]
            for i in order[turn:]:  # not by its place in the row: a shot may be missing
                nearest = [distance(row[-1], i) for row in rows]
                rows[nearest.index(min(nearest))].append(i)
            return rows
    return [list(order)]
