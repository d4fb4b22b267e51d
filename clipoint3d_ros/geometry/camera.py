"""Depth cameras, simulated: meshes in, an organised depth image with a real sensor's faults out.

First an ideal pinhole image by ray casting (the nearest surface wins, as with a z-buffer), then the sensor's faults in
the order in which they arise: wandering edges, a matching window's fattened ones, the projector's shadow, dropout at
edges and at grazing incidence, depths mixed across an edge, noise, disparity in whole steps, holes. Structured light,
stereo and time of flight differ in which of these they have: `KINECT`, `REALSENSE`, `TOF`. Frames are optical: x right,
y down, z forward; depths are metres along z, 0 where nothing came back.

Whatever has `rays`, `contains` and `sense` is a `Sensor`; `geometry.lidar` holds one that is no camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Protocol

import numpy as np
import open3d as o3d

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (K, 3) metres, triangles (T, 3)

NOTHING = -1  # surface index of a ray that hit nothing
SILHOUETTE_RAYS = 28  # a side of the grid of rays that measures one object's silhouette: a share good to about 2 %


class Sensor(Protocol):
    """What casts rays in rows and columns and reports how far each went."""

    def rays(self) -> np.ndarray:
        """(H, W, 3) float32 directions in the optical frame; a reading times its ray is the point."""

    def contains(self, directions: np.ndarray) -> np.ndarray:
        """Which of (..., 3) directions, of any length, lie inside the frame: (...) bool."""

    def sense(self, image: Image, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The ideal image with the sensor's faults: reading (H, W) float32, 0 where nothing came back; surface (H, W)
        int32, the one that a reading is taken to belong to, −1 where nothing came back."""


@dataclass(frozen=True)
class DepthCamera:
    """A pinhole depth sensor; the defaults are a Kinect's.

    Noise of each pixel: σ(z) = axial_floor + axial_growth·(z − 0.4)² metres (Nguyen, Izadi, Lovell, "Modeling Kinect
    sensor noise", 3DIMPVT 2012). Noise of a matching window, alike over `correlation` pixels:
    σ(z) = subpixel·z² / (baseline·fx) (Grunnet-Jepsen, Sweetser, Woodfill, "Best-known-methods for tuning Intel
    RealSense D400 depth cameras for best performance", Intel 2018; Ahn et al., "Analysis and noise modeling of the
    Intel RealSense D435 for mobile robots", UR 2019). Disparity: baseline·fx / z pixels, rounded to `disparity_step`;
    0 switches rounding off. 0 also switches off every other fault.
    """

    width: int = 640  # pixels
    height: int = 480  # pixels
    fx: float = 525.0  # pixels
    fy: float = 525.0  # pixels
    cx: float = 319.5  # pixels
    cy: float = 239.5  # pixels
    near: float = 0.4  # metres
    far: float = 5.0  # metres
    baseline: float = 0.075  # metres to the projector (or second lens) at the left; its shadow falls on things' right
    disparity_step: float = 0.125  # pixels
    axial_floor: float = 0.0012  # metres
    axial_growth: float = 0.0019  # per metre
    lateral: float = 0.6  # pixels by which edges wander, standard deviation
    edge_dropout: float = 0.35  # chance to lose a pixel beside a step in depth
    edge_step: float = 0.02  # metres at 1 m that count as a step, growing with range
    grazing: float = 80.0  # degrees from the surface's normal beyond which nothing returns
    fattening: int = 0  # pixels by which nearer surfaces grow over what lies behind, at most: half a matching window
    subpixel: float = 0.0  # pixels, standard deviation of the matched disparity
    correlation: float = 6.0  # pixels over which a matching window's noise is alike
    holes: float = 0.0  # share of the image where matching finds no texture, in patches
    hole_size: float = 12.0  # pixels, about a patch's width
    mixing: float = 0.0  # chance that a pixel beside a step reports a depth between its two sides

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
            correlation=self.correlation * factor,
            hole_size=self.hole_size * factor,
        )

    def rays(self) -> np.ndarray:
        """(H, W, 3) float32 directions with z = 1, so that a ray's parameter is its depth."""
        return _pinhole_rays(self)

    def contains(self, directions: np.ndarray) -> np.ndarray:
        """Which of (..., 3) directions, of any length, fall onto a pixel: (...) bool."""
        x, y, z = np.moveaxis(directions, -1, 0)
        ahead = np.maximum(z, 1e-9)
        u, v = x / ahead * self.fx + self.cx, y / ahead * self.fy + self.cy
        return (z > 0) & (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)

    def sense(self, image: Image, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The ideal image with the sensor's faults.

        Returns:
            depth (H, W) float32 metres, 0 where nothing came back; surface (H, W) int32 as a segmenter would see it:
            of the surface whose depth the pixel reports, or has more of, −1 where nothing came back.
        """
        depth, surface, incidence = _fatten(*_wander(image, self, rng), self, rng)
        seen = (depth >= self.near) & (depth <= self.far)
        seen &= incidence > np.cos(np.deg2rad(self.grazing))
        seen &= ~_shadow(depth, self)
        edge = depth_steps(depth, self.edge_step)
        seen &= ~(edge & (rng.random(depth.shape) < self.edge_dropout))
        if self.mixing > 0:
            depth, surface = mix_across(depth, surface, edge & (rng.random(depth.shape) < self.mixing), rng)
        sigma = self.axial_floor + self.axial_growth * np.square(depth - 0.4)
        noisy = depth + sigma * rng.standard_normal(depth.shape, dtype=np.float32)
        if self.subpixel > 0:
            sigma = self.subpixel * np.square(depth) / (self.baseline * self.fx)
            noisy += sigma * smooth_noise(depth.shape, self.correlation, rng)
        if self.disparity_step > 0:
            disparity = self.baseline * self.fx / np.maximum(noisy, 1e-3)
            steps = np.maximum(np.round(disparity / self.disparity_step), 1)
            noisy = self.baseline * self.fx / (steps * self.disparity_step)
        if self.holes > 0:
            seen &= smooth_noise(depth.shape, self.hole_size, rng) < NormalDist().inv_cdf(1 - self.holes)
        seen &= (noisy >= self.near) & (noisy <= self.far)
        return np.where(seen, noisy, 0).astype(np.float32), np.where(seen, surface, NOTHING).astype(np.int32)


# Structured light: Microsoft's first Kinect.
KINECT = DepthCamera()

# Stereo: Intel's RealSense D435. A matching window of about 7 pixels fattens edges by up to 3; at 1 m the noise is
# 0.08·1² / (0.05·425) = 3.8 mm, at 3 m 34 mm.
REALSENSE = DepthCamera(
    width=848,
    height=480,
    fx=425.0,
    fy=425.0,
    cx=423.5,
    cy=239.5,
    near=0.2,
    far=8.0,
    baseline=0.05,
    disparity_step=1 / 32,
    axial_floor=0.0005,
    axial_growth=0.0,
    lateral=0.4,
    edge_dropout=0.15,
    grazing=83.0,
    fattening=3,
    subpixel=0.08,
    holes=0.02,
)

# Time of flight: Microsoft's Azure Kinect, narrow field, unbinned. Noise of 1–2 mm near and up to about 4 mm at 3.5 m,
# and flying pixels at edges: Tölgyessy et al., "Evaluation of the Azure Kinect and its comparison to Kinect V1 and
# Kinect V2", Sensors 21(2):413, 2021. Specified for 0.5–3.86 m, it goes on giving depth a little beyond both ends.
TOF = DepthCamera(
    width=640,
    height=576,
    fx=504.0,
    fy=504.0,
    cx=320.0,
    cy=330.0,
    near=0.3,
    far=4.5,
    baseline=0.0,
    disparity_step=0.0,
    axial_floor=0.0015,
    axial_growth=0.0002,
    lateral=0.3,
    edge_dropout=0.3,
    grazing=85.0,
    mixing=0.6,
)


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


def render(meshes: Sequence[Mesh], sensor: Sensor, pose: np.ndarray) -> Image:
    """The ideal image: for every ray of the sensor the nearest surface.

    Args:
        meshes: vertices (K, 3) metres and triangles (T, 3) of each, in the world's frame.
        sensor: whose rays are cast; depth is in multiples of a ray.
        pose: (4, 4) from the optical frame to the world's.
    """
    scene = _scene(meshes)
    local = sensor.rays()
    rays = np.empty((*local.shape[:2], 6), np.float32)
    rays[..., :3] = pose[:3, 3]
    rays[..., 3:] = local @ pose[:3, :3].T.astype(np.float32)
    directions = rays[..., 3:]
    hit = scene.cast_rays(o3d.core.Tensor.from_numpy(rays))
    depth = hit["t_hit"].numpy()
    missed = ~np.isfinite(depth)
    surface = hit["geometry_ids"].numpy().astype(np.int64)
    normals = hit["primitive_normals"].numpy()
    squared = np.einsum("hwi,hwi->hw", directions, directions)
    cosine = np.abs(np.einsum("hwi,hwi->hw", normals, directions)) / np.sqrt(squared)
    return Image(
        np.where(missed, 0, depth).astype(np.float32),
        np.where(missed, NOTHING, surface).astype(np.int32),
        np.where(missed, 0, cosine).astype(np.float32),
    )


def visible_shares(meshes: Sequence[Mesh], sensor: Sensor, pose: np.ndarray) -> np.ndarray:
    """How much of each mesh's silhouette the ideal image shows; what stands before it and the frame's edge take away.

    A silhouette is every direction from the sensor in which the mesh is met at all, inside the frame or not; it is
    sampled by a grid of rays over the mesh's own angular box, so that small ones are measured as well as large ones.

    Args:
        meshes: as for `render`; the ones that only hide others come along.
        sensor: whose frame cuts.
        pose: (4, 4) from the optical frame to the world's.

    Returns:
        (len(meshes),) float32 in [0, 1]; 0 for what has no silhouette from here.
    """
    scene = _scene(meshes)
    rays = np.concatenate([_window(vertices, pose) for vertices, _ in meshes]).astype(np.float32)
    eye = np.broadcast_to(pose[:3, 3].astype(np.float32), rays.shape)
    met = scene.list_intersections(o3d.core.Tensor(np.concatenate([eye, rays], -1)))
    ray, mesh = met["ray_ids"].numpy().astype(np.int64), met["geometry_ids"].numpy().astype(np.int64)
    distance = met["t_hit"].numpy()
    first = np.full(len(rays), np.inf, np.float32)
    np.minimum.at(first, ray, distance)
    own = mesh == ray // (SILHOUETTE_RAYS * SILHOUETTE_RAYS)
    ray, mesh, distance = ray[own], mesh[own], distance[own]
    inside = sensor.contains(rays @ pose[:3, :3].astype(np.float32))
    met_at_all, shown = np.zeros(len(rays), bool), np.zeros(len(rays), bool)
    met_at_all[ray] = True
    shown[ray[(distance <= first[ray]) & inside[ray]]] = True
    per_mesh = (len(meshes), SILHOUETTE_RAYS * SILHOUETTE_RAYS)
    whole = met_at_all.reshape(per_mesh).sum(1)
    return (shown.reshape(per_mesh).sum(1) / np.maximum(whole, 1)).astype(np.float32)


def _window(vertices: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(SILHOUETTE_RAYS², 3) directions that cover a mesh as seen from the pose's place, in the world's frame."""
    offset = np.asarray(vertices, float) - pose[:3, 3]
    axis = (offset.max(0) + offset.min(0)) / 2
    axis /= max(float(np.linalg.norm(axis)), 1e-9)
    right = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    right /= np.linalg.norm(right)
    basis = np.stack([right, np.cross(axis, right), axis])
    # What reaches behind the sensor's side of the axis would be at infinity: 80 degrees aside are enough.
    tangent = (offset @ basis[:2].T) / np.maximum(offset @ axis, 1e-6)[:, None]
    low, high = tangent.min(0).clip(-5.67, 5.67), tangent.max(0).clip(-5.67, 5.67)
    step = (np.arange(SILHOUETTE_RAYS) + 0.5) / SILHOUETTE_RAYS
    x, y = np.meshgrid(*(low[i] + (high[i] - low[i]) * step for i in (0, 1)))
    directions = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) @ basis


@lru_cache(maxsize=2)
def _pinhole_rays(camera: DepthCamera) -> np.ndarray:
    """The camera's rays, read-only: one look at a scene asks for them several times."""
    rays = np.ones((camera.height, camera.width, 3), np.float32)
    rays[..., 0] = (np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.fx
    rays[..., 1] = ((np.arange(camera.height, dtype=np.float32) - camera.cy) / camera.fy)[:, None]
    rays.flags.writeable = False
    return rays


def _scene(meshes: Sequence[Mesh]) -> o3d.t.geometry.RaycastingScene:
    scene = o3d.t.geometry.RaycastingScene()
    for vertices, triangles in meshes:
        scene.add_triangles(
            o3d.core.Tensor(np.ascontiguousarray(vertices, np.float32)),
            o3d.core.Tensor(np.ascontiguousarray(triangles, np.uint32)),
        )
    return scene


def back_project(reading: np.ndarray, sensor: Sensor) -> np.ndarray:
    """(H, W) metres → organised cloud (H, W, 3) float32 in the optical frame, NaN where nothing came back."""
    return sensor.rays() * np.where(reading > 0, reading, np.nan).astype(np.float32)[..., None]


def depth_steps(depth: np.ndarray, limit: float) -> np.ndarray:
    """Pixels (H, W) bool with a step to one of their four neighbours of over `limit` metres, times depth beyond 1 m."""
    limits = limit * np.maximum(depth, 1)
    edge = np.zeros(depth.shape, bool)
    across, down = np.abs(np.diff(depth, axis=1)), np.abs(np.diff(depth, axis=0))
    edge[:, 1:] |= across > limits[:, 1:]
    edge[:, :-1] |= across > limits[:, :-1]
    edge[1:] |= down > limits[1:]
    edge[:-1] |= down > limits[:-1]
    return edge


def mix_across(
    depth: np.ndarray, surface: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flying pixels: where `chosen` (H, W), the depth lies anywhere between the pixel's own and that of the one of its
    four neighbours that differs most, and belongs to the nearer of the two in depth.

    Returns:
        depth (H, W) and surface (H, W), new arrays.
    """
    v, u = np.nonzero(chosen & (depth > 0))
    mixed, owner = depth.copy(), surface.copy()
    own = depth[v, u]
    other, whose = own.copy(), surface[v, u]
    for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        at = (v + dv).clip(0, depth.shape[0] - 1), (u + du).clip(0, depth.shape[1] - 1)
        beside = depth[at]
        farther = (beside > 0) & (np.abs(beside - own) > np.abs(other - own))
        other, whose = np.where(farther, beside, other), np.where(farther, surface[at], whose)
    share = rng.random(len(own), dtype=np.float32)
    mixed[v, u] = own + share * (other - own)
    owner[v, u] = np.where(share > 0.5, whose, surface[v, u])
    return mixed, owner


def smooth_noise(shape: tuple[int, ...], length: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 of standard normal noise that is alike over about `length` pixels: white noise on a coarse grid,
    interpolated linearly, its variance made one everywhere."""
    (row, below, above), (column, left, right) = (_interpolation(size, max(length, 1.0)) for size in shape)
    coarse = rng.standard_normal((row[-1] + 2, column[-1] + 2), dtype=np.float32)
    stretched = coarse[:, column] * left + coarse[:, column + 1] * right
    return stretched[row] * below[:, None] + stretched[row + 1] * above[:, None]


def _interpolation(size: int, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of `size` pixels the knot before it and the weights of that and the next; their squares sum to 1."""
    at = np.arange(size, dtype=np.float32) / np.float32(length)
    knot = at.astype(np.int64)
    weights = np.stack([1 - (at - knot), at - knot])
    before, after = weights / np.linalg.norm(weights, axis=0)
    return knot, before, after


def _fatten(
    depth: np.ndarray, surface: np.ndarray, incidence: np.ndarray, camera: DepthCamera, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matching window that holds a nearer edge reports the edge: nearer surfaces grow over what lies behind them, by
    half a window at most and less where the edge has less contrast."""
    if camera.fattening <= 0:
        return depth, surface, incidence
    depth, surface, incidence = depth.copy(), surface.copy(), incidence.copy()
    contrast = smooth_noise(depth.shape, 4 * camera.fattening, rng)
    for grown in range(camera.fattening):
        # A quarter of the edges do not grow at all, a quarter by the whole reach.
        weak = NormalDist().inv_cdf(0.25 + 0.5 * grown / max(camera.fattening - 1, 1))
        v, u = np.nonzero(depth_steps(depth, camera.edge_step) & (contrast > weak))
        own = np.where(depth[v, u] > 0, depth[v, u], np.inf)
        nearest, source = own, (v, u)
        for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            at = (v + dv).clip(0, depth.shape[0] - 1), (u + du).clip(0, depth.shape[1] - 1)
            nearer = (depth[at] > 0) & (depth[at] < nearest)
            nearest = np.where(nearer, depth[at], nearest)
            source = np.where(nearer, at[0], source[0]), np.where(nearer, at[1], source[1])
        grows = own > nearest + camera.edge_step * np.maximum(nearest, 1)
        to, source = (v[grows], u[grows]), (source[0][grows], source[1][grows])
        for image in (depth, surface, incidence):
            image[to] = image[source]
    return depth, surface, incidence


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
    """Pixels the projector, `baseline` to the left of the camera, cannot light.

    Its columns are u + disparity; a point is lit while no point to its left, nearer the projector, comes out beyond
    the same column.
    """
    if camera.baseline <= 0:
        return np.zeros(depth.shape, bool)
    disparity = np.where(depth > 0, camera.baseline * camera.fx / np.maximum(depth, 1e-3), 0)
    column = np.arange(depth.shape[1]) + disparity
    # Scanning from the left, a near point's column runs ahead; what lies behind it is in its shadow.
    ahead = np.maximum.accumulate(column, axis=1)
    return (depth > 0) & (column < ahead - 1.0)
