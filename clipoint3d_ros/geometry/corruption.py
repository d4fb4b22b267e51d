"""Corruptions of clouds in seven kinds and five severities, and a depth camera's noise along the ray.

The seven are those of ModelNet-C (Ren, Pan, Liu, "Benchmarking and analyzing point cloud classification under
corruptions", ICML 2022), with its severities. There a cloud has 1024 points in the unit sphere; here it is metric and
of any size: lengths are in multiples of the cloud's radius, counts in shares of its points. The eighth is what a range
sensor does more of as light, distance and material get worse: the noise of `geometry.camera`, along the ray.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipoint3d_ros.geometry.camera import KINECT

SEVERITIES = (1, 2, 3, 4, 5)
MIN_POINTS = 16  # that a drop leaves, or all there are

_STRETCH = (1.6, 1.7, 1.8, 1.9, 2.0)  # most by which an axis grows; as much again at most it shrinks
_DROPPED = (0.25, 0.375, 0.5, 0.675, 0.75)  # share of the points lost all over
_CLUSTERED = 100 / 1024  # share of the points in clusters, a severity
_STRAYS = 10 / 1024  # share of strays added, a severity
_RANGE_SIGMA = (1.0, 2.0, 4.0, 6.0, 9.0)  # times the sensor's own noise


def corrupt(
    kind: str,
    severity: int,
    points: np.ndarray,
    rng: np.random.Generator,
    viewpoint: np.ndarray | None = None,
) -> np.ndarray:
    """A cloud with one kind of fault.

    Args:
        kind: one of `KINDS`.
        severity: 1 (least) to 5.
        points: (N, 3) float32 metres, finite, N ≥ 1.
        rng: draws everything.
        viewpoint: (3,) metres, where the sensor stood in the cloud's frame; `range_noise` needs it.

    Returns:
        (K, 3) float32 metres, finite: K = N for jitter, scale, rotate and range_noise, K < N for the drops (never below
        `MIN_POINTS` where there were as many), K > N for the additions.

    Raises:
        ValueError: an unknown kind or severity, an empty cloud, or range noise without a viewpoint.
    """
    if kind not in _CORRUPTIONS:
        raise ValueError(f"no corruption '{kind}'; there are {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1 to 5, but is {severity}")
    cloud = np.asarray(points, np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud):
        raise ValueError(f"a cloud to corrupt must be (N, 3) with N of at least 1, but is {cloud.shape}")
    eye = None if viewpoint is None else np.asarray(viewpoint, np.float64)
    return _CORRUPTIONS[kind](cloud, severity, rng, eye).astype(np.float32)


def _jitter(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """Every coordinate moves by σ = 1 % of the radius a severity."""
    return cloud + 0.01 * severity * _radius(cloud) * rng.standard_normal(cloud.shape)


def _scale(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """Each axis is stretched or shrunk about the middle by its own factor."""
    most = _STRETCH[severity - 1]
    middle = cloud.mean(0)
    return (cloud - middle) * rng.uniform(1 / most, most, 3) + middle


def _rotate(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """A turn about the middle by up to 6 degrees a severity about each axis."""
    a, b, c = rng.uniform(-1, 1, 3) * np.pi / 30 * severity
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    middle = cloud.mean(0)
    return (cloud - middle) @ (about_z @ about_y @ about_x).T + middle


def _drop_global(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """A share of the points is lost, anywhere."""
    kept = _at_least(len(cloud), round(len(cloud) * (1 - _DROPPED[severity - 1])))
    return cloud[np.sort(rng.permutation(len(cloud))[:kept])]


def _drop_local(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """Up to seven holes: the nearest neighbours of random points are lost, about a tenth of all a severity."""
    for size in _cluster_sizes(len(cloud), severity, rng):
        kept = _at_least(len(cloud), len(cloud) - size)
        distance = np.linalg.norm(cloud - cloud[rng.integers(len(cloud))], axis=1)
        cloud = cloud[np.sort(np.argsort(-distance, kind="stable")[:kept])]
    return cloud


def _add_global(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """Strays, uniform in the sphere around the cloud: about 1 % of its points a severity."""
    count = max(round(_STRAYS * severity * len(cloud)), severity)
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    strays = direction * np.cbrt(rng.random((count, 1))) * _radius(cloud) + cloud.mean(0)
    return np.concatenate([cloud, strays])


def _add_local(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """Up to seven blobs around random points, of σ = 7.5 to 12.5 % of the radius: about a tenth of all a severity."""
    radius, parts = _radius(cloud), [cloud]
    for size in _cluster_sizes(len(cloud), severity, rng):
        sigma = rng.uniform(0.075, 0.125) * radius
        parts.append(cloud[rng.integers(len(cloud))] + sigma * rng.standard_normal((size, 3)))
    return np.concatenate(parts)


def _range_noise(cloud: np.ndarray, severity: int, rng: np.random.Generator, eye: np.ndarray | None) -> np.ndarray:
    """The depth camera's σ(z) = floor + growth·(z − 0.4)² along the ray, one to nine times over."""
    if eye is None:
        raise ValueError("range_noise runs along the rays of the sensor: give the viewpoint")
    rays = cloud - eye
    distance = np.linalg.norm(rays, axis=1, keepdims=True)
    sigma = KINECT.axial_floor + KINECT.axial_growth * np.square(distance - 0.4)
    moved = distance + _RANGE_SIGMA[severity - 1] * sigma * rng.standard_normal((len(cloud), 1))
    return eye + rays * np.maximum(moved, 0) / np.maximum(distance, 1e-9)


def _radius(cloud: np.ndarray) -> float:
    """Metres from the mean to the farthest point."""
    return float(np.linalg.norm(cloud - cloud.mean(0), axis=1).max())


def _at_least(there: int, kept: int) -> int:
    return max(min(there, MIN_POINTS), kept)


def _cluster_sizes(count: int, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes of one to seven clusters, random, that sum to the severity's share of `count` points, at least 1."""
    clusters = int(rng.integers(1, 8))
    total = max(round(_CLUSTERED * severity * count), 1)
    return rng.multinomial(total, rng.dirichlet(np.ones(clusters)))


_Corruption = Callable[[np.ndarray, int, np.random.Generator, "np.ndarray | None"], np.ndarray]
_CORRUPTIONS: dict[str, _Corruption] = {
    "jitter": _jitter,
    "scale": _scale,
    "rotate": _rotate,
    "drop_global": _drop_global,
    "drop_local": _drop_local,
    "add_global": _add_global,
    "add_local": _add_local,
    "range_noise": _range_noise,
}
KINDS = tuple(_CORRUPTIONS)
