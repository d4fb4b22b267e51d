"""Small domains for the tests of few-shot training: complete solids, and what a sensor sees of such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clipoint3d_ros.adaptation.config import LossConfig, Recipe, TrainingConfig
from clipoint3d_ros.adaptation.transport import TransportConfig
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import NetworkConfig
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.geometry.visibility import visible_points

CLASSES = describe(["box", "can", "plate"])
RECIPE = Recipe(
    NetworkConfig(rank=2, points=32),
    LossConfig(agree=1.0),
    TransportConfig(unbalanced=0.5, prediction_weight=0.2, iterations=20),
    TrainingConfig(
        certain=0.0,
        shots=3,
        probe=2,
        steps=4,
        objects=4,
        views=2,
        points=64,
        scans=2,
        warmup=1,
        learning_rate=3e-3,
        probe_every=2,
        checkpoint_every=1,
    ),
)


def changed(recipe=RECIPE, losses=None, network=None, **training):
    """The recipe with some values changed: of its training, and of the losses and network as dictionaries."""
    return replace(
        recipe,
        losses=replace(recipe.losses, **(losses or {})),
        network=replace(recipe.network, **(network or {})),
        training=replace(recipe.training, **training),
    )


def solids(each=5, seed=0, points=300, classes=CLASSES.names):
    """Complete solids on the floor, z up, metres: `each` of every class."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(classes)), each)
    clouds = tuple(_solid(classes[label], points, rng) for label in labels)
    return Objects("solids", tuple(classes), clouds, labels, np.arange(len(labels)))


def looks(each=3, seed=1, points=300):
    """The near side of such solids on a table, as a sensor at the origin sees it."""
    rng = np.random.default_rng(seed)
    whole = solids(each, seed, 2 * points)
    clouds = []
    for cloud in whole.clouds:
        placed = cloud + np.array([rng.uniform(0.8, 1.2), rng.uniform(-0.3, 0.3), -rng.uniform(0.3, 0.8)])
        clouds.append(placed[visible_points(placed, np.zeros(3))].astype(np.float32))
    return replace(whole, domain="looks", clouds=tuple(clouds), viewpoints=np.zeros((len(clouds), 3), np.float32))


def _solid(name, points, rng):
    size = rng.uniform(0.8, 1.2)
    direction = rng.normal(size=(points, 3))
    if name == "box":
        surface = direction / np.abs(direction).max(1, keepdims=True) * [0.1, 0.06, 0.08]
    elif name == "can":
        surface = direction / np.linalg.norm(direction[:, :2], axis=1, keepdims=True)
        surface[:, 2] = rng.uniform(-1, 1, points)
        surface *= [0.035, 0.035, 0.06]
    else:
        surface = direction / np.linalg.norm(direction, axis=1, keepdims=True) * [0.12, 0.12, 0.01]
    surface = surface * size
    return (surface - [0, 0, surface[:, 2].min()]).astype(np.float32)
