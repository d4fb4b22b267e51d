"""The thread of tier 2: what it does when, and that nothing that fails ends it."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from clipoint3d_ros.adaptation.guard import Verdict
from clipoint3d_ros.nodes import training_thread
from clipoint3d_ros.nodes.training_thread import TrainingThread

BURST = 3


class Training:
    """A training that notes what it is asked for; `fails` maps a call's name to how often it fails."""

    def __init__(self, fails=None):
        self.fails, self.calls, self.steps = dict(fails or {}), [], 0

    def _note(self, name):
        self.calls.append(name)
        if self.fails.get(name, 0) > 0:
            self.fails[name] -= 1
            raise RuntimeError(f"{name} failed")

    def learn(self, seen, logits):
        assert logits == ("calibrated", len(seen))
        time.sleep(0.001)
        self._note("learn")
        self.steps += 1

    def candidate(self):
        self._note("candidate")
        return SimpleNamespace(served=None, reference=None, text=torch.zeros(2, 4), network="network")

    def features(self, served, sightings):
        return torch.zeros(len(sightings), 4)

    def frozen(self, sightings):
        self._note("frozen")
        return torch.zeros(len(sightings), 2)

    def fall_back(self):
        self._note("fall_back")

    def keep(self):
        self._note("keep")

    def restart(self):
        self._note("restart")


class Companion:
    """Judges as it is told to."""

    def __init__(self, accepts=False, waits_for=""):
        self.accepts, self.waits_for, self.unasked, self.judged = accepts, waits_for, [], 0
        self.learned, self.held = (SimpleNamespace(sightings=lambda n=n: [object()] * n) for n in (8, 4))

    def calibrated(self, seen):
        return "calibrated", len(seen)

    def answered(self, sightings, logits):
        self.unasked = []

    def consider(self, reference, text, learned, held):
        self.judged += 1
        return SimpleNamespace(verdict=Verdict(self.accepts))


@pytest.fixture
def train(monkeypatch):
    """Starts a thread on a training and a companion; all end with the test."""
    monkeypatch.setattr(training_thread, "_AFTER_FAILURE_S", 0.01)
    monkeypatch.setattr(training_thread, "_IDLE_S", 0.01)
    started = []

    def start(training, companion=None, lock=None, yields=lambda: False):
        thread = TrainingThread(
            training,
            companion or Companion(),
            lock or threading.Lock(),
            training_thread.Budget(1.0, clock=lambda: 0.0),
            config=lambda: SimpleNamespace(burst=BURST, least_objects=8),
            idle=lambda: False,
            accepted=lambda network: None,
            concluded=lambda candidate: concluded.append(candidate),
            failed=lambda error: failed.append(str(error)),
            work=lambda: 0.0,
            yields=yields,
        )
        concluded, failed = [], []
        thread.start()
        started.append(thread)
        return SimpleNamespace(thread=thread, concluded=concluded, failed=failed, alive=thread._thread.is_alive)

    yield start
    for thread in started:
        assert thread.stop(5.0)


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


def test_every_burst_of_steps_a_candidate_is_judged_and_a_rejected_one_is_fallen_back_from(train):
    training, companion = Training(), Companion()
    running = train(training, companion)
    until(lambda: len(training.calls) > 10)
    assert training.calls[:10] == [*["learn"] * 3, "candidate", "fall_back", *["learn"] * 3, "candidate", "fall_back"]
    assert len(running.concluded) >= 2
    assert running.failed == []


def test_no_step_is_taken_while_perception_has_a_frame_in_hand(train):
    training, busy = Training(), [True]
    train(training, yields=lambda: busy[0])
    time.sleep(0.1)
    assert training.calls == []
    busy[0] = False
    until(lambda: training.steps)


@pytest.mark.parametrize("work", ["learn", "candidate"])
def test_perception_that_is_never_idle_does_not_end_learning(train, monkeypatch, work):
    monkeypatch.setattr(training_thread, "_HELD_BACK_S", 0.02)
    training, began = Training(), time.monotonic()
    train(training, yields=lambda: True)
    until(lambda: training.calls.count(work) > 1)
    before = training.calls.index(work)
    held = before + training.calls[:before].count("candidate") + 1
    assert time.monotonic() - began >= 0.02 * held


def test_a_stop_does_not_wait_for_perception(train):
    training = Training()
    running = train(training, yields=lambda: True)
    time.sleep(0.02)
    began = time.monotonic()
    assert running.thread.stop(5.0)
    assert time.monotonic() - began < 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux")
def test_it_trains_at_a_lower_priority_than_the_rest_of_its_process(train):
    training = Training()
    learn, seen = training.learn, []
    training.learn = lambda *told: seen.append(os.getpriority(os.PRIO_PROCESS, 0)) or learn(*told)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    train(training)
    until(lambda: training.steps)
    assert seen[0] == max(10, before)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before, "of the other threads, too"


def test_a_system_that_refuses_a_priority_is_trained_on_all_the_same(train, monkeypatch):
    def refused(*_):
        raise PermissionError("not permitted")

    monkeypatch.setattr(os, "setpriority", refused)
    training = Training()
    running = train(training)
    until(lambda: training.steps)
    assert running.failed == []


def test_an_accepted_network_is_kept(train):
    training = Training()
    train(training, Companion(accepts=True))
    until(lambda: training.calls.count("keep") > 1)
    assert "fall_back" not in training.calls


@pytest.mark.parametrize("step", ["learn", "candidate"])
def test_a_fall_back_that_fails_too_is_told_and_tried_again_before_any_step(train, step):
    training = Training(fails={step: 1, "fall_back": 2})
    running = train(training)
    until(lambda: training.steps > BURST)
    assert running.alive()
    assert running.failed == [f"{step} failed", "fall_back failed", "fall_back failed"]
    first = training.calls.index(step) + 1
    assert training.calls[first : first + 4] == ["fall_back"] * 3 + ["learn"]


def test_a_restart_that_fails_is_told_and_tried_again_before_any_step(train):
    training = Training(fails={"restart": 2})
    running = train(training)
    until(lambda: training.steps)
    running.thread.restart()
    until(lambda: training.calls.count("restart") == 3)
    steps = training.steps
    until(lambda: training.steps > steps)
    assert running.alive()
    assert running.failed == ["restart failed"] * 2
    first = training.calls.index("restart")
    assert training.calls[first : first + 4] == [*["restart"] * 3, "learn"]


def test_a_verdict_is_told_though_falling_back_fails(train):
    training = Training(fails={"fall_back": 10**6})
    running = train(training)
    until(lambda: len(running.failed) > 2)
    assert len(running.concluded) == 1
    assert training.steps == BURST, "a step was taken with weights that were led astray"


def test_a_thread_outlasts_whatever_else_fails(train):
    companion, training = Companion(), Training()
    sightings, broken = companion.learned.sightings, [1, 1]
    companion.learned = SimpleNamespace(sightings=lambda: broken.pop() and 1 / 0 if broken else sightings())
    running = train(training, companion)
    until(lambda: training.steps)
    assert running.failed == ["division by zero"] * 2


def test_nothing_is_judged_nor_looked_at_while_something_is_missing_and_training_goes_on(train):
    training, companion = Training(), Companion(waits_for="4 held-out objects; there are 0")
    running = train(training, companion)
    until(lambda: training.steps > 3 * BURST)
    assert set(training.calls) == {"learn"}
    assert running.concluded == []
    companion.waits_for = ""
    until(lambda: running.concluded)


def test_what_is_missing_only_when_it_comes_to_the_judgement_is_no_rejection(train):
    training, companion = Training(), Companion()
    candidate = training.candidate

    def meanwhile():
        companion.waits_for = "4 held-out objects; there are 0"  # a jump back in time
        return candidate()

    training.candidate = meanwhile
    running = train(training, companion)
    until(lambda: training.steps > 2 * BURST)
    assert (companion.judged, running.concluded) == (0, [])


def test_the_frozen_model_is_asked_without_holding_perception_s_sightings_up(train):
    training, companion, lock, held = Training(), Companion(), threading.Lock(), []
    companion.unasked = [object(), object()]
    companion.learned.sightings = list  # too few to train: it is asked all the same
    frozen, answered = training.frozen, companion.answered
    training.frozen = lambda unasked: held.append(lock.locked()) or frozen(unasked)
    companion.answered = lambda *told: held.append(lock.locked()) or answered(*told)
    train(training, companion, lock)
    until(lambda: not companion.unasked)
    assert held == [False, True]
    time.sleep(0.05)
    assert training.calls == ["frozen"], "it was asked twice"
