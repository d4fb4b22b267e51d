"""A labelled probe set, and the target itself, through a network as it would be served."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipoint3d_ros.adaptation.clouds import Clouds
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.bundle import Adapter
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.network import Network
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

BATCH = 32  # objects


@dataclass(frozen=True)
class Probe:
    """What was said of M objects.

    logits: (M, C) of the selected views, at temperature 1. features: (M, D), the weighted mean of the views' unit
    features. labels: (M,), −1 where not known. looks: how many rows in a row are of one and the same object.
    """

    logits: Tensor
    features: Tensor
    labels: Tensor
    looks: int = 1

    @property
    def macro_accuracy(self) -> float:
        """Mean over the labelled classes of the share that was right; NaN without labels."""
        right = self.logits.argmax(1) == self.labels
        each = [right[self.labels == c].float().mean() for c in self.labels.unique() if c >= 0]
        return float(torch.stack(each).mean()) if each else float("nan")

    @property
    def score(self) -> float:
        """What the best step is chosen by: macro accuracy, and among equals the smaller cross-entropy by class."""
        loss = F.cross_entropy(self.logits, self.labels, reduction="none")
        each = [loss[self.labels == c].mean() for c in self.labels.unique() if c >= 0]
        return self.macro_accuracy - 0.02 * float(torch.stack(each).mean())


def gain(before: Probe, after: Probe) -> tuple[float, float]:
    """How much macro accuracy rose between two looks at the same labelled objects, and its standard error.

    The error is that of the objects' paired differences, class by class, an object's looks counting as one; no class is
    taken to vary less than one changed object would make it, for a few objects' agreement is no certainty.
    """
    moved = (after.logits.argmax(1) == after.labels).float() - (before.logits.argmax(1) == before.labels).float()
    moved, labels = moved.unflatten(0, (-1, after.looks)).mean(1), after.labels[:: after.looks]
    groups = [moved[labels == c] for c in labels.unique() if c >= 0]
    mean = torch.stack([g.mean() for g in groups]).mean()
    variances = [max(float(g.var(correction=0)), 1 / len(g)) / len(g) for g in groups]
    return float(mean), sum(variances) ** 0.5 / len(groups)


@torch.no_grad()
def look_over(served: Network | None, backbone: Backbone, classes: Descriptions, clouds: Clouds) -> Probe:
    """Classify clouds with a merged network, or the frozen one: sensor-facing views of those that a sensor saw, the
    others' by entropy.

    The logits are those at temperature 1, for a temperature to be fitted to them.
    """
    adapter = None if served is None else Adapter(served, classes, temperature=1.0, version=1)
    classifier = Classifier(backbone, classes, ClassifierConfig(temperature=1.0), adapter)
    eyes = clouds.sensors()
    # Apart: beside others, an object whose sensor's place is not known would not have its views chosen by entropy.
    batches = [rows for which in (clouds.seen, ~clouds.seen) for rows in which.nonzero()[:, 0].split(BATCH)]
    logits, features = [], []
    for rows in filter(len, batches):
        part = list(clouds.points[rows].numpy())
        projection = classifier.project(part, (0, 1, 0), eyes[rows] if bool(clouds.seen[rows[0]]) else None)
        if not clouds.metric:
            projection = projection.without_sizes()
        seen = classifier.encode(projection)
        logits.append(classifier.logits(projection, seen).cpu())
        features.append(classifier.object_features(projection, seen).cpu())
    order = torch.cat(batches).argsort()
    return Probe(torch.cat(logits)[order], torch.cat(features)[order], clouds.labels, clouds.looks)
