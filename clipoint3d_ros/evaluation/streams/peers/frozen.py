"""The frozen model: what every method must not fall below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams.online import Seen, Setting, softmax


@dataclass(frozen=True)
class FrozenConfig:
    """Nothing to be set."""


class Frozen:
    """Answers by the words alone and learns nothing."""

    def __init__(self, setting: Setting, config: FrozenConfig) -> None:
        self._text, self._scale = setting.text, setting.scale

    def answer(self, seen: Seen) -> np.ndarray:
        return self.predict(seen)

    def predict(self, seen: Seen) -> np.ndarray:
        return softmax(self._scale * self._text @ seen.feature)
