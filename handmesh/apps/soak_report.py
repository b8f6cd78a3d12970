"""What came of a soak: growth, slowdown, what was left behind, and the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handmesh.runtime.media.pictures import write_whole

LARGEST_GROWTH_MB = 10.0
LARGEST_SLOWDOWN = 0.10
LARGEST_PILE = 4
"""Threads or files by which a process may vary without piling them up."""

_LEAST_SAMPLES = 6
"""Fewer after the warm-up tell nothing."""


class Sample(NamedTuple):
    """What was seen at one moment, of the frames since the one before."""

    time_s: float  # since the beginning
    frames: int  # so far
    median_ms: float
    high_ms: float  # 99th percentile
    resident_mb: float
    threads: int
    open_files: int | None


@dataclass(frozen=True)
class SoakReport:
    """The verdict and what it rests on. Of the numbers, None is what could not be told."""

    failures: list[str]  # a line for each limit that was broken
    judged: bool  # False where there was too little time after the warm-up
    interrupted: bool
    seconds: float
    frames: int
    warm_up_s: float
    growth_mb: float | None  # resident memory, from just after the warm-up to the end
    peak_growth_mb: float | None
    slowdown: float | None  # 0.1: the last third's frames took 10 % longer than the first third's
    median_ms: float | None
    high_ms: float | None  # median of the samples' 99th percentiles
    thread_growth: int | None
    file_growth: int | None
    threads_left: list[str]  # the names of those still there when all was closed
    samples: list[Sample]

    @property
    def passed(self) -> bool:
        """Whether it was judged and no limit was broken."""
        return self.judged and not self.failures

    def lines(self) -> list[str]:
        """The report for people, the verdict last."""
        told = [f"{self.frames} frames in {self.seconds / 60:.1f} minutes" + " (stopped)" * self.interrupted]
        if self.judged:
            told += [
                f"a frame: median {self.median_ms:.1f} ms, 99th percentile {self.high_ms:.1f} ms",
                f"memory after {self.warm_up_s:.0f} s: {_signed(self.growth_mb, ' MB')} (at its peak "
                f"{_signed(self.peak_growth_mb, ' MB')}); limit {LARGEST_GROWTH_MB:g} MB",
                f"time of a frame, last third to first: {_signed(self.slowdown, '', percent=True)}; "
                f"limit {LARGEST_SLOWDOWN:.0%}",
                f"threads: {_signed(self.thread_growth, '')}, open files: {_signed(self.file_growth, '')}",
            ]
        told.append(f"threads left behind: {', '.join(self.threads_left) or 'none'}")
        verdict = "PASSED" if self.passed else "FAILED: " + "; ".join(self.failures)
        return [*told, verdict if self.judged or self.failures else "too short to judge"]

    def write(self, path: Path) -> None:
        """Write everything as JSON. Raises OutputError."""
        report = {**asdict(self), "passed": self.passed, "samples": [sample._asdict() for sample in self.samples]}
        write_whole(path, json.dumps(report, indent=1, allow_nan=False).encode())


def _signed(number: float | None, unit: str, percent: bool = False) -> str:
    if number is None:
        return "not known"
    return f"{number:+.1%}" if percent else f"{number:+.3g}{unit}"


def made_report(
    samples: Sequence[Sample], frames: int, warm_up_s: float, interrupted: bool, threads_left: list[str]
) -> SoakReport:
    """Judge a soak by its samples after the warm-up."""
    warm = [sample for sample in samples if sample.time_s >= warm_up_s]
    judged = len(warm) >= _LEAST_SAMPLES
    growth = _Growth(warm) if judged else None
    failures = [f"threads left behind: {', '.join(threads_left)}"] if threads_left else []
    if growth:
        failures += growth.failures()
    return SoakReport(
        failures=failures,
        judged=judged,
        interrupted=interrupted,
        seconds=samples[-1].time_s if samples else 0.0,
        frames=frames,
        warm_up_s=warm_up_s,
        growth_mb=growth and growth.memory_mb,
        peak_growth_mb=growth and growth.peak_mb,
        slowdown=growth and growth.slowdown,
        median_ms=growth and growth.median_ms,
        high_ms=growth and growth.high_ms,
        thread_growth=growth and growth.threads,
        file_growth=growth and growth.files,
        threads_left=threads_left,
        samples=list(samples),
    )


class _Growth:
    """How the end of a soak differs from its beginning, by medians of several samples each."""

    def __init__(self, warm: Sequence[Sample]) -> None:
        ends = max(1, len(warm) // 10)
        third = len(warm) // 3
        memory = np.array([sample.resident_mb for sample in warm])
        start_mb = np.median(memory[:ends])
        self.memory_mb = _known(np.median(memory[-ends:]) - start_mb)
        self.peak_mb = _known(memory.max() - start_mb)
        times_ms = np.array([sample.median_ms for sample in warm])
        self.slowdown = float(np.median(times_ms[-third:]) / np.median(times_ms[:third]) - 1)
        self.median_ms = float(np.median(times_ms))
        self.high_ms = float(np.median([sample.high_ms for sample in warm]))
        self.threads = warm[-1].threads - warm[0].threads
        first, last = warm[0].open_files, warm[-1].open_files
        self.files = None if first is None or last is None else last - first

    def failures(self) -> list[str]:
        """A line for each limit that was broken."""
        broken = {
            f"memory grew by {self.memory_mb or 0:.1f} MB": (self.memory_mb or 0) >= LARGEST_GROWTH_MB,
            f"frames took {self.slowdown:.1%} longer": self.slowdown > LARGEST_SLOWDOWN,
            f"{self.threads} more threads": self.threads > LARGEST_PILE,
            f"{self.files} more open files": (self.files or 0) > LARGEST_PILE,
        }
        return [line for line, is_broken in broken.items() if is_broken]


def _known(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
