"""Scenes into a labelled bag, as a camera above a table would have published them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.scenes import Scene
from clipoint3d_ros.evaluation.bag_writer import BagWriter
from clipoint3d_ros.evaluation.bags import SECOND, Topics, TrueObject


@dataclass(frozen=True)
class RecordConfig:
    """How scenes become a bag."""

    rate: float = 2.0  # Hz, of the stamps
    frame_id: str = "camera_level"  # z up, x forward, origin at the camera
    start: int = 1_000_000_000 * SECOND  # ns, fixed so that the same scenes give the same bag
    topics: Topics = field(default_factory=Topics)

    def __post_init__(self) -> None:
        if not 0.001 <= self.rate <= 1000:
            raise ValueError(f"the rate must lie between 0.001 and 1000 Hz, but is {self.rate:g}")


def record(path: str | Path, stream: Iterable[Scene], config: RecordConfig | None = None) -> int:
    """Write scenes as a labelled bag.

    Every scene becomes one organised cloud in its levelled sensor frame with the fields x, y, z, instance_id
    (0 background, 1 table, 2 and up objects), and one truth message of the same stamp that lists the objects with
    a name: id, class, axis-aligned box. Unnamed objects are in the cloud only.

    Args:
        path: the bag's folder; must not exist.
        stream: the scenes, in the order of their stamps.
        config: rate, frame and topics.

    Returns:
        How many scenes were written.

    Raises:
        BagError: the path exists.
        ValueError: a scene cannot be read.
    """
    config = config or RecordConfig()
    count = 0
    with BagWriter(path, config.topics) as bag:
        for count, scene in enumerate(stream, start=1):
            xyz = scenes.level_points(scene)
            stamp = config.start + round((count - 1) * SECOND / config.rate)
            bag.write(stamp, config.frame_id, xyz, scene.instance, named_objects(scene, xyz))
    return count


def named_objects(scene: Scene, xyz: np.ndarray) -> list[TrueObject]:
    """The objects of a scene that have a name, by id, with boxes around their points.

    Args:
        scene: whose names and instances count.
        xyz: (H, W, 3) its points in the frame the boxes are wanted in.

    Returns:
        One entry a name; an object none of whose points came back has an empty box at the origin.
    """
    return [TrueObject(str(i), name, *_box(xyz[scene.instance == i])) for i, name in sorted(scene.classes.items())]


def _box(xyz: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Centre and size (metres) of the axis-aligned box around (N, 3) points, NaN rows left out."""
    seen = xyz[np.isfinite(xyz).all(axis=1)].astype(float)
    if not len(seen):
        return (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    low, high = seen.min(axis=0), seen.max(axis=0)
    (cx, cy, cz), (sx, sy, sz) = ((low + high) / 2).tolist(), (high - low).tolist()
    return (cx, cy, cz), (sx, sy, sz)
