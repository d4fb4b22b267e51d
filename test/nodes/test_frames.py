"""Up and viewpoint in a cloud's frame."""

from __future__ import annotations

import numpy as np
import pytest

from clipoint3d_ros.nodes.frames import FrameConfig, MissingTransform, standpoint, to_fixed_frame


def world(target, source, stamp):
    """An optical camera frame (x right, y down, z forward) 1 m above base_link, looking along its x."""
    assert target == "camera"
    base_in_camera = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    if source == "base_link":
        return base_in_camera, base_in_camera @ [0, 0, -1.0]
    if source == "lidar":
        return np.eye(3), np.array([0.1, 0.2, 0.3])
    raise MissingTransform(f"'{source}' is not known")


def test_parameters_serve_where_no_frame_is_named():
    stand = standpoint("camera", 0, FrameConfig(up=(0, 0, 2), viewpoint=(1, 2, 3)))
    np.testing.assert_array_equal(stand.up, [0, 0, 1])
    np.testing.assert_array_equal(stand.viewpoint, [1, 2, 3])


def test_an_unknown_viewpoint_is_none():
    assert standpoint("camera", 0, FrameConfig(viewpoint=())).viewpoint is None


def test_up_is_the_gravity_frame_s_z_axis():
    stand = standpoint("camera", 0, FrameConfig(gravity_frame="base_link"), world)
    np.testing.assert_allclose(stand.up, [0, -1, 0], atol=1e-12)
    np.testing.assert_array_equal(stand.viewpoint, [0, 0, 0])


def test_the_viewpoint_is_the_sensor_frame_s_origin():
    stand = standpoint("camera", 0, FrameConfig(sensor_frame="lidar"), world)
    np.testing.assert_array_equal(stand.viewpoint, [0.1, 0.2, 0.3])


def test_a_cloud_in_the_asked_frame_needs_no_transform():
    stand = standpoint("base_link", 0, FrameConfig(gravity_frame="base_link", sensor_frame="base_link"))
    np.testing.assert_array_equal(stand.up, [0, 0, 1])


@pytest.mark.parametrize(
    ("frame", "lookup", "words"),
    [
        ("camera", world, "'odom' is not known"),
        ("", world, "names no frame_id"),
        ("camera", None, "nothing here can look up"),
        ("camera", lambda *_: (np.full((3, 3), np.nan), np.zeros(3)), "not finite"),
    ],
)
def test_a_missing_transform_is_never_identity(frame, lookup, words):
    with pytest.raises(MissingTransform, match=words):
        standpoint(frame, 0, FrameConfig(gravity_frame="odom"), lookup)


def test_only_named_frames_need_transforms():
    assert not FrameConfig().asks
    assert FrameConfig(gravity_frame="map").asks
    assert FrameConfig(sensor_frame="lidar").asks


def drive(target, source, stamp):
    """A camera that drives along odom's x at 1 m/s, looking to its left."""
    assert (target, source) == ("odom", "camera")
    return np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([stamp, 0.0, 0.0])


def test_what_stands_still_in_the_fixed_frame_is_where_it_was():
    for stamp in (0.0, 2.0):
        turn, shift = to_fixed_frame("camera", stamp, "odom", drive)
        np.testing.assert_allclose(turn @ [1.0, stamp, 0.5] + shift, [0, 1, 0.5])


@pytest.mark.parametrize(("frame", "fixed"), [("camera", ""), ("", ""), ("odom", "odom")])
def test_no_transform_is_asked_for_where_none_is_needed(frame, fixed):
    turn, shift = to_fixed_frame(frame, 0, fixed)
    np.testing.assert_array_equal(turn, np.eye(3))
    np.testing.assert_array_equal(shift, np.zeros(3))


def test_a_cloud_that_names_no_frame_has_no_place_in_the_fixed_one():
    with pytest.raises(MissingTransform, match="names no frame_id, so where 'odom' is cannot be looked up"):
        to_fixed_frame("", 0, "odom", drive)
