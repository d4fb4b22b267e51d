"""Bags through the real perception node, over DDS.

The node runs as a process of its own. This side plays the sensor (the bag's bytes go out as they are) and listens
to the answers. In lock-step every cloud waits for the answer to the one before, which measures accuracy; at a
rate nothing waits, which measures what the node can bear: it takes the newest cloud only, and clouds it never
answers are drops.
"""

from __future__ import annotations

import logging
import math
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray, VisionInfo

from clipoint3d_ros.evaluation.answers import Answer, FrameAnswer, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import SECOND, Cloud, LabelledBag
from clipoint3d_ros.evaluation.node_process import COMPANION, Graph, NodeProcess, ReplayError, environment
from clipoint3d_ros.nodes.evidence import COLUMNS, read_rows
from clipoint3d_ros.nodes.parameters import build
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

_logger = logging.getLogger(__name__)

_LONG_S = 15.0  # a companion that knows its source is up before
_PROBE = -1  # stamp (ns) of the blank cloud that finds out whether the node listens; no recorded cloud has it

# As a sensor publishes; depth for a moment's congestion at high rates.
_SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_ANSWERS = QoSProfile(depth=0, history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class ReplayConfig:
    """How bags are played.

    adapt: "off", or the mode of an adaptation node that runs beside perception, with an empty memory.
    wait: send the next cloud after the answer, instead of at the bag's pace.
    rate: times the bag's pace, without `wait`.
    timeout: seconds to wait for an answer before the frame counts as dropped.
    start_timeout: seconds for the node to load its model and be found.
    namespace: where in this shell's ROS domain the topics are, for others to see; "": apart from everybody.
    companion: parameters of the adaptation node, beside those that both nodes share.
    """

    adapt: str = "off"
    wait: bool = False
    rate: float = 1.0
    timeout: float = 30.0
    start_timeout: float = 900.0  # a companion looks at its whole source when it first starts
    namespace: str = ""
    companion: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.001 <= self.rate <= 1000:
            raise ValueError(f"the rate must lie between 0.001 and 1000 times the bag's pace, but is {self.rate:g}")
        if not (self.timeout > 0 and self.start_timeout > 0):
            raise ValueError(f"time-outs must be above 0 s, but are {self.timeout:g} and {self.start_timeout:g}")


def replay(
    bags: Sequence[LabelledBag],
    classes: Sequence[str],
    parameters: Mapping[str, Any],
    config: ReplayConfig | None = None,
    told: Callable[[int], object] = lambda frames: None,
) -> Replayed:
    """Start the node, play the bags to it, collect its answers.

    Args:
        bags: played one after another to the same node.
        classes: the names the node's answers choose from.
        parameters: of the node; with a `bundle`, its frozen answers are taken in as well.
        config: pace and time-outs.
        told: called with the number of frames sent since the last call.

    Returns:
        The answers, and how long each took from sending the cloud to having the answer.

    Raises:
        ReplayError: the node does not start, does not answer, or ends; the message quotes its last output.
    """
    config = config or ReplayConfig()
    served: dict[FrameKey, FrameAnswer] = {}
    frozen: dict[FrameKey, FrameAnswer] = {}
    with robot(parameters, config) as (_, sensor, node, _):
        for number, bag in enumerate(bags):
            play = in_step if config.wait else at_rate
            play(bag.clouds(), sensor, node, config, told)
            for answers, found in ((served, sensor.answers()), (frozen, sensor.frozen_answers())):
                answers.update({FrameKey(number, stamp): answer for stamp, answer in found.items()})
    beside = bool(parameters.get("bundle")) or config.adapt != "off"
    return Replayed(tuple(classes), frozen, served) if beside else Replayed(tuple(classes), served)


class Robot(NamedTuple):
    """What `robot` started: its ROS graph, this side of it, perception, and the companion where one is asked for."""

    graph: Graph
    sensor: Sensor
    node: NodeProcess
    companion: NodeProcess | None


@contextmanager
def robot(
    parameters: Mapping[str, Any], config: ReplayConfig, frozen: bool = True, **companion: Any
) -> Iterator[Robot]:
    """Perception, and a companion where one is asked for, as processes that are up and heard.

    Args:
        parameters: of perception. config: which companion, where, and how long they may take.
        frozen: whether the frozen model's answers are listened to, where it is not the frozen model that answers.
        companion: parameters of the companion's own.

    Raises:
        ReplayError: a node does not start, or is not found.
    """
    graph = Graph.seen_by_others(config.namespace) if config.namespace else Graph()
    bundled, adapting = frozen and bool(parameters.get("bundle")), frozen and config.adapt != "off"
    # The node is left first: Fast DDS 3.2 with LARGE_DATA, where that was chosen, may wait for ever for an open TCP
    # channel when a participant is destroyed. A node ends itself by an alarm, and its channels are closed for our end.
    with (
        environment(graph.environment()),
        sensing(graph, bundled, adapting) as sensor,
        NodeProcess(graph, parameters) as node,
        companion_beside(graph, parameters, config, **companion) as beside,
    ):
        probe = probe_cloud(parameters)
        sensor.find(node, probe, config.start_timeout)
        if beside is not None:
            sensor.find_companion(beside, node, probe, config.start_timeout)
        yield Robot(graph, sensor, node, beside)


@contextmanager
def companion_beside(
    graph: Graph, parameters: Mapping[str, Any], config: ReplayConfig, **more: Any
) -> Iterator[NodeProcess | None]:
    """The adaptation node beside perception, where one is asked for; what it learns is forgotten afterwards.

    Args:
        parameters: perception's, of which it shares what names the model. more: its own.
    """
    if config.adapt == "off":
        yield None
        return
    shared = {
        name: parameters[name]
        for name in ("backbone", "pretrained", "patches", "classes", "device")
        if name in parameters
    }
    with tempfile.TemporaryDirectory(prefix="clipoint3d-adaptation-") as folder:
        own: dict[str, Any] = {"mode": config.adapt, "live_folder": f"{folder}/live", "state_folder": f"{folder}/state"}
        if config.wait:  # no time passes for the robot: what holds the companion back must not be measured
            own |= {"hand_over_s": 0.0, "duty_cycle": 1.0}
        given = {**config.companion, **shared, **own, **more}
        with NodeProcess(graph, given, COMPANION, "adaptation") as node:
            yield node


def in_step(
    clouds: Iterator[Cloud], sensor: Sensor, node: NodeProcess, config: ReplayConfig, told: Callable[[int], object]
) -> None:
    """Each cloud after the answer to the one before."""
    sensor.begin()
    for cloud in clouds:
        sensor.send(cloud)
        if sensor.await_answer(cloud.stamp, config.timeout, node):
            sensor.await_learning(cloud.stamp, config.timeout)
        told(1)


def at_rate(
    clouds: Iterator[Cloud], sensor: Sensor, node: NodeProcess, config: ReplayConfig, told: Callable[[int], object]
) -> None:
    """Each cloud when its time has come, whether or not the one before is answered."""
    sensor.begin()
    start, first, last = time.monotonic(), None, None
    for cloud in clouds:  # the next cloud is read before the sleep, so that reading does not delay it
        first = cloud.time if first is None else first
        due = start + (cloud.time - first) / SECOND / config.rate
        time.sleep(max(0.0, due - time.monotonic()))
        node.check()
        sensor.send(cloud)
        last = cloud.stamp
        told(1)
    if last is not None:
        sensor.await_answer(last, config.timeout, node)  # answers come in order: after the last there are no more


class Sensor:
    """The replay's end of the wire: sends clouds, notes when, and takes in the answers of one bag at a time.

    With `bundled` or `adapting`, an answer is whole when the frozen model's of the same stamp is here too; with
    `bundled`, the adapter's version must be known as well. With `adapting`, versions change from one frame to the next
    and the announcement of one may come before or after the frames around it, so that each frame's own evidence says
    which version answered it.
    """

    def __init__(self, context: Any, graph: Graph, bundled: bool, adapting: bool) -> None:
        self._node = rclpy.create_node("replay", namespace=graph.namespace, context=context)
        self._points = self._node.create_publisher(PointCloud2, "perception/input/points", _SENSOR)
        self._answer_topic = self._node.create_subscription(
            Detection3DArray, "perception/output/detections", self._on_detections, _ANSWERS
        )
        self._bundled, self._adapting = bundled, adapting
        self._learned: set[int] = set()
        self._versions: dict[int, int] = {}
        self._node.create_subscription(Header, "adaptation/output/learned", self._on_learned, _ANSWERS)
        if adapting:
            self._node.create_subscription(Image, "perception/output/evidence", self._on_evidence, _ANSWERS)
        if bundled or adapting:
            self._node.create_subscription(
                Detection3DArray, "perception/output/frozen_detections", self._on_frozen_detections, _ANSWERS
            )
        self._node.create_subscription(VisionInfo, "perception/output/vision_info", self._on_vision_info, _LATCHED)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._arrival = threading.Condition()
        self._sent: dict[int, float] = {}
        self._answers: dict[int, FrameAnswer] = {}
        self._frozen: dict[int, FrameAnswer] = {}
        self._version = 0
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def find(self, node: NodeProcess, probe: PointCloud2, timeout: float) -> None:
        """Return once the node has answered a blank cloud: both directions stand, and the model is loaded.

        Matched end points alone are not enough: the other side may not have matched yet, and would lose the
        first cloud.
        """
        deadline = time.monotonic() + timeout
        self.begin()
        while not self.await_answer(_PROBE, 0.2, node):
            if node.failed():
                raise ReplayError(f"the perception node cannot configure; {node.last_words()}")
            if time.monotonic() > deadline:
                heard = "listens, but does not answer" if self._points.get_subscription_count() else "is not listening"
                raise ReplayError(f"the perception node {heard} after {timeout:g} s; {node.last_words()}")
            if self._points.get_subscription_count():
                self._sent.setdefault(_PROBE, time.monotonic())
                self._points.publish(probe)

    def find_companion(self, node: NodeProcess, perception: NodeProcess, probe: PointCloud2, timeout: float) -> None:
        """Return once the adaptation node has been through a blank cloud's answer: it hears all parts of one."""
        began = time.monotonic()
        deadline, told = began + timeout, False
        while not self._is_through(_PROBE, 0.5):
            if not told and time.monotonic() > began + _LONG_S:
                told = True
                _logger.warning("the companion first looks at its source: minutes, once for a model and its classes")
            node.check()
            perception.check()
            self._points.publish(probe)
            if node.failed():
                raise ReplayError(f"the adaptation node cannot configure; {node.last_words()}")
            if time.monotonic() > deadline:
                raise ReplayError(
                    f"the adaptation node is not listening after {timeout:g} s; {node.abort()}\nperception, beside it: "
                    f"{perception.abort()}"
                )

    def await_learning(self, stamp: int, timeout: float) -> bool:
        """Whether the adaptation node was through with a frame within `timeout` seconds; at once without that node."""
        return not self._adapting or self._is_through(stamp, timeout)

    def _is_through(self, stamp: int, timeout: float) -> bool:
        with self._arrival:
            return self._arrival.wait_for(lambda: stamp in self._learned, timeout)

    def begin(self) -> None:
        """Forget what came before; a new bag may repeat the stamps of the last."""
        with self._arrival:
            self._sent, self._answers, self._frozen, self._learned, self._versions = {}, {}, {}, set(), {}

    def send(self, cloud: Cloud) -> None:
        """Publish the recorded bytes as they are; decoding and encoding megabytes would only cost time."""
        with self._arrival:
            self._sent[cloud.stamp] = time.monotonic()
        self._points.publish(cloud.cdr)

    def await_answer(self, stamp: int, timeout: float, node: NodeProcess) -> bool:
        """Whether the answer to `stamp` came within `timeout` seconds; ReplayError where the node has ended."""
        deadline = time.monotonic() + timeout
        with self._arrival:
            while not self._whole(stamp):
                node.check()
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._arrival.wait(min(left, 0.5))
        return True

    def answers(self) -> dict[int, FrameAnswer]:
        """{stamp: answer} since `begin`, each with the version that its evidence names."""
        with self._arrival:
            return {
                stamp: replace(answer, version=self._versions.get(stamp, answer.version))
                for stamp, answer in self._answers.items()
            }

    def frozen_answers(self) -> dict[int, FrameAnswer]:
        """{stamp: the frozen model's answer} since `begin`; none without a bundle."""
        with self._arrival:
            return dict(self._frozen)

    def listen(self, kind: Any, topic: str, told: Callable[[Any], None]) -> None:
        """Take in one more topic; `told` gets each message on the listening thread."""
        self._node.create_subscription(kind, topic, told, _ANSWERS)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(timeout=5)
        self._node.destroy_node()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _whole(self, stamp: int) -> bool:
        if stamp not in self._answers:
            return False
        beside = stamp in self._frozen or not (self._bundled or self._adapting)
        if self._adapting and self._answers[stamp].objects and stamp not in self._versions:
            return False
        return beside and (self._version > 0 or not self._bundled)

    def _on_learned(self, header: Header) -> None:
        with self._arrival:
            self._learned.add(header.stamp.sec * SECOND + header.stamp.nanosec)
            self._arrival.notify_all()

    def _on_evidence(self, image: Image) -> None:
        rows = read_rows(image)
        with self._arrival:
            if len(rows):
                stamp = image.header.stamp.sec * SECOND + image.header.stamp.nanosec
                self._versions[stamp] = int(rows[0, COLUMNS.index("version")])
                self._arrival.notify_all()

    def _on_detections(self, detections: Detection3DArray) -> None:
        self._take_in(detections, frozen=False)

    def _on_frozen_detections(self, detections: Detection3DArray) -> None:
        self._take_in(detections, frozen=True)

    def _take_in(self, detections: Detection3DArray, frozen: bool) -> None:
        now = time.monotonic()
        stamp = detections.header.stamp.sec * SECOND + detections.header.stamp.nanosec
        with self._arrival:
            answers, version = (self._frozen, 0) if frozen else (self._answers, self._version)
            if stamp in self._sent and stamp not in answers:
                answers[stamp] = FrameAnswer(_objects(detections), now - self._sent[stamp], version)
                self._arrival.notify_all()

    def _on_vision_info(self, info: VisionInfo) -> None:
        with self._arrival:
            self._version = info.database_version
            self._arrival.notify_all()


@contextmanager
def sensing(graph: Graph, bundled: bool, adapting: bool) -> Iterator[Sensor]:
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=graph.domain)
    try:
        sensor = Sensor(context, graph, bundled, adapting)
        try:
            yield sensor
        finally:
            sensor.close()
    finally:
        rclpy.try_shutdown(context=context)


def _objects(detections: Detection3DArray) -> dict[str, Answer]:
    best = {d.id: max(d.results, key=lambda r: r.hypothesis.score) for d in detections.detections if d.results}
    return {i: Answer(result.hypothesis.class_id, result.hypothesis.score) for i, result in best.items()}


def probe_cloud(parameters: Mapping[str, Any]) -> PointCloud2:
    """One point of nothing but NaN, with the label fields a node of those parameters looks for: well formed, and
    without an object."""
    names = ("x", "y", "z", *build(PerceptionConfig, dict(parameters)).instance_field)
    step = 4 * len(names)
    cloud = PointCloud2(height=1, width=1, point_step=step, row_step=step, is_dense=False)
    cloud.fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate(names)]
    cloud.data = array("B", array("f", [math.nan] * len(names)).tobytes())
    cloud.is_bigendian = sys.byteorder == "big"
    cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(_PROBE, SECOND)
    return cloud
