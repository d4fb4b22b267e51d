"""Made for the tests of streams: sizes, classes, and features whose classes lie off their words."""

import numpy as np
import torch

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
