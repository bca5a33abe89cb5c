"""Train: film, recipe, seconds, seed; losses and a held-out rollout while it learns. Stop keeps what was learned.

Only generators can be stopped, so a training is one; it knows nothing of the other tabs.
"""

from __future__ import annotations

import copy
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from ..checkpoint import save
from ..errors import RoadtripError
from ..film import Film
from ..model import NextFrame
from ..recipes import RECIPES, Recipe
from ..train import PREVIEW_FRAMES, Progress, train
from .charts import loss_curves
from .garage import ROAD, Garage, gpu, number, open_upload, plain, real_after, told
from .player import chart, download, drawn, payload, player

STORY = {
    "v1": "g3 from f1 and f2, L1 loss. Learns fast, blurs when it drives on.",
    "v2": "v1, and one frame more on its own output.",
    "v3-pair": "v2 and a discriminator that judges two frames at once.",
    "v3-single": "v2 and a discriminator that judges one frame at a time.",
    "lstm": "v2 with a memory between encoder and decoder.",
}
LONGEST = 1800
IDLE, READY = "Nothing is training.", "Getting ready …"
WAITING = "Waiting: another training is under way on this server, and there is one at a time."
KEPT = "in the menus of the other tabs"
training_now: set[object] = set()  # trainings under way on this server; there is one at a time, the others wait


@dataclass
class Training:
    """A run that a visitor began, and where it stands. name: what its model is called in the garage."""

    title: str
    yours: str
    recipe: Recipe
    film: Film
    seed: int
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    name: str | None = None
    progress: Progress | None = None


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
    progress: Progress | None  # to go on from; not from another process


@gpu(lambda recipe, film, seconds, seed, resume: round(seconds) + 30)
def looks(recipe: Recipe, film: Film, seconds: float, seed: int, resume: Progress | None) -> Iterator[Look]:
    for p in train(recipe, film, seconds=seconds, seed=seed, resume=resume):
        # on a borrowed GPU the weights live in another process, and only what is yielded comes back
        here = next(p.model.parameters()).device.type == "cpu"
        model = p.model if here else copy.deepcopy(p.model).cpu()
        yield Look(
            p.step,
            p.steps,
            p.losses,
            p.steps_per_second,
            p.seconds_left,
            model,
            p.preview,
            p.preview_start,
            p if here else None,
        )


def run(garage: Garage, film_name: str, recipe_name: str, seconds: float, seed: float) -> Iterator[tuple[Any, ...]]:
    """Yields (status, chart, player); the model is in the garage from the first look on, whenever this is closed."""
    yield from _told(garage, lambda: _begun(garage, film_name, recipe_name, seed), seconds)


def resume(garage: Garage, seconds: float) -> Iterator[tuple[Any, ...]]:
    """Goes on with the run that was trained last, for `seconds` more; yields what `run` does."""
    yield from _told(garage, lambda: _last(garage), seconds)


def _told(garage: Garage, training: Callable[[], Training], seconds: float) -> Iterator[tuple[Any, ...]]:
    me = object()
    training_now.add(me)
    garage.training, garage.learned = True, False
    try:
        with told():
            try:
                seconds = min(number(seconds, "how many seconds to train"), LONGEST)
                yield READY, gr.skip(), gr.skip()
                garage.unfinished = training()
                yield from _run(garage, garage.unfinished, seconds)
            except RoadtripError as error:
                yield plain(str(error)), gr.skip(), gr.skip()  # it stays on the page when the message has gone
                raise
    finally:
        training_now.discard(me)
        garage.training = False


def _begun(garage: Garage, film_name: str, recipe_name: str, seed: float) -> Training:
    if recipe_name not in RECIPES:
        raise RoadtripError("Choose one of the five recipes.")
    seed = int(number(seed, "the seed"))
    recipe, film = RECIPES[recipe_name], garage.film(film_name)
    garage.runs += 1
    yours = "(yours)" if garage.runs == 1 else f"(yours, no. {garage.runs})"
    title = f"{recipe.name}, {'' if film_name == ROAD else film.name + ', '}seed {seed}"
    return Training(title, yours, recipe, film, seed)


def _last(garage: Garage) -> Training:
    last = garage.unfinished
    if last is None or last.progress is None:
        raise RoadtripError("There is no run here to go on with; start one first.")
    return last


def _run(garage: Garage, training: Training, seconds: float) -> Iterator[tuple[Any, ...]]:
    how = training.recipe, training.film, seconds, training.seed, training.progress
    with closing(looks(*how)) as stream:  # type: ignore[type-var]
        for look in stream:
            name = f"{training.title}, {look.step} steps {training.yours}"
            garage.keep_model(name, look.model, instead_of=training.name)
            training.name, training.progress = name, look.progress
            for key, value in look.losses.items():
                training.curves.setdefault(key, []).append((look.step, value))
            shown = gr.skip() if look.preview is None else _preview(training.film, look)
            yield _status(training.title, look), drawn(loss_curves(training.curves)), shown


def _status(title: str, look: Look) -> str:
    text = (
        f"**{plain(title)}** · step {look.step}{f' of {look.steps}' if look.steps else ''} · {look.speed:.1f} steps/s"
    )
    if look.step == look.steps:
        return f"{text} · finished; it is {KEPT}."
    return text if look.left is None else f"{text} · {look.left:.0f} s left"


def queued() -> str:
    """What the page says from the click until the training begins."""
    return WAITING if training_now else READY


def stopped(garage: Garage, status: str) -> str:
    """What the page says after Stop, from what it said before."""
    patience = time.monotonic() + 10
    while garage.training and time.monotonic() < patience:  # a step under way is finished, and counts
        time.sleep(0.05)
    if garage.newest and (" s left" in status or (status == READY and garage.learned)):
        return f"Stopped; what it learned was kept: **{plain(garage.newest)}**, {KEPT}."
    return "Stopped before the first step; nothing was learned." if status in (READY, WAITING) else status


def _preview(film: Film, look: Look) -> dict[str, Any]:
    assert look.preview is not None
    views = {"real": real_after(film, look.start, PREVIEW_FRAMES), f"generated, step {look.step}": look.preview}
    labels = [f"g{t + 3}" for t in range(PREVIEW_FRAMES)]
    return payload(views, labels, key=f"preview {look.start}", autoplay=True)


def upload(garage: Garage, files: list[str] | None, gap: str, progress: gr.Progress) -> tuple[Any, str]:
    with told():
        film = open_upload(files or [], gap, lambda done, total, note: progress((done, total), desc=note))
        garage.keep_film(film)
        return gr.update(choices=garage.film_names(), value=film.name), plain(film.describe().sentence())


def describe(garage: Garage, film_name: str) -> str:
    with told():
        return plain(garage.film(film_name).describe().sentence())


def package(garage: Garage) -> str:
    """What was trained last as one zip: the checkpoint, its losses, and a script that trains it again."""
    with told():
        model = garage.models.get(garage.newest or "")
        if model is None:
            raise RoadtripError("There is nothing to download yet; train a recipe first.")
        facts = model.provenance
        name = f"roadtrip-{facts['recipe']['name']}-seed{facts['seed']}-step{facts['step']}"
        folder = save(garage.outbox() / name, model)
        file = folder.with_suffix(".zip")
        with zipfile.ZipFile(file, "w") as archive:
            for part in sorted(folder.iterdir()):
                archive.write(part, f"{name}/{part.name}")
            if garage.unfinished is not None and garage.unfinished.name == garage.newest:
                archive.writestr(f"{name}/losses.csv", _as_csv(garage.unfinished.curves))
            archive.writestr(f"{name}/again.py", _again(facts, tuple(model.mean_frame.shape[1:])))
        return str(file)


def _as_csv(curves: dict[str, list[tuple[int, float]]]) -> str:
    steps = [step for step, _ in next(iter(curves.values()), [])]
    lines = [[str(step), *(f"{points[i][1]:.6g}" for points in curves.values())] for i, step in enumerate(steps)]
    return "\n".join(",".join(line) for line in [["step", *curves], *lines]) + "\n"


def _again(facts: dict[str, Any], size: tuple[int, ...]) -> str:
    """A script that repeats a run that was not resumed: the same film, steps and seed give the same weights."""
    film, recipe, done = facts["film"], facts["recipe"], facts["step"]
    planned = facts.get("steps") or done
    stopped = f"  # it was stopped at step {done}" if done < planned else ""
    source = "scenery" if film["name"] == "scenery" else "YOUR FILM"
    return (
        "import roadtrip as rt\n\n"
        f"film = rt.open_film({source!r}, size={size}, gap={film['gap']})"
        f"  # its fingerprint was {film['fingerprint']}\n"
        f"recipe = rt.Recipe(**{recipe!r})\n"
        f"for p in rt.train(recipe, film, steps={planned}, seed={facts['seed']}, held_out={facts['held_out']}):{stopped}\n"
        "    print(p.step, p.losses)\n"
        'rt.save("run", p)\n'
    )


class Tab(NamedTuple):
    film: gr.Dropdown
    recipe: gr.Radio
    seed: gr.Number
    about: gr.Markdown
    changes: list[Any]  # the events after which the other tabs' menus are out of date


def build(garage: gr.State) -> Tab:
    gr.Markdown(
        "Pick film and a version, and watch it learn. The film's last fifth is held out: the rollout below starts "
        "there, on road the network has never seen. *Teacher forcing* is the post's word for v2's second step on its "
        "own output; in the literature it is feeding the real previous frame, which is what v1 does."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            film = gr.Dropdown([ROAD], value=ROAD, label="Film")
            about = gr.Markdown(elem_classes="rt-note")
            with gr.Accordion("Your own film", open=False):
                files = gr.File(
                    label="Stills, a zip of stills, or a video",
                    file_count="multiple",
                    file_types=["image", "video", ".zip"],
                    height=180,  # hundreds of stills scroll in here, and Start stays in sight
                )
                gap = gr.Textbox(
                    label="Gap", placeholder="suggested", info='Frames between f1, f2, f3, or "0.5s" of video.'
                )
                use = gr.Button("Use this film")
            recipe = gr.Radio(
                [(f"{n}: {STORY.get(n, '')}", n) for n in RECIPES], value="v1", label="Recipe", elem_id="rt-recipe"
            )
            with gr.Row():
                seconds = gr.Number(
                    60,
                    label="Seconds",
                    info="A minute shows something, five show more.",
                    minimum=1,
                    maximum=LONGEST,
                    elem_id="rt-seconds",
                )
                seed = gr.Number(
                    0,
                    label="Seed",
                    info="The same seed, the same weights and clips.",
                    precision=0,
                    minimum=0,
                    maximum=2**31 - 1,
                )
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="rt-start")
                stop = gr.Button("Stop", elem_id="rt-stop")
                again = gr.Button("Resume", elem_id="rt-resume")
            download("Download what was trained last", "rt-zip", package, [garage], "checkpoint")
        with gr.Column(scale=3, min_width=320):
            status = gr.Markdown(IDLE, elem_id="rt-status")
            show = player("rt-train-player")
            gr.Markdown(
                "What you see: a rollout from held-out film, real beside generated; it is remade every few seconds "
                "while the network learns.",
                elem_classes="rt-note",
            )
            losses = chart("rt-losses")
            gr.Markdown(
                "What you see: losses over training steps, on a log axis where none is negative. L1 is summed over the "
                "unrolled frames; generator and discriminator are the two sides of the GAN loss.",
                elem_classes="rt-note",
            )
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [status, losses, show]
    alone: dict[str, Any] = {"concurrency_id": "train", "concurrency_limit": 1, "show_progress": "hidden"}
    begins = start.click(queued, None, status, queue=False, **private)
    training = begins.then(run, [garage, film, recipe, seconds, seed], outputs, api_name="train", **alone)
    begins = again.click(queued, None, status, queue=False, **private)
    resuming = begins.then(resume, [garage, seconds], outputs, api_name="resume", **alone)
    # two events: gradio sends a cancel only after the function beside it has returned, and this one waits for the end
    cancel = stop.click(None, cancels=[training, resuming], **private)
    stopping = cancel.then(stopped, [garage, status], status, queue=False, **private)
    taken = use.click(_upload_with_progress, [garage, files, gap], [film, about], api_name="upload")
    film.input(describe, [garage, film], about, **private)
    return Tab(film, recipe, seed, about, [training, resuming, stopping, taken])


def _upload_with_progress(
    garage: Garage,
    files: list[str] | None,
    gap: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[Any, str]:
    return upload(garage, files, gap, progress)
