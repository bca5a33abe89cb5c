"""What is recorded on a GPU does what it does when it is simply called. Without a GPU there is nothing to record."""

from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip.cuda_graph import WARMUP_CALLS, CudaGraphed
from roadtrip.diffusion import Sampler
from roadtrip.rollout import GraphedModel, unroll
from roadtrip.train import Run, find_device

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def film():
    return rt.open_film("scenery", size=(48, 80))


@pytest.mark.parametrize("name", rt.RECIPES)
@pytest.mark.parametrize("changes", [{}, {"r1_weight": 1.0, "context_noise": 0.1, "replay": 2, "disc_shuffle": True}])
def test_recorded_steps_learn_what_plain_ones_do(film, name, changes):
    recipe = replace(rt.RECIPES[name], width=16, batch=2, **changes)
    weights = []
    for recorded in (True, False):
        run = Run(recipe, film, 0, 0.2, find_device(), "float32")
        if not recorded:
            run.train_step, run.rolled_out = run._train_step, run.model
        for _ in range(24):
            run.step(24)
        if recorded:
            assert all(made_of(run.train_step))
            assert not recipe.replay or all(made_of(run.rolled_out.graphed))
        weights.append(torch.cat([w.flatten() for w in run.model.parameters()]).cpu())
    assert torch.allclose(*weights, atol=2e-3)


def made_of(graphed):
    """Of each kind of call, its recording; there was at least one."""
    return list(graphed.recordings.values()) or [None]


@pytest.mark.parametrize("how", [{}, {"bottleneck": "lstm"}, {"sampler": Sampler(), "anchored": True}])
def test_a_recorded_rollout_is_the_plain_one(film, how):
    model = rt.NextFrame(width=16, **how).cuda()
    torch.nn.init.normal_((model.denoiser or model.decoder).out.weight, std=0.02)
    f1, f2 = (film.frames[[i, i + 9]].cuda().float() / 255 for i in (0, 3))
    z = torch.randn(2, 24, 3, 48, 80, device="cuda") if model.sampler else None
    graphed = GraphedModel(model)
    with torch.no_grad():
        plain, recorded = (unroll(m, f1, f2, 24, z=z) for m in (model, graphed))
    assert torch.allclose(recorded, plain, atol=1e-3)
    assert all(made_of(graphed.graphed))


def test_a_recording_casts_the_weights_that_there_are_when_it_is_replayed():
    """Also where it is made within an autocast that has cast them before."""
    layer, x = torch.nn.Linear(8, 8).cuda(), torch.ones(4, 8, device="cuda")
    graphed = CudaGraphed(layer)
    for value in range(2 * WARMUP_CALLS):
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            layer.weight.fill_(value)
            plain = layer(x)
            assert torch.equal(graphed(x), plain)


def test_what_cannot_be_recorded_is_called():
    looks = CudaGraphed(
        lambda x: x * 2 if x.sum().item() > 0 else x
    )  # .item() waits for the GPU: no recording allows it
    for _ in range(WARMUP_CALLS + 3):
        assert looks(torch.ones(2, device="cuda")).tolist() == [2, 2]
