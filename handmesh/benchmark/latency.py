"""How long tracking takes on this machine: candidates timed in turn on the same frames, by stages, beside MediaPipe,
busy and at a camera's pace. No torch.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Annotated, NamedTuple, Protocol

import cv2
import numpy as np
import tyro
from rich.console import Console

from handmesh import console
from handmesh.app.options import RuntimeOptions, TrackerOptions
from handmesh.app.player import Tracker
from handmesh.assets import DEMO_CLIP, OPEN_HAND, model_help
from handmesh.evaluation.beside import MEDIAPIPE, PYTHON, MediaPipe, MediaPipeUnavailable
from handmesh.evaluation.report import UNKNOWN, Report, Section, Table
from handmesh.files import make_folder, write_json
from handmesh.machine import machine, peak_memory_mb
from handmesh.render.overlay import overlay, shade, warm_up
from handmesh.skeleton import PALM_TO_CAMERA
from handmesh.tracking.backends import default_threads
from handmesh.types import Camera, Frame, Source, SourceError
from handmesh.video.camera import CameraFeed
from handmesh.video.sinks import Sink, VideoRecorder
from handmesh.video.sources import open_source

FRAME_S = 1 / 30
ROUND_FRAMES = 10
SIZE = (640, 480)

TRACK, DRAWN, FRAME = "track", "track + overlay", "frame"
"""The stage that all have, a frame in and hands out on the wall; and sums of stages: what a user waits for, and the
whole frame, from its capture to its recording."""

PROCESSOR = "processor"
"""Time of all threads together, drawing left out; as the mean of a round, unless a candidate says it of every frame:
what went on beside `track` counts here as well."""


@contextmanager
def stage(stages_ms: dict[str, float], name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Note under `name` how many milliseconds are spent inside."""
    begin_s = clock()
    yield
    stages_ms[name] = 1e3 * (clock() - begin_s)


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
    hands_in_view: int | None = None  # None: not known
    half_covered: bool = False

    def shown(self, image_rgb: np.ndarray) -> np.ndarray:
        """A frame, (H, W, 3) uint8, as it is or with its right half covered."""
        if not self.half_covered:
            return image_rgb
        covered = image_rgb.copy()
        covered[:, image_rgb.shape[1] // 2 :] = PLAIN
        return covered


CLIP_SCENES = (Scene("one hand in view", 1, half_covered=True), Scene("two hands in view", 2))
"""How the bundled clip is shown. Of any other source we do not know where its hands are."""


class Taken(NamedTuple):
    """A frame as it came."""

    image_rgb: np.ndarray  # (H, W, 3) uint8, of `SIZE`
    stages_ms: dict[str, float]


def taken_frames(spec: str | None, count: int) -> Iterator[Taken]:
    """The first `count` frames of a source, which begins again where it ends; None is the bundled clip.

    Its stages: `capture`, the decoding of a file; `resize`, where it has another size; `colour`, one step
    between BGR and RGB, as a camera's frame takes. Raises SourceError where it cannot be opened.
    """
    source = open_source(str(DEMO_CLIP) if spec is None else spec)
    try:
        yield from islice(_timed_frames(source), count)
    finally:
        source.close()


def _timed_frames(source: Source) -> Iterator[Taken]:
    while True:
        frames, seen = iter(source), False
        while True:
            capture_ms: dict[str, float] = {}
            with stage(capture_ms, "capture"):
                frame = next(frames, None)
            if frame is None:
                break
            stages_ms = {} if source.live else capture_ms  # a camera makes us wait, not work
            image_rgb, seen = frame.image_rgb, True
            if image_rgb.shape[1::-1] != SIZE:
                with stage(stages_ms, "resize"):
                    image_rgb = cv2.resize(image_rgb, SIZE, interpolation=cv2.INTER_AREA)
            with stage(stages_ms, "colour"):
                cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
            yield Taken(image_rgb, stages_ms)
        if not seen:
            raise SourceError(f"{source.title} gives no frames")


def drawn_frames(count: int, size: tuple[int, int] = SIZE) -> Iterator[np.ndarray]:
    """Images (H, W, 3) uint8 RGB of the bundled hand swinging over a soft random background.

    They stand in where no video is at hand. size: width and height.
    """
    coarse = np.random.default_rng(0).integers(60, 200, (6, 8, 1), dtype=np.uint8).repeat(3, axis=2)
    background = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    asset = np.load(OPEN_HAND)
    vertices, faces = asset["v_template"] @ np.array(PALM_TO_CAMERA).T, asset["f"].astype(np.int32)
    camera = Camera.from_fov(*size)
    for i in range(count):
        phase = 2 * math.pi * 0.4 * i * FRAME_S
        position = np.array([0.12 * math.sin(phase), 0.03 * math.cos(phase), 0.45])
        rgba, _ = shade(vertices + position, faces, camera, (0.85, 0.65, 0.55))
        opacity = rgba[..., 3:] / 255
        yield (background * (1 - opacity) + rgba[..., :3] * opacity).astype(np.uint8)


# What is timed: our tracker with its drawing, and MediaPipe Hands.


class Timed(NamedTuple):
    """What a frame cost, and how many hands were found in it."""

    stages_ms: dict[str, float]
    hands: int


class Candidate(Protocol):
    """Something that looks for hands in the frames of a video."""

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """Look at the next frame, (H, W, 3) uint8 RGB."""

    def processor_s(self) -> float:
        """The processor's time that looking has taken so far, of all threads, what they do between frames included."""

    def close(self) -> None:
        """Give back what is held."""


class TrackerCandidate:
    """Our tracker, the drawing of its meshes and, with an `output`, their recording."""

    def __init__(self, tracker: Tracker, output: Sink | None = None, drawn: bool = True) -> None:
        """drawn: without, there is `track` alone, and the processor's time is that of each frame."""
        self._tracker, self._output, self._drawn = tracker, output, drawn
        self._drawing_s = 0.0  # on the processor

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """The tracker's own stages, `track`, `overlay` and `encode`, of a frame (H, W, 3) uint8."""
        camera, stages = Camera.from_fov(image_rgb.shape[1], image_rgb.shape[0]), {}
        with stage(stages, PROCESSOR, time.process_time), stage(stages, TRACK):
            hands = self._tracker.track(image_rgb, time_s, camera)
        stages = {name: ms for name, ms in self._tracker.timings_ms.items() if name != "total"} | stages
        if self._drawn:
            del stages[PROCESSOR]
            begin_s = time.thread_time()
            with stage(stages, "overlay"):
                image = overlay(image_rgb, hands, camera)
            if self._output is not None:
                with stage(stages, "encode"):
                    self._output.write(Frame("", time_s, image_rgb), image, hands)
            self._drawing_s += time.thread_time() - begin_s
        return Timed(stages, len(hands))

    def processor_s(self) -> float:
        """All of this process's, but for drawing and recording, which MediaPipe does not do."""
        return time.process_time() - self._drawing_s

    def close(self) -> None:
        """Finish the recording and give the tracker back."""
        if self._output is not None:
            self._output.close()
        self._tracker.close()


class MediaPipeCandidate:
    """MediaPipe Hands in video mode, in a process of its own. It draws nothing here, and keeps a clock of its own."""

    def __init__(self, mediapipe: MediaPipe) -> None:
        self._mediapipe = mediapipe

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """Its one stage, `track`, of a frame (H, W, 3) uint8, without the way to its process and back."""
        seen = self._mediapipe.see(image_rgb)
        return Timed({TRACK: seen.wall_ms}, len(seen.hands))

    def processor_s(self) -> float:
        """Of its process."""
        return self._mediapipe.processor_s()

    def close(self) -> None:
        self._mediapipe.close()


# Shows the same frames to all candidates in turn, and adds up what it took.

_REST_S = 0.03  # after a round, for what a candidate still does in the background


class Case(NamedTuple):
    """One setting of one candidate."""

    name: str
    num_hands: int
    scene: Scene

    def __str__(self) -> str:
        return f"{self.name}, {self.scene.name}, {self.num_hands} asked for"


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
            timed = _round(candidate, case.scene, round_)
            samples.setdefault((case, busy), []).extend(timed[max(0, warm_up - round_[0][0]) :])
        busy = not busy and cpu_load.cores > 0
    if not samples or not all(samples.values()) or (cpu_load.cores and len(samples) < 2 * len(candidates)):
        least = warm_up + (2 * ROUND_FRAMES if cpu_load.cores else 1)
        raise ValueError(f"too few frames to time: expected {least} or more")
    return samples


def _round(candidate: Candidate, scene: Scene, round_: Sequence[tuple[int, Taken]]) -> list[Timed]:
    """Each frame's stages with those of its capture, and their sums."""
    timed, rest = [], {}
    images = [scene.shown(taken.image_rgb) for _, taken in round_]
    with stage(rest, PROCESSOR, candidate.processor_s):
        for (number, taken), image_rgb in zip(round_, images, strict=True):
            stages, hands = candidate.see(image_rgb, number * FRAME_S)
            if "overlay" in stages:
                stages[DRAWN] = stages[TRACK] + stages["overlay"]
            whole = stages.get(DRAWN, stages[TRACK]) + stages.get("encode", 0.0) + sum(taken.stages_ms.values())
            timed.append(Timed({**taken.stages_ms, **stages, FRAME: whole}, hands))
        time.sleep(_REST_S)
    return [Timed({PROCESSOR: rest[PROCESSOR] / len(round_), **stages}, hands) for stages, hands in timed]


def timings_of(timed: Sequence[Timed]) -> Timings:
    """Quantiles of what frames took."""
    if not timed:
        return Timings(0, math.nan, {})
    stages = {name: times_of([sample.stages_ms[name] for sample in timed]) for name in timed[0].stages_ms}
    return Timings(len(timed), float(np.mean([sample.hands for sample in timed])), stages)


def times_of(milliseconds: Sequence[float]) -> Times:
    """Their median and their 90th and 99th percentiles."""
    return Times(*np.percentile(milliseconds, (50, 90, 99)).tolist())


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
        self._scene, self._frames = scene, taken_frames(spec, 10**9)
        self._due_s = time.perf_counter()

    def isOpened(self) -> bool:
        return True

    def read(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray]:
        """The next frame, (H, W, 3) uint8 BGR, not before its time. What nobody read in time is not made up for."""
        frame_bgr = cv2.cvtColor(self._scene.shown(next(self._frames).image_rgb), cv2.COLOR_RGB2BGR)
        time.sleep(max(0.0, self._due_s - time.perf_counter()))
        self._due_s = max(self._due_s + FRAME_S, time.perf_counter())
        return True, frame_bgr

    def get(self, property_id: int) -> float:
        """30 frames a second."""
        return 1 / FRAME_S if property_id == cv2.CAP_PROP_FPS else 0.0

    def set(self, property_id: int, value: float) -> bool:
        return False

    def release(self) -> None:
        self._frames.close()


def keep_pace(candidate: Candidate, spec: str | None, scene: Scene, seconds: float) -> Pace:
    """Let a candidate look at a camera for a while; the first second, in which it settles, is not counted."""
    feed = CameraFeed(0, open_capture=lambda index: RecordedCamera(spec, scene))
    try:
        frames = iter(feed)
        _ages_ms(candidate, frames, _SETTLE_S)
        begin_s, used_s, ticks = time.perf_counter(), time.process_time(), _core_ticks()
        ages_ms = _ages_ms(candidate, frames, seconds)
        elapsed_s, used_s, ticks = time.perf_counter() - begin_s, time.process_time() - used_s, _core_ticks() - ticks
    finally:
        feed.close()
    busy = 1 - ticks[:, 0] / np.maximum(1, ticks[:, 1])
    return Pace(len(ages_ms) / elapsed_s, times_of(ages_ms), used_s / elapsed_s, busy.tolist())


def _ages_ms(candidate: Candidate, frames: Iterator[Frame], seconds: float) -> list[float]:
    """How old the frames were once they were drawn."""
    until_s, ages_ms = time.perf_counter() + seconds, []
    for frame in frames:
        candidate.see(frame.image_rgb, frame.time_s)
        ages_ms.append(1e3 * (time.perf_counter() - frame.captured_s))
        if time.perf_counter() >= until_s:
            return ages_ms
    raise SourceError("the source stopped giving frames")


def _core_ticks() -> np.ndarray:
    """(cores, 2) int64: how long each was idle since the machine started, and all; no rows where it is not told."""
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines() if re.match(r"cpu\d", line)]
    except OSError:
        lines = []
    counts = np.array([line[1:9] for line in lines], np.int64).reshape(-1, 8)  # what follows is part of the first two
    return np.stack([counts[:, 3:5].sum(1), counts.sum(1)], axis=1)


# What was measured stage by stage, as tables to read and as JSON to keep.

_SUMS = (TRACK, DRAWN, FRAME, PROCESSOR)
_ORDER = ("capture", "resize", "colour", "detect", "crop", "network", "lift", "smooth", TRACK, "overlay", DRAWN)


class Ratio(NamedTuple):
    """A median divided by another, of one stage."""

    what: str
    stage: str
    ms: float
    to_ms: float

    @property
    def value(self) -> float:
        """NaN where there is nothing to divide by."""
        return self.ms / self.to_ms if self.to_ms else math.nan


def stage_table(title: str, columns: Mapping[str, Timings]) -> Table:
    """The stages that took time, and what they add up to: median, 90th and 99th percentile in milliseconds."""
    spent = ((name, ms) for timings in columns.values() for name, times in timings.stages_ms.items() for ms in times)
    known = list(dict.fromkeys(name for name, ms in spent if ms > 0))
    stages = sorted(known, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    rows = []
    for name in stages:
        times = [timings.stages_ms.get(name) for timings in columns.values()]
        rows.append([name, *(" ".join(f"{_digits(ms):>5}" for ms in one) if one else UNKNOWN for one in times)])
    rows.append(["hands found", *(f"{timings.hands_per_frame:.2f} a frame" for timings in columns.values())])
    rows.append(["frames", *(str(timings.frames) for timings in columns.values())])
    sums = [k for k, name in enumerate(stages) if name in _SUMS]
    return Table(f"{title}: milliseconds at the median, 90 and 99 %", ["stage", *columns], rows, marked=sums)


def _digits(ms: float) -> str:
    """Three digits: 0.33, 6.18, 37.6, 145."""
    return UNKNOWN if math.isnan(ms) else f"{ms:.{2 if ms < 9.995 else 1 if ms < 99.95 else 0}f}"


def against_mediapipe(measured: Measured) -> list[Ratio]:
    """Our medians beside MediaPipe's in the same setting: `track`, with our drawing, and the processor's time."""
    ratios = []
    for (case, busy), ours in measured.items():
        theirs = measured.get((case._replace(name=MEDIAPIPE), busy))
        if case.name != MEDIAPIPE and not busy and theirs is not None:
            pairs = ((TRACK, TRACK), (DRAWN, TRACK), (PROCESSOR, PROCESSOR))
            ratios += [Ratio(str(case), a, ours.median(a), theirs.median(b)) for a, b in pairs]
    return ratios


def two_against_one(measured: Measured) -> list[Ratio]:
    """What following two hands costs, beside following one that was asked for alone."""
    alone = {
        (case.name, case.num_hands): timings
        for (case, busy), timings in measured.items()
        if not busy and case.num_hands == case.scene.hands_in_view
    }
    names = [name for name, hands in alone if hands == 2 and (name, 1) in alone]
    stages = (TRACK, PROCESSOR)
    return [
        Ratio(name, one, alone[name, 2].median(one), alone[name, 1].median(one)) for name in names for one in stages
    ]


def busy_against_idle(measured: Measured) -> list[Ratio]:
    """What a busy machine does."""
    return [
        Ratio(str(case), TRACK, timings.median(), measured[case, False].median())
        for (case, busy), timings in measured.items()
        if busy
    ]


def ratio_table(title: str, ratios: Sequence[Ratio], over: str, under: str) -> Table:
    """Ratios, a row a setting and a column a stage; the milliseconds that the first stage's are made of."""
    by_setting = {r.what: [ratio for ratio in ratios if ratio.what == r.what] for r in ratios}
    first = by_setting[ratios[0].what]
    heads = [f"{first[0].stage},\n{part}" for part in (over, under)] + [f"{ratio.stage},\nratio" for ratio in first]
    rows = [
        [what, _digits(row[0].ms), _digits(row[0].to_ms), *(f"{ratio.value:.2f}" for ratio in row)]
        for what, row in by_setting.items()
    ]
    return Table(title, ["medians", *heads], rows)


def pace_line(case: Case, pace: Pace, cores: int) -> str:
    """One line on a camera of 30 frames a second."""
    each = f" ({100 * pace.cores_used / cores:.0f} % of each)"
    others = ", ".join(f"{100 * fraction:.0f} %" for fraction in pace.cores_busy)
    told = f"; all programs together: {others}" if others else ""
    return (
        f"{case}: {pace.fps:.1f} of 30 FPS, drawn {pace.age_ms.median:.0f} ms after capture "
        f"(99 %: {pace.age_ms.p99:.0f}), {pace.cores_used:.2f} of {cores} cores{each}{told}"
    )


def as_json(setting: Mapping[str, object], measured: Measured, paces: Mapping[Case, Pace]) -> dict[str, object]:
    """All of it, for `write_json`."""

    def named(case: Case) -> dict[str, object]:
        return {"name": case.name, "num_hands": case.num_hands, "scene": case.scene.name}

    def plain(ratios: Iterable[Ratio]) -> list[dict[str, object]]:
        return [{**ratio._asdict(), "ratio": ratio.value} for ratio in ratios]

    cases = [
        {**named(case), "busy": busy, "frames": timings.frames, "hands_per_frame": timings.hands_per_frame}
        | {"stages_ms": {name: times._asdict() for name, times in timings.stages_ms.items()}}
        for (case, busy), timings in measured.items()
    ]
    return {
        "setting": dict(setting),
        "cases": cases,
        "against_mediapipe": plain(against_mediapipe(measured)),
        "two_against_one": plain(two_against_one(measured)),
        "busy_against_idle": plain(busy_against_idle(measured)),
        "realtime": [named(case) | pace._asdict() | {"age_ms": pace.age_ms._asdict()} for case, pace in paces.items()],
    }


# `handmesh benchmark stages`.


@dataclass(frozen=True)
class Options(RuntimeOptions):
    """How long each stage of a frame takes on this machine, at 640x480.

    All settings see the same frames in turn, so that their ratios hold where their times drift. The
    bundled clip is shown as it is, with two hands, and with one of them covered.
    """

    source: str | None = None
    """A video or a camera's index. Default: the bundled clip."""
    frames: int = 240
    """How many frames to show to each setting, the ten that warm up included."""
    model: Annotated[tuple[str, ...], tyro.conf.arg(help=f"{model_help()} Several take turns.")] = ("fast", "balanced")
    mediapipe: bool = True
    """Time MediaPipe Hands as well, where it is installed."""
    beside_python: Path = PYTHON
    """The Python of an environment of its own in which mediapipe==0.10.21 is installed."""
    busy: int = 0
    """Keep so many cores busy in every other round, and say what that does."""
    encode: bool = False
    """Record the overlays as a demo would."""
    seconds: float = 5.0
    """How long to play a camera of 30 frames a second to each model; 0 leaves it out."""
    output: Path | None = None
    """Keep all metrics in this .json file."""


def run(options: Options, load: Callable[[str, int], Tracker] | None = None) -> int:
    """`handmesh benchmark stages`: measure and print; the exit code.

    load: from a model's name and the hands to look for to a tracker; by default the one that the options describe.
    Raises ValueError or OSError, with one clear line, where that cannot be done.
    """
    runtime = (options.backend, options.device, options.threads)
    load = load or (lambda model, num_hands: TrackerOptions(*runtime, model, num_hands).load())
    if options.output:
        make_folder(options.output.parent)  # what cannot be written should be known now, not in a minute
    with ExitStack() as stack:
        cpu_load = stack.enter_context(CpuLoad(options.busy))
        with console.waiting("loading; the first run compiles the renderer"):
            warm_up()
            candidates = _open_candidates(options, load, stack)
        with console.waiting("measuring"):
            samples = interleave(candidates, taken_frames(options.source, options.frames), cpu_load)
        with console.waiting("playing a camera"):
            paces = {  # each model's demo with its default of two hands, in each scene
                case: keep_pace(candidate, options.source, case.scene, options.seconds)
                for case, candidate in candidates.items()
                if options.seconds > 0 and case.name != MEDIAPIPE and case.num_hands == 2
            }
    measured = {key: timings_of(timed) for key, timed in samples.items()}
    report = _report(options, measured, paces)
    report.print(Console(soft_wrap=True))
    if options.output:
        write_json(options.output, as_json(report.setting, measured, paces))
        print(f"wrote {options.output}")
    return 0


def cases_of(name: str, source: str | None) -> list[Case]:
    """The settings of a candidate: as many hands asked for as are in view, and one more than there are."""
    scenes = (Scene("the source"),) if source else CLIP_SCENES
    return [Case(name, n, scene) for scene in scenes for n in (1, 2) if n >= (scene.hands_in_view or 1)]


def _open_candidates(options: Options, load: Callable[[str, int], Tracker], stack: ExitStack) -> dict[Case, Candidate]:
    """All settings of all models, and those of MediaPipe where it is there; `stack` closes them."""
    candidates: dict[Case, Candidate] = {}
    folder = Path(stack.enter_context(TemporaryDirectory())) if options.encode else None
    for model in options.model:
        for case in cases_of(model, options.source):
            output = VideoRecorder(folder / f"{len(candidates)}.mp4") if folder else None
            candidates[case] = TrackerCandidate(load(model, case.num_hands), output)
            stack.callback(candidates[case].close)
    if options.mediapipe:
        for case in cases_of(MEDIAPIPE, options.source):
            try:
                mediapipe = MediaPipe(options.beside_python, case.num_hands, video=True)
            except MediaPipeUnavailable as error:
                console.say(f"without {MEDIAPIPE}: {error}")
                return candidates
            candidates[case] = MediaPipeCandidate(mediapipe)
            stack.callback(candidates[case].close)
        console.say(f"beside {MEDIAPIPE} Hands {mediapipe.version}: full model, video mode, threads as it chooses")
    return candidates


def _report(options: Options, measured: Measured, paces: Mapping[Case, Pace]) -> Report:
    threads = default_threads() if options.threads is None else options.threads
    encode = ", encode" if options.encode else ""
    setting = {
        "machine": machine(),
        "handmesh": f"{_version('handmesh')}, models {', '.join(options.model)}, batch 1",
        "runtime": f"{options.backend} {_version(options.backend)}, device {options.device}, threads {threads}",
        "frames": f"{options.frames} of {options.source or 'the bundled clip'}, {SIZE[0]}x{SIZE[1]}",
        "stages": f"capture, colour, track with its own stages, overlay{encode}",
    }
    cases = list(dict.fromkeys(case for case, _ in measured))
    kept_busy = f"{options.busy} core{'s' if options.busy > 1 else ''} busy"
    compared = (
        (f"Beside {MEDIAPIPE}, which draws nothing", against_mediapipe(measured), "ours", MEDIAPIPE),
        ("Two hands beside one", two_against_one(measured), "two", "one"),
        (f"With {kept_busy}", busy_against_idle(measured), "busy", "idle"),
    )
    tables = []
    for name in dict.fromkeys(case.name for case in cases):
        own = [case for case in cases if case.name == name]
        heads = [f"{case.scene.name},\nnum_hands {case.num_hands}" for case in own]
        tables.append(stage_table(name, dict(zip(heads, (measured[case, False] for case in own), strict=True))))
    tables += [ratio_table(title, ratios, over, under) for title, ratios, over, under in compared if ratios]
    notes = ["Stages of two hands that ran side by side add up to more than `track`."]
    notes += [pace_line(case, pace, os.cpu_count() or 1) for case, pace in paces.items()]
    notes.append(f"peak memory {peak_memory_mb():.0f} MB with {len(cases)} settings loaded")
    return Report("", "", setting, [Section("", tables)], notes=notes)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"
