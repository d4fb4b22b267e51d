"""Sentences as embeddings."""

import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.text import class_features, encode_tokens


def test_embeddings_are_open_clips_own_over_fewer_tokens(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    tokens = backbone.tokenizer(["a mug", "a depth map of a tall bottle with a narrow neck and a cap", ""])
    own = backbone.model.encode_text(tokens)
    assert (encode_tokens(backbone.model, tokens) - own).abs().max() < 1e-5
    # A gradient takes the other path through attention.
    backbone.model.requires_grad_(True)
    assert (encode_tokens(backbone.model, tokens) - own).abs().max() < 1e-5


def test_a_class_is_the_mean_of_its_sentences(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    classes = describe(["mug", "box"])
    features = class_features(backbone, classes)
    assert torch.allclose(features.norm(dim=-1), torch.ones(2), atol=1e-5)
    first = torch.nn.functional.normalize(backbone.encode_sentences(classes.prompts(0)).mean(0), dim=-1)
    assert torch.allclose(features[0], first, atol=1e-5)
