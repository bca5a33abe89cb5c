"""v4: the equations of few-step diffusion, the network that draws, and what its training reaches."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

import roadtrip as rt
from roadtrip.augment import damage
from roadtrip.diffusion import SPREAD, Sampler, coloured, denoised, denoising_loss, latents, noisy, sample, scaled
from roadtrip.film import Film
from roadtrip.model import Denoiser, Denoising, Shared, _dct_of_blocks
from roadtrip.oscillation import return_ratio
from roadtrip.train import Run, find_device

SAMPLER = Sampler(evaluations=3, refine=4)


def drawing_model(**values) -> rt.NextFrame:
    """A small network that draws, its zero-initialised layers awake."""
    torch.manual_seed(0)
    model = rt.NextFrame(8, 1, noise_conditioned=True, anchored=True, sampler=SAMPLER, size=(16, 24), **values)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.05 * torch.randn(weights.shape)
    return model


def at_each(denoise):
    """A function of y and one level, as `sample` asks for it: at all levels at once."""
    return lambda levels: [partial(denoise, s=s) for s in levels]


def pictures(n: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(n, batch, 3, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("evaluations", [1, 2, 5, 16])
def test_the_ladder_falls_geometrically(evaluations):
    ladder = []
    asked = at_each(lambda y, s: ladder.append(s.item()) or y)
    sample(asked, torch.zeros(1, 3, 8, 8), Sampler(evaluations, first=3.0, last=0.1))
    assert len(ladder) == evaluations and ladder[0] == 3.0
    if evaluations > 1:
        assert math.isclose(ladder[-1], 0.1, rel_tol=1e-5)
        ratios = [b / a for a, b in pairwise(ladder)]
        assert all(math.isclose(ratio, ratios[0], rel_tol=1e-5) and ratio < 1 for ratio in ratios)


def test_a_perfect_denoiser_draws_the_right_spread():
    """For Gaussian data of unit spread F is zero and the flow is known: y falls as √(1 + s²) does."""
    z = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = coloured(z, 1.0)
    for spread in (1.0, 0.5):
        v = spread**2
        perfect = lambda y, s, v=v: y * v / (v + s * s)  # noqa: E731
        for sampler, tolerance in ((Sampler(64, 4.0, 1e-3), 0.002), (Sampler(4), 0.09)):
            y = sample(at_each(perfect), z, sampler)
            exact = 4 * noise * math.sqrt(v / (v + 16))
            assert (y - exact).abs().max() < tolerance * exact.abs().max()


@pytest.mark.parametrize("first", [0.5, 4.0])
@pytest.mark.parametrize("evaluations", [1, 2, 33])
def test_near_begins_around_a_picture_under_as_much_noise(evaluations, first):
    random = torch.Generator().manual_seed(0)
    z, close = (torch.randn(4, 3, 8, 8, generator=random) for _ in range(2))
    where = torch.tensor([True, False, True, False]).view(4, 1, 1, 1)
    sampler, asked = Sampler(evaluations, first, 1e-3), []

    def perfect(y, s):
        asked.append(s.flatten().tolist())
        return y / (1 + s * s)

    y = sample(at_each(perfect), z, sampler, (close, where))
    noise = min(first, 1.0)
    assert asked[0] == pytest.approx([noise, first, noise, first]) and len(asked) == evaluations
    assert evaluations == 1 or asked[-1] == pytest.approx([1e-3] * 4, rel=1e-4)
    begun = close + noise * coloured(z, sampler.slope)
    exact = begun / (math.sqrt(1 + noise**2) if evaluations > 1 else 1 + noise**2)
    if evaluations != 2:  # two are too few to follow the flow
        assert (y - exact)[where.flatten()].abs().max() < 0.02 * exact.abs().max()
    assert torch.allclose(y[~where.flatten()], sample(at_each(perfect), z, sampler)[~where.flatten()], atol=1e-6)


def test_one_evaluation_is_the_first_guess():
    z = torch.randn(2, 3, 8, 8)
    guess = torch.randn(2, 3, 8, 8)
    assert torch.equal(sample(at_each(lambda y, s: guess), z, Sampler(1)), guess)


def test_temperature_scales_what_is_drawn_and_may_change_on_the_way():
    model = rt.NextFrame(8, 0, sampler=Sampler(1, temperature=0.5), size=(16, 24))
    seen = []
    model.step = lambda frame, state, noise=None, z=None: (seen.append(z) or frame, state)
    frames = rt.drive(model, torch.zeros(3, 16, 24), torch.zeros(3, 16, 24), seed=3, temperature=2.0)
    next(frames)
    model.sampler = Sampler(1, temperature=0.0)
    next(frames)
    z = latents((1, 3, 16, 24), 0.3, torch.Generator().manual_seed(3))
    assert torch.equal(seen[0], next(z)) and next(z).any() and not seen[1].any()


def test_the_loss_is_that_of_a_target_of_unit_variance():
    """(1 + s²)/s² · ‖D − r‖² is ‖F − F*‖² with r = y / (1 + s²) + F* · s / √(1 + s²)."""
    random = torch.Generator().manual_seed(0)
    real, moved = torch.rand(2, 5, 2, 3, 16, 16, generator=random)
    z = noisy(real, Sampler(), random)
    x, s = z[:, :, :3], z[:, :, 3:, :1, :1]
    F = torch.randn(real.shape, generator=random)
    y, r = (x - moved) / SPREAD, (real - moved) / SPREAD
    target = (r - y / (1 + s * s)) * (1 + s * s).sqrt() / s
    by_hand = (F - target).square().mean(dim=(0, 2, 3, 4)).sum()
    guess = moved + SPREAD * denoised(y, s, F)
    assert torch.allclose(denoising_loss(guess, real, s), by_hand, rtol=1e-3)


def test_noisy_frames_carry_the_noise_they_tell_of():
    real = torch.zeros(400, 2, 3, 8, 8)
    z = noisy(real, Sampler(slope=0.0), torch.Generator().manual_seed(0))
    s = z[:, :, 3, 0, 0]
    assert z.shape == (400, 2, 4, 8, 8) and (z[:, :, 3] == s[..., None, None]).all()
    assert torch.allclose(z[:, :, :3].std(dim=(2, 3, 4)) / (SPREAD * s), torch.ones(400, 2), atol=0.3)
    assert abs(s.log().mean() - 0.3) < 0.15 and abs(s.log().std() - 1.2) < 0.1
    assert torch.allclose(scaled(s.new_ones(1) * (1 + 9) ** 0.5, s.new_full((1,), 3.0)), s.new_ones(1))


def test_the_dct_is_orthonormal_and_its_first_row_the_mean():
    dct = _dct_of_blocks()[:, :, 0, 0]
    assert torch.allclose(dct @ dct.T, torch.eye(48), atol=1e-6)
    flat = dct @ torch.ones(48)
    assert torch.allclose(flat[::16], torch.full((3,), 4.0)) and flat.abs().sum() < 12 + 1e-4


def test_a_fresh_network_draws_around_the_last_frame():
    f1, f2 = pictures(2)
    model = rt.NextFrame(8, 1, sampler=SAMPLER, size=(16, 24))
    middle = rt.rollout(model, f1, f2, 1, temperature=0.0)[:, 0]
    assert torch.allclose(middle, f2, atol=1e-6)
    drawn = rt.rollout(model, 0.5 + 0 * f1, 0.5 + 0 * f2, 1)[:, 0]
    assert 0.7 * SPREAD < (drawn - 0.5).std() < 1.1 * SPREAD


def test_the_seed_decides_what_is_drawn():
    model, (f1, f2) = drawing_model(), pictures(2)
    one, same, other = (rt.rollout(model, f1, f2, 6, seed) for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-3)
    assert torch.equal(rt.rollout(model, f1, f2, 9, 3)[:, :6], one), "how far one drives changes nothing before"
    alone = rt.rollout(model, f1[:1], f2[:1], 2, 3)
    assert torch.allclose(alone[:, 0], one[:1, 0], atol=1e-5), "the first clip's draw depends on no neighbour"
    twins = rt.rollout(model, f1[[0, 0]], f2[[0, 0]], 2, 3)
    assert not torch.allclose(twins[0], twins[1], atol=1e-3), "two clips of one start are drawn apart"


def test_driving_is_the_rollout_without_an_end():
    model, (f1, f2) = drawing_model(), pictures(2)
    stream = rt.drive(model, f1, f2, seed=5, temperature=0.7)
    frames = torch.stack([next(stream) for _ in range(7)], dim=1)
    assert torch.equal(frames, rt.rollout(model, f1, f2, 7, 5, 0.7))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("local_gain", [False, True])
@pytest.mark.parametrize("refine", [0, 4])
def test_levels_at_once_say_what_each_says_alone(refine, local_gain):
    torch.manual_seed(0)
    denoiser, batch = Denoiser(8, refine, local_gain), 3
    with torch.no_grad():
        for weights in denoiser.parameters():
            weights += 0.1 * torch.randn(weights.shape)
        y, moved = torch.rand(2, batch, 3, 16, 24)
        shared = denoiser.shared(moved, torch.randn(batch, 16, 2, 3), torch.randn(batch, 8, 4, 6))
        s = torch.tensor([[0.1, 0.7, 12.0], [3.0, 0.02, 1.0]])[..., None, None, None]
        together = [denoiser(y, level, shared) for level in denoiser.levels(s)]
        alone = [denoiser(y, *denoiser.levels(one[None]), shared) for one in s]
        of_one = [
            denoiser(y[i : i + 1], *denoiser.levels(s[k : k + 1, i : i + 1]), _of(shared, i))
            for k in range(2)
            for i in range(batch)
        ]
    for a, b in zip(together, alone):
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(torch.cat(together), torch.cat(of_one), atol=1e-5), "each clip has its own level"
    assert not torch.allclose(*together, atol=1e-2)


def _of(shared: Shared, clip: int) -> Shared:
    return Shared(*(part if part is None else part[clip : clip + 1] for part in shared))


def test_the_anchor_is_the_first_frame_and_stays():
    model, (f1, f2, still) = drawing_model(), pictures(3)
    with torch.no_grad():
        own, told = model.observe(f1), model.observe(f1, anchor=f1)
        assert torch.equal(own[-1], told[-1]) and not torch.equal(own[-1], model.observe(f1, anchor=still)[-1])
        state = own
        for _ in range(3):
            _, state = model.step(f2, state, z=torch.zeros_like(f2))
        assert torch.equal(state[-1], own[-1])


@pytest.mark.parametrize("anchored", [True, False])
def test_a_rollout_carries_the_state_that_training_begins_with(anchored):
    model, (f1, f2) = drawing_model(), pictures(2)
    if not anchored:
        model.anchor = None
    with torch.no_grad():
        _, carried = model.step(f2, model.observe(f1), z=torch.zeros_like(f2))
        begun = model.observe(f2, anchor=f1)
    assert len(carried) == len(begun) == 1 + anchored
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(carried, begun))


def test_a_rollout_is_told_the_drive_noise():
    model, (f1, _) = drawing_model(), pictures(2)
    with torch.no_grad():
        told = model.observe(f1, f1.new_full((2, 1), SAMPLER.drive_noise))
        assert torch.equal(model.observe(f1)[0], told[0])
        assert not torch.equal(model.observe(f1)[0], model.observe(f1, f1.new_zeros(2, 1))[0])


@pytest.mark.parametrize("output", ["warp", "change", "picture"])
def test_what_is_denoised_is_what_is_drawn(output):
    """Told the whole noise and shown the picture that sampling begins with, the training's view gives the same guess."""
    model, (f1, f2, z) = drawing_model(output=output), pictures(3)
    with torch.no_grad():
        once = replace(SAMPLER, evaluations=1)
        model.sampler = once
        state = model.observe(f1)
        drawn, _ = model.step(f2, state, z=z)
        _, moved, _, _ = model._explain(f2, state, None)
        s = torch.full_like(moved[:, :1], once.first)
        seen = torch.cat([moved + SPREAD * once.first * coloured(z, 1.0), s], dim=1)
        both, _ = Denoising(model).step(f2, state, z=seen)
    assert torch.allclose(both[:, :3].clamp(0, 1), drawn, atol=1e-4) and torch.equal(both[:, 3:], moved)


def toy_film(frames: torch.Tensor) -> Film:
    return Film(frames, (), 1, None, (0,), "toy", "0" * 64)


def recipe(**values) -> rt.Recipe:
    small = {"width": 8, "batch": 4, "refine": 4, "replay": 2}
    return replace(rt.RECIPES["v4"], **small | values)


def test_gradients_reach_every_weight():
    film = toy_film((255 * torch.rand(40, 3, 16, 24, generator=torch.Generator().manual_seed(0))).byte())
    run = Run(recipe(), film, 0, 0.2, find_device("cpu"), "float32")
    for _ in range(6):
        run.step(10)  # layers that begin at zero hide those before them in the first step
    assert [name for name, p in run.model.named_parameters() if not p.grad.abs().sum()] == []


def test_a_share_of_the_batch_is_replayed():
    frames = torch.arange(40).view(40, 1, 1, 1).expand(40, 3, 16, 24).mul(6).byte()
    plain = {"jitter": 0.0, "zoom": 0.0, "damage": 0.0, "context_noise": 0.0}
    run = Run(recipe(replay_share=0.5, **plain), toy_film(frames), 0, 0.2, find_device("cpu"), "float32")
    made = 0
    for _ in range(8):
        batch = run.sample_batch()
        real = run.film.frames.float() / 255
        known = [any(torch.equal(f2, frame) for frame in real) for f2 in batch.f2]
        assert all(known[2:]), "the other half stays real"
        made += known[:2].count(False)
        assert batch.anchor.shape == batch.f1.shape and all(any(torch.equal(a, f) for f in real) for a in batch.anchor)
    assert made


@pytest.mark.parametrize(("of_film", "rises"), [("back and forth", False), ("ever brighter", True)])
def test_carry_follows_how_soon_the_film_returns(of_film, rises, tmp_path):
    levels = torch.tensor([0, 200]).repeat(20) if of_film == "back and forth" else torch.arange(40) * 6
    film = toy_film(levels.view(40, 1, 1, 1).expand(40, 3, 16, 24).byte())
    run = Run(recipe(replay=4, carry=0.3, carry_rate=0.1), film, 0, 0.2, find_device("cpu"), "float32")
    for _ in range(12):
        run.sample_batch()
    assert (run.carry > 0.35) if rises else (run.carry < 0.25)
    assert run.ema.sampler == run.model.sampler and run.ema.sampler.carry == run.carry
    rt.save(tmp_path, run.ema)
    assert rt.load(tmp_path).sampler.carry == run.carry
    still = Run(recipe(replay=4, carry=0.3, carry_rate=0.0), film, 0, 0.2, find_device("cpu"), "float32")
    for _ in range(12):
        still.sample_batch()
    assert still.carry == 0.3


def test_the_return_ratio_of_clips():
    steps = torch.tensor([[0.0, 0.1, 0.2, 0.3], [0.5, 0.6, 0.5, 0.6]])[:, :, None, None, None].expand(2, 4, 3, 8, 8)
    assert math.isclose(return_ratio(steps[:1]).item(), 2, rel_tol=1e-5)
    assert return_ratio(steps[1:]).item() < 1e-5
    assert math.isclose(return_ratio(steps).item(), 1, rel_tol=1e-5)
    assert return_ratio(steps[:, :1].expand(2, 5, 3, 8, 8)).item() == 0


def test_the_anchor_is_of_the_clips_own_drive():
    frames = torch.cat([torch.full((20, 3, 16, 24), v) for v in (40, 120, 200)]).byte()
    film = Film(frames, (20, 40), 1, None, (0, 20, 40), "toy", "0" * 64)
    plain = recipe(replay=0, jitter=0.0, damage=0.0, context_noise=0.0)
    run = Run(plain, film, 0, 0.2, find_device("cpu"), "float32")
    for _ in range(5):
        batch = run.sample_batch()
        assert torch.equal(batch.anchor, batch.f1)


def test_damage_hurts_a_share_and_both_frames_alike():
    random = torch.Generator().manual_seed(0)
    context = torch.rand(60, 1, 3, 16, 24, generator=random).expand(60, 2, 3, 16, 24)
    hurt = damage(context, 0.5, random)
    changed = (hurt != context).flatten(1).any(dim=1)
    assert 15 < changed.sum() < 45 and torch.equal(hurt[:, 0], hurt[:, 1])
    assert torch.equal(damage(context, 0.0, random), context)
    assert hurt.min() >= 0 and hurt.max() <= 1


def test_it_draws_where_v1_averages():
    """A film whose next frame is dark or bright by the toss of a coin: v1 says grey, v4 tosses the coin."""
    coin = torch.randint(2, (200, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    film = toy_film((coin * 50 + 102).expand(200, 3, 16, 24).byte())
    plain = {"jitter": 0.0, "flip": 0.0, "replay": 0, "width": 8, "batch": 32}
    v4 = replace(rt.RECIPES["v4"], **plain, damage=0.0, context_noise=0.0, anchor=False, first_level=20.0)
    f, spread = torch.full((256, 3, 16, 24), 0.4), {}
    for recipe in (v4, replace(rt.RECIPES["v1"], **plain)):
        *_, p = rt.train(recipe, film, steps=150, device="cpu", dtype="float32", preview_every=1e9)
        spread[recipe.name] = rt.rollout(p.model, f, f, 1)[:, 0].mean(dim=(1, 2, 3)).std().item()
    assert spread["v1"] < 0.01 and 0.05 < spread["v4"] < 0.15  # the coin's own is 0.1


def test_a_gain_for_each_place_keeps_what_is_still_still():
    """A film whose left half is grey and whose right half is new in each frame: how much noise is left in the grey?"""
    random = torch.Generator().manual_seed(0)
    frames = torch.full((100, 3, 16, 32), 128.0)
    frames[..., 16:] += 25 * torch.randn(100, 3, 16, 16, generator=random)
    film, left = toy_film(frames.clamp(0, 255).byte()), {}
    plain = {"jitter": 0.0, "zoom": 0.0, "damage": 0.0, "context_noise": 0.0, "replay": 0, "refine": 0, "batch": 16}
    for local in (True, False):
        learned = recipe(**plain, local_gain=local)
        *_, p = rt.train(learned, film, steps=120, device="cpu", dtype="float32", preview_every=1e9)
        drawn = rt.rollout(p.model, *film.frames[:2, None].expand(2, 32, 3, 16, 32), 1)[:, 0]
        still, new = drawn[..., :14].std(dim=0).mean(), drawn[..., 18:].std(dim=0).mean()
        left[local] = (still / new).item()
    assert left[True] < 0.5 * left[False]


def test_pink_noise_keeps_its_variance_and_hides_every_scale():
    for height, width in ((16, 24), (72, 128), (48, 40)):
        x = coloured(torch.randn(300, 3, height, width, generator=torch.Generator().manual_seed(0)), 1.0)
        assert abs(x.var() - 1) < 0.05 and abs(x[..., 0, 0].var() - x[..., -1, -1].var()) < 0.3
        power = torch.fft.rfft2(x, norm="ortho").abs().square().mean(dim=(0, 1))
        fine = power[height // 2, 0]
        assert power[0, 0] > power[1, 0] > power[2, 0] > 4 * power[4, 0] / 1.5 > fine
        assert torch.allclose(power[1, 0] * 2, fine * (1 + (height / 2) ** 2), rtol=0.3)


@pytest.mark.parametrize("values", [
    {"evaluations": 0}, {"evaluations": 65}, {"evaluations": 2.0}, {"evaluations": True}, {"evaluations": "4"},
    {"first": 0.0}, {"first": math.nan}, {"first": math.inf}, {"last": 0}, {"temperature": -1}, {"temperature": None},
    {"drive_noise": 2}, {"slope": 3}, {"refine": -1}, {"refine": 1.5}, {"refine": 10**9},
    {"local_gain": 1}, {"local_gain": "yes"}, {"local_gain": None},
], ids=str)  # fmt: skip
def test_a_sampler_that_cant_be_is_a_sentence(values):
    with pytest.raises(rt.RoadtripError, match=next(iter(values))):
        Sampler(**values)


def test_a_network_that_draws_is_saved_and_loaded(tmp_path):
    model, (f1, f2) = drawing_model(), pictures(2)
    again = rt.load(rt.save(tmp_path / "v4", model))
    assert again.sampler == SAMPLER and again.architecture == model.architecture
    assert torch.allclose(rt.rollout(again, f1, f2, 3), rt.rollout(model, f1, f2, 3), atol=1e-4)


def test_drawing_and_driving_back_exclude_each_other():
    with pytest.raises(rt.RoadtripError, match="drive back"):
        recipe(pingpong_weight=1.0)


def test_half_precision_halves_the_file_and_hardly_moves_the_rollout(tmp_path):
    model, (f1, f2) = drawing_model(), pictures(2)
    whole, half = (rt.save(tmp_path / str(h), model, half=h) for h in (False, True))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.65 * sizes[0]
    again = rt.load(half)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert torch.allclose(rt.rollout(again, f1, f2, 2), rt.rollout(model, f1, f2, 2), atol=0.02)
