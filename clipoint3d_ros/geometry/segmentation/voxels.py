"""Points on a grid: one cell for all points in a cube, found by integer keys without a loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_BITS = 21  # of a key for each axis
_CELLS = 1 << _BITS  # an axis holds: 16 km at 8 mm


class Voxels(NamedTuple):
    """The occupied cells of a grid, in ascending order of their keys.

    centres: (M, 3) float32, the mean of each cell's points. counts: (M,) points in each. cell: (N,) each point's cell.
    """

    centres: np.ndarray
    counts: np.ndarray
    cell: np.ndarray


def voxelise(points: np.ndarray, size: float) -> Voxels:
    """Sort points into cubes of `size` metres.

    Args:
        points: (N, 3), finite, metres.
        size: above 0.

    Raises:
        ValueError: a size that is not above 0, or a cloud wider than 2²¹ cells.
    """
    if not size > 0:
        raise ValueError(f"a voxel's size is {size} m; it must be above 0")
    if not len(points):
        return Voxels(np.empty((0, 3), np.float32), np.empty(0, np.intp), np.empty(0, np.intp))
    low = points.min(0)
    extent = float((points.max(0).astype(np.float64) - low).max())
    if not extent < size * (_CELLS - 1):
        raise ValueError(f"the cloud is {extent:g} m wide, more than {_CELLS} voxels of {size:g} m; crop it first")
    place = ((points - low) * np.float32(1 / size)).astype(np.int64)
    keys = (place[:, 0] << 2 * _BITS) | (place[:, 1] << _BITS) | place[:, 2]
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    counts = np.diff(np.append(first, len(keys)))
    cell = np.empty(len(keys), np.intp)
    cell[order] = np.repeat(np.arange(len(first)), counts)
    offsets = (points - low)[order]  # near 0, where a float32 sum is exact enough
    centres = np.add.reduceat(offsets, first, axis=0) / counts[:, None].astype(np.float32) + low
    return Voxels(centres.astype(np.float32), counts, cell)
