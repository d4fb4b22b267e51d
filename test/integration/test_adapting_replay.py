"""`evaluate --adapt` from a bag to its figures: both real nodes, each a process of its own, with a small model."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the replay needs ROS 2's Python packages (make setup)")
pytest.importorskip("vision_msgs.msg", reason="the replay needs vision_msgs (make setup)")

from sharp_model import blocks, keep_reference

from clipoint3d_ros.cli import main
from clipoint3d_ros.evaluation.bag_writer import BagWriter
from clipoint3d_ros.evaluation.bags import SECOND, Topics, TrueObject

pytestmark = [pytest.mark.ros, pytest.mark.slow]
FRAMES, OBJECTS, APART_S = 5, 20, 3  # seconds: longer than a track is kept, so that every frame has new objects


@pytest.fixture
def classes_file(sharp, tmp_path, monkeypatch):
    """The model's classes in a file, and what the companion would gather for them where it looks for it."""
    file = tmp_path / "own.yaml"
    file.write_text(f"classes: [{', '.join(sharp.classes)}]\n")
    keep_reference(sharp, monkeypatch, tmp_path / "cache", str(file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return file


def bag_of_blocks(path, names):
    with BagWriter(path, Topics()) as bag:
        for number in range(FRAMES):
            clouds, tall = blocks(OBJECTS, seed=number)
            labels = np.repeat(np.arange(2, OBJECTS + 2), [len(cloud) for cloud in clouds])
            truth = [names[0] if upright else names[1] for upright in tall]
            objects = [TrueObject(str(i + 2), name, (1.0, 0.0, 0.0), (0.1, 0.1, 0.1)) for i, name in enumerate(truth)]
            bag.write((5 + number * APART_S) * SECOND, "level", np.concatenate(clouds), labels, objects)
    return path


def figures_of(tmp_path, *words):
    file = tmp_path / "figures.json"
    assert main(["evaluate", *map(str, words), "--device", "cpu", "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_what_the_companion_learns_is_scored_beside_the_frozen_model(tmp_path, sharp, classes_file, capsys):
    bag = bag_of_blocks(tmp_path / "bag", sharp.classes)
    words = [bag, "--backbone", sharp.backbone, "--classes", classes_file]
    adapting = figures_of(tmp_path, *words, "--wait", "--adapt", "statistics", "--report", tmp_path / "report")
    said = capsys.readouterr().out
    assert (adapting["frames"], adapting["dropped_frames"], adapting["objects"]) == (FRAMES, 0, FRAMES * OBJECTS)
    versions = adapting["adapter_versions"]
    assert versions[0] == 0, "it begins with the frozen model"
    assert versions == sorted(versions)
    assert versions[-1] >= 2, "the companion handed over again and again"
    assert [entry["version"] for entry in adapting["adapter_timeline"]] == versions, "each took over once, in turn"
    assert adapting["adapter_timeline"][0] == {"start": 0, "objects": 0, "version": 0}
    assert set(adapting["adapted"]) == {"accuracy", "macro_accuracy", "answered_accuracy", "ece"}
    assert [set(window) >= {"frozen", "adapted", "adapter_version"} for window in adapting["windows"]].count(False) == 0
    frozen = figures_of(tmp_path, *words, "--offline")
    assert adapting["frozen"] == frozen["frozen"], "the frozen model's figures are those it has by itself"
    assert frozen["adapter_versions"] == [0]
    assert "adapter version" in said
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<th>frozen</th><th>adapted</th>" in page
    for version in versions[1:]:
        assert re.search(rf"<tr><td[^>]*>{version}</td>", page), "every version is listed with where it took over"
    assert "adaptation: statistics" in page
