"""Replay: clips that the network drives on through while it trains."""

from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip.film import Film
from roadtrip.frames import as_float
from roadtrip.rollout import unroll
from roadtrip.train import Run, find_device, finish

K = 3


def toy_run(**values) -> Run:
    """Nothing is augmented; the network's zero-initialised layers are awake."""
    random = torch.Generator().manual_seed(0)
    film = Film((255 * torch.rand(60, 3, 16, 24, generator=random)).byte(), (), 1, None, (0,), "toy", "0" * 64)
    plain = {"jitter": 0.0, "zoom": 0.0, "damage": 0.0, "context_noise": 0.0, "refine": 4, "width": 8}
    recipe = replace(rt.RECIPES["v4"], **plain | {"batch": 10, "replay": K} | values)
    run = Run(recipe, film, 0, 0.2, find_device("cpu"), "float32")
    with torch.no_grad():
        for weights in run.model.parameters():
            weights += 0.05 * torch.randn(weights.shape, generator=random)
    return run


def where(run: Run, frame: torch.Tensor) -> list[int]:
    return (as_float(run.film.frames) == frame).flatten(1).all(dim=1).nonzero().flatten().tolist()


def test_clips_are_at_all_depths_and_some_end_with_each_step():
    run = toy_run(replay_share=0.8)
    assert run.replay.n == 8 and len(run.replay.ended()) == 8
    for step in range(9):
        batch = run.sample_batch()
        depth = run.replay.held["depth"]
        assert sorted(depth.tolist()) == sorted([*range(K + 1)] * 2)
        assert batch.clips.shape == (10, 3, 3, 16, 24) and batch.anchor.shape == batch.f1.shape
        for i in range(10):
            begin = where(run, batch.clips[i, 0])[0]
            assert all(where(run, batch.clips[i, k]) == [begin + k] for k in (1, 2)), "clips are real"
            assert where(run, batch.anchor[i])
            own = int(depth[i]) if i < 8 and step >= K else None
            if own is not None:
                assert where(run, batch.f1[i]) == ([begin] if own < 2 else [])
                assert where(run, batch.f2[i]) == ([begin + 1] if own < 1 else [])
            if i >= 8:
                assert where(run, batch.f1[i]) == [begin] and where(run, batch.f2[i]) == [begin + 1]


def test_what_is_made_is_the_rollout_of_the_clips_beginning():
    run = toy_run(temperature=0.0, replay_near=0.0)
    for step in range(2 * K + 2):
        run.sample_batch()
        held = run.replay.held
        for i, depth in enumerate(held["depth"].tolist()):
            if not depth or step < K:  # the first clips do not begin at their beginning
                continue
            clip, anchor = held["clips"][i : i + 1], held["anchor"][i : i + 1]
            still = torch.zeros(1, depth, 3, 16, 24)
            with torch.no_grad():
                made = unroll(run.model, clip[:, 0], clip[:, 1], depth, z=still, anchor=anchor)
            assert torch.allclose(held["frames"][i, -1], made[0, -1], atol=1e-4)


@pytest.mark.parametrize("near", [0.0, 0.3, 1.0])
def test_some_stay_near_to_the_real_frames(near):
    run, stayed, left = toy_run(replay_near=near, carry_rate=0.0), [], []
    for step in range(40):
        run.sample_batch()
        held = run.replay.held
        for i, depth in enumerate(held["depth"].tolist()):
            if depth == 1 and step:  # the first clips do not begin at their beginning
                real = held["clips"][i, 2] - held["clips"][i, 1]
                lean = ((held["frames"][i, -1] - held["clips"][i, 1]) * real).mean() / real.square().mean()
                (stayed if held["near"][i] else left).append(lean.item())
    assert len(stayed) / len(stayed + left) == pytest.approx(near, abs=0.15)
    if stayed and left:  # the network is fresh: it copies the last frame, and what is near leans towards the next one
        assert min(stayed) > max(left)


def test_a_step_that_is_closed_was_none():
    run, twin = toy_run(), toy_run()
    for _ in range(K):
        run.step(20), twin.step(20)
    for slices in range(1, 4):
        parts = run.step_in_slices(20)
        for _ in range(slices):
            next(parts, None)
        parts.close()
        assert all(torch.equal(a, b) for a, b in zip(run.replay.held.values(), twin.replay.held.values()))
        assert run.carry == twin.carry


def test_a_state_that_points_out_of_the_clips_is_damaged():
    run = toy_run()
    for _ in range(2):
        run.step(20)
    tensors, facts = run.state()
    facts |= {"resumed_at": (), "steps": 20}
    toy_run().restore(tensors, facts)
    for depth in (-1, K + 1, 10**9):
        with pytest.raises(rt.RoadtripError, match="damaged"):
            toy_run().restore(tensors | {"replay.depth": torch.full_like(tensors["replay.depth"], depth)}, facts)


@pytest.mark.parametrize("values", [{"replay": 0}, {"replay_share": 0.0}, {"evaluations": 0}])
def test_without_own_samples_nothing_is_held(values):
    run = toy_run(**values)
    assert run.replay is None
    assert finish(run.step_in_slices(5))["l1"].isfinite()
