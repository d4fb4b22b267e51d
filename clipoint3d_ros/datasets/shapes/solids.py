"""The few solids that household shapes are put together from: triangle meshes, z up, metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import trimesh
from trimesh import Trimesh

Numbers = Sequence[Any] | np.ndarray  # a vector, or a list of vectors


_BOX = trimesh.creation.box(extents=(2, 2, 2))
_CORNERS, _QUADS = np.array(_BOX.vertices), np.array(_BOX.faces)
_SPHERE = trimesh.creation.icosphere(subdivisions=3)
_GLOBE, _TRIANGLES = np.array(_SPHERE.vertices), np.array(_SPHERE.faces)


def block(size: Numbers, at: Numbers = (0, 0, 0)) -> Trimesh:
    """A cuboid of `size` (3,) whose base is centred at `at`."""
    middle = np.array([at[0], at[1], at[2] + size[2] / 2], float)
    return Trimesh(_CORNERS * (np.asarray(size, float) / 2) + middle, _QUADS, process=False)


def rounded_block(size: Numbers, bevel: float, at: Numbers = (0, 0, 0)) -> Trimesh:
    """A cuboid with all edges cut back by `bevel` metres; base centred at `at`."""
    half = np.asarray(size, float) / 2
    bevel = min(bevel, 0.9 * float(half.min()))
    corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    cuts = np.concatenate([corners * (half - bevel * (1 - np.eye(3)[axis])) for axis in range(3)])
    mesh = trimesh.convex.convex_hull(cuts)
    mesh.apply_translation([at[0], at[1], at[2] + half[2]])
    return mesh


def rod(radius: float, height: float, at: Numbers = (0, 0, 0), sections: int = 24) -> Trimesh:
    """An upright solid cylinder whose base is centred at `at`."""
    mesh = trimesh.creation.cylinder(radius=radius, height=height, sections=sections)
    mesh.apply_translation([at[0], at[1], at[2] + height / 2])
    return mesh


def lathe(profile: Sequence[tuple[float, float]], sections: int = 40) -> Trimesh:
    """The surface swept by turning a profile of (radius, height) points about z."""
    return trimesh.creation.revolve(np.asarray(profile, float), sections=sections)


def vessel(outside: Sequence[tuple[float, float]], wall: float, floor: float | None = None) -> Trimesh:
    """An open container: the outside profile of (radius, height) from foot to rim, and an inside `wall` metres in.

    The floor lies `floor` metres (default: the wall's thickness) above the foot.
    """
    outer = np.asarray(outside, float)
    bottom = outer[0, 1] + (wall if floor is None else floor)
    inner = np.column_stack([np.maximum(outer[:, 0] - wall, 0), np.maximum(outer[:, 1], bottom)])
    profile = [(0.0, outer[0, 1]), *outer, *inner[::-1], (0.0, bottom)]
    return lathe([(float(r), float(h)) for r, h in profile])


def ball(radii: Numbers, at: Numbers = (0, 0, 0)) -> Trimesh:
    """An ellipsoid of half-axes `radii` (3,) centred at `at`."""
    return Trimesh(_GLOBE * np.asarray(radii, float) + np.asarray(at, float), _TRIANGLES, process=False)


def prism(polygon: Numbers, height: float, at: Numbers = (0, 0, 0)) -> Trimesh:
    """A convex polygon (K, 2) drawn up by `height` from the plane z = at[2]."""
    flat = np.asarray(polygon, float)
    points = np.concatenate([np.column_stack([flat, np.full(len(flat), z)]) for z in (0.0, height)])
    mesh = trimesh.convex.convex_hull(points)
    mesh.apply_translation(at)
    return mesh


def hull(points: Numbers) -> Trimesh:
    """The convex hull of points (K, 3)."""
    return trimesh.convex.convex_hull(np.asarray(points, float))


def tube(path: Numbers, radius: float | Numbers, sections: int = 10) -> Trimesh:
    """A round bar along a path (K, 3); `radius` in metres, one number or one a point. Ends closed."""
    path = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radius, float), (len(path),))
    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-12
    reference = np.eye(3)[np.abs(tangents).sum(0).argmin()]
    side = np.cross(tangents, reference)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-12
    other = np.cross(tangents, side)
    angles = np.linspace(0, 2 * np.pi, sections, endpoint=False)
    ring = np.cos(angles)[None, :, None] * side[:, None] + np.sin(angles)[None, :, None] * other[:, None]
    vertices = (path[:, None] + radii[:, None, None] * ring).reshape(-1, 3)
    vertices = np.concatenate([vertices, path[:1], path[-1:]])
    k, (i, j) = sections, np.meshgrid(np.arange(len(path) - 1), np.arange(sections), indexing="ij")
    a, b = (i * k + j).ravel(), (i * k + (j + 1) % k).ravel()
    sides = np.concatenate([np.stack([a, b, a + k], 1), np.stack([b, b + k, a + k], 1)])
    spokes, turned = np.arange(k), (np.arange(k) + 1) % k
    start, end, last = len(vertices) - 2, len(vertices) - 1, (len(path) - 1) * k
    caps = [
        np.stack([turned, spokes, np.full(k, start)], 1),
        np.stack([last + spokes, last + turned, np.full(k, end)], 1),
    ]
    return Trimesh(vertices, np.concatenate([sides, *caps]), process=False)


def arc(radius: Numbers, start: float, stop: float, count: int = 14) -> np.ndarray:
    """(count, 2) points of an ellipse of half-axes `radius` (2,), angles in radians."""
    angles = np.linspace(start, stop, count)
    return np.column_stack([radius[0] * np.cos(angles), radius[1] * np.sin(angles)])


def handle(
    outward: float, low: float, high: float, start: float, thickness: float, sections: int = 8, square: float = 1.0
) -> Trimesh:
    """A cup's handle: a bow in the x–z plane from height `low` to `high` at radius `start`, `outward` metres wide.

    `square` is 1 for a round bow and falls towards 0.3 for one with corners.
    """
    bow = arc((1, 1), -np.pi / 2, np.pi / 2, 16)
    bow = np.sign(bow) * np.abs(bow) ** square * [outward, (high - low) / 2]
    path = np.column_stack([start + bow[:, 0], np.zeros(len(bow)), (low + high) / 2 + bow[:, 1]])
    return tube(path, thickness / 2, sections)


def loop_handle(outward: float, half_width: float, thickness: float) -> Trimesh:
    """A level bow in the x–y plane, open towards −x: a pot's handle."""
    bow = arc((outward, half_width), -np.pi / 2, np.pi / 2, 12)
    return tube(np.column_stack([bow, np.zeros(len(bow))]), thickness / 2)


def loft(rings: np.ndarray) -> Trimesh:
    """A skin over closed rings (L, K, 3), from the lowest to the highest, with a fan over either end."""
    levels, k, _ = rings.shape
    i, j = (part.ravel() for part in np.meshgrid(np.arange(levels - 1) * k, np.arange(k), indexing="ij"))
    a, b = i + j, i + (j + 1) % k
    sides = [np.stack([a, b, a + k], 1), np.stack([b, b + k, a + k], 1)]
    start, end, last = levels * k, levels * k + 1, (levels - 1) * k
    spokes, others = np.arange(k), (np.arange(k) + 1) % k
    caps = [
        np.stack([others, spokes, np.full(k, start)], 1),
        np.stack([last + spokes, last + others, np.full(k, end)], 1),
    ]
    vertices = np.concatenate([rings.reshape(-1, 3), rings[:1].mean(1), rings[-1:].mean(1)])
    return Trimesh(vertices, np.concatenate([*sides, *caps]), process=False)


def outline(x: float, y: float, radius: float, corner: int = 6) -> np.ndarray:
    """(4 × corner, 2) points of a rectangle x by y metres whose corners are rounded by `radius`, anticlockwise."""
    radius = min(radius, x / 2, y / 2)
    angles = np.linspace(0, np.pi / 2, corner)
    parts = []
    for turn, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        bend = angles + turn * np.pi / 2
        middle = [sx * (x / 2 - radius), sy * (y / 2 - radius)]
        parts.append(middle + radius * np.column_stack([np.cos(bend), np.sin(bend)]))
    return np.concatenate(parts)


def stacked(polygon: np.ndarray, levels: Sequence[tuple[float, float]]) -> Trimesh:
    """A polygon (K, 2) pulled inwards by `inset` metres at each height of `levels` (inset, height)."""
    half = np.ptp(polygon, axis=0) / 2
    rings = [np.column_stack([polygon * (1 - inset / half), np.full(len(polygon), z)]) for inset, z in levels]
    return loft(np.array(rings))


def parcel(size: Numbers, swell: Numbers, worn: float) -> Trimesh:
    """A cardboard box of `size` (3,): x and y sides swollen by `swell` (2,) or sunk, edges cut by `worn`."""
    x, y, z = size
    s = np.linspace(0, 1, 6)
    bulge = np.sin(np.pi * s)
    rings = []
    middle = [(z * k, 0.0, float(np.sin(np.pi * k))) for k in s[1:-1]]
    for height, inset, share in [(0, worn, 0), (worn, 0, 0), *middle, (z - worn, 0, 0), (z, worn, 0)]:
        a, b = x / 2 - inset, y / 2 - inset
        along_x, along_y = (2 * s - 1) * (x / 2 - worn), (2 * s - 1) * (y / 2 - worn)
        out_x, out_y = a + swell[0] * share * bulge, b + swell[1] * share * bulge
        ring = [
            np.column_stack([along_x, -out_y]),
            np.column_stack([out_x, along_y]),
            np.column_stack([-along_x, out_y]),
            np.column_stack([-out_x, -along_y]),
        ]
        flat = np.concatenate(ring)
        rings.append(np.column_stack([flat, np.full(len(flat), height)]))
    return loft(np.array(rings))


def footed(outside: Sequence[tuple[float, float]], ring: float, rise: float) -> list[tuple[float, float]]:
    """A vessel's outside profile lifted by `rise` onto a foot ring of radius `ring`, hollow beneath."""
    thick = 0.004
    lifted = [(r, h + rise) for r, h in outside]
    return [(max(ring - 2 * thick, 0.002), rise), (ring - thick, 0.0), (ring, 0.0), (ring, rise * 0.9), *lifted]


def moved(mesh: Trimesh, by: Numbers) -> Trimesh:
    mesh = mesh.copy()
    mesh.apply_translation(by)
    return mesh


def turned(mesh: Trimesh, angle: float, axis: Numbers = (0, 0, 1), about: Numbers = (0, 0, 0)) -> Trimesh:
    """`angle` radians about `axis` through `about`."""
    mesh = mesh.copy()
    mesh.apply_transform(trimesh.transformations.rotation_matrix(angle, axis, about))
    return mesh


def merged(*meshes: Trimesh) -> Trimesh:
    return trimesh.util.concatenate(list(meshes))
