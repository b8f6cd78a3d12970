"""The table of the bundled sizes: what each mesh network costs on this machine, timed in turn, and how good it is, by
evaluations of the same files. No torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from handmesh.assets import Device, bundled_models, detector_path, model_path
from handmesh.benchmark.latency import (
    PROCESSOR,
    TRACK,
    Candidate,
    Case,
    CpuLoad,
    Scene,
    Taken,
    Timed,
    Timings,
    TrackerCandidate,
    drawn_frames,
    interleave,
    stage,
    stage_table,
    taken_frames,
    timings_of,
)
from handmesh.detection import Detector
from handmesh.evaluation.report import UNKNOWN, Report, Section, Table
from handmesh.files import parsed_json, sha256_of
from handmesh.machine import import_onnxruntime, machine, peak_memory_mb
from handmesh.tracking.backends import default_threads, open_session
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Box, Camera

onnxruntime = import_onnxruntime()

Clock = Literal["wall", "processor"]
Boxes = Literal["given", "detected"]

SIZE_METRICS = ("PA-MPVPE", "2D error, median")
"""The metrics that stand for a whole evaluation in the table; the first that it has."""


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


class BoxCandidate:
    """Our mesh network by itself: from crop to vertices, once in every frame."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """One estimate in the middle of the frame, (H, W, 3) uint8; what is there does not change what it costs."""
        height, width = image_rgb.shape[:2]
        camera, stages = Camera.from_fov(width, height), {}
        box = Box((width / 2, height / 2), 0.4 * height, angle_rad=0.3)
        self._estimator.stopwatch.restart()
        with stage(stages, PROCESSOR, time.process_time), stage(stages, TRACK):
            estimate = self._estimator.estimate(image_rgb, camera, box, "right")
        return Timed({**self._estimator.stopwatch.ms, **stages}, estimate is not None)

    def processor_s(self) -> float:
        """All of this process's."""
        return time.process_time()

    def close(self) -> None:
        pass


class LatencyReport(NamedTuple):
    """What `measure_latency` found of one network."""

    look: Timings  # crop to vertices: one look at one hand, in every frame
    following: Timings  # `track`, frames in which every hand was followed
    searching: Timings  # `track`, frames in which the detector ran as well
    hands_per_frame: float


class SizeRow(NamedTuple):
    """One network of the table."""

    name: str
    crop_px: int
    file_bytes: int
    file_sha256: str
    latency: LatencyReport

    @property
    def size(self) -> list[str]:
        """Of its crops and of its file, in words."""
        return [f"{self.crop_px} px", f"{self.file_bytes / 1e6:.1f} MB"]


def compare_sizes(options: SizeOptions) -> None:
    """`handmesh benchmark sizes`: measure and print."""
    names, threads = options.model, options.threads
    if options.clock == "processor" and threads > 1:
        raise ValueError("the processor's time says how long one thread takes; add --threads 1")
    accuracy = read_accuracy(options.metrics, names, options.boxes)
    networks: dict[str, tuple[Estimator, HandTracker]] = {}
    for name in names:
        estimator = Estimator(open_session(model_path(name), "mesh", threads, options.device))
        detector = Detector(open_session(detector_path(), "detector", threads, options.device))
        networks[name] = estimator, HandTracker(estimator, detector, options.num_hands)
    taken = (frame.image_rgb for frame in taken_frames(options.source, options.frames)) if options.source else None
    reports = measure_latency(networks, taken or drawn_frames(options.frames))
    rows = []
    for name in names:
        path, crop_px = model_path(name), networks[name][0].session.input_size[0]
        rows.append(SizeRow(path.stem, crop_px, path.stat().st_size, sha256_of(path), reports[name]))
    runtime = f"ONNX Runtime {onnxruntime.__version__}, batch 1, {threads} thread{'s' if threads > 1 else ''}"
    seen = f"looking for {options.num_hands} hands in {options.source or 'drawn frames'}, 640x480"
    if options.markdown:
        print(markdown_table(rows, accuracy, options.clock))
        print(f"\nMedians of {options.clock} time; {machine()}; {runtime}; {seen}.")
        return
    hands = ", ".join(f"{row.name} {row.latency.hands_per_frame:.2f}" for row in rows)
    notes = [f"hands a frame: {hands}", f"peak memory {peak_memory_mb():.0f} MB with {len(rows)} of them loaded"]
    setting = {"machine": machine(), "runtime": runtime, "frames": seen}
    Report("", "", setting, [Section("", latency_tables(rows))], notes=notes).print(Console(soft_wrap=True))


def measure_latency(
    networks: Mapping[str, tuple[Estimator, HandTracker]], frames: Iterable[np.ndarray], warm_up: int = 10
) -> dict[str, LatencyReport]:
    """Show (H, W, 3) uint8 RGB frames to all networks in turn, see `interleave`; by their names, how long they took.

    networks: each by itself and inside the whole tracker; both share its session and their stopwatch.
    """
    cases: dict[Case, Candidate] = {}
    for name, (estimator, tracker) in networks.items():
        cases[Case(name, 1, Scene("crop to vertices"))] = BoxCandidate(estimator)
        cases[Case(name, tracker.num_hands, Scene("track"))] = TrackerCandidate(tracker, drawn=False)
    samples = interleave(cases, (Taken(frame, {}) for frame in frames), CpuLoad(0), warm_up)
    reports = {}
    for name in networks:
        look, tracks = (timed for (case, _), timed in samples.items() if case.name == name)
        following = timings_of([one for one in tracks if one.stages_ms["detect"] == 0])
        searching = timings_of([one for one in tracks if one.stages_ms["detect"] > 0])
        reports[name] = LatencyReport(timings_of(look), following, searching, timings_of(tracks).hands_per_frame)
    return reports


def latency_tables(rows: Sequence[SizeRow]) -> list[Table]:
    """All times, a column a network."""
    tables = []
    for title, part in (
        ("crop to vertices", "look"),
        *((f"track, {part}", part) for part in ("following", "searching")),
    ):
        columns = {",\n".join([row.name, *row.size]): getattr(row.latency, part) for row in rows}
        if any(timings.frames for timings in columns.values()):
            tables.append(stage_table(title, columns))
    return tables


def _number(value: float, digits: int) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"


def markdown_table(rows: Sequence[SizeRow], accuracy: Mapping[str, Mapping[str, float]], clock: Clock = "wall") -> str:
    """The README's table: a row a network.

    accuracy: see `read_accuracy`. clock: which median times to show.
    """
    names = list(dict.fromkeys(name for row in rows for name in accuracy.get(row.file_sha256, {})))
    lines, shown = [], PROCESSOR if clock == "processor" else TRACK
    for row in rows:
        times = [_number(timings.median(shown), 1) for timings in (row.latency.look, row.latency.following)]
        metrics = [accuracy.get(row.file_sha256, {}).get(name, math.nan) for name in names]
        lines.append([row.name, *row.size, *times, *(_number(value, 3 if abs(value) < 1 else 1) for value in metrics)])
    heads = ["`--model`", "crop", "file", "crop to vertices, ms", "`track`, ms", *names]
    return Table("", heads, lines).markdown()


def read_accuracy(paths: Sequence[Path], models: Sequence[str], boxes: Boxes = "given") -> dict[str, dict[str, float]]:
    """Metrics by their titles by the SHA-256 of the network's file, from the metrics.json of evaluations.

    One metric for each data set, see `SIZE_METRICS`, of hands in boxes that were given or detected. Raises
    ValueError for an evaluation of a file that is none of the `models`: its metrics would be stale.
    """
    known = {sha256_of(model_path(model)) for model in models} if paths else set()
    accuracy: dict[str, dict[str, float]] = {}
    for path in paths:
        try:
            content = parsed_json(path.read_bytes(), path)
            setting, reports = content["setting"], content["reports"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a metrics.json of `handmesh evaluate photos` or `synthetic`") from error
        if setting["model_sha256"] not in known:
            raise ValueError(f"{path} is of another file than {', '.join(models)} now are: evaluate again")
        found = accuracy.setdefault(setting["model_sha256"], {})
        for report in reports:
            name = next((name for name in SIZE_METRICS if name in report["metrics"]), None)
            if name is not None and report["boxes"] == boxes and not report.get("part") and not report.get("by"):
                metric = report["metrics"][name]
                unit = f", {metric['unit']}" if metric["unit"] else ""
                value = math.nan if metric["value"] is None else metric["value"]
                found[f"{report['data']}: {name}{unit}"] = value
    return accuracy
