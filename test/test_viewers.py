"""What RViz and Foxglove are told to show exists: every topic, in the type that its display takes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
INPUT = "/segments"  # the launch file's default input
RVIZ_TYPES = {"PointCloud2": "sensor_msgs/msg/PointCloud2", "MarkerArray": "visualization_msgs/msg/MarkerArray"}
RVIZ_TYPES["Image"] = "sensor_msgs/msg/Image"
# Panel: the types it shows.
PANEL_TYPES = {
    "3D": {"sensor_msgs/msg/PointCloud2", "visualization_msgs/msg/MarkerArray"},
    "Image": {"sensor_msgs/msg/Image"},
    "Table": {"vision_msgs/msg/Detection3DArray"},
    "DiagnosticSummary": {"diagnostic_msgs/msg/DiagnosticArray"},
    "DiagnosticStatusPanel": {"diagnostic_msgs/msg/DiagnosticArray"},
    "RawMessages": {"diagnostic_msgs/msg/DiagnosticArray"},
}


@pytest.fixture(scope="module")
def published() -> dict[str, str]:
    """{topic: type} of what the nodes publish, and perception's input; docs/topics.md is held to the nodes."""
    page = (ROOT / "docs" / "topics.md").read_text()
    found = {}
    for section in page.split("\n## ")[1:]:
        node = re.match(r"`(\w+)`", section)[1]
        for topic, kind in re.findall(r"^\| publishes \| `([^`]+)` \| (\S+) \|", section, re.M):
            found[topic.replace("~/", f"/{node}/")] = kind
    return found | {INPUT: "sensor_msgs/msg/PointCloud2"}


@pytest.fixture(scope="module")
def displays() -> list[dict]:
    read = yaml.safe_load((ROOT / "rviz" / "perception.rviz").read_text())
    return read["Visualization Manager"]["Displays"]


@pytest.fixture(scope="module")
def layout() -> dict:
    return json.loads((ROOT / "config" / "foxglove.json").read_text())


def kind(display: dict) -> str:
    return display["Class"].rpartition("/")[2]


def topics_of(panel: dict) -> Iterator[str]:
    """Topics that a panel names, without what is taken of their messages."""
    yield from panel.get("topics", {})
    for path in (panel.get("topicToRender"), panel.get("topicPath"), panel.get("imageMode", {}).get("imageTopic")):
        if path:
            yield path.partition(".")[0]


def test_rviz_shows_clouds_answers_views_and_frames(displays):
    shown = {kind(display) for display in displays if display["Enabled"]}
    assert shown >= {"Grid", "PointCloud2", "MarkerArray", "Image", "TF"}
    assert len({display["Name"] for display in displays}) == len(displays)


def test_every_topic_of_rviz_exists_in_its_type(displays, published):
    for display in displays:
        if "Topic" in display:
            topic = display["Topic"]["Value"]
            assert topic in published, f"{display['Name']} shows {topic}, which nothing publishes"
            assert published[topic] == RVIZ_TYPES[kind(display)], f"{display['Name']} cannot show {topic}"


def test_rviz_takes_clouds_as_sensors_send_them(displays):
    for display in displays:
        if kind(display) == "PointCloud2":
            assert display["Topic"]["Reliability Policy"] == "Best Effort", "a reliable display misses most cameras"


@pytest.mark.parametrize("file", ["perception.launch.py", "replay.launch.py"])
def test_the_launch_files_lead_rviz_to_every_topic_it_shows(displays, file):
    tree = ast.parse((ROOT / "launch" / file).read_text())
    (shown,) = [
        ast.literal_eval(each.value)
        for each in tree.body
        if isinstance(each, ast.Assign) and each.targets[0].id == "SHOWN"
    ]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {INPUT, *(f"/perception/output/{name}" for name in shown)}


def test_every_panel_of_foxglove_is_placed_once(layout):
    def leaves(part) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            yield from leaves(part["first"])
            yield from leaves(part["second"])

    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])


def test_every_topic_of_foxglove_exists_in_a_type_its_panel_shows(layout, published):
    for name, panel in layout["configById"].items():
        topics = list(topics_of(panel))
        assert topics, f"{name} shows nothing"
        for topic in topics:
            assert topic in published, f"{name} shows {topic}, which nothing publishes"
            assert published[topic] in PANEL_TYPES[name.partition("!")[0]], f"{name} cannot show {topic}"


def test_foxglove_shows_clouds_markers_views_detections_and_diagnostics(layout):
    shown = {topic for panel in layout["configById"].values() for topic in topics_of(panel)}
    outputs = {f"/perception/output/{name}" for name in ("markers", "views", "detections")}
    assert shown >= {INPUT, "/diagnostics", *outputs}


def test_foxglove_s_diagnostics_are_of_a_name_that_perception_uses(layout):
    (panel,) = [panel for name, panel in layout["configById"].items() if name.startswith("DiagnosticStatusPanel")]
    node = (ROOT / "clipoint3d_ros" / "nodes" / "perception_node.py").read_text()
    assert panel["selectedName"] == "perception: recognition"
    assert 'purpose = "recognition"' in node
