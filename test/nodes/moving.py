"""A sensor that is lifted by 15 cm a second, and what tf2 would say of it."""

from __future__ import annotations

import numpy as np

from clipoint3d_ros.nodes.frames import MissingTransform

RISE = 0.15  # metres a second: farther than a track reaches


def lowered(sec):
    """How far what stands still in odom is away, in the camera's frame, from where it was at second 0."""
    return (0.0, 0.0, -RISE * sec)


class Odometry:
    """In the place of `nodes.transforms.Transforms`: knows the camera in odom at each stamp, until it is lost."""

    asked: list[tuple[str, str, int]]  # of all nodes
    lost = False
    restarts = 0

    def __init__(self, node, timeout_s):
        self.timeout_s = timeout_s

    def lookup(self, target, source, stamp):
        Odometry.asked.append((target, source, stamp.sec))
        if Odometry.lost or (target, source) != ("odom", "camera"):
            raise MissingTransform(f"no transform from '{source}' to '{target}'")
        return np.eye(3), np.array([0.0, 0.0, RISE * stamp.sec])

    def restart(self):
        Odometry.restarts += 1

    def close(self):
        pass
