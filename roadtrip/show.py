"""Films in a notebook's cell, without a server. Independent of models and of the app."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import RoadtripError
from .export import write
from .frames import as_float, one_film


def side_by_side(views: Mapping[str, Tensor]) -> Tensor:
    """Several films as one, from left to right, 2 pixels apart: each as frames.one_film takes it, all of one height; a
    shorter one ends in black → float [T, 3, H, ΣW + gaps]. Raises RoadtripError for none, or for several heights."""
    films = [as_float(one_film(frames)).cpu() for frames in views.values()]
    if len({film.shape[2] for film in films}) != 1:
        raise RoadtripError("Side by side, films need one height; give at least one, all of the same size.")
    longest = max(map(len, films))
    padded = [F.pad(film, (0, 2, 0, 0, 0, 0, 0, longest - len(film))) for film in films]
    return torch.cat(padded, dim=3)[..., :-2]


class Playing(NamedTuple):
    """A film that a notebook shows where it is a cell's last value. video: an mp4; names: of its parts, left to right."""

    video: bytes
    names: tuple[str, ...]

    def _repr_html_(self) -> str:
        names = "".join(f'<span style="flex:1">{html.escape(name)}</span>' for name in self.names)
        data = base64.b64encode(self.video).decode()
        return (
            f'<div style="display:inline-block;text-align:center"><div style="display:flex">{names}</div>'
            f'<video autoplay loop muted playsinline controls src="data:video/mp4;base64,{data}"></video></div>'
        )


def play(frames: Tensor | Mapping[str, Tensor], fps: float = 8, scale: int = 3) -> Playing:
    """A film, or several side by side by their names, for a notebook's cell. frames: uint8 or float in [0, 1], each
    [T, 3, H, W] or one rollout [1, T, 3, H, W]. fps, scale and errors: see export.write and `side_by_side`."""
    views = {"": frames} if isinstance(frames, Tensor) else frames
    with tempfile.TemporaryDirectory() as home:
        file = write(Path(home) / "film.mp4", side_by_side(views), fps, scale)
        return Playing(file.read_bytes(), tuple(filter(None, views)))
