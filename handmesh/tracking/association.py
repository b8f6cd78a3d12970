"""Hands from frame to frame: where to look next, when one is lost, and when two are the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from handmesh import skeleton
from handmesh.geometry import NEAREST_M, project
from handmesh.tracking.estimator import COMPANION_SIZES, Estimate
from handmesh.tracking.smoothing import HandSmoother
from handmesh.types import MIN_SCORE, Box, Camera, Hand, checked_number

LONGEST_GAP_S = 0.5
"""After a longer gap, or when time runs backwards, the past says nothing of the present motion."""

SHORTEST_GAP_S = 1e-3
"""Frames come no faster: times closer together are a clock's jitter, by which no speed may be divided."""

LONGEST_AHEAD_S = 0.25
"""Nobody can tell what a hand does after so long."""

LONGEST_STEP_M = 0.5
"""No hand moves farther in the frames in which it is carried on."""

SAME_POSITION_OVERLAP = 0.4
"""The overlap with a hand from which a detector's box is taken for that hand's."""

MOST_COVERED = 0.5
"""A hand is not found anew where more of its box than this lies in the box of another: it is that one, or some of its
fingers taken for a hand. Of 907 pairs in photographs none covers more than 0.39 of either by its labels; by the
tracker's boxes two hands before a mouth reach 0.45."""


@dataclass(frozen=True)
class TrackerConfig:
    """When a hand counts as found, followed, lost or the same as another."""

    new_track_threshold: float = MIN_SCORE
    """A new hand needs at least this score..."""
    keep_threshold: float = 0.25
    """...and is followed down to this one, so that a score near the limit does not flicker."""
    sure_score: float = 0.9
    """A followed hand with less is searched for all the same: its mesh may be drifting off it."""
    detection_interval: int = 3
    """Frames between looks for further hands, and for unsure ones, while at least one is followed."""
    max_coast_frames: int = 2
    """Frames in a row in which a hand that is not seen is carried on with its last motion."""
    reidentify_s: float = 1.0
    """A hand that appears so soon after one was lost may be that one, and gets its id."""
    handedness_switch_frames: int = 5
    """Frames in a row that the network must see the other side before a followed hand changes its own."""

    @staticmethod
    def of_min_score(min_score: float) -> TrackerConfig:
        """New hands need `min_score`, 0 to 1, and are followed down to the same part of it as by default.

        Raises ValueError for another number.
        """
        if not 0.0 <= checked_number("min_score", min_score) <= 1.0:
            raise ValueError(f"min_score must lie between 0 and 1, got {min_score}")
        return TrackerConfig(min_score, min_score * TrackerConfig.keep_threshold / MIN_SCORE)


@dataclass(eq=False)
class Track:
    """A followed hand."""

    id: int
    smoother: HandSmoother
    estimate: Estimate  # the last one, as the network gave it
    hand: Hand  # the last one, smoothed
    time_s: float  # of the last one
    begun_s: float  # of the first one
    velocity_px_s: np.ndarray = field(default_factory=lambda: np.zeros(2))
    velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))
    misses: int = 0  # frames since
    replaced: bool = False  # since then, a hand was found that is more likely this very one than one beside it
    side_doubts: int = 0  # frames in a row in which the network saw the other side

    @staticmethod
    def begin(id: int, smoother: HandSmoother, estimate: Estimate, camera: Camera, time_s: float) -> Track:
        """A track of a hand that was just found."""
        hand = replace(smoother(estimate.hand, camera, None), id=id)
        return Track(id, smoother, estimate, hand, time_s, time_s)

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
        if gap is None or estimate.hand.side != self.hand.side:
            gap, self.velocity_px_s = None, np.zeros(2)
        else:
            self.velocity_px_s = np.subtract(estimate.box.centre_px, self.estimate.box.centre_px) / gap
        self.side_doubts = self.side_doubts + 1 if estimate.handedness_probability < 0.5 else 0
        before, hand = self.hand, self.smoother(estimate.hand, camera, gap)
        self.velocity_m_s = (_root(hand) - _root(before)) / gap if gap else np.zeros(3)
        self.begun_s = min(self.begun_s, time_s)  # a clock may run backwards
        self.hand = replace(hand, id=self.id, visible_s=time_s - self.begun_s)
        self.estimate, self.time_s, self.misses, self.replaced = estimate, time_s, 0, False

    def ahead(self, camera: Camera, seconds: float) -> Hand:
        """The hand as last seen, carried on for so long."""
        return self.smoother.ahead(self.hand, camera, seconds) if seconds else self.hand

    def predicted(self, camera: Camera, time_s: float) -> Hand:
        """The hand as it should be at `time_s`: as it was, moved on with its last speed, in front of the camera."""
        gap = self._gap_s(time_s) or 0.0
        step = self.velocity_m_s * gap
        step *= min(1.0, LONGEST_STEP_M / max(float(np.linalg.norm(step)), 1e-9))
        step[2] = max(step[2], NEAREST_M - float(self.hand.joints_m[:, 2].min()))
        joints_m = self.hand.joints_m + step.astype(np.float32)
        return replace(
            self.hand,
            joints_m=joints_m,
            vertices_m=self.hand.vertices_m + step.astype(np.float32),
            joints_px=project(joints_m, camera).astype(np.float32),
            visible_s=max(0.0, time_s - self.begun_s),
            predicted=True,
        )

    def distance(self, estimate: Estimate, time_s: float) -> float:
        """From where the hand should be to where `estimate` sees one, in box sides."""
        box = self.box_at(time_s)
        return math.dist(box.centre_px, estimate.box.centre_px) / box.size_px

    def is_looked_for(self, time_s: float, config: TrackerConfig) -> bool:
        """Whether to look where the hand should be; without a detector's help no longer than its motion tells."""
        return self.misses <= config.max_coast_frames or self._gap_s(time_s) is not None

    def can_be_reidentified(self, time_s: float, config: TrackerConfig) -> bool:
        """Whether a hand found now may be this one; always while it is carried on."""
        return self.misses <= config.max_coast_frames or 0.0 <= time_s - self.time_s <= config.reidentify_s

    def _gap_s(self, time_s: float) -> float | None:
        gap = time_s - self.time_s
        return max(gap, SHORTEST_GAP_S) if 0.0 < gap <= LONGEST_GAP_S else None


def _root(hand: Hand) -> np.ndarray:
    return hand.joints_m[skeleton.ROOT].astype(np.float64)


def track_of(sought: Sequence[Track], estimate: Estimate, time_s: float) -> Track | None:
    """The track that has probably missed the hand of `estimate`, or sees it unsurely; or None.

    One that has missed it is of its side, and not too far away: a box's side at most, and two more for each second that
    nobody knows where it was. One that sees something has got this hand wrong where it is less than half as far away
    as it is large, whichever its side.
    """

    def may_be(track: Track) -> bool:
        if track.misses == 0:
            sizes = track.estimate.box.size_px, estimate.box.size_px
            return math.dist(track.estimate.box.centre_px, estimate.box.centre_px) < 0.5 * max(sizes)
        near = track.distance(estimate, time_s) < 1.0 + 2.0 * max(0.0, time_s - track.time_s)
        return near and track.hand.side == estimate.hand.side

    return min(filter(may_be, sought), key=lambda track: track.distance(estimate, time_s), default=None)


def deduplicate(seen: Mapping[Track, Estimate], time_s: float) -> dict[Track, Estimate]:
    """What the tracks saw, with one left of those that saw the same hand: the one that trusts it and did not jump."""
    kept: dict[Track, Estimate] = {}

    def doubt(track: Track) -> tuple[bool, float]:
        return track.misses > 0, track.distance(seen[track], time_s) - seen[track].confidence

    for track in sorted(seen, key=doubt):
        if not any(same_hand(seen[track], other) for other in kept.values()):
            kept[track] = seen[track]
    return kept


def same_hand(a: Estimate, b: Estimate) -> bool:
    """Whether two estimates are of one hand: its joints nearly coincide, or (as two sides) its boxes do."""
    size = min(a.box.size_px, b.box.size_px)
    apart = np.linalg.norm(a.hand.joints_px - b.hand.joints_px, axis=1).mean()
    return bool(apart < 0.2 * size) or overlap(a.box, b.box) > 0.7


def are_like_a_pair(a: Estimate, b: Estimate) -> bool:
    """Whether two estimates may be of one person's two hands: of opposite sides and like size, and not of one hand."""
    sizes = sorted((a.box.size_px, b.box.size_px))
    return a.hand.side != b.hand.side and sizes[1] <= COMPANION_SIZES * sizes[0] and not same_hand(a, b)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, both taken as upright."""
    common = _common_px2(a, b)
    return common / (a.size_px**2 + b.size_px**2 - common)


def is_covered(box: Box, hands: Iterable[Estimate]) -> bool:
    """Whether one of these hands covers too much of the box for another hand to be seen there."""
    return any(_common_px2(box, hand.box) > MOST_COVERED * box.size_px**2 for hand in hands)


def _common_px2(a: Box, b: Box) -> float:
    reach, common = (a.size_px + b.size_px) / 2, min(a.size_px, b.size_px)
    return math.prod(max(0.0, min(common, reach - abs(p - q))) for p, q in zip(a.centre_px, b.centre_px, strict=True))
