"""Objects as training wants them: levelled, of one size, with where the sensor stood; and source objects as the
target's sensor would see them.

A source is complete, clean shapes; a target's objects are seen from one side. From where, and how far, the target's
unlabelled objects say themselves: each source object is looked at from such places, and what lies behind is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.augment import augment
from clipoint3d_ros.geometry.clouds import level, random_subset
from clipoint3d_ros.geometry.visibility import visible_points

_FEWEST = 48  # points of a scan; a place that shows fewer is drawn again
_TRIES = 4


@dataclass(frozen=True)
class Clouds:
    """M objects of one size.

    points: (M, P, 3) float32, y up, mean at the origin; where a sensor stood its azimuth is at +z.
    labels: (M,) int64, −1 where not known.
    seen: (M,) bool, by a sensor from one side, rather than complete.
    elevation: (M,) float32 radians of the sensor above the object's horizon; 0 where complete.
    distance: (M,) float32, from the sensor to the object's middle, in the clouds' unit; 0 where complete.
    metric: whether that unit is the metre.
    looks: how many rows in a row show one and the same object; M is a multiple of it.
    """

    points: Tensor
    labels: Tensor
    seen: Tensor
    elevation: Tensor
    distance: Tensor
    metric: bool
    looks: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def scannable(self) -> bool:
        """Whether a sensor's looks at them can be simulated: they are complete, and their size is known."""
        return self.metric and not bool(self.seen.any())

    def take(self, rows: Tensor) -> Clouds:
        """The objects of some rows (K,) int64, each a look of its own."""
        return Clouds(
            self.points[rows],
            self.labels[rows],
            self.seen[rows],
            self.elevation[rows],
            self.distance[rows],
            self.metric,
        )

    def sensors(self) -> np.ndarray:
        """(M, 3) float32: where each object's sensor stood, in the frame of its points."""
        elevation = self.elevation.numpy()
        direction = np.stack([np.zeros_like(elevation), np.sin(elevation), np.cos(elevation)], 1)
        return (direction * np.maximum(self.distance.numpy(), 1e-3)[:, None]).astype(np.float32)


def levelled(objects: Objects, points: int) -> Clouds:
    """Objects as clouds of `points` points each (a fixed random subset, repeated where there are fewer)."""
    clouds = np.zeros((len(objects), points, 3), np.float32)
    elevation, distance = np.zeros((2, len(objects)), np.float32)
    for i, cloud in enumerate(objects.clouds):
        middle = cloud.mean(0, dtype=np.float64)
        towards = None
        if objects.viewpoints is not None:
            towards = objects.viewpoints[i] - middle
            distance[i] = np.linalg.norm(towards)
        if distance[i] < 1e-6:
            towards = None  # the sensor inside the object says nothing of its side
        rotation = level(objects.up, towards)
        if towards is not None:
            elevation[i] = np.arcsin(np.clip((rotation @ towards)[1] / distance[i], -1, 1))
        clouds[i] = ((cloud - middle) @ rotation.T)[random_subset(len(cloud), points)]
    seen = torch.full((len(objects),), objects.viewpoints is not None)
    return Clouds(
        torch.from_numpy(clouds),
        torch.from_numpy(objects.labels),
        seen,
        torch.from_numpy(elevation),
        torch.from_numpy(distance),
        objects.metric,
    )


def can_scan(source: Clouds, target: Clouds) -> bool:
    """Whether `scanned` can show the source as the target's sensor would see it: a complete source, a target whose
    viewpoints are known, and one unit of both."""
    return not bool(source.seen.any()) and bool(target.seen.all()) and source.metric == target.metric


def scanned(source: Clouds, target: Clouds, scans: int, seed: int, misshape: float = 0.0) -> Clouds:
    """Each source object as the target's sensor would see it, from `scans` places that objects of the target were seen
    from: their elevation and distance, at any azimuth.

    Args:
        source: complete clouds.
        target: clouds that a sensor saw; their labels are not looked at.
        scans: of each source object.
        seed: of the draw.
        misshape: how much the proportions of what is looked at differ from the source object's: `misshapen`.

    Returns:
        scans × M clouds, those of one object in a row.

    Raises:
        ValueError: the two do not suit each other (`can_scan`).
    """
    if not len(target) or not can_scan(source, target):
        raise ValueError("scans need a complete source, a target with known viewpoints, and one unit; set scans to 0")
    rng = np.random.default_rng(seed)
    rows = np.arange(len(source)).repeat(scans)
    clouds, elevations, distances = [], [], []
    for row in rows:
        points = source.points[row].numpy()
        cloud, elevation, distance = _look(misshapen(points, misshape, rng) if misshape else points, target, rng)
        clouds.append(cloud)
        elevations.append(elevation)
        distances.append(distance)
    kept = torch.from_numpy(rows)
    return Clouds(
        torch.from_numpy(np.stack(clouds)),
        source.labels[kept],
        torch.ones(len(rows), dtype=torch.bool),
        torch.tensor(elevations, dtype=torch.float32),
        torch.tensor(distances, dtype=torch.float32),
        source.metric,
        scans,
    )


def worn(clouds: Clouds, points: int, cut_share: float, seed: int) -> Clouds:
    """The same objects with what a sensor and a segmenter may do to them (`augment`), `points` points each."""
    rng = torch.Generator().manual_seed(seed)
    return replace(clouds, points=augment(clouds.points, clouds.seen, points, rng, cut_share))


def misshapen(points: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Another object of the class, as far as proportions go: each axis stretched by exp(±amount), and the horizontal
    section growing or shrinking by up to amount from bottom to top.

    Args:
        points: (P, 3) y up, mean at the origin.
        amount: ≥ 0; 0.25 stretches by 0.78 to 1.28.
        rng: draws.

    Returns:
        (P, 3) float32, mean at the origin.
    """
    stretched = points * np.exp(rng.uniform(-amount, amount, 3))
    height = stretched[:, 1] - stretched[:, 1].min()
    taper = 1 + rng.uniform(-amount, amount) * (height / max(float(height.max()), 1e-9) - 0.5)
    stretched[:, [0, 2]] *= taper[:, None]
    return (stretched - stretched.mean(0)).astype(np.float32)


def _look(points: np.ndarray, target: Clouds, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """One scan of a complete cloud: its points (P, 3), elevation (radians) and distance."""
    radius = float(np.linalg.norm(points, axis=1).max())
    for _ in range(_TRIES):
        place = int(rng.integers(len(target)))
        elevation, azimuth = float(target.elevation[place]), rng.uniform(0, 2 * np.pi)
        distance = max(float(target.distance[place]), 2 * radius)
        turned = points @ _about_vertical(azimuth).T
        eye = distance * np.array([0, np.sin(elevation), np.cos(elevation)])
        kept = turned[visible_points(turned, eye)]
        if len(kept) >= _FEWEST:
            break
    towards = eye - kept.mean(0)
    centred = (kept - kept.mean(0)) @ level((0, 1, 0), towards).T
    subset = random_subset(len(centred), len(points), int(rng.integers(2**31)))
    distance = float(np.linalg.norm(towards))
    return centred[subset].astype(np.float32), float(np.arcsin(towards[1] / distance)), distance


def _about_vertical(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
