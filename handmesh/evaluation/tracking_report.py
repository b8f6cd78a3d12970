"""A whole evaluation of tracking: sequences are filmed, each preset follows them; scores, demands, a report, a
video.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

from handmesh import skeleton
from handmesh.console import progress
from handmesh.evaluation.report import COLOURS, UNKNOWN, Image, Report, Section, Table
from handmesh.evaluation.review import strip
from handmesh.evaluation.sequences import FPS, RenderedSequence, render_scene
from handmesh.evaluation.tracking import (
    SEQUENCES,
    VISIBLE,
    Results,
    Row,
    Scores,
    Speed,
    Track,
    TrackingOptions,
    match,
    score,
)
from handmesh.render.overlay import overlay
from handmesh.tracking.smoothing import Smooth
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Frame, Hand, hand_length_m
from handmesh.video.sinks import VideoRecorder

# What is asked of a tracker on the sequences.


@dataclass(frozen=True)
class Target:
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


def targets(results: Results) -> list[Target]:
    """Of each preset: every hand kept as itself; of `low` also little jitter and little lag. Only what was filmed."""
    made = []
    for smooth in results.options.smooth:
        scores = results.scores(smooth)
        made += [
            Target(smooth, "id switches", 0, "", scores.counts.id_switches),
            Target(smooth, "swaps of sides", 0, "", scores.counts.side_swaps),
            Target(smooth, "lost frames while visible", 1, "%", scores.lost_percent),
            Target(smooth, "the same in the worst sequence", 1, "%", _worst_lost_percent(results, smooth)),
        ]
        if smooth == "low":
            still, wave = results.scores(smooth, "still").means, results.scores(smooth, "fast wave").means
            lags = (
                (still.jitter_mm, "jitter on a still hand", 0.5, "mm"),
                *(
                    (value * FPS / 1000, f"lag at a fast wave, {where}", 1, "frames")
                    for value, where in ((wave.lag_image_ms, "in the image"), (wave.lag_position_ms, "in metres"))
                ),
            )
            made += [Target(smooth, what, most, unit, value) for value, what, most, unit in lags]
    return [one for one in made if not math.isnan(one.value)]


def _worst_lost_percent(results: Results, smooth: str) -> float:
    return max(scores.lost_percent for _, one, scores in results.by_sequence() if one == smooth)


# The metrics of a run: on the screen and in `tracking.json`.


NOTES = (
    "jitter: RMS of joints about their means over a still hand after its first second, in space, about the root joint "
    "and in the image; acceleration error in mm a squared frame, of joints about the root and of the root; behind: "
    "the shift with which a track correlates most with the true one, of the root in the image, of the root in "
    "metres, of the joints about it",
    "lost: frames without a hand that is at least half visible; switches of id and swaps of side of a hand so visible, "
    "within a stay in the image; wrong side: frames; false: hands in 100 frames where there is none; return: frames "
    "from half visible to seen again, and the largest step of the root's error from frame to frame in the half second "
    "after it",
    "depth: mean error of the root's; scaled: after the best single factor on a track; 2D: mean distance of joints in "
    "the image, and as a fraction of the true box; PA: joint error after similarity alignment",
)


def report_of(results: Results, tracks: Sequence[Track]) -> Report:
    """What was filmed, all metrics, and what is asked of them."""
    setting, options = results.setting, results.options
    asked = {"sequences": "640x480, 30 frames a second", "hands looked for": options.num_hands}
    return Report(
        title="Tracking on sequences with ground truth",
        subtitle=f"{Path(setting.model).name}, presets of smoothing {', '.join(options.smooth)}",
        setting=asked | {"hand size": options.hand_size} | setting.described(),
        sections=[
            Section("Sequences", [_speeds(results)]),
            Section("Metrics", [_metrics(results, *one) for one in _COLUMNS.items()]),
            Section("What is asked", [_targets(results)]),
            Section("Tracks", (), [Image.of_figure("tracking", draw_tracks(results, tracks))]),
        ],
        notes=NOTES,
    )


def _speeds(results: Results) -> Table:
    columns = ("sequence", "what is filmed", "frames", "hands", "px/s", "cm/s", "depth, m", "hand, cm")
    rows = []
    for one in results.speeds:
        name = f"{one.sequence} {one.sample + 1}" if one.sample else one.sequence
        speeds = (f"{one.fastest_px_s:.0f}", f"{one.fastest_cm_s:.0f}", f"{one.nearest_m:.2f}-{one.farthest_m:.2f}")
        size = f"{100 * one.hand_size_m:.1f}"
        rows.append((name, SEQUENCES[one.sequence], str(one.frames), str(one.hands), *speeds, size))
    return Table("Speeds are the fastest", columns, rows, words=2)


def _metrics(results: Results, title: str, columns: Mapping[str, Callable[[Scores], str]]) -> Table:
    rows = [(*row[:2], *(column(row[2]) for column in columns.values())) for row in results.by_sequence()]
    presets = results.options.smooth
    rows += [("all", one, *(column(results.scores(one)) for column in columns.values())) for one in presets]
    ends = range(len(presets) - 1, len(rows), len(presets))
    return Table(title, ("sequence", "smooth", *columns), rows, words=2, ends=ends)


def _mean(name: str, digits: int = 1) -> Callable[[Scores], str]:
    def text(scores: Scores) -> str:
        value = getattr(scores.means, name)
        return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"

    return text


def _count(name: str) -> Callable[[Scores], str]:
    return lambda scores: str(getattr(scores.counts, name))


_COLUMNS: dict[str, dict[str, Callable[[Scores], str]]] = {
    "Jitter and lag": {
        "jitter, mm": _mean("jitter_mm", 2),
        "about root": _mean("jitter_about_root_mm", 2),
        "px": _mean("jitter_px", 2),
        "acc. error": _mean("acceleration_mm_frame2", 2),
        "of root": _mean("acceleration_position_mm_frame2", 2),
        "behind, ms": _mean("lag_image_ms"),
        "in metres": _mean("lag_position_ms"),
        "in form": _mean("lag_form_ms"),
    },
    "Following": {
        "lost, %": lambda scores: f"{scores.lost_percent:.1f}",
        "switches": _count("id_switches"),
        "swaps": _count("side_swaps"),
        "wrong side": _count("wrong_side"),
        "false": lambda scores: f"{scores.false_percent:.1f}",
        "return": _mean("return_frames"),
        "jump, px": _mean("return_jump_px"),
        "mm": _mean("return_jump_mm"),
    },
    "Accuracy": {
        "depth, mm": _mean("depth_mm"),
        "%": _mean("depth_percent"),
        "scaled, mm": _mean("depth_scaled_mm"),
        "factor": _mean("depth_factor", 3),
        "2D, px": _mean("error_px"),
        "of box": _mean("error_2d", 3),
        "PA, mm": _mean("pa_mpjpe_mm"),
    },
}


def _targets(results: Results) -> Table:
    rows = []
    for one in targets(results):
        asked = f"<= {one.most:g} {one.unit}".rstrip()
        rows.append((one.smooth, one.what, asked, f"{one.value:.2f}", "met" if one.met else "missed"))
    missed = [k for k, row in enumerate(rows) if row[-1] == "missed"]
    return Table("", ("smooth", "target", "asked", "measured", ""), rows, words=2, marked=missed)


def results_as_json(results: Results) -> dict[str, object]:
    """Everything, for tracking.json."""
    rows = [
        {"sequence": sequence, "smooth": smooth} | as_json(scores) for sequence, smooth, scores in results.by_sequence()
    ]
    overall = [{"smooth": smooth} | as_json(results.scores(smooth)) for smooth in results.options.smooth]
    samples = [row._asdict() | {"scores": as_json(row.scores)} for row in results.rows]
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(results.options).items()}
    content = {"setting": results.setting.as_json(), "options": asked, "notes": NOTES}
    content |= {"filmed": [one._asdict() for one in results.speeds], "overall": overall, "sequences": rows}
    return content | {"samples": samples, "targets": [asdict(one) | {"met": one.met} for one in targets(results)]}


def as_json(scores: Scores) -> dict[str, float]:
    """All metrics by name, in the units that the names say."""
    fractions = {"lost_percent": scores.lost_percent, "false_percent": scores.false_percent}
    return dataclasses.asdict(scores.counts) | fractions | dataclasses.asdict(scores.means)


# The tracks as an image: a fast wave from frame to frame, a still hand's unrest, jitter and lag by preset.


_WINDOW_S = (1.0, 2.2)


def draw_tracks(results: Results, tracks: Sequence[Track]) -> Figure:
    """The panels of whatever was filmed."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    wave, still, jitter, lag = figure.subplots(2, 2).flat
    _draw_wave(wave, [track for track in tracks if track.sequence == "fast wave" and not track.sample])
    _draw_still(still, [track for track in tracks if track.sequence == "still" and not track.sample])
    _draw_bars(jitter, results, "jitter_mm", "jitter of a still hand, mm RMS")
    _draw_bars(lag, results, "lag_image_ms", "behind in the image, ms")
    lag.axhline(1000 / 30, color="#888888", linewidth=0.8, linestyle="--")  # a frame
    figure.suptitle(f"{Path(results.setting.model).name}; {results.setting.machine}", fontsize=9)
    return figure


def _draw_wave(axes: Axes, tracks: Sequence[Track]) -> None:
    axes.set(title="fast wave: the root joint's x", xlabel="time, s", ylabel="px")
    for k, track in enumerate(tracks):
        hand = track.hands[0]
        there = (hand.times_s >= _WINDOW_S[0]) & (hand.times_s <= _WINDOW_S[1])
        if k == 0:
            axes.plot(hand.times_s[there], hand.true_px[there, skeleton.ROOT, 0], color="#000000", label="true")
        said = hand.said_px[there, skeleton.ROOT, 0]
        axes.plot(hand.times_s[there], said, color=COLOURS[k], marker=".", linewidth=1, label=track.smooth)
    _finish(axes)


def _draw_still(axes: Axes, tracks: Sequence[Track]) -> None:
    axes.set(title="still: how far the index finger's tip is from its mean", xlabel="time, s", ylabel="mm")
    tip = skeleton.KEYPOINTS.index("index4")
    for k, track in enumerate(tracks):
        points = 1000 * track.hands[0].said_m[:, tip]
        away = np.linalg.norm(points - np.nanmean(points, axis=0), axis=-1)
        axes.plot(track.hands[0].times_s, away, color=COLOURS[k], linewidth=1, label=track.smooth)
    _finish(axes)


def _draw_bars(axes: Axes, results: Results, name: str, label: str) -> None:
    """One of the means of each sequence that has it, a bar a preset."""
    values = {(sequence, smooth): getattr(scores.means, name) for sequence, smooth, scores in results.by_sequence()}
    sequences = [
        one for one in dict.fromkeys(key[0] for key in values) if np.isfinite(values[one, results.options.smooth[0]])
    ]
    width = 0.8 / len(results.options.smooth)
    for k, smooth in enumerate(results.options.smooth):
        positions = np.arange(len(sequences)) - 0.4 + (k + 0.5) * width
        axes.bar(positions, [values[one, smooth] for one in sequences], width, color=COLOURS[k], label=smooth)
    axes.set_xticks(range(len(sequences)), sequences, rotation=20, ha="right")
    axes.set_ylabel(label)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


# A followed sequence as a video to look at: meshes over the frames, true joints as crosses, a line of text.


_SEEN, _HIDDEN = (255, 255, 255), (120, 120, 120)
_FARTHEST_PX = 1e4


class OverlayFilm:
    """A video of one take under one preset, to be used in a `with` statement."""

    def __init__(self, folder: Path, sequence: RenderedSequence, smooth: str) -> None:
        """Writes `folder`/sequence-preset.mp4."""
        self._sequence, self._smooth = sequence, smooth
        name = f"{sequence.title}-{smooth}.mp4".replace(", ", "-").replace(" ", "-")
        self._recorder = VideoRecorder(folder / name, FPS)

    def add(self, k: int, frame: Frame, hands: Sequence[Hand]) -> None:
        """Draw frame number `k` with what was seen in it."""
        image = overlay(frame.image_rgb, hands, self._sequence.camera)
        truth = self._sequence.truth
        for joints_px, seen in zip(truth.joints_px[k], truth.seen[k], strict=True):
            _draw_crosses(image, joints_px, _SEEN if seen >= VISIBLE else _HIDDEN)
        for hand in hands:
            _draw_name(image, hand)
        text = f"{self._sequence.title}, smooth {self._smooth}, frame {k}: " + ", ".join(map(_words, hands))
        self._recorder.write(frame, np.concatenate([image, strip(text, image.shape[1])]))

    def __enter__(self) -> OverlayFilm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.close()


def _words(hand: Hand) -> str:
    return f"#{hand.id} {hand.side} {hand.score:.2f}"


def _draw_crosses(image: np.ndarray, joints_px: np.ndarray, colour: tuple[int, int, int]) -> None:
    for x, y in joints_px[np.abs(joints_px).max(1) < _FARTHEST_PX]:
        cv2.drawMarker(image, (round(float(x)), round(float(y))), colour, cv2.MARKER_CROSS, 5, 1)


def _draw_name(image: np.ndarray, hand: Hand) -> None:
    x, y = np.clip(hand.joints_px.min(0), 12, 1e4).astype(int).tolist()
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, f"#{hand.id}", (x, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)


# Film the sequences, let each preset follow them, score, report.


def run_tracking(options: TrackingOptions) -> Results:
    """Do all that `options` ask for; prints the tables and writes the files."""
    options.check()
    trackers = {smooth: _tracker(options, smooth) for smooth in options.smooth}
    results, tracks = Results.of(options), []
    with progress() as bar:
        for sequence in _sequence(options, bar):
            results.speeds.append(speed_of(sequence))
            for smooth, said in follow(trackers, sequence, options, bar).items():
                hands, false = match(sequence.truth, said)
                results.rows.append(Row(sequence.name, sequence.sample, smooth, score(hands, false)))
                tracks.append(Track(sequence.name, sequence.sample, smooth, hands))
    report = report_of(results, tracks)
    report.write(options.output, {"tracking.json": results_as_json(results)})
    report.print(Console())
    Console().print(f"written to {options.output}: report.html, report.md, tracking.json and tracking.png")
    return results


def _sequence(options: TrackingOptions, bar: Progress) -> Iterator[RenderedSequence]:
    for name in options.chosen():
        for sample in range(options.samples):
            yield render_scene(name, sample, options, bar)


def _tracker(options: TrackingOptions, smooth: Smooth) -> HandTracker:
    return HandTracker.load(options.model, num_hands=options.num_hands, smooth=smooth, threads=options.threads)


def follow(
    trackers: Mapping[Smooth, HandTracker], sequence: RenderedSequence, options: TrackingOptions, bar: Progress
) -> dict[Smooth, list[list[Hand]]]:
    """Each tracker's hands in every frame; drawn into a video where `options` ask for it."""
    for tracker in trackers.values():
        tracker.reset()
        tracker.hand_size_m = hand_size_m(sequence) if options.hand_size == "true" else None
    said: dict[Smooth, list[list[Hand]]] = {smooth: [] for smooth in trackers}
    task = bar.add_task(sequence.title, total=len(sequence.pngs))
    with ExitStack() as stack:
        drawn = {} if options.draw is None else {one: OverlayFilm(options.draw, sequence, one) for one in trackers}
        films = {smooth: stack.enter_context(film) for smooth, film in drawn.items()}
        for k, frame in enumerate(sequence.frames()):
            for smooth, tracker in trackers.items():
                said[smooth].append(tracker.track(frame.image_rgb, frame.time_s, sequence.camera))
                if smooth in films:
                    films[smooth].add(k, frame, said[smooth][-1])
            bar.advance(task)
    bar.remove_task(task)
    return said


def hand_size_m(sequence: RenderedSequence) -> float:
    """From the wrist along the bones to the middle finger's tip; all hands of a take are one person's."""
    return hand_length_m(sequence.truth.joints_m[0, 0])


def speed_of(sequence: RenderedSequence) -> Speed:
    """How fast the root joints of a take move, those outside the image left out."""
    there = sequence.truth.inside[1:] > 0.5
    steps_px = np.linalg.norm(np.diff(sequence.truth.joints_px[:, :, skeleton.ROOT], axis=0), axis=-1)[there]
    steps_m = np.linalg.norm(np.diff(sequence.truth.joints_m[:, :, skeleton.ROOT], axis=0), axis=-1)[there]
    rate = 1 / float(np.median(np.diff(sequence.truth.times_s)))
    depth_m = sequence.truth.joints_m[:, :, skeleton.ROOT, 2]
    return Speed(
        *(sequence.name, sequence.sample, len(sequence.truth.times_s), len(sequence.truth.sides)),
        *(rate * float(steps_px.max()), 100 * rate * float(steps_m.max())),
        *(float(depth_m.min()), float(depth_m.max()), hand_size_m(sequence)),
    )
