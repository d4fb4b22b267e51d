"""Where up is and where the sensor stood, in a cloud's own frame; and where that frame is in one that stands still.

Either fixed by parameters, or looked up for the cloud's stamp through a function that is passed in (tf2_ros in the
node, anything in a test). A transform that is missing is an exception and the cloud is skipped: taking identity
instead would turn every object on its side and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# (target frame, source frame, stamp) -> R (3, 3) and t (3,), metres: a source point p is R p + t in the target.
Lookup = Callable[[str, str, Any], tuple[np.ndarray, np.ndarray]]


class MissingTransform(LookupError):
    """No transform for this cloud; the message says from where to where and why."""


class Standpoint(NamedTuple):
    """up (3,) unit, against gravity; viewpoint (3,) metres, where the sensor was, or None if nobody knows."""

    up: np.ndarray
    viewpoint: np.ndarray | None


@dataclass(frozen=True)
class FrameConfig:
    """up and viewpoint in the cloud's frame; a frame's name, where given, is asked instead.

    up: three numbers, not all zero.
    viewpoint: metres; () when unknown.
    gravity_frame: a frame whose z axis points up (REP-103: base_link, odom, map).
    sensor_frame: the frame whose origin is the sensor.
    """

    up: tuple[float, ...] = (0.0, 0.0, 1.0)
    viewpoint: tuple[float, ...] = (0.0, 0.0, 0.0)
    gravity_frame: str = ""
    sensor_frame: str = ""

    @property
    def asks(self) -> bool:
        """Whether any transform is needed."""
        return bool(self.gravity_frame or self.sensor_frame)


def standpoint(frame: str, stamp: Any, config: FrameConfig, lookup: Lookup | None = None) -> Standpoint:
    """Up and viewpoint for a cloud.

    Args:
        frame: the cloud's frame_id.
        stamp: the cloud's stamp, handed to `lookup` as it is.
        config: parameters or frames.
        lookup: needed where `config.asks`.

    Raises:
        MissingTransform: the look-up failed, or the cloud names no frame.
    """
    up = np.asarray(config.up, np.float64)
    viewpoint = np.asarray(config.viewpoint, np.float64) if config.viewpoint else None
    if config.gravity_frame:
        up = _transform(frame, config.gravity_frame, stamp, lookup)[0][:, 2]
    if config.sensor_frame:
        viewpoint = _transform(frame, config.sensor_frame, stamp, lookup)[1]
    return Standpoint(up / np.linalg.norm(up), viewpoint)


def to_fixed_frame(
    frame: str, stamp: Any, fixed_frame: str, lookup: Lookup | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """R (3, 3) and t (3,), metres, that take a cloud's frame into the one in which objects stand still.

    Args:
        frame, stamp: the cloud's.
        fixed_frame: its name; "" where the cloud's own will do.
        lookup: needed where it is another than the cloud's.

    Raises:
        MissingTransform: the look-up failed, or the cloud names no frame.
    """
    if not fixed_frame:
        return np.eye(3), np.zeros(3)
    return _transform(fixed_frame, frame, stamp, lookup)


def _transform(target: str, source: str, stamp: Any, lookup: Lookup | None) -> tuple[np.ndarray, np.ndarray]:
    if not (target and source):
        raise MissingTransform(f"the cloud names no frame_id, so where '{target or source}' is cannot be looked up")
    if target == source:
        return np.eye(3), np.zeros(3)
    if lookup is None:
        raise MissingTransform(f"nothing here can look up '{source}' in '{target}'")
    turn, shift = lookup(target, source, stamp)
    if not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        raise MissingTransform(f"the transform from '{source}' to '{target}' is not finite")
    return turn, shift
