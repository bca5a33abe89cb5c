"""Video Textures, the baseline of endless rollouts that never blurs and only repeats: a Markov chain over real stills.

Schödl, Szeliski, Salesin, Essa: Video Textures, SIGGRAPH 2000. Independent of models.
"""

import torch
from torch import Tensor

from .endless import pool
from .errors import RoadtripError
from .evaluation import HELD_OUT
from .film import Film

SIGMA = 0.03  # of the mean cost: jumps are rare, and not always the same ones
ALPHA = 0.99  # how much a cost ahead counts a step before it
MAX_STATES = 4096  # their costs are a square of them


def video_textures(film: Film, start: int, length: int, seed: int = 0, held_out: float = HELD_OUT) -> Tensor:
    """Drives on from the two frames at `start` through training stills, uint8 [length, 3, H, W].

    With d the distance of pooled stills, i⁺ and i⁻ one gap after and before i, jumping from i to j instead of going on
    to i⁺ costs D′(i, j) = (d(i⁺, j) + d(i, j⁻)) / 2, which keeps the motion, and D″(i, j) = D′(i, j) + α · min_k D″(j, k)
    with what lies ahead, so that dead ends are avoided. The chance of j is ∝ exp(−D″(i, j) / σ). Of a longer film the
    first 4,096 training clips are used. Raises RoadtripError where there are none.
    """
    clips = film.starts(3, "train", held_out)[:MAX_STATES]
    if not len(clips):
        raise RoadtripError(f"{film.name} has no training clip of three frames at gap {film.gap} to play back.")
    before, now, after = (pool(film.frames[clips + i * film.gap]).float() for i in range(3))
    cost = (torch.cdist(after, now) + torch.cdist(now, before)) / 2
    sigma, ahead = SIGMA * cost.mean().clamp_min(1e-6), torch.zeros(len(clips))
    while ((new := (cost + ALPHA * ahead).min(dim=1).values) - ahead).abs().max() > 0.01 * sigma:
        ahead = new
    f1, f2 = pool(film.clips(torch.tensor([start]), 2)[0]).float()[:, None]
    first = (torch.cdist(f2, now) + torch.cdist(f1, before)) / 2
    chances = (-(torch.cat([first, cost]) + ALPHA * ahead) / sigma).softmax(dim=1)
    generator, path = torch.Generator().manual_seed(seed), [-1]
    for _ in range(length + 1):
        path.append(int(torch.multinomial(chances[path[-1] + 1], 1, generator=generator)))
    return film.frames[clips[path[2:]] + film.gap]
