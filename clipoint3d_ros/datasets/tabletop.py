"""Cluttered, stacked scenes of procedural shapes as a depth sensor sees them, labelled point by point.

Objects are dropped one after another: beside each other with little room, some on top of a flat one. The sensor
looks down at them as a robot's does, at times past them. Tabletop classes stand on a table, the others on a floor,
farther away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from clipoint3d_ros.datasets.scenes import FIRST_OBJECT, Intrinsics, Scene
from clipoint3d_ros.datasets.shapes import MAKERS, Shape, make_shape
from clipoint3d_ros.geometry.camera import DepthCamera, Sensor, back_project, look_at, render, visible_shares

SUPPORTS = ("box", "tin", "book", "can", "pot", "table", "cabinet")  # flat enough on top to carry another object
CLEARANCE = 0.25  # metres that a sensor keeps from every object; nearer than that none of them measures
_LOOKS = 20  # places tried
GROUND = 8.0  # metres, the side of the table or floor


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are laid out and looked at. Ranges are (low, high) of a uniform draw."""

    objects: tuple[int, int] = (2, 8)
    stacking: float = 0.25  # chance to put an object on top of another
    gap: tuple[float, float] = (-0.01, 0.06)  # metres between neighbours' footprints; below 0 they touch
    elevation: tuple[float, float] = (15.0, 60.0)  # degrees above the horizontal from which the sensor looks down
    distance: tuple[float, float] = (0.55, 1.4)  # metres to the middle of the scene; the logarithm is uniform
    aside: float = 0.0  # chance to look past the middle, so that the frame's edge cuts objects; else a few only
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
        if _carries(shape):
            free_tops.append(put)
    return placed


def populate(classes: Sequence[str], rng: np.random.Generator, config: SceneConfig) -> list[Placed]:
    """Random objects of `classes` put down in one scene."""
    count = int(rng.integers(config.objects[0], config.objects[1] + 1))
    shapes = [make_shape(str(c), rng) for c in rng.choice(list(classes), count)]
    return arrange(shapes, rng, config)


@dataclass(frozen=True)
class Scan:
    """One look of any sensor at a scene.

    points: (H, W, 3) float32 metres in the sensor's optical frame, NaN where nothing came back.
    instance: (H, W) uint8, 0 nothing, 1 the table or floor, i + 2 placed[i].
    up: (3,) unit vector of 'up' in the optical frame.
    visible: {instance id: share of the object's own silhouette that the ideal image shows}, of every placed object.
    """

    points: np.ndarray
    instance: np.ndarray
    up: np.ndarray
    visible: dict[int, float]


def scan(placed: Sequence[Placed], rng: np.random.Generator, config: SceneConfig, sensor: Sensor) -> Scan:
    """What a sensor of any kind sees of a scene from a random place."""
    meshes = _meshes(placed)
    pose = _viewpoint(placed, rng, config, sensor)
    reading, surface = sensor.sense(render(meshes, sensor, pose), rng)
    shares = visible_shares(meshes, sensor, pose)[1:]
    visible = {FIRST_OBJECT + i: float(share) for i, share in enumerate(shares)}
    return Scan(back_project(reading, sensor), _instances(surface), _up(pose), visible)


def observe(
    name: str, placed: Sequence[Placed], rng: np.random.Generator, config: SceneConfig, camera: DepthCamera
) -> Scene:
    """What a camera sees of a scene from a random place.

    Returns:
        A Scene: instance 1 is the table or floor, instance i + 2 is placed[i]; an object with too few returns carries
        no name.
    """
    pose = _viewpoint(placed, rng, config, camera)
    depth, surface = camera.sense(render(_meshes(placed), camera, pose), rng)
    instance = _instances(surface)
    ids, returns = np.unique(instance, return_counts=True)
    seen = sorted(int(i) for i, n in zip(ids, returns, strict=True) if i >= FIRST_OBJECT and n >= config.min_points)
    names = {i: placed[i - FIRST_OBJECT].shape.name for i in seen}
    pinhole = Intrinsics(camera.fx, camera.fy, camera.cx, camera.cy)
    return Scene(name, _up(pose), depth.astype(np.float64), instance, names, pinhole)


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
    """The layout that suits the classes: a tabletop, or a floor where none of them stands on tables.

    Together they are as varied as what robots meet: 0.4 to 4 m away, nearly level to steeply down. Close by, the
    frame's edge cuts objects even where the sensor does not look past them.
    """
    if any(MAKERS[c].tabletop for c in classes):
        return SceneConfig(distance=(0.45, 1.7), elevation=(10.0, 70.0), aside=0.1)
    return SceneConfig(objects=(1, 3), gap=(0.0, 0.5), distance=(1.2, 4.0), elevation=(10.0, 70.0), aside=0.1)


def _meshes(placed: Sequence[Placed]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ground first, then the objects in order."""
    ground = trimesh.creation.box(extents=(GROUND, GROUND, 0.05))
    ground.apply_translation([0, 0, -0.025])
    return [(ground.vertices, ground.faces), *(p.mesh() for p in placed)]


def _instances(surface: np.ndarray) -> np.ndarray:
    return (surface + 1).astype(np.uint8)  # −1, ground, objects… become 0, 1, 2…


def _up(pose: np.ndarray) -> np.ndarray:
    return pose[:3, :3].T @ [0.0, 0.0, 1.0]


def _half(shape: Shape) -> np.ndarray:
    """Half the footprint (2,) metres of its box."""
    return np.ptp(shape.mesh.bounds[:, :2], axis=0) / 2


def _carries(shape: Shape) -> bool:
    """Whether something can be put on top: flat and closed above, without a knob, and no drum that lies on its side."""
    rolls = shape.pose == "lying" and shape.name in ("can", "tin", "pot")
    open_or_knobbed = {"open", "open at the top"} & set(shape.attributes) or any("knob" in a for a in shape.attributes)
    return shape.name in SUPPORTS and not rolls and not open_or_knobbed


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


def _viewpoint(placed: Sequence[Placed], rng: np.random.Generator, config: SceneConfig, sensor: Sensor) -> np.ndarray:
    """The pose (4, 4) of a sensor that stands in no object and has each one's centre in its frame, or looks past them.

    Where neither is found, as of a room from close by, the last place drawn is taken.
    """
    low = np.array([p.shape.mesh.bounds[0] + p.at for p in placed])
    high = np.array([p.shape.mesh.bounds[1] + p.at for p in placed])
    centres = (low + high) / 2
    middle = centres.mean(0)
    past = config.aside > 0 and rng.random() < config.aside
    for _ in range(_LOOKS):
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(*config.elevation))
        distance = np.exp(rng.uniform(*np.log(config.distance)))
        away = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
        eye = middle + away * distance
        pose = look_at(eye, middle + rng.normal(0, 0.04, 3))
        clear = np.linalg.norm(np.maximum(np.maximum(low - eye, eye - high), 0), axis=1).min() > CLEARANCE
        if clear and (past or sensor.contains((centres - eye) @ pose[:3, :3]).all()):
            break
    if past:
        pose[:3, :3] = pose[:3, :3] @ _to_forward(_near_the_edge(sensor.rays(), rng))
    return pose


def _near_the_edge(rays: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random direction (3,) of the frame's outer third."""
    height, width = rays.shape[:2]
    v, u = rng.uniform(-1, 1, 2)
    v, u = np.array([v, u]) / max(abs(v), abs(u)) * rng.uniform(0.67, 1.0)
    return rays[int((v + 1) / 2 * (height - 1)), int((u + 1) / 2 * (width - 1))].astype(np.float64)


def _to_forward(direction: np.ndarray) -> np.ndarray:
    """The shortest rotation (3, 3) that takes a direction with z > 0 to +z."""
    x, y, z = direction / np.linalg.norm(direction)
    skew = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.eye(3) + skew + skew @ skew / (1 + z)
