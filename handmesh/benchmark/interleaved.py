"""Candidates timed in turn on the same frames: our tracker and MediaPipe Hands, idle, under CPU load, and at a
camera's rate.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from handmesh.app.player import Tracker
from handmesh.assets import DEMO_CLIP
from handmesh.render.overlay import overlay
from handmesh.tracking.estimator import Estimator
from handmesh.types import Box, Camera, Frame, Source, SourceError
from handmesh.video.camera import CameraFeed
from handmesh.video.sinks import Sink
from handmesh.video.sources import open_source

FRAME_S = 1 / 30
ROUND_FRAMES = 10
SIZE = (640, 480)

# Other programs that keep cores busy, at our word.


_SPIN = """
import os, sys, threading, time
busy = False
def listen():
    global busy
    for line in sys.stdin:
        busy = line == "1\\n"
    os._exit(0)
threading.Thread(target=listen).start()
print(flush=True)
while True:
    if not busy:
        time.sleep(1e-3)
"""

_LOAD_SETTLES_S = 0.05


class CpuLoad:
    """Processes that spin while they are told to, each on one core. They end when this one does, however it ends."""

    def __init__(self, cores: int) -> None:
        """cores: how many to keep busy; ValueError for less than none."""
        if cores < 0:
            raise ValueError(f"expected 0 or more cores to keep busy, got {cores}")
        self.cores = cores
        self.spinners: list[subprocess.Popen] = []

    def __enter__(self) -> CpuLoad:
        pipe = subprocess.PIPE
        for _ in range(self.cores):
            self.spinners.append(subprocess.Popen([sys.executable, "-c", _SPIN], stdin=pipe, stdout=pipe, text=True))
        for spinner in self.spinners:
            spinner.stdout.readline()  # it is there
        return self

    def round_(self, on: bool) -> None:
        """Make them spin or rest, and give the scheduler time to notice."""
        for spinner in self.spinners:
            spinner.stdin.write(f"{on:d}\n")
            spinner.stdin.flush()
        if self.spinners:
            time.sleep(_LOAD_SETTLES_S)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for spinner in self.spinners:
            spinner.kill()
            spinner.communicate()


# The frames that are shown to all, and what it took to get them.


PLAIN = 128
"""The grey that covers one of two hands."""


class Scene(NamedTuple):
    """A way to look at the frames."""

    name: str
    hands_in_view: int | None  # None: not known
    shown: Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 to the like


class Taken(NamedTuple):
    """A frame as it came."""

    image_rgb: np.ndarray  # (H, W, 3) uint8, of `SIZE`
    stages_ms: dict[str, float]


def right_half_covered(image_rgb: np.ndarray) -> np.ndarray:
    """The bundled clip with one hand in view: that in the left half of the image."""
    covered = image_rgb.copy()
    covered[:, image_rgb.shape[1] // 2 :] = PLAIN
    return covered


def as_it_is(image_rgb: np.ndarray) -> np.ndarray:
    """The frame itself."""
    return image_rgb


CLIP_SCENES = (Scene("one hand in view", 1, right_half_covered), Scene("two hands in view", 2, as_it_is))
"""How the bundled clip is shown."""

SOURCE_SCENES = (Scene("the source", None, as_it_is),)
"""How any other source is shown, of which we do not know where its hands are."""


def scenes_of(spec: str | None) -> tuple[Scene, ...]:
    """The scenes of a source; None is the bundled clip."""
    return CLIP_SCENES if spec is None else SOURCE_SCENES


def taken_frames(spec: str | None, count: int) -> Iterator[Taken]:
    """The first `count` frames of a source, which begins again where it ends; None is the bundled clip.

    Its stages: `capture`, the decoding of a file; `resize`, where it has another size; `colour`, one step
    between BGR and RGB, as a camera's frame takes. Raises SourceError where it cannot be opened.
    """
    source = open_source(str(DEMO_CLIP) if spec is None else spec)
    try:
        yield from islice(_timed(source), count)
    finally:
        source.close()


def _timed(source: Source) -> Iterator[Taken]:
    seen = 0
    while True:
        before, begin_s = seen, time.perf_counter()
        for frame in source:
            seen += 1
            stages = {} if source.live else {"capture": _ms_since(begin_s)}  # a camera makes us wait, not work
            image_rgb = _resized(frame.image_rgb, stages)
            begin_s = time.perf_counter()
            cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
            stages["colour"] = _ms_since(begin_s)
            yield Taken(image_rgb, stages)
            begin_s = time.perf_counter()
        if seen == before:
            raise SourceError(f"{source.title} gives no frames")


def _resized(image_rgb: np.ndarray, stages_ms: dict[str, float]) -> np.ndarray:
    if image_rgb.shape[1::-1] == SIZE:
        return image_rgb
    begin_s = time.perf_counter()
    resized = cv2.resize(image_rgb, SIZE, interpolation=cv2.INTER_AREA)
    stages_ms["resize"] = _ms_since(begin_s)
    return resized


def _ms_since(begin_s: float) -> float:
    return 1e3 * (time.perf_counter() - begin_s)


# What is timed: our tracker with its drawing, and MediaPipe Hands.


MEDIAPIPE = "MediaPipe"
TESTED_MEDIAPIPE = "0.10.21"

TRACK = "track"
"""The stage that all have: a frame in, hands out, on the wall."""

PROCESSOR = "processor"
"""Time of all threads together; as the mean of a round, unless a candidate says it of every frame: what went on beside
`track` counts here as well."""


class MediaPipeUnavailable(RuntimeError):
    """There is no MediaPipe Hands to compare with; the message says why, in one line."""


class Timed(NamedTuple):
    """What a frame cost, and how many hands were found in it."""

    stages_ms: dict[str, float]
    hands: int


class Candidate(Protocol):
    """Something that looks for hands in the frames of a video."""

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """Look at the next frame, (H, W, 3) uint8 RGB."""

    def close(self) -> None:
        """Give back what is held."""


class BoxCandidate:
    """Our mesh network by itself: from crop to vertices, once in every frame."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """One estimate in the middle of the frame; what is there does not change what it costs."""
        height, width = image_rgb.shape[:2]
        camera, stopwatch = Camera.from_fov(width, height), self._estimator.stopwatch
        box = Box((width / 2, height / 2), 0.4 * height, angle_rad=0.3)
        stopwatch.restart()
        begin_s = time.process_time()
        estimate, track_ms = _clocked(lambda: self._estimator.estimate(image_rgb, camera, box, "right"))
        processor_ms = 1e3 * (time.process_time() - begin_s)
        return Timed({**stopwatch.ms, TRACK: track_ms, PROCESSOR: processor_ms}, estimate is not None)

    def close(self) -> None:
        """Nothing is held."""


class TrackerCandidate:
    """Our tracker, the drawing of its meshes and, with an `output`, their recording."""

    def __init__(self, tracker: Tracker, output: Sink | None = None, drawn: bool = True) -> None:
        """drawn: without, there is `track` alone, and the processor's time is that of each frame."""
        self._tracker, self._output, self._drawn = tracker, output, drawn

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """The tracker's own stages, `track`, `overlay` and `encode`."""
        camera = Camera.from_fov(image_rgb.shape[1], image_rgb.shape[0])
        begin_s = time.process_time()
        hands, track_ms = _clocked(lambda: self._tracker.track(image_rgb, time_s, camera))
        processor_ms = 1e3 * (time.process_time() - begin_s)
        own = {stage: ms for stage, ms in self._tracker.timings_ms.items() if stage != "total"}
        if not self._drawn:
            return Timed({**own, TRACK: track_ms, PROCESSOR: processor_ms}, len(hands))
        image, overlay_ms = _clocked(lambda: overlay(image_rgb, hands, camera))
        stages = {**own, TRACK: track_ms, "overlay": overlay_ms}
        if self._output is not None:
            frame = Frame("", time_s, image_rgb)
            _, stages["encode"] = _clocked(lambda: self._output.write(frame, image, hands))
        return Timed(stages, len(hands))

    def close(self) -> None:
        """Finish the recording and give the tracker back."""
        if self._output is not None:
            self._output.close()
        self._tracker.close()


class MediaPipeCandidate:
    """MediaPipe Hands: the full model, in video mode, with its own defaults otherwise. It draws nothing here."""

    def __init__(self, num_hands: int, mediapipe: ModuleType) -> None:
        """mediapipe: what `load_mediapipe` gives."""
        kind = mediapipe.solutions.hands.Hands
        self._hands = kind(static_image_mode=False, max_num_hands=num_hands, model_complexity=1)

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """Its one stage, `track`. It keeps a clock of its own."""
        results, track_ms = _clocked(lambda: self._hands.process(image_rgb))
        return Timed({TRACK: track_ms}, len(results.multi_hand_landmarks or ()))

    def close(self) -> None:
        """Free its graph."""
        self._hands.close()


def load_mediapipe() -> ModuleType:
    """MediaPipe with its Hands. Raises MediaPipeUnavailable where it is missing, broken or too new."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        import mediapipe
    except ModuleNotFoundError as error:
        raise MediaPipeUnavailable(f"it is not installed ({error.name}): pip install {_WANTED}") from error
    except Exception as error:  # it loads much that may not fit the rest of the environment
        raise MediaPipeUnavailable(f"it cannot be imported: {' '.join(str(error).split())[:160]}") from error
    if not hasattr(getattr(mediapipe, "solutions", None), "hands"):
        raise MediaPipeUnavailable(f"version {mediapipe.__version__} has no solutions.hands: pip install {_WANTED}")
    return mediapipe


_WANTED = f"mediapipe=={TESTED_MEDIAPIPE}"


_Result = TypeVar("_Result")


def _clocked(work: Callable[[], _Result]) -> tuple[_Result, float]:
    begin_s = time.perf_counter()
    result = work()
    return result, 1e3 * (time.perf_counter() - begin_s)


# Shows the same frames to all candidates in turn, and adds up what it took.


QUANTILES = (50, 90, 99)

DRAWN = "track + overlay"
FRAME = "frame"
"""Sums of stages: what a user waits for, and the whole frame, from its capture to its recording."""

_REST_S = 0.03  # after a round, for what a candidate still does in the background


class Case(NamedTuple):
    """One setting of one candidate."""

    name: str
    num_hands: int
    scene: Scene


class Times(NamedTuple):
    """Milliseconds of a stage over many frames."""

    median: float
    p90: float
    p99: float


class Timings(NamedTuple):
    """What a case took, while the machine was idle or busy."""

    frames: int
    hands_per_frame: float
    stages_ms: dict[str, Times]

    def median(self, stage: str = TRACK) -> float:
        """Median milliseconds of a stage; NaN where there is no such stage."""
        return self.stages_ms[stage].median if stage in self.stages_ms else math.nan


Measured = Mapping[tuple[Case, bool], Timings]
"""By case, and by whether cores were kept busy."""


def measure(
    candidates: Mapping[Case, Candidate], frames: Iterable[Taken], cpu_load: CpuLoad, warm_up: int = ROUND_FRAMES
) -> dict[tuple[Case, bool], Timings]:
    """What `interleave` found, summed up."""
    return {key: timings_of(timed) for key, timed in interleave(candidates, frames, cpu_load, warm_up).items()}


def interleave(
    candidates: Mapping[Case, Candidate], frames: Iterable[Taken], cpu_load: CpuLoad, warm_up: int = ROUND_FRAMES
) -> dict[tuple[Case, bool], list[Timed]]:
    """Show `frames`, 30 a second, to all candidates, ten by ten; with a CPU load, it spins in every other round.

    In turns, so that slow spells of the machine hit all alike; of several frames, so that a network's weights stay in
    the processor's cache, as they do where it is alone. The first `warm_up` frames are not counted; ValueError where
    too few others are left.
    """
    samples: dict[tuple[Case, bool], list[Timed]] = {}
    numbered, busy = enumerate(frames), False
    while round_ := list(islice(numbered, ROUND_FRAMES)):
        cpu_load.round_(busy)
        for case, candidate in candidates.items():
            counted = samples.setdefault((case, busy), [])
            counted += (
                timed for (i, _), timed in zip(round_, _round(candidate, case, round_), strict=True) if i >= warm_up
            )
        busy = not busy and cpu_load.cores > 0
    if not samples or not all(samples.values()) or (cpu_load.cores and len(samples) < 2 * len(candidates)):
        least = warm_up + (2 * ROUND_FRAMES if cpu_load.cores else 1)
        raise ValueError(f"too few frames to time: expected {least} or more")
    return samples


def _round(candidate: Candidate, case: Case, round_: Sequence[tuple[int, Taken]]) -> list[Timed]:
    begin_s = time.process_time()
    timed = [_whole(candidate, case, taken, i * FRAME_S) for i, taken in round_]
    time.sleep(_REST_S)
    processor_ms = 1e3 * (time.process_time() - begin_s) / len(round_)
    return [Timed({PROCESSOR: processor_ms, **stages}, hands) for stages, hands in timed]


def _whole(candidate: Candidate, case: Case, taken: Taken, time_s: float) -> Timed:
    """A frame's stages with those of its capture, and their sums."""
    stages, hands = candidate.see(case.scene.shown(taken.image_rgb), time_s)
    if "overlay" in stages:
        stages[DRAWN] = stages[TRACK] + stages["overlay"]
    whole = stages.get(DRAWN, stages[TRACK]) + stages.get("encode", 0.0) + sum(taken.stages_ms.values())
    return Timed({**taken.stages_ms, **stages, FRAME: whole}, hands)


def timings_of(timed: Sequence[Timed]) -> Timings:
    """Quantiles of what frames took."""
    if not timed:
        return Timings(0, math.nan, {})
    hands = float(np.mean([sample.hands for sample in timed]))
    columns = {stage: [sample.stages_ms[stage] for sample in timed] for stage in timed[0].stages_ms}
    return Timings(len(timed), hands, {stage: times_of(column) for stage, column in columns.items()})


def times_of(milliseconds: Sequence[float]) -> Times:
    """Their median and their 90th and 99th percentiles."""
    return Times(*(float(q) for q in np.percentile(milliseconds, QUANTILES)))


# The whole way on a camera of 30 frames a second: does it keep pace, and how much of the processor does it take?


_STAT = Path("/proc/stat")
_SETTLE_S = 1.0


class Pace(NamedTuple):
    """What came of a camera's frames."""

    fps: float  # frames that went all the way, a second
    age_ms: Times  # of a frame when its overlay is drawn, from when the camera gave it
    cores_used: float  # by this process: 1.0 is one core all the time
    cores_busy: list[float]  # each core's fraction of busy time, all programs together; empty where it is not told


class RecordedCamera:
    """A video as `cv2.VideoCapture` gives a camera: it makes its reader wait for the next frame."""

    def __init__(self, spec: str | None, scene: Scene) -> None:
        """spec: see `taken_frames`."""
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


def keep_pace(candidate: Candidate, spec: str | None, scene: Scene, seconds: float) -> Pace:
    """Let a candidate look at a camera for a while; the first second, in which it settles, is not counted."""
    feed = CameraFeed(0, open_capture=lambda index: RecordedCamera(spec, scene))
    try:
        frames = iter(feed)
        _looked_at(candidate, frames, _SETTLE_S)
        begin_s, used_s, cores = time.perf_counter(), time.process_time(), _core_ticks()
        ages_ms = _looked_at(candidate, frames, seconds)
        elapsed_s, used_s = time.perf_counter() - begin_s, time.process_time() - used_s
        busy = [_fraction(*ticks) for ticks in zip(cores, _core_ticks(), strict=False)]
    finally:
        feed.close()
    return Pace(len(ages_ms) / elapsed_s, times_of(ages_ms), used_s / elapsed_s, busy)


def _looked_at(candidate: Candidate, frames: Iterator[Frame], seconds: float) -> list[float]:
    """The ages of the frames, in milliseconds, once they were drawn."""
    until_s, ages_ms = time.perf_counter() + seconds, []
    for frame in frames:
        candidate.see(frame.image_rgb, frame.time_s)
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


def _fraction(before: _Ticks, after: _Ticks) -> float:
    """The part of the time between in which a core was not idle."""
    return 1 - (after.idle - before.idle) / max(1, after.total - before.total)
