"""Scored objects through a model once, all ten views; what any choice of views would have said follows from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.clouds import level, unit
from clipoint3d_ros.geometry.views import view_directions
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.selection import facing_weights, keep_certain

BATCH = 32  # objects


@dataclass(frozen=True)
class Looks:
    """M objects under all V views.

    logits: (M, V, C) of every view. facing: (M, V) float32 weights of those that face the sensor, rows summing to 1;
    even where there was none.
    """

    logits: Tensor
    facing: Tensor

    def choose(self, policy: str) -> Tensor:
        """(M, C) logits under one choice of views: `entropy`, `sensor`, `all`, `random-K` (K views of each object at
        random) or `first-K` (the first K in the published order, by entropy)."""
        even = torch.full_like(self.facing, 1 / self.facing.shape[1])
        if policy == "all":
            weights = even
        elif policy == "sensor":
            weights = self.facing
        elif policy == "entropy":
            weights = keep_certain(self.logits, even)
        elif policy.startswith("random-"):
            draw = torch.rand(even.shape, generator=torch.Generator().manual_seed(0)).argsort(1)
            weights = (draw < int(policy[7:])).float() / int(policy[7:])
        elif policy.startswith("first-"):
            count = int(policy[6:])
            weights = torch.zeros_like(even)
            weights[:, :count] = keep_certain(self.logits[:, :count], even[:, :count] * even.shape[1] / count)
        else:
            raise ValueError(f"view policy '{policy}' is none of entropy, sensor, all, random-K, first-K")
        return (self.logits * weights[..., None]).sum(1)


@torch.inference_mode()
def look(classifier: Classifier, objects: Objects, spoil: np.random.Generator | None = None) -> Looks:
    """Every view's logits of some objects.

    Args:
        classifier: whichever model it serves, with whatever class features it has been given.
        objects: to be scored.
        spoil: turns and jitters each cloud first, as the released code does with its test clouds; None leaves them. The
            views stay where they were, as they do there; those that face the sensor are those that face its place
            turned along with the cloud.
    """
    every = classifier.with_config(ClassifierConfig(selection="all"))
    facing = classifier.with_config(ClassifierConfig(selection="sensor"))
    logits, weights = [], []
    for start in range(0, len(objects), BATCH):
        rows = np.arange(start, min(start + BATCH, len(objects)))
        part = objects.take(rows)
        spoilt = [] if spoil is None else [_spoilt(cloud, part.up, spoil) for cloud in part.clouds]
        clouds = [cloud for cloud, _ in spoilt] or list(part.clouds)
        projection = every.project(clouds, part.up, part.viewpoints)
        if not objects.metric:
            projection = projection.without_sizes()
        logits.append(classifier.view_logits(every.encode(projection)).cpu())
        if spoilt and part.viewpoints is not None:
            weights.append(_facing_turned(clouds, part.up, part.viewpoints, [turn for _, turn in spoilt]))
        else:
            weights.append(facing.view_weights(clouds, part.up, part.viewpoints).cpu())
    return Looks(torch.cat(logits), torch.cat(weights))


def _spoilt(
    cloud: np.ndarray, up: tuple[float, float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random turn about the vertical, and jitter of 1 % of the radius clipped at 2 %; with the turn's rotation (3, 3)
    about the cloud's middle."""
    middle = cloud.mean(0)
    axis = np.asarray(up, np.float64) / np.linalg.norm(up)
    angle = rng.uniform(0, 2 * np.pi)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
    centred = (cloud - middle) @ turn.T
    radius = np.linalg.norm(centred, axis=1).max()
    noise = np.clip(0.01 * rng.standard_normal(cloud.shape), -0.02, 0.02) * radius
    return (centred + noise + middle).astype(np.float32), turn


def _facing_turned(
    clouds: list[np.ndarray], up: tuple[float, float, float], viewpoints: np.ndarray, turns: list[np.ndarray]
) -> Tensor:
    """(B, V) weights of the views that face sensors turned along with their clouds, in views levelled by where these
    really stood (B, 3)."""
    towards = []
    for cloud, eye, turn in zip(clouds, viewpoints, turns, strict=True):
        direction = unit(eye - cloud.mean(0, dtype=np.float64), "the direction to the sensor")
        towards.append(level(up, direction) @ turn @ direction)
    directions = torch.from_numpy(view_directions()).float()
    return facing_weights(torch.from_numpy(np.array(towards)).float(), directions)
