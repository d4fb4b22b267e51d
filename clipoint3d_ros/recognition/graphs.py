"""A tower's blocks recorded once for each size of pass, and played back: on a GPU that a small pass does not fill, most
of the time goes into telling it what to do, which a CUDA graph does in one call.

A recording has one shape. So a pass is filled up: to a number of views in BUCKETS, and to TOKENS a view or a multiple;
what fills up is no key of any attention, and what it becomes is not looked at. More views than the largest bucket holds
fill a GPU without that, and are computed step by step: recordings, which hold memory, stay a bounded number.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipoint3d_ros.recognition.packing import Packing

BUCKETS = (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640)  # views: at most a half too many
LARGEST = BUCKETS[-1]
TOKENS = 32
TRIES = 3  # before recording: libraries set themselves up in the first passes

Blocks = Callable[[Tensor, Packing], Tensor]


class Bucket(NamedTuple):
    """A pass of so many views with so many tokens each."""

    views: int
    tokens: int


def bucket(views: int, tokens: int) -> Bucket:
    """The smallest bucket that holds a pass of at most `LARGEST` views."""
    return Bucket(BUCKETS[bisect_left(BUCKETS, views)], -(-tokens // TOKENS) * TOKENS)


class Recording:
    """The blocks over one bucket; on a CPU, which has no graphs, they are computed anew each time.

    Args:
        blocks: packed rows (views·tokens, W) and how they lie → (views·tokens, W), or (views, W).
        size: of the pass.
        like: rows of the width, number format and device to be.
        pool: memory shared with other recordings, of which one plays at a time; None on a CPU.
    """

    def __init__(self, blocks: Blocks, size: Bucket, like: Tensor, pool: Any) -> None:
        views, tokens = size
        self._blocks, self._size = blocks, size
        self._rows = like.new_zeros(views * tokens, like.shape[-1])
        self._present = torch.zeros(views, 1, 1, tokens, dtype=torch.bool, device=like.device)
        self._present[..., 0] = True
        starts = torch.arange(views, device=like.device) * tokens
        self._packed = Packing(views, tokens, None, self._present, starts)
        self._graph = self._recorded(pool) if like.is_cuda else None

    def _recorded(self, pool: Any) -> torch.cuda.CUDAGraph:
        aside = torch.cuda.Stream(self._rows.device)
        aside.wait_stream(torch.cuda.current_stream(self._rows.device))
        with torch.cuda.stream(aside):
            for _ in range(TRIES):
                self._blocks(self._rows, self._packed)
        torch.cuda.current_stream(self._rows.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Another thread, as a training one, may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            self._result = self._blocks(self._rows, self._packed)
        return graph

    def __call__(self, rows: Tensor, present: Tensor) -> Tensor:
        """
        Args:
            rows: (M, L, W) of at most this size. present: (M, L) bool; the first token of every view is.

        Returns:
            (M, tokens, W), or (M, W) where the blocks give each view's first token alone.
        """
        count, longest, width = rows.shape
        views, tokens = self._size
        self._rows.view(views, tokens, width)[:count, :longest].copy_(rows)
        self._present.zero_()
        self._present[..., 0] = True
        self._present[:count, 0, 0, :longest] = present
        if self._graph is None:
            result = self._blocks(self._rows, self._packed)
        else:
            self._graph.replay()
            result = self._result
        whole = result if len(result) == views else result.view(views, tokens, width)
        return whole[:count].clone()  # the next pass writes over it


class Recordings:
    """Those of one tower, made when a size is first met; one pass at a time."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks, self._made, self._lock = blocks, dict[Bucket, Recording](), threading.Lock()
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._made)

    def __call__(self, rows: Tensor, present: Tensor) -> Tensor:
        """As `Recording`, in the bucket that fits."""
        size = bucket(*present.shape)
        with self._lock:
            if size not in self._made:
                if rows.is_cuda and self._pool is None:
                    self._pool = torch.cuda.graph_pool_handle()
                self._made[size] = Recording(self._blocks, size, rows, self._pool)
            return self._made[size](rows, present)


def to_front(sequence: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Each view's tokens that are there, in their order, before those that are not, which are cut off where no view of
    the pass needs them. Row by row, those that are there are `sequence[present]`.

    Args:
        sequence: (M, S, W). present: (M, S) bool.

    Returns:
        (M, L, W); (M, L) bool, which of them are there.
    """
    longest = int(present.sum(1).max())
    order = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    rows = sequence.gather(1, order[..., None].expand(-1, -1, sequence.shape[2]))
    return rows, present.gather(1, order)
