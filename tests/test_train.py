"""Training: every recipe, its bits, resuming, stopping, and what it refuses."""

import random
import sys
import threading
from dataclasses import fields, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

import roadtrip as rt
from roadtrip.augment import augment
from roadtrip.optim import lr_share
from roadtrip.reproduce import script
from roadtrip.train import Run

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
    more = {"v3-pair": {"generator", "discriminator"}, "v3-single": {"generator", "discriminator"}, "v4": {"denoise"}}
    assert set(p.losses) == {"l1"} | more.get(name, set())
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
    {"output": "picture"}, {"output": "change"}, {"flip": 0.0}, {"jitter": 0.0}, {"tint": 0.1}, {"zoom": 0.1},
    {"optimiser": "muon"},
], ids=str)  # fmt: skip
def test_every_field_matters(values, film):
    base = small("v3-single" if "disc_windows" in values else "v3-pair")  # a pair of two frames has one slot only
    plain, other = (finish(recipe, film, steps=3) for recipe in (base, replace(base, **values)))
    assert plain.losses != other.losses


@pytest.mark.parametrize("values", [{"flip": 1.0}, {"jitter": 0.3}, {"tint": 0.3}, {"zoom": 0.3}], ids=str)
def test_a_clip_is_augmented_as_a_whole(values):
    plain = rt.Recipe("plain", flip=0.0, jitter=0.0, tint=0.0, zoom=0.0)
    clips = torch.rand(4, 1, 3, 16, 24, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1, -1)
    changed = augment(clips, replace(plain, **values), torch.Generator().manual_seed(1))
    assert changed.shape == clips.shape and changed.min() >= 0 and changed.max() <= 1
    assert (changed == changed[:, :1]).all()
    assert all((before != after).any() for before, after in zip(clips, changed))
    assert torch.equal(augment(clips, plain, torch.Generator().manual_seed(1)), clips)


def test_a_tint_is_one_gain_for_each_colour():
    recipe = rt.Recipe("tinted", flip=0.0, jitter=0.0, tint=0.2)
    clips = torch.full((64, 2, 3, 8, 8), 0.5)
    gains = augment(clips, recipe, torch.Generator().manual_seed(0)) / clips
    assert torch.equal(gains, gains[:, :1, :, :1, :1].expand_as(gains))
    each = gains[:, 0, :, 0, 0]
    assert 0.8 <= each.min() < 0.85 and 1.15 < each.max() <= 1.2 and (each.std(dim=1) > 0.01).all()


@pytest.mark.parametrize("weight, value", [
    ("l1_weight", 10.0), ("gan_weight", 1.0), ("pingpong_weight", 5.0), ("r1_weight", 0.1), ("r1_weight", 1.0),
])  # fmt: skip
def test_doubling_a_weight_changes_the_update(weight, value, film):
    """Not by a rounding: a weight that is drowned by a clipped norm or by Adam's moments trains alike at any value."""
    base = replace(small("v3-pair"), l1_weight=10.0, pingpong_weight=5.0, r1_weight=0.1, r1_interval=2, warmup=0)

    def moved(value):
        run = finish(replace(base, **{weight: value}), film, steps=1).run
        before = parameters(run)
        for _ in range(8):
            run.step(100)
        return parameters(run) - before

    def parameters(run):
        side = run.discriminator if weight == "r1_weight" else run.model
        return torch.cat([p.detach().flatten().clone() for p in side.parameters()])

    once, twice = moved(value), moved(2 * value)
    assert (twice - once).norm() > 0.02 * once.norm()


def test_what_clips_whose_gradient(film):
    """A norm that is never reached changes nothing; a smaller one changes the side that it names from its first step on."""
    base = replace(small("v3-pair"), optimiser="adam", r1_weight=1.0)
    plain = finish(base, film, steps=1).run
    for field, touched in (("clip_norm", plain.model), ("disc_clip_norm", plain.discriminator)):
        loose, off, tight = (finish(replace(base, **{field: v}), film, steps=1).run for v in (1e6, 0, 1e-6))
        side = "discriminator" if touched is plain.discriminator else "model"
        same_side = [getattr(run, side).state_dict().values() for run in (loose, off, tight)]
        assert same(same_side[0], same_side[1]) and not same(same_side[0], same_side[2])


def test_averaged_weights_keep_no_graph(film):
    run = finish(small("v1", batch=1), film, steps=1).run
    for _ in range(200):
        run.step(None)
    for p in run.ema.parameters():
        assert not p.requires_grad and p.grad_fn is None
    before = memory()
    for _ in range(400):
        run.step(None)
    assert memory() - before < 4  # 7 to 12 MB with a node a tensor a step


def memory() -> float:
    """MB that this process holds, where the system tells."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * 4096 / 2**20 if file.exists() else 0.0


def test_the_discriminators_context_is_what_the_generator_was_fed(film):
    recipe = small("v3-pair", disc_context=2, disc_frames=3, replay=6, context_noise=0.2)
    run = finish(recipe, film, steps=1).run
    replayed = 0
    for _ in range(8):
        batch = run.sample_batch()
        seen = run._windows(batch, batch.clips[:, 2:])
        assert torch.equal(seen[: len(batch.f1), :6], torch.cat([batch.f1, batch.f2], dim=1))
        assert torch.equal(seen[: len(batch.f1), 6:], batch.clips[:, 2])
        replayed += not torch.allclose(batch.f2, batch.clips[:, 1], atol=0.1)
    assert replayed


def test_a_network_is_told_the_noise_that_is_there(film, monkeypatch):
    """Ping-pong drives back from clean frames, so it is told of none."""
    train = sys.modules["roadtrip.train"]
    calls, unroll = [], train.unroll

    def spied(model, f1, f2, steps, feedback=None, noise=None, z=None, anchor=None):
        calls.append((f2, feedback, noise))
        return unroll(model, f1, f2, steps, feedback, noise, z, anchor)

    run = finish(small("v2", context_noise=0.2, pingpong_weight=1.0), film, steps=1).run
    batch = run.sample_batch()
    monkeypatch.setattr(train, "unroll", spied)
    run._train_step(False, None, *batch)
    (f2, feedback, noise), (_, back_feedback, back_noise) = calls
    assert torch.equal(noise, batch.noise) and feedback
    assert (f2 - batch.clips[:, 1]).std() > 0.01 and (run._feedback(batch)(f2) - f2).std() > 0.01
    assert back_noise is None and back_feedback is None


def test_any_recipe_within_the_ranges_trains(film):
    """What a Recipe accepts, a Run can build and step: 40 draws over all fields."""
    rng, trained = random.Random(0), 0
    large = {
        "width": (8, 24),
        "disc_width": (8, 40),
        "batch": (1, 3),
        "unroll": (1, 3),
        "replay": (0, 3),
        "depth": (0, 2),
    }
    while trained < 40:
        values = {}
        for f in fields(rt.Recipe):
            low, high = large.get(f.name) or f.metadata["span"] or (0, 0)
            if f.metadata["choices"]:
                values[f.name] = rng.choice(f.metadata["choices"])
            elif f.type is bool:
                values[f.name] = rng.random() < 0.5
            elif f.type is int:
                values[f.name] = rng.randint(low, high)
            elif f.type is float:
                values[f.name] = rng.choice([low, high, rng.uniform(low, high)])
        try:
            recipe = rt.Recipe(**values)
        except rt.RoadtripError:
            continue
        Run(recipe, film, 0, 0.2, torch.device("cpu"), "float32").step(4)
        trained += 1


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
    few = finish(small("v1"), film, steps=1)  # twelve frames are held out: errors reach four ahead
    assert [len(v) for v in few.psnr.values()] == [4] * 4 and few.preview.shape[0] == 16
    assert finish(small("v1"), film, steps=1, held_out=0.0).psnr is None


def test_one_network_is_stepped_alone(film):
    """Neither moves the other, and what was done by hand is not claimed to be repeatable."""
    p = finish(small("v3-pair"), film, steps=2)

    def of(module):
        return [t.clone() for t in module.state_dict().values()]

    generator, discriminator = of(p.run.model), of(p.run.discriminator)
    assert p.run.step_by_hand("discriminator").keys() == {"l1", "generator", "discriminator"}
    assert same(generator, of(p.run.model)) and not same(discriminator, of(p.run.discriminator))
    discriminator = of(p.run.discriminator)
    p.run.step_by_hand("generator")
    assert not same(generator, of(p.run.model)) and same(discriminator, of(p.run.discriminator))
    known = p.run.model.provenance
    assert (known.step, known.resumed_at) == (4, ((4, 0),)) and "not repeated" in script(known, film.size)
    again = finish(small("v3-pair"), film, steps=6, resume=p)  # and training goes on
    assert again.step == 6
    with pytest.raises(rt.RoadtripError, match="no discriminator"):
        finish(small("v1"), film, steps=1).run.step_by_hand("discriminator")


@pytest.mark.parametrize("name", ["v1", "lstm", "v3-pair", "v3-single", "v4"])
def test_what_is_seen_inside_is_what_makes_the_frame(name, film):
    p = finish(small(name), film, steps=2)
    seen = p.run.inside()
    assert torch.allclose((seen["moved"] + seen["change"]).clamp(0, 1), seen["g3"].clamp(0, 1), atol=1e-6)
    assert seen["flow"].shape == (2, 32, 56)
    if name != "v4":
        assert torch.allclose(p.model(seen["f1"][None], seen["f2"][None])[0], seen["g3"], atol=1e-5)
    if name.startswith("v3"):
        windows, frames = (1, 2) if name == "v3-pair" else (2, 1)
        for kind in ("real", "generated"):
            assert seen[kind].shape == (windows, frames, 3, 32, 56) and seen[f"{kind} scores"].shape == (windows, 4, 7)
        assert torch.equal(seen["real"][0, 0], seen["f3"])
    else:
        assert "real" not in seen


def test_training_leaves_the_global_generator_alone(film):
    before = torch.get_rng_state()
    finish(small("v3-pair", flip=0.5, spectral=True), film, steps=2)
    assert torch.equal(before, torch.get_rng_state())


def test_seconds_become_steps_with_the_same_bits(film):
    timed = finish(small("v2"), film, seconds=2, seed=1)
    assert timed.steps == timed.step >= 2
    assert same(weights(timed), weights(finish(small("v2"), film, steps=timed.step, seed=1)))


@pytest.mark.parametrize("name", rt.RECIPES)
def test_resume_equals_unbroken(name, film, tmp_path):
    recipe = small(name, **({"r1_weight": 1.0, "spectral": True} if rt.RECIPES[name].gan_weight else {}))
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


@pytest.mark.parametrize("name", ["v3-pair", "v4"])
def test_a_step_cut_short_is_none(name, film):
    """Wherever a step is interrupted, what goes on from there equals a run that was not."""
    recipe = small(name, replay=2)
    cut, whole = (Run(recipe, film, 0, 0.2, torch.device("cpu"), "float32") for _ in range(2))
    interrupted = 0
    for step in range(1, 4):
        whole.step(3)
        for slices in range(1, 9):
            parts = cut.step_in_slices(3)
            if len(list(islice(parts, slices))) < slices:
                break  # that was all of it
            parts.close()
            interrupted += 1
        assert cut.step_count == whole.step_count == step
    assert interrupted > 4
    assert all(torch.equal(a, b) for a, b in zip(cut.state()[0].values(), whole.state()[0].values(), strict=True))


def test_a_loss_that_is_no_number_stops_with_the_good_weights_kept(film):
    stream = rt.train(small("v1"), film, steps=1000, preview_every=1e9)
    p = next(stream)
    good = weights(p)
    draw = p.run._sample_in_slices

    def damaged():
        batch = yield from draw()
        return batch._replace(f2=torch.full_like(batch.f2, float("nan")))

    p.run._sample_in_slices = damaged
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
    assert lr_share(0, None, 20) == lr_share(0, 1000, 20) == pytest.approx(1 / 21)
    assert all(lr_share(s, None, 20) == lr_share(s, 100, 20) for s in range(51))  # half-way the end need not be known
    assert all(lr_share(s, None, 20, 0.8) == lr_share(s, 100, 20, 0.8) for s in range(81))
    assert lr_share(60, 100, 20) < 1
    assert lr_share(999, 1000, 20) == pytest.approx(0.01, abs=1e-3)
    assert lr_share(999, 1000, 20, last=0.3) == pytest.approx(0.3, abs=1e-3)
    assert max(lr_share(s, 300, 20) for s in range(300)) <= 1


@pytest.mark.parametrize("plans", [
    [(20, 20), (8, None), (40, 60)], [(10, 40), (5, None), (60, 75)], [(10, None), (40, 90)], [(30, 30), (30, 90)],
    [(12, 40), (20, 33)],
], ids=str)  # fmt: skip
def test_the_step_size_never_jumps(plans, film):
    """Whatever is planned anew on the way: (steps taken, planned steps in all), one after the other, as in resuming."""
    run = finish(small("v1"), film, steps=1).run
    shares, shortest = [], min(n for _, n in plans if n)
    for count, steps in plans:
        for _ in range(count):
            run.step(steps)
            shares.append(run.optimisers[0].param_groups[0]["lr"] / run.recipe.lr)
    steepest = max(1 / (run.recipe.warmup + 1), np.pi / shortest)
    assert max(abs(b - a) for a, b in pairwise(shares)) <= steepest + 1e-9
    assert shares[-1] < 0.1 or plans[-1][0] + run.origin < plans[-1][1]


def test_a_run_resumed_before_its_decay_equals_one_planned_so(film):
    """Steps on the plateau are the same for every plan, so a longer plan leaves no trace."""
    longer = finish(small("v2"), film, steps=4).run
    for _ in range(2):  # 4 of 4 had begun to decay: this is another run
        longer.step(40)
    assert longer.origin == 4
    run = finish(small("v2"), film, steps=1).run
    for _ in range(4):
        run.step(100)
    for _ in range(5):
        run.step(10)
    unbroken = finish(small("v2"), film, steps=10)
    assert run.origin == 0 and same(weights(unbroken), [*map(torch.clone, run.model.state_dict().values()),
                                                        *map(torch.clone, run.ema.state_dict().values())])  # fmt: skip


def test_a_warm_start_begins_from_the_weights_it_is_given(film, tmp_path):
    one = finish(small("v1"), film, steps=4)
    rt.save(tmp_path / "one", one)
    other = film.with_gap(2)
    first = rt.train(replace(small("v2"), lr=1e-7), other, steps=1, start=tmp_path / "one", preview_every=1e9)
    model = next(first).model
    assert torch.equal(model.encoder.stem.bias.round(decimals=4), one.model.encoder.stem.bias.round(decimals=4))
    cold = finish(small("v2"), other, steps=1).model
    assert not torch.equal(model.encoder.down.weight, cold.encoder.down.weight)
    known = model.provenance
    assert known.start.name == "one" and known.start.drive_ids == film.drive_ids
    assert one.model.provenance.start is None
    # what the first weights saw, the second have seen
    elsewhere = replace(known, film=replace(known.film, drive_ids=("ab" * 32,)))
    assert elsewhere.trained_on(film) and not replace(elsewhere, start=None).trained_on(film)


def test_a_warm_start_is_stopped_and_gone_on_with(film, tmp_path):
    start = finish(small("v1"), film, steps=2).model
    *_, stopped = rt.train(small("v1"), film, steps=4, stop_at=2, start=start, preview_every=1e9)
    assert stopped.step == 2
    rt.save(tmp_path, stopped, resumable=True)
    again = finish(small("v1"), film, steps=4, resume=tmp_path)
    assert same(weights(again), weights(finish(small("v1"), film, steps=4, start=start)))
    assert again.model.provenance.start == stopped.model.provenance.start is not None


def test_a_warm_start_refuses_another_network_and_film_that_was_seen(film):
    start = finish(small("v1"), film, steps=1, held_out=0.1).model
    for recipe, how, says in (
        (small("v1", width=16), {"held_out": 0.1}, "another network .*width 8"),
        (small("lstm"), {"held_out": 0.1}, "another network .*bottleneck conv"),
        (small("v1"), {}, "hold out no more"),
        (small("v1"), {"resume": "runs"}, "leave out either"),
        ("v1", {"start": "lstm"}, "another network .*bottleneck lstm"),
        ("v1", {"start": "nowhere"}, "no checkpoint"),
    ):
        with pytest.raises(rt.RoadtripError, match=says):
            rt.train(recipe, film, **({"steps": 1, "start": start} | how))


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
    for width in (10, 9, 33, 254):
        with pytest.raises(rt.RoadtripError, match="multiple of 4"):
            rt.Recipe(disc_width=width)
    assert rt.Recipe.from_dict(rt.RECIPES["v3-pair"].to_dict()) == rt.RECIPES["v3-pair"]
