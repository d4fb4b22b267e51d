"""Stamps: jumps back, and clouds paired with boxes."""

from __future__ import annotations

from types import SimpleNamespace

from clipoint3d_ros.nodes.stamps import Frame, Pairs, Repeats, Watch, nanoseconds


def stamped(sec, nanosec=0, name=""):
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)), name=name)


def test_nanoseconds_of_a_stamp():
    assert nanoseconds(stamped(1700000000, 5).header.stamp) == 1700000000000000005


def test_only_a_bag_that_starts_again_is_a_jump():
    watch, second = Watch(), 1_000_000_000
    stamps = [10.0, 10.5, 10.3, 11.0, 9.9, 10.4, 10.9, 3.0, 3.5]
    jumps = [watch.jumped_back(int(stamp * second)) for stamp in stamps]
    assert jumps == [False, False, False, False, True, False, False, True, False]


def test_a_stamp_that_nobody_set_is_no_jump_and_hides_none():
    watch, second = Watch(), 1_000_000_000
    stamps = [10.0, 0.0, 10.1, 0.0, 3.0, 0.0, 3.1]
    jumps = [watch.jumped_back(int(stamp * second)) for stamp in stamps]
    assert jumps == [False, False, False, False, True, False, False]


def test_a_stamp_comes_again_only_where_it_follows_itself_and_was_set():
    repeats = Repeats()
    assert [repeats.again(stamp) for stamp in [5, 5, 6, 5, 0, 0, 5, 5, 5]] == [
        False, True, False, False, False, False, False, True, True,
    ]  # fmt: skip


def test_cloud_and_boxes_of_one_stamp_meet_in_either_order():
    pairs, cloud, boxes = Pairs(), stamped(1, name="cloud"), stamped(1, name="boxes")
    assert pairs.cloud(cloud) is None
    assert pairs.boxes(boxes) == Frame(cloud, boxes)
    assert pairs.boxes(boxes) is None
    assert pairs.cloud(cloud) == Frame(cloud, boxes)


def test_other_stamps_do_not_meet_and_the_oldest_leave():
    pairs = Pairs(depth=2)
    for second in range(5):
        assert pairs.cloud(stamped(second)) is None
    assert pairs.unpaired == 3
    assert pairs.boxes(stamped(0)) is None
    assert pairs.boxes(stamped(4)) is not None


def test_cleared_pairs_forget():
    pairs = Pairs()
    pairs.cloud(stamped(1))
    pairs.clear()
    assert pairs.boxes(stamped(1)) is None
