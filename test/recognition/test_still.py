"""An object that stands still is not looked at again, and one that moved, grew, turned or aged is."""

import numpy as np
import pytest
import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.engine import Engine
from clipoint3d_ros.recognition.still import StillConfig, StillObjects

EYE = np.array([0.0, 0.0, 0.5])
RNG = np.random.default_rng(0)
CLOUDS = [(RNG.normal(size=(300, 3)) * 0.04 + at).astype(np.float32) for at in ([1, 0, 0], [1.2, 0.5, 0])]


@pytest.fixture(scope="module")
def classifier(small_model_folder):
    return Classifier(load_backbone(f"local-dir:{small_model_folder}", device="cpu"), describe(["box", "mug"]))


@pytest.fixture
def looked(monkeypatch):
    views, encode = [], Engine.encode
    monkeypatch.setattr(Engine, "encode", lambda self, given, *r: views.append(len(given)) or encode(self, given, *r))
    return views


def seen(still, classifier, stamp_s, clouds=CLOUDS, eye=EYE, tracks=(1, 2), model=None):
    projection = classifier.project(clouds, viewpoint=eye)
    given = (stamp_s, tracks, clouds, eye, projection.chosen, projection.weights)
    known = still.recall(*given, model or classifier.looks_by)
    features = classifier.encode(projection, known)
    still.remember(*given, features, known)
    return features, projection


def test_what_stands_still_is_looked_at_once_and_answered_the_same(classifier, looked):
    still = StillObjects()
    first, projection = seen(still, classifier, 0.0)
    count = sum(looked)
    again, _ = seen(still, classifier, 0.1, [c + np.float32(0.001) for c in CLOUDS])
    assert sum(looked) == count, "nothing moved, and yet the tower was asked"
    torch.testing.assert_close(again, first)
    assert len(classifier.decide(projection, again)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"clouds": [CLOUDS[0] + np.float32(0.03), CLOUDS[1]]},
        {"clouds": [(CLOUDS[0] - CLOUDS[0].mean(0)) * 1.3 + CLOUDS[0].mean(0), CLOUDS[1]]},
        {"clouds": [CLOUDS[0][:200], CLOUDS[1]]},
        {"tracks": (3, 2)},
    ],
    ids=["moved", "grew", "hidden", "another track"],
)
def test_what_changed_is_looked_at_again_alone(classifier, looked, change):
    still = StillObjects()
    seen(still, classifier, 0.0)
    looked.clear()
    seen(still, classifier, 0.1, **change)
    alone = int((classifier.project(change.get("clouds", CLOUDS), viewpoint=EYE).weights[0] > 0).sum())
    assert sum(looked) == alone


@pytest.mark.parametrize(
    "change",
    [{"stamp_s": 2.5}, {"eye": np.array([0.3, -0.5, 0.5])}, {"eye": None}, {"model": object()}],
    ids=["aged", "sensor moved", "sensor lost", "another model"],
)
def test_age_the_sensor_and_the_model_make_all_be_looked_at_again(classifier, looked, change):
    still = StillObjects()
    seen(still, classifier, 0.0)
    looked.clear()
    given = {"stamp_s": 0.1} | change
    _, projection = seen(still, classifier, **given)
    assert sum(looked) == int((projection.weights > 0).sum())


def test_slow_drift_adds_up(classifier, looked):
    still = StillObjects()
    seen(still, classifier, 0.0)
    looked.clear()
    for step in range(1, 4):
        seen(
            still,
            classifier,
            step * 0.1,
            [c + np.float32(0.004 * step) * np.eye(3, dtype=np.float32)[0] for c in CLOUDS],
        )
    assert sum(looked) > 0, "a centimetre in small steps is a centimetre"


def test_a_jump_back_in_time_and_clearing_forget(classifier, looked):
    still = StillObjects()
    seen(still, classifier, 10.0)
    looked.clear()
    seen(still, classifier, 5.0)
    assert sum(looked) > 0
    looked.clear()
    still.clear()
    seen(still, classifier, 5.1)
    assert sum(looked) > 0


def test_clouds_without_points_and_impossible_limits():
    still, model = StillObjects(), object()
    empty, chosen, weights = [np.zeros((0, 3))], torch.arange(10)[None], torch.full((1, 10), 0.1)
    assert still.recall(0.0, [1], empty, None, chosen, weights, model) is None
    still.remember(0.0, [1], empty, None, chosen, weights, torch.ones(1, 10, 4), None)
    assert still.recall(0.1, [1], empty, None, chosen, weights, model) is None
    with pytest.raises(ValueError, match="above 0"):
        StillConfig(max_move=0)
