"""Memory and temperature of what a node runs on, as far as they can be read here; what cannot be is left out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

THERMAL = Path("/sys/class/thermal")


def hardware(device: Any = "cpu", thermal: Path = THERMAL) -> dict[str, str]:
    """`rss_mb` of this process; of a GPU `gpu_mb` and `gpu_reserved_mb` that torch holds, `gpu_used_mb` and
    `gpu_total_mb` of all its users, and `gpu_temperature_c`.

    Args:
        device: torch's.
        thermal: the folder of the kernel's thermal zones, among which a Jetson has its GPU's.
    """
    rows = {}
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        rows["rss_mb"] = f"{int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20:.1f}"
    if not str(device).startswith("cuda"):
        return rows
    import torch

    rows["gpu_mb"] = f"{torch.cuda.memory_allocated(device) / 2**20:.1f}"
    rows["gpu_reserved_mb"] = f"{torch.cuda.memory_reserved(device) / 2**20:.1f}"
    with contextlib.suppress(RuntimeError):  # not every driver tells
        free, total = torch.cuda.mem_get_info(device)
        rows |= {"gpu_used_mb": f"{(total - free) / 2**20:.1f}", "gpu_total_mb": f"{total / 2**20:.1f}"}
    celsius = gpu_temperature(device, thermal)
    return rows if celsius is None else rows | {"gpu_temperature_c": f"{celsius:.1f}"}


def gpu_temperature(device: Any, thermal: Path = THERMAL) -> float | None:
    """Degrees Celsius by the driver, else by the hottest thermal zone that names a GPU; None where neither tells."""
    import torch

    try:
        return float(torch.cuda.temperature(device))
    except Exception:  # no NVML for Python, or none on this board: whatever it is, a figure ends no node
        return zone_temperature("gpu", thermal)


def zone_temperature(name: str, thermal: Path = THERMAL) -> float | None:
    """Degrees Celsius of the hottest of the kernel's thermal zones whose type has `name` in it; None without one.

    A Jetson calls its own GPU-therm or gpu-thermal, and refuses to be read while the GPU is powered down.
    """
    found = []
    for zone in thermal.glob("thermal_zone*"):
        with contextlib.suppress(OSError, ValueError):
            if name in (zone / "type").read_text().lower():
                found.append(int((zone / "temp").read_text()) / 1000)
    return max(found, default=None)
