"""The companion's reasoning, without ROS: what it sees goes through the gate into memory, memory makes candidates, the
guard decides, and what is accepted is handed over as class statistics.

Every fourth track is never learned from: held-out objects tell whether a candidate understands the robot's world, and
an object seen a hundred times must not vouch for itself. The anchor has learned from none of them, so the first few
objects of any track can vouch for it, and it answers while there is too little to follow.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.adaptation.gate import GateConfig, refusal
from clipoint3d_ros.adaptation.guard import Evidence, GuardConfig, Verdict, judge
from clipoint3d_ros.adaptation.memory import Memory, MemoryConfig, Sighting
from clipoint3d_ros.adaptation.online import FollowConfig, followed, known_share
from clipoint3d_ros.adaptation.probing import gain
from clipoint3d_ros.adaptation.reference import Reference
from clipoint3d_ros.adaptation.statistics import fused
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.recognition.statistics import fused_head

HELD = 4  # every so many tracks one is held out
MET = 512  # tracks of which it is kept how familiar they seemed


@dataclass(frozen=True)
class CompanionConfig:
    """Everything the companion decides by."""

    gate: GateConfig = field(default_factory=GateConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    follow: FollowConfig = field(default_factory=FollowConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    every: int = 16  # admitted sightings from one candidate to the next
    certain: float = 3.0  # standard errors by which a trained network must gain on the probe set over the frozen one


@dataclass(frozen=True)
class Candidate:
    """What may go live, with the guard's word on it."""

    statistics: ClassStatistics
    verdict: Verdict


class Companion:
    """What one robot learns of one list of classes.

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
        self._first_text = self.text
        memory = self.config.memory
        part = replace(memory, objects=max(memory.objects // HELD, 1), per_class=max(memory.per_class // HELD, 1))
        self.learned, self.held = Memory(memory), Memory(replace(part, megabytes=memory.megabytes / HELD))
        self.live: ClassStatistics | None = None
        # What nothing online has touched; every candidate is held against it, so that small losses cannot add up.
        self._first = reference
        self._base = fused(reference.probe, reference.statistics) if reference.helpful else reference.probe
        self.refused: Counter[str] = Counter()
        self.rejections, self._fresh = 0, 0
        self._since = 0  # sightings of either memory since the last candidate
        self._familiar: dict[int, float] = {}  # of the last tracks, strange ones too

    def observe(self, sighting: Sighting) -> str:
        """Take in one object; returns why it was turned away, or ""."""
        self._met(sighting)
        memory = self.held if sighting.track % HELD == 0 else self.learned
        reason = refusal(sighting, self.config.gate) or memory.admit(sighting)
        if reason:
            self.refused[reason] += 1
        else:
            self._since += 1
            self._fresh += memory is self.learned
        return reason

    def _met(self, sighting: Sighting) -> None:
        if not math.isfinite(sighting.familiarity) or sighting.points < self.config.gate.min_points:
            return
        self._familiar.pop(sighting.track, None)
        self._familiar[sighting.track] = sighting.familiarity
        if len(self._familiar) > MET:
            self._familiar.pop(next(iter(self._familiar)))

    @property
    def due(self) -> bool:
        """Whether enough was seen since the last candidate for another one.

        While words alone answer, the anchor is tried on a few objects, and where it is turned down on twice as many.
        """
        if self.live is None:
            wait = min(self.config.guard.least_held << self.rejections, self.config.every)
            return self._since >= max(wait, self.config.guard.least_held)
        return self._fresh >= self.config.every and not self.waits_for

    @property
    def waits_for(self) -> str:
        """What is missing before the robot's objects can be followed, in words; "" where nothing is."""
        guard, kinds = self.config.guard, int((self.learned.counts(len(self.text)) > 0).sum())
        if kinds < guard.least_classes:
            return f"objects of {guard.least_classes} predicted classes; {kinds} remembered so far"
        if len(self.held) < guard.least_held:
            return f"{guard.least_held} held-out objects; there are {len(self.held)}"
        return ""

    def propose(self) -> Candidate:
        """Make a candidate of what is remembered and judge it; an accepted one is live from now on.

        Where the guard rejects so many in a row as it allows, what is live is given up: words alone answer.
        """
        self._fresh = self._since = 0
        if not self.reference.helpful:
            reason = "class statistics of the source gain nothing certain on the probe set; words alone answer"
            return self._concluded(self.reference.statistics, Verdict(False, (reason,)))
        learned, held = self.learned.sightings(), self.held.sightings()
        if self.live is None and self.waits_for:
            return self._anchored([*learned, *held])
        candidate = self._followed(self.reference, self.text, _features(learned, self.text))
        seen = _features(held, self.text)
        return self._concluded(candidate, self._judge(self.reference, self.text, candidate, held, seen))

    def consider(self, reference: Reference, text: Tensor, learned: Tensor, held: Tensor) -> Candidate:
        """Judge another network; where it is accepted, statistics follow the robot's objects by it from now on.

        The first such network must be better on the probe set than the frozen model for certain: where the source
        shows no gap to be closed, nothing is gained by moving.

        Args:
            reference: the source through that network; its probe set is of the same objects.
            text: (C, D) its class features.
            learned, held: (M, D), (H, D) the remembered clouds through it, in the memories' order.
        """
        candidate = self._followed(reference, text.float().cpu(), learned)
        verdict = self._judge(reference, text.float().cpu(), candidate, self.held.sightings(), held)
        rise, error = gain(self._first.probe, fused(reference.probe, candidate))
        if verdict.accepted and not rise > self.config.certain * error:
            told = f"no certain gain on the probe set: {100 * rise:.1f} points, uncertain by {100 * error:.1f}"
            verdict = Verdict(False, (told,), {**verdict.numbers, "gain": (rise, self.config.certain * error)})
        concluded = self._concluded(candidate, verdict)
        if verdict.accepted:
            self.reference, self.text = reference, text.float().cpu()
            _seen_anew(self.learned, learned)
            _seen_anew(self.held, held)
        return concluded

    def _anchored(self, seen: list[Sighting]) -> Candidate:
        """The source's statistics as they are, judged by all objects there are."""
        anchor, features = self.reference.statistics, _features(seen, self.text)
        return self._concluded(anchor, self._judge(self.reference, self.text, anchor, seen, features, followed=False))

    def _followed(self, reference: Reference, text: Tensor, features: Tensor) -> ClassStatistics:
        return followed(reference.statistics, text, self.scale, features, self.config.follow)

    def _concluded(self, candidate: ClassStatistics, verdict: Verdict) -> Candidate:
        candidate = replace(candidate, known=torch.tensor([known_share(self._familiar.values())]))
        if verdict.accepted:
            self.live, self.rejections = candidate, 0
        else:
            self.rejections += 1
            if self.rejections >= self.config.guard.rejections:
                self.live, self.rejections = None, 0
        return Candidate(candidate, verdict)

    def adopt(self, reference: Reference, text: Tensor, live: ClassStatistics) -> None:
        """Go on from a network that was accepted in an earlier life; arguments as in `consider`."""
        self.reference, self.text, self.live = reference, text.float().cpu(), live

    def forget_objects(self) -> None:
        """Empty memories, as after a jump in time; what is live stays."""
        self.learned.clear()
        self.held.clear()
        self._fresh = self._since = 0

    def forget(self) -> None:
        """Back to words alone and empty memories."""
        self.forget_objects()
        self._familiar.clear()
        self.live, self.rejections = None, 0
        self.reference = self._first
        self.text = self._first_text

    def _judge(
        self,
        reference: Reference,
        text: Tensor,
        candidate: ClassStatistics,
        witnesses: list[Sighting],
        features: Tensor,
        followed: bool = True,
    ) -> Verdict:
        """The guard's word by `witnesses` that the candidate has not learned from, (H, D) `features` of them.

        followed: it has learned from the robot's objects.
        """
        weight, bias = fused_head(text, self.scale, candidate)
        return judge(
            Evidence(
                self._frozen(witnesses),
                (features @ weight.T + bias).softmax(-1).numpy(),
                self.learned.counts(len(self.text)) if followed else None,
                self._base.logits,
                fused(reference.probe, candidate).logits,
                reference.probe.labels,
            ),
            self.config.guard,
        )

    def _frozen(self, seen: list[Sighting]) -> np.ndarray:
        """(H, C) what the words alone say, calibrated."""
        logits = np.stack([s.logits for s in seen]) if seen else np.zeros((0, len(self.text)), np.float32)
        return (torch.from_numpy(logits) / self.reference.temperature).softmax(-1).numpy()


def _seen_anew(memory: Memory, features: Tensor) -> None:
    """Give the remembered objects the features of another network, (M, D) in the memory's order."""
    sightings = memory.sightings()
    memory.clear()
    for sighting, feature in zip(sightings, features.numpy(), strict=True):
        memory.admit(replace(sighting, feature=feature))


def _features(sightings: list[Sighting], text: Tensor) -> Tensor:
    """(M, D) float32."""
    if not sightings:
        return torch.zeros(0, text.shape[1])
    return torch.from_numpy(np.stack([s.feature for s in sightings]))
