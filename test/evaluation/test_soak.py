"""Seconds of a long run over real DDS, against the stand-in for the node."""

import os
import signal
import threading
from itertools import pairwise

import pytest

pytest.importorskip("rclpy", reason="the replay needs ROS 2's Python packages (make setup)")
pytest.importorskip("vision_msgs.msg", reason="the replay needs vision_msgs (make setup)")

from labelled import labelled_bag

from clipoint3d_ros.evaluation import soak
from clipoint3d_ros.evaluation.bags import SECOND, BagError, LabelledBag, Topics
from clipoint3d_ros.evaluation.long_run import figures
from clipoint3d_ros.evaluation.replay import ReplayConfig
from clipoint3d_ros.evaluation.soak import SoakConfig

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("stand_in")]
SECONDS = 1 / 3600  # hours
FRAMES = [{"2": "box"}, {"3": "can"}, {"4": "box"}, {"5": "can"}]


@pytest.fixture
def bag(tmp_path):
    return LabelledBag(labelled_bag(tmp_path / "bag", FRAMES, period=SECOND // 10), Topics(truth=""))


def run(bag, seconds=3.0, pace=None, told=lambda run: None, **keys):
    pace = pace or ReplayConfig(rate=2.0, start_timeout=60)
    return soak.soak([bag], {"unknown_below": 0.0}, SoakConfig(seconds * SECONDS, **keys), pace, told)


def test_a_bag_goes_round_and_round_and_every_cloud_is_answered(bag):
    heard = []
    found = figures(run(bag, jump_back=3, told=heard.append))
    assert found["ended"] == "in full"
    assert 10 <= found["loops"] <= 15, "four clouds of 0.05 s each for three seconds"
    assert found["jumps_back"] == (found["loops"] - 1) // 3
    assert found["frames"]["sent"] == pytest.approx(60, abs=12)
    assert found["frames"]["answered"] == found["frames"]["sent"]
    assert found["good"]
    assert 0 < found["latency_ms"]["p50"] < 1000
    assert 10 < found["memory"]["perception"]["end_mb"] < 2000
    assert len(heard) >= 8
    assert heard[-1].samples[-1].sent > heard[0].samples[-1].sent


def test_the_clock_goes_on_and_jumps_back_when_told(bag, monkeypatch):
    stamps = []
    monkeypatch.setattr(soak._Record, "will_send", lambda record, stamp: stamps.append(stamp))
    run(bag, seconds=1.5, jump_back=2)
    steps = [after - before for before, after in pairwise(stamps)]
    assert steps[:7] == [SECOND // 10] * 7, "two rounds as if they were one"
    assert steps[7] == -7 * SECOND // 10, "then the clock is back at the bag's own"
    assert stamps[8:16] == stamps[:8]


def test_a_node_that_keeps_what_it_gets_is_found_out(bag, stand_in):
    stand_in("leak 8")
    found = figures(run(bag))
    assert not found["good"]
    assert found["memory"]["perception"]["verdict"] == "grows"
    assert found["memory"]["perception"]["slope_mb_h"] > 10_000


def test_a_node_that_dies_ends_it_with_what_was_measured(bag, stand_in):
    stand_in("die 20")
    found = figures(run(bag, seconds=30.0))
    assert found["ended"] == "died"
    assert "exit code 3" in found["died"]
    assert "good-bye" in found["died"]
    assert found["frames"]["answered"] == 19
    assert found["hours"] < 20 * SECONDS


def test_clouds_without_an_answer_are_counted(bag, stand_in):
    stand_in("skip 4")
    found = figures(run(bag, pace=ReplayConfig(wait=True, timeout=0.3, start_timeout=60)))
    assert found["frames"]["missed"] == pytest.approx(found["frames"]["sent"] / 4, abs=1.5)
    assert found["frames"]["missed"] + found["frames"]["answered"] == found["frames"]["sent"]


@pytest.fixture
def interruptible():
    """A shell that runs the tests in its background has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_user_s_interrupt_ends_it_early_and_leaves_what_was_measured(bag, interruptible):
    def told(run):
        if len(run.samples) == 4:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    run_ = run(bag, seconds=30.0, told=told)
    assert run_.stopped
    assert len(run_.samples) >= 4
    assert figures(run_)["ended"] == "stopped early"


def test_warnings_that_differ_by_a_number_are_one(bag, stand_in):
    stand_in("warn no cloud for")
    found = figures(run(bag))
    ((said, times),) = found["warnings"].items()
    assert said.startswith("perception: no cloud for ")
    assert times >= 4
    assert found["counters"]["perception"]["failed"] == "3"
    assert found["gpu_memory"]["perception"]["end_mb"] == 12.5


def test_a_bag_without_clouds_or_with_a_stamp_twice_is_refused(tmp_path):
    with pytest.raises(BagError, match="no message"):
        run(LabelledBag(labelled_bag(tmp_path / "empty", []), Topics(truth="")))
    twice = labelled_bag(tmp_path / "twice", FRAMES, period=0)
    with pytest.raises(BagError, match="same stamp"):
        run(LabelledBag(twice, Topics(truth="")))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"hours": 0.0}, "above 0"),
        ({"hours": 1.0, "jump_back": -1}, "-1"),
        ({"hours": 1.0, "limit_mb_h": 0.0}, "limit"),
    ],
)
def test_what_makes_no_sense_is_refused(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        SoakConfig(**words)
