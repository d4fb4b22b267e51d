"""From a sensor's cloud to what the views expect: finite points, y up, unit sphere, N points (METHOD 1.1–1.2).

ROS clouds are z-up (REP-103) or in an optical frame; the views take y as up. The rotation into that frame also
turns the sensor's azimuth to +z where the sensor's place is known, so that view 4 is what the sensor saw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Vector = Sequence[float] | np.ndarray

LARGEST_M = 20.0  # of an object that a robot recognises; a mug in millimetres is "a hundred metres" across
STEP_M = 2e-3  # between neighbouring float32 of a coordinate; more blurs a mug's handle
FURTHEST_M = 1e9  # of a coordinate: no sensor measures further, and squares of float32 stay finite

_DIRECTIONS = 24  # of the footprint's rectangle that are tried, over a quarter turn
_FOOTPRINT = 128  # points of a cloud, about, that choose among them


class CloudError(ValueError):
    """A cloud that cannot be used; the message says what is wrong with it, in one sentence."""


def finite_points(points: np.ndarray) -> np.ndarray:
    """The rows of a cloud that are real measurements; NaN and ±Inf mean "no return" (REP-117), as does what no sensor
    can reach (`FURTHEST_M`).

    Args:
        points: (N, 3) or organised (H, W, 3), any real dtype, metres.

    Returns:
        (M, 3) float32, contiguous, M ≤ N; empty where nothing returned.

    Raises:
        CloudError: not numbers, or the last axis is not x, y, z.
    """
    points = np.asarray(points)
    if points.ndim < 2 or points.shape[-1] != 3:
        raise CloudError(f"a cloud is (N, 3) or (H, W, 3) with x, y, z last, but this one has shape {points.shape}")
    if points.dtype.kind not in "fiu":
        raise CloudError(f"a cloud holds real numbers in metres, but this one has dtype {points.dtype}")
    with np.errstate(over="ignore"):
        flat = points.reshape(-1, 3).astype(np.float32)
    return np.ascontiguousarray(flat[measured(flat).all(1)])


def measured(points: np.ndarray) -> np.ndarray:
    """Which coordinates a sensor can have measured, as bools: not NaN, and within `FURTHEST_M`."""
    return np.abs(points) < FURTHEST_M


def all_measured(points: np.ndarray) -> bool:
    """Whether a sensor can have measured every coordinate; of float arrays quicker than `measured`."""
    return not points.size or bool(points.max() < FURTHEST_M and points.min() > -FURTHEST_M)  # no NaN is, either


def doubtful_scale(name: str, size: Sequence[float] | np.ndarray) -> str:
    """A sentence where an object is so large that its unit is hardly the metre; else "".

    Args:
        name: of the object. size: (3,) along any axes, as the points have it.
    """
    largest = float(np.max(size))
    if not largest > LARGEST_M:
        return ""
    return (
        f"{name} is {largest:.3g} m across, if its points are in metres as they must be; in millimetres they have to "
        "be multiplied by 0.001 first"
    )


def doubtful_place(name: str, centre: Sequence[float] | np.ndarray) -> str:
    """A sentence where an object is so far from its frame's origin that float32 blurs its shape; else "".

    Args:
        name: of the object. centre: (3,) metres.
    """
    furthest = float(np.abs(centre).max())
    step = float(np.spacing(np.float32(furthest)))
    if not step > STEP_M:
        return ""
    return (
        f"{name} is {furthest / 1000:.0f} km from its frame's origin, where float32 knows places to "
        f"{1000 * step:.0f} mm only; publish clouds in a frame near the robot, such as odom or the sensor's own"
    )


def unit(vector: Vector, name: str) -> np.ndarray:
    """A direction as a (3,) float64 unit vector; CloudError where it has no direction."""
    array = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(array)) if array.shape == (3,) else float("nan")
    if not np.isfinite(length) or length < 1e-9:
        raise CloudError(f"'{name}' must be three finite numbers that are not all zero, but it is {vector!r}")
    return array / length


def level(up: Vector, towards: Vector | None = None) -> np.ndarray:
    """The rotation from the cloud's frame into the views' frame: `up` to +y, `towards` (made horizontal) to +z.

    Args:
        up: (3,) direction against gravity in the cloud's frame.
        towards: (3,) direction from the object to the sensor in the cloud's frame. Where it is None or vertical
            the azimuth is free; of a z-up cloud x stays right.

    Returns:
        R (3, 3) float64, proper; a point row p becomes p·Rᵀ.

    Raises:
        CloudError: a vector of no direction.
    """
    y = unit(up, "up")
    z = None if towards is None else _horizontal(unit(towards, "towards"), y)
    if z is not None:
        return np.stack([np.cross(y, z), y, z])
    if y[1] < 0:  # turned over first, for the shortest rotation from nearly opposite has no clear axis
        over = np.diag([1.0, -1.0, -1.0])
        return level(over @ y) @ over
    # Rodrigues' formula from `up` to +y, without an angle.
    axis = np.cross(y, [0.0, 1.0, 0.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + y[1])


def _horizontal(direction: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    flat = direction - up * (direction @ up)
    length = float(np.linalg.norm(flat))
    return flat / length if length > 1e-6 else None


def normalise(points: Tensor) -> Tensor:
    """Into the unit sphere: p ← (p − mean) / max‖p − mean‖ (METHOD 1.2).

    Args:
        points: (..., N, 3) float, N ≥ 1.

    Returns:
        The same shape; a cloud whose points coincide becomes all zeros, never NaN.
    """
    centred = points - points.mean(-2, keepdim=True)
    radius = centred.norm(dim=-1).amax(-1)[..., None, None]
    return torch.where(radius > 1e-9, centred / radius.clamp_min(1e-9), torch.zeros_like(centred))


def extents(points: Tensor, outliers: float = 0.01) -> Tensor:
    """How large a cloud is, whichever way it is turned about the vertical: METHOD 8's metric size.

    Args:
        points: (B, N, 3) float, y up, metres.
        outliers: share of the points left out at either end of each axis, as strays would stretch it.

    Returns:
        (B, 3) metres: height, and length and width of the rectangle of least area around the footprint, length first.
        Principal axes would not do: of a box seen over its corner they run along the diagonal.
    """
    flat = points[..., [0, 2]]
    few = flat[:, :: max(1, points.shape[1] // _FOOTPRINT)]
    quarter = torch.arange(_DIRECTIONS, device=points.device) * (math.pi / 2 / _DIRECTIONS)
    sides = _span(_turned(few[..., None], quarter), outliers)  # (B, 2, directions)
    angle = quarter[sides.prod(1).argmin(1)][:, None]
    sides = _span(_turned(flat, angle), outliers)
    height = _span(points[..., 1:2], outliers)
    return torch.cat([height, sides.amax(1, keepdim=True), sides.amin(1, keepdim=True)], 1)


def _turned(flat: Tensor, angle: Tensor) -> Tensor:
    """(B, N, 2, …) footprints along and across directions of `angle` radians that broadcast to (B, N, …)."""
    x, z = flat[:, :, 0], flat[:, :, 1]
    return torch.stack([x * angle.cos() + z * angle.sin(), z * angle.cos() - x * angle.sin()], 2)


def _span(values: Tensor, outliers: float) -> Tensor:
    """(B, N, …) → (B, …): from the low to the high quantile over N, `outliers` from either end."""
    count = round(outliers * (values.shape[1] - 1)) + 1
    along = values.movedim(1, -1).contiguous()
    return along.topk(count)[0][..., -1] - along.topk(count, largest=False)[0][..., -1]


def random_subset(size: int, count: int, seed: int = 0) -> np.ndarray:
    """`count` indices into `size` points: a random subset, or whole repetitions and a random rest below `count`.

    The same for every call of one size and seed, so an object's answer does not depend on its neighbours.
    """
    rng = np.random.default_rng((seed, size))
    whole = np.arange(size).repeat(count // size) if count >= size else np.arange(0)
    return np.concatenate([whole, rng.permutation(size)[: count - len(whole)]])


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Farthest-point sampling, all clouds of a batch at once on their device.

    Starts at the first point and takes, `count` times, the point whose distance to those taken is largest.
    Clouds of fewer points are padded by repeating their first point: a repeated point is taken only when nothing
    else is left.

    Args:
        points: (B, N, 3) float, finite.
        count: 1 ≤ count.

    Returns:
        (B, count) int64 indices into N.
    """
    batch, size, _ = points.shape
    rows = torch.arange(batch, device=points.device)
    taken = torch.zeros(batch, count, dtype=torch.int64, device=points.device)
    distance = torch.full((batch, size), torch.inf, dtype=points.dtype, device=points.device)
    last = taken[:, 0]
    for step in range(1, count):
        distance = torch.minimum(distance, (points - points[rows, last, None]).square().sum(-1))
        last = distance.argmax(1)
        taken[:, step] = last
    return taken


def resample(
    clouds: Sequence[np.ndarray], count: int, method: str = "random", device: str | torch.device = "cpu"
) -> Tensor:
    """Clouds of any sizes as one batch of `count` points each (METHOD 1.2).

    Args:
        clouds: B arrays (Nᵢ, 3), finite, Nᵢ ≥ 1.
        count: points per cloud in the result.
        method: "random" (a fixed subset, quick) or "farthest" (even cover, on the device).

    Returns:
        (B, count, 3) float32 on `device`.

    Raises:
        ValueError: an empty cloud, or an unknown method.
    """
    if method not in ("random", "farthest"):
        raise ValueError(f"resampling method '{method}' is neither 'random' nor 'farthest'")
    if any(len(cloud) == 0 for cloud in clouds):
        raise CloudError("an empty cloud cannot be resampled; drop it first")
    if not clouds:
        return torch.zeros(0, count, 3, device=device)
    if method == "random":
        batch = _staged((len(clouds), count, 3), device)
        for cloud, row in zip(clouds, batch.numpy(), strict=True):
            row[...] = cloud[random_subset(len(cloud), count)]
        return batch.to(device, non_blocking=True)
    longest = max(max(map(len, clouds)), count)
    batch = _staged((len(clouds), longest, 3), device)
    for cloud, row in zip(clouds, batch.numpy(), strict=True):
        row[: len(cloud)], row[len(cloud) :] = cloud, cloud[0]
    batch = batch.to(device, non_blocking=True)
    small = torch.tensor([len(c) < count for c in clouds], device=batch.device)
    indices = farthest_points(batch, count)
    repeated = torch.stack([torch.arange(count, device=batch.device) % len(c) for c in clouds])
    indices = torch.where(small[:, None], repeated, indices)
    return batch.gather(1, indices[..., None].expand(-1, -1, 3))


def _staged(shape: tuple[int, ...], device: str | torch.device) -> Tensor:
    """Memory of this machine to be filled and sent to a device in one piece: pinned where that is a GPU, whose copy
    then needs no second one in between. torch holds it until the copy is done, and gives it to the next frame."""
    return torch.empty(shape, pin_memory=torch.device(device).type == "cuda")
