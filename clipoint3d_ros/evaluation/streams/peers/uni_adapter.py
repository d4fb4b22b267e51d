"""Uni-Adapter: several cluster centres a class, moved by what is assigned to them, their labels smoothed over a graph.

Tamjidi, Dastmalchi, Alimoradijazi, Cheraghian, An, Saberi, "Adapt-as-you-walk through the clouds: training-free online
test-time adaptation of 3D vision-language foundation models", AAAI 2026. Written after the paper and its public code,
whose settings are the defaults here:

    an object is its class's by the frozen model, confidence w = exp(−β H / log₂ C); it opens a centre while there is
        room, else it moves the nearest centre of its class to the mean of both, weighed by w and by objects held
    Z = (L + 2λ I)⁻¹ 2λ P, L the normalised Laplacian of the centres' cosines above a threshold, P their answers;
        a centre speaks for the class of its row's largest, all centres of a class together as much as one
    cache logits: Σ ⟨f, m⟩ z_m      answer: softmaxes of cosines and of cache logits, each by the inverse of its entropy

That sum is nearly even, for cosines are small; it is published here at the frozen model's scale, which names the same
class and can be held against other methods' probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams.online import Seen, Setting, entropy, softmax, unit


@dataclass(frozen=True)
class UniAdapterConfig:
    """How many centres, and how they speak."""

    centres: int = 30  # of a class
    beta: float = 150.0  # how much less an uncertain object moves a centre
    threshold: float = 0.5  # cosine from which two centres are neighbours
    smoothing: float = 0.11  # λ, of the labels over the graph: the smaller, the more


class UniAdapter:
    """Centres of all classes, in the order in which they were opened."""

    def __init__(self, setting: Setting, config: UniAdapterConfig) -> None:
        self._text, self._scale, self._config = setting.text, setting.scale, config
        self._centres = np.zeros((0, self._text.shape[1]))  # (M, D) unit
        self._labels = np.zeros(0, np.int64)  # (M,)
        self._weights = np.zeros(0)  # (M,) confidence, of the centre itself
        self._counts = np.zeros(0)  # (M,) objects
        self._answers = np.zeros((0, len(self._text)))  # (M, C) of the frozen model to the centres
        self._values = np.zeros((0, len(self._text)))  # (M, C) what each speaks for

    def answer(self, seen: Seen) -> np.ndarray:
        """As published, the object moves the centres before it is answered."""
        self._learn(unit(seen.feature.astype(np.float64)))
        return self.predict(seen)

    def predict(self, seen: Seen) -> np.ndarray:
        feature = unit(seen.feature.astype(np.float64))
        if not len(self._centres):
            return softmax(self._scale * self._text @ seen.feature)
        words, cached = softmax(self._text @ feature), softmax((self._centres @ feature) @ self._values)
        both = words / max(entropy(words), 1e-12) + cached / max(entropy(cached), 1e-12)
        return softmax(self._scale * np.log(np.maximum(both, 1e-12)))

    def _learn(self, feature: np.ndarray) -> None:
        answer = softmax(self._scale * self._text @ feature)
        label, weight = int(answer.argmax()), self._confidence(answer)
        own = np.flatnonzero(self._labels == label)
        if len(own) < self._config.centres:
            self._centres = np.concatenate([self._centres, feature[None]])
            self._answers = np.concatenate([self._answers, answer[None]])
            self._labels, self._weights = np.append(self._labels, label), np.append(self._weights, weight)
            self._counts = np.append(self._counts, 1.0)
        else:
            at = own[(self._centres[own] @ feature).argmax()]
            held = self._weights[at] * self._counts[at]
            share = weight / (held + weight)
            moved = unit((1 - share) * self._centres[at] + share * feature)
            self._centres[at] = moved
            self._answers[at] = softmax(self._scale * self._text @ moved)
            self._weights[at] = self._confidence(self._answers[at])
            self._counts[at] += 1
        self._values = self._smoothed()

    def _confidence(self, answer: np.ndarray) -> float:
        relative = entropy(answer) / np.log2(max(len(answer), 2))
        return max(float(np.exp(-self._config.beta * relative)), 1e-300)

    def _smoothed(self) -> np.ndarray:
        """(M, C): each centre's class after smoothing, of a class all together 1."""
        affinity = self._centres @ self._centres.T
        affinity = np.where(affinity >= self._config.threshold, affinity, 0.0)
        root = 1 / np.sqrt(np.maximum(affinity.sum(1), 1e-12))
        pull = 2 * self._config.smoothing
        system = (1 + pull) * np.eye(len(affinity)) - root[:, None] * affinity * root
        classes = np.linalg.solve(system, pull * self._answers).argmax(1)
        values = np.eye(len(self._text))[classes]
        return values / np.maximum(values.sum(0), 1)
