"""A depth camera, simulated: meshes in, an organised depth image with a real sensor's faults out.

First an ideal pinhole image by ray casting (the nearest surface wins, as with a z-buffer), then the faults of a
structured-light or stereo sensor in the order in which they arise: the projector's shadow, wandering edges, noise
that grows with range, disparity in whole steps, dropout at edges and at grazing incidence. Frames are optical:
x right, y down, z forward; depths are metres along z, 0 where nothing came back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import open3d as o3d

NOTHING = -1  # surface index of a ray that hit nothing


@dataclass(frozen=True)
class DepthCamera:
    """A pinhole depth sensor; the defaults are a Kinect's.

    Noise: σ(z) = axial_floor + axial_growth·(z − 0.4)² metres (Nguyen, Izadi, Lovell, "Modeling Kinect sensor noise",
    3DIMPVT 2012). Disparity: baseline·fx / z pixels, rounded to `disparity_step`; 0 switches rounding off.
    """

    width: int = 640  # pixels
    height: int = 480  # pixels
    fx: float = 525.0  # pixels
    fy: float = 525.0  # pixels
    cx: float = 319.5  # pixels
    cy: float = 239.5  # pixels
    near: float = 0.4  # metres
    far: float = 5.0  # metres
    baseline: float = 0.075  # metres from projector (or second lens) to camera; its shadow falls on the image's left
    disparity_step: float = 0.125  # pixels
    axial_floor: float = 0.0012  # metres
    axial_growth: float = 0.0019  # per metre
    lateral: float = 0.6  # pixels by which edges wander, standard deviation
    edge_dropout: float = 0.35  # chance to lose a pixel beside a step in depth
    edge_step: float = 0.02  # metres at 1 m that count as a step, growing with range
    grazing: float = 80.0  # degrees from the surface's normal beyond which nothing returns

    def scaled(self, factor: float) -> DepthCamera:
        """The same camera with its pixels binned: `factor` 0.5 halves the resolution."""
        return replace(
            self,
            width=round(self.width * factor),
            height=round(self.height * factor),
            fx=self.fx * factor,
            fy=self.fy * factor,
            cx=(self.cx + 0.5) * factor - 0.5,
            cy=(self.cy + 0.5) * factor - 0.5,
            lateral=self.lateral * factor,
        )

    def rays(self) -> np.ndarray:
        """(H, W, 3) float32 directions with z = 1, so that a ray's parameter is its depth."""
        v, u = np.mgrid[: self.height, : self.width].astype(np.float32)
        return np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy, np.ones_like(u)], -1)


@dataclass(frozen=True)
class Image:
    """What the ideal camera saw: depth (H, W) float32 metres (0 nothing), surface (H, W) int32 index of the mesh (−1),
    and the cosine (H, W) between the ray and the surface's normal."""

    depth: np.ndarray
    surface: np.ndarray
    incidence: np.ndarray


def look_at(eye: np.ndarray, target: np.ndarray, up: Sequence[float] = (0, 0, 1)) -> np.ndarray:
    """The pose of a camera at `eye` that looks at `target`: (4, 4) from the optical frame to the world's.

    Raises:
        ValueError: it would look straight along `up`.
    """
    forward = np.asarray(target, float) - eye
    right = np.cross(forward, up)
    if np.linalg.norm(right) <= 1e-6 * np.linalg.norm(forward):
        raise ValueError("a camera cannot look straight along 'up'; move 'eye' aside")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = eye
    return pose


def render(meshes: Sequence[tuple[np.ndarray, np.ndarray]], camera: DepthCamera, pose: np.ndarray) -> Image:
    """The ideal image: for every pixel the nearest surface along its ray.

    Args:
        meshes: (vertices (K, 3) metres, triangles (T, 3)) each, in the world's frame.
        camera: the sensor.
        pose: (4, 4) from the optical frame to the world's.
    """
    scene = o3d.t.geometry.RaycastingScene()
    for vertices, triangles in meshes:
        scene.add_triangles(
            o3d.core.Tensor(np.ascontiguousarray(vertices, np.float32)),
            o3d.core.Tensor(np.ascontiguousarray(triangles, np.uint32)),
        )
    directions = camera.rays() @ pose[:3, :3].T.astype(np.float32)
    origins = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
    hit = scene.cast_rays(o3d.core.Tensor(np.concatenate([origins, directions], -1)))
    depth = hit["t_hit"].numpy()
    missed = ~np.isfinite(depth)
    surface = hit["geometry_ids"].numpy().astype(np.int64)
    normals = hit["primitive_normals"].numpy()
    cosine = np.abs((normals * directions).sum(-1)) / np.linalg.norm(directions, axis=-1)
    return Image(
        np.where(missed, 0, depth).astype(np.float32),
        np.where(missed, NOTHING, surface).astype(np.int32),
        np.where(missed, 0, cosine).astype(np.float32),
    )


def sense(image: Image, camera: DepthCamera, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The ideal image with the sensor's faults.

    Returns:
        depth (H, W) float32 metres, 0 where nothing came back; surface (H, W) int32, of the surface whose depth the
        pixel reports, −1 where nothing came back.
    """
    depth, surface, incidence = _wander(image, camera, rng)
    seen = (depth >= camera.near) & (depth <= camera.far)
    seen &= incidence > np.cos(np.deg2rad(camera.grazing))
    seen &= ~_shadow(depth, camera)
    edge = _steps(depth, camera)
    seen &= ~(edge & (rng.random(depth.shape) < camera.edge_dropout))
    sigma = camera.axial_floor + camera.axial_growth * np.square(depth - 0.4)
    noisy = depth + sigma * rng.standard_normal(depth.shape, dtype=np.float32)
    if camera.disparity_step > 0:
        disparity = camera.baseline * camera.fx / np.maximum(noisy, 1e-3)
        steps = np.maximum(np.round(disparity / camera.disparity_step), 1)
        noisy = camera.baseline * camera.fx / (steps * camera.disparity_step)
    seen &= (noisy >= camera.near) & (noisy <= camera.far)
    return np.where(seen, noisy, 0).astype(np.float32), np.where(seen, surface, NOTHING).astype(np.int32)


def back_project(depth: np.ndarray, camera: DepthCamera) -> np.ndarray:
    """(H, W) metres → organised cloud (H, W, 3) float32 in the optical frame, NaN where nothing came back."""
    return np.where(depth[..., None] > 0, camera.rays() * depth[..., None], np.nan).astype(np.float32)


def _wander(image: Image, camera: DepthCamera, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel reports a point a little beside it, so straight edges turn ragged."""
    if camera.lateral <= 0:
        return image.depth, image.surface, image.incidence
    height, width = image.depth.shape
    v, u = np.mgrid[:height, :width]
    dv, du = np.rint(rng.normal(0, camera.lateral, (2, height, width))).astype(np.int64)
    at = (v + dv).clip(0, height - 1), (u + du).clip(0, width - 1)
    return image.depth[at], image.surface[at], image.incidence[at]


def _shadow(depth: np.ndarray, camera: DepthCamera) -> np.ndarray:
    """Pixels the projector, `baseline` to the right of the camera, cannot light.

    Its columns are u − disparity shifted to the left; a point is lit while no point to its right, nearer the
    projector, comes out at or beyond the same column.
    """
    if camera.baseline <= 0:
        return np.zeros(depth.shape, bool)
    disparity = np.where(depth > 0, camera.baseline * camera.fx / np.maximum(depth, 1e-3), 0)
    column = np.arange(depth.shape[1]) + disparity
    # Scanning from the left, a near point's column runs ahead; what lies behind it is in its shadow.
    ahead = np.maximum.accumulate(column, axis=1)
    return (depth > 0) & (column < ahead - 1.0)


def _steps(depth: np.ndarray, camera: DepthCamera) -> np.ndarray:
    """Pixels with a step in depth to one of their four neighbours."""
    limit = camera.edge_step * np.maximum(depth, 1)
    edge = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        for shift in (1, -1):
            edge |= np.abs(depth - np.roll(depth, shift, axis)) > limit
    return edge
