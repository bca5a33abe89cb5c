"""What every visitor finds here: shipped models and rendered roads; and how an upload becomes a film.

Independent of visitors (see session.py) and of components.
"""

import os
import tempfile
import threading
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ..checkpoint import MODEL, SHIPPED, load
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


_shipped = computed(lru_cache(maxsize=16)(load))


def shipped(name: str) -> NextFrame:
    return _shipped(checkpoints() / name)


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
