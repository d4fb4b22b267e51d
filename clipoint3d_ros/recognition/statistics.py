"""Class statistics applied: how an object's features lie to those of each class, beside what the words say.

Features of one class are taken for Gaussian around the class's mean, all classes sharing one covariance. The log
density is then linear in the feature, and so are the words' logits: both together are one linear head, which costs
nothing to serve (Fisher's discriminant; Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 4.3).
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from clipoint3d_ros.clip.bundle import ClassStatistics

# Heads of statistics that are still in use: the companion's anchor and candidate are asked for theirs again and again.
_heads: WeakKeyDictionary[ClassStatistics, tuple[Tensor, Tensor]] = WeakKeyDictionary()

SHRINK = 0.03  # of the covariance towards a round one: a few hundred objects do not tell every direction's spread


def gaussian_head(statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) of log N(f; μ_c, Σ), without what all classes share.

    Σ is the shared covariance, shrunk towards the round one of the same trace. The classes' frequencies do not enter:
    they are the source's, not the robot's. Solved once for each object of statistics.
    """
    head = _heads.get(statistics)
    if head is None:
        head = _heads[statistics] = _solved(statistics)
    return head


def _solved(statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    covariance = statistics.covariance.double()
    width = len(covariance)
    spread = (covariance.trace() / width).clamp_min(1e-12)
    shrunk = (1 - SHRINK) * covariance
    shrunk.diagonal().add_(SHRINK * spread)
    mean = statistics.mean.double()
    weight = torch.linalg.solve(shrunk, mean.T).T
    return weight.float(), (-0.5 * (weight * mean).sum(1)).float()


def fused_head(text: Tensor, scale: float, statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) of w₀·scale·⟨f, text⟩ + w₁·log N(f; μ, Σ), w the statistics' own weights."""
    weight, bias = gaussian_head(statistics)
    words, densities = statistics.weights.tolist()
    return words * scale * text + densities * weight.to(text), densities * bias.to(text)


def for_classes(
    statistics: ClassStatistics, known: tuple[str, ...], known_text: Tensor, names: tuple[str, ...], text: Tensor
) -> ClassStatistics:
    """The statistics of other classes: those known by name keep theirs, a new one starts from its words.

    Images and words lie apart in CLIP's space: a new class's mean is its text feature, moved as the known classes'
    means lie from theirs. Where nothing is known of it, its count is 0.

    Args:
        statistics: of `known`, whose text features are `known_text` (C, D).
        names: the classes wanted, whose text features are `text` (K, D).
    """
    known_text, text = known_text.to(statistics.mean), text.to(statistics.mean)
    mean, count = text + (statistics.mean - known_text).mean(0), torch.zeros(len(names)).to(statistics.count)
    for i, name in enumerate(names):
        if name in known:
            mean[i], count[i] = statistics.mean[known.index(name)], statistics.count[known.index(name)]
    return replace(statistics, mean=mean, count=count)
