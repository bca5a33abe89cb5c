"""A model to the Hugging Face Hub: its folder, a model card written from what is known and measured, and a moving picture.

Independent of how a model is trained and of any UI; `checkpoint.load` and `NextFrame.from_pretrained` are the way back.
"""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from .atomic import whole_file
from .checkpoint import HUB_NAME, Provenance, save
from .errors import RoadtripError
from .evaluation import HORIZON, METHODS, Evaluation, evaluate
from .export import write
from .film import Film
from .frames import as_float
from .model import NextFrame
from .oscillation import Oscillation
from .recipes import Recipe
from .rollout import rollout

CARD, MOVING = "README.md", "rollout.webp"
SHOWN = (1, 4, 16, HORIZON)  # frames ahead whose errors stand in the card
MOST_STARTS = 32  # held-out starts whose errors are averaged
MOVING_FPS = 8


def push_to_hub(
    model: NextFrame,
    name: str,
    film: Film | None = None,
    *,
    private: bool = False,
    token: str | None = None,
    license: str | None = None,
) -> str:
    """Uploads what `write_folder` writes to the model "user/name" on the Hub, which is made if it isn't there.

    film: to measure on and to show, best the one that was trained on: pictures of its held-out road become public with
        the model, unless that is private. None measures and shows nothing.
    token: of a Hub account; None takes the one that `hf auth login` has kept.
    license: of the weights, as the Hub abbreviates it ("mit"); None says none.
    Returns: the model's address. Raises RoadtripError for another kind of name, and where the Hub refuses or can't be
        reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # of httpx or httpx2, as the version has it

    if not HUB_NAME.fullmatch(name):
        raise RoadtripError(f"{name!r} can't be a model's name on the Hub; write it as user/name.")
    hub = HfApi(token=token, library_name="roadtrip")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, model, film, name=name, license=license)
        try:
            hub.create_repo(name, private=private, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Upload {name.partition('/')[2]}")
        except (HTTPError, OSError, ValueError) as error:
            response = getattr(error, "response", None)
            why = "'s answer can't be read" if isinstance(error, ValueError) else " can't be reached"
            why = f" answered {response.status_code}" if response is not None else why
            raise RoadtripError(
                f"{name} was not uploaded: the Hub{why}. Check the name, your token and the connection."
            ) from None
    return f"{hub.endpoint}/{name}"


def write_folder(
    folder: str | Path,
    model: NextFrame,
    film: Film | None = None,
    *,
    name: str | None = None,
    license: str | None = None,
) -> Path:
    """Writes a checkpoint folder as the Hub shows it: `checkpoint.save`'s files, the model card README.md, and with a film
    rollout.webp, in which real film and the rollout stand side by side. Raises RoadtripError where the film has no
    held-out clip to measure on, or the folder can't be written."""
    folder = save(folder, model)
    measured = None
    if film is not None:
        held_out = model.provenance.held_out if model.provenance else 0.2
        measured = evaluate(model, film, HORIZON, held_out=held_out, most=MOST_STARTS)
        _write_moving(folder / MOVING, model, film, held_out)
    with whole_file(folder / CARD) as file:
        file.write_text(card(model, measured, film, name, license), encoding="utf-8")
    return folder


def _write_moving(path: Path, model: NextFrame, film: Film, held_out: float) -> None:
    """From the first held-out start that has the most real film ahead, at most HORIZON frames."""
    n = next(n for n in (HORIZON + 2, 18, 3) if len(film.starts(n, "held_out", held_out)))
    clip = as_float(film.clips(film.starts(n, "held_out", held_out)[:1], n))
    made = rollout(model, clip[:, 0], clip[:, 1], n - 2)[0].cpu()
    write(path, torch.cat([clip[0, 2:], made], dim=-1), fps=MOVING_FPS, scale=2, quality=80)


def card(
    model: NextFrame,
    measured: Evaluation | None = None,
    film: Film | None = None,
    name: str | None = None,
    license: str | None = None,
) -> str:
    """The model card, Markdown with front matter: what the model is, how it was trained, what was measured on which film,
    what it is for and where it ends. name: on the Hub, or None while it has none."""
    known: Provenance | None = model.provenance
    tags = ["roadtrip", "video-prediction", "next-frame-prediction", "rollout"]
    data = ModelCardData(library_name="roadtrip", license=license, tags=tags, pipeline_tag="image-to-video")
    title = f"Roadtrip {known.recipe.name}" if known else "A network of Roadtrip's"
    parts = ["---", data.to_yaml(), "---", "", f"# {_code(title) if known else title}", ""]
    parts += [
        "Two frames of a road trip go in, the next one comes out; fed its own output the network drives on. Made with",
        "Roadtrip, which asks why such rollouts blur, stop, or flip between two pictures.",
        "",
    ]
    if measured and film:
        parts += [
            f"![real film on the left, the rollout on the right]({MOVING})",
            "",
            f"Real film on the left, the rollout on the right, from the same two frames of {_code(film.name)}.",
            "",
        ]
    height, width = model.size
    parts += [
        "## Use",
        "",
        "```python",
        "import roadtrip as rt",
        "",
        f'model = rt.load("{name or "user/name"}")',
        'film = rt.open_film("PATH OF YOUR STILLS OR VIDEO", '
        f"size=({height}, {width}){f', gap={known.film.gap}' if known else ''})",
        'f1, f2 = film.clips(film.starts(2, "all")[:1], 2)[0]',
        'rt.write("drive.mp4", rt.rollout(model, f1, f2, 64))',
        "```",
        "",
        f"`rt.NextFrame.from_pretrained` gives the same weights ready to be trained on, and `rt.train(…, start=…)` begins "
        f"from them. Frames are RGB in [0, 1], {height}×{width} in training; any size divisible by 8 goes in.",
        "",
        "## Training",
        "",
        *(_training(known) if known else ["Nothing is known of it: the weights carry no provenance."]),
        "",
        "## Measured",
        "",
        *(_table(measured, film) if measured and film else ["Nothing was measured when this card was written."]),
        "",
        "## Intended use and limits",
        "",
        "For studying what a network's own output does to it, for teaching, and for pictures. The frames are invented:",
        "they say nothing of what lies ahead on any road. Not for driving, nor for any decision in traffic.",
        "",
        "- One film, one seed: another seed may end otherwise, and film of another kind is another task.",
        "- Errors grow with every frame of a rollout; past real film there is nothing to compare it with.",
        "- People, plates and signs that were in the training film may be recognisable in what it generates.",
        "",
    ]
    return "\n".join(parts)


def _code(text: str) -> str:
    """Text of a stranger's as Markdown shows it, character by character."""
    return f"`{text.replace('`', chr(39))}`"


def _training(known: Provenance) -> list[str]:
    film = known.film
    plain = Recipe()
    changed = [f.name for f in fields(Recipe) if f.name != "name"]
    values = [f"{n}={getattr(known.recipe, n)}" for n in changed if getattr(known.recipe, n) != getattr(plain, n)]
    rate = f" at {film.fps:g} frames a second" if film.fps else ""
    drives = f", {len(film.drive_ids)} drives" if film.drive_ids else ""
    facts = {
        "recipe": f"{_code(known.recipe.name)}: {' '.join(values) or 'every field as it is by default'}",
        "film": f"{_code(film.name)}, {film.frames} frames{rate}, gap {film.gap}{drives}",
        "fingerprint": _code(film.fingerprint),
        "held out": f"the last {known.held_out:.0%} of each drive",
        "steps": f"{known.step}" + (f", of {known.steps} planned" if known.steps not in (None, known.step) else ""),
        "seed": f"{known.seed}",
        "arithmetic": f"{known.dtype} on {known.device}",
        "versions": _code(", ".join(f"{k} {v}" for k, v in known.versions.items())),
    }
    if known.start:
        facts["began from"] = f"{_code(known.start.name)}, sha256 {known.start.digest[:16]}…"
    if known.resumed_at:
        facts["gone on with"] = ", ".join(f"at step {step}" for step, _ in known.resumed_at)
    return ["| | |", "|---|---|", *(f"| {k} | {v.replace('|', '&#124;')} |" for k, v in facts.items())]


def _table(measured: Evaluation, film: Film) -> list[str]:
    """Errors beside the baselines, and what the oscillation's measures say."""
    there = [h for h in SHOWN if h <= measured.horizon and measured.psnr["model"][h - 1] is not None]
    lines = [
        f"On held-out film of {_code(film.name)} (gap {film.gap}), PSNR in dB, higher is closer; means over "
        f"{measured.n_starts} starts.",
        "",
        "| frames ahead | " + " | ".join(map(str, there)) + " |",
        "|---|" + "---|" * len(there),
    ]
    for method in METHODS:
        values = [measured.psnr[method][h - 1] for h in there]
        row = " | ".join("–" if v is None else f"{v:.2f}" for v in values)
        lines.append(f"| {method.replace('_', ' ')} | {row} |")
    lost = [h for h in there if (measured.psnr["model"][h - 1] or 0.0) <= (measured.best_baseline(h) or ("", 0.0))[1]]
    if lost:
        lines += ["", f"A baseline that needs no network is closer at {', '.join(map(str, lost))} frames ahead."]
    return lines + (_verdict(measured.oscillation) if measured.oscillation else [])


def _verdict(o: Oscillation) -> list[str]:
    def said(value: Any) -> str:
        return "undefined" if value is None else f"{value:.2f}"

    return [
        "",
        f"Frames {HORIZON - o.frames + 1}–{HORIZON} of the rollouts: **{o.verdict}**. R {said(o.return_ratio)} (real film "
        f"{said(o.real.return_ratio)}; near 0 in a two-cycle), N {said(o.nyquist_excess)} (real film "
        f"{said(o.real.nyquist_excess)}), S {said(o.step_ratio)} (step size over real film's).",
    ]


# what the mixin's own save_pretrained and push_to_hub write
NextFrame.generate_model_card = lambda model, *_, **__: ModelCard(card(model))  # type: ignore[method-assign]
