"""The companion beside a perception node, over real DDS, with a small model that is sure of itself."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bundles import small_bundle

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from adapting import OBJECTS, adaptation_nodes, frame
from moving import lowered
from peer import served_checksum
from rclpy.parameter import Parameter

from clipoint3d_ros.adaptation.memory import Memory
from clipoint3d_ros.adaptation.store import Store
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import load_bundle, read_meta
from clipoint3d_ros.nodes import adapting
from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.hand_over import Answer
from clipoint3d_ros.nodes.versions import Versions

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("quick_ticks")]


@pytest.fixture(scope="module")
def backbone(sharp):
    return load_backbone(sharp.backbone, device="cpu")


def bundles(tmp_path, where="live"):
    folder = tmp_path / "live" if where == "live" else tmp_path / "state" / "bundles"
    return sorted(path.name for path in folder.iterdir())


def values(verdict):
    (status,) = verdict.status
    return {each.key: each.value for each in status.values}


# Hand-over


def test_what_is_seen_becomes_an_accepted_version_and_reset_gives_the_frozen_model_back_bit_for_bit(
    perceive, adapt, tmp_path, backbone
):
    peer = perceive()
    beside = adapt(peer)
    weights = served_checksum(peer.served)
    before, frozen = beside.show(1)
    assert before == frozen, "nothing is live yet"
    beside.wait_for_version(1)
    assert served_checksum(peer.served) != weights
    live = peer.parameter("bundle")
    assert live == str(tmp_path / "live" / "version-000001")
    assert read_meta(live)["parent"] == 0
    served = load_bundle(live, backbone)
    assert served.statistics is not None
    assert served.network.config.frozen, "tier 1 trains no network"

    adapted, beside_it = beside.show(2)
    assert beside_it == frozen, "the frozen model answers with every digit as before"
    assert adapted != frozen

    success, message = beside.call("reset")
    assert (success, message) == (True, "everything learned is forgotten; perception goes back to the frozen model")
    beside.wait_for_version(0)
    assert peer.parameter("bundle") == ""
    assert served_checksum(peer.served) == weights
    assert bundles(tmp_path) == []
    told = beside.diagnosed(lambda d: d["version"] == "0", "version 0 in the diagnostics")
    assert told["paused"] == "no"
    assert beside.served._adapting.companion.live is None
    assert (len(beside.served._adapting.companion.learned), len(beside.served._adapting.companion.held)) == (0, 0)

    assert beside.call("pause", True)[0]  # else it learns anew at once
    assert beside.show(3) == (frozen, frozen)


def test_sightings_say_what_perception_saw(perceive, adapt, sharp, tmp_path):
    peer = perceive()
    beside = adapt(peer, every=1000, learned_log=str(tmp_path / "logs" / "learned.jsonl"))
    answer, _ = beside.show(7)
    companion = beside.served._adapting.companion
    held, learned = companion.held.sightings(), companion.learned.sightings()
    assert (len(learned), len(held)) == (15, 5)
    assert {s.track % 4 for s in held} == {0}
    for sighting in (*held, *learned):
        assert sharp.classes[sighting.label] == answer[sighting.id][0][0]
        assert sighting.stamp_s == 7
        assert sighting.points == 200
        assert 0.7 < sighting.distance < 2.5
        assert 0 < sighting.elevation < 0.5, "the sensor looks down on them"
        assert sighting.logits.argmax() == sighting.label
        assert sighting.cloud is None, "tier 1 keeps no clouds"
    lines = [json.loads(line) for line in (tmp_path / "logs" / "learned.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(answer)
    assert all(line["kept"] and line["class"] == answer[line["id"]][0][0] for line in lines)
    assert "cloud" not in lines[0]


def test_every_verdict_is_published_with_its_numbers(perceive, adapt):
    beside = adapt(perceive())
    beside.show()
    beside.wait_for_version(1)
    (verdict,) = beside.verdicts
    assert verdict.status[0].name.endswith("adaptation: verdict")
    assert verdict.status[0].message == "accepted"
    told = values(verdict)
    assert (told["accepted"], told["version"]) == ("true", "1")
    assert told["held_out"] == "5 (limit 4)"
    assert told["probe"] == "1 (limit 0.98)"
    assert set(told) >= {"not_finite", "held_out", "classes", "probe", "drift", "variety", "entropy"}
    assert beside.diagnosed(lambda d: d["version"] == "1")["verdict"].startswith("accepted [not_finite 0 (limit 0)")


def test_a_source_that_helps_nothing_never_goes_live_and_says_so(perceive, adapt, reference, sharp):
    reference(replace(sharp.reference, helpful=False))
    peer = perceive()
    beside = adapt(peer)
    answer, frozen = beside.show()
    peer.wait(lambda: beside.verdicts, what="a verdict")
    assert beside.verdicts[0].status[0].message.endswith("words alone answer")
    assert beside.version() == 0
    assert beside.show() == (answer, frozen)
    assert beside.diagnosis()["anchored"] == "words alone answer"


def test_repeated_rejection_takes_the_frozen_model_back_and_a_restart_does_not_undo_that(perceive, adapt, tmp_path):
    peer = perceive()
    beside = adapt(peer, rejections=2)
    beside.show()
    beside.wait_for_version(1)
    companion = beside.served._adapting.companion
    companion.held.clear()  # nothing is left to judge by
    assert [beside.call("adapt")[0] for _ in range(2)] == [False, False]
    beside.wait_for_version(0)
    assert peer.parameter("bundle") == ""
    assert companion.live is None
    assert beside.call("pause", True)[0]
    answer, frozen = beside.show()
    assert answer == frozen
    assert bundles(tmp_path) == bundles(tmp_path, "state") == []

    beside.stop()
    again = adapt(peer)
    assert again.diagnosed(lambda d: d["state"] == "active")["version"] == "0"
    assert again.served._adapting.companion.live is None
    assert peer.parameter("bundle") == ""


def test_a_return_to_the_frozen_model_that_perception_does_not_hear_of_is_tried_again(perceive, adapt, monkeypatch):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    give, tried = beside.served._succession.hand.give, []

    def deaf_at_first(path, still):
        tried.append(path)
        return Answer("perception did not answer", decided=False) if len(tried) == 1 else give(path, still)

    monkeypatch.setattr(beside.served._succession.hand, "give", deaf_at_first)
    assert beside.call("reset")[0]
    beside.peer.wait(lambda: tried, what="a first try")
    assert beside.version() == 1
    beside.wait_for_version(0)
    assert tried == ["", ""]
    beside.diagnosed(lambda d: d["version"] == "0")
    assert beside.served._versions.pending is None


@pytest.mark.parametrize("call", ["pause", "reset of perception"])
def test_what_is_accepted_as_a_pause_begins_is_not_handed_over_in_it(perceive, adapt, monkeypatch, call):
    peer = perceive()
    beside = adapt(peer)
    node, began = beside.served, []
    hand_over = node._hand_over

    def late(*candidate):
        if not began:  # accepted, and not handed over yet
            if call == "pause":
                assert beside.call("pause", True)[0]
            else:
                assert peer.set(bundle="") == (True, "")
            peer.wait(lambda: node._pauses.why, what="a pause")
            began.append(True)
        hand_over(*candidate)

    monkeypatch.setattr(node, "_hand_over", late)
    beside.show()
    beside.diagnosed(lambda d: d["paused"] != "no")
    time.sleep(0.5)
    assert (beside.version(), peer.parameter("bundle")) == (0, "")
    assert beside.call("pause", False)[0]
    beside.show()
    beside.wait_for_version(node._versions.made)


def test_an_adapter_that_crosses_with_somebody_else_s_bundle_gives_way(
    perceive, adapt, backbone, sharp, tmp_path, monkeypatch
):
    peer = perceive()
    beside = adapt(peer)
    theirs = small_bundle(tmp_path / "theirs", backbone, sharp.classes, version=50)
    node, crossed = beside.served, []
    give = node._succession.hand.give

    def late(path, still=None):
        if not crossed:
            crossed.append(path)
            assert peer.set(bundle=str(theirs)) == (True, "")
            peer.wait(lambda: node._pauses.why, what="a pause")
        return give(path)  # as if perception had been asked before

    monkeypatch.setattr(node._succession.hand, "give", late)
    beside.show()
    peer.wait(lambda: crossed, what="a hand-over")
    peer.wait(lambda: peer.parameter("bundle") == str(theirs), what="their bundle")
    beside.wait_for_version(50)
    assert "by someone else" in beside.diagnosis()["paused"]


# Services


def test_pause_adapt_and_save_answer_in_words(perceive, adapt, tmp_path):
    peer = perceive()
    beside = adapt(peer, every=1000)
    success, message = beside.call("adapt")
    assert not success
    assert message.startswith("rejected: only 0 held-out objects to judge by [")

    assert beside.call("pause", True) == (True, "nothing is learned until ~/pause is called with false")
    beside.show()
    assert len(beside.served._adapting.companion.learned) == 0
    told = beside.diagnosed(lambda d: d["paused"] == "asked to")
    assert told["message"] == "paused: asked to"
    assert told["level"] == b"\x01"

    assert beside.call("pause", False) == (True, "learning goes on")
    beside.show()
    assert len(beside.served._adapting.companion.learned) == 15
    beside.wait_for_version(1)  # the anchor
    success, message = beside.call("adapt")
    assert success
    assert message.startswith("accepted [")
    beside.wait_for_version(2)
    assert beside.call("save") == (True, f"saved in {tmp_path / 'state'}")
    assert bundles(tmp_path, "state")[-1] == "version-000002"
    saved = Memory()
    saved.restore(tmp_path / "state" / "learned.safetensors", beside_meaning(beside))
    assert len(saved) == 15


def test_above_the_user_s_limit_it_pauses_and_below_it_what_the_user_asked_still_holds(perceive, adapt):
    beside = adapt(perceive(), every=1000)

    def limit(megabytes):
        assert beside.served.set_parameters([Parameter("max_memory_mb", value=megabytes)])[0].successful

    limit(1.0)
    told = beside.diagnosed(lambda d: d["paused"] != "no")
    assert told["paused"].startswith("limit: ")
    assert told["paused"].endswith(" MB held, above max_memory_mb 1")
    beside.show()
    assert len(beside.served._adapting.companion.learned) == 0

    assert beside.call("pause", True)[0]
    limit(0.0)
    assert beside.diagnosed(lambda _: not beside.served._pauses.limit)["paused"] == "asked to"
    limit(1.0)
    beside.diagnosed(lambda _: beside.served._pauses.limit)
    success, message = beside.call("pause", False)
    assert success
    assert message.startswith("learning goes on below the limit: ")
    limit(0.0)
    beside.diagnosed(lambda d: d["paused"] == "no")
    beside.show()
    assert len(beside.served._adapting.companion.learned) == 15


def beside_meaning(beside):
    adapting = beside.served._adapting
    return " ".join([adapting.card.checksum, *adapting.classes.names])


def test_before_it_is_configured_services_say_so(perceive, adapt):
    beside = adapt(perceive(), active=False, autostart=False)
    assert beside.call("adapt") == (False, "nothing is loaded yet; configure the node")
    assert beside.call("save") == (False, "nothing is loaded yet; configure the node")
    assert beside.call("reset") == (False, "nothing is loaded yet; configure the node")
    assert beside.diagnosis()["state"] == "unconfigured"


def test_what_cannot_be_saved_or_removed_is_said_and_the_node_lives_on(perceive, adapt, tmp_path, monkeypatch):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    (tmp_path / "state" / "learned.safetensors").unlink(missing_ok=True)
    (tmp_path / "state" / "learned.safetensors").mkdir()
    success, message = beside.call("save")
    assert not success
    assert "learned.safetensors" in message
    success, message = beside.call("reset")
    assert not success
    assert "learned.safetensors" in message
    beside.wait_for_version(0)
    assert beside.diagnosis()["state"] == "active"


# Its life


def test_restarted_it_goes_on_from_the_last_accepted_version(perceive, adapt, tmp_path):
    peer = perceive()
    first = adapt(peer)
    first.show()
    first.wait_for_version(1)
    first.show()
    peer.wait(lambda: (first.version() or 0) >= 2, what="a second version")
    last = first.version()
    live = first.served._adapting.companion.live
    first.stop()
    assert bundles(tmp_path, "state")[-1] == f"version-{last:06d}", "its end saves what was live"
    assert peer.reset().success  # perception, too, started anew
    first.wait_for_version(0)

    again = adapt(peer)
    again.wait_for_version(last)
    companion = again.served._adapting.companion
    for name, part in vars(live).items():
        np.testing.assert_array_equal(getattr(companion.live, name), part)
    assert len(companion.learned) >= 15, "what was remembered is there again"
    again._sec = 1000
    again.show()
    again.wait_for_version(last + 1)


def test_restarted_beside_a_perception_that_still_serves_its_version_it_can_take_it_back(perceive, adapt):
    peer = perceive()
    first = adapt(peer)
    first.show()
    first.wait_for_version(1)
    first.stop()
    again = adapt(peer)
    assert again.diagnosed(lambda d: d["version"] == "1", "the version that is served")["paused"] == "no"
    assert again.call("reset")[0]
    again.wait_for_version(0)
    assert peer.parameter("bundle") == ""


def test_killed_between_writing_and_handing_over_it_gives_the_newest_once_it_is_back(perceive, adapt, monkeypatch):
    peer = perceive()
    first = adapt(peer)
    first.show()
    first.wait_for_version(1)
    monkeypatch.setattr(first.served._succession, "give", lambda *_: False)
    first.show()
    peer.wait(lambda: first.served._versions.made > 1, what="a version that is written and not given")
    written = first.served._versions.made
    first.stop()
    assert first.version() == 1
    again = adapt(peer)
    again.wait_for_version(written)
    again.diagnosed(lambda d: d["version"] == str(written) and d["paused"] == "no", "the newest version as live")


def test_a_bundle_that_somebody_gave_while_it_was_down_is_left_in_place(perceive, adapt, backbone, sharp, tmp_path):
    peer = perceive()
    first = adapt(peer)
    first.show()
    first.wait_for_version(1)
    first.stop()
    theirs = small_bundle(tmp_path / "theirs", backbone, sharp.classes, version=1)  # of the very same number
    assert peer.set(bundle=str(theirs)) == (True, "")
    again = adapt(peer)
    assert f"set to '{theirs}' by someone else" in again.diagnosed(lambda d: d["paused"] != "no")["paused"]
    assert peer.parameter("bundle") == str(theirs)


def test_a_node_that_stops_during_a_hand_over_waits_for_no_answer_and_learns_on_where_it_was(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    perception, under_way, let_go = peer.served, threading.Event(), threading.Event()
    swap = perception._swap

    def slow(*arguments):
        under_way.set()
        let_go.wait(30.0)
        swap(*arguments)

    perception._swap = slow
    peer.send(frame(), 10)
    assert under_way.wait(20.0), "nothing was handed over"
    began = time.monotonic()
    assert beside.transition("deactivate")
    took = time.monotonic() - began
    let_go.set()
    assert took < 4.0, f"deactivating took {took:.1f} s"
    beside.wait_for_version(1)
    assert beside.transition("activate")
    beside.wait_until_listening()
    told = beside.diagnosed(lambda d: d["version"] == "1", "what perception took while nobody waited")
    assert told["paused"] == "no"
    beside._sec = 100
    beside.show()
    peer.wait(lambda: beside.version() == 2, what="the next version")


def test_while_inactive_choices_of_others_are_heard_and_nothing_is_handed_over(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    assert beside.transition("deactivate")
    assert peer.reset().success
    beside.wait_for_version(0)
    assert "set to '' by someone else" in beside.diagnosed(lambda d: d["paused"] != "no")["paused"]
    assert beside.transition("activate")
    assert beside.diagnosed(lambda d: d["state"] == "active")["version"] == "0"
    assert beside.call("pause", False)[0]
    assert beside.transition("deactivate")
    accepted, verdict = beside.call("adapt")
    assert accepted, verdict
    assert beside.diagnosed(lambda d: d["state"] == "inactive")["version"] == "0"
    assert (beside.version(), peer.parameter("bundle")) == (0, "")
    assert beside.transition("activate")
    beside.wait_for_version(2)


def test_what_was_handed_over_reaches_the_disk_in_time_without_another_hand_over(perceive, adapt, tmp_path):
    peer = perceive()
    beside = adapt(peer, save_s=4.0)
    beside.show()
    beside.wait_for_version(1)
    beside.show()
    beside.wait_for_version(2)
    peer.wait(lambda: "version-000002" in bundles(tmp_path, "state"), what="a copy")


def test_a_copy_that_failed_is_tried_again(perceive, adapt, tmp_path):
    def full(store):
        raise OSError("no space left on device")

    peer = perceive()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "persist", full)
        beside = adapt(peer, save_s=1.0, every=100000)
        beside.show()
        beside.wait_for_version(1)
        told = beside.diagnosed(lambda d: "trouble.save" in d)
        assert told["trouble.save"] == "not saved: no space left on device"
    peer.wait(lambda: "version-000001" in bundles(tmp_path, "state"), what="a copy")
    beside.diagnosed(lambda d: "trouble.save" not in d)


def test_a_perception_started_anew_is_given_what_was_live(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    for transition in ("deactivate", "cleanup"):
        assert peer.transition(transition)
    peer.served._config = replace(peer.served._config, bundle="")  # as a new process would have it
    heard = len(peer.heard["vision_info"])
    for transition in ("configure", "activate"):
        assert peer.transition(transition)
    peer.wait(lambda: len(peer.heard["vision_info"]) >= heard + 2, what="0, and what it was given")
    assert [told.database_version for told in peer.heard["vision_info"][heard:]] == [0, 1]


def test_a_first_look_at_the_source_is_told_before_it_begins(perceive, adapt, sharp, monkeypatch, capfd):
    def gathered(folder, backbone, classes, source, *_):
        assert "minutes" not in capfd.readouterr().err
        source()
        return sharp.reference

    monkeypatch.setattr("clipoint3d_ros.nodes.adapting.kept_reference", gathered)
    monkeypatch.setattr("clipoint3d_ros.nodes.adapting.read_domain", lambda *_, **__: None)
    adapt(perceive())
    assert "objects of each class of 'procedural', which takes minutes; once for this model" in capfd.readouterr().err


def test_a_reference_is_kept_for_one_state_of_the_source_s_files(sharp, monkeypatch, tmp_path):
    (tmp_path / "shapes" / "can").mkdir(parents=True)
    config = AdaptationConfig(
        backbone=sharp.backbone, classes=tuple(sharp.classes), device="cpu", source=f"folders:{tmp_path / 'shapes'}",
        state_folder=str(tmp_path / "state"), live_folder=str(tmp_path / "live"),
    )  # fmt: skip
    told = []
    monkeypatch.setattr(adapting, "kept_reference", lambda *given: told.append(given[4]) or sharp.reference)
    for file in (None, None, "a.npy", None):
        if file is not None:
            (tmp_path / "shapes" / "can" / file).touch()
        adapting.load(config, "adaptation", Versions(), pytest.fail, lambda _: None)
    before, again, changed, after = told
    assert before == again != changed == after


def test_without_perception_it_waits_and_says_so(perceive, adapt, capfd):
    peer = perceive()
    beside = adapt(peer, perception="elsewhere", active=False)
    told = beside.diagnosed(lambda d: d["state"] == "active")
    assert (told["frames"], told["version"], told["verdict"]) == ("0", "0", "none yet")
    beside.served._succession.hand._found_s = 0.5
    assert not beside.served._succession.give(beside.served._versions.want("/some/bundle", 1))
    assert "adapter version 1 was not handed over: no node 'elsewhere' is there to take it" in capfd.readouterr().err
    assert peer.parameter("bundle") == ""


def test_a_bundle_of_somebody_else_s_pauses_it_in_words(perceive, adapt, backbone, sharp, tmp_path):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    theirs = small_bundle(tmp_path / "theirs", backbone, sharp.classes, version=50)
    assert peer.set(bundle=str(theirs)) == (True, "")
    told = beside.diagnosed(lambda d: d["paused"] != "no")
    assert told["paused"] == (
        f"perception's bundle was set to '{theirs}' by someone else; call ~/pause with false to go on"
    )
    before = len(beside.served._adapting.companion.learned)
    beside.show()
    assert len(beside.served._adapting.companion.learned) == before
    assert beside.version() == 50, "what somebody chose is left in place"
    assert beside.call("pause", False)[0]
    beside.wait_for_version(1)
    beside.show()
    assert len(beside.served._adapting.companion.learned) > before


def test_a_perception_that_starts_with_somebody_s_bundle_of_the_very_same_number_is_left_alone(
    perceive, adapt, backbone, sharp, tmp_path
):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    theirs = small_bundle(tmp_path / "theirs", backbone, sharp.classes, version=1)
    for transition in ("deactivate", "cleanup"):
        assert peer.transition(transition)
    before, heard = len(beside.served._adapting.companion.learned), len(peer.heard["vision_info"])
    perception = peer.served  # as a new process would have it, whose events are missed
    perception._config = replace(perception._config, bundle=str(theirs))
    perception._parameters["bundle"] = Parameter("bundle", value=str(theirs))
    for transition in ("configure", "activate"):
        assert peer.transition(transition)
    peer.wait(lambda: len(peer.heard["vision_info"]) > heard, what="perception saying what it serves")
    peer.wait(lambda: beside.served._versions.served == 1, what="the companion hearing it")
    beside.show()
    assert f"set to '{theirs}' by someone else" in beside.diagnosed(lambda d: d["paused"] != "no")["paused"]
    assert len(beside.served._adapting.companion.learned) == before
    assert (beside.version(), peer.parameter("bundle")) == (1, str(theirs))


def test_perception_s_own_reset_is_respected(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    assert peer.reset().success
    beside.wait_for_version(0)
    assert "set to '' by someone else" in beside.diagnosed(lambda d: d["paused"] != "no")["paused"]
    answer, frozen = beside.show()
    assert answer == frozen

    beside.stop()  # nor does this node's next start undo it
    again = adapt(peer)
    assert "set to '' by someone else" in again.diagnosed(lambda d: d["paused"] != "no")["paused"]
    assert (again.version(), peer.parameter("bundle")) == (0, "")
    assert again.call("pause", False)[0]
    again.wait_for_version(1)
    again.stop()
    assert adapt(peer).diagnosed(lambda d: d["version"] == "1")["paused"] == "no"


def test_hand_overs_in_quick_succession_are_all_its_own(perceive, adapt):
    peer = perceive()
    beside = adapt(peer, every=4)
    for _ in range(8):
        beside.show()
    assert beside.version() >= 6
    assert beside.diagnosis()["paused"] == "no"


def test_what_is_forgotten_while_it_is_handed_over_stays_forgotten(perceive, adapt, tmp_path, monkeypatch):
    peer = perceive()
    beside = adapt(peer)
    node, reset = beside.served, []
    hand_over = node._hand_over

    def late(*candidate):
        if not reset:  # accepted, and not handed over yet
            reset.append(beside.call("reset"))
        hand_over(*candidate)

    monkeypatch.setattr(node, "_hand_over", late)
    beside.show()
    assert reset[0][0]
    assert node._adapting.companion.live is None
    assert bundles(tmp_path) == []
    assert beside.version() == 0
    assert peer.parameter("bundle") == ""


def test_classes_that_perception_changes_pause_it(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    assert peer.set(classes=["hat", "shoe"]) == (True, "")
    assert "perception's classes were changed" in beside.diagnosed(lambda d: d["paused"] != "no")["paused"]
    for name in ("deactivate", "cleanup", "configure", "activate"):  # as it says
        assert beside.transition(name)
    assert beside.diagnosed(lambda d: d["state"] == "active")["paused"] == "no"


def test_of_other_classes_what_was_live_gives_way_and_it_learns_on(perceive, adapt, sharp):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    turned = list(reversed(sharp.classes))
    assert peer.set(classes=turned) == (True, "")
    beside.diagnosed(lambda d: d["paused"] != "no")
    for name in ("deactivate", "cleanup"):
        assert beside.transition(name)
    assert beside.served.set_parameters([Parameter("classes", value=turned)])[0].successful
    for name in ("configure", "activate"):
        assert beside.transition(name)
    beside.wait_until_listening()
    beside.wait_for_version(0)
    beside.diagnosed(lambda d: d["message"] == "adapter version 0")
    beside.show()
    assert len(beside.served._adapting.companion.learned) > 0


def test_a_pause_of_the_user_s_outlasts_resets_restarts_and_other_classes(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    assert beside.call("pause", True)[0]
    success, told = beside.call("reset")
    assert success
    assert told.endswith("; paused: asked to")
    beside.wait_for_version(0)
    beside.show()
    assert len(beside.served._adapting.companion.learned) == 0
    beside.stop()

    again = adapt(peer)
    assert again.diagnosis()["paused"] == "asked to"
    assert peer.set(classes=["hat", "shoe"]) == (True, "")
    for name in ("deactivate", "cleanup", "configure", "activate"):
        assert again.transition(name)
    assert again.diagnosed(lambda d: d["state"] == "active")["paused"] == "asked to"
    assert again.call("pause", False)[0]
    again.stop()
    assert adapt(peer).diagnosis()["paused"] == "no"


def test_while_it_is_unconfigured_choices_of_others_are_heard(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    for name in ("deactivate", "cleanup"):
        assert beside.transition(name)
    assert peer.reset().success
    beside.wait_for_version(0)
    beside.diagnosed(lambda d: d["paused"] != "no")
    for name in ("configure", "activate"):
        assert beside.transition(name)
    told = beside.diagnosed(lambda d: d["state"] == "active")
    assert "set to '' by someone else" in told["paused"]
    assert (beside.version(), peer.parameter("bundle")) == (0, "")


def test_what_takes_effect_at_the_next_configure_does(perceive, adapt):
    peer = perceive()
    beside = adapt(peer, perception="elsewhere", active=False)
    beside.diagnosed(lambda d: d["state"] == "active")
    for name in ("deactivate", "cleanup"):
        assert beside.transition(name)
    assert beside.served.set_parameters([Parameter("perception", value="perception")])[0].successful
    for name in ("configure", "activate"):
        assert beside.transition(name)
    beside.wait_until_listening()
    beside.show()
    beside.wait_for_version(1)


def test_how_many_objects_make_a_candidate_changes_while_it_runs(perceive, adapt):
    beside = adapt(perceive(), every=1000)
    beside.show()
    beside.wait_for_version(1)
    beside.show()
    assert beside.version() == 1
    assert beside.served.set_parameters([Parameter("every", value=8)])[0].successful
    beside.show()
    beside.wait_for_version(2)


def test_what_was_remembered_of_another_network_s_features_is_not_taken_over(perceive, adapt):
    beside = adapt(perceive(), every=1000)
    beside.show()
    adapting, told = beside.served._adapting, []
    trained = SimpleNamespace(adapter=lambda: {"lora": torch.ones(2)})
    adapting.save(False, trained)
    adapting.companion.forget_objects()
    adapting.restore(None, told.append)
    assert len(told) == 2
    assert all("is not taken over" in sentence for sentence in told)
    assert len(adapting.companion.learned) == 0
    adapting.restore(trained, told.append)
    assert (len(told), len(adapting.companion.learned)) == (2, 15)


def test_objects_of_classes_it_does_not_have_are_not_learned_from_and_it_says_so(perceive, adapt, capfd):
    peer = perceive(classes=["hat", "shoe"])
    beside = adapt(peer)
    beside.show()
    assert len(beside.served._adapting.companion.learned) == 0
    assert beside.verdicts == []
    said = capfd.readouterr().err
    assert "is none of this node's classes" in said
    assert "give both nodes the same" in said


def test_features_of_another_width_are_refused_in_words(perceive, adapt, capfd):
    beside = adapt(perceive())
    adapting = beside.served._adapting
    beside.served._adapting = adapting._replace(companion=other_width(adapting.companion))
    beside.show()
    assert "perception's features have 32 channels, this node's backbone 16" in capfd.readouterr().err
    assert beside.diagnosis()["failed"] == "1"


def other_width(companion):
    companion.text = companion.text[:, :16]
    return companion


# Tracks


@pytest.mark.parametrize(
    ("values", "tracks"),
    [({}, 4 * OBJECTS), ({"fixed_frame": "odom"}, OBJECTS), ({"stable_ids": True}, OBJECTS)],
    ids=["by place in the cloud's frame", "by place in odom", "by ids that last"],
)
def test_under_a_moving_sensor_an_object_stays_one_where_frame_or_ids_tell(
    perceive, adapt, odometry, tmp_path, values, tracks
):
    log = tmp_path / "learned.jsonl"
    beside = adapt(perceive(), every=1000, learned_log=str(log), **values)
    for sec in (1, 2, 3, 33):  # it looks away in between
        beside.show(sec, shift=lowered(sec))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 4 * OBJECTS
    assert len({line["track"] for line in lines}) == tracks
    companion = beside.served._adapting.companion
    assert companion.held.sightings(), "nothing is judged by"
    ids = [s.id for memory in (companion.held, companion.learned) for s in memory.sightings()]
    alone = len(ids) == len(set(ids))
    assert alone == bool(values), "an object has several entries, and may be judged by and learned from"
    assert {(target, source) for target, source, _ in odometry.asked} <= {("odom", "camera")}
    assert bool(odometry.asked) == ("fixed_frame" in values), "transforms are asked for where a frame is named"


def test_a_frame_without_its_transform_is_not_learned_from_and_it_says_so_until_there_is_one(perceive, adapt, odometry):
    beside = adapt(perceive(), every=1000, fixed_frame="odom")
    companion = beside.served._adapting.companion
    odometry.lost = True
    beside.show(1)
    assert len(companion.learned) + len(companion.held) == 0
    told = beside.diagnosed(lambda d: "trouble.transform" in d, "the trouble")
    assert told["trouble.transform"] == (
        "nothing is learned from a frame without its transform: no transform from 'camera' to 'odom'"
    )
    assert told["message"] == told["trouble.transform"]
    odometry.lost = False
    beside.show(2)
    assert len(companion.learned) + len(companion.held) == OBJECTS
    beside.diagnosed(lambda d: "trouble.transform" not in d, "the end of the trouble")


def test_the_fixed_frame_changes_while_it_runs_and_begins_new_tracks(perceive, adapt, odometry):
    beside = adapt(perceive(), every=1000)
    node, companion = beside.served, beside.served._adapting.companion

    def known():
        return len(companion.learned) + len(companion.held)

    assert node._transforms is None, "it listens to tf although nobody asked"
    beside.show(1)
    assert node.set_parameters([Parameter("fixed_frame", value="odom")])[0].successful
    beside.show(2)
    assert known() == 2 * OBJECTS, "places of one frame were taken for places of another"
    beside.show(3, shift=lowered(1))
    assert known() == 2 * OBJECTS
    assert node.set_parameters([Parameter("fixed_frame", value="")])[0].successful
    assert node._transforms is None


def test_time_that_starts_again_asks_for_transforms_anew(perceive, adapt, odometry):
    beside = adapt(perceive(), every=1000, fixed_frame="odom")
    for sec in (50, 51):
        beside.show(sec)
    before = odometry.restarts
    beside.show(5)
    assert odometry.restarts == before + 1
    assert beside.transition("deactivate")
    assert beside.transition("activate")
    assert odometry.restarts == before + 2, "time may have started again while nobody watched it"


def test_a_fixed_frame_without_tf2_is_refused_in_words_and_nothing_changes(perceive, adapt, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    beside = adapt(perceive(), every=1000)
    answer = beside.served.set_parameters([Parameter("fixed_frame", value="odom")])[0]
    assert not answer.successful
    assert "tf2_ros is not installed here, but 'gravity_frame', 'sensor_frame' or 'fixed_frame' is set" in answer.reason
    assert beside.served._config.fixed_frame == ""
    beside.show(1)
    assert len(beside.served._adapting.companion.held) == 5


def test_a_jump_back_in_time_forgets_what_was_remembered(perceive, adapt):
    peer = perceive()
    beside = adapt(peer, every=1000)
    for sec in (1000, 1010):
        beside.show(sec)
    companion = beside.served._adapting.companion
    assert (len(companion.learned), len(companion.held)) == (30, 10)
    beside.show(5, seed=3)
    assert (len(companion.learned), len(companion.held)) == (15, 5)
    assert {s.stamp_s for s in (*companion.learned.sightings(), *companion.held.sightings())} == {5}


@pytest.mark.parametrize("memory", ["learned", "held"])
def test_a_jump_back_clears_both_memories_even_where_only_one_is_seen_into_again(perceive, adapt, memory):
    peer = perceive()
    beside = adapt(peer, every=1000)
    beside.show(1000)
    companion = beside.served._adapting.companion
    tracks = {s.track for s in getattr(companion, memory).sightings()}
    other = companion.held if memory == "learned" else companion.learned
    other.admit = lambda sighting: "full"  # nothing of the new run goes there
    beside.show(5, seed=3)
    assert len(other) == 0, "what was seen before the jump is judged, or learned from, after it"
    assert {s.stamp_s for s in getattr(companion, memory).sightings()} == {5}
    assert not {s.track for s in getattr(companion, memory).sightings()} & tracks
    assert beside.diagnosis()["time_jumps"] == "1"


def test_time_that_jumps_back_while_it_is_paused_forgets_too(perceive, adapt):
    peer = perceive()
    beside = adapt(peer, every=1000)
    beside.show(1000)
    assert beside.call("pause", True)[0]
    beside.show(5)
    companion = beside.served._adapting.companion
    assert (len(companion.learned), len(companion.held)) == (0, 0)


def test_time_that_starts_again_while_it_was_down_forgets_what_was_saved(perceive, adapt):
    peer = perceive()
    first = adapt(peer, every=1000)
    first.show(1000)
    first.stop()
    again = adapt(peer, every=1000)
    companion = again.served._adapting.companion
    assert (len(companion.learned), len(companion.held)) == (15, 5)
    companion.held.admit = lambda sighting: "full"
    again.show(5)
    assert (len(companion.learned), len(companion.held)) == (15, 0)
    assert {s.stamp_s for s in companion.learned.sightings()} == {5}


def test_a_bag_that_loops_is_one_world(perceive, adapt):
    peer = perceive()
    beside = adapt(peer)
    for _ in range(3):
        for sec in (1, 11):
            beside.show(sec)
            assert len(beside.served._adapting.companion.learned) <= 2 * OBJECTS
    told = beside.diagnosis()
    assert (told["paused"], told["failed"], told["incomplete"]) == ("no", "0", "0")
    assert beside.version() >= 3


def test_a_state_folder_of_other_classes_is_left_alone_in_words(perceive, adapt, sharp, tmp_path, capfd):
    peer = perceive()
    beside = adapt(peer)
    beside.show()
    beside.wait_for_version(1)
    beside.stop()
    swapped = adapt(peer, classes=list(reversed(sharp.classes)))
    companion = swapped.served._adapting.companion
    assert companion.live is None
    assert len(companion.learned) == 0
    assert "what was remembered is not taken over" in capfd.readouterr().err


def test_a_source_that_is_not_there_is_a_configure_failure_in_words(perceive, sharp, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with adaptation_nodes() as run:
        own = {"backbone": sharp.backbone, "classes": list(sharp.classes), "source": "folders:/nowhere"}
        beside = run(perceive(), False, **own, state_folder=str(tmp_path), live_folder=str(tmp_path / "live"))
        assert beside.diagnosis()["state"] == "unconfigured"
        beside.peer.wait(lambda: "cannot configure" in capfd.readouterr().err, what="a sentence")
