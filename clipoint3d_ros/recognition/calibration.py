"""Fitting what turns logits into probabilities: a temperature, and the logit of "none of these"."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that minimises the cross-entropy of logits / T (Guo et al., "On calibration of modern neural
    networks", ICML 2017), by a search over a fine logarithmic grid of [0.2, 5].

    Args:
        logits: (M, C).
        labels: (M,) int64.
    """
    grid = torch.logspace(math.log10(0.2), math.log10(5.0), 400)
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in grid])
    return float(grid[losses.argmin()])


def fit_unknown_logit(logits: Tensor, labels: Tensor, lists: int = 40, listed: int = 8, seed: int = 0) -> float:
    """The constant logit b of "none of these" that minimises the cross-entropy of telling objects of listed classes
    from all others, both sides weighing the same, over random lists of classes.

    Args:
        logits: (M, C) after the temperature.
        labels: (M,) int64.
        lists: how many lists are drawn.
        listed: classes of a list; half of them where there are fewer than twice as many.
        seed: of the draw.
    """
    rng = torch.Generator().manual_seed(seed)
    count = logits.shape[1]
    known, unknown = [], []
    for _ in range(lists):
        names = torch.randperm(count, generator=rng)[: min(listed, max(count // 2, 1))]
        energy = logits[:, names].logsumexp(-1)
        among = torch.isin(labels, names)
        known.append(energy[among])
        unknown.append(energy[~among])
    inside, outside = torch.cat(known), torch.cat(unknown)
    grid = torch.linspace(float(outside.quantile(0.02)), float(inside.quantile(0.98)), 400)
    # −log σ(E − b) of the known ones, −log σ(b − E) of the others.
    losses = [F.softplus(b - inside).mean() + F.softplus(outside - b).mean() for b in grid]
    return float(grid[int(torch.stack(losses).argmin())])
