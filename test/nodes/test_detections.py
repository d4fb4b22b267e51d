"""Answers as messages."""

from __future__ import annotations

import numpy as np
import pytest
from clouds_made import FLAT, TALL

pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from std_msgs.msg import Header

from clipoint3d_ros.nodes.boxes import Box, upright_box
from clipoint3d_ros.nodes.detections import (
    detection_array,
    features_image,
    picture_image,
    segment_boxes,
    vision_info,
)
from clipoint3d_ros.nodes.markers import marker_array
from clipoint3d_ros.nodes.pointcloud import Segment
from clipoint3d_ros.nodes.rotations import rotation
from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition

pytestmark = pytest.mark.ros
CLASSES = ("mug", "box", "can")
HEADER = Header(frame_id="camera")
HEADER.stamp.sec = 12
UP = np.array([0.0, 0, 1])
SEGMENTS = [Segment(TALL, "5"), Segment(FLAT, "9")]


def answer(*probabilities, label=None, score=None):
    best = int(np.argmax(probabilities))
    return Recognition(label or CLASSES[best], score or probabilities[best], np.array(probabilities), 0.5, CLASSES)


ANSWERS = [answer(0.1, 0.2, 0.7), answer(0.4, 0.3, 0.3, label=UNKNOWN, score=0.6)]


def made(top_k=2):
    return detection_array(HEADER, SEGMENTS, segment_boxes(SEGMENTS, UP), ANSWERS, top_k)


def test_hypotheses_are_sorted_and_cut_at_k():
    tall, flat = made().detections
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in tall.results] == [("can", 0.7), ("box", 0.2)]
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in flat.results] == [("unknown", 0.6)]
    assert len(made(9).detections[0].results) == 3


def test_headers_and_ids_are_the_source_s():
    message = made()
    assert message.header == HEADER
    assert [d.id for d in message.detections] == ["5", "9"]
    assert all(d.header == HEADER for d in message.detections)


def test_a_score_never_leaves_the_unit_interval():
    wild = [answer(0.0, 0.0, 1.0 + 1e-9)] * 2
    message = detection_array(HEADER, SEGMENTS, segment_boxes(SEGMENTS, UP), wild, 1)
    assert message.detections[0].results[0].hypothesis.score == 1.0


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (1, 1, 0)])
def test_every_point_lies_in_the_published_box(up):
    for segment in SEGMENTS:
        box = upright_box(segment.points, up)
        (detection,) = detection_array(HEADER, [segment], [box], ANSWERS[:1], 1).detections
        pose, size = detection.bbox.center, detection.bbox.size
        turn = rotation((pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w))
        local = (segment.points - [pose.position.x, pose.position.y, pose.position.z]) @ turn
        assert (np.abs(local) <= np.array([size.x, size.y, size.z]) / 2 + 1e-5).all()
        np.testing.assert_allclose(turn[:, 2], np.array(up) / np.linalg.norm(up), atol=1e-9)


def test_a_published_box_is_kept():
    box = Box(np.array([1.0, 2, 3]), np.eye(3), np.array([0.5, 0.6, 0.7]))
    assert segment_boxes([Segment(np.empty((0, 3), np.float32), "a", box)], UP) == [box]


def test_a_flat_thing_still_has_three_sizes():
    sheet = Segment(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), "1")
    (detection,) = detection_array(HEADER, [sheet], segment_boxes([sheet], UP), ANSWERS[:1], 1).detections
    assert detection.bbox.size.z > 0


def test_features_are_rows_of_a_float_image():
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    message = features_image(HEADER, rows)
    assert (message.height, message.width, message.encoding, message.step) == (3, 5, "32FC1", 20)
    np.testing.assert_array_equal(np.frombuffer(message.data, "<f4").reshape(3, 5), rows)


def test_pictures_are_rgb_images():
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    message = picture_image(HEADER, picture)
    assert (message.height, message.width, message.encoding, message.step) == (4, 6, "rgb8", 18)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(4, 6, 3), picture)


def test_vision_info_names_model_classes_and_version():
    message = vision_info(HEADER.stamp, "clipoint3d-tiny", "/perception/classes", 0)
    assert (message.method, message.database_location, message.database_version) == (
        "clipoint3d-tiny",
        "/perception/classes",
        0,
    )


def test_markers_delete_the_last_frame_s_then_box_and_caption_each():
    message = marker_array(HEADER, segment_boxes(SEGMENTS, UP), ANSWERS, UP)
    first, *rest = message.markers
    assert first.action == first.DELETEALL
    assert [m.ns for m in rest] == ["boxes", "labels"] * 2
    assert [m.text for m in rest if m.text] == ["can 70 %", "unknown"]
    assert len({(m.ns, m.id) for m in rest}) == 4
    grey = rest[2].color
    assert grey.r == grey.g == grey.b
    assert rest[1].pose.position.z > 0.2, "the caption must float above the box"
    assert all(m.header == HEADER for m in message.markers)
