"""How much a network draws is set so that rollouts are as lively as film, and by nothing that was held out."""

import math
from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip import calibration
from roadtrip.calibration import ROUNDS, TEMPERATURES, Round, calibrate, following, measured, training_stretches
from roadtrip.diffusion import Sampler
from roadtrip.film import Film
from roadtrip.oscillation import real_windows

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


def test_training_film_is_taken_at_its_gap_and_without_cuts():
    frames = torch.arange(40).view(40, 1, 1, 1).expand(40, 3, *SIZE).byte()
    film = Film(frames, (10,), 3, None, (0,), "toy", "0" * 64)
    there = [s[:, 0, 0, 0].tolist() for s in training_stretches(film, 0.25)]
    assert there[:3] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert there[3:] == [[*range(10 + phase, 30 - 1, 3)] for phase in range(3)], "the last quarter is held out"


def test_rollouts_that_are_the_film_measure_as_film():
    film = noisy_film(0.1, 0.2)
    stretches = training_stretches(film, 0.2)
    S, sharp, R = measured(stretches[0][None] / 255, real_windows(stretches, 32))
    assert pytest.approx(1, abs=0.02) == S and sharp == pytest.approx(1, abs=0.02)
    assert pytest.approx(((1 - 0.2**2) / (1 - 0.2)) ** 0.5, abs=0.03) == R  # of an AR(1) process with Gaussian steps
    assert measured(torch.full((1, 64, 3, *SIZE), 0.5), real_windows(stretches, 32)) is None


@pytest.mark.parametrize(("amplitude", "carry"), [(0.102, 0.1), (0.1, 0.5), (0.108, 0.3), (0.08, 0.2), (0.12, 0.2)])
def test_it_finds_what_the_film_was_made_with(amplitude, carry):
    model, film = noisy_model(carry=0.3), noisy_film(amplitude, carry)
    rounds = calibrate(model, film)
    assert len(rounds) == ROUNDS and (rounds[0].temperature, rounds[0].carry) == (1.0, 0.3)
    wanted = min(max(10 * amplitude, TEMPERATURES[0]), TEMPERATURES[1])
    assert model.sampler.temperature == pytest.approx(wanted, abs=0.02)
    assert model.sampler.carry == pytest.approx(carry, abs=0.06)
    errors = [abs(r.liveliness - wanted / (10 * amplitude)) for r in rounds]
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


def test_rollouts_that_are_no_numbers_end_it():
    model = noisy_model()
    model.step = lambda frame, state, noise=None, z=None: (torch.full_like(frame, torch.nan), state)
    assert calibrate(model, noisy_film(0.1, 0.2)) == [] and model.sampler == Sampler(1)


def test_a_round_follows_the_slope_and_stays_in_range():
    now = Sampler(1, temperature=1.0, carry=0.3)
    calm = Round(1.0, 0.3, 0.9, 0.9, 1.4)
    once = following(now, [calm], 1.34)
    assert once.temperature == pytest.approx(0.9 ** (-1 / 4.75)) and once.carry == pytest.approx(0.3 - 0.06 / 0.6)
    livelier = Round(once.temperature, once.carry, 0.95, 0.95, 1.34)
    twice = following(once, [calm, livelier], 1.34)
    slope = math.log(0.95 / 0.9) / math.log(once.temperature)
    assert twice.temperature == pytest.approx(once.temperature * 0.95 ** (-1 / slope)) and twice.carry == once.carry
    for S, carry in ((1e-6, 0.0), (100.0, 0.99)):
        far = following(replace(now, carry=carry), [Round(1.0, carry, S, S, 2 - 2 * carry)], 2 * carry)
        assert far.temperature in TEMPERATURES and far.carry in (0.0, 0.99)
    still = following(now, [calm, calm], 1.4)
    assert still.temperature == pytest.approx(once.temperature), "two rounds at one temperature have no secant"


@pytest.mark.parametrize(("S", "sharpness", "goes"), [
    (0.7, 1.0, 1), (0.7, 1.19, 1), (0.7, 1.3, -1), (1.0, 0.7, 0), (1.0, 1.2, 0), (1.3, 0.7, -1), (0.9, 1.2, 0),
])  # fmt: skip
def test_rollouts_are_as_fast_as_film_where_that_is_not_grain(S, sharpness, goes):
    temperature = following(Sampler(temperature=1.03), [Round(1.03, 0.3, S, sharpness, 1.3)], 1.3).temperature
    assert (temperature > 1.0301) - (temperature < 1.0299) == goes


def test_the_same_again_is_the_same(monkeypatch):
    monkeypatch.setattr(calibration, "FRAMES", 64)
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        model = rt.NextFrame(8, 1, sampler=Sampler(1, refine=0), size=SIZE)
        made.append((calibrate(model, noisy_film(0.1, 0.2, 60)), model.sampler))
    assert made[0] == made[1]
    assert len(made[0][0]) == ROUNDS and made[0][1] != Sampler(1, refine=0)
