"""One run of the demo: every frame of a source through the tracker, to the window and to the files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from handmesh.render import Style
from handmesh.runtime import console
from handmesh.runtime.recording import Output
from handmesh.runtime.sources import Frame, Source, SourceError
from handmesh.runtime.viewer import Seen, Viewer
from handmesh.structs import Camera, Hand


@runtime_checkable
class Tracker(Protocol):
    """What a session needs of a `HandTracker`."""

    @property
    def timings_ms(self) -> dict[str, float]: ...

    def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list[Hand]: ...

    def track(self, frame_rgb: np.ndarray, time_s: float | None = None, camera: Camera | None = None) -> list[Hand]: ...


@dataclass
class Tally:
    """What was seen so far."""

    frames: int = 0
    frames_with_hands: int = 0
    hands: int = 0
    skipped: int = 0

    def add(self, hands: Sequence[Hand]) -> None:
        """Count a frame."""
        self.frames += 1
        self.frames_with_hands += bool(hands)
        self.hands += len(hands)


class Pacer:
    """Says how long a frame should stay on the screen, so that a video plays no faster than it was taken."""

    def __init__(self, period_s: float) -> None:
        """period_s: from one frame to the next; 0 for no waiting."""
        self._period_s = period_s
        self._due_s: float | None = None

    def wait_s(self) -> float:
        """Seconds from now, when a frame is shown, to the next. What was late is not made up for by haste."""
        now = time.perf_counter()
        self._due_s = max(now, (now if self._due_s is None else self._due_s) + self._period_s)
        return self._due_s - now


@dataclass
class Session:
    """Takes frames one by one; `tally` says what came of them."""

    tracker: Tracker
    source: Source
    style: Style = field(default_factory=Style)
    fov_deg: float = 60.0
    output: Output | None = None
    viewer: Viewer | None = None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        Camera.from_fov(1, 1, self.fov_deg)  # refuses an impossible angle now, not picture by picture
        self._pacer = Pacer(0.0 if self.source.live else 1 / self.source.fps)
        self._told = 0

    def play(self, frames: Iterable[Frame]) -> bool:
        """Take all `frames`, those of the source; False if Ctrl-C ended it.

        Raises SourceError if not one of them could be used.
        """
        with nullcontext() if self.viewer else console.progress() as bar:
            task = bar.add_task(self.source.title, total=self.source.length) if bar else None
            try:
                for frame in frames:
                    if not self._take(frame):
                        break
                    if bar:
                        bar.update(task, completed=self.tally.frames + self.tally.skipped)
            except KeyboardInterrupt:
                return False
            finally:
                self._tell_troubles()
        if not self.tally.frames:
            raise SourceError(f"nothing in {self.source.title} could be used")
        return True

    def _take(self, frame: Frame) -> bool:
        """Track, keep and show a frame; False when the user quits."""
        self._tell_troubles()
        seen = self._see(frame)
        if seen is None:
            return True
        self.tally.add(seen.hands)
        if self.output:
            style = self.viewer.style if self.viewer else self.style
            self.output.write(frame, seen.overlay(style), seen.hands)
        return self.viewer is None or self.viewer.show(seen, self._pacer.wait_s())

    def _see(self, frame: Frame) -> Seen | None:
        """What the tracker finds; None for one picture of many that it refuses, which is noted."""
        height, width = frame.image_rgb.shape[:2]
        camera = Camera.from_fov(width, height, self.fov_deg)
        try:
            if self.source.stills:
                hands = self.tracker.detect(frame.image_rgb, camera)
            else:
                hands = self.tracker.track(frame.image_rgb, frame.time_s, camera)
        except ValueError as error:
            if not self.source.stills or self.source.length == 1:
                raise
            self.source.troubles.append(f"skipped: {frame.name}: {error}")
            return None
        return Seen(frame.image_rgb, hands, camera, self.tracker.timings_ms)

    def _tell_troubles(self) -> None:
        """Warn of what went wrong at the source since the last time."""
        for trouble in self.source.troubles[self._told :]:
            console.warn(trouble)
            self.tally.skipped += self.source.stills
        self._told = len(self.source.troubles)
