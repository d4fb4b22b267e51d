"""Rows of numbers beside detections: what they say of a segment, and back and forth as an image message."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from clipoint3d_ros.nodes.evidence import COLUMNS, evidence_rows, read_rows
from clipoint3d_ros.nodes.frames import Standpoint
from clipoint3d_ros.nodes.pointcloud import Segment
from clipoint3d_ros.recognition.recognition import Recognition

UP = np.array([0.0, 0.0, 1.0])
CLASSES = ("can", "box")


def segment(centre, count=10):
    spread = np.random.default_rng(0).normal(0, 0.01, (count, 3))
    return Segment((spread - spread.mean(0) + centre).astype(np.float32), "7")


def answer(familiarity=0.8):
    return Recognition.of(np.array([0.25, 0.75]), CLASSES, familiarity)


def row(viewpoint, centre=(1.0, 0.0, 0.0), up=UP, agreement=0.7, version=3):
    stand = Standpoint(np.asarray(up), None if viewpoint is None else np.asarray(viewpoint))
    (told,) = evidence_rows([segment(centre)], [answer()], np.array([agreement]), stand, version)
    return dict(zip(COLUMNS, told.tolist(), strict=True))


def image(rows, order="<", pad=0, **change):
    """As sensor_msgs/Image holds it, `pad` bytes after every row."""
    rows = np.asarray(rows, f"{order}f4")
    lines = [line.tobytes() + b"\xff" * pad for line in rows]
    told = {
        "encoding": "32FC1", "height": rows.shape[0], "width": rows.shape[1], "step": 4 * rows.shape[1] + pad,
        "is_bigendian": int(order == ">"), "data": b"".join(lines),
    }  # fmt: skip
    return SimpleNamespace(**{**told, **change})


ROWS = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)


# What a row says


def test_a_row_says_who_answered_and_how_sure_the_answer_is():
    told = row(None)
    assert told["version"] == 3
    assert told["agreement"] == pytest.approx(0.7)
    assert told["familiarity"] == pytest.approx(0.8)
    assert told["entropy"] == pytest.approx(answer().entropy, rel=1e-6)
    assert told["points"] == 10
    assert (told["elevation"], told["distance"]) == (0, 0), "nobody knows where the sensor was"


@pytest.mark.parametrize(
    ("viewpoint", "elevation", "distance"),
    [((0, 0, 0), 0, 1), ((1, 0, 2), 90, 2), ((0, 0, 1), 45, math.sqrt(2)), ((1, 1, -1), -45, math.sqrt(2))],
)
def test_elevation_and_distance_are_the_sensor_s_seen_from_the_object(viewpoint, elevation, distance):
    told = row(viewpoint)
    assert math.degrees(told["elevation"]) == pytest.approx(elevation, abs=1e-3)
    assert told["distance"] == pytest.approx(distance, rel=1e-5)


def test_up_need_not_be_of_unit_length_nor_the_z_axis():
    told = row((1, -2, 0), up=(0, -5, 0))
    assert math.degrees(told["elevation"]) == pytest.approx(90, abs=1e-3)


def test_a_sensor_within_the_object_is_no_error():
    told = row((1, 0, 0))
    assert told["distance"] == pytest.approx(0, abs=1e-6)
    assert math.isfinite(told["elevation"])


def test_a_box_with_nothing_in_it_has_a_row_of_its_own():
    empty = Segment(np.zeros((0, 3), np.float32), "4")
    stand = Standpoint(UP, np.zeros(3))
    told = evidence_rows([empty, segment((2, 0, 0))], [answer(), answer()], np.array([0.0, 1.0]), stand, 1)
    assert np.isfinite(told).all()
    assert told[0, COLUMNS.index("points")] == told[0, COLUMNS.index("distance")] == 0
    assert told[1, COLUMNS.index("distance")] == pytest.approx(2, rel=1e-5)


def test_no_segments_are_no_rows():
    assert evidence_rows([], [], np.zeros(0), Standpoint(UP, None), 0).shape == (0, len(COLUMNS))


# Back and forth


def test_what_is_published_is_read_back_with_every_digit():
    messages = pytest.importorskip("sensor_msgs.msg", reason="sensor_msgs is not installed")
    from clipoint3d_ros.nodes.detections import features_image

    header = messages.Image().header
    np.testing.assert_array_equal(read_rows(features_image(header, ROWS)), ROWS)
    assert read_rows(features_image(header, np.zeros((0, 7)))).shape == (0, 7)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pad", [0, 4, 3])
def test_either_byte_order_and_padded_rows_are_read(order, pad):
    read = read_rows(image(ROWS, order, pad))
    assert read.dtype == np.float32
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, ROWS)


def test_bytes_beyond_the_last_row_are_left():
    told = image(ROWS)
    np.testing.assert_array_equal(read_rows(image(ROWS, data=told.data + b"more")), ROWS)


def test_numbers_that_are_not_finite_are_read_as_they_are():
    rows = np.array([[math.nan, math.inf, -math.inf]], np.float32)
    np.testing.assert_array_equal(read_rows(image(rows)), rows)


def test_another_encoding_is_refused():
    with pytest.raises(ValueError, match="an image of features is 32FC1, but this one is rgb8"):
        read_rows(image(ROWS, encoding="rgb8"))


@pytest.mark.parametrize(
    "change",
    [{"data": image(ROWS).data[:-1]}, {"data": b""}, {"height": 4}, {"step": 20}],
    ids=["cut", "empty", "high", "step"],
)
def test_a_truncated_image_is_refused_with_its_numbers(change):
    with pytest.raises(ValueError, match=r"needs \d+ bytes in rows of at least 28, but has \d+ in rows of"):
        read_rows(image(ROWS, **change))
