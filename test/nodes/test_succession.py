"""Which version answers next, whatever perception hears of it and whoever else has a say."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rcl_interfaces.msg", reason="rcl_interfaces is not installed")

from clipoint3d_ros.nodes import succession
from clipoint3d_ros.nodes.hand_over import Answer, Theirs, by_others
from clipoint3d_ros.nodes.succession import Succession
from clipoint3d_ros.nodes.versions import FROZEN

UNHEARD = Answer("perception did not answer", decided=False)


class Hand:
    """Perception's `bundle`, and what is to be answered, in turn; then it takes what it is given."""

    busy = False

    def __init__(self, perception="perception"):
        self.perception, self.bundle, self.answers, self.asked = perception, "", [], []

    def give(self, path, still=lambda: True):
        if not still():
            return Answer("it is wanted no longer", decided=False)
        self.asked.append(path)
        answer = self.answers.pop(0) if self.answers else Answer()
        if callable(answer):
            answer = answer()
        if not answer.why:
            self.bundle = path
        return answer

    def given(self):
        return self.bundle

    def set_by_others(self, event):
        return event

    def close(self):
        self.asked = None


@pytest.fixture
def world(monkeypatch):
    """A succession with perception's hand, whether it is paused, what it said and how often it left."""
    monkeypatch.setattr(succession, "HandOver", lambda node, perception: Hand(perception))
    monkeypatch.setattr(succession, "_AGAIN_S", 0.0)
    monkeypatch.setattr(succession, "read_meta", lambda path: {"version": int(path.name)})
    log = SimpleNamespace(info=lambda _: None)
    node = SimpleNamespace(get_logger=lambda: log)
    told = SimpleNamespace(
        paused=False, troubles=[], left=[], store=SimpleNamespace(holds=lambda path: "/live" in path)
    )
    told.succession = Succession(node, "perception", lambda: told.paused, told.left.append, told.troubles.append)
    told.hand, told.versions = told.succession.hand, told.succession.versions
    told.versions.say(FROZEN)
    return told


def tick(world, latest=None):
    world.succession.go_on(world.store, lambda: latest)
    if world.succession._errand.ident:
        world.succession._errand.join(5.0)


def accepted(world, version):
    world.versions.put(version)
    return world.versions.want(f"/live/{version}", version)


def test_what_is_given_and_taken_is_live_and_not_given_again(world):
    assert world.succession.give(accepted(world, 1))
    world.versions.say(1)
    tick(world)
    assert (world.hand.asked, world.versions.live, world.troubles) == (["/live/1"], 1, [""])


def test_what_perception_did_not_hear_of_is_tried_again_and_said(world):
    world.hand.answers = [UNHEARD, UNHEARD]
    assert not world.succession.give(accepted(world, 1))
    tick(world)
    tick(world)
    assert world.hand.asked == ["/live/1"] * 3
    assert world.troubles == ["adapter version 1 was not handed over: perception did not answer"] * 2 + [""]
    assert world.versions.live == 1


def test_what_perception_refuses_is_not_tried_again(world):
    world.hand.answers = [Answer("perception refused it: it is damaged")]
    assert not world.succession.give(accepted(world, 1))
    tick(world)
    assert (world.hand.asked, world.versions.wanted) == (["/live/1"], FROZEN)


def test_the_way_back_to_the_frozen_model_is_tried_until_it_is_done_and_nothing_undoes_it(world, tmp_path):
    world.succession.give(accepted(world, 1))
    world.versions.say(1)
    world.versions.give_up()
    world.hand.answers = [UNHEARD]
    world.paused = True  # which holds adapters back, not this
    assert not world.succession.give(world.versions.want("", FROZEN))
    tick(world, latest=tmp_path / "1")
    assert (world.hand.bundle, world.versions.live) == ("", FROZEN)
    world.paused = False
    world.versions.say(FROZEN)
    tick(world, latest=tmp_path / "1")
    assert world.hand.asked == ["/live/1", "", ""]


def test_in_a_pause_no_adapter_is_given_and_after_it_the_one_that_waits_is(world):
    world.paused = True
    assert not world.succession.give(accepted(world, 1))
    tick(world)
    assert (world.hand.asked, world.troubles) == ([], [])
    world.paused = False
    tick(world)
    assert (world.hand.asked, world.versions.live) == (["/live/1"], 1)


def test_a_newer_wish_overtakes_an_older_one(world):
    older = accepted(world, 1)
    newer = accepted(world, 2)
    assert not world.succession.give(older)
    assert world.succession.give(newer)
    assert world.hand.asked == ["/live/2"]


def test_an_adapter_that_crosses_with_somebody_else_s_bundle_gives_way(world):
    def crossed():
        world.hand.bundle = "/theirs"
        world.succession.set_by_others(Theirs(by_others("/theirs"), "/theirs"))
        return Answer()

    world.hand.answers = [crossed]
    assert not world.succession.give(accepted(world, 1))
    assert (world.hand.bundle, world.versions.live, world.versions.pending) == ("/theirs", FROZEN, None)


def test_somebody_else_s_bundle_that_came_later_is_left_in_place(world):
    def overtaken():
        world.succession.set_by_others(Theirs(by_others("/theirs"), "/theirs"))
        return Answer()

    world.hand.answers = [overtaken]
    given = world.hand.given
    world.hand.given = lambda: "/theirs"
    assert not world.succession.give(accepted(world, 1))
    assert world.hand.asked == ["/live/1"]
    assert given() == "/live/1"


def test_a_perception_started_anew_is_given_the_newest(world, tmp_path):
    world.succession.give(accepted(world, 1))
    world.versions.say(1)
    world.versions.say(FROZEN)
    tick(world, latest=tmp_path / "1")
    assert world.hand.asked == ["/live/1", str(tmp_path / "1")]


@pytest.mark.parametrize(
    ("there", "asked", "live", "left"),
    [
        ("", ["/live/7"], 7, []),
        ("/live/7", [], 7, []),
        ("/live/6", ["/live/7"], 7, []),
        ("/theirs", [], FROZEN, [by_others("/theirs")]),
    ],
)
def test_after_a_restart_what_was_live_is_taken_up_unless_somebody_else_gave_another(world, there, asked, live, left):
    world.hand.bundle = there
    world.versions.begin(7)
    world.versions.go_on(Path("/live/7"), 7, None)
    tick(world)
    assert (world.hand.asked, world.versions.live, world.left) == (asked, live, left)


@pytest.mark.parametrize(
    ("there", "asked", "live", "left"),
    [
        ("/live/1", [], 1, []),  # of a perception that lost no parameters
        ("/theirs", [], FROZEN, [by_others("/theirs")]),
        ("/live/0", [""], FROZEN, []),  # of this node, before its classes changed
    ],
)
def test_a_number_that_was_not_given_just_now_is_looked_into_before_anything_is_made_of_it(
    world, there, asked, live, left
):
    if there != "/live/0":
        world.succession.give(accepted(world, 1))
        world.versions.say(1)
    world.hand.bundle, world.hand.asked = there, []
    world.versions.say(1)
    assert world.versions.known == {FROZEN}
    for _ in range(2):
        tick(world)
    assert (world.hand.asked, world.versions.live, world.left) == (asked, live, left)
    assert not world.versions.unsure


def test_a_bundle_of_somebody_s_that_perception_starts_with_is_not_overwritten_by_what_waits(world):
    world.hand.answers = [UNHEARD]
    world.succession.give(accepted(world, 1))
    world.hand.bundle, world.hand.asked = "/theirs", []
    world.versions.say(2)
    for _ in range(2):
        tick(world)
    assert (world.hand.asked, world.left) == ([], [by_others("/theirs")])


@pytest.mark.parametrize(("latest", "given"), [("3", "3"), (None, "")])
def test_taken_back_is_the_newest_or_the_frozen_model(world, tmp_path, latest, given):
    world.hand.bundle = "/theirs"
    world.versions.leave()
    path = None if latest is None else tmp_path / latest
    world.succession.take_back(lambda: path)
    world.succession._errand.join(5.0)
    assert world.hand.bundle == (str(path) if path else given)
    assert not world.versions.theirs


def test_before_perception_was_heard_and_while_it_is_asked_nothing_is_given(world):
    accepted(world, 1)
    world.hand.busy = True
    tick(world)
    world.hand.busy, world.versions.served = False, None
    tick(world)
    assert world.hand.asked == []


def test_from_one_try_to_the_next_some_time_passes(world, monkeypatch):
    monkeypatch.setattr(succession, "_AGAIN_S", 30.0)
    world.hand.answers = [UNHEARD]
    world.succession.give(accepted(world, 1))
    tick(world)
    assert world.hand.asked == ["/live/1"]
    world.succession._tried_s = time.monotonic() - 31.0
    tick(world)
    assert world.hand.asked == ["/live/1"] * 2


def test_another_perception_is_asked_by_another_hand(world):
    world.succession.address("perception")
    assert world.succession.hand is world.hand
    world.succession.address("other")
    assert (world.succession.hand.perception, world.hand.asked) == ("other", None)
