"""The node's speed over real DDS, with a stub in the model's place."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from clipoint3d_ros.cli import main
from clipoint3d_ros.evaluation import node_speed
from clipoint3d_ros.evaluation.node_speed import NodeSpeedConfig, labelled_image, measure_node, table
from clipoint3d_ros.nodes.pointcloud import read_segments

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("objects", [1, 4, 15, 40])
def test_the_image_holds_as_many_objects_as_asked_for(objects):
    segments = read_segments(labelled_image(objects=objects))
    assert len(segments) == objects
    assert all(len(segment.points) > 500 and np.isfinite(segment.points).all() for segment in segments)


@pytest.mark.parametrize("keys", [{"rates": ()}, {"rates": (0.0,)}, {"seconds": 0}])
def test_rates_and_times_that_measure_nothing_are_refused(keys):
    with pytest.raises(ValueError, match="above 0"):
        NodeSpeedConfig(**keys)


@pytest.mark.slow
def test_a_small_cloud_is_answered_at_every_rate_and_the_node_s_memory_stays_flat():
    config = NodeSpeedConfig(rates=(5.0, 10.0), seconds=6, peak_seconds=2, height=120, width=160, objects=5)
    speed = measure_node(config)
    assert speed.peak_hz > 10
    for rate in speed.rates:
        assert rate.sent == rate.answered + rate.missed
        assert rate.missed <= 0.2 * rate.sent, f"{rate.missed} of {rate.sent} clouds missed at {rate.rate} Hz"
        assert 0 < rate.latency_ms["p50"] <= rate.latency_ms["max"]
        half, end = rate.rss_mb
        assert end - half < 30, f"the node grew from {half:.0f} to {end:.0f} MB in {config.seconds / 2} s"
    assert all(0 < least <= median for median, least in speed.path_ms.values())
    assert speed.stages_ms["total"] > 0
    assert "peak" in table(speed)
    assert not math.isnan(json.loads(json.dumps(speed.as_dict()))["rates"][0]["latency_ms"]["p99"])


def test_figures_of_a_node_that_missed_everything_are_strict_json_in_a_new_folder(tmp_path, monkeypatch):
    nothing = node_speed.RateSpeed(10, 10, 5, 0, 5, 0, node_speed._percentiles(np.zeros(0)), 0.0, 1.0, (90.0, 90.0))
    speed = node_speed.NodeSpeed({"both": (1.0, 0.9)}, 0.0, [nothing], {"total": 0.0}, 15, 100)
    monkeypatch.setattr(node_speed, "measure_node", lambda config, told: speed)
    told = tmp_path / "new" / "node.json"
    assert main(["bench", "--node", "--json", str(told)]) == 0
    (rate,) = json.loads(told.read_text(), parse_constant=pytest.fail)["rates"]
    assert (rate["missed"], rate["latency_ms"]["p99"]) == (5, None)


def test_the_command_refuses_what_is_no_rate(capsys):
    assert main(["bench", "--node", "--rates", "0"]) == 1
    assert "above 0" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--plot", "node.png"], ["--objects", "1,15"]])
def test_what_belongs_to_the_other_benchmark_is_refused(words, capsys):
    assert main(["bench", "--node", *words]) == 2
    assert "one number of --objects" in capsys.readouterr().err
