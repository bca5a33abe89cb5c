"""NextFrame: a shared encoder over two frames, something between, a decoder. One network, written as a recurrence.

Independent of films, losses and training; it takes pictures in [0, 1] and gives pictures in [0, 1].
"""

from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

# What a rollout carries from frame to frame: the newest frame's code, or the LSTM's hidden and cell state.
State = tuple[Tensor, ...]


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

    def forward(self, frame: Tensor, code: Tensor) -> Tensor:
        flow = FLOW_SCALE * self.flow(_act(code)).float()  # [B, 2, H/8, W/8]
        return warp(frame, F.interpolate(flow, scale_factor=8, mode="bilinear"))


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
        size: (H, W) of the training film; only the mean training frame depends on it, the network does not.
    """

    def __init__(
        self,
        width: int = 48,
        depth: int = 4,
        bottleneck: str = "conv",
        output: str = "warp",
        noise_conditioned: bool = False,
        size: tuple[int, int] = (72, 128),
    ):
        super().__init__()
        self.encoder = Encoder(width)
        self.bottleneck = BOTTLENECKS[bottleneck](2 * width, depth)
        self.noise_embedding = nn.Linear(1, 2 * width) if noise_conditioned else None
        self.flow = OpticalFlow(2 * width) if output == "warp" else None
        self.decoder = Decoder(width)
        self.output = output
        self.architecture = {
            "width": width,
            "depth": depth,
            "bottleneck": bottleneck,
            "output": output,
            "noise_conditioned": noise_conditioned,
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

    def observe(self, frame: Tensor, noise: Tensor | None = None) -> State:
        """The state after a first frame, float [B, 3, H, W] in [0, 1], with noise of standard deviation [B, 1] on it."""
        return self.bottleneck.observe(self._code(frame, noise)[0])

    def latent_shape(self, height: int, width: int) -> tuple[int, ...] | None:
        """The shape of z for one frame of this size, standard normal; None for a network that doesn't sample."""
        return None

    def step(
        self, frame: Tensor, state: State, noise: Tensor | None = None, z: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """The frame after `frame`, float [B, 3, H, W] in [0, 1], and the state to go on from. z: float [B, …] of
        `latent_shape`, all that is random about this frame; None where that is None."""
        code, skip = self._code(frame, noise)
        code, state = self.bottleneck.step(code, state)
        if self.flow:
            frame = self.flow(frame, code)
            skip = self.encoder.fine(frame)  # so that the change is drawn where things now are
        change = self.decoder(code, skip)
        return clamp(0.5 + change if self.output == "picture" else frame + change), state

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        return self.step(f2, self.observe(f1))[0]

    def _code(self, frame: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        code, skip = self.encoder(frame)
        if self.noise_embedding:
            code = (
                code
                + self.noise_embedding(frame.new_zeros(len(frame), 1) if noise is None else noise)[:, :, None, None]
            )
        return code, skip


def _act(x: Tensor) -> Tensor:
    """Leaky, so that no unit dies at the step sizes a minute of training needs."""
    return F.leaky_relu(x, 0.1)


def clamp(picture: Tensor) -> Tensor:
    """Clamps to [0, 1] with the gradient of the identity: an over-bright pixel can still learn to be darker."""
    return picture + (picture.clamp(0, 1) - picture).detach()
