"""The part of a cloud that is looked at: real measurements within a sensor's trusted range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CropConfig:
    """Metres from the sensor."""

    min_range: float = 0.2
    max_range: float = 2.5


def crop(points: np.ndarray, viewpoint: np.ndarray, config: CropConfig = CropConfig()) -> np.ndarray:
    """(N,) bool: which points (N, 3) are finite and within range of the viewpoint (3,)."""
    away = points - viewpoint.astype(points.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        square = np.einsum("ij,ij->i", away, away)
        return (square >= config.min_range**2) & (square <= config.max_range**2)  # false for NaN and Inf
