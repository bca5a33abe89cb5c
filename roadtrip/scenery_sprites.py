"""The pictures of what stands and drives beside the rendered road, drawn once and kept in an atlas; and seeded noise.

Independent of the road and its camera (scenery.py). What changes a pixel here raises scenery.VERSION.
"""

from __future__ import annotations

import hashlib
import math
from copy import copy
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

ATLAS, LEVELS = 80, 5  # texels along a side of the largest picture of a sprite; how often it is halved
SPRITES = {  # name: (variants, width over height)
    "conifer": (3, 0.55), "broadleaf": (3, 1.0), "trunk": (2, 0.5), "bush": (2, 1.5), "sage": (2, 1.5),
    "grass": (2, 1.8), "cactus": (2, 0.6), "rock": (2, 1.5), "mesa": (2, 5.0), "cliff": (2, 2.2), "barn": (1, 1.6),
    "pole": (1, 0.3), "post": (1, 0.3), "sign": (1, 1.0), "diamond": (1, 0.5), "rear": (3, 1.25), "front": (3, 1.25),
    "truck": (1, 0.85),
}  # fmt: skip
KINDS = sum(n for n, _ in SPRITES.values())
FIRST = dict(zip(SPRITES, accumulate((n for n, _ in SPRITES.values()), initial=0)))  # variant in the atlas
Colour = tuple[float, float, float]  # as seen on a screen


def generator(*key: object) -> torch.Generator:
    """A generator of its own for each purpose, so that no draw shifts another one."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def uniform(g: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


def fractal_noise(g: torch.Generator, height: int, width: int, power: float, low: float = 0.0) -> Tensor:
    """Periodic noise with spectrum 1 / (f + low)^power, mean 0, deviation 1, [height, width]."""
    spectrum = torch.fft.rfft2(torch.randn(height, width, generator=g, dtype=torch.float64))
    f = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width) ** 2).sqrt() * max(height, width)
    spectrum = spectrum / (f + low).clamp_min(1).double() ** power
    spectrum[0, 0] = 0
    noise = torch.fft.irfft2(spectrum, s=(height, width))
    return noise / noise.std()


class _Canvas:
    """A picture of one sprite in light from the upper right: x −1 … 1, y 0 (ground) … 1 (top)."""

    def __init__(self, aspect: float, g: torch.Generator) -> None:
        n = 2 * ATLAS
        self.g, self.soft = g, 1.2 / n
        self.x = ((torch.arange(n) + 0.5) / n * 2 - 1).expand(n, n)
        self.y = (1.06 - (torch.arange(n) + 0.5) / n * 1.12)[:, None].expand(n, n)
        self.image = torch.zeros(4, n, n)  # premultiplied light and alpha
        self.paint((1 - self.x.abs() / 0.9).clamp(0, 1) * (1 - (self.y / 0.05).abs()).clamp(0, 1) * 0.55, (0, 0, 0))

    def paint(self, cover: Tensor, colour: Colour, light: Tensor | float = 1.0) -> None:
        for plane, c in zip(self.image, (*colour, None)):
            over = torch.ones_like(cover) if c is None else torch.ones_like(cover) * (c * c * light)
            plane.lerp_(over, cover)

    def near(self, x0: float, x1: float, y0: float, y1: float) -> _Canvas:
        """The part of the canvas around a box, to paint small things fast."""
        n = len(self.x)
        rows = slice(max(int((1.06 - y1) / 1.12 * n) - 2, 0), max(int((1.06 - y0) / 1.12 * n) + 3, 1))
        columns = slice(max(int((x0 + 1) / 2 * n) - 2, 0), max(int((x1 + 1) / 2 * n) + 3, 1))
        part = copy(self)
        part.x, part.y, part.image = self.x[rows, columns], self.y[rows, columns], self.image[:, rows, columns]
        return part

    def inside(self, distance: Tensor) -> Tensor:
        """Soft cover of where `distance` (about canvas units) is negative."""
        return (0.5 - distance / (2 * self.soft)).clamp(0, 1)

    def box(self, x0: float, x1: float, y0: float, y1: float) -> Tensor:
        beside, above = (self.x - (x0 + x1) / 2).abs() - (x1 - x0) / 2, (self.y - (y0 + y1) / 2).abs() - (y1 - y0) / 2
        return self.inside(torch.maximum(beside, above))

    def disc(self, x: float, y: float, rx: float, ry: float) -> Tensor:
        return self.inside(((((self.x - x) / rx) ** 2 + ((self.y - y) / ry) ** 2).sqrt() - 1) * min(rx, ry))

    def leaves(self, n: int, x: float, y: float, rx: float, ry: float, size: float, colour: Colour) -> None:
        """A crown of n clumps, the lit ones last."""
        angle, radius = uniform(self.g, 0, 2 * math.pi, n), uniform(self.g, 0, 1, n).sqrt()
        dx, dy = radius * angle.cos(), radius * angle.sin()
        scale = uniform(self.g, 0.7, 1.3, n)
        for i in (dx * 0.5 + dy).argsort().tolist():
            a, b, s = dx[i].item(), dy[i].item(), size * scale[i].item()
            light = 0.50 + 0.42 * (0.5 * a + 0.8 * b) + 0.3 * (scale[i].item() - 1)
            cx, cy = x + a * rx, y + b * ry
            wide, tall = s * rx / min(rx, ry), s * ry / min(rx, ry)
            part = self.near(cx - wide, cx + wide, cy - tall, cy + tall)
            ball = (((part.x - cx) / rx + (part.y - cy) / ry) * 0.35 / size * min(rx, ry)).clamp(-0.25, 0.3)
            part.paint(part.disc(cx, cy, wide, tall), colour, (light + ball).clamp_min(0.12))


def _draw(name: str, variant: int) -> Tensor:
    """One sprite, [4, 2·ATLAS, 2·ATLAS]."""
    g = generator("sprite", name, variant)
    c = _Canvas(SPRITES[name][1], g)
    x, y = c.x, c.y
    bark = (0.38, 0.28, 0.20)
    if name == "conifer":
        green = ((0.25, 0.38, 0.22), (0.20, 0.34, 0.24), (0.30, 0.40, 0.20))[variant]
        c.paint(c.box(-0.06, 0.06, 0, 0.2), bark)
        for i in range(9):
            low, top = 0.08 + i * 0.088, 0.40 + i * 0.075
            wide = 0.86 * (1 - i / 10.5) * (0.9 + 0.2 * float(uniform(g, 0, 1)))
            lean = 0.06 * float(uniform(g, -1, 1))
            jag = 0.05 * (x * (17 + i) + 3 * i + variant).sin() * wide
            t = ((top - y) / (top - low)).clamp(0, 1)
            hem = low + 0.06 * (x.abs() / wide).square() * -1 - y + jag
            cone = torch.maximum((x - lean).abs() - wide * t - jag * t, hem)
            light = (0.62 + 0.45 * x / max(wide, 0.1) - 0.45 * t + 0.25).clamp(0.15, 1.25)
            c.paint(c.inside(cone) * c.inside(y - top), green, light)
    elif name == "broadleaf":
        green = ((0.40, 0.48, 0.20), (0.34, 0.46, 0.22), (0.52, 0.49, 0.20))[variant]
        c.paint(c.box(-0.06, 0.06, 0, 0.5), bark)
        c.leaves(110, 0, 0.62, 0.76, 0.30, 0.085, green)
    elif name == "trunk":
        c.paint(c.box(-0.10, 0.10, 0, 0.9), bark, (0.75 + 3.5 * x).clamp(0.3, 1.3))
        c.leaves(70, 0, 0.75, 0.8, 0.2, 0.07, (0.30, 0.42, 0.18))
        c.leaves(14, 0.25, 0.45, 0.35, 0.06, 0.04, (0.30, 0.42, 0.18))
    elif name == "bush":
        c.leaves(70, 0, 0.42, 0.72, 0.40, 0.16, ((0.36, 0.45, 0.20), (0.46, 0.46, 0.22))[variant])
    elif name == "sage":
        c.leaves(60, 0, 0.36, 0.72, 0.36, 0.15, ((0.56, 0.56, 0.42), (0.62, 0.55, 0.36))[variant])
    elif name == "grass":
        for _ in range(70):
            root, tip, tall = (uniform(g, *ends).item() for ends in ((-0.8, 0.8), (-0.16, 0.16), (0.45, 1.0)))
            part = c.near(root - 0.2, root + 0.2, 0, tall)
            t = (part.y / tall).clamp(0, 1)
            blade = c.inside((part.x - root - tip * t * t).abs() - 0.035 * (1 - t))
            blade = blade * c.inside(part.y - tall) * c.inside(-part.y)
            part.paint(blade, ((0.72, 0.66, 0.36), (0.56, 0.60, 0.28))[variant], 0.5 + 0.6 * t)
    elif name == "cactus":
        green = (0.38, 0.48, 0.28)
        arms = ((-0.62, 0.40, 0.72), (0.58, 0.30, 0.62)) if variant == 0 else ((0.60, 0.45, 0.85), (-0.55, 0.28, 0.5))
        for ax, ay, at in arms:
            c.paint(c.box(min(ax, 0), max(ax, 0), ay, ay + 0.075), green, 0.7)
            arm = torch.maximum(c.box(ax - 0.12, ax + 0.12, ay, at), c.disc(ax, at, 0.12, 0.05))
            c.paint(arm, green, (0.8 + 2.5 * (x - ax)).clamp(0.45, 1.2))
        stem = torch.maximum(c.box(-0.17, 0.17, 0, 0.93), c.disc(0, 0.93, 0.17, 0.07))
        c.paint(stem, green, (0.8 + 1.9 * x + 0.08 * (60 * x).sin()).clamp(0.4, 1.25))
    elif name in ("rock", "cliff", "mesa"):
        tint = {"rock": (0.58, 0.54, 0.50), "cliff": (0.56, 0.51, 0.46), "mesa": (0.74, 0.50, 0.36)}[name]
        rough = F.interpolate(fractal_noise(g, 48, 48, 1.3).float()[None, None], size=x.shape, mode="bicubic")[0, 0]
        edge = 0.09 * (x * 5 + variant).sin() + 0.05 * (x * 13 + 2 * variant).sin() + 0.03 * (x * 31).sin()
        skyline = 0.80 * (1 - x.abs() ** (6 if name == "mesa" else 2.4)).clamp_min(0) + edge * (1 - x.abs())
        facet = 0.75 + 0.45 * x + 0.16 * rough + 0.2 * (y - 0.4)
        if name == "mesa":
            facet = facet - 0.1 * (y * 38 + rough).sin()
        c.paint(c.inside((y - skyline) * 0.7) * c.inside(-y), tint, facet.clamp(0.2, 1.35))
    elif name == "barn":
        c.paint(c.box(-0.75, 0.75, 0, 0.55), (0.60, 0.22, 0.18), (0.8 + 0.08 * (x * 50).sin()))
        roof = c.inside((x.abs() - 0.85 + (y - 0.5) * 1.6) * 0.5)
        c.paint(roof * c.inside(0.52 - y) * c.inside(y - 0.95), (0.52, 0.50, 0.50))
        c.paint(c.box(-0.22, 0.22, 0, 0.38), (0.88, 0.84, 0.78))
        c.paint(c.box(-0.18, 0.18, 0, 0.34), (0.42, 0.16, 0.14))
    elif name == "pole":
        c.paint(c.box(-0.09, 0.09, 0, 1.0), (0.42, 0.33, 0.26), (0.8 + 4 * x).clamp(0.4, 1.2))
        for bar in (0.93, 0.82):
            c.paint(c.box(-0.9, 0.9, bar - 0.011, bar + 0.011), (0.40, 0.32, 0.26))
    elif name == "post":
        c.paint(c.box(-0.45, 0.45, 0, 0.98), (0.93, 0.93, 0.92))
        c.paint(c.box(-0.45, 0.45, 0.68, 0.86), (0.12, 0.12, 0.12))
        c.paint(c.box(-0.25, 0.25, 0.71, 0.83), (0.95, 0.42, 0.12))
    elif name == "sign":
        for leg in (-0.5, 0.5):
            c.paint(c.box(leg - 0.03, leg + 0.03, 0, 0.55), (0.55, 0.56, 0.57))
        c.paint(c.box(-0.96, 0.96, 0.48, 0.99), (0.95, 0.95, 0.95))
        c.paint(c.box(-0.92, 0.92, 0.50, 0.97), (0.05, 0.42, 0.28))
        for row, (a, b) in ((0.84, (-0.75, 0.45)), (0.64, (-0.75, 0.1))):
            c.paint(c.box(a, b, row - 0.05, row + 0.05), (0.92, 0.94, 0.92))
    elif name == "diamond":
        c.paint(c.box(-0.08, 0.08, 0, 0.6), (0.55, 0.56, 0.57))
        rhomb = x.abs() * 0.25 + (y - 0.74).abs()
        c.paint(c.inside(rhomb - 0.245), (0.10, 0.10, 0.10))
        c.paint(c.inside(rhomb - 0.215), (0.98, 0.78, 0.10))
        c.paint(c.box(-0.10, 0.10, 0.66, 0.84), (0.10, 0.10, 0.10))
    else:
        _draw_vehicle(c, name, variant)
    return c.image


def _draw_vehicle(c: _Canvas, name: str, variant: int) -> None:
    x, y = c.x, c.y
    body = ((0.90, 0.90, 0.90), (0.72, 0.14, 0.12), (0.20, 0.30, 0.48))[variant]
    dark, glass = (0.08, 0.08, 0.09), (0.26, 0.32, 0.38)
    wide = 0.84
    c.paint(c.box(-wide, -wide + 0.26, 0, 0.3) + c.box(wide - 0.26, wide, 0, 0.3), dark)
    if name == "truck":
        c.paint(c.box(-wide, wide, 0.16, 0.99), (0.88, 0.88, 0.86), 0.85 + 0.2 * x)
        c.paint(c.box(-0.7, 0.7, 0.14, 0.62), (0.72, 0.30, 0.14), 0.9 + 0.2 * x)
        c.paint(c.box(-0.62, 0.62, 0.36, 0.57), glass, 0.6 + y)
        c.paint(c.box(-0.36, 0.36, 0.16, 0.28), dark)
        lamps, lamp, height = 3.0, (1.0, 0.96, 0.84), 0.2
    else:
        roof = (x / (0.66 - 0.5 * (y - 0.55).clamp_min(0) ** 1.2)).abs() - 1
        cabin = c.inside(torch.maximum(roof * 0.6, torch.maximum(y - 0.95, 0.4 - y)))
        window = c.inside(torch.maximum((roof + 0.16) * 0.6, torch.maximum(y - 0.88, 0.58 - y)))
        boot = torch.maximum(c.box(-wide, wide, 0.16, 0.5), c.disc(0, 0.5, wide, 0.1))
        c.paint(cabin, body, 0.8 + 0.25 * x + 0.3 * (y - 0.6))
        c.paint(window, glass, 0.5 + 1.2 * (y - 0.5) + 0.3 * x)
        c.paint(boot, body, 0.72 + 0.2 * x + 0.5 * (y - 0.3))
        c.paint(c.box(-wide, wide, 0.13, 0.2), dark)
        if name == "rear":
            c.paint(c.box(-0.22, 0.22, 0.30, 0.38), (0.95, 0.92, 0.75))
            lamps, lamp, height = 1.8, (1.0, 0.12, 0.08), 0.42
        else:
            c.paint(c.box(-0.46, 0.46, 0.26, 0.38), dark)
            lamps, lamp, height = 3.0, (1.0, 0.96, 0.84), 0.38
    for side in (-0.66, 0.66):
        c.paint(c.disc(side, height, 0.13, 0.06), lamp, lamps)


@lru_cache(maxsize=4)
def atlas(device: str) -> Tensor:
    """All sprites in all sizes, [1, 4, rows, ATLAS] premultiplied: a column of squares, smaller and smaller ones."""
    squares = torch.stack([_draw(name, v) for name, (variants, _) in SPRITES.items() for v in range(variants)])
    columns = []
    for _ in range(LEVELS):
        squares = F.avg_pool2d(squares, 2)
        column = squares.transpose(0, 1).flatten(1, 2)
        columns.append(F.pad(column, (0, ATLAS - column.shape[-1])))
    return torch.cat(columns, dim=1)[None].contiguous().to(device)
