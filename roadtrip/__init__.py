"""Roadtrip: can a network that sees two frames of a road trip drive on by itself, and why does it start to flip?

The public names, in story order.
"""

from .errors import RoadtripError
from .film import Film
from .sources import open_film
from .model import NextFrame
from .rollout import drive, rollout, unroll
from .discriminators import PatchDiscriminator, windows
from .recipes import RECIPES, Recipe
from .train import Progress, train
from .evaluation import Evaluation, evaluate
from .endless import Endless, measure_endless
from .oscillation import Oscillation, oscillation
from .checkpoint import load, save
from .frames import sheet
from .export import write
from .version import VERSION as __version__

__all__ = [
    "RoadtripError",
    "Film",
    "open_film",
    "NextFrame",
    "drive",
    "rollout",
    "unroll",
    "PatchDiscriminator",
    "windows",
    "RECIPES",
    "Recipe",
    "Progress",
    "train",
    "Evaluation",
    "Oscillation",
    "evaluate",
    "Endless",
    "measure_endless",
    "oscillation",
    "load",
    "save",
    "sheet",
    "write",
    "__version__",
]
