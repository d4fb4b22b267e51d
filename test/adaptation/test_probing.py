"""A probe set through a network as it would be served, and what is said of it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from bundles import moved_network
from domains_made import CLASSES, looks, solids

from clipoint3d_ros.adaptation import probing
from clipoint3d_ros.adaptation.clouds import levelled
from clipoint3d_ros.adaptation.probing import Probe, gain, look_over
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import Adapter
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

POINTS = 128


@pytest.fixture(scope="module", autouse=True)
def few_points():
    """Clouds are looked at with as many points as they are made of here, so that these are all looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "ClassifierConfig", partial(ClassifierConfig, points=POINTS))
        yield


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


def told(logits, labels):
    return Probe(torch.tensor(logits), torch.zeros(len(labels), 4), torch.tensor(labels))


def test_macro_accuracy_is_the_mean_over_the_classes_by_hand():
    logits = [[1.0, 0.0]] * 4 + [[0.0, 1.0]]
    assert told(logits, [0, 0, 0, 1, 1]).macro_accuracy == pytest.approx((1 + 0.5) / 2)
    assert told(logits, [0, 0, 0, -1, 1]).macro_accuracy == 1.0, "an object without a label does not count"
    assert torch.isnan(torch.tensor(told(logits, [-1] * 5).macro_accuracy))


def test_of_equally_accurate_steps_the_surer_one_scores_higher_and_accuracy_comes_first():
    sure, unsure = told([[3.0, 0.0], [0.0, 3.0]], [0, 1]), told([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    wrong = told([[3.0, 0.0], [3.0, 0.0]], [0, 1])
    assert sure.score > unsure.score > wrong.score


def test_clouds_without_a_network_are_looked_at_by_the_frozen_model(backbone):
    objects = solids(each=2, points=POINTS)
    frozen = look_over(None, backbone, CLASSES, levelled(objects, POINTS))
    classifier = Classifier(backbone, CLASSES, ClassifierConfig(points=POINTS, temperature=1.0))
    projection = classifier.project(objects.clouds)
    features = classifier.encode(projection)
    torch.testing.assert_close(frozen.logits, classifier.logits(projection, features), atol=0.05, rtol=0.05)
    torch.testing.assert_close(frozen.features, classifier.object_features(projection, features), atol=5e-3, rtol=0)
    assert (frozen.features.norm(dim=1) < 1).all(), "features of views that differ have been made unit"
    assert frozen.labels.tolist() == objects.labels.tolist()


def test_clouds_that_a_sensor_saw_are_looked_at_from_where_it_stood(backbone):
    objects = looks(each=2)
    clouds = levelled(objects, POINTS)
    seen = look_over(None, backbone, CLASSES, clouds)
    blind = look_over(None, backbone, CLASSES, replace(clouds, seen=torch.zeros(6, dtype=torch.bool)))
    classifier = Classifier(backbone, CLASSES, ClassifierConfig(points=POINTS, temperature=1.0))
    projection = classifier.project(list(clouds.points.numpy()), (0, 1, 0), clouds.sensors())
    assert projection.facing
    torch.testing.assert_close(seen.logits, classifier.logits(projection, classifier.encode(projection)))
    assert not torch.allclose(seen.logits, blind.logits, atol=1e-3)


def test_objects_that_a_sensor_saw_and_others_are_looked_at_as_each_would_be_alone(backbone):
    clouds = levelled(looks(each=2), POINTS)
    seen = torch.tensor([True, False, True, True, False, False])
    mixed = replace(clouds, seen=seen, distance=clouds.distance * seen, elevation=clouds.elevation * seen)
    together = look_over(None, backbone, CLASSES, mixed)
    for known in (True, False):
        rows = (seen == known).nonzero()[:, 0]
        apart = look_over(None, backbone, CLASSES, mixed.take(rows))
        torch.testing.assert_close(together.logits[rows], apart.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.features[rows], apart.features, atol=1e-4, rtol=1e-4)


def test_an_adapted_network_is_looked_at_merged_as_it_would_be_served(backbone):
    network = moved_network(backbone, NetworkConfig(rank=2))
    clouds = levelled(looks(each=1), POINTS)
    probe = look_over(network.merged(), backbone, CLASSES, clouds)
    torch.testing.assert_close(probe.logits, look_over(network, backbone, CLASSES, clouds).logits, atol=1e-3, rtol=1e-3)
    adapter = Adapter(network.merged(), CLASSES, temperature=3.0, version=1)
    classifier = Classifier(backbone, CLASSES, ClassifierConfig(points=POINTS), adapter)
    projection = classifier.project(list(clouds.points.numpy()), (0, 1, 0), clouds.sensors())
    tempered = classifier.logits(projection, classifier.encode(projection))
    torch.testing.assert_close(probe.logits, 3 * tempered, msg="the logits are those at temperature 1")
    assert not torch.allclose(probe.logits, look_over(None, backbone, CLASSES, clouds).logits, atol=1e-3)


def test_a_network_before_training_without_prompts_answers_as_the_frozen_one(backbone):
    clouds = levelled(solids(each=1), POINTS)
    untrained = Network(backbone, NetworkConfig(context=0, rank=2)).merged()
    one, other = (look_over(n, backbone, CLASSES, clouds) for n in (untrained, None))
    torch.testing.assert_close(one.features, other.features, atol=1e-5, rtol=1e-4)


def test_the_answers_do_not_depend_on_the_batches(backbone, monkeypatch):
    clouds = levelled(looks(each=2), POINTS)
    together = look_over(None, backbone, CLASSES, clouds)
    monkeypatch.setattr(probing, "BATCH", 4)
    apart = look_over(None, backbone, CLASSES, clouds)
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-4, rtol=1e-4)


def test_sizes_of_clouds_without_a_unit_are_not_looked_at(backbone):
    clouds = levelled(solids(each=1), POINTS)
    for metric, alike in ((True, False), (False, True)):
        small, large = (
            look_over(None, backbone, CLASSES, replace(clouds, points=scale * clouds.points, metric=metric)).features
            for scale in (1.0, 4.0)
        )
        assert torch.allclose(small, large, atol=1e-5) == alike


def answers(right, labels):
    """A probe whose objects are right as told, of two classes."""
    logits = torch.nn.functional.one_hot(torch.where(torch.tensor(right), labels, 1 - labels), 2).float()
    return Probe(logits, torch.zeros(len(labels), 3), labels)


def test_the_gain_is_that_of_macro_accuracy_and_no_agreement_is_certain():
    labels = torch.tensor([0] * 10 + [1] * 40)
    before = answers([True] * 5 + [False] * 5 + [True] * 40, labels)
    after = answers([True] * 10 + [True] * 40, labels)
    rise, error = gain(before, after)
    assert rise == pytest.approx(after.macro_accuracy - before.macro_accuracy) == pytest.approx(0.25)
    # Half of ten moved: variance 1/4; none of forty did: as if one had.
    assert error == pytest.approx((0.25 / 10 + (1 / 40) / 40) ** 0.5 / 2)
    same, error = gain(before, before)
    assert same == 0
    assert error > 0


def test_looks_at_one_object_are_no_more_certain_than_the_object():
    labels = torch.tensor([0] * 10 + [1] * 10)
    before, after = (answers([won] * 5 + [True] * 15, labels) for won in (False, True))
    once = gain(before, after)
    again = [replace(told, logits=told.logits.repeat_interleave(4, 0), labels=labels.repeat_interleave(4), looks=4)
             for told in (before, after)]  # fmt: skip
    assert gain(*again) == pytest.approx(once)
