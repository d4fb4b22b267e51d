"""What the node measures of itself."""

from __future__ import annotations

import contextlib

import pytest

from clipoint3d_ros.nodes.diagnostics import STAGES, Statistics, Throttle, as_message, rate
from clipoint3d_ros.nodes.health import Level


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_latency_is_told_by_stage_with_its_percentiles():
    clock = Clock()
    statistics = Statistics(clock)
    for milliseconds in range(1, 101):
        with statistics.timed("encode"):
            clock.now += milliseconds / 1000
    rows = statistics.values()
    assert float(rows["encode_ms_p50"]) == pytest.approx(50.5, abs=0.1)
    assert float(rows["encode_ms_p95"]) == pytest.approx(95, abs=1)
    assert float(rows["encode_ms_max"]) == pytest.approx(100, abs=0.1)
    assert {f"{stage}_ms_{kind}" for stage in STAGES for kind in ("p50", "p95", "max")} <= rows.keys()


def test_waiting_for_the_device_counts_as_the_stage():
    clock = Clock()
    statistics = Statistics(clock)

    def settle():
        clock.now += 1

    with statistics.timed("encode", settle):
        pass
    assert statistics.values()["encode_ms_max"] == "1000.00"


def test_a_refused_frame_has_no_latency():
    statistics = Statistics(Clock())
    with contextlib.suppress(ValueError), statistics.timed("total"):
        raise ValueError
    assert statistics.values()["processed"] == "0"


def test_refused_clouds_are_counted_by_reason_and_the_newest_sentence_shows_once():
    statistics = Statistics()
    statistics.malformed("stride", "first")
    statistics.malformed("stride", "second")
    statistics.malformed("size", "third")
    rows = statistics.values()
    assert (rows["malformed"], rows["malformed.stride"], rows["malformed.size"]) == ("3", "2", "1")
    assert statistics.take_trouble() == "third"
    assert statistics.take_trouble() == ""


def test_counts_are_added_to():
    statistics = Statistics()
    statistics.count("dropped", 2)
    assert statistics.values(dropped=3)["dropped"] == "5"
    assert statistics.values()["dropped"] == "2"


def test_a_steady_stream_has_its_rate_and_a_stopped_one_sinks():
    moments = [index / 10 for index in range(100)]
    assert rate(moments, moments[-1]) == pytest.approx(10)
    assert rate(moments, moments[-1] + 5) < 7
    assert rate(moments, moments[-1] + 60) == 0
    assert rate([], 5) == 0


def test_equal_warnings_pass_once_a_period_with_the_number_held_back():
    clock = Clock()
    throttle = Throttle(clock)
    assert throttle.passes("a", 10) == 0
    assert [throttle.passes("a", 10) for _ in range(3)] == [None] * 3
    assert throttle.passes("b", 10) == 0
    clock.now += 11
    assert throttle.passes("a", 10) == 3


def test_clouds_that_come_and_are_not_answered_are_told_with_the_reason_until_one_is():
    clock = Clock()
    statistics = Statistics(clock)
    statistics.received()
    assert statistics.unanswered(5) == "", "it has only just come"
    clock.now += 5
    assert statistics.unanswered(5) == "clouds arrive, but none has been answered for 5 s"
    assert statistics.unanswered(0) == "", "never, if so asked"
    statistics.refused("skipped_old", "its stamp is 9 s old")
    assert statistics.unanswered(5) == "no cloud is answered: its stamp is 9 s old"
    with statistics.timed("total"):
        pass
    assert statistics.unanswered(5) == ""
    statistics.received()
    statistics.malformed("size", "too large")
    assert statistics.unanswered(5) == "no cloud is answered: too large"
    clock.now += 11
    assert statistics.unanswered(5) == "", "nothing comes any more: that is silence"
    statistics.received()
    statistics.forget()
    assert statistics.unanswered(5) == ""
    assert statistics.values()["skipped_old"] == "1"


def test_the_slowest_cloud_is_told_once_and_the_one_in_hand_as_long_as_it_takes():
    clock = Clock()
    statistics = Statistics(clock)
    assert statistics.slowest_ms() == (None, 0)
    for took in (0.1, 0.3, 0.2):
        with statistics.timed("total"):
            clock.now += took
    assert statistics.slowest_ms() == (pytest.approx(300), 0)
    with statistics.timed("total"):
        clock.now += 2
        assert statistics.slowest_ms() == (None, pytest.approx(2000))
    with contextlib.suppress(ValueError), statistics.timed("total"):
        raise ValueError
    assert statistics.slowest_ms() == (pytest.approx(2000), 0)


@pytest.mark.ros
def test_the_message_holds_every_value():
    pytest.importorskip("diagnostic_msgs.msg", reason="ROS message packages are not installed")
    from builtin_interfaces.msg import Time

    message = as_message("perception", "cpu", "fine", {"rate_hz": "2.0"}, Time(sec=4), Level.WARN)
    (status,) = message.status
    assert status.level == b"\x01"
    assert (status.values[0].key, status.values[0].value) == ("rate_hz", "2.0")
    assert message.header.stamp.sec == 4
