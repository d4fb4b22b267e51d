"""A classifier with an adapter: the frozen answers beside it, classes of any kind, memory bounded."""

import numpy as np
import pytest
import torch
from bundles import small_bundle

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.bundle import BundleError
from clipoint3d_ros.clip.network import Network, NetworkConfig
from clipoint3d_ros.datasets.shapes import make_shape, surface_points
from clipoint3d_ros.recognition.classifier import Classifier, ClassifierConfig

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
