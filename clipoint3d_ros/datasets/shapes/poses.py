"""Resting poses: which facet of an object's convex hull carries it on a flat table.

A rigid object rests on a facet of its convex hull if its centre of mass stands above that facet (the quasi-static
poses of Wiegley, Rao and Goldberg, 1992). The mass is taken as that of the hull: thin walls and handles weigh little.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull
from trimesh import Trimesh

SIDE = 0.5  # a side facet's normal has a vertical part below this: at most 30 degrees from the horizontal
SAME_PLANE = 1e-3  # normals that differ by less are one facet (about 0.06 degrees)


def stable_facets(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The facets of the convex hull of `vertices` (N, 3) on which it rests.

    Returns:
        Outward unit normals (K, 3) and areas (K,), square metres; K >= 1.
    """
    hull = ConvexHull(vertices)
    corners = vertices[hull.simplices]
    normals, offsets = hull.equations[:, :3], hull.equations[:, 3]
    inside = vertices[hull.vertices].mean(0)
    edges = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    volumes = -areas * (normals @ inside + offsets) / 3
    mass = ((corners.sum(1) + inside) / 4 * volumes[:, None]).sum(0) / volumes.sum()

    below = mass - (normals @ mass + offsets)[:, None] * normals
    sides = [
        np.einsum("ij,ij->i", np.cross(corners[:, (i + 1) % 3] - corners[:, i], below - corners[:, i]), normals)
        for i in range(3)
    ]
    # Qhull turns its triangles either way round: the foot is inside if all three signs agree.
    slack = 1e-9 * float(np.ptp(vertices, axis=0).max()) ** 2
    carries = (np.min(sides, axis=0) > -slack) | (np.max(sides, axis=0) < slack)
    carries &= areas > slack
    if not carries.any():  # the facet nearest to the centre of mass always carries, up to rounding
        carries[np.argmax(np.where(areas > slack, normals @ mass + offsets, -np.inf))] = True
    planes, member = np.unique(np.round(normals / SAME_PLANE), axis=0, return_inverse=True)
    whole = np.bincount(member.ravel(), areas, len(planes))
    found, first = np.unique(member.ravel()[carries], return_index=True)
    return normals[carries][first], whole[found]


def settled(mesh: Trimesh) -> Trimesh:
    """The mesh turned by the smallest angle that rests it on a facet: a standing object that would fall, falls."""
    normals, _ = stable_facets(mesh.vertices)
    return _onto_ground(mesh, normals[normals[:, 2].argmin()])


def laid(mesh: Trimesh, rng: np.random.Generator) -> Trimesh:
    """A standing mesh laid on one of its sides, drawn in proportion to the area it rests on.

    A cereal box lies more often on its front than on its narrow side; a mug lies on wall and handle.
    """
    normals, areas = stable_facets(mesh.vertices)
    upright = np.abs(normals[:, 2])
    weights = np.where(upright <= max(SIDE, float(upright.min())), areas, 0)
    return _onto_ground(mesh, normals[rng.choice(len(normals), p=weights / weights.sum())])


def inverted(mesh: Trimesh) -> Trimesh:
    """A standing mesh turned upside down, resting on the facet nearest to its rim."""
    turned = mesh.copy()
    turned.vertices = turned.vertices * [1, -1, -1]
    return settled(turned)


def _onto_ground(mesh: Trimesh, normal: np.ndarray) -> Trimesh:
    """The smallest turn that brings the unit vector `normal` (3,) to point straight down."""
    mesh = mesh.copy()
    across = np.cross(normal, [0.0, 0.0, -1.0])
    cosine, sine = -float(normal[2]), float(np.linalg.norm(across))
    if sine < 1e-9:
        if cosine < 0:
            mesh.vertices = mesh.vertices * [1, -1, -1]
        return mesh
    x, y, z = across / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + sine * skew + (1 - cosine) * skew @ skew
    mesh.vertices = mesh.vertices @ rotation.T
    return mesh
