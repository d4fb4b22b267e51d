"""Objects as depth views: what the first stage gives the second."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """Objects as the tower sees them.

    images: (B, K, H, W) float32 depth views in [0, 1], 1 background.
    chosen: (B, K) int64, which of the ten views each image is.
    weights: (B, K) float32, how much each view counts; rows sum to 1, a weight of 0 leaves the view out.
    points: (B, N, 3) float32, normalised, y up: what the point encoder sees.
    extents: (B, 3) float32 metres: height, length and width of what was seen; NaN where the unit is not known.
    usable: (B,) bool; False where the cloud had too few finite points to be judged.
    facing: the weights come from where the sensor stood, rather than being even.
    """

    images: Tensor
    chosen: Tensor
    weights: Tensor
    points: Tensor
    extents: Tensor
    usable: Tensor
    facing: bool

    def without_sizes(self) -> Projection:
        """The same, of objects whose unit is not known to be the metre."""
        return replace(self, extents=torch.full_like(self.extents, torch.nan))
