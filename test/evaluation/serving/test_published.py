"""The published inference, and the engine's exact path against it."""

import dataclasses

import numpy as np
import pytest
import torch
from open_clip.model import CLIP

from clipoint3d_ros.clip.backbone import Backbone, Preprocessing, load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.evaluation.serving.published import PublishedInference, depth_views
from clipoint3d_ros.geometry.clouds import normalise
from clipoint3d_ros.geometry.views import DepthViews
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

NAMES = ["box", "mug", "bowl"]


@pytest.fixture(scope="module")
def plain(small_model_folder):
    """A plain ViT with another mean and deviation in each channel."""
    torch.manual_seed(1)
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
    text = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = CLIP(32, vision, text).eval().requires_grad_(False)
    with torch.no_grad():
        model.logit_scale.fill_(4.0)
    look = Preprocessing(32, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    return Backbone("plain", model, load_backbone(f"local-dir:{small_model_folder}", device="cpu").tokenizer, look, "")


def clouds(count=5):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(300, 3)) * rng.uniform(0.02, 0.2, 3)).astype(np.float32) for _ in range(count)]


def test_exact_serving_gives_the_published_probabilities(plain):
    published = PublishedInference(plain, describe(NAMES), sentences=None)
    served = Classifier(plain, describe(NAMES)).classify(clouds())
    for cloud, answer in zip(clouds(), served, strict=True):
        np.testing.assert_allclose(answer.probabilities, published(cloud), atol=1e-4)
    spread = np.ptp([a.probabilities for a in served], axis=0).max()
    assert spread > 1e-3, "answers that do not depend on the object would agree for no reason"


def test_views_of_the_plain_projection_are_the_renderers():
    points = normalise(torch.from_numpy(clouds(1)[0]))
    assert (depth_views(points) - DepthViews()(points[None])[0]).abs().max() < 1e-5


def test_a_tower_the_method_does_not_know_is_refused(plain):
    dropping = dataclasses.replace(plain, preprocessing=dataclasses.replace(plain.preprocessing, drop_empty=True))
    with pytest.raises(ValueError, match="plain ViT"):
        PublishedInference(dropping, describe(NAMES))
    assert ClassifierConfig().precision == "fp32"
