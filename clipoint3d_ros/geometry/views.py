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

from clipoint3d_ros.geometry import raster

FRONT_VIEW = 4  # the view whose azimuth is +z, where `clouds.level` turns the sensor
TOP_VIEW = 9

_VIEWS_PER_PASS = 40  # turned together on a CPU, whose coordinates stay in its cache

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


def choose_views(camera: Tensor, elevation: Tensor, count: int, rear: float, rng: torch.Generator) -> Tensor:
    """Different views of each object by chance; of a camera's cloud mostly those that face the sensor.

    Args:
        camera: (B,) bool, seen by a sensor; complete clouds have no view that is likelier than another.
        elevation: (B,) radians of the sensor above the object.
        count: views of each.
        rear: likelihood of a view that faces away, where 1 is that of one from where the sensor stands.

    Returns:
        (B, count) int64.
    """
    directions = torch.from_numpy(view_directions()).float()
    towards = torch.stack([torch.zeros_like(elevation), elevation.sin(), elevation.cos()], 1)
    facing = (towards @ directions.T).clamp_min(0) + rear
    weights = torch.where(camera[:, None], facing, torch.ones_like(facing))
    return torch.multinomial(weights, count, generator=rng)


class DepthViews:
    """Renders clouds as depth views, many objects at once on the points' device.

    Args:
        config: the projection's parameters.
        size: side in pixels of the images; None keeps the grid's own 110, else bilinear (align_corners).
        views: the views to render, None for all ten in the published order.
        objects_per_pass: how many objects share a pass; None takes as many on the CPU as have forty views together,
            whose coordinates stay in cache, and 64 elsewhere.
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
        c = self.config
        weights = tuple(_gaussian(c.blur, c.blur_sigma).tolist())
        self._tile = raster.tile_of(c.resolution, c.extent, _layers(c), c.pool, c.pool_padding, weights)

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
        few = max(1, _VIEWS_PER_PASS // max(1, rotations.shape[1]))
        step = self.objects_per_pass or (few if points.device.type == "cpu" else 64)
        chunks = zip(points.float().split(step), rotations.split(step), strict=True)
        images = [self._render(*chunk) for chunk in chunks if len(chunk[0])]
        if not images:
            side = self.size or self._tile.image
            return torch.zeros(0, rotations.shape[1], side, side, device=points.device)
        return images[0] if len(images) == 1 else torch.cat(images)

    def _render(self, points: Tensor, rotations: Tensor) -> Tensor:
        cells = self._cells(_rotate(points, rotations))
        image = raster.render(cells, self._tile).unflatten(0, rotations.shape[:2])
        if self.size is not None and self.size != image.shape[-1]:
            image = F.interpolate(image, size=(self.size, self.size), mode="bilinear", align_corners=True)
        return image

    def _cells(self, points: Tensor) -> raster.Cells:
        """(B, V, 3, N) turned points → the cells of B·V views that they fall into."""
        c, tile = self.config, self._tile
        low, high = points.aminmax(dim=-1, keepdim=True)
        side = (high - low).amax(-2, keepdim=True).clamp_min(1e-9)
        points = points.sub_((low + high) / 2).div_(side).mul_(2)
        across, z = points[:, :, :2], points[:, :, 2]
        cell = across.mul_(c.extent).add_(1).div_(2).mul_(c.resolution).ceil_().clamp_(tile.first, tile.last)
        ix, iy = cell.sub_(tile.origin).long().unbind(2)
        z = z.add_(1).div_(2).add_(c.depth_bias).div_(1 + c.depth_bias).mul_(c.depth - 2)
        first, last = tile.layers
        layer = z.ceil().clamp_(first, last).sub_(first).long()
        parts = ix.mul_(tile.side).add_(iy), layer, z.clamp_(1, c.depth - 2)
        return raster.Cells(*(part.flatten(0, 1) for part in parts))


def _rotate(points: Tensor, rotations: Tensor) -> Tensor:
    """(B, N, 3) by (B, V, 3, 3) → (B, V, 3, N), in plain sums: matrix units may round to TF32, which moves pixels."""
    p = points.transpose(1, 2).contiguous()[:, None, None]
    m = rotations[..., None]
    return (p[..., 0, :] * m[..., 0, :]).add_(p[..., 1, :] * m[..., 1, :]).add_(p[..., 2, :] * m[..., 2, :])


def _layers(config: ViewConfig) -> tuple[int, int]:
    """First and last layer a point in the unit window can fall into."""
    scale = (config.depth - 2) / (1 + config.depth_bias)
    return math.ceil(config.depth_bias * scale), config.depth - 2


def _gaussian(size: int, sigma: float) -> Tensor:
    offsets = torch.arange(size) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()
