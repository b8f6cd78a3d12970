"""Hands from frame to frame: where to look next, when one is lost, and when two are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from handmesh.runtime.estimator import Estimate
from handmesh.runtime.smoothing import HandSmoother
from handmesh.structs import Box, Camera, Hand

LONGEST_GAP_S = 0.5
"""After a longer gap, or when time runs backwards, the past says nothing of the present motion."""

SAME_PLACE = 0.4
"""The overlap with a hand from which a detector's box is taken for that hand's."""


@dataclass(frozen=True)
class Rules:
    """When a hand counts as found, followed, lost or the same as another."""

    found_score: float = 0.7
    """A new hand needs at least this score..."""
    kept_score: float = 0.25
    """...and is followed down to this one, so that a score near the limit does not flicker."""
    detect_every: int = 5
    """Frames between looks for further hands while at least one is followed."""
    max_misses: int = 2
    """Frames in a row that a hand may be missed before it is lost."""
    side_patience: int = 5
    """Frames in a row that the network must see the other side before a followed hand changes its own."""


@dataclass(eq=False)
class Track:
    """A followed hand."""

    id: int
    smoother: HandSmoother
    estimate: Estimate  # the last one, as the network gave it
    hand: Hand  # the last one, smoothed
    time_s: float  # of the last one
    velocity_px_s: np.ndarray = field(default_factory=lambda: np.zeros(2))
    misses: int = 0  # frames since
    side_doubts: int = 0  # frames in a row in which the network saw the other side
    surprise: float = 0.0  # how far from the predicted place it was found, in box sides

    @staticmethod
    def begin(id: int, smoother: HandSmoother, estimate: Estimate, camera: Camera, time_s: float) -> Track:
        """A track of a hand that was just found."""
        return Track(id, smoother, estimate, _smoothed(smoother, estimate, camera, None, id), time_s)

    def box_at(self, time_s: float) -> Box:
        """Where the hand should be: its last box, moved on with its last speed, at most half a side."""
        gap = self._gap_s(time_s)
        if gap is None:
            return self.estimate.box
        step = self.velocity_px_s * gap
        step *= min(1.0, 0.5 * self.estimate.box.size_px / max(float(np.hypot(*step)), 1e-9))
        x, y = self.estimate.box.centre_px
        return replace(self.estimate.box, centre_px=(x + float(step[0]), y + float(step[1])))

    def update(self, estimate: Estimate, camera: Camera, time_s: float) -> None:
        """Take in the hand as found at `time_s`."""
        gap = self._gap_s(time_s)
        self.surprise = self.distance(estimate, time_s)
        if gap is None or estimate.hand.side != self.hand.side:
            gap, self.velocity_px_s = None, np.zeros(2)
        else:
            self.velocity_px_s = np.subtract(estimate.box.centre_px, self.estimate.box.centre_px) / gap
        self.side_doubts = self.side_doubts + 1 if estimate.agreement < 0.5 else 0
        self.hand = _smoothed(self.smoother, estimate, camera, gap, self.id)
        self.estimate, self.time_s, self.misses = estimate, time_s, 0

    def distance(self, estimate: Estimate, time_s: float) -> float:
        """From where the hand should be to where `estimate` sees one, in box sides."""
        box = self.box_at(time_s)
        return math.dist(box.centre_px, estimate.box.centre_px) / box.size_px

    def _gap_s(self, time_s: float) -> float | None:
        gap = time_s - self.time_s
        return gap if 0.0 < gap <= LONGEST_GAP_S else None


def _smoothed(smoother: HandSmoother, estimate: Estimate, camera: Camera, gap_s: float | None, id: int) -> Hand:
    return replace(smoother(estimate.hand, camera, gap_s), id=id)


def nearest_track(missed: Sequence[Track], estimate: Estimate, time_s: float) -> Track | None:
    """The track that has probably missed the hand of `estimate`: of its side, at most a box away; or None."""
    near = [t for t in missed if t.hand.side == estimate.hand.side and t.distance(estimate, time_s) < 1.0]
    return min(near, key=lambda track: track.distance(estimate, time_s), default=None)


def without_duplicates(tracks: Sequence[Track]) -> list[Track]:
    """The tracks with one left for each hand: the one that was seen, is trusted and did not jump there."""
    kept: list[Track] = []
    for track in sorted(tracks, key=lambda t: (t.misses, t.surprise - t.estimate.trust)):
        if not any(same_hand(track.estimate, other.estimate) for other in kept):
            kept.append(track)
    return [track for track in tracks if track in kept]


def same_hand(a: Estimate, b: Estimate) -> bool:
    """Whether two estimates are of one hand: its joints nearly coincide, or (as two sides) its boxes do."""
    size = min(a.box.size_px, b.box.size_px)
    apart = np.linalg.norm(a.hand.joints_px - b.hand.joints_px, axis=1).mean()
    return bool(apart < 0.2 * size) or overlap(a.box, b.box) > 0.7


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, both taken as upright."""
    reach = (a.size_px + b.size_px) / 2
    common = min(a.size_px, b.size_px)
    sides = [max(0.0, min(common, reach - abs(p - q))) for p, q in zip(a.centre_px, b.centre_px, strict=True)]
    intersection = math.prod(sides)
    return intersection / (a.size_px**2 + b.size_px**2 - intersection)
