"""Class statistics gathered from labelled source objects: where each class's features lie, how far they spread, and
how much that is to count beside the words."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from clipoint3d_ros.adaptation.probing import Probe
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.statistics import gaussian_head

_HUMBLE = 1e-3  # pull of the weights' logarithms to where both have unit spread, where the probe set does not tell


def gather(features: Tensor, labels: Tensor, classes: int) -> ClassStatistics:
    """Means by class and the covariance around them, every class counting the same.

    Args:
        features: (N, D), each the weighted mean of an object's unit view features.
        labels: (N,) int64; every class must occur.
        classes: C.

    Returns:
        Statistics that count as much as the words do, until `weighed`.

    Raises:
        ValueError: a class without objects.
    """
    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) == 0:
        raise ValueError(f"class {int(counts.argmin())} of {classes} has no object to take statistics of")
    groups = [features[labels == c].double() for c in range(classes)]
    means = torch.stack([group.mean(0) for group in groups])
    around = [(group - mean).T @ (group - mean) / len(group) for group, mean in zip(groups, means, strict=True)]
    covariance = torch.stack(around).mean(0).float()
    return ClassStatistics(means.float(), covariance, counts.float(), torch.ones(2))


def weighed(statistics: ClassStatistics, logits: Tensor, features: Tensor, labels: Tensor) -> ClassStatistics:
    """The same with the weights of words and densities that minimise the cross-entropy on a labelled probe set.

    min over w > 0 of CE(w₀·ℓ + w₁·log N(f; μ, Σ)) (Wolpert, "Stacked generalization", Neural Networks 5, 1992): the
    sum is calibrated, and whichever of the two knows less there counts less.

    Args:
        logits: (M, C) of the words, at temperature 1.
        features: (M, D) of the probe's objects, as `gather` takes them.
        labels: (M,) int64.
    """
    weight, bias = gaussian_head(statistics)
    both = torch.stack([logits, features @ weight.T + bias]).double()
    spreads = (both - both.mean(2, keepdim=True)).std(dim=(1, 2)).clamp_min(1e-6)
    start = -spreads.log()  # both of unit spread
    powers = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([powers], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        summed = (powers.exp()[:, None, None] * both).sum(0)
        loss = F.cross_entropy(summed, labels) + _HUMBLE * (powers - start).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    weights = powers.detach().exp().float()
    if not torch.isfinite(weights).all():
        raise FloatingPointError("the weights of words and statistics are not finite; the probe set's features are not")
    return replace(statistics, weights=weights)


def of_source(learned: Probe, probe: Probe, classes: int) -> ClassStatistics:
    """Gathered from labelled objects, weighed on others."""
    gathered = gather(learned.features, learned.labels, classes)
    return weighed(gathered, probe.logits, probe.features, probe.labels)


def of_words(text: Tensor, scale: float, temperature: float) -> ClassStatistics:
    """Statistics that say what the words say, for where no labelled object tells more: N(f; t_c, T/s·I), whose log
    density is the calibrated logit s/T·⟨f, t_c⟩ but for what all classes share, and half a weight for each of the two.

    Args:
        text: (C, D) unit class features of the words. scale: s of their logits, at temperature 1.
        temperature: T, that calibrates them.
    """
    classes, width = text.shape
    return ClassStatistics(
        text.float().cpu(),
        temperature / scale * torch.eye(width),
        torch.zeros(classes),
        torch.tensor([0.5 / temperature, 0.5]),
    )


def fused(probe: Probe, statistics: ClassStatistics) -> Probe:
    """What words and statistics together say of the probe's objects."""
    weight, bias = gaussian_head(statistics)
    words, densities = statistics.weights
    return replace(probe, logits=words * probe.logits + densities * (probe.features @ weight.T + bias))
