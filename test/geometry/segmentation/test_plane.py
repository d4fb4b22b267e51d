"""Support planes among boxes, walls and noise."""

from dataclasses import replace

import numpy as np
import pytest
from tabletops import EYE, UP, box, scene, table, turned

from clipoint3d_ros.geometry.segmentation.plane import PlaneConfig, carried, find_planes


def wall():
    """A wall larger than the table, behind it."""
    points = table(half=0.9)
    return np.stack([np.full(len(points), 0.6), points[:, 0], points[:, 1] + 0.9], -1).astype(np.float32)


def test_the_table_is_found_although_a_wall_is_larger():
    cloud = np.concatenate([scene(box((0.1, 0, 0), (0.1, 0.1, 0.2)))[0], wall()])
    (plane,) = find_planes(cloud, UP, EYE)
    assert plane.normal @ UP > np.cos(np.deg2rad(0.5))
    assert abs(plane.offset) < 0.002
    assert plane.area == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_same_plane_in_any_frame(seed):
    cloud, _ = scene(box((0.1, 0, 0), (0.1, 0.1, 0.2)))
    turn, shift = turned(seed), np.array([3.0, -2.0, 1.0])
    (plane,) = find_planes((cloud @ turn.T + shift).astype(np.float32), turn @ UP, turn @ EYE + shift)
    assert plane.normal @ (turn @ UP) > np.cos(np.deg2rad(0.5))
    assert abs(plane.normal @ shift - plane.offset) < 0.002


def test_gravity_decides_what_is_a_table():
    assert find_planes(wall(), UP, EYE) == []
    assert len(find_planes(wall(), np.array([1.0, 0, 0]), EYE)) == 1


def test_a_table_and_the_floor_both_carry():
    floor = table(half=0.8) - np.array([0, 0, 0.4], np.float32)
    planes = find_planes(np.concatenate([table(half=0.3), floor]), UP, EYE)
    assert [round(plane.offset, 2) for plane in planes] == [-0.4, 0.0]
    only = find_planes(np.concatenate([table(half=0.3), floor]), UP, EYE, PlaneConfig(count=1))
    assert len(only) == 1


def test_what_is_seen_of_a_lid_is_no_table():
    assert find_planes(table(half=0.1), UP, EYE, PlaneConfig(min_area=0.12)) == []
    assert len(find_planes(table(half=0.1), UP, EYE, PlaneConfig(min_area=0.02))) == 1


def test_points_lie_on_it_or_stand_on_it_or_neither():
    cloud, whose = scene(box((0.1, 0, 0), (0.1, 0.1, 0.2)))
    beside = np.array([[0.8, 0, 0.1], [0, 0, -0.1], [0, 0, 1.0]], np.float32)  # past its edge, below it, too high
    planes = find_planes(cloud, UP, EYE)
    on, above = carried(np.concatenate([cloud, beside]), planes, EYE)
    assert not (on & above).any()
    assert on[: len(cloud)][whose == 1].mean() > 0.99
    assert above[: len(cloud)][whose == 2].mean() > 0.9
    assert not on[-3:].any()
    assert not above[-3:].any()


def test_noise_may_be_thicker_farther_away():
    cloud, _ = scene(noise=0.004)
    config = PlaneConfig(thickness=0.002, noise=0.0, count=1)
    (thin,) = find_planes(cloud, UP, EYE, config)
    noisy = replace(config, noise=0.012)
    few, most = (carried(cloud, [thin], EYE, each)[0].mean() for each in (config, noisy))
    assert few < 0.5
    assert most > 0.95


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_few_points_are_no_plane(count):
    assert find_planes(np.zeros((count, 3), np.float32), UP, EYE) == []
    on, above = carried(np.zeros((count, 3), np.float32), [], EYE)
    assert not (on | above).any()
