"""Two reasons to pause, and one does not end the other."""

from __future__ import annotations

from clipoint3d_ros.nodes.pauses import Pauses


def test_learning_goes_on_below_the_limits_unless_it_is_paused_for_something_else():
    warned, told = [], []
    pauses = Pauses(warned.append, told.append)
    pauses.hold("")
    assert (pauses.why, warned, told) == ("", [], [])

    pauses.hold("limit of 15 W: 20 W")
    pauses.hold("limit of 15 W: 21 W")
    assert pauses.why == "limit of 15 W: 21 W"
    assert warned == ["adaptation pauses: limit of 15 W: 20 W"], "said once"
    pauses.leave("another bundle")
    assert pauses.why == "another bundle"
    pauses.hold("")
    assert pauses.why == "another bundle"
    assert told == ["below its limits again"]

    pauses.end()
    pauses.hold("limit of 15 W: 20 W")
    pauses.hold("")
    assert pauses.why == ""
    assert told[1:] == ["below its limits again: adaptation goes on"]


def test_a_second_reason_replaces_the_first_and_is_not_warned_of():
    warned = []
    pauses = Pauses(warned.append, lambda _: None)
    pauses.leave("first")
    pauses.leave("second")
    assert (pauses.left, warned) == ("second", ["adaptation pauses: first"])


def test_what_the_user_asked_outlasts_what_others_chose():
    pauses = Pauses(lambda _: None, lambda _: None)
    pauses.asked = "asked to"
    pauses.leave("another bundle")
    pauses.hold("limit of 15 W: 20 W")
    assert pauses.lasting == ("asked to", "another bundle")
    pauses.left = ""
    assert pauses.why == "asked to"
    pauses.end()
    assert pauses.why == "limit of 15 W: 20 W"
