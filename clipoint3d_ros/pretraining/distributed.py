"""Training by several processes, as `torchrun` starts them: each draws its own objects, gradients are averaged."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

_LONGEST_WAIT = datetime.timedelta(hours=2)  # one process generates clouds while the others wait


@dataclass(frozen=True)
class Peers:
    """This process among those of one training."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True in the one process that writes files and tells of progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            dist.barrier()

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of equal shapes in all processes by their mean, in one message."""
        if self.count == 1:
            return
        kept = list(tensors)
        joined = torch.cat([t.flatten() for t in kept])
        dist.all_reduce(joined)
        joined /= self.count
        for tensor, mean in zip(kept, joined.split([t.numel() for t in kept]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def share(self, size: int) -> slice:
        """This process's part of `size` rows, as even as they go, in the order of ranks."""
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)

    def gather(self, rows: Tensor, size: int) -> Tensor:
        """The rows of all processes' parts, in order; with gradient through this process's own.

        Its gradient is multiplied by the number of processes, so that `average` over all of them is the gradient that
        one process would have, also of parameters that act on the gathered whole.

        Args:
            rows: (own, D), this process's part of `size` rows by `share`.
            size: rows in all.
        """
        return rows if self.count == 1 else _Gather.apply(rows, size, self)

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, size: int, peers: Peers) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.peers, ctx.own = peers, peers.share(size)
        whole = rows.new_zeros(size, rows.shape[1])
        whole[ctx.own] = rows
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        return gradient[ctx.own] * ctx.peers.count, None, None


def join(device: torch.device) -> tuple[Peers, torch.device]:
    """Join the processes that `torchrun` has started, by its environment variables; alone without them.

    Returns:
        This process among them, and its device: on CUDA the one of its local rank.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Peers(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    return Peers(dist.get_rank(), count), device
