"""TENT: a step of entropy minimisation on every object, of the normalisation's gains and shifts.

Wang, Shelhamer, Liu, Olshausen, Darrell, "Tent: fully test-time adaptation by entropy minimization", ICLR 2021; batch
1, LayerNorm instead of BatchNorm, as Niu et al. do with ViTs ("Towards stable test-time adaptation in dynamic wild
world", ICLR 2023). The answer is that before the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clipoint3d_ros.evaluation.streams.online import Seen, Setting
from clipoint3d_ros.evaluation.streams.peers.tower import NormTower, clone_look, step_if_finite, weights_of


@dataclass(frozen=True)
class TentConfig:
    """The published optimiser for ViTs is SGD with momentum."""

    learning_rate: float = 1e-4
    momentum: float = 0.9


class Tent:
    """The tower and its optimiser; no memory and no safeguard."""

    def __init__(self, setting: Setting, config: TentConfig) -> None:
        self._tower, self._look = NormTower(setting), setting.look
        self._optimiser = torch.optim.SGD(self._tower.parameters, lr=config.learning_rate, momentum=config.momentum)

    def answer(self, seen: Seen) -> np.ndarray:
        with torch.enable_grad():
            logits = self._tower.logits([clone_look(self._look(seen.cloud))], [weights_of(seen)])[0]
            logarithms = logits.log_softmax(-1)
            step_if_finite(self._optimiser, self._tower.parameters, -(logarithms.exp() * logarithms).sum())
        return logarithms.detach().exp().cpu().numpy()

    @torch.no_grad()
    def predict(self, seen: Seen) -> np.ndarray:
        return self._tower.logits([self._look(seen.cloud)], [weights_of(seen)])[0].softmax(-1).cpu().numpy()
