"""CLIPoint3D as published: adapted beforehand, few-shot and offline, and left as it is on the stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams.online import Seen, Setting


@dataclass(frozen=True)
class OfflineConfig:
    """Nothing to be set: the bundle is as it was trained."""


class Offline:
    """Answers by a bundle, with that adapter's own features of the same views, and learns nothing."""

    def __init__(self, setting: Setting, config: OfflineConfig) -> None:
        self._adapted = setting.adapted

    def answer(self, seen: Seen) -> np.ndarray:
        return self.predict(seen)

    def predict(self, seen: Seen) -> np.ndarray:
        return self._adapted(seen.cloud)
