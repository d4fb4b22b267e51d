"""A tiny architecture that open_clip has with GELU and with QuickGELU, as it has ViT-B-16, and weights that a tag of
it tells to be of QuickGELU, as `openai` does."""

import open_clip
import torch
from safetensors.torch import save_file

from clipoint3d_ros.clip import backbone

NAME, TAG = "ViT-tiny-test", "openai"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def quick_gelu_weights(folder, monkeypatch):
    """Makes the architecture and its tag known; returns the file of weights, which the tag finds as well."""
    known = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(known, NAME, CONFIG)
    monkeypatch.setitem(known, f"{NAME}-quickgelu", {**CONFIG, "quick_gelu": True})
    tag = {"hf_hub": "maker/model/", "quick_gelu": True}
    monkeypatch.setitem(backbone.tags._PRETRAINED, NAME, {TAG: tag})
    path = folder / "open_clip_model.safetensors"
    torch.manual_seed(0)
    model = open_clip.create_model(NAME, pretrained=None)
    for layer in [*model.visual.transformer.resblocks, *model.transformer.resblocks]:
        layer.mlp.c_fc.weight.data *= 3  # to where the activations differ
        layer.mlp.c_proj.weight.data *= 100
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    monkeypatch.setattr(backbone, "_cached", lambda settings: path)
    return path
