"""What an online method is: it is shown one object at a time, answers, and learns; never from objects to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from clipoint3d_ros.recognition.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Seen:
    """One object as a method is shown it.

    features: (V, D) float32 unit features of all views by the frozen model.
    weights: (V,) float32, how much each view counts, by the table's choice of views; they sum to 1.
    cloud: its number, for what `Setting.look` and `Setting.adapted` tell of it.
    points: of the cloud. familiarity: in [0, 1], the frozen model's; 1 where it does not judge that.
    track: of a tracker, −1 where there is none. stamp_s: seconds since the stream began.
    """

    features: np.ndarray
    weights: np.ndarray
    cloud: int
    points: int = 1024
    familiarity: float = 1.0
    track: int = -1
    stamp_s: float = 0.0

    @property
    def feature(self) -> np.ndarray:
        """(D,) float32, the weighted mean of the views' features; the shorter it is, the more they differ."""
        return self.weights @ self.features


class Online(Protocol):
    """A method in the middle of a stream.

    One that estimates the share of objects that are of any class has it as an attribute `known`.
    """

    def answer(self, seen: Seen) -> np.ndarray:
        """(C,) probabilities for one object, from which it also learns."""

    def predict(self, seen: Seen) -> np.ndarray:
        """(C,) probabilities for one object; nothing is learned."""


class Look(NamedTuple):
    """A cloud's views: images (V, H, W) in [0, 1], extents (3,) metres, as `Backbone.encode_views` takes them."""

    images: Tensor
    extents: Tensor


def _nothing_to_see(cloud: int) -> Look:
    raise ValueError(f"cloud {cloud} cannot be looked at: this setting has features only")


def _no_cloud(cloud: int) -> tuple[np.ndarray, float, float]:
    raise ValueError(f"cloud {cloud} is not at hand: this setting has features only")


def _nothing_adapted(cloud: int) -> np.ndarray:
    raise ValueError("no adapter was given; name its bundle with --bundle")


@dataclass(frozen=True, eq=False)
class Setting:
    """All that a method is given before the stream begins.

    classifier: the frozen model with its classes.
    seed: of whatever it draws.
    look: the views of a cloud by its number, for methods that run the vision tower themselves.
    adapted: (C,) probabilities for a cloud by the bundle that was trained beforehand.
    cloud: of a number: (N, 3) float32 metres, levelled with y up and the sensor's azimuth at +z, mean at the origin;
        the sensor's elevation in radians and its distance in metres, 0 where none is known.
    by_entropy: the model that answers chooses its views by its own certainty, as perception does without a sensor to
        face; `Seen.weights` are the frozen model's choice. Otherwise these are what counts for every method.
    """

    classifier: Classifier
    seed: int = 0
    look: Callable[[int], Look] = field(default=_nothing_to_see)
    adapted: Callable[[int], np.ndarray] = field(default=_nothing_adapted)
    cloud: Callable[[int], tuple[np.ndarray, float, float]] = field(default=_no_cloud)
    by_entropy: bool = False

    @property
    def text(self) -> np.ndarray:
        """(C, D) float32 unit text features."""
        return self.classifier.text.detach().cpu().numpy()

    @property
    def scale(self) -> float:
        """What cosines are multiplied by to be the frozen model's logits."""
        return self.classifier.scale


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def entropy(probabilities: np.ndarray) -> float:
    """−Σ p log p of (C,), in nats."""
    return float(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum())


def unit(vectors: np.ndarray) -> np.ndarray:
    """Of length 1 along the last axis; a zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
