"""tf2_ros behind the look-up, with a stand-in of its face where ROS has none."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from clipoint3d_ros.nodes.frames import MissingTransform
from clipoint3d_ros.nodes.transforms import Transforms

pytestmark = pytest.mark.ros


class TransformException(Exception):
    pass


class Buffer:
    known = True

    def lookup_transform(self, target, source, time, timeout):
        if not self.known:
            raise TransformException(f'"{source}" passed to lookupTransform does not exist')
        turn = SimpleNamespace(x=0.0, y=0.0, z=1.0, w=0.0)
        return SimpleNamespace(
            transform=SimpleNamespace(rotation=turn, translation=SimpleNamespace(x=1.0, y=2.0, z=3.0))
        )


class Listener:
    def __init__(self, buffer, node, *, spin_thread):
        assert not spin_thread, "the node's own executor must serve the listener"
        self.tf_sub, self.tf_static_sub = object(), object()


class Node:
    def __init__(self):
        self.destroyed = []

    def destroy_subscription(self, subscription):
        self.destroyed.append(subscription)


@pytest.fixture
def tf2(monkeypatch):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformListener, module.TransformException = Buffer, Listener, TransformException
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    monkeypatch.setattr(Buffer, "known", True)


@pytest.fixture
def stamp():
    return pytest.importorskip("builtin_interfaces.msg", reason="ROS 2 is not installed").Time(sec=1)


def test_a_transform_is_rotation_and_translation(tf2, stamp):
    turn, shift = Transforms(Node(), 0.1).lookup("camera", "base_link", stamp)
    np.testing.assert_allclose(turn, np.diag([-1, -1, 1]), atol=1e-12)
    np.testing.assert_array_equal(shift, [1, 2, 3])


def test_a_missing_transform_keeps_tf2_s_words(tf2, stamp, monkeypatch):
    monkeypatch.setattr(Buffer, "known", False)
    with pytest.raises(MissingTransform, match=r"'odom' to 'camera' within 0.1 s: \"odom\" passed"):
        Transforms(Node(), 0.1).lookup("camera", "odom", stamp)


def test_a_restart_listens_anew_and_leaves_nothing_behind(tf2):
    node = Node()
    transforms = Transforms(node, 0.1)
    transforms.restart()
    assert len(node.destroyed) == 2
    transforms.close()
    transforms.close()
    assert len(node.destroyed) == 4


def test_without_tf2_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(ImportError, match="leave them empty and give 'up'"):
        Transforms(Node(), 0.1)
