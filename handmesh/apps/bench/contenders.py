"""What is timed: our tracker with its drawing, and MediaPipe Hands."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from handmesh.apps.session import Tracker
from handmesh.render import overlay
from handmesh.runtime.media.recording import Output
from handmesh.runtime.media.sources import Frame
from handmesh.structs import Camera

MEDIAPIPE = "MediaPipe"
TESTED_MEDIAPIPE = "0.10.21"

TRACK = "track"
"""The stage that both have: a frame in, hands out, on the wall."""


class MediaPipeUnavailable(RuntimeError):
    """There is no MediaPipe Hands to compare with; the message says why, in one line."""


class Timed(NamedTuple):
    """What a frame cost, and how many hands were found in it."""

    stages_ms: dict[str, float]
    hands: int


class Contender(Protocol):
    """Something that looks for hands in the frames of a video."""

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """Look at the next frame, (H, W, 3) uint8 RGB."""

    def close(self) -> None:
        """Give back what is held."""


class TrackerContender:
    """Our tracker, the drawing of its meshes and, with an `output`, their recording."""

    def __init__(self, tracker: Tracker, output: Output | None = None) -> None:
        self._tracker, self._output = tracker, output

    def see(self, image_rgb: np.ndarray, time_s: float) -> Timed:
        """The tracker's own stages, `track`, `overlay` and `encode`."""
        camera = Camera.from_fov(image_rgb.shape[1], image_rgb.shape[0])
        hands, track_ms = _clocked(lambda: self._tracker.track(image_rgb, time_s, camera))
        own = {stage: ms for stage, ms in self._tracker.timings_ms.items() if stage != "total"}
        picture, overlay_ms = _clocked(lambda: overlay(image_rgb, hands, camera))
        stages = {**own, TRACK: track_ms, "overlay": overlay_ms}
        if self._output is not None:
            frame = Frame("", time_s, image_rgb)
            _, stages["encode"] = _clocked(lambda: self._output.write(frame, picture, hands))
        return Timed(stages, len(hands))

    def close(self) -> None:
        """Finish the recording and give the tracker back."""
        if self._output is not None:
            self._output.close()
        self._tracker.close()


class MediaPipeContender:
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
