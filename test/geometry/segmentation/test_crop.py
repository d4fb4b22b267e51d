"""What is looked at: finite points within range."""

import numpy as np

from clipoint3d_ros.geometry.segmentation.crop import CropConfig, crop


def test_what_is_not_finite_or_out_of_range_is_left_out():
    points = np.array(
        [[0, 0, 1], [0, 0, 0.1], [0, 0, 3], [np.nan, 0, 1], [0, np.inf, 1], [0, 0, -1], [1e30, 0, 0]], np.float32
    )
    kept = crop(points, np.zeros(3), CropConfig(min_range=0.2, max_range=2.5))
    assert kept.tolist() == [True, False, False, False, False, True, False]


def test_range_is_measured_from_the_sensor():
    points = np.array([[10.0, 0, 1], [0, 0, 1]], np.float32)
    assert crop(points, np.array([10.0, 0, 0])).tolist() == [True, False]
