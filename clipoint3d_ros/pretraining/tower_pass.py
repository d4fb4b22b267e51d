"""Objects through a model's tower once, to be judged against as many class lists as are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.pretraining.corpus import Corpus
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.projection import Projection

BATCH = 32  # objects
_STAND_OFF = 1.0  # metres; only the direction to the sensor matters


@dataclass(frozen=True)
class TowerPass:
    """M objects of a corpus as one model sees them: the views' features and weights, the images dropped.

    backbone: the model. config: how it looked. parts: (projection, features) of up to `BATCH` objects each.
    labels: (M,) the corpus's. classes: what the labels index.
    """

    backbone: Backbone
    config: ClassifierConfig
    parts: tuple[tuple[Projection, Tensor], ...]
    labels: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What was said of M objects.

    logits: (M, C) of the selected views. cosines: (M, C) of the object's feature with the classes' text.
    scores: (M,) of the best class, as a robot sees them.
    """

    logits: np.ndarray
    cosines: np.ndarray
    scores: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(1)

    @property
    def probabilities(self) -> np.ndarray:
        """(M, C) softmax of the logits."""
        raised = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)


def look(
    backbone: Backbone,
    corpus: Corpus,
    chosen: np.ndarray,
    told: Callable[[int], object] = lambda objects: None,
    selection: str = "auto",
) -> TowerPass:
    """One pass through the tower: sensor-facing views of clouds that a sensor saw, all ten views of complete ones.

    Args:
        backbone: the model.
        corpus: clouds that are y up, with the sensor's azimuth at +z.
        chosen: (M,) bool over the corpus; all seen by a sensor, or all complete.
        told: called with the number of objects done since the last call.
        selection: which views are looked at, as in ClassifierConfig.

    Raises:
        ValueError: nothing is chosen, or complete and seen objects are mixed.
    """
    rows = np.flatnonzero(chosen)
    if not len(rows) or len(np.unique(corpus.camera[rows])) > 1:
        raise ValueError(f"{len(rows)} objects are chosen; choose some that are all complete or all seen by a sensor")
    config = ClassifierConfig(selection=selection)
    classifier = Classifier(backbone, Descriptions(corpus.classes, ((),) * len(corpus.classes)), config)
    parts = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        clouds = list(corpus.points[part].astype(np.float32))
        eyes = _sensors(clouds, corpus.elevation[part]) if corpus.camera[part[0]] else None
        projection = classifier.project(clouds, up=(0, 1, 0), viewpoint=eyes)
        features = classifier.encode(projection)
        parts.append((replace(projection, images=torch.empty(0)), features))
        told(len(part))
    return TowerPass(backbone, config, tuple(parts), corpus.labels[rows], corpus.classes)


def judge(seen: TowerPass, descriptions: Descriptions) -> Judgement:
    """The objects against a list of classes, at the model's own temperature."""
    classifier = Classifier(seen.backbone, descriptions, seen.config)
    logits, cosines, scores = [], [], []
    for projection, features in seen.parts:
        logits.append(classifier.logits(projection, features).cpu().numpy())
        cosines.append((classifier.object_features(projection, features) @ classifier.text.T).cpu().numpy())
        scores += [r.score for r in classifier.decide(projection, features)]
    return Judgement(np.concatenate(logits), np.concatenate(cosines), np.array(scores))


def _sensors(clouds: list[np.ndarray], elevation: np.ndarray) -> np.ndarray:
    """(B, 3) metres: a place in the direction from which each cloud was seen."""
    direction = np.stack([np.zeros_like(elevation), np.sin(elevation), np.cos(elevation)], 1)
    return np.stack([cloud.mean(0) for cloud in clouds]) + direction * _STAND_OFF
