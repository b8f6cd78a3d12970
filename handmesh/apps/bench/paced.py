"""The whole way on a camera of 30 frames a second: does it keep pace, and how much of the processor does it take?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.apps.bench.contenders import Contender
from handmesh.apps.bench.pictures import Scene, taken_frames
from handmesh.apps.bench.turns import Times, times_of
from handmesh.runtime.benchmark import FRAME_S
from handmesh.runtime.media.camera_feed import CameraFeed
from handmesh.runtime.media.frames import Frame, SourceError

_STAT = Path("/proc/stat")
_SETTLE_S = 1.0


class Pace(NamedTuple):
    """What came of a camera's frames."""

    fps: float  # frames that went all the way, a second
    age_ms: Times  # of a frame when its overlay is drawn, from when the camera gave it
    cores_used: float  # by this process: 1.0 is one core all the time
    cores_busy: list[float]  # each core's share of busy time, all programs together; empty where it is not told


class RecordedCamera:
    """A video as `cv2.VideoCapture` gives a camera: it makes its reader wait for the next frame."""

    def __init__(self, spec: str | None, scene: Scene) -> None:
        """spec: see `pictures.taken_frames`."""
        self._frames = _endless(spec, scene)
        self._due_s = time.perf_counter()

    def isOpened(self) -> bool:
        """It is there."""
        return True

    def read(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray]:
        """The next frame, BGR, not before its time. Frames that nobody read in time are not made up for."""
        frame_bgr = next(self._frames)
        time.sleep(max(0.0, self._due_s - time.perf_counter()))
        self._due_s = max(self._due_s + FRAME_S, time.perf_counter())
        return True, frame_bgr

    def get(self, property_id: int) -> float:
        """30 frames a second."""
        return 1 / FRAME_S if property_id == cv2.CAP_PROP_FPS else 0.0

    def set(self, property_id: int, value: float) -> bool:
        """Nothing can be set."""
        return False

    def release(self) -> None:
        """Close the video."""
        self._frames.close()


def _endless(spec: str | None, scene: Scene) -> Iterator[np.ndarray]:
    for taken in taken_frames(spec, 10**9):
        yield cv2.cvtColor(scene.shown(taken.image_rgb), cv2.COLOR_RGB2BGR)


def keep_pace(contender: Contender, spec: str | None, scene: Scene, seconds: float) -> Pace:
    """Let a contender look at a camera for a while; the first second, in which it settles, is not counted."""
    feed = CameraFeed(0, open_capture=lambda index: RecordedCamera(spec, scene))
    try:
        frames = iter(feed)
        _looked_at(contender, frames, _SETTLE_S)
        begin_s, used_s, cores = time.perf_counter(), time.process_time(), _core_ticks()
        ages_ms = _looked_at(contender, frames, seconds)
        elapsed_s, used_s = time.perf_counter() - begin_s, time.process_time() - used_s
        busy = [_share(*ticks) for ticks in zip(cores, _core_ticks(), strict=False)]
    finally:
        feed.close()
    return Pace(len(ages_ms) / elapsed_s, times_of(ages_ms), used_s / elapsed_s, busy)


def _looked_at(contender: Contender, frames: Iterator[Frame], seconds: float) -> list[float]:
    """The ages of the frames, in milliseconds, once they were drawn."""
    until_s, ages_ms = time.perf_counter() + seconds, []
    for frame in frames:
        contender.see(frame.image_rgb, frame.time_s)
        ages_ms.append(1e3 * (time.perf_counter() - frame.captured_s))
        if time.perf_counter() >= until_s:
            return ages_ms
    raise SourceError("the source stopped giving frames")


class _Ticks(NamedTuple):
    idle: int
    total: int


def _core_ticks() -> list[_Ticks]:
    """What each core did since the machine started; nothing where the system does not say."""
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines() if re.match(r"cpu\d", line)]
    except OSError:
        return []
    counts = [[int(number) for number in line[1:9]] for line in lines]  # what follows is part of the first two
    return [_Ticks(idle=count[3] + count[4], total=sum(count)) for count in counts]


def _share(before: _Ticks, after: _Ticks) -> float:
    """The part of the time between in which a core was not idle."""
    return 1 - (after.idle - before.idle) / max(1, after.total - before.total)
