"""Detection3DArray as DDS carries it, written without a Python object for every number in it.

rclpy makes a dozen messages of each object and then walks through all of them, which takes three times as long. A
publisher also takes a message's serialised bytes: OMG's CDR, little endian. Four bytes tell that; then come the fields
in their order, numbers at multiples of their size, a text as its length with the final zero, its UTF-8, and that zero.
`detections.detection_array` stays the reference.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from clipoint3d_ros.nodes.boxes import Box
from clipoint3d_ros.nodes.detections import box_size, detection_array, share
from clipoint3d_ros.nodes.pointcloud import Segment
from clipoint3d_ros.nodes.rotations import quaternion, rotation
from clipoint3d_ros.recognition.recognition import Recognition

_CDR = b"\0\1\0\0"
_STAMP, _COUNT, _NUMBER = struct.Struct("<iI"), struct.Struct("<I"), struct.Struct("<d")
_POSE, _SIZE = struct.Struct("<7d"), struct.Struct("<3d")
_COVARIANCE = bytes(36 * 8)


def detection_bytes(
    header: Any, segments: Sequence[Segment], boxes: Sequence[Box], recognitions: Sequence[Recognition], top_k: int
) -> bytes:
    """The answer to one cloud, serialised; arguments as of `detection_array`."""
    head = _STAMP.pack(header.stamp.sec, header.stamp.nanosec) + _text(header.frame_id)
    out = bytearray(head)
    _align(out, 4)
    out += _COUNT.pack(len(segments))
    for segment, box, recognition in zip(segments, boxes, recognitions, strict=True):
        pose = _POSE.pack(*box.centre.tolist(), *quaternion(box.axes))
        hypotheses = recognition.top(top_k)
        _align(out, 4)
        out += head
        _align(out, 4)
        out += _COUNT.pack(len(hypotheses))
        for label, score in hypotheses:
            _align(out, 4)
            out += _text(label)
            _align(out, 8)
            out += _NUMBER.pack(share(score)) + pose + _COVARIANCE
        _align(out, 8)
        out += pose + _SIZE.pack(*box_size(box)) + _text(segment.id)
    return _CDR + bytes(out)


@functools.cache
def detection_writer() -> Callable[..., Any]:
    """`detection_bytes` where this installation reads in its bytes the message that was meant, which is tried here;
    `detection_array` elsewhere, as where vision_msgs has changed or messages travel otherwise."""
    header = Header(frame_id="a frame")
    header.stamp.sec, header.stamp.nanosec = 12, 345
    names = ("", "7", "21", "333", "tall äöü")
    box = Box(np.array([1.0, -2, 3]), rotation((0.1, 0.2, 0.3, 0.9)), np.array([0.4, 0.5, 0]))
    answers = [Recognition.of(np.arange(1.0, k + 2), names[: k + 1], unknown_below=0.3) for k in range(len(names))]
    told = header, [Segment(np.empty((0, 3)), name) for name in names], [box] * len(names), answers
    return detection_bytes if all(_agrees(*told, k) for k in range(4)) else detection_array


def _agrees(*told: Any) -> bool:
    """Not to the byte: what lies between the numbers is left as it was by some writers."""
    content, meant = detection_bytes(*told), detection_array(*told)
    try:
        return len(content) == len(serialize_message(meant)) and deserialize_message(content, Detection3DArray) == meant
    except Exception:  # of whatever kind the middleware's is: it cannot read this
        return False


def _text(text: str) -> bytes:
    content = text.encode()
    return _COUNT.pack(len(content) + 1) + content + b"\0"


def _align(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)
