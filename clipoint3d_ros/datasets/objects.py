"""Segmented objects of one domain: what is learned from, adapted to, or scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

NO_LABEL = -1


class LacksClasses(ValueError):
    """A source has too few objects of some classes to learn from and be judged by; the message names one."""


@dataclass(frozen=True)
class Objects:
    """M objects of one domain.

    domain: what a user calls it ("procedural", "mosd learn*", "modelnet train").
    classes: C names, in the order that labels index.
    clouds: M arrays (N, 3) float32, finite, N ≥ 1.
    labels: (M,) int64 into `classes`, `NO_LABEL` where none is known or the object is of none of them.
    scenes: (M,) int64, which scene or file an object comes from; objects of one scene are not independent.
    up: (3,) direction against gravity in the clouds' frame.
    viewpoints: (M, 3) float32, where the sensor stood in the clouds' frame; None where clouds are complete.
    metric: whether the clouds' unit is the metre, so that sizes mean something.
    """

    domain: str
    classes: tuple[str, ...]
    clouds: tuple[np.ndarray, ...]
    labels: np.ndarray
    scenes: np.ndarray
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    viewpoints: np.ndarray | None = None
    metric: bool = True

    def __len__(self) -> int:
        return len(self.clouds)

    def take(self, rows: Sequence[int] | np.ndarray) -> Objects:
        """The objects of some rows (K,) int64 or a (M,) bool mask, in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        eyes = None if self.viewpoints is None else self.viewpoints[rows]
        return replace(
            self,
            clouds=tuple(self.clouds[i] for i in rows),
            labels=self.labels[rows],
            scenes=self.scenes[rows],
            viewpoints=eyes,
        )

    def unlabelled(self) -> Objects:
        """The same objects without what they are: all that adaptation may see of a target."""
        return replace(self, labels=np.full(len(self), NO_LABEL, np.int64))

    def labelled(self) -> Objects:
        """Those that have a label."""
        return self.take(self.labels != NO_LABEL)

    def relabelled(self, classes: Sequence[str]) -> Objects:
        """The same objects against another list of classes, matched by name; those of none get `NO_LABEL`."""
        index = {name: i for i, name in enumerate(classes)}
        table = np.array([index.get(name, NO_LABEL) for name in self.classes] + [NO_LABEL], np.int64)
        return replace(self, classes=tuple(classes), labels=table[self.labels])


def few_shot(
    objects: Objects, shots: int | Sequence[int] | np.ndarray, rng: np.random.Generator
) -> tuple[Objects, Objects]:
    """`shots` labelled objects of each class, or so many of each as it lists, drawn at random, and the labelled rest.

    Raises:
        ValueError: fewer than 1 shot, or a class of which there is no object.
    """
    limits = np.broadcast_to(shots, len(objects.classes))
    if limits.min(initial=1) < 1:
        raise ValueError(f"shots must be at least 1, but is {shots}")
    counts = {name: int((objects.labels == i).sum()) for i, name in enumerate(objects.classes)}
    bare = [name for name, count in counts.items() if count == 0]
    if bare:
        raise ValueError(
            f"{objects.domain} has no object of {', '.join(bare)}; a source needs some of every class: "
            "leave these out of --classes, or add objects of them"
        )
    chosen = [rng.permutation(np.flatnonzero(objects.labels == i))[:limit] for i, limit in enumerate(limits)]
    rows = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.flatnonzero(objects.labels != NO_LABEL), rows)
    return objects.take(rows), objects.take(rest)
