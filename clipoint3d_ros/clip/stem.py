"""A convolutional stem in the place of a ViT's patch embedding.

A linear patch embedding learns slowly from few images; a few small convolutions to the same grid of tokens learn
quickly (Xiao et al., "Early convolutions help transformers see better", NeurIPS 2021). Tokens, positions and blocks
stay a ViT's, so prompts, LoRA and dropped patches apply as ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn


class Residual(nn.Module):
    """x + two 3×3 convolutions, each after its normalisation (He et al., "Identity mappings in deep residual
    networks", ECCV 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(1, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, 1, 1, bias=False)]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def conv_stem(channels: Sequence[int], width: int, blocks: int = 0) -> nn.Sequential:
    """3×3 convolutions of stride 2, each with a normalisation over its own image, then 1×1 to the tokens' width.

    Args:
        channels: output channels of each halving; their number is log₂ of the patch size.
        width: of the tokens.
        blocks: residual blocks after each halving but the first, whose images are large.

    Returns:
        (M, 3, H, W) → (M, width, H / 2^k, W / 2^k).
    """
    layers: list[nn.Module] = []
    for before, after in zip([3, *channels[:-1]], channels, strict=True):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.GroupNorm(1, after), nn.GELU()]
        if before != 3:
            layers += [Residual(after) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], width, 1))


def install_stem(visual: VisionTransformer, channels: Sequence[int], blocks: int = 0) -> None:
    """Replace the patch embedding of a tower by `conv_stem`.

    Raises:
        ValueError: the halvings do not make one token a patch.
    """
    patch = visual.patch_size[0]
    if 2 ** len(channels) != patch:
        raise ValueError(
            f"a stem of {len(channels)} halvings makes tokens of {2 ** len(channels)} pixels, but the tower's patches "
            f"have {patch}; give {math.log2(patch):.0f} channel counts"
        )
    visual.conv1 = conv_stem(channels, visual.class_embedding.shape[0], blocks)
