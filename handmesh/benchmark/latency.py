"""How long tracking takes on this machine: networks in turn, by stages, beside MediaPipe, busy and at a camera's pace;
and the table of the bundled sizes: what each costs and how good it is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
import onnxruntime
import tyro
from rich.console import Console

from handmesh import console
from handmesh.app.options import RuntimeOptions, TrackerOptions
from handmesh.app.player import Tracker
from handmesh.assets import OPEN_HAND, Device, bundled_models, detector_path, model_help, model_path
from handmesh.benchmark.interleaved import (
    DRAWN,
    FRAME,
    FRAME_S,
    MEDIAPIPE,
    PROCESSOR,
    SIZE,
    TRACK,
    BoxCandidate,
    Candidate,
    Case,
    CpuLoad,
    Measured,
    MediaPipeCandidate,
    MediaPipeUnavailable,
    Pace,
    Scene,
    Taken,
    Times,
    Timings,
    TrackerCandidate,
    as_it_is,
    interleave,
    keep_pace,
    load_mediapipe,
    measure,
    scenes_of,
    taken_frames,
    timings_of,
)
from handmesh.detection import Detector
from handmesh.evaluation.report import UNKNOWN, Table
from handmesh.files import make_folder, sha256_of, write_json
from handmesh.machine import machine, peak_memory_mb
from handmesh.render.overlay import shade, warm_up
from handmesh.skeleton import PALM_TO_CAMERA
from handmesh.tracking.backends import default_threads, open_session
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Camera
from handmesh.video.sinks import VideoRecorder

# Mesh networks in turn: crop to vertices, and the whole of `track`.


_SKIN = (0.85, 0.65, 0.55)
_LOOK, _WHOLE = Scene("crop to vertices", None, as_it_is), Scene("track", None, as_it_is)


class SizeCandidate(NamedTuple):
    """A mesh network by itself and inside the whole tracker; both share its session and their stopwatch."""

    estimator: Estimator
    tracker: HandTracker


@dataclass(frozen=True)
class LatencyReport:
    """What `measure_latency` found of one network."""

    look: Timings  # crop to vertices: one look at one hand, in every frame
    following: Timings  # `track`, frames in which every hand was followed
    searching: Timings  # `track`, frames in which the detector ran as well
    hands_per_frame: float


def open_candidate(
    model: str | Path, num_hands: int = 2, threads: int | None = None, device: Device = "auto"
) -> SizeCandidate:
    """A mesh network as `HandTracker.load` opens it, whose errors it raises."""
    estimator = Estimator(open_session(model_path(model), "mesh", threads, device))
    detector = Detector(open_session(detector_path(), "detector", threads, device))
    return SizeCandidate(estimator, HandTracker(estimator, detector, num_hands))


def measure_latency(
    candidates: Mapping[str, SizeCandidate], frames: Iterable[np.ndarray], warm_up: int = 10
) -> dict[str, LatencyReport]:
    """Show (H, W, 3) uint8 RGB frames to all networks in turn, see `interleave`; by their names, how long they took."""
    cases: dict[Case, Candidate] = {}
    for name, (estimator, tracker) in candidates.items():
        cases[Case(name, 1, _LOOK)] = BoxCandidate(estimator)
        cases[Case(name, tracker.num_hands, _WHOLE)] = TrackerCandidate(tracker, drawn=False)
    samples = interleave(cases, (Taken(frame, {}) for frame in frames), CpuLoad(0), warm_up)
    reports = {}
    for name in candidates:
        look, tracks = (timed for (case, _), timed in samples.items() if case.name == name)
        following = timings_of([one for one in tracks if one.stages_ms["detect"] == 0])
        searching = timings_of([one for one in tracks if one.stages_ms["detect"] > 0])
        reports[name] = LatencyReport(timings_of(look), following, searching, timings_of(tracks).hands_per_frame)
    return reports


def recorded_frames(spec: str, count: int) -> Iterator[np.ndarray]:
    """The images of `taken_frames` alone."""
    return (taken.image_rgb for taken in taken_frames(spec, count))


def drawn_frames(count: int, size: tuple[int, int] = SIZE) -> Iterator[np.ndarray]:
    """Images (H, W, 3) uint8 RGB of the bundled hand swinging over a soft random background.

    They stand in where no video is at hand.
    """
    width, height = size
    coarse = np.random.default_rng(0).integers(60, 200, (6, 8, 1), dtype=np.uint8).repeat(3, axis=2)
    background = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    asset = np.load(OPEN_HAND)
    vertices, faces = asset["v_template"] @ np.array(PALM_TO_CAMERA).T, asset["f"].astype(np.int32)
    camera = Camera.from_fov(width, height)
    for i in range(count):
        phase = 2 * math.pi * 0.4 * i * FRAME_S
        position = np.array([0.12 * math.sin(phase), 0.03 * math.cos(phase), 0.45])
        rgba, _ = shade(vertices + position, faces, camera, _SKIN)
        opacity = rgba[..., 3:] / 255
        yield (background * (1 - opacity) + rgba[..., :3] * opacity).astype(np.uint8)


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


def stage_table(measured: Measured, name: str, busy: bool = False) -> Table:
    """The stages of one candidate, a column a case: median, 90th and 99th percentile in milliseconds."""
    columns = {
        case: metrics for (case, was_busy), metrics in measured.items() if case.name == name and was_busy == busy
    }
    stages = _stages(columns.values())
    rows = [[stage, *(_spread(metrics.stages_ms.get(stage)) for metrics in columns.values())] for stage in stages]
    rows.append(["hands found", *(f"{metrics.hands_per_frame:.2f} a frame" for metrics in columns.values())])
    title = f"{name}{', cores kept busy' if busy else ''}: milliseconds at the median, 90 and 99 %"
    sums = [k for k, stage in enumerate(stages) if stage in _SUMS]
    return Table(title, ["stage", *map(_heading, columns)], rows, marked=sums)


def _heading(case: Case) -> str:
    return f"{case.scene.name},\nnum_hands {case.num_hands}"


def _stages(columns: Iterable[Timings]) -> list[str]:
    """All stages, in the order in which they come."""
    known = list(dict.fromkeys(stage for metrics in columns for stage in metrics.stages_ms))
    first = [stage for stage in _ORDER if stage in known]
    return first + [stage for stage in known if stage not in first]


def _spread(times: Times | None) -> str:
    return "-" if times is None else " ".join(f"{_digits(ms):>5}" for ms in times)


def _digits(ms: float) -> str:
    """Three digits: 0.33, 6.18, 37.6, 145."""
    return f"{ms:.{2 if ms < 9.995 else 1 if ms < 99.95 else 0}f}"


def against_mediapipe(measured: Measured) -> list[Ratio]:
    """Our medians beside MediaPipe's in the same setting: `track`, with our drawing, and the processor's time."""
    ratios = []
    for (case, busy), ours in measured.items():
        theirs = measured.get((case._replace(name=MEDIAPIPE), busy))
        if case.name != MEDIAPIPE and not busy and theirs is not None:
            pairs = ((TRACK, TRACK), (DRAWN, TRACK), (PROCESSOR, PROCESSOR))
            ratios += [Ratio(_label(case), a, ours.median(a), theirs.median(b)) for a, b in pairs]
    return ratios


def two_against_one(measured: Measured) -> list[Ratio]:
    """What following two hands costs, beside following one that was asked for alone."""
    ones = {case.name: one for (case, busy), one in measured.items() if not busy and _is_full(case, 1)}
    twos = {case.name: two for (case, busy), two in measured.items() if not busy and _is_full(case, 2)}
    names = [name for name in twos if name in ones]
    return [Ratio(name, stage, twos[name].median(stage), ones[name].median(stage)) for name in names for stage in _BOTH]


def _is_full(case: Case, hands: int) -> bool:
    return case.num_hands == case.scene.hands_in_view == hands


def busy_against_idle(measured: Measured) -> list[Ratio]:
    """What a busy machine does."""
    busy = [case for case, was_busy in measured if was_busy]
    both = [(case, measured[case, True], measured[case, False]) for case in busy]
    return [Ratio(_label(case), TRACK, slow.median(), fast.median()) for case, slow, fast in both]


_BOTH = (TRACK, PROCESSOR)


def _label(case: Case) -> str:
    return f"{case.name}, {case.scene.name}, {case.num_hands} asked for"


def ratio_table(title: str, ratios: Sequence[Ratio], over: str, under: str) -> Table:
    """Ratios, a row a setting and a column a stage; the milliseconds that the first stage's are made of."""
    by_setting = {r.what: [ratio for ratio in ratios if ratio.what == r.what] for r in ratios}
    first = ratios[0].stage
    stages = (f"{ratio.stage},\nratio" for ratio in by_setting[ratios[0].what])
    columns = ["medians", f"{first},\n{over}", f"{first},\n{under}", *stages]
    rows = [
        [what, _digits(row[0].ms), _digits(row[0].to_ms), *(f"{ratio.value:.2f}" for ratio in row)]
        for what, row in by_setting.items()
    ]
    return Table(title, columns, rows)


def pace_line(case: Case, pace: Pace, cores: int) -> str:
    """One line on a camera of 30 frames a second."""
    each = f" ({100 * pace.cores_used / cores:.0f} % of each)"
    others = ", ".join(f"{100 * fraction:.0f} %" for fraction in pace.cores_busy)
    told = f"; all programs together: {others}" if others else ""
    return (
        f"{_label(case)}: {pace.fps:.1f} of 30 FPS, drawn {pace.age_ms.median:.0f} ms after capture "
        f"(99 %: {pace.age_ms.p99:.0f}), {pace.cores_used:.2f} of {cores} cores{each}{told}"
    )


def as_json(setting: Mapping[str, object], measured: Measured, paces: Mapping[Case, Pace]) -> dict[str, object]:
    """All of it, for `json.dump`."""
    return {
        "setting": dict(setting),
        "cases": [_case_json(case, metrics, busy) for (case, busy), metrics in measured.items()],
        "against_mediapipe": _ratios_json(against_mediapipe(measured)),
        "two_against_one": _ratios_json(two_against_one(measured)),
        "busy_against_idle": _ratios_json(busy_against_idle(measured)),
        "realtime": [
            {**_named(case), **pace._asdict(), "age_ms": pace.age_ms._asdict()} for case, pace in paces.items()
        ],
    }


def _named(case: Case) -> dict[str, object]:
    return {"name": case.name, "num_hands": case.num_hands, "scene": case.scene.name}


def _case_json(case: Case, metrics: Timings, busy: bool) -> dict[str, object]:
    stages = {stage: times._asdict() for stage, times in metrics.stages_ms.items()}
    counts = {"busy": busy, "frames": metrics.frames, "hands_per_frame": metrics.hands_per_frame}
    return {**_named(case), **counts, "stages_ms": stages}


def _ratios_json(ratios: Iterable[Ratio]) -> list[dict[str, object]]:
    return [{**ratio._asdict(), "ratio": None if math.isnan(ratio.value) else ratio.value} for ratio in ratios]


# `handmesh benchmark stages`: the stage table, beside MediaPipe's and on a busy machine, and the pace of a demo.


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
    busy: int = 0
    """Keep so many cores busy in every other round, and say what that does."""
    encode: bool = False
    """Record the overlays as a demo would."""
    seconds: float = 5.0
    """How long to play a camera of 30 frames a second to each model; 0 leaves it out."""
    output: Path | None = None
    """Keep all metrics in this .json file."""


Load = Callable[[str, int], Tracker]
"""From a model's name and the hands to look for to a tracker."""


def load_tracker(options: Options, model: str, num_hands: int) -> Tracker:
    """The tracker that the options describe."""
    return TrackerOptions(options.backend, options.device, options.threads, model, num_hands).load()


def run(options: Options, load: Load | None = None) -> int:
    """`handmesh benchmark stages`: measure with the trackers that `load` gives, and print; the exit code.

    Raises ValueError or OSError, with one clear line, where that cannot be done.
    """
    load = load or partial(load_tracker, options)
    if options.output:
        make_folder(options.output.parent)  # what cannot be written should be known now, not in a minute
    out = Console(highlight=False, soft_wrap=True)
    setting = setting_of(options)
    out.print("\n".join(f"{name}: {value}" for name, value in setting.items()), markup=False)
    with ExitStack() as stack:
        cpu_load = stack.enter_context(CpuLoad(options.busy))
        with console.waiting("loading; the first run compiles the renderer"):
            warm_up()
            candidates = open_candidates(options, load, stack)
        with console.waiting("measuring"):
            measured = measure(candidates, taken_frames(options.source, options.frames), cpu_load)
        print_measured(out, measured, options)
        paces = _paces(options, candidates)
        for case, pace in paces.items():
            out.print(pace_line(case, pace, os.cpu_count() or 1), markup=False)
    out.print(f"peak memory {peak_memory_mb():.0f} MB with {len(candidates)} settings loaded")
    if options.output:
        write_json(options.output, as_json(setting, measured, paces))
        out.print(f"wrote {options.output}", markup=False)
    return 0


def setting_of(options: Options) -> dict[str, str]:
    """What was measured on and how, as it is printed and kept."""
    threads = default_threads() if options.threads is None else options.threads
    parts = ("capture", "colour", "track with its own stages", "overlay", *(["encode"] if options.encode else []))
    return {
        "machine": machine(),
        "handmesh": f"{_version('handmesh')}, models {', '.join(options.model)}, batch 1",
        "runtime": f"{options.backend} {_version(options.backend)}, device {options.device}, threads {threads}",
        "frames": f"{options.frames} of {options.source or 'the bundled clip'}, {SIZE[0]}x{SIZE[1]}",
        "stages": ", ".join(parts),
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def cases_of(name: str, source: str | None) -> list[Case]:
    """The settings of a candidate: as many hands asked for as are in view, and one more than there are."""
    scenes = scenes_of(source)
    return [
        Case(name, num_hands, scene)
        for scene in scenes
        for num_hands in (1, 2)
        if scene.hands_in_view is None or num_hands >= scene.hands_in_view
    ]


def open_candidates(options: Options, load: Load, stack: ExitStack) -> dict[Case, Candidate]:
    """All settings of all models, and those of MediaPipe where it is there; `stack` closes them."""
    candidates: dict[Case, Candidate] = {}
    folder = Path(stack.enter_context(TemporaryDirectory())) if options.encode else None
    for model in options.model:
        for case in cases_of(model, options.source):
            output = VideoRecorder(folder / f"{len(candidates)}.mp4") if folder else None
            candidates[case] = TrackerCandidate(load(model, case.num_hands), output)
            stack.callback(candidates[case].close)
    for case, candidate in _open_mediapipe(options).items():
        candidates[case] = candidate
        stack.callback(candidate.close)
    return candidates


def _open_mediapipe(options: Options) -> Mapping[Case, Candidate]:
    if not options.mediapipe:
        return {}
    try:
        module = load_mediapipe()
    except MediaPipeUnavailable as error:
        console.say(f"without {MEDIAPIPE}: {error}")
        return {}
    cases = cases_of(MEDIAPIPE, options.source)
    console.say(f"beside {MEDIAPIPE} Hands {module.__version__}: full model, video mode, threads as it chooses")
    return {case: MediaPipeCandidate(case.num_hands, module) for case in cases}


def _paces(options: Options, candidates: Mapping[Case, Candidate]) -> dict[Case, Pace]:
    """Each model's demo with its default of two hands, in each scene."""
    if options.seconds <= 0:
        return {}
    with console.waiting("playing a camera"):
        return {
            case: keep_pace(candidate, options.source, case.scene, options.seconds)
            for case, candidate in candidates.items()
            if case.name != MEDIAPIPE and case.num_hands == 2
        }


def print_measured(out: Console, measured: Measured, options: Options) -> None:
    """All tables."""
    for name in dict.fromkeys(case.name for case, _ in measured):
        out.print(stage_table(measured, name))
    out.print("Stages of two hands that ran side by side add up to more than `track`.\n", markup=False)
    kept_busy = f"{options.busy} core{'s' if options.busy > 1 else ''} busy"
    for title, ratios, over, under in (
        (f"Beside {MEDIAPIPE}, which draws nothing", against_mediapipe(measured), "ours", MEDIAPIPE),
        ("Two hands beside one", two_against_one(measured), "two", "one"),
        (f"With {kept_busy}", busy_against_idle(measured), "busy", "idle"),
    ):
        if ratios:
            out.print(ratio_table(title, ratios, over, under))
            out.print()


# The bundled sizes side by side: what each costs and, from evaluations, how good it is. No torch.


Clock = Literal["wall", "processor"]
Boxes = Literal["given", "detected"]

SIZE_METRICS = ("PA-MPVPE", "2D error, median")
"""The metrics that stand for a whole evaluation in the table; the first that it has."""


class SizeRow(NamedTuple):
    """One network of the table."""

    name: str
    crop_px: int
    file_bytes: int
    file_sha256: str
    latency: LatencyReport


def size_row(model: str, candidate: SizeCandidate, latency: LatencyReport) -> SizeRow:
    """The row of a bundled (by name) or exported (by path) network that was measured."""
    path = model_path(model)
    crop_px = candidate.estimator.session.input_size[0]
    return SizeRow(path.stem, crop_px, path.stat().st_size, sha256_of(path), latency)


def latency_table(rows: Sequence[SizeRow]) -> Table:
    """All times: a column a network."""
    reports = [row.latency for row in rows]
    lines = [["crop", *(f"{row.crop_px} px" for row in rows)], ["file", *map(_megabytes, rows)]]
    stages = ("crop", "network", "lift", "smooth")
    heads = [len(lines)]
    lines += _group("crop to vertices", [report.look for report in reports], stages[:3])
    heads.append(len(lines))
    lines += _group("track, following", [report.following for report in reports], stages)
    heads.append(len(lines))
    lines += _group("track, also searching", [report.searching for report in reports], ("detect", *stages))
    ends = [k - 1 for k in (*heads, len(lines))]
    lines.append(["hands a frame", *(f"{report.hands_per_frame:.2f}" for report in reports)])
    title = "median / 90th percentile, ms"
    return Table(title, ["", *(row.name for row in rows)], lines, marked=heads, ends=ends)


def _group(title: str, group: Sequence[Timings], stages: Sequence[str]) -> list[list[str]]:
    """The total, its stages, and the processor's own time below them."""
    if not any(metrics.frames for metrics in group):
        return []
    rows = [[title, *(_median_and_high(metrics, TRACK) for metrics in group)]]
    rows += [[f"  {stage}", *(_median_and_high(metrics, stage) for metrics in group)] for stage in stages]
    rows.append(["  processor time", *(_number(metrics.median(PROCESSOR), 2) for metrics in group)])
    return [*rows, ["  frames", *(str(metrics.frames) for metrics in group)]]


def _median_and_high(metrics: Timings, stage: str) -> str:
    times = metrics.stages_ms.get(stage)
    return UNKNOWN if times is None else f"{times.median:.2f} / {times.p90:.2f}"


def markdown_table(rows: Sequence[SizeRow], accuracy: Mapping[str, Mapping[str, float]], clock: Clock = "wall") -> str:
    """The README's table: a row a network.

    accuracy: see `read_accuracy`. clock: which median times to show.
    """
    metrics = list(dict.fromkeys(name for row in rows for name in accuracy.get(row.file_sha256, {})))
    header = ["`--model`", "crop", "file", "crop to vertices, ms", "`track`, ms", *metrics]
    lines, stage = [], PROCESSOR if clock == "processor" else TRACK
    for row in rows:
        times = (metrics.median(stage) for metrics in (row.latency.look, row.latency.following))
        known = accuracy.get(row.file_sha256, {})
        cells = [row.name, f"{row.crop_px} px", _megabytes(row), *(_number(ms, 1) for ms in times)]
        lines.append(cells + [_metric(known.get(name, math.nan)) for name in metrics])
    return Table("", header, lines).markdown()


def _megabytes(row: SizeRow) -> str:
    return f"{row.file_bytes / 1e6:.1f} MB"


def _metric(value: float) -> str:
    return _number(value, 3 if abs(value) < 1 else 1)


def _number(value: float, digits: int) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"


def read_accuracy(paths: Sequence[Path], models: Sequence[str], boxes: Boxes = "given") -> dict[str, dict[str, float]]:
    """Metrics by their titles by the SHA-256 of the network's file, from the metrics.json of evaluations.

    One metric for each data set, see `SIZE_METRICS`, of hands in boxes that were given or detected. Raises
    ValueError for an evaluation of a file that is none of the `models`: its metrics would be stale.
    """
    known = {sha256_of(model_path(model)) for model in models} if paths else set()
    accuracy: dict[str, dict[str, float]] = {}
    for path in paths:
        setting, reports = _read_metrics(path)
        sha256 = setting["model_sha256"]
        if sha256 not in known:
            raise ValueError(f"{path} is of another file than {', '.join(models)} now are: evaluate again")
        accuracy.setdefault(sha256, {}).update(_metrics(reports, boxes))
    return accuracy


def _read_metrics(path: Path) -> tuple[dict, list[dict]]:
    try:
        content = json.loads(path.read_text())
        return content["setting"], content["reports"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a metrics.json of `handmesh evaluate photos` or `synthetic`") from error


def _metrics(reports: Sequence[Mapping], boxes: Boxes) -> dict[str, float]:
    found = {}
    for report in reports:
        if report["boxes"] != boxes or report.get("part"):
            continue
        name = next((name for name in SIZE_METRICS if name in report["metrics"]), None)
        if name is not None:
            metric = report["metrics"][name]
            unit = f", {metric['unit']}" if metric["unit"] else ""
            found[f"{report['data']}: {name}{unit}"] = math.nan if metric["value"] is None else metric["value"]
    return found


# `handmesh benchmark sizes`: mesh networks side by side, as a table for the terminal or for the README.


@dataclass(frozen=True)
class SizeOptions:
    """Time mesh networks in turn at 640x480: crop to vertices, and the whole of `HandTracker.track`."""

    model: tuple[str, ...] = field(default_factory=lambda: tuple(bundled_models()))
    """Bundled networks by name, or paths of exported .onnx files."""
    source: str | None = None
    """A video, a camera's index, a folder or a glob. Default: drawn frames with one hand."""
    frames: int = 300
    """How many frames to show, the ten that warm up included."""
    num_hands: int = 2
    """The most hands to look for."""
    threads: int = field(default_factory=default_threads)
    """Cores that a network may use."""
    device: Device = "auto"
    """What they run on; auto takes CUDA where there is it."""
    markdown: bool = False
    """Print the README's table instead."""
    metrics: tuple[Path, ...] = ()
    """For the README's table: metrics.json of evaluations of these networks."""
    boxes: Boxes = "given"
    """Which of their metrics: of hands in given boxes, or in detected ones."""
    clock: Clock = "wall"
    """For the README's table: time on the wall, or of the processor where other programs are busy."""


def compare_sizes(options: SizeOptions) -> None:
    """`handmesh benchmark sizes`: measure and print."""
    names, threads = options.model, options.threads
    if options.clock == "processor" and threads > 1:
        raise ValueError("the processor's time says how long one thread takes; add --threads 1")
    accuracy = read_accuracy(options.metrics, names, options.boxes)
    candidates = {name: open_candidate(name, options.num_hands, threads, options.device) for name in names}
    frames = recorded_frames(options.source, options.frames) if options.source else drawn_frames(options.frames)
    reports = measure_latency(candidates, frames)
    rows = [size_row(name, candidates[name], reports[name]) for name in names]
    setting = f"ONNX Runtime {onnxruntime.__version__}, batch 1, {threads} thread{'s' if threads > 1 else ''}"
    seen = f"looking for {options.num_hands} hands in {options.source or 'drawn frames'}, 640x480"
    if options.markdown:
        print(markdown_table(rows, accuracy, options.clock))
        print(f"\nMedians of {options.clock} time; {machine()}; {setting}; {seen}.")
        return
    out = Console()
    out.print(f"{machine()}\n{setting}, {seen}", highlight=False)
    out.print(latency_table(rows))
    out.print(f"peak memory {peak_memory_mb():.0f} MB with {len(rows)} of them loaded")
