"""Writing labelled bags (their format: `bags`), without ROS."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from clipoint3d_ros.evaluation.bags import POINTS_TOPIC, SECOND, BagError, Topics, TrueObject
from clipoint3d_ros.evaluation.message_types import DETECTIONS, POINTS, typestore

_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("instance_id", "<u4")])
_FLOAT32, _UINT32 = 7, 6  # sensor_msgs/PointField datatypes


class BagWriter:
    """Writes a labelled bag; the bag appears under its name only when complete.

    Args:
        path: the bag's folder, which must not exist.
        topics: the topics' names.
        storage: "mcap" (chunks compressed) or "sqlite3".

    Raises:
        BagError: the path exists, or the storage is another.
    """

    def __init__(self, path: str | Path, topics: Topics | None = None, storage: str = "mcap") -> None:
        self.path = Path(path)
        if storage not in ("mcap", "sqlite3"):
            raise BagError(f"storage must be mcap or sqlite3, but is '{storage}'")
        if self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another name")
        self._topics = topics or Topics()
        self._storage = StoragePlugin[storage.upper()]

    def __enter__(self) -> BagWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._shelter = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
        # The storage file is named after the folder, so the folder carries its final name from the start.
        self._writer = Writer(self._shelter / self.path.name, version=9, storage_plugin=self._storage)
        if self._storage == StoragePlugin.MCAP:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        add = self._writer.add_connection
        self._points = add(self._topics.points or POINTS_TOPIC, POINTS, typestore=typestore())
        self._truth = add(self._topics.truth, DETECTIONS, typestore=typestore())
        return self

    def write(
        self, stamp: int, frame_id: str, xyz: np.ndarray, instance: np.ndarray, objects: Sequence[TrueObject]
    ) -> None:
        """Add one cloud and its truth.

        Args:
            stamp: ns, of both headers and of the bag.
            frame_id: of both headers.
            xyz: (N, 3) or organised (H, W, 3) metres, NaN where nothing came back.
            instance: (N,) or (H, W) ids.
            objects: those whose name is known.
        """
        header = self._header(stamp, frame_id)
        for connection, message in (
            (self._points, _point_cloud(header, xyz, instance)),
            (self._truth, _detection_array(header, objects)),
        ):
            self._writer.write(connection, stamp, typestore().serialize_cdr(message, connection.msgtype))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                (self._shelter / self.path.name).rename(self.path)
        finally:
            shutil.rmtree(self._shelter, ignore_errors=True)

    @staticmethod
    def _header(stamp: int, frame_id: str) -> Any:
        types = typestore().types
        time = types["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND)
        return types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def _point_cloud(header: Any, xyz: np.ndarray, instance: np.ndarray) -> Any:
    types = typestore().types
    packed = np.empty(instance.shape, _POINT)
    for axis, name in enumerate("xyz"):
        packed[name] = xyz[..., axis]
    packed["instance_id"] = instance
    height, width = instance.shape if instance.ndim == 2 else (1, len(instance))
    field = types["sensor_msgs/msg/PointField"]
    return types[POINTS](
        header=header,
        height=height,
        width=width,
        fields=[field(name=n, offset=4 * i, datatype=_FLOAT32, count=1) for i, n in enumerate("xyz")]
        + [field(name="instance_id", offset=12, datatype=_UINT32, count=1)],
        is_bigendian=False,
        point_step=_POINT.itemsize,
        row_step=_POINT.itemsize * width,
        data=packed.reshape(-1).view(np.uint8),
        is_dense=bool(np.isfinite(xyz).all()),
    )


def _detection_array(header: Any, objects: Sequence[TrueObject]) -> Any:
    types = typestore().types
    vector, quaternion = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
    point, pose = types["geometry_msgs/msg/Point"], types["geometry_msgs/msg/Pose"]
    upright = quaternion(x=0.0, y=0.0, z=0.0, w=1.0)

    def detection(known: TrueObject) -> Any:
        where = pose(position=point(*map(float, known.center)), orientation=upright)
        hypothesis = types["vision_msgs/msg/ObjectHypothesisWithPose"](
            hypothesis=types["vision_msgs/msg/ObjectHypothesis"](class_id=known.name, score=1.0),
            pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=where, covariance=np.zeros(36)),
        )
        return types["vision_msgs/msg/Detection3D"](
            header=header,
            results=[hypothesis] if known.name else [],
            bbox=types["vision_msgs/msg/BoundingBox3D"](center=where, size=vector(*map(float, known.size))),
            id=known.id,
        )

    return types[DETECTIONS](header=header, detections=[detection(o) for o in objects])
