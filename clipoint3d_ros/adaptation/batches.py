"""What the steps of a few-shot training see, drawn from (seed, step) alone: a resumed run sees the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.adaptation.clouds import Clouds
from clipoint3d_ros.adaptation.config import TrainingConfig
from clipoint3d_ros.geometry.augment import augment
from clipoint3d_ros.geometry.clouds import extents, normalise
from clipoint3d_ros.geometry.views import choose_views, view_directions
from clipoint3d_ros.recognition.selection import facing_weights

_STRIDE = 1_000_003  # between the generators of neighbouring seeds


@dataclass(frozen=True)
class Batch:
    """Objects of one domain, ready to be rendered.

    points: (B, N, 3) normalised, y up. chosen: (B, V) int64 views. facing: (B, V) how squarely each of these faces the
    sensor, rows summing to 1; even where the cloud is complete. extents: (B, 3) metres, NaN where not known.
    labels: (B,) int64, −1 where not known. seen: (B,) bool, by a sensor.
    """

    points: Tensor
    chosen: Tensor
    facing: Tensor
    extents: Tensor
    labels: Tensor
    seen: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(part.to(device) for part in vars(self).values()))


def generator(seed: int, step: int, stream: int) -> torch.Generator:
    """Of one stream of one step: 0 source, 1 target, 2 patches."""
    return torch.Generator().manual_seed((seed * _STRIDE + step) * 4 + stream)


def source_batch(complete: Clouds, scans: Clouds | None, config: TrainingConfig, step: int) -> Batch:
    """Labelled objects, the classes as even as they go, in the configured share as scans."""
    rng = generator(config.seed, step, 0)
    numbers = np.random.default_rng((config.seed, step))
    labels = complete.labels.numpy()
    classes = np.unique(labels)
    # One order for as many steps as there are classes: they take turns, so that few objects a step leave none out.
    classes = np.random.default_rng((config.seed, 2, step // len(classes))).permutation(classes)
    turn = [classes[(i + step * config.objects) % len(classes)] for i in range(config.objects)]
    rows = np.array([numbers.choice(np.flatnonzero(labels == c)) for c in turn])
    if scans is None:
        return draw(complete.take(torch.from_numpy(rows)), config, rng)
    each = len(scans) // len(complete)
    as_scan = torch.from_numpy(numbers.random(len(rows)) < config.scan_share)
    looks = scans.take(torch.from_numpy(rows * each + numbers.integers(each, size=len(rows))))
    whole = complete.take(torch.from_numpy(rows))
    return draw(_either(as_scan, looks, whole), config, rng)


def target_batch(target: Clouds, config: TrainingConfig, step: int) -> Batch:
    """Unlabelled objects: every one once before any comes again, as far as the steps go."""
    size = len(target)
    places = np.arange(step * config.objects, (step + 1) * config.objects)
    order = {int(e): np.random.default_rng((config.seed, 1, int(e))).permutation(size) for e in set(places // size)}
    rows = torch.tensor([order[int(p // size)][p % size] for p in places])
    return draw(target.take(rows), config, generator(config.seed, step, 1))


def draw(clouds: Clouds, config: TrainingConfig, rng: torch.Generator) -> Batch:
    """Objects turned, cut and stretched a little at random, their sizes, and which views of them are looked at."""
    points = augment(clouds.points, clouds.seen, config.points, rng, config.cut_share)
    # It leaves them sorted along a direction; the point encoder sees the first few, which must be of the whole object.
    order = torch.rand(points.shape[:2], generator=rng).argsort(1)
    points = points.gather(1, order[..., None].expand(-1, -1, 3))
    sizes = extents(points)
    withheld = torch.rand(len(clouds), generator=rng) < (config.unknown_size if clouds.metric else 2.0)
    sizes[withheld] = torch.nan
    chosen = choose_views(clouds.seen, clouds.elevation, config.views, config.rear_views, rng)
    return Batch(normalise(points), chosen, facing(clouds, chosen), sizes, clouds.labels, clouds.seen)


def facing(clouds: Clouds, chosen: Tensor) -> Tensor:
    """(B, V): how squarely the chosen views face the sensor, rows summing to 1; even where there was none, or where
    none of the chosen ones does."""
    directions = torch.from_numpy(view_directions()).float()
    towards = torch.stack([torch.zeros_like(clouds.elevation), clouds.elevation.sin(), clouds.elevation.cos()], 1)
    weights = facing_weights(towards, directions).gather(1, chosen)
    total = weights.sum(1, keepdim=True)
    known = clouds.seen[:, None] & (total > 1e-4)
    return torch.where(known, weights / total.clamp_min(1e-12), torch.full_like(weights, 1 / weights.shape[1]))


def _either(choice: Tensor, first: Clouds, second: Clouds) -> Clouds:
    """(B,) bool: of each row the first's where True."""

    def merged(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(choice.view(-1, *[1] * (a.ndim - 1)), a, b)

    return Clouds(
        merged(first.points, second.points),
        second.labels,
        merged(first.seen, second.seen),
        merged(first.elevation, second.elevation),
        merged(first.distance, second.distance),
        second.metric,
    )
