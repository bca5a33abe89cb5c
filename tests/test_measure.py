"""The measures against the table of controls: a measure that does not reproduce it is wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

import roadtrip as rt
from roadtrip.errors import RoadtripError
from roadtrip.evaluation import baselines, compare_to_baselines, measure_rollouts, multiplier, verdict_window
from roadtrip.frames import l1, psnr, sharpness, ssim
from roadtrip.oscillation import (
    MIN_WINDOW,
    as_row,
    distance_matrix,
    frame_distances,
    lag_distances,
    median_oscillation,
    nyquist_excess,
    oscillation,
    real_windows,
    spectrum,
    two_modes,
)

FOOTAGE = Path(__file__).resolve().parents[2] / "shared" / "footage"
CONTROLS = [("ca_freeway", 8), ("dashcam_motorway", 8), ("forest_road", 3)]


@pytest.fixture(scope="module", params=CONTROLS, ids=[name for name, _ in CONTROLS])
def x(request) -> Tensor:
    """The first 32 frames at the gap, each still resized to 128×72."""
    name, gap = request.param
    stills = sorted((FOOTAGE / name).glob("*.jpg"))[: 32 * gap : gap]
    if len(stills) < 32:
        pytest.skip("the shared footage is not beside this checkout")
    return torch.stack([pil_to_tensor(Image.open(s).convert("RGB").resize((128, 72))) for s in stills]) / 255


def swing(x: Tensor) -> Tensor:
    sign = 1 - 2 * (torch.arange(len(x)) % 2).float()
    return x + sign.view(-1, 1, 1, 1) * lag_distances(x)[0]


# name: (frames, S, R, N, verdict); None is not asserted
TABLE = {
    "real film": (lambda x: x, (1, 1), (1.21, 1.35), (0.28, 0.34), "moves"),
    "copy the last frame": (lambda x: x[:1].expand(32, -1, -1, -1), (0, 0), None, (0, 0), "frozen"),
    "linear extrapolation": (
        lambda x: torch.stack([(x[1] + t * (x[1] - x[0])).clamp(0, 1) for t in range(1, 33)]),
        (0.19, 0.26),
        (1.95, 1.95),
        (0.04, 0.07),
        "moves",
    ),
    "A B": (lambda x: x[torch.arange(32) % 2], (0.86, 1.09), (0, 0), (15.98, 15.98), "oscillates"),
    "film + swing": (swing, (2.27, 2.52), (0.48, 0.60), (2.75, 5.65), "oscillates"),
    "A B C": (lambda x: x[torch.arange(32) % 3], (0.98, 1.23), (1, 1), (0.07, 0.07), "3-cycle"),
    "A B C D": (lambda x: x[torch.arange(32) % 4], (1.00, 1.27), (1.14, 1.23), (5.05, 6.25), "4-cycle"),
    "slow switches": (
        lambda x: x[torch.arange(32) // 4 % 2 * 16],
        (0.43, 0.80),
        (2.07, 2.07),
        (0, 0),
        "switches between two modes",
    ),
    "white noise": (
        lambda x: x[0] + torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) * lag_distances(x)[0],
        (1.13, 1.13),
        (1, 1),
        (1.02, 1.02),
        None,
    ),
    "blur": (
        lambda x: x.mean(dim=0) + (x[0] - x.mean(dim=0)) * (0.8 ** torch.arange(32)).view(-1, 1, 1, 1),
        (0.04, 0.08),
        None,
        None,
        "frozen",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_control_table(x: Tensor, name: str):
    make, S, R, N, verdict = TABLE[name]
    measured = oscillation(make(x), x)
    for value, span in ((measured.step_ratio, S), (measured.return_ratio, R), (measured.nyquist_excess, N)):
        if span is not None:
            assert span[0] - 0.015 <= round(value, 3) <= span[1] + 0.015
    if verdict:
        assert measured.verdict == verdict
    if name == "copy the last frame":
        assert measured.return_ratio is None
    assert measured.period == {"oscillates": 2, "3-cycle": 3, "4-cycle": 4}.get(measured.verdict)


def film(frames: int = 40, seed: int = 0) -> Tensor:
    """A picture that slides: the smallest thing that moves like film."""
    wide = torch.rand(3, 24, 32 + 2 * frames, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.avg_pool2d(wide, 5, 1, 2)
    return torch.stack([wide[:, :, 2 * t : 2 * t + 32] for t in range(frames)])


def test_nyquist_is_its_definition():
    """The closed form equals the rFFT of the linearly detrended frames."""
    for y in (film(32), torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))):
        T = len(y)
        t = torch.arange(T).double() - (T - 1) / 2
        z = y.flatten(1).double()
        z = z - z.mean(dim=0)
        z = z - t[:, None] * (t @ z / t.square().sum())
        P = torch.fft.rfft(z, dim=0).abs().square().mean(dim=1)
        assert nyquist_excess(y) == pytest.approx((P[T // 2] / P[1:].mean()).item(), rel=1e-3)


def test_real_windows_are_all_windows():
    x = film(200)
    real = real_windows([x], 32)
    assert real.windows == 169
    each = [oscillation(x[i : i + 32], x[i : i + 32]) for i in range(0, 169, 8)]
    low, high = real.bands["R"]
    assert 0.8 <= sum(low <= o.return_ratio <= high for o in each) / len(each) < 1
    assert all(low <= 1 <= high for low, high in (real.bands["S"], real.bands["sharpness"]))
    assert real.nyquist_excess == pytest.approx(sorted(o.nyquist_excess for o in each)[len(each) // 2], rel=0.05)
    assert real.return_ratio == pytest.approx(sorted(o.return_ratio for o in each)[len(each) // 2], rel=0.05)


def test_real_of_another_length():
    x = film(60)
    assert oscillation(x[:32], x[:20]).real.window == 20
    assert oscillation(x[:32], x).real.windows == 29


def test_odd_length_and_uint8():
    x = film(33)
    assert oscillation((x * 255).round().to(torch.uint8), x).verdict == "moves"


def test_too_few_frames_is_a_sentence():
    with pytest.raises(RoadtripError, match="too few"):
        oscillation(film(15), film(32))
    with pytest.raises(RoadtripError, match="no 16 frames"):
        oscillation(film(32), film(15))


def test_two_modes_sees_what_lags_miss():
    x = film(32)
    share, switches = two_modes(x[[0] * 10 + [20] * 12 + [0] * 10])
    assert share == pytest.approx(1) and switches == 2
    assert two_modes(x[[0] * 20]) == (None, 0)


def test_psnr_by_hand():
    a = torch.zeros(1, 3, 8, 8)
    assert psnr(a, a + 0.1).item() == pytest.approx(20, abs=1e-4)
    assert psnr(a, a).item() == pytest.approx(100)
    assert l1(a, a + 0.25).item() == pytest.approx(0.25)


def test_sharpness_by_hand():
    dot = torch.zeros(3, 5, 5)
    dot[:, 2, 2] = 1
    assert sharpness(dot).item() == pytest.approx((4 + 4 * 1) / 9)  # the dot and its four neighbours
    ramp = torch.arange(8.0).expand(3, 8, 8) / 8
    assert sharpness(ramp).item() == pytest.approx(0, abs=1e-6)


def test_ssim_range():
    x = film(4)
    assert ssim(x, x).tolist() == pytest.approx([1] * 4)
    assert ssim(x[None], 1 - x[None]).max() < 0.5
    assert ssim(x[None], x[None]).shape == (1, 4)


def test_baselines_by_hand():
    f1, f2, mean = torch.full((2, 3, 8, 8), 0.4), torch.full((2, 3, 8, 8), 0.6), torch.full((3, 8, 8), 51).byte()
    made = baselines(f1, f2, 3, mean)
    assert made["copy_last"][0, :, 0, 0, 0].tolist() == pytest.approx([0.6] * 3)
    assert made["linear"][0, :, 0, 0, 0].tolist() == pytest.approx([0.8, 1.0, 1.0])
    assert made["mean_frame"][1, :, 0, 0, 0].tolist() == pytest.approx([0.2] * 3)
    assert all(frames.shape == (2, 3, 3, 8, 8) for frames in made.values())


def test_verdict_of_a_run_is_the_most_frequent():
    x = film(32)
    flip, move = oscillation(x[torch.arange(32) % 2], x), oscillation(x, x)
    run = median_oscillation([flip, move, flip])
    assert (run.verdict, run.period) == ("oscillates", 2)
    assert run.return_ratio == pytest.approx(0, abs=1e-6)
    assert math.isfinite(run.nyquist_excess)


class Linear:
    """A stand-in network: G(a, b) = m + α·(b − m) + β·(a − m), whose multipliers solve λ² = α·λ + β."""

    def __init__(self, alpha: float, beta: float):
        self.alpha, self.beta = alpha, beta
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def parameters(self):
        return iter([self.nothing])

    def latent_shape(self, height, width):
        return None

    def observe(self, frame):
        return (frame,)

    def step(self, frame, state, z=None):
        return 0.5 + self.alpha * (frame - 0.5) + self.beta * (state[0] - 0.5), (frame,)


@pytest.mark.parametrize("roots", [(-0.97, 0.3), (0.99, -0.5), (0.9 * 1j, -0.9 * 1j), (0.5 + 0.8j, 0.5 - 0.8j)])
def test_multiplier_of_known_maps(roots):
    """A flip, a drift, and turns of a quarter and less: each is found, with its sign or its angle."""
    alpha, beta = (complex(v).real for v in (sum(roots), -roots[0] * roots[1]))
    found = multiplier(Linear(alpha, beta), torch.full((8, 3, 16, 24), 0.25))
    largest = max(roots, key=abs)
    assert found.real == pytest.approx(complex(largest).real, abs=1e-3)
    assert abs(found.imaginary) == pytest.approx(abs(complex(largest).imag), abs=1e-3)
    assert found.residual < 1e-3
    assert found.distance == pytest.approx(abs(0.5 - (alpha + beta) * 0.25 - 0.25), abs=1e-5)


def test_spectrum_ends_in_the_nyquist_excess():
    frames = torch.rand(33, 3, 8, 16, generator=torch.Generator().manual_seed(1))
    shares = spectrum(frames)
    assert len(shares) == 16 and sum(shares) == pytest.approx(1)
    assert shares[-1] * 16 == pytest.approx(nyquist_excess(frames), rel=1e-4)
    assert sum(spectrum(torch.zeros(16, 3, 8, 8))) == 0


def test_distance_matrix_of_a_two_cycle_is_a_chessboard():
    a, b = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    found = torch.tensor(distance_matrix(torch.stack([a, b] * 4)))
    chess = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert torch.allclose(found, chess * l1(a, b), atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("moving", [True, False])
def test_real_film_that_stands_still_has_nothing_to_divide_by(level, moving):
    """What is a ratio to nothing is undefined, and never infinite."""
    still = torch.full((40, 3, 16, 24), level)
    y = film(20) if moving else still[:20]
    o = oscillation(y, still)
    assert o.step_ratio is None and o.sharpness_ratio is None
    assert (o.verdict == "frozen") != moving
    row = json.loads(json.dumps(as_row(median_oscillation([o, o])), allow_nan=False))
    assert row["S"] is None and row["sharpness"] is None
    assert not {"S", "sharpness", "R"} & o.real.bands.keys()


@pytest.mark.parametrize("bad", [
    torch.full((20, 3, 8, 8), float("nan")), torch.full((20, 3, 8, 8), float("inf")), torch.rand(1, 20, 3, 8, 8),
    torch.rand(20, 1, 8, 8), torch.rand(20, 8, 8), torch.rand(MIN_WINDOW - 1, 3, 8, 8),
], ids=lambda t: str(tuple(t.shape)))  # fmt: skip
def test_frames_that_cannot_be_read_are_a_sentence(bad):
    with pytest.raises(RoadtripError):
        oscillation(bad, film(40))


def still_film(frames: int) -> rt.Film:
    road = rt.open_film("scenery", size=(48, 80))
    one = replace(
        road, frames=road.frames[:1].expand(frames, -1, -1, -1), cuts=(), name="still", fingerprint=f"{frames}"
    )
    return one.with_gap(1)


@pytest.mark.parametrize("frames", [3, 5, 9, 24])
@pytest.mark.parametrize("horizon", [1, 16])
def test_short_and_still_films_are_measured_as_far_as_they_go(frames, horizon):
    """Strict JSON or one sentence, whatever the length."""
    model, tried = rt.NextFrame(width=8, size=(48, 80)), still_film(frames)
    for part, held_out in (("held_out", 0.2), ("held_out", 0.0), ("all", 0.2)):
        try:
            found = rt.evaluate(model, tried, horizon, part, held_out).to_dict()
        except RoadtripError as error:
            assert "too short" in str(error)
            continue
        assert json.dumps(found, allow_nan=False)
        assert found["sharpness"]["model"][0] is None or math.isfinite(found["sharpness"]["model"][0])
    assert measure_rollouts(model, tried, 16, "held_out", 0.0) is None


def test_a_rollout_beside_the_baselines_by_hand():
    baselines = {"copy_last": [20.0, 15, 14, 10], "linear": [18.0, 19, 12, 9], "mean_frame": [11.0, 11, 11, 11]}
    found = compare_to_baselines({"model": [21.0, 18, 14, 11]} | baselines)
    assert found.best == (("copy_last", 20), ("linear", 19), ("copy_last", 14), ("mean_frame", 11))
    assert found.gain == (1, -1, 0, 0)
    assert found.copy_last_wins == (3,)  # as close is no gain
    assert found.overtaken == (4, "mean_frame")  # linear extrapolation passes the model in frame 2, but not for good
    ahead = compare_to_baselines({"model": [30.0] * 4} | baselines)
    assert ahead.copy_last_wins == () and ahead.overtaken is None and min(ahead.gain) > 0
    behind = compare_to_baselines({"model": [0.0] * 4} | baselines)
    assert behind.copy_last_wins == (1, 2, 3, 4) and behind.overtaken == (1, "copy_last")


def test_distances_of_each_frame_to_the_one_a_lag_before():
    frames = torch.tensor([0.0, 1, 0, 1, 0.5]).view(5, 1, 1, 1).expand(-1, 3, 8, 8)
    assert frame_distances(frames, 1) == [None, 1, 1, 1, 0.5]
    assert frame_distances(frames, 2) == [None, None, 0, 0, 0.5]
    assert frame_distances(frames[:1], 2) == [None]


@pytest.mark.parametrize(("horizon", "window"), [(64, 32), (1, 16), (33, 16), (40, 20), (42, 20), (70, 34), (256, 128)])
def test_a_verdict_is_read_from_the_second_half(horizon: int, window: int):
    assert verdict_window(horizon) == window
