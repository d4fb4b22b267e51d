"""Oriented boxes: the points inside published ones, and the upright box around an object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from clipoint3d_ros.geometry.clouds import FURTHEST_M, measured, unit
from clipoint3d_ros.nodes.layout import Malformed
from clipoint3d_ros.nodes.rotations import rotation

# Detectors bound their own points exactly; a rounding must not lose the outermost.
MARGIN_M = 1e-4
# An upright box keeps the frame's own axes unless turning it saves this share of the footprint: round things
# would otherwise turn with every frame's noise.
WORTH_TURNING = 0.03
SAMPLE = 256
_COS, _SIN = (turn(np.deg2rad(np.arange(360))) for turn in (np.cos, np.sin))  # of whole degrees
_COARSE, _FINE = np.arange(0, 90, 6), np.arange(-5, 6)  # degrees


class Box(NamedTuple):
    """centre (3,) metres; axes (3, 3), columns the box's x, y, z in the cloud's frame; size (3,) metres along them."""

    centre: np.ndarray
    axes: np.ndarray
    size: np.ndarray


class NamedBox(NamedTuple):
    """A published box and its id."""

    id: str
    box: Box


def read_boxes(message: Any, cloud_frame: str) -> list[NamedBox]:
    """The boxes of a vision_msgs/Detection3DArray, checked.

    Args:
        message: an object with Detection3DArray's attributes.
        cloud_frame: frame of the cloud they belong to.

    Raises:
        Malformed: boxes in another frame (reason frame), or one that is no box (reason boxes). A flat one, of size 0
            along an axis, is a box.
    """
    frame = message.header.frame_id
    if frame and frame != cloud_frame:
        raise Malformed(
            "frame", f"the boxes are in frame '{frame}' but the cloud is in '{cloud_frame}'; publish both in one frame"
        )
    return [NamedBox(detection.id, _box(detection)) for detection in message.detections]


def _box(detection: Any) -> Box:
    pose, size = detection.bbox.center, detection.bbox.size
    centre = np.array([pose.position.x, pose.position.y, pose.position.z], np.float64)
    extent = np.array([size.x, size.y, size.z], np.float64)
    if not (measured(centre).all() and measured(extent).all() and (extent >= 0).all()):
        raise Malformed(
            "boxes",
            f"box '{detection.id:.120}' has centre {centre.tolist()} and size {extent.tolist()}; "
            f"both must be finite and within {FURTHEST_M:g} m, and the size not below 0 m",
        )
    turn = pose.orientation
    try:
        return Box(centre, rotation((turn.x, turn.y, turn.z, turn.w)), extent)
    except ValueError as error:
        raise Malformed("boxes", f"box '{detection.id}' has no orientation: {error}") from None


def inside(points: np.ndarray, boxes: Sequence[NamedBox]) -> Iterator[tuple[NamedBox, np.ndarray]]:
    """Each box with the points (M, 3) inside it; a point in two boxes belongs to both.

    Args:
        points: (N, 3) float32 metres, finite.
        boxes: in the points' frame.
    """
    for named in boxes:
        box = named.box
        local = (points - box.centre.astype(np.float32)) @ box.axes.astype(np.float32)
        kept = (np.abs(local) <= (box.size / 2 + MARGIN_M).astype(np.float32)).all(1)
        yield named, points[kept]


def upright_box(points: np.ndarray, up: Sequence[float] | np.ndarray = (0, 0, 1)) -> Box:
    """The box around one object; see `upright_boxes`."""
    return upright_boxes([points], up)[0]


def upright_boxes(clouds: Sequence[np.ndarray], up: Sequence[float] | np.ndarray = (0, 0, 1)) -> list[Box]:
    """The boxes around objects that stand upright: z along `up`, turned about it to the smallest footprint.

    The turn is in [0°, 90°) from the frame's x axis made horizontal (its y axis where x is vertical), found on a
    fixed subset of the points to one degree; the extent is then that of all points. What the sensor did not see
    is not in the box.

    Args:
        clouds: (N, 3) metres each, finite, N ≥ 1.
        up: (3,) direction against gravity in the points' frame.

    Raises:
        ValueError: an object of no points.
    """
    if not all(map(len, clouds)):
        raise ValueError("no box is around no points; drop the empty segment")
    if not clouds:
        return []
    level = _level_axes(unit(up, "up"))
    evenly = np.array([len(cloud) for cloud in clouds])[:, None] * np.arange(SAMPLE) // SAMPLE
    few = np.stack([cloud.T.take(rows, 1) for cloud, rows in zip(clouds, evenly, strict=True)]).transpose(2, 0, 1)
    turns = np.deg2rad(_smallest_footprints((few - few[0]) @ level[:, :2].astype(few.dtype)))
    return _boxes_along(_turned(level, turns), clouds)


def _turned(level: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """(B, 3, 3) the level axes turned about the third by (B,) radians."""
    about = np.zeros((len(turns), 3, 3))
    about[:, 0, 0] = about[:, 1, 1] = np.cos(turns)
    about[:, 1, 0] = np.sin(turns)
    about[:, 0, 1], about[:, 2, 2] = -about[:, 1, 0], 1
    return level @ about


def _boxes_along(axes: np.ndarray, clouds: Sequence[np.ndarray]) -> list[Box]:
    """The boxes around B clouds (N, 3) that have these axes (B, 3, 3)."""
    cuts = np.cumsum([0, *map(len, clouds)])
    along = np.empty((3, cuts[-1]), np.result_type(np.float32, *clouds))  # an axis a row: extremes run over memory
    for turn, cloud, start, end in zip(axes.astype(along.dtype), clouds, cuts[:-1], cuts[1:], strict=True):
        np.matmul(turn.T, cloud.T, out=along[:, start:end])
    low, high = (most.reduceat(along, cuts[:-1], 1).T.astype(np.float64) for most in (np.minimum, np.maximum))
    centres = (axes @ ((low + high) / 2)[..., None])[..., 0]
    return list(map(Box, centres, axes, high - low))


def _level_axes(up: np.ndarray) -> np.ndarray:
    """Columns x, y (horizontal) and z = up in the cloud's frame; right-handed."""
    reference = np.array([1.0, 0, 0]) if abs(up[0]) < 0.9 else np.array([0, 1.0, 0])
    x = reference - up * (reference @ up)
    x /= np.linalg.norm(x)
    (a, b, c), (d, e, f) = up.tolist(), x.tolist()
    return np.array([[d, b * f - c * e, a], [e, c * d - a * f, b], [f, a * e - b * d, c]])


def _smallest_footprints(flat: np.ndarray) -> np.ndarray:
    """(B,) the whole degrees in [0, 90) whose axis-aligned rectangles around (S, B, 2) points are smallest.

    First to six degrees, then to one around the best of these.
    """
    areas = _footprints(flat, _COARSE)
    best = _COARSE[areas.argmin(1)]
    x, y, cos, sin = flat[..., 0], flat[..., 1], _COS[best].astype(flat.dtype), _SIN[best].astype(flat.dtype)
    fine = _footprints(np.stack([x * cos + y * sin, y * cos - x * sin], -1), _FINE)
    worth = fine.min(1) < areas[:, 0] * (1 - WORTH_TURNING)
    return np.where(worth, (best + _FINE[fine.argmin(1)]) % 90, 0)


def _footprints(flat: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """(B, A) areas of the rectangles around (S, B, 2) points whose sides are turned by degrees (A,)."""
    sides = np.concatenate([degrees, degrees + 90])
    along = flat.reshape(-1, 2) @ np.stack([_COS[sides], _SIN[sides]]).astype(flat.dtype)
    along = along.reshape(len(flat), -1)  # points first: extremes of all objects and directions at once
    lengths = (along.max(0) - along.min(0)).reshape(flat.shape[1], 2, -1)
    return lengths[:, 0] * lengths[:, 1]
