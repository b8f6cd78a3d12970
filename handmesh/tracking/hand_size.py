"""The true size of the user's hand, seen at a known distance: what turns a result up to scale into metres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.types import Hand, checked_number

SMALLEST_M, LARGEST_M = 0.12, 0.26
"""Lengths from wrist to middle fingertip that are believed: a small child's to a very large man's."""

NEAREST_M, FARTHEST_M = 0.15, 2.0
"""Distances at which a hand can be measured: it must fit the image and still be seen well."""

LEAST_SCORE = 0.5
LEAST_EXTENT = 0.75
"""Of the hand's length, how much must lie across the image: an open hand that faces the camera has 0.9 and more."""
LARGEST_DEVIATION = 0.06
"""Of the size: where frames disagree by more, the hand was not held still or was seen badly."""

_LONGEST_STEP_S = 0.25  # a longer pause between two frames does not count as time in which the hand was seen
_TIP = skeleton.KEYPOINTS.index("middle4")


class HandSizeError(ValueError):
    """A size that no hand has, or a measurement that failed; the message is one line with what to do."""


def checked_hand_size(size_m: float) -> float:
    """`size_m` if a hand can be that long from wrist to middle fingertip; HandSizeError otherwise."""
    size_m = checked_number("a hand's size in metres", size_m)
    if not SMALLEST_M <= size_m <= LARGEST_M:
        hint = "; give it in metres" if 1 <= size_m <= 300 else ""
        raise HandSizeError(
            f"a hand measures {SMALLEST_M:.2f} to {LARGEST_M:.2f} m from the wrist to the tip of the middle finger, "
            f"got {size_m:.3g} m{hint}"
        )
    return size_m


class _Sample(NamedTuple):
    time_s: float
    size_m: float


class HandSizeCalibration:
    """Measures a hand that is held open towards the camera at a known distance for some seconds.

    A hand that is taken to be too large by some factor is taken to be too far by the same factor, hence
    true size = size seen * true distance / distance seen. The median over the frames is taken. Frames
    without a hand, with several, or with one that is turned, closed or doubtful, are left out and take no time.
    """

    def __init__(self, distance_m: float, seconds: float = 5.0) -> None:
        """distance_m: from the camera to the hand's knuckles, along the line of sight. Raises HandSizeError."""
        if not NEAREST_M <= checked_number("a hand's distance in metres", distance_m) <= FARTHEST_M:
            raise HandSizeError(
                f"hold the hand {NEAREST_M:.2f} to {FARTHEST_M:.0f} m from the camera and give the distance in metres; "
                f"got {distance_m:g}"
            )
        if not seconds > 0:
            raise HandSizeError(f"the calibration must last some seconds, got {seconds:g}")
        self.distance_m, self.seconds = distance_m, seconds
        self.hint = self._wish = f"hold one open hand {distance_m:.2f} m from the camera, palm or back towards it"
        """What the user should do now, in a few words."""
        self._samples: defaultdict[int, list[_Sample]] = defaultdict(list)  # by the hand's id
        self._seen_s: defaultdict[int, float] = defaultdict(float)

    def add(self, hands: Sequence[Hand], time_s: float) -> float:
        """Take in the hands of a frame, and return how much is done, 0 to 1."""
        if self.progress < 1.0:
            self.hint = self._fault(hands)
            if not self.hint:
                self._take(hands[0], time_s)
        return self.progress

    def _fault(self, hands: Sequence[Hand]) -> str:
        """Why a frame is of no use, as a hint to the user; empty where it is of use."""
        if not hands:
            return self._wish
        if len(hands) > 1:
            return "show one hand only"
        hand = hands[0]
        if hand.predicted or hand.score < LEAST_SCORE:
            return "the hand is not seen well"
        across_m = float(np.hypot(*(hand.joints_m[_TIP] - hand.joints_m[skeleton.WRIST])[:2]))
        if across_m < LEAST_EXTENT * hand.size_m:
            return "open the hand and face the camera with it"
        return ""

    def _take(self, hand: Hand, time_s: float) -> None:
        samples = self._samples[hand.id]
        if samples:
            self._seen_s[hand.id] += float(np.clip(time_s - samples[-1].time_s, 0.0, _LONGEST_STEP_S))
        depth_m = float(hand.joints_m[skeleton.ROOT, 2])
        samples.append(_Sample(time_s, hand.size_m * self.distance_m / depth_m))

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, max(self._seen_s.values(), default=0.0) / self.seconds)

    @property
    def size_m(self) -> float | None:
        """The hand's length along its bones from wrist to middle fingertip; None until done, or with a `problem`."""
        return None if self.progress < 1.0 or self.problem else float(np.median(self._sizes_m()))

    @property
    def deviation_m(self) -> float | None:
        """How much frames disagree: a standard deviation, from the median absolute one; None until done."""
        if self.progress < 1.0:
            return None
        sizes_m = self._sizes_m()
        return 1.4826 * float(np.median(np.abs(sizes_m - np.median(sizes_m))))

    @property
    def problem(self) -> str:
        """Why the measurement is not to be believed, in one line with what to do; empty where it is, or goes on."""
        if self.progress < 1.0:
            return ""
        size_m = float(np.median(self._sizes_m()))
        if not SMALLEST_M <= size_m <= LARGEST_M:
            return (
                f"the hand would be {size_m:.2f} m long, outside {SMALLEST_M:.2f} to {LARGEST_M:.2f} m: "
                f"was it {self.distance_m:.2f} m from the camera, and is the field of view right?"
            )
        if self.deviation_m > LARGEST_DEVIATION * size_m:
            return f"the size is {size_m:.3f} m give or take {self.deviation_m:.3f}, too much: hold the hand still"
        return ""

    def _sizes_m(self) -> np.ndarray:
        """(N,) the sizes seen of the hand that was in view longest."""
        longest = max(self._seen_s, key=self._seen_s.__getitem__)
        return np.array([sample.size_m for sample in self._samples[longest]])

    def describe(self) -> str:
        """The result in one line. Raises HandSizeError until done, or with a problem."""
        if self.size_m is None:
            raise HandSizeError(self.problem or f"not done yet: {self.hint}")
        frames = len(self._sizes_m())
        return f"hand size {self.size_m:.3f} m, give or take {self.deviation_m:.3f} m over {frames} frames"
