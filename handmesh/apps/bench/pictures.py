"""The frames that are shown to all, and what it took to get them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.assets import DEMO_CLIP
from handmesh.runtime.media.sources import Source, SourceError, open_source

SIZE = (640, 480)
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
    """The bundled clip with one hand in view: that in the left half of the picture."""
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
