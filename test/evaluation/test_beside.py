"""The cost of a companion, over real DDS with a stand-in for perception, and the table made of it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy", reason="the replay needs ROS 2's Python packages (make setup)")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed (make setup)")

from labelled import labelled_bag

from clipoint3d_ros.evaluation import beside
from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.evaluation.beside import Measured, measure, rows, table


def test_every_row_has_its_ratio_to_perception_alone():
    found = {
        "off": Measured([0.1] * 100, 0.0, 20.0),
        "gradient": Measured([0.1] * 98 + [0.3] * 2, 5.0, 20.0, adapted=40),
    }
    alone, beside = rows(found)
    assert (alone["p50_ratio"], alone["p99_ratio"], alone["cores"]) == (1, 1, 0)
    assert (beside["p50_ratio"], beside["cores"], beside["answers"]) == (1, 0.25, 100)
    assert beside["p99_ms"] == pytest.approx(300)
    assert beside["p99_ratio"] == pytest.approx(3)
    assert "| gradient | 100 | 40 | 100 | 300 | 1.00 | 3.00 | 0.250 |" in table([alone, beside])


def test_rows_are_written_whole_into_a_new_folder(tmp_path, monkeypatch):
    bag = labelled_bag(tmp_path / "bag", [{"2": "box"}])
    monkeypatch.setattr(beside, "measure", lambda *given: {"off": Measured([0.1] * 3, 0.0, 2.0)})
    told = tmp_path / "new" / "rows.json"
    assert beside.main([str(bag), "--duty-cycle", "0.1", "--json", str(told)]) == 0
    figures = json.loads(told.read_text())
    assert (figures["duty_cycle"], figures["rows"][0]["mode"]) == (0.1, "off")
    assert [path.name for path in told.parent.iterdir()] == ["rows.json"]


@pytest.mark.ros
def test_a_bag_is_played_twice_a_turn_and_timed_once(tmp_path, stand_in):
    bag = LabelledBag(labelled_bag(tmp_path / "bag", [{"2": "box"}, {"3": "can"}, {"4": "box"}]))
    (alone,) = measure(bag, {}, {}, rounds=2, period_s=0.05, modes=["off"]).values()
    assert len(alone.latencies) == 2 * 3
    assert all(0 < latency < 5 for latency in alone.latencies)
    assert (alone.spent, alone.adapted) == (0, 0)
    assert alone.length >= 2 * 3 * 0.05
