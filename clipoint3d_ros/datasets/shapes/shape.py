"""A procedural shape and the registry of its makers.

A maker takes a random generator and returns one object of its class: metres, z up, standing as people put it down.
`make_shape` then lets it stand, lie or stand on its head, always on a facet that carries it. A maker whose object has
one pose only (an open book, a pot under its lid) says so with a third value, and the object stays as it was made.

Sizes are metric because a robot measures them. Each maker's docstring names what its ranges come from: a trade format
where there is one (can diameters, book formats, carton cross-sections, screen diagonals), else the span of retail
catalogues of kitchen ware, packaging, tools and home furniture; ranges are widened a little at both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from trimesh import Trimesh

from clipoint3d_ros.datasets.shapes.poses import inverted as turned_over
from clipoint3d_ros.datasets.shapes.poses import laid, settled

STANDING, LYING, INVERTED = "standing", "lying", "upside down"

# A mesh, attributes, and the pose where the object is made in the only pose it takes.
Made = tuple[Trimesh, tuple[str, ...]] | tuple[Trimesh, tuple[str, ...], str]


@dataclass(frozen=True)
class Shape:
    """One object.

    name: its class.
    mesh: metres, z up, resting on z = 0, centred on the z axis.
    attributes: words that are true of it, for captions ("tall", "with a handle").
    pose: standing, lying or upside down.
    """

    name: str
    mesh: Trimesh
    attributes: tuple[str, ...]
    pose: str = STANDING


@dataclass(frozen=True)
class Maker:
    """How one class is made; `poses` gives the share of standing, lying and inverted objects in a household."""

    make: Callable[[np.random.Generator], Made]
    poses: tuple[float, float, float]
    tabletop: bool


MAKERS: dict[str, Maker] = {}


def maker(
    name: str, *, lying: float = 0.0, inverted: float = 0.0, tabletop: bool = True
) -> Callable[[Callable], Callable]:
    """Register a maker under its class name; `tabletop` is False for what stands on the floor."""

    def register(make: Callable) -> Callable:
        MAKERS[name] = Maker(make, (1 - lying - inverted, lying, inverted), tabletop)
        return make

    return register


def make_shape(name: str, rng: np.random.Generator) -> Shape:
    """One random object of class `name`, in a random resting pose and direction.

    Raises:
        ValueError: no such class.
    """
    if name not in MAKERS:
        raise ValueError(f"no procedural shape '{name}'; there are {', '.join(sorted(MAKERS))}")
    mesh, attributes, *fixed = MAKERS[name].make(rng)
    pose = str(fixed[0]) if fixed else str(rng.choice([STANDING, LYING, INVERTED], p=MAKERS[name].poses))
    if pose == LYING and not fixed:
        mesh = laid(mesh, rng)
    elif pose == INVERTED:
        mesh = turned_over(mesh)
    else:
        mesh = settled(mesh)
    told = tuple(_as_seen(words, pose) for words in attributes)
    return Shape(name, rested(_spun(mesh, rng.uniform(0, 2 * np.pi))), told, pose)


def said(rng: np.random.Generator, *phrases: str) -> str:
    """One of several ways to say the same."""
    return phrases[rng.integers(len(phrases))]


def rested(mesh: Trimesh) -> Trimesh:
    """The mesh moved onto z = 0 and centred on the z axis."""
    mesh = mesh.copy()
    low, high = mesh.bounds
    mesh.apply_translation([-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]])
    return mesh


def surface_points(mesh: Trimesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) float32 points, uniform over the surface: the complete cloud of a clean CAD model."""
    areas = mesh.area_faces
    faces = rng.choice(len(areas), count, p=areas / areas.sum())
    a, b, c = np.moveaxis(mesh.triangles[faces], 1, 0)
    u, v = rng.random((2, count, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return (a + u * (b - a) + v * (c - a)).astype(np.float32)


_LYING_WORDS = {
    "at the top": "at one end",
    "on top": "at one end",
    "tall": "long",
    "higher than wide": "longer than wide",
    "as high as wide": "as long as wide",
    "wider than high": "wider than thick",
    "wide and low": "wide and flat",
    "upright": "slim",
}


def _as_seen(words: str, pose: str) -> str:
    """An attribute of a standing object in the words that are true of it in `pose`."""
    if pose == INVERTED:
        return words.replace("at the top", "below")
    if pose == LYING:
        for upright, lying in _LYING_WORDS.items():
            words = words.replace(upright, lying)
    return words


def _spun(mesh: Trimesh, angle: float) -> Trimesh:
    """The mesh turned about z by `angle` radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    mesh = mesh.copy()
    mesh.vertices = mesh.vertices @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return mesh
