"""A run on disk: model.safetensors (one generator), config.json beside it and inside it, and, where resuming is
wanted, train-state.safetensors. No pickle anywhere; everything is checked before a network is built.

Independent of how the weights were trained: what is known of that is a Provenance, whose every value is checked.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import whole_file
from .diffusion import Sampler
from .errors import RoadtripError
from .film import DIGEST, Film
from .model import BOTTLENECKS, OUTPUTS, NextFrame
from .recipes import Recipe
from .sources import cache_folder
from .version import VERSION

MODEL, CONFIG, STATE = "model.safetensors", "config.json", "train-state.safetensors"
# what ships: inside the package in a wheel, beside it in a checkout
SHIPPED = Path(__file__).parent / "checkpoints"
SHIPPED = SHIPPED if SHIPPED.is_dir() else Path(__file__).parents[1] / "checkpoints"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
MAX_BYTES = 512 * 2**20  # of a weights file that is read at all: the largest network of ARCHITECTURE has 424 MiB
ARCHITECTURE: dict[str, tuple[Any, ...] | range] = {
    "width": range(8, 257),
    "depth": range(0, 17),
    "bottleneck": tuple(BOTTLENECKS),
    "output": OUTPUTS,
    "noise_conditioned": (False, True),
    "anchored": (False, True),
}
MAX_NAME = 200  # characters of a film's or a recipe's name
MAX_COUNT = 2**53  # of steps and frames: what JSON keeps exactly everywhere
MAX_ENTRIES = 10_000  # drives of a film, times that a run was resumed


# --- where weights come from -------------------------------------------------------------------------------------------


def _require(good: bool, name: str, wanted: str) -> None:
    if not good:
        raise RoadtripError(f"The provenance's {name} should be {wanted}; use a checkpoint that Roadtrip saved.")


def _count(value: Any, name: str, low: int = 0, high: int = MAX_COUNT) -> None:
    _require(type(value) is int and low <= value <= high, name, f"a whole number from {low} to {high}")


def _text(value: Any, name: str, most: int = MAX_NAME) -> None:
    good = isinstance(value, str) and len(value) <= most and value.isprintable()
    _require(good, name, f"text of at most {most} characters, none of them a control character")


def _list(value: Any, name: str) -> Sequence[Any]:
    good = isinstance(value, (list, tuple)) and len(value) <= MAX_ENTRIES
    _require(good, name, f"a list of at most {MAX_ENTRIES}")
    return value


def _digest(value: Any, name: str) -> None:
    _require(isinstance(value, str) and bool(DIGEST.fullmatch(value)), name, "a sha256 of 64 hexadecimal digits")


def _clean(text: str) -> str:
    """A name as a Provenance takes it: no control characters (bidirectional ones among them), not too long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"


@dataclass(frozen=True)
class TrainedFilm:
    """The film that weights were trained on: Film's name, fingerprint, gap, fps and drive_ids; frames, how many.
    Raises RoadtripError on a value of another type or out of its range."""

    name: str
    fingerprint: str
    gap: int
    fps: float | None = None
    frames: int = 0
    drive_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _text(self.name, "film.name")
        _digest(self.fingerprint, "film.fingerprint")
        _count(self.gap, "film.gap", 1)
        fps = self.fps is None or (type(self.fps) in (int, float) and 0 < self.fps <= MAX_COUNT)
        _require(fps, "film.fps", "a number above zero, or null")
        _count(self.frames, "film.frames")
        for drive_id in _list(self.drive_ids, "film.drive_ids"):
            _digest(drive_id, "film.drive_ids")
        object.__setattr__(self, "drive_ids", tuple(self.drive_ids))


@dataclass(frozen=True)
class Start:
    """The weights that a training began from: what they were called, their sha256 (see `digest`), and the drive_ids of
    film that they had seen. Raises RoadtripError as TrainedFilm does."""

    name: str
    digest: str
    drive_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _text(self.name, "start.name")
        _digest(self.digest, "start.digest")
        for drive_id in _list(self.drive_ids, "start.drive_ids"):
            _digest(drive_id, "start.drive_ids")
        object.__setattr__(self, "drive_ids", tuple(self.drive_ids))

    @classmethod
    def of(cls, model: NextFrame, name: str | None = None) -> Start:
        """name: None is that of the recipe they were trained by."""
        known: Provenance | None = model.provenance
        name = name or (f"{known.recipe.name}, seed {known.seed}, {known.step} steps" if known else "weights")
        seen = known.film.drive_ids + (known.start.drive_ids if known.start else ()) if known else ()
        return cls(_clean(name), digest(model), tuple(dict.fromkeys(seen)))


def digest(model: NextFrame) -> str:
    """A sha256 of the weights, in hexadecimal: the same for the same bits, wherever they lie."""
    found = hashlib.sha256()
    for name, value in _plain(model.state_dict()).items():
        found.update(f"{name} {value.dtype} {[*value.shape]}".encode())
        found.update(value.numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Provenance:
    """Where weights come from. Raises RoadtripError on a value of another type or out of its range: it may be read from
    a stranger's file, and its values end up in file names, scripts and pages.

    recipe: the Recipe they were trained by. film: what they were trained on. seed: 0 … 2³¹ − 1, of weights, clips and
    augmentation. step: training steps taken. steps: planned, at least `step`; None where training stopped before its
    seconds had become steps. held_out: the share of each drive that was not trained on, 0 … 0.9. dtype, device: of the
    convolutions and their device's type. versions: see `versions()`. resumed_at: (step, planned steps) wherever
    training was stopped and gone on with later. start: the weights it began from; None for random ones.
    """

    recipe: Recipe
    film: TrainedFilm
    seed: int
    step: int = 0
    steps: int | None = None
    held_out: float = 0.2
    dtype: str = "float32"
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    resumed_at: tuple[tuple[int, int | None], ...] = ()
    start: Start | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.recipe, Recipe), "recipe", "a recipe")
        _text(self.recipe.name, "recipe.name")
        _require(isinstance(self.film, TrainedFilm), "film", "what was trained on")
        _count(self.seed, "seed", 0, 2**31 - 1)
        _count(self.step, "step")
        if self.steps is not None:
            _count(self.steps, "steps", self.step)
        share = type(self.held_out) in (int, float) and 0 <= self.held_out <= 0.9
        _require(share, "held_out", "a share from 0 to 0.9")
        _require(self.dtype in ("float32", "bfloat16"), "dtype", "float32 or bfloat16")
        device = isinstance(self.device, str) and re.fullmatch("[a-z]{1,16}", self.device)
        _require(bool(device), "device", "a type of device, as cpu or cuda")
        _require(isinstance(self.versions, dict) and len(self.versions) <= 16, "versions", "a few texts by name")
        for text in (*self.versions, *self.versions.values()):
            _text(text, "versions", 60)
        for stop in _list(self.resumed_at, "resumed_at"):
            _require(len(_list(stop, "resumed_at")) == 2, "resumed_at", "pairs of step and plan")
            for n in stop if stop[1] is not None else stop[:1]:
                _count(n, "resumed_at")
        object.__setattr__(self, "resumed_at", tuple(map(tuple, self.resumed_at)))
        _require(isinstance(self.start, Start | None), "start", "the weights it began from, or null")

    def seen(self, film: Film) -> tuple[Sequence[str], float]:
        """What Film.unseen_starts takes: ids of the drives that these weights or those they began from were trained on,
        and the share held out of each. Older
        weights do not say which drives; where the fingerprint is this film's, they are its own."""
        same = self.film.fingerprint == film.fingerprint
        own = self.film.drive_ids or (film.drive_ids if same else ())
        return own + (self.start.drive_ids if self.start else ()), self.held_out

    def trained_on(self, film: Film) -> bool:
        """Whether a drive of this film was trained on, in whatever size and at whatever gap."""
        return not set(self.seen(film)[0]).isdisjoint(film.drive_ids)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; from_dict takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Provenance:
        """Raises RoadtripError where to_dict can't have given these values; missing ones get their defaults, if any."""
        values = _known(values, cls, "provenance")
        film = _known(values["film"], TrainedFilm, "provenance's film")
        recipe = _known(values["recipe"], Recipe, "provenance's recipe")
        for name, value in recipe.items():  # Recipe's sentences repeat what they refuse
            if isinstance(value, str):
                _text(value, f"recipe.{name}")
            else:
                small = isinstance(value, (int, float)) and abs(value) <= MAX_COUNT
                _require(small, f"recipe.{name}", "a number, or text")
        start = values.get("start")
        start = None if start is None else Start(**_known(start, Start, "provenance's start"))
        return cls(**values | {"film": TrainedFilm(**film), "recipe": Recipe.from_dict(recipe), "start": start})


def _known(values: Any, cls: Any, name: str) -> dict[str, Any]:
    """The values, if they are a dict of cls's fields, those without a default among them."""
    if not isinstance(values, dict):
        raise RoadtripError(f"The {name} should be values by name; use a checkpoint that Roadtrip saved.")
    missing = [f.name for f in fields(cls) if f.default is f.default_factory and f.name not in values]
    if missing or values.keys() - {f.name for f in fields(cls)}:
        what = f"lacks {missing[0]}" if missing else "has a field that this version does not know"
        raise RoadtripError(f"The {name} {what}; use a checkpoint that Roadtrip saved.")
    return values


def new_provenance(recipe: Recipe, film: Film, seed: int, held_out: float, dtype: str, device: str) -> Provenance:
    """Of a training that begins here and now."""
    recipe = replace(recipe, name=_clean(recipe.name))
    trained = TrainedFilm(_clean(film.name), film.fingerprint, film.gap, film.fps, len(film.frames), film.drive_ids)
    return Provenance(recipe, trained, int(seed), 0, None, float(held_out), dtype, device, versions())


def versions() -> dict[str, str]:
    """What a run was made with. cpu: the widest vectors that torch uses here ("AVX2", "AVX512", …), with which the
    order of sums changes, and so the bits of a run on a CPU."""
    facts = {"roadtrip": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    return facts | {"cpu": torch.backends.cpu.get_cpu_capability()}


# --- files -------------------------------------------------------------------------------------------------------------


class Resumable(Protocol):
    """A training that can be saved: train.Progress."""

    @property
    def model(self) -> NextFrame: ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...


def save(path: str | Path, run: NextFrame | Resumable, resumable: bool = False, half: bool = False) -> Path:
    """Writes a checkpoint folder, each of its files whole or not at all.

    Args:
        path: the folder; made if it isn't there, files in it that aren't a checkpoint's stay as they are. A train-state
            goes that belongs to what is written over: resuming it would be another run than the weights beside it.
        run: a model, or the Progress of a training.
        resumable: write train-state.safetensors too (optimisers, discriminator, EMA, random states); needs a Progress.
        half: store the weights as float16, half as large; `load` gives float32 all the same.
    Returns: the folder. Raises RoadtripError where it cannot be written.
    """
    path = Path(path)
    model = run if isinstance(run, NextFrame) else run.model
    config = model.architecture | {"provenance": model.provenance and model.provenance.to_dict()}
    with whole_file(path / MODEL) as file:
        # the config travels inside the weights too: one uploaded file is enough
        weights = _plain(model.state_dict())
        if half:
            weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        # one entry alone: several are written in no order of their own, and equal runs would give unequal files
        save_file(weights, file, metadata={"config": json.dumps(config)})
    with whole_file(path / CONFIG) as file:
        file.write_text(json.dumps(config, indent=1))
    if not resumable:
        (path / STATE).unlink(missing_ok=True)
    elif isinstance(run, NextFrame):
        raise RoadtripError("A model alone can't be resumed; save the progress that training yielded.")
    else:
        tensors, facts = run.state()
        with whole_file(path / STATE) as file:
            save_file(_plain(tensors), file, metadata={"facts": json.dumps(facts)})
    return path


def save_or_keep(path: str | Path, run: NextFrame | Resumable, resumable: bool = False) -> None:
    """Saves what was trained; where `path` can't be written any more, in the cache, and raises RoadtripError which says
    where."""
    try:
        save(path, run, resumable)
    except RoadtripError as error:
        place = Path(path).absolute()
        place = cache_folder() / "kept" / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
        try:
            kept = f"what was trained is kept in {save(place, run, resumable)}"
        except RoadtripError:
            kept = f"nor is there room for what was trained in {place}"
        raise RoadtripError(f"{str(error).partition(';')[0]}; {kept}.") from None


def load(path: str | Path, device: str | torch.device = "cpu") -> NextFrame:
    """The model of a checkpoint, its `provenance` filled, without gradients.

    path: a folder or a model.safetensors file; or else, as text, the name of one that ships ("v4"), or of a model on the
        Hugging Face Hub ("user/name"), which is downloaded once and kept.
    Raises RoadtripError for what is not there, not safetensors (a pickle, say), too large, or does not fit its config.
    """
    file = _find(path)
    if file.is_file() and file.stat().st_size > MAX_BYTES:
        raise RoadtripError(f"{file.name} is larger than {MAX_BYTES // 2**20} MB; no network of Roadtrip's is.")
    tensors, metadata = _read(file)
    try:
        config = json.loads(metadata["config"] if "config" in metadata else (file.parent / CONFIG).read_text())
    except (OSError, ValueError, RecursionError):
        raise RoadtripError(
            f"{file.name} says nothing of the network it belongs to; use a checkpoint that Roadtrip saved."
        ) from None
    architecture, known = _checked(config, file.name)
    with torch.device("meta"):
        model = NextFrame(**architecture)
    tensors = {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
    expected = {k: (v.shape, v.dtype) for k, v in model.state_dict().items()}
    if expected != {k: (v.shape, v.dtype) for k, v in tensors.items()}:
        raise RoadtripError(
            f"The weights in {file.name} don't fit the network its config names; the checkpoint is damaged."
        )
    if not all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point()):
        raise RoadtripError(f"The weights in {file.name} hold NaN or infinity; use an earlier checkpoint.")
    model.load_state_dict(tensors, assign=True)
    model.provenance = known
    # the layout in which it was trained, and convolutions of a few frames are up to nine times faster on a CPU
    return model.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload]


def _find(path: str | Path) -> Path:
    """The file of weights that is meant; whether it is there is another question."""
    here = Path(path)
    if here.exists() or isinstance(path, Path):
        return here / MODEL if here.is_dir() else here
    if path in shipped_names():
        return SHIPPED / path / MODEL
    # runs/v1 where there is a folder runs is a mistake, and no model of a user called runs
    return hub_file(path) if HUB_NAME.fullmatch(path) and not here.parent.exists() else here


def shipped_names() -> list[str]:
    """The checkpoints that came with this installation, by name; `load` takes each."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{MODEL}"))


def hub_file(name: str, **how: Any) -> Path:
    """The weights' file of a model on the Hub ("user/name"), downloaded if it isn't yet; how: as hf_hub_download has it.
    Raises RoadtripError where the Hub has no such model for this user, or is out of reach."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, MODEL, library_name="roadtrip", library_version=VERSION, **how))
    except (LocalEntryNotFoundError, RuntimeError):  # the latter from the client's first versions, as they try again
        problem = "the Hub can't be reached, and nothing of that name was downloaded before"
    except HfHubHTTPError as error:
        problem = f"the Hub has no {MODEL} of that name that you may read (it answered {error.response.status_code})"
    except (HTTPError, OSError, ValueError) as error:
        problem = f"the Hub's answer could not be read ({type(error).__name__})"
    raise RoadtripError(f"There is no checkpoint at {name}: it is not a folder here, and {problem}.") from None


def read_provenance(folder: str | Path) -> Provenance | None:
    """Where the weights in a checkpoint folder come from, without reading them; None where they don't say. Raises
    RoadtripError for a config that is missing or damaged."""
    try:
        config = json.loads((Path(folder) / CONFIG).read_text())
    except (OSError, ValueError, RecursionError):
        raise RoadtripError(f"There is no readable {CONFIG} in {Path(folder).name}.") from None
    return _checked(config, CONFIG)[1]


def load_state(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `Progress.state()` gave, from a checkpoint folder. Raises RoadtripError where it was not saved resumable."""
    file = Path(path) / STATE
    if not file.exists():
        raise RoadtripError(
            f"{Path(path).name} has no {STATE}, so it can't be resumed; train again and save it resumable."
        )
    tensors, metadata = _read(file)
    try:
        facts = json.loads(metadata["facts"])
        if isinstance(facts, dict):
            return tensors, facts
    except (KeyError, ValueError, RecursionError):
        pass
    raise RoadtripError(f"{STATE} is damaged; start the training again.")


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU: safetensors takes neither other memory formats nor shared storage."""
    return {k: v.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for k, v in tensors.items()}


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not file.is_file():
        raise RoadtripError(
            f"There is no checkpoint at {file.parent.name}/{file.name}; give a folder that training wrote, or a name that "
            f"ships: {', '.join(shipped_names())}."
        )
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118 (it is no mapping)
            return tensors, opened.metadata() or {}
    except Exception:  # damaged headers raise nearly anything
        raise RoadtripError(
            f"{file.name} is not a safetensors file; pickled checkpoints are never opened, save it with roadtrip.save."
        ) from None


def _checked(config: Any, name: str) -> tuple[dict[str, Any], Provenance | None]:
    """The arguments of NextFrame that a config holds, each within its range, and its provenance, if it has any."""
    try:
        # older ones say nothing of them
        config = {"noise_conditioned": False, "anchored": False, "sampler": None, "provenance": None} | config
        for key, allowed in ARCHITECTURE.items():
            if type(config[key]) is not type(allowed[0]) or config[key] not in allowed:
                raise KeyError(key)
        height, width = config["size"]
        if not all(type(n) is int and 8 <= n <= 4096 and n % 8 == 0 for n in (height, width)):
            raise KeyError("size")
        sampler = config["sampler"] if config["sampler"] is None else Sampler(**config["sampler"])
        known = config["provenance"]
        if not isinstance(known, dict | None):
            raise KeyError("provenance")
    except (AttributeError, KeyError, TypeError, ValueError):
        if isinstance(config, dict) and "middle" in config:  # what the bottleneck was called at first
            raise RoadtripError(
                f"{name} was saved by an earlier Roadtrip, which named its parts otherwise; train it again."
            ) from None
        raise RoadtripError(
            f"The config in {name} does not describe a network of Roadtrip's; the checkpoint is damaged."
        ) from None
    architecture = {key: config[key] for key in ARCHITECTURE} | {"sampler": sampler, "size": (height, width)}
    return architecture, Provenance.from_dict(known) if known else None


# --- the Hub's way in and out is the same -------------------------------------------------------------------------------


def _from_pretrained(cls: type[NextFrame], *, model_id: str, map_location: str = "cpu", **how: Any) -> NextFrame:
    """A checkpoint as load checks it, but ready to be trained further, as others on the Hub are."""
    hub = {k: how[k] for k in ("revision", "cache_dir", "force_download", "token", "local_files_only")}
    folder = Path(model_id)
    file = folder / MODEL if folder.is_dir() else hub_file(model_id, **hub)
    return load(file, map_location).requires_grad_(True)


# set from here, as a network can't know the file that its weights come in; the mixin's own would write what a network
# was made with before it was trained, and open pickles
NextFrame._save_pretrained = lambda model, folder: save(folder, model)  # type: ignore
NextFrame._from_pretrained = classmethod(_from_pretrained)  # type: ignore[assignment]
