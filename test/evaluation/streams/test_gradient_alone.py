"""Tier 2 without class statistics, on a toy stream with a stand-in for the training."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from streams_made import Toy, Training, toy_reference

from clipoint3d_ros.evaluation.streams import gradient_alone, ours
from clipoint3d_ros.evaluation.streams.online import softmax
from clipoint3d_ros.evaluation.streams.peers.frozen import Frozen, FrozenConfig
from clipoint3d_ros.recognition.statistics import fused_head


@pytest.fixture
def toy(monkeypatch):
    toy = Toy()
    words = toy.setting.classifier
    words.backbone, words.descriptions = SimpleNamespace(scale=words.scale, temperature=1.0), None
    reference = replace(toy_reference(toy), temperature=2.0)
    monkeypatch.setattr(ours, "_reference", lambda *_: reference)
    monkeypatch.setattr(ours, "_source", lambda *_: None)
    monkeypatch.setattr(ours, "Gradient", lambda *_: None)
    monkeypatch.setattr(ours.BothTiers, "_cloud", ours.Statistics._cloud)
    return toy


def begun(toy, config):
    online = gradient_alone.GradientAlone(toy.setting, config)
    online.gradient = Training(online.companion)
    return online


def test_the_words_alone_answer_calibrated(toy):
    reference = gradient_alone.without_statistics(toy_reference(toy))
    words = toy.setting.classifier.text
    weight, bias = fused_head(words, 8.0, replace(reference.statistics, weights=torch.tensor([0.5, 0.0])))
    assert torch.equal(weight, 4.0 * words)
    assert not bias.any()
    assert reference.statistics.weights.tolist() == [1.0, 0.0]


def test_under_the_guard_a_training_that_gains_nothing_leaves_the_frozen_answers(toy):
    _, stream = toy.stream(200)
    online = begun(toy, ours.GradientConfig(burst=3))
    frozen = Frozen(toy.setting, FrozenConfig())
    for seen in stream:
        np.testing.assert_allclose(online.answer(seen), frozen.answer(seen), rtol=1e-5)
    assert "candidate" in online.gradient.calls
    assert "keep" not in online.gradient.calls
    assert online.companion.live is None


def test_unguarded_every_candidate_is_live_and_answers_by_its_words(toy):
    _, stream = toy.stream(200)
    online = begun(toy, gradient_alone.UnguardedConfig(burst=3))
    for seen in stream:
        online.answer(seen)
    calls = online.gradient.calls
    assert calls == ["candidate", "keep"] * (len(calls) // 2)
    assert calls
    assert online.companion.trained
    said = softmax(toy.setting.scale / 2.0 * toy.setting.text @ stream[-1].feature)
    np.testing.assert_allclose(online.predict(stream[-1]), said, rtol=1e-4)
