"""Objects to time and to learn from: simulated tabletop scenes, never real ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipoint3d_ros.clip.descriptions import read_classes
from clipoint3d_ros.datasets.tabletop import simulate
from clipoint3d_ros.evaluation.zero_shot import NamedObject, named_objects

SEED = 99  # of scenes that no training uses


def simulated_scenes(count: int) -> Iterator[list[NamedObject]]:
    """The named objects of `count` simulated Kinect scenes of tabletop classes, one scene after another."""
    names = read_classes(None).names
    for number in range(count):
        yield named_objects(simulate(f"simulated {number}", names, np.random.default_rng((SEED, number))))


def simulated_objects(count: int) -> list[np.ndarray]:
    """`count` clouds (N, 3) metres in a levelled sensor frame, the sensor at the origin."""
    clouds: list[np.ndarray] = []
    for objects in simulated_scenes(count):
        clouds += [each.points for each in objects]
        if len(clouds) >= count:
            break
    return clouds[:count]
