"""What is known of versions, whatever order events come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipoint3d_ros.nodes.versions import FROZEN, Versions

BUNDLE = Path("/live/version-000007")


@pytest.fixture
def versions():
    return Versions()


def test_at_first_the_frozen_model_is_learned_from(versions):
    assert (versions.made, versions.live, versions.served) == (FROZEN, FROZEN, None)
    assert versions.known == {FROZEN}
    assert not versions.strange, "perception has said nothing yet"
    versions.say(FROZEN)
    assert not versions.strange


def test_statistics_leave_features_as_they_are_so_all_versions_are_known(versions):
    for version in (1, 2):
        versions.put(version)
        versions.take(version)
    assert versions.known == {FROZEN, 1, 2}
    assert (versions.made, versions.live) == (2, 2)


def test_a_trained_network_makes_all_features_of_before_unknown(versions):
    versions.put(1)
    versions.take(1)
    versions.say(1)
    network = object()
    versions.follow(network)
    assert (versions.known, versions.strange) == (frozenset(), True)
    versions.put(2)
    versions.take(2)
    versions.say(2)
    assert (versions.known, versions.strange, versions.network) == ({2}, False, network)
    versions.give_up()
    assert (versions.known, versions.network) == ({FROZEN}, None)
    assert versions.made == 2, "no number is used twice"


def test_a_number_that_was_not_given_just_now_says_nothing_until_perception_has_been_asked(versions):
    versions.put(3)
    versions.take(3)
    versions.say(3)
    assert (versions.unsure, versions.known) == (False, {FROZEN, 3}), "as it was to say"
    versions.say(3)
    assert (versions.unsure, versions.strange, versions.known) == (True, False, {FROZEN}), "it may be another's"
    versions.take(3)
    assert (versions.unsure, versions.known) == (False, {FROZEN, 3})
    versions.say(FROZEN)
    assert not versions.unsure
    versions.say(50)
    assert (versions.unsure, versions.live) == (True, 3)
    versions.leave()
    assert (versions.unsure, versions.theirs, versions.live, versions.strange) == (False, True, FROZEN, True)


def test_what_perception_served_before_a_new_beginning_is_to_be_asked(versions):
    versions.say(4)
    versions.begin(4)
    assert versions.unsure
    versions.say(FROZEN)
    versions.begin(4)
    assert not versions.unsure


def test_perception_that_starts_anew_leaves_live_what_it_lost(versions):
    versions.put(3)
    versions.take(3)
    versions.say(FROZEN)
    assert versions.live == 3


@pytest.mark.parametrize(("network", "known"), [(None, {FROZEN, 7}), ("trained", {7})])
def test_an_earlier_life_is_gone_on_with_once_perception_has_been_asked(versions, network, known):
    versions.put(2)
    versions.begin(9)
    assert (versions.made, versions.known) == (9, {FROZEN})
    versions.go_on(BUNDLE, 7, network)
    assert (versions.restart, versions.network, versions.known) == ((BUNDLE, 7), network, known)
    versions.say(7)
    assert versions.live == FROZEN, "it may be another bundle of that number"
    versions.take(7)
    assert (versions.live, versions.restart) == (7, None)


def test_what_is_pending_is_wanted_until_perception_takes_it_refuses_it_or_says_that_it_serves_it(versions):
    for over in (versions.take, lambda version: versions.refuse(("/live/3", version)), versions.say):
        versions.put(3)
        assert versions.want("/live/3", 3) == versions.pending == ("/live/3", 3)
        assert versions.wanted == 3
        over(3)
        assert versions.pending is None


def test_what_was_given_up_stays_wanted_away_until_perception_is_frozen(versions):
    versions.put(3)
    versions.take(3)
    versions.give_up()
    versions.want("", FROZEN)
    assert (versions.live, versions.wanted) == (3, FROZEN)
    versions.say(3)
    assert (versions.wanted, versions.strange) == (FROZEN, True)
    versions.say(FROZEN)
    assert (versions.live, versions.wanted, versions.pending) == (FROZEN, FROZEN, None)


def test_a_newer_wish_outlasts_the_end_of_an_older_one(versions):
    for number in (3, 4):
        versions.put(number)
        versions.want(f"/live/{number}", number)
    versions.take(3)
    assert (versions.live, versions.wanted) == (3, 4)
    versions.refuse(("/live/3", 3))
    assert versions.wanted == 4


def test_against_somebody_else_s_choice_nothing_is_wanted(versions):
    versions.put(3)
    versions.take(3)
    versions.want("/live/4", 4)
    versions.leave()
    assert (versions.live, versions.wanted, versions.pending) == (FROZEN, FROZEN, None)


def test_somebody_else_s_bundle_may_have_a_number_of_this_companion_s_and_is_strange_all_the_same(versions):
    for version in (1, 2):
        versions.put(version)
        versions.take(version)
    versions.leave()
    versions.say(1)
    assert (versions.strange, versions.live, versions.known) == (True, FROZEN, {FROZEN})
    versions.say(FROZEN)
    assert not versions.strange, "the frozen model is the same, whoever chose it"
    versions.want("/live/3", 3)
    versions.put(3)
    versions.say(3)
    assert (versions.strange, versions.known) == (False, {FROZEN, 1, 2, 3})
