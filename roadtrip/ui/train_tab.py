"""Train: film, recipe, seconds, seed; losses and a held-out rollout while it learns. Stop keeps what was learned."""

from __future__ import annotations

import copy
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from ..checkpoint import save
from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import RECIPES, Recipe
from ..train import PREVIEW_FRAMES, train
from .charts import loss_curves
from .garage import ROAD, Garage, gpu, open_upload, real_after, told
from .player import chart, drawn, payload, player

STORY = {
    "v1": "g3 from f1 and f2, L1 loss. Learns fast, blurs when it drives on.",
    "v2": "v1, and one frame more on its own output.",
    "v3-pair": "v2 and a discriminator that judges two frames at once.",
    "v3-single": "v2 and a discriminator that judges one frame at a time.",
    "lstm": "v2 with a memory between encoder and decoder.",
}
LONGEST = 1800


@dataclass
class Look:
    """What a training shows from time to time; plain enough to come back from another process."""

    step: int
    steps: int | None
    losses: dict[str, float]
    speed: float
    left: float | None
    model: NextFrame
    preview: Tensor | None
    start: int


@gpu
def looks(recipe: Recipe, film: Film, seconds: float, seed: int) -> Iterator[Look]:
    for p in train(recipe, film, seconds=seconds, seed=seed):
        # on a borrowed GPU the weights live in another process, and only what is yielded comes back
        model = p.model if next(p.model.parameters()).device.type == "cpu" else copy.deepcopy(p.model).cpu()
        yield Look(p.step, p.steps, p.losses, p.steps_per_second, p.seconds_left, model, p.preview, p.preview_start)


def run(garage: Garage, film_name: str, recipe_name: str, seconds: float, seed: float) -> Iterator[tuple[Any, ...]]:
    """Yields (status, chart, player); the model is in the garage from the first look on."""
    with told():
        if recipe_name not in RECIPES:
            raise RoadtripError("Choose one of the five recipes.")
        recipe, film = RECIPES[recipe_name], garage.film(film_name)
        seconds, seed = min(float(seconds), LONGEST), int(seed)
        name = f"{recipe.name}, {film.name}, seed {seed} (yours)"
        curves: dict[str, list[tuple[int, float]]] = {}
        yield f"Getting ready: {recipe.name} on {film.name}, seed {seed} …", gr.skip(), gr.skip()
        for look in looks(recipe, film, seconds, seed):
            garage.keep(garage.models, name, look.model)
            for key, value in look.losses.items():
                curves.setdefault(key, []).append((look.step, value))
            steps = f" of {look.steps}" if look.steps else ""
            done = look.step == look.steps
            status = f"**{name}** · step {look.step}{steps} · {look.speed:.1f} steps/s"
            status += " · finished; it is in the menus of the other tabs." if done else f" · {look.left:.0f} s left"
            yield status, drawn(loss_curves(curves)), gr.skip() if look.preview is None else _preview(film, look)


def _preview(film: Film, look: Look) -> dict[str, Any]:
    assert look.preview is not None
    views = {"real": real_after(film, look.start, PREVIEW_FRAMES), f"generated, step {look.step}": look.preview}
    labels = [f"g{t + 3}" for t in range(PREVIEW_FRAMES)]
    return payload(views, labels, key=f"preview {look.start}", autoplay=True)


def upload(garage: Garage, files: list[str] | None, gap: str, progress: gr.Progress) -> tuple[Any, str]:
    with told():
        film = open_upload(files or [], gap, lambda done, total, note: progress((done, total), desc=note))
        garage.keep(garage.films, film.name, film)
        return gr.update(choices=garage.film_names(), value=film.name), film.describe().sentence()


def describe(garage: Garage, film_name: str) -> str:
    with told():
        return garage.film(film_name).describe().sentence()


def package(garage: Garage, film_name: str, recipe_name: str, seed: float) -> str:
    """The checkpoint of this recipe, film and seed as one zip."""
    with told():
        name = f"{recipe_name}, {garage.film(film_name).name}, seed {int(seed)} (yours)"
        if name not in garage.models:
            raise RoadtripError("There is nothing to download yet; train this recipe first.")
        out = Path(tempfile.mkdtemp())
        folder = save(out / f"{recipe_name}-seed{int(seed)}", garage.models[name])
        with zipfile.ZipFile(out / f"{folder.name}.zip", "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"{folder.name}/{file.name}")
        return str(out / f"{folder.name}.zip")


def build(garage: gr.State) -> list[Any]:
    """The tab; returns the events after which the other tabs' menus are out of date."""
    gr.Markdown(
        "Pick film and a version, and watch it learn. The film's last fifth is held out: the rollout below starts "
        "there, on road the network has never seen. *Teacher forcing* is the post's word for v2's second step on its "
        "own output; in the literature it is feeding the real previous frame, which is what v1 does."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            film = gr.Dropdown([ROAD], value=ROAD, label="Film", interactive=True)
            about = gr.Markdown(elem_classes="rt-note")
            with gr.Accordion("Your own film", open=False):
                files = gr.File(
                    label="Stills, a zip of stills, or a video",
                    file_count="multiple",
                    file_types=["image", "video", ".zip"],
                )
                gap = gr.Textbox(
                    label="Gap", placeholder="suggested", info='Frames between f1, f2, f3, or "0.5s" of video.'
                )
                use = gr.Button("Use this film")
            recipe = gr.Radio(
                [(f"{n}: {STORY.get(n, '')}", n) for n in RECIPES], value="v1", label="Recipe", elem_id="rt-recipe"
            )
            with gr.Row():
                seconds = gr.Number(60, label="Seconds", minimum=1, maximum=LONGEST, elem_id="rt-seconds")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="rt-start")
                stop = gr.Button("Stop", elem_id="rt-stop")
            fetch = gr.DownloadButton("Make the checkpoint ready to download", size="sm")
        with gr.Column(scale=3, min_width=320):
            status = gr.Markdown("Nothing is training.", elem_id="rt-status")
            show = player("rt-train-player")
            gr.Markdown(
                "What you see: a rollout from held-out film, real beside generated; it is remade every few seconds "
                "while the network learns.",
                elem_classes="rt-note",
            )
            losses = chart("rt-losses")
            gr.Markdown(
                "Losses over training steps. L1 is summed over the unrolled frames; generator and discriminator are the "
                "two sides of the GAN loss.",
                elem_classes="rt-note",
            )
    training = start.click(
        run,
        [garage, film, recipe, seconds, seed],
        [status, losses, show],
        concurrency_id="train",
        concurrency_limit=1,
        show_progress="hidden",
        api_name="train",
    )
    stopping = stop.click(
        lambda text: text.split(" · finished")[0] + " · stopped; what it learned is in the menus of the other tabs.",
        status,
        status,
        cancels=[training],
        api_visibility="private",
    )
    taken = use.click(_upload_with_progress, [garage, files, gap], [film, about], api_name="upload")
    film.change(describe, [garage, film], about, show_progress="hidden", api_visibility="private")
    fetch.click(package, [garage, film, recipe, seed], fetch, api_name="checkpoint")
    return [training, stopping, taken]


def _upload_with_progress(
    garage: Garage,
    files: list[str] | None,
    gap: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[Any, str]:
    return upload(garage, files, gap, progress)
