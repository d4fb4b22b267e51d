"""This package's own companion in the harness: the very code that the adaptation node runs, an object at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipoint3d_ros.adaptation.companion import Companion, CompanionConfig
from clipoint3d_ros.adaptation.config import load_recipe
from clipoint3d_ros.adaptation.gradient import Gradient
from clipoint3d_ros.adaptation.reference import Reference, ReferenceConfig, kept_reference
from clipoint3d_ros.adaptation.sighting import Sighting
from clipoint3d_ros.clip.bundle import ClassStatistics
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.datasets.domains import read_domain
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.evaluation.streams.online import Seen, Setting, entropy, softmax
from clipoint3d_ros.geometry.clouds import normalise
from clipoint3d_ros.recognition.selection import keep_certain
from clipoint3d_ros.recognition.statistics import fused_head
from clipoint3d_ros.resources import config_file


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
        self.setting = setting
        classifier = setting.classifier
        self._scale = classifier.backbone.scale * classifier.backbone.temperature
        self.companion = Companion(self._begin(setting), classifier.text, self._scale, self.config.companion)
        self._words = (setting.scale * setting.text, np.zeros(len(setting.text), np.float32))
        self._live: ClassStatistics | None = None
        self._head = self._words
        self._order = 0
        self.learning_s = 0.0  # in all, without answering

    def _begin(self, setting: Setting) -> Reference:
        """The anchor and the probe set."""
        return _reference(setting, replace(self.config.reference, seed=setting.seed), self.config)

    @property
    def known(self) -> float:
        """The share of objects that are of any class, as perception would take it."""
        return 0.5 if self.companion.live is None else float(self.companion.live.known)

    def predict(self, seen: Seen) -> np.ndarray:
        return self._judged(seen)[0]

    def answer(self, seen: Seen) -> np.ndarray:
        probabilities, feature, agreed = self._judged(seen)
        label = int(probabilities.argmax())
        self._order += 1
        sighting = Sighting(
            stamp_s=seen.stamp_s,
            track=seen.track if seen.track >= 0 else self._order,
            id=str(seen.cloud),
            label=label,
            feature=feature,
            logits=self._scale * self.companion.text.numpy() @ feature,
            entropy=entropy(probabilities),
            agreement=float(np.clip(agreed, 0, 1)),
            familiarity=seen.familiarity,
            points=seen.points,
            frozen=not self.companion.trained,
            **self._cloud(seen),
        )
        began = time.perf_counter()
        self._learn(sighting)
        self._serve()
        self.learning_s += time.perf_counter() - began
        return probabilities

    def _learn(self, sighting: Sighting) -> None:
        self.companion.observe(sighting)
        if self.companion.due:
            self.companion.propose()

    def _features(self, seen: Seen) -> np.ndarray:
        """(V, D) of the views by the network that is live: here the frozen one."""
        return seen.features

    def _judged(self, seen: Seen) -> tuple[np.ndarray, np.ndarray, float]:
        """Probabilities (C,), the object's feature (D,), and the share of the views that name the same class."""
        weight, bias = self._head
        features = self._features(seen)
        said = features @ weight.T + bias
        chosen = self._chosen(seen, said)
        feature = chosen @ features
        probabilities = softmax(weight @ feature + bias)
        return probabilities, feature, float(chosen[said.argmax(-1) == probabilities.argmax()].sum())

    def _chosen(self, seen: Seen, said: np.ndarray) -> np.ndarray:
        """(V,) how much each view counts: to a model that is not the frozen one, by its own logits (V, C)."""
        if not self.setting.by_entropy or self.companion.live is None:
            return seen.weights
        return keep_certain(torch.from_numpy(said)[None], torch.full((1, len(said)), 1 / len(said)))[0].numpy()

    def _cloud(self, seen: Seen) -> dict[str, Any]:
        """What a sighting keeps of the cloud itself: nothing."""
        return {}

    def _serve(self) -> None:
        live = self.companion.live
        if live is self._live:
            return
        self._live = live
        self._head = self._words
        if live is not None:
            weight, bias = fused_head(self.companion.text, self._scale, live)
            self._head = (weight.numpy(), bias.numpy())


class Anchor(Statistics):
    """The source's class statistics alone, from the first few objects on: what tier 1 is before it follows anything."""

    def _learn(self, sighting: Sighting) -> None:
        self.companion.observe(sighting)
        if self.companion.live is None and self.companion.due:
            self.companion.propose()


@dataclass(frozen=True)
class GradientConfig(StatisticsConfig):
    """Tier 2 beside tier 1, in the steps of a robot whose sensor is faster than its training.

    every_objects: of the stream, a step is taken. burst: steps from one candidate to the next. recipe: a file, or ""
    for `config/train/online.yaml`.
    """

    every_objects: int = 4
    burst: int = 20
    least_objects: int = 16
    recipe: str = ""


class BothTiers(Statistics):
    """Tier 1 and 2: perception's views go through the network that is live."""

    def __init__(self, setting: Setting, config: GradientConfig | None = None) -> None:
        self._given = config or GradientConfig()
        super().__init__(setting, self._given)
        classifier = setting.classifier
        counts = replace(self._given.reference, seed=setting.seed)
        source = _source(setting, counts, self._given)
        recipe = load_recipe(self._given.recipe or config_file("train/online.yaml")).seeded(setting.seed)
        self.gradient = Gradient(classifier.backbone, classifier.descriptions, source, recipe, counts)
        self._network: Network | None = None

    def _learn(self, sighting: Sighting) -> None:
        companion, gradient, given = self.companion, self.gradient, self._given
        super()._learn(sighting)
        self._leave_given_up()
        if unasked := companion.unasked:
            companion.answered(unasked, gradient.frozen(unasked))
        if self._order % given.every_objects or len(companion.learned) < given.least_objects:
            return
        learned, held = companion.learned.sightings(), companion.held.sightings()
        gradient.learn(learned, companion.calibrated(learned))
        if gradient.steps % given.burst or companion.waits_for:
            return
        trained = gradient.candidate()
        seen = [gradient.features(trained.served, part) for part in (learned, held)]
        if companion.consider(trained.reference, trained.text, *seen).verdict.accepted:
            gradient.keep()
            self._network = trained.served
        else:
            gradient.fall_back()
            self._leave_given_up()

    def _leave_given_up(self) -> None:
        """Back to the frozen model where the companion gave the live network up."""
        if self.companion.live is None and self.companion.trained:
            self.companion.forget()
            self.gradient.restart()
            self._network = None

    def _features(self, seen: Seen) -> np.ndarray:
        if self._network is None:
            return seen.features
        look, (points, _, _) = self.setting.look(seen.cloud), self.setting.cloud(seen.cloud)
        views = len(look.images)
        with torch.inference_mode():
            cloud = normalise(torch.from_numpy(points)[None]).to(look.images.device)
            prompts, _ = self._network.visual_prompts(cloud)
            prompts = None if prompts is None else prompts.expand(views, -1, -1)
            return self._network.views(look.images, prompts, look.extents.expand(views, -1)).cpu().numpy()

    def _cloud(self, seen: Seen) -> dict[str, Any]:
        points, elevation, distance = self.setting.cloud(seen.cloud)
        return {"cloud": points, "elevation": elevation, "distance": distance}


def _reference(setting: Setting, config: ReferenceConfig, given: StatisticsConfig) -> Reference:
    classifier = setting.classifier
    return kept_reference(
        Path(given.references),
        classifier.backbone,
        classifier.descriptions,
        lambda: _source(setting, config, given),
        given.source,
        config,
    )


def _source(setting: Setting, config: ReferenceConfig, given: StatisticsConfig) -> Objects:
    return read_domain(
        given.source, setting.classifier.descriptions, count=config.shots + config.probe, seed=setting.seed
    )
