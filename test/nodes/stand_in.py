"""A classifier with the real one's face and no model: tall things are cans, flat ones books."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import torch

from clipoint3d_ros.clip.bundle import read_meta
from clipoint3d_ros.recognition.config import ClassifierConfig, thresholds
from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition


class StandIn:
    """Answers by a cloud's size along z; `delay_s` makes it slow, `fault` makes it raise once."""

    name, device, version = "stand-in", torch.device("cpu"), 0
    delay_s = 0.0
    fault: Exception | None = None
    known: torch.Tensor | None = None  # what the last `encode` was spared
    looks_by = "stand-in"
    shares_tower = False

    def __init__(self, classes=("can", "book", "box"), config=None):
        self.classes, self.config = tuple(classes), config or ClassifierConfig()
        self.thresholds = thresholds(self.config, self.classes)

    @classmethod
    def load(
        cls, bundle=None, backbone=None, pretrained=None, classes=None, device=None, config=None, patches="trained"
    ):
        if backbone:
            raise FileNotFoundError(f"no weights of '{backbone}' on this machine; fetch them with --download")
        return cls(config=config).with_bundle(bundle).with_classes(classes)

    def with_bundle(self, bundle):
        if bundle:
            read_meta(bundle)
            raise NotImplementedError("a stand-in has no network for a bundle to adapt")
        return self

    def with_classes(self, classes, config=None):
        if isinstance(classes, str):
            raise FileNotFoundError(f"no class file {classes}; give a path that exists")
        return StandIn(classes or ("can", "book", "box"), config or self.config)

    def with_config(self, config):
        return StandIn(self.classes, dataclasses.replace(config))

    def classify(self, clouds, up=(0, 0, 1), viewpoint=None):
        projection = self.project(clouds, up, viewpoint)
        return self.decide(projection, self.encode(projection))

    def project(self, clouds, up, viewpoint):
        fault, StandIn.fault = StandIn.fault, None
        if fault is not None:
            raise fault
        time.sleep(StandIn.delay_s)
        heights = [float(np.ptp(cloud[:, 2])) if len(cloud) else 0.0 for cloud in clouds]
        usable = torch.tensor([len(cloud) >= self.config.min_points for cloud in clouds])
        views = torch.ones(len(clouds), 10, 32, 32)
        chosen, weights = torch.arange(10).expand(len(clouds), -1), torch.ones(len(clouds), 10)
        return SimpleNamespace(
            images=views,
            chosen=chosen,
            weights=weights,
            usable=usable,
            heights=heights,
            metric_points=lambda: torch.ones(len(clouds), 4, 3),
        )

    def encode(self, projection, known=None):
        StandIn.known = known
        return torch.nn.functional.normalize(torch.ones(len(projection.heights), 10, 8), dim=-1)

    def encode_frozen(self, projection, features):
        return None

    def object_features(self, projection, features):
        return features.mean(1)

    def agreement(self, projection, features):
        return torch.full((len(projection.heights),), 0.9)

    def decide(self, projection, features, frozen_features=None):
        return [self._answer(h, bool(u)) for h, u in zip(projection.heights, projection.usable, strict=True)]

    def _answer(self, height, usable):
        if not usable:
            even = np.full(len(self.classes), 1 / len(self.classes))
            return Recognition(UNKNOWN, 1 - even[0], even, 0.5, self.classes)
        rest = 0.2 / max(len(self.classes) - 1, 1)
        chosen = 0 if height > 0.1 else min(1, len(self.classes) - 1)
        probabilities = np.full(len(self.classes), rest)
        probabilities[chosen] = 0.8
        unknown = self.thresholds[chosen] > 0.8
        label = UNKNOWN if unknown else self.classes[chosen]
        return Recognition(label, 0.2 if unknown else 0.8, probabilities / probabilities.sum(), 0.5, self.classes)
