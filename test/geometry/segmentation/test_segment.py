"""The whole way of a cloud, from points to labels."""

import numpy as np
import pytest
from tabletops import EYE, UP, box, scene, turned

from clipoint3d_ros.datasets import scenes, tabletop
from clipoint3d_ros.geometry.segmentation.segment import BACKGROUND, TABLE, segment

BOXES = [box((0, -0.2, 0), (0.12, 0.1, 0.2)), box((0.1, 0.2, 0), (0.08, 0.08, 0.1))]


def test_a_table_with_two_boxes():
    cloud, whose = scene(*BOXES)
    labels = segment(cloud, UP, EYE)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [TABLE, 2, 3]
    for label in (1, 2, 3):  # the larger box is the first
        union = (labels == label) | (whose == label)
        assert ((labels == label) & (whose == label)).sum() / union.sum() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_a_sensor_sideways_sees_the_same_objects(seed):
    cloud, _ = scene(*BOXES)
    turn, shift = turned(seed), np.array([0.5, 2.0, -1.0])
    labels = segment((cloud @ turn.T + shift).astype(np.float32), turn @ UP, turn @ EYE + shift)
    assert (labels == segment(cloud, UP, EYE)).mean() > 0.98


def test_no_returns_are_background_and_change_nothing():
    cloud, _ = scene(*BOXES)
    holes = np.full((len(cloud), 3), np.nan, np.float32)
    holes[::3] = np.inf
    labels = segment(np.concatenate([cloud, holes]), UP, EYE)
    assert (labels[len(cloud) :] == BACKGROUND).all()
    np.testing.assert_array_equal(labels[: len(cloud)], segment(cloud, UP, EYE))


@pytest.mark.parametrize("cloud", [np.empty((0, 3)), np.full((9, 3), np.nan), np.zeros((500, 3))])
def test_nothing_to_see(cloud):
    assert (segment(cloud.astype(np.float32), UP, EYE) == BACKGROUND).all()


def test_the_same_cloud_has_the_same_labels():
    cloud, _ = scene(*BOXES)
    np.testing.assert_array_equal(segment(cloud, UP, EYE), segment(cloud, UP, EYE))


def test_a_simulated_kinect_in_its_optical_frame():
    seen = tabletop.simulate("one", ["box", "mug", "can"], np.random.default_rng(5))
    points = scenes.points(seen).reshape(-1, 3)
    labels, truth = segment(points, seen.up), seen.instance.reshape(-1)
    table = (truth == TABLE) & np.isfinite(points).all(1) & (np.linalg.norm(points, axis=1) < 2)
    assert (labels[table] == TABLE).mean() > 0.9
    assert labels.max() >= 2, "it must find an object"
    assert np.isin(truth[labels >= 2], np.arange(2, 20)).mean() > 0.9
