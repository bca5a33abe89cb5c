"""train: a recipe and a film in, a stream of Progress out. An app, a notebook, the command line and the tests iterate it.

Independent of any UI. `Run.step` is one training step: a batch, the discriminator, the generator, the averaged weights.
"""

import copy
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam

from . import checkpoint
from .augment import augment, damage
from .cuda_graph import CudaGraphed
from .diffusion import SPANS, denoising_loss, noisy
from .discriminators import PatchDiscriminator, windows
from .errors import RoadtripError
from .evaluation import HELD_OUT, HORIZONS, baselines
from .film import Film, evenly_spaced
from .frames import as_float, psnr
from .losses import discriminator_loss, generator_loss, pingpong_loss, r1_penalty, reconstruction_loss
from .model import Denoising, NextFrame
from .optim import Muon, lr_share, optimizer_step, set_lr
from .recipes import Recipe, find_recipe
from .replay import Replay
from .rng import use_generator
from .rollout import GraphedModel, drive, frames_in_turn, unroll
from .sources import open_film

T = TypeVar("T")
REPORT_EVERY = 0.5  # seconds between reports, where steps are shorter
PREVIEW_FRAMES = 16
EVAL_FRAMES = tuple(reversed(HORIZONS))  # how far ahead errors may be followed, the furthest first
N_EVAL_CLIPS = 4  # held-out clips whose errors are followed while training


@dataclass(frozen=True)
class Progress:
    """Where a training stands. `model` and `ema` are the live networks: they go on learning when the training does.

    losses: means since the last report: "l1" (summed over the unrolled frames, mean |difference| in [0, 1] each; of the
    moved frame where frames are drawn), then also "denoise" (see diffusion.denoising_loss), and with a discriminator
    "generator" (its GAN loss) and "discriminator".
    preview: float [16, 3, H, W] in [0, 1], a rollout of a fixed held-out clip, or None when none is due.
    preview_start: index into film.frames where that clip begins.
    psnr: whenever there is a preview, dB at horizons 1 … 16, or the first 4 or 1 of them where the held-out film reaches
    no further, of "model" and each baseline, means over at most 4 held-out clips; None where there is no such clip.
    steps: the planned number; None while `seconds` are being turned into steps.
    """

    step: int
    steps: int | None
    losses: dict[str, float]
    steps_per_second: float
    seconds_left: float | None
    model: NextFrame
    ema: NextFrame
    preview: Tensor | None
    preview_start: int
    psnr: dict[str, list[float]] | None
    seed: int
    recipe: Recipe
    run: "Run"

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything a resumed training needs: tensors by name, and plain facts. See checkpoint.save(resumable=True)."""
        return self.run.state()


@dataclass(frozen=True)
class Paused:
    """A training that was stopped, in plain values on the CPU, so that it can cross from one process to another: what
    Progress.state() gave, and its model. checkpoint.save and train(resume=) take it as they take a Progress."""

    model: NextFrame
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.tensors, self.facts


def train(
    recipe: str | Recipe,
    film: Film | str | Path,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    stop_at: int | None = None,
    seed: int = 0,
    held_out: float = HELD_OUT,
    start: NextFrame | str | Path | None = None,
    resume: Progress | Paused | str | Path | None = None,
    unbroken: bool = False,
    device: str | torch.device | None = None,
    dtype: str = "auto",
    preview_every: float = 3.0,
    slices: bool = False,
) -> Iterator[Progress]:
    """Trains; yields a Progress after the first step, then after every step or each 0.5 s, whichever is later, and
    after the last.

    Args:
        recipe: a Recipe or a name in RECIPES.
        film: a Film, or what open_film takes.
        seconds, steps: one of the two. Seconds become a step count when almost half of them are over; training for
            that many steps with the same seed gives the same bits on the same CPU.
        stop_at: the step to end after, of the `steps` that are planned; to repeat a run that was stopped early.
        seed: of weights, clips and augmentation, 0 … 2³¹ − 1.
        held_out: the share at the end of each drive that is never trained on, in [0, 0.9].
        start: weights to begin from instead of random ones, a model or what checkpoint.load takes, as "v1": of a network
            of the same shape, whatever it was trained on. None begins from nothing.
        resume: a Progress, a Paused, or a folder saved resumable; steps then counts from the very beginning, seconds from
            now. With the steps it was planned for, a resumed run equals an unbroken one; beyond the end of its plan the
            step size rises again from where it was.
        unbroken: go on as if what is resumed had never stopped: seconds, too, count from its beginning, and the model's
            provenance says nothing of it.
        device: see find_device.
        dtype: of convolutions: "float32", "bfloat16", or "auto" for what is faster on the device.
        preview_every: seconds between previews; they take at most a twentieth of the time.
        slices: yield None, too, wherever a step or a preview can be interrupted, so that others may compute in between.
            Closing there takes back what was begun of a step.

    Closing the generator stops at once and leaves the last Progress usable. Raises RoadtripError at once for bad
    arguments, and later, with the weights of the last good step in place, for a loss that is no longer a number.
    """
    recipe = find_recipe(recipe)
    film = film if isinstance(film, Film) else open_film(film)
    if (seconds is None) == (steps is None):
        raise RoadtripError("Say how long to train: either seconds or steps.")
    if (steps is not None and steps < 1) or (seconds is not None and not 0 < seconds < 1e7):
        raise RoadtripError("Training takes at least one step, or more than zero seconds.")
    if stop_at is not None and (steps is None or not 1 <= stop_at <= steps):
        raise RoadtripError("Training can stop at one of the steps that are planned; say how many those are.")
    if not 0 <= seed < 2**31:
        raise RoadtripError(f"Seed {seed} is out of range; choose from 0 to {2**31 - 1}.")
    if not 0 <= held_out <= 0.9:
        raise RoadtripError(f"{held_out:g} can't be held out; choose a share from 0 to 0.9.")
    if start is not None and resume is not None:
        raise RoadtripError("A run that goes on has its weights already; leave out either start or resume.")
    begin = start if isinstance(start, NextFrame | None) else checkpoint.load(start)
    run = Run(recipe, film, seed, held_out, find_device(device), dtype, begin)
    if begin is not None:
        origin = checkpoint.Start.of(begin, None if isinstance(start, NextFrame) else Path(str(start)).name)
        run.model.provenance = run.ema.provenance = replace(run.model.provenance, start=origin)
    if resume is not None:
        run.restore(
            *(resume.state() if isinstance(resume, Progress | Paused) else checkpoint.load_state(resume)), unbroken
        )
        steps = run.planned if unbroken and steps is None else steps
        if steps is not None and (stop_at or steps) <= run.step_count:
            raise RoadtripError(
                f"This run has {run.step_count} steps already; to go on, ask for more than that in all."
            )
    stream = _iterate(run, seconds, steps, stop_at, preview_every, slices)
    return cast(Iterator[Progress], stream)


Slices = Generator[None, None, T]  # a computation that yields wherever it can be interrupted


class Batch(NamedTuple):
    """What one step learns from, all of it on the device: everything random about a step is in here.

    clips: float [B, 2 + U, 3, H, W] in [0, 1], f1, f2 and the real frames after them. f1, f2: what goes in.
    noise: float [B, 1] or None, the standard deviation of the noise on what goes in.
    feedback_noise: float [B, U, 3, H, W] or None, the noise to add to generated frames that are fed back.
    order: int64 [B, U] or None, which frame the discriminator is shown in which place.
    z: float [B, U, 4, H, W] or None, the real frames under noise that a model that samples is to denoise, see
        diffusion.noisy. anchor: float [B, 3, H, W] or None, the still that an anchored model has in sight.
    """

    clips: Tensor
    f1: Tensor
    f2: Tensor
    noise: Tensor | None
    feedback_noise: Tensor | None
    order: Tensor | None
    z: Tensor | None
    anchor: Tensor | None


class Run:
    """What one training holds: networks, optimisers, random states, and the film on its device."""

    def __init__(
        self,
        recipe: Recipe,
        film: Film,
        seed: int,
        held_out: float,
        device: torch.device,
        dtype: str,
        start: NextFrame | None = None,
    ):
        self.recipe, self.seed, self.held_out, self.device = recipe, seed, held_out, device
        if dtype not in ("auto", "float32", "bfloat16"):
            raise RoadtripError(f"There is no dtype {dtype!r}; choose auto, float32 or bfloat16.")
        self.dtype = best_dtype(device) if dtype == "auto" else dtype
        self.starts = film.starts(recipe.clip, "train", held_out)
        if not len(self.starts):
            raise RoadtripError(
                f"{film.name} has no stretch to train on that holds a clip of {recipe.clip} frames at gap {film.gap}; "
                f"use a smaller gap, a longer film, or hold out less."
            )
        # errors reach as far ahead as the held-out film does
        reach = [h for h in EVAL_FRAMES if held_out and len(film.starts(2 + h, "held_out", held_out))]
        self.eval_frames = reach[0] if reach else 0
        followed = film.starts(2 + self.eval_frames, "held_out", held_out) if reach else self.starts[:0]
        self.eval_starts = evenly_spaced(followed, N_EVAL_CLIPS)
        preview = self.eval_starts if len(followed) else film.starts(2, "held_out", held_out)
        preview = preview if len(preview) else self.starts
        self.preview_start = int(preview[len(preview) // 2])
        self.film = film.to(device)

        self.random = torch.Generator().manual_seed(seed)
        with use_generator(self.random):
            model = NextFrame(
                recipe.width,
                recipe.depth,
                recipe.bottleneck,
                recipe.output,
                recipe.context_noise > 0,
                recipe.anchor,
                recipe.sampler,
                film.size,
            )
            discriminator = PatchDiscriminator(recipe.disc_frames, recipe.disc_width, recipe.spectral)
        if start is not None:
            _begin_from(model, start, recipe, held_out)
        self.model: NextFrame = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator: PatchDiscriminator = discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.mean_frame.copy_(mean_frame(film, self.starts, recipe.clip))
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        betas = (recipe.beta1, recipe.beta2)
        weights = [p for p in self.model.parameters() if p.dim() == 4 and recipe.optimiser == "muon"]
        others = [p for p in self.model.parameters() if not any(p is w for w in weights)]
        on_gpu = device.type == "cuda"
        self.optimisers: list[torch.optim.Optimizer] = [Adam(others, recipe.lr, betas, fused=True, capturable=on_gpu)]
        if weights:
            self.optimisers.append(Muon(weights, recipe.lr, recipe.beta1, recipe.muon_scale))
        self.disc_optimiser = Adam(
            self.discriminator.parameters(), recipe.disc_lr, betas, fused=True, capturable=on_gpu
        )
        for adam in (self.optimisers[0], self.disc_optimiser):
            # the few steps before a recording are meant to run without one
            adam._warned_capturable_if_run_uncaptured = True
        self.train_step = CudaGraphed(self._train_step) if on_gpu else self._train_step
        draws_on = recipe.sampler and recipe.replay and round(recipe.replay_share * recipe.batch)
        self.replay = Replay(self.model, recipe, film.size, device) if draws_on else None
        self.rolled_out = GraphedModel(self.model) if on_gpu else self.model
        self.step_count = 0
        # the plan, the step at which its schedule began, and the share of the step size it rose from
        self.planned: int | None = None
        self.origin, self.first_share = 0, 0.0
        # the step that `seconds` count from, and those spent since; what the command line was asked for, while it is not
        # done: the same command goes on
        self.first_step, self.spent = 0, 0.0
        self.command: dict[str, Any] | None = None
        # 1 once a gradient was not a number: no sync until it is reported
        self.nonfinite = torch.zeros((), device=device)
        self.model.provenance = self.ema.provenance = checkpoint.new_provenance(
            recipe, film, seed, held_out, self.dtype, device.type
        )

    def step(self, steps: int | None, only: str | None = None) -> dict[str, Tensor]:
        """One training step of a run of `steps` in all; the losses, still on the device. only: "generator" or
        "discriminator" moves the weights of that one alone."""
        return finish(self.step_in_slices(steps, only))

    def step_in_slices(self, steps: int | None, only: str | None = None) -> Slices[dict[str, Tensor]]:
        """`step`, which can be closed wherever it yields: then it was none."""
        self._plan(steps)
        share, before = self._lr_share(self.step_count), (self.random.get_state(), self.carry)
        held = self.replay.held if self.replay else {}
        for _, optimiser in self._optimisers():
            set_lr(optimiser, optimiser.defaults["lr"] * share)
        r1_due = bool(self.recipe.r1_weight) and self.step_count % self.recipe.r1_interval == 0
        try:
            batch = yield from self._sample_in_slices()
            if isinstance(self.train_step, CudaGraphed):
                losses = self.train_step(r1_due, only, *batch)
            else:
                losses = yield from self._train_in_slices(r1_due, only, batch)
        except GeneratorExit:
            self.random.set_state(before[0])
            self.carry = before[1]
            if self.replay:
                self.replay.held = held
            raise
        rate = 1 - min(self.recipe.ema, (1 + self.step_count) / (10 + self.step_count))  # a young average is short
        with torch.no_grad():  # or every average would keep the graph of all before it
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), rate)
        self.step_count += 1
        return {name: loss.detach().clone() for name, loss in losses.items()}

    def step_by_hand(self, only: str | None = None) -> dict[str, float]:
        """A step within the plan so far, of both networks or of one alone; its losses. No script repeats that, and the
        provenance says so, as of a run that was planned anew. Raises RoadtripError where there is no such network."""
        if only == "discriminator" and not self.recipe.gan_weight:
            raise RoadtripError("This recipe has no discriminator to step; v3-pair and v3-single have one.")
        losses = {name: loss.item() for name, loss in self.step(self.planned, only).items()}
        if self.planned is not None and self.step_count > self.planned:
            self.planned = self.step_count
        for model in (self.model, self.ema):
            known, stop = model.provenance, (self.step_count, 0)
            stops = (*(s for s in known.resumed_at if s[1] != 0), stop)  # of those by hand the last one is enough
            model.provenance = replace(known, step=self.step_count, steps=self.planned, resumed_at=stops)
        return losses

    @torch.no_grad()
    def inside(self) -> dict[str, Tensor]:
        """What the networks make of one clip, held out where there is one, on the CPU: f1, f2, f3 [3, H, W] and what
        NextFrame.inside gives, in [0, 1] but for the flow; and of each window of frames that the discriminator sees,
        "real" and "generated" [n, K, 3, H, W] in [0, 1] with their "real scores" and "generated scores" [n, h, w]."""
        starts = self.film.starts(self.recipe.clip, "held_out", self.held_out) if self.held_out else self.starts
        start = starts[len(starts) // 2] if len(starts) else self.starts[len(self.starts) // 2]
        clip = as_float(self.film.clips(start.view(1), 2 + self.recipe.unroll)).to(self.device)
        f1, f2 = (f.contiguous(memory_format=torch.channels_last) for f in (clip[:, 0], clip[:, 1]))
        found = {"f1": f1, "f2": f2, "f3": clip[:, 2]} | self.model.inside(f1, f2)
        found = {name: value[0].float().cpu() for name, value in found.items()}
        if self.recipe.gan_weight:
            generated = torch.stack(list(islice(drive(self.model, f1, f2), self.recipe.unroll)), dim=1)
            batch = Batch(clip, f1, f2, None, None, None, None, None)
            for name, frames in (("real", clip[:, 2:]), ("generated", generated)):
                seen = self._windows(batch, frames)
                found[name] = seen.unflatten(1, (-1, 3)).float().cpu()
                found[f"{name} scores"] = self.discriminator(seen)[:, 0].float().cpu()
        return found

    def sample_batch(self) -> Batch:
        return finish(self._sample_in_slices())

    def _sample_in_slices(self) -> Slices[Batch]:
        recipe, random = self.recipe, self.random
        clips, seen, anchor = yield from (self._rolled_on(self.replay) if self.replay else self._rolled_out())
        last = torch.channels_last
        f1, f2 = (f.contiguous(memory_format=last) for f in seen.unbind(dim=1))
        anchor = None if anchor is None else anchor.contiguous(memory_format=last)
        noise = feedback_noise = order = z = None
        if recipe.damage:
            f1, f2 = damage(torch.stack([f1, f2], dim=1), recipe.damage, random).unbind(dim=1)
        if recipe.context_noise:
            noise = self._on_device(recipe.context_noise * torch.rand(recipe.batch, 1, generator=random))
            f1, f2 = (_with_noise(f, self._gaussian(f.shape), noise) for f in (f1, f2))
            feedback_noise = torch.stack([self._gaussian(f2.shape) for _ in range(recipe.unroll)], dim=1)
        if recipe.disc_shuffle:
            order = self._on_device(torch.rand(recipe.batch, recipe.unroll, generator=random).argsort(dim=1))
        if recipe.sampler:
            z = noisy(clips[:, 2:], recipe.sampler, random)
        return Batch(clips, f1, f2, noise, feedback_noise, order, z, anchor)

    def _train_step(self, r1_due: bool, only: str | None, *tensors: Any) -> dict[str, Tensor]:
        return finish(self._train_in_slices(r1_due, only, Batch(*tensors)))

    def _train_in_slices(self, r1_due: bool, only: str | None, batch: Batch) -> Slices[dict[str, Tensor]]:
        """`_train_step`, which yields only before anything changes."""
        recipe = self.recipe
        yield
        real = batch.clips[:, 2:]  # f3, f4, …
        network = Denoising(self.model) if recipe.sampler else self.model
        with self._autocast():  # g3, g4, …
            fake = unroll(
                network, batch.f1, batch.f2, recipe.unroll, self._feedback(batch), batch.noise, batch.z, batch.anchor
            )
        yield  # the last time: from here on weights change
        fake, moved = fake[:, :, :3], fake[:, :, -3:]  # the same but where frames are drawn
        losses = {"l1": reconstruction_loss(moved, real)}
        total = recipe.l1_weight * losses["l1"]
        if batch.z is not None:
            losses["denoise"] = denoising_loss(fake, real, batch.z[:, :, 3:, :1, :1])
            total = total + losses["denoise"]

        if recipe.pingpong_weight:  # back from frames without noise, and conditioned on none
            end = torch.cat([batch.f2[:, None], fake], dim=1)[:, -2:]
            with self._autocast():
                back = unroll(self.model, end[:, 1], end[:, 0], recipe.unroll, anchor=batch.anchor)
            losses["pingpong"] = pingpong_loss(back, batch.clips)
            total = total + recipe.pingpong_weight * losses["pingpong"]

        if recipe.gan_weight:
            real_windows, fake_windows = self._windows(batch, real), self._windows(batch, fake.detach())
            with self._autocast():
                scores = self.discriminator(torch.cat([real_windows, fake_windows]))
            losses["discriminator"] = discriminator_loss(recipe.gan_loss, *scores.chunk(2))
            if only != "generator":
                self._descend([self.disc_optimiser], self.discriminator, losses["discriminator"], recipe.disc_clip_norm)
            if r1_due and only != "generator":
                penalty = recipe.r1_weight * recipe.r1_interval * r1_penalty(self.discriminator, real_windows)
                self._descend([self.disc_optimiser], self.discriminator, penalty, 0)

            self.discriminator.requires_grad_(False)
            with self._autocast():
                scores = self.discriminator(self._windows(batch, fake))
            losses["generator"] = generator_loss(recipe.gan_loss, scores)
            total = total + recipe.gan_weight * losses["generator"]
            self.discriminator.requires_grad_(True)

        if only != "discriminator":
            self._descend(self.optimisers, self.model, total, recipe.clip_norm)
        return losses

    def _descend(
        self, optimisers: list[torch.optim.Optimizer], module: nn.Module, loss: Tensor, largest_norm: float
    ) -> None:
        self.nonfinite += optimizer_step(optimisers, module, loss, largest_norm)

    def _of_the_same_drive(self, starts: Tensor) -> Tensor:
        """For each start another of the same drive's."""
        drives = torch.tensor(self.film.drives)
        mine = torch.bucketize(self.starts, drives, right=True)  # ascending, as the starts are
        drive = torch.bucketize(starts, drives, right=True)
        first, end = torch.searchsorted(mine, drive), torch.searchsorted(mine, drive, right=True)
        drawn = torch.rand(len(starts), generator=self.random, dtype=torch.float64)
        return self.starts[first + (drawn * (end - first)).long()]

    def _sampled(self, n: int) -> tuple[Tensor, Tensor | None]:
        """n training clips float [n, clip, 3, H, W] in [0, 1], augmented, and for an anchored network a still of each one's
        drive, float [n, 3, H, W]."""
        recipe, random = self.recipe, self.random
        picked = self.starts[torch.randint(len(self.starts), (n,), generator=random)]
        clips = self.film.clips(picked, recipe.clip)
        if recipe.anchor:  # one frame more, so that it is augmented as its clip is
            clips = torch.cat([clips, self.film.clips(self._of_the_same_drive(picked), 1)], dim=1)
        clips = augment(clips.to(torch.float32) / 255, recipe, random)
        return (clips[:, :-1], clips[:, -1]) if recipe.anchor else (clips, None)

    def _rolled_on(self, replay: Replay) -> Slices[tuple[Tensor, Tensor, Tensor | None]]:
        """(clips [B, 2 + U, 3, H, W], real; f1 and f2 [B, 2, 3, H, W], in some of them where the network has got to since
        the step before; anchor)."""
        if len(replay.ended()) < replay.n:
            with self._autocast():
                ahead = replay.go_on(self.carry or 0.0, self.random)
            if self.carry is not None:
                self.carry = min(max(self.carry + self.recipe.carry_rate * ahead, 0.0), SPANS["carry"][1])
            yield
        m = len(replay.ended())
        clips, anchor = self._sampled(m + self.recipe.batch - replay.n)
        replay.begin(clips[:m], None if anchor is None else anchor[:m], self.random)
        own, seen, still = replay.batch()
        clips = clips[m:, : own.shape[1]]
        anchor = None if anchor is None else torch.cat([still, anchor[m:]])
        return torch.cat([own, clips]), torch.cat([seen, clips[:, :2]]), anchor

    def _rolled_out(self) -> Slices[tuple[Tensor, Tensor, Tensor | None]]:
        """The same where nothing is held from step to step. With replay, clips begin up to so many frames later, and in a
        share of them f1 and f2 are what the model made of the frames before (the train window's recipe)."""
        recipe = self.recipe
        clips, anchor = self._sampled(recipe.batch)
        begin = recipe.replay and int(torch.randint(recipe.replay + 1, (), generator=self.random))
        seen, n = clips[:, begin : begin + 2], round(recipe.replay_share * len(clips))
        if begin and n:
            made = list(clips[:n, :2].unbind(dim=1))
            still = None if anchor is None else anchor[:n]
            frames = frames_in_turn(self.rolled_out, made[0], made[1], repeat(None), anchor=still)
            for _ in range(begin):
                with torch.no_grad(), self._autocast():
                    made.append(next(frames))
                yield
            seen = torch.cat([torch.stack(made[-2:], dim=1), seen[n:]])
        return clips[:, begin : begin + 2 + recipe.unroll], seen, anchor

    @property
    def carry(self) -> float | None:
        """Of the sampler that both networks have; None without one."""
        return self.model.sampler.carry if self.model.sampler else None

    @carry.setter
    def carry(self, carry: float | None) -> None:
        if self.model.sampler and carry is not None:
            for model in (self.model, self.ema):
                model.use(replace(self.model.sampler, carry=carry))

    def _gaussian(self, shape: Sequence[int]) -> Tensor:
        return self._on_device(torch.randn(shape, generator=self.random))

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _feedback(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """What a generated frame becomes before the model sees it, in training."""
        noises = iter(()) if batch.feedback_noise is None else iter(batch.feedback_noise.unbind(dim=1))

        def feedback(g: Tensor) -> Tensor:
            g = g[:, :3]
            if self.recipe.feedback == "detached":
                g = g.detach()
            if self.recipe.feedback == "8-bit":
                g = g + ((g * 255).round() / 255 - g).detach()  # with the gradient of the identity
            return g if batch.noise is None else _with_noise(g, next(noises), batch.noise)

        return feedback

    def _windows(self, batch: Batch, frames: Tensor) -> Tensor:
        """What the discriminator sees of `frames` [B, U, 3, H, W], real or generated. Its context is what the generator
        was fed, the same for both (pix2pix's conditional way), which under replay or noise is not real film."""
        recipe = self.recipe
        if batch.order is not None:
            frames = frames[torch.arange(len(frames), device=frames.device)[:, None], batch.order]
        context = (
            torch.stack([batch.f1, batch.f2], dim=1)[:, 2 - recipe.disc_context :] if recipe.disc_context else None
        )
        return windows(frames, recipe.disc_frames, recipe.disc_windows, context).contiguous(
            memory_format=torch.channels_last
        )

    def _plan(self, steps: int | None) -> None:
        """Switches to a plan of `steps` in all. Where steps so far had another size than this plan gives them, which only a
        resumed run knows, the schedule begins anew and rises from the share that the last step had."""
        if steps == self.planned:
            return
        end = min(n for n in (steps, self.planned) if n is not None)
        if self.step_count - 1 - self.origin > self.recipe.plateau * (end - self.origin):
            self.first_share, self.origin = self._lr_share(self.step_count - 1), self.step_count
        self.planned = steps

    def _lr_share(self, step: int) -> float:
        recipe, steps = self.recipe, None if self.planned is None else self.planned - self.origin
        return lr_share(step - self.origin, steps, recipe.warmup, recipe.plateau, recipe.last_lr, self.first_share)

    def least_plan(self) -> int:
        """The fewest steps in all for which every step so far would have had the size that it had."""
        if not self.recipe.plateau:
            return self.step_count
        return self.origin + math.ceil((self.step_count - 1 - self.origin) / self.recipe.plateau)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def preview_in_slices(self) -> Slices[tuple[Tensor, dict[str, list[float]] | None]]:
        """Progress.preview and Progress.psnr, in one batch of rollouts."""
        starts = self.eval_starts if len(self.eval_starts) else torch.tensor([self.preview_start])
        clips = self.film.clips(starts, 2)
        made = []
        for frame in islice(drive(self.model, clips[:, 0], clips[:, 1]), PREVIEW_FRAMES):
            made.append(frame.cpu())
            yield
        frames = torch.stack(made, dim=1)
        preview = frames[starts.tolist().index(self.preview_start)]
        if not len(self.eval_starts):
            return preview, None
        real = as_float(self.film.clips(self.eval_starts, 2 + self.eval_frames)).cpu()
        guesses = baselines(real[:, 0], real[:, 1], self.eval_frames, self.model.mean_frame.cpu())
        errors = {"model": frames[:, : self.eval_frames]} | guesses
        return preview, {name: psnr(y, real[:, 2:]).mean(dim=0).tolist() for name, y in errors.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"random": self.random.get_state()}
        for name, module in self._modules():
            tensors |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
        tensors |= self._replay_held()
        for name, optimiser in self._optimisers():
            for i, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{i}.{k}": v for k, v in slots.items()}
        facts = self._identity() | {"step": self.step_count}
        names = "planned", "origin", "first_share", "first_step", "spent", "command", "carry"
        facts |= {k: getattr(self, k) for k in names}
        facts |= {k: getattr(self.model.provenance, k) for k in ("steps", "resumed_at")}
        facts["start"] = self.model.provenance.start and asdict(self.model.provenance.start)
        return {k: v.detach().clone() for k, v in tensors.items()}, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any], unbroken: bool = False) -> None:
        """Restores model, optimiser and RNG state; `unbroken` as train has it. Raises RoadtripError where it belongs to
        another recipe, seed, film, split or dtype, and where it is not what `state` gave."""
        for name, value in self._identity().items():
            if facts.get(name) != value:
                raise RoadtripError(f"This training can't be resumed with another {name}; use what it began with.")
        like = {"random": self.random.get_state()} | self._replay_held()
        for name, module in self._modules():
            like |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
        for name, optimiser in self._optimisers():
            if optimiser is self.disc_optimiser and not self.recipe.gan_weight:
                continue  # it never made a step
            for n, p in enumerate(optimiser.param_groups[0]["params"]):
                moments = {"momentum": p} if name == "muon" else {"step": torch.ones(()), "exp_avg": p, "exp_avg_sq": p}
                like |= {f"{name}.{n}.{k}": v for k, v in moments.items()}
        try:
            if {k: (v.shape, v.dtype) for k, v in tensors.items()} != {k: (v.shape, v.dtype) for k, v in like.items()}:
                raise ValueError
            if not all(v.isfinite().all() for v in tensors.values()):
                raise ValueError
            step, origin, share, planned = (facts[k] for k in ("step", "origin", "first_share", "planned"))
            first, spent = (facts["first_step"], facts["spent"]) if unbroken else (step, 0.0)
            counts = (step, origin, first, step if planned is None else planned)
            if not all(type(n) is int and 0 <= n < 2**53 for n in counts) or not max(origin, first) <= step > 0:
                raise ValueError
            carry = facts.get("carry")
            known_ends = (share, 1), (spent, 1e9), (carry or 0, SPANS["carry"][1])
            if not all(type(x) in (int, float) and 0 <= x <= most for x, most in known_ends):
                raise ValueError
            if self.replay and not ((d := tensors["replay.depth"]) >= 0).logical_and(d <= self.recipe.replay).all():
                raise ValueError
            resumed_at = [*facts["resumed_at"], *([] if unbroken else [(step, facts["steps"])])]
            start = facts.get("start")
            start = None if start is None else checkpoint.Start(**start)
            known = replace(self.model.provenance, step=step, resumed_at=tuple(resumed_at), start=start)
            self.random.set_state(tensors["random"])
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise RoadtripError("The saved training is damaged; start it again.") from None
        for name, module in self._modules():
            module.load_state_dict({k: tensors[f"{name}.{k}"] for k in module.state_dict()})
        if self.replay:
            self.replay.held = {k: tensors[f"replay.{k}"].to(v.device) for k, v in self.replay.held.items()}
        for name, optimiser in self._optimisers():
            slots: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for key in (k for k in like if k.startswith(f"{name}.")):
                _, i, slot = key.split(".")
                # the fused optimiser walks memory, so a moment must lie as its parameter does (channels last)
                slots[int(i)][slot] = torch.empty_like(like[key]).copy_(tensors[key])
            optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
        self.step_count, self.origin, self.first_share, self.planned = step, origin, share, planned
        self.first_step, self.spent, self.carry = first, spent, carry
        self.model.provenance = self.ema.provenance = known

    def _identity(self) -> dict[str, Any]:
        """What a state must agree in with the run that takes it up."""
        own = {"recipe": self.recipe.to_dict(), "seed": self.seed, "held_out": self.held_out}
        return own | {"film": self.film.fingerprint, "gap": self.film.gap, "dtype": self.dtype}

    def _replay_held(self) -> dict[str, Tensor]:
        return {f"replay.{k}": v for k, v in self.replay.held.items()} if self.replay else {}

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return [("model", self.model), ("ema", self.ema), ("discriminator", self.discriminator)]

    def _optimisers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        return [*zip(("optimiser", "muon"), self.optimisers), ("disc-optimiser", self.disc_optimiser)]


def _begin_from(model: NextFrame, start: NextFrame, recipe: Recipe, held_out: float) -> None:
    """Copies the weights of `start` into `model`, but not the mean frame of its film."""
    known = start.provenance
    if known and known.held_out < held_out:
        raise RoadtripError(
            f"The weights to begin from were trained with {known.held_out:g} of each drive held out; hold out no more "
            f"than that, or what is measured was seen."
        )
    weights = {k: v for k, v in start.state_dict().items() if k != "mean_frame"}
    wanted = {k: v.shape for k, v in model.state_dict().items() if k != "mean_frame"}
    if {k: v.shape for k, v in weights.items()} != wanted:
        shape = ", ".join(f"{k} {v}" for k, v in start.architecture.items() if k not in ("size", "sampler"))
        raise RoadtripError(
            f"The weights to begin from are of another network ({shape}) than the recipe {recipe.name}; begin from "
            f"others, or from nothing."
        )
    model.load_state_dict(weights, strict=False)


def _with_noise(frame: Tensor, feedback_noise: Tensor, noise: Tensor) -> Tensor:
    return (frame + noise[:, :, None, None] * feedback_noise).clamp(0, 1)


def finish(parts: Slices[T]) -> T:
    """What a computation in slices returns, without a pause."""
    while True:
        try:
            next(parts)
        except StopIteration as done:
            return done.value


def _iterate(
    run: Run, seconds: float | None, steps: int | None, stop_at: int | None, preview_every: float, slices: bool
) -> Iterator[Progress | None]:
    reported = previewed = -math.inf
    began, first = time.perf_counter() - run.spent, run.first_step
    pace: tuple[int, float] | None = None  # (step, time) after the first step, which is slower than the rest
    sums: list[dict[str, Tensor]] = []
    preview_cost = 0.0
    while steps is None or run.step_count < (stop_at or steps):
        sums.append((yield from run.step_in_slices(steps)) if slices else run.step(steps))
        now = time.perf_counter()
        pace = pace or (run.step_count, now)
        if steps is None and seconds is not None and now - began >= 0.9 * run.recipe.plateau * seconds:
            _synchronise(run.device)
            spent = time.perf_counter() - began
            planned = run.step_count + int((seconds - spent) * (run.step_count - first) / spent)
            steps = max(planned, run.step_count, run.least_plan())
        last = run.step_count == (stop_at or steps)
        if now - reported < REPORT_EVERY and not last:
            continue
        if run.nonfinite.item():
            raise RoadtripError(
                f"The loss was no longer a number at step {run.step_count}; the weights from before it are kept: "
                f"try a lower learning rate or another seed."
            )
        preview = errors = None
        # without a preview the first step can be seen a second sooner
        if last or (reported > -math.inf and now - previewed >= max(preview_every, 20 * preview_cost)):
            parts = run.preview_in_slices()
            preview, errors = (yield from parts) if slices else finish(parts)
            previewed = time.perf_counter()
            preview_cost = previewed - now
        losses = {k: torch.stack([s[k] for s in sums]).mean().item() for k in sums[0]}
        sums = []
        speed = (run.step_count - pace[0]) / (now - pace[1]) if run.step_count > pace[0] else 1 / max(now - began, 1e-9)
        left = ((stop_at or steps) - run.step_count) / speed if steps else max(0.0, (seconds or 0.0) - (now - began))
        for model in (run.model, run.ema):
            model.provenance = replace(model.provenance, step=run.step_count, steps=steps)
        reported = time.perf_counter()
        run.spent = reported - began
        yield Progress(
            run.step_count,
            steps,
            losses,
            speed,
            left,
            run.model,
            run.ema,
            preview,
            run.preview_start,
            errors,
            run.seed,
            run.recipe,
            run,
        )


def mean_frame(film: Film, starts: Tensor, clip: int) -> Tensor:
    """The mean of the frames that training sees, uint8 [3, H, W]; of at most 512 of them, evenly spaced."""
    seen = (starts[:, None] + film.gap * torch.arange(clip)).unique()
    return film.frames[evenly_spaced(seen, 512)].float().mean(dim=0).round().to(torch.uint8)


def find_device(device: str | torch.device | None = None) -> torch.device:
    """A device by its name; of None CUDA where it is there, else the CPU. Raises RoadtripError where it can't be used."""
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        raise RoadtripError(
            f"Device {str(device)!r} can't be used on this machine; use cpu, or cuda on a GPU."
        ) from None
    return found


def best_dtype(device: torch.device) -> str:
    """bfloat16 where the device multiplies it natively: on other CPUs autocast to it is many times slower. Read from
    the processor's flags and not timed, so that a machine always decides alike."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if sys.platform == "linux":
        flags = Path("/proc/cpuinfo").read_text(errors="ignore")
        return "bfloat16" if "amx_bf16" in flags else "float32"
    return "float32"


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
