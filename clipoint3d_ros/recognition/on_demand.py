"""Views on demand: a few views first, the others only of objects that these leave in doubt.

An object is in doubt while the entropy of what its first views say together is high, or while one of them names
another class than all of them do. Where the sensor's place is known the first views are those that face it most
squarely; elsewhere they follow `ORDER`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipoint3d_ros.recognition.selection import entropy

# Learnt on 260 simulated scenes (`evaluation.serving.learning`): each next view is the one that, with those before it,
# names most objects as all ten do together.
ORDER = (2, 5, 3, 9, 6, 0, 7, 8, 1, 4)


def first_views(chosen: Tensor, facing: bool, count: int) -> Tensor:
    """Which of the objects' views are looked at first.

    Args:
        chosen: (B, K) int64, which of the ten views each is; of facing ones the squarest first.
        facing: the views were chosen by where the sensor stood.
        count: how many; 0 looks at all at once.

    Returns:
        (B, K) bool.
    """
    if not count:
        return torch.ones_like(chosen, dtype=torch.bool)
    if facing:
        return (torch.arange(chosen.shape[1], device=chosen.device) < count).expand_as(chosen)
    return torch.isin(chosen, torch.tensor(ORDER[:count], device=chosen.device))


def in_doubt(logits: Tensor, weights: Tensor, sure_below: float) -> Tensor:
    """Which objects want more views.

    Args:
        logits: (B, K, C).
        weights: (B, K), 0 where a view was not looked at; rows sum to 1.
        sure_below: share of log C, below which the entropy of the mean prediction leaves no doubt.

    Returns:
        (B,) bool.
    """
    together = (logits * weights[..., None]).sum(1)
    doubt = entropy(together.softmax(-1)) >= sure_below * math.log(max(logits.shape[-1], 2))
    other = (logits.argmax(-1) != together.argmax(-1)[:, None]) & (weights > 0)
    return doubt | other.any(1)
