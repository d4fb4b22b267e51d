"""config/fastdds_large_clouds.xml: well formed, consistent, and large clouds really arrive with it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from clipoint3d_ros.evaluation.node_process import free_domain
from clipoint3d_ros.nodes.transports import BUILTIN, CHOICES, variable

FILE = Path(__file__).parents[2] / "config" / "fastdds_large_clouds.xml"
NAMESPACE = "{http://www.eprosima.com}"
CLOUD = 640 * 480 * 20  # bytes


def texts(*path: str) -> list[str]:
    root = ElementTree.parse(FILE).getroot()
    return [each.text or "" for each in root.findall("/".join(f"{NAMESPACE}{name}" for name in ("profiles", *path)))]


def test_it_is_well_formed_and_names_only_transports_it_describes():
    described = texts("transport_descriptors", "transport_descriptor", "transport_id")
    assert texts("participant", "rtps", "userTransports", "transport_id") == described
    assert texts("transport_descriptors", "transport_descriptor", "type") == ["SHM", "UDPv4"]
    assert texts("participant", "rtps", "useBuiltinTransports") == ["false"], "the small segment would be there as well"


def test_it_is_every_participant_s():
    (participant,) = ElementTree.parse(FILE).getroot().iter(f"{NAMESPACE}participant")
    assert participant.get("is_default_profile") == "true"


def test_shared_memory_holds_two_clouds_and_three_processes_fit_a_container():
    (segment,) = texts("transport_descriptors", "transport_descriptor", "segment_size")
    (queue,) = texts("transport_descriptors", "transport_descriptor", "port_queue_capacity")
    assert int(segment) >= 2.5 * CLOUD
    assert 3 * int(segment) < 56 << 20, "Docker gives 64 MB"
    assert int(queue) >= 2.5 * CLOUD / 65_000, "a cloud is cut into pieces of UDP's size"


def heard(clouds: int, **variables: str) -> int:
    """How many of so many clouds of 5 MB go from one process to another."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {"ROS_DOMAIN_ID": str(free_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", **variables}
    words = [sys.executable, str(Path(__file__).with_name("cloud_talk.py"))]
    reader = subprocess.Popen(
        [*words, "hear", "/large_clouds", str(clouds)], env=environment, stdout=subprocess.PIPE, text=True
    )
    sender = subprocess.Popen([*words, "send", "/large_clouds", str(clouds)], env=environment)
    try:
        said, _ = reader.communicate(timeout=90)
        assert sender.wait(timeout=30) == 0, "the sender found no reader"
        assert reader.returncode == 0, "the reader found no sender"
        return int(said)
    finally:
        for process in (reader, sender):
            process.kill()
            process.wait()


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_large_clouds_arrive_with_it_and_not_without():
    pytest.importorskip("rclpy")
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        pytest.skip(f"this is Fast DDS's profile, but {os.environ['RMW_IMPLEMENTATION']} is in use")
    with_it = heard(20, **{variable(): str(FILE)})
    assert with_it >= 18, f"{with_it} of 20 clouds arrived with the profile"
    assert heard(20) <= with_it / 2, "Fast DDS's defaults no longer lose them; docs/dds.md and this profile can go"


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_built_in_transports_do_not_undo_it():
    pytest.importorskip("rclpy")
    both = {variable(): str(FILE), BUILTIN: "LARGE_DATA"}
    assert heard(20, **both) >= 18
