"""Adapters in the perception node, over real DDS, with a small CLIP: configured, swapped, refused, left."""

from __future__ import annotations

import gc
import shutil
import weakref

import pytest
import torch
from bundles import change_weights, small_bundle
from clouds_made import scene
from labelled import untrained_backbone

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from peer import perception_nodes
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import WEIGHTS_FILE, BundleError, load_bundle
from clipoint3d_ros.nodes.perception_node import PerceptionNode

pytestmark = pytest.mark.ros
CLASSES = ["can", "book", "box"]


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture
def bundles(tmp_path, backbone):
    """Two adapters of other classes than the node's, versions 3 and 4."""
    first = small_bundle(tmp_path / "first", backbone, ["mug", "plate"], version=3, seed=3)
    return first, small_bundle(tmp_path / "second", backbone, ["pot", "lid", "jar"], version=4, seed=4)


@pytest.fixture
def start(backbone):
    with perception_nodes() as run:
        yield lambda **parameters: run(**({"backbone": backbone.name, "device": "cpu", "top_k": 1000} | parameters))


class Asked:
    """Sends the one scene again and again, each time under a stamp of its own."""

    def __init__(self, peer):
        self.peer, self.sec = peer, 0
        peer.listen("frozen_detections")
        frozen = f"{peer.base}/output/frozen_detections"
        peer.wait(lambda: peer.node.count_publishers(frozen), what="the node's publisher of frozen answers")
        peer.wait(peer.served._frozen.get_subscription_count, what="the subscription to frozen answers")

    def __call__(self):
        """(the answer, the frozen model's answer), each {id: ((class, score), …)} with every digit."""
        self.sec += 1
        self.peer.send(scene(), self.sec)
        return tuple(told(self.peer.answer(self.sec, name)) for name in ("detections", "frozen_detections"))


def told(message):
    results = {d.id: [r.hypothesis for r in d.results] for d in message.detections}
    return {name: tuple((h.class_id, h.score) for h in given) for name, given in results.items()}


def names(answer):
    return {name for given in answer.values() for name, _ in given}


def versions(peer):
    return [message.database_version for message in peer.heard["vision_info"]]


def announced(peer, version):
    peer.wait(lambda: versions(peer)[-1:] == [version], what=f"the announcement of version {version}")


def test_a_live_adapter_answers_beside_the_frozen_model_bit_for_bit_and_reset_leaves_it(start, bundles, capfd):
    peer = start(classes=CLASSES)
    ask = Asked(peer)
    frozen, same = ask()
    assert frozen == same, "without an adapter the frozen answer is the answer"
    assert peer.diagnosis()["adapter_version"] == "0"

    assert peer.set(bundle=str(bundles[0])) == (True, "")
    announced(peer, 3)
    adapted, beside = ask()
    assert beside == frozen, "the frozen model answers with every digit as it did without an adapter"
    assert adapted != frozen
    assert names(adapted) == set(CLASSES), "the classes that were served stay"
    rows = peer.diagnosis()
    assert rows["adapter_version"] == "3"
    assert float(rows["frozen_ms_max"]) > 0
    assert f"adapter version 3 of {bundles[0]} answers from the next frame on" in capfd.readouterr().err

    answer = peer.reset()
    assert (answer.success, answer.message) == (
        True,
        "the frozen model answers; adapter version 3 was live, 'bundle' is empty now",
    )
    assert peer.parameter("bundle") == ""
    announced(peer, 0)
    assert ask() == (frozen, frozen)
    assert peer.diagnosis()["adapter_version"] == "0"
    assert peer.reset().message == "the frozen model answers; no adapter was live"


def test_an_empty_bundle_is_the_frozen_model_again(start, bundles):
    peer = start(classes=CLASSES, bundle=str(bundles[0]))
    ask = Asked(peer)
    announced(peer, 3)
    _, frozen = ask()
    assert peer.set(bundle="") == (True, "")
    announced(peer, 0)
    assert ask() == (frozen, frozen)


def test_a_refused_bundle_leaves_the_old_adapter_and_says_the_error_s_sentence(start, bundles, backbone, tmp_path):
    peer = start(classes=CLASSES)
    ask = Asked(peer)
    assert peer.set(bundle=str(bundles[0])) == (True, "")
    before, said = ask(), len(versions(peer))
    other = load_backbone(untrained_backbone(tmp_path / "other"), device="cpu")
    cut = shutil.copytree(bundles[1], tmp_path / "cut")
    (cut / WEIGHTS_FILE).write_bytes((cut / WEIGHTS_FILE).read_bytes()[:-1000])
    damaged = shutil.copytree(bundles[1], tmp_path / "damaged")
    change_weights(damaged, lambda tensors: [value.fill_(3e38) for name, value in tensors.items() if "up" in name])
    foreign = small_bundle(tmp_path / "foreign", other, CLASSES)
    for folder in (tmp_path / "nowhere", foreign, cut, damaged):
        with pytest.raises(BundleError) as refusal:
            load_bundle(folder, backbone)
        assert peer.set(bundle=str(folder)) == (False, str(refusal.value))
        assert peer.parameter("bundle") == str(bundles[0])
        assert ask() == before
    assert len(versions(peer)) == said, "nothing has changed, so nothing is announced"
    assert peer.diagnosis()["adapter_version"] == "3"


def test_classes_are_the_bundle_s_where_none_are_given_and_a_live_bundle_keeps_them(start, bundles):
    peer = start(bundle=str(bundles[0]))
    ask = Asked(peer)
    assert names(ask()[0]) == {"mug", "plate"}
    assert peer.set(bundle=str(bundles[1])) == (True, "")
    assert names(ask()[0]) == {"mug", "plate"}, "a live bundle keeps the classes"
    assert peer.set(classes=CLASSES) == (True, "")
    assert [names(answer) for answer in ask()] == [set(CLASSES)] * 2
    assert peer.set(bundle=str(bundles[0])) == (True, "")
    assert names(ask()[0]) == set(CLASSES)
    assert peer.set(unknown_below=0.01) == (True, "")
    assert names(ask()[0]) == set(CLASSES), "so does a change of how objects are judged"
    announced(peer, 3)
    assert peer.set(classes="") == (True, "")
    assert names(ask()[0]) == {"mug", "plate"}, "no classes are the live bundle's own"
    assert peer.reset().success
    assert names(ask()[0]) == {"mug", "plate"}


def test_classes_given_at_start_win_over_the_bundle_s(start, bundles):
    peer = start(bundle=str(bundles[0]), classes=CLASSES)
    assert names(Asked(peer)()[0]) == set(CLASSES)
    announced(peer, 3)


def test_the_same_answers_live_and_from_the_start(start, bundles):
    live, fresh = start(classes=CLASSES), start(classes=CLASSES, bundle=str(bundles[0]))
    assert live.set(bundle=str(bundles[1])) == (True, "")
    assert live.set(bundle=str(bundles[0])) == (True, "")
    assert Asked(live)() == Asked(fresh)()


def test_the_backbone_is_the_bundle_s_where_none_is_named(start, bundles, backbone):
    peer = start(bundle=str(bundles[0]), backbone="")
    assert peer.wait(lambda: peer.heard["vision_info"], what="vision_info")[-1].method == backbone.name
    assert names(Asked(peer)()[0]) == {"mug", "plate"}


def test_a_bundle_set_again_is_read_again(start, bundles, backbone):
    peer = start(classes=CLASSES)
    ask = Asked(peer)
    assert peer.set(bundle=str(bundles[0])) == (True, "")
    before = ask()
    small_bundle(bundles[0], backbone, version=5, seed=5)
    assert ask() == before, "a folder that changes changes nothing by itself"
    assert peer.set(bundle=str(bundles[0])) == (True, "")
    announced(peer, 5)
    after = ask()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_bundle_and_classes_set_together_are_both_taken_or_both_refused(start, bundles):
    def together(**values):
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        return peer.ask(SetParametersAtomically, "set_parameters_atomically", request).result

    peer = start(classes=CLASSES)
    ask = Asked(peer)
    before = ask()
    refused = together(bundle=str(bundles[0]), classes="/no/such.yaml")
    assert not refused.successful
    assert "no class file at /no/such.yaml" in refused.reason
    assert ask() == before
    assert peer.parameter("bundle") == ""
    assert together(bundle=str(bundles[0]), classes=["hat", "shoe"]).successful
    assert names(ask()[0]) == {"hat", "shoe"}
    announced(peer, 3)


def test_every_frame_is_answered_by_one_adapter_as_a_whole(start, bundles):
    peer = start(classes=CLASSES)
    ask, allowed = Asked(peer), []
    for bundle in ("", *map(str, bundles)):
        peer.set(bundle=bundle)
        adapted, frozen = ask()
        allowed.append(adapted)
    sent = range(1000, 1060)
    for sec in sent:
        peer.send(scene(), sec)
        if sec % 4 == 0:
            assert peer.set(bundle=str(bundles[sec // 4 % 2]))[0]
    peer.answer(sent[-1])
    peer.answer(sent[-1], "frozen_detections")
    given = [told(m) for m in peer.heard["detections"] if m.header.stamp.sec in sent]
    beside = [told(m) for m in peer.heard["frozen_detections"] if m.header.stamp.sec in sent]
    assert len(given) > 10
    assert all(answer in allowed for answer in given)
    assert {allowed.index(answer) for answer in given} >= {1, 2}
    assert all(answer == frozen for answer in beside)


def test_an_adapter_that_is_left_leaves_memory(start, bundles):
    peer = start(classes=CLASSES)
    ask, left = Asked(peer), []
    for i in range(6):
        assert peer.set(bundle=str(bundles[i % 2]))[0]
        ask()
        left.append(weakref.ref(peer.served._serving.classifier.adapter.network))
    assert peer.reset().success
    ask()
    gc.collect()
    assert [network() for network in left] == [None] * 6


def test_a_wrong_bundle_is_a_configure_failure_in_words_and_reset_mends_it(start, bundles, backbone, tmp_path, capfd):
    other = untrained_backbone(tmp_path / "other")
    peer = start(active=False, autostart=False, backbone=other, bundle=str(bundles[0]))
    assert not peer.transition("configure")
    assert peer.state() == "unconfigured"
    logged = capfd.readouterr().err
    assert f"cannot configure: bundle '{bundles[0]}' belongs to backbone '{backbone.name}'" in logged
    assert f"but this backbone is '{other}'" in logged
    assert "Traceback" not in logged
    answer = peer.reset()
    assert answer.success
    assert (
        answer.message
        == f"'bundle' was {bundles[0]} and is empty now; configure the node, and the frozen model answers"
    )
    assert peer.parameter("bundle") == ""
    assert peer.transition("configure")
    announced(peer, 0)
    assert not peer.set(bundle=str(bundles[0]))[0]
    assert peer.set(bundle=str(small_bundle(tmp_path / "own", load_backbone(other, device="cpu"), version=9)))[0]
    announced(peer, 9)


def test_a_bundle_survives_a_clean_up(start, bundles):
    peer = start(classes=CLASSES)
    ask = Asked(peer)
    assert peer.set(bundle=str(bundles[0]))[0]
    before = ask()
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert peer.transition(transition)
    peer.wait_until_active()
    announced(peer, 3)
    assert ask() == before


def test_beside_a_trained_network_the_frozen_model_looks_too_only_for_who_listens(start, bundles, monkeypatch):
    seen = []
    publish = PerceptionNode._publish
    monkeypatch.setattr(PerceptionNode, "_publish", lambda self, *a: seen.append(a[3]) or publish(self, *a))
    peer = start(classes=CLASSES, bundle=str(bundles[0]))
    peer.send(scene(), 1)
    peer.answer(1)
    assert all(recognition.frozen is None for recognition in seen[-1])
    peer.listen("frozen_detections")
    peer.wait(peer.served._frozen.get_subscription_count, what="the subscription to frozen answers")
    peer.send(scene(), 2)
    peer.answer(2, "frozen_detections")
    assert torch.isfinite(torch.tensor([recognition.frozen.score for recognition in seen[-1]])).all()
