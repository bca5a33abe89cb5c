"""A run on disk: model.safetensors (one generator), config.json beside it and inside it, and, where resuming is
wanted, train-state.safetensors. No pickle anywhere; everything is checked before a network is built.

Knows the network and plain tensors; knows nothing of how they were trained.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import whole_file
from .errors import RoadtripError
from .model import BOTTLENECKS, OUTPUTS, NextFrame
from .version import VERSION

if TYPE_CHECKING:
    from .train import Progress

MODEL, CONFIG, STATE = "model.safetensors", "config.json", "train-state.safetensors"
LARGEST = 256 * 2**20  # bytes of a weights file that is read at all
ARCHITECTURE: dict[str, tuple[Any, ...] | range] = {
    "width": range(8, 257),
    "depth": range(0, 17),
    "bottleneck": tuple(BOTTLENECKS),
    "output": OUTPUTS,
    "noise_conditioned": (False, True),
}


def versions() -> dict[str, str]:
    """What a run was made with. cpu: the widest vectors that torch uses here ("AVX2", "AVX512", …), with which the
    order of sums changes, and so the bits of a run on a CPU."""
    facts = {"roadtrip": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    return facts | {"cpu": torch.backends.cpu.get_cpu_capability()}


def save(path: str | Path, run: NextFrame | Progress, resumable: bool = False) -> Path:
    """Writes a checkpoint folder, each of its files whole or not at all.

    Args:
        path: the folder; made if it isn't there. A checkpoint in it is replaced, other files stay as they are.
        run: a model, or the Progress of a training.
        resumable: write train-state.safetensors too (optimisers, discriminator, EMA, random states); needs a Progress.
    Returns: the folder. Raises RoadtripError where it cannot be written.
    """
    path = Path(path)
    model = run if isinstance(run, NextFrame) else run.model
    config = model.architecture | {"provenance": model.provenance}
    text = json.dumps(config, indent=1)
    with whole_file(path / MODEL) as file:
        # the config travels inside the weights too: one uploaded file is enough
        save_file(_plain(model.state_dict()), file, metadata={"format": "pt", "config": json.dumps(config)})
    with whole_file(path / CONFIG) as file:
        file.write_text(text)
    if resumable:
        if isinstance(run, NextFrame):
            raise RoadtripError("A model alone can't be resumed; save the progress that training yielded.")
        tensors, facts = run.state()
        with whole_file(path / STATE) as file:
            save_file(_plain(tensors), file, metadata={"facts": json.dumps(facts)})
    else:
        (path / STATE).unlink(missing_ok=True)  # of an older run: to resume it beside this model would go unnoticed
    return path


def load(path: str | Path, device: str | torch.device = "cpu") -> NextFrame:
    """The model of a checkpoint folder or of a model.safetensors file, its `provenance` filled.

    Raises RoadtripError for what is not there, not safetensors (a pickle, say), too large, or does not fit its config.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    tensors, metadata = _read(file)
    try:
        config = json.loads(metadata["config"] if "config" in metadata else (file.parent / CONFIG).read_text())
    except (OSError, ValueError):
        raise RoadtripError(
            f"{file.name} says nothing of the network it belongs to; use a checkpoint that Roadtrip saved."
        ) from None
    checked = _checked(config, file.name)
    with torch.device("meta"):
        model = NextFrame(**checked)
    expected = {k: (v.shape, v.dtype) for k, v in model.state_dict().items()}
    if expected != {k: (v.shape, v.dtype) for k, v in tensors.items()}:
        raise RoadtripError(
            f"The weights in {file.name} don't fit the network its config names; the checkpoint is damaged."
        )
    if not all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point()):
        raise RoadtripError(f"The weights in {file.name} hold NaN or infinity; use an earlier checkpoint.")
    model.load_state_dict(tensors, assign=True)
    return model.to(device).requires_grad_(False).eval()


def load_state(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `Progress.state()` gave, from a checkpoint folder. Raises RoadtripError where it was not saved resumable."""
    file = Path(path) / STATE
    if not file.exists():
        raise RoadtripError(
            f"{Path(path).name} has no {STATE}, so it can't be resumed; train again and save it resumable."
        )
    tensors, metadata = _read(file)
    try:
        return tensors, json.loads(metadata["facts"])
    except (KeyError, ValueError):
        raise RoadtripError(f"{STATE} is damaged; start the training again.") from None


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU: safetensors takes neither other memory formats nor shared storage."""
    return {k: v.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for k, v in tensors.items()}


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not file.is_file():
        raise RoadtripError(
            f"There is no checkpoint at {file.parent.name}/{file.name}; give a folder that training wrote."
        )
    if file.stat().st_size > LARGEST:
        raise RoadtripError(f"{file.name} is larger than {LARGEST // 2**20} MB; no network of Roadtrip's is.")
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118 (it is no mapping)
            return tensors, opened.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        raise RoadtripError(
            f"{file.name} is not a safetensors file; pickled checkpoints are never opened, save it with roadtrip.save."
        ) from None


def _checked(config: Any, name: str) -> dict[str, Any]:
    """The arguments of NextFrame that a config holds, each within its range."""
    try:
        config = {"noise_conditioned": False} | config  # older ones say nothing of it
        for key, allowed in ARCHITECTURE.items():
            if type(config[key]) is not type(allowed[0]) or config[key] not in allowed:
                raise KeyError(key)
        height, width = config["size"]
        if not all(type(n) is int and 8 <= n <= 4096 and n % 8 == 0 for n in (height, width)):
            raise KeyError("size")
        provenance = config["provenance"]
        if not all(isinstance(part, dict) for part in (provenance, *map(provenance.get, ("film", "recipe"), ({}, {})))):
            raise KeyError("provenance")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise RoadtripError(
            f"The config in {name} does not describe a network of Roadtrip's; the checkpoint is damaged."
        ) from None
    return {key: config[key] for key in ARCHITECTURE} | {"size": (height, width), "provenance": config["provenance"]}
