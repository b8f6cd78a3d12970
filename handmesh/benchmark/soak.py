"""Runs the tracker for long and watches what it holds: memory, threads, files, and the time a frame takes."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from handmesh import console
from handmesh.app.options import TrackerOptions
from handmesh.app.player import Pacer, Player, Tracker
from handmesh.assets import DEMO_CLIP
from handmesh.files import write_json
from handmesh.machine import machine, peak_memory_mb
from handmesh.render.overlay import Style, overlay
from handmesh.video.sinks import VideoRecorder
from handmesh.video.sources import open_source

# What this process holds at present.

PROC = Path("/proc/self")


class Resources(NamedTuple):
    """What a process holds. Where the system does not tell, memory is the peak so far and threads are Python's."""

    resident_mb: float  # 10^6 bytes; NaN where not even the peak is known
    threads: int
    open_files: int | None  # None where the system does not tell


def resources() -> Resources:
    """What this process holds now."""
    try:
        resident_mb = int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError, AttributeError):
        resident_mb = peak_memory_mb()
    threads = _entries(PROC / "task") or threading.active_count()
    files = _entries(PROC / "fd") or _entries(Path("/dev/fd"))
    return Resources(resident_mb, threads, files and files - 1)  # the listing itself opens one


def _entries(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None


# What came of a soak, and the verdict.

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
    samples: Sequence[Sample]

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
        write_json(path, report)


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
    growth = _growth(warm) if judged else dict.fromkeys(_GROWTHS)
    failures = [f"threads left behind: {', '.join(threads_left)}"] if threads_left else []
    memory_mb, slowdown = growth["growth_mb"] or 0, growth["slowdown"] or 0
    threads, files = growth["thread_growth"] or 0, growth["file_growth"] or 0
    broken = {
        f"memory grew by {memory_mb:.1f} MB": memory_mb >= LARGEST_GROWTH_MB,
        f"frames took {slowdown:.1%} longer": slowdown > LARGEST_SLOWDOWN,
        f"{threads} more threads": threads > LARGEST_PILE,
        f"{files} more open files": files > LARGEST_PILE,
    }
    failures += [line for line, is_broken in broken.items() if is_broken]
    seconds = samples[-1].time_s if samples else 0.0
    return SoakReport(
        failures, judged, interrupted, seconds, frames, warm_up_s, **growth, threads_left=threads_left, samples=samples
    )


_GROWTHS = ("growth_mb", "peak_growth_mb", "slowdown", "median_ms", "high_ms", "thread_growth", "file_growth")


def _growth(warm: Sequence[Sample]) -> dict[str, float | None]:
    """How the end of a soak differs from its beginning, by medians of several samples each; None is not known."""
    ends, third = max(1, len(warm) // 10), len(warm) // 3
    memory_mb, times_ms, high_ms = (
        np.array([getattr(sample, name) for sample in warm]) for name in ("resident_mb", "median_ms", "high_ms")
    )
    start_mb = np.median(memory_mb[:ends])
    first, last = warm[0].open_files, warm[-1].open_files
    numbers = {
        "growth_mb": np.median(memory_mb[-ends:]) - start_mb,
        "peak_growth_mb": memory_mb.max() - start_mb,
        "slowdown": np.median(times_ms[-third:]) / np.median(times_ms[:third]) - 1,
        "median_ms": np.median(times_ms),
        "high_ms": np.median(high_ms),
    }
    return {
        **{name: float(number) if math.isfinite(number) else None for name, number in numbers.items()},
        "thread_growth": warm[-1].threads - warm[0].threads,
        "file_growth": None if first is None or last is None else last - first,
    }


# The soak itself.

Clock = Literal["wall", "processor"]

WARM_UP_S = 120.0
"""Memory and speed are compared from here on; in a short run, from its first third on."""

ENDING_S = 2.0
"""How long threads may take to end after everything was closed."""


@dataclass(frozen=True)
class SoakOptions(TrackerOptions):
    """Tracker, overlay and recording on looped clips for long: does memory grow, does it slow down, is anything left?

    Ends with exit code 1 where a limit is broken: 10 MB of growth or 10 % of slowdown after the
    warm-up, threads or files that pile up or are left behind. Ctrl-C reports on the time so far.
    """

    minutes: float = 30.0
    """How long."""
    source: tuple[str, ...] = ()
    """Videos, folders of images or camera indices, played in turn and over again. Default: the bundled
    clip."""
    record: bool = True
    """Record every play of a source to a file, which is thrown away."""
    fps: float = 0.0
    """Frames a second to hold to; 0 is as many as there is time for."""
    clock: Clock = "wall"
    """Which time is judged: on the wall, or the processor's, which other programs lengthen less."""
    every_s: float = 5.0
    """Seconds between two samples."""
    output: Path = Path("outputs/soak.json")
    """Where to write the report with all samples."""


def run(options: SoakOptions) -> int:
    """`handmesh benchmark soak`: run, print and write; the exit code is 1 where a limit is broken."""
    report = run_soak(options, options.load)
    report.write(options.output)
    Console().print(machine(), *report.lines(), f"wrote {options.output}", sep="\n", highlight=False)
    return int(bool(report.failures))


def run_soak(options: SoakOptions, load: Callable[[], Tracker]) -> SoakReport:
    """Do what the options say with the tracker that `load` gives.

    Raises SourceError for a source that cannot be played. Ctrl-C ends it early.
    """
    before = set(threading.enumerate())
    soak = _Soak(options)
    with ExitStack() as stack:
        tracker = load()
        stack.callback(tracker.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handmesh-soak-")))
        try:
            soak.play(tracker, folder)
        except KeyboardInterrupt:
            soak.interrupted = True
    warm_up_s = min(WARM_UP_S, options.minutes * 60 / 3)
    return made_report(soak.samples, soak.frames, warm_up_s, soak.interrupted, _threads_left(before))


@dataclass
class _Soak:
    """A soak that is running."""

    options: SoakOptions
    samples: list[Sample] = field(default_factory=list)
    frames: int = 0
    interrupted: bool = False

    def play(self, tracker: Tracker, folder: Path) -> None:
        """Play the sources in turn until the time is over."""
        self._begin_s = self._sampled_s = time.perf_counter()
        self._clock = time.perf_counter if self.options.clock == "wall" else time.process_time
        self._pacer = Pacer(1 / self.options.fps) if self.options.fps > 0 else None
        self._times_ms: list[float] = []
        total_s = self.options.minutes * 60
        with console.progress() as bar:
            task = bar.add_task("soaking", total=round(total_s))
            for spec in cycle(self.options.source or (str(DEMO_CLIP),)):
                for _ in self._played(spec, tracker, folder):
                    bar.update(task, completed=min(round(total_s), round(self._elapsed_s)))
                    if self._elapsed_s >= total_s:
                        return

    @property
    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._begin_s

    def _played(self, spec: str, tracker: Tracker, folder: Path) -> Iterator[None]:
        """Play a source once, and stop for a moment after each frame."""
        with ExitStack() as stack:
            source = open_source(spec)
            stack.callback(source.close)
            recorder = None
            if self.options.record:
                recorder = VideoRecorder(folder / "soak.mp4", source.fps)
                stack.callback(recorder.close)
            for tracked in Player(tracker, source, pacer=self._pacer, clock=self._begin_frame):
                frame, hands, camera = tracked
                image = overlay(frame.image_rgb, hands, camera, Style())
                if recorder:
                    recorder.write(frame, image, hands)
                self._times_ms.append((self._clock() - self._frame_began_s) * 1e3)
                self.frames += 1
                self._sample()
                yield

    def _begin_frame(self) -> float:
        """When a frame is about to be tracked: its time on the soak's own clock, which runs on from play to play."""
        self._frame_began_s = self._clock()
        return self._elapsed_s

    def _sample(self) -> None:
        now_s = time.perf_counter()
        if now_s - self._sampled_s < self.options.every_s:
            return
        self._sampled_s = now_s
        median, high = np.percentile(self._times_ms, (50, 99)).tolist()
        self.samples.append(Sample(self._elapsed_s, self.frames, median, high, *resources()))
        self._times_ms.clear()


def _threads_left(before: set[threading.Thread]) -> list[str]:
    """The names of the threads that are still there and were not `before`, after a moment to end."""
    until_s = time.perf_counter() + ENDING_S
    while True:
        left = [thread.name for thread in threading.enumerate() if thread not in before]
        if not left or time.perf_counter() > until_s:
            return left
        time.sleep(0.02)
