"""Knowledge-driven prompts: what language and geometry tell the two towers (METHOD 2).

One learned query asks the classes' descriptions for a text context, common to all classes, and each object's point
features for visual prompts, which join the vision tower's tokens of all its views. Both outputs start at zero: the
text context then is the hand-written one, and training begins where the frozen model stands.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """x + MHA(LN x, LN y): pre-norm multi-head attention from queries to keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_query, self.norm_keys = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, K, P) queries, (B, M, P) keys → (B, K, P)."""
        keys = self.norm_keys(keys)
        return queries + self.attention(self.norm_query(queries), keys, keys, need_weights=False)[0]


class FeedForward(nn.Module):
    """x + W₂(a · gelu(b)), (a, b) = W₁ LN x of factor 4 (Shazeer, "GLU variants improve transformer", 2020)."""

    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * factor * width)
        self.outer = nn.Linear(factor * width, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.inner(self.norm(x)).chunk(2, -1)
        return x + self.outer(value * F.gelu(gate))


class Branch(nn.Module):
    """Cross-attention, feed-forward, and a projection to a tower's width that starts at zero."""

    def __init__(self, width: int, heads: int, tower_width: int) -> None:
        super().__init__()
        self.attention, self.feed_forward = CrossAttention(width, heads), FeedForward(width)
        self.project = nn.Linear(width, tower_width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self.project(self.feed_forward(self.attention(queries, keys)))


class Prompts(nn.Module):
    """The shared query q (K, P) and its two branches.

    Args:
        tokens: K.
        width: P, of CLIP's embedding.
        text_width, vision_width: of the towers' tokens.
        heads: of the attention; P must be a multiple.
    """

    def __init__(self, tokens: int, width: int, text_width: int, vision_width: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.text = Branch(width, heads, text_width)
        self.vision = Branch(width, heads, vision_width)

    @property
    def silent(self) -> bool:
        """Whether no object's visual prompt says anything yet."""
        return not bool(self.vision.project.weight.any()) and not bool(self.vision.project.bias.any())

    def text_context(self, classes: Tensor) -> Tensor:
        """(C, P) frozen class features → (K, text width), to be added to the hand-written context."""
        return self.text(self.query[None], classes[None])[0]

    def visual(self, points: Tensor) -> Tensor:
        """(B, P) point features → (B, K, vision width)."""
        return self.vision(self.query.expand(len(points), -1, -1), points[:, None])
