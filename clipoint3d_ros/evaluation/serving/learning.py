"""Which views first, and how sure they must be: learnt from what all ten views say of simulated objects.

Only the views' logits are needed: whatever order and threshold are tried, the tower has looked once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.on_demand import in_doubt
from clipoint3d_ros.recognition.selection import keep_certain


class OnDemand(NamedTuple):
    """agreement: share of objects named as with all views. doubt: share that wanted more. views: looked at, mean."""

    agreement: float
    doubt: float
    views: float


class Said(NamedTuple):
    """Of M objects: logits (M, V, C) of all views, and weights (M, V) of those that may speak."""

    logits: Tensor
    weights: Tensor


def look_over(classifier: Classifier, scenes: Iterable[Sequence[np.ndarray]], facing: bool) -> Said:
    """All views of the scenes' objects, clouds in a levelled frame with the sensor at the origin.

    Args:
        facing: the sensor's place is told, and the views that face it speak; else it is not, and all do alike.
    """
    every = classifier.with_config(ClassifierConfig(selection="all"))
    chosen = classifier.with_config(ClassifierConfig(selection="sensor")) if facing else every
    eye = (0, 0, 0) if facing else None
    logits, weights = [], []
    for clouds in scenes:
        projection, own = every.project(clouds, viewpoint=eye), chosen.project(clouds, viewpoint=eye)
        logits.append(every.view_logits(every.encode(projection)).cpu())
        weights.append(torch.zeros(projection.weights.shape).scatter(1, own.chosen.cpu(), own.weights.cpu()))
    return Said(torch.cat(logits), torch.cat(weights))


def figures(facing: Said, anywhere: Said, most: int = 4) -> dict[str, Any]:
    """What is learnt of a model.

    Args:
        facing, anywhere: its objects where the sensor's place is known, and where it is not.
        most: first views that are tried, 1 to so many.

    Returns:
        `order` of the views where the sensor's place is not known; `facing` and `anywhere`, a row for each number of
        first views: `first`, `sure_below`, and the fields of `OnDemand`.
    """
    order = view_order(anywhere.logits)
    rows: dict[str, list[dict[str, Any]]] = {"facing": [], "anywhere": []}
    for count in range(1, most + 1):
        squarest = torch.zeros_like(facing.weights).scatter(1, facing.weights.topk(count).indices, 1.0) > 0
        leading = torch.isin(torch.arange(len(order)), torch.tensor(order[:count])).expand_as(anywhere.weights)
        for name, said, first in (("facing", facing, squarest), ("anywhere", anywhere, leading)):
            sure = threshold(*said, first, name == "anywhere", least=1.0 if name == "facing" else 0.99)
            found = on_demand(*said, first, sure, name == "anywhere")
            rows[name].append({"first": count, "sure_below": sure, **found._asdict()})
    return {"order": order, **rows}


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
