"""Clouds that are too old, and stamps of the future."""

from __future__ import annotations

import pytest

from clipoint3d_ros.nodes.ages import FUTURE_S, TooOld, from_future, refuse_old


def test_an_old_cloud_is_refused_with_age_limit_and_way_out():
    refuse_old(0.99, 1.0)
    with pytest.raises(
        TooOld, match=r"its stamp is 1\.25 s old, above 'max_age_s' of 1 s; .*raise 'max_age_s'.*--clock"
    ):
        refuse_old(1.25, 1.0)


@pytest.mark.parametrize("age_s", [-1e10, 0.0, 1e10])
def test_without_a_limit_any_age_will_do(age_s):
    refuse_old(age_s, 0.0)


@pytest.mark.parametrize(
    ("simulated", "started", "words"),
    [
        (False, True, ["stamped 12 s after this node's clock", f"{FUTURE_S:g} s", "chrony"]),
        (True, True, ["stamped 12 s after /clock", "use_sim_time"]),
        (True, False, ["nothing has come on /clock", "ros2 bag play --clock"]),
    ],
)
def test_a_stamp_of_the_future_is_told_with_what_to_do(simulated, started, words):
    said = from_future(-12.0, simulated, started)
    assert all(word in said for word in words), said


def test_clocks_that_differ_a_little_are_no_news():
    assert from_future(-FUTURE_S, simulated=False) == ""
    assert from_future(3e9, simulated=True) == ""
