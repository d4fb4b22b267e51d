"""The segmenter node: a depth camera's clouds in, clouds whose points carry the number of their object out.

A thin shell over `geometry.segmentation`, as perception is over the classifier: callbacks take the newest cloud, a
worker thread does the work, and `_work` is the data's whole way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2

from clipoint3d_ros.geometry.segmentation.segment import FIRST_OBJECT, TABLE, segment
from clipoint3d_ros.nodes.cloud_node import CloudNode
from clipoint3d_ros.nodes.frames import standpoint, to_fixed_frame
from clipoint3d_ros.nodes.lifecycle import RELIABLE, own, sentence
from clipoint3d_ros.nodes.parameters import changed
from clipoint3d_ros.nodes.pointcloud import all_points, cloud_message, write_cloud
from clipoint3d_ros.nodes.program import leave, run
from clipoint3d_ros.nodes.segmenter_config import SegmenterNodeConfig
from clipoint3d_ros.nodes.stamps import Frame, nanoseconds
from clipoint3d_ros.nodes.transforms import fitting
from clipoint3d_ros.recognition.tracks import Tracker

STAGES = ("decode", "segment", "publish", "total")
FIELD = "instance_id"  # of the published clouds: 0 background, 1 a support plane, 2 and up one object each


class Seen(NamedTuple):
    """What the last cloud held, for diagnostics."""

    objects: int = 0
    plane: bool = False


class SegmenterNode(CloudNode[SegmenterNodeConfig]):
    """`segmenter`: see the ROS interface in the README."""

    purpose = "segmentation"

    def __init__(self, **options: Any) -> None:
        """Raises ParameterError where an override cannot be used."""
        super().__init__("segmenter", SegmenterNodeConfig, STAGES, **options)
        self._configured = False
        self._seen, self._tracker = Seen(), Tracker()
        self._segments = self._make_publisher(PointCloud2, "~/output/segments", RELIABLE, managed=True)

    # Data: the whole way of a cloud

    def _on_points(self, cloud: PointCloud2) -> None:
        self._heard_s = time.monotonic()
        self._statistics.received()
        self._follow_time(cloud.header.stamp)
        self._put(Frame(cloud))

    def _work(self, frame: Frame) -> None:
        cloud, config, timed, lookup = frame.cloud, self._config, self._statistics.timed, self._lookup()
        header = cloud.header
        with timed("total"):
            with timed("decode"):
                stand = standpoint(header.frame_id, header.stamp, config.frames, lookup)
                turn, shift = to_fixed_frame(header.frame_id, header.stamp, config.fixed_frame, lookup)
                points = all_points(cloud)
            with timed("segment"):
                labels = segment(points, stand.up, stand.viewpoint, config.segmenter)
                numbers = self._numbered(points, labels, nanoseconds(header.stamp) / 1e9, turn, shift)
            with timed("publish"):
                self._publish(cloud, points, numbers, config)
        self._say(labels)

    def _numbered(
        self, points: np.ndarray, labels: np.ndarray, stamp_s: float, turn: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        """(N,) uint32: the labels with the number in place that each object had when it was seen before."""
        rows = np.flatnonzero(labels >= FIRST_OBJECT)
        rows = rows[np.argsort(labels[rows], kind="stable")]
        counts = np.bincount(labels[rows] - FIRST_OBJECT)
        first = np.cumsum(counts) - counts
        places = points[rows] @ turn.T + shift
        centres = np.add.reduceat(places, first) / counts[:, None] if len(rows) else places
        sizes = np.maximum.reduceat(places, first) - np.minimum.reduceat(places, first) if len(rows) else places
        tracks = self._tracker.update(stamp_s, [""] * len(centres), centres, sizes)
        return np.array([0, TABLE, *(TABLE + track for track in tracks)], np.uint32)[labels]

    def _publish(
        self, cloud: PointCloud2, points: np.ndarray, numbers: np.ndarray, config: SegmenterNodeConfig
    ) -> None:
        shape: tuple[int, ...] = (cloud.height, cloud.width) if cloud.height > 1 else (-1,)
        if config.objects_only:
            shape, kept = (-1,), numbers > TABLE
            points, numbers = points[kept], numbers[kept]
        columns = {name: points[:, axis].reshape(shape) for axis, name in enumerate("xyz")}
        labelled = write_cloud({**columns, FIELD: numbers.reshape(shape)})
        self._segments.publish(cloud_message(labelled, cloud.header))

    def _say(self, labels: np.ndarray) -> None:
        self._seen = Seen(max(int(labels.max(initial=0)) - TABLE, 0), bool((labels == TABLE).any()))
        if not self._seen.plane:
            self._statistics.count("without_plane")
            found = (
                "no support plane in the cloud, so no objects: is 'up' the direction against gravity in the cloud's "
                "frame, is the table within 'max_range' and larger than 'min_plane_area'?"
            )
            self._statistics.trouble(found)
            self._warn("plane", found)

    # Lifecycle

    def _configure(self) -> None:
        self._config.check()
        self._adopt(self._config)
        self._configured = True

    def _open(self) -> None:
        """The input is subscribed only now: whoever sees a subscriber knows that it listens."""
        self._begin_work()
        self._listen(PointCloud2, "~/input/points", self._on_points, qos_profile_sensor_data, newest=True)
        self.get_logger().info(f"segmenting {self._points_topic} to {self._segments.topic_name}")

    def _let_go(self) -> None:
        self._configured = False

    # Parameters, and what the node says of itself

    def _on_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        try:
            config = changed(self._config, own(self._config, parameters), configured=self._configured)
            if self._configured:
                self._adopt(config)
        except Exception as error:  # refused in words, and everything stays as it was
            return SetParametersResult(successful=False, reason=sentence(error))
        self._config = config
        return SetParametersResult(successful=True)

    def _adopt(self, config: SegmenterNodeConfig) -> None:
        """Transforms and tracker for a configuration; raises, changing nothing, where tf2 is wanted and missing."""
        asks = config.frames.asks or bool(config.fixed_frame)
        self._transforms = fitting(self._transforms, self, asks, config.tf_timeout_s)
        self._tracker.config = config.tracker
        if config.fixed_frame != self._config.fixed_frame:
            self._tracker.clear()  # places of another frame

    def _forget(self) -> None:
        super()._forget()
        self._tracker.clear()

    @property
    def _loaded(self) -> bool:
        return self._configured

    def _figures(self) -> dict[str, str]:
        return {"objects": str(self._seen.objects)}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`ros2 run clipoint3d_ros segmenter_node`; SIGINT and SIGTERM end it cleanly."""
    leave(run("segmenter_node", (SegmenterNode,), arguments))


if __name__ == "__main__":
    main()
