"""tf2_ros behind the look-up that `nodes.frames` takes. Imported only when a frame is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipoint3d_ros.nodes.frames import MissingTransform
from clipoint3d_ros.nodes.rotations import rotation

MISSING = (
    "tf2_ros is not installed here, but 'gravity_frame', 'sensor_frame' or 'fixed_frame' is set; install "
    "ros-$ROS_DISTRO-tf2-ros, or leave them empty and give 'up' and 'viewpoint' in the cloud's frame"
)


def fitting(current: Transforms | None, node: Any, asks: bool, timeout_s: float) -> Transforms | None:
    """The transforms that a configuration wants: none, those there are with its time-out, or new ones.

    Raises:
        ImportError: tf2_ros is wanted and missing; nothing has changed.
    """
    if not asks:
        if current is not None:
            current.close()
        return None
    if current is None:
        return Transforms(node, timeout_s)
    current.timeout_s = timeout_s
    return current


class Transforms:
    """A tf2 buffer filled by the node's executor and asked from the worker's thread."""

    def __init__(self, node: Any, timeout_s: float) -> None:
        """Raises ImportError, in words, where tf2_ros is missing."""
        try:
            import tf2_ros
        except ImportError:
            raise ImportError(MISSING) from None
        self._tf2, self._node, self.timeout_s = tf2_ros, node, timeout_s
        self._buffer = self._listener = None
        self.restart()

    def restart(self) -> None:
        """Forget everything and listen anew.

        After a jump back in time tf2 drops every newer-stamped transform's successor as old. Clearing alone would
        lose the static ones, which are sent once to each new listener; so the listener is new as well.
        """
        self.close()
        self._buffer = self._tf2.Buffer()
        self._listener = self._tf2.TransformListener(self._buffer, self._node, spin_thread=False)

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        listener, self._listener = self._listener, None
        for name in ("tf_sub", "tf_static_sub"):
            subscription = getattr(listener, name, None)
            if subscription is not None:
                self._node.destroy_subscription(subscription)

    def lookup(self, target: str, source: str, stamp: Any) -> tuple[np.ndarray, np.ndarray]:
        """R (3, 3) and t (3,) taking `source` into `target` at the stamp, waited for up to the time-out.

        Raises:
            MissingTransform: tf2 has none; its own words are kept.
        """
        from rclpy.duration import Duration
        from rclpy.time import Time

        buffer = self._buffer
        try:
            found = buffer.lookup_transform(  # type: ignore[attr-defined]
                target, source, Time.from_msg(stamp), timeout=Duration(seconds=self.timeout_s)
            )
            turn, shift = found.transform.rotation, found.transform.translation
            return rotation((turn.x, turn.y, turn.z, turn.w)), np.array([shift.x, shift.y, shift.z])
        except (self._tf2.TransformException, ValueError) as error:
            raise MissingTransform(
                f"no transform from '{source}' to '{target}' within {self.timeout_s:g} s: {error}"
            ) from None
