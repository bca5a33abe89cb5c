"""Roadtrip: can a network that sees two frames of a road trip drive on by itself, and why does it start to flip?

The public names, in story order.
"""

import os
from typing import Any

# OpenMP's threads spin while they wait for each other: beside other work on the same cores a training takes more than twice
# as long then. Long enough for a step to lose nothing where it is alone. Read by torch's import, so it comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

from .errors import RoadtripError
from .film import Film
from .sources import open_film
from .model import NextFrame
from .rollout import drive, rollout, unroll
from .discriminators import PatchDiscriminator, windows
from .recipes import RECIPES, Recipe
from .train import Progress, train
from .evaluation import Evaluation, evaluate, multiplier
from .endless import Endless, measure_endless
from .calibration import calibrate
from .oscillation import Oscillation, distance_matrix, oscillation
from .checkpoint import load, save
from .hub import push_to_hub
from .frames import sheet
from .export import write
from .show import play
from . import study
from .ui import charts
from .ui.charts import chart
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
    "calibrate",
    "multiplier",
    "Endless",
    "measure_endless",
    "oscillation",
    "distance_matrix",
    "load",
    "save",
    "push_to_hub",
    "sheet",
    "write",
    "play",
    "chart",
    "charts",
    "study",
    "app",
    "__version__",
]


def app(**how: Any) -> Any:
    """Opens the app, in a notebook inside the cell; `how` goes to gradio's launch, whose values it returns. Raises
    RoadtripError where gradio and plotly are not installed."""
    try:
        from .ui.page import launch
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "plotly"):
            raise
        raise RoadtripError(f"The app needs {error.name}: pip install 'roadtrip[app]'.") from None
    return launch(**how)
