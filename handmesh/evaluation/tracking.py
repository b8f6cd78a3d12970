"""How steadily hands are followed through filmed sequences whose truth is known, and what is asked of that."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.progress import Progress

from handmesh import skeleton
from handmesh.assets import model_help, model_path
from handmesh.console import progress
from handmesh.evaluation.metrics import (
    acceleration_error,
    align,
    errors,
    errors_2d,
    lag_s,
    match_joints,
    overshoot_percent,
    rms_about_mean,
)
from handmesh.evaluation.report import COLOURS, UNKNOWN, Image, Report, Section, Setting, Table, panels, setting_of
from handmesh.evaluation.review import strip
from handmesh.evaluation.sequences import FPS, SEQUENCES, RenderedSequence, Speed, Truth, render_scene
from handmesh.render.overlay import overlay
from handmesh.tracking.association import LONGEST_AHEAD_S
from handmesh.tracking.backends import open_session
from handmesh.tracking.smoothing import Smooth
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Frame, Hand
from handmesh.video.sinks import VideoRecorder

HandSize = Literal["true", "none"]

MOST_AHEAD_MS = 1000 * LONGEST_AHEAD_S


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
    display_ms: float = 0.0
    """How long after its frame a display shows a hand: it is compared with the truth of that time."""
    predict_ms: float = 0.0
    """How far ahead of their frames hands are carried, 0 to 250."""
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
        for name in ("display_ms", "predict_ms"):
            if not 0 <= getattr(self, name) <= MOST_AHEAD_MS:
                got = f"--{name.replace('_', '-')} must lie between 0 and {MOST_AHEAD_MS:g}"
                raise ValueError(f"{got}, got {getattr(self, name)}")
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


def run_tracking(options: TrackingOptions) -> Results:
    """Film the sequences, let each preset follow them, score; prints the tables and writes the files."""
    options.check()
    asked = {"num_hands": options.num_hands, "threads": options.threads}
    trackers = {smooth: HandTracker.load(options.model, smooth=smooth, **asked) for smooth in options.smooth}
    path = model_path(options.model)
    results = Results(options, setting_of(path, open_session(path, "mesh", options.threads), options.threads))
    filming = {"seed": options.seed, "exposure_ms": options.exposure_ms, "frames": options.frames}
    with progress() as bar:
        for name in options.chosen():
            for sample in range(options.samples):
                sequence = render_scene(name, sample, bar, **filming)
                results.speeds.append(sequence.speed())
                for smooth, said in follow(trackers, sequence, options, bar).items():
                    hands, false = match(sequence.truth.later(options.display_ms / 1000), said)
                    results.takes.append(Take(name, sample, smooth, score(hands, false), hands))
    report_of(results).publish(options.output, {"tracking.json": results_as_json(results)})
    return results


def follow(
    trackers: Mapping[Smooth, HandTracker], sequence: RenderedSequence, options: TrackingOptions, bar: Progress
) -> dict[Smooth, list[list[Hand]]]:
    """Each tracker's hands in every frame; drawn into a video where `options` ask for it."""
    for tracker in trackers.values():
        tracker.reset()
        tracker.hand_size_m = sequence.hand_size_m if options.hand_size == "true" else None
    said: dict[Smooth, list[list[Hand]]] = {smooth: [] for smooth in trackers}
    task = bar.add_task(sequence.title, total=len(sequence.pngs))
    with ExitStack() as stack:
        films = {}
        for smooth in trackers if options.draw else ():
            name = f"{sequence.title}-{smooth}.mp4".replace(", ", "-").replace(" ", "-")
            films[smooth] = stack.enter_context(closing(VideoRecorder(options.draw / name, FPS)))
        for k, frame in enumerate(sequence.frames()):
            for smooth, tracker in trackers.items():
                hands = tracker.track(frame.image_rgb, frame.time_s, sequence.camera, options.predict_ms / 1000)
                said[smooth].append(hands)
                if smooth in films:
                    films[smooth].write(frame, _drawn(sequence, smooth, k, frame, said[smooth][-1]))
            bar.advance(task)
    bar.remove_task(task)
    return said


_SEEN, _HIDDEN = (255, 255, 255), (120, 120, 120)
_FARTHEST_PX = 1e4


def _drawn(sequence: RenderedSequence, smooth: Smooth, k: int, frame: Frame, hands: Sequence[Hand]) -> np.ndarray:
    """(H, W, 3) uint8: frame number `k` with the meshes, the true joints as crosses, and a line of text."""
    image, truth = overlay(frame.image_rgb, hands, sequence.camera), sequence.truth
    for joints_px, seen in zip(truth.joints_px[k], truth.seen[k], strict=True):
        for x, y in joints_px[np.abs(joints_px).max(1) < _FARTHEST_PX]:
            colour = _SEEN if seen >= VISIBLE else _HIDDEN
            cv2.drawMarker(image, (round(float(x)), round(float(y))), colour, cv2.MARKER_CROSS, 5, 1)
    for hand in hands:
        x, y = np.clip(hand.joints_px.min(0), 12, _FARTHEST_PX).astype(int).tolist()
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(image, f"#{hand.id}", (x, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    words = ", ".join(f"#{hand.id} {hand.side} {hand.score:.2f}" for hand in hands)
    text = f"{sequence.title}, smooth {smooth}, frame {k}: {words}"
    return np.concatenate([image, strip(text, image.shape[1])])


# Which of the hands that a tracker sees are which true ones, frame by frame.

VISIBLE = 0.5
"""A hand counts as visible while at least this fraction of its outline is in the image and not hidden."""

AWAY = 0.05
"""A hand has left while less than this fraction of its outline is in the image."""


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

    said: the tracker's hands of each frame. Every frame is matched by itself, as `match_joints` does; sides and ids
    have no say.
    """
    if len(said) != len(truth.times_s):
        raise ValueError(f"expected what was said of {len(truth.times_s)} frames, got {len(said)}")
    pairs = [
        match_joints([hand.joints_px for hand in hands], true_px)
        for true_px, hands in zip(truth.joints_px, said, strict=True)
    ]
    false = np.array([len(hands) - len(pair) for hands, pair in zip(said, pairs, strict=True)])
    followed = [
        _followed(truth, k, [hands[pair[k]] if k in pair else None for hands, pair in zip(said, pairs, strict=True)])
        for k in range(len(truth.sides))
    ]
    return followed, false


def _followed(truth: Truth, k: int, hands: Sequence[Hand | None]) -> Followed:
    """hands: what was said of the true hand number `k` in each frame."""
    said_m, said_px = np.full((len(hands), 21, 3), np.nan), np.full((len(hands), 21, 2), np.nan)
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


# The metrics of one followed hand, and of several together.

SETTLING_S = 1.0
"""Jitter is that of a hand that has been there for so long."""

RETURN_S = 0.5
"""For so long after a return, steps of the error count as its jump."""

_STILL_M = 1e-6
_MOVING_PX, _MOVING_M = 15.0, 0.015  # the least motion whose lag can be told
_ROOT = slice(skeleton.ROOT, skeleton.ROOT + 1)


JITTER, FOLLOWING, ACCURACY = "Jitter and lag", "Following", "Accuracy"
"""The tables of the report."""


def _mean(table: str, head: str, digits: int = 1, default: float = math.nan) -> Any:
    """A metric that is a column of one of the tables."""
    return field(default=default, metadata={"table": table, "head": head, "digits": digits})


def _count(head: str) -> Any:
    return _mean(FOLLOWING, head, 0, 0)


@dataclass(frozen=True)
class Scores:
    """The metrics of a hand, a sequence or several: counts, summed over hands, and means over hands of the frames in
    which they are visible, not a number where nothing was measured."""

    visible: int = 0  # frames in which a hand should be seen
    lost: int = 0  # of those, frames in which it was not
    found: int = 0  # frames in which a true hand was seen
    predicted: int = 0  # of those, frames in which it was carried on from the frames before
    returns: int = 0  # into the image
    never_returned: int = 0  # of those, stays in which the hand was never seen again
    false_positives: int = 0  # seen where there is none, in any frame
    frames: int = 0
    jitter_mm: float = _mean(JITTER, "jitter, mm", 2)  # RMS of joints about their means, of a hand that is still
    jitter_about_root_mm: float = _mean(JITTER, "about root", 2)  # the same relative to the root joint
    jitter_px: float = _mean(JITTER, "px", 2)  # the same in the image
    acceleration_mm_frame2: float = _mean(JITTER, "acc. error", 2)  # about the root joint
    acceleration_position_mm_frame2: float = _mean(JITTER, "of root", 2)  # the same of the root joint itself
    acceleration_px_frame2: float = math.nan  # of all joints in the image
    lag_image_ms: float = _mean(JITTER, "behind, ms")  # of the root joint in the image
    lag_position_ms: float = _mean(JITTER, "in metres")  # of the root joint in metres
    lag_form_ms: float = _mean(JITTER, "in form")  # of the joints about the root joint: rotations and fingers
    overshoot_percent: float = _mean(JITTER, "overshoot, %")  # how much wider the root swings in the image than it does
    lost_percent: float = _mean(FOLLOWING, "lost, %")  # frames in which a visible hand was not seen
    id_switches: int = _count("switches")  # new ids of a visible hand during one stay (CLEAR MOT's mismatches)
    side_swaps: int = _count("swaps")  # changes between the right and the wrong side, likewise
    wrong_side: int = _count("wrong side")  # frames in which a visible hand was taken for the other side
    false_percent: float = _mean(FOLLOWING, "false")  # false positives in a hundred frames
    return_frames: float = _mean(FOLLOWING, "return")  # from being visible again to being seen again
    return_jump_px: float = _mean(FOLLOWING, "jump, px")  # the largest step of the root's error after a return
    return_jump_mm: float = _mean(FOLLOWING, "mm")  # the same in space
    depth_mm: float = _mean(ACCURACY, "depth, mm")  # mean error of the root's depth
    depth_percent: float = _mean(ACCURACY, "%")  # of the true depth
    depth_scaled_mm: float = _mean(ACCURACY, "scaled, mm")  # after the best single factor on the track's depths
    depth_factor: float = _mean(ACCURACY, "factor", 3)  # that factor
    error_px: float = _mean(ACCURACY, "2D, px")  # mean distance of joints in the image
    error_2d: float = _mean(ACCURACY, "of box", 3)  # the same as a fraction of the true box's longer side
    pa_mpjpe_mm: float = _mean(ACCURACY, "PA, mm")


def score(hands: Sequence[Followed], false: np.ndarray) -> Scores:
    """The metrics of the hands of one sequence. false: (T,) hands seen where there is none."""
    parts = [Scores(**_counts(hand), **_means(hand)) for hand in hands]
    return pooled([*parts, Scores(false_positives=int(false.sum()), frames=len(false))])


def pooled(scores: Sequence[Scores]) -> Scores:
    """Counts summed, means averaged over those that have one, percentages of the sums."""
    columns = {one.name: [getattr(each, one.name) for each in scores] for one in fields(Scores)}
    counts = {one.name: sum(columns[one.name]) for one in fields(Scores) if one.type == "int"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is not a number, as it should be
        means = {name: float(np.nanmean(some)) for name, some in columns.items() if name not in counts}
    shares = {"lost_percent": ("lost", "visible"), "false_percent": ("false_positives", "frames")}
    percent = {name: 100 * counts[a] / counts[b] if counts[b] else math.nan for name, (a, b) in shares.items()}
    return Scores(**counts, **means | percent)


def _counts(hand: Followed) -> dict[str, int]:
    found, visible = hand.found, hand.visible
    stays = [stay[found[stay]] for stay in hand.stays]
    plain = [stay[visible[stay]] for stay in stays]  # at the border and behind another hand, ids and sides are guesses
    return {
        "visible": int(visible.sum()),
        "lost": int((visible & ~found).sum()),
        "found": int(found.sum()),
        "predicted": int(hand.predicted.sum()),
        "wrong_side": int((hand.wrong_side & visible).sum()),
        "id_switches": sum(int((np.diff(hand.ids[stay]) != 0).sum()) for stay in plain),
        "side_swaps": sum(int((np.diff(hand.wrong_side[stay].astype(int)) != 0).sum()) for stay in plain),
        "returns": max(len(stays) - 1, 0),
        "never_returned": sum(not len(stay) for stay in stays[1:]),
    }


def _means(hand: Followed) -> dict[str, float]:
    """Over the frames in which the hand is visible: of one that is hidden or nearly gone, any answer is a guess."""
    hidden = ~hand.visible
    hand = hand._replace(
        said_m=np.where(hidden[:, None, None], np.nan, hand.said_m),
        said_px=np.where(hidden[:, None, None], np.nan, hand.said_px),
        ids=np.where(hidden, -1, hand.ids),
    )
    return _jitter(hand) | _motion(hand) | _return(hand) | _accuracy(hand)


def _about_root(joints_m: np.ndarray) -> np.ndarray:
    return joints_m - joints_m[:, _ROOT]


def _jitter(hand: Followed) -> dict[str, float]:
    if np.ptp(hand.true_m, axis=0).max() > _STILL_M:
        return {}
    settled = hand.found & (hand.times_s >= hand.times_s[0] + SETTLING_S)
    said_m = 1000 * hand.said_m[settled]
    return {
        "jitter_mm": rms_about_mean(said_m),
        "jitter_about_root_mm": rms_about_mean(_about_root(said_m)),
        "jitter_px": rms_about_mean(hand.said_px[settled]),
    }


def _motion(hand: Followed) -> dict[str, float]:
    """Acceleration errors and lags."""

    def lag_ms(said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
        flat = (points.reshape(len(points), -1) for points in (said, true))
        return 1000 * lag_s(hand.times_s, *flat, least_motion)

    image, position = (hand.said_px[:, _ROOT], hand.true_px[:, _ROOT]), (hand.said_m[:, _ROOT], hand.true_m[:, _ROOT])
    form = _about_root(hand.said_m), _about_root(hand.true_m)
    return {
        "acceleration_mm_frame2": 1000 * acceleration_error(*form),
        "acceleration_position_mm_frame2": 1000 * acceleration_error(*position),
        "acceleration_px_frame2": acceleration_error(hand.said_px, hand.true_px),
        "lag_image_ms": lag_ms(*image, _MOVING_PX),
        "lag_position_ms": lag_ms(*position, _MOVING_M),
        "lag_form_ms": lag_ms(*form, np.sqrt(20) * _MOVING_M),  # as many joints move, each with its own distance
        "overshoot_percent": overshoot_percent(*(points[:, 0] for points in image), _MOVING_PX),
    }


def _return(hand: Followed) -> dict[str, float]:
    """Of the returns, the mean time and the largest jump."""
    waits, jumps_px, jumps_mm = [], [], []
    frame_s = float(np.median(np.diff(hand.times_s)))
    for stay in hand.stays[1:]:
        found = stay[hand.found[stay]]
        if len(found):
            waits.append(max(0, int(found[0] - stay[np.argmax(hand.visible[stay])])))
            first = found[hand.times_s[found] <= hand.times_s[found[0]] + RETURN_S + 0.5 * frame_s]
            jumps_px.append(_largest_step((hand.said_px - hand.true_px)[first, skeleton.ROOT]))
            jumps_mm.append(1000 * _largest_step((hand.said_m - hand.true_m)[first, skeleton.ROOT]))
    if not waits:
        return {}
    means = {"return_frames": float(np.mean(waits))}
    return means | {"return_jump_px": max(jumps_px), "return_jump_mm": max(jumps_mm)}


def _largest_step(values: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(values, axis=0), axis=-1).max(initial=0.0))


def _accuracy(hand: Followed) -> dict[str, float]:
    """Errors of the root's depth and of all joints."""
    found = hand.found
    if not found.any():
        return {}
    said_m, true_m, said_px, true_px = (
        points[found] for points in (hand.said_m, hand.true_m, hand.said_px, hand.true_px)
    )
    said, true = (points[found, skeleton.ROOT, 2] for points in (hand.said_m, hand.true_m))
    apart, factor = np.abs(said - true), float(said @ true / (said @ said))
    return {
        "depth_mm": float(1000 * apart.mean()),
        "depth_percent": float(100 * (apart / true).mean()),
        "depth_scaled_mm": float(1000 * np.abs(factor * said - true).mean()),
        "depth_factor": factor,
        "error_px": float(errors(said_px, true_px).mean()),
        "error_2d": float(errors_2d(said_px, true_px).mean()),
        "pa_mpjpe_mm": float(1000 * errors(align(said_m, true_m), true_m).mean()),
    }


# What was filmed, what came out, and what is asked of it.


class Take(NamedTuple):
    """One filming of a sequence as one preset followed it."""

    sequence: str
    sample: int
    smooth: Smooth
    scores: Scores
    hands: list[Followed]


class Target(NamedTuple):
    """One metric and the most that it may be."""

    smooth: str
    what: str
    most: float
    unit: str
    value: float

    @property
    def met(self) -> bool:
        """Whether it is; what was not measured is not met."""
        return self.value <= self.most


@dataclass(frozen=True)
class Results:
    """What was asked and what came out."""

    options: TrackingOptions
    setting: Setting
    speeds: list[Speed] = field(default_factory=list)
    takes: list[Take] = field(default_factory=list)

    def scores(self, smooth: str, sequence: str | None = None) -> Scores:
        """The metrics of a preset in a sequence, over its takes; in all of them without one."""
        takes = [take for take in self.takes if take.smooth == smooth and sequence in (None, take.sequence)]
        return pooled([take.scores for take in takes])

    def by_sequence(self) -> Iterator[tuple[str, str, Scores]]:
        """Sequence, preset and metrics, sequences in the order in which they were followed."""
        for sequence in dict.fromkeys(take.sequence for take in self.takes):
            for smooth in self.options.smooth:
                yield sequence, smooth, self.scores(smooth, sequence)

    def targets(self) -> list[Target]:
        """Of each preset: every hand kept as itself; of `low` little jitter and lag, too. Only what was filmed."""
        made = []
        for smooth in self.options.smooth:
            scores = self.scores(smooth)
            worst = max(one.lost_percent for _, preset, one in self.by_sequence() if preset == smooth)
            made += [
                Target(smooth, "id switches", 0, "", scores.id_switches),
                Target(smooth, "swaps of sides", 0, "", scores.side_swaps),
                Target(smooth, "lost frames while visible", 1, "%", scores.lost_percent),
                Target(smooth, "the same in the worst sequence", 1, "%", worst),
            ]
            if smooth == "low":
                still, wave = self.scores(smooth, "still"), self.scores(smooth, "fast wave")
                lags = {"in the image": wave.lag_image_ms, "in metres": wave.lag_position_ms}
                made.append(Target(smooth, "jitter on a still hand", 0.5, "mm", still.jitter_mm))
                for where, lag_ms in lags.items():
                    made.append(Target(smooth, f"lag at a fast wave, {where}", 1, "frames", lag_ms * FPS / 1000))
        return [one for one in made if not math.isnan(one.value)]


# The report: tables, plots, and everything as JSON.

NOTES = (
    "jitter: RMS of joints about their means over a still hand after its first second, in space, about the root joint "
    "and in the image; acceleration error in mm a squared frame, of joints about the root and of the root; behind: "
    "the shift with which a track correlates most with the true one, of the root in the image, of the root in "
    "metres, of the joints about it; overshoot: how much wider than the truth the root swings in the image, "
    "along its main axis; with --display-ms all is compared with the truth of so much later",
    "lost: frames without a hand that is at least half visible; switches of id and swaps of side of a hand so visible, "
    "within a stay in the image; wrong side: frames; false: hands in 100 frames where there is none; return: frames "
    "from half visible to seen again, and the largest step of the root's error from frame to frame in the half second "
    "after it",
    "depth: mean error of the root's; scaled: after the best single factor on a track; 2D: mean distance of joints in "
    "the image, and as a fraction of the true box; PA: joint error after similarity alignment",
)


def report_of(results: Results) -> Report:
    """What was filmed, all metrics, and what is asked of them."""
    setting, options = results.setting, results.options
    asked = {"sequences": "640x480, 30 frames a second", "hands looked for": options.num_hands}
    speeds = [
        (f"{one.sequence} {one.sample + 1}" if one.sample else one.sequence, SEQUENCES[one.sequence].what)
        + (str(one.frames), str(one.hands), f"{one.fastest_px_s:.0f}", f"{one.fastest_cm_s:.0f}")
        + (f"{one.nearest_m:.2f}-{one.farthest_m:.2f}", f"{100 * one.hand_size_m:.1f}")
        for one in results.speeds
    ]
    columns = ("sequence", "what is filmed", "frames", "hands", "px/s", "cm/s", "depth, m", "hand, cm")
    filmed = Table("Speeds are the fastest", columns, speeds, words=2)
    targets = results.targets()
    rows = [
        (one.smooth, one.what, f"<= {one.most:g} {one.unit}".rstrip(), f"{one.value:.2f}", ("missed", "met")[one.met])
        for one in targets
    ]
    missed = [k for k, one in enumerate(targets) if not one.met]
    asked_of = Table("", ("smooth", "target", "asked", "measured", ""), rows, words=2, marked=missed)
    return Report(
        title="Tracking on sequences with ground truth",
        subtitle=f"{Path(setting.model).name}, presets of smoothing {', '.join(options.smooth)}",
        setting=asked | {"hand size": options.hand_size} | setting.described(),
        sections=[
            Section("Sequences", [filmed]),
            Section("Metrics", [_table(results, title) for title in (JITTER, FOLLOWING, ACCURACY)]),
            Section("What is asked", [asked_of]),
            Section("Tracks", (), [Image.of_figure("tracking", _draw_tracks(results))]),
        ],
        notes=NOTES,
    )


def _table(results: Results, title: str) -> Table:
    """A row for each sequence and preset, and last all sequences together."""
    columns = [one for one in fields(Scores) if one.metadata.get("table") == title]

    def row(scores: Scores) -> Iterator[str]:
        for one in columns:
            value = getattr(scores, one.name)
            yield UNKNOWN if math.isnan(value) else f"{value:.{one.metadata['digits']}f}"

    presets = results.options.smooth
    overall = [("all", smooth, results.scores(smooth)) for smooth in presets]
    rows = [(name, smooth, *row(scores)) for name, smooth, scores in (*results.by_sequence(), *overall)]
    ends = range(len(presets) - 1, len(rows), len(presets))
    return Table(title, ("sequence", "smooth", *(one.metadata["head"] for one in columns)), rows, words=2, ends=ends)


def results_as_json(results: Results) -> dict[str, object]:
    """Everything, for tracking.json."""
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(results.options).items()}
    return {
        "setting": results.setting.as_json(),
        "options": asked,
        "notes": NOTES,
        "filmed": [one._asdict() for one in results.speeds],
        "overall": [{"smooth": smooth} | asdict(results.scores(smooth)) for smooth in results.options.smooth],
        "sequences": [
            {"sequence": sequence, "smooth": smooth} | asdict(scores)
            for sequence, smooth, scores in results.by_sequence()
        ],
        "samples": [
            {"sequence": one.sequence, "sample": one.sample, "smooth": one.smooth, "scores": asdict(one.scores)}
            for one in results.takes
        ],
        "targets": [one._asdict() | {"met": one.met} for one in results.targets()],
    }


_WINDOW_S = (1.0, 2.2)


def _draw_tracks(results: Results) -> Figure:
    """A fast wave from frame to frame, a still hand's unrest, jitter and lag by preset: of whatever was filmed."""
    figure, ((wave, still), (jitter, lag)) = panels(2, 2, (12, 8))
    wave.set(title="fast wave: the root joint's x", xlabel="time, s", ylabel="px")
    still.set(title="still: how far the index finger's tip is from its mean", xlabel="time, s", ylabel="mm")
    tip = skeleton.KEYPOINTS.index("index4")
    for take in results.takes:
        hand, k = take.hands[0], results.options.smooth.index(take.smooth)
        if take.sequence == "fast wave" and not take.sample:
            there = (hand.times_s >= _WINDOW_S[0]) & (hand.times_s <= _WINDOW_S[1])
            said, true = (points[there, skeleton.ROOT, 0] for points in (hand.said_px, hand.true_px))
            if k == 0:
                wave.plot(hand.times_s[there], true, color="#000000", label="true")
            wave.plot(hand.times_s[there], said, color=COLOURS[k], marker=".", linewidth=1, label=take.smooth)
        elif take.sequence == "still" and not take.sample:
            points = 1000 * hand.said_m[:, tip]
            away = np.linalg.norm(points - np.nanmean(points, axis=0), axis=-1)
            still.plot(hand.times_s, away, color=COLOURS[k], linewidth=1, label=take.smooth)
    _draw_bars(jitter, results, "jitter_mm", "jitter of a still hand, mm RMS")
    _draw_bars(lag, results, "lag_image_ms", "behind in the image, ms")
    lag.axhline(1000 / FPS, color="#888888", linewidth=0.8, linestyle="--")  # a frame
    for axes in figure.axes:
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.suptitle(f"{Path(results.setting.model).name}; {results.setting.machine}", fontsize=9)
    return figure


def _draw_bars(axes: Axes, results: Results, name: str, label: str) -> None:
    """One of the means of each sequence that has it, a bar a preset."""
    presets = results.options.smooth
    values = {(sequence, smooth): getattr(scores, name) for sequence, smooth, scores in results.by_sequence()}
    sequences = [one for one in dict.fromkeys(key[0] for key in values) if np.isfinite(values[one, presets[0]])]
    width = 0.8 / len(presets)
    for k, smooth in enumerate(presets):
        positions = np.arange(len(sequences)) - 0.4 + (k + 0.5) * width
        axes.bar(positions, [values[one, smooth] for one in sequences], width, color=COLOURS[k], label=smooth)
    axes.set_xticks(range(len(sequences)), sequences, rotation=20, ha="right")
    axes.set_ylabel(label)
