"""Tier 1: class statistics that follow what the robot sees, without gradients, on a long leash.

A class's mean moves from its anchor towards the objects that are taken for it by β = n/(n + n₀), n the memory's
responsibility for the class: a class of which little was seen stays where the source put it, and one seen for an hour
does not carry the others along (Zanella et al., "Realistic test-time adaptation of vision-language models", CVPR 2025,
with the anchor's pull made explicit; METHOD 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.statistics import fused_head


@dataclass(frozen=True)
class FollowConfig:
    """How far statistics follow the robot's objects."""

    anchor: float = 300.0  # n₀: remembered objects of a class that weigh as much as its anchor
    spread_anchor: float = 1000.0  # the same for the covariance, of objects of all classes
    rounds: int = 2  # of assigning objects to classes and moving the means

    def __post_init__(self) -> None:
        if not self.anchor > 0 or not self.spread_anchor > 0 or self.rounds < 1:
            raise ValueError("anchors must be above 0 and rounds at least 1")


@torch.no_grad()
def followed(
    anchor: ClassStatistics, text: Tensor, scale: float, features: Tensor, config: FollowConfig
) -> ClassStatistics:
    """The anchor's statistics after a memory of objects.

    r_jc = softmax_c of the fused answer; n_c = Σ_j r_jc; μ_c = (1 − β_c) μ_c⁰ + β_c Σ_j r_jc f_j / n_c, and the
    covariance likewise towards the objects' own around the anchored means.

    Args:
        anchor: statistics of the source; their weights stay.
        text: (C, D) class features of the words, at `scale`.
        features: (M, D) of remembered objects, as `ClassStatistics` takes them; M = 0 gives the anchor.

    Returns:
        Statistics whose count is the anchor's plus n.
    """
    if not len(features):
        return anchor
    current, rows = anchor, features.double()
    squares = rows.T @ rows
    for _ in range(config.rounds):
        weight, bias = fused_head(text, scale, current)
        shares = (features @ weight.T + bias).softmax(-1).double()
        seen, sums = shares.sum(0), shares.T @ rows
        means = sums / seen.clamp_min(1e-9)[:, None]
        pull = (seen / (seen + config.anchor))[:, None]
        moved = (1 - pull) * anchor.mean.double() + pull * means
        # Σ_jc r_jc (f_j − μ_c)(f_j − μ_c)ᵀ, whose rows' shares sum to 1
        cross = sums.T @ moved
        spread = (squares - cross - cross.T + moved.T @ (seen[:, None] * moved)) / seen.sum()
        share = float(seen.sum() / (seen.sum() + config.spread_anchor))
        covariance = (1 - share) * anchor.covariance.double() + share * spread
        current = replace(
            anchor, mean=moved.float(), covariance=covariance.float(), count=anchor.count + seen.to(anchor.count)
        )
    return current


def known_share(familiarities: Iterable[float], humble: float = 16.0, rounds: int = 100) -> float:
    """The share π of objects that are of any of the classes, from how familiar each one seems.

    Expectation maximisation of π over known(f_j, π) = f_j π / (f_j π + (1 − f_j)(1 − π)) (Saerens, Latinne,
    Decaestecker, Neural Computation 14, 2002), with a belief in one half that weighs as much as `humble` objects.

    Args:
        familiarities: in [0, 1], one an object.

    Returns:
        In (0, 1); one half without objects.
    """
    odds = np.clip(np.fromiter(familiarities, float), 1e-6, 1 - 1e-6)
    share = 0.5
    for _ in range(rounds):
        inside = odds * share
        inside = inside / (inside + (1 - odds) * (1 - share))
        before, share = share, float((inside.sum() + humble / 2) / (len(odds) + humble))
        if abs(share - before) < 1e-6:
            break
    return share
