"""Runs the tracker for long and watches what it holds: memory, threads, files, and the time a frame takes."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Literal

import numpy as np

from handmesh.apps.resources import resources
from handmesh.apps.session import Tracker
from handmesh.apps.soak_report import Sample, SoakReport, made_report
from handmesh.assets import DEMO_CLIP
from handmesh.render import Style, overlay
from handmesh.runtime import console
from handmesh.runtime.media.frames import Frame
from handmesh.runtime.media.sources import open_source
from handmesh.runtime.media.video_recorder import VideoRecorder
from handmesh.structs import Camera

Clock = Literal["wall", "processor"]

WARM_UP_S = 120.0
"""Memory and speed are compared from here on; in a short run, from its first third on."""

_ENDING_S = 2.0
"""How long threads may take to end after everything was closed."""


@dataclass(frozen=True)
class SoakOptions:
    """What to run for how long."""

    minutes: float = 30.0
    """How long."""
    source: tuple[str, ...] = ()
    """Videos, folders of pictures or camera indices, played in turn and over again; the bundled clip by default."""
    model: str = "balanced"
    """The mesh network: a bundled size or a file."""
    num_hands: int = 2
    """The most hands to look for."""
    record: bool = True
    """Record every play of a source to a file, which is thrown away."""
    fps: float = 0.0
    """Frames a second to hold to; 0 takes as many as there is time for."""
    clock: Clock = "wall"
    """Which time is judged: on the wall, or the processor's, which other programs lengthen less."""
    every_s: float = 5.0
    """Seconds between two samples."""
    output: Path = Path("outputs/soak.json")
    """Where to write the report with all samples."""


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
        self._due_s = 0.0
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
            for frame in source:
                self._take(frame, tracker, recorder)
                yield

    def _take(self, frame: Frame, tracker: Tracker, recorder: VideoRecorder | None) -> None:
        """Track, draw and record a frame on the soak's own clock, which runs on from play to play."""
        self._wait()
        clock = time.perf_counter if self.options.clock == "wall" else time.process_time
        start_s = clock()
        height, width = frame.image_rgb.shape[:2]
        camera = Camera.from_fov(width, height)
        hands = tracker.track(frame.image_rgb, self._elapsed_s, camera)
        picture = overlay(frame.image_rgb, hands, camera, Style())
        if recorder:
            recorder.write(frame, picture, hands)
        self._times_ms.append((clock() - start_s) * 1e3)
        self.frames += 1
        self._sample()

    def _wait(self) -> None:
        """Hold to the frame rate that was asked for."""
        if self.options.fps > 0:
            time.sleep(max(0.0, self._due_s - self._elapsed_s))
            self._due_s = max(self._elapsed_s, self._due_s) + 1 / self.options.fps

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
    until_s = time.perf_counter() + _ENDING_S
    while True:
        left = [thread.name for thread in threading.enumerate() if thread not in before]
        if not left or time.perf_counter() > until_s:
            return left
        time.sleep(0.02)
