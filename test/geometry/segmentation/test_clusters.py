"""Clusters of what stands on a table."""

from dataclasses import replace

import numpy as np
import pytest
from tabletops import EYE, box

from clipoint3d_ros.geometry.segmentation.clusters import ClusterConfig, cluster, concavity, neighbour_pairs
from clipoint3d_ros.geometry.segmentation.voxels import voxelise

APART = [box((0, -0.1, 0), (0.1, 0.1, 0.2)), box((0, 0.1, 0), (0.1, 0.06, 0.1))]
LOWER, UPPER = box((0, 0, 0), (0.2, 0.2, 0.08)), box((0.03, 0, 0.08), (0.1, 0.1, 0.12))
HIDDEN = (np.abs(LOWER[:, 0] - 0.03) < 0.05) & (np.abs(LOWER[:, 1]) < 0.05)  # no sensor sees what the upper one covers
STACKED = [LOWER[~HIDDEN], UPPER]


def test_things_apart_are_two_the_larger_first():
    found = cluster(np.concatenate(APART), EYE)
    assert np.unique(found[: len(APART[0])]).tolist() == [0]
    assert np.unique(found[len(APART[0]) :]).tolist() == [1]


def test_a_box_on_a_box_is_cut_where_they_meet():
    points = np.concatenate(STACKED)
    lower = np.arange(len(points)) < len(STACKED[0])
    found = cluster(points, EYE)
    assert found.max() == 1
    assert (found[lower] == found[lower][0]).mean() > 0.9
    assert (found[~lower] == 1 - found[lower][0]).mean() > 0.9
    assert cluster(points, EYE, ClusterConfig(fold=0)).max() == 0, "without folds what touches is one"


def test_a_convex_edge_is_no_fold_and_an_inner_corner_is():
    for turn, sign in ((1, -1), (-1, 1)):  # a roof seen from above, and a valley
        x, y = np.meshgrid(np.arange(-0.1, 0.1, 0.005), np.arange(-0.1, 0.1, 0.005))
        points = np.stack([x, y, -turn * np.abs(x)], -1).reshape(-1, 3)
        centres = voxelise(points, 0.007).centres.astype(float)
        found = concavity(centres, neighbour_pairs(centres, 0.013), np.array([0, 0, 2.0]), 4)
        ridge = (np.abs(centres[:, 0]) < 0.008) & (np.abs(centres[:, 1]) < 0.06)
        flat = (np.abs(np.abs(centres[:, 0]) - 0.06) < 0.01) & (np.abs(centres[:, 1]) < 0.06)
        assert (sign * found[ridge]).min() > 0.05
        assert np.abs(found[flat]).max() < 0.03


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({}, 2),
        ({"min_points": 2000}, 1),
        ({"max_points": 2500}, 1),
        ({"max_size": 0.15}, 1),
        ({"min_size": 0.15}, 1),
        ({"min_size": 0.5}, 0),
    ],
)
def test_size_limits(change, left):
    assert cluster(np.concatenate(APART), EYE, replace(ClusterConfig(), **change)).max() + 1 == left


def test_the_order_of_points_does_not_matter():
    points = np.concatenate(STACKED)
    order = np.random.default_rng(1).permutation(len(points))
    np.testing.assert_array_equal(cluster(points, EYE)[order], cluster(points[order], EYE))


@pytest.mark.parametrize("count", [0, 1, 99])
def test_few_points_are_no_object(count):
    assert (cluster(np.zeros((count, 3), np.float32), EYE) == -1).all()


def test_points_all_in_one_place_are_too_small():
    assert (cluster(np.zeros((500, 3), np.float32), EYE) == -1).all()
