"""The guard: whether a candidate may go live. Each check gives a number and a limit; all must hold.

Nothing here knows a target's label. The probe set is the source's, so it tells what was forgotten; collapse,
uncertainty and drift are told from remembered objects of the robot that the candidate has not learned from.

Without a probe set these others still give their numbers, but nothing goes live: alone they let pass what loses
(docs/companion.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class GuardConfig:
    """The limits."""

    probe_loss: float = 0.02  # of macro accuracy on the probe set, below the anchor's
    least_variety: float = 0.5  # of the frozen model's effective number of classes on held-out objects, beyond one
    entropy_rise: float = 0.15  # of mean held-out entropy above the frozen model's calibrated one, share of log C
    most_drift: float = 0.2  # share of the probe set answered otherwise than by the anchor
    least_probe: int = 1  # labelled objects, below which nothing goes live: no other check has seen a loss coming
    least_held: int = 4  # objects not learned from, below which nothing can be judged
    least_classes: int = 2  # predicted among the remembered objects: one class alone teaches nothing
    rejections: int = 5  # in a row, after which the frozen model is taken back

    def __post_init__(self) -> None:
        for name in ("probe_loss", "least_variety", "entropy_rise", "most_drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"guard limit {name} must lie in [0, 1], but is {getattr(self, name)}")
        if min(self.least_held, self.least_classes, self.rejections) < 1:
            raise ValueError("least_held, least_classes and rejections of the guard must be at least 1")
        if self.least_probe < 0:
            raise ValueError(f"least_probe of the guard must be at least 0, but is {self.least_probe}")


@dataclass(frozen=True)
class Evidence:
    """What a candidate is judged by.

    frozen, candidate: (H, C) probabilities of held-out objects; the frozen ones calibrated.
    remembered: (C,) how many of the objects learned from are of each predicted class; None where none was.
    anchor, probe: (M, C) logits on the labelled probe set, of the model that nothing online has touched and of the
    candidate; labels: (M,) of the probe set. None without one.
    """

    frozen: np.ndarray
    candidate: np.ndarray
    remembered: np.ndarray | None
    anchor: Tensor | None = None
    probe: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """A decision with its numbers: {check: (value, limit)}; reasons are the checks that failed, as sentences."""

    accepted: bool
    reasons: tuple[str, ...] = ()
    numbers: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value:.3g} (limit {limit:.3g})" for name, (value, limit) in self.numbers.items())
        return f"{'accepted' if self.accepted else 'rejected: ' + '; '.join(self.reasons)} [{figures}]"


def judge(evidence: Evidence, config: GuardConfig) -> Verdict:
    """All checks, in order; the later ones are left out where a first shows that there is nothing to judge."""
    numbers: dict[str, tuple[float, float]] = {}
    reasons: list[str] = []

    def check(name: str, value: float, limit: float, holds: bool, reason: str) -> None:
        numbers[name] = (float(value), float(limit))
        if not holds:
            reasons.append(reason)

    parts = [evidence.frozen, evidence.candidate]
    parts += [logits.numpy() for logits in (evidence.anchor, evidence.probe) if logits is not None]
    broken = sum(int((~np.isfinite(part)).sum()) for part in parts)
    check("not_finite", broken, 0, broken == 0, f"{broken} of its answers are not finite")
    held = len(evidence.candidate)
    check("held_out", held, config.least_held, held >= config.least_held, f"only {held} held-out objects to judge by")
    if evidence.remembered is not None:
        kinds = int((evidence.remembered > 0).sum())
        wanted = config.least_classes
        check("classes", kinds, wanted, kinds >= wanted, f"the memory holds {kinds} class(es) only")
    if reasons:
        return Verdict(False, tuple(reasons), numbers)
    if evidence.anchor is not None and evidence.probe is not None and evidence.labels is not None:
        before, after = (macro(logits, evidence.labels) for logits in (evidence.anchor, evidence.probe))
        least = before - config.probe_loss
        check("probe", after, least, after >= least, f"the probe set falls from {before:.1%} to {after:.1%}")
        drift = float((evidence.probe.argmax(1) != evidence.anchor.argmax(1)).float().mean())
        most = config.most_drift
        check("drift", drift, most, drift <= most, f"{drift:.0%} of the probe set is answered otherwise than at first")
    else:
        wanted = config.least_probe
        check("probe", 0, wanted, not wanted, "there is no probe set, so no labelled object vouches for it")
        drift = float((evidence.candidate.argmax(1) != evidence.frozen.argmax(1)).mean())
        most = config.most_drift
        told = f"{drift:.0%} of the held-out objects are answered otherwise than by the frozen model"
        check("drift", drift, most, drift <= most, told)
    # Beyond one, which is left where everything is one class: that must not pass for half of two.
    variety, least = variety_of(evidence.candidate), 1 + config.least_variety * (variety_of(evidence.frozen) - 1)
    check("variety", variety, least, variety >= least, f"answers shrink to {variety:.1f} classes")
    unsure = mean_entropy(evidence.candidate)
    most = mean_entropy(evidence.frozen) + config.entropy_rise * math.log(evidence.candidate.shape[1])
    check("entropy", unsure, most, unsure <= most, f"held-out entropy is {unsure:.2f} nats, above {most:.2f}")
    return Verdict(not reasons, tuple(reasons), numbers)


def macro(logits: Tensor, labels: Tensor) -> float:
    """Mean over the classes of the share that is right."""
    right = (logits.argmax(1) == labels).float()
    return float(torch.stack([right[labels == c].mean() for c in labels.unique()]).mean())


def variety_of(probabilities: np.ndarray) -> float:
    """exp H of the shares of the answered classes: how many are in use, 1 to C. Doubt is not variety."""
    shares = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(probabilities)
    return float(np.exp(-(shares * np.log(np.maximum(shares, 1e-12))).sum()))


def mean_entropy(probabilities: np.ndarray) -> float:
    """Mean over objects of −Σ p log p, in nats."""
    return float(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(1).mean())
