"""Hand-made tabletops: a table, boxes that stand on it, and turns of the whole."""

from __future__ import annotations

import numpy as np

UP = np.array([0.0, 0.0, 1.0])
EYE = np.array([-0.6, 0.0, 0.7])  # metres; the table's top is at z = 0


def table(half: float = 0.5, step: float = 0.004) -> np.ndarray:
    """(N, 3) a square table's top, z up."""
    along = np.arange(-half, half, step)
    x, y = np.meshgrid(along, along)
    return np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32)


def box(at, size, step: float = 0.003) -> np.ndarray:
    """(N, 3) the top and the side towards EYE of a box whose bottom's middle is `at`."""
    (dx, dy, dz), at = size, np.asarray(at, float)
    u, v = np.meshgrid(np.arange(-dx / 2, dx / 2, step), np.arange(-dy / 2, dy / 2, step))
    top = np.stack([u, v, np.full_like(u, dz)], -1).reshape(-1, 3)
    v, w = np.meshgrid(np.arange(-dy / 2, dy / 2, step), np.arange(0, dz, step))
    side = np.stack([np.full_like(v, -dx / 2), v, w], -1).reshape(-1, 3)
    return (np.concatenate([top, side]) + at).astype(np.float32)


def scene(*boxes: np.ndarray, noise: float = 0.0005) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) of the table and boxes in one shuffled cloud; whose each is: 1 the table's, 2 and up the boxes'."""
    rng = np.random.default_rng(0)
    parts = [table(), *boxes]
    points = np.concatenate(parts) + rng.normal(0, noise, (sum(map(len, parts)), 3))
    whose = np.repeat(np.arange(1, len(parts) + 1), [len(part) for part in parts])
    order = rng.permutation(len(points))
    return points[order].astype(np.float32), whose[order]


def turned(seed: int) -> np.ndarray:
    """A random rotation (3, 3)."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))
