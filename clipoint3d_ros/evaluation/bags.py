"""Labelled bags: clouds and, with the same stamps, who is who in them. Read without ROS.

A labelled bag is a rosbag2 (mcap or sqlite3) with two topics:

| topic | type | content |
|---|---|---|
| `/segments` | sensor_msgs/PointCloud2 | what the perception node takes in |
| `/ground_truth` | vision_msgs/Detection3DArray | the objects whose name is known, one message for each cloud |

A truth message belongs to the cloud with the same header stamp, and a truth object to the segment with the same
`id` (for a labelled cloud: the instance field's value as a decimal string). Its name is the `class_id` of its best
hypothesis. A cloud that is one object needs no id. Segments that truth does not list, or lists without a
hypothesis, are recognised but not scored.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from clipoint3d_ros.evaluation.message_types import DETECTIONS, POINTS, typestore

POINTS_TOPIC = "/segments"
TRUTH_TOPIC = "/ground_truth"
SECOND = 1_000_000_000  # ns
_LARGEST_METADATA = 16 << 20  # bytes of metadata.yaml; a thousand topics are a few hundred thousand
_MERGE = re.compile(r"<<|!!merge|!<|^%", re.MULTILINE)  # YAML's ways to one mapping within another


class BagError(ValueError):
    """A bag cannot be used; the message is a sentence that names it."""


@dataclass(frozen=True)
class Topics:
    """Where a labelled bag keeps its two streams.

    points None takes `/segments`, or in a bag without it the only PointCloud2 topic there is. truth "" asks for none:
    such a bag can be played, not scored.
    """

    points: str | None = None
    truth: str = TRUTH_TOPIC


class TrueObject(NamedTuple):
    """One object of the truth.

    id: the segment's. name: its class, "" where truth does not say. center, size: (3,) metres, the axis-aligned box
    in the cloud's frame.
    """

    id: str
    name: str
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Cloud(NamedTuple):
    """One recorded cloud: header stamp (ns), the bag's own time (ns), the serialised PointCloud2."""

    stamp: int
    time: int
    cdr: bytes

    def at(self, stamp: int) -> Cloud:
        """The same cloud as if taken at another moment (ns)."""
        sec, nanosec = divmod(stamp, SECOND)
        cdr = bytearray(self.cdr)
        struct.pack_into("<iI" if cdr[1] & 1 else ">iI", cdr, 4, sec, nanosec)
        return Cloud(stamp, self.time, bytes(cdr))


class LabelledBag:
    """A bag's clouds and truth, read anew at every call so that nothing large stays in memory.

    Raises:
        BagError: on construction and on reading, where the bag is missing, broken or not labelled as expected.
    """

    def __init__(self, path: str | Path, topics: Topics | None = None) -> None:
        self.path = Path(path)
        topics = topics or Topics()
        with self._open() as reader:
            listing = {c.topic: c.msgtype for c in reader.connections}
        if not all(isinstance(word, str) for pair in listing.items() for word in pair):
            raise BagError(f"{self.path} cannot be read as a rosbag2: its metadata.yaml has topics that are no names")
        self.points_topic = self._find_points(listing, topics.points)
        self.truth_topic = topics.truth
        self._demand(listing, self.points_topic, POINTS, "--points-topic")
        if self.truth_topic:
            self._demand(listing, self.truth_topic, DETECTIONS, "--truth-topic")

    def clouds(self) -> Iterator[Cloud]:
        """The clouds in the order they were recorded."""
        with self._open() as reader:
            for _, time, cdr in reader.messages(self._connections(reader, self.points_topic)):
                yield Cloud(self._stamp(cdr), time, bytes(cdr))

    def truth(self) -> dict[int, tuple[TrueObject, ...]]:
        """{stamp in ns: the objects of the cloud with that stamp}."""
        found: dict[int, tuple[TrueObject, ...]] = {}
        with self._open() as reader:
            for _, _, cdr in reader.messages(self._connections(reader, self.truth_topic)):
                message: Any = self._decode(cdr, DETECTIONS, self.truth_topic)
                stamp = message.header.stamp.sec * SECOND + message.header.stamp.nanosec
                objects = tuple(_true_object(detection) for detection in message.detections)
                self._check_ids(objects, stamp)
                if found.setdefault(stamp, objects) != objects:
                    raise BagError(
                        f"{self.path}: two different truths on {self.truth_topic} for stamp {say_stamp(stamp)}"
                    )
        return found

    def decode(self, cloud: Cloud) -> Any:
        """The cloud as a PointCloud2-shaped object (fields by ROS's names, data as a numpy array)."""
        return self._decode(cloud.cdr, POINTS, self.points_topic)

    @contextmanager
    def _open(self) -> Iterator[Reader]:
        if not self.path.exists():
            raise BagError(f"no bag at {self.path}")
        if self.path.suffix == ".bag":
            raise BagError(f"{self.path} is a ROS 1 bag; convert it: rosbags-convert --src {self.path} --dst DIR")
        if not (self.path.is_dir() or self.path.is_file()):
            raise BagError(f"{self.path} is neither a folder nor a file, so it is no bag")
        self._check_metadata(self.path / "metadata.yaml")
        try:
            with Reader(self.path) as reader:
                yield reader
        except BagError:
            raise
        except Exception as error:  # rosbags lets its decoders' own errors through, of a dozen types
            raise BagError(
                f"{self.path} cannot be read as a rosbag2 (mcap or sqlite3): {str(error) or repr(error)}"
            ) from error

    def _check_metadata(self, metadata: Path) -> None:
        """What a hostile metadata.yaml could keep a YAML reader busy with for ever."""
        if not metadata.exists():
            return
        if not metadata.is_file():
            raise BagError(f"{metadata} is no file, so {self.path} is no bag")
        if metadata.stat().st_size > _LARGEST_METADATA:
            raise BagError(
                f"{metadata} has {metadata.stat().st_size} bytes; a bag's has at most {_LARGEST_METADATA}: no "
                "recorder wrote it"
            )
        if _MERGE.search(metadata.read_text(encoding="utf-8", errors="replace")):
            raise BagError(
                f"{metadata} merges YAML mappings, which no recorder does and ten lines of keep a reader busy for days"
            )

    def _find_points(self, listing: dict[str, str], wanted: str | None) -> str:
        if wanted is not None or POINTS_TOPIC in listing:
            return wanted or POINTS_TOPIC
        clouds = [topic for topic, kind in listing.items() if kind == POINTS]
        if len(clouds) == 1:
            return clouds[0]
        raise BagError(
            f"{self.path} has no topic {POINTS_TOPIC} but {len(clouds)} of {POINTS}"
            f"{': ' + ', '.join(sorted(clouds)) if clouds else ''}; name one with --points-topic"
        )

    def _demand(self, listing: dict[str, str], topic: str, kind: str, option: str) -> None:
        others = ", ".join(sorted(t for t, k in listing.items() if k == kind)) or "none"
        if topic not in listing:
            raise BagError(f"{self.path} has no topic {topic}; its topics of {kind}: {others}; choose with {option}")
        if listing[topic] != kind:
            raise BagError(
                f"{self.path}: {topic} is {listing[topic]}, not {kind}; topics of that type: {others}; "
                f"choose with {option}"
            )

    def _connections(self, reader: Reader, topic: str) -> list[Connection]:
        return [c for c in reader.connections if c.topic == topic]

    def _decode(self, cdr: bytes, kind: str, topic: str) -> Any:
        try:
            return typestore().deserialize_cdr(cdr, kind)
        except Exception as error:  # cut or foreign bytes end in errors of many types
            raise BagError(
                f"{self.path}: a message on {topic} does not decode as {kind} (another version of the message "
                f"package, or a damaged bag): {str(error) or repr(error)}"
            ) from error

    def _stamp(self, cdr: bytes) -> int:
        """ns, read where the header lies, so that nobody has to decode megabytes for it."""
        if len(cdr) < 12:
            raise BagError(f"{self.path}: a message on {self.points_topic} has {len(cdr)} bytes, too few for a cloud")
        sec, nanosec = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
        return int(sec) * SECOND + int(nanosec)

    def _check_ids(self, objects: Sequence[TrueObject], stamp: int) -> None:
        ids = [o.id for o in objects]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise BagError(
                f"{self.path}: truth at stamp {say_stamp(stamp)} lists the id '{twice}' twice; objects are matched "
                "by id"
            )


def _true_object(detection: Any) -> TrueObject:
    best = max(detection.results, key=lambda r: r.hypothesis.score, default=None)
    center, size = detection.bbox.center.position, detection.bbox.size
    return TrueObject(
        id=detection.id,
        name="" if best is None else best.hypothesis.class_id,
        center=(center.x, center.y, center.z),
        size=(size.x, size.y, size.z),
    )


def say_stamp(stamp: int) -> str:
    """A stamp (ns) in seconds, for people."""
    return f"{stamp // SECOND}.{stamp % SECOND:09d} s"
