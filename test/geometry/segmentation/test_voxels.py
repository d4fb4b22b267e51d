"""Points on a grid."""

import numpy as np
import pytest

from clipoint3d_ros.geometry.segmentation.voxels import voxelise


def test_cells_hold_every_point_once_and_their_means_are_exact():
    points = np.random.default_rng(0).uniform(-1, 1, (5000, 3)).astype(np.float32)
    found = voxelise(points, 0.1)
    assert found.counts.sum() == len(points)
    assert (np.bincount(found.cell) == found.counts).all()
    for cell in (0, len(found.counts) // 2, len(found.counts) - 1):
        inside = points[found.cell == cell]
        np.testing.assert_allclose(found.centres[cell], inside.mean(0), atol=1e-5)
        assert np.ptp(inside, axis=0).max() <= 0.1 + 1e-6


def test_no_points_are_no_cells():
    assert len(voxelise(np.empty((0, 3), np.float32), 0.1).centres) == 0


@pytest.mark.parametrize(("size", "wide", "words"), [(0.0, 1.0, "above 0"), (1e-6, 100.0, "crop it first")])
def test_what_no_grid_can_hold_is_refused(size, wide, words):
    with pytest.raises(ValueError, match=words):
        voxelise(np.array([[0, 0, 0], [wide, 0, 0]], np.float32), size)
