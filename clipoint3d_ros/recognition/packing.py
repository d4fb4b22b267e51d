"""Packed sequences: the tokens that are there, view after view, with none between them that only fills up.

Everything of a block but its attention works on tokens one by one, so it runs over the packed rows; attention alone
is laid out view by view, each filled up to the longest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Packing(NamedTuple):
    """Where the tokens of M views lie among T packed rows.

    views: M. longest: L, tokens of the longest view.
    slots: (T,) int64, each row's place among M·L; None where every view has L tokens, and rows are these places.
    present: (M, 1, 1, L) bool, True where a view has a token; None likewise.
    starts: (M,) int64, the row of each view's first token.
    """

    views: int
    longest: int
    slots: Tensor | None
    present: Tensor | None
    starts: Tensor

    def spread(self, rows: Tensor) -> Tensor:
        """(T, W) → (M, L, W), zeros where a view has no token."""
        if self.slots is None:
            return rows.view(self.views, self.longest, -1)
        spread = rows.new_zeros(self.views * self.longest, rows.shape[1])
        return spread.index_copy_(0, self.slots, rows).view(self.views, self.longest, -1)

    def gather(self, spread: Tensor) -> Tensor:
        """(M, L, W) → (T, W)."""
        rows = spread.reshape(self.views * self.longest, -1)
        return rows if self.slots is None else rows[self.slots]


def packing(present: Tensor) -> Packing:
    """The packing of views whose tokens (M, S) bool are there; the first of each always is."""
    views, most = present.shape
    counts = present.sum(1)
    starts = counts.cumsum(0) - counts
    longest = int(counts.max()) if views else most
    if bool((counts == longest).all()):
        return Packing(views, longest, None, None, starts)
    rank = present.cumsum(1) - 1
    slots = (rank + longest * torch.arange(views, device=present.device)[:, None])[present]
    within = torch.arange(longest, device=present.device) < counts[:, None]
    return Packing(views, longest, slots, within[:, None, None], starts)


def attend(qkv: Tensor, packed: Packing, heads: int, first_only: bool = False) -> Tensor:
    """Self-attention within each view.

    Args:
        qkv: (T, 3W) queries, keys and values.
        packed: of the T rows.
        heads: of the attention.
        first_only: of each view only its first token asks.

    Returns:
        (T, W), or (M, W) of the first tokens.
    """
    query, key, value = packed.spread(qkv).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    query = query[:, :, :1] if first_only else query
    mixed = F.scaled_dot_product_attention(query, key, value, packed.present).transpose(1, 2).flatten(2)
    return mixed[:, 0] if first_only else packed.gather(mixed)
