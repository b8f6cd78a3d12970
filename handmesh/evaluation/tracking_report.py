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
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from handmesh import skeleton
from handmesh.console import progress
from handmesh.evaluation.sequences import FPS, Footage, shoot
from handmesh.evaluation.sheets import strip
from handmesh.evaluation.tracking import (
    SEQUENCES,
    VISIBLE,
    Report,
    Row,
    Scores,
    Speed,
    Track,
    TrackingOptions,
    match,
    score,
)
from handmesh.files import write_json
from handmesh.render.overlay import overlay
from handmesh.tracking.smoothing import Smooth
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Frame, Hand, hand_length_m
from handmesh.video.sinks import VideoRecorder

# What is asked of a tracker on the sequences.


@dataclass(frozen=True)
class Demand:
    """One figure and the most that it may be."""

    smooth: str
    what: str
    most: float
    unit: str
    value: float

    @property
    def met(self) -> bool:
        """Whether it is; what was not measured is not met."""
        return self.value <= self.most


def demands(report: Report) -> list[Demand]:
    """Of each preset: every hand kept as itself; of `low` also little jitter and little lag. Only what was filmed."""
    made = []
    for smooth in report.options.smooth:
        scores = report.scores(smooth)
        made += [
            Demand(smooth, "id switches", 0, "", scores.counts.id_switches),
            Demand(smooth, "swaps of sides", 0, "", scores.counts.side_swaps),
            Demand(smooth, "lost frames while visible", 1, "%", scores.lost_percent),
            Demand(smooth, "the same in the worst sequence", 1, "%", _worst_lost_percent(report, smooth)),
        ]
        if smooth == "low":
            still, wave = report.scores(smooth, "still").means, report.scores(smooth, "fast wave").means
            lags = (
                (still.jitter_mm, "jitter on a still hand", 0.5, "mm"),
                *(
                    (value * FPS / 1000, f"lag at a fast wave, {where}", 1, "frames")
                    for value, where in ((wave.lag_picture_ms, "in the picture"), (wave.lag_place_ms, "in metres"))
                ),
            )
            made += [Demand(smooth, what, most, unit, value) for value, what, most, unit in lags]
    return [one for one in made if not math.isnan(one.value)]


def _worst_lost_percent(report: Report, smooth: str) -> float:
    return max(scores.lost_percent for _, one, scores in report.by_sequence() if one == smooth)


# The figures of a run: on the screen and in `tracking.json`.


UNKNOWN = "-"
WORDY = "what is filmed"

NOTES = (
    "jitter: RMS of joints about their means over a still hand after its first second, in space, about the root joint "
    "and in the picture; acceleration error in mm a squared frame, of joints about the root and of the root; behind: "
    "the shift with which a track correlates most with the true one, of the root in the picture, of the root in "
    "metres, of the joints about it",
    "lost: frames without a hand that is at least half visible; switches of id and swaps of side of a hand so visible, "
    "within a stay in the picture; wrong side: frames; false: hands in 100 frames where there is none; return: frames "
    "from half visible to seen again, and the largest step of the root's error from frame to frame in the half second "
    "after it",
    "depth: mean error of the root's; scaled: after the best single factor on a track; 2D: mean distance of joints in "
    "the picture, and as a share of the true box; PA: joint error after similarity alignment",
)


def print_report(console: Console, report: Report) -> None:
    """What was filmed, all figures, and what is asked of them."""
    console.print(_speeds(report))
    for title, columns in _COLUMNS.items():
        console.print(_figures(report, title, columns))
    for note in NOTES:
        console.print(note, highlight=False, style="dim")
    console.print(_demands(report))
    setting, options = report.setting, report.options
    console.print(
        f"{Path(setting.model).name}, looking for {options.num_hands}, hand size {options.hand_size}; "
        f"ONNX Runtime {setting.onnxruntime}, {setting.threads} threads; {setting.machine}",
        highlight=False,
    )


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=name != WORDY)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _speeds(report: Report) -> Table:
    numbers = ("frames", "hands", "px/s", "cm/s", "depth, m", "hand, cm")
    table = _table("640x480, 30 frames a second; speeds are the fastest", ("sequence", WORDY), numbers)
    for one in report.speeds:
        name = f"{one.sequence} {one.take + 1}" if one.take else one.sequence
        speeds = (f"{one.fastest_px_s:.0f}", f"{one.fastest_cm_s:.0f}", f"{one.nearest_m:.2f}-{one.farthest_m:.2f}")
        size = f"{100 * one.hand_size_m:.1f}"
        table.add_row(name, SEQUENCES[one.sequence], str(one.frames), str(one.hands), *speeds, size)
    return table


def _figures(report: Report, title: str, columns: dict[str, Callable[[Scores], str]]) -> Table:
    table = _table(title, ("sequence", "smooth"), tuple(columns))
    rows = list(report.by_sequence())
    for k, (sequence, smooth, scores) in enumerate(rows):
        last = k + 1 == len(rows) or rows[k + 1][0] != sequence
        cells = (column(scores) for column in columns.values())
        table.add_row("" if k and rows[k - 1][0] == sequence else sequence, smooth, *cells, end_section=last)
    for smooth in report.options.smooth:
        table.add_row("all", smooth, *(column(report.scores(smooth)) for column in columns.values()))
    return table


def _mean(name: str, digits: int = 1) -> Callable[[Scores], str]:
    def text(scores: Scores) -> str:
        value = getattr(scores.means, name)
        return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"

    return text


def _count(name: str) -> Callable[[Scores], str]:
    return lambda scores: str(getattr(scores.counts, name))


_COLUMNS: dict[str, dict[str, Callable[[Scores], str]]] = {
    "Steadiness": {
        "jitter, mm": _mean("jitter_mm", 2),
        "about root": _mean("jitter_about_root_mm", 2),
        "px": _mean("jitter_px", 2),
        "acc. error": _mean("acceleration_mm_frame2", 2),
        "of root": _mean("acceleration_place_mm_frame2", 2),
        "behind, ms": _mean("lag_picture_ms"),
        "in metres": _mean("lag_place_ms"),
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


def _demands(report: Report) -> Table:
    table = _table("What is asked", ("smooth", "demand"), ("asked", "measured", ""))
    for one in demands(report):
        asked = f"<= {one.most:g} {one.unit}".rstrip()
        table.add_row(one.smooth, one.what, asked, f"{one.value:.2f}", "met" if one.met else "[red]missed[/]")
    return table


def write_report(path: Path, report: Report) -> Path:
    """Write everything as JSON; what could not be measured is null. Gives the path."""
    rows = [
        {"sequence": sequence, "smooth": smooth} | as_json(scores) for sequence, smooth, scores in report.by_sequence()
    ]
    overall = [{"smooth": smooth} | as_json(report.scores(smooth)) for smooth in report.options.smooth]
    takes = [row._asdict() | {"scores": as_json(row.scores)} for row in report.rows]
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(report.options).items()}
    content = {"setting": asdict(report.setting), "options": asked, "notes": NOTES}
    content |= {"filmed": [one._asdict() for one in report.speeds], "overall": overall, "sequences": rows}
    content |= {"takes": takes, "demands": [asdict(one) | {"met": one.met} for one in demands(report)]}
    write_json(path, content)
    return path


def as_json(scores: Scores) -> dict[str, float]:
    """All figures by name, in the units that the names say."""
    shares = {"lost_percent": scores.lost_percent, "false_percent": scores.false_percent}
    return dataclasses.asdict(scores.counts) | shares | dataclasses.asdict(scores.means)


# A followed sequence as a video to look at: meshes over the frames, true joints as crosses, a line of text.


_SEEN, _HIDDEN = (255, 255, 255), (120, 120, 120)
_FARTHEST_PX = 1e4


class OverlayFilm:
    """A video of one take under one preset, to be used in a `with` statement."""

    def __init__(self, folder: Path, footage: Footage, smooth: str) -> None:
        """Writes `folder`/sequence-preset.mp4."""
        self._footage, self._smooth = footage, smooth
        name = f"{footage.title}-{smooth}.mp4".replace(", ", "-").replace(" ", "-")
        self._recorder = VideoRecorder(folder / name, FPS)

    def add(self, k: int, frame: Frame, hands: Sequence[Hand]) -> None:
        """Draw frame number `k` with what was seen in it."""
        picture = overlay(frame.image_rgb, hands, self._footage.camera)
        truth = self._footage.truth
        for joints_px, seen in zip(truth.joints_px[k], truth.seen[k], strict=True):
            _draw_crosses(picture, joints_px, _SEEN if seen >= VISIBLE else _HIDDEN)
        for hand in hands:
            _draw_name(picture, hand)
        text = f"{self._footage.title}, smooth {self._smooth}, frame {k}: " + ", ".join(map(_words, hands))
        self._recorder.write(frame, np.concatenate([picture, strip(text, picture.shape[1])]))

    def __enter__(self) -> OverlayFilm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.close()


def _words(hand: Hand) -> str:
    return f"#{hand.id} {hand.side} {hand.score:.2f}"


def _draw_crosses(picture: np.ndarray, joints_px: np.ndarray, colour: tuple[int, int, int]) -> None:
    for x, y in joints_px[np.abs(joints_px).max(1) < _FARTHEST_PX]:
        cv2.drawMarker(picture, (round(float(x)), round(float(y))), colour, cv2.MARKER_CROSS, 5, 1)


def _draw_name(picture: np.ndarray, hand: Hand) -> None:
    x, y = np.clip(hand.joints_px.min(0), 12, 1e4).astype(int).tolist()
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, f"#{hand.id}", (x, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)


# Film the sequences, let each preset follow them, score, report.


def run_tracking(options: TrackingOptions) -> Report:
    """Do all that `options` ask for; prints the tables and writes the files."""
    from handmesh.evaluation.plots import write_plot

    options.check()
    trackers = {smooth: _tracker(options, smooth) for smooth in options.smooth}
    report, tracks = Report.of(options), []
    with progress() as bar:
        for footage in _footage(options, bar):
            report.speeds.append(speed_of(footage))
            for smooth, said in follow(trackers, footage, options, bar).items():
                hands, false = match(footage.truth, said)
                report.rows.append(Row(footage.name, footage.take, smooth, score(hands, false)))
                tracks.append(Track(footage.name, footage.take, smooth, hands))
    print_report(Console(), report)
    files = write_report(options.output / "tracking.json", report)
    write_plot(files.with_suffix(".png"), report, tracks)
    Console().print(f"wrote {files} and {files.with_suffix('.png')}", highlight=False)
    return report


def _footage(options: TrackingOptions, bar: Progress) -> Iterator[Footage]:
    for name in options.chosen():
        for take in range(options.takes):
            yield shoot(name, take, options, bar)


def _tracker(options: TrackingOptions, smooth: Smooth) -> HandTracker:
    return HandTracker.load(options.model, num_hands=options.num_hands, smooth=smooth, threads=options.threads)


def follow(
    trackers: Mapping[Smooth, HandTracker], footage: Footage, options: TrackingOptions, bar: Progress
) -> dict[Smooth, list[list[Hand]]]:
    """Each tracker's hands in every frame; drawn into a video where `options` ask for it."""
    for tracker in trackers.values():
        tracker.reset()
        tracker.hand_size_m = hand_size_m(footage) if options.hand_size == "true" else None
    said: dict[Smooth, list[list[Hand]]] = {smooth: [] for smooth in trackers}
    task = bar.add_task(footage.title, total=len(footage.pngs))
    with ExitStack() as stack:
        drawn = {} if options.draw is None else {one: OverlayFilm(options.draw, footage, one) for one in trackers}
        films = {smooth: stack.enter_context(film) for smooth, film in drawn.items()}
        for k, frame in enumerate(footage.frames()):
            for smooth, tracker in trackers.items():
                said[smooth].append(tracker.track(frame.image_rgb, frame.time_s, footage.camera))
                if smooth in films:
                    films[smooth].add(k, frame, said[smooth][-1])
            bar.advance(task)
    bar.remove_task(task)
    return said


def hand_size_m(footage: Footage) -> float:
    """From the wrist along the bones to the middle finger's tip; all hands of a take are one person's."""
    return hand_length_m(footage.truth.joints_m[0, 0])


def speed_of(footage: Footage) -> Speed:
    """How fast the root joints of a take move, those outside the picture left out."""
    there = footage.truth.inside[1:] > 0.5
    steps_px = np.linalg.norm(np.diff(footage.truth.joints_px[:, :, skeleton.ROOT], axis=0), axis=-1)[there]
    steps_m = np.linalg.norm(np.diff(footage.truth.joints_m[:, :, skeleton.ROOT], axis=0), axis=-1)[there]
    rate = 1 / float(np.median(np.diff(footage.truth.times_s)))
    depth_m = footage.truth.joints_m[:, :, skeleton.ROOT, 2]
    return Speed(
        *(footage.name, footage.take, len(footage.truth.times_s), len(footage.truth.sides)),
        *(rate * float(steps_px.max()), 100 * rate * float(steps_m.max())),
        *(float(depth_m.min()), float(depth_m.max()), hand_size_m(footage)),
    )
