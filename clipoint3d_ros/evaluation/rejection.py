"""Telling unknown objects from known ones: how high each score stands for objects whose class is in the list.

| score | of an object |
|---|---|
| `score` | what `unknown_below` is compared with: the best class's probability times the familiarity (see `recognition.familiarity`) |
| `max_probability` | its best class's probability (Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017) |
| `entropy` | minus the entropy of its probabilities |
| `energy` | log sum exp of its logits (Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020) |
| `max_cosine` | the highest cosine between its feature and a class's text (Ming et al., "Delving into out-of-distribution detection with vision-language representations", NeurIPS 2022, without their softmax) |

Every score is higher for a known object. The headline is `score`, by what it is and not by what it measures: a robot
rejects by it. Arrays in, numbers out.
"""  # noqa: E501  (table)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clipoint3d_ros.evaluation import metrics

HEADLINE = "score"


def logit_scores(logits: np.ndarray) -> dict[str, np.ndarray]:
    """`max_probability`, `entropy` and `energy`, (M,) each, of logits (M, C)."""
    highest = logits.max(1, keepdims=True)
    energy = highest[:, 0] + np.log(np.exp(logits - highest).sum(1))
    probabilities = np.exp(logits - energy[:, None])
    return {**probability_scores(probabilities), "energy": energy}


def probability_scores(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """`max_probability` and `entropy`, (M,) each, of probabilities (M, C) whose rows sum to 1."""
    certain = probabilities * np.log(np.maximum(probabilities, 1e-300))
    return {"max_probability": probabilities.max(1), "entropy": certain.sum(1)}


def rejection(known: Mapping[str, np.ndarray], unknown: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """AUROC of every score.

    Args:
        known: {score: (K,)} of objects whose class is in the list.
        unknown: {score: (U,)} of objects whose class is not.

    Returns:
        `n` unknown objects, `known`, `auroc` and `auroc_interval` (95 % bootstrap over objects) of the headline, and
        `auroc_by` score.

    Raises:
        ValueError: no object on one of the sides, or a score that is not finite.
    """
    counts = len(known[HEADLINE]), len(unknown[HEADLINE])
    if 0 in counts:
        raise ValueError(f"rejection needs known and unknown objects, but there are {counts[0]} and {counts[1]}")
    return {
        "n": counts[1],
        "known": counts[0],
        "auroc": metrics.auroc(known[HEADLINE], unknown[HEADLINE]),
        "auroc_interval": list(metrics.auroc_interval(known[HEADLINE], unknown[HEADLINE])),
        "auroc_by": {score: metrics.auroc(known[score], unknown[score]) for score in known},
    }
