"""What a replay yields, whichever way it ran: frames with their truth, and the answers that came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from clipoint3d_ros.evaluation.bags import SECOND, BagError, LabelledBag, TrueObject, say_stamp
from clipoint3d_ros.nodes.layout import CloudError
from clipoint3d_ros.nodes.pointcloud import SegmentConfig, read_segments


class FrameKey(NamedTuple):
    """One frame among all bags: the bag's place in the list and the header stamp (ns)."""

    bag: int
    stamp: int


@dataclass(frozen=True)
class Frame:
    """One stamp of a labelled bag.

    time: seconds into the stream, the bags laid end to end.
    objects: the truth.
    segments: ids of the objects the cloud carries, as far as the cloud itself tells.
    recorded: whether the bag holds a cloud of this stamp; truth without one cannot be answered.
    """

    key: FrameKey
    time: float
    objects: tuple[TrueObject, ...]
    segments: frozenset[str] = frozenset()
    recorded: bool = True


class Answer(NamedTuple):
    """One object's best hypothesis: a class name or "unknown", and its score in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class FrameAnswer:
    """What came back for one frame.

    objects: {segment id: answer}. latency: seconds from sending the cloud to having the answer. version: of the
    adapter that answered, 0 for the frozen model.
    """

    objects: Mapping[str, Answer]
    latency: float
    version: int = 0


@dataclass(frozen=True)
class Replayed:
    """A whole replay: the classes in force, and the frozen model's answers, with the adapter's where one was live."""

    classes: tuple[str, ...]
    frozen: Mapping[FrameKey, FrameAnswer]
    adapted: Mapping[FrameKey, FrameAnswer] | None = None

    @property
    def served(self) -> Mapping[FrameKey, FrameAnswer]:
        """What the robot was told: the adapter's answers where one was asked for."""
        return self.frozen if self.adapted is None else self.adapted


def survey(bags: Sequence[LabelledBag], segments: SegmentConfig | None = None) -> Iterable[Frame]:
    """Every frame of the bags with its truth, in recorded order; truth without a cloud comes after its bag's clouds.

    The whole of each bag is read once, so that a damaged one is found before anything is replayed.

    Raises:
        BagError: a bag has no clouds, two clouds of one stamp, or no truth that belongs to any cloud.
    """
    offset = 0
    for number, bag in enumerate(bags):
        truth = bag.truth()
        stamps: dict[int, None] = {}
        start = None
        for cloud in bag.clouds():
            if cloud.stamp in stamps:
                raise BagError(
                    f"{bag.path}: two clouds on {bag.points_topic} carry the stamp {say_stamp(cloud.stamp)}; answers "
                    "are matched by stamp, so every cloud needs its own"
                )
            stamps[cloud.stamp] = None
            start = cloud.stamp if start is None else start
            yield Frame(
                key=FrameKey(number, cloud.stamp),
                time=(offset + cloud.stamp - start) / SECOND,
                objects=truth.get(cloud.stamp, ()),
                segments=_segment_ids(bag.decode(cloud), segments),
            )
        if start is None:
            raise BagError(f"{bag.path} has no message on {bag.points_topic}")
        if not truth.keys() & stamps.keys():
            raise BagError(
                f"{bag.path}: none of the {len(truth)} messages on {bag.truth_topic} carries the stamp of one of the "
                f"{len(stamps)} clouds on {bag.points_topic} (the first: {say_stamp(start)}); truth must repeat the "
                "cloud's header stamp exactly"
            )
        for stamp in sorted(truth.keys() - stamps.keys()):
            key = FrameKey(number, stamp)
            yield Frame(key, (offset + stamp - start) / SECOND, truth[stamp], recorded=False)
        offset += length(list(stamps))


def length(stamps: Sequence[int]) -> int:
    """What a bag takes up of a stream in ns: the next one follows after one more of its mean periods.

    Args:
        stamps: of its clouds, in recorded order, at least one.
    """
    return (max(stamps) - stamps[0]) * len(stamps) // max(len(stamps) - 1, 1)


def end_to_end(bags: Sequence[Sequence[Frame]]) -> list[Frame]:
    """The frames of bags that were surveyed one by one, as if they had been together."""
    frames, offset = [], 0
    for number, bag in enumerate(bags):
        stamps = [frame.key.stamp for frame in bag if frame.recorded]
        for frame in bag:
            stamp = frame.key.stamp
            time = (offset + stamp - stamps[0]) / SECOND
            frames.append(replace(frame, key=FrameKey(number, stamp), time=time))
        offset += length(stamps)
    return frames


def _segment_ids(cloud: object, config: SegmentConfig | None) -> frozenset[str]:
    try:
        return frozenset(segment.id for segment in read_segments(cloud, config or SegmentConfig()))
    except CloudError:
        return frozenset()  # the replay meets the same cloud and reports on it
