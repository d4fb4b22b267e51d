"""This package's own companion on a toy stream, an object at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from streams_made import Toy

from clipoint3d_ros.adaptation.probing import Probe
from clipoint3d_ros.adaptation.reference import Reference
from clipoint3d_ros.adaptation.statistics import gather, weighed
from clipoint3d_ros.evaluation.streams import ours
from clipoint3d_ros.evaluation.streams.peers.frozen import Frozen, FrozenConfig


def source(toy, count, seed):
    """Features of labelled objects that are like the robot's; each class as often."""
    labels = np.arange(count) % 3
    toy = Toy(seed)
    features = torch.from_numpy(np.stack([toy.seen(label).features.mean(0) for label in labels]))
    return features, torch.from_numpy(labels)


@pytest.fixture
def toy(monkeypatch):
    toy = Toy()
    words = toy.setting.classifier
    words.backbone = SimpleNamespace(scale=words.scale, temperature=1.0)
    (learned, labels), (held, truth) = source(toy, 120, 1), source(toy, 60, 2)
    logits = words.scale * held @ words.text.T
    reference = Reference(
        weighed(gather(learned, labels, 3), logits, held, truth), True, Probe(logits, held, truth), 1.0
    )
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
