"""The companion's reasoning, without ROS: what it sees goes through the gate into memory, memory makes candidates, the
guard decides, and what is accepted is handed over as class statistics.

Every fourth track is never learned from: held-out objects tell whether a candidate understands the robot's world, and
an object seen a hundred times must not vouch for itself. The anchor has learned from none of them, so the first few
objects of any track can vouch for it, and it answers while there is too little to follow.

Whatever network is live, a candidate is held against what the frozen model says of the same held-out objects, so that
small losses cannot add up. Of objects that another network saw it has to be asked: `unasked`, `answered`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.adaptation.gate import GateConfig, refusal
from clipoint3d_ros.adaptation.guard import Evidence, GuardConfig, Verdict, judge
from clipoint3d_ros.adaptation.memory import Memory, MemoryConfig
from clipoint3d_ros.adaptation.online import FollowConfig, followed, known_share
from clipoint3d_ros.adaptation.probing import gain
from clipoint3d_ros.adaptation.reference import Reference
from clipoint3d_ros.adaptation.sighting import Sighting
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
        frozen_text: (C, D) class features of the frozen model; `text` is this very one while that is learned from.
        refused: how many sightings the gate or the memory turned away, by reason.
        rejections: class statistics turned down in a row. rejected_networks: the same of trained networks.
    """

    def __init__(self, reference: Reference, text: Tensor, scale: float, config: CompanionConfig | None = None) -> None:
        """
        Args:
            reference: the anchor and the probe set.
            text: (C, D) class features of the words. scale: of their logits, at temperature 1.
        """
        self.config = config or CompanionConfig()
        self.reference, self.text, self.scale = reference, text.float().cpu(), scale
        self.frozen_text = self.text
        memory = self.config.memory
        part = replace(memory, objects=max(memory.objects // HELD, 1), per_class=max(memory.per_class // HELD, 1))
        self.learned, self.held = Memory(memory), Memory(replace(part, megabytes=memory.megabytes / HELD))
        self.live: ClassStatistics | None = None
        # What nothing online has touched; every candidate is held against it, so that small losses cannot add up.
        self._first = reference
        self._base = reference.probe
        if reference.helpful and reference.probe is not None:
            self._base = fused(reference.probe, reference.statistics)
        self.refused: Counter[str] = Counter()
        self.rejections = self.rejected_networks = self._fresh = 0
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
        witnesses = len(self.held) - len(self.unasked)
        if witnesses < guard.least_held:
            return f"{guard.least_held} held-out objects; there are {witnesses}"
        return ""

    @property
    def trained(self) -> bool:
        """Whether another network than the frozen one is learned from."""
        return self.text is not self.frozen_text

    @property
    def unasked(self) -> list[Sighting]:
        """Held-out objects of which nobody knows yet what the frozen model says: no candidate is judged by them."""
        return [each for each in self.held.sightings() if not each.frozen]

    def answered(self, sightings: Sequence[Sighting], logits: Tensor) -> None:
        """Take what the frozen model says of held-out objects, (M, C) at temperature 1."""
        told = zip(sightings, logits.numpy(), strict=True)
        self.held.change({each: replace(each, logits=row, frozen=True) for each, row in told})

    def calibrated(self, sightings: Sequence[Sighting]) -> Tensor:
        """(M, C) what the words of the network that is learned from say of remembered objects, calibrated logits."""
        return self.scale * _features(sightings, self.text) @ self.text.T / self.reference.temperature

    def propose(self) -> Candidate:
        """Make a candidate of what is remembered and judge it; an accepted one is live from now on.

        Where the guard rejects so many in a row as it allows, what is live is given up: the frozen model answers.
        Without a probe set it rejects all of them.
        """
        self._fresh = self._since = 0
        if self.reference.probe is not None and not self.reference.helpful:
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
        shows no gap to be closed, nothing is gained by moving. To be called while `waits_for` is "": what cannot be
        judged counts as rejected. So many rejected in a row as the guard allows give a live network up, and nothing
        else: what tier 1 made of the frozen model's features stays.

        Args:
            reference: the source through that network; its probe set is of the same objects.
            text: (C, D) its class features.
            learned, held: (M, D), (H, D) the remembered clouds through it, in the memories' order.

        Raises:
            ValueError: there is no probe set to judge it by.
        """
        if self._first.probe is None or reference.probe is None:
            raise ValueError("a trained network cannot be judged without a probe set")
        candidate = self._followed(reference, text.float().cpu(), learned)
        verdict = self._judge(reference, text.float().cpu(), candidate, self.held.sightings(), held)
        rise, error = gain(self._first.probe, fused(reference.probe, candidate))
        if verdict.accepted and not rise > self.config.certain * error:
            told = f"no certain gain on the probe set: {100 * rise:.1f} points, uncertain by {100 * error:.1f}"
            verdict = Verdict(False, (told,), {**verdict.numbers, "gain": (rise, self.config.certain * error)})
        concluded = self._concluded(candidate, verdict, network=True)
        if verdict.accepted:
            self.reference, self.text = reference, text.float().cpu().clone()  # another than the frozen one, always
            _seen_anew(self.learned, learned)
            _seen_anew(self.held, held)
        return concluded

    def _anchored(self, seen: list[Sighting]) -> Candidate:
        """The source's statistics as they are, judged by all objects there are."""
        anchor, features = self.reference.statistics, _features(seen, self.text)
        return self._concluded(anchor, self._judge(self.reference, self.text, anchor, seen, features, followed=False))

    def _followed(self, reference: Reference, text: Tensor, features: Tensor) -> ClassStatistics:
        return followed(reference.statistics, text, self.scale, features, self.config.follow)

    def _concluded(self, candidate: ClassStatistics, verdict: Verdict, network: bool = False) -> Candidate:
        candidate = replace(candidate, known=torch.tensor([known_share(self._familiar.values())]))
        if verdict.accepted:
            self.live, self.rejections, self.rejected_networks = candidate, 0, 0
            return Candidate(candidate, verdict)
        self.rejections += not network
        self.rejected_networks += network
        most = self.config.guard.rejections
        if self.rejected_networks >= most and not self.trained:
            told = f"{most} networks were rejected in a row: training begins anew from the frozen weights"
            verdict = replace(verdict, reasons=(*verdict.reasons, told))
            self.rejected_networks = 0
        elif max(self.rejections, self.rejected_networks) >= most:
            self.live, self.rejections, self.rejected_networks = None, 0, 0
        return Candidate(candidate, verdict)

    def adopt(self, reference: Reference, text: Tensor, live: ClassStatistics) -> None:
        """Go on from a network that was accepted in an earlier life; arguments as in `consider`."""
        self.reference, self.text, self.live = reference, text.float().cpu().clone(), live

    def forget_objects(self) -> None:
        """Empty memories, as after a jump in time; what is live stays."""
        self.learned.clear()
        self.held.clear()
        self._fresh = self._since = 0

    def forget(self) -> None:
        """Back to words alone and empty memories."""
        self.forget_objects()
        self._familiar.clear()
        self.live, self.rejections, self.rejected_networks = None, 0, 0
        self.reference = self._first
        self.text = self.frozen_text

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

        Those of which the frozen model has not been asked yet say nothing.

        followed: it has learned from the robot's objects.
        """
        weight, bias = fused_head(text, self.scale, candidate)
        probe, base = reference.probe, self._base
        features = features[torch.tensor([each.frozen for each in witnesses], dtype=torch.bool)]
        return judge(
            Evidence(
                self._frozen([each for each in witnesses if each.frozen]),
                (features @ weight.T + bias).softmax(-1).numpy(),
                self.learned.counts(len(self.text)) if followed else None,
                None if base is None else base.logits,
                None if probe is None else fused(probe, candidate).logits,
                None if probe is None else probe.labels,
            ),
            self.config.guard,
        )

    def _frozen(self, seen: list[Sighting]) -> np.ndarray:
        """(H, C) what the frozen model's words alone say, calibrated, whatever network is live."""
        logits = np.stack([s.logits for s in seen]) if seen else np.zeros((0, len(self.text)), np.float32)
        return (torch.from_numpy(logits) / self._first.temperature).softmax(-1).numpy()


def _seen_anew(memory: Memory, features: Tensor) -> None:
    """Give the remembered objects the features of another network, (M, D) in the memory's order."""
    pairs = zip(memory.sightings(), features.numpy(), strict=True)
    memory.change({sighting: replace(sighting, feature=feature) for sighting, feature in pairs})


def _features(sightings: Sequence[Sighting], text: Tensor) -> Tensor:
    """(M, D) float32."""
    if not sightings:
        return torch.zeros(0, text.shape[1])
    return torch.from_numpy(np.stack([s.feature for s in sightings]))
