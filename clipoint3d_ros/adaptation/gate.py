"""The reliability gate: from which sightings may be learned (METHOD 6).

Methods that learn from everything learn their own mistakes (Niu et al., EATA, ICML 2022, and SAR, ICLR 2023): what is
uncertain, what the views disagree on, what has hardly any points and what is of none of the classes stays outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipoint3d_ros.adaptation.sighting import Sighting

REFUSALS = ("not finite", "points", "unknown", "entropy", "agreement")


@dataclass(frozen=True)
class GateConfig:
    """What a sighting needs to be learned from."""

    max_entropy: float = 0.4  # share of log C
    min_agreement: float = 0.5  # share of views that agree on the class
    min_points: int = 64
    min_familiarity: float = 0.5  # how likely the object is of any of the classes

    def __post_init__(self) -> None:
        for name in ("max_entropy", "min_agreement", "min_familiarity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"gate.{name} is {getattr(self, name)}; it is a share and must lie in [0, 1]")
        if not self.min_points >= 1:
            raise ValueError(f"gate.min_points is {self.min_points}; it must be at least 1")


def refusal(sighting: Sighting, config: GateConfig) -> str:
    """Why nothing may be learned from a sighting; "" where something may.

    Args:
        sighting: of C classes; its entropy is held against log C, which is 0 for the one class that is always certain.
        config: the limits, each of which still passes.

    Returns:
        The first of `REFUSALS` that applies, in a word or two to count it by.
    """
    if not sighting.finite:
        return "not finite"
    if sighting.points < config.min_points:
        return "points"
    if sighting.label < 0 or sighting.familiarity < config.min_familiarity:
        return "unknown"
    if sighting.entropy > config.max_entropy * math.log(len(sighting.logits)):
        return "entropy"
    if sighting.agreement < config.min_agreement:
        return "agreement"
    return ""
