"""Objects among the points that a plane carries: Euclidean clusters, cut where their surface folds inwards.

Points go into voxels; voxels nearer than a gap are neighbours, and what hangs together is a cluster (Rusu, "Semantic 3D
object maps for everyday manipulation", 2009). Things that touch hang together too, but their surfaces meet in a fold:
objects are mostly convex, and what lies between two of them is not (Stein et al., "Object partitioning using local
convexity", CVPR 2014). The fold is found as a difference of two scales: there, the mean of a wide neighbourhood lies in
front of the surface that a narrow one shows. Voxels of a fold join nothing; they go to the nearest part afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from clipoint3d_ros.geometry.segmentation.voxels import voxelise


@dataclass(frozen=True)
class ClusterConfig:
    """How points hang together, and how large an object is."""

    voxel: float = 0.007  # metres
    gap: float = 0.013  # metres between voxels of one object
    fold_steps: int = 4  # from neighbour to neighbour: the surroundings that tell whether a surface folds
    fold: float = 0.13  # of their spread by which they lie in front of a fold; 0: touching things are one
    min_part: float = 0.055  # metres across; smaller pieces between folds go to what they touch
    min_points: int = 100  # of an object
    max_points: int = 200000  # of an object
    min_size: float = 0.02  # metres, an object's largest extent along an axis at least
    max_size: float = 0.6  # metres, at most


def cluster(points: np.ndarray, viewpoint: np.ndarray, config: ClusterConfig = ClusterConfig()) -> np.ndarray:
    """(N,) the object of each point: 0, 1, … from the largest on, −1 for none."""
    if len(points) < config.min_points:
        return np.full(len(points), -1)
    voxels = voxelise(points, config.voxel)
    centres = voxels.centres.astype(np.float64)
    near = neighbour_pairs(centres, config.gap)
    if not config.fold:
        part = _parts(near, np.ones(len(centres), bool))
    else:
        folds = concavity(centres, near, viewpoint, config.fold_steps) > config.fold
        folds = _with_rim(folds, near)
        part = _cut(centres, near, folds, config)
    return _sized(centres, voxels.counts, part, config)[voxels.cell]


def concavity(centres: np.ndarray, pairs: np.ndarray, viewpoint: np.ndarray, steps: int) -> np.ndarray:
    """(M,) how far the surroundings of each point lie in front of it, as a share of their spread.

    (m_wide − m_narrow) · n / s: m_narrow is the mean of a point and its neighbours, m_wide what remains after `steps`
    such means on means, s the surroundings' standard deviation and n their normal towards the sensor. About 0 on a
    plane or at the edge of one, above 0 in a fold, below on a ridge.

    Args:
        centres: (M, 3) metres. pairs: (P, 2) neighbours. viewpoint: (3,). steps: 2 and up.
    """
    average = _averages(len(centres), pairs)
    middle = centres.mean(0)
    places = centres - middle  # squares of small numbers lose nothing
    first, second = np.triu_indices(3)
    narrow = average @ np.concatenate([places, places[:, first] * places[:, second]], 1)
    wide = narrow
    for _ in range(steps - 1):
        wide = average @ wide
    mean = wide[:, :3]
    normal, spread = _normals(wide[:, 3:] - mean[:, first] * mean[:, second])
    normal *= np.where(np.einsum("ij,ij->i", normal, viewpoint - centres) < 0, -1.0, 1.0)[:, None]
    return np.einsum("ij,ij->i", mean - narrow[:, :3], normal) / spread


def _normals(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of covariances (M, 6), as xx xy xz yy yz zz: the direction (M, 3) of the least, the largest deviation (M,).

    Eigenvalues in closed form (Smith, "Eigenvalues of a symmetric 3 × 3 matrix", CACM 1961), several times as quick as
    LAPACK on many small matrices; the eigenvector is the longest cross product of two rows of A − λI.
    """
    xx, xy, xz, yy, yz, zz = covariance.T
    mean = (xx + yy + zz) / 3
    a, b, c = xx - mean, yy - mean, zz - mean
    scale = np.sqrt(np.maximum((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6, 1e-30))
    determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    angle = np.arccos(np.clip(determinant / (2 * scale**3), -1, 1)) / 3
    largest = mean + 2 * scale * np.cos(angle)
    least = mean + 2 * scale * np.cos(angle + 2 * np.pi / 3)
    rows = np.stack(
        [np.stack([xx - least, xy, xz], 1), np.stack([xy, yy - least, yz], 1), np.stack([xz, yz, zz - least], 1)]
    )
    across = np.stack([_cross(rows[0], rows[1]), _cross(rows[1], rows[2]), _cross(rows[2], rows[0])])
    length = np.sqrt(np.einsum("kij,kij->ki", across, across))
    longest, every = length.argmax(0), np.arange(len(mean))
    normal = across[longest, every] / np.maximum(length[longest, every], 1e-30)[:, None]
    return normal, np.sqrt(np.maximum(largest, 1e-12))


def _cross(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Row by row, (M, 3)."""
    x, y, z = p.T
    u, v, w = q.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], 1)


def neighbour_pairs(centres: np.ndarray, radius: float) -> np.ndarray:
    """(P, 2) voxels nearer to each other than a radius."""
    return cKDTree(centres, balanced_tree=False, compact_nodes=False).query_pairs(radius, output_type="ndarray")


def _averages(count: int, pairs: np.ndarray) -> csr_matrix:
    """(M, M) weights that average over each voxel and its neighbours."""
    own = np.arange(count)
    rows, columns = np.concatenate([own, *pairs.T]), np.concatenate([own, *pairs.T[::-1]])
    degree = np.bincount(rows, minlength=count)
    # Numbers of 16 bits are sorted without comparing.
    order = np.argsort(rows.astype(np.uint16) if count < 2**16 else rows, kind="stable")
    starts = np.append(0, np.cumsum(degree))
    return csr_matrix((np.repeat(1.0 / degree, degree), columns[order], starts), (count, count))


def _with_rim(folds: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Folds (M,) and their neighbours: at its ends a fold is seen from one side only, and parts would leak past it."""
    i, j = pairs.T
    rim = folds.copy()
    rim[i[folds[j]]] = True
    rim[j[folds[i]]] = True
    return rim


def _parts(pairs: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(M,) the connected part of each kept voxel, −1 for the others."""
    among = pairs[kept[pairs].all(1)]
    graph = csr_matrix((np.ones(len(among), bool), among.T), (len(kept), len(kept)))
    part = connected_components(graph, directed=False)[1]
    return np.where(kept, part, -1)


def _cut(centres: np.ndarray, pairs: np.ndarray, folds: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """Parts between folds; small pieces and the folds themselves go to the nearest part of the same cluster."""
    part = _parts(pairs, ~folds)
    part[(part >= 0) & (_extents(centres, part) < config.min_part)] = -1
    either_way = np.concatenate([pairs, pairs[:, ::-1]])
    waiting = either_way[part[either_way[:, 0]] < 0]
    while len(waiting):  # from voxel to voxel, as far as they hang together
        i, j = waiting[part[waiting[:, 1]] >= 0].T
        if not len(i):
            break
        away = np.linalg.norm(centres[i] - centres[j], axis=1)
        order = np.lexsort((j, away, i))
        first = order[np.append(True, i[order][1:] != i[order][:-1])]
        part[i[first]] = part[j[first]]
        waiting = waiting[part[waiting[:, 0]] < 0]
    alone = part < 0  # a cluster of small pieces only stays one
    if alone.any():
        part[alone] = part.max() + 1 + _parts(pairs, alone)[alone]
    return part


def _extents(centres: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(M,) the largest extent along an axis of each voxel's part, metres."""
    count = int(part.max(initial=-1)) + 1
    low, high = np.full((count + 1, 3), np.inf), np.full((count + 1, 3), -np.inf)
    np.minimum.at(low, part, centres)
    np.maximum.at(high, part, centres)
    return (high - low).max(1)[part]


def _sized(centres: np.ndarray, held: np.ndarray, part: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """(M,) parts of an object's size, numbered from the largest on; −1 for voxels of the others.

    centres: (M, 3) of the voxels. held: (M,) points in each. part: (M,) as `_cut` gives it.
    """
    counts = np.bincount(part, held).astype(np.intp)
    largest = np.zeros(len(counts))
    largest[part] = _extents(centres, part)
    fits = (counts >= config.min_points) & (counts <= config.max_points)
    fits &= (largest >= config.min_size) & (largest <= config.max_size)
    ranked = np.flatnonzero(fits)
    ranked = ranked[np.argsort(-counts[ranked], kind="stable")]
    number = np.full(len(counts), -1)
    number[ranked] = np.arange(len(ranked))
    return number[part]
