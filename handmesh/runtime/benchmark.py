"""How long tracking takes on this machine, stage by stage."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from handmesh.assets import OPEN_HAND
from handmesh.render import shade
from handmesh.runtime.sources import open_source
from handmesh.runtime.tracker import HandTracker
from handmesh.skeleton import PALM_TO_CAMERA
from handmesh.structs import Camera

FRAME_S = 1 / 30
SIZE = (640, 480)

_SKIN = (0.85, 0.65, 0.55)


@dataclass(frozen=True)
class Latency:
    """Times of one group of frames."""

    frames: int
    stages_ms: Mapping[str, tuple[float, float]]  # median and 90th percentile by stage


@dataclass(frozen=True)
class LatencyReport:
    """What `measure_latency` found."""

    following: Latency  # frames in which every hand was followed
    searching: Latency  # frames in which the detector ran as well
    hands_per_frame: float
    peak_memory_mb: float  # of this process; not a number where the system does not tell


def measure_latency(tracker: HandTracker, frames: Iterable[np.ndarray], warm_up: int = 10) -> LatencyReport:
    """Track (H, W, 3) uint8 RGB frames as 30 a second; the first `warm_up` are not counted."""
    times: list[dict[str, float]] = []
    hands = 0
    for i, frame in enumerate(frames):
        found = tracker.track(frame, i * FRAME_S)
        if i >= warm_up:
            times.append(tracker.timings_ms)
            hands += len(found)
    if not times:
        raise ValueError(f"expected more than {warm_up} frames to time")
    following = [ms for ms in times if ms["detect"] == 0]
    searching = [ms for ms in times if ms["detect"] > 0]
    return LatencyReport(_latency(following), _latency(searching), hands / len(times), peak_memory_mb())


def _latency(times: Sequence[Mapping[str, float]]) -> Latency:
    stages = times[0].keys() if times else ()
    columns = {stage: [ms[stage] for ms in times] for stage in stages}
    quantiles = {stage: np.percentile(column, (50, 90)) for stage, column in columns.items()}
    return Latency(len(times), {stage: (float(q[0]), float(q[1])) for stage, q in quantiles.items()})


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, in MB (10^6 bytes)."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def machine() -> str:
    """The processor, its cores, the system and Python, in one line."""
    cores = os.cpu_count() or 1
    return f"{_processor()}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
