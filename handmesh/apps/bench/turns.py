"""Shows the same frames to all contenders in turn, and adds up what it took."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from handmesh.apps.bench.burden import Burden
from handmesh.apps.bench.contenders import TRACK, Contender, Timed
from handmesh.apps.bench.pictures import Scene, Taken
from handmesh.runtime.benchmark import FRAME_S, TURN_FRAMES

QUANTILES = (50, 90, 99)

DRAWN = "track + overlay"
FRAME = "frame"
"""Sums of stages: what a user waits for, and the whole frame, from its capture to its recording."""

PROCESSOR = "processor"
"""Time of all threads together, as the mean of a turn: what went on beside `track` counts here as well."""

_REST_S = 0.03  # after a turn, for what a contender still does in the background


class Case(NamedTuple):
    """One setting of one contender."""

    name: str
    num_hands: int
    scene: Scene


class Times(NamedTuple):
    """Milliseconds of a stage over many frames."""

    median: float
    p90: float
    p99: float


class Figures(NamedTuple):
    """What a case took, while the machine was idle or busy."""

    frames: int
    hands_per_frame: float
    stages_ms: dict[str, Times]

    def median(self, stage: str = TRACK) -> float:
        """Median milliseconds of a stage; NaN where there is no such stage."""
        return self.stages_ms[stage].median if stage in self.stages_ms else math.nan


Measured = Mapping[tuple[Case, bool], Figures]
"""By case, and by whether cores were kept busy."""


def measure(
    contenders: Mapping[Case, Contender], frames: Iterable[Taken], burden: Burden, warm_up: int = TURN_FRAMES
) -> dict[tuple[Case, bool], Figures]:
    """Show `frames`, 30 a second, to all contenders, ten by ten; with a burden, it spins in every other turn.

    In turns, so that slow spells of the machine hit all alike. The first `warm_up` frames are not
    counted; ValueError where too few others are left.
    """
    samples: dict[tuple[Case, bool], list[Timed]] = {}
    numbered, busy = enumerate(frames), False
    while turn := list(islice(numbered, TURN_FRAMES)):
        burden.turn(busy)
        for case, contender in contenders.items():
            counted = samples.setdefault((case, busy), [])
            counted += (timed for (i, _), timed in zip(turn, _turn(contender, case, turn), strict=True) if i >= warm_up)
        busy = not busy and burden.cores > 0
    if not samples or not all(samples.values()) or (burden.cores and len(samples) < 2 * len(contenders)):
        raise ValueError(f"too few frames to time: expected {warm_up + 2 * TURN_FRAMES} or more")
    return {key: figures_of(timed) for key, timed in samples.items()}


def _turn(contender: Contender, case: Case, turn: Sequence[tuple[int, Taken]]) -> list[Timed]:
    begin_s = time.process_time()
    timed = [_whole(contender, case, taken, i * FRAME_S) for i, taken in turn]
    time.sleep(_REST_S)
    processor_ms = 1e3 * (time.process_time() - begin_s) / len(turn)
    return [Timed({**stages, PROCESSOR: processor_ms}, hands) for stages, hands in timed]


def _whole(contender: Contender, case: Case, taken: Taken, time_s: float) -> Timed:
    """A frame's stages with those of its capture, and their sums."""
    stages, hands = contender.see(case.scene.shown(taken.image_rgb), time_s)
    if "overlay" in stages:
        stages[DRAWN] = stages[TRACK] + stages["overlay"]
    whole = stages.get(DRAWN, stages[TRACK]) + stages.get("encode", 0.0) + sum(taken.stages_ms.values())
    return Timed({**taken.stages_ms, **stages, FRAME: whole}, hands)


def figures_of(timed: Sequence[Timed]) -> Figures:
    """Quantiles of what frames took; ValueError for none."""
    if not timed:
        raise ValueError("expected frames to sum up, got none")
    hands = float(np.mean([sample.hands for sample in timed]))
    columns = {stage: [sample.stages_ms[stage] for sample in timed] for stage in timed[0].stages_ms}
    return Figures(len(timed), hands, {stage: times_of(column) for stage, column in columns.items()})


def times_of(milliseconds: Sequence[float]) -> Times:
    """Their median and their 90th and 99th percentiles."""
    return Times(*(float(q) for q in np.percentile(milliseconds, QUANTILES)))
