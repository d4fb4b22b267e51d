"""View selection: which of an object's views speak for it, and how loudly.

Entropy-guided, as published (METHOD 4): the views whose entropy is at most the object's median. Sensor-facing: a
partial cloud's rear views are confidently wrong, which entropy cannot see, but a robot knows where its sensor stood
(METHOD 8): views count by how squarely they face it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def facing_weights(towards: Tensor, directions: Tensor, sharpness: float = 1.0, floor: float = 0.25) -> Tensor:
    """How squarely each view looks at what the sensor saw: max(0, cos)^sharpness, views below `floor` left out.

    Args:
        towards: (B, 3) unit vectors from the objects to the sensor, in the views' y-up frame.
        directions: (V, 3) unit vectors from the object to each view's viewer.
        sharpness: the cosine's power.
        floor: cosine below which a view sees mostly the unseen side.

    Returns:
        (B, V) float32, rows summing to 1; the view nearest the sensor always counts.
    """
    cosine = towards @ directions.T
    weights = torch.where(cosine >= floor, cosine.clamp_min(0) ** sharpness, torch.zeros_like(cosine))
    best = torch.zeros_like(weights).scatter_(1, cosine.argmax(1, keepdim=True), 1e-6)
    weights = weights + best
    return weights / weights.sum(1, keepdim=True)


def entropy(probabilities: Tensor) -> Tensor:
    """−Σ p log p over the last axis, in nats; 0·log 0 = 0."""
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(-1)


def keep_certain(logits: Tensor, weights: Tensor) -> Tensor:
    """Entropy-guided selection: each object keeps the views whose entropy is at most its median (METHOD 4).

    Args:
        logits: (B, V, C).
        weights: (B, V); a view of weight 0 is not there.

    Returns:
        (B, V) weights, rows summing to 1.
    """
    uncertain = entropy(logits.softmax(-1))
    absent = weights <= 0
    median = uncertain.masked_fill(absent, torch.nan).nanmedian(1, keepdim=True).values
    kept = torch.where((uncertain <= median) & ~absent, weights, torch.zeros_like(weights))
    return kept / kept.sum(1, keepdim=True).clamp_min(1e-12)
