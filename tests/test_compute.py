"""Who computes when: turns from visitor to visitor, stopping at once, and what a request may take."""

import threading
import time
from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip.model import NextFrame
from roadtrip.ui import budget, compute
from roadtrip.ui.compute import Turns, interleave, on_compute_thread


class Clock:
    """Time that passes only where a job says so: what a machine does meanwhile changes nothing."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(compute, "monotonic", lambda: self.now)

    def run(self, turns, jobs, until):
        """[(when, name)] of all slices: jobs are (owner, name, training); all wait before the first has a turn."""
        waiting, said = threading.Event(), []

        def taking(name, each=0.004):
            while self.now < until:
                said.append((self.now, name))
                self.now += each
                yield

        def last():
            assert waiting.wait(30)
            return
            yield

        gate = turns.submit("gate", last())
        made = [turns.submit(owner, taking(name), training) for owner, name, training in jobs]
        waiting.set()
        for job in [gate, *made]:
            job.future.result(30)
        return said


def taking(seconds, said, name, slices=10**6, each=0.004):
    """A job that computes for so long, in slices."""
    for _ in range(min(slices, round(seconds / each))):
        said.append(name)
        time.sleep(each)
        yield
    return name


def test_turns_go_round_by_visitor(monkeypatch):
    """Two visitors with one long job each and one with many: each gets as many slices."""
    jobs = [(owner, i, False) for i, owner in enumerate("abbbb")]
    said = [name for _, name in Clock(monkeypatch).run(Turns(), jobs, 1.0)]
    a, b = said.count(0), len(said) - said.count(0)
    assert 0.9 < a / b < 1.1
    assert {*said} == {0, 1}, "a visitor's own jobs run one after the other"


@pytest.mark.parametrize("burst", [0.3, 1.0])
def test_trainings_keep_their_share_and_others_run_ahead_of_it(monkeypatch, burst):
    monkeypatch.setattr(budget, "BURST", burst)
    jobs = [("a", "training", True), *((i, "view", False) for i in range(3))]
    said = Clock(monkeypatch).run(Turns(), jobs, 10 + burst)
    ahead = burst * (1 - budget.TRAINING_SHARE) / budget.TRAINING_SHARE
    assert {name for when, name in said if when < ahead} == {"view"}
    later = [name for when, name in said if when >= ahead]
    assert later.count("training") / len(later) == pytest.approx(budget.TRAINING_SHARE, abs=0.02)


def test_a_visitor_may_have_only_so_much_waiting():
    turns, said = Turns(), []
    jobs = [turns.submit("a", taking(60, said, i)) for i in range(budget.MAX_WAITING)]
    with pytest.raises(rt.RoadtripError, match="wait for their answers"):
        turns.submit("a", taking(60, said, "more"))
    jobs.append(turns.submit("b", taking(0.01, said, "b")))
    assert jobs[-1].future.result(5) == "b"
    for job in jobs:
        job.stop()


def test_what_fails_fails_for_its_caller_alone():
    def wrong(owner):
        yield
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        on_compute_thread(wrong, "a")
    assert on_compute_thread(lambda owner: 3, "a") == 3


def test_a_stream_is_stopped_between_two_items():
    """It is not waited for the next one, which never comes."""
    computing = threading.Event()

    def endless():
        yield "first"
        while True:
            computing.set()
            time.sleep(0.01)
            yield None

    stream = interleave("a", endless())
    assert next(stream) == "first" and next(stream) is None
    assert computing.wait(5)
    stream.close()
    computing.clear()
    assert not computing.wait(0.2)


HEAVY = [
    ({"batch": 512, "unroll": 16}, "GB of memory"),
    ({"width": 256}, "s of a core"),
    ({"depth": 16, "width": 128}, "s of a core"),
]


@pytest.mark.parametrize("values, says", HEAVY)
def test_a_step_over_the_budget_is_refused_before_it_is_made(values, says, monkeypatch):
    monkeypatch.setattr(budget, "find_device", lambda: torch.device("cpu"))
    recipe, film = replace(rt.RECIPES["v2"], **values), rt.open_film("scenery")
    with pytest.raises(rt.RoadtripError, match=says):
        budget.check_training(recipe, film)
    for known in rt.RECIPES.values():
        budget.check_training(known, film)


def test_the_first_step_checks_the_estimate():
    budget.check_first_step(1.0)
    with pytest.raises(rt.RoadtripError, match="lower batch, unroll or width"):
        budget.check_first_step(100.0)


def test_a_rollout_over_the_budget_says_how_far_it_may_go():
    slow = NextFrame(256, 16, size=(72, 128))
    budget.check_rollout(slow, (72, 128), 100)
    with pytest.raises(rt.RoadtripError, match="lower the horizon to"):
        budget.check_rollout(slow, (72, 128), budget.MAX_HORIZON)
    with pytest.raises(rt.RoadtripError, match="for one frame"):
        budget.check_rollout(slow, (144, 256))
