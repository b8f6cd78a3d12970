"""What this process holds at present: memory, threads, open files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple

from handmesh.runtime.machine import peak_memory_mb

_PROC = Path("/proc/self")


class Resources(NamedTuple):
    """What a process holds. Where the system does not tell, memory is the peak so far and threads are Python's."""

    resident_mb: float  # 10^6 bytes; NaN where not even the peak is known
    threads: int
    open_files: int | None  # None where the system does not tell


def resources() -> Resources:
    """What this process holds now."""
    return Resources(_resident_mb(), _threads(), _open_files())


def _resident_mb() -> float:
    try:
        return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError, AttributeError):
        return peak_memory_mb()


def _threads() -> int:
    try:
        return len(os.listdir(_PROC / "task"))
    except OSError:
        return threading.active_count()


def _open_files() -> int | None:
    for folder in (_PROC / "fd", Path("/dev/fd")):
        try:
            return len(os.listdir(folder)) - 1  # the listing itself opens one
        except OSError:
            continue
    return None
