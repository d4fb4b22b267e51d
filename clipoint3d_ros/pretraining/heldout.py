"""What a model knows of objects it has not met: figures on a held-out corpus, and the temperature fitted there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.pretraining.config import CorpusConfig
from clipoint3d_ros.pretraining.corpus import Corpus
from clipoint3d_ros.recognition.classifier import Classifier, ClassifierConfig

HELD_OUT_SEED = 90_001
_STAND_OFF = 1.0  # metres; only the direction to the sensor matters


@dataclass(frozen=True)
class HeldOut:
    """Macro accuracies over all classes, fractions: complete clouds with ten views, camera clouds with sensor-facing
    and with ten entropy-selected views; and the temperature that fits the camera clouds' scores."""

    complete: float
    camera: float
    camera_ten_views: float
    temperature: float


def held_out_config(config: CorpusConfig) -> CorpusConfig:
    """A small corpus of the same kind, with a seed no training uses: all sensors, whatever the training's, and clean
    segments, whose faults `benchmark shapes` counts apart."""
    standard = CorpusConfig()
    return replace(
        config,
        complete=min(config.complete, 20),
        tabletop_scenes=min(config.tabletop_scenes, 400),
        floor_scenes=min(config.floor_scenes, 200),
        sensors=standard.sensors,
        floor_sensors=standard.floor_sensors,
        faults=0.0,
        min_visible=standard.min_visible,
        frequent=(),
        seed=config.seed + HELD_OUT_SEED,
    )


def measure(backbone: Backbone, descriptions: Descriptions, corpus: Corpus) -> HeldOut:
    """Classify a held-out corpus."""
    clouds = corpus.points.astype(np.float32)
    camera = corpus.camera
    complete, _ = _classify(backbone, descriptions, clouds[~camera], None, "entropy")
    ten, _ = _classify(backbone, descriptions, clouds[camera], None, "entropy")
    facing, logits = _classify(backbone, descriptions, clouds[camera], corpus.elevation[camera], "sensor")
    labels = corpus.labels
    return HeldOut(
        macro_accuracy(complete, labels[~camera]),
        macro_accuracy(facing, labels[camera]),
        macro_accuracy(ten, labels[camera]),
        fit_temperature(logits, torch.from_numpy(labels[camera])),
    )


def macro_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their objects that were right."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that minimises the cross-entropy of logits / T (Guo et al., "On calibration of modern neural
    networks", ICML 2017), by a search over a fine logarithmic grid of [0.2, 5].

    Args:
        logits: (M, C).
        labels: (M,) int64.
    """
    grid = torch.logspace(np.log10(0.2), np.log10(5.0), 400)
    losses = torch.stack([torch.nn.functional.cross_entropy(logits / t, labels) for t in grid])
    return float(grid[losses.argmin()])


def _classify(
    backbone: Backbone, descriptions: Descriptions, clouds: np.ndarray, elevation: np.ndarray | None, selection: str
) -> tuple[np.ndarray, Tensor]:
    """Predicted classes (M,) and log-probabilities (M, C); a corpus cloud is y-up with its sensor's azimuth at +z."""
    classifier = Classifier(backbone, descriptions, ClassifierConfig(selection=selection, temperature=1.0))
    logs = []
    for start in range(0, len(clouds), 64):
        part = list(clouds[start : start + 64])
        eyes = None
        if elevation is not None:
            angle = elevation[start : start + 64]
            direction = np.stack([np.zeros_like(angle), np.sin(angle), np.cos(angle)], 1)
            eyes = np.stack([c.mean(0) for c in part]) + direction * _STAND_OFF
        found = classifier.classify(part, up=(0, 1, 0), viewpoint=eyes)
        logs.append(np.log(np.maximum(np.stack([r.probabilities for r in found]), 1e-30)))
    joined = np.concatenate(logs)
    return joined.argmax(1), torch.from_numpy(joined).float()
