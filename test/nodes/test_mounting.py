"""However the sensor is mounted, the objects are the same: sideways or upside down, told by `up` or asked of tf.

With the embedded model, over real DDS; tf2_ros is a stand-in of its face.
"""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from clouds_made import FLAT, TABLE, TALL

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from peer import perception_nodes
from stand_in import StandIn

from clipoint3d_ros.nodes import perception_node
from clipoint3d_ros.nodes.pointcloud import write_cloud
from clipoint3d_ros.nodes.rotations import quaternion
from clipoint3d_ros.recognition.classifier import Classifier

pytestmark = pytest.mark.ros

# Columns: the axes of base_link, z up, in the sensor's frame.
MOUNTINGS = {
    "level": np.eye(3),
    "upside down": np.diag([1.0, -1.0, -1.0]),
    "on its left side": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "on its right side": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "an optical frame": np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]),
    "askew": np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]),
}


@pytest.fixture
def start():
    with perception_nodes() as run:
        yield run


@pytest.fixture
def tf(monkeypatch):
    """What the stand-in of tf2 knows: the turn of base_link in the sensor's frame; and who asked for it."""
    world = SimpleNamespace(turn=None, delay_s=0.0, threads=[])

    class Buffer:
        def lookup_transform(self, target, source, time_, timeout):
            world.threads.append(threading.current_thread())
            time.sleep(world.delay_s)
            if world.turn is None or (target, source) != ("camera", "base_link"):
                raise LookupError(f"{source} is unknown in {target}")
            turn = SimpleNamespace(**dict(zip("xyzw", quaternion(world.turn), strict=True)))
            shift = SimpleNamespace(x=0.1, y=0.2, z=-1.0)
            return SimpleNamespace(transform=SimpleNamespace(rotation=turn, translation=shift))

    tf2 = ModuleType("tf2_ros")
    tf2.Buffer, tf2.TransformException = Buffer, LookupError
    tf2.TransformListener = lambda buffer, node, spin_thread: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2)
    return world


def seen(turn):
    """A table with a tall and a flat object, as the turned sensor sees it from its own origin."""
    points = np.concatenate([TABLE, TALL, FLAT]) - np.array([0, 0, 0.8], np.float32)
    labels = np.repeat([1, 5, 9], [len(TABLE), len(TALL), len(FLAT)]).astype(np.uint8)
    turned = (points @ turn.T).astype(np.float32)
    return write_cloud(dict(zip("xyz", turned.T, strict=True)) | {"instance_id": labels})


def said(message):
    """{id: ({class: score}, box's size, box's centre)}."""
    found = {}
    for each in message.detections:
        scores = {r.hypothesis.class_id: r.hypothesis.score for r in each.results}
        size, centre = each.bbox.size, each.bbox.center.position
        found[each.id] = scores, [size.x, size.y, size.z], [centre.x, centre.y, centre.z]
    return found


def check(answers, turn, upright):
    assert set(answers) == set(upright) == {"5", "9"}
    for name, (scores, size, centre) in answers.items():
        expected, its_size, its_centre = upright[name]
        assert scores == pytest.approx(expected, abs=2e-3), f"object {name}"
        assert size[2] == pytest.approx(its_size[2], abs=1e-4), "its height is along up"
        assert sorted(size[:2]) == pytest.approx(sorted(its_size[:2]), rel=0.1), "its footprint, turned to a degree"
        np.testing.assert_allclose(centre, turn @ its_centre, atol=5e-3)


@pytest.fixture(scope="module", autouse=True)
def embedded_model():
    try:
        Classifier.load(device="cpu")
    except FileNotFoundError as error:
        pytest.skip(f"the embedded model is not here: {error}")


def test_told_by_up_every_mounting_gives_the_same_answers(start):
    peer = start(device="cpu", top_k=8)
    answers = {}
    for sec, (name, turn) in enumerate(MOUNTINGS.items(), start=1):
        assert peer.set(up=[float(v) for v in turn[:, 2]]) == (True, "")
        peer.send(seen(turn), sec)
        answers[name] = said(peer.answer(sec))
    for name, turn in MOUNTINGS.items():
        check(answers[name], turn, answers["level"])


def test_asked_of_tf_every_mounting_gives_the_same_answers(start, tf):
    peer = start(device="cpu", top_k=8, gravity_frame="base_link")
    answers = {}
    for sec, (name, turn) in enumerate(MOUNTINGS.items(), start=1):
        tf.turn = turn
        peer.send(seen(turn), sec)
        answers[name] = said(peer.answer(sec))
    for name, turn in MOUNTINGS.items():
        check(answers[name], turn, answers["level"])


def test_a_wrong_up_does_change_the_answers(start):
    """Else the tests above would prove nothing."""
    peer = start(device="cpu", top_k=8)
    peer.send(seen(np.eye(3)), 1)
    level = said(peer.answer(1))  # before the next, which would take its place
    peer.send(seen(MOUNTINGS["on its left side"]), 2)
    wrong = said(peer.answer(2))
    assert any(level[name][0] != pytest.approx(wrong[name][0], abs=0.05) for name in level)


def test_transforms_are_waited_for_off_the_callbacks_and_a_missing_one_skips_its_cloud_alone(start, tf, monkeypatch):
    monkeypatch.setattr(perception_node, "Classifier", StandIn)
    peer = start(gravity_frame="base_link", silence_s=0.0)
    tf.delay_s = 1.0
    peer.send(seen(np.eye(3)), 1)
    peer.wait(lambda: tf.threads, what="the look-up")
    asked = time.monotonic()
    assert peer.state() == "active"
    assert time.monotonic() - asked < 0.7, "a callback waited for the transform"
    assert peer.silent_on(1, seconds=1.2)
    assert peer.diagnosis()["skipped_no_transform"] == "1"
    tf.turn, tf.delay_s = np.eye(3), 0.0
    peer.send(seen(np.eye(3)), 2)
    assert len(peer.answer(2).detections) == 2
    assert threading.main_thread() not in tf.threads
    assert len(set(tf.threads)) == 1, "one worker asks"
