"""Answers for RViz: a translucent box and a caption per object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from clipoint3d_ros.nodes.boxes import Box
from clipoint3d_ros.nodes.captions import caption, colour
from clipoint3d_ros.nodes.detections import box_pose
from clipoint3d_ros.recognition.recognition import Recognition

TEXT_M = 0.03
GAP_M = 0.03


def marker_array(header: Any, boxes: Sequence[Box], recognitions: Sequence[Recognition], up: np.ndarray) -> MarkerArray:
    """Markers of one cloud's answer; the first deletes those of the cloud before.

    Args:
        header: the cloud's.
        boxes, recognitions: one each per object.
        up: (3,) unit; captions float above the boxes along it.
    """
    message = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    for number, (box, recognition) in enumerate(zip(boxes, recognitions, strict=True)):
        message.markers += [
            _solid(header, number, box, recognition),
            _text(header, number, box, recognition, np.asarray(up)),
        ]
    return message


def _solid(header: Any, number: int, box: Box, recognition: Recognition) -> Marker:
    marker = Marker(header=header, ns="boxes", id=number, type=Marker.CUBE, action=Marker.ADD, pose=box_pose(box))
    marker.scale.x, marker.scale.y, marker.scale.z = (max(float(side), 1e-3) for side in box.size)
    marker.color = _rgba(recognition.label, 0.35)
    return marker


def _text(header: Any, number: int, box: Box, recognition: Recognition, up: np.ndarray) -> Marker:
    marker = Marker(header=header, ns="labels", id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
    marker.text = caption(recognition)
    top = box.centre + up * (np.abs(box.axes.T @ up) @ box.size / 2 + GAP_M)
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = map(float, top)
    marker.pose.orientation.w = 1.0
    marker.scale.z = TEXT_M
    marker.color = _rgba(recognition.label, 1.0)
    return marker


def _rgba(label: str, alpha: float) -> ColorRGBA:
    red, green, blue = map(float, colour(label))
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)
