"""A classifier with an adapter: the frozen answers beside it, classes of any kind, memory bounded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bundles import moved_network, small_bundle

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import Adapter, BundleError, ClassStatistics
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.datasets.shapes import make_shape, surface_points
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.familiarity import familiarity
from clipoint3d_ros.recognition.statistics import gaussian_head

NAMES = ["mug", "box", "tin", "bottle"]


@pytest.fixture(scope="module")
def frozen(small_model_folder):
    return Classifier.load(backbone=f"local-dir:{small_model_folder}", classes=NAMES, device="cpu")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    return small_bundle(tmp_path_factory.mktemp("bundles") / "adapter", backbone, ["jar", "lid"], version=6)


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    return [surface_points(make_shape(name, rng).mesh, 600, rng) for name in ("mug", "box", "bottle", "chair", "tin")]


def probabilities(answers):
    return np.stack([a.probabilities for a in answers])


@pytest.mark.parametrize("viewpoint", [None, (1.0, 0.5, 0.8)])
def test_frozen_answers_beside_an_adapter_are_the_frozen_model_s_bit_for_bit(frozen, bundle, clouds, viewpoint):
    adapted = frozen.with_bundle(bundle)
    assert (frozen.version, adapted.version, adapted.with_bundle(None).version) == (0, 6, 0)
    alone, both = frozen.classify(clouds, viewpoint=viewpoint), adapted.classify(clouds, viewpoint=viewpoint)
    assert [a.frozen.label for a in both] == [a.label for a in alone]
    np.testing.assert_array_equal(probabilities([a.frozen for a in both]), probabilities(alone))
    assert np.abs(probabilities(both) - probabilities(alone)).max() > 1e-3
    left = adapted.with_bundle("").classify(clouds, viewpoint=viewpoint)
    np.testing.assert_array_equal(probabilities(left), probabilities(alone))
    assert all(a.frozen is None for a in left)


def test_an_adapter_with_changed_classes_or_settings_is_the_same_adapter(frozen, bundle, clouds):
    adapted = frozen.with_bundle(bundle)
    assert adapted.classes == tuple(NAMES)
    assert adapted.with_classes(["hat", "shoe"]).adapter is adapted.adapter
    assert adapted.with_classes(None).classes == ("jar", "lid"), "no classes are the bundle's own, as in load"
    assert frozen.with_classes(None).classes[:2] == ("box", "can"), "without one the tabletop's"
    few = adapted.with_config(ClassifierConfig(max_views=3))
    np.testing.assert_allclose(probabilities(few.classify(clouds)), probabilities(adapted.classify(clouds)), atol=1e-5)


def test_the_point_encoder_takes_no_more_objects_at_once_than_the_cap_on_views_allows(
    frozen, bundle, clouds, monkeypatch
):
    sizes = []
    ours = Network.visual_prompts
    monkeypatch.setattr(Network, "visual_prompts", lambda self, points: sizes.append(len(points)) or ours(self, points))
    frozen.with_config(ClassifierConfig(max_views=25)).with_bundle(bundle).classify(clouds)
    assert max(sizes) == 2  # of ten views each


@pytest.mark.parametrize("context", [0, 4])
def test_nothing_and_too_little_are_answered_with_an_adapter_too(frozen, clouds, tmp_path, context):
    bundle = small_bundle(tmp_path / "b", frozen.backbone, NAMES, config=NetworkConfig(context=context, rank=2))
    adapted = frozen.with_bundle(bundle)
    assert adapted.classify([]) == []
    small = adapted.classify([clouds[0], np.zeros((3, 3))])[1]
    assert (small.label, small.frozen.label) == ("unknown", "unknown")
    assert all(torch.isfinite(torch.from_numpy(a.probabilities)).all() for a in adapted.classify(clouds))


def test_a_refused_bundle_changes_nothing(frozen, bundle, clouds, tmp_path):
    adapted = frozen.with_bundle(bundle)
    before = probabilities(adapted.classify(clouds))
    with pytest.raises(BundleError, match="is no bundle"):
        adapted.with_bundle(tmp_path)
    np.testing.assert_array_equal(probabilities(adapted.classify(clouds)), before)


# Class statistics

EYE = (1.0, 0.5, 0.8)
TEMPERATURE = 1.5


def told_statistics(count=4, weights=(0.4, 0.3)):
    """Means around a common place of half length, as those of views that differ, and a spread of all channels."""
    generator = torch.Generator().manual_seed(0)
    common, each = torch.randn(1, 32, generator=generator), torch.randn(count, 32, generator=generator)
    mean = 0.6 * common / common.norm() + 0.1 * each / each.norm(dim=1, keepdim=True)
    spread = torch.randn(32, 32, generator=generator)
    covariance = 0.01 * (torch.eye(32) + 0.1 * spread @ spread.T / 32)
    return ClassStatistics(mean, covariance, torch.full((count,), 8.0), torch.tensor(weights))


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    """One that judges familiarity."""
    return replace(load_backbone(f"local-dir:{small_model_folder}", device="cpu"), unknown_logit=1.0)


@pytest.fixture(scope="module")
def network(backbone):
    return moved_network(backbone).merged()


@pytest.fixture(scope="module")
def served(backbone, network):
    """A classifier whose adapter has statistics of the classes that are served."""
    adapter = Adapter(network, describe(NAMES), TEMPERATURE, version=2, statistics=told_statistics())
    return Classifier(backbone, describe(NAMES), adapter=adapter)


@pytest.fixture(scope="module")
def seen(served, clouds):
    """A projection, and the features of its views."""
    projection = served.project(clouds, viewpoint=EYE)
    return projection, served.encode(projection)


def words_alone(classifier):
    """The same classifier with the same adapter but for its statistics."""
    adapter = replace(classifier.adapter, statistics=None)
    return Classifier(classifier.backbone, classifier.descriptions, classifier.config, adapter)


def test_view_logits_are_the_weighed_sum_of_words_and_densities(served, seen):
    _, features = seen
    weight, bias = gaussian_head(served.statistics)
    words = served.backbone.scale * features @ served.text.T
    expected = 0.4 * words + 0.3 * (features @ weight.T + bias)
    torch.testing.assert_close(served.view_logits(features), expected / TEMPERATURE, atol=1e-4, rtol=1e-4)
    assert (served.view_logits(features) - words_alone(served).view_logits(features)).abs().max() > 1


def test_view_logits_are_linear_in_the_features(served, seen):
    _, features = seen
    one, other = features[:2], features[2:4]
    for share in (0.0, 0.3, 1.0, -2.0):
        mixed = served.view_logits(share * one + (1 - share) * other)
        expected = share * served.view_logits(one) + (1 - share) * served.view_logits(other)
        torch.testing.assert_close(mixed, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("viewpoint", [None, EYE])
def test_probabilities_are_those_of_the_pooled_views_under_words_and_statistics(served, clouds, viewpoint):
    projection = served.project(clouds, viewpoint=viewpoint)
    features = served.encode(projection)
    logits = served.logits(projection, features)
    pooled = served.view_logits(served.object_features(projection, features))
    torch.testing.assert_close(logits, pooled, atol=1e-4, rtol=1e-4)
    answers = served.decide(projection, features)
    np.testing.assert_allclose(probabilities(answers), logits.softmax(1), atol=1e-5)
    assert [a.label for a in answers] == [NAMES[i] for i in logits.argmax(1)]
    assert np.abs(probabilities(answers) - probabilities(words_alone(served).decide(projection, features))).max() > 0.05


def test_the_weights_of_words_and_densities_choose_between_both(served, seen):
    projection, features = seen

    def said(*weights):
        told = replace(served.statistics, weights=torch.tensor(weights))
        adapter = replace(served.adapter, statistics=told)
        return Classifier(served.backbone, served.descriptions, adapter=adapter).logits(projection, features)

    torch.testing.assert_close(said(1.0, 0.0), words_alone(served).logits(projection, features), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said(0.4, 0.3), said(0.4, 0.0) + said(0.0, 0.3), atol=1e-4, rtol=1e-4)


def test_familiarity_is_what_the_words_alone_say_at_the_backbone_s_temperature(served, seen):
    """The adapter's own belongs to words and statistics together."""
    projection, features = seen
    answers = served.decide(projection, features)
    objects = (features * projection.weights[..., None]).sum(1)
    expected = familiarity(served.backbone.scale * objects @ served.text.T, 1.0)
    assert [a.familiarity for a in answers] == pytest.approx(expected.tolist(), abs=1e-5)
    assert 0 < min(expected) < max(expected) < 1, "all objects are as familiar, so this shows nothing"
    other = familiarity(served.logits(projection, features), 1.0)
    assert (other - expected).abs().max() > 0.01, "the statistics would say the same, so this shows nothing"
    assert all(a.score == pytest.approx(a.probabilities.max() * a.familiarity) for a in answers)


def test_a_temperature_divides_words_and_statistics_alike(served, seen):
    projection, features = seen
    humbler = served.with_config(ClassifierConfig(temperature=4 * TEMPERATURE))
    torch.testing.assert_close(
        4 * humbler.logits(projection, features), served.logits(projection, features), atol=1e-4, rtol=1e-4
    )


def test_the_frozen_answers_beside_statistics_are_the_frozen_models(served, clouds):
    beside = [a.frozen for a in served.classify(clouds, viewpoint=EYE)]
    alone = Classifier(served.backbone, describe(NAMES)).classify(clouds, viewpoint=EYE)
    np.testing.assert_array_equal(probabilities(beside), probabilities(alone))
    assert served.frozen.statistics is None


def test_other_classes_find_their_statistics_by_name(served, seen):
    _, features = seen
    names = ["bottle", "hat", "mug"]
    other = served.with_classes(names)
    told = served.adapter.statistics
    assert torch.equal(other.statistics.mean[[0, 2]], told.mean[[3, 0]])
    assert other.statistics.count.tolist() == [8, 0, 8]
    torch.testing.assert_close(other.statistics.mean[1] - other.text[1], (told.mean - served.text).mean(0))
    # What the statistics say of a class depends on no other class beside it.
    here, there = (c.view_logits(features) - 0.4 * words_alone(c).view_logits(features) for c in (served, other))
    torch.testing.assert_close(there[..., [0, 2]], here[..., [3, 0]], atol=1e-4, rtol=1e-4)
    back = other.with_classes(NAMES)
    assert torch.equal(back.view_logits(features), served.view_logits(features))


def test_classes_in_another_order_get_the_same_probabilities_in_that_order(served, clouds):
    order = [2, 0, 3, 1]
    turned = served.with_classes([NAMES[i] for i in order]).classify(clouds, viewpoint=EYE)
    plain = served.classify(clouds, viewpoint=EYE)
    np.testing.assert_allclose(probabilities(turned), probabilities(plain)[:, order], atol=1e-4)
    assert [a.label for a in turned] == [a.label for a in plain]


def test_statistics_are_served_from_a_bundle_and_left_with_it(backbone, clouds, tmp_path):
    told = told_statistics(count=2)
    bundle = small_bundle(tmp_path / "adapter", backbone, NAMES[:2], version=6, statistics=told)
    plain = Classifier(backbone, describe(NAMES))
    adapted = plain.with_bundle(bundle)
    assert adapted.statistics.count.tolist() == [8, 8, 0, 0]
    assert np.isfinite(probabilities(adapted.classify(clouds, viewpoint=EYE))).all()
    assert adapted.with_bundle(None).statistics is None
    own = adapted.with_classes(None)
    assert own.classes == tuple(NAMES[:2])
    assert torch.equal(own.statistics.mean, told.mean)


def test_an_adapters_text_is_encoded_once_and_again_when_it_has_changed(frozen, bundle, monkeypatch):
    encoded, text = [], Network.text
    monkeypatch.setattr(Network, "text", lambda self, given: encoded.append(given.names) or text(self, given))
    adapted = frozen.with_bundle(bundle)
    adapted.with_config(ClassifierConfig(points=64)).with_classes(NAMES)
    assert encoded.count(tuple(NAMES)) == 1
    before = adapted.text
    with torch.no_grad():
        adapted.adapter.network.prompts.query.add_(1.0)
    assert not torch.equal(adapted.with_config(ClassifierConfig()).text, before)


def test_a_bundle_is_served_with_the_patches_it_was_trained_with(tmp_path, small_model_folder):
    name = f"local-dir:{small_model_folder}"
    every = load_backbone(name, device="cpu", patches="all")
    folder = small_bundle(tmp_path / "bundle", every, NAMES)
    assert not Classifier.load(folder, device="cpu").backbone.preprocessing.drop_empty
    with pytest.raises(BundleError, match="drop_empty"):
        Classifier.load(folder, device="cpu", patches="occupied")


def test_an_adapter_of_statistics_alone_encodes_every_view_once(backbone, clouds, monkeypatch):
    backbone = replace(backbone, temperature=2.0)
    network = Network(backbone, NetworkConfig(tuning="none", context=0)).eval()
    adapter = Adapter(network, describe(NAMES), 1.0, version=2, statistics=told_statistics())
    classifier, frozen = Classifier(backbone, describe(NAMES), adapter=adapter), Classifier(backbone, describe(NAMES))
    assert torch.equal(classifier.text, frozen.text)
    passes, encode = [], Classifier._look
    monkeypatch.setattr(Classifier, "_look", lambda self, *given: passes.append(self) or encode(self, *given))
    answers = classifier.classify(clouds, viewpoint=EYE)
    assert len(passes) == 1, f"the tower is passed {len(passes)} times"
    alone = frozen.classify(clouds, viewpoint=EYE)
    np.testing.assert_array_equal(probabilities([a.frozen for a in answers]), probabilities(alone))
    assert np.abs(probabilities(answers) - probabilities(alone)).max() > 0.05
    assert [a.familiarity for a in answers] == pytest.approx([a.familiarity for a in alone], abs=1e-6)


@pytest.mark.parametrize("viewpoint", [None, EYE])
@pytest.mark.parametrize("weights", [(0.0, 0.001), (5.0, 5.0)], ids=["adapter always in doubt", "adapter sure"])
def test_frozen_answers_beside_statistics_come_from_the_views_that_the_frozen_model_asks_for(
    backbone, clouds, viewpoint, weights
):
    network = Network(backbone, NetworkConfig(tuning="none", context=0)).eval()
    adapter = Adapter(network, describe(NAMES), 1.0, version=2, statistics=told_statistics(weights=weights))
    looked_at = []
    for bound in (0.8, 0.83, 0.84, 0.9):  # the words are in doubt of all objects, of some, of none
        config = ClassifierConfig(first_views=2, sure_below=bound)
        alone, beside = (Classifier(backbone, describe(NAMES), config, each) for each in (None, adapter))
        projection = alone.project(clouds, viewpoint=viewpoint)
        own, shared = alone.encode(projection), beside.encode(projection)
        given = beside.encode_frozen(projection, shared)
        assert torch.equal(given.any(-1), own.any(-1))
        answers = [answer.frozen for answer in beside.decide(projection, shared, given)]
        expected = probabilities(alone.decide(projection, own))
        np.testing.assert_allclose(probabilities(answers), expected, atol=1e-5)
        looked_at.append((int(own.any(-1).sum()), int(shared.any(-1).sum())))
    assert len({words for words, _ in looked_at}) > 2, "the words were never in doubt of some objects only"
    if weights[1] < 1:
        assert looked_at[-1][1] > looked_at[-1][0], "the adapter was in doubt of nothing else than the words"


def test_without_views_on_demand_the_frozen_model_gets_the_features_as_they_are(served, clouds):
    network = Network(served.backbone, NetworkConfig(tuning="none", context=0)).eval()
    beside = Classifier(served.backbone, served.descriptions, adapter=replace(served.adapter, network=network))
    projection = beside.project(clouds)
    features = beside.encode(projection)
    assert beside.encode_frozen(projection, features) is features
