"""The figures of a run: on the screen and in `tracking.json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from handmesh.evaluation import report as reports
from handmesh.evaluation.files import write_json
from handmesh.evaluation.tracking.demands import demands
from handmesh.evaluation.tracking.options import SEQUENCES, TrackingOptions
from handmesh.evaluation.tracking.scores import Scores, pooled
from handmesh.runtime.backend import open_session
from handmesh.runtime.models import model_path

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


class Speed(NamedTuple):
    """What a take shows."""

    sequence: str
    take: int
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
    take: int
    smooth: str
    scores: Scores


@dataclass(frozen=True)
class Report:
    """What was asked and what came out."""

    options: TrackingOptions
    setting: reports.Setting
    speeds: list[Speed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @staticmethod
    def of(options: TrackingOptions) -> Report:
        """An empty one; ModelFileError for a model that is none."""
        path = model_path(options.model)
        return Report(options, reports.setting_of(path, open_session(path, "mesh", options.threads), options.threads))

    def scores(self, smooth: str, sequence: str | None = None) -> Scores:
        """The figures of a preset in a sequence, over its takes; in all of them without one."""
        return pooled([row.scores for row in self.rows if row.smooth == smooth and sequence in (None, row.sequence)])

    def by_sequence(self) -> Iterator[tuple[str, str, Scores]]:
        """Sequence, preset and figures, sequences in the order in which they were followed."""
        for sequence in dict.fromkeys(row.sequence for row in self.rows):
            for smooth in self.options.smooth:
                yield sequence, smooth, self.scores(smooth, sequence)


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
