"""Tier 2 in the adaptation node, over real DDS: trained candidates, the share of time they take, and the way back."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from adapting import OBJECTS, adaptation_nodes
from peer import perception_nodes, served_checksum
from sharp_model import blocks

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("quick_probes", "quick_ticks")]

RECIPE = """
network: {variant: V, tuning: lora, rank: 2, alpha: 4.0, context: 0}
training: {objects: 2, views: 1, patches: 8, points: 64, scans: 1, warmup: 1, learning_rate: 0.0001, steps: 1000}
"""
BURST = 3


@pytest.fixture(scope="module")
def source(sharp, tmp_path_factory):
    """A folder of complete clouds of each class; the reference is gathered once for all tests."""
    folder = tmp_path_factory.mktemp("source")
    clouds, tall = blocks(36, seed=4)
    for number, (cloud, upright) in enumerate(zip(clouds, tall, strict=True)):
        place = folder / sharp.classes[0 if upright else 1]
        place.mkdir(exist_ok=True)
        np.save(place / f"{number}.npy", cloud)
    (folder.parent / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture
def train(sharp, source, tmp_path, monkeypatch):
    """Starts a perception node and a companion that trains; gives the far end of both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(source.parent / "cache"))
    both = {"backbone": sharp.backbone, "classes": list(sharp.classes), "device": "cpu"}
    own = {"mode": "gradient", "source": f"folders:{source}", "recipe": str(source.parent / "recipe.yaml"), "shots": 8,
           "probe": 4, "burst": BURST, "least_objects": 8, "every": 100000, "duty_cycle": 1.0, "min_familiarity": 0.0,
           "live_folder": str(tmp_path / "live"), "state_folder": str(tmp_path / "state")}  # fmt: skip
    with perception_nodes() as perceive, adaptation_nodes() as adapt:
        yield lambda **more: adapt(perceive(**both), **(both | own | more))


def spied(beside, certain):
    """What the companion says of trained networks, from now on; `certain` as in its configuration."""
    companion, judged = beside.served._adapting.companion, []
    companion.config = replace(companion.config, certain=certain)
    consider = companion.consider
    companion.consider = lambda *given: judged.append(consider(*given)) or judged[-1]
    return judged


def frames(seconds=120.0):
    """Turns in which to show frames: training has a low priority, so on a busy machine it takes some."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def seconds_of(thread):
    """CPU time that a thread of this process has taken."""
    told = Path(f"/proc/self/task/{thread}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def test_a_trained_candidate_is_judged_and_told_while_perception_answers(train):
    beside = train()
    judged = spied(beside, certain=1000.0)  # nobody is as certain as that: all are rejected
    _, frozen = beside.show()
    for _ in frames():
        answer, beside_it = beside.show()
        assert len(answer) == OBJECTS
        assert beside_it == frozen, "the frozen model answers with every digit as before"
        if len(judged) >= 2:
            break
    assert len(judged) >= 2, "no candidate was made"
    reasons = {verdict.status[0].message for verdict in beside.peer.wait(lambda: beside.verdicts, what="verdicts")}
    beside.peer.wait(
        lambda: {"; ".join(c.verdict.reasons) for c in judged[:2]} <= {v.status[0].message for v in beside.verdicts},
        what=f"their verdicts (there are {reasons})",
    )
    told = beside.diagnosed(lambda d: int(d["steps"]) >= 2 * BURST, "steps")
    assert (told["mode"], told["failed"]) == ("gradient", "0")
    assert all("gain" in c.verdict.numbers or not c.verdict.accepted for c in judged)


def test_an_accepted_network_is_served_learned_from_and_given_up_to_the_bit(train, sharp):
    beside = train(most_drift=1.0, probe_loss=1.0, least_variety=0.0, entropy_rise=1.0)
    judged, peer = spied(beside, certain=-1000.0), beside.peer
    weights = served_checksum(peer.served)
    _, frozen = beside.show()
    for _ in frames():
        beside.show()
        if any(c.verdict.accepted for c in judged):
            break
    versions = beside.served._versions
    trained = peer.wait(
        lambda: versions.network is not None and versions.live in versions.known and versions.live, what="a network"
    )
    peer.wait(lambda: (beside.version() or 0) >= trained, what="perception's word")
    served = load_bundle(peer.parameter("bundle"), load_backbone(sharp.backbone, device="cpu"))
    assert not served.network.config.frozen, "no network was trained"
    before, companion = beside.served._adapting.gradient.steps, beside.served._adapting.companion
    answer, beside_it = beside.show()
    assert beside_it == frozen
    assert answer != frozen
    assert served_checksum(peer.served) != weights
    assert companion.trained
    peer.wait(lambda: not companion.unasked, what="the frozen model's word on what the network was the first to see")
    assert beside.call("pause", True)[0]
    assert beside.call("reset")[0]
    beside.wait_for_version(0)
    assert served_checksum(peer.served) == weights
    assert beside.show() == (frozen, frozen)
    assert versions.network is None
    assert beside.call("pause", False)[0]
    for _ in frames():
        beside.show()
        if beside.served._adapting.gradient.steps > before + BURST:
            break
    assert beside.served._adapting.gradient.steps > before, "training does not go on after a reset"
    assert beside.diagnosis()["failed"] == "0"


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_training_takes_no_more_than_its_share_of_time(train, share):
    beside = train(duty_cycle=share)
    beside.show()
    beside.show()
    node = beside.served
    beside.peer.wait(lambda: node._adapting.gradient.steps and node._budget.wait() > 0, what="training")
    thread, length = node._training.thread, 6.0
    began, spent, steps = time.monotonic(), seconds_of(thread), node._adapting.gradient.steps
    time.sleep(length)
    took = (seconds_of(thread) - spent) / (time.monotonic() - began)
    assert node._adapting.gradient.steps > steps, "nothing was trained meanwhile"
    assert 0 < took <= share + 0.05, f"it took {took:.3f} of a core"
    assert float(beside.diagnosis()["duty_cycle"]) <= share + 0.1


def test_a_step_that_fails_is_told_and_training_goes_on(train):
    beside = train()
    gradient, calls = beside.served._adapting.gradient, []
    learn = gradient.learn

    def once(sightings, logits):
        calls.append(len(sightings))
        if len(calls) == 1:
            raise FloatingPointError("the loss of step 0 is not finite")
        return learn(sightings, logits)

    gradient.learn = once
    beside.show()
    beside.show()
    beside.peer.wait(lambda: gradient.steps > 0, what="a step after the one that failed")
    told = beside.diagnosed(lambda d: "trouble.training" in d)
    assert told["failed"] == "1"
    assert told["trouble.training"].endswith("the loss of step 0 is not finite")
    for _ in frames():
        beside.show()  # what goes well elsewhere does not hide it
        if gradient.steps > BURST:
            break
    assert "trouble.training" not in beside.diagnosed(lambda d: int(d["steps"]) > BURST + 1)


def test_deactivating_waits_for_no_long_step_and_nothing_comes_of_it(train):
    beside = train()
    gradient = beside.served._adapting.gradient
    judged, candidate = spied(beside, certain=-1000.0), gradient.candidate

    def slow():
        time.sleep(5.0)
        return candidate()

    gradient.candidate = slow
    beside.show()
    beside.show()
    beside.peer.wait(lambda: gradient.steps == BURST, what="steps")
    began = time.monotonic()
    assert beside.transition("deactivate")
    took = time.monotonic() - began
    assert took < 4.0, f"deactivating took {took:.1f} s"
    gradient.candidate = candidate
    assert beside.transition("activate")
    beside.wait_until_listening()
    steps = gradient.steps
    time.sleep(1.0)
    assert (gradient.steps, judged) == (steps, []), "two threads train one network"
    beside._sec = 100
    beside.show()
    beside.peer.wait(lambda: gradient.steps > steps, what="training again")
    assert beside.diagnosis()["failed"] == "0"
