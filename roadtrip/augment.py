"""Augmentation of training clips: kornia, one draw a clip, context and targets together, on the clip's device.

The draws come from the run's own generator (see seeds.py); kornia only applies them. Knows nothing of models.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .recipes import Recipe
from .seeds import drawing_from


def augmenter(recipe: Recipe) -> Callable[[Tensor, torch.Generator], Tensor]:
    """A function of (clips float [B, n, 3, H, W] in [0, 1], CPU generator) → clips alike, clamped to [0, 1].

    Each clip is mirrored, brightened and contrasted as a whole: its frames stay consistent with each other.
    """
    if not recipe.flip and not recipe.jitter:
        return lambda clips, generator: clips

    import kornia.augmentation as K

    span = (1 - recipe.jitter, 1 + recipe.jitter)
    layers: list[torch.nn.Module] = []
    if recipe.flip:
        layers.append(K.RandomHorizontalFlip(p=recipe.flip))
    if recipe.jitter:
        layers += [K.RandomBrightness(span, p=1.0), K.RandomContrast(span, p=1.0)]
    sequence = K.VideoSequential(*layers, data_format="BTCHW", same_on_frame=True)

    def augment(clips: Tensor, generator: torch.Generator) -> Tensor:
        with drawing_from(generator):
            draw = sequence.forward_parameters(clips.shape)
        return sequence(clips, params=draw)

    return augment
