"""Objects that stand still: what the tower said of them last time holds, until they, the sensor or the model move.

What is kept are the views' features, not the answer: classes may change, statistics may learn, and the decision is
made anew every frame; only the tower, which is nearly all of the work, is spared.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipoint3d_ros.recognition.tracks import Clock


@dataclass(frozen=True)
class StillConfig:
    """How little an object may change to count as the one that was looked at."""

    max_move: float = 0.01  # metres, of its centre, against where it was looked at
    max_growth: float = 0.10  # share, of its extents and of its number of points
    max_turn: float = 5.0  # degrees, of the direction in which the sensor sees it
    max_age_s: float = 2.0  # seconds, then it is looked at again in any case

    def __post_init__(self) -> None:
        if not (self.max_move > 0 and self.max_growth > 0 and self.max_turn > 0 and self.max_age_s > 0):
            raise ValueError(f"all limits of what stands still must be above 0, but they are {self}")


@dataclass(frozen=True)
class _Look:
    """At one object: centre, sizes (3,) and direction to the sensor (3,), points, stamp, the (V, D) features by view
    and which views (V,) counted."""

    centre: np.ndarray
    size: np.ndarray
    towards: np.ndarray
    points: int
    stamp_s: float
    features: Tensor
    counted: Tensor


class StillObjects:
    """The features of tracks, by the model that made them.

    One thread at a time recalls and remembers; `clear` may come from any.
    """

    def __init__(self, config: StillConfig | None = None) -> None:
        self.config = config or StillConfig()
        self._lock = threading.Lock()
        self._looks: dict[int, _Look] = {}
        self._model: object = None
        self._clock = Clock()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._looks, self._model, self._clock = {}, None, Clock()

    def recall(
        self,
        stamp_s: float,
        tracks: Sequence[int],
        clouds: Sequence[np.ndarray],
        viewpoint: np.ndarray | None,
        chosen: Tensor,
        weights: Tensor,
        model: object,
    ) -> Tensor | None:
        """What `Classifier.encode` takes as known.

        Args:
            stamp_s: of the frame. One more than a second before the newest forgets all.
            tracks: B numbers of `Tracker.update`.
            clouds: B arrays (N, 3) metres, in a frame that stands still.
            viewpoint: (3,) metres in that frame, or None.
            chosen, weights: (B, K) of the projection.
            model: `Classifier.looks_by`, whose features they are; another one's are forgotten.

        Returns:
            (B, K, D) features of the objects that stand still, zeros for others; None where there are none.
        """
        with self._lock:
            if self._clock.jumped_back(stamp_s) or model != self._model:
                self._looks, self._model = {}, model
            found = [self._looks.get(track) for track in tracks]
        known: Tensor | None = None
        for row, (look, cloud) in enumerate(zip(found, clouds, strict=True)):
            if look is None or not self._still(look, stamp_s, cloud, viewpoint):
                continue
            if not torch.equal(_counted(chosen[row], weights[row]), look.counted):
                continue  # other views count now
            if known is None:
                known = look.features.new_zeros(*chosen.shape, look.features.shape[1])
            known[row] = look.features[chosen[row]]
        return known

    def remember(
        self,
        stamp_s: float,
        tracks: Sequence[int],
        clouds: Sequence[np.ndarray],
        viewpoint: np.ndarray | None,
        chosen: Tensor,
        weights: Tensor,
        features: Tensor,
        known: Tensor | None,
    ) -> None:
        """Keep what was looked at in this frame, and forget what has not been met for `max_age_s`.

        Args:
            stamp_s, tracks, clouds, viewpoint, chosen, weights: as `recall` was given.
            features: (B, K, D) that `Classifier.encode` gave.
            known: what `recall` gave; objects in it keep the look they had.
        """
        fresh = {}
        for row, (track, cloud) in enumerate(zip(tracks, clouds, strict=True)):
            if not len(cloud) or (known is not None and bool(known[row].any())):
                continue
            by_view = features.new_zeros(10, features.shape[2]).index_copy_(0, chosen[row], features[row])
            counted = _counted(chosen[row], weights[row])
            centre, size, towards = _pose(cloud, viewpoint)
            fresh[track] = _Look(centre, size, towards, len(cloud), stamp_s, by_view, counted)
        with self._lock:
            kept = {t: look for t, look in self._looks.items() if stamp_s - look.stamp_s <= self.config.max_age_s}
            self._looks = kept | fresh

    def _still(self, look: _Look, stamp_s: float, cloud: np.ndarray, viewpoint: np.ndarray | None) -> bool:
        limits = self.config
        if stamp_s - look.stamp_s > limits.max_age_s or not len(cloud):
            return False
        centre, size, towards = _pose(cloud, viewpoint)
        moved = float(np.linalg.norm(centre - look.centre))
        grown = float((np.abs(size - look.size) / np.maximum(look.size, 1e-3)).max())
        more = abs(len(cloud) - look.points) / look.points
        turned = np.degrees(np.arccos(np.clip(towards @ look.towards, -1, 1))) if towards.any() else 0.0
        # Written so that a NaN counts as a change.
        return (
            moved <= limits.max_move
            and grown <= limits.max_growth
            and more <= limits.max_growth
            and bool(turned <= limits.max_turn)
            and towards.any() == look.towards.any()
        )


def _counted(chosen: Tensor, weights: Tensor) -> Tensor:
    """(V,) bool: which of the ten views have a weight, from an object's (K,) views and weights."""
    return torch.zeros(10, dtype=torch.bool, device=chosen.device).index_fill_(0, chosen[weights > 0], True)


def _pose(cloud: np.ndarray, viewpoint: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, extents and unit direction to the sensor, (3,) each; zeros where the sensor's place is not known."""
    centre = cloud.mean(0, dtype=np.float64)
    size = np.ptp(cloud, axis=0).astype(np.float64)
    if viewpoint is None:
        return centre, size, np.zeros(3)
    away = np.asarray(viewpoint, dtype=np.float64) - centre
    return centre, size, away / max(float(np.linalg.norm(away)), 1e-9)
