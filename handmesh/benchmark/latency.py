"""How long tracking takes on this machine, stage by stage, and the table of the bundled sizes: what each costs and
how good it is.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from handmesh.assets import OPEN_HAND, Device, bundled_models, detector_path, model_path
from handmesh.detection import Detector
from handmesh.files import sha256_of
from handmesh.machine import machine, peak_memory_mb
from handmesh.render.overlay import shade
from handmesh.skeleton import PALM_TO_CAMERA
from handmesh.tracking.backends import default_threads, open_session
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Box, Camera
from handmesh.video.sources import open_source

# How long tracking takes on this machine, stage by stage.


FRAME_S = 1 / 30
TURN_FRAMES = 10
SIZE = (640, 480)

_SKIN = (0.85, 0.65, 0.55)


class Contender(NamedTuple):
    """A mesh network by itself and inside the whole tracker; both share its session and their stopwatch."""

    estimator: Estimator
    tracker: HandTracker


@dataclass(frozen=True)
class Latency:
    """Times of one group of frames."""

    frames: int
    stages_ms: Mapping[str, tuple[float, float]]  # median and 90th percentile on the wall, by stage
    processor_ms: float  # median of all threads together, which other programs on the machine lengthen less


@dataclass(frozen=True)
class LatencyReport:
    """What `measure_latency` found of one network."""

    look: Latency  # crop to vertices: one look at one hand, in every frame
    following: Latency  # `track`, frames in which every hand was followed
    searching: Latency  # `track`, frames in which the detector ran as well
    hands_per_frame: float


def open_contender(
    model: str | Path, num_hands: int = 2, threads: int | None = None, device: Device = "auto"
) -> Contender:
    """A mesh network as `HandTracker.load` opens it, whose errors it raises."""
    estimator = Estimator(open_session(model_path(model), "mesh", threads, device))
    detector = Detector(open_session(detector_path(), "detector", threads, device))
    return Contender(estimator, HandTracker(estimator, detector, num_hands))


def measure_latency(
    contenders: Mapping[str, Contender], frames: Iterable[np.ndarray], warm_up: int = 10
) -> dict[str, LatencyReport]:
    """Show (H, W, 3) uint8 RGB frames, 30 a second, to all networks in turn; by their names, how long they took.

    In turns, so that slow spells of the machine hit all alike; of several frames, so that a network's
    weights stay in the processor's cache, as they do where it is alone. The first `warm_up` frames are
    not counted; ValueError where there are no others.
    """
    looks: dict[str, list[_Call]] = {name: [] for name in contenders}
    tracks: dict[str, list[_Call]] = {name: [] for name in contenders}
    numbered = enumerate(frames)
    while turn := list(islice(numbered, TURN_FRAMES)):
        for (name, contender), (i, frame) in product(contenders.items(), turn):
            look, track = _look(contender, frame), _track(contender, frame, i * FRAME_S)
            if i >= warm_up:
                looks[name].append(look)
                tracks[name].append(track)
    if not all(looks.values()):
        raise ValueError(f"expected more than {warm_up} frames to time")
    return {name: _report(looks[name], tracks[name]) for name in contenders}


class _Call(NamedTuple):
    stages_ms: dict[str, float]
    processor_ms: float
    hands: int


def _look(contender: Contender, frame: np.ndarray) -> _Call:
    """One look at the middle of the frame; what is there does not change what it costs."""
    height, width = frame.shape[:2]
    camera, stopwatch = Camera.from_fov(width, height), contender.estimator.stopwatch
    box = Box((width / 2, height / 2), 0.4 * height, angle_rad=0.3)
    stopwatch.restart()
    begin_s = time.process_time()
    with stopwatch.stage("total"):
        estimate = contender.estimator.estimate(frame, camera, box, "right")
    return _Call(dict(stopwatch.ms), _ms_since(begin_s), estimate is not None)


def _track(contender: Contender, frame: np.ndarray, time_s: float) -> _Call:
    begin_s = time.process_time()
    found = contender.tracker.track(frame, time_s)
    return _Call(contender.tracker.timings_ms, _ms_since(begin_s), len(found))


def _ms_since(begin_s: float) -> float:
    return 1e3 * (time.process_time() - begin_s)


def _report(looks: Sequence[_Call], tracks: Sequence[_Call]) -> LatencyReport:
    following = [call for call in tracks if call.stages_ms["detect"] == 0]
    searching = [call for call in tracks if call.stages_ms["detect"] > 0]
    hands = sum(call.hands for call in tracks)
    return LatencyReport(_latency(looks), _latency(following), _latency(searching), hands / len(tracks))


def _latency(calls: Sequence[_Call]) -> Latency:
    if not calls:
        return Latency(0, {}, math.nan)
    columns = {stage: [call.stages_ms[stage] for call in calls] for stage in calls[0].stages_ms}
    quantiles = {stage: np.percentile(column, (50, 90)) for stage, column in columns.items()}
    stages = {stage: (float(q[0]), float(q[1])) for stage, q in quantiles.items()}
    return Latency(len(calls), stages, float(np.median([call.processor_ms for call in calls])))


def recorded_frames(spec: str, count: int, size: tuple[int, int] = SIZE) -> Iterator[np.ndarray]:
    """The first `count` pictures (H, W, 3) uint8 RGB of a source, resized to `size` (width, height).

    spec: see `sources.open_source`, which raises SourceError for one that cannot be opened.
    """
    source = open_source(spec)
    try:
        for frame in islice(source, count):
            yield cv2.resize(frame.image_rgb, size, interpolation=cv2.INTER_AREA)
    finally:
        source.close()


def drawn_frames(count: int, size: tuple[int, int] = SIZE) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 RGB of the bundled hand swinging over a soft random background.

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
        place = np.array([0.12 * math.sin(phase), 0.03 * math.cos(phase), 0.45])
        rgba, _ = shade(vertices + place, faces, camera, _SKIN)
        opacity = rgba[..., 3:] / 255
        yield (background * (1 - opacity) + rgba[..., :3] * opacity).astype(np.uint8)


# The bundled sizes side by side: what each costs and, from evaluations, how good it is. No torch.


Clock = Literal["wall", "processor"]
Boxes = Literal["given", "detected"]

FIGURES = ("PA-MPVPE", "2D error, median")
"""The figures that stand for a whole evaluation in the table; the first that it has."""

UNKNOWN = "-"


class SizeRow(NamedTuple):
    """One network of the table."""

    name: str
    crop_px: int
    file_bytes: int
    file_sha256: str
    latency: LatencyReport


def size_row(model: str, contender: Contender, latency: LatencyReport) -> SizeRow:
    """The row of a bundled (by name) or exported (by path) network that was measured."""
    path = model_path(model)
    crop_px = contender.estimator.session.input_size[0]
    return SizeRow(path.stem, crop_px, path.stat().st_size, sha256_of(path), latency)


def latency_table(rows: Sequence[SizeRow]) -> Table:
    """All times, for the screen: a column a network."""
    table = Table("", title="median / 90th percentile, ms")
    for row in rows:
        table.add_column(row.name, justify="right")
    table.add_row("crop", *(f"{row.crop_px} px" for row in rows))
    table.add_row("file", *(_megabytes(row) for row in rows), end_section=True)
    reports = [row.latency for row in rows]
    _add_group(table, "crop to vertices", [report.look for report in reports], ("crop", "network", "lift"))
    stages = ("crop", "network", "lift", "smooth")
    _add_group(table, "track, following", [report.following for report in reports], stages)
    _add_group(table, "track, also searching", [report.searching for report in reports], ("detect", *stages))
    table.add_row("hands a frame", *(f"{report.hands_per_frame:.2f}" for report in reports))
    return table


def _add_group(table: Table, title: str, group: Sequence[Latency], stages: Sequence[str]) -> None:
    """The total, its stages, and the processor's own time below them."""
    if not any(latency.frames for latency in group):
        return
    table.add_row(title, *(_spread(latency, "total") for latency in group), style="bold")
    for stage in stages:
        table.add_row(f"  {stage}", *(_spread(latency, stage) for latency in group))
    table.add_row("  processor time", *(_number(latency.processor_ms, 2) for latency in group))
    table.add_row("  frames", *(str(latency.frames) for latency in group), end_section=True)


def _spread(latency: Latency, stage: str) -> str:
    if not latency.frames:
        return UNKNOWN
    median, high = latency.stages_ms[stage]
    return f"{median:.2f} / {high:.2f}"


def markdown_table(rows: Sequence[SizeRow], accuracy: Mapping[str, Mapping[str, float]], clock: Clock = "wall") -> str:
    """The README's table: a row a network.

    accuracy: see `read_accuracy`. clock: which median times to show.
    """
    figures = list(dict.fromkeys(name for row in rows for name in accuracy.get(row.file_sha256, {})))
    header = ["`--model`", "crop", "file", "crop to vertices, ms", "`track`, ms", *figures]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        times = (_median_ms(latency, clock) for latency in (row.latency.look, row.latency.following))
        known = accuracy.get(row.file_sha256, {})
        cells = [row.name, f"{row.crop_px} px", _megabytes(row), *(_number(ms, 1) for ms in times)]
        lines.append(cells + [_figure(known.get(name, math.nan)) for name in figures])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median_ms(latency: Latency, clock: Clock) -> float:
    if not latency.frames:
        return math.nan
    return latency.processor_ms if clock == "processor" else latency.stages_ms["total"][0]


def _megabytes(row: SizeRow) -> str:
    return f"{row.file_bytes / 1e6:.1f} MB"


def _figure(value: float) -> str:
    return _number(value, 3 if abs(value) < 1 else 1)


def _number(value: float, digits: int) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"


def read_accuracy(paths: Sequence[Path], models: Sequence[str], boxes: Boxes = "given") -> dict[str, dict[str, float]]:
    """Figures by their titles by the SHA-256 of the network's file, from the metrics.json of evaluations.

    One figure for each data set, see `FIGURES`, of hands in boxes that were given or detected. Raises
    ValueError for an evaluation of a file that is none of the `models`: its figures would be stale.
    """
    known = {sha256_of(model_path(model)) for model in models} if paths else set()
    accuracy: dict[str, dict[str, float]] = {}
    for path in paths:
        setting, reports = _read_metrics(path)
        sha256 = setting["model_sha256"]
        if sha256 not in known:
            raise ValueError(f"{path} is of another file than {', '.join(models)} now are: evaluate again")
        accuracy.setdefault(sha256, {}).update(_figures(reports, boxes))
    return accuracy


def _read_metrics(path: Path) -> tuple[dict, list[dict]]:
    try:
        content = json.loads(path.read_text())
        return content["setting"], content["reports"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a metrics.json of `handmesh evaluate photos` or `synthetic`") from error


def _figures(reports: Sequence[Mapping], boxes: Boxes) -> dict[str, float]:
    found = {}
    for report in reports:
        if report["boxes"] != boxes or report.get("part"):
            continue
        name = next((name for name in FIGURES if name in report["figures"]), None)
        if name is not None:
            figure = report["figures"][name]
            unit = f", {figure['unit']}" if figure["unit"] else ""
            found[f"{report['data']}: {name}{unit}"] = math.nan if figure["value"] is None else figure["value"]
    return found


# `handmesh benchmark sizes`: mesh networks side by side, as a table for the terminal or for the README.


@dataclass(frozen=True)
class Options:
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


def compare_sizes(options: Options) -> None:
    """`handmesh benchmark sizes`: measure and print."""
    names, threads = options.model, options.threads
    if options.clock == "processor" and threads > 1:
        raise ValueError("the processor's time says how long one thread takes; add --threads 1")
    accuracy = read_accuracy(options.metrics, names, options.boxes)
    contenders = {name: open_contender(name, options.num_hands, threads, options.device) for name in names}
    frames = recorded_frames(options.source, options.frames) if options.source else drawn_frames(options.frames)
    reports = measure_latency(contenders, frames)
    rows = [size_row(name, contenders[name], reports[name]) for name in names]
    setting = f"ONNX Runtime {onnxruntime.__version__}, batch 1, {threads} thread{'s' if threads > 1 else ''}"
    seen = f"looking for {options.num_hands} hands in {options.source or 'drawn frames'}, 640x480"
    if options.markdown:
        print(markdown_table(rows, accuracy, options.clock))
        print(f"\nMedians of {options.clock} time; {machine()}; {setting}; {seen}.")
        return
    console = Console()
    console.print(f"{machine()}\n{setting}, {seen}", highlight=False)
    console.print(latency_table(rows))
    console.print(f"peak memory {peak_memory_mb():.0f} MB with {len(rows)} of them loaded")
