"""Answers as vision_msgs: one Detection3D per segment, under the cloud's own header."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Vector3
from sensor_msgs.msg import Image
from vision_msgs.msg import (
    BoundingBox3D,
    Detection3D,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionInfo,
)

from clipoint3d_ros.nodes.boxes import Box, upright_boxes
from clipoint3d_ros.nodes.pointcloud import Segment
from clipoint3d_ros.nodes.rotations import quaternion
from clipoint3d_ros.recognition.recognition import Recognition


def segment_boxes(segments: Sequence[Segment], up: np.ndarray) -> list[Box]:
    """Each segment's box: the published one where there is one, else the upright box around its points."""
    around = iter(upright_boxes([segment.points for segment in segments if segment.box is None], up))
    return [next(around) if segment.box is None else segment.box for segment in segments]


def detection_array(
    header: Any, segments: Sequence[Segment], boxes: Sequence[Box], recognitions: Sequence[Recognition], top_k: int
) -> Detection3DArray:
    """The answer to one cloud.

    Args:
        header: the cloud's; frame and stamp are kept, in the array and in each detection.
        segments, boxes, recognitions: one each per object, in one order, which the detections keep.
        top_k: hypotheses per object, best first; `class_id` is the class's name or "unknown".
    """
    rows = zip(segments, boxes, recognitions, strict=True)
    return Detection3DArray(
        header=header,
        detections=[_detection(header, segment.id, box, recognition.top(top_k)) for segment, box, recognition in rows],
    )


def _detection(header: Any, name: str, box: Box, hypotheses: Sequence[tuple[str, float]]) -> Detection3D:
    pose, (x, y, z) = box_pose(box), box_size(box)
    results = [
        ObjectHypothesisWithPose(
            hypothesis=ObjectHypothesis(class_id=label, score=share(score)), pose=PoseWithCovariance(pose=pose)
        )
        for label, score in hypotheses
    ]
    bbox = BoundingBox3D(center=pose, size=Vector3(x=x, y=y, z=z))
    return Detection3D(header=header, results=results, bbox=bbox, id=name)


def box_pose(box: Box) -> Pose:
    """A box's centre and axes as geometry_msgs/Pose."""
    x, y, z = box.centre.tolist()
    i, j, k, w = quaternion(box.axes)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=i, y=j, z=k, w=w))


def box_size(box: Box) -> tuple[float, float, float]:
    """A box's size as published: one flat side still has three sizes above zero, which RViz and planners need."""
    x, y, z = (max(length, 1e-3) for length in box.size.tolist())
    return x, y, z


def share(score: float) -> float:
    """A score as published, in [0, 1] whatever rounding did."""
    return min(max(float(score), 0.0), 1.0)


def vision_info(stamp: Any, method: str, location: str, version: int) -> VisionInfo:
    """Who answers: the model's name, where its classes are to be read, and the adapter's version (0 = frozen)."""
    message = VisionInfo(method=method, database_location=location, database_version=version)
    message.header.stamp = stamp
    return message


def features_image(header: Any, features: np.ndarray) -> Image:
    """One feature row per object, in the detections' order, as a 32FC1 image (height B, width D)."""
    rows = np.ascontiguousarray(features, "<f4")
    height, width = rows.shape
    return _image(header, height, width, "32FC1", width * 4, rows)


def picture_image(header: Any, picture: np.ndarray) -> Image:
    """An (H, W, 3) uint8 RGB picture as an image message."""
    height, width, _ = picture.shape
    return _image(header, height, width, "rgb8", width * 3, np.ascontiguousarray(picture))


def _image(header: Any, height: int, width: int, encoding: str, step: int, pixels: np.ndarray) -> Image:
    message = Image(header=header, height=height, width=width, encoding=encoding, step=step, is_bigendian=0)
    content = array.array("B")
    content.frombytes(pixels.tobytes())
    message.data = content
    return message
