"""How much a network draws is set so that rollouts are as lively as film, and by nothing that was held out."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import roadtrip as rt
from roadtrip.calibration import ROUNDS, TEMPERATURES, Round, calibrate, following, motion
from roadtrip.diffusion import Sampler
from roadtrip.film import Film
from roadtrip.oscillation import return_ratio

SIZE = (16, 24)


def noisy_film(amplitude: float, carry: float, frames: int = 300) -> Film:
    """Grey, each pixel an AR(1) process around it."""
    random, z, made = torch.Generator().manual_seed(5), torch.randn(3, *SIZE), []
    for _ in range(frames):
        z = carry * z + (1 - carry**2) ** 0.5 * torch.randn(3, *SIZE, generator=random)
        made.append(0.5 + amplitude * z)
    return Film((255 * torch.stack(made)).clamp(0, 255).byte(), (), 1, None, (0,), "noise", "0" * 64)


def noisy_model(**values) -> rt.NextFrame:
    """Draws grey with a tenth of z on it, so that its rollouts are what its sampler's temperature and carry make them."""
    model = rt.NextFrame(8, 0, sampler=Sampler(1, **values), size=SIZE)
    model.step = lambda frame, state, noise=None, z=None: (0.5 + 0.1 * z, state)
    return model


def test_motion_by_hand():
    frames = torch.zeros(1, 4, 3, 6, 6)
    frames[0, 1:3, :, 2, 2] = 1.0
    found = motion((255 * frames).byte())
    assert found.step == pytest.approx(2 / 3 / 36)
    assert found.sharpness == pytest.approx(
        (4 + 4 * 1) / 16 / 2
    )  # of the spike and its neighbours, in half of the frames
    assert found.R == pytest.approx(return_ratio(frames).item()) == pytest.approx(1.5)


@pytest.mark.parametrize(("amplitude", "carry"), [(0.09, 0.1), (0.1, 0.5), (0.108, 0.3)])
def test_it_finds_what_the_film_was_made_with(amplitude, carry):
    model, film = noisy_model(carry=0.3), noisy_film(amplitude, carry)
    rounds = calibrate(model, film)
    assert len(rounds) == ROUNDS and (rounds[0].temperature, rounds[0].carry) == (1.0, 0.3)
    assert model.sampler.temperature == pytest.approx(10 * amplitude, abs=0.02)
    assert model.sampler.carry == pytest.approx(carry, abs=0.06)
    errors = [abs(r.liveliness - 1) for r in rounds]
    assert errors[-1] < 0.05 and errors[-1] <= errors[0] + 0.01
    assert model.architecture["sampler"]["temperature"] == model.sampler.temperature, "it is saved"


def test_held_out_film_is_not_looked_at():
    film, found = noisy_film(0.1, 0.2), []
    for last in (0, 255):
        frames = film.frames.clone()
        frames[240:] = last
        model = noisy_model()
        calibrate(model, replace(film, frames=frames), 0.2)
        found.append(model.sampler)
    assert found[0] == found[1]


def test_nothing_to_calibrate_changes_nothing():
    v1, drawing = rt.NextFrame(8, 0, size=SIZE), noisy_model()
    assert calibrate(v1, noisy_film(0.1, 0.2)) == [] and v1.sampler is None
    assert calibrate(drawing, noisy_film(0.1, 0.2, frames=18)) == [] and drawing.sampler == Sampler(1)
    assert calibrate(drawing, noisy_film(0.1, 0.2), held_out=1.0) == [] and drawing.sampler == Sampler(1)


def test_rollouts_that_are_no_numbers_end_it(monkeypatch):
    model = noisy_model()
    model.step = lambda frame, state, noise=None, z=None: (torch.full_like(frame, torch.nan), state)
    assert calibrate(model, noisy_film(0.1, 0.2)) == [] and model.sampler == Sampler(1)


def test_a_round_follows_the_slope_and_stays_in_range():
    now = Sampler(1, temperature=1.0, carry=0.3)
    lively = Round(1.0, 0.3, 1.21, 1.21, 1.4)
    once = following(now, [lively], 1.34)
    assert once.temperature == pytest.approx(1.21 ** (-1 / 4.75)) and once.carry == pytest.approx(0.3 - 0.06 / 0.6)
    calmer = Round(once.temperature, once.carry, 1.1, 1.1, 1.34)
    twice = following(once, [lively, calmer], 1.34)
    slope = torch.tensor(1.21 / 1.1).log() / torch.tensor(1 / once.temperature).log()
    assert (
        twice.temperature == pytest.approx(once.temperature * 1.1 ** (-1 / slope.item())) and twice.carry == once.carry
    )
    for S, carry in ((1e-6, 0.0), (100.0, 0.99)):
        far = following(replace(now, carry=carry), [Round(1.0, carry, S, S, 2 - 2 * carry)], 2 * carry)
        assert far.temperature in TEMPERATURES and far.carry in (0.0, 0.99)
    still = following(now, [lively, lively], 1.4)
    assert still.temperature == pytest.approx(once.temperature), "two rounds at one temperature have no secant"


def test_the_same_again_is_the_same():
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        model = rt.NextFrame(8, 1, sampler=Sampler(1, refine=0), size=SIZE)
        made.append((calibrate(model, noisy_film(0.1, 0.2, 60)), model.sampler))
    assert made[0] == made[1]
    assert all(a.temperature != b.temperature for a, b in pairwise(made[0][0]))
