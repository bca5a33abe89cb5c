"""What tells generated frames from real ones: windows of K frames and a patch discriminator.

Which frames the discriminator sees is the heart of the question, so one pure function, `windows`, decides it. Its losses
are in losses.py; independent of generators and films.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def windows(frames: Tensor, size: int, which: str = "all", context: Tensor | None = None) -> Tensor:
    """All runs of `size` consecutive frames that hold a generated one, each stacked into channels.

    Args:
        frames: float [B, U, 3, H, W], the frames to be scored (generated g3 g4 …, or the real f3 f4 … in their place).
        size: K, frames a discriminator sees at once.
        which: "all" windows, or only the "first".
        context: the frames before them that the generator was fed, float [B, C, 3, H, W] or None; pix2pix's
            conditional way.

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
    picked = range(first, last + 1) if which == "all" else range(first, first + 1)
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
