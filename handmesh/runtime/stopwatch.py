"""Times the stages of a tracker's call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("detect", "crop", "network", "lift", "smooth", "total")


class Stopwatch:
    """Milliseconds by stage; stages that run several times add up, also where two hands go through them at once."""

    def __init__(self) -> None:
        self._adding = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Every stage back to zero."""
        self.ms = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`, one of `STAGES`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - start) * 1e3)

    def add(self, name: str, ms: float) -> None:
        """Add what was spent elsewhere."""
        with self._adding:
            self.ms[name] += ms
