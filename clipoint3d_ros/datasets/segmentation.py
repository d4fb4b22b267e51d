"""What segmenters do wrong with one object: bleed into what is beside it, miss a part, break it in two, eat its rim.

Masks in, masks out, over an organised cloud of any sensor, so that training sees the segments that nodes get.
"""

from __future__ import annotations

import numpy as np

SECOND_FAULT = 0.15  # chance of a second fault after the first
KEPT = 0.4  # share of an object's points that two faults together leave at least
REACH = 4  # pixels by which a segment bleeds at most
DEPTH_MARGIN = 0.03  # metres beyond the object's own depths within which a segmenter takes a point as touching it
_TRIES = 8  # faults drawn before a tiny or lonely object is left whole


def faulty(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One object's segment as a poor segmenter gives it: one fault, seldom two.

    Args:
        mask: (H, W) bool, the object's own points, all finite.
        points: (H, W, 3) metres in the sensor's frame (x right, y down, z forward), NaN where nothing came back.
        rng: draws the fault.

    Returns:
        (H, W) bool, a new mask: only finite points, at least 40 % of the object's own kept. It equals `mask` where no
        fault is possible, as with a lone point.
    """
    found = mask
    wanted = 1 + (rng.random() < SECOND_FAULT)
    for _ in range(_TRIES):
        fault = _FAULTS[int(rng.choice(len(_FAULTS), p=_CHANCES))]
        changed = fault(found, points, rng)
        if (changed & mask).sum() < KEPT * mask.sum() or (changed == found).all():
            continue
        found, wanted = changed, wanted - 1
        if wanted == 0:
            break
    return found.copy()


def bleed(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grow by 1–4 pixels, mostly towards one side, over finite points whose distance is that of the object ± 3 cm:
    neighbours it touches and the table it stands on."""
    own = np.linalg.norm(points[mask], axis=-1)
    rows, columns = _box(mask, REACH)
    distance = np.linalg.norm(points[rows, columns], axis=-1)
    with np.errstate(invalid="ignore"):
        near = (distance >= own.min() - DEPTH_MARGIN) & (distance <= own.max() + DEPTH_MARGIN)
    reach = int(rng.integers(1, REACH + 1))
    angle = rng.uniform(0, 2 * np.pi)
    inner = np.pad(mask[rows, columns], reach)
    grown = mask[rows, columns].copy()
    height, width = grown.shape
    for dv in range(-reach, reach + 1):
        for du in range(-reach, reach + 1):
            length = np.hypot(dv, du)
            if 0 < length <= reach and dv * np.sin(angle) + du * np.cos(angle) > 0.3 * length:
                grown |= inner[reach - dv : reach - dv + height, reach - du : reach - du + width]
    found = mask.copy()
    found[rows, columns] |= grown & near
    return found


def miss_part(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose a tenth to a third: what lies beyond a random plane, or around a random point of the object."""
    own = points[mask]
    if rng.random() < 0.5:
        return _keep_lowest(mask, own @ rng.normal(size=3), 1 - rng.uniform(0.1, 0.33))
    centre = own[int(rng.integers(len(own)))]
    return _keep_lowest(mask, -np.linalg.norm(own - centre, axis=1), 1 - rng.uniform(0.1, 0.33))


def split(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep one side of a random plane only, 45–80 % of the points: the other side has become another segment."""
    return _keep_lowest(mask, points[mask] @ rng.normal(size=3), rng.uniform(0.45, 0.8))


def erode(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose a rim of one or two pixels, as segmenters do that give doubtful edges to nobody."""
    del points
    rows, columns = _box(mask, 1)
    inner = mask[rows, columns].copy()
    for _ in range(int(rng.integers(1, 3))):
        padded = np.pad(inner, 1)
        inner &= padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    found = mask.copy()
    found[rows, columns] = inner
    return found


_FAULTS = (bleed, miss_part, split, erode)
_CHANCES = (0.4, 0.25, 0.15, 0.2)


def _keep_lowest(mask: np.ndarray, height: np.ndarray, share: float) -> np.ndarray:
    """The mask of the `share` of its points that have the lowest `height` (N,)."""
    keep = np.zeros(len(height), bool)
    keep[np.argsort(height, kind="stable")[: max(round(share * len(height)), 1)]] = True
    found = mask.copy()
    found[mask] = keep
    return found


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the mask's bounding box, grown by a margin inside the image."""
    v, u = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return slice(max(v[0] - margin, 0), v[-1] + margin + 1), slice(max(u[0] - margin, 0), u[-1] + margin + 1)
