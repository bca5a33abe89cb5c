"""NextFrame: a shared encoder over two frames, something between, a decoder. One network, written as a recurrence.

Independent of films, losses and training; it takes pictures in [0, 1] and gives pictures in [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from .diffusion import SPREAD, Sampler, denoised, sample, scaled

# What a rollout carries from frame to frame: the newest frame's code or the LSTM's hidden and cell state, and the code of
# the anchor, if the network has one.
State = tuple[Tensor, ...]
# From y under noise of one level to the estimate of y without it, see diffusion.py.
Denoise = Callable[[Tensor], Tensor]


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), its last convolution starting at zero, so that depth costs no signal at the start."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(_act(self.first(_act(x))))


class Encoder(nn.Module):
    """One frame to a code at an eighth of its size, and a finer skip at a quarter. No normalisation: a network this
    shallow trains without it, and statistics shared over a batch would make a rollout depend on its neighbours."""

    def __init__(self, width: int):
        super().__init__()
        self.stem = nn.Conv2d(3 * 16, width, 3, padding=1)
        self.down = nn.Conv2d(4 * width, 2 * width, 1)

    def fine(self, frame: Tensor) -> Tensor:
        return self.stem(F.pixel_unshuffle(frame * 2 - 1, 4))  # [B, width, H/4, W/4]

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.fine(frame)
        return self.down(F.pixel_unshuffle(_act(skip), 2)), skip  # [B, 2·width, H/8, W/8]


class ConvBottleneck(nn.Module):
    """Codes of f1 and f2 concatenated and encoded some more (the post's v1). Its state is the code of the newest frame,
    so a rollout encodes every frame once."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.join = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(channels) for _ in range(depth)))

    def observe(self, code: Tensor) -> State:
        return (code,)

    def step(self, code: Tensor, state: State) -> tuple[Tensor, State]:
        return self.blocks(self.join(torch.cat([state[0], code], dim=1))), (code,)


class LSTMBottleneck(nn.Module):
    """A convolutional LSTM over the frames (the post's hindsight; cell after Shi et al. 2015, without peepholes).
    Its state is carried along the rollout."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(channels) for _ in range(depth)))

    def observe(self, code: Tensor) -> State:
        return self._cell(code, (torch.zeros_like(code), torch.zeros_like(code)))

    def step(self, code: Tensor, state: State) -> tuple[Tensor, State]:
        state = self._cell(code, state)
        # the code goes on beside the memory: what the newest frame shows need not squeeze through the gates
        return self.blocks(code + state[0]), state

    def _cell(self, code: Tensor, state: State) -> State:
        hidden, cell = state
        take, keep, give, new = self.gates(torch.cat([code, hidden], dim=1)).chunk(4, dim=1)
        cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(take) * torch.tanh(new)
        return torch.sigmoid(give) * torch.tanh(cell), cell


class OpticalFlow(nn.Module):
    """Moves a frame along the flow that its code tells of; starts at zero, so that nothing moves."""

    def __init__(self, channels: int):
        super().__init__()
        self.flow = nn.Conv2d(channels, 2, 3, padding=1)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def field(self, code: Tensor) -> Tensor:
        """The flow, float32 [B, 2, H, W] in pixels: (x, y) from each pixel to where it comes from."""
        flow = FLOW_SCALE * self.flow(_act(code)).float()  # [B, 2, H/8, W/8]
        return F.interpolate(flow, scale_factor=8, mode="bilinear")

    def forward(self, frame: Tensor, code: Tensor) -> Tensor:
        return warp(frame, self.field(code))


class Decoder(nn.Module):
    """Code and skip to a picture-sized change; starts at zero, so that a fresh model copies the last frame."""

    def __init__(self, width: int):
        super().__init__()
        self.up = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.block = Residual(width)
        self.out = nn.Conv2d(width, 3 * 16, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, code: Tensor, skip: Tensor) -> Tensor:
        fine = F.pixel_shuffle(self.up(_act(code)), 2) + skip  # [B, width, H/4, W/4]
        return F.pixel_shuffle(self.out(_act(self.block(fine))), 4)  # [B, 3, H, W]


class LevelledResidual(nn.Module):
    """A residual block whose signal is scaled and shifted by what the noise level says (Perez et al. 2018, "FiLM"). Its
    layer `film` gives both, the modulation [B, 2·channels, 1, 1]."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(LEVEL_FEATURES, 2 * channels)
        for zero in (self.second.weight, self.film.weight, self.film.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.chunk(2, dim=1)
        return x + self.second(_act(self.first(_act(x)) * (1 + scale) + shift))


class Level(NamedTuple):
    """What a noise level says to a denoiser, [B, C, 1, 1] each: the modulation of each block, a gain for each DCT
    coefficient, and a scale for each feature that a local gain is made from."""

    modulations: tuple[Tensor, ...]
    gain: Tensor
    scale: Tensor | None


class Shared(NamedTuple):
    """What a denoiser is shown at every level: the moved frame in [-1, 1], the code and the skip, and the features that a
    local gain is made from."""

    moved: Tensor
    code: Tensor
    skip: Tensor
    features: Tensor | None


class Denoiser(nn.Module):
    """The network F of few-step diffusion: a noisy picture, the moved frame m and the context's code in, the noise and
    what m leaves unexplained out, [B, 3, H, W] each; see diffusion.py for its units.

    Four blocks at an eighth, two at a quarter, and with refine > 0 so many channels at full resolution. What a Wiener
    filter would do, a gain for each 4×4 DCT coefficient and level, stands beside them: film has little power in its
    finest coefficients, where almost all that comes in is noise. With local_gain each place adds its own: in the sky all
    that comes in is noise, among leaves it is not. The context tells the two apart; where the noisy picture did,
    networks of a minute ended further from film, see docs/log.md.
    """

    def __init__(self, width: int, refine: int, local_gain: bool = False):
        super().__init__()
        self.level = nn.Sequential(nn.Linear(2 * len(LEVEL_RATES), LEVEL_FEATURES), nn.SiLU())
        self.stem = nn.Conv2d(3 * 16, width, 3, padding=1)
        self.down = nn.Conv2d(4 * width, 2 * width, 1)
        self.coarse = nn.ModuleList(LevelledResidual(2 * width) for _ in range(4))
        self.up = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.fine = nn.ModuleList(LevelledResidual(width) for _ in range(2))
        self.out = nn.Conv2d(width, 3 * 16, 3, padding=1)
        self.gain = nn.Linear(LEVEL_FEATURES, 3 * 16)
        self.local_gain = nn.Conv2d(3 * width, 3 * 16, 3, padding=1) if local_gain else None
        self.local_level = nn.Linear(LEVEL_FEATURES, 3 * width) if local_gain else None
        self.refine, last = None, None
        if refine:
            last = nn.Conv2d(refine, 3, 3, padding=1)
            layers = [nn.Conv2d(9, refine, 3, padding=1), nn.Conv2d(refine, refine, 3, padding=1)]
            self.refine = nn.Sequential(layers[0], nn.LeakyReLU(0.1), layers[1], nn.LeakyReLU(0.1), last)
        for layer in filter(None, (self.out, self.gain, self.local_gain, self.local_level, last)):
            for weights in layer.parameters():
                nn.init.zeros_(weights)
        self.dct: Tensor
        self.rates: Tensor
        self.register_buffer("dct", _dct_of_blocks())
        self.register_buffer("rates", torch.tensor(LEVEL_RATES))

    def levels(self, s: Tensor) -> list[Level]:
        """What each of the levels s float [n, B, 1, 1, 1] says. All at once: these layers are so small that one level takes
        about as long as all."""
        phase = s.log().flatten(2) * self.rates
        level = self.level(torch.cat([phase.sin(), phase.cos()], dim=-1))
        of_each = lambda layer: layer(level)[..., None, None].unbind()  # noqa: E731
        modulations = zip(*(of_each(block.film) for block in (*self.coarse, *self.fine)))
        scales = of_each(self.local_level) if self.local_level else [None] * len(s)
        return [Level(*each) for each in zip(modulations, of_each(self.gain), scales)]

    def shared(self, moved: Tensor, code: Tensor, skip: Tensor) -> Shared:
        """What is the same at every level. moved: [B, 3, H, W] in [0, 1]; code and skip as the encoder gives them."""
        features = None
        if self.local_gain:
            features = _act(torch.cat([skip, F.interpolate(code, scale_factor=2, mode="bilinear")], dim=1))
        return Shared(moved * 2 - 1, code, skip, features)

    def forward(self, y: Tensor, level: Level, shared: Shared) -> Tensor:
        """y float [B, 3, H, W] of unit variance; level and shared as the two methods give them."""
        modulations, blocks = iter(level.modulations), F.pixel_unshuffle(y, 4)
        noisy = self.stem(blocks) + shared.skip
        x = self.down(F.pixel_unshuffle(_act(noisy), 2)) + shared.code
        for block, modulation in zip(self.coarse, modulations):
            x = block(x, modulation)
        x = F.pixel_shuffle(self.up(_act(x)), 2) + noisy
        for block, modulation in zip(self.fine, modulations):
            x = block(x, modulation)
        gain = level.gain
        if self.local_gain:
            gain = gain + self.local_gain(shared.features * (1 + level.scale))  # type: ignore[operator]
        gains = F.conv2d(F.conv2d(blocks, self.dct) * gain, self.dct.mT)
        guess = F.pixel_shuffle(self.out(_act(x)) + gains, 4)
        if self.refine:
            guess = guess + self.refine(torch.cat([y, guess, shared.moved], dim=1))
        return guess.float()


def _dct_of_blocks() -> Tensor:
    """The orthonormal two-dimensional DCT-II of each 4×4 block and colour, as a 1×1 convolution [48, 48, 1, 1] over what
    pixel_unshuffle gives."""
    k, n = torch.arange(4.0)[:, None], torch.arange(4.0)
    dct = (math.pi / 4 * (n + 0.5) * k).cos() * torch.where(k == 0, 0.5, math.sqrt(0.5))
    return torch.kron(torch.eye(3), torch.kron(dct, dct))[:, :, None, None]


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Each pixel taken from where the flow points, bilinearly; beyond the border, from the border.

    frame: float [B, 3, H, W]; flow: float32 [B, 2, H, W], (x, y) in pixels from each pixel to its source.
    """
    height, width = frame.shape[-2:]
    x, y = (torch.arange(n, device=flow.device) + 0.5 for n in (width, height))
    source = torch.stack([(flow[:, 0] + x) * (2 / width) - 1, (flow[:, 1] + y[:, None]) * (2 / height) - 1], dim=-1)
    # a flow that is not a number would send grid_sample's gradient outside its memory
    source = source.nan_to_num(0.0)
    return F.grid_sample(frame.float().contiguous(), source, padding_mode="border", align_corners=False)


BOTTLENECKS: dict[str, type[ConvBottleneck] | type[LSTMBottleneck]] = {"conv": ConvBottleneck, "lstm": LSTMBottleneck}
OUTPUTS = ("warp", "change", "picture")
LEVEL_RATES = (0.25, 0.5, 1.0, 2.0)  # of ln s, whose sines and cosines tell the noise level
LEVEL_FEATURES = 64
FLOW_SCALE = 4.0  # pixels of flow for a unit of the decoder's output: motion is learned in the first hundred steps


class NextFrame(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="roadtrip",
    tags=["video-prediction", "next-frame-prediction", "rollout"],
    license="mit",
):
    """g3 = next_frame(f1, f2): `model(f1, f2)`, frames float [B, 3, H, W] in [0, 1], H and W divisible by 8.

    A rollout is the same network as a recurrence: `state = observe(f1)`, then `g, state = step(newest, state)`.

    Args:
        width: channels at a quarter of the size; twice as many at an eighth.
        depth: residual blocks in the bottleneck.
        bottleneck: "conv" or "lstm".
        output: "warp" moves f2 along a predicted flow and adds a change, "change" only adds one, "picture" predicts
            the whole picture (the post's own way).
        noise_conditioned: whether the size of the noise on the frames that go in is an input.
        anchored: whether one still of the drive is always in sight: the first frame, unless told otherwise.
        sampler: how the next frame is drawn around the moved frame by few-step diffusion; None predicts one change.
        size: (H, W) of the training film; only the mean training frame depends on it, the network does not.
    """

    def __init__(
        self,
        width: int = 48,
        depth: int = 4,
        bottleneck: str = "conv",
        output: str = "warp",
        noise_conditioned: bool = False,
        anchored: bool = False,
        sampler: Sampler | None = None,
        size: tuple[int, int] = (72, 128),
    ):
        super().__init__()
        self.encoder = Encoder(width)
        self.bottleneck = BOTTLENECKS[bottleneck](2 * width, depth)
        self.noise_embedding = nn.Linear(1, 2 * width) if noise_conditioned else None
        self.anchor = nn.Conv2d(2 * width, 2 * width, 3, padding=1) if anchored else None
        self.flow = OpticalFlow(2 * width) if output == "warp" else None
        self.decoder = None if sampler else Decoder(width)
        self.denoiser = Denoiser(width, sampler.refine, sampler.local_gain) if sampler else None
        self.output, self.sampler = output, sampler
        self.architecture = {
            "width": width,
            "depth": depth,
            "bottleneck": bottleneck,
            "output": output,
            "noise_conditioned": noise_conditioned,
            "anchored": anchored,
            "sampler": sampler and asdict(sampler),
        }
        self.architecture["size"] = list(size)
        self.provenance: Any = None  # where the weights come from: a checkpoint.Provenance, or None if from nowhere
        # a baseline that belongs to the weights: measured beside them, wherever they go
        self.mean_frame: Tensor
        self.register_buffer("mean_frame", torch.zeros(3, *size, dtype=torch.uint8))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the film it was trained on."""
        height, width = self.mean_frame.shape[1:]
        return height, width

    def use(self, sampler: Sampler) -> None:
        """Draws by this sampler from now on, which differs from its own in numbers alone, also when it is saved."""
        self.sampler = sampler
        self.architecture["sampler"] = asdict(sampler)

    def observe(self, frame: Tensor, noise: Tensor | None = None, anchor: Tensor | None = None) -> State:
        """The state after a first frame, float [B, 3, H, W] in [0, 1], with noise of standard deviation [B, 1] on it.
        anchor: a still of the same drive, alike; None is the frame itself."""
        code = self._code(frame, noise)[0]
        if not self.anchor:
            return self.bottleneck.observe(code)
        seen = self.anchor(self.encoder(frame if anchor is None else anchor)[0])
        return (*self.bottleneck.observe(code + seen), seen)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...] | None:
        """The shape of z for one frame of this size, standard normal; None for a network that doesn't sample."""
        return (3, height, width) if self.sampler else None

    def step(
        self,
        frame: Tensor,
        state: State,
        noise: Tensor | None = None,
        z: Tensor | None = None,
        near: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        """The frame after `frame`, float [B, 3, H, W] in [0, 1], and the state to go on from. z: float [B, …] of
        `latent_shape`, all that is random about this frame; None where that is None. near: real next frames alike and
        bool [B, 1, 1, 1]; where True, what is drawn stays near to those, see diffusion.sample."""
        code, moved, skip, state = self._explain(frame, state, noise)
        if self.sampler and self.denoiser:
            assert z is not None, "a network that samples draws from z"
            close = near and ((near[0] - moved) / SPREAD, near[1])
            return clamp(moved + SPREAD * sample(self._denoisers(code, moved, skip), z, self.sampler, close)), state
        return clamp(moved + self.decoder(code, skip)), state  # type: ignore[misc]

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        return self.step(f2, self.observe(f1))[0]

    @torch.no_grad()
    def inside(self, f1: Tensor, f2: Tensor) -> dict[str, Tensor]:
        """What is made on the way from f1 and f2 to g3, float [B, …]: "flow" [B, 2, H, W] in pixels (where there is one),
        "moved", f2 along it, "change", what is added to that, and "g3", of a network that samples with z = 0."""
        shape, state = self.latent_shape(*f1.shape[2:]), self.observe(f1)
        code, moved, _, _ = self._explain(f2, state, None)
        g3, _ = self.step(f2, state, z=f1.new_zeros(len(f1), *shape) if shape else None)
        made = {"moved": moved, "change": g3 - moved, "g3": g3}
        return {"flow": self.flow.field(code)} | made if self.flow else made

    def _explain(self, frame: Tensor, state: State, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor, State]:
        """(code, the moved frame, its skip, the state to go on from): all that the two frames say of the next one."""
        code, skip = self._code(frame, noise)
        anchor = state[-1:] if self.anchor else ()
        if self.anchor:
            code, state = code + state[-1], state[:-1]
        code, state = self.bottleneck.step(code, state)
        if self.flow:
            frame = self.flow(frame, code)
            skip = self.encoder.fine(frame)  # so that the change is drawn where things now are
        if self.output == "picture":
            frame = torch.full_like(frame, 0.5)
        return code, frame, skip, (*state, *anchor)

    def _denoisers(self, code: Tensor, moved: Tensor, skip: Tensor) -> Callable[[Tensor], Sequence[Denoise]]:
        network: Denoiser = self.denoiser  # type: ignore[assignment]
        shared = network.shared(moved, code, skip)

        def at(s: Tensor, level: Level) -> Denoise:
            return lambda y: denoised(y, s, network(scaled(y, s), level, shared))

        return lambda levels: [at(s, level) for s, level in zip(levels, network.levels(levels))]

    def _code(self, frame: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        code, skip = self.encoder(frame)
        if self.noise_embedding:
            if noise is None:
                noise = frame.new_full((len(frame), 1), self.sampler.drive_noise if self.sampler else 0.0)
            code = code + self.noise_embedding(noise)[:, :, None, None]
        return code, skip


class Denoising:
    """A network that samples, as its training sees it, for `unroll`: each z is a real next frame under noise and its
    level, see diffusion.noisy, and each step gives [B, 6, H, W], that frame denoised and the moved frame."""

    def __init__(self, model: NextFrame):
        self.model, self.observe = model, model.observe

    def step(
        self, frame: Tensor, state: State, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, s = z[:, :3], z[:, 3:, :1, :1]  # type: ignore[index]
        code, moved, skip, state = self.model._explain(frame, state, noise)
        (denoise,) = self.model._denoisers(code, moved, skip)(s[None])
        y = denoise((x - moved) / SPREAD)
        return torch.cat([moved + SPREAD * y, moved], dim=1), state


def _act(x: Tensor) -> Tensor:
    """Leaky, so that no unit dies at the step sizes a minute of training needs."""
    return F.leaky_relu(x, 0.1)


def clamp(picture: Tensor) -> Tensor:
    """Clamps to [0, 1] with the gradient of the identity: an over-bright pixel can still learn to be darker."""
    return picture + (picture.clamp(0, 1) - picture).detach()
