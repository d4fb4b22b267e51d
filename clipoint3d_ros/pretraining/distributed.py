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

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


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
