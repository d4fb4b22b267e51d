"""Cluttered, stacked scenes of procedural shapes as a depth camera sees them, labelled point by point.

Objects are dropped one after another: beside each other with little room, some on top of a flat one. The camera
looks down at them as a robot's does. Tabletop classes stand on a table, the others on a floor, farther away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from clipoint3d_ros.datasets.scenes import FIRST_OBJECT, Intrinsics, Scene
from clipoint3d_ros.datasets.shapes import MAKERS, Shape, make_shape
from clipoint3d_ros.geometry.camera import DepthCamera, look_at, render, sense

SUPPORTS = ("box", "tin", "book", "can", "pot", "table", "cabinet")  # flat enough on top to carry another object


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are laid out and looked at. Ranges are (low, high) of a uniform draw."""

    objects: tuple[int, int] = (2, 8)
    stacking: float = 0.25  # chance to put an object on top of another
    gap: tuple[float, float] = (-0.01, 0.06)  # metres between neighbours' footprints; below 0 they touch
    elevation: tuple[float, float] = (15.0, 60.0)  # degrees above the horizontal from which the camera looks down
    distance: tuple[float, float] = (0.55, 1.4)  # metres to the middle of the scene
    min_points: int = 150  # returns below which an object is taken as not seen


@dataclass(frozen=True)
class Placed:
    """A shape where it stands: `at` (3,) metres moves its mesh from its own frame into the scene's."""

    shape: Shape
    at: np.ndarray

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        return self.shape.mesh.vertices + self.at, self.shape.mesh.faces


def arrange(shapes: Sequence[Shape], rng: np.random.Generator, config: SceneConfig) -> list[Placed]:
    """Put shapes down in order, so that none runs into another by more than the gap allows."""
    placed: list[Placed] = []
    free_tops: list[Placed] = []
    for shape in shapes:
        support = _support(shape, free_tops, rng) if rng.random() < config.stacking else None
        if support is not None:
            slack = np.maximum(_half(support.shape) - _half(shape) * 0.7, 0)
            offset = rng.uniform(-1, 1, 2) * slack
            at = support.at + np.array([*offset, np.ptp(support.shape.mesh.bounds[:, 2])])
            free_tops.remove(support)
        else:
            at = _beside(shape, placed, rng, config)
        put = Placed(shape, at)
        placed.append(put)
        if shape.name in SUPPORTS and "open" not in shape.attributes and "open at the top" not in shape.attributes:
            free_tops.append(put)
    return placed


def populate(classes: Sequence[str], rng: np.random.Generator, config: SceneConfig) -> list[Placed]:
    """Random objects of `classes` put down in one scene."""
    count = int(rng.integers(config.objects[0], config.objects[1] + 1))
    shapes = [make_shape(str(c), rng) for c in rng.choice(list(classes), count)]
    return arrange(shapes, rng, config)


def observe(
    name: str, placed: Sequence[Placed], rng: np.random.Generator, config: SceneConfig, camera: DepthCamera
) -> Scene:
    """What the camera sees of a scene from a random place.

    Returns:
        A Scene: instance 1 is the table or floor, instance i + 2 is placed[i]; an object with too few returns carries
        no name.
    """
    middle = np.mean([p.at + np.array([0, 0, np.ptp(p.shape.mesh.bounds[:, 2]) / 2]) for p in placed], axis=0)
    pose = _viewpoint(middle, rng, config)
    ground = trimesh.creation.box(extents=(8, 8, 0.05))
    ground.apply_translation([0, 0, -0.025])
    meshes = [(ground.vertices, ground.faces), *(p.mesh() for p in placed)]
    depth, surface = sense(render(meshes, camera, pose), camera, rng)
    instance = (surface + 1).astype(np.uint8)  # −1, ground, objects… become 0, 1, 2…
    ids, returns = np.unique(instance, return_counts=True)
    seen = sorted(int(i) for i, n in zip(ids, returns, strict=True) if i >= FIRST_OBJECT and n >= config.min_points)
    names = {i: placed[i - FIRST_OBJECT].shape.name for i in seen}
    up = pose[:3, :3].T @ [0.0, 0.0, 1.0]
    pinhole = Intrinsics(camera.fx, camera.fy, camera.cx, camera.cy)
    return Scene(name, up, depth.astype(np.float64), instance, names, pinhole)


def simulate(
    name: str,
    classes: Sequence[str],
    rng: np.random.Generator,
    config: SceneConfig | None = None,
    camera: DepthCamera | None = None,
) -> Scene:
    """One scene of random objects of `classes` seen by `camera` (a Kinect unless given); `rng` draws everything.

    Where all the classes stand on floors the scene is a floor, roomier and farther away, else a table.
    """
    config = config or scene_config(classes)
    return observe(name, populate(classes, rng, config), rng, config, camera or DepthCamera())


def scene_config(classes: Sequence[str]) -> SceneConfig:
    """The layout that suits the classes: a tabletop, or a floor where none of them stands on tables."""
    if any(MAKERS[c].tabletop for c in classes):
        return SceneConfig()
    return SceneConfig(objects=(1, 3), gap=(0.0, 0.5), distance=(1.8, 4.0))


def _half(shape: Shape) -> np.ndarray:
    """Half the footprint (2,) metres of its box."""
    return np.ptp(shape.mesh.bounds[:, :2], axis=0) / 2


def _support(shape: Shape, tops: list[Placed], rng: np.random.Generator) -> Placed | None:
    """A free flat top that carries at least two thirds of the shape's footprint."""
    fits = [t for t in tops if (_half(t.shape) > _half(shape) * 0.66).all()]
    return fits[int(rng.integers(len(fits)))] if fits else None


def _beside(shape: Shape, placed: list[Placed], rng: np.random.Generator, config: SceneConfig) -> np.ndarray:
    """The nearest free place along a random direction from the middle; footprints are boxes."""
    half = _half(shape)
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    gap = rng.uniform(*config.gap)
    step = 0.02 if half.max() < 0.3 else 0.1
    for distance in np.arange(0.0, 12.0, step):
        centre = direction * distance
        apart = [(np.abs(centre - p.at[:2]) > half + _half(p.shape) + gap).any() for p in placed if p.at[2] < 1e-9]
        if all(apart):
            return np.array([*centre, 0.0])
    return np.array([*direction * 12.0, 0.0])


def _viewpoint(middle: np.ndarray, rng: np.random.Generator, config: SceneConfig) -> np.ndarray:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(*config.elevation))
    distance = rng.uniform(*config.distance)
    away = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    target = middle + rng.normal(0, 0.04, 3)
    return look_at(middle + away * distance, target)
