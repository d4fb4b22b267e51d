"""What a sensor, a segmenter and a mounting may do to a cloud, done at random while training."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def augment(points: Tensor, camera: Tensor, count: int, rng: torch.Generator, cut_share: float) -> Tensor:
    """Random turns, mirrorings, stretches, noise, missing parts and strays of a batch of clouds.

    Args:
        points: (B, P, 3) y up, mean at the origin; a camera's clouds have the sensor at +z.
        camera: (B,) bool; these mostly keep their azimuth, the others turn freely.
        count: points of the result.
        rng: draws everything.
        cut_share: of the clouds of which up to a third is missing, and of those with strays; 0 leaves clouds whole.

    Returns:
        (B, count, 3) float32.
    """
    batch, size, _ = points.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    turn = torch.arange(count) % size  # a cloud of fewer points repeats them
    keep = torch.stack([torch.randperm(size, generator=rng)[turn] for _ in range(batch)])
    cloud = points.float().gather(1, keep[..., None].expand(-1, -1, 3))
    free = ~camera | (uniform(batch) < 0.25)
    yaw = torch.where(free, uniform(batch) * 2 * math.pi, normal(batch) * math.radians(12))
    cloud = _turn(cloud, yaw, 1)
    for axis in (0, 2):  # gravity is known to a few degrees
        cloud = _turn(cloud, normal(batch) * math.radians(3), axis)
    cloud = cloud * (1 + 0.08 * (2 * uniform(batch, 1, 3) - 1))
    cloud[..., 0] *= 2.0 * (uniform(batch, 1) < 0.5) - 1
    radius = cloud.norm(dim=-1).amax(1)[:, None, None]
    cloud = _cut(cloud, cut_share, uniform, normal)
    cloud = cloud + normal(batch, count, 3) * radius * 0.012 * uniform(batch, 1, 1)
    stray = (uniform(batch, count) < 0.03 * uniform(batch, 1)) & (uniform(batch, 1) < cut_share)
    return torch.where(stray[..., None], (2 * uniform(batch, count, 3) - 1) * radius * 1.1, cloud)


def _turn(cloud: Tensor, angle: Tensor, axis: int) -> Tensor:
    """Rotate (B, N, 3) by (B,) radians about a coordinate axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    turned = cloud.clone()
    turned[..., i] = cosine * cloud[..., i] - sine * cloud[..., j]
    turned[..., j] = sine * cloud[..., i] + cosine * cloud[..., j]
    return turned


def _cut(cloud: Tensor, often: float, uniform, normal) -> Tensor:  # type: ignore[no-untyped-def]
    """In some clouds up to a third beyond a random plane is missing, as behind a neighbour."""
    batch, size, _ = cloud.shape
    direction = torch.nn.functional.normalize(normal(batch, 3), dim=-1)
    height = (cloud * direction[:, None]).sum(-1)
    order = height.argsort(1)
    share = torch.where(uniform(batch) < often, 1 - uniform(batch) / 3, torch.ones(batch))
    left = (share * size).long().clamp_min(1)
    # Those that remain are repeated in the places of those that went.
    index = torch.arange(size)[None] % left[:, None]
    return cloud.gather(1, order.gather(1, index)[..., None].expand(-1, -1, 3))
