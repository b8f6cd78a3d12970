"""HandTracker, the object that users hold: images in, hands in the camera's frame out."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NoReturn, overload

import numpy as np

from handmesh.assets import DEFAULT, DETECTOR, Backend, Device, detector_path, model_path
from handmesh.detection import Detection, Detector
from handmesh.files import Picture, pixels
from handmesh.hand.lbs import SkinnedHand
from handmesh.machine import PerProcess
from handmesh.tracking.association import (
    LONGEST_AHEAD_S,
    SAME_POSITION_OVERLAP,
    Track,
    TrackerConfig,
    are_like_a_pair,
    deduplicate,
    is_covered,
    overlap,
    same_hand,
    track_of,
)
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import OPPOSITE_SIDES, Estimate, Estimator, is_usable
from handmesh.tracking.hand_size import checked_hand_size
from handmesh.tracking.smoothing import HandSmoother, Smooth, checked_preset
from handmesh.types import (
    MIN_SCORE,
    Box,
    Camera,
    Hand,
    checked_camera,
    checked_count,
    checked_frame,
    checked_number,
    checked_time,
)


class _Helpers:
    """The threads that work for a tracker, and the search that they are busy with."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="handmesh")  # starts none yet
        self.search: Future[tuple[list[Detection], float]] | None = None


class HandTracker:
    """Finds hands in images and follows them through a video.

    `detect` looks at one image and keeps no state. `track` takes the frames of one video in
    order: it looks where each hand should be, searches the whole frame only for hands that are
    missing or unsure, smooths, and keeps ids. After either, `timings_ms` holds the time of its stages.

    Where the machine has several cores, two hands are estimated side by side, and while one hand is
    followed, the search for another goes on between two frames: its result belongs to the next one.
    """

    def __init__(
        self,
        estimator: Estimator,
        detector: Detector,
        num_hands: int = 2,
        smooth: Smooth = "low",
        passes: int = 2,
        config: TrackerConfig | None = None,
        hand_size_m: float | None = None,
    ) -> None:
        """Most callers want `HandTracker.load`.

        passes: estimates of a newly detected hand; the second is at a box around the joints of the first.
        """
        checked_preset(smooth)  # refuses an unknown one now, not at the first hand
        self.num_hands, self.hand_size_m = checked_count("num_hands", num_hands), hand_size_m
        self._estimator, self._detector = estimator, detector
        self._smooth, self._passes, self._config = smooth, checked_count("passes", passes), config or TrackerConfig()
        self._stopwatch = estimator.stopwatch
        self._helpers = PerProcess(_Helpers)
        self._closed = False
        self.name = "networks of one's own"
        """What the networks are called, for people."""
        self.side_by_side = _cores() > 1
        self._empty_images = 0  # in which nothing was found, up to the last that `_check_colours` looks at
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
        hand_size_m: float | None = None,
        detector: str | Path = DETECTOR,
        min_score: float = MIN_SCORE,
    ) -> HandTracker:
        """A tracker with a detector and a mesh network.

        model: 'fast' or 'balanced' (see `assets.bundled_models`), or the path of an exported
        .onnx file. They answer alike, from crops of more and more pixels.
        detector: 'detector', the bundled one, or the path of an exported .onnx file.
        min_score: of a newly found hand, 0..1; it is followed down to 0.45 of that. Higher is surer, and finds fewer.
        backend, device, threads: see `backends.open_session`. hand_size_m: see the property.
        Raises ModelFileError (a ValueError) where a file is missing or not one of ours, ValueError
        for an unknown choice.
        """
        config = TrackerConfig.of_min_score(min_score)
        paths = model_path(model), detector_path(detector)
        mesh = open_session(paths[0], "mesh", threads, device, backend)
        finder = Detector(open_session(paths[1], "detector", threads, device, backend))
        tracker = HandTracker(Estimator(mesh), finder, num_hands, smooth, passes, config, hand_size_m)
        tracker.name = paths[0].stem
        tracker._warm_up()
        return tracker

    def _warm_up(self) -> None:
        """Look at nothing and steady it: what is compiled or computed once is so now, not at the first hand."""
        nothing = np.zeros((96, 128, 3), np.uint8)
        camera = checked_camera(None, nothing)
        self._detections(nothing)
        seen = self._estimator.estimate(nothing, camera, Box((64.0, 48.0), 64.0), "right")
        if seen is not None:
            smoother = HandSmoother(self._smooth, self.hand)
            for dt_s in (None, 1 / 30):
                smoother(seen.hand, camera, dt_s)
        self._stopwatch.restart()

    def close(self) -> None:
        """End the threads that help; the tracker cannot be used afterwards."""
        self._closed = True
        self._helpers.get().threads.shutdown()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"following {len(self._tracks)} of {self.num_hands} hands"
        return f"HandTracker({self.name} on {self.provider}, smooth={self._smooth}, {state})"

    def __enter__(self) -> HandTracker:
        self._check_open()
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a HandTracker cannot be pickled or copied: load one in every process, or for every video")

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the tracker is closed: load another one")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def provider(self) -> str:
        """What the networks run on, as in 'CPU', 'CUDA' or 'OpenVINO CPU bf16'."""
        return self._estimator.session.provider

    @property
    def hand(self) -> SkinnedHand:
        """The parametric hand that the network poses."""
        return self._estimator.hand

    @property
    def hand_size_m(self) -> float | None:
        """The length of the user's hand as `Hand.size_m` measures it, which fixes the scale of all; None: not known.

        Setting it to no size of a hand raises ValueError.
        """
        return self._hand_size_m

    @hand_size_m.setter
    def hand_size_m(self, size_m: float | None) -> None:
        self._hand_size_m = None if size_m is None else checked_hand_size(size_m)

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds that the last call spent: detect, crop, network, lift, smooth and total.

        What ran side by side or between two frames counts in its stage, not in the total.
        """
        return dict(self._stopwatch.ms)

    def reset(self) -> None:
        """Forget all hands; ids start from 0 again, so that a video played twice gives the same."""
        self._check_open()
        self._tracks: list[Track] = []
        self._next_id = 0
        self._frames_since_search = 0
        self._frame_shape: tuple[int, ...] | None = None
        self._helpers.get().search = None

    @overload
    def detect(self, image_rgb: Picture, camera: Camera | None = None) -> list[Hand]: ...

    @overload
    def detect(self, image_rgb: Sequence[Picture], camera: Camera | None = None) -> list[list[Hand]]: ...

    def detect(
        self, image_rgb: Picture | Sequence[Picture], camera: Camera | None = None
    ) -> list[Hand] | list[list[Hand]]:
        """The hands in one image, the surest first, numbered from 0; neither reads nor changes what is followed.

        image_rgb: (H, W, 3) uint8 RGB, not mirrored; a file's path; an image of Pillow's; or a list of such, which
        gives a list of the hands of each. camera: what took it; None assumes a field of view of 60 degrees.
        Raises ValueError for anything else, and for a file that cannot be read.
        """
        self._check_open()
        if isinstance(image_rgb, list | tuple):
            return [self.detect(one, camera) for one in image_rgb]
        image = checked_frame(pixels(image_rgb))
        camera = checked_camera(camera, image)
        self._stopwatch.restart()
        with self._stopwatch.stage("total"):
            found = self._look_at(self._detections(image), image, camera, known=[])
            if not found:
                self._check_colours(image, camera)
        found.sort(key=lambda estimate: -estimate.hand.score)
        return [replace(self._sized(estimate.hand), id=i) for i, estimate in enumerate(found)]

    def track(
        self,
        frame_rgb: Picture,
        time_s: float | None = None,
        camera: Camera | None = None,
        predict_s: float = 0.0,
    ) -> list[Hand]:
        """The hands in the next frame of a video, by id.

        frame_rgb, camera: as for `detect`. time_s: when the frame was taken, on any clock; None is
        now. Where time stands still, jumps or runs backwards, smoothing starts anew. A frame of
        another size starts a new video, in which hands have new ids. predict_s: carry hands so far ahead of the
        frame, 0 to 0.25 s, to where they should be when a display shows them; following is not touched by it.
        """
        self._check_open()
        frame = checked_frame(pixels(frame_rgb))
        if not 0.0 <= checked_number("predict_s", predict_s) <= LONGEST_AHEAD_S:
            raise ValueError(f"predict_s must lie between 0 and {LONGEST_AHEAD_S} seconds, got {predict_s}")
        camera = checked_camera(camera, frame)
        time_s = time.perf_counter() if time_s is None else checked_time(time_s)
        self._stopwatch.restart()
        with self._stopwatch.stage("total"):
            if frame.shape != self._frame_shape:
                self._tracks, self._frame_shape, self._helpers.get().search = [], frame.shape, None
            self._follow(frame, camera, time_s)
            self._find_missing(frame, camera, time_s)
            if not self._tracks:
                self._check_colours(frame, camera)
            return [self._sized(hand) for hand in self._shown(camera, time_s, predict_s)]

    def _shown(self, camera: Camera, time_s: float, predict_s: float) -> list[Hand]:
        """The hands that were seen, and those that are carried on for a frame or two, as far as there is room."""
        hands = [track.ahead(camera, predict_s) for track in self._tracks if track.misses == 0]
        carried = [t for t in self._tracks if 0 < t.misses <= self._config.max_coast_frames and not t.replaced]
        for track in carried[: self.num_hands - len(hands)]:
            hands.append(track.predicted(camera, time_s + predict_s))
        return sorted(hands, key=lambda hand: hand.id)

    def _sized(self, hand: Hand) -> Hand:
        return hand if self.hand_size_m is None else hand.scaled(self.hand_size_m / hand.size_m)

    def _follow(self, frame: np.ndarray, camera: Camera, time_s: float) -> None:
        """Look for each followed hand where it should be."""
        followed = [track for track in self._tracks if track.is_looked_for(time_s, self._config)]
        looks = self._each(lambda track: self._look_again(track, frame, camera, time_s), followed)
        seen = {track: look for track, look in zip(followed, looks, strict=True) if look is not None}
        kept = deduplicate(seen, time_s)
        if len(kept) > self.num_hands:  # one that was missed is back, when another has taken its place
            first = sorted(kept, key=lambda track: (track.misses, -kept[track].confidence))
            kept = {track: kept[track] for track in first[: self.num_hands]}
        for track in self._tracks:
            if track in kept:
                self._update(track, kept[track], camera, time_s)
            else:
                track.misses += 1
        self._tracks = [track for track in self._tracks if track.can_be_reidentified(time_s, self._config)]

    def _each(self, work: Callable[[Track], Estimate | None], tracks: Sequence[Track]) -> list[Estimate | None]:
        """The work done on every track, side by side where there are cores for it."""
        if len(tracks) < 2 or not self.side_by_side:
            return [work(track) for track in tracks]
        others = [self._helpers.get().threads.submit(work, track) for track in tracks[1:]]
        return [work(tracks[0]), *(other.result() for other in others)]

    def _look_again(self, track: Track, frame: np.ndarray, camera: Camera, time_s: float) -> Estimate | None:
        box = track.box_at(time_s)
        if not is_usable(box, frame):
            return None
        posed_anew = self._smooth != "off"
        estimate = self._estimator.estimate(frame, camera, box, track.hand.side, mesh=not posed_anew)
        if estimate is not None and track.side_doubts >= self._config.handedness_switch_frames:
            tried = self._estimator.both_sides(frame, camera, box, estimate)
            if tried.lead < -self._lead_by_others(track):
                estimate = tried.other
            track.side_doubts = 0  # if this changed nothing, doubt for as long again before the next try
        is_carried = track.misses <= self._config.max_coast_frames
        least_score = self._config.keep_threshold if is_carried else self._config.new_track_threshold
        return estimate if _is_hand(estimate, frame, least_score) else None

    def _lead_by_others(self, track: Track) -> float:
        """How much the one other hand in view, if there is one, speaks for the side of this track."""
        others = [other.hand.side for other in self._tracks if other is not track and other.misses == 0]
        if len(others) != 1:
            return 0.0
        return -OPPOSITE_SIDES if others[0] == track.hand.side else OPPOSITE_SIDES

    def _find_missing(self, frame: np.ndarray, camera: Camera, time_s: float) -> None:
        """Search for hands that are not followed: in this frame if none is, otherwise between this one and the next."""
        helpers = self._helpers.get()
        search, helpers.search = helpers.search, None
        if search is not None:
            detections, spent_ms = search.result()
            self._stopwatch.add("detect", spent_ms)
            self._take_in(detections, frame, camera, time_s)
        if all(track.misses > 0 for track in self._tracks):
            self._frames_since_search = 0
            self._take_in(self._detections(frame), frame, camera, time_s)
        elif self._search_is_due():
            self._frames_since_search = 0
            copy = frame.copy()  # the caller may draw on the frame meanwhile
            helpers.search = helpers.threads.submit(self._detections_and_ms, copy)

    def _search_is_due(self) -> bool:
        """In every frame for one that was lost and is remembered, now and then for one more or an unsure one."""
        self._frames_since_search += 1
        lost = any(track.misses > 0 for track in self._tracks)
        due = lost or self._frames_since_search >= self._config.detection_interval
        return due and sum(map(self._is_sure, self._tracks)) < self.num_hands

    def _is_sure(self, track: Track) -> bool:
        """Whether the track sees a hand for sure; one that does not may be drifting off it."""
        return track.misses == 0 and track.estimate.hand.score >= self._config.sure_score

    def _detections(self, image: np.ndarray) -> list[Detection]:
        with self._stopwatch.stage("detect"):
            return self._detector.detect(image, self._estimator.confidence.proposed)

    def _detections_and_ms(self, image: np.ndarray) -> tuple[list[Detection], float]:
        """For another thread: what it spends belongs to the frame that takes its result in."""
        start = time.perf_counter()
        detections = self._detector.detect(image, self._estimator.confidence.proposed)
        return detections, (time.perf_counter() - start) * 1e3

    def _take_in(self, detections: Sequence[Detection], frame: np.ndarray, camera: Camera, time_s: float) -> None:
        """Look where a detector saw hands; each found goes on with the track that has missed it, or begins one."""
        seen = [track for track in self._tracks if self._is_sure(track)]
        sought = [track for track in self._tracks if track not in seen]
        hands = self._look_at(detections, frame, camera, [track.estimate for track in seen])
        for track, estimate in zip(seen, hands, strict=False):
            if estimate is not track.estimate:
                self._update(track, estimate, camera, time_s)
        for estimate in hands[len(seen) :]:
            track = track_of(sought, estimate, time_s)
            if track is None:
                seen.append(self._begin(estimate, camera, time_s))
                for other in sought:
                    other.replaced = other.replaced or other.hand.side == estimate.hand.side
            else:
                if track.misses > 0 or estimate.hand.score >= self._config.sure_score:
                    self._update(track, estimate, camera, time_s)
                sought.remove(track)
                seen.append(track)
        unsure = sorted((t for t in sought if t.misses == 0), key=lambda track: -track.estimate.hand.score)
        for track in unsure[max(0, self.num_hands - len(seen)) :]:
            track.misses += 1  # surer ones have taken its place
        self._tracks = sorted([*seen, *sought], key=lambda track: track.id)

    def _look_at(
        self, detections: Sequence[Detection], image: np.ndarray, camera: Camera, known: Sequence[Estimate]
    ) -> list[Estimate]:
        """The `known` hands and then those in the detector's boxes that are not among them, up to `num_hands`.

        A known one is another estimate than before where two hands of one side were told apart, and where what was
        followed is some part of a hand that is found for sure.
        """
        hands, unsure, detection_of = list(known), [], {}
        for detection in detections[: 2 * self.num_hands]:
            if len(hands) == self.num_hands:
                break
            box = detection.box
            if not is_usable(box, image) or any(overlap(box, hand.box) > SAME_POSITION_OVERLAP for hand in hands):
                continue
            estimate = self._estimator.found(image, camera, detection, self._passes)
            if not _is_hand(estimate, image, 0.0) or is_covered(estimate.box, hands):
                continue
            if estimate.hand.score >= self._config.new_track_threshold:
                k = self._part_of(estimate, hands)
                hands[k : k + 1] = [estimate]
                detection_of[k] = detection
            else:
                unsure.append(estimate)
        if len(hands) == 1 < self.num_hands and not known:
            beside = (estimate.accompanied() for estimate in unsure if are_like_a_pair(estimate, hands[0]))
            hands += [one for one in beside if one.hand.score >= self._config.new_track_threshold][:1]
        if len(hands) == 2 and detection_of and hands[0].hand.side == hands[1].hand.side:
            return self._told_apart(hands, detection_of, image, camera)
        return hands

    def _part_of(self, estimate: Estimate, hands: Sequence[Estimate]) -> int:
        """Which of the hands is a part of the one that is found, as its fingers may be; their number if none is."""
        if estimate.hand.score >= self._config.sure_score:
            for k, hand in enumerate(hands):
                if hand.hand.side == estimate.hand.side and is_covered(hand.box, [estimate]):
                    return k
        return len(hands)

    def _told_apart(
        self, hands: Sequence[Estimate], detection_of: Mapping[int, Detection], image: np.ndarray, camera: Camera
    ) -> list[Estimate]:
        """Two hands of one side, the less sure one as one of the other side where not enough speaks against it.

        detection_of: by its number, where the detector saw a hand just now, not followed yet or in part alone.
        """
        tried = [self._tried_as_other(hand, detection_of.get(k), image, camera) for k, hand in enumerate(hands)]
        k = min((0, 1), key=lambda k: tried[k].lead)
        least_score = self._config.new_track_threshold if k in detection_of else self._config.keep_threshold
        other = tried[k].other
        if tried[k].lead >= OPPOSITE_SIDES or not _is_hand(other, image, least_score) or same_hand(other, hands[1 - k]):
            return list(hands)
        return [other, hands[1]] if k == 0 else [hands[0], other]

    def _tried_as_other(
        self, hand: Estimate, detection: Detection | None, image: np.ndarray, camera: Camera
    ) -> Estimate:
        """The hand with what it is as one of the other side; detection: where one was found just now."""
        if detection is None:
            return self._estimator.both_sides(image, camera, hand.box, hand)
        if hand.other is not None:
            return hand
        again = self._estimator.found(image, camera, detection, self._passes, both=True) or hand
        return again if again.hand.side == hand.hand.side else hand._replace(other=again, lead=-again.lead)

    def _check_colours(self, image: np.ndarray, camera: Camera) -> None:
        """Warn, once, where nothing was found but surely would be in RGB; two empty images of a tracker are tried."""
        if self._empty_images >= _COLOURS_TRIED[-1] or np.array_equal(image[..., 0], image[..., 2]):
            return
        self._empty_images += 1
        if self._empty_images not in _COLOURS_TRIED:
            return
        swapped = np.ascontiguousarray(image[..., ::-1])
        found = self._look_at(self._detections(swapped), swapped, camera, known=[])
        if any(estimate.hand.score >= self._config.sure_score for estimate in found):
            self._empty_images = _COLOURS_TRIED[-1]
            remedy = "if the image is BGR, as OpenCV reads it, give image[..., ::-1]"
            warnings.warn(f"no hand was found, but one is there with red and blue swapped: {remedy}", stacklevel=3)

    def _begin(self, estimate: Estimate, camera: Camera, time_s: float) -> Track:
        with self._stopwatch.stage("smooth"):
            track = Track.begin(self._next_id, HandSmoother(self._smooth, self.hand), estimate, camera, time_s)
        self._next_id += 1
        return track

    def _update(self, track: Track, estimate: Estimate, camera: Camera, time_s: float) -> None:
        with self._stopwatch.stage("smooth"):
            track.update(estimate, camera, time_s)


_COLOURS_TRIED = (1, 10)  # which of the images without a hand are looked at again with red and blue swapped


def _is_hand(estimate: Estimate | None, image: np.ndarray, score: float) -> bool:
    return estimate is not None and estimate.hand.score >= score and is_usable(estimate.box, image)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
