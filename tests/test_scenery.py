"""The rendered road: the same bits from the same seed whatever happens around it, and as hard as the real thing."""

import threading

import pytest
import torch
from torch import Tensor

from roadtrip import scenery

SMALL = {"size": (48, 80), "drives": 2, "frames": 24}


@pytest.fixture(scope="module")
def film() -> Tensor:
    return scenery.render(0, (48, 80), drives=5, frames=150)[0]


def test_shapes_cuts_and_gap() -> None:
    film, cuts, gap = scenery.render(1, (48, 80), drives=3, frames=20)
    assert film.shape == (60, 3, 48, 80) and film.dtype == torch.uint8 and film.is_contiguous()
    assert cuts == (20, 40)
    assert gap == scenery.DEFAULT_GAP > 1


@pytest.mark.parametrize("size", [(72, 128), (96, 160), (64, 64), (40, 120)])
def test_other_sizes(size: tuple[int, int]) -> None:
    film, _, _ = scenery.render(2, size, drives=1, frames=5)
    assert film.shape == (5, 3, *size)
    sky, ground = film[:, :, : size[0] // 6].float(), film[:, :, -size[0] // 6 :].float()
    assert sky.mean() > ground.mean()  # the right way up


def test_one_frame_is_a_film() -> None:
    film, cuts, _ = scenery.render(0, (48, 80), drives=1, frames=1)
    assert film.shape == (1, 3, 48, 80) and cuts == ()


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    one, again, other = (scenery.render(seed, **SMALL)[0] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert (one.float() - other.float()).abs().mean() > 5


def test_never_touches_the_global_generator_or_its_seed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = scenery.render(5, **SMALL)[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    torch.rand(7)
    assert torch.equal(scenery.render(5, **SMALL)[0], one)


def test_neither_chunks_nor_the_number_of_drives_change_a_pixel() -> None:
    whole = scenery.render(6, **SMALL)[0]
    for chunk in (1, 7, 24):
        assert torch.equal(scenery.render(6, **SMALL, chunk=chunk)[0], whole)
    assert torch.equal(scenery.render(6, SMALL["size"], drives=1, frames=24)[0], whole[:24])


def test_threads_change_no_pixel_and_are_left_as_they_were() -> None:
    threads = torch.get_num_threads()
    seen: list[int] = []
    try:
        torch.set_num_threads(1)
        one = scenery.render(7, **SMALL)[0]
        torch.set_num_threads(2)
        assert torch.equal(scenery.render(7, **SMALL)[0], one)
        assert torch.get_num_threads() == 2
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [2]
    finally:
        torch.set_num_threads(threads)


def test_an_error_in_a_worker_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr(scenery._Drive, "paint", broken)
    with pytest.raises(ArithmeticError):
        scenery.render(0, **SMALL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_paints_the_same_road() -> None:
    here, there = scenery.render(8, **SMALL)[0], scenery.render(8, **SMALL, device="cuda")[0]
    assert there.is_cuda
    assert (here.float() - there.cpu().float()).abs().mean() < 0.5


def test_a_film_is_smooth_within_a_drive_and_cut_between_drives(film: Tensor) -> None:
    step = (film[1:].float() - film[:-1].float()).abs().mean(dim=(1, 2, 3))
    inside = torch.ones(len(step), dtype=torch.bool)
    inside[149::150] = False
    assert step[inside].max() < step[~inside].min()
    assert step[inside].max() < 5 * step[inside].median()  # a lorry that passes is the most, nothing flashes


def test_drives_differ_in_place_and_light(film: Tensor) -> None:
    looks = film.view(5, 150, 3, 48, 80).float().mean(dim=(1, 4))  # [5, 3, 48]
    far = torch.cdist(looks.flatten(1), looks.flatten(1)) / looks[0].numel() ** 0.5
    assert far[~torch.eye(5, dtype=torch.bool)].min() > 6
    first, last = (film.view(5, 150, -1)[:, part].float().mean(1) for part in (slice(10), slice(140, 150)))
    assert (first - last).abs().mean(1).min() > 10  # each drive comes into other country or other light


def test_as_hard_as_real_time_lapse(film: Tensor) -> None:
    oscillation = pytest.importorskip("roadtrip.oscillation").oscillation
    gap, ratios, excesses, errors = scenery.DEFAULT_GAP, [], [], []
    for drive in film.view(5, 150, 3, 48, 80).float() / 255:
        for first in range(0, 150 - 31 * gap, 18):
            clip = drive[first::gap][:32]
            found = oscillation(clip, clip)
            assert found.verdict == "moves"
            ratios.append(found.return_ratio)
            excesses.append(found.nyquist_excess)
        errors.append(-10 * (drive[gap:] - drive[:-gap]).square().mean(dim=(1, 2, 3)).log10().mean())
    assert 1.1 < torch.tensor(ratios).median() < 1.5
    assert 0.2 < torch.tensor(excesses).median() < 0.9
    assert 19 < torch.stack(errors).mean() < 25


def test_the_pixels_are_those_of_this_version(film: Tensor) -> None:
    """The study's rows and the shipped checkpoints name the road by VERSION: whoever changes a pixel makes another
    road, raises VERSION, puts the new numbers here and runs the study on it again."""
    drives = film.view(5, 150, 3, 48, 80).float()
    light = [[113.831, 122.840, 118.758], [130.023, 128.590, 127.522], [136.233, 117.292, 113.005],
             [153.476, 145.603, 137.125], [133.561, 142.388, 143.085]]  # fmt: skip
    steps = [13.5467, 14.4267, 8.6366, 8.4869, 15.8190]
    assert scenery.VERSION == 1 and scenery.DEFAULT_GAP == 3
    assert torch.allclose(drives.mean((1, 3, 4)), torch.tensor(light), rtol=0, atol=0.02)
    assert torch.allclose((drives[:, 3:] - drives[:, :-3]).abs().mean((1, 2, 3, 4)), torch.tensor(steps), atol=0.02)


def test_fingerprint_follows_the_parameters_alone() -> None:
    assert scenery.fingerprint(0, (72, 128)) == scenery.fingerprint()
    assert len({scenery.fingerprint(seed, (72, width)) for seed in (0, 1) for width in (96, 128)}) == 4
    assert len(scenery.fingerprint()) == 64
