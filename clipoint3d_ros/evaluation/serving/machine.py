"""What the machine can do at most: its matrix-multiply rate, and the memory this process has taken."""

from __future__ import annotations

import platform
import resource
import time
from contextlib import suppress
from pathlib import Path

import torch
from open_clip.transformer import VisionTransformer


def matrix_rate(dtype: torch.dtype, device: torch.device, side: int | None = None, tries: int = 5) -> float:
    """Floating-point operations a second of a square matrix product, the best of some tries.

    Args:
        dtype: of the factors.
        device: where.
        side: of the matrices; None takes 8192 on a GPU and 2048 on a CPU.
        tries: after one that is not counted.
    """
    side = side or (8192 if device.type == "cuda" else 2048)
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for attempt in range(tries + 1):
        settle(device)
        start = time.perf_counter()
        left @ right
        settle(device)
        best = best if attempt == 0 else min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def tower_operations(visual: VisionTransformer) -> float:
    """Floating-point operations of one view with all its patches: the blocks' matrix products and attention."""
    width = visual.class_embedding.shape[0]
    tokens = visual.positional_embedding.shape[0]
    blocks = visual.transformer.resblocks
    linear = sum(
        2.0 * tokens * (b.attn.in_proj_weight.numel() + b.attn.out_proj.weight.numel() + 2 * b.mlp.c_fc.weight.numel())
        for b in blocks
    )
    return linear + len(blocks) * 4.0 * tokens**2 * width


def settle(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """What `peak_bytes` tells begins here; where Linux does not let it, with the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The most memory taken since `forget_peak`: of the GPU by torch, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    high = next((line for line in lines if line.startswith("VmHWM:")), None)  # getrusage's own never falls
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if high is None else int(high.split()[1]) * 1024


def machine(device: torch.device) -> dict[str, str | int]:
    """Processor, threads and device in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"processor": name, "threads": torch.get_num_threads(), "device": where, "torch": torch.__version__}
