"""Unit quaternions (x, y, z, w), ROS's order, and rotation matrices."""

from __future__ import annotations

import math
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


def quaternion(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, z, w of a proper rotation (3, 3), with w ≥ 0.

    The four products with the largest component are taken, so no half-turn divides by nearly nothing.
    """
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(matrix, np.float64).tolist()
    squares = (1 + a - e - i, 1 - a + e - i, 1 - a - e + i, 1 + a + e + i)  # 4x², 4y², 4z², 4w²
    x, y, z, w = (
        (squares[0], b + d, c + g, h - f),
        (b + d, squares[1], f + h, c - g),
        (c + g, f + h, squares[2], d - b),
        (h - f, c - g, d - b, squares[3]),
    )[max(range(4), key=squares.__getitem__)]
    length = math.copysign(math.hypot(x, y, z, w), w)
    return x / length, y / length, z / length, w / length
