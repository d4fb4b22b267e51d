"""Whose doing a change of perception's `bundle` was, whatever order its events arrive in."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("rcl_interfaces.msg", reason="rcl_interfaces is not installed")

from rcl_interfaces.msg import Parameter, ParameterEvent, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters

from clipoint3d_ros.nodes.hand_over import CLASSES_CHANGED, Answer, HandOver, Theirs

STOPPED = Answer("perception's answer was not waited for, since this node stops", decided=False)


class Perception:
    """Answers at once, and refuses folders that are called so; a deaf one never answers."""

    def __init__(self, there=True, deaf=False):
        self.there, self.deaf, self.bundle, self.asked = there, deaf, "", 0

    def create_client(self, kind, name):
        assert (kind, name) in (
            (SetParameters, "perception/set_parameters"),
            (GetParameters, "perception/get_parameters"),
        )
        return self

    def get_namespace(self):
        return "/robot"

    def service_is_ready(self):
        return self.there

    def call_async(self, request):
        self.asked += 1
        if hasattr(request, "names"):
            answer = SimpleNamespace(values=[SimpleNamespace(string_value=self.bundle)] if request.names else [])
        else:
            path = request.parameters[0].value.string_value
            refused = "refused" in path
            self.bundle = self.bundle if refused else path
            result = SimpleNamespace(successful=not refused, reason="it is damaged" if refused else "")
            answer = SimpleNamespace(results=[result])
        return SimpleNamespace(
            add_done_callback=lambda done: None if self.deaf else done(None),
            done=lambda: not self.deaf,
            result=lambda: answer,
        )


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
    assert hand.give("/live/1") == Answer()
    assert perception.bundle == "/live/1"
    assert hand.set_by_others(event("/live/1")) is None


def test_events_that_arrive_after_the_next_hand_over_are_still_our_own(hand):
    for path in ("/live/1", "/live/2", ""):
        hand.give(path)
    assert [hand.set_by_others(event(path)) for path in ("/live/1", "/live/2", "")] == [None] * 3


def test_an_event_that_was_lost_does_not_hide_the_next(hand):
    for path in ("/live/1", "/live/2"):
        hand.give(path)
    assert hand.set_by_others(event("/live/2")) is None
    assert "set to '/live/1' by someone else" in hand.set_by_others(event("/live/1")).why


def test_what_somebody_else_sets_is_told_even_where_it_was_ours_once(hand):
    hand.give("/live/1")
    assert hand.set_by_others(event("/live/1")) is None
    for path in ("/theirs", "", "/live/1"):
        assert hand.set_by_others(event(path)) == Theirs(
            f"perception's bundle was set to '{path}' by someone else; call ~/pause with false to go on", path
        )


def test_a_refusal_is_told_and_expects_no_event(hand, perception):
    hand.give("/live/1")
    assert hand.give("/refused") == Answer("perception refused it: it is damaged")
    assert perception.bundle == "/live/1"
    assert hand.set_by_others(event("/live/1")) is None
    assert "by someone else" in hand.set_by_others(event("/refused")).why


def test_without_perception_nothing_is_given_or_expected():
    hand = HandOver(Perception(there=False), "perception", found_s=0.1)
    assert hand.give("/live/1") == Answer("no node 'perception' is there to take it", decided=False)
    assert "by someone else" in hand.set_by_others(event("/live/1")).why


def test_other_nodes_and_other_parameters_are_nobody_s_business(hand):
    assert hand.set_by_others(event("/theirs", node="/other/perception")) is None
    assert hand.set_by_others(event("entropy", name="selection")) is None
    assert hand.set_by_others(event("mug", name="classes")) == Theirs(CLASSES_CHANGED)


def test_what_perception_has_been_given_can_be_asked(hand, perception):
    assert hand.given() == ""
    hand.give("/live/1")
    assert hand.given() == "/live/1"
    perception.bundle = "/theirs"
    assert hand.given() == "/theirs"
    assert HandOver(Perception(there=False), "perception", found_s=0.1).given() is None


def test_perception_that_is_found_late_is_waited_for(perception):
    perception.there = False
    thread, found = in_thread(lambda: HandOver(perception, "perception").give("/live/1"))
    time.sleep(1.5)
    perception.there = True
    thread.join(2.0)
    assert found == [Answer()]


def in_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize("call", ["give", "given"])
def test_whoever_waits_for_an_answer_is_told_when_the_node_stops(call):
    perception = Perception(deaf=True)
    hand = HandOver(perception, "perception")
    thread, found = in_thread(lambda: hand.give("/live/1") if call == "give" else hand.given())
    while not perception.asked:
        time.sleep(0.01)
    with hand.hurried():
        thread.join(2.0)
        assert not thread.is_alive(), "it went on waiting"
    assert found == [STOPPED if call == "give" else None]


def test_what_was_sent_without_waiting_is_still_our_own(perception):
    hand = HandOver(Perception(deaf=True), "perception")
    with hand.hurried():
        assert hand.give("/live/1") == STOPPED
    assert hand.set_by_others(event("/live/1")) is None


def test_in_a_hurry_a_perception_that_is_not_there_is_not_looked_for():
    hand = HandOver(Perception(there=False), "perception")
    began = time.monotonic()
    with hand.hurried():
        assert hand.give("/live/1") == Answer("no node 'perception' is there to take it", decided=False)
    assert time.monotonic() - began < 0.5


def test_after_a_hurry_answers_are_waited_for_again(hand):
    with hand.hurried():
        pass
    assert hand.give("/refused") == Answer("perception refused it: it is damaged")


def test_what_is_wanted_no_longer_at_the_last_moment_is_not_given(hand, perception):
    hand.give("/live/1")
    assert hand.give("/live/2", lambda: False) == Answer("it is wanted no longer", decided=False)
    assert perception.bundle == "/live/1"


@pytest.mark.parametrize(
    ("name", "there"), [("perception", "/robot/perception"), ("/arm/perception", "/arm/perception")]
)
def test_perception_is_known_by_its_name_in_the_namespace_or_the_whole_of_it(perception, name, there):
    perception.create_client = lambda kind, service: perception
    hand = HandOver(perception, name)
    assert hand.set_by_others(event("/theirs", node=there)).bundle == "/theirs"
    assert hand.set_by_others(event("/theirs", node=f"/other{there}")) is None


def test_perception_that_starts_anew_with_a_bundle_has_somebody_s_and_without_one_has_nobody_s(hand):
    told = [Parameter(name="bundle", value=ParameterValue(type=4, string_value=given)) for given in ("/theirs", "")]
    started, bare = (ParameterEvent(node="/robot/perception", new_parameters=[each]) for each in told)
    assert hand.set_by_others(started).bundle == "/theirs"
    assert hand.set_by_others(bare) is None
