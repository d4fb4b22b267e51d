"""The perception node with a stub in the model's place: what is left to measure is the node's own way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.perception_node import PerceptionNode
from clipoint3d_ros.nodes.program import run
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.recognition import Recognition


class Stub:
    """Has the classifier's face and looks at nothing: the first class, always. It serves no bundle."""

    name, device, version = "stub", torch.device("cpu"), 0
    shares_tower = False

    def __init__(self, classes: Sequence[str], config: ClassifierConfig) -> None:
        self.classes, self.config = tuple(classes), config
        scores = np.linspace(1, 0, len(self.classes))
        self._answer = Recognition.of(scores / scores.sum(), self.classes)

    def with_config(self, config: ClassifierConfig) -> Stub:
        return Stub(self.classes, config)

    def project(self, clouds: Sequence[np.ndarray], up: Any, viewpoint: Any) -> Any:
        return SimpleNamespace(count=len(clouds))

    def encode(self, projection: Any) -> torch.Tensor:
        return torch.zeros(projection.count, 1, 8)

    def encode_frozen(self, projection: Any, features: torch.Tensor) -> None:
        return None

    def decide(self, projection: Any, features: torch.Tensor, frozen_features: None = None) -> list[Recognition]:
        return [self._answer] * projection.count


class StubNode(PerceptionNode):
    """The real node but for `_load`."""

    def _load(self, config: PerceptionConfig) -> Any:
        return Stub(config.classes or ("box", "can", "mug", "book", "bowl", "pot", "tin", "carton"), config.classifier)


def main(arguments: Sequence[str] | None = None) -> int:
    """The node as a program, for `node_speed` to start."""
    return run("stub_node", (StubNode,), arguments)


if __name__ == "__main__":
    sys.exit(main())
