"""Both nodes in one process: the companion knows when perception is at work."""

import threading

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from adapting import frame

from clipoint3d_ros.nodes import robot_nodes

pytestmark = pytest.mark.ros


def test_the_companion_yields_while_perception_has_a_frame_in_hand(start, monkeypatch):
    peer = start()
    told = {}
    monkeypatch.setattr(robot_nodes, "PerceptionNode", lambda: peer.served)
    monkeypatch.setattr(robot_nodes, "AdaptationNode", lambda **given: told.update(given))
    perception, companion = robot_nodes.both()
    assert perception() is peer.served
    companion()
    began, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(peer.served, "_work", lambda cloud: began.set() or goes_on.wait(5))
    assert told["yields"]() is False
    peer.send(frame(), 1)
    assert began.wait(10)
    assert told["yields"]() is True
    goes_on.set()
    peer.wait(lambda: not told["yields"](), what="the end of the frame in hand")
