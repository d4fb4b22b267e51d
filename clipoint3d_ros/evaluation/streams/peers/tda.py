"""TDA: a cache of confident objects by class, and one of uncertain objects that says what they are not.

Karmanov, Guan, Lu, El Saddik, Xing, "Efficient test-time adaptation of vision-language models", CVPR 2024. An image
there is an object here, its feature the weighted mean of the views' made unit again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams.online import Seen, Setting, entropy, softmax, unit


@dataclass(frozen=True)
class TdaConfig:
    """As published for ImageNet, unless tuned."""

    shots: int = 3  # objects of a class in the positive cache
    alpha: float = 2.0  # weight of the positive cache's logits
    beta: float = 5.0  # sharpness of its affinity
    negative_shots: int = 2  # objects of a predicted class in the negative cache
    negative_alpha: float = 0.117
    negative_beta: float = 1.0
    entropy_low: float = 0.2  # of log C: an object this certain is not for the negative cache
    entropy_high: float = 0.5  # of log C: nor one this uncertain
    mask_low: float = 0.03  # probability from which a class is masked as one that the object may be


@dataclass(frozen=True)
class _Kept:
    feature: np.ndarray  # (D,) unit
    uncertain: float  # entropy, nats
    value: np.ndarray  # (C,) one-hot of what it is, or the mask of what it may be


class Tda:
    """Each class's most certain objects vouch for it; those in doubt speak against the classes in question."""

    def __init__(self, setting: Setting, config: TdaConfig) -> None:
        self._text, self._scale, self._config = setting.text, setting.scale, config
        self._positive: list[list[_Kept]] = [[] for _ in self._text]
        self._negative: list[list[_Kept]] = [[] for _ in self._text]

    def answer(self, seen: Seen) -> np.ndarray:
        """As published, the object enters the caches before it is answered."""
        config, probabilities = self._config, self._frozen(seen)
        label, uncertain, feature = int(probabilities.argmax()), entropy(probabilities), unit(seen.feature)
        _keep(self._positive[label], _Kept(feature, uncertain, np.eye(len(self._text))[label]), config.shots)
        share = uncertain / np.log(max(len(self._text), 2))
        if config.entropy_low < share < config.entropy_high:
            mask = ((probabilities > config.mask_low) & (probabilities < 1)).astype(float)
            _keep(self._negative[label], _Kept(feature, uncertain, mask), config.negative_shots)
        return self.predict(seen)

    def predict(self, seen: Seen) -> np.ndarray:
        config, feature = self._config, unit(seen.feature)
        logits = self._scale * self._text @ seen.feature
        logits = logits + config.alpha * _affinity(self._positive, feature, config.beta, len(logits))
        logits = logits - config.negative_alpha * _affinity(self._negative, feature, config.negative_beta, len(logits))
        return softmax(logits)

    def _frozen(self, seen: Seen) -> np.ndarray:
        return softmax(self._scale * self._text @ seen.feature)


def _keep(cache: list[_Kept], new: _Kept, most: int) -> None:
    """The cache's `most` most certain objects, the new one among them if it is one."""
    if len(cache) < most:
        cache.append(new)
    elif new.uncertain < cache[-1].uncertain:
        cache[-1] = new
    cache.sort(key=lambda kept: kept.uncertain)


def _affinity(caches: list[list[_Kept]], feature: np.ndarray, beta: float, classes: int) -> np.ndarray:
    """(C,) Σ exp(−β (1 − ⟨f, key⟩)) · value over all that is kept."""
    kept = [k for cache in caches for k in cache]
    if not kept:
        return np.zeros(classes)
    closeness = np.stack([k.feature for k in kept]) @ feature
    return np.exp(-beta * (1 - closeness)) @ np.stack([k.value for k in kept])
