"""Whose doing a change of perception's `bundle` was, whatever order its events arrive in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rcl_interfaces.msg", reason="rcl_interfaces is not installed")

from rcl_interfaces.msg import Parameter, ParameterEvent, ParameterValue
from rcl_interfaces.srv import SetParameters

from clipoint3d_ros.nodes.hand_over import HandOver


class Perception:
    """Answers at once, and refuses folders that are called so."""

    def __init__(self, there=True):
        self.there, self.bundle = there, ""

    def create_client(self, kind, name):
        assert (kind, name) == (SetParameters, "perception/set_parameters")
        return self

    def get_namespace(self):
        return "/robot"

    def wait_for_service(self, timeout_sec):
        return self.there

    def call_async(self, request):
        path = request.parameters[0].value.string_value
        refused = "refused" in path
        self.bundle = self.bundle if refused else path
        result = SimpleNamespace(successful=not refused, reason="it is damaged" if refused else "")
        answer = SimpleNamespace(results=[result])
        return SimpleNamespace(add_done_callback=lambda done: done(None), result=lambda: answer)


def event(value, name="bundle", node="/robot/perception"):
    changed = [Parameter(name=name, value=ParameterValue(type=4, string_value=value))]
    return ParameterEvent(node=node, changed_parameters=changed)


@pytest.fixture
def perception():
    return Perception()


@pytest.fixture
def hand(perception):
    return HandOver(perception, "perception")


def test_a_bundle_is_given_and_its_event_is_our_own(hand, perception):
    assert hand.give("/live/1") == ""
    assert perception.bundle == "/live/1"
    assert hand.set_by_others(event("/live/1")) == ""


def test_events_that_arrive_after_the_next_hand_over_are_still_our_own(hand):
    for path in ("/live/1", "/live/2", ""):
        hand.give(path)
    assert [hand.set_by_others(event(path)) for path in ("/live/1", "/live/2", "")] == [""] * 3


def test_an_event_that_was_lost_does_not_hide_the_next(hand):
    for path in ("/live/1", "/live/2"):
        hand.give(path)
    assert hand.set_by_others(event("/live/2")) == ""
    assert "set to '/live/1' by someone else" in hand.set_by_others(event("/live/1"))


def test_what_somebody_else_sets_is_told_even_where_it_was_ours_once(hand):
    hand.give("/live/1")
    assert hand.set_by_others(event("/live/1")) == ""
    for path in ("/theirs", "", "/live/1"):
        assert hand.set_by_others(event(path)) == (
            f"perception's bundle was set to '{path}' by someone else; call ~/pause with false to go on"
        )


def test_a_refusal_is_told_and_expects_no_event(hand, perception):
    hand.give("/live/1")
    assert hand.give("/refused") == "perception refused it: it is damaged"
    assert perception.bundle == "/live/1"
    assert hand.set_by_others(event("/live/1")) == ""
    assert "by someone else" in hand.set_by_others(event("/refused"))


def test_without_perception_nothing_is_given_or_expected():
    hand = HandOver(Perception(there=False), "perception")
    assert hand.give("/live/1") == "no node 'perception' is there to take it"
    assert "by someone else" in hand.set_by_others(event("/live/1"))


def test_other_nodes_and_other_parameters_are_nobody_s_business(hand):
    assert hand.set_by_others(event("/theirs", node="/other/perception")) == ""
    assert hand.set_by_others(event("entropy", name="selection")) == ""
    assert "classes were changed" in hand.set_by_others(event("mug", name="classes"))
