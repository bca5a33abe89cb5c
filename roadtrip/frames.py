"""Pictures as tensors: floats and bytes, PIL images and contact sheets, and one frame's error against another.

Pure functions, independent of films, models and files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


def as_float(frames: Tensor) -> Tensor:
    """uint8 or float pictures as float32 in [0, 1]."""
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()


def to_bytes(frames: Tensor, scale: int = 1) -> Tensor:
    """Pictures as rows of bytes: uint8 or float [0, 1], [T, 3, H, W] → uint8 [T, scale·H, scale·W, 3] on the CPU.
    Pixels are repeated, never smoothed: what a network drew stays visible."""
    pixels = (as_float(frames) * 255).round().to(torch.uint8).cpu().permute(0, 2, 3, 1)
    return pixels.repeat_interleave(scale, 1).repeat_interleave(scale, 2).contiguous()


def images(frames: Tensor, scale: int = 1) -> list[Image]:
    """Frames [T, 3, H, W] as a list of PIL images."""
    from PIL import Image

    return [Image.fromarray(pixels.numpy()) for pixels in to_bytes(frames, scale)]


def sheet(frames: Tensor, columns: int, scale: int = 1) -> Image:
    """Frames [T, 3, H, W] as one picture, row by row, two pixels apart."""
    from torchvision.utils import make_grid

    return images(make_grid(as_float(frames), nrow=columns, padding=2)[None], scale)[0]


def l1(frames: Tensor, real: Tensor) -> Tensor:
    """Mean |frames − real| over channels and pixels, [..., 3, H, W] in [0, 1] → [...] in [0, 1]."""
    return (frames - real).abs().mean(dim=(-3, -2, -1))


def psnr(frames: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, 10·log10(1 / MSE) in dB over RGB, [..., 3, H, W] in [0, 1] → [...].

    At most 100 dB: equal frames have no error to take the logarithm of.
    """
    return -10 * (frames - real).square().mean(dim=(-3, -2, -1)).clamp_min(1e-10).log10()


def ssim(frames: Tensor, real: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, 11×11 Gaussian window, kornia's), [..., 3, H, W] in [0, 1] → [...]
    in [−1, 1], the mean of its map over channels and pixels."""
    from kornia.metrics import ssim as ssim_map

    return ssim_map(frames.flatten(0, -4), real.flatten(0, -4), 11).mean(dim=(-3, -2, -1)).view(frames.shape[:-3])


def sharpness(frames: Tensor) -> Tensor:
    """Mean absolute 4-neighbour Laplacian over channels and inner pixels, [..., 3, H, W] in [0, 1] → [...] in [0, 4]."""
    inner = frames[..., 1:-1, 1:-1]
    around = frames[..., :-2, 1:-1] + frames[..., 2:, 1:-1] + frames[..., 1:-1, :-2] + frames[..., 1:-1, 2:]
    return (around - 4 * inner).abs().mean(dim=(-3, -2, -1))
