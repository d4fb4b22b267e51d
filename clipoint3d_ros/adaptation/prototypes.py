"""Uncertainty-aware prototypes and the target's alignment with them (METHOD 5, L_proto)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipoint3d_ros.adaptation.losses import certainty, full_precision

MIN_WEIGHT = 1e-4  # of an object that is wholly unsure, so that a class of such objects has a prototype too
MIN_LENGTH = 1e-6  # of a mean of unit features, below which it points nowhere


@full_precision
def prototypes(features: Tensor, logits: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """p_c = Σ wᵢ fᵢ / Σ wᵢ over the objects of label c, made unit; w = certainty(softmax(ℓ)) as a constant.

    Args:
        features: (N, D), unit; the prototypes' gradient reaches them.
        logits: (N, C).
        labels: (N,) class indices.
        classes: C.

    Returns:
        prototypes (C, D), unit, 0 where absent; present (C,) bool: the class has objects, and their mean a direction.

    Raises:
        ValueError: C < 2, or logits of another number of classes.
    """
    if logits.shape[1] != classes:
        raise ValueError(f"logits are of {logits.shape[1]} classes, prototypes of {classes}")
    weights = certainty(logits.detach().softmax(-1)).clamp_min(MIN_WEIGHT).to(features)
    membership = F.one_hot(labels, classes).to(features) * weights[:, None]
    shares = membership / membership.sum(0).clamp_min(MIN_WEIGHT)
    means = shares.mT @ features
    present = means.detach().norm(dim=1) > MIN_LENGTH
    return F.normalize(means, dim=1, eps=MIN_LENGTH) * present[:, None], present


@full_precision
def prototype_alignment(
    target_features: Tensor, target_logits: Tensor, prototypes: Tensor, present: Tensor, temperature: float
) -> Tensor:
    """wⱼ·CE(⟨fⱼ, p⟩/T, argmax_c ⟨fⱼ, p_c⟩), mean over target objects; w = certainty(softmax(ℓ)) as a constant.

    The mean is over all objects, not over Σw: a weight that is divided by its own sum cancels in a batch of one
    object, and a batch of unsure ones would pull as hard as one of sure ones. The prototypes are not detached: a
    caller whose source side is to stand still passes detached ones.

    Args:
        target_features: (M, D), unit.
        target_logits: (M, C); only their certainty counts, and they get no gradient.
        prototypes: (C, D), unit.
        present: (C,) bool; other classes are neither pseudo-labels nor in the softmax.
        temperature: T > 0 of the cosines.

    Returns:
        () loss, ≥ 0.

    Raises:
        ValueError: T ≤ 0, no class present, or C < 2.
    """
    if not temperature > 0:
        raise ValueError(f"temperature of the prototypes' cosines is {temperature}; it must be above 0")
    if not present.any():
        raise ValueError("no class has a prototype: the source batch holds no labelled object")
    scores = (target_features @ prototypes.mT / temperature).masked_fill(~present, -torch.inf)
    weights = certainty(target_logits.detach().softmax(-1))
    return (weights * F.cross_entropy(scores, scores.argmax(1), reduction="none")).mean()
