"""Pictures as tensors: floats and bytes, PIL images and contact sheets, and one frame's error against another.

Pure functions, independent of films, models and files.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import RoadtripError

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
    """Frames as one picture, row by row, two pixels apart; see one_film. Raises RoadtripError."""
    from torchvision.utils import make_grid

    if not (isinstance(columns, int) and columns >= 1):
        raise RoadtripError(f"A sheet can't have {columns} columns; choose at least 1.")
    return images(make_grid(as_float(one_film(frames)), nrow=columns, padding=2)[None], scale)[0]


def flow_colours(flow: Tensor, most: float = 8.0) -> Tensor:
    """A flow [2, H, W] in pixels as a picture [3, H, W] in [0, 1]: its direction as a hue, its length as how far the colour
    is from white, full at `most` pixels."""
    x, y = flow
    turn = torch.atan2(y, x) / (2 * math.pi)
    hue = torch.stack([(6 * (turn + shift) % 6 - 3).abs() - 1 for shift in (0.0, 2 / 3, 1 / 3)]).clamp(0, 1)
    return 1 - (torch.hypot(x, y) / most).clamp(0, 1) * (1 - hue)


def heat(frame: Tensor, scores: Tensor) -> Tensor:
    """Scores of patches [h, w] over their frame [3, H, W] in [0, 1], as a picture alike: blue where a patch is taken for
    real (a score of 1 or more is as blue as it gets), orange where for generated."""
    wide = torch.nn.functional.interpolate(scores[None, None].clamp(-1, 1), frame.shape[1:])[0]
    colour = torch.tensor([[0.84, 0.37, 0.0], [0.0, 0.45, 0.7]])[(wide[0] > 0).long()].movedim(-1, 0)
    grey = frame.mean(dim=0, keepdim=True).expand_as(frame)
    return grey + 0.75 * wide.abs() * (colour - grey)


def one_film(frames: Tensor) -> Tensor:
    """Frames that can be shown: uint8 or float in [0, 1], [T, 3, H, W] or one rollout [1, T, 3, H, W] → [T, 3, H, W].

    Raises RoadtripError for anything else: no frames, several rollouts, another type, values outside [0, 1] or NaN.
    """
    wanted = "give uint8 or float in [0, 1], of shape [T, 3, H, W]."
    if not isinstance(frames, Tensor):
        raise RoadtripError(f"Frames can't be a {type(frames).__name__}; {wanted}")
    if frames.dim() == 5 and len(frames) != 1:
        raise RoadtripError(f"These are {len(frames)} rollouts; give one, as frames[0].")
    if frames.dim() == 5:
        frames = frames[0]
    if frames.dim() != 4 or frames.shape[1] != 3:
        raise RoadtripError(f"Frames can't have the shape {list(frames.shape)}; {wanted}")
    if not frames.numel():
        raise RoadtripError(f"There are no frames to show in {list(frames.shape)}; {wanted}")
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise RoadtripError(f"Frames can't be {frames.dtype}; {wanted}")
    if frames.is_floating_point() and not (frames.min() >= 0 and frames.max() <= 1):
        raise RoadtripError("Frames of floats must lie in [0, 1] and not be NaN; give frames.clamp(0, 1).")
    return frames


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
