"""How long tracking takes on this machine, stage by stage."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.assets import OPEN_HAND
from handmesh.render import shade
from handmesh.runtime.backend import open_session
from handmesh.runtime.detector import Detector
from handmesh.runtime.estimator import Estimator
from handmesh.runtime.machine import machine as machine
from handmesh.runtime.machine import peak_memory_mb as peak_memory_mb
from handmesh.runtime.media.sources import open_source
from handmesh.runtime.models import Device, detector_path, model_path
from handmesh.runtime.tracker import HandTracker
from handmesh.skeleton import PALM_TO_CAMERA
from handmesh.structs import Box, Camera

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
