"""A Recipe: everything that makes one version of the story differ from another, as values of one frozen dataclass.

v1 to v3 are values, not code paths. Each field carries one line of prose, which the app shows as its help.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .diffusion import SPANS, Sampler
from .errors import RoadtripError
from .losses import GAN_LOSSES
from .model import BOTTLENECKS, OUTPUTS


def _value(default: Any, prose: str, choices: tuple[str, ...] | None = None, span: tuple[float, float] | None = None):
    return field(default=default, metadata={"help": prose, "choices": choices, "span": span})


@dataclass(frozen=True)
class Recipe:
    """One way to train a next_frame network. Raises RoadtripError on a value that is out of its range."""

    name: str = _value("custom", "What this recipe is called in tables and charts.")
    # the network
    width: int = _value(48, "Channels of the network at a quarter of the picture's size.", span=(8, 256))
    depth: int = _value(4, "Residual blocks between encoder and decoder.", span=(0, 16))
    bottleneck: str = _value("conv", "What sits between encoder and decoder.", choices=tuple(BOTTLENECKS))
    output: str = _value(
        "warp", "Warp f2 along a flow and change it, only change it, or predict the whole picture.", choices=OUTPUTS
    )
    anchor: bool = _value(
        False, "Give the network one more still: any of the drive in training, the first input frame in rollouts."
    )
    # how a frame is drawn, by few-step diffusion around the moved frame
    evaluations: int = _value(0, "Network evaluations for one frame drawn by diffusion; 0: no diffusion.", span=(0, 64))
    first_level: float = _value(
        4.0, "Highest noise level of the diffusion, in standard deviations of the residual.", span=SPANS["first"]
    )
    last_level: float = _value(0.08, "Lowest noise level of the diffusion, in the same unit.", span=SPANS["last"])
    temperature: float = _value(
        1.0, "Scale of the sampled noise; below 1 the road is calmer.", span=SPANS["temperature"]
    )
    refine: int = _value(16, "Channels of a diffusion network's full-resolution layers; 0: none.", span=SPANS["refine"])
    local_gain: bool = _value(
        False, "Give each place of the picture a gain of its own for each frequency of a diffusion network's input."
    )
    slope: float = _value(
        1.0,
        "How fast the amplitude of the noise falls with frequency: 0 is white, 1 falls as 1/f.",
        span=SPANS["slope"],
    )
    carry: float = _value(
        0.0, "Share of a frame's noise that is the frame before's; 0 samples it anew.", span=SPANS["carry"]
    )
    carry_rate: float = _value(
        0.0,
        "How fast training adjusts carry until R of its own rollouts is real film's; 0 keeps it.",
        span=(0, 1),
    )
    # what the loss sees
    unroll: int = _value(1, "Frames generated in training, each fed back for the next: 1 is v1, 2 is v2.", span=(1, 16))
    l1_weight: float = _value(1.0, "Weight of the L1 distance to the real frames.", span=(0, 1e4))
    gan_weight: float = _value(0.0, "Weight of the GAN loss; 0 trains without a discriminator.", span=(0, 1e4))
    feedback: str = _value(
        "attached",
        "What a generated frame is fed back as: itself, cut off from its gradient, or rounded to 8 bits.",
        choices=("attached", "detached", "8-bit"),
    )
    context_noise: float = _value(
        0.0,
        "Largest noise on the frames that go in; the network is told its size.",
        span=(0, 1),
    )
    drive_noise: float = _value(
        0.0, "Noise level a diffusion network is told of in rollouts, where none is added.", span=SPANS["drive_noise"]
    )
    damage: float = _value(
        0.0,
        "Share of clips whose first two frames are blurred, coarser or off in colour; the target is not.",
        span=(0, 1),
    )
    pingpong_weight: float = _value(
        0.0, "Weight of the loss backwards in time: G(g4, g3) should be f2 (ping-pong).", span=(0, 1e4)
    )
    replay: int = _value(0, "Most frames that are rolled out before the ones that are trained on.", span=(0, 16))
    replay_share: float = _value(
        1.0, "Share of a batch's clips that replay rolls out; the others stay real.", span=(0, 1)
    )
    replay_near: float = _value(
        0.0, "Share of a diffusion network's rollouts in replay that stay near to the real frames.", span=(0, 1)
    )
    # the discriminator
    disc_frames: int = _value(2, "Frames the discriminator sees at once: 1 single, 2 the pair, 3.", span=(1, 3))
    disc_windows: str = _value("all", "Which windows of frames it sees.", choices=("all", "first"))
    disc_shuffle: bool = _value(False, "Show it a clip's frames in random order, both real and generated.")
    disc_context: int = _value(0, "How many of the generator's two input frames it sees, too.", span=(0, 2))
    gan_loss: str = _value("hinge", "The form of the GAN loss.", choices=tuple(GAN_LOSSES))
    r1_weight: float = _value(
        0.0, "Weight of the R1 gradient penalty on real frames, a step of its own.", span=(0, 1e4)
    )
    r1_interval: int = _value(
        8, "Steps from one R1 penalty to the next, which weighs as much more (lazy).", span=(1, 1000)
    )
    spectral: bool = _value(False, "Spectral normalisation of the discriminator's layers.")
    disc_width: int = _value(32, "Channels of the discriminator's first layer, a multiple of 4.", span=(8, 256))
    # optimisation
    batch: int = _value(4, "Clips in a training step.", span=(1, 512))
    optimiser: str = _value("muon", "Optimiser of the generator's weights; biases take Adam.", choices=("muon", "adam"))
    lr: float = _value(2e-3, "Highest learning rate of the generator.", span=(1e-7, 1.0))
    disc_lr: float = _value(4e-4, "Learning rate of the discriminator's Adam.", span=(1e-7, 1.0))
    beta1: float = _value(0.9, "Momentum of the optimisers; GANs like 0.5.", span=(0, 0.999))
    beta2: float = _value(0.99, "Decay of Adam's mean squared gradient.", span=(0, 0.99999))
    muon_scale: float = _value(0.2, "Muon's step relative to Adam's at the same learning rate.", span=(1e-3, 10))
    clip_norm: float = _value(
        1.0, "Norm to which the generator's gradient is scaled down where it is larger; 0 never.", span=(0, 1e6)
    )
    disc_clip_norm: float = _value(
        1.0, "The same for the discriminator's gradient of the GAN loss; R1's is never clipped.", span=(0, 1e6)
    )
    warmup: int = _value(20, "Steps over which the learning rate rises from zero.", span=(0, 10000))
    plateau: float = _value(0.5, "Share of the steps before the learning rate begins to fall.", span=(0, 0.95))
    last_lr: float = _value(0.01, "Share of the learning rate that is left at the last step.", span=(0, 1))
    ema: float = _value(
        0.999, "Decay of the averaged copy of the weights, kept in addition to the raw ones.", span=(0, 0.99999)
    )
    # augmentation
    flip: float = _value(0.5, "Share of clips mirrored left to right; roads have a side to drive on.", span=(0, 1))
    zoom: float = _value(
        0.0, "Largest share of a clip's width and height that is cropped away at random.", span=(0, 0.5)
    )
    jitter: float = _value(0.1, "Random brightness and contrast, the same for a whole clip.", span=(0, 0.5))
    tint: float = _value(
        0.0, "Random gain of each colour, the same for a whole clip; for several drives at once.", span=(0, 0.5)
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value, choices, span = getattr(self, f.name), f.metadata["choices"], f.metadata["span"]
            wanted = (int, float) if f.type is float else f.type
            if not isinstance(value, wanted) or (isinstance(value, bool) and f.type is not bool):  # type: ignore[arg-type]
                raise RoadtripError(f"Recipe field {f.name} is {value!r}, but should be of type {f.type.__name__}.")  # type: ignore[union-attr]
            if f.type is float:
                object.__setattr__(self, f.name, float(value))  # torch's optimisers take no int beside a float
            if choices and value not in choices:
                raise RoadtripError(f"Recipe field {f.name} is {value!r}; choose one of {', '.join(choices)}.")
            if span and not span[0] <= value <= span[1]:
                raise RoadtripError(f"Recipe field {f.name} is {value!r}; choose from {span[0]:g} to {span[1]:g}.")
        if self.disc_width % 4:
            raise RoadtripError(f"Recipe field disc_width is {self.disc_width}; choose a multiple of 4.")
        if self.evaluations and self.pingpong_weight:
            raise RoadtripError(
                "A network that draws its frames can't drive back; set pingpong_weight or evaluations to 0."
            )
        if self.gan_weight and self.disc_context + self.unroll < self.disc_frames:
            raise RoadtripError(
                f"A discriminator of {self.disc_frames} frames has only {self.disc_context} of context and "
                f"{self.unroll} generated to see; unroll further or let it see fewer."
            )

    @property
    def sampler(self) -> Sampler | None:
        """How frames are drawn; None where they aren't."""
        if not self.evaluations:
            return None
        levels = (self.first_level, self.last_level)
        return Sampler(
            self.evaluations,
            *levels,
            self.temperature,
            self.drive_noise,
            self.refine,
            self.slope,
            self.carry,
            self.local_gain,
        )

    @property
    def clip(self) -> int:
        """Frames of a training clip: f1, f2 and one target for each generated frame, those before the trained ones too."""
        return 2 + self.replay + self.unroll

    @property
    def deepest(self) -> int:
        """How many frames deep into its own rollouts the network was at most while its loss was taken."""
        return self.replay + self.unroll

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The inverse of to_dict; raises RoadtripError on a field this version does not know."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise RoadtripError(f"The recipe has a field {unknown[0]!r} that this version of Roadtrip does not know.")
        return cls(**values)


def _v3(name: str, disc_frames: int) -> Recipe:
    return Recipe(
        name,
        unroll=2,
        l1_weight=100.0,
        gan_weight=1.0,
        disc_frames=disc_frames,
        optimiser="adam",
        lr=4e-4,
        beta1=0.5,
    )


# In story order: the post's versions, its hindsight, and what drives on.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("v1"),
        Recipe("v2", unroll=2),
        _v3("v3-pair", disc_frames=2),
        _v3("v3-single", disc_frames=1),
        Recipe("lstm", unroll=2, bottleneck="lstm", depth=3),
        Recipe(
            "v4",
            width=32,
            depth=2,
            anchor=True,
            evaluations=6,
            first_level=12.0,
            last_level=0.15,
            local_gain=True,
            carry=0.3,
            carry_rate=0.02,
            context_noise=0.2,
            drive_noise=0.03,
            damage=0.25,
            replay=6,
            replay_share=0.5,
            replay_near=0.5,
            ema=0.998,
            flip=0.0,
            zoom=0.1,
        ),
    )
}


def parse_values(pairs: list[str]) -> dict[str, Any]:
    """Recipe fields from a shell: ["width=64", "output=change"] → {"width": 64, "output": "change"}.

    Raises RoadtripError for an unknown field, or a value that is not of its type.
    """
    types: dict[str, Any] = {f.name: f.type for f in fields(Recipe)}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in types:
            raise RoadtripError(f"A recipe has no field {name!r}; choose from {', '.join(types)}.")
        try:
            values[name] = {"True": True, "False": False}[text] if types[name] is bool else types[name](text)
        except (KeyError, ValueError):
            raise RoadtripError(f"{pair!r} should give {name} a value of type {types[name].__name__}.") from None
    return values


def find_recipe(recipe: str | Recipe) -> Recipe:
    """A Recipe as it is, or by its name. Raises RoadtripError for a name that is not there."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise RoadtripError(f"There is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}.")
    return RECIPES[recipe]
