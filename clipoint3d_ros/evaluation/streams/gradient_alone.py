"""Tier 2 without tier 1, which no robot runs: what training is worth without class statistics, for the table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from clipoint3d_ros.adaptation.companion import Candidate, Companion, CompanionConfig
from clipoint3d_ros.adaptation.guard import GuardConfig
from clipoint3d_ros.adaptation.reference import Reference
from clipoint3d_ros.evaluation.streams.online import Setting
from clipoint3d_ros.evaluation.streams.ours import BothTiers, GradientConfig

_NO_LIMITS = GuardConfig(probe_loss=1.0, least_variety=0.0, entropy_rise=1.0, most_drift=1.0)


@dataclass(frozen=True)
class UnguardedConfig(GradientConfig):
    """As of both tiers, but every candidate goes live whose answers are finite."""

    companion: CompanionConfig = field(default_factory=lambda: CompanionConfig(guard=_NO_LIMITS, certain=-1e9))


class GradientAlone(BothTiers):
    """Answers by the words of the network that is live; the frozen model's until the guard lets a trained one pass."""

    def __init__(self, setting: Setting, config: GradientConfig | None = None) -> None:
        super().__init__(setting, config)
        whole = self.companion
        self.companion = WordsOnly(whole.reference, whole.text, whole.scale, whole.config)


class WordsOnly(Companion):
    """A companion whose class statistics count for nothing: gate, memory, guard and training are the robot's."""

    def __init__(self, reference: Reference, text: Tensor, scale: float, config: CompanionConfig | None = None) -> None:
        super().__init__(replace(without_statistics(reference), helpful=False), text, scale, config)

    def consider(self, reference: Reference, text: Tensor, learned: Tensor, held: Tensor) -> Candidate:
        return super().consider(without_statistics(reference), text, learned, held)


def without_statistics(reference: Reference) -> Reference:
    """The same source, of which the words alone are to answer, calibrated on its probe set."""
    words = torch.tensor([1 / reference.temperature, 0.0])
    return replace(reference, statistics=replace(reference.statistics, weights=words))
