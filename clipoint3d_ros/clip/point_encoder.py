"""PointNet: a cloud as one vector, and as the alignment it was turned by (METHOD 2; Qi et al., "PointNet: Deep learning
on point sets for 3D classification and segmentation", CVPR 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_FEATURES = 64  # channels that the second alignment turns


class Alignment(nn.Module):
    """A square matrix for each cloud, predicted from its points; the identity before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.points = nn.Sequential(*_pointwise(channels, 64), *_pointwise(64, 128), *_pointwise(128, 1024))
        self.cloud = nn.Sequential(*_dense(1024, 512), *_dense(512, 256))
        self.matrix = nn.Linear(256, channels * channels)
        nn.init.zeros_(self.matrix.weight)
        nn.init.zeros_(self.matrix.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, N) → (B, channels, channels)."""
        flat = self.matrix(self.cloud(self.points(x).amax(2)))
        return flat.unflatten(1, (self.channels, self.channels)) + torch.eye(self.channels, device=x.device)


class PointNet(nn.Module):
    """Two alignment nets (3×3 and 64×64), 64-128-1024 features, their maximum over the points, then 1024→256→width."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.align_points = Alignment(3)
        self.first = nn.Sequential(*_pointwise(3, _FEATURES))
        self.align_features = Alignment(_FEATURES)
        self.points = nn.Sequential(*_pointwise(_FEATURES, 128), *_pointwise(128, 1024, rectified=False))
        self.cloud = nn.Sequential(*_dense(1024, 256), nn.Linear(256, width))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """One vector a cloud.

        Args:
            points: (B, N, 3) normalised into the unit sphere. In training mode B must be 2 or more: batch statistics
                of one cloud say nothing.

        Returns:
            features (B, width), and the feature alignment (B, 64, 64) that L_ortho keeps near a rotation.
        """
        x = points.transpose(1, 2)
        x = self.first(self.align_points(x) @ x)
        alignment = self.align_features(x)
        return self.cloud(self.points(alignment @ x).amax(2)), alignment


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Within this context the module's BatchNorm uses its running statistics and leaves them as they are.

    For target passes: a target's batch must not move what normalises every later cloud (METHOD 5).
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _pointwise(before: int, after: int, rectified: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv1d(before, after, 1, bias=False), nn.BatchNorm1d(after)]
    return [*layers, nn.ReLU()] if rectified else layers


def _dense(before: int, after: int) -> list[nn.Module]:
    return [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
