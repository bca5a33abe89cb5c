"""Augmentation of training clips: kornia, one draw a clip, context and targets together, on the clip's device.

The draws come from the run's own generator and kornia only applies them, without the GPU being waited for. Independent
of models.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .recipes import Recipe


def augment(clips: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Clips float [B, n, 3, H, W] in [0, 1], some mirrored, others brighter, with more contrast, tinted, cropped.

    They stay in [0, 1]. Each clip is changed as a whole: its frames stay consistent with each other. generator: on the CPU.
    """
    if not any((recipe.flip, recipe.jitter, recipe.zoom, recipe.tint)):
        return clips

    from kornia.enhance import adjust_brightness, adjust_contrast
    from kornia.geometry import hflip

    drawn = torch.rand(3, len(clips), generator=generator).to(clips.device, non_blocking=True)
    if recipe.flip:
        mirrored = drawn[0] < recipe.flip
        clips = torch.where(mirrored[:, None, None, None, None], hflip(clips), clips)
    if recipe.jitter:
        brighter, contrast = recipe.jitter * (2 * drawn[1:] - 1)
        clips = adjust_contrast(adjust_brightness(clips, brighter), 1 + contrast)
    if recipe.zoom:
        kept, *middle = torch.rand(3, len(clips), generator=generator)
        kept = 1 - recipe.zoom * kept
        x, y = ((1 - kept) * (2 * at - 1) for at in middle)
        rows = [torch.stack([kept, 0 * x, x], dim=1), torch.stack([0 * y, kept, y], dim=1)]
        grid = F.affine_grid(torch.stack(rows, dim=1).to(clips.device), [len(clips), 3, *clips.shape[-2:]], False)
        # bicubic: bilinear crops are softer than the film, and so are rollouts that learned from them
        flat = F.grid_sample(clips.flatten(1, 2), grid, "bicubic", padding_mode="border", align_corners=False)
        clips = flat.view_as(clips).clamp(0, 1)
    if recipe.tint:
        gain = 1 + recipe.tint * (2 * torch.rand(len(clips), 1, 3, 1, 1, generator=generator) - 1)
        clips = (clips * gain.to(clips.device)).clamp(0, 1)
    return clips


def damage(context: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Frames that go in, float [B, 2, 3, H, W] in [0, 1], some of them hurt as a rollout's own frames are: a third of
    those blurred, a third at half the resolution, a third off in colour. Both frames of a clip alike."""
    from kornia.filters import gaussian_blur2d

    drawn = torch.rand(2, len(context), generator=generator)
    offset = 0.1 * (2 * torch.rand(len(context), 1, 3, 1, 1, generator=generator) - 1)
    kind = torch.where(drawn[0] < share, (3 * drawn[1]).long(), 3).to(context.device, non_blocking=True)
    flat, size = context.flatten(0, 1), context.shape[-2:]
    blurred = gaussian_blur2d(flat, (5, 5), (1.0, 1.0))
    coarse = F.interpolate(F.avg_pool2d(flat, 2), size, mode="bilinear")
    hurt = [blurred.view_as(context), coarse.view_as(context), (context + offset.to(context.device)).clamp(0, 1)]
    for i, frames in enumerate(hurt):
        context = torch.where((kind == i)[:, None, None, None, None], frames, context)
    return context
