"""Uni-Adapter: several cluster centres a class, moved by what is assigned to them, their labels smoothed over a graph.

Tamjidi, Dastmalchi, Alimoradijazi, Cheraghian, An, Saberi, "Adapt-as-you-walk through the clouds: training-free online
test-time adaptation of 3D vision-language foundation models", AAAI 2026. Written from the paper's description:

    an object's class is the frozen model's, its confidence 1 − H/log C; the class's nearest centre moves to the
        confidence-weighted mean, or a further one is opened where there is room and none is near
    Z = (I + λ L)⁻¹ Y, L the normalised Laplacian of the centres' affinity above a threshold
    cache logits: γ · Σ exp(−β (1 − ⟨f, m⟩)) z_m      answer: the two logits, each weighed by the other's entropy
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams.online import Seen, Setting, entropy, softmax, unit


@dataclass(frozen=True)
class UniAdapterConfig:
    """How many centres, and how they speak."""

    centres: int = 8  # of a class
    near: float = 0.8  # cosine from which an object belongs to a centre that is there; 1 opens all centres first
    smoothing: float = 0.3  # λ, of the labels over the graph; 0 leaves them as they are
    threshold: float = 0.7  # cosine from which two centres are neighbours
    beta: float = 10.0  # sharpness of the affinity
    gain: float = 10.0  # γ, of the cache's logits


class UniAdapter:
    """Centres of all classes, in the order in which they were opened."""

    def __init__(self, setting: Setting, config: UniAdapterConfig) -> None:
        self._text, self._scale, self._config = setting.text, setting.scale, config
        self._centres = np.zeros((0, self._text.shape[1]))  # (M, D) unit
        self._labels = np.zeros(0, np.int64)  # (M,)
        self._weights = np.zeros(0)  # (M,) summed confidence
        self._smooth = np.zeros((0, len(self._text)))  # (M, C)

    def answer(self, seen: Seen) -> np.ndarray:
        """As published, the object moves the centres before it is answered."""
        frozen = softmax(self._scale * self._text @ seen.feature)
        confidence = 1 - entropy(frozen) / np.log(max(len(frozen), 2))
        self._learn(unit(seen.feature.astype(np.float64)), int(frozen.argmax()), max(float(confidence), 1e-6))
        return self.predict(seen)

    def predict(self, seen: Seen) -> np.ndarray:
        logits = self._scale * self._text @ seen.feature
        if not len(self._centres):
            return softmax(logits)
        affinity = np.exp(-self._config.beta * (1 - self._centres @ unit(seen.feature.astype(np.float64))))
        cached = self._config.gain * affinity @ self._smooth
        own, other = entropy(softmax(logits)), entropy(softmax(cached))
        share = other / max(own + other, 1e-12)  # the surer of the two counts more
        return softmax(share * logits + (1 - share) * cached)

    def _learn(self, feature: np.ndarray, label: int, confidence: float) -> None:
        own = np.flatnonzero(self._labels == label)
        closeness = self._centres[own] @ feature
        if len(own) < self._config.centres and (not len(own) or closeness.max() < self._config.near):
            self._centres = np.concatenate([self._centres, feature[None]])
            self._labels = np.append(self._labels, label)
            self._weights = np.append(self._weights, confidence)
        else:
            at = own[closeness.argmax()]
            moved = self._weights[at] * self._centres[at] + confidence * feature
            self._centres[at] = unit(moved)
            self._weights[at] += confidence
        self._smooth = self._smoothed()

    def _smoothed(self) -> np.ndarray:
        """(M, C) soft labels of the centres, rows summing to 1."""
        labels = np.eye(len(self._text))[self._labels]
        if self._config.smoothing <= 0:
            return labels
        affinity = self._centres @ self._centres.T
        affinity = np.where(affinity >= self._config.threshold, affinity, 0.0)
        np.fill_diagonal(affinity, 0.0)
        root = 1 / np.sqrt(np.maximum(affinity.sum(1), 1e-12))
        linked = (affinity.sum(1) > 0).astype(float)
        laplacian = np.diag(linked) - root[:, None] * affinity * root
        solved = np.linalg.solve(np.eye(len(labels)) + self._config.smoothing * laplacian, labels)
        return np.maximum(solved, 0) / np.maximum(solved.clip(0).sum(1, keepdims=True), 1e-12)
