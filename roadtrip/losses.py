"""The losses of a training step as pure functions of tensors: distance to the real frames, GAN, R1, ping-pong.

Independent of recipes, optimisers and films; `discriminators.windows` says which frames a discriminator sees.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .frames import l1


def reconstruction_loss(fake: Tensor, real: Tensor) -> Tensor:
    """L1(f3, g3) + L1(f4, g4) + …: the mean |difference| of each generated frame, summed over the unroll.

    fake, real: float [B, U, 3, H, W] in [0, 1]. Returns a scalar in [0, U]; U = 1 is v1's loss, U = 2 is v2's.
    """
    return l1(fake, real).mean(dim=0).sum()


def pingpong_loss(back: Tensor, clips: Tensor) -> Tensor:
    """L1(f2, G(g4, g3)) + …: how far driving back misses the real frames it came from (Chu et al. 2020).

    back: float [B, U, 3, H, W] in [0, 1], unrolled from the last two frames in reverse. clips: float [B, 2 + U, 3, H, W]
    in [0, 1], f1, f2 and the real frames after them.
    """
    return reconstruction_loss(back, clips.flip(1)[:, 2:])


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss on two maps of scores, averaged over both; `kind` is a key of GAN_LOSSES.

    hinge: Lim & Ye 2017; least-squares: Mao et al. 2017; bce: Goodfellow et al. 2014.
    """
    good, bad, _ = GAN_LOSSES[kind]
    return (good(real.float()).mean() + bad(fake.float()).mean()) / 2


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """The generator's loss on a map of scores of its frames (bce: the non-saturating form)."""
    return GAN_LOSSES[kind][2](fake.float()).mean()


# kind: (loss of a real score, loss of a fake score, the generator's loss of its fake score)
GAN_LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "hinge": (lambda s: F.relu(1 - s), lambda s: F.relu(1 + s), lambda s: -s),
    "least-squares": (lambda s: (s - 1) ** 2, lambda s: s**2, lambda s: (s - 1) ** 2),
    "bce": (lambda s: F.softplus(-s), F.softplus, lambda s: F.softplus(-s)),
}


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Half the mean squared norm of the score's gradient at real pictures (Mescheder et al. 2018), in float32. A picture's
    score is the mean of its map, as in the GAN losses: summed, the penalty would grow with the square of the patches, and
    from a weight of 0.1 on it drowned the GAN loss in Adam's moments."""
    real = real.detach().float().requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        scores = discriminator(real)
    (gradient,) = torch.autograd.grad(scores.mean(dim=(1, 2, 3)).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2
