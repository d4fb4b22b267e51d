"""Which views are looked at first, and which objects want more."""

import math

import numpy as np
import pytest
import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.engine import Engine
from clipoint3d_ros.recognition.on_demand import ORDER, first_views, in_doubt

NAMES = ["box", "mug", "bowl", "can"]


@pytest.fixture(scope="module")
def classifier(small_model_folder):
    return Classifier(load_backbone(f"local-dir:{small_model_folder}", device="cpu"), describe(NAMES))


@pytest.fixture
def views_looked_at(monkeypatch):
    seen, encode = [], Engine.encode
    monkeypatch.setattr(
        Engine, "encode", lambda self, views, *rest: seen.append(len(views)) or encode(self, views, *rest)
    )
    return seen


def clouds(count=6):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(200, 3)) * rng.uniform(0.02, 0.2, 3)).astype(np.float32) for _ in range(count)]


def test_the_order_names_every_view_once():
    assert sorted(ORDER) == list(range(10))


def test_first_are_the_squarest_or_those_of_the_order():
    facing = torch.tensor([[7, 4, 2, 1]])
    assert first_views(facing, True, 2).tolist() == [[True, True, False, False]]
    ten = torch.arange(10)[None]
    assert ten[first_views(ten, False, 3)].tolist() == sorted(ORDER[:3])
    assert first_views(ten, False, 0).all()


def test_doubt_is_entropy_or_a_view_that_names_another_class():
    sure, split = torch.tensor([[9.0, 0, 0], [9.0, 0, 0]]), torch.tensor([[9.0, 0, 0], [0, 1.0, 0]])
    unsure = torch.tensor([[0.1, 0, 0], [0.1, 0, 0]])
    even = torch.full((3, 2), 0.5)
    assert in_doubt(torch.stack([sure, split, unsure]), even, 0.3).tolist() == [False, True, True]
    missed = torch.tensor([[1.0, 0.0]])
    assert in_doubt(split[None], missed, 0.3).tolist() == [False], "a view nobody looked at has no opinion"


@pytest.mark.parametrize("viewpoint", [None, (1.0, 0.2, 0.5)])
def test_objects_always_in_doubt_are_answered_as_with_all_views(classifier, viewpoint):
    every = classifier.classify(clouds(), viewpoint=viewpoint)
    asked = classifier.with_config(ClassifierConfig(first_views=2, sure_below=0.0)).classify(
        clouds(), viewpoint=viewpoint
    )
    for one, other in zip(every, asked, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_sure_objects_cost_their_first_views_only(classifier, views_looked_at, monkeypatch):
    monkeypatch.setattr(
        "clipoint3d_ros.recognition.classifier.in_doubt", lambda logits, *_: torch.arange(len(logits)) == 4
    )
    served = classifier.with_config(ClassifierConfig(first_views=3))
    projection = served.project(clouds())
    features = served.encode(projection)
    assert views_looked_at == [18, 7], "three views of each of six, then the other seven of one"
    assert features.any(-1).sum(1).tolist() == [3, 3, 3, 3, 10, 3]
    weights = served._judge(projection, features)[1]
    assert torch.allclose(weights.sum(1), torch.ones(6))
    assert not weights[~features.any(-1)].any(), "what was not looked at does not speak"
    for answer in served.decide(projection, features):
        assert math.isclose(answer.probabilities.sum(), 1)


def test_views_without_weight_are_not_looked_at(classifier, views_looked_at):
    eyes = np.random.default_rng(1).normal(size=(6, 3)) * 2
    projection = classifier.project(clouds(), viewpoint=eyes)
    classifier.encode(projection)
    assert views_looked_at == [int((projection.weights > 0).sum())]


def test_known_objects_are_not_looked_at_again(classifier, views_looked_at):
    projection = classifier.project(clouds())
    features = classifier.encode(projection)
    known = features.clone()
    known[2:] = 0
    views_looked_at.clear()
    again = classifier.encode(projection, known)
    assert views_looked_at == [40]
    torch.testing.assert_close(again, features)
