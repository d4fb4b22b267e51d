"""Whose work on a shared GPU comes first: perception's has a stream of high priority, the companion's the lowest.

Priorities hold among the streams of one process; between two processes the GPU takes turns.
"""

from __future__ import annotations

import torch

FIRST, LAST = -1, 0  # of CUDA's priorities: below 0 comes first, and 0 is what every stream has unless told otherwise


def stream(device: torch.device, priority: int) -> torch.cuda.Stream | None:
    """A stream of a CUDA device, None on others; `torch.cuda.stream` takes either, and does nothing with None."""
    return torch.cuda.Stream(device, priority=priority) if device.type == "cuda" else None


def finish(device: torch.device) -> None:
    """Wait until what this thread has given a CUDA device is done; what others have given it is not waited for."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
