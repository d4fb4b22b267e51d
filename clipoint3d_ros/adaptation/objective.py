"""The whole loss of one step, from features to one number with its terms (METHOD 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from clipoint3d_ros.adaptation.batches import Batch
from clipoint3d_ros.adaptation.config import Recipe
from clipoint3d_ros.adaptation.losses import confidence, consistency, cross_entropy, orthogonality, selected_logits
from clipoint3d_ros.adaptation.prototypes import prototype_alignment, prototypes
from clipoint3d_ros.adaptation.transport import alignment
from clipoint3d_ros.recognition.selection import keep_certain


@dataclass(frozen=True)
class Seen:
    """One domain's objects of a step as the network sees them.

    features: (B, V, D) unit. logits: (B, V, C). weights: (B, V) of the views that are kept, rows summing to 1.
    turned: (B, 64, 64) alignment of the point encoder, None without one.
    """

    features: Tensor
    logits: Tensor
    weights: Tensor
    turned: Tensor | None

    @property
    def fused(self) -> Tensor:
        """(B, D) unit: the kept views' mean feature."""
        return torch.nn.functional.normalize((self.features * self.weights[..., None]).sum(1), dim=-1)

    @property
    def pooled(self) -> Tensor:
        """(B, C): the kept views' mean logits."""
        return selected_logits(self.logits, self.weights)


Objective = Callable[[Seen, Tensor, Seen | None, Batch | None, Tensor, Recipe], tuple[Tensor, dict[str, Tensor]]]


def see(features: Tensor, text: Tensor, scale: float, turned: Tensor | None) -> Seen:
    """Features (B, V, D) against class features (C, D), the views kept by entropy (METHOD 4)."""
    logits = scale * features @ text.T
    even = torch.full(logits.shape[:2], 1 / logits.shape[1], device=logits.device)
    with torch.no_grad():
        kept = keep_certain(logits, even)
    return Seen(features, logits, kept, turned)


def objective(
    source: Seen, labels: Tensor, target: Seen | None, batch: Batch | None, prior: Tensor, recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses, and each of them.

    Args:
        source: the labelled objects. labels: (B,) theirs.
        target: the unlabelled ones, with the batch they came from; None where no loss looks at them.
        prior: (C,) the target's class shares as estimated so far, by which the source side of the transport is weighed.
        recipe: weights and settings.

    Raises:
        ValueError: every loss is left out.
    """
    w = recipe.losses
    terms: dict[str, Tensor] = {}
    if w.ce:
        terms["ce"] = cross_entropy(source.pooled, labels, w.smoothing)
    if w.ortho and source.turned is not None:
        both = [seen.turned for seen in (source, target) if seen is not None and seen.turned is not None]
        terms["ortho"] = torch.stack([orthogonality(turned) for turned in both]).mean()
    if target is not None and batch is not None:
        if w.conf:
            both_conf = confidence(source.logits, source.weights) + confidence(target.logits, target.weights)
            terms["conf"] = both_conf / 2
        if w.transport:
            shares = prior[labels] / torch.bincount(labels, minlength=len(prior)).to(prior)[labels]
            terms["transport"] = alignment(
                source.fused, labels, target.fused, target.pooled, recipe.transport, shares / shares.sum()
            )
        if w.proto:
            means, present = prototypes(source.fused, source.pooled, labels, len(prior))
            terms["proto"] = prototype_alignment(target.fused, target.pooled, means, present, w.proto_temperature)
        if w.agree:
            terms["agree"] = _agreement(target, batch)
    if not terms:
        raise ValueError("no loss is left to learn from: give losses.ce, or a target and a loss that looks at it")
    total = torch.stack([getattr(w, name) * term for name, term in terms.items()]).sum()
    return total, terms


def _agreement(target: Seen, batch: Batch) -> Tensor:
    """The views that face the sensor teach the plain mean of all views: rear views of a partial cloud are confidently
    wrong (METHOD 8)."""
    return consistency(target.logits.mean(1), selected_logits(target.logits, batch.facing))
