"""One object as it was seen and recognised: what is learned from, and by what it is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_OVERHEAD = 512  # bytes of a sighting beside its arrays and id


@dataclass(frozen=True, eq=False)
class Sighting:
    """One object as it was seen and recognised once. It owns its arrays: a row of a message would keep the whole.

    stamp_s: of the cloud, in seconds.
    track: the object's number by the tracker; negative for a restored one, which is of no living track.
    id: as the segmenter published it, or "".
    label: the predicted class, in [0, C); −1 for an object that was answered as none of them, which no memory takes.
    feature: (D,) float32, in CLIP's embedding, by the network that is learned from.
    logits: (C,) float32 by the frozen model's words, at temperature 1; by that network's until the former is asked.
    entropy: of the answer that was served, in nats.
    agreement: share of the views that agree, in [0, 1].
    familiarity: how likely the object is of any of the classes, in [0, 1].
    points: of the segment.
    cloud: (P, 3) float32 metres, levelled with y up, mean at the origin; None where it was not kept.
    elevation: of the sensor above the object, in radians.
    distance: from the sensor to the object in metres; 0 where unknown.
    frozen: whether the logits are the frozen model's.

    Raises:
        ValueError: shapes, a label or shares outside these. Numbers that are not finite are let through, for the gate.
    """

    stamp_s: float
    track: int
    id: str
    label: int
    feature: np.ndarray
    logits: np.ndarray
    entropy: float
    agreement: float
    familiarity: float
    points: int
    cloud: np.ndarray | None = None
    elevation: float = 0.0
    distance: float = 0.0
    frozen: bool = True

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # what overflows is infinite, and the gate refuses that
            for name in ("feature", "logits"):
                object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float32))
            if self.cloud is not None:
                object.__setattr__(self, "cloud", np.array(self.cloud, dtype=np.float32))
        for name in ("feature", "logits"):
            if getattr(self, name).ndim != 1 or not getattr(self, name).size:
                raise ValueError(f"a sighting's {name} has shape {getattr(self, name).shape}; it must be one row")
        if self.cloud is not None and (self.cloud.ndim != 2 or self.cloud.shape[1] != 3 or not self.cloud.size):
            raise ValueError(f"a sighting's cloud has shape {self.cloud.shape}; it must be (P, 3), or None without one")
        if not -1 <= self.label < len(self.logits):
            raise ValueError(f"a sighting's label is {self.label}, but it has logits of {len(self.logits)} classes")
        for name in ("agreement", "familiarity"):
            if getattr(self, name) < -1e-6 or getattr(self, name) > 1 + 1e-6:
                raise ValueError(f"a sighting's {name} is {getattr(self, name)}; it is a share and lies in [0, 1]")
        if self.points < 0:
            raise ValueError(f"a sighting has {self.points} points; it must have 0 or more")

    @property
    def nbytes(self) -> int:
        """What it takes in memory, about."""
        cloud = 0 if self.cloud is None else self.cloud.nbytes
        return self.feature.nbytes + self.logits.nbytes + cloud + len(self.id) + _OVERHEAD

    @property
    def finite(self) -> bool:
        """Whether all its numbers are finite."""
        numbers = (self.stamp_s, self.entropy, self.agreement, self.familiarity, self.elevation, self.distance)
        arrays = (self.feature, self.logits) if self.cloud is None else (self.feature, self.logits, self.cloud)
        return all(map(math.isfinite, numbers)) and all(bool(np.isfinite(array).all()) for array in arrays)

    @property
    def widths(self) -> tuple[int, int]:
        """(D, C), the same for all that a memory holds."""
        return len(self.feature), len(self.logits)
