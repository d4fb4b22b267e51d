"""What of a complete cloud a sensor sees from one place.

A model's complete cloud shows its back; a robot's sensor never does. Hiding what lies behind makes the one resemble
the other, without a mesh, a renderer, or a label.
"""

from __future__ import annotations

import numpy as np

_RADIUS = 100.0  # of the sphere the points are flipped over, in the cloud's own radii: larger sees deeper into folds


def visible_points(points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Which points of a cloud are seen from a place, by hidden point removal (Katz et al., "Direct visibility of point
    sets", SIGGRAPH 2007).

    Args:
        points: (N, 3) finite, any unit, sampled all over the object's surface.
        eye: (3,) in the same frame, outside the cloud.

    Returns:
        (N,) bool; all True for a cloud too flat or too small to have a hull.
    """
    points = np.asarray(points, np.float64)
    seen = np.ones(len(points), bool)
    if len(points) < 5:
        return seen
    radius = float(np.linalg.norm(points - points.mean(0), axis=1).max())
    if radius <= 0:
        return seen
    import open3d as o3d  # here, for it takes a second and 100 MB, which a node spares that has its references already

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    try:
        _, kept = cloud.hidden_point_removal(np.asarray(eye, np.float64), radius * _RADIUS)
    except RuntimeError:  # qhull: all points in one plane with the eye
        return seen
    seen[:] = False
    seen[np.asarray(kept, np.int64)] = True
    return seen
