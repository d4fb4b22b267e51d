"""What a model knows of objects it has not met: figures on a held-out corpus, and what is fitted there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.pretraining.config import CorpusConfig
from clipoint3d_ros.pretraining.corpus import Corpus
from clipoint3d_ros.pretraining.tower_pass import judge, look
from clipoint3d_ros.recognition.calibration import fit_temperature, fit_unknown_logit

HELD_OUT_SEED = 90_001


@dataclass(frozen=True)
class HeldOut:
    """What is measured and fitted on a held-out corpus.

    complete, camera: macro accuracies over all classes, fractions: of complete clouds with ten views, of camera clouds
        with sensor-facing views.
    temperature: what makes the camera clouds' scores probabilities.
    unknown_logit: of "none of these" (see `recognition.familiarity`), after the temperature.
    """

    complete: float
    camera: float
    temperature: float
    unknown_logit: float


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
    """Classify a held-out corpus.

    Raises:
        ValueError: the backbone's temperature is not 1; another is fitted to what it says at 1.
    """
    if backbone.temperature != 1:
        raise ValueError(f"backbone '{backbone.name}' has the temperature {backbone.temperature}; it is fitted from 1")
    camera = corpus.camera
    complete = judge(look(backbone, corpus, ~camera), descriptions)
    facing = judge(look(backbone, corpus, camera), descriptions)
    labels = corpus.labels
    logits, truth = torch.from_numpy(facing.logits), torch.from_numpy(labels[camera])
    temperature = fit_temperature(logits, truth)
    return HeldOut(
        macro_accuracy(labels[~camera], complete.predicted),
        macro_accuracy(labels[camera], facing.predicted),
        temperature,
        fit_unknown_logit(logits / temperature, truth),
    )


def macro_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their objects that were right."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))
