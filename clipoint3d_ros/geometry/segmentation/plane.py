"""Support planes: tables, shelves and floors, found by RANSAC among the planes that gravity allows.

Candidates go through three random points each (Fischler, Bolles, "Random sample consensus", CACM 1981), all of them at
once, and are scored on a coarse grid with one point a cell, so that a plane counts by its area and not by how near the
sensor stands. The best is fitted by least squares to what lies on it. What it carries stands over its outline, a
polygon of sixteen sides around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clipoint3d_ros.geometry.segmentation.voxels import voxelise

_GRID = 0.02  # metres, cells that vote
_FITS = 3  # rounds of least squares, each on what lies on the round before
_VOTERS = 30000  # points that are put on the grid
_SCORED = 800  # cells on which all candidates are scored; the best are scored on all
_BEST = 8
_SIDES = 16  # of an outline


@dataclass(frozen=True)
class PlaneConfig:
    """What a support plane is."""

    max_tilt: float = 15.0  # degrees between its normal and up
    thickness: float = 0.006  # metres from it that still lie on it
    noise: float = 0.002  # metres of thickness more for a sensor 1 m above, at a range of 1 m
    min_area: float = 0.2  # square metres seen of it; less is an object's lid
    count: int = 2  # planes at most, the largest first
    hypotheses: int = 100  # random candidates a plane
    margin: float = 0.02  # metres beyond its outline over which objects may reach
    max_height: float = 0.6  # metres above it that still belong to what it carries
    seed: int = 0  # of the candidates


class Plane(NamedTuple):
    """A support plane: `normal` (3,) unit, upwards, and `offset`, so that p·normal − offset is the height of p.

    sides: (S, 3) unit vectors in it, and limits: (S,), so that p·side ≤ limit for each p over its outline. area: square
    metres seen.
    """

    normal: np.ndarray
    offset: float
    sides: np.ndarray
    limits: np.ndarray
    area: float

    def heights(self, points: np.ndarray) -> np.ndarray:
        """(N,) metres above it."""
        return points @ self.normal.astype(points.dtype) - points.dtype.type(self.offset)

    def tolerance(self, ranges: np.ndarray, viewpoint: np.ndarray, config: PlaneConfig) -> np.ndarray:
        """(N,) metres from it within which points at these ranges (N,) from the viewpoint lie on it.

        Structured light and stereo err along the ray by the square of the range r, and a ray meets a plane that lies h
        metres below the sensor at the sine h / r: across the plane the error is noise · r · h.
        """
        return config.thickness + config.noise * abs(float(viewpoint @ self.normal - self.offset)) * ranges

    def carries(self, points: np.ndarray, margin: float) -> np.ndarray:
        """(N,) bool: which points lie over its outline, grown by a margin in metres."""
        limits = (self.limits + margin).astype(points.dtype)
        return (points @ self.sides.T.astype(points.dtype) <= limits).all(1)


def ranges_of(points: np.ndarray, viewpoint: np.ndarray) -> np.ndarray:
    """(N,) metres of points (N, 3) from the viewpoint (3,)."""
    away = points - viewpoint.astype(points.dtype)
    return np.sqrt(np.einsum("ij,ij->i", away, away))


def find_planes(
    points: np.ndarray, up: np.ndarray, viewpoint: np.ndarray, config: PlaneConfig = PlaneConfig()
) -> list[Plane]:
    """The support planes of a cloud, the largest first; none where nothing level is large enough.

    Args:
        points: (N, 3) float, finite, metres.
        up: (3,) unit, against gravity.
        viewpoint: (3,) metres, where the sensor was.
        config: what counts as one.
    """
    few = points[:: max(1, len(points) // _VOTERS)]
    cells = voxelise(few, _GRID).centres.astype(np.float64)
    rng = np.random.default_rng(config.seed)
    planes: list[Plane] = []
    ranges = ranges_of(cells, viewpoint)
    while len(planes) < config.count and len(cells) * _GRID**2 >= config.min_area:
        plane = _largest(cells, ranges, up, viewpoint, config, rng)
        if plane is None or plane.area < config.min_area:
            break
        planes.append(plane)
        left = np.abs(plane.heights(cells)) > 2 * plane.tolerance(ranges, viewpoint, config)
        cells, ranges = cells[left], ranges[left]
    return planes


def _largest(
    cells: np.ndarray,
    ranges: np.ndarray,
    up: np.ndarray,
    viewpoint: np.ndarray,
    config: PlaneConfig,
    rng: np.random.Generator,
) -> Plane | None:
    """The plane on which the most cells lie."""
    normals, offsets = _candidates(cells, up, config, rng)

    def on(some: slice, which: np.ndarray) -> np.ndarray:
        """(M, K) which cells lie on which candidates; their tolerances as `Plane.tolerance` says."""
        slack = config.noise * np.abs(normals[which] @ viewpoint - offsets[which])
        reach = config.thickness + ranges[some, None] * slack
        return np.abs(cells[some] @ normals[which].T - offsets[which]) <= reach

    votes = on(slice(None, None, max(1, len(cells) // _SCORED)), np.arange(len(normals))).sum(0)
    best = np.argsort(-votes, kind="stable")[:_BEST]
    lying = on(slice(None), best)
    chosen = int(lying.sum(0).argmax())
    kept, plane = lying[:, chosen], None
    normal, offset = normals[best[chosen]], float(offsets[best[chosen]])
    for _ in range(_FITS):
        if kept.sum() < 3:
            return None
        middle = cells[kept].mean(0)
        fitted = np.linalg.eigh(np.cov((cells[kept] - middle).T))[1][:, 0]
        fitted = fitted if fitted @ up > 0 else -fitted
        if fitted @ up >= np.cos(np.deg2rad(config.max_tilt)):
            normal, offset = fitted, float(middle @ fitted)
        plane = _outlined(cells[kept], normal, offset)
        kept = np.abs(plane.heights(cells)) <= plane.tolerance(ranges, viewpoint, config)
    return plane


def _candidates(
    cells: np.ndarray, up: np.ndarray, config: PlaneConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Planes through three random cells each that gravity allows: normals (K, 3), upwards, and offsets (K,)."""
    three = cells[rng.integers(0, len(cells), (config.hypotheses, 3))]
    normals = np.cross(three[:, 1] - three[:, 0], three[:, 2] - three[:, 0])
    length = np.linalg.norm(normals, axis=1)
    real = length > 1e-6
    normals = normals[real] / length[real, None]
    normals *= np.where(normals @ up < 0, -1.0, 1.0)[:, None]
    # One level plane through each first cell as well: three points of a small plane in a large scene are rare.
    level = normals @ up >= np.cos(np.deg2rad(config.max_tilt))
    normals = np.concatenate([normals[level], np.broadcast_to(up, (len(three), 3))])
    through = np.concatenate([three[real, 0][level], three[:, 0]])
    return normals, np.einsum("ij,ij->i", normals, through)


def _outlined(on: np.ndarray, normal: np.ndarray, offset: float) -> Plane:
    """The plane with its outline and area, of the cells (M, 3) that lie on it."""
    aside = np.eye(3)[int(np.abs(normal).argmin())]
    first = np.cross(normal, aside)
    first /= np.linalg.norm(first)
    axes = np.stack([first, np.cross(normal, first)])
    angle = np.arange(_SIDES) * (2 * np.pi / _SIDES)
    sides = np.stack([np.cos(angle), np.sin(angle)], 1) @ axes
    flat = on @ axes.T
    # Twice as coarse as the cells, whose means leave some squares of their own size empty.
    column, row = np.floor((flat - flat.min(0)) / (2 * _GRID)).astype(np.int64).T
    area = len(np.unique(column << 32 | row)) * (2 * _GRID) ** 2
    return Plane(normal, offset, sides, (on @ sides.T).max(0), area)


def carried(
    points: np.ndarray, planes: list[Plane], viewpoint: np.ndarray, config: PlaneConfig = PlaneConfig()
) -> tuple[np.ndarray, np.ndarray]:
    """Which points lie on a plane, and which stand on one: (N,) bool each, never both.

    A point stands on a plane when it is above it by more than its thickness, below `max_height` and over its outline.
    """
    on, above = np.zeros(len(points), bool), np.zeros(len(points), bool)
    if not planes:
        return on, above
    ranges = ranges_of(points, viewpoint)
    for plane in planes:
        reach = plane.tolerance(ranges, viewpoint, config)
        height = plane.heights(points)
        on |= np.abs(height) <= reach
        rows = np.flatnonzero((height > reach) & (height <= config.max_height))
        above[rows[plane.carries(points[rows], config.margin)]] = True
    return on, above & ~on
