"""Orders: streams as sequences of rows of a pool, each from a seed alone.

How a robot's stream differs from shuffled test data: the same things for a while, then others; conditions that change
and come back; things it was never told of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipoint3d_ros.evaluation.streams.pools import Pool, is_wear
from clipoint3d_ros.geometry.corruption import KINDS


def shuffled(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Independent draws without replacement: the order of test data in papers."""
    return rng.permutation(rows)


def dirichlet(rows: np.ndarray, labels: np.ndarray, delta: float, rng: np.random.Generator) -> np.ndarray:
    """Temporally correlated classes: each class's objects are shared out over slots by a Dirichlet(δ) draw; within a
    slot the classes follow each other in random order.

    (Boudiaf et al., "Parameter-free online test-time adaptation", CVPR 2022; Yuan, Xie, Li, "Robust test-time
    adaptation in dynamic scenarios", CVPR 2023. As many slots as classes, as in the latter.)

    Args:
        rows: (n,). labels: (n,) of these rows.
        delta: above 0; the smaller, the longer the runs of one class.
    """
    if not delta > 0:
        raise ValueError(f"delta must be above 0, but is {delta}")
    classes = np.unique(labels)
    slots: list[list[np.ndarray]] = [[] for _ in classes]
    for label in classes:
        own = rng.permutation(rows[labels == label])
        shares = rng.dirichlet(np.full(len(slots), delta))
        cuts = np.round(np.cumsum(shares)[:-1] * len(own)).astype(int)
        for slot, part in zip(slots, np.split(own, cuts), strict=True):
            slot.append(part)
    return np.concatenate([slot[i] for slot in slots for i in rng.permutation(len(slot))])


def by_class(rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One class after another, in random order; shuffled within."""
    return np.concatenate([rng.permutation(rows[labels == label]) for label in rng.permutation(np.unique(labels))])


def by_scene(rows: np.ndarray, scenes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One scene after another, in random order; each scene's objects in their own."""
    return np.concatenate([rows[scenes == scene] for scene in rng.permutation(np.unique(scenes))])


def few_active(
    rows: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    most: int = 4,
    stretch: tuple[int, int] = (20, 60),
) -> np.ndarray:
    """One to `most` classes at a time, others after each stretch; as long as the rows are many.

    Every class is gone through in random order before any of its objects comes again.

    Args:
        stretch: (low, high) objects of a stretch.
    """
    queues = {int(label): _endless(rows[labels == label], rng) for label in np.unique(labels)}
    order: list[int] = []
    while len(order) < len(rows):
        active = rng.choice(list(queues), int(rng.integers(1, min(most, len(queues)) + 1)), replace=False)
        for label in rng.choice(active, int(rng.integers(stretch[0], stretch[1] + 1))):
            order.append(int(next(queues[int(label)])))
    return np.array(order[: len(rows)], np.int64)


def with_unknown(known: np.ndarray, unknown: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Known objects with `share` of the stream unknown, mixed at random; each at most once.

    Known ones are left out where there are too few unknown ones for the share.

    Raises:
        ValueError: a share that is not above 0 and below 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of unknown objects must lie between 0 and 1, but is {share}")
    count = min(len(known), round(len(unknown) * (1 - share) / share))
    strange = round(count * share / (1 - share))
    return rng.permutation(np.concatenate([rng.permutation(known)[:count], rng.permutation(unknown)[:strange]]))


def continual(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """Clean, then each kind of corruption with growing severity, the kinds in random order, then clean again.

    The clean objects after the corruptions are others than before.
    """
    clean = rng.permutation(pool.clean)
    each = max((len(pool.rows_of(v)) for v in pool.variants if v.kind and not is_wear(v)), default=0)
    half = min(2 * each, len(clean) // 2)
    parts = [clean[:half]]
    for kind in rng.permutation(KINDS):
        stages = sorted((v for v in pool.variants if v.kind == kind and not is_wear(v)), key=lambda v: v.severity)
        parts += [rng.permutation(pool.rows_of(variant)) for variant in stages]
    return np.concatenate([*parts, clean[half : 2 * half]])


def endless(
    pool: Pool, count: int, rng: np.random.Generator, stretch: tuple[int, int] = (150, 600), wear: float = 0.7
) -> np.ndarray:
    """A long run: stretches in which some classes are frequent and one light fault is there, then others; objects come
    again, mostly with other faults.

    Args:
        count: objects.
        stretch: (low, high) objects of a stretch.
        wear: share of a stretch's objects that show its fault.
    """
    faults = sorted({(v.kind, v.severity) for v in pool.variants if is_wear(v)})
    by_fault: dict[tuple[str, int], np.ndarray] = {
        fault: np.concatenate([pool.rows_of(v) for v in pool.variants if is_wear(v) and (v.kind, v.severity) == fault])
        for fault in faults
    }
    classes = np.unique(pool.labels[pool.clean])
    order: list[np.ndarray] = []
    while sum(map(len, order)) < count:
        frequent = np.zeros(int(classes.max()) + 1)
        frequent[classes] = rng.dirichlet(np.ones(len(classes)))
        length = int(rng.integers(stretch[0], stretch[1] + 1))
        worn = rng.random(length) < wear if faults else np.zeros(length, bool)
        part = _weighted(pool, pool.clean, frequent, length, rng)
        if faults:
            fault = by_fault[faults[int(rng.integers(len(faults)))]]
            part = np.where(worn, _weighted(pool, fault, frequent, length, rng), part)
        order.append(part)
    return np.concatenate(order)[:count]


def _weighted(pool: Pool, rows: np.ndarray, frequent: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) of the rows with replacement, as often as their classes are frequent (C,)."""
    odds = frequent[pool.labels[rows]] + 1e-9
    return rng.choice(rows, count, p=odds / odds.sum())


def _endless(rows: np.ndarray, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """The rows again and again, each time in another order."""
    while True:
        yield from rng.permutation(rows)


def stretches(values: Sequence[int] | np.ndarray) -> int:
    """How often a sequence changes its value, plus one; 0 for an empty one."""
    array = np.asarray(values)
    return 0 if not len(array) else int((np.diff(array) != 0).sum()) + 1
