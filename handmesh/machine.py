"""What this machine is: processor, cores, memory. Standard library only, so that `handmesh doctor` can always ask."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def machine() -> str:
    """The processor, its cores, the system and Python, in one line."""
    cores = os.cpu_count() or 1
    return f"{processor()}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def usable_cores() -> float:
    """How many cores' worth of time this process may use: its affinity, within the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(float, CGROUP_LIMIT.read_text().split())
    except (OSError, ValueError):  # no such file, or no limit: "max 100000"
        return float(allowed)
    return min(float(allowed), quota / period)


def memory_gb() -> tuple[float, float] | None:
    """All memory and what is still free for programs, in GB (10^9 bytes); None where the system does not say."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines}
        return kilobytes["MemTotal:"] * 1024e-9, kilobytes["MemAvailable:"] * 1024e-9
    except (OSError, KeyError, ValueError, IndexError):
        return None


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, in MB (10^6 bytes)."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
