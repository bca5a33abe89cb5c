"""What tells generated frames from real ones: windows of K frames, a patch discriminator, the GAN losses.

Which frames are judged is the heart of the question, so it lives in one pure function, `windows`. Knows nothing of
generators or films.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def windows(frames: Tensor, size: int, slots: str = "all", context: Tensor | None = None) -> Tensor:
    """All runs of `size` consecutive frames that hold a generated one, each stacked into channels.

    Args:
        frames: float [B, U, 3, H, W], the frames to be judged (generated g3 g4 …, or the real f3 f4 … in their place).
        size: K, frames a discriminator sees at once.
        slots: "all" windows, or only the "first".
        context: real frames before them, float [B, C, 3, H, W] or None; pix2pix's conditional way.

    Returns: float [B·n, 3·K, H, W], n windows a clip.
    Raises ValueError when the frames are fewer than one window.
    """
    known = 0 if context is None else context.shape[1]
    if context is not None:
        frames = torch.cat([context, frames], dim=1)
    first = max(0, known - size + 1)
    last = frames.shape[1] - size
    if last < first:
        raise ValueError(f"{frames.shape[1]} frames hold no window of {size}")
    picked = range(first, last + 1) if slots == "all" else range(first, first + 1)
    return torch.cat([frames[:, i : i + size].flatten(1, 2) for i in picked])


class PatchDiscriminator(nn.Module):
    """Pictures [B, 3·K, H, W] in [0, 1] to a map of scores [B, 1, H/8, W/8], one for each patch of about 40 pixels
    (PatchGAN, Isola et al. 2017). Group instead of batch normalisation: a score never depends on the rest of its batch;
    without any, one run at L1 weight 10 was seen to run away within 50 steps."""

    def __init__(self, frames: int, width: int = 32, spectral: bool = False):
        super().__init__()
        norm: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else lambda layer: layer
        self.norms = nn.ModuleList([nn.Identity(), nn.GroupNorm(8, 2 * width), nn.GroupNorm(8, 4 * width)])
        self.layers = nn.ModuleList(
            [
                norm(nn.Conv2d(3 * frames * 4, width, 3, padding=1)),
                norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
                norm(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)),
                norm(nn.Conv2d(4 * width, 1, 3, padding=1)),
            ]
        )

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.pixel_unshuffle(pictures * 2 - 1, 2)
        for layer, norm in zip(self.layers, self.norms):
            x = F.leaky_relu(norm(layer(x)), 0.2)
        return self.layers[-1](x)


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
    """Half the mean squared norm of the score's gradient at real pictures (Mescheder et al. 2018), in float32."""
    real = real.detach().float().requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        scores = discriminator(real)
    (gradient,) = torch.autograd.grad(scores.sum(dim=(1, 2, 3)).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2
