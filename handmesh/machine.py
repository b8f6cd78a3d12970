"""What this machine is, and the packages that must be told how to behave on it: ONNX Runtime and numba.

Only the standard library is imported at first, so that `handmesh doctor` can always ask.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

Made = TypeVar("Made")

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


# Packages that must be told how to behave: every use of them goes through here.


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, kept from sending what it sees to its makers.

    The variable stops the sender, its thread and its device id, but only if it is set before the library is loaded;
    where a program has loaded it before, the call stops most of what would be sent. Who sets the variable to 0 decides
    otherwise.
    """
    allowed = os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1") == "0"
    import onnxruntime

    if not allowed:
        onnxruntime.disable_telemetry_events()
    return onnxruntime


COMPILED = "handmesh-numba"
"""The temporary folder for what is compiled, where numba finds no better one."""


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`numba.njit(**options)` with a cache that cannot fail, outside Python's lock, with NumPy's rules of division.

    Where numba finds no folder to write to, the user's own in the system's temporary folder is taken, and without even
    that each start compiles. What is damaged in a cache is compiled anew.
    """
    import numba
    from numba.core.caching import FunctionCache

    class SafeCache(FunctionCache):
        def load_overload(self, *wanted: Any) -> Any:
            try:
                return super().load_overload(*wanted)
            except Exception:  # unpickling what is damaged can raise anything
                with suppress(OSError):
                    self.flush()
                return None

        def save_overload(self, *made: Any) -> None:
            with suppress(OSError):  # a full disk, a folder that is gone
                super().save_overload(*made)

    def cached(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher = numba.njit(**{"nogil": True, "error_model": "numpy", **options})(function)
        before = numba.config.CACHE_DIR
        for folder in (before, private_temporary_folder(COMPILED)):
            if folder is None:
                break
            numba.config.CACHE_DIR = str(folder)
            try:
                dispatcher._cache = SafeCache(function)
                break
            except RuntimeError:  # there is no folder that can be written to
                continue
            finally:
                numba.config.CACHE_DIR = before
        return dispatcher

    return cached


def private_temporary_folder(name: str) -> Path | None:
    """A folder in the system's temporary one that the user alone can write to; None where there is none to be had.

    What others could write there would be run.
    """
    try:
        user = os.getuid() if hasattr(os, "getuid") else 0  # on Windows the temporary folder itself is the user's
        folder = Path(tempfile.gettempdir()) / f"{name}-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    own = folder.is_dir() and not folder.is_symlink() and (os.name != "posix" or found.st_uid == user)
    return folder if own and (os.name != "posix" or not found.st_mode & 0o022) else None


class PerProcess(Generic[Made]):
    """Something with threads of its own: a forked child, which inherits it without them, makes it anew.

    What it inherited is never released there: its end would wait for threads that do not exist.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = [make()]  # empty where it is to be made
        _OF_THIS_PROCESS.add(self)

    def get(self) -> Made:
        """What belongs to this process."""
        if not self._made:
            self._made = [self._make()]
        return self._made[0]

    def leave(self) -> None:
        """Make it anew when it is next asked for, and keep what there is for ever."""
        for made in self._made:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
        self._made = []


_OF_THIS_PROCESS: WeakSet[PerProcess] = WeakSet()


def _leave_all() -> None:
    for made in list(_OF_THIS_PROCESS):
        made.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
