"""Stamps: nanoseconds, time that jumps back, a stamp that comes again, and clouds paired with boxes of their stamp."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

# Best effort may deliver neighbours out of order; a bag that starts again goes back further.
JUMP_NS = 500_000_000


def nanoseconds(stamp: Any) -> int:
    """A builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


class Watch:
    """Notices when stamps jump back by more than `JUMP_NS`."""

    def __init__(self) -> None:
        self._newest: int | None = None

    def jumped_back(self, now_ns: int) -> bool:
        """Whether this stamp begins a new run of time; 0, a stamp that nobody set, says nothing of it."""
        if not now_ns:
            return False
        jumped = self._newest is not None and now_ns < self._newest - JUMP_NS
        self._newest = now_ns if jumped or self._newest is None else max(self._newest, now_ns)
        return jumped


class Repeats:
    """Notices a stamp that comes twice running; one that nobody set (0) does not count."""

    def __init__(self) -> None:
        self._last = 0

    def again(self, stamp_ns: int) -> bool:
        """Whether the stamp before was the same."""
        same = stamp_ns == self._last != 0
        self._last = stamp_ns
        return same


class Frame(NamedTuple):
    """What the worker gets: a PointCloud2 and, in the third form, the Detection3DArray of its stamp."""

    cloud: Any
    boxes: Any = None


class Pairs:
    """Clouds and boxes that wait for the other of their stamp; the oldest leave when there are more than `depth`."""

    def __init__(self, depth: int = 5) -> None:
        self._depth = depth
        self._waiting: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self.unpaired = 0  # clouds that left without boxes

    def cloud(self, cloud: Any) -> Frame | None:
        """The frame that this cloud completes, if it does."""
        return self._add(nanoseconds(cloud.header.stamp), cloud, None)

    def boxes(self, boxes: Any) -> Frame | None:
        """The frame that these boxes complete, if they do."""
        return self._add(nanoseconds(boxes.header.stamp), None, boxes)

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()

    def _add(self, stamp: int, cloud: Any, boxes: Any) -> Frame | None:
        had_cloud, had_boxes = self._waiting.pop(stamp, (None, None))
        cloud = had_cloud if cloud is None else cloud
        boxes = had_boxes if boxes is None else boxes
        if cloud is not None and boxes is not None:
            return Frame(cloud, boxes)
        self._waiting[stamp] = (cloud, boxes)
        while len(self._waiting) > self._depth:
            _, (left, _) = self._waiting.popitem(last=False)
            self.unpaired += left is not None
        return None
