"""A token that says how large the object is.

Depth views of a normalised cloud have lost its metric size, which a robot knows: a book and a flat box differ by
little else. The object's extents in metres become one more token of the tower, beside the patches, so words and
classes stay as open as before; without extents a token of its own says that the size is not known.
"""

from __future__ import annotations

import math

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

SMALLEST, LARGEST = 0.002, 6.0  # metres; a length outside is no household object's: the cloud is in other units
_MIDDLE = 0.2  # metres, in the middle of the logarithmic scale
_OCTAVES = 3
_HIDDEN = 96


class SizeToken(nn.Module):
    """Extents in metres → a token of the tower's width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unknown = nn.Parameter(torch.zeros(width))
        self.net = nn.Sequential(nn.Linear(3 * (1 + 2 * _OCTAVES), _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, width))

    def forward(self, extents: Tensor) -> Tensor:
        """Tokens of objects.

        Args:
            extents: (M, 3) metres: height, length, width. A row is of unknown size where a value is not finite or
                above `LARGEST`, or where all are below `SMALLEST`.

        Returns:
            (M, 1, W).
        """
        known = torch.isfinite(extents).all(-1) & (extents <= LARGEST).all(-1) & (extents.amax(-1) >= SMALLEST)
        safe = torch.where(known[:, None], extents, torch.ones_like(extents)).clamp_min(SMALLEST)
        z = (safe / _MIDDLE).log()
        waves = [f(z * 2**k * math.pi / 4) for k in range(_OCTAVES) for f in (torch.sin, torch.cos)]
        token = self.net(torch.cat([z, *waves], -1))
        return torch.where(known[:, None], token, self.unknown.to(token.dtype))[:, None]


def install_size_token(visual: VisionTransformer) -> None:
    """Give a tower a size token; its weights travel with the tower's."""
    visual.size_token = SizeToken(visual.class_embedding.shape[0])


def size_prompts(visual: nn.Module, extents: Tensor | None, count: int) -> Tensor | None:
    """The size tokens (count, 1, W) of a batch of views, or None where the tower has no size token.

    Args:
        visual: the tower.
        extents: (count, 3) metres, or None where no size is known.
        count: views.
    """
    token = getattr(visual, "size_token", None)
    if token is None:
        return None
    if extents is None:
        extents = torch.full((count, 3), torch.nan, device=token.unknown.device)
    return token(extents.to(token.unknown.device))
