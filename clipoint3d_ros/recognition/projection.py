"""The first stage: clouds of objects become depth views, each with how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.geometry.clouds import CloudError, Vector, extents, finite_points, level, normalise, resample
from clipoint3d_ros.geometry.views import DepthViews, view_directions
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.selection import facing_weights


@dataclass(frozen=True)
class Projection:
    """Objects as the tower sees them.

    images: (B, K, H, W) float32 depth views in [0, 1], 1 background.
    chosen: (B, K) int64, which of the ten views each image is.
    weights: (B, K) float32, how much each view counts; rows sum to 1, a weight of 0 leaves the view out.
    points: (B, N, 3) float32, normalised, y up: what the point encoder sees.
    extents: (B, 3) float32 metres: height, length and width of what was seen; NaN where the unit is not known.
    usable: (B,) bool; False where the cloud had too few finite points to be judged.
    facing: the weights come from where the sensor stood, rather than being even.
    """

    images: Tensor
    chosen: Tensor
    weights: Tensor
    points: Tensor
    extents: Tensor
    usable: Tensor
    facing: bool

    def without_sizes(self) -> Projection:
        """The same, of objects whose unit is not known to be the metre."""
        return replace(self, extents=torch.full_like(self.extents, torch.nan))

    def metric_points(self) -> Tensor:
        """(B, N, 3) float32 metres: the objects, y up and the sensor's azimuth at +z, before they were made to fit the
        unit sphere; NaN where the unit is not known."""
        size = extents(self.points).amax(1).clamp_min(1e-9)
        return self.points * (self.extents.amax(1) / size)[:, None, None]


class Projector:
    """Levels clouds, chooses their views and renders these.

    Args:
        config: which views count, how many points are kept, how few are too few.
        size: side of the images in pixels.
        device: where they are rendered.
    """

    def __init__(self, config: ClassifierConfig, size: int, device: torch.device) -> None:
        self._config, self._device = config, device
        self._render = DepthViews(size=size)
        self._directions = torch.from_numpy(view_directions()).float()

    @torch.inference_mode()
    def __call__(self, clouds: Sequence[np.ndarray], up: Vector, viewpoint: Vector | None) -> Projection:
        """Arguments and errors as in `Classifier.classify`."""
        levelled, towards, enough = self._level(clouds, up, viewpoint)
        points = resample(levelled, self._config.points, self._config.resampling, self._device)
        chosen, weights, facing = self._choose(torch.from_numpy(towards))
        chosen, weights = chosen.to(self._device), weights.to(self._device)
        normalised = normalise(points)
        usable = torch.tensor(enough, dtype=torch.bool, device=self._device)
        images = self._render(normalised, chosen)
        return Projection(images, chosen, weights, normalised, extents(points), usable, facing)

    def view_weights(self, clouds: Sequence[np.ndarray], up: Vector, viewpoint: Vector | None) -> Tensor:
        """(B, 10) float32: how much each of the ten views would count before any is rendered; rows sum to 1."""
        _, towards, _ = self._level(clouds, up, viewpoint)
        chosen, weights, _ = self._choose(torch.from_numpy(towards))
        return torch.zeros(len(clouds), len(self._directions)).scatter_(1, chosen, weights)

    def _level(
        self, clouds: Sequence[np.ndarray], up: Vector, viewpoint: Vector | None
    ) -> tuple[list[np.ndarray], np.ndarray, list[bool]]:
        """Clouds y up with the sensor's azimuth at +z, unit vectors (B, 3) to the sensor in that frame (zero where it
        is not known), and which clouds have enough points; one that has not becomes a single point."""
        finite = [finite_points(cloud) for cloud in clouds]
        enough = [len(cloud) >= self._config.min_points for cloud in finite]
        eyes = _viewpoints(viewpoint, len(finite))
        levelled, towards = [], np.zeros((len(finite), 3), np.float32)
        for i, cloud in enumerate(finite):
            direction = None if eyes is None or not enough[i] else eyes[i] - cloud.mean(0, dtype=np.float64)
            if direction is not None and np.linalg.norm(direction) < 1e-6:
                direction = None  # the sensor inside the object says nothing of its side
            rotation = level(up, direction)
            if direction is not None:
                towards[i] = rotation @ (direction / np.linalg.norm(direction))
            levelled.append((cloud @ rotation.T).astype(np.float32) if enough[i] else np.zeros((1, 3), np.float32))
        return levelled, towards, enough

    def _choose(self, towards: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Views (B, K), their weights (B, K), and whether these face a sensor.

        `towards` (B, 3) are the directions to the sensor, zero where it is not known: such an object among others
        counts all its views evenly.
        """
        batch, count = len(towards), len(self._directions)
        even = torch.full((batch, count), 1 / count)
        known = towards.norm(dim=-1) > 0.5
        if self._config.selection in ("entropy", "all") or not bool(known.any()):
            return torch.arange(count).expand(batch, -1), even, False
        facing = torch.where(known[:, None], facing_weights(towards, self._directions), even)
        weights, chosen = facing.topk(int((facing > 0).sum(1).max()), dim=1)
        return chosen, weights, True


def _viewpoints(viewpoint: Vector | None, batch: int) -> np.ndarray | None:
    """(B, 3) float64, or None."""
    if viewpoint is None:
        return None
    eyes = np.asarray(viewpoint, dtype=np.float64)
    if eyes.shape not in ((3,), (batch, 3)) or not np.isfinite(eyes).all():
        raise CloudError(
            f"viewpoint must be finite and (3,) or ({batch}, 3), but it is {np.array2string(eyes, threshold=6)}"
        )
    return np.broadcast_to(eyes, (batch, 3))
