"""One run of the demo: every frame of a source through the tracker, to the window and to the files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from handmesh import console
from handmesh.app.capture import ClipRecording, Kept, Outputs
from handmesh.app.hud import Meter
from handmesh.app.keys import Look
from handmesh.app.viewer import Seen, Situation, Viewer, Views, joined
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.hand_size import HandSizeCalibration
from handmesh.types import Camera, Frame, Hand, Source, SourceError
from handmesh.video.lens import Lens

# Measures the user's hand in a running session, and tells the tracker.


class HandSizing:
    """One measurement after another, each begun by the user."""

    def __init__(self, distance_m: float) -> None:
        """Begins the first. distance_m: of the hand from the camera. Raises ValueError for no such distance."""
        self.measured = False
        """Whether the tracker's scale comes from a measurement."""
        self._distance_m = distance_m
        self._calibration: HandSizeCalibration | None = HandSizeCalibration(distance_m)

    def begin(self) -> str:
        """Begin anew; a notice for the user."""
        self._calibration = HandSizeCalibration(self._distance_m)
        return "measuring your hand"

    @property
    def task(self) -> tuple[str, float]:
        """What the user should do, and how much of it is done; empty where nothing is being measured."""
        if self._calibration is None:
            return "", 0.0
        return self._calibration.hint or "hold still", self._calibration.progress

    def add(self, tracker: Tracker, hands: Sequence[Hand], time_s: float) -> None:
        """Take in the hands of a frame; at the end, set the tracker's scale."""
        if self._calibration is None or self._calibration.add(hands, time_s) < 1.0:
            return
        done, self._calibration = self._calibration, None
        if done.size_m is None:
            console.warn(done.problem)
            return
        tracker.hand_size_m, self.measured = done.size_m, True
        console.say(f"{done.describe()}; next time: --hand-size {done.size_m:.3f}")


# One run of the demo: every frame of a source through the tracker, to the window and to the files.


@runtime_checkable
class Tracker(Protocol):
    """What a session needs of a `HandTracker`."""

    hand_size_m: float | None

    @property
    def timings_ms(self) -> dict[str, float]: ...

    @property
    def hand(self) -> SkinnedHand: ...

    def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list[Hand]: ...

    def track(self, frame_rgb: np.ndarray, time_s: float | None = None, camera: Camera | None = None) -> list[Hand]: ...

    def close(self) -> None: ...


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
    outputs: Outputs
    lens: Lens = field(default_factory=Lens.from_fov)
    look: Look = field(default_factory=Look)
    sizing: HandSizing | None = None
    recording: ClipRecording | None = None
    viewer: Viewer | None = None
    tally: Tally = field(default_factory=Tally)
    meter: Meter = field(default_factory=Meter)
    views: Views = field(default_factory=Views)

    def __post_init__(self) -> None:
        self._pacer = Pacer(0.0 if self.source.live else 1 / self.source.fps)
        self._told = 0
        self._refused = False  # whether a frame of a live source was

    def play(self, frames: Iterable[Frame]) -> bool:
        """Take all `frames`, those of the source; False if Ctrl-C ended it.

        Raises SourceError if not one of them could be used.
        """
        with nullcontext() if self.viewer else console.progress() as bar:
            task = bar.add_task(self.source.title, total=self.source.length) if bar else None
            try:
                for frame in self._timed(frames):
                    if not self._take(frame):
                        break
                    if bar:
                        bar.update(task, completed=self.tally.frames + self.tally.skipped)
            except KeyboardInterrupt:
                return False
            finally:
                self._tell_troubles()
        if not self.tally.frames and not (self.viewer and self.viewer.controls.quit):
            raise SourceError(f"nothing in {self.source.title} could be used")
        return True

    def _timed(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames, and how long each was waited for."""
        frames = iter(frames)
        while True:
            with self.meter.stage("wait" if self.source.live else "read"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _take(self, frame: Frame) -> bool:
        """Track, keep and show a frame; False when the user quits."""
        self._tell_troubles()
        seen = self._see(frame)
        if seen is None:
            return True
        self.tally.add(seen.hands)
        if self.sizing:
            self.sizing.add(self.tracker, seen.hands, frame.time_s)
        self._keep(seen)
        self.meter.end_frame()
        return self.viewer is None or self.viewer.show(seen, self._pacer.wait_s()) or self._goes_on_unseen()

    def _see(self, frame: Frame) -> Seen | None:
        """What the tracker finds; None for one frame of many that it refuses, which is noted."""
        height, width = frame.image_rgb.shape[:2]
        try:
            camera = self.lens.camera_for(width, height)
            frame = frame._replace(image_rgb=self.lens.rectified(frame.image_rgb))
            if self.source.stills:
                hands = self.tracker.detect(frame.image_rgb, camera)
            else:
                hands = self.tracker.track(frame.image_rgb, frame.time_s, camera)
        except ValueError as error:
            self._skip(frame, error)
            return None
        self.meter.add(self.tracker.timings_ms)
        return Seen(frame, hands, camera)

    def _skip(self, frame: Frame, error: ValueError) -> None:
        """Go on without a picture of many, or a frame of a camera; the error is raised where there is no other."""
        if not (self.source.live or (self.source.stills and self.source.length != 1)):
            raise error
        self.tally.skipped += 1
        if self.source.stills or not self._refused:
            more = "" if self.source.stills else "; further ones are counted only"
            console.warn(f"skipped: {frame.name}: {error}{more}")
        self._refused = True

    def _keep(self, seen: Seen) -> None:
        """Hand the frame to all that is being written."""
        if not self.outputs:
            return
        look, now_s = self.look, seen.frame.time_s
        if self.viewer:
            look, now_s = self.viewer.look, time.perf_counter()
        with self.meter.stage("draw"):
            picture = joined(self.views.panes(seen, look, now_s))
        with self.meter.stage("write"):
            self.outputs.write(Kept(seen.frame, picture, seen.hands, seen.camera))

    def show_in(self, viewer: Viewer) -> None:
        """Show all frames there, and do what its keys ask for."""
        self.viewer = viewer
        viewer.situation = self._situation
        viewer.actions = {"record": self._record, "calibrate": self._calibrate}

    @property
    def scale(self) -> str:
        """What is known of the metric scale, in one line."""
        if self.sizing and self.sizing.measured:
            return self.lens.describe("calibrated")
        return self.lens.describe("given" if self.tracker.hand_size_m else "unknown")

    def _situation(self) -> Situation:
        recorded_s = self.recording.since_s if self.recording else None
        recording = "" if recorded_s is None else f"REC {int(recorded_s // 60)}:{int(recorded_s % 60):02d}"
        task, progress = self.sizing.task if self.sizing else ("", 0.0)
        return Situation(self.scale, recording, task, progress)

    def _record(self) -> str:
        return self.recording.toggle() if self.recording else "not here"

    def _calibrate(self) -> str:
        if self.sizing is None:
            return "to measure your hand, start with --calibrate-hand 0.5 (metres)"
        return self.sizing.begin()

    def _goes_on_unseen(self) -> bool:
        """Whether to go on although the window takes no more frames: it was lost, and files are being written."""
        if not (self.viewer and self.viewer.lost):
            return False
        self.viewer = None
        if self.outputs:
            console.warn("the window is gone, as its display is; going on with the files, Ctrl-C stops")
            return True
        console.warn("the window is gone, as its display is")
        return False

    def _tell_troubles(self) -> None:
        """Warn of what went wrong at the source since the last time."""
        for trouble in self.source.troubles[self._told :]:
            console.warn(trouble)
            self.tally.skipped += self.source.stills
        self._told = len(self.source.troubles)
