"""Boxes: points inside the published ones, and the upright box around an object."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from clouds_made import block
from hypothesis import given, settings
from hypothesis import strategies as st

from clipoint3d_ros.geometry.clouds import CloudError
from clipoint3d_ros.nodes.boxes import MARGIN_M, Box, NamedBox, inside, read_boxes, upright_box, upright_boxes
from clipoint3d_ros.nodes.rotations import rotation

SIDES = np.array([0.3, 0.1, 0.2])
numbers = st.floats(-1, 1, allow_nan=False)
directions = st.tuples(numbers, numbers, numbers).filter(lambda v: np.linalg.norm(v) > 0.1)


def turned(angle):
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 2 * np.pi), directions)
def test_every_point_is_in_its_upright_box_and_the_box_is_upright(angle, up):
    points = block(SIDES) @ turned(angle).T.astype(np.float32)
    box = upright_box(points, up)
    ((_, kept),) = inside(points, [NamedBox("", box)])
    assert len(kept) == len(points), f"{len(points) - len(kept)} points are outside"
    np.testing.assert_allclose(box.axes.T @ box.axes, np.eye(3), atol=1e-9)
    assert np.linalg.det(box.axes) > 0.99
    np.testing.assert_allclose(box.axes[:, 2], np.array(up) / np.linalg.norm(up), atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 10, 30, 45, 75, 89, 120, 200])
def test_a_turned_block_gets_its_own_size(degrees):
    box = upright_box(block(SIDES) @ turned(np.deg2rad(degrees)).T + [1, 2, 3])
    np.testing.assert_allclose(np.sort(box.size[:2]), [0.1, 0.3], atol=0.006)
    np.testing.assert_allclose(box.size[2], 0.2, atol=1e-5)
    np.testing.assert_allclose(box.centre, [1, 2, 3], atol=0.004)


def test_a_round_thing_keeps_the_frame_s_axes():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    can = np.stack([0.03 * np.cos(angle), 0.03 * np.sin(angle), np.linspace(0, 0.1, 2000)], 1)
    np.testing.assert_array_equal(upright_box(can).axes, np.eye(3))


@pytest.mark.parametrize("degrees", range(0, 90, 7))
def test_the_footprint_is_as_small_as_the_best_of_all_whole_degrees(degrees):
    points = (block(SIDES, count=2000) @ turned(np.deg2rad(degrees)).T).astype(np.float32)
    box = upright_box(points)
    whole = [np.prod(np.ptp(points @ turned(np.deg2rad(each)), axis=0)[:2]) for each in range(90)]
    assert np.prod(box.size[:2]) <= min(whole) * 1.03


def test_boxes_do_not_depend_on_neighbours():
    clouds = [block(SIDES * k, (k, 0, 1), 300 * k, seed=k) for k in (1, 2, 3)]
    for cloud, box in zip(clouds, upright_boxes(clouds), strict=True):
        for mine, alone in zip(box, upright_box(cloud), strict=True):
            np.testing.assert_allclose(mine, alone, atol=1e-6)
    assert upright_boxes([]) == []


def test_a_box_is_as_exact_as_its_points_whatever_its_neighbours_are():
    """A float64 cloud far away beside a float32 one, and whole numbers."""
    far = block(SIDES, (1e6, 0, 0))
    for others in (block(SIDES).astype(np.float32), np.arange(9).reshape(3, 3)):
        _, beside = upright_boxes([others, far])
        np.testing.assert_allclose(beside.size, upright_box(far).size, atol=1e-8)


def test_one_point_has_a_box_and_none_has_none():
    np.testing.assert_array_equal(upright_box(np.ones((1, 3))).size, 0)
    with pytest.raises(ValueError, match="no points"):
        upright_box(np.empty((0, 3)))


@settings(max_examples=40, deadline=None)
@given(st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: np.linalg.norm(q) > 0.1), directions)
def test_inside_is_the_same_in_a_turned_world(q, centre):
    """Points chosen by a box do not change when points and box move together."""
    points = np.random.default_rng(1).uniform(-1, 1, (300, 3)).astype(np.float32)
    turn, at = rotation(q), np.array(centre)
    upright = Box(np.zeros(3), np.eye(3), SIDES * 4)
    moved = Box(at, turn, SIDES * 4)
    expected = (np.abs(points) <= SIDES * 2 + MARGIN_M).all(1)
    edge = (np.abs(np.abs(points) - SIDES * 2 - MARGIN_M) < 1e-5).any(1)  # rounding may decide these either way
    for box, cloud in ((upright, points), (moved, (points @ turn.T + at).astype(np.float32))):
        ((_, kept),) = inside(cloud[~edge], [NamedBox("", box)])
        assert len(kept) == expected[~edge].sum()


def published(size=(1.0, 1, 1), position=(0.0, 0, 0), orientation=(0.0, 0, 0, 1), name="7"):
    keys = "x", "y", "z", "w"
    pose = SimpleNamespace(
        position=SimpleNamespace(**dict(zip(keys, position, strict=False))),
        orientation=SimpleNamespace(**dict(zip(keys, orientation, strict=True))),
    )
    box = SimpleNamespace(center=pose, size=SimpleNamespace(**dict(zip(keys, size, strict=False))))
    return SimpleNamespace(bbox=box, id=name)


def array_of(*detections, frame="camera"):
    return SimpleNamespace(header=SimpleNamespace(frame_id=frame), detections=list(detections))


def test_published_boxes_are_read_with_their_ids():
    one, two = read_boxes(array_of(published(), published((1, 2, 3), (4, 5, 6), (0, 0, 1, 0), "x")), "camera")
    assert (one.id, two.id) == ("7", "x")
    np.testing.assert_array_equal(two.box.size, [1, 2, 3])
    np.testing.assert_allclose(two.box.axes, np.diag([-1, -1, 1]))


def test_a_flat_box_holds_the_points_of_its_plane():
    boxes = read_boxes(array_of(published((2, 2, 0)), published((2, 2, 2), name="8")), "camera")
    points = np.array([[0.5, 0.5, 0], [0.5, 0, 0.00005], [0, 0, 0.01], [3, 0, 0]], np.float32)
    assert {named.id: len(kept) for named, kept in inside(points, boxes)} == {"7": 2, "8": 3}


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (array_of(published(), frame="map"), "frame", "'map' .* 'camera'"),
        (array_of(published(size=(1, -1, 1))), "boxes", "not below 0 m"),
        (array_of(published(size=(1, np.nan, 1))), "boxes", "finite"),
        (array_of(published(position=(np.inf, 0, 0))), "boxes", "finite"),
        (array_of(published(orientation=(0, 0, 0, 0))), "boxes", "no orientation"),
    ],
)
def test_boxes_that_are_none_are_refused_in_words(message, reason, words):
    with pytest.raises(CloudError, match=words) as caught:
        read_boxes(message, "camera")
    assert caught.value.reason == reason
