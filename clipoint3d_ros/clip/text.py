"""Class features: the frozen text side of the classifier, encoded once and cached by content (METHOD 2, T)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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
