"""The recipes that the study compares, as one table. Independent of films, seeds and of how a run is made."""

from dataclasses import replace
from typing import Any

from ..recipes import RECIPES, Recipe

# arm: one of the post's recipes, and what is changed in it
_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "v1": ("v1", {}),
    "v2": ("v2", {}),
    "lstm": ("lstm", {}),
    "pair": ("v3-pair", {}),
    "single": ("v3-single", {}),
    "single-first": ("v3-single", {"disc_windows": "first"}),
    "single-u1": ("v3-single", {"unroll": 1}),
    "pair-picture": ("v3-pair", {"output": "picture"}),
    "pair-u4": ("v3-pair", {"unroll": 4}),
    "pair-shuffled": ("v3-pair", {"disc_shuffle": True}),
    "pair-context": ("v3-pair", {"disc_context": 1}),
    "triple-context": ("v3-pair", {"disc_frames": 3, "disc_context": 2}),
    "triple-u4": ("v3-pair", {"disc_frames": 3, "unroll": 4}),
    # cures of the pair, one at a time; EMA needs none, since every run's averaged weights are measured too
    "cure-noise": ("v3-pair", {"context_noise": 0.1}),
    "cure-8bit": ("v3-pair", {"feedback": "8-bit"}),
    "cure-detached": ("v3-pair", {"feedback": "detached"}),
    "cure-r1": ("v3-pair", {"r1_weight": 1.0}),
    "cure-spectral": ("v3-pair", {"spectral": True}),
    "cure-lstm": ("v3-pair", {"bottleneck": "lstm", "depth": 3}),
    "cure-pingpong": ("v3-pair", {"pingpong_weight": 50.0}),  # half of its L1 weight
    "cure-replay": ("v3-pair", {"replay": 8}),
    # what drives on, and what each of its parts is for; these are measured on endless rollouts
    "v4": ("v4", {}),
    "v4-no-noise": ("v4", {"context_noise": 0.0}),
    "v4-no-damage": ("v4", {"damage": 0.0}),
    "v4-no-replay": ("v4", {"replay": 0}),
    "v4-far-replay": ("v4", {"replay_near": 0.0}),
    "v4-no-anchor": ("v4", {"anchor": False}),
    "v4-no-refine": ("v4", {"refine": 0}),
    "v4-global-gain": ("v4", {"local_gain": False}),
    "v4-no-flow": ("v4", {"output": "change"}),
    "v4-no-carry": ("v4", {"carry": 0.0, "carry_rate": 0.0}),
    "v4-no-zoom": ("v4", {"zoom": 0.0}),
    "v4-white": ("v4", {"slope": 0.0}),
    "v4-mirrored": ("v4", {"flip": 0.5}),
    **{f"v4-evaluations-{n}": ("v4", {"evaluations": n}) for n in (1, 3, 4, 10)},
    "v4-low-first": ("v4", {"first_level": 4.0}),
}
ARMS: dict[str, Recipe] = {
    arm: replace(RECIPES[recipe], name=arm, **changes) for arm, (recipe, changes) in _TABLE.items()
}
