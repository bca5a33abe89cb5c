"""The embedded default film: a rendered road trip, deterministic by seed, on any device and at any size.

A drive is drawn as a World, driven along as a camera path, and painted in layers: sky, ridges, ground, billboards.
Independent of Film, models and measures; torch's global random generator stays as it was.
"""

import hashlib
import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import torch
from torch import Tensor
from torch.nn import functional as F

from .scenery_sprites import ATLAS, FIRST, KINDS, LEVELS, SPRITES, atlas, fractal_noise, generator, uniform

DEFAULT_GAP = 3  # frames between f1 f2 f3: about 5 m of road, which makes it as hard as real time lapse
VERSION = 1  # bump when pixels change
FAR, NEAR = 260.0, 2.2  # metres: where billboards come into being, where they leave
EYE = 1.45  # metres from the ground to the camera
AT_ONCE = 2**17  # pixels of billboards painted together: bounds memory
SPREAD = 2.6  # radians of panorama to either side of straight ahead


# --- what there is in the world ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Biome:
    """What grows and rises beside the road. Colours are as seen on a screen; `_linear` makes light of them."""

    earth: tuple[float, float, float]
    cover: tuple[float, float, float]  # what lies on the earth in patches
    ridges: tuple[tuple[float, float, float], ...]  # colours, far to near
    rise: tuple[float, float, float]  # heights of the ridges in radians, far to near
    snow: float
    shade: float  # share of the road in dappled shade
    density: float  # billboards per metre and side
    plants: tuple[tuple[str, float, float, float, float], ...]  # sprite, weight, height in m, nearest, farthest in m


BIOMES = {
    "desert": Biome(
        (0.80, 0.62, 0.44), (0.62, 0.45, 0.31), ((0.62, 0.50, 0.56), (0.66, 0.43, 0.34), (0.68, 0.49, 0.34)),
        (0.075, 0.075, 0.022), 0.0, 0.0, 0.16,
        (("cactus", 2, 4.5, 8, 30), ("sage", 6, 1.1, 6, 26), ("rock", 2, 1.6, 8, 30), ("mesa", 0.5, 7, 45, 90)),
    ),
    "forest": Biome(
        (0.33, 0.34, 0.17), (0.20, 0.27, 0.11), ((0.42, 0.52, 0.58), (0.27, 0.40, 0.34), (0.16, 0.27, 0.16)),
        (0.06, 0.07, 0.055), 0.0, 0.75, 0.42,
        (("conifer", 5, 13, 9, 30), ("broadleaf", 4, 10, 10, 30), ("bush", 3, 1.7, 6.5, 16), ("trunk", 1, 12, 8.5, 14)),
    ),
    "mountains": Biome(
        (0.50, 0.46, 0.37), (0.36, 0.42, 0.23), ((0.50, 0.56, 0.68), (0.40, 0.44, 0.50), (0.27, 0.36, 0.27)),
        (0.21, 0.15, 0.05), 1.0, 0.25, 0.22,
        (("conifer", 5, 10, 9, 40), ("rock", 3, 2.6, 8, 25), ("bush", 2, 1.3, 6.5, 18), ("cliff", 0.7, 14, 26, 60)),
    ),
    "plains": Biome(
        (0.76, 0.67, 0.34), (0.50, 0.56, 0.22), ((0.56, 0.62, 0.66), (0.50, 0.56, 0.46), (0.40, 0.46, 0.25)),
        (0.022, 0.02, 0.02), 0.0, 0.0, 0.13,
        (("broadleaf", 3, 8, 12, 60), ("bush", 4, 1.5, 6.5, 30), ("grass", 6, 1.0, 5.6, 12), ("barn", 0.35, 7, 30, 60)),
    ),
}  # fmt: skip

# The day in five keys, dawn to dusk: zenith, horizon (screen colours), sun, ambient (light), the sun's elevation
DAY = (
    ((0.36, 0.45, 0.68), (0.98, 0.76, 0.62), (0.86, 0.58, 0.40), (0.36, 0.36, 0.46), 0.07),
    ((0.33, 0.56, 0.86), (0.84, 0.89, 0.93), (0.98, 0.90, 0.76), (0.34, 0.40, 0.48), 0.50),
    ((0.24, 0.49, 0.84), (0.72, 0.84, 0.94), (1.02, 0.98, 0.90), (0.36, 0.41, 0.48), 1.10),
    ((0.36, 0.52, 0.78), (0.99, 0.84, 0.62), (1.05, 0.78, 0.48), (0.32, 0.33, 0.40), 0.20),
    ((0.22, 0.26, 0.50), (0.95, 0.55, 0.42), (0.42, 0.22, 0.16), (0.24, 0.23, 0.33), 0.03),
)


def _linear(colour: tuple[float, ...]) -> Tensor:
    return torch.tensor(colour, dtype=torch.float64).square()


def _waves(x: Tensor, waves: Tensor, slope: bool = False) -> Tensor:
    """Sum of sines, waves [n, 3] = amplitude, period, phase, at x of any shape; or its derivative."""
    amplitude, period, phase = waves.T
    omega = 2 * math.pi / period
    angle = x[..., None] * omega + phase
    return (amplitude * omega * angle.cos() if slope else amplitude * angle.sin()).sum(-1)


# --- a drive ----------------------------------------------------------------------------------------------------------

DEPTHS = torch.logspace(math.log10(1.2), math.log10(800), 160, dtype=torch.float64)  # where the road ahead is probed
FINE, COARSE = 0.25, 2.0  # metres a texel of the two ground textures
TEXTURE = (512, 128)  # texels along and across the road


def _streaks(g: torch.Generator, power: float, low: float) -> Tensor:
    """A ground texture as running sums along the road, so that any stretch averages by two look-ups; blurred across
    for each of four levels. [4, 512 + 1, 128]."""
    noise = fractal_noise(g, *TEXTURE, power, low)
    noise = noise - noise.mean(dim=0)  # each column sums to 0: the running sum is periodic
    levels = [noise.view(TEXTURE[0], -1, n).mean(2).repeat_interleave(n, 1) for n in (1, 2, 4, 8)]
    return F.pad(torch.stack(levels).cumsum(1), (0, 0, 1, 0))


def _smooth(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


class _Drive:
    """One drive: its world drawn, its camera path and all geometry by frame in float64 on the CPU, then painted."""

    def __init__(self, seed: int, index: int, frames: int, size: tuple[int, int], device: torch.device) -> None:
        self.H, self.W = size
        self.device, self.frames = device, frames
        self.focal = 0.86 * self.W
        g = generator("drive", seed, index)
        deal = torch.randperm(4, generator=generator("deal", seed)).tolist()
        hours = torch.randperm(4, generator=generator("hours", seed)).tolist()
        names = list(BIOMES)
        # dealt so that the fifth drive joins two biomes seen before in other company
        first, second = deal[index % 4], deal[(index + 1 + (index // 4) % 3) % 4]
        self.biomes = BIOMES[names[first]], BIOMES[names[second]]
        t = torch.arange(frames, dtype=torch.float64)
        along = t / max(frames - 1, 1)

        # the path: speed, curves, hills, a hand that corrects, a vehicle that shakes
        pace = uniform(g, 1.35, 1.9).item()
        speed = pace * (1 + 0.16 * (t / 47 + uniform(g, 0, 6)).sin() + 0.06 * (t / 13 + uniform(g, 0, 6)).sin())
        self.s = 100 + speed.cumsum(0)
        self.curves = self._wave_table(g, [(9, 420), (4, 210), (1.2, 110)])
        self.hills = self._wave_table(g, [(3.0, 330), (1.1, 150), (0.25, 60)])
        self.lane = uniform(g, 1.6, 1.9) + 0.18 * (t / 29 + uniform(g, 0, 6)).sin()
        shake = self._wave_table(g, [(1, 31), (1, 17), (0.9, 10.3), (0.7, 7.3)])
        rough = uniform(g, 0.7, 1.2)
        pitch = 0.0022 * rough * _waves(t, shake) + 0.8 * _waves(self.s, self.hills, slope=True)
        self.yaw = 0.0022 * rough * _waves(t + 500, shake) + _waves(self.s + 8, self.curves, slope=True)
        self.horizon = self.H * 0.47 + self.focal * pitch

        # where each row of the picture meets the road
        rise = _waves(self.s[:, None] + DEPTHS, self.hills) - _waves(self.s, self.hills)[:, None]
        y = self.horizon[:, None] + self.focal * (EYE - rise) / DEPTHS  # [T, depths]
        self.crest = y.cummin(dim=1).values
        self.top = self.crest[:, -1]
        rows = (torch.arange(2 * self.H + 1, dtype=torch.float64) / 2).expand(frames, -1).contiguous()
        hit = torch.searchsorted(-self.crest, -rows).clamp(1, len(DEPTHS) - 1)
        y0, y1 = y.gather(1, hit - 1), y.gather(1, hit)
        between = ((y0 - rows) / (y0 - y1).clamp_min(1e-9)).clamp(0, 1)
        nearness = torch.lerp(1 / DEPTHS[hit - 1], 1 / DEPTHS[hit], between)
        z = 1 / torch.maximum(nearness, 1 / DEPTHS[y.argmin(dim=1)][:, None])
        self.z, near, far = z[:, 1::2], z[:, 2::2], z[:, :-1:2]  # [T, H]
        self.bend = self._bend(self.z)
        self.length = far - near
        self.begin, self.end = self.s[:, None] + near - 0.4 * speed[:, None], self.s[:, None] + far + 0.05

        # light and weather
        hour = hours[index % 4] + 0.15 + (0.7 * along + 0.3 * index / 4 % 0.3 if index % 2 == 0 else 0.85 - 0.7 * along)
        keys = torch.stack([torch.cat([*map(_linear, k[:2]), *map(torch.tensor, (*k[2:4], [k[4]]))]) for k in DAY])
        low = hour.floor().long().clamp(0, len(DAY) - 2)
        day = torch.lerp(keys[low], keys[low + 1], (hour - low)[:, None])  # [T, 13]
        weather = int(torch.randint(0, 4, (1,), generator=g))  # clear, clouds, haze, rain
        self.cloudy = (0.25, 0.7, 0.4, 0.9)[weather]
        spell = _smooth(1.5 - 3 * (along - uniform(g, 0.3, 0.7)).abs())  # it comes and goes
        self.rain = spell if weather == 3 else 0 * spell
        over = (0.75 * self.rain + (0.25 * spell if weather == 2 else 0))[:, None]
        zenith, horizon, sun, ambient = day[:, 0:3], day[:, 3:6], day[:, 6:9], day[:, 9:12]
        grey = horizon.mean(1, keepdim=True) * torch.tensor([0.62, 0.66, 0.72])
        self.zenith, self.haze = torch.lerp(zenith, grey * 0.8, over), torch.lerp(horizon, grey, over)
        self.sun, self.ambient = sun * (1 - 0.85 * over), ambient * (1 + 0.25 * over)
        self.thick = 1 / 1100 + over[:, 0] / 210 + (spell / 170 if weather == 2 else 0)
        self.side = 1 if torch.rand(1, generator=g) < 0.5 else -1
        self.sun_at = self.side * uniform(g, 0.15, 0.55), day[:, 12]

        # textures
        self.fine, self.coarse = self._float(_streaks(g, 0.5, 4)), self._float(_streaks(g, 1.0, 2))
        self.clouds = self._float(fractal_noise(g, 128, 512, 1.5, 3))[None, None]
        self.ridges = self._float(self._draw_ridges(g))
        self._place(random.Random(repr((seed, index))))

    def _float(self, x: Tensor) -> Tensor:
        return x.to(self.device, torch.float32)

    @staticmethod
    def _wave_table(g: torch.Generator, waves: list[tuple[float, float]]) -> Tensor:
        scale, phase = uniform(g, 0.75, 1.25, len(waves), 2), uniform(g, 0, 2 * math.pi, len(waves), 1)
        return torch.cat([torch.tensor(waves, dtype=torch.float64) * scale, phase], 1)

    def _bend(self, z: Tensor) -> Tensor:
        """How far to the right the road has gone z metres ahead, seen along the camera, [T, n] → [T, n]."""
        s = self.s[:, None]
        return _waves(s + z, self.curves) - _waves(s, self.curves) - z * self.yaw[:, None]

    def _turn(self, s: Tensor) -> Tensor:
        """Share of the second biome at s metres, 0 … 1."""
        return _smooth((s - self.s[self.frames // 2]) / 90 + 0.2)

    def _draw_ridges(self, g: torch.Generator) -> Tensor:
        """Heights of three ridges in radians for both biomes over the panorama, far to near, [2, 3, 1024]."""
        out = []
        for biome in self.biomes:
            for i, rise in enumerate(biome.rise):
                noise = fractal_noise(g, 8, 1024, (1.5, 1.25, 0.9)[i], 2)[0]
                if biome.earth[0] > 0.78 and i == 1:  # mesas stand on steps
                    noise = (noise * 2.2).tanh() * 0.8 + 0.1 * noise
                out.append(rise * (0.62 + 0.36 * noise).clamp_min(0.05))
        return torch.stack(out).view(2, 3, -1)

    def _place(self, g: random.Random) -> None:
        """Everything that stands or drives on the road, and where it comes in each picture, far to near."""
        rows: list[tuple[float, float, float, float, float]] = []  # s, u, height, atlas index, width
        end = float(self.s[-1]) + FAR

        def add(s: float, u: float, name: str, height: float) -> None:
            variants, aspect = SPRITES[name]
            variant = g.randrange(variants)
            rows.append((s, u, height, FIRST[name] + variant, height * aspect))

        turn = self._turn(torch.arange(0, end + 20, dtype=torch.float64)).tolist()
        for side in (-1, 1):
            s = 60.0
            while s < end:
                biome = self.biomes[g.random() < turn[int(s)]]
                s += g.uniform(0.3, 1.7) / biome.density
                name, _, height, near, far = g.choices(biome.plants, [p[1] for p in biome.plants])[0]
                u = near + (far - near) * g.random() ** 1.6
                add(s, side * (u + SPRITES[name][1] * height * 0.3), name, height * g.uniform(0.7, 1.3))
        poles = g.choice((-1, 1))
        for k in range(int(end / 38)):
            add(38.0 * k, poles * 8.2, "pole", 7.5)
        for k in range(int(end / 24)):
            add(24.0 * k + 5, -4.9, "post", 1.0)
            add(24.0 * k + 5, 4.9, "post", 1.0)
        for k in range(int(end / 75)):
            name, height = g.choice((("sign", 3.2), ("diamond", 2.6)))
            add(75 * k + g.uniform(0, 50), 6.6, name, height)
        still = torch.tensor(rows, dtype=torch.float64)
        rows.clear()
        moving = []
        t = torch.arange(self.frames, dtype=torch.float64)
        for k in range(max(1, self.frames // 75)):  # met
            when = (k + g.uniform(0.1, 0.9)) * 75
            add(0, -1.85, *g.choice((("front", 1.55), ("front", 1.55), ("truck", 3.4))))
            moving.append(self.s[min(int(when), self.frames - 1)] - 1.3 * (t - when))
        when, closest = self.frames * g.uniform(0.2, 0.8), g.uniform(11, 20)
        add(0, 1.75, "rear", 1.5)  # followed for a while
        moving.append(self.s + closest + 0.012 * (t - when).square() * 200 / self.frames)
        cars = torch.tensor(rows, dtype=torch.float64)
        at = torch.cat([still[:, 0].expand(self.frames, -1), torch.stack(moving, 1)], dim=1)  # [T, N]
        u, height, kind, width = torch.cat([still, cars])[:, 1:].T

        z = at - self.s[:, None]
        safe = z.clamp(NEAR, FAR)
        scale = self.focal / safe
        x = self.W / 2 + scale * (u - self.lane[:, None] + self._bend(safe))
        rise = _waves(self.s[:, None] + safe, self.hills) - _waves(self.s, self.hills)[:, None]
        foot = self.horizon[:, None] + scale * (EYE - rise)
        left, right = x - scale * width / 2, x + scale * width / 2
        up, down = foot - 1.06 * scale * height, foot + 0.06 * scale * height
        step = (safe * 0.96 / DEPTHS[0]).log() / (DEPTHS[1] / DEPTHS[0]).log()
        clip = self.crest.gather(1, step.long().clamp(0, len(DEPTHS) - 1))  # what a crest before it hides
        seen = (z > NEAR) & (z < FAR) & (right > 0) & (left < self.W) & (up < self.H) & (down > 0) & (up < clip)
        seen &= scale * height > 0.8
        frame, thing = seen.nonzero().T
        order = (frame * 1000 - z[frame, thing]).argsort(stable=True)
        frame, thing = frame[order], thing[order]
        counts = torch.bincount(frame, minlength=self.frames)
        self.offset = F.pad(counts.cumsum(0), (1, 0)).tolist()
        self.rank = torch.arange(len(frame)) - torch.tensor(self.offset)[frame]
        level = (ATLAS / (scale * (height * width).sqrt())).log2().round().clamp(0, LEVELS - 1)[frame, thing].long()
        pick = (frame, thing)
        fog = (1 - (-safe * self.thick[:, None]).exp())[pick]
        fade = (((FAR - z) / 70).clamp(0, 1) * ((z - NEAR) / 2).clamp(0, 1))[pick]
        left, right, up, down, clip = left[pick], right[pick], up[pick], down[pick], clip[pick]
        x0, x1 = left.floor().clamp(0), right.ceil().clamp(max=self.W)
        y0, y1 = up.floor().clamp(0), torch.minimum(down.ceil().clamp(max=self.H), clip.ceil())
        self.frame = frame
        self.box = torch.stack([x0, y0, x1 - x0, (y1 - y0).clamp_min(0)], 1).long()
        # from pixels to the atlas, in grid_sample's coordinates −1 … 1
        side = ATLAS / 2.0**level
        base = KINDS * ATLAS * 2 * (1 - 0.5**level) + kind[thing] * side
        self.tall = KINDS * ATLAS * 2 * (1 - 0.5**LEVELS)
        sx, sy = side / (right - left), side / (down - up)
        if self.side < 0:  # the sprites are lit from the right: mirrored where the sun stands left
            sx, left = -sx, right
        row0, column0 = (y0 + 0.5 - up) * sy, (x0 + 0.5 - left) * sx
        self.view = torch.stack([column0 * 2 / ATLAS - 1, sx * 2 / ATLAS, (side - 0.5) * 2 / ATLAS - 1,
                                 row0, sy, side, base, fade, clip - y0, fog], 1)  # fmt: skip

    # --- painting -----------------------------------------------------------------------------------------------------

    def paint(self, a: int, b: int) -> Tensor:
        """Frames a … b − 1, uint8 [b − a, 3, H, W]."""
        image = torch.empty(b - a, self.H, self.W, 4, device=self.device)
        planes, pick = image.permute(0, 3, 1, 2)[:, :3], slice(a, b)  # planes: the same memory, [C, 3, H, W]
        low = min(max(math.ceil(float(self.top[pick].max())), 1), self.H)  # the lowest row that shows sky
        high = min(max(math.floor(float(self.top[pick].min())), 0), self.H - 1)
        zenith, *light = (self._float(v[pick]) for v in (self.zenith, self.haze, self.sun, self.ambient))
        sky = self._backdrop(pick, low, zenith, *light)
        ground = self._ground(pick, high, *light)
        cover = self._float((torch.arange(high, low) + 1 - self.top[pick, None]).clamp(0, 1))[:, None, :, None]
        sky[:, :, high:].lerp_(ground[:, :, : low - high], cover)
        planes[:, :, :low], planes[:, :, low:] = sky, ground[:, :, low - high :]
        self._billboards(a, b, image.view(-1, 4))
        return planes.clamp(0, 1).sqrt_().mul_(255).round_().to(torch.uint8)

    def _backdrop(self, pick: slice, rows: int, zenith: Tensor, haze: Tensor, sun: Tensor, ambient: Tensor) -> Tensor:
        """Sky and ridges down to a row, float [C, 3, rows, W]; light as [C, 3] each."""
        x = (torch.arange(self.W, dtype=torch.float64) + 0.5 - self.W / 2) / self.focal
        azimuth = self._float(x + self.yaw[pick, None])  # where each column looks, from where the road began, [C, W]
        y = torch.arange(rows, dtype=torch.float64) + 0.5
        elevation = self._float((self.horizon[pick, None] - y) / self.focal)  # [C, R]
        thin = (1 - (-3.6 * elevation.clamp_min(0)).exp())[:, None, :, None]
        sky = torch.lerp(haze[:, :, None, None], zenith[:, :, None, None], thin)  # [C, 3, R, 1]
        dx = (azimuth - float(self.sun_at[0]))[:, None, :]
        dy = (elevation - self._float(self.sun_at[1][pick, None]))[:, :, None]
        away = (dx * dx + dy * dy).sqrt()  # [C, R, W]
        glow = (0.9 * (-7 * away).exp() + ((0.035 - away) * self.focal * 0.7 + 0.5).clamp(0, 1) * 3)[:, None]
        # clouds lie on a plane: closer together towards the horizon
        height = 1 / (elevation.clamp_min(0) + 0.10)
        across = (azimuth / SPREAD)[:, None, :] * (0.75 + 0.25 * 0.1 * height[:, :, None])
        grid = torch.stack(torch.broadcast_tensors(across, (height / 5 - 1)[:, :, None]), dim=-1)
        cloud = F.grid_sample(self.clouds, grid.flatten(0, 1)[None], align_corners=False, padding_mode="border")
        cloud = cloud.view(len(azimuth), 1, rows, self.W)
        cloud = ((cloud - 1.3 + 1.9 * self.cloudy) * 0.55).clamp(0, 1) * (elevation * 9).clamp(0, 1)[:, None, :, None]
        cloud = cloud * 0.85
        bright = (ambient * 0.9 + sun * 0.62)[:, :, None, None]
        sky = torch.lerp(sky, bright * (1.12 - 0.4 * cloud) + 0.2 * sky, cloud)
        sky = sky + sun[:, :, None, None] * glow * (1 - 0.8 * cloud)
        # ridges: they turn with the heading, and grow a little as one drives towards them
        share = self._float(self._turn(self.s[pick] + 60))
        for i in range(3):
            grown = self._float(1 + self.s[pick] / (9000, 3500, 1400)[i])[:, None]
            place = ((azimuth / grown) / SPREAD * 0.5 + 0.5) * 1024
            left = place.floor()
            column, part = left.long().clamp(0, 1021), place - left
            heights = torch.lerp(self.ridges[0, i], self.ridges[1, i], share[:, None])  # [C, 1024]
            top = torch.lerp(heights.gather(1, column), heights.gather(1, column + 1), part) * grown
            lean = heights.gather(1, column + 2) - heights.gather(1, column - 1 + (column == 0))
            depth = top[:, None, :] - elevation[:, :, None]  # [C, R, W], radians below the edge
            cover = (depth * self.focal + 0.5).clamp(0, 1)[:, None]
            ca, cb = (self._float(_linear(biome.ridges[i])) for biome in self.biomes)
            colour = torch.lerp(ca, cb, share[:, None])[:, :, None, None]
            facing = (0.75 - self.side * lean * (90, 70, 60)[i]).clamp(0.35, 1.3)[:, None, None, :]
            if i == 0:
                snow = self.biomes[0].snow + share * (self.biomes[1].snow - self.biomes[0].snow)
                white = ((elevation[:, :, None] - 0.13 + lean[:, None, :] * 2) * 40).clamp(0, 1) * snow[:, None, None]
                colour = torch.lerp(colour, torch.full_like(colour, 0.85), white[:, None])
            lit = colour * (ambient[:, :, None, None] + sun[:, :, None, None] * 0.75 * facing)
            veil = self._float(1 - (-self.thick[pick] * (1500, 800, 350)[i]).exp() * (0.9, 0.95, 1)[i])
            sky = torch.lerp(sky, torch.lerp(lit, haze[:, :, None, None], veil[:, None, None, None]), cover)
        return sky

    def _along(self, table: Tensor, cell: float, pick: slice, rows: slice) -> Tensor:
        """Mean of a texture over the stretch of road each row shows, [C, R, 128]."""
        level = (self.z[pick, rows] / self.focal / cell).log2().round().clamp(0, len(table) - 1).long()
        flat = table.view(-1, TEXTURE[1])
        ends = []
        for end in (self.begin, self.end):
            place = end[pick, rows] / cell
            whole = place.floor()
            index = (level * (TEXTURE[0] + 1) + whole.long() % TEXTURE[0]).to(self.device)
            part = self._float(place - whole)[..., None]
            ends.append(torch.lerp(flat[index], flat[index + 1], part))
        return (ends[1] - ends[0]) * self._float(cell / (self.end - self.begin)[pick, rows])[..., None]

    def _across(self, lines: Tensor, u: Tensor, cell: float) -> Tensor:
        place = u / cell
        left = place.floor()
        index, mask = left.long(), TEXTURE[1] - 1
        return torch.lerp(lines.gather(2, index & mask), lines.gather(2, (index + 1) & mask), place - left)

    def _ground(self, pick: slice, high: int, haze: Tensor, sun: Tensor, ambient: Tensor) -> Tensor:
        """The road and what lies beside it from a row down, float [C, 3, H − high, W]."""
        rows = slice(high, self.H)
        z = self.z[pick, rows]
        x = (torch.arange(self.W, dtype=torch.float32, device=self.device) + 0.5 - self.W / 2) / self.focal
        aside = self._float(self.lane[pick, None] - self.bend[pick, rows])
        u = x * self._float(z)[..., None] + aside[..., None]  # [C, R, W]
        fine = self._across(self._along(self.fine, FINE, pick, rows), u, FINE)
        coarse = self._across(self._along(self.coarse, COARSE, pick, rows), u, COARSE)

        def edge(at: float, reach: float = 0) -> Tensor:
            """Width in metres over which an edge at u is softened in each row: the pixel's footprint, [C, R, 1]."""
            slant = (at - self.lane[pick, None]).abs() * self.length[pick, rows] / z
            return self._float(1 / (z / self.focal + 0.7 * slant + reach))[..., None]

        def stripe(at: float, half: float) -> Tensor:
            sharp = edge(at)
            return torch.minimum(((half - (u - at).abs()) * sharp + 0.5).clamp_min(0), (2 * half * sharp).clamp_max(1))

        def dashes(period: float, on: float) -> Tensor:
            """Share of each row's stretch that a dash covers, in closed form, [C, R, 1]."""

            def total(v: Tensor) -> Tensor:
                return (v / period).floor() * on + (v % period).clamp_max(on)

            begin, end = self.begin[pick, rows], self.end[pick, rows]
            return self._float((total(end) - total(begin)) / (end - begin))[..., None]

        share = self._float(self._turn(self.s[pick, None] + z))[:, None, :, None]
        one, two = self.biomes
        ea, eb, ca, cb = (self._float(_linear(c))[:, None, None] for c in (one.earth, two.earth, one.cover, two.cover))
        patch = (0.5 + 0.34 * coarse + 0.30 * fine).clamp(0, 1)[:, None]
        colour = torch.lerp(torch.lerp(ea, eb, share), torch.lerp(ca, cb, share), patch)  # [C, 3, R, W]
        gravel = self._float(_linear((0.56, 0.51, 0.45)))[:, None, None]
        off = u.abs()
        verge = ((5.1 + 0.3 * coarse - off) * edge(5.1, 0.5) + 0.5).clamp(0, 1)[:, None]
        colour = torch.lerp(colour, gravel * (1 + 0.22 * fine[:, None]), verge * 0.85)
        wet = self._float(self.rain[pick])[:, None, None]
        tracks = (1 - ((off - 1.8).abs() - 0.8).abs() * 1.6).clamp_min(0)
        asphalt = (0.115 + 0.014 * coarse + 0.016 * fine - 0.018 * tracks) * (1 - 0.4 * wet)
        road = ((4.05 - off) * edge(4.0) + 0.5).clamp(0, 1)[:, None]
        tint = self._float(torch.tensor([0.98, 1.0, 1.04]))[:, None, None]
        colour = torch.lerp(colour, asphalt[:, None] * tint, road)
        lines = torch.maximum(stripe(-3.6, 0.09), stripe(3.6, 0.09))
        colour = torch.lerp(colour, torch.tensor(0.72, device=self.device), (lines * (0.85 + 0.1 * fine))[:, None])
        yellow = self._float(_linear((0.93, 0.72, 0.20)))[:, None, None]
        colour = torch.lerp(colour, yellow, (stripe(0, 0.10) * dashes(10, 4))[:, None])
        # sun and shade
        shade = self._float(one.shade + share * (two.shade - one.shade)).squeeze(1)
        dapple = ((coarse * 0.9 + fine * 0.5 + 0.15) * 1.6).clamp(0, 1) * shade
        sunlit = sun[:, :, None, None] * 0.75 * (1 - dapple)[:, None]
        colour = colour * (ambient[:, :, None, None] + sunlit)
        if float(self.rain[pick].max()) > 0:  # a wet road mirrors the sky
            colour = torch.lerp(colour, haze[:, :, None, None], road * (0.35 * wet)[:, None])
        fog = self._float(1 - (-z * self.thick[pick, None]).exp())[:, None, :, None]
        return torch.lerp(colour, haze[:, :, None, None], fog)

    def _billboards(self, a: int, b: int, image: Tensor) -> None:
        """Paints all sprites of frames a … b − 1 into image [C · H · W, 4], in rounds: each frame's farthest first."""
        first, last = self.offset[a], self.offset[b]
        order = (self.rank[first:last] * (b - a) + self.frame[first:last] - a).argsort() + first
        area = (self.box[order, 2] * self.box[order, 3]).cumsum(0)
        begin = 0
        while begin < len(order):
            done = int(area[begin - 1]) if begin else 0
            end = max(int(torch.searchsorted(area, done + AT_ONCE, right=True)), begin + 1)
            self._sprites(order[begin:end], a, image)
            begin = end

    def _sprites(self, pick: Tensor, a: int, image: Tensor) -> None:
        """Sprites to rows, rows to pixels, pixels to the picture, one rank after the other."""
        frame, box, rank = self.frame[pick], self.box[pick], self.rank[pick]
        column0, sx, edge, row0, sy, side, base, fade, clip, fog = self.view[pick].T
        thing = torch.repeat_interleave(box[:, 3])
        down = torch.arange(len(thing)) - (box[:, 3].cumsum(0) - box[:, 3])[thing]
        wide = box[thing, 2]
        start = wide.cumsum(0) - wide
        row = (row0[thing] + down * sy[thing]).clamp_min(0.5).minimum(side[thing] - 0.5)
        row = (row + base[thing]) * 2 / self.tall - 1
        solid = fade[thing] * (clip[thing] - down).clamp(0, 1)
        light = ((self.ambient + 0.8 * self.sun)[frame] * (1 - fog)[:, None])[thing] * solid[:, None]
        veil = (self.haze[frame] * fog[:, None])[thing] * solid[:, None]
        at = ((frame - a)[thing] * self.H + box[thing, 1] + down) * self.W + box[thing, 0] - start
        columns = column0[thing], sx[thing], edge[thing]
        values = self._float(torch.stack([*columns, row, solid, *light.T, *veil.T]))  # [11, rows]
        line = torch.repeat_interleave(wide.to(self.device))
        column0, sx, edge, row, solid, r, g, b, hr, hg, hb = (v.index_select(0, line) for v in values)
        here = torch.arange(len(line), device=self.device)
        column = torch.addcmul(column0, sx, (here - start.to(self.device).index_select(0, line)).float())
        grid = torch.stack([column.clamp_min(1 / ATLAS - 1).minimum(edge), row], dim=1)[None, None]
        texels = F.grid_sample(atlas(str(self.device)), grid, padding_mode="border", align_corners=False)
        red, green, blue, alpha = texels[0, :, 0]
        keep = 1 - alpha * solid
        paint = torch.stack([red * r + alpha * hr, green * g + alpha * hg, blue * b + alpha * hb, keep], dim=1)
        here = here + at.to(self.device).index_select(0, line)
        area = (box[:, 2] * box[:, 3]).cumsum(0)
        cuts = area[:-1][rank[1:] != rank[:-1]].tolist()
        for begin, end in zip([0, *cuts], [*cuts, len(line)]):
            part = here[begin:end]
            below = image.index_select(0, part)
            image.index_copy_(0, part, torch.addcmul(paint[begin:end], below, keep[begin:end, None]))


def render(
    seed: int = 0,
    size: tuple[int, int] = (72, 128),
    drives: int = 5,
    frames: int = 300,
    device: str | torch.device = "cpu",
    chunk: int | None = None,
) -> tuple[Tensor, tuple[int, ...], int]:
    """The rendered road trip: `drives` independent drives of `frames` frames each, one after the other.

    Returns the film, uint8 [drives · frames, 3, H, W] on `device`; its cuts, the first frame of each drive but the
    first; and the gap at which it is as hard as real time lapse. `chunk` frames are painted at a time: it changes
    memory and speed, never a pixel.
    """
    device = torch.device(device)
    step = chunk or (30 if device.type == "cpu" else 50)
    film = torch.empty(drives * frames, 3, *size, dtype=torch.uint8, device=device)
    atlas(str(device))

    @torch.inference_mode()
    def work(index: int) -> None:
        drive = _Drive(seed, index, frames, size, device)
        for a in range(0, frames, step):
            b = min(a + step, frames)
            film[index * frames + a : index * frames + b] = drive.paint(a, b)

    # Many small operations: two drives at once on a core each are twice as fast as one drive on two cores, and do not
    # crawl when other programs keep a core busy. The number of threads is a thread's own once it has been set in it;
    # what later threads begin with is put back as soon as all workers stand.
    threads = torch.get_num_threads()
    workers = min(threads, drives, 4) if device.type == "cpu" else 1
    ready = Barrier(workers + 1)

    def one_thread() -> None:
        torch.set_num_threads(1)
        ready.wait()

    with ThreadPoolExecutor(workers, initializer=one_thread) as pool:
        jobs = [pool.submit(work, index) for index in range(drives)]
        ready.wait()
        torch.set_num_threads(threads)
        for job in jobs:
            job.result()
    return film, tuple(range(frames, drives * frames, frames)), DEFAULT_GAP


def fingerprint(seed: int = 0, size: tuple[int, int] = (72, 128), drives: int = 5, frames: int = 300) -> str:
    """sha256 of what a film is rendered from; not of its pixels, which may differ by a rounding between machines."""
    key = json.dumps(["scenery", VERSION, seed, list(size), drives, frames])
    return hashlib.sha256(key.encode()).hexdigest()
