"""Three equal channels folded into one, CLIP's own normalisation with them (METHOD 1.5, 1.6).

A depth view's three channels are equal, so Σ_c w_c * ((v − m_c) / s_c) = (Σ_c w_c / s_c) * v − (Σ_c w_c m_c / s_c) * 1:
a convolution of one channel, less what the same stem makes of a constant image. Exact but for rounding; where the
stem pads with zeros, so does the constant image, and both agree at the border too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipoint3d_ros.clip.backbone import Preprocessing


class OneChannelStem(nn.Module):
    """A tower's patch embedding, of depth views as they are rendered.

    Args:
        stem: the patch embedding, or a convolutional stem whose first layer is a convolution.
        look: the preprocessing that its weights expect.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, stem: nn.Module, look: Preprocessing) -> None:
        super().__init__()
        layers = list(stem) if isinstance(stem, nn.Sequential) else [stem]
        first: Any = layers[0]
        weight = first.weight.detach().double()
        mean, std = (torch.tensor(v, dtype=weight.dtype, device=weight.device) for v in (look.mean, look.std))
        mean, std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)
        self._stride, self._padding = first.stride, first.padding
        self._patch = first.stride[0] if len(layers) == 1 and first.kernel_size == first.stride else 0
        ones = torch.ones(1, 1, look.size, look.size, dtype=weight.dtype, device=weight.device)
        constant = F.conv2d(ones, (weight * mean / std).sum(1, keepdim=True), None, self._stride, self._padding)
        bias = 0 if first.bias is None else first.bias.detach().double().view(1, -1, 1, 1)
        self.register_buffer("weight", (weight / std).sum(1, keepdim=True).to(first.weight.dtype))
        self.register_buffer("offset", (bias - constant).to(first.weight.dtype))
        self.rest = nn.Sequential(*layers[1:])

    def forward(self, views: Tensor) -> Tensor:
        """(M, H, W) in [0, 1] → (M, P, width), patches in row order."""
        if self._patch:  # one matrix product, which is quicker than a convolution of such a stride
            side = self._patch
            rows, columns = views.shape[1] // side, views.shape[2] // side
            whole = views[:, : rows * side, : columns * side]
            tiles = whole.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
            tokens = F.linear(tiles.flatten(3).flatten(1, 2), self.weight.flatten(1))
            return tokens + self.offset.flatten(2).transpose(1, 2)
        maps = F.conv2d(views[:, None], self.weight, None, self._stride, self._padding) + self.offset
        return self.rest(maps).flatten(2).transpose(1, 2)
