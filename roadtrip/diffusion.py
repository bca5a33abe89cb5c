"""Few-step diffusion around a guess: what the moved frame m leaves unexplained is drawn, not averaged away.

Everything here is in units of the spread that is left: y = (x − m) / SPREAD for a picture x, and s = σ / SPREAD for the
standard deviation σ of the noise on it, whose spectrum is chosen (see `coloured`). Pure functions of tensors, independent
of networks, films and training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import RoadtripError

SPREAD = 0.1  # about the rms of f3 − m where copying the last frame gets 21.5 dB, as at the gap that is suggested
LEVELS = (0.3, 1.2)  # mean and deviation of ln s in training


@dataclass(frozen=True)
class Sampler:
    """How a frame is drawn. Raises RoadtripError on a value of another type or out of its range.

    evaluations: how often the network is asked for one frame. first, last: s at the first and the last of them; a picture
        has so many coefficients that all together are told from noise long after each alone is not.
    temperature: of the noise that it begins with, applied by whoever draws z; 1 is as much as the network was trained
    for. drive_noise: the noise on the frames fed back that the network is told of when it drives, though none is added.
    refine: channels of the last layers, at full resolution; 0 leaves those out. slope: of the noise's amplitude over
    frequency, see `coloured`. carry: how much of a frame's noise is that of the frame before. local_gain: whether the
    network's gain for each frequency is told anew for each place, see model.Denoiser.
    """

    evaluations: int = 4
    first: float = 4.0
    last: float = 0.08
    temperature: float = 1.0
    drive_noise: float = 0.03
    refine: int = 16
    slope: float = 1.0
    carry: float = 0.3
    local_gain: bool = False

    def __post_init__(self) -> None:
        if type(self.local_gain) is not bool:
            raise RoadtripError(f"The sampler's local_gain is {self.local_gain!r}; choose true or false.")
        for name, (low, high) in SPANS.items():
            value, whole = getattr(self, name), name in ("evaluations", "refine")
            if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:
                raise RoadtripError(f"The sampler's {name} is {value!r}; choose a number from {low:g} to {high:g}.")


SPANS: dict[str, tuple[float, float]] = {
    "evaluations": (1, 64),
    "first": (0.5, 100),
    "last": (1e-3, 0.4),
    "temperature": (0, 4),
    "drive_noise": (0, 1),
    "refine": (0, 64),
    "slope": (0, 2),
    "carry": (0, 0.99),
}


def coloured(white: Tensor, slope: float) -> Tensor:
    """White noise float [..., H, W] with its amplitude made to fall as f^-slope from one cycle in the picture's height on;
    its variance stays.

    What a moved frame leaves unexplained has about this spectrum. White noise four times as strong in a pixel is weaker
    than it at the lowest fifth of the frequencies: there the first guess would be taken for what was seen.
    """
    height, width = white.shape[-2:]
    device = white.device
    down, across = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    gain = (1 + (height * down[:, None]).square() + (height * across).square()) ** (-slope / 2)
    # of a real picture's half spectrum, one stands for two but at its ends; no number is copied in, or no GPU can record it
    coefficients = torch.where((across == 0) | (across == 0.5), 1.0, 2.0)
    gain = gain / ((gain.square() * coefficients).sum() / (height * width)).sqrt()
    return torch.fft.irfft2(torch.fft.rfft2(white.float()) * gain, (height, width))


def latents(shape: Sequence[int], carry: float, generator: torch.Generator) -> Iterator[Tensor]:
    """z for frame after frame, without an end: each standard normal [B, 3, H, W], on the CPU.

    z_t = carry · z_{t−1} + √(1 − carry²) · ε (Ge et al. 2023, the progressive noise of PYoCo): what two frames in a row
    leave unexplained is alike, and noise that knows nothing of the frame before makes a rollout flicker.
    """
    z = torch.randn(shape, generator=generator)
    while True:
        yield z
        fresh = torch.randn(shape, generator=generator)
        z = carry * z + math.sqrt(1 - carry**2) * fresh


def noisy(real: Tensor, sampler: Sampler, generator: torch.Generator) -> Tensor:
    """Real frames float [B, U, 3, H, W] under the sampler's noise, each at a level of its own, and that level s as a
    fourth channel."""
    mean, deviation = LEVELS
    s = (mean + deviation * torch.randn(*real.shape[:2], 1, 1, 1, generator=generator)).exp().to(real.device)
    noise = coloured(torch.randn(real.shape, generator=generator).to(real.device), sampler.slope)
    return torch.cat([real + SPREAD * s * noise, s.expand_as(real[:, :, :1])], dim=2)


def scaled(y: Tensor, s: Tensor) -> Tensor:
    """y with unit variance, as the network is shown it (Karras et al. 2022, c_in)."""
    return y / (1 + s * s).sqrt()


def denoised(y: Tensor, s: Tensor, F: Tensor) -> Tensor:
    """The estimate of y without its noise from the network's F (Karras et al. 2022, c_skip and c_out at unit spread)."""
    return y / (1 + s * s) + F * s / (1 + s * s).sqrt()


def denoising_loss(guess: Tensor, real: Tensor, s: Tensor) -> Tensor:
    """Mean squared error of F, whose target has unit variance: that of the denoised frames, weighted by (1 + s²)/s².

    guess, real: float [B, U, 3, H, W] in [0, 1]; s: float [B, U, 1, 1, 1]. Returns a scalar, the mean over the batch of the
    sum over the unroll.
    """
    error = ((guess - real) / SPREAD).square() * (1 + s * s) / (s * s)
    return error.mean(dim=(0, 2, 3, 4)).sum()


def sample(
    denoisers: Callable[[Tensor], Sequence[Callable[[Tensor], Tensor]]],
    z: Tensor,
    sampler: Sampler,
    near: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """y drawn by DPM-Solver++ (2M, Lu et al. 2022) from z, standard normal [B, 3, H, W] times the
    temperature; deterministic but for z.

    The equation that it solves, dy/ds = (y − D)/s, holds for noise of any spectrum. Levels fall geometrically, so that in
    the solver's own time ln s all steps are as long.
    denoisers: for levels s float [n, B, 1, 1, 1], all of a frame's at once, one function each, from y to the estimate of
        y without noise.
    near: a y [B, 3, H, W] and bool [B, 1, 1, 1]; where True what is drawn begins from that y, under noise as strong as y
        is, s = 1 (Meng et al. 2022, "SDEdit"): its coarse part stays, its fine part is drawn anew.
    """
    s = z.new_full((len(z), 1, 1, 1), sampler.first)
    noise = coloured(z, sampler.slope)
    y = s * noise
    if near is not None:
        close, where = near
        s = torch.where(where, min(sampler.first, 1.0), s)
        y = torch.where(where, close, 0.0) + s * noise
    shrink = (sampler.last / s) ** (1 / max(sampler.evaluations - 1, 1))
    levels = torch.stack([s * shrink**i for i in range(sampler.evaluations)])
    first, *others = denoisers(levels)
    guess = before = first(y)
    for denoise in others:
        ahead = guess + (guess - before) / 2
        y, before = shrink * y + (1 - shrink) * ahead, guess
        guess = denoise(y)
    return guess
