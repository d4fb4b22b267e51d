"""The segmenter node over real DDS: a camera's clouds in, labelled clouds out, read as perception reads them."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import defaultdict

import numpy as np
import pytest
from clouds_made import changed_cloud

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from peer import DOMAIN, transports
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from clipoint3d_ros.datasets import scenes, tabletop
from clipoint3d_ros.datasets.scenes import Scene
from clipoint3d_ros.nodes.pointcloud import all_points, cloud_message, read_segments, write_cloud
from clipoint3d_ros.nodes.segmenter_node import SegmenterNode

pytestmark = pytest.mark.ros

NUMBERS = itertools.count()


def kinect() -> Scene:
    """A simulated table at half a Kinect's resolution, so that the tests are quick."""
    camera = tabletop.DepthCamera().scaled(1 / 2)
    config = tabletop.SceneConfig(
        objects=(4, 4), stacking=0.0, gap=(0.04, 0.08), distance=(0.7, 0.8), elevation=(45, 55)
    )
    return tabletop.simulate("one", ["box", "can", "tin"], np.random.default_rng(3), config, camera)


SCENE = kinect()
POINTS = scenes.points(SCENE)
UP = [float(v) for v in SCENE.up]


def camera_cloud(points: np.ndarray = POINTS, organised: bool = True, **steps):
    """A camera's cloud, with a colour field as drivers add one."""
    if not organised:
        points = points[np.isfinite(points).all(-1)]
    columns = {name: np.ascontiguousarray(points[..., axis]) for axis, name in enumerate("xyz")}
    return write_cloud({**columns, "rgb": np.zeros(points.shape[:-1], np.float32)}, **steps)


class Bench:
    """A segmenter node and its peer in one process."""

    def __init__(self, **parameters):
        name = f"segmenting_{os.getpid()}_{next(NUMBERS)}"
        self.heard = defaultdict(list)
        self.contexts, self.executors, self.threads = [], [], []
        overrides = [Parameter(n, value=v) for n, v in ({"warning_period_s": 0.0, "up": UP} | parameters).items()]
        self.served = self._run(lambda c: SegmenterNode(context=c, namespace=name, parameter_overrides=overrides))
        self.node = self._run(lambda c: Node("peer", namespace=name, context=c))
        base = f"/{name}/segmenter"
        self.base = base
        self.points = self.node.create_publisher(PointCloud2, f"{base}/input/points", qos_profile_sensor_data)
        note = self.heard
        segments = self.node.create_subscription(
            PointCloud2, f"{base}/output/segments", note["segments"].append, qos_profile_sensor_data
        )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", note["diagnostics"].append, 10)
        self.wait(self.points.get_subscription_count, "the node's subscription")
        self.wait(lambda: self.served._inputs and self.served._inputs[0].get_publisher_count(), "the node's input")
        self.wait(self.served._segments.get_subscription_count, "the peer's subscription")
        self.wait(segments.get_publisher_count, "the peer's input")  # one side may know before the other

    def _run(self, make):
        context = Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        node, executor = make(context), SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self.contexts.append(context)
        self.executors.append(executor)
        self.threads.append(thread)
        return node

    def close(self):
        for executor, thread in zip(self.executors, self.threads, strict=True):
            executor.shutdown(timeout_sec=5)
            thread.join(5)
        self.served.close()
        for node, context in zip((self.served, self.node), self.contexts, strict=True):
            node.destroy_node()
            rclpy.shutdown(context=context)

    def wait(self, condition, what, seconds=30.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.01)
        raise AssertionError(f"{what} did not come within {seconds:g} s")

    def send(self, cloud, sec, nanosec=0):
        """Publishes the cloud until the node has it: best effort may lose one, and a camera sends on."""
        header = Header(frame_id="camera_optical")
        header.stamp.sec, header.stamp.nanosec = sec, nanosec
        message, before = cloud_message(cloud, header), self.received()
        for _ in range(10):
            self.points.publish(message)
            with contextlib.suppress(AssertionError):
                return self.wait(lambda: self.received() > before, "the cloud", seconds=2.0)
        raise AssertionError("none of ten clouds reached the node")

    def received(self):
        return self.served._statistics._counts.get("received", 0)

    def answer(self, sec):
        heard = self.heard["segments"]
        return self.wait(lambda: next((m for m in heard if m.header.stamp.sec == sec), None), f"segments of {sec}")

    def diagnosis(self):
        heard, before = self.heard["diagnostics"], len(self.heard["diagnostics"])
        ours = self.base.lstrip("/")
        status = self.wait(
            lambda: next((m.status[0] for m in heard[before:] if m.status[0].name.startswith(ours)), None),
            "diagnostics",
        )
        return {each.key: each.value for each in status.values} | {"message": status.message}


@pytest.fixture
def start():
    """Starts a node with given parameters; ends it after the test."""
    running = []

    def begin(**parameters):
        with transports("UDPv4"):
            running.append(Bench(**parameters))
        return running[-1]

    yield begin
    for bench in running:
        bench.close()


def best_iou(segment: np.ndarray, instance: np.ndarray) -> float:
    """Of one published object's points with the best true object, matched by their coordinates."""
    rows = {tuple(point): i for i, point in enumerate(POINTS.reshape(-1, 3))}
    mask = np.zeros(instance.size, bool)
    mask[[rows[tuple(point)] for point in segment]] = True
    truth = instance.reshape(-1)
    return max(((truth == i) & mask).sum() / ((truth == i) | mask).sum() for i in range(2, truth.max() + 1))


@pytest.mark.parametrize("organised", [True, False])
def test_a_camera_s_cloud_becomes_what_perception_reads(start, organised):
    bench = start()
    bench.send(camera_cloud(organised=organised), sec=7, nanosec=123)
    message = bench.answer(7)
    assert (message.header.frame_id, message.header.stamp.nanosec) == ("camera_optical", 123)
    assert [field.name for field in message.fields] == ["x", "y", "z", "instance_id"]
    assert (message.height, message.width) == (SCENE.depth.shape if organised else (1, (SCENE.depth > 0).sum()))
    segments = read_segments(message)
    assert [segment.id for segment in segments] == ["2", "3", "4", "5"]
    assert min(best_iou(segment.points, SCENE.instance) for segment in segments) > 0.8


def test_numbers_are_kept_from_cloud_to_cloud_and_never_given_twice(start):
    bench = start()
    labels = []
    for sec in (1, 2):
        bench.send(camera_cloud(POINTS + np.float32(0.01 * sec)), sec)
        labels.append({segment.id: segment.points.mean(0) for segment in read_segments(bench.answer(sec))})
    assert labels[0].keys() == labels[1].keys()
    assert all(np.linalg.norm(labels[0][name] - labels[1][name]) < 0.03 for name in labels[0])
    gone = next(iter(labels[0]))
    near = np.linalg.norm(POINTS + np.float32(0.02) - labels[1][gone], axis=-1) < 0.12
    without = POINTS.copy()
    without[near] = np.nan
    bench.send(camera_cloud(without + np.float32(0.02)), 3)
    assert gone not in {segment.id for segment in read_segments(bench.answer(3))}


def test_objects_only_is_less_to_send(start):
    bench = start(objects_only=True)
    bench.send(camera_cloud(), 1)
    message = bench.answer(1)
    assert len(read_segments(message)) == 4
    assert message.height == 1
    assert message.width == sum(len(segment.points) for segment in read_segments(message))


def test_bad_clouds_are_counted_by_reason_and_the_node_goes_on(start):
    bench = start()
    good = camera_cloud()
    for sec, cloud in enumerate(
        [
            changed_cloud(good, data=good.data[:-1]),
            changed_cloud(good, point_step=8),
            changed_cloud(good, fields=good.fields[1:]),
        ],
        start=1,
    ):
        bench.send(cloud, sec)
        bench.wait(lambda seen=sec: sum(bench.served._statistics._malformed.values()) == seen, "the refusal")
    bench.send(good, 9)
    assert len(read_segments(bench.answer(9))) == 4
    rows = bench.diagnosis()
    assert [rows[f"malformed.{reason}"] for reason in ("length", "stride", "fields")] == ["1", "1", "1"]
    assert rows["processed"] == "1"
    assert rows["objects"] == "4"


@pytest.mark.parametrize("nothing", ["no returns", "no points", "up is wrong"])
def test_a_cloud_without_a_table_is_answered_with_no_objects_and_a_reason(start, nothing):
    bench = start(**({"up": [1.0, 0.0, 0.0]} if nothing == "up is wrong" else {}))
    points = {"no returns": np.full((4, 5, 3), np.nan, np.float32), "no points": np.empty((0, 3), np.float32)}
    bench.send(camera_cloud(points.get(nothing, POINTS)), 1)
    assert read_segments(bench.answer(1)) == []
    assert int(bench.diagnosis()["without_plane"]) == 1


def test_parameters_change_live_within_their_limits(start):
    bench = start()
    refused = bench.served.set_parameters([Parameter("min_size", value=5.0)])[0]
    assert not refused.successful
    assert "max_size" in refused.reason
    assert bench.served.set_parameters([Parameter("min_points", value=100000)])[0].successful
    bench.send(camera_cloud(), 1)
    assert read_segments(bench.answer(1)) == []


def test_a_missing_transform_skips_the_cloud(start, monkeypatch):
    bench = start()

    class Nowhere:
        def lookup(self, target, source, stamp):
            from clipoint3d_ros.nodes.frames import MissingTransform

            raise MissingTransform(f"no transform from '{source}' to '{target}'")

        def close(self):
            pass

    monkeypatch.setattr("clipoint3d_ros.nodes.transforms.Transforms", lambda node, timeout_s: Nowhere())
    assert bench.served.set_parameters([Parameter("gravity_frame", value="base_link")])[0].successful
    bench.send(camera_cloud(), 1)
    bench.wait(lambda: bench.served._statistics._counts["skipped_no_transform"], "the skipped cloud")
    assert bench.served.set_parameters([Parameter("gravity_frame", value="")])[0].successful
    bench.send(camera_cloud(), 2)
    assert len(read_segments(bench.answer(2))) == 4
    assert not any(m.header.stamp.sec == 1 for m in bench.heard["segments"])


@pytest.mark.parametrize("asked", [False, True], ids=["by up", "by gravity_frame"])
def test_a_sensor_on_its_side_or_upside_down_finds_the_same_objects(start, monkeypatch, asked):
    def objects(message):
        named = np.frombuffer(message.data, np.uint8).reshape(-1, message.point_step)
        return named[:, message.fields[3].offset :][:, :4].copy().view("<u4")[:, 0]

    given = {}

    class Tf:
        def lookup(self, target, source, stamp):
            return given["turn"], np.zeros(3)

        def close(self):
            pass

    monkeypatch.setattr("clipoint3d_ros.nodes.transforms.Transforms", lambda node, timeout_s: Tf())
    bench = start(**({"gravity_frame": "base_link"} if asked else {}))
    level = np.linalg.qr(np.stack([UP, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], 1))[0]
    level = np.roll(level * np.sign(level[:, 0] @ UP), -1, 1)  # columns: base_link's axes in the camera, z up
    level[:, 0] *= np.linalg.det(level)
    answers = []
    for sec, turn in enumerate([np.eye(3), np.diag([-1.0, -1, 1]), np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])], 1):
        given["turn"] = turn @ level
        if not asked:
            up = [float(v) for v in turn @ UP]
            assert bench.served.set_parameters([Parameter("up", value=up)])[0].successful
        bench.served._tracker.clear()
        bench.send(camera_cloud((POINTS @ turn.T).astype(np.float32)), 10 * sec)
        answers.append(objects(bench.answer(10 * sec)))
    assert len(set(answers[0]) - {0, 1}) == 4
    for other in answers[1:]:
        pairs = {(a, b) for a, b in zip(answers[0], other, strict=True) if a > 1 and b > 1}
        both = [((answers[0] == a) & (other == b)).sum() / ((answers[0] == a) | (other == b)).sum() for a, b in pairs]
        # The grid on which points are clustered lies otherwise on a turned cloud, so borders move by a voxel.
        assert sum(share > 0.95 for share in both) == 4, f"shares of objects in common: {sorted(both)}"


def test_an_old_cloud_is_counted_and_skipped(start):
    bench = start(max_age_s=60.0)
    bench.send(camera_cloud(), 5)
    bench.wait(lambda: bench.served._statistics._counts["skipped_old"], "the skipped cloud")
    bench.send(camera_cloud(), int(time.time()))
    bench.wait(lambda: bench.heard["segments"], "segments")
    assert [m.header.stamp.sec > 5 for m in bench.heard["segments"]] == [True]


def test_every_point_comes_back_as_it_was_sent():
    cloud = camera_cloud(point_step=32)
    np.testing.assert_array_equal(all_points(cloud), POINTS.reshape(-1, 3))
    big = camera_cloud(bigendian=True)
    np.testing.assert_array_equal(all_points(big), POINTS.reshape(-1, 3))
