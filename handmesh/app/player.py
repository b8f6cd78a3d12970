"""The one loop that plays a source: its frames through lens and tracker to whoever consumes them; pacing, repeating,
skipping, warnings, and what a frame takes.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from handmesh import console
from handmesh.console import interrupted, take_interrupt, uninterrupted
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.hand_size import HandSizeCalibration
from handmesh.types import SKIPPED, Camera, Frame, Hand, Source, SourceError, TrackedFrame
from handmesh.video.lens import Lens

_TICK_S = 0.1  # how often someone who waits looks up

Consumer = Callable[[TrackedFrame], object]
"""Takes a tracked frame; returns False where no more are wanted."""


@runtime_checkable
class Tracker(Protocol):
    """What a player needs of a `HandTracker`."""

    hand_size_m: float | None

    @property
    def timings_ms(self) -> dict[str, float]: ...

    @property
    def hand(self) -> SkinnedHand: ...

    def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list[Hand]:
        """The hands of an image, (H, W, 3) uint8."""

    def track(self, frame_rgb: np.ndarray, time_s: float | None = None, camera: Camera | None = None) -> list[Hand]:
        """The hands of the next frame, (H, W, 3) uint8."""

    def close(self) -> None: ...


@dataclass
class Tally:
    """What was played so far."""

    frames: int = 0
    frames_with_hands: int = 0
    skipped: int = 0


class Pacer:
    """Holds frames to a rate, so that a video plays no faster than it was taken."""

    def __init__(self, period_s: float) -> None:
        """period_s: from one frame to the next; 0 for no waiting."""
        self._period_s = period_s
        self._due_s: float | None = None

    @classmethod
    def of(cls, source: Source) -> Pacer:
        """At the source's own rate; a live source keeps it by itself."""
        return cls(0.0 if source.live else 1 / source.fps)

    def wait_s(self) -> float:
        """Seconds from now, when a frame is done with, to the next. What was late is not made up for by haste."""
        now = time.perf_counter()
        self._due_s = max(now, (now if self._due_s is None else self._due_s) + self._period_s)
        return self._due_s - now

    def wait(self) -> None:
        """Wait for the next frame, or until `interrupted`."""
        left_s = self.wait_s()
        until_s = time.perf_counter() + left_s
        while left_s > 0 and not interrupted():
            time.sleep(min(left_s, _TICK_S))
            left_s = until_s - time.perf_counter()


@dataclass
class Player:
    """Plays a source once, or over and over. `tally` and `meter` say what came of it."""

    tracker: Tracker
    source: Source
    lens: Lens = field(default_factory=Lens.from_fov)
    sizing: HandSizing | None = None
    repeat: bool = False
    """Begin again at the end of what is not live; the frames' clock goes on."""
    pacer: Pacer | None = None
    """Waits after each frame; None: frames follow one another as fast as they are consumed."""
    clock: Callable[[], float] | None = None
    """Gives the frames' times in seconds, asked right before a frame is tracked; None: the source's own."""
    tally: Tally = field(default_factory=Tally)
    meter: Meter = field(default_factory=lambda: Meter())
    taken_s: float = 0.0
    """When the newest frame came out of the source, by `time.perf_counter`."""
    _warned: int = 0  # of the source's warnings
    _refused: bool = False  # whether a frame of a live source was

    def play(self, *consumers: Consumer) -> bool:
        """Give every tracked frame to the consumers, in turn, until one returns False; False where Ctrl-C ended it.

        Raises SourceError where not one frame could be used.
        """
        try:
            with uninterrupted():
                for tracked in self:
                    if any(consume(tracked) is False for consume in consumers):
                        break
                stopped = take_interrupt()
        except KeyboardInterrupt:
            stopped = True
        finally:
            self._warn()
            if self.sizing and self.sizing.unfinished:
                console.warn(self.sizing.unfinished)
        if stopped:
            return False
        if not self.tally.frames:
            raise SourceError(f"nothing in {self.source.title} could be used")
        return True

    def __iter__(self) -> Iterator[TrackedFrame]:
        """The tracked frames, until `interrupted`; those that the tracker refuses are skipped."""
        start_s = 0.0
        while True:
            last_s, before = 0.0, self.tally.frames
            for frame in self._frames():
                last_s = frame.time_s
                time_s = self.clock() if self.clock else start_s + frame.time_s
                tracked = self._track(frame._replace(time_s=time_s))
                if tracked is not None:
                    yield tracked
                    self.meter.end_frame()
                    if self.pacer:
                        self.pacer.wait()
            if self.source.live or not self.repeat or self.tally.frames == before or interrupted():
                return
            start_s += last_s + 1 / self.source.fps

    def _frames(self) -> Iterator[Frame]:
        """The source's frames, and how long each was waited for."""
        frames = iter(self.source)
        while not interrupted():
            with self.meter.stage("wait" if self.source.live else "read"):
                frame = next(frames, None)
            self.taken_s = time.perf_counter()
            self._warn()
            if frame is None:
                return
            yield frame

    def _track(self, frame: Frame) -> TrackedFrame | None:
        """What the tracker finds; None for one frame of many that it refuses, which is counted."""
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
        self.tally.frames += 1
        self.tally.frames_with_hands += bool(hands)
        if self.sizing:
            self.sizing.add(self.tracker, hands, frame.time_s)
        return TrackedFrame(frame, hands, camera)

    def _skip(self, frame: Frame, error: ValueError) -> None:
        """Go on without an image of many, or a frame of a camera; the error is raised where there is no other."""
        if not (self.source.live or (self.source.stills and self.source.length != 1)):
            raise error
        self.tally.skipped += 1
        if self.source.stills or not self._refused:
            more = "" if self.source.stills else "; further ones are counted only"
            console.warn(f"{SKIPPED}{frame.name}: {error}{more}")
        self._refused = True

    def _warn(self) -> None:
        """Tell what went wrong at the source since the last time."""
        for warning in self.source.warnings[self._warned :]:
            console.warn(warning)
            self.tally.skipped += warning.startswith(SKIPPED)
        self._warned = len(self.source.warnings)

    @property
    def metric(self) -> bool:
        """Whether the hands' metres are metres, not only up to a common scale."""
        return self.lens.known and self.tracker.hand_size_m is not None

    @property
    def scale(self) -> str:
        """What is known of the metric scale, in one line."""
        if self.sizing and self.sizing.measured:
            return self.lens.describe("calibrated")
        return self.lens.describe("given" if self.tracker.hand_size_m else "unknown")


class HandSizing:
    """Measures the user's hand while a source plays, and tells the tracker; each measurement is begun by the user."""

    def __init__(self, distance_m: float) -> None:
        """Begins the first. distance_m: of the hand from the camera. Raises ValueError for no such distance."""
        self.measured = False
        """Whether the tracker's scale comes from a measurement."""
        self.news = ""
        """What came of the last measurement, for whoever shows it to take away."""
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
            self.news = done.problem
            console.warn(done.problem)
            return
        tracker.hand_size_m, self.measured = done.size_m, True
        self.news = done.describe()
        console.say(f"{self.news}; next time: --hand-size {done.size_m:.3f}")

    @property
    def unfinished(self) -> str:
        """Why there is no result where a measurement still goes on; empty where none does."""
        if self._calibration is None:
            return ""
        done, hint = self._calibration.progress, self.task[0]
        return f"your hand was not measured, {100 * done:.0f} % were done: {hint}"


# What frames take, published seldom enough to be read.


_PUBLISHED_S = 0.4  # numbers that change faster cannot be read
_BREAK_S = 1.0  # a longer time between frames was a pause, not a slow frame


class Readings(NamedTuple):
    """Means over the last frames."""

    fps: float = 0.0  # 0 until there are two frames
    age_ms: float | None = None  # from the camera's image to the screen; None for files
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
        """Note how long an image's way to the screen was, and how old it was then; not all frames get there."""
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
