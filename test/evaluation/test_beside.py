"""The cost of a companion, over real DDS with a stand-in for perception, and the table made of it."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="the replay needs ROS 2's Python packages (make setup)")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed (make setup)")

from labelled import labelled_bag

from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.evaluation.beside import Measured, measure, rows, table


def test_every_row_has_its_ratio_to_perception_alone():
    found = {
        "off": Measured([0.1] * 100, 0.0, 20.0),
        "gradient": Measured([0.1] * 98 + [0.3] * 2, 5.0, 20.0),
    }
    alone, beside = rows(found)
    assert (alone["p50_ratio"], alone["p99_ratio"], alone["cores"]) == (1, 1, 0)
    assert (beside["p50_ratio"], beside["cores"], beside["answers"]) == (1, 0.25, 100)
    assert beside["p99_ms"] == pytest.approx(300)
    assert beside["p99_ratio"] == pytest.approx(3)
    assert "| gradient | 100 | 100 | 300 | 1.00 | 3.00 | 0.250 |" in table([alone, beside])


@pytest.mark.ros
def test_a_bag_is_played_twice_a_turn_and_timed_once(tmp_path, stand_in):
    bag = LabelledBag(labelled_bag(tmp_path / "bag", [{"2": "box"}, {"3": "can"}, {"4": "box"}]))
    (alone,) = measure(bag, {}, {}, rounds=2, period_s=0.05, modes=["off"]).values()
    assert len(alone.latencies) == 2 * 3
    assert all(0 < latency < 5 for latency in alone.latencies)
    assert alone.spent == 0
    assert alone.length >= 2 * 3 * 0.05
