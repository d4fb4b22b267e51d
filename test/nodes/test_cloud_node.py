"""What nodes that take clouds say of old ones, stamps of the future, silence and lateness.

Asked of perception, over real DDS, with a classifier that needs no model.
"""

from __future__ import annotations

import time

import pytest
from clouds_made import scene

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from peer import labels
from stand_in import StandIn

from clipoint3d_ros.nodes import lifecycle

pytestmark = pytest.mark.ros

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"
BOTH = {"5": "can", "9": "book"}


@pytest.fixture
def start(start, monkeypatch):
    """Starts nodes that tell of themselves ten times a second."""
    monkeypatch.setattr(lifecycle, "TICK_S", 0.1)
    return start


@pytest.fixture
def clock(start):
    """Gives `tell(peer, seconds)`, which publishes a time on /clock until the node has it."""
    message = pytest.importorskip("rosgraph_msgs.msg", reason="rosgraph_msgs is not installed").Clock
    publishers = {}

    def tell(peer, seconds):
        if peer not in publishers:
            publishers[peer] = peer.node.create_publisher(message, "/clock", 10)
        told = message()
        told.clock.sec = seconds

        def arrived():
            publishers[peer].publish(told)
            return peer.served.get_clock().now().nanoseconds == seconds * 1_000_000_000

        peer.wait(arrived, what=f"the node's clock at {seconds} s")

    return tell


def diagnosed(peer, condition, what):
    """The first diagnostics from now on that are as wanted."""
    return peer.wait(lambda: next((d for d in [peer.diagnosis()] if condition(d)), None), what=what)


def test_an_old_cloud_is_counted_skipped_and_said_and_a_fresh_one_answered(start, capfd):
    peer = start(max_age_s=30.0)
    now = int(time.time())
    peer.send(scene(), now - 3600)
    assert peer.silent_on(now - 3600)
    rows = peer.diagnosis()
    assert (rows["skipped_old"], rows["processed"], rows["failed"]) == ("1", "0", "0")
    assert (rows["level"], float(rows["age_s"])) == (WARN, pytest.approx(3600, abs=20))
    assert "above 'max_age_s' of 30 s" in capfd.readouterr().err
    peer.send(scene(), now)
    assert labels(peer.answer(now)) == BOTH
    assert peer.set(max_age_s=0) == (True, "")
    peer.send(scene(), now - 3600)
    peer.answer(now - 3600)


def test_a_cloud_grows_old_while_it_waits_for_its_boxes(start):
    peer = start(max_age_s=4.0, input_form="boxes")
    boxes = [("a", (0.5, 0.1, 0.1), (1, 1, 1))]
    peer.send_boxes(boxes, 1)  # makes the publisher known, which takes a while
    now = int(time.time())
    peer.send_boxes(boxes, now)
    peer.send(scene(), now)
    assert labels(peer.answer(now)) == {"a": "can"}
    now += 1
    time.sleep(max(0.0, now - time.time()))
    peer.send(scene(), now)
    time.sleep(max(0.0, now + 4.2 - time.time()))
    peer.send_boxes(boxes, now)
    assert peer.silent_on(now)
    assert peer.diagnosis()["skipped_old"] == "1"


def test_a_stamp_of_the_future_is_answered_counted_and_said(start, capfd):
    peer = start(max_age_s=1.0)
    later = int(time.time()) + 3600
    peer.send(scene(), later)
    assert labels(peer.answer(later)) == BOTH
    rows = peer.diagnosis()
    assert (rows["from_future"], rows["skipped_old"]) == ("1", "0")
    assert "after this node's clock" in capfd.readouterr().err


def test_with_sim_time_the_age_is_by_the_bag_s_clock_wherever_that_jumps(start, clock, capfd):
    peer = start(max_age_s=5.0, use_sim_time=True)
    peer.send(scene(), 100)
    assert labels(peer.answer(100)) == BOTH
    assert "nothing has come on /clock" in capfd.readouterr().err
    for now, stamp, answered in [
        (100, 99, True), (100, 90, False), (10, 8, True), (2_000_000_000, 30, False),
        (2_000_000_000, 1_999_999_999, True), (20, 19, True),
    ]:  # fmt: skip
        clock(peer, now)
        peer.send(scene(), stamp)
        assert (peer.answer(stamp) is not None) if answered else peer.silent_on(stamp, seconds=0.3), (now, stamp)
    rows = peer.diagnosis()
    assert (rows["skipped_old"], rows["from_future"], rows["failed"]) == ("2", "1", "0")


def test_silence_that_lasts_is_an_error_and_is_over_with_the_next_cloud(start):
    peer = start(silence_s=0.2, error_after_s=1.0)
    assert diagnosed(peer, lambda d: d["level"] != OK, "a word of the silence")["level"] == WARN
    worse = diagnosed(peer, lambda d: d["level"] == ERROR, "an error")
    assert "no cloud for" in worse["message"]
    assert peer.set(silence_s=60) == (True, "")
    peer.send(scene(), 1)
    peer.answer(1)
    diagnosed(peer, lambda d: d["level"] == OK, "good health")


def test_where_nobody_publishes_it_says_so_and_is_well(start, capfd):
    peer = start(silence_s=0.5)
    peer.node.destroy_publisher(peer._points)
    told = diagnosed(peer, lambda d: d["message"].startswith("nobody publishes"), "a word of it")
    assert told["level"] == OK
    assert told["message"].endswith("/input/points; publish there, or remap '~/input/points' to the clouds' topic")
    assert "nobody publishes" not in capfd.readouterr().err, "it was heard of before: the camera may come back"


def test_a_node_that_nobody_has_published_to_since_it_began_logs_it_once(start, capfd):
    peer = start(active=False, autostart=False, silence_s=0.5)
    peer.node.destroy_publisher(peer._points)
    peer.wait(lambda: not peer.node.count_publishers(f"{peer.base}/input/points"), what="nobody")
    assert peer.transition("configure")
    assert peer.transition("activate")
    diagnosed(peer, lambda d: d["message"].startswith("nobody publishes"), "a word of it")
    time.sleep(2.5)
    assert capfd.readouterr().err.count("nobody publishes") == 1


def test_lateness_is_warned_of_at_once_an_error_when_it_lasts_and_over_when_clouds_are_in_time(start, capfd):
    peer = start(latency_limit_ms=150.0, error_after_s=1.0, silence_s=0.0)
    StandIn.delay_s = 0.2
    peer.send(scene(), 1)
    assert peer.answer(1)
    assert "above 'latency_limit_ms' of 150 ms" in diagnosed(peer, lambda d: d["level"] == WARN, "a word")["message"]
    assert "above 'latency_limit_ms'" in capfd.readouterr().err
    for sec in range(2, 8):
        peer.send(scene(), sec)
        peer.answer(sec)
    diagnosed(peer, lambda d: d["level"] == ERROR, "an error")
    StandIn.delay_s = 0.0
    peer.send(scene(), 10)
    peer.answer(10)
    diagnosed(peer, lambda d: d["level"] == OK, "good health")


def test_a_cloud_that_is_never_finished_is_late_too(start):
    peer = start(latency_limit_ms=200.0)
    StandIn.delay_s = 2.0
    peer.send(scene(), 1)
    assert diagnosed(peer, lambda d: d["level"] == WARN, "a word")["processed"] == "0"
    peer.answer(1)


def test_clouds_of_which_none_is_answered_are_an_error_with_the_reason_until_one_is(start):
    peer = start(error_after_s=1.0, instance_field=["object"], input_form="labelled")
    for sec in range(1, 13):
        peer.send(scene(), sec)
        time.sleep(0.1)
    worse = diagnosed(peer, lambda d: d["level"] == ERROR, "an error")
    assert "no cloud is answered: " in worse["message"]
    assert "object" in worse["message"]
    peer.send(scene("object"), 20)
    assert labels(peer.answer(20)) == BOTH
    diagnosed(peer, lambda d: d["level"] == OK, "good health")


def test_boxes_that_never_come_are_told(start):
    peer = start(input_form="boxes", silence_s=0.5)
    for sec in range(1, 15):
        peer.send(scene(), sec)
        time.sleep(0.1)
    told = diagnosed(peer, lambda d: d["level"] == WARN, "a word")
    assert "none has been answered" in told["message"]
    assert f"{peer.base}/input/boxes" in told["message"]


def test_what_is_switched_off_is_in_good_health(start):
    peer = start(silence_s=0.3, input_form="boxes")
    peer.send(scene(), 1)
    peer.wait(lambda: peer.served._statistics._counts["received"], what="the cloud")
    assert peer.enable(False).success
    assert peer.set(silence_s=60) == (True, "")
    time.sleep(0.5)
    assert peer.diagnosis()["level"] == OK
