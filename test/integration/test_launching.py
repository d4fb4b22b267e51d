"""Both launch files, really launched: nodes that start, answer and end. Needs ROS 2 and this package installed in it.

launch_pytest runs a launch description beside a test. Where plugins are named rather than found, as in the Makefile, it
must be: `-p launch_pytest.plugin` (`.github/workflows/ros.yaml` does).
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed: it comes with a ROS 2 installation")
pytest.importorskip("launch_pytest", reason="launch_pytest is not installed: it comes with ROS 2")

import launch_pytest
import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from labelled import labelled_bag
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource
from lifecycle_msgs.srv import GetState

from clipoint3d_ros.evaluation.node_process import free_domain

try:
    SHARE = Path(get_package_share_directory("clipoint3d_ros"))
except PackageNotFoundError:
    pytest.skip(
        "clipoint3d_ros is not installed as a ROS package: colcon build, then source it", allow_module_level=True
    )

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]
FOUND_S = 120.0


@pytest.fixture(autouse=True)
def plugin(request):
    if not request.config.pluginmanager.hasplugin(
        "launch_pytest.plugin"
    ) and not request.config.pluginmanager.hasplugin("launch_pytest"):
        pytest.skip("launch_pytest is installed, but not loaded: name it with -p launch_pytest.plugin")


def launched(file: str, domain: int, **arguments: str) -> LaunchDescription:
    """A launch file with arguments, in a domain of its own, and the sign that tests may begin."""
    given = list(arguments.items())
    return LaunchDescription(
        [
            SetEnvironmentVariable("ROS_DOMAIN_ID", str(domain)),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / file)), launch_arguments=given
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


def state_of(node: str, domain: int, wanted: str) -> str:
    """A node's lifecycle state, asked until it is the wanted one or time is up; "" where it never answered."""
    context, state = rclpy.Context(), ""
    rclpy.init(args=[], context=context, domain_id=domain)
    try:
        asking = rclpy.create_node(f"asks_{uuid.uuid4().hex[:8]}", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(asking)
        client = asking.create_client(GetState, f"{node}/get_state")
        end = time.monotonic() + FOUND_S
        while state != wanted and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.2)
            if client.service_is_ready():
                answer = client.call_async(GetState.Request())
                executor.spin_until_future_complete(answer, timeout_sec=5)
                state = answer.result().current_state.label if answer.done() else state
        executor.shutdown()
        asking.destroy_node()
        return state
    finally:
        rclpy.shutdown(context=context)


DOMAINS = {name: free_domain() for name in ("waits", "starts", "replay")}


@launch_pytest.fixture
def waiting():
    return launched("perception.launch.py", DOMAINS["waits"], autostart="false", segmenter="true", namespace="robot1")


@launch_pytest.fixture
def starting():
    return launched("perception.launch.py", DOMAINS["starts"], device="cpu", segmenter="true", input="/camera/points")


@pytest.mark.launch(fixture=waiting)
def test_without_autostart_the_nodes_wait_for_a_lifecycle_manager():
    for node in ("perception", "segmenter"):
        assert state_of(f"/robot1/{node}", DOMAINS["waits"], "unconfigured") == "unconfigured"


@pytest.mark.launch(fixture=starting)
def test_with_autostart_every_node_becomes_active():
    for node in ("perception", "segmenter"):
        assert state_of(f"/{node}", DOMAINS["starts"], "active") == "active", f"{node} did not become active"


FIGURES = "figures.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replay")


@launch_pytest.fixture
def replaying(folder):
    bag = labelled_bag(folder / "bag", [{"2": "box", "3": "can"}, {"2": "can"}])
    given = {"bag": str(bag), "json": str(folder / FIGURES), "device": "cpu"}
    return launched("replay.launch.py", DOMAINS["replay"], **given, shutdown="false")


@pytest.mark.launch(fixture=replaying)
def test_a_replay_plays_and_scores_its_bag(folder):
    end = time.monotonic() + FOUND_S
    while not (folder / FIGURES).is_file():
        assert time.monotonic() < end, f"no figures after {FOUND_S:g} s"
        time.sleep(0.2)
    figures = json.loads((folder / FIGURES).read_text())
    assert (figures["frames"], figures["objects"], figures["dropped_frames"]) == (2, 3, 0)
