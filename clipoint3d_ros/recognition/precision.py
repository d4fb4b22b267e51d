"""The number format of a tower's matrix products, by device and by measurement.

A flag says that a processor knows a format, not that it is quick in it: on an Emerald Rapids whose AMX a virtual
machine hides, bfloat16 products take twice as long as fp32's, where AMX takes a quarter. So `auto` times both once.
"""

from __future__ import annotations

import time
from functools import cache

import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WORTH = 1.3  # times as quick as fp32, from where on half the bits are worth their rounding


def resolve(precision: str, device: torch.device) -> torch.dtype:
    """The format that a precision means on a device; `auto` is bf16, or fp16, where products are quicker in it.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is none of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return torch.float32
    return torch.bfloat16 if _gain() >= _WORTH else torch.float32


@cache
def _gain() -> float:
    """How many times as quick as in fp32 this processor multiplies in bf16; the best of a few tries each."""
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(4):
        for dtype in seconds:
            rows, weight = torch.ones(512, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
            start = time.perf_counter()
            rows @ weight
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return seconds[torch.float32] / seconds[torch.bfloat16]
