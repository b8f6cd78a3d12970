"""HandTracker, the object that users hold: pictures in, hands in the camera's frame out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from handmesh.runtime.backend import Device, open_session
from handmesh.runtime.detector import Detector
from handmesh.runtime.estimator import Estimate, Estimator, is_usable
from handmesh.runtime.following import (
    SAME_PLACE,
    Rules,
    Track,
    nearest_track,
    overlap,
    same_hand,
    without_duplicates,
)
from handmesh.runtime.inputs import checked_camera, checked_frame, checked_time
from handmesh.runtime.models import DEFAULT, detector_path, model_path
from handmesh.runtime.smoothing import HandSmoother, Smooth
from handmesh.structs import Camera, Hand

Backend = Literal["onnxruntime"]


class HandTracker:
    """Finds hands in pictures and follows them through a video.

    `detect` looks at one picture and keeps no state. `track` takes the frames of one video in
    order: it looks where each hand should be, searches the whole frame only for hands that are
    missing, smooths, and keeps ids. After either, `timings_ms` holds the time of its stages.
    """

    def __init__(
        self,
        estimator: Estimator,
        detector: Detector,
        num_hands: int = 2,
        smooth: Smooth = "low",
        passes: int = 2,
        rules: Rules | None = None,
    ) -> None:
        """Most callers want `HandTracker.load`.

        passes: looks at a newly detected hand; the second is at a box around the joints of the first.
        """
        if num_hands < 1:
            raise ValueError(f"num_hands must be at least 1, got {num_hands}")
        if passes < 1:
            raise ValueError(f"passes must be at least 1, got {passes}")
        HandSmoother(smooth)  # refuses an unknown preset now, not at the first hand
        self.num_hands = num_hands
        self._estimator, self._detector = estimator, detector
        self._smooth, self._passes, self._rules = smooth, passes, rules or Rules()
        self._stopwatch = estimator.stopwatch
        self.reset()

    @staticmethod
    def load(
        model: str | Path = DEFAULT,
        num_hands: int = 2,
        backend: Backend = "onnxruntime",
        device: Device = "auto",
        smooth: Smooth = "low",
        threads: int | None = None,
        passes: int = 2,
    ) -> HandTracker:
        """A tracker with the bundled detector and a mesh network.

        model: 'fast' or 'balanced' (see `models.bundled_models`), or the path of an exported
        .onnx file. They answer alike, from crops of more and more pixels.
        device, threads: see `backend.open_session`. Raises ModelFileError (a ValueError) where a
        file is missing or not one of ours, ValueError for an unknown choice.
        """
        if backend not in get_args(Backend):
            raise ValueError(f"unknown backend {backend!r}; known are {', '.join(get_args(Backend))}")
        mesh = open_session(model_path(model), "mesh", threads, device)
        detector = open_session(detector_path(), "detector", threads, device)
        return HandTracker(Estimator(mesh), Detector(detector), num_hands, smooth, passes)

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds that the last call spent: detect, crop, network, lift, smooth and total."""
        return dict(self._stopwatch.ms)

    def reset(self) -> None:
        """Forget all hands; ids start from 0 again, so that a video played twice gives the same."""
        self._tracks: list[Track] = []
        self._next_id = 0
        self._frames_since_search = 0
        self._frame_shape: tuple[int, ...] | None = None

    def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list[Hand]:
        """The hands in one picture, the surest first, numbered from 0; neither reads nor changes what is followed.

        image_rgb: (H, W, 3) uint8 RGB, not mirrored. camera: what took it; None assumes a field of
        view of 60 degrees. Raises ValueError for anything else.
        """
        image = checked_frame(image_rgb)
        camera = checked_camera(camera, image)
        self._stopwatch.restart()
        with self._stopwatch.stage("total"):
            found = self._search(image, camera, known=[])
        found.sort(key=lambda estimate: -estimate.hand.score)
        return [replace(estimate.hand, id=i) for i, estimate in enumerate(found)]

    def track(self, frame_rgb: np.ndarray, time_s: float | None = None, camera: Camera | None = None) -> list[Hand]:
        """The hands in the next frame of a video, by id.

        frame_rgb, camera: as for `detect`. time_s: when the frame was taken, on any clock; None is
        now. Where time stands still, jumps or runs backwards, smoothing starts anew. A frame of
        another size starts a new video, in which hands have new ids.
        """
        frame = checked_frame(frame_rgb)
        camera = checked_camera(camera, frame)
        time_s = time.perf_counter() if time_s is None else checked_time(time_s)
        self._stopwatch.restart()
        with self._stopwatch.stage("total"):
            if frame.shape != self._frame_shape:
                self._tracks, self._frame_shape = [], frame.shape
            self._follow(frame, camera, time_s)
            if self._search_is_due():
                self._find_missing(frame, camera, time_s)
        return [track.hand for track in self._tracks if track.misses == 0]

    def _follow(self, frame: np.ndarray, camera: Camera, time_s: float) -> None:
        """Look for each followed hand where it should be."""
        for track in self._tracks:
            estimate = self._look_again(track, frame, camera, time_s)
            if estimate is None:
                track.misses += 1
            else:
                self._update(track, estimate, camera, time_s)
        self._tracks = without_duplicates([t for t in self._tracks if t.misses <= self._rules.max_misses])

    def _look_again(self, track: Track, frame: np.ndarray, camera: Camera, time_s: float) -> Estimate | None:
        box = track.box_at(time_s)
        if not is_usable(box, frame):
            return None
        estimate = self._estimator.estimate(frame, camera, box, track.hand.side)
        if estimate is not None and track.side_doubts >= self._rules.side_patience:
            estimate = self._estimator.better_side(frame, camera, box, estimate)
            track.side_doubts = 0  # if this changed nothing, doubt for as long again before the next try
        return estimate if _is_hand(estimate, frame, self._rules.kept_score) else None

    def _search_is_due(self) -> bool:
        """Search at once for all hands or a missed one, and now and then for one more."""
        followed = sum(track.misses == 0 for track in self._tracks)
        self._frames_since_search += 1
        if followed >= self.num_hands:
            return False
        urgent = followed == 0 or followed < len(self._tracks)
        return urgent or self._frames_since_search >= self._rules.detect_every

    def _find_missing(self, frame: np.ndarray, camera: Camera, time_s: float) -> None:
        self._frames_since_search = 0
        followed = [track for track in self._tracks if track.misses == 0]
        missed = [track for track in self._tracks if track.misses > 0]
        for estimate in self._search(frame, camera, [track.estimate for track in followed]):
            track = nearest_track(missed, estimate, time_s)
            if track is None:
                followed.append(self._begin(estimate, camera, time_s))
            else:
                self._update(track, estimate, camera, time_s)
                missed.remove(track)
                followed.append(track)
        self._tracks = sorted(followed + missed[: self.num_hands - len(followed)], key=lambda track: track.id)

    def _search(self, image: np.ndarray, camera: Camera, known: Sequence[Estimate]) -> list[Estimate]:
        """Hands in the whole picture that are not among the `known`, up to `num_hands` with these."""
        with self._stopwatch.stage("detect"):
            detections = self._detector.detect(image, self._estimator.confidence.proposed)
        hands = list(known)
        for detection in detections[: 2 * self.num_hands]:
            if len(hands) == self.num_hands:
                break
            box = detection.box
            if not is_usable(box, image) or any(overlap(box, hand.box) > SAME_PLACE for hand in hands):
                continue
            estimate = self._estimator.found(image, camera, detection, self._passes)
            if _is_hand(estimate, image, self._rules.found_score) and not any(same_hand(estimate, h) for h in hands):
                hands.append(estimate)
        return hands[len(known) :]

    def _begin(self, estimate: Estimate, camera: Camera, time_s: float) -> Track:
        with self._stopwatch.stage("smooth"):
            track = Track.begin(self._next_id, HandSmoother(self._smooth), estimate, camera, time_s)
        self._next_id += 1
        return track

    def _update(self, track: Track, estimate: Estimate, camera: Camera, time_s: float) -> None:
        with self._stopwatch.stage("smooth"):
            track.update(estimate, camera, time_s)


def _is_hand(estimate: Estimate | None, image: np.ndarray, score: float) -> bool:
    return estimate is not None and estimate.hand.score >= score and is_usable(estimate.box, image)
