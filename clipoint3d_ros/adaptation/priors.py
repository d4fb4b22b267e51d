"""How often each class occurs in the target, from predictions alone."""

from __future__ import annotations

import torch
from torch import Tensor

from clipoint3d_ros.adaptation.losses import full_precision


@torch.no_grad()
@full_precision
def class_prior(logits: Tensor, iterations: int = 50, strength: float = 1.0) -> Tensor:
    """π ← (Σⱼ rⱼ + s/C) / (M + s) with rⱼ ∝ softmax(ℓⱼ)·π: the target's class prior by EM, from a uniform start.

    It holds as far as the posteriors are calibrated for equally frequent classes and the domains differ in their
    frequencies only. The target's prior may be far from uniform (METHOD 8: 58 % boxes), which balanced transport with
    a class-balanced source ignores.

    Args:
        logits: (M, C), divided by the temperature that calibrates them; M = 0 gives the uniform prior.
        iterations: of EM, at least 0.
        strength: s > 0, objects' worth of belief in uniformity: no class is ever ruled out.

    Returns:
        (C,) > 0, sum 1, no gradient.

    Raises:
        ValueError: s ≤ 0.

    Source:
        Saerens, Latinne, Decaestecker, Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural
        Computation 14, 2002; with a Dirichlet's pseudo-counts added.
    """
    if not strength > 0:
        raise ValueError(f"strength of the uniform prior is {strength}; it must be above 0")
    objects, classes = logits.shape
    prior = logits.new_full((classes,), 1 / classes)
    for _ in range(iterations):
        posteriors = (logits.log_softmax(-1) + prior.log()).softmax(-1)
        prior = (posteriors.sum(0) + strength / classes) / (objects + strength)
    return prior
