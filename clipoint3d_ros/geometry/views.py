"""Depth views: a normalised cloud as ten orthographic depth images (METHOD 1.3–1.5; PointCLIP V2's projection).

The grid never holds an empty layer: with the published depth window a point's layer is one of 1…6 of 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FRONT_VIEW = 4  # the view whose azimuth is +z, where `clouds.level` turns the sensor
TOP_VIEW = 9

_VIEWS_IN_CACHE = 10  # rendered together on a CPU

_EIGHT = [math.pi * k / 4 for k in (1, 3, 5, 7, 0, 2, 4, 6)]
_EULER = [(a, 0.0, math.pi / 2) for a in _EIGHT] + [(0.0, -math.pi / 2, math.pi / 2), (0.0, math.pi / 2, math.pi / 2)]
_BIAS = [(0.0, math.pi / 9, 0.0)] * 8 + [(0.0, math.pi / 15, 0.0)] * 2


@dataclass(frozen=True)
class ViewConfig:
    """The published projection (METHOD 1.4–1.5); a bundle keeps it, for a model only knows the views it was shown."""

    resolution: int = 112  # grid cells a side
    depth: int = 8  # grid layers
    extent: float = 0.8  # of the grid that x and y fill
    depth_bias: float = 0.2  # added to depth in [0, 1] before scaling
    pool: int = 7  # cells, the square each point grows to
    pool_padding: int = 2  # cells
    blur: int = 3  # cells, Gaussian kernel
    blur_sigma: float = 3.0  # cells


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """R = Rx·Ry·Rz for Euler angles in radians; (3, 3) float64."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rx @ ry @ rz


def view_rotations() -> np.ndarray:
    """(10, 3, 3) float64: a point row p becomes p·Mᵀ in view v; the viewer stands at +z and image rows run along +x."""
    return np.stack([rotation(*bias) @ rotation(*euler) for euler, bias in zip(_EULER, _BIAS, strict=True)])


def view_directions() -> np.ndarray:
    """(10, 3) unit vectors in the cloud's y-up frame, from the object to each view's viewer."""
    return view_rotations()[:, 2, :]


class DepthViews:
    """Renders clouds as depth views, many objects at once on the points' device.

    Args:
        config: the projection's parameters.
        size: side in pixels of the images; None keeps the grid's own 110, else bilinear (align_corners).
        views: the views to render, None for all ten in the published order.
        objects_per_pass: how many objects share a pass; None takes as many on the CPU as have ten views together,
            whose grids stay in cache, and 64 elsewhere.
    """

    def __init__(
        self,
        config: ViewConfig | None = None,
        size: int | None = None,
        views: list[int] | None = None,
        objects_per_pass: int | None = None,
    ) -> None:
        self.config = config or ViewConfig()
        self.size = size
        self.objects_per_pass = objects_per_pass
        matrices = view_rotations()
        self.rotations = torch.from_numpy(matrices if views is None else matrices[views]).float()
        self._blur = _gaussian(self.config.blur, self.config.blur_sigma)

    def __call__(self, points: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Depth images of a batch.

        Args:
            points: (B, N, 3) float, normalised into the unit sphere, y up, finite, N ≥ 1.
            chosen: (B, K) int64, which of the views to render of each object; None renders all V of each.

        Returns:
            (B, V or K, H, W) float32 in [0, 1]: 1 background, darker is nearer. A cloud without extent (one point) is a
            single dark square in the middle.

        Raises:
            ValueError: another shape, or no points.
        """
        if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] == 0:
            raise ValueError(f"points must be (B, N, 3) with N at least 1, but they are {tuple(points.shape)}")
        rotations = self.rotations.to(points.device)[None]
        rotations = rotations.expand(len(points), -1, -1, -1) if chosen is None else rotations[0][chosen]
        few = max(1, _VIEWS_IN_CACHE // max(1, rotations.shape[1]))
        step = self.objects_per_pass or (few if points.device.type == "cpu" else 64)
        chunks = zip(points.float().split(step), rotations.split(step), strict=True)
        images = [self._render(*chunk) for chunk in chunks if len(chunk[0])]
        if not images:
            side = self.size or self._own_size()
            return torch.zeros(0, rotations.shape[1], side, side, device=points.device)
        return torch.cat(images)

    def _own_size(self) -> int:
        return self.config.resolution + 2 * self.config.pool_padding - self.config.pool + 1

    def _render(self, points: Tensor, rotations: Tensor) -> Tensor:
        grid = self._scatter(_rotate(points, rotations))
        image = self._smooth(grid).amax(2)
        image = image / image.amax((-2, -1), keepdim=True)
        image = 1 - image
        if self.size is not None and self.size != image.shape[-1]:
            image = F.interpolate(image, size=(self.size, self.size), mode="bilinear", align_corners=True)
        return image

    def _scatter(self, points: Tensor) -> Tensor:
        """(B, V, N, 3) rotated points → (B, V, L, R, R) nearest value of each cell, row along x, column along y."""
        c = self.config
        low, high = points.amin(2, keepdim=True), points.amax(2, keepdim=True)
        side = (high - low).amax(-1, keepdim=True).clamp_min(1e-9)
        x, y, z = ((points - (low + high) / 2) / side * 2).unbind(-1)
        x, y = x * c.extent, y * c.extent
        ix = ((x + 1) / 2 * c.resolution).ceil().clamp(1, c.resolution - 2).long()
        iy = ((y + 1) / 2 * c.resolution).ceil().clamp(1, c.resolution - 2).long()
        z = ((z + 1) / 2 + c.depth_bias) / (1 + c.depth_bias) * (c.depth - 2)
        first, last = _layers(c)
        layer = z.ceil().clamp(first, last).long() - first
        layers = last - first + 1
        batch, views, _ = ix.shape
        cell = (layer * c.resolution + ix) * c.resolution + iy
        grid = points.new_zeros(batch, views, layers * c.resolution**2)
        grid.scatter_reduce_(2, cell, z.clamp(1, c.depth - 2), "amax", include_self=True)
        return grid.view(batch, views, layers, c.resolution, c.resolution)

    def _smooth(self, grid: Tensor) -> Tensor:
        """Max-pool, then Gaussian blur, each as two passes along one axis: both kernels are separable."""
        c = self.config
        pooled = grid.flatten(0, 2)
        for axis in (1, 2):
            pooled = _slide_max(pooled, c.pool, c.pool_padding, axis)
        weights = self._blur.tolist()
        return _blur(_blur(pooled, weights, 1), weights, 2).unflatten(0, grid.shape[:3])


def _rotate(points: Tensor, rotations: Tensor) -> Tensor:
    """(B, N, 3) by (B, V, 3, 3) → (B, V, N, 3), in plain sums: matrix units may round to TF32, which moves pixels."""
    p = points[:, None, :, None, :]
    m = rotations[:, :, None, :, :]
    return p[..., 0] * m[..., 0] + p[..., 1] * m[..., 1] + p[..., 2] * m[..., 2]


def _layers(config: ViewConfig) -> tuple[int, int]:
    """First and last layer a point in the unit window can fall into."""
    scale = (config.depth - 2) / (1 + config.depth_bias)
    return math.ceil(config.depth_bias * scale), config.depth - 2


def _gaussian(size: int, sigma: float) -> Tensor:
    offsets = torch.arange(size) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def _slide_max(images: Tensor, size: int, padding: int, axis: int) -> Tensor:
    """Maximum over a sliding window along one axis of (M, H, W), values ≥ 0, zeros outside; stride 1.

    Windows double (1, 2, 4, …) until they cover `size`: log₂ passes over memory. On a CPU many times quicker than
    `max_pool2d`, whose inner loop does not vectorise along a window.
    """
    images = F.pad(images, (0, 0, padding, padding) if axis == 1 else (padding, padding))
    width = 1
    while width < size:
        step = min(width, size - width)
        count = images.shape[axis] - step
        images = torch.maximum(images.narrow(axis, 0, count), images.narrow(axis, step, count))
        width += step
    return images


def _blur(images: Tensor, weights: list[float], axis: int) -> Tensor:
    """Weighted sum of shifted copies along one axis with zeros outside; (M, H, W) in and out."""
    half = len(weights) // 2
    size = images.shape[axis]
    out = images * weights[half]
    for offset in range(1, half + 1):
        out.narrow(axis, offset, size - offset).add_(
            images.narrow(axis, 0, size - offset), alpha=weights[half - offset]
        )
        out.narrow(axis, 0, size - offset).add_(
            images.narrow(axis, offset, size - offset), alpha=weights[half + offset]
        )
    return out
