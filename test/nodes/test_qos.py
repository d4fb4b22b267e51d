"""Quality of service from the parameter file: what is changed, what is refused, and that DDS really does it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs")

import numpy as np
import rclpy
from peer import DOMAIN, transports
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from clipoint3d_ros.nodes.interface_pages import endpoints, node_classes
from clipoint3d_ros.nodes.lifecycle import FAILURE, LATCHED, RELIABLE, SUCCESS
from clipoint3d_ros.nodes.parameters import ParameterError
from clipoint3d_ros.nodes.pointcloud import cloud_message, write_cloud
from clipoint3d_ros.nodes.qos import refusal

pytestmark = pytest.mark.ros

PAGE = Path(__file__).parents[2] / "docs" / "dds.md"
NUMBERS = itertools.count()
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


@contextlib.contextmanager
def context_of(*arguments):
    context = rclpy.Context()
    with transports("UDPv4"):
        rclpy.init(args=list(arguments), context=context, domain_id=DOMAIN)
        try:
            yield context
        finally:
            rclpy.shutdown(context=context)


@contextlib.contextmanager
def made(context, name, namespace="", overrides=None):
    values = {"autostart": False} | {f"qos_overrides.{key}": value for key, value in (overrides or {}).items()}
    node = node_classes()[name](
        context=context,
        namespace=namespace,
        parameter_overrides=[Parameter(key, value=value) for key, value in values.items()],
    )
    try:
        yield node
    finally:
        node.close()
        node.destroy_node()


def test_every_topic_of_ours_can_be_changed():
    with context_of() as context:
        for name, ends in endpoints().items():
            with made(context, name) as node:
                node._open()
                for end in ends:
                    if end.kind not in ("publishes", "subscribes") or end.name == "/parameter_events":
                        continue
                    if end.name.endswith("/objects") and name == "adaptation":
                        continue  # subscribed in mode gradient only
                    topic = node.resolve_topic_name(end.name.replace("{perception}", "perception"))
                    side = end.kind.replace("publishes", "publisher").replace("subscribes", "subscription")
                    for policy in ("reliability", "history", "depth"):
                        parameter = f"qos_overrides.{topic}.{side}.{policy}"
                        assert node.has_parameter(parameter), f"{name} has no {parameter}"


def test_the_page_s_example_does_what_it_says(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)[1]
    file = tmp_path / "my.yaml"
    file.write_text(text)
    said = {section: each["ros__parameters"]["qos_overrides"] for section, each in yaml.safe_load(text).items()}
    arguments = ["--ros-args", "--params-file", str(file), "-r", "perception:__ns:=/"]
    with context_of(*arguments, "-r", "perception:~/input/points:=/camera/segments") as context:
        for section, topics in said.items():
            with made(context, section.rpartition("/")[2]) as node:
                node._open()
                ends = {
                    "publisher": {end.topic_name: end.qos_profile for end in node.publishers},
                    "subscription": {end.topic_name: end.qos_profile for end in node.subscriptions},
                }
                for topic, sides in topics.items():
                    for side, policies in sides.items():
                        profile = ends[side][topic]
                        assert profile.depth == policies["depth"]
                        assert profile.reliability.name.lower() == policies["reliability"]


def test_one_node_s_override_is_not_the_next_one_s():
    with context_of() as context:
        with made(context, "segmenter", overrides={"/segmenter/output/segments.publisher.depth": 3}) as node:
            assert node._segments.qos_profile.depth == 3
        with made(context, "segmenter") as node:
            assert node._segments.qos_profile.depth == 10
    assert RELIABLE.depth == 10


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"reliability": "sometimes"}, "`sometimes`; reliability must be reliable or best_effort"),
        ({"reliability": "system_default"}, "reliability is system_default; it must be reliable or best_effort"),
        ({"history": "system_default"}, "history is system_default; it must be keep_last or keep_all"),
        ({"depth": 0}, "depth is 0; it must be 1 to 1000 messages"),
        ({"depth": 5000}, "depth is 5000; it must be 1 to 1000 messages"),
        ({"depth": "deep"}, "depth.*deep"),
    ],
)
def test_an_output_that_would_not_work_is_refused_at_start(overrides, words):
    given = {f"/segmenter/output/segments.publisher.{policy}": value for policy, value in overrides.items()}
    with (
        context_of() as context,
        pytest.raises(ParameterError, match=f"'qos_overrides' of ~/output/segments: .*{words}"),
    ):
        made(context, "segmenter", overrides=given).__enter__()


def test_a_latched_output_stays_reliable():
    given = {"/perception/output/vision_info.publisher.reliability": "best_effort"}
    with (
        context_of() as context,
        pytest.raises(ParameterError, match="later subscribers would not get the last message"),
    ):
        made(context, "perception", overrides=given).__enter__()


def test_an_input_that_would_not_work_leaves_the_node_inactive():
    given = {"/segmenter/input/points.subscription.history": "keep_all"}
    with context_of() as context, made(context, "segmenter", overrides=given) as node:
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == FAILURE
        assert not list(node.subscriptions), "it listens although it is inactive"
        node.set_parameters([Parameter("voxel", value=0.01)])  # and lives on
        assert node.trigger_cleanup() == SUCCESS


@pytest.mark.parametrize("newest", [True, False])
def test_the_defaults_are_not_refused(newest):
    for profile in (RELIABLE, LATCHED, qos_profile_sensor_data):
        assert refusal(profile, newest) == ""


def test_all_may_be_kept_of_small_messages():
    everything = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
    assert refusal(everything, newest=False) == ""
    assert "keep_last" in refusal(everything, newest=True)
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.BEST_EFFORT)
    assert "must be reliable" in refusal(kept, newest=False)


@contextlib.contextmanager
def segmenting(overrides):
    """A segmenter that runs, another node beside it, and the base of the segmenter's topics."""
    namespace = f"qos_{os.getpid()}_{next(NUMBERS)}"
    base = f"/{namespace}/segmenter"
    named = {f"{base}/{key}": value for key, value in overrides.items()}
    with context_of() as context, made(context, "segmenter", namespace, named) as node:
        other = rclpy.create_node("other", context=context)
        executor = SingleThreadedExecutor(context=context)
        for each in (node, other):
            executor.add_node(each)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        try:
            assert node.trigger_configure() == SUCCESS
            assert node.trigger_activate() == SUCCESS
            yield other, base
        finally:
            executor.shutdown(timeout_sec=5)
            thread.join(5)
            other.destroy_node()


def happens(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def cloud():
    grid = np.stack(np.meshgrid(np.linspace(0.5, 1.5, 60), np.linspace(-0.5, 0.5, 60)), -1).reshape(-1, 2)
    columns = {"x": grid[:, 0], "y": grid[:, 1], "z": np.full(len(grid), -0.4)}
    made_of = {name: column.astype(np.float32) for name, column in columns.items()}
    return cloud_message(write_cloud(made_of), Header(frame_id="camera"))


@pytest.mark.parametrize("wanted", ["best_effort", "reliable"])
def test_a_reliable_input_does_not_match_a_best_effort_camera_and_a_best_effort_one_does(wanted):
    with segmenting({"input/points.subscription.reliability": wanted}) as (other, base):
        camera = other.create_publisher(PointCloud2, f"{base}/input/points", BEST_EFFORT)
        assert happens(lambda: other.count_subscribers(f"{base}/input/points"), 10)
        (found,) = other.get_subscriptions_info_by_topic(f"{base}/input/points")
        assert found.qos_profile.reliability.name.lower() == wanted
        matched = happens(camera.get_subscription_count, 10 if wanted == "best_effort" else 1.5)
        assert matched is (wanted == "best_effort")


@pytest.mark.parametrize("wanted", ["best_effort", "reliable"])
def test_a_best_effort_output_is_heard_by_best_effort_subscribers_alone(wanted):
    with segmenting({"output/segments.publisher.reliability": wanted}) as (other, base):
        heard, lax = [], []
        other.create_subscription(PointCloud2, f"{base}/output/segments", heard.append, RELIABLE)
        other.create_subscription(PointCloud2, f"{base}/output/segments", lax.append, BEST_EFFORT)
        camera = other.create_publisher(PointCloud2, f"{base}/input/points", RELIABLE)
        assert happens(camera.get_subscription_count, 10)

        def sent_and_heard():
            camera.publish(cloud())
            return happens(lambda: lax, 0.5)

        assert happens(sent_and_heard, 20), "nobody heard the segments"
        assert happens(lambda: heard, 2.0 if wanted == "reliable" else 1.0) is (wanted == "reliable")
