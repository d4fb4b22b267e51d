"""Clouds to test with: labelled scenes of two known objects, and hand-made PointCloud2 look-alikes."""

from __future__ import annotations

import dataclasses

import numpy as np

from clipoint3d_ros.nodes.pointcloud import Cloud, write_cloud


def block(size, centre=(0, 0, 0), count=400, seed=0) -> np.ndarray:
    """(count, 3) float32 points evenly in a box of that size in metres, corners among them."""
    rng = np.random.default_rng(seed)
    corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T
    points = np.concatenate([corners, rng.uniform(-0.5, 0.5, (count - 8, 3))])
    return (points * size + centre).astype(np.float32)


TALL = block((0.06, 0.06, 0.2), (0.5, 0.1, 0.1))
FLAT = block((0.2, 0.15, 0.03), (0.6, -0.2, 0.02), seed=1)
TABLE = block((1.0, 1.0, 0.01), (0.6, 0, 0), count=800, seed=2)


def scene(field: str = "instance_id", dtype=np.uint32, **steps) -> Cloud:
    """Labelled: 1 the table, 5 something tall, 9 something flat, 0 points without return."""
    nothing = np.full((100, 3), np.nan, np.float32)
    points = np.concatenate([TABLE, TALL, nothing, FLAT])
    labels = np.repeat([1, 5, 0, 9], [len(TABLE), len(TALL), len(nothing), len(FLAT)]).astype(dtype)
    shuffled = np.random.default_rng(3).permutation(len(points))
    columns = dict(zip("xyz", points[shuffled].T, strict=True)) | {field: labels[shuffled]}
    return write_cloud(columns, **steps)


def image_scene(height: int = 480, width: int = 640) -> Cloud:
    """The same objects in an organised cloud of a camera's size."""
    points = np.full((height * width, 3), np.nan, np.float32)
    labels = np.zeros(height * width, np.uint8)
    where = np.random.default_rng(4).permutation(height * width)
    start = 0
    for label, part in ((1, TABLE), (5, TALL), (9, FLAT)):
        rows = where[start : start + len(part)]
        points[rows], labels[rows] = part, label
        start += len(part)
    shape = (height, width)
    columns = {name: points[:, axis].reshape(shape) for axis, name in enumerate("xyz")}
    return write_cloud(columns | {"instance_id": labels.reshape(shape)})


def changed_cloud(cloud: Cloud, **changes) -> Cloud:
    """A copy with some attributes overwritten."""
    return dataclasses.replace(cloud, **changes)
