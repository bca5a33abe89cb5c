"""Who computes when: turns from visitor to visitor, stopping at once, and what a request may take."""

import threading
import time
from dataclasses import replace

import pytest
import torch

import roadtrip as rt
from roadtrip.model import NextFrame
from roadtrip.ui import budget
from roadtrip.ui.compute import Turns, interleave, on_compute_thread


def taking(seconds, said, name, slices=10**6, each=0.004):
    """A job that computes for so long, in slices."""
    for _ in range(min(slices, round(seconds / each))):
        said.append(name)
        time.sleep(each)
        yield
    return name


def test_turns_go_round_by_visitor():
    """Two visitors with one long job each and one with many: each gets as many slices."""
    turns, said = Turns(), []
    jobs = [turns.submit(owner, taking(1.2, said, i)) for i, owner in enumerate("abbbb")]
    time.sleep(1.0)
    a, b = said.count(0), len(said) - said.count(0)
    assert 0.6 < a / b < 1.7 and set(said) == {0, 1}, "a visitor's own jobs run one after the other"
    for job in jobs:
        job.stop()


def test_trainings_keep_their_share_and_others_run_ahead_of_it(monkeypatch):
    monkeypatch.setattr(budget, "BURST", 0.3)
    turns, said = Turns(), []
    jobs = [turns.submit("a", taking(60, said, "training"), training=True)]
    jobs += [turns.submit(i, taking(60, said, "view")) for i in range(3)]
    time.sleep(0.15)
    assert said.count("view") > said.count("training")
    said.clear()
    time.sleep(2.5)
    assert 0.5 < said.count("training") / len(said) < 0.8
    for job in jobs:
        job.stop()


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
