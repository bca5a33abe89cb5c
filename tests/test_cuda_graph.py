"""What is recorded on a GPU does what it does when it is simply called. Without a GPU there is nothing to record."""

from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip.cuda_graph import WARMUP_CALLS, CudaGraphed
from roadtrip.rollout import unroll

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
        stream = rt.train(recipe, film, steps=24, device="cuda", dtype="float32", preview_every=1e9)
        p = next(stream)
        if recorded:
            assert isinstance(p.run.train_step, CudaGraphed)
        else:
            p.run.train_step = p.run._train_step
        *_, p = stream
        weights.append(torch.cat([w.flatten() for w in p.model.parameters()]).cpu())
    assert torch.allclose(*weights, atol=2e-3)


def test_a_recording_was_made_and_is_replayed(film):
    *_, p = rt.train("v1", film, steps=WARMUP_CALLS + 2, device="cuda", preview_every=1e9)
    assert [r for r in p.run.train_step.recordings.values() if r is not None]


def test_a_recorded_rollout_is_the_plain_one(film):
    for middle in ("conv", "lstm"):
        model = rt.NextFrame(width=16, bottleneck=middle).cuda()
        torch.nn.init.normal_(model.decoder.out.weight, std=0.02)
        f1, f2 = (film.frames[[i, i + 9]].cuda().float() / 255 for i in (0, 3))
        with torch.no_grad():
            plain = unroll(model, f1, f2, 24).clamp(0, 1)
        assert torch.allclose(rt.rollout(model, f1, f2, 24), plain, atol=1e-3)


def test_what_cannot_be_recorded_is_called():
    looks = CudaGraphed(
        lambda x: x * 2 if x.sum().item() > 0 else x
    )  # .item() waits for the GPU: no recording allows it
    for _ in range(WARMUP_CALLS + 3):
        assert looks(torch.ones(2, device="cuda")).tolist() == [2, 2]
