"""RoTTA: a class-balanced memory of recent, certain objects; a student learns from it; a teacher follows, and answers.

Yuan, Xie, Li, "Robust test-time adaptation in dynamic scenarios", CVPR 2023. What is trained are the LayerNorms (their
robust BatchNorm has no counterpart in a ViT); what the student sees of an object is distorted as images were there:
mirrored, shifted, partly erased depth views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.evaluation.streams.online import Look, Seen, Setting, entropy
from clipoint3d_ros.evaluation.streams.peers.tower import NormTower, clone_look, step_if_finite, weights_of


@dataclass(frozen=True)
class RottaConfig:
    """As published, unless tuned."""

    capacity: int = 64  # objects in memory
    every: int = 64  # objects between updates
    learning_rate: float = 1e-3
    follow: float = 1e-3  # ν, share of the way that the teacher goes after the student in an update
    timeliness: float = 1.0  # λ_t, weight of age where one must leave the memory
    uncertainty: float = 1.0  # λ_u, weight of entropy there


@dataclass
class Kept:
    """An object in memory: the cloud's number, its views' weights (V,), entropy in nats, age in objects seen since."""

    cloud: int
    weights: Tensor
    uncertain: float
    age: int = 0


class Memory:
    """Category-balanced sampling with timeliness and uncertainty: which objects stay.

    capacity: objects in all; no predicted class holds more than its even share of them.
    """

    def __init__(self, classes: int, config: RottaConfig) -> None:
        self._config, self._share = config, config.capacity / classes
        self._classes: list[list[Kept]] = [[] for _ in range(classes)]

    def __len__(self) -> int:
        return sum(map(len, self._classes))

    @property
    def kept(self) -> list[Kept]:
        return [one for cls in self._classes for one in cls]

    def counts(self) -> list[int]:
        """(C,) objects of each predicted class."""
        return [len(cls) for cls in self._classes]

    def add(self, new: Kept, label: int) -> None:
        """The new object, where it is worth more than the worst of those that would have to leave for it."""
        own = self._classes[label]
        if len(own) >= self._share:
            enters = self._make_room([own], new)
        elif len(self) >= self._config.capacity:
            most = max(self.counts())
            enters = self._make_room([cls for cls in self._classes if len(cls) == most], new)
        else:
            enters = True
        if enters:
            own.append(new)
        for one in self.kept:
            one.age += 1

    def _make_room(self, classes: list[list[Kept]], new: Kept) -> bool:
        worst = max(((self._badness(one), cls, one) for cls in classes for one in cls), key=lambda found: found[0])
        if worst[0] <= self._badness(new):
            return False
        worst[1].remove(worst[2])
        return True

    def _badness(self, one: Kept) -> float:
        """λ_t / (1 + exp(−age / capacity)) + λ_u H / log C."""
        old = 1 / (1 + math.exp(-one.age / self._config.capacity))
        uncertain = one.uncertain / math.log(max(len(self._classes), 2))
        return self._config.timeliness * old + self._config.uncertainty * uncertain


class Rotta:
    """Student, teacher and memory."""

    def __init__(self, setting: Setting, config: RottaConfig) -> None:
        self._config, self._look = config, setting.look
        self._student, self._teacher = NormTower(setting), NormTower(setting)
        self._optimiser = torch.optim.Adam(self._student.parameters, lr=config.learning_rate)
        self._memory = Memory(len(setting.text), config)
        self._rng = torch.Generator().manual_seed(setting.seed)
        self._since = 0

    def answer(self, seen: Seen) -> np.ndarray:
        probabilities = self.predict(seen)
        self._memory.add(Kept(seen.cloud, weights_of(seen), entropy(probabilities)), int(probabilities.argmax()))
        self._since += 1
        if self._since >= self._config.every:
            self._since = 0
            self._update()
        return probabilities

    @torch.no_grad()
    def predict(self, seen: Seen) -> np.ndarray:
        logits = self._teacher.logits([self._look(seen.cloud)], [weights_of(seen)])
        return logits[0].softmax(-1).cpu().numpy()

    def _update(self) -> None:
        """One step towards the teacher's answers on all that is in memory, newer objects counting more."""
        kept = self._memory.kept
        looks, weights = [clone_look(self._look(one.cloud)) for one in kept], [one.weights for one in kept]
        age = torch.tensor([one.age / self._config.capacity for one in kept])
        timely = (-age).exp() / (1 + (-age).exp())
        with torch.no_grad():
            wanted = self._teacher.logits(looks, weights).softmax(-1)
        with torch.enable_grad():
            said = self._student.logits([distorted(look, self._rng) for look in looks], weights).log_softmax(-1)
            loss = (-(wanted * said).sum(-1) * timely.to(said)).mean()
            if step_if_finite(self._optimiser, self._student.parameters, loss):
                self._teacher.follow(self._student, self._config.follow)


def distorted(look: Look, rng: torch.Generator) -> Look:
    """An object's views mirrored or not, shifted by up to 5 % of their side, and erased in a square of up to 30 %."""
    images, side = look.images.clone(), look.images.shape[-1]
    if torch.rand((), generator=rng) < 0.5:
        images = images.flip(-1)
    most = max(round(0.05 * side), 1)
    down, right = torch.randint(-most, most + 1, (2,), generator=rng).tolist()
    images = images.roll((down, right), (-2, -1))
    size = int(torch.randint(0, max(round(0.3 * side), 1) + 1, (), generator=rng))
    top, left = torch.randint(0, side - size + 1, (2,), generator=rng).tolist()
    images[..., top : top + size, left : left + size] = 1.0
    return Look(images, look.extents)
