"""Which views first, and how sure they must be: learnt from what all ten views say of simulated objects.

Only the views' logits are needed: whatever order and threshold are tried, the tower has looked once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from clipoint3d_ros.recognition.on_demand import in_doubt
from clipoint3d_ros.recognition.selection import keep_certain


class OnDemand(NamedTuple):
    """agreement: share of objects named as with all views. doubt: share that wanted more. views: looked at, mean."""

    agreement: float
    doubt: float
    views: float


def view_order(logits: Tensor) -> list[int]:
    """The views, each next one that with those before it names most objects as all do.

    Args:
        logits: (M, V, C) of objects whose sensor's place is not known.
    """
    count = logits.shape[1]
    truth = _named(logits, torch.full(logits.shape[:2], 1 / count))
    order: list[int] = []
    while len(order) < count:
        shares = {}
        for view in (v for v in range(count) if v not in order):
            tried = logits[:, [*order, view]]
            named = _named(tried, torch.full(tried.shape[:2], 1 / tried.shape[1]))
            shares[view] = int((named == truth).sum())
        order.append(max(shares, key=lambda view: shares[view]))
    return order


def on_demand(logits: Tensor, weights: Tensor, first: Tensor, sure_below: float, by_entropy: bool) -> OnDemand:
    """What a first set of views and a threshold come to.

    Args:
        logits: (M, V, C). weights: (M, V), rows summing to 1.
        first: (M, V) bool, the views looked at first.
        sure_below: as in `recognition.on_demand`.
        by_entropy: whether the certain views alone decide.
    """
    begun = weights * first
    begun = begun / begun.sum(1, keepdim=True).clamp_min(1e-12)
    spoken = keep_certain(logits, begun) if by_entropy else begun
    doubt = in_doubt(logits, spoken, sure_below)
    ended = torch.where(doubt[:, None], weights, begun)
    agreed = _named(logits, ended, by_entropy) == _named(logits, weights, by_entropy)
    return OnDemand(float(agreed.float().mean()), float(doubt.float().mean()), float((ended > 0).sum(1).float().mean()))


def threshold(logits: Tensor, weights: Tensor, first: Tensor, by_entropy: bool, least: float = 1.0) -> float:
    """The largest `sure_below` among tenths at which at least a share `least` of the objects is named as with all
    views; 0, which doubts everything, where none is."""
    fit = [
        tenths / 10
        for tenths in range(1, 11)
        if on_demand(logits, weights, first, tenths / 10, by_entropy).agreement >= least
    ]
    return max(fit, default=0.0)


def _named(logits: Tensor, weights: Tensor, by_entropy: bool = True) -> Tensor:
    weights = keep_certain(logits, weights) if by_entropy else weights
    return (logits * weights[..., None]).sum(1).argmax(-1)
