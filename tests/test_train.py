"""Training: every recipe, its bits, resuming, stopping, and what it refuses."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

import roadtrip as rt
from roadtrip.train import schedule

SMALL = {"width": 8, "depth": 1, "disc_width": 8, "batch": 2}


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> rt.Film:
    """A tiny folder of stills: a coloured pattern that slides."""
    folder = tmp_path_factory.mktemp("stills")
    noise = np.random.default_rng(0).integers(0, 255, (32, 240, 3), dtype=np.uint8)
    wide = ImageOps.autocontrast(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)))
    for t in range(60):
        wide.crop((3 * t, 0, 3 * t + 56, 32)).save(folder / f"{t}.png")
    return rt.open_film(folder, size=(32, 56), gap=1, cache=False)


def small(name: str, **values) -> rt.Recipe:
    return replace(rt.RECIPES[name], **(SMALL | values))


def finish(recipe, film, **how):
    *_, last = rt.train(recipe, film, preview_every=1e9, **how)
    return last


def weights(p) -> list[torch.Tensor]:
    return [t.clone() for t in (*p.model.state_dict().values(), *p.ema.state_dict().values())]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", rt.RECIPES)
def test_every_recipe_takes_three_steps(name, film):
    p = finish(small(name), film, steps=3)
    assert p.step == p.steps == 3
    assert set(p.losses) == ({"l1", "generator", "discriminator"} if "v3" in name else {"l1"})
    assert all(np.isfinite(v) for v in p.losses.values())
    assert p.preview.shape == (16, 3, 32, 56)
    assert p.model.provenance.step == 3


@pytest.mark.parametrize("name", rt.RECIPES)
def test_every_recipe_on_scenery(name):
    film = rt.open_film("scenery", size=(48, 80))
    assert finish(small(name), film, steps=3).step == 3


@pytest.mark.parametrize("values", [
    {"disc_context": 1}, {"disc_context": 2, "disc_frames": 3}, {"disc_windows": "first"}, {"r1_weight": 1.0},
    {"spectral": True}, {"gan_loss": "bce"}, {"gan_loss": "least-squares"}, {"unroll": 4, "disc_frames": 3},
    {"disc_shuffle": True}, {"feedback": "detached"}, {"feedback": "8-bit"}, {"context_noise": 0.1},
    {"pingpong_weight": 1.0}, {"replay": 3},
    {"output": "picture"}, {"output": "change"}, {"flip": 0.0}, {"jitter": 0.0}, {"optimiser": "muon"},
], ids=str)  # fmt: skip
def test_every_field_matters(values, film):
    base = small("v3-single" if "disc_windows" in values else "v3-pair")  # a pair of two frames has one slot only
    plain, other = (finish(recipe, film, steps=3) for recipe in (base, replace(base, **values)))
    assert plain.losses != other.losses


@pytest.mark.parametrize("name", ["v1", "v3-pair"])
def test_same_seed_same_bits_while_another_thread_draws(name, film):
    alone = weights(finish(small(name, flip=0.5), film, steps=4, seed=3))
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.rand(10)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        beside = weights(finish(small(name, flip=0.5), film, steps=4, seed=3))
    finally:
        stop.set()
        thread.join()
    assert same(alone, beside)
    assert not same(alone, weights(finish(small(name, flip=0.5), film, steps=4, seed=4)))


def test_errors_are_followed_on_held_out_clips(film):
    p = finish(small("v1"), film, steps=2, held_out=0.5)
    clips = film.clips(p.run.eval_starts, 18).float() / 255
    f1, f2, real = clips[:, 0], clips[:, 1], clips[:, 2:]
    for name, frames in (("model", rt.rollout(p.model, f1, f2, 16)), ("copy_last", f2[:, None].expand_as(real))):
        by_hand = -10 * torch.log10((frames - real).square().mean(dim=(2, 3, 4)))
        assert p.psnr[name] == pytest.approx(by_hand.mean(dim=0).tolist(), abs=1e-3)
    assert p.run.eval_starts.min() >= film.starts(3, "held_out", 0.5).min() and p.preview_start in p.run.eval_starts
    assert finish(small("v1"), film, steps=1).psnr is None  # twelve frames are held out: too few


def test_training_leaves_the_global_generator_alone(film):
    before = torch.get_rng_state()
    finish(small("v3-pair", flip=0.5, spectral=True), film, steps=2)
    assert torch.equal(before, torch.get_rng_state())


def test_seconds_become_steps_with_the_same_bits(film):
    timed = finish(small("v2"), film, seconds=2, seed=1)
    assert timed.steps == timed.step >= 2
    assert same(weights(timed), weights(finish(small("v2"), film, steps=timed.step, seed=1)))


@pytest.mark.parametrize("name", ["v3-pair", "lstm"])
def test_resume_equals_unbroken(name, film, tmp_path):
    recipe = small(name, r1_weight=1.0, spectral=True)
    unbroken = weights(finish(recipe, film, steps=6))
    # a Progress comes at most every half second, so the first three steps are made by hand
    run = finish(recipe, film, steps=1).run
    for _ in range(2):
        run.step(6)
    half = rt.Progress(run.step_count, 6, {}, 1, 0, run.model, run.ema, None, 0, None, run.seed, recipe, run)
    rt.save(tmp_path, half, resumable=True)
    assert same(unbroken, weights(finish(recipe, film, steps=6, resume=tmp_path)))


def test_resume_refuses_another_recipe_or_film(film, tmp_path):
    p = finish(small("v1"), film, steps=3)
    rt.save(tmp_path, p, resumable=True)
    with pytest.raises(rt.RoadtripError, match="another recipe"):
        rt.train(small("v2"), film, steps=9, resume=tmp_path)
    with pytest.raises(rt.RoadtripError, match="another seed"):
        rt.train(small("v1"), film, steps=9, seed=1, resume=tmp_path)
    with pytest.raises(rt.RoadtripError, match="another gap"):
        rt.train(small("v1"), film.with_gap(2), steps=9, resume=tmp_path)
    with pytest.raises(rt.RoadtripError, match="3 steps already"):
        rt.train(small("v1"), film, steps=3, resume=tmp_path)
    assert finish(small("v1"), film, steps=5, resume=p).step == 5


def test_closing_stops_cleanly(film):
    stream = rt.train(small("v1"), film, seconds=60)
    p = next(stream)
    stream.close()
    clip = film.clips(film.starts(2, "held_out")[:1], 2)
    assert rt.rollout(p.model, clip[:, 0], clip[:, 1], 4).shape == (1, 4, 3, 32, 56)


def test_a_loss_that_is_no_number_stops_with_the_good_weights_kept(film):
    stream = rt.train(small("v1"), film, steps=1000, preview_every=1e9)
    p = next(stream)
    good = weights(p)
    draw = p.run.sample_batch
    p.run.sample_batch = lambda: draw()._replace(f2=torch.full_like(draw().f2, float("nan")))
    with pytest.raises(rt.RoadtripError, match="no longer a number"):
        list(stream)
    assert same(good[: len(good) // 2], weights(p)[: len(good) // 2])


def test_learns(film):
    """A slide is easy: the loss falls well below what copying the last frame leaves."""
    recipe = small("v1", batch=8, jitter=0.0)
    p = finish(replace(recipe, width=16), film, steps=150)
    measured = rt.evaluate(p.model, film, 1)
    assert measured.psnr["model"][0] > measured.best_baseline(1)[1] + 0.5


def test_training_never_sees_what_is_held_out(film):
    p = finish(small("v2"), film, steps=3)
    last = int(p.run.starts.max()) + film.span(4) - 1
    first = int(film.starts(2, "held_out").min())
    assert first == 48 and first - last >= film.span(4) - 1


def test_mean_frame_is_of_training_film(film):
    p = finish(small("v1"), film, steps=3)
    # training stops a clip's span before the held-out stretch
    seen = int(p.run.starts.max()) + film.span(3)
    assert (p.model.mean_frame.float() - film.frames[:seen].float().mean(0)).abs().max() <= 1


def test_schedule():
    assert schedule(0, None, 20) == schedule(0, 1000, 20) == pytest.approx(1 / 21)
    assert all(schedule(s, None, 20) == schedule(s, 100, 20) for s in range(51))  # half-way the end need not be known
    assert schedule(60, 100, 20) < 1
    assert schedule(999, 1000, 20) == pytest.approx(0.01, abs=1e-3)
    assert max(schedule(s, 300, 20) for s in range(300)) <= 1


@pytest.mark.parametrize("how, says", [
    ({}, "how long"), ({"steps": 3, "seconds": 3}, "how long"), ({"steps": 0}, "at least one"),
    ({"seconds": -1}, "more than zero"), ({"steps": 1, "seed": -1}, "Seed"), ({"steps": 1, "held_out": 1.0}, "held out"),
    ({"steps": 1, "dtype": "float8"}, "dtype"), ({"steps": 3, "stop_at": 4}, "planned"),
    ({"steps": 3, "stop_at": 0}, "planned"), ({"seconds": 3, "stop_at": 2}, "planned"),
    ({"steps": 1, "resume": "nowhere"}, "resumed"),
], ids=str)  # fmt: skip
def test_bad_arguments_are_one_sentence(how, says, film):
    with pytest.raises(rt.RoadtripError, match=says):
        rt.train("v1", film, **how)


def test_bad_recipes_are_one_sentence():
    with pytest.raises(rt.RoadtripError, match="no recipe 'v9'"):
        rt.train("v9", "scenery", steps=1)
    with pytest.raises(rt.RoadtripError, match="width"):
        rt.Recipe(width=7)
    with pytest.raises(rt.RoadtripError, match="bottleneck"):
        rt.Recipe(bottleneck="attention")
    with pytest.raises(rt.RoadtripError, match="unroll further"):
        rt.Recipe(gan_weight=1.0, disc_frames=2, unroll=1)
    assert rt.Recipe.from_dict(rt.RECIPES["v3-pair"].to_dict()) == rt.RECIPES["v3-pair"]
