"""A depth camera's whole cloud to one label a point: the data's way through crop, planes and clusters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clipoint3d_ros.geometry.segmentation.clusters import ClusterConfig, cluster
from clipoint3d_ros.geometry.segmentation.crop import CropConfig, crop
from clipoint3d_ros.geometry.segmentation.plane import PlaneConfig, carried, find_planes

BACKGROUND, TABLE, FIRST_OBJECT = 0, 1, 2  # the labels of scene folders


@dataclass(frozen=True)
class SegmenterConfig:
    """One configuration a step."""

    crop: CropConfig = field(default_factory=CropConfig)
    plane: PlaneConfig = field(default_factory=PlaneConfig)
    clusters: ClusterConfig = field(default_factory=ClusterConfig)


def segment(
    points: np.ndarray,
    up: np.ndarray,
    viewpoint: np.ndarray | None = None,
    config: SegmenterConfig = SegmenterConfig(),
) -> np.ndarray:
    """Label each point of a cloud.

    Args:
        points: (N, 3) float32 metres in any frame; rows that are not finite are no returns.
        up: (3,) unit, against gravity, in that frame.
        viewpoint: (3,) metres, where the sensor was; None takes the frame's origin.
        config: of the steps.

    Returns:
        (N,) int32: 0 background, 1 a support plane, 2 and up one object each, from the one with the most points on.
    """
    labels = np.zeros(len(points), np.int32)
    eye = np.zeros(3) if viewpoint is None else np.asarray(viewpoint, np.float64)
    near = np.flatnonzero(crop(points, eye, config.crop))
    inside = points[near]
    planes = find_planes(inside, up, eye, config.plane)
    on, above = carried(inside, planes, eye, config.plane)
    labels[near[on]] = TABLE
    objects = cluster(inside[above], eye, config.clusters)
    labels[near[above]] = np.where(objects < 0, BACKGROUND, objects + FIRST_OBJECT)
    return labels
