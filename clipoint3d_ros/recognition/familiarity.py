"""Whether an object is of any of the classes at all.

A softmax over the classes must choose one of them. Beside it stands a class "none of these" with one constant logit,
fitted once to a backbone on held-out objects of listed and unlisted classes; the share that remains for the listed
ones depends on the logits' energy, which tells unknown objects better than the largest probability does (Liu et al.,
"Energy-based out-of-distribution detection", NeurIPS 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor


def familiarity(logits: Tensor, unknown_logit: float | None) -> Tensor:
    """1 − the softmax's share of "none of these": σ(log Σ exp(logits) − b).

    Args:
        logits: (B, C) of the classes.
        unknown_logit: b; None where the backbone has none.

    Returns:
        (B,) in [0, 1]; ones without b.
    """
    if unknown_logit is None:
        return torch.ones(len(logits), device=logits.device)
    return (logits.logsumexp(-1) - unknown_logit).sigmoid()


def known(familiarity: float, share: float) -> float:
    """Probability that an object is of any of the classes, where `share` of all objects are.

    A familiarity is fitted where as many objects are of listed classes as are not; another share multiplies the odds
    (Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
    Computation 14, 2002). A share of one half changes nothing.
    """
    if share == 0.5:
        return familiarity
    inside, outside = familiarity * share, (1 - familiarity) * (1 - share)
    return inside / (inside + outside) if inside + outside > 0 else familiarity
