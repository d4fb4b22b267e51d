"""StatA: a Gaussian of each class in feature space, anchored to its words by how many objects it has seen.

Zanella, Fuchs, De Vleeschouwer, Ben Ayed, "Realistic test-time adaptation of vision-language models", CVPR 2025. There
a batch is solved at once; here, with one object at a time, the sums over the batch run over the stream, and the term
that ties a batch's neighbours to each other has nothing to tie. Means, diagonal covariances and the anchor are as
published; Σ₀, there a whole batch's, starts round and takes the stream's own shape within some ten objects:

    β_c = n_c / (n_c + α)        μ_c = unit(β_c · mean_c + (1 − β_c) · t_c)
    Σ_c = β_c · S_c + (1 − β_c) · (Σ₀ + (t_c − μ_c)²)        z ∝ ŷ^λ · exp(log-likelihood · τ)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams.online import Seen, Setting, softmax, unit

_ROUND = 10  # objects that the round start of Σ₀ is worth


@dataclass(frozen=True)
class StatAConfig:
    """As published, unless tuned."""

    alpha: float = 1.0  # objects that the anchor is worth
    temperature: float = 0.02  # τ, of the log-likelihood
    words: float = 1.0  # λ, power of the frozen model's prediction
    soft: bool = False  # n_c from soft assignments rather than from predictions


class StatA:
    """Running sums of the classes' features; what nobody saw stays at its words."""

    def __init__(self, setting: Setting, config: StatAConfig) -> None:
        self._text, self._scale, self._config = setting.text.astype(np.float64), setting.scale, config
        classes, width = self._text.shape
        self._count = np.zeros(classes)  # n_c, of the anchor
        self._weight = np.zeros(classes)  # Σ z
        self._first = np.zeros((classes, width))  # Σ z f
        self._second = np.zeros((classes, width))  # Σ z f²
        self._around = np.zeros(width)  # Σ ŷ (f − t)², whence Σ₀
        self._objects = 0

    def answer(self, seen: Seen) -> np.ndarray:
        feature = unit(seen.feature.astype(np.float64))
        frozen = softmax(self._scale * self._text @ seen.feature)
        self._around += frozen @ (feature - self._text) ** 2
        self._objects += 1
        assigned = self.predict(seen)
        self._count += assigned if self._config.soft else np.eye(len(assigned))[assigned.argmax()]
        self._weight += assigned
        self._first += assigned[:, None] * feature
        self._second += assigned[:, None] * feature**2
        return assigned

    def predict(self, seen: Seen) -> np.ndarray:
        frozen = softmax(self._scale * self._text @ seen.feature)
        if self._objects == 0:
            return frozen
        feature = unit(seen.feature.astype(np.float64))
        mean, covariance = self._statistics()
        distance = ((feature - mean) ** 2 / covariance).sum(1)
        logits = self._config.words * np.log(np.maximum(frozen, 1e-12)) - 0.5 * self._config.temperature * distance
        return softmax(logits)

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Means (C, D) and variances (C, D), anchored."""
        beta = (self._count / (self._count + self._config.alpha))[:, None]
        weight = np.maximum(self._weight, 1e-12)[:, None]
        mean = unit(beta * unit(self._first / weight) + (1 - beta) * self._text)
        spread = self._second / weight - 2 * mean * self._first / weight + mean**2
        around = self._around / max(self._objects, 1)
        around = (self._objects * around + _ROUND * around.mean()) / (self._objects + _ROUND)
        anchor = around + (self._text - mean) ** 2
        return mean, np.maximum(beta * spread + (1 - beta) * anchor, 1e-6)
