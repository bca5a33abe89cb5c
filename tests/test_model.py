"""The network, the loop and the discriminators, by hand."""

import pytest
import torch

from roadtrip import NextFrame, PatchDiscriminator, RoadtripError, rollout, unroll, windows
from roadtrip.losses import GAN_LOSSES, discriminator_loss, generator_loss, r1_penalty, reconstruction_loss
from roadtrip.model import OUTPUTS, warp
from roadtrip.optim import orthogonal


def awake(**architecture) -> NextFrame:
    """A small model whose zero-initialised layers have been woken, so that everything matters."""
    torch.manual_seed(0)
    model = NextFrame(width=8, depth=1, **architecture)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model


def frames(n: int, batch: int = 2, size: tuple[int, int] = (16, 24)) -> list[torch.Tensor]:
    return list(torch.rand(n, batch, 3, *size, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("middle", ["conv", "lstm"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_any_size_divisible_by_8(middle, output):
    model = awake(bottleneck=middle, output=output)
    for size in ((16, 24), (72, 128), (48, 80)):
        f1, f2 = frames(2, size=size)
        g = model(f1, f2)
        assert g.shape == f1.shape and g.min() >= 0 and g.max() <= 1


@pytest.mark.parametrize("output", ["warp", "change"])
def test_a_fresh_model_copies_the_last_frame(output):
    f1, f2 = frames(2)
    assert torch.allclose(NextFrame(width=8, output=output)(f1, f2), f2, atol=1e-5)


def test_warp_takes_each_pixel_from_where_the_flow_points():
    (frame,) = frames(1)
    flow = torch.zeros(2, 2, 16, 24)
    flow[:, 0], flow[:, 1] = 3, -2  # from three to the right and two above
    assert torch.allclose(warp(frame, flow)[..., 2:, :-3], frame[..., :-2, 3:], atol=1e-5)
    assert torch.allclose(warp(frame, flow)[..., 2:, -3:], frame[..., :-2, -1:], atol=1e-5)  # the border goes on
    assert torch.allclose(
        warp(frame, flow / 6)[..., 8, 8],
        frame[..., 7:9, 8:10].transpose(-2, -1).flatten(-2) @ torch.tensor([1 / 6, 1 / 3, 1 / 6, 1 / 3]),
        atol=1e-5,
    )  # between four pixels


def test_muon_steps_are_orthogonal():
    draw = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(0))
    for matrices in (draw, draw.mT):
        made = orthogonal(matrices)
        values = torch.linalg.svdvals(made)
        assert made.shape == matrices.shape and values.min() > 0.6 and values.max() < 1.3
        # the same singular vectors: the polar factor U Vᵀ is the nearest orthogonal matrix
        u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
        assert (made * (u @ vh)).sum() / (made.norm() * (u @ vh).norm()) > 0.97


def test_unroll_by_hand():
    """v2: g3 = G(f1, f2), g4 = G(f2, g3), and its loss is L1(f3, g3) + L1(f4, g4)."""
    model = awake()
    f1, f2, f3, f4 = frames(4)
    g3 = model(f1, f2)
    g4 = model(f2, g3)
    fake = unroll(model, f1, f2, 2)
    assert torch.allclose(fake, torch.stack([g3, g4], dim=1), atol=1e-6)
    by_hand = (f3 - g3).abs().mean() + (f4 - g4).abs().mean()
    assert torch.allclose(reconstruction_loss(fake, torch.stack([f3, f4], dim=1)), by_hand)


def test_rollout_is_the_unroll():
    model = awake()
    f1, f2 = frames(2)
    assert torch.allclose(rollout(model, f1, f2, 5), unroll(model, f1, f2, 5).detach(), atol=1e-3)  # another layout
    byte = (f1 * 255).round().byte()
    assert rollout(model, byte[0], byte[1], 3).shape == (1, 3, 3, 16, 24)


def test_later_label_reaches_the_first_step():
    """The gradient of g4's loss flows through g3 to f1, and feedback can stop it."""
    model = awake()
    f1, f2, _, f4 = (f.requires_grad_() for f in frames(4))
    loss = (unroll(model, f1, f2, 2)[:, 1] - f4).abs().mean()
    (through,) = torch.autograd.grad(loss, f1)  # g4 = G(f2, g3): only g3 ever saw f1
    assert through.abs().max() > 0
    cut = (unroll(model, f1, f2, 2, feedback=torch.Tensor.detach)[:, 1] - f4).abs().mean()
    assert torch.autograd.grad(cut, f1)[0].abs().max() == 0


def test_lstm_remembers_what_conv_has_forgotten():
    """With the last two frames alike, only the LSTM can tell two pasts apart."""
    f1, f2, f3, other = frames(4)
    for middle, remembers in (("conv", False), ("lstm", True)):
        model = awake(bottleneck=middle)

        def third(first, model=model):
            state = model.observe(first)
            for frame in (f2, f3):
                g, state = model.step(frame, state)
            return g

        assert bool((third(f1) - third(other)).abs().max() > 1e-6) == remembers


def test_clamp_keeps_a_way_back():
    from roadtrip.model import clamp

    x = torch.tensor([1.5, 0.5, -1.0], requires_grad=True)
    clamp(x).sum().backward()
    assert clamp(x).tolist() == [1, 0.5, 0] and x.grad.tolist() == [1, 1, 1]


def test_rollout_refuses_what_it_cannot_drive():
    model = awake()
    f1, f2 = frames(2)
    with pytest.raises(RoadtripError):
        rollout(model, f1, f2, 0)
    with pytest.raises(RoadtripError, match="divisible by 8"):
        rollout(model, f1[..., :20], f2[..., :20], 1)


def test_windows_by_hand():
    g3, g4, g5 = frames(3)
    c1, c2 = frames(2)
    generated, context = torch.stack([g3, g4, g5], 1), torch.stack([c1, c2], 1)

    def is_(window, *expected):
        return torch.equal(window, torch.cat(expected, dim=1))

    pair = windows(generated, 2)
    assert pair.shape == (4, 6, 16, 24) and is_(pair[:2], g3, g4) and is_(pair[2:], g4, g5)
    assert is_(windows(generated, 1, "first"), g3)
    assert len(windows(generated, 3)) == 2
    known = windows(generated[:, :2], 2, context=context[:, 1:])
    assert is_(known[:2], c2, g3) and is_(known[2:], g3, g4)
    assert is_(windows(generated[:, :1], 3, context=context), c1, c2, g3)
    # windows without a generated frame are left out
    assert is_(windows(generated[:, :1], 2, context=context), c2, g3)
    with pytest.raises(ValueError):
        windows(generated, 4)


@pytest.mark.parametrize("spectral", [False, True])
def test_discriminator_map(spectral):
    discriminator = PatchDiscriminator(2, width=8, spectral=spectral)
    assert discriminator(torch.rand(2, 6, 72, 128)).shape == (2, 1, 9, 16)


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_gan_losses_point_the_right_way(kind):
    high, low = torch.full((2, 1, 3, 3), 2.0), torch.full((2, 1, 3, 3), -2.0)
    assert discriminator_loss(kind, high, low) < discriminator_loss(kind, low, high)
    if kind != "least-squares":  # whose best score is 1, not more
        assert generator_loss(kind, high) < generator_loss(kind, low)


def test_gan_losses_by_hand():
    half = torch.full((1, 1, 1, 1), 0.5)
    assert discriminator_loss("hinge", half, half).item() == pytest.approx((0.5 + 1.5) / 2)
    assert generator_loss("hinge", half).item() == pytest.approx(-0.5)
    assert discriminator_loss("least-squares", half, half).item() == pytest.approx((0.25 + 0.25) / 2)
    assert generator_loss("bce", torch.zeros(1, 1, 1, 1)).item() == pytest.approx(0.6931, abs=1e-4)


def test_r1_by_hand():
    """For D(x) = 3·Σx the gradient is 3 everywhere: half its squared norm is 9/2 for each input value."""

    class Sum(torch.nn.Module):
        def forward(self, x):
            return 3 * x.sum(dim=(1, 2, 3), keepdim=True)

    assert r1_penalty(Sum(), torch.rand(2, 3, 4, 4)).item() == pytest.approx(4.5 * 48)


def test_r1_is_of_a_pictures_mean_score():
    """A map of n equal scores is one score: the penalty does not grow with the number of patches."""

    class Patches(torch.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.n = n

        def forward(self, x):
            return x.sum(dim=(1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 1, 1, self.n)

    real = torch.rand(2, 3, 4, 4)
    assert r1_penalty(Patches(50), real).item() == pytest.approx(r1_penalty(Patches(1), real).item())


class Sampling(NextFrame):
    """A toy generator that samples: the brightness of each frame is drawn."""

    def latent_shape(self, height, width):
        return (1, height // 8)

    def step(self, frame, state, noise=None, z=None):
        g, state = super().step(frame, state, noise)
        return (g + 0.01 * z.mean(dim=(1, 2))[:, None, None, None]).clamp(0, 1), state


def test_a_generator_may_sample():
    """z is an input: one seed gives one rollout, each clip and frame has its own numbers, and no global state moves."""
    torch.manual_seed(0)
    model = Sampling(width=8, depth=1)
    f1, f2 = (0.5 + 0 * f for f in frames(2))
    before = torch.get_rng_state()
    one, again, other = (rollout(model, f1, f2, 5, seed=s) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    levels = one.mean(dim=(2, 3, 4))
    assert len(levels.flatten().unique()) == levels.numel()
    assert torch.equal(before, torch.get_rng_state())
    z = torch.zeros(2, 3, 1, 2)
    z[:, 1] = 1  # only the second frame is lifted, and the third lives on from it
    lifted = unroll(model, f1, f2, 3, z=z)
    plain = unroll(model, f1, f2, 3, z=torch.zeros_like(z))
    assert torch.allclose(lifted[:, 0], plain[:, 0]) and not torch.allclose(lifted[:, 1:], plain[:, 1:])
