"""This package's own companion on a toy stream, an object at a time."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from streams_made import Toy, Training, toy_reference

from clipoint3d_ros.adaptation.companion import CompanionConfig
from clipoint3d_ros.evaluation.streams import ours
from clipoint3d_ros.evaluation.streams.peers.frozen import Frozen, FrozenConfig


@pytest.fixture
def toy(monkeypatch):
    toy = Toy()
    words = toy.setting.classifier
    words.backbone = SimpleNamespace(scale=words.scale, temperature=1.0)
    reference = toy_reference(toy)
    monkeypatch.setattr(ours, "_reference", lambda setting, config, given: reference)
    return toy


def right(online, labels, stream):
    return np.array([online.answer(seen).argmax() == label for seen, label in zip(stream, labels, strict=True)])


def test_it_gains_from_the_moment_on_at_which_the_anchor_is_judged(toy):
    labels, stream = toy.stream(200)
    online = ours.Statistics(toy.setting)
    frozen = right(Frozen(toy.setting, FrozenConfig()), labels, stream)
    adapted = right(online, labels, stream)
    assert online.companion.live is not None
    assert adapted[50:].mean() > frozen[50:].mean() + 0.05
    assert 0 < online.known <= 1


def test_the_anchor_alone_answers_by_the_source_and_never_follows(toy):
    labels, stream = toy.stream(200)
    online = ours.Anchor(toy.setting)
    right(online, labels, stream)
    live, anchor = online.companion.live, online.companion.reference.statistics
    assert live is not None
    assert torch.equal(live.mean, anchor.mean)
    following = ours.Statistics(toy.setting)
    right(following, labels, stream)
    assert not torch.equal(following.companion.live.mean, anchor.mean)


def test_what_learning_takes_is_told_apart_from_answering(toy):
    _, stream = toy.stream(40)
    online = ours.Statistics(toy.setting)
    for seen in stream[:10]:
        online.predict(seen)
    assert online.learning_s == 0, "an answer alone learns nothing"
    online.answer(stream[10])
    first = online.learning_s
    for seen in stream[11:]:
        online.answer(seen)
    assert 0 < first < online.learning_s


@pytest.mark.parametrize("helpful", [True, False])
def test_rejected_networks_leave_what_is_remembered_and_live_as_it_is(toy, monkeypatch, helpful):
    reference = replace(ours._reference(None, None, None), helpful=helpful)
    monkeypatch.setattr(ours, "_reference", lambda setting, config, given: reference)
    monkeypatch.setattr(ours, "Gradient", lambda *_: None)
    monkeypatch.setattr(ours, "_source", lambda *_: None)
    monkeypatch.setattr(ours.BothTiers, "_cloud", ours.Statistics._cloud)
    toy.setting.classifier.descriptions = None
    labels, stream = toy.stream(200)
    demanding = ours.GradientConfig(companion=CompanionConfig(certain=1e3), burst=3)
    alone, both = ours.Statistics(toy.setting), ours.BothTiers(toy.setting, demanding)
    both.gradient = Training(both.companion)
    for online in (alone, both):
        right(online, labels, stream)
    assert both.gradient.calls == ["candidate", "fall_back"] * (both.gradient.steps // 3)
    assert len(both.gradient.calls) > 2 * both.companion.config.guard.rejections
    assert len(both.companion.learned) == len(alone.companion.learned)
    if helpful:
        assert torch.equal(both.companion.live.mean, alone.companion.live.mean)
    else:
        assert both.companion.live is None
