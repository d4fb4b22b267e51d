"""A node that needs no model, in perception's place."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def stand_in(monkeypatch):
    """Replays start `stand_in_node` for perception; gives what sets its behaviour."""
    node_process = pytest.importorskip("clipoint3d_ros.evaluation.node_process", reason="ROS 2 is not installed")
    monkeypatch.setattr(node_process, "NODE", "stand_in_node")
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return lambda behaviour: monkeypatch.setenv("STAND_IN", behaviour)
