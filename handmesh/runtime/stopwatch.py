"""Times the stages of a call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds by stage; stages that run several times add up."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = tuple(stages)
        self.ms: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        """Every stage back to zero."""
        self.ms = dict.fromkeys(self._stages, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] += (time.perf_counter() - start) * 1e3
