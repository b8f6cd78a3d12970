"""How steadily hands are followed through sequences whose truth is known: matching, jitter, lag, losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import tyro
from scipy.interpolate import CubicSpline
from scipy.optimize import linear_sum_assignment, minimize_scalar

from handmesh import skeleton
from handmesh.assets import model_help, model_path
from handmesh.evaluation.metrics import align, errors, errors_2d
from handmesh.evaluation.report import Setting, setting_of
from handmesh.tracking.backends import open_session
from handmesh.tracking.smoothing import Smooth
from handmesh.types import Hand, Side

# What to film and whom to ask: the options of `handmesh evaluate tracking`.


HandSize = Literal["true", "none"]

SEQUENCES: dict[str, str] = {
    "still": "a hand held still at half a metre",
    "still, near": "the same at 0.3 m",
    "still, far": "the same at 1.1 m",
    "slow wave": "from the elbow, 0.5 Hz, 20 cm to either side",
    "fast wave": "from the elbow, 1.5 Hz, 20 cm to either side",
    "grasp and turn": "opens, grasps, turns by up to 80 degrees, points",
    "to and fro": "towards the camera and away from it, 0.35 m to 0.75 m",
    "crossing": "two hands pass each other twice, the right one before the left",
    "leave and return": "out of the image for a second, back at another height",
    "one of two leaves": "the same beside a hand that stays",
}
"""What is filmed, by name; `sequences` has the scripts."""


@dataclass(frozen=True)
class TrackingOptions:
    """Jitter and lag on generated sequences with ground truth: still, waving, turning, crossing and leaving hands.

    Jitter, lag, acceleration error, lost frames, switches of id and side, false positives, returns, root depth and
    accuracy of each preset of smoothing. The sequences are rendered here, in about two minutes; --frames keeps them.
    """

    model: Annotated[str, tyro.conf.arg(help=model_help())] = "balanced"
    smooth: tuple[Smooth, ...] = ("off", "low", "high")
    """Presets of smoothing, compared on the same frames."""
    sequences: tuple[str, ...] = ()
    """Which sequences, by (the beginning of) their names. Default: all."""
    num_hands: int = 2
    """How many hands the tracker looks for."""
    hand_size: HandSize = "none"
    """Whether the tracker is told how large the hands are; without, distances are up to scale."""
    samples: int = 1
    """How often each sequence is filmed, each time with another person, light and wall."""
    seed: int = 0
    """Another one films other people."""
    exposure_ms: float = 8.0
    """How long the shutter is open: what moves is blurred."""
    threads: int | None = None
    """Cores that a network may use. Default: all but one."""
    frames: Path | None = None
    """Folder to keep the rendered images in, so that the next run need not render them."""
    draw: Path | None = None
    """Folder for a video of each sequence and preset: meshes, true joints as crosses."""
    output: Path = Path("outputs/tracking")
    """Folder for the report, tracking.json and tracking.png."""

    def check(self) -> None:
        """Raise ValueError where something does not fit."""
        self.chosen()
        for name in ("num_hands", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.exposure_ms <= 33:
            raise ValueError(f"--exposure-ms must lie between 0 and 33 at 30 frames a second, got {self.exposure_ms}")
        if not self.smooth:
            raise ValueError(f"no preset of smoothing: choose from {', '.join(get_args(Smooth))}")

    def chosen(self) -> list[str]:
        """Full names of the chosen sequences, in the order of `SEQUENCES`; ValueError for a word that begins none."""
        for word in self.sequences:
            if not any(name.startswith(word.lower()) for name in SEQUENCES):
                raise ValueError(f"unknown sequence {word!r}; choose from {', '.join(SEQUENCES)}")
        words = [word.lower() for word in self.sequences]
        exact = set(words) & SEQUENCES.keys()  # 'still' means itself, 'wave' nothing, 'lea' the one it begins
        begun = tuple(word for word in words if word not in exact)
        return [name for name in SEQUENCES if not words or name in exact or (begun and name.startswith(begun))]


# Which of the hands that a tracker sees are which true ones, frame by frame. NumPy and SciPy only.


VISIBLE = 0.5
"""A hand counts as visible while at least this fraction of its outline is in the image and not hidden."""

AWAY = 0.05
"""A hand has left while less than this fraction of its outline is in the image."""

GATE = 0.5
"""A hand is seen where its joints lie, on average, within this fraction of the true box's longer side."""


class Truth(NamedTuple):
    """T frames of H hands."""

    times_s: np.ndarray  # (T,)
    sides: tuple[Side, ...]  # H
    joints_m: np.ndarray  # (T, H, 21, 3) camera frame
    joints_px: np.ndarray  # (T, H, 21, 2)
    inside: np.ndarray  # (T, H) fraction of the outline that is in the image
    seen: np.ndarray  # (T, H) fraction of the outline that is in the image and not hidden


class Followed(NamedTuple):
    """One true hand and what was said of it."""

    times_s: np.ndarray  # (T,)
    true_m: np.ndarray  # (T, 21, 3)
    true_px: np.ndarray  # (T, 21, 2)
    inside: np.ndarray  # (T,)
    seen: np.ndarray  # (T,)
    said_m: np.ndarray  # (T, 21, 3) not a number where the hand was not seen
    said_px: np.ndarray  # (T, 21, 2)
    ids: np.ndarray  # (T,) the tracker's own; -1 where the hand was not seen
    wrong_side: np.ndarray  # (T,) bool
    predicted: np.ndarray  # (T,) bool, carried on from the frames before

    @property
    def found(self) -> np.ndarray:
        """(T,) bool: something was said of it."""
        return self.ids >= 0

    @property
    def visible(self) -> np.ndarray:
        """(T,) bool: it should be seen."""
        return self.seen >= VISIBLE

    @property
    def stays(self) -> list[np.ndarray]:
        """Frame numbers from each time the hand comes into the image to its leaving."""
        there = np.flatnonzero(self.inside >= AWAY)
        return np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if len(there) else []


def match(truth: Truth, said: Sequence[Sequence[Hand]]) -> tuple[list[Followed], np.ndarray]:
    """Each true hand with what was said of it, and the (T,) number of hands seen where there is none.

    said: the tracker's hands of each frame. In every frame by itself, hands are assigned so that the sum of mean
    joint distances in the image is least, none beyond `GATE`; sides and ids have no say.
    """
    if len(said) != len(truth.times_s):
        raise ValueError(f"expected what was said of {len(truth.times_s)} frames, got {len(said)}")
    pairs = [_assigned(true_px, hands) for true_px, hands in zip(truth.joints_px, said, strict=True)]
    false = np.array([len(hands) - len(pair) for hands, pair in zip(said, pairs, strict=True)])
    return [_followed(truth, k, [_of(pair, hands, k) for pair, hands in zip(pairs, said, strict=True)])
            for k in range(len(truth.sides))], false  # fmt: skip


def _assigned(true_px: np.ndarray, hands: Sequence[Hand]) -> dict[int, int]:
    """The number of the seen hand by that of the true one."""
    if not hands:
        return {}
    seen_px = np.stack([hand.joints_px for hand in hands])
    apart = np.linalg.norm(true_px[:, None] - seen_px[None], axis=-1).mean(-1)
    sizes = np.ptp(true_px, axis=1).max(-1)
    near = apart <= GATE * sizes[:, None]
    cost = np.where(near, apart / sizes[:, None], 1e3)  # an assignment with more near pairs always costs less
    return {int(i): int(j) for i, j in zip(*linear_sum_assignment(cost), strict=True) if near[i, j]}


def _of(pair: dict[int, int], hands: Sequence[Hand], k: int) -> Hand | None:
    return hands[pair[k]] if k in pair else None


def _followed(truth: Truth, k: int, hands: Sequence[Hand | None]) -> Followed:
    count = len(hands)
    said_m, said_px = np.full((count, 21, 3), np.nan), np.full((count, 21, 2), np.nan)
    for t, hand in enumerate(hands):
        if hand is not None:
            said_m[t], said_px[t] = hand.joints_m, hand.joints_px
    return Followed(
        *(truth.times_s, truth.joints_m[:, k], truth.joints_px[:, k], truth.inside[:, k], truth.seen[:, k]),
        *(said_m, said_px),
        ids=np.array([-1 if hand is None else hand.id for hand in hands]),
        wrong_side=np.array([hand is not None and hand.side != truth.sides[k] for hand in hands]),
        predicted=np.array([getattr(hand, "predicted", False) for hand in hands]),
    )


# How a track moves against the true one: jitter, acceleration error, lag. NumPy and SciPy only.


LEAST_LAG_FRAMES, MOST_LAG_FRAMES = -3.0, 6.0

LEAST_LIKENESS = 0.9
"""A track that correlates less with the true one, however it is shifted, is wrong in other ways than by being late."""


def rms_about_mean(points: np.ndarray) -> float:
    """The root of the mean square distance of (N, J, D) points from each one's mean over N."""
    return float(np.sqrt(np.square(points - points.mean(0)).sum(-1).mean())) if len(points) else np.nan


def acceleration_error(said: np.ndarray, true: np.ndarray) -> float:
    """The mean length of the difference of accelerations of (T, J, D) points, per squared frame; gaps are left out.

    Accelerations are second differences of three frames in a row: the "acceleration error" of Kanazawa et al.,
    Learning 3D Human Dynamics from Video (CVPR 2019), in the form of VIBE's code (Kocabas et al., CVPR 2020).
    """
    apart = np.linalg.norm(np.diff(said - true, n=2, axis=0), axis=-1)
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else np.nan


def lag_s(times_s: np.ndarray, said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
    """How far (T, D) `said` is behind `true`, in seconds: the shift at which the two correlate most.

    The true track is interpolated by cubic splines, so that shifts are not bound to frames; both are taken about
    their means, and a common factor between them plays no part. Rows of `said` that are not numbers are left out.
    Not a number where the truth moves less than `least_motion` (the root of its mean square, in its own unit),
    where fewer than ten frames are left, or where no shift within the limits makes the two alike.
    """
    frame_s = float(np.median(np.diff(times_s)))
    first, last = times_s[0] + MOST_LAG_FRAMES * frame_s, times_s[-1] + LEAST_LAG_FRAMES * frame_s
    usable = np.isfinite(said).all(1) & (times_s >= first) & (times_s <= last)  # any shift stays within the truth
    if usable.sum() < 10 or rms_about_mean(true[usable][:, None]) < least_motion:
        return np.nan
    path, at_s, seen = CubicSpline(times_s, true), times_s[usable], said[usable] - said[usable].mean(0)

    def unlike(shift_frames: float) -> float:
        shifted = path(at_s - shift_frames * frame_s)
        shifted = shifted - shifted.mean(0)
        return -float((seen * shifted).sum() / np.sqrt((seen**2).sum() * (shifted**2).sum() + 1e-30))

    coarse = np.arange(LEAST_LAG_FRAMES, MOST_LAG_FRAMES + 0.25, 0.25)
    best = int(np.argmin([unlike(shift) for shift in coarse]))
    if best in (0, len(coarse) - 1) or -unlike(coarse[best]) < LEAST_LIKENESS:
        return np.nan
    bounds = (coarse[best - 1], coarse[best + 1])
    return float(minimize_scalar(unlike, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x * frame_s)


# The metrics of one followed hand, and of several together. NumPy and SciPy only.


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
    id_switches: int = 0  # new ids of a visible hand during one stay in the image (CLEAR MOT's mismatches)
    side_swaps: int = 0  # changes between the right and the wrong side, likewise
    returns: int = 0  # into the image
    never_returned: int = 0  # of those, stays in which the hand was never seen again
    false_positives: int = 0  # seen where there is none, in any frame
    frames: int = 0


@dataclass(frozen=True)
class Means:
    """What is averaged over hands, of frames in which they are visible; not a number where nothing was measured."""

    jitter_mm: float  # RMS of joints about their means, of a hand that is still
    jitter_about_root_mm: float  # the same relative to the root joint
    jitter_px: float  # the same in the image
    acceleration_mm_frame2: float  # acceleration error, about the root joint
    acceleration_position_mm_frame2: float  # the same of the root joint itself
    acceleration_px_frame2: float  # of all joints in the image
    lag_image_ms: float  # of the root joint in the image
    lag_position_ms: float  # of the root joint in metres
    lag_form_ms: float  # of the joints about the root joint: rotations and fingers
    return_frames: float  # from being visible again to being seen again
    return_jump_px: float  # the largest step of the root's error from one frame to the next after a return
    return_jump_mm: float  # the same in space
    depth_mm: float  # mean error of the root's depth
    depth_percent: float  # of the true depth
    depth_scaled_mm: float  # after the best single factor on the track's depths
    depth_factor: float  # that factor
    error_px: float  # mean distance of joints in the image
    error_2d: float  # the same as a fraction of the true box's longer side
    pa_mpjpe_mm: float


@dataclass(frozen=True)
class Scores:
    """The metrics of a sequence or of several."""

    counts: Counts
    means: Means

    @property
    def lost_percent(self) -> float:
        """Frames in which a visible hand was not seen."""
        return 100 * self.counts.lost / self.counts.visible if self.counts.visible else np.nan

    @property
    def false_percent(self) -> float:
        """False positives in a hundred frames."""
        return 100 * self.counts.false_positives / self.counts.frames if self.counts.frames else np.nan


def score(hands: Sequence[Followed], false: np.ndarray) -> Scores:
    """The metrics of the hands of one sequence. false: (T,) hands seen where there is none."""
    parts = [Scores(_counts(hand), _means(hand)) for hand in hands]
    return pooled([*parts, Scores(Counts(false_positives=int(false.sum()), frames=len(false)), _nothing())])


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
        "acceleration_position_mm_frame2": 1000 * acceleration_error(hand.said_m[:, root], hand.true_m[:, root]),
        "acceleration_px_frame2": acceleration_error(hand.said_px, hand.true_px),
    }


def _lag(hand: Followed) -> dict[str, float]:
    def ms(said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
        flat = (points.reshape(len(points), -1) for points in (said, true))
        return 1000 * lag_s(hand.times_s, *flat, least_motion)

    joints = np.sqrt(20)  # as many of them move, each with its own distance
    return {
        "lag_image_ms": ms(hand.said_px[:, skeleton.ROOT], hand.true_px[:, skeleton.ROOT], _MOVING_PX),
        "lag_position_ms": ms(hand.said_m[:, skeleton.ROOT], hand.true_m[:, skeleton.ROOT], _MOVING_M),
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


class Speed(NamedTuple):
    """What a take shows."""

    sequence: str
    sample: int
    frames: int
    hands: int
    fastest_px_s: float  # of a root joint, from one frame to the next
    fastest_cm_s: float
    nearest_m: float  # depth of a root joint
    farthest_m: float
    hand_size_m: float  # wrist to middle fingertip along the bones


class Row(NamedTuple):
    """One take under one preset."""

    sequence: str
    sample: int
    smooth: str
    scores: Scores


@dataclass(frozen=True)
class Results:
    """What was asked and what came out."""

    options: TrackingOptions
    setting: Setting
    speeds: list[Speed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @staticmethod
    def of(options: TrackingOptions) -> Results:
        """An empty one; ModelFileError for a model that is none."""
        path = model_path(options.model)
        return Results(options, setting_of(path, open_session(path, "mesh", options.threads), options.threads))

    def scores(self, smooth: str, sequence: str | None = None) -> Scores:
        """The metrics of a preset in a sequence, over its takes; in all of them without one."""
        return pooled([row.scores for row in self.rows if row.smooth == smooth and sequence in (None, row.sequence)])

    def by_sequence(self) -> Iterator[tuple[str, str, Scores]]:
        """Sequence, preset and metrics, sequences in the order in which they were followed."""
        for sequence in dict.fromkeys(row.sequence for row in self.rows):
            for smooth in self.options.smooth:
                yield sequence, smooth, self.scores(smooth, sequence)


class Track(NamedTuple):
    """One take as one preset followed it."""

    sequence: str
    sample: int
    smooth: Smooth
    hands: list[Followed]
