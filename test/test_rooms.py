"""The rooms of the package: imports point down only, and ROS is imported where nodes and replays are, nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "clipoint3d_ros"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
# From the top down; docs/architecture.md says what lives in each.
ROOMS = ("commands", "evaluation", "nodes", "adaptation", "pretraining", "recognition", "datasets", "clip", "geometry")
TOP = ("cli", "resources")  # modules beside the rooms: one starts commands, the other knows where files lie
# Besides `nodes`: what replays bags through nodes, or times them.
ROS_TOO = ("evaluation/replay.py", "evaluation/node_speed.py", "evaluation/soak.py")
ROS = {"rclpy", "rcl_interfaces", "tf2_ros", "launch", "launch_ros", "message_filters", "ament_index_python"}


def modules(file: Path) -> Iterator[str]:
    """Full names of what a file imports, at any depth of indentation."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def test_every_folder_with_code_is_a_room():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_none_above_it(room):
    above = set(ROOMS[: ROOMS.index(room)])
    for file in files(room):
        wrong = {name for name in modules(file) if name.startswith(f"{PACKAGE}.") and name.split(".")[1] in above}
        assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))}: arrows point down only"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "nodes"])
def test_ros_is_imported_in_nodes_and_the_replay_only(room):
    for file in files(room):
        if str(file.relative_to(ROOT)) not in ROS_TOO:
            first = {name.partition(".")[0] for name in modules(file)}
            wrong = {name for name in first if name in ROS or name.endswith(("_msgs", "_srvs"))}
            assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))}: ROS belongs into nodes/"
