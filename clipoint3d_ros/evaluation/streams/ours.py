"""This package's own companion in the harness: the very code that the adaptation node runs, an object at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from clipoint3d_ros.adaptation.companion import Companion, CompanionConfig
from clipoint3d_ros.adaptation.memory import Sighting
from clipoint3d_ros.adaptation.reference import Reference, ReferenceConfig, kept_reference
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.datasets.domains import read_domain
from clipoint3d_ros.evaluation.streams.online import Seen, Setting, entropy, softmax
from clipoint3d_ros.recognition.statistics import fused_head


@dataclass(frozen=True)
class StatisticsConfig:
    """Tier 1 as a robot runs it.

    source: labelled objects that anchor and judge, as `read_domain` takes them. seen by the reference.
    references: folder where these are kept.
    """

    source: str = "procedural"
    companion: CompanionConfig = field(default_factory=CompanionConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    references: str = "runs/streams/references"


class Statistics:
    """Tier 1: answers by what is live, as perception would, and learns as the companion does."""

    def __init__(self, setting: Setting, config: StatisticsConfig | None = None) -> None:
        self.config = config or StatisticsConfig()
        classifier = setting.classifier
        self._unit = classifier.scale
        scale = classifier.backbone.scale * classifier.backbone.temperature
        reference = _reference(setting, replace(self.config.reference, seed=setting.seed), self.config)
        self.companion = Companion(reference, classifier.text, scale, self.config.companion)
        self._text, self._scale = setting.text, scale
        self._live: ClassStatistics | None = None
        self._head = (self._unit * self._text, np.zeros(len(self._text), np.float32))
        self._order = 0

    def predict(self, seen: Seen) -> np.ndarray:
        weight, bias = self._head
        return softmax(weight @ seen.feature + bias)

    def answer(self, seen: Seen) -> np.ndarray:
        probabilities = self.predict(seen)
        self._order += 1
        weight, bias = self._head
        each = (seen.features @ weight.T + bias).argmax(-1)
        label = int(probabilities.argmax())
        sighting = Sighting(
            stamp_s=seen.stamp_s,
            track=seen.track if seen.track >= 0 else self._order,
            id=str(seen.cloud),
            label=label,
            feature=seen.feature,
            logits=self._scale * self._text @ seen.feature,
            entropy=entropy(probabilities),
            agreement=float(np.clip((seen.weights * (each == label)).sum(), 0, 1)),
            familiarity=seen.familiarity,
            points=seen.points,
        )
        self.companion.observe(sighting)
        if self.companion.due:
            self.companion.propose()
            self._serve()
        return probabilities

    def _serve(self) -> None:
        live = self.companion.live
        if live is self._live:
            return
        self._live = live
        if live is None:
            self._head = (self._unit * self._text, np.zeros(len(self._text), np.float32))
        else:
            weight, bias = fused_head(self.companion.text, self._scale, live)
            self._head = (weight.numpy(), bias.numpy())


def _reference(setting: Setting, config: ReferenceConfig, given: StatisticsConfig) -> Reference:
    classifier = setting.classifier
    return kept_reference(
        Path(given.references),
        classifier.backbone,
        classifier.descriptions,
        lambda: read_domain(
            given.source, classifier.descriptions, count=config.shots + config.probe, seed=setting.seed
        ),
        given.source,
        config,
    )
