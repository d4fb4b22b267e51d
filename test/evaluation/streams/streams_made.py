"""Made for the tests of streams: sizes, classes, features whose classes lie off their words, and a training."""

from types import SimpleNamespace

import numpy as np
import torch

from clipoint3d_ros.adaptation.probing import Probe
from clipoint3d_ros.adaptation.reference import Reference
from clipoint3d_ros.adaptation.statistics import gather, weighed
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.evaluation.streams.online import Seen, Setting
from clipoint3d_ros.evaluation.streams.pools import Sizes

SIZES = Sizes(known=24, unknown=12, each=3, worn=2, long=90, probe=2, resolution=0.25)
CLASSES = describe(["box", "can", "mug"])


class Words:
    """Stands for a classifier where a method needs its text features and scale only."""

    def __init__(self, text, scale):
        self.text, self.scale = torch.as_tensor(text, dtype=torch.float32), scale


class Toy:
    """Three classes in eight dimensions whose objects lie away from their words, all in the same direction.

    The words take many objects of the first class for the second's; which class an object is of is plain from where the
    others of its class lie.
    """

    def __init__(self, seed=0, shift=0.9, spread=0.12, views=4):
        rng = np.random.default_rng(seed)
        self.text = np.eye(3, 8).astype(np.float32)
        self._offset = shift * np.eye(8)[5] + np.outer([0.9, 0.0, 0.0], np.eye(8)[1])
        self._spread, self._views, self._rng = spread, views, rng
        self.setting = Setting(Words(self.text, 8.0))

    def seen(self, label, cloud=0):
        centre = self.text[label] * 0.85 + self._offset[label]
        views = centre + self._spread * self._rng.standard_normal((self._views, 8))
        features = views / np.linalg.norm(views, axis=1, keepdims=True)
        return Seen(features.astype(np.float32), np.full(self._views, 1 / self._views, np.float32), cloud)

    def stream(self, count=300):
        labels = self._rng.integers(3, size=count)
        return labels, [self.seen(label, i) for i, label in enumerate(labels)]


def toy_reference(toy):
    """Of labelled objects that are like the robot's, each class as often."""

    def source(count, seed):
        labels = np.arange(count) % 3
        made = Toy(seed)
        features = torch.from_numpy(np.stack([made.seen(label).features.mean(0) for label in labels]))
        return features, torch.from_numpy(labels)

    words = toy.setting.classifier
    (learned, labels), (held, truth) = source(120, 1), source(60, 2)
    logits = words.scale * held @ words.text.T
    statistics = weighed(gather(learned, labels, 3), logits, held, truth)
    return Reference(statistics, True, Probe(logits, held, truth), 1.0)


class Training:
    """Stands for tier 2's training: its candidate is the model as it is, which gains nothing."""

    def __init__(self, companion):
        self.companion, self.steps, self.calls = companion, 0, []

    def learn(self, sightings, logits):
        assert logits.shape == (len(sightings), 3)
        self.steps += 1

    def candidate(self):
        self.calls.append("candidate")
        return SimpleNamespace(served=None, reference=self.companion.reference, text=self.companion.text)

    def features(self, served, sightings):
        return torch.from_numpy(np.stack([sighting.feature for sighting in sightings]))

    def frozen(self, sightings):
        return torch.from_numpy(np.stack([sighting.logits for sighting in sightings]))

    def keep(self):
        self.calls.append("keep")

    def fall_back(self):
        self.calls.append("fall_back")

    def restart(self):
        self.calls.append("restart")
