"""Augmentation of training clips: kornia, one draw a clip, context and targets together, on the clip's device.

The draws come from the run's own generator and kornia only applies them, without the GPU being waited for. Independent
of models.
"""

import torch
from torch import Tensor

from .recipes import Recipe


def augment(clips: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Clips float [B, n, 3, H, W] in [0, 1], some mirrored, brighter, with more contrast; clamped to [0, 1].

    Each clip is changed as a whole: its frames stay consistent with each other. generator: on the CPU.
    """
    if not recipe.flip and not recipe.jitter:
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
    return clips
