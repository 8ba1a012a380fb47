"""How full and how busy this machine and its device are. The web process on a box is not allowed to look for itself."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def machine() -> dict[str, float]:
    """Bytes of RAM, this process's share of them, and how many processes want a core; {} where the kernel does not say."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        total, free = (float(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        load = os.getloadavg()[0]
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    return {
        "ram_bytes": total,
        "ram_free": free,
        "ram_engine": float(pages * os.sysconf("SC_PAGE_SIZE")),
        "load": load,
        "cores": float(os.cpu_count() or 1),
    }


def device(place: torch.device) -> dict[str, float]:
    """Bytes of the device's memory, and its load in percent where the driver tells; {} for a CPU."""
    if place.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(place)
    found = {"device_bytes": float(total), "device_free": float(free)}
    try:
        found["device_load"] = float(torch.cuda.utilization(place))
    except Exception:  # noqa: BLE001 - NVML is optional, and each of its failures means the same: not told
        return found
    return found


MEMORY = {"allocated": "allocated", "active": "active", "reserved": "reserved", "inactive": "inactive_split"}
"""What torch's allocator counts in bytes, by our word."""


def allocator(place: torch.device) -> dict[str, float]:
    """Bytes of the device that torch holds, now and at most since the start, and its trouble; {} for a CPU."""
    if place.type != "cuda":
        return {}
    told = torch.cuda.memory_stats(place)
    found = {"memory_retries": float(told.get("num_alloc_retries", 0)), "memory_ooms": float(told.get("num_ooms", 0))}
    for word, name in MEMORY.items():
        found[f"memory_{word}"] = float(told.get(f"{name}_bytes.all.current", 0))
        found[f"memory_{word}_peak"] = float(told.get(f"{name}_bytes.all.peak", 0))
    return found
