"""Measures what a session's frames take, and publishes it seldom enough to be read."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

_PUBLISHED_S = 0.4  # numbers that change faster cannot be read
_BREAK_S = 1.0  # a longer time between frames was a pause, not a slow frame


class Readings(NamedTuple):
    """Means over the last frames."""

    fps: float = 0.0  # 0 until there are two frames
    age_ms: float | None = None  # from the camera's picture to the screen; None for files
    stages_ms: Mapping[str, float] = {}
    number: int = 0  # counts the publications


class RateMeter:
    """Frames a second over the last thirty frames."""

    def __init__(self) -> None:
        self._ticks: deque[float] = deque(maxlen=30)

    def tick(self, now_s: float) -> None:
        """Count a frame."""
        if self._ticks and now_s - self._ticks[-1] > _BREAK_S:
            self._ticks.clear()
        self._ticks.append(now_s)

    @property
    def fps(self) -> float:
        """0 until there are two frames."""
        if len(self._ticks) < 2:
            return 0.0
        return (len(self._ticks) - 1) / max(self._ticks[-1] - self._ticks[0], 1e-6)


class Meter:
    """Collects the times of stages; `readings` is what to show of them."""

    def __init__(self) -> None:
        self.readings = Readings()
        self._rate = RateMeter()
        self._stages_ms: defaultdict[str, float] = defaultdict(float)
        self._shown_ms: list[float] = []
        self._ages_ms: list[float] = []
        self._frames, self._published_s = 0, 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._stages_ms[name] += (time.perf_counter() - start_s) * 1e3

    def add(self, stages_ms: Mapping[str, float]) -> None:
        """Add times measured elsewhere; a 'total' is left out."""
        for name, ms in stages_ms.items():
            if name != "total":
                self._stages_ms[name] += ms

    def add_shown(self, way_s: float, age_s: float | None) -> None:
        """Note how long a picture's way to the screen was, and how old it was then; not all frames get there."""
        self._shown_ms.append(way_s * 1e3)
        if age_s is not None:
            self._ages_ms.append(age_s * 1e3)

    def end_frame(self) -> None:
        """Count a frame, and publish where it is time to."""
        now_s = time.perf_counter()
        self._rate.tick(now_s)
        self._frames += 1
        if now_s - self._published_s < _PUBLISHED_S:
            return
        stages_ms = {name: ms / self._frames for name, ms in self._stages_ms.items()}
        shown_ms = _mean(self._shown_ms, self.readings.stages_ms.get("show"))
        if shown_ms is not None:
            stages_ms["show"] = shown_ms
        age_ms = _mean(self._ages_ms, self.readings.age_ms)
        self.readings = Readings(self._rate.fps, age_ms, stages_ms, self.readings.number + 1)
        for collected in (self._stages_ms, self._shown_ms, self._ages_ms):
            collected.clear()
        self._frames, self._published_s = 0, now_s


def _mean(values: Sequence[float], before: float | None) -> float | None:
    """The mean of the values; what it was before where there are none."""
    return sum(values) / len(values) if values else before
