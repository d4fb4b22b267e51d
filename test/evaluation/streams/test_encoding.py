"""A pool through a model once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from streams_made import CLASSES

from clipoint3d_ros.datasets.objects import NO_LABEL
from clipoint3d_ros.evaluation.streams import encoding
from clipoint3d_ros.evaluation.streams.encoding import encode, pool_views
from clipoint3d_ros.evaluation.streams.pools import clean_pool
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig


@pytest.fixture(scope="module")
def classifier(small_model_folder):
    return Classifier.load(backbone=f"local-dir:{small_model_folder}", classes=CLASSES.names, device="cpu")


@pytest.fixture(scope="module")
def few(pool):
    return clean_pool("few", pool.objects.take(np.r_[:8, 24:27]))


@pytest.fixture(scope="module")
def encoded(classifier, few, tmp_path_factory):
    return encode(classifier, few, tmp_path_factory.mktemp("encoded"), progress=False)


@pytest.mark.parametrize("policy", ["entropy", "sensor"])
def test_what_is_kept_says_what_the_classifier_says(classifier, few, encoded, policy):
    backbone = replace(classifier.backbone, unknown_logit=2.0)
    served = Classifier(backbone, classifier.descriptions, ClassifierConfig(selection=policy))
    seen = pool_views(served, encoded, policy)
    said = served.classify([few.cloud(i) for i in range(len(few))], few.objects.up, few.objects.viewpoints)
    ours = torch.from_numpy(seen.logits).softmax(1).numpy()
    assert np.allclose(ours, [r.probabilities for r in said], atol=1e-4)
    assert np.allclose(seen.familiarity, [r.familiarity for r in said], atol=1e-4)
    assert np.allclose(seen.weights.sum(1), 1, atol=1e-5)
    mean = (seen.weights[..., None] * encoded.features.numpy()).sum(1)
    assert np.allclose(served.scale * mean @ served.text.numpy().T, seen.logits, atol=1e-3), "methods pool features"


def test_features_are_unit_and_labels_come_along(few, encoded):
    assert encoded.features.shape[:2] == (11, 10)
    assert torch.allclose(encoded.features.norm(dim=-1), torch.ones(11, 10), atol=1e-5)
    assert (encoded.labels[8:] == NO_LABEL).all()
    assert encoded.points.tolist() == [len(few.cloud(i)) for i in range(11)]


def test_a_second_time_nothing_is_encoded_and_a_lost_piece_alone_is(classifier, few, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "PIECE", 4)
    first = encode(classifier, few, tmp_path, progress=False)
    calls = []
    whole = encoding._piece
    monkeypatch.setattr(encoding, "_piece", lambda *args: calls.append(args[3]) or whole(*args))
    again = encode(classifier, few, tmp_path, progress=False)
    assert calls == []
    assert torch.equal(first.features, again.features)
    next(tmp_path.rglob("000004.npz")).unlink()
    repaired = encode(classifier, few, tmp_path, progress=False)
    assert calls == [range(4, 8)]
    assert torch.equal(first.features, repaired.features)
    assert not list(tmp_path.rglob("*.part.npz"))


def test_another_pool_or_model_is_kept_apart(classifier, few, tmp_path, untrained):
    encode(classifier, few, tmp_path, progress=False)
    encode(classifier, clean_pool("few", few.objects.take([0])), tmp_path, progress=False)
    encode(untrained, few, tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    from labelled import untrained_backbone

    folder = untrained_backbone(tmp_path_factory.mktemp("other") / "model", seed=3)
    return Classifier.load(backbone=folder, classes=CLASSES.names, device="cpu")


def test_where_no_sensor_stood_entropy_chooses(classifier, few, tmp_path):
    blind = clean_pool("blind", replace(few.objects, viewpoints=None))
    encoded = encode(classifier, blind, tmp_path, progress=False)
    by_sensor, by_entropy = (pool_views(classifier, encoded, policy).logits for policy in ("sensor", "entropy"))
    assert np.array_equal(by_sensor, by_entropy)
    with pytest.raises(ValueError, match="view policy 'all' is none of entropy, sensor"):
        pool_views(classifier, encoded, "all")
