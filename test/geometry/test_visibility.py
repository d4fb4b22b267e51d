"""What of a cloud is seen from one place."""

import numpy as np
import pytest

from clipoint3d_ros.geometry.visibility import visible_points


def sphere(count=2000):
    """Points spread evenly over the unit sphere (Fibonacci's lattice)."""
    i = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], 1)


def rotation(seed=0):
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turned * np.sign(np.linalg.det(turned))


@pytest.mark.parametrize("distance", [2.0, 5.0, 50.0])
def test_of_a_sphere_the_side_that_faces_the_eye_is_seen_and_the_far_side_is_not(distance):
    direction = np.array([1.0, 2.0, -2.0]) / 3
    points = sphere()
    seen, height = visible_points(points, distance * direction), points @ direction
    horizon = 1 / distance  # of the cap that tangents from the eye enclose
    assert seen[height > horizon + 0.15].all(), "a point of the near side is hidden"
    assert not seen[height < horizon - 0.15].any(), "a point of the far side is seen"


def test_what_stands_in_front_hides_what_stands_behind():
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 30)), -1).reshape(-1, 2)
    front, behind = np.insert(grid, 2, 1.0, 1), np.insert(grid * 0.5, 2, -1.0, 1)
    seen = visible_points(np.concatenate([front, behind]), np.array([0, 0, 6.0]))
    assert seen[:900].mean() > 0.95
    assert not seen[900:].any()


def test_turning_moving_and_scaling_cloud_and_eye_together_changes_nothing():
    points = np.random.default_rng(0).normal(size=(400, 3))
    eye = np.array([3.0, 5.0, 2.0])
    seen, turned = visible_points(points, eye), rotation()
    assert 0 < seen.mean() < 1
    for scale, shift in ((1.0, 0.0), (0.01, 7.0), (30.0, -4.0)):
        again = visible_points(scale * points @ turned.T + shift, scale * turned @ eye + shift)
        assert (seen == again).mean() > 0.99


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_few_points_are_all_seen(count):
    seen = visible_points(np.random.default_rng(0).normal(size=(count, 3)), np.array([0, 0, 9.0]))
    assert seen.shape == (count,)
    assert seen.all()


@pytest.mark.parametrize("kinds", [1, 2])
def test_identical_points_do_not_raise(kinds):
    points = np.tile(np.eye(3)[:kinds], (20, 1))
    seen = visible_points(points, np.array([5.0, 5.0, 5.0]))
    assert seen.shape == (len(points),)
    assert seen.any()


def test_a_flat_cloud_is_seen_from_above_and_does_not_raise_from_its_edge():
    flat = np.random.default_rng(0).uniform(-1, 1, (200, 3)) * [1, 1, 0]
    assert visible_points(flat, np.array([0, 0, 4.0])).mean() > 0.95
    assert visible_points(flat, np.array([4.0, 0, 0])).any()
    line = flat * [1, 0, 0]
    assert visible_points(line, np.array([0, 0, 4.0])).any()


def test_single_precision_clouds_are_read_and_left_alone():
    points = sphere(300).astype(np.float32)
    before = points.copy()
    assert visible_points(points, [0, 0, 4]).dtype == bool
    np.testing.assert_array_equal(points, before)
