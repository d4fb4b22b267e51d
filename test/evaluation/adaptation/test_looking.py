"""Looks: what any choice of views would have said, against hand computations and the classifier itself."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from clipoint3d_ros.datasets.domains import read_domain
from clipoint3d_ros.evaluation.adaptation.looking import BATCH, Looks, _spoilt, look
from clipoint3d_ros.geometry.views import view_directions
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

POLICIES = ("entropy", "sensor", "all")


@pytest.fixture(scope="module")
def looks():
    rng = torch.Generator().manual_seed(3)
    facing = torch.rand(6, 10, generator=rng)
    facing[:, 4:] = 0
    return Looks(4 * torch.randn(6, 10, 4, generator=rng), facing / facing.sum(1, keepdim=True))


@pytest.fixture(scope="module", params=["frozen", "adapted"])
def classifier(request, backbone, classes, adapter):
    return Classifier(backbone, classes, adapter=adapter if request.param == "adapted" else None)


def certain_mean(logits):
    """(V, C) → (C,): the mean over the views whose entropy is at most the median, in plain numpy."""
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponent / exponent.sum(1, keepdims=True)
    entropy = -(probabilities * np.log(probabilities)).sum(1)
    return logits[entropy <= np.median(entropy)].mean(0)


def test_all_is_the_plain_mean_of_the_views(looks):
    np.testing.assert_allclose(looks.choose("all"), looks.logits.numpy().mean(1), atol=1e-5)


def test_sensor_is_the_mean_weighted_by_how_views_face_it(looks):
    expected = np.einsum("mvc,mv->mc", looks.logits.numpy(), looks.facing.numpy())
    np.testing.assert_allclose(looks.choose("sensor"), expected, atol=1e-5)


def test_entropy_is_the_mean_of_the_surer_half(looks):
    expected = [certain_mean(each) for each in looks.logits.double().numpy()]
    np.testing.assert_allclose(looks.choose("entropy"), expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_first_views_are_chosen_among_by_entropy(looks, count):
    expected = [certain_mean(each[:count]) for each in looks.logits.double().numpy()]
    np.testing.assert_allclose(looks.choose(f"first-{count}"), expected, atol=1e-5)


def test_the_first_ten_by_entropy_are_all_by_entropy(looks):
    torch.testing.assert_close(looks.choose("first-10"), looks.choose("entropy"))


@pytest.mark.parametrize("count", [1, 3])
def test_random_views_are_so_many_different_ones_and_the_same_each_time(looks, count):
    chosen = looks.choose(f"random-{count}")
    subsets = list(combinations(range(10), count))
    means = torch.stack([looks.logits[:, list(views)].mean(1) for views in subsets], 1)
    nearest = (means - chosen[:, None]).abs().amax(2).min(1)
    assert nearest.values.max() < 1e-5
    assert len(set(nearest.indices.tolist())) > 1, "objects draw for themselves"
    assert torch.equal(chosen, looks.choose(f"random-{count}"))


def test_ten_random_views_are_all_of_them(looks):
    torch.testing.assert_close(looks.choose("random-10"), looks.choose("all"))


def test_an_unknown_policy_is_refused(looks):
    with pytest.raises(ValueError, match="view policy 'median' is none of entropy, sensor, all, random-K, first-K"):
        looks.choose("median")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_says_what_the_classifier_with_that_selection_says(classifier, column, policy):
    scored = column.scored
    served = classifier.with_config(ClassifierConfig(selection=policy))
    projection = served.project(list(scored.clouds), scored.up, scored.viewpoints)
    expected = served.logits(projection, served.encode(projection))
    torch.testing.assert_close(look(classifier, scored).choose(policy), expected, atol=1e-4, rtol=1e-4)


def test_complete_objects_face_no_sensor_and_all_their_views_count_evenly(classifier, classes):
    seen = look(classifier, read_domain("procedural", classes, count=1, seed=0))
    assert seen.logits.shape == (3, 10, 3)
    torch.testing.assert_close(seen.facing, torch.full((3, 10), 0.1))


def test_sensor_facing_weights_sum_to_one_and_leave_rear_views_out(backbone, classes, column):
    facing = look(Classifier(backbone, classes), column.scored).facing
    torch.testing.assert_close(facing.sum(1), torch.ones(len(column.scored)))
    assert ((facing == 0).sum(1) >= 3).all()


def test_objects_of_unknown_unit_are_looked_at_without_their_size(backbone, classes, column):
    every = Classifier(backbone, classes, ClassifierConfig(selection="all"))
    unknown = replace(column.scored, metric=False)
    projection = every.project(list(unknown.clouds), unknown.up, unknown.viewpoints).without_sizes()
    seen = look(every, unknown)
    torch.testing.assert_close(seen.choose("all"), every.logits(projection, every.encode(projection)))
    assert not torch.allclose(seen.logits, look(every, column.scored).logits), "the tower does look at sizes"


def test_more_objects_than_a_batch_keep_their_order(backbone, classes, column):
    classifier = Classifier(backbone, classes)
    few = look(classifier, column.scored)
    many = look(classifier, column.scored.take(np.arange(BATCH + 1) % 2))
    assert len(many.logits) == len(many.facing) == BATCH + 1
    for at in (0, 1, BATCH - 1, BATCH):
        torch.testing.assert_close(many.logits[at], few.logits[at % 2], atol=1e-4, rtol=1e-4)


def test_class_features_put_into_a_classifier_are_those_looked_at_with(backbone, classes, column):
    classifier, turned = Classifier(backbone, classes), Classifier(backbone, classes)
    turned.text = classifier.text[[1, 2, 0]]
    expected = look(classifier, column.scored).logits[..., [1, 2, 0]]
    torch.testing.assert_close(look(turned, column.scored).logits, expected)


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 2.0, -2.0)])
def test_a_spoilt_cloud_is_turned_about_the_vertical_and_jittered(up):
    cloud = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32) * [0.1, 0.05, 0.2] + [1, -2, 3]
    spoilt, turn = _spoilt(cloud, up, np.random.default_rng(1))
    radius = np.linalg.norm(cloud - cloud.mean(0), axis=1).max()
    assert spoilt.shape == cloud.shape
    assert spoilt.dtype == np.float32
    assert np.linalg.norm(spoilt.mean(0) - cloud.mean(0)) < 0.01 * radius
    assert np.linalg.norm(spoilt - spoilt.mean(0), axis=1).max() == pytest.approx(radius, rel=0.05)
    risen = (spoilt - cloud) @ (np.array(up) / np.linalg.norm(up))
    assert np.abs(risen).max() < 0.04 * radius, "heights stay but for the jitter"
    assert np.abs(spoilt - cloud).max() > 0.1 * radius, "it has turned"
    unturned = (spoilt - cloud.mean(0)) @ turn + cloud.mean(0)
    assert np.abs(unturned - cloud).max() < 0.03 * radius, "turned back, all but the jitter is gone"


def test_spoilt_clouds_follow_their_generator(backbone, classes, column):
    classifier = Classifier(backbone, classes)
    clean = look(classifier, column.scored)
    first, again, other = (look(classifier, column.scored, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.logits, again.logits)
    assert not torch.allclose(first.logits, other.logits)
    assert not torch.allclose(first.logits, clean.logits)


def test_the_views_that_face_a_spoilt_cloud_s_sensor_see_the_side_that_it_saw(monkeypatch, backbone, classes, column):
    """Discs with a spike towards the sensor: in every picture, wherever it was turned to, that is where it stood."""
    rng, eye = np.random.default_rng(0), np.array([0.3, -1.0, 0.5])
    to_sensor = eye / np.linalg.norm(eye)
    disc = 0.05 * rng.normal(size=(300, 3))
    disc -= np.outer(disc @ to_sensor, to_sensor)
    cloud = np.concatenate([disc, np.outer(np.linspace(0, 0.4, 60), to_sensor)]).astype(np.float32)
    some = column.scored.take([0] * 12)
    spikes = replace(
        some, clouds=(cloud,) * 12, up=(0.0, 0.0, 1.0), viewpoints=np.tile(eye, (12, 1)).astype(np.float32)
    )
    shown = []
    project = Classifier.project

    def watched(self, *given):
        shown.append(project(self, *given))
        return shown[-1]

    monkeypatch.setattr(Classifier, "project", watched)
    facing = look(Classifier(backbone, classes), spikes, np.random.default_rng(1)).facing
    (projection,) = shown
    tips = projection.points[torch.arange(12), projection.points.norm(dim=2).argmax(1)]
    tips = tips / tips.norm(dim=1, keepdim=True)
    assert tips[:, 2].min() < -0.3 < 0.3 < tips[:, 2].max(), "they were turned to all sides"
    looks = facing @ torch.from_numpy(view_directions()).float()
    cosines = (looks / looks.norm(dim=1, keepdim=True) * tips).sum(1)
    assert cosines.min() > 0.7, f"views of some object look past the side that its sensor saw: {cosines.tolist()}"


def test_a_cloud_without_a_sensor_is_spoilt_and_faces_none(backbone, classes):
    complete = read_domain("procedural", classes, count=1, seed=0)
    seen = look(Classifier(backbone, classes), complete, np.random.default_rng(0))
    torch.testing.assert_close(seen.facing, torch.full((3, 10), 0.1))
