"""The text side: sentences as embeddings, and class features, encoded once and cached by content (METHOD 2, T)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions


def class_features(backbone: Backbone, classes: Descriptions) -> Tensor:
    """One unit vector a class: the mean over its sentences' unit embeddings.

    A sentence is encoded once in the backbone's life, so changing the classes costs only what is new.

    Returns:
        (C, D) float32 on the backbone's device.
    """
    prompts = [classes.prompts(i) for i in range(len(classes.names))]
    features = backbone.encode_sentences([sentence for group in prompts for sentence in group])
    groups = features.split([len(group) for group in prompts])
    return F.normalize(torch.stack([group.mean(0) for group in groups]), dim=-1)


def encode_tokens(model: CLIP, tokens: Tensor) -> Tensor:
    """Embeddings of tokenised sentences, as open_clip's `encode_text` gives them, over no more tokens than the longest
    sentence has: attention is causal, so what comes after a sentence's end changes nothing.

    Args:
        model: a CLIP whose text is pooled at the end token, the largest id of a sentence.
        tokens: (K, L) int64, zeros after the end.

    Returns:
        (K, D), not normalised.
    """
    end = tokens.argmax(-1)
    length = int(end.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    causal = torch.full((length, length), -torch.inf, device=x.device).triu_(1)
    for layer in model.transformer.resblocks:
        x = tower.block(layer, x, causal)
    pooled = model.ln_final(x)[torch.arange(len(x), device=x.device), end]
    return pooled @ model.text_projection
