"""The companion's reasoning, without ROS: what it sees goes through the gate into memory, memory makes candidates, the
guard decides, and what is accepted is handed over as class statistics.

Every fourth track is never learned from: held-out objects tell whether a candidate understands the robot's world, and
an object seen a hundred times must not vouch for itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.adaptation.gate import GateConfig, refusal
from clipoint3d_ros.adaptation.guard import Evidence, GuardConfig, Verdict, judge
from clipoint3d_ros.adaptation.memory import Memory, MemoryConfig, Sighting
from clipoint3d_ros.adaptation.online import FollowConfig, followed
from clipoint3d_ros.adaptation.reference import Reference
from clipoint3d_ros.adaptation.statistics import fused
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.statistics import fused_head

HELD = 4  # every so many tracks one is held out


@dataclass(frozen=True)
class CompanionConfig:
    """Everything the companion decides by."""

    gate: GateConfig = field(default_factory=GateConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    follow: FollowConfig = field(default_factory=FollowConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    every: int = 16  # admitted sightings from one candidate to the next


@dataclass(frozen=True)
class Candidate:
    """What may go live, with the guard's word on it."""

    statistics: ClassStatistics
    verdict: Verdict


class Companion:
    """Tier 1 for one frozen model and one list of classes.

    Attributes:
        learned, held: the two memories.
        live: what was accepted last; None while words alone answer.
        refused: how many sightings the gate or the memory turned away, by reason.
        rejections: candidates turned down in a row.
    """

    def __init__(self, reference: Reference, text: Tensor, scale: float, config: CompanionConfig | None = None) -> None:
        """
        Args:
            reference: the anchor and the probe set.
            text: (C, D) class features of the words. scale: of their logits, at temperature 1.
        """
        self.config = config or CompanionConfig()
        self.reference, self.text, self.scale = reference, text.float().cpu(), scale
        memory = self.config.memory
        part = replace(memory, objects=max(memory.objects // HELD, 1), per_class=max(memory.per_class // HELD, 1))
        self.learned, self.held = Memory(memory), Memory(replace(part, megabytes=memory.megabytes / HELD))
        self.live: ClassStatistics | None = None
        self.refused: Counter[str] = Counter()
        self.rejections, self._fresh = 0, 0

    def observe(self, sighting: Sighting) -> str:
        """Take in one object; returns why it was turned away, or ""."""
        memory = self.held if sighting.track % HELD == 0 else self.learned
        reason = refusal(sighting, self.config.gate) or memory.admit(sighting)
        if reason:
            self.refused[reason] += 1
        elif memory is self.learned:
            self._fresh += 1
        return reason

    @property
    def due(self) -> bool:
        """Whether enough was seen since the last candidate for another one."""
        return self._fresh >= self.config.every

    def propose(self) -> Candidate:
        """Make a candidate of what is remembered and judge it; an accepted one is live from now on.

        Where the guard rejects so many in a row as it allows, what is live is given up: words alone answer.
        """
        self._fresh = 0
        anchor = self.reference.statistics
        learned = self.learned.sightings()
        candidate = followed(anchor, self.text, self.scale, _features(learned, self.text), self.config.follow)
        verdict = self._judge(candidate)
        if verdict.accepted:
            self.live, self.rejections = candidate, 0
        else:
            self.rejections += 1
            if self.rejections >= self.config.guard.rejections:
                self.live, self.rejections = None, 0
        return Candidate(candidate, verdict)

    def forget(self) -> None:
        """Back to words alone and empty memories."""
        self.learned.clear()
        self.held.clear()
        self.live, self.rejections, self._fresh = None, 0, 0

    def _judge(self, candidate: ClassStatistics) -> Verdict:
        reference, held = self.reference, self.held.sightings()
        if not reference.helpful:
            reason = "class statistics of the source gain nothing certain on the probe set; words alone answer"
            return Verdict(False, (reason,))
        remembered = self.learned.counts(len(self.text))
        return judge(
            Evidence(
                self._frozen(held),
                self._answers(candidate, held),
                remembered,
                fused(reference.probe, reference.statistics).logits,
                fused(reference.probe, candidate).logits,
                reference.probe.labels,
            ),
            self.config.guard,
        )

    def _frozen(self, held: list[Sighting]) -> np.ndarray:
        """(H, C) what the words say, calibrated."""
        logits = np.stack([s.logits for s in held]) if held else np.zeros((0, len(self.text)), np.float32)
        return (torch.from_numpy(logits) / self.reference.temperature).softmax(-1).numpy()

    def _answers(self, statistics: ClassStatistics, held: list[Sighting]) -> np.ndarray:
        weight, bias = fused_head(self.text, self.scale, statistics)
        return (_features(held, self.text) @ weight.T + bias).softmax(-1).numpy()


def _features(sightings: list[Sighting], text: Tensor) -> Tensor:
    """(M, D) float32."""
    if not sightings:
        return torch.zeros(0, text.shape[1])
    return torch.from_numpy(np.stack([s.feature for s in sightings]))
