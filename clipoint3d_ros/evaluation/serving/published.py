"""The published inference, written plainly from METHOD 1.3–1.5 and 4: what the engine's speed is measured against.

One object at a time, everything in fp32: the projection with its eight layers, three equal channels, all ten views,
all patches, the classes' sentences encoded again for every object, entropy-guided view selection. The point encoder
and the prompts are left out, so the engine is compared with less than the published work.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.geometry.clouds import finite_points, level, normalise, resample
from clipoint3d_ros.geometry.views import view_rotations

RESOLUTION, DEPTH = 112, 8


class PublishedInference:
    """A backbone and classes, used as the paper's released code uses them.

    Args:
        backbone: whose weights, tokenizer and preprocessing are used; a tower of open_clip's own, without a size token.
        descriptions: the classes.
        points: of each cloud after resampling.
        sentences: of each class that are encoded for every object; the published prompt is one. None takes all, which
            gives the engine's answers.

    Raises:
        ValueError: a tower that was trained with a size token or without empty patches, which the method knows not.
    """

    def __init__(
        self, backbone: Backbone, descriptions: Descriptions, points: int = 1024, sentences: int | None = 1
    ) -> None:
        if hasattr(backbone.visual, "size_token") or backbone.preprocessing.drop_empty:
            raise ValueError(
                f"backbone '{backbone.name}' has a size token or leaves empty patches out, and the published inference "
                "knows neither; measure the baseline with a plain ViT, such as ViT-B-16"
            )
        self.backbone, self.points = backbone, points
        self._prompts = [descriptions.prompts(index)[:sentences] for index in range(len(descriptions.names))]

    @torch.inference_mode()
    def __call__(self, cloud: np.ndarray, up: tuple[float, float, float] = (0, 0, 1)) -> np.ndarray:
        """(N, 3) metres → (C,) float64 probabilities."""
        points = (finite_points(cloud) @ level(up).T).astype(np.float32)
        views = depth_views(normalise(resample([points], self.points, device=self.backbone.device))[0])
        model, look = self.backbone.model, self.backbone.preprocessing
        images = F.interpolate(views[:, None], (look.size, look.size), mode="bilinear", align_corners=True)
        mean, std = (torch.tensor(v, device=views.device)[:, None, None] for v in (look.mean, look.std))
        features = F.normalize(model.encode_image((images.expand(-1, 3, -1, -1) - mean) / std), dim=-1)
        logits = self.backbone.scale * features @ self._text(model).T
        return _mean_of_certain(logits).softmax(-1).double().cpu().numpy()

    def _text(self, model: CLIP) -> Tensor:
        """(C, D) unit class features: the mean over a class's sentences."""
        rows = []
        for sentences in self._prompts:
            tokens = self.backbone.tokenizer(sentences).to(self.backbone.device)
            rows.append(F.normalize(model.encode_text(tokens), dim=-1).mean(0))
        return F.normalize(torch.stack(rows), dim=-1)


def depth_views(points: Tensor) -> Tensor:
    """(N, 3) normalised, y up → (10, 110, 110) depth views in [0, 1], 1 background (METHOD 1.3–1.5, line by line)."""
    rotations = torch.from_numpy(view_rotations()).float().to(points.device)
    # In plain sums, not by a matrix product: another order rounds points into other cells.
    turned = torch.stack([points[None, :, None, k] * rotations[:, None, :, k] for k in range(3)]).sum(0)
    low, high = turned.amin(1, keepdim=True), turned.amax(1, keepdim=True)
    turned = (turned - (low + high) / 2) / (high - low).amax(-1, keepdim=True).clamp_min(1e-9) * 2
    x, y, z = turned[..., 0] * 0.8, turned[..., 1] * 0.8, turned[..., 2]
    ix = ((x + 1) / 2 * RESOLUTION).ceil().clamp(1, RESOLUTION - 2).long()
    iy = ((y + 1) / 2 * RESOLUTION).ceil().clamp(1, RESOLUTION - 2).long()
    z = ((z + 1) / 2 + 0.2) / 1.2 * (DEPTH - 2)
    grid = torch.zeros(len(turned), DEPTH * RESOLUTION**2, device=points.device)
    cell = (z.ceil().clamp(0, DEPTH - 1).long() * RESOLUTION + iy) * RESOLUTION + ix
    grid.scatter_reduce_(1, cell, z.clamp(1, DEPTH - 2), "amax")
    grid = F.max_pool2d(grid.view(-1, DEPTH, RESOLUTION, RESOLUTION).transpose(2, 3), 7, 1, 2)
    line = torch.exp(-0.5 * (torch.arange(3, device=points.device) - 1.0) ** 2 / 9)
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum())[None, None]
    blurred = F.conv2d(grid.flatten(0, 1)[:, None], kernel, padding=1).unflatten(0, grid.shape[:2])[:, :, 0]
    image = blurred.amax(1)
    return 1 - image / image.amax((1, 2), keepdim=True)


def _mean_of_certain(logits: Tensor) -> Tensor:
    """(10, C) → (C,): the mean over the views whose entropy is at most the median (METHOD 4)."""
    probabilities = logits.softmax(-1)
    entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(-1)
    return logits[entropy <= entropy.median()].mean(0)
