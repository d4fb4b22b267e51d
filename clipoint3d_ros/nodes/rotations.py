"""Unit quaternions (x, y, z, w), ROS's order, and rotation matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rotation(quaternion: Sequence[float]) -> np.ndarray:
    """R (3, 3) of a quaternion (x, y, z, w), which need not be quite of unit length.

    Raises:
        ValueError: not four finite numbers, or all zero, which no rotation is.
    """
    q = np.asarray(quaternion, np.float64)
    sound = q.shape == (4,) and bool((np.abs(q) < 1e100).all())  # of which a length can be taken
    length = float(np.linalg.norm(q)) if sound else float("nan")
    if not length >= 1e-6:
        raise ValueError(f"({', '.join(f'{v:g}' for v in q.ravel())}) is not a rotation's quaternion x, y, z, w")
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """(4,) x, y, z, w of a proper rotation (3, 3), with w ≥ 0.

    The four products with the largest component are taken, so no half-turn divides by nearly nothing.
    """
    m = np.asarray(matrix, np.float64)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    squares = np.array([*(1 + 2 * np.diag(m) - trace), 1 + trace])  # 4x², 4y², 4z², 4w²
    axis = int(squares.argmax())
    products = np.array(
        [
            [squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
        ]
    )[axis]
    unit = products / np.linalg.norm(products)
    return -unit if unit[3] < 0 else unit
