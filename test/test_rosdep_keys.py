"""package.xml names what rosdep and the build farm know, for Humble, Jazzy and Kilted alike.

The list is what github.com/ros/rosdistro had on 22 August 2026 (commit 8468e88ccd52) of these names: packages of
humble/, jazzy/ and kilted/distribution.yaml, and system keys of rosdep/python.yaml. A name that is new here must be
looked up there for all three, and added.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

MANIFEST = Path(__file__).resolve().parents[1] / "package.xml"
IN_ALL_THREE = {
    *("ament_copyright", "ament_flake8", "ament_index_python", "ament_pep257", "ament_xmllint"),
    *("diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "sensor_msgs", "std_msgs", "vision_msgs"),
    *("visualization_msgs", "rcl_interfaces", "std_srvs", "sensor_msgs_py"),
    *("launch", "launch_pytest", "launch_ros", "ros2launch", "rclpy", "tf2_ros", "tf2_ros_py"),
}
SYSTEM = {"python3-numpy", "python3-pytest", "python3-scipy", "python3-yaml"}


def test_every_key_is_known():
    keys = {each.text for each in ElementTree.parse(MANIFEST).getroot() if each.tag.endswith("depend")}
    unknown = keys - IN_ALL_THREE - SYSTEM
    assert not unknown, f"rosdep may not know {', '.join(sorted(unknown))}; see the top of {Path(__file__).name}"


def test_no_key_stands_twice():
    keys = [(each.tag, each.text) for each in ElementTree.parse(MANIFEST).getroot() if each.tag.endswith("depend")]
    assert len(set(keys)) == len(keys)
