"""How much memory is free."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from handmesh.evaluation.backbones.options import Device


def free_bytes(device: Device) -> float:
    """Bytes that a program may still take; infinite where the system does not tell."""
    if device == "cuda":
        kept_by_torch = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return float(torch.cuda.mem_get_info()[0] + kept_by_torch)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if "SC_PHYS_PAGES" in names else math.inf
