"""How fast the node's own way is, in the manner of ros2_benchmark: the peak rate first, then fixed rates with the
frames missed and the jitter of the answers.

The node runs as a process of its own, as on a robot; this side plays a camera over DDS and listens to the detections.
With a stub in the model's place everything from DDS to DDS is measured but the model.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from clipoint3d_ros.evaluation.node_process import NODE, Graph, NodeProcess, ReplayError, environment
from clipoint3d_ros.nodes.detections import segment_boxes
from clipoint3d_ros.nodes.pointcloud import Cloud, cloud_message, read_segments, write_cloud
from clipoint3d_ros.nodes.program import keep_freed_memory
from clipoint3d_ros.nodes.wire import detection_writer
from clipoint3d_ros.recognition.recognition import Recognition

STUB = "clipoint3d_ros.evaluation.stub_node"
_STAGES = ("decode", "project", "encode", "decide", "publish", "total")
_LATE_S = 1.0  # after the last cloud, for its answer


@dataclass(frozen=True)
class NodeSpeedConfig:
    """What is played to the node.

    rates: Hz, one after another. seconds: each. peak_seconds: of the search for the peak rate.
    height, width: pixels of the camera; objects: labelled in its image.
    model: the real one in place of the stub, with its `parameters`.
    start_timeout: seconds for the node to load and be found.
    """

    rates: tuple[float, ...] = (10.0, 30.0, 60.0)
    seconds: float = 10.0
    peak_seconds: float = 5.0
    height: int = 480
    width: int = 640
    objects: int = 15
    model: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    start_timeout: float = 120.0

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0 or min(self.seconds, self.peak_seconds) <= 0:
            raise ValueError(
                f"rates {self.rates} Hz, {self.seconds:g} s each and {self.peak_seconds:g} s of peak must be above 0"
            )


@dataclass(frozen=True)
class RateSpeed:
    """What one rate gave.

    rate, sent_rate: Hz, wanted and kept by this side. sent, answered, missed: clouds.
    stale: answers that took more than two periods, so that they told of a scene two clouds old.
    latency_ms: p50, p95, p99, max from a cloud's sending to its answer here.
    jitter_ms: mean |interval between answers − interval between their clouds|.
    cpu_ms: of the node's process a cloud sent, all of its threads.
    rss_mb: of the node when half of the time was over, and at the end.
    """

    rate: float
    sent_rate: float
    sent: int
    answered: int
    missed: int
    stale: int
    latency_ms: dict[str, float]
    jitter_ms: float
    cpu_ms: float
    rss_mb: tuple[float, float]


@dataclass(frozen=True)
class NodeSpeed:
    """What `measure_node` found.

    path_ms: processor time of one thread on decoding and cutting out, on boxes and messages, and on both, of one cloud,
        measured without DDS: the median and the least.
    peak_hz: clouds answered a second when each is sent after the answer to the last.
    rates: one entry a rate.
    stages_ms: the node's own p50 of each stage, from its diagnostics.
    objects: in each cloud. bytes: of a cloud.
    """

    path_ms: dict[str, tuple[float, float]]
    peak_hz: float
    rates: list[RateSpeed]
    stages_ms: dict[str, float]
    objects: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: a latency that no answer tells is null."""
        told = asdict(self)
        for rate in told["rates"]:
            rate["latency_ms"] = {name: ms if math.isfinite(ms) else None for name, ms in rate["latency_ms"].items()}
        return told


def labelled_image(height: int = 480, width: int = 640, objects: int = 15, seed: int = 0) -> Cloud:
    """A camera's labelled cloud: a table with blocks in rows on it, one pixel in ten without return.

    Returns:
        Organised, fields x, y, z (float32, optical frame), rgb and instance_id (uint32), 20 bytes a point.
    """
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    depth = 1.5 + 0.001 * rng.normal(size=(height, width))
    labels = np.ones((height, width), np.uint32)
    columns = max(1, int(np.ceil(np.sqrt(objects * width / height))))
    cell = width // columns, height // -(-objects // columns)
    for number in range(objects):
        row, column = divmod(number, columns)
        block = np.s_[
            row * cell[1] + cell[1] // 5 : (row + 1) * cell[1] - cell[1] // 5,
            column * cell[0] + cell[0] // 5 : (column + 1) * cell[0] - cell[0] // 5,
        ]
        labels[block] = number + 2
        depth[block] -= 0.1 + 0.01 * number
    lost = rng.random((height, width)) < 0.1
    depth[lost], labels[lost] = np.nan, 0
    x, y = (across - width / 2) / 525 * depth, (down - height / 2) / 525 * depth
    xyz = {name: axis.astype(np.float32) for name, axis in zip("xyz", (x, y, depth), strict=True)}
    return write_cloud(xyz | {"rgb": np.zeros((height, width), np.float32), "instance_id": labels})


def path_cost(cloud: Cloud, tries: int = 30) -> dict[str, tuple[float, float]]:
    """Processor time (ms) of one thread on a cloud's way through the node without the model: `NodeSpeed.path_ms`."""
    message = cloud_message(cloud, Header(frame_id="camera"))
    up = np.array([0.0, 0.0, 1.0])
    answer = Recognition.of(np.linspace(1, 0, 8) / 4, tuple("abcdefgh"))
    rows, write = [], detection_writer()
    for _ in range(tries + 3):  # the first few grow the heap
        start = time.thread_time()
        segments = read_segments(message)
        cut = time.thread_time()
        boxes = segment_boxes(segments, up)
        told = write(message.header, segments, boxes, [answer] * len(segments), 3)
        if not isinstance(told, bytes):
            serialize_message(told)
        end = time.thread_time()
        rows.append((cut - start, end - cut, end - start))
    columns = np.array(rows[3:]).T * 1000
    names = ("decode", "publish", "together")
    return {name: (float(np.median(c)), float(c.min())) for name, c in zip(names, columns, strict=True)}


def measure_node(config: NodeSpeedConfig | None = None, told: Callable[[str], object] = lambda _: None) -> NodeSpeed:
    """Start the node, play to it, and measure.

    Args:
        config: what is played.
        told: hears a sentence before each step.

    Raises:
        ReplayError: the node does not come up, or ends.
    """
    config = config or NodeSpeedConfig()
    keep_freed_memory()
    cloud = labelled_image(config.height, config.width, config.objects)
    told("the node's path without DDS")
    path = path_cost(cloud)
    graph = Graph()
    module = NODE if config.model else STUB
    with environment(graph.environment()), NodeProcess(graph, config.parameters, module) as node:
        camera = _Camera(graph, cloud)
        try:
            told("the node starts")
            camera.find(node, config.start_timeout)
            told(f"peak rate, {config.peak_seconds:g} s")
            peak = camera.peak(node, config.peak_seconds)
            rates = []
            for rate in config.rates:
                told(f"{rate:g} Hz, {config.seconds:g} s")
                rates.append(camera.play(node, rate, config.seconds))
            stages = camera.stages()
        finally:
            camera.close()
    return NodeSpeed(path, peak, rates, stages, config.objects, len(cloud.data))


class _Camera:
    """This side of the wire: one cloud again and again under new stamps, and when each was sent and answered."""

    def __init__(self, graph: Graph, cloud: Cloud) -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=graph.domain)
        self._node = rclpy.create_node("camera", namespace=graph.namespace, context=self._context)
        sensor = QoSProfile(depth=5, reliability=qos_profile_sensor_data.reliability)
        self._points = self._node.create_publisher(PointCloud2, "perception/input/points", sensor)
        self._node.create_subscription(Detection3DArray, "perception/output/detections", self._on_answer, 100)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._message = bytearray(serialize_message(cloud_message(cloud, Header(frame_id="camera"))))
        self._arrival = threading.Condition()
        self._number = 0
        self._sent: dict[int, float] = {}
        self._answered: dict[int, float] = {}
        self._stages: dict[str, float] = {}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def find(self, node: NodeProcess, timeout: float) -> None:
        """Return once a cloud was answered."""
        deadline = time.monotonic() + timeout
        while not (self._points.get_subscription_count() and self._await(self._send(), 0.5)):
            node.check()
            if node.failed():
                raise ReplayError(f"the node cannot configure; {node.last_words()}")
            if time.monotonic() > deadline:
                raise ReplayError(f"the node does not answer after {timeout:g} s; {node.last_words()}")
            time.sleep(0.1)

    def peak(self, node: NodeProcess, seconds: float) -> float:
        """Answers a second when each cloud follows the answer to the last."""
        start, count = time.monotonic(), 0
        while time.monotonic() - start < seconds:
            node.check()
            count += self._await(self._send(), _LATE_S)
        return count / (time.monotonic() - start)

    def play(self, node: NodeProcess, rate: float, seconds: float) -> RateSpeed:
        """A fixed rate for so long."""
        with self._arrival:
            self._sent, self._answered = {}, {}
        count = max(2, round(rate * seconds))
        cpu, start, half = node.seconds(), time.monotonic(), 0.0
        for k in range(count):
            time.sleep(max(0.0, start + k / rate - time.monotonic()))
            last = self._send()
            if k == count // 2:
                node.check()
                half = node.rss_mb()
        took = time.monotonic() - start
        self._await(last, _LATE_S)
        spent = (node.seconds() - cpu) / count
        with self._arrival:
            sent, answered = dict(self._sent), dict(self._answered)
        latency = np.array([answered[n] - sent[n] for n in sent if n in answered]) * 1000
        both = [n for n in sent if n in answered]
        jitter = [abs((answered[b] - answered[a]) - (sent[b] - sent[a])) for a, b in pairwise(both)]
        return RateSpeed(
            rate,
            (count - 1) / took,
            count,
            len(latency),
            count - len(latency),
            int((latency > 2000 / rate).sum()),
            _percentiles(latency),
            float(np.mean(jitter)) * 1000 if jitter else 0.0,
            spent * 1000,
            (half, node.rss_mb()),
        )

    def stages(self) -> dict[str, float]:
        """Each stage's median latency in ms, as the node last said."""
        with self._arrival:
            self._arrival.wait_for(lambda: bool(self._stages), 3.0)
            return dict(self._stages)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=5)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _send(self) -> int:
        """Publish the next cloud; its number is its stamp's seconds, the first eight bytes of the message's body."""
        self._number += 1
        struct.pack_into("=iI", self._message, 4, self._number, 0)
        content = bytes(self._message)
        with self._arrival:
            self._sent[self._number] = time.monotonic()
        self._points.publish(content)
        return self._number

    def _await(self, number: int, timeout: float) -> bool:
        with self._arrival:
            return self._arrival.wait_for(lambda: number in self._answered, timeout)

    def _on_answer(self, answer: Detection3DArray) -> None:
        now = time.monotonic()
        with self._arrival:
            self._answered[answer.header.stamp.sec] = now
            self._arrival.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        values = {each.key: each.value for each in message.status[0].values}
        with self._arrival:
            self._stages = {stage: float(values.get(f"{stage}_ms_p50", 0)) for stage in _STAGES}
            self._arrival.notify_all()


def _percentiles(latency: np.ndarray) -> dict[str, float]:
    if not len(latency):
        return dict.fromkeys(("p50", "p95", "p99", "max"), float("nan"))
    p50, p95, p99 = np.percentile(latency, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(latency.max())}


def table(speed: NodeSpeed) -> str:
    """The figures as text."""
    path = ", ".join(f"{name} {median:.2f} ({least:.2f})" for name, (median, least) in speed.path_ms.items())
    head = ("Hz", "kept", "sent", "missed", "stale", "p50 ms", "p99 ms", "jitter ms", "cpu ms", "MB half", "MB end")
    rows: list[Sequence[str]] = [head]
    for r in speed.rates:
        times = (r.latency_ms["p50"], r.latency_ms["p99"], r.jitter_ms, r.cpu_ms, *r.rss_mb)
        counts = map(str, (r.sent, r.missed, r.stale))
        rows.append((f"{r.rate:g}", f"{r.sent_rate:.1f}", *counts, *(f"{value:.1f}" for value in times)))
    lines = ["  ".join(f"{cell:>9}" for cell in row) for row in rows]
    stages = ", ".join(f"{name} {value:.2f}" for name, value in speed.stages_ms.items())
    return "\n".join(
        [
            f"{speed.objects} objects, {speed.bytes / 1e6:.1f} MB a cloud",
            f"path without DDS, processor ms, median (least): {path}",
            f"peak: {speed.peak_hz:.1f} Hz",
            *lines,
            f"the node's stages, median ms: {stages}",
        ]
    )
