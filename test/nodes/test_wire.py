"""Answers as bytes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from clipoint3d_ros.nodes import wire
from clipoint3d_ros.nodes.boxes import Box
from clipoint3d_ros.nodes.detections import detection_array
from clipoint3d_ros.nodes.pointcloud import Segment
from clipoint3d_ros.nodes.rotations import rotation
from clipoint3d_ros.nodes.wire import detection_bytes, detection_writer
from clipoint3d_ros.recognition.recognition import Recognition

pytestmark = pytest.mark.ros
NOTHING = np.empty((0, 3), np.float32)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


def answers(names, rng):
    return Recognition.of(rng.random(len(names)) + 1e-3, names, rng.random(), unknown_below=0.2)


@settings(max_examples=200, deadline=None)
@given(
    frame=texts,
    ids=st.lists(texts, max_size=5),
    classes=st.lists(texts, min_size=1, max_size=4),
    top_k=st.integers(0, 5),
    stamp=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)),
    seed=st.integers(0, 2**32 - 1),
)
def test_they_are_the_message_s(frame, ids, classes, top_k, stamp, seed):
    rng = np.random.default_rng(seed)
    header = Header(frame_id=frame)
    header.stamp.sec, header.stamp.nanosec = stamp
    boxes = [Box(rng.normal(size=3), rotation(rng.normal(size=4)), rng.random(3)) for _ in ids]
    told = header, [Segment(NOTHING, i) for i in ids], boxes, [answers(tuple(classes), rng) for _ in ids], top_k
    content, meant = detection_bytes(*told), detection_array(*told)
    assert deserialize_message(content, Detection3DArray) == meant
    assert len(content) == len(serialize_message(meant))


def test_without_objects_they_are_an_empty_array():
    header = Header(frame_id="camera")
    read = deserialize_message(detection_bytes(header, [], [], [], 3), Detection3DArray)
    assert (read.header, read.detections) == (header, [])


def test_one_too_few_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        detection_bytes(Header(), [Segment(NOTHING, "1")], [], [], 3)


@pytest.fixture
def tried_anew():
    detection_writer.cache_clear()
    yield
    detection_writer.cache_clear()


def unreadable(content, kind):
    raise RuntimeError("failed to deserialize ROS message")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("serialize_message", lambda message: serialize_message(message) + b"\0"),
        ("deserialize_message", lambda content, kind: kind()),
        ("deserialize_message", unreadable),
    ],
    ids=["longer", "read as another", "not read"],
)
def test_where_the_installation_does_not_agree_messages_are_made_as_ever(name, other, tried_anew, monkeypatch):
    assert detection_writer() is detection_bytes
    detection_writer.cache_clear()
    monkeypatch.setattr(wire, name, other)
    assert detection_writer() is detection_array
