"""What every visitor finds here: shipped models and rendered roads; and how an upload becomes a film.

Independent of visitors (see session.py) and of components.
"""

import os
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ..checkpoint import MODEL, SHIPPED, Provenance, load, read_provenance
from ..decode_process import decode_apart
from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import RECIPES
from ..sources import film_from_footage, open_film
from .compute import computed, on_compute_thread

ROAD = "the rendered road"
# as the menus call them → as open_film does; the shipped models were trained on the first
ROADS = {ROAD: "scenery", "another rendered road": "scenery:1", "a third rendered road": "scenery:2"}
NETWORKS = {"warp": "flow", "change": "change", "picture": "whole-picture"}  # by Recipe.output
SIZE = (72, 128)  # height and width of the app's films
_rendering = threading.Lock()  # a visitor who comes while a road is being rendered waits for it


def checkpoints() -> Path:
    return Path(os.environ.get("ROADTRIP_CHECKPOINTS") or SHIPPED)


def shipped_names() -> list[str]:
    """Shipped checkpoints, in story order where a recipe of that name is known."""
    there = {p.parent.name for p in checkpoints().glob(f"*/{MODEL}")}
    return [n for n in RECIPES if n in there] + sorted(there - set(RECIPES))


def opening_model(wanted: str, place: int = 0) -> str | None:
    """The model that a menu opens with: the wanted one where it is shipped, else the one in that place."""
    names = shipped_names()
    return wanted if wanted in names else names[min(place, len(names) - 1)] if names else None


_shipped = computed(lru_cache(maxsize=None)(load))


def shipped(name: str) -> NextFrame:
    return _shipped(checkpoints() / name)


def title_of(name: str, known: Provenance | None) -> str:
    """What a model is, in words: what it was trained with, its network, its steps; its name where that says nothing of
    the kind."""
    if known is None:
        return name
    recipe = known.recipe
    if recipe.sampler:
        parts = ["draws each frame by diffusion"]
    elif recipe.gan_weight:
        seen = ["single-frame", "pair", "three-frame"][recipe.disc_frames - 1]
        parts = [f"{seen} discriminator"]
    else:
        parts = [f"trained {recipe.unroll} frame{'s' * (recipe.unroll > 1)} ahead, no discriminator"]
    parts[0] += " + LSTM" * (recipe.bottleneck == "lstm")
    parts += ["gradient between frames cut"] * (recipe.feedback == "detached")
    parts += ["trained deep into rollouts"] * bool(recipe.replay and not recipe.sampler)
    parts += [f"{NETWORKS[recipe.output]} network", f"{known.step:,} steps"]
    return ", ".join(parts)


@lru_cache(maxsize=8)
def _titles(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    origins = {name: read_provenance(folder / name) for name in names}
    titles = {name: title_of(name, known) for name, known in origins.items()}
    alike = Counter(titles.values())
    for name, title in list(titles.items()):
        known = origins[name]
        if known and alike[title] > 1:
            titles[name] = f"{title}, seed {known.seed}"
        if name in RECIPES:
            titles[name] = f"{name}: {titles[name]}"
    return titles


def shipped_titles() -> dict[str, str]:
    """What the menus call the shipped checkpoints, by their names, no two alike."""
    return _titles(checkpoints(), tuple(shipped_names()))


def short_titles(*titles: str) -> list[str]:
    """Titles without what all of them share, and without the steps where they differ in more: for captions."""
    parts = [title.split(", ") for title in titles]
    short = [[p for p in own[1:] if not all(p in other for other in parts)] for own in parts]
    plain = [[p for p in own if not p.endswith(" steps")] for own in short]
    captions = [", ".join([own[0], *rest]) for own, rest in zip(parts, plain)]
    return captions if len({*captions}) == len({*titles}) else [*titles]


@lru_cache(maxsize=2 * len(ROADS))
def _rendered(road: str, size: tuple[int, int]) -> Film:
    return open_film(road, size=size)


def rendered_road(name: str = ROAD, size: tuple[int, int] = SIZE) -> Film:
    with _rendering:
        return _rendered(ROADS[name], size)


def open_upload(files: list[str], gap: str, report: Callable[[int, int | None, str], None]) -> Film:
    """A visitor's files as a film: stills and clips, dropped together or as zips, whatever they are called."""
    if not files:
        raise RoadtripError("Choose stills, a zip of stills or a video first.")
    sources = []
    with tempfile.TemporaryDirectory() as home:
        loose = Path(home) / "your stills"  # what the film, and an error about it, will be called
        for file in map(Path, files):
            if len(files) == 1 or file.suffix.lower() == ".zip" or zipfile.is_zipfile(file):
                sources.append(file)
                continue
            target, twins = loose / file.name, 1
            while target.exists():  # two folders may each have a 1.jpg
                twins += 1
                target = loose / f"folder {twins}" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())
        sources = [loose, *sources] if loose.exists() else sources
        footage = decode_apart(sources, SIZE, report)  # others can compute meanwhile
    chosen = (gap or "").strip() or None
    return on_compute_thread(lambda: open_film(film_from_footage(footage, sources[0].stem), SIZE, chosen))
