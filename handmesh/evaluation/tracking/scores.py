"""The figures of one followed hand, and of several together. NumPy and SciPy only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from handmesh import skeleton
from handmesh.evaluation.tracking.matching import Followed
from handmesh.evaluation.tracking.motion import acceleration_error, lag_s, rms_about_mean
from handmesh.metrics import align, errors, errors_2d

SETTLING_S = 1.0
"""Jitter is that of a hand that has been there for so long."""

RETURN_S = 0.5
"""For so long after a return, steps of the error count as its jump."""

_STILL_M = 1e-6
_MOVING_PX, _MOVING_M = 15.0, 0.015  # the least motion whose lag can be told


@dataclass(frozen=True)
class Counts:
    """What is summed over hands."""

    visible: int = 0  # frames in which a hand should be seen
    lost: int = 0  # of those, frames in which it was not
    found: int = 0  # frames in which a true hand was seen
    predicted: int = 0  # of those, frames in which it was carried on from the frames before
    wrong_side: int = 0  # frames in which a visible hand was taken for the other side
    id_switches: int = 0  # new ids of a visible hand during one stay in the picture (CLEAR MOT's mismatches)
    side_swaps: int = 0  # changes between the right and the wrong side, likewise
    returns: int = 0  # into the picture
    never_returned: int = 0  # of those, stays in which the hand was never seen again
    false_hands: int = 0  # seen where there is none, in any frame
    frames: int = 0


@dataclass(frozen=True)
class Means:
    """What is averaged over hands, of frames in which they are visible; not a number where nothing was measured."""

    jitter_mm: float  # RMS of joints about their means, of a hand that is still
    jitter_about_root_mm: float  # the same relative to the root joint
    jitter_px: float  # the same in the picture
    acceleration_mm_frame2: float  # acceleration error, about the root joint
    acceleration_place_mm_frame2: float  # the same of the root joint itself
    acceleration_px_frame2: float  # of all joints in the picture
    lag_picture_ms: float  # of the root joint in the picture
    lag_place_ms: float  # of the root joint in metres
    lag_form_ms: float  # of the joints about the root joint: turns and fingers
    return_frames: float  # from being visible again to being seen again
    return_jump_px: float  # the largest step of the root's error from one frame to the next after a return
    return_jump_mm: float  # the same in space
    depth_mm: float  # mean error of the root's depth
    depth_percent: float  # of the true depth
    depth_scaled_mm: float  # after the best single factor on the track's depths
    depth_factor: float  # that factor
    error_px: float  # mean distance of joints in the picture
    error_2d: float  # the same as a share of the true box's longer side
    pa_mpjpe_mm: float


@dataclass(frozen=True)
class Scores:
    """The figures of a sequence or of several."""

    counts: Counts
    means: Means

    @property
    def lost_percent(self) -> float:
        """Frames in which a visible hand was not seen."""
        return 100 * self.counts.lost / self.counts.visible if self.counts.visible else np.nan

    @property
    def false_percent(self) -> float:
        """False hands in a hundred frames."""
        return 100 * self.counts.false_hands / self.counts.frames if self.counts.frames else np.nan


def score(hands: Sequence[Followed], false: np.ndarray) -> Scores:
    """The figures of the hands of one sequence. false: (T,) hands seen where there is none."""
    parts = [Scores(_counts(hand), _means(hand)) for hand in hands]
    return pooled([*parts, Scores(Counts(false_hands=int(false.sum()), frames=len(false)), _nothing())])


def pooled(scores: Sequence[Scores]) -> Scores:
    """Counts summed, means averaged over those that have one."""
    counts = {field.name: sum(getattr(one.counts, field.name) for one in scores) for field in fields(Counts)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is not a number, as it should be
        means = {f.name: float(np.nanmean([getattr(one.means, f.name) for one in scores])) for f in fields(Means)}
    return Scores(Counts(**counts), Means(**means))


def _nothing() -> Means:
    return Means(**{field.name: np.nan for field in fields(Means)})


def _counts(hand: Followed) -> Counts:
    found, visible = hand.found, hand.visible
    stays = [stay[found[stay]] for stay in hand.stays]
    plain = [stay[visible[stay]] for stay in stays]  # at the border and behind another hand, ids and sides are guesses
    return Counts(
        visible=int(visible.sum()),
        lost=int((visible & ~found).sum()),
        found=int(found.sum()),
        predicted=int(hand.predicted.sum()),
        wrong_side=int((hand.wrong_side & visible).sum()),
        id_switches=sum(int((np.diff(hand.ids[stay]) != 0).sum()) for stay in plain),
        side_swaps=sum(int((np.diff(hand.wrong_side[stay].astype(int)) != 0).sum()) for stay in plain),
        returns=max(len(stays) - 1, 0),
        never_returned=sum(not len(stay) for stay in stays[1:]),
    )


def _means(hand: Followed) -> Means:
    """Over the frames in which the hand is visible: of one that is hidden or nearly gone, any answer is a guess."""
    hidden = ~hand.visible
    hand = hand._replace(
        said_m=np.where(hidden[:, None, None], np.nan, hand.said_m),
        said_px=np.where(hidden[:, None, None], np.nan, hand.said_px),
        ids=np.where(hidden, -1, hand.ids),
    )
    return Means(**_jitter(hand), **_acceleration(hand), **_lag(hand), **_return(hand), **_depth(hand), **_error(hand))


def _about_root(joints_m: np.ndarray) -> np.ndarray:
    return joints_m - joints_m[:, skeleton.ROOT, None]


def _jitter(hand: Followed) -> dict[str, float]:
    names = ("jitter_mm", "jitter_about_root_mm", "jitter_px")
    if np.ptp(hand.true_m, axis=0).max() > _STILL_M:
        return dict.fromkeys(names, np.nan)
    settled = hand.found & (hand.times_s >= hand.times_s[0] + SETTLING_S)
    said_m = 1000 * hand.said_m[settled]
    return dict(zip(names, map(rms_about_mean, (said_m, _about_root(said_m), hand.said_px[settled])), strict=True))


def _acceleration(hand: Followed) -> dict[str, float]:
    root = slice(skeleton.ROOT, skeleton.ROOT + 1)
    form = acceleration_error(_about_root(hand.said_m), _about_root(hand.true_m))
    return {
        "acceleration_mm_frame2": 1000 * form,
        "acceleration_place_mm_frame2": 1000 * acceleration_error(hand.said_m[:, root], hand.true_m[:, root]),
        "acceleration_px_frame2": acceleration_error(hand.said_px, hand.true_px),
    }


def _lag(hand: Followed) -> dict[str, float]:
    def ms(said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
        flat = (points.reshape(len(points), -1) for points in (said, true))
        return 1000 * lag_s(hand.times_s, *flat, least_motion)

    joints = np.sqrt(20)  # as many of them move, each with its own distance
    return {
        "lag_picture_ms": ms(hand.said_px[:, skeleton.ROOT], hand.true_px[:, skeleton.ROOT], _MOVING_PX),
        "lag_place_ms": ms(hand.said_m[:, skeleton.ROOT], hand.true_m[:, skeleton.ROOT], _MOVING_M),
        "lag_form_ms": ms(_about_root(hand.said_m), _about_root(hand.true_m), joints * _MOVING_M),
    }


def _return(hand: Followed) -> dict[str, float]:
    """Of the returns, the mean time and the largest jump."""
    waits, jumps_px, jumps_mm = [], [], []
    frame_s = float(np.median(np.diff(hand.times_s)))
    for stay in hand.stays[1:]:
        found = stay[hand.found[stay]]
        if not len(found):
            continue
        waits.append(max(0, int(found[0] - stay[np.argmax(hand.visible[stay])])))
        first = found[hand.times_s[found] <= hand.times_s[found[0]] + RETURN_S + 0.5 * frame_s]
        jumps_px.append(_largest_step((hand.said_px - hand.true_px)[first, skeleton.ROOT]))
        jumps_mm.append(1000 * _largest_step((hand.said_m - hand.true_m)[first, skeleton.ROOT]))
    return {
        "return_frames": float(np.mean(waits)) if waits else np.nan,
        "return_jump_px": max(jumps_px, default=np.nan),
        "return_jump_mm": max(jumps_mm, default=np.nan),
    }


def _largest_step(values: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(values, axis=0), axis=-1).max(initial=0.0))


def _depth(hand: Followed) -> dict[str, float]:
    said, true = (points[hand.found, skeleton.ROOT, 2] for points in (hand.said_m, hand.true_m))
    names = ("depth_mm", "depth_percent", "depth_scaled_mm", "depth_factor")
    if not len(said):
        return dict.fromkeys(names, np.nan)
    apart, factor = np.abs(said - true), float(said @ true / (said @ said))
    values = (1000 * apart.mean(), 100 * (apart / true).mean(), 1000 * np.abs(factor * said - true).mean(), factor)
    return dict(zip(names, map(float, values), strict=True))


def _error(hand: Followed) -> dict[str, float]:
    found = hand.found
    if not found.any():
        return dict.fromkeys(("error_px", "error_2d", "pa_mpjpe_mm"), np.nan)
    said_m, true_m, said_px, true_px = (
        points[found] for points in (hand.said_m, hand.true_m, hand.said_px, hand.true_px)
    )
    return {
        "error_px": float(errors(said_px, true_px).mean()),
        "error_2d": float(errors_2d(said_px, true_px).mean()),
        "pa_mpjpe_mm": float(1000 * errors(align(said_m, true_m), true_m).mean()),
    }
