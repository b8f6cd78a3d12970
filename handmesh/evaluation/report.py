"""What a report consists of, on the screen and in `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

import onnxruntime
from rich import box
from rich.console import Console
from rich.table import Table

from handmesh.assets import detector_path
from handmesh.data.photos import MIN_SCORE, Split
from handmesh.evaluation.datasets import FOUND_WITHIN
from handmesh.evaluation.intervals import COMBINED, Figure
from handmesh.files import sha256_of, write_json
from handmesh.machine import machine
from handmesh.tracking.backends import Session, default_threads

Boxes = Literal["given", "detected", "none"]

PROTOCOLS: dict[Boxes, str] = {
    "given": "turned square around the labelled joints x {box_scale}, told which side; errors over all labelled hands",
    "detected": "the product's own detector in the whole picture; errors over the hands found",
    "none": "the product's own detector; no hand is in any picture",
}

TRAINED_ON, UNSEEN, NO_HANDS = "trained on", "unseen", "without hands"
"""Groups of data sets."""

ALL_UNSEEN = "all unseen"
"""What the hands of all unseen data sets together are called."""

NOTE = "3D errors are about the root (the middle finger's knuckle); PA-: after similarity alignment"

PHOTO_NOTE = (
    "2D errors are fractions of the longer side of the labelled box; tips along finger: negative is drawn too short; "
    f"combined: the mean 2D error, {FOUND_WITHIN} for a hand that is not found; "
    "in grey, swapped: hands found as a fraction of those found in colour; "
    f"labels that score below {MIN_SCORE} are left out; 95 % intervals are in metrics.json"
)


@dataclass(frozen=True)
class Report:
    """The figures of one data set under one crop protocol."""

    data: str
    boxes: Boxes
    pictures: int  # that were looked at
    hands: int  # labelled ones that got an answer
    unreadable: int  # pictures that were not, because they do not decode
    figures: tuple[Figure, ...]
    part: str = ""  # which of its pictures, where these are not all
    group: str = ""  # of data sets, where they are told apart

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, if there is one."""
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclass(frozen=True)
class Setting:
    """What was scored, and on what."""

    model: str
    model_sha256: str
    detector: str
    detector_sha256: str
    box_scale: float
    input_size: tuple[int, int]
    machine: str
    threads: int
    onnxruntime: str


def setting_of(model: Path, session: Session, threads: int | None, detector: Path | None = None) -> Setting:
    """The setting of a run of the file `model`, opened as `session`, on this machine; with the bundled detector."""
    detector = detector or detector_path()
    return Setting(
        model=str(model),
        model_sha256=sha256_of(model),
        detector=str(detector),
        detector_sha256=sha256_of(detector),
        box_scale=float(session.metadata["box_scale"]),
        input_size=session.input_size,
        machine=machine(),
        threads=default_threads() if threads is None else threads,
        onnxruntime=onnxruntime.__version__,
    )


def folder_names(folders: Sequence[Path]) -> list[str]:
    """What data sets in these folders are called: after the folder, and its parent where that says too little."""
    paths = [folder.resolve() for folder in folders]
    bases = [path.name for path in paths]
    vague = {name for name in bases if bases.count(name) > 1 or name in get_args(Split)}
    return [f"{path.parent.name}-{path.name}" if path.name in vague else path.name for path in paths]


def print_reports(console: Console, setting: Setting, reports: Sequence[Report]) -> None:
    """A table for each data set, and under them how the figures came about."""
    model = Path(setting.model).name
    for data in dict.fromkeys(report.data for report in reports):
        of_data = [report for report in reports if report.data == data]
        console.print(_table(f"{model} on {data}", [report for report in of_data if not report.part]))
        for boxes in dict.fromkeys(report.boxes for report in of_data if report.part):
            parts = [report for report in of_data if report.part and report.boxes == boxes]
            console.print(_table(f"{model} on parts of {data}, {boxes} boxes", parts))
    _print_setting(console, setting, reports)


_COLUMNS: dict[str, tuple[str, ...]] = {
    "found\n%": ("hands found",),
    "side\nright %": ("side right",),
    "2D\nmedian": ("2D error, median",),
    "2D\nmean": ("2D error, mean",),
    "PCK\n@0.2 %": ("PCK@0.2",),
    "PA-MPJPE\nmm": ("PA-MPJPE (rough 3D)",),
    "tips with-\nin 0.1 %": ("all fingertips within 0.1",),
    "tips along\nfinger": ("fingertips along the finger",),
    "combined\n2D": (COMBINED,),
    "extra\n/100": ("extra hands", "false hands"),
    "found\nin grey": ("hands found in grey",),
    "red-blue\nswapped": ("hands found with red and blue swapped",),
}
"""Figures of photographs by the head of their column; the first that a data set has."""


def print_photo_reports(console: Console, setting: Setting, reports: Sequence[Report]) -> None:
    """One table of all sets of photographs, a row for each, and how the figures came about."""
    wide = Console(file=console.file, width=max(console.width, 200))  # as wide as it needs: nothing is cut off
    wide.print(_photo_table(setting, reports))
    console.print(PHOTO_NOTE, highlight=False)
    _print_setting(console, setting, reports)


def _photo_table(setting: Setting, reports: Sequence[Report]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        title=f"{Path(setting.model).name} with {Path(setting.detector).name}",
    )
    table.add_column("", no_wrap=True)
    rows = [[_first(report, names) for names in _COLUMNS.values()] for report in reports]
    shown = [k for k in range(len(_COLUMNS)) if any(row[k] for row in rows)]
    for name in ("hands", *(list(_COLUMNS)[k] for k in shown)):
        table.add_column(name, justify="right")
    for (boxes, group), pairs in groupby(zip(reports, rows, strict=True), lambda pair: (pair[0].boxes, pair[0].group)):
        table.add_section()
        table.add_row(f"[bold]{group}[/]" if boxes == "none" else f"[bold]{group}[/], {boxes}")
        for report, row in pairs:
            found = report.figure("hands found")
            values = [_short(row[k].value) if row[k] else "" for k in shown]
            table.add_row(report.data, str(found.count) if found else "", *values)
    return table


def _first(report: Report, names: Sequence[str]) -> Figure | None:
    found = (report.figure(name) for name in names)
    return next((figure for figure in found if figure and not math.isnan(figure.value)), None)


def combined_figure(reports: Sequence[Report]) -> Figure | None:
    """The number to decide by: `intervals.combined_errors` of all unseen hands, looked for by the detector."""
    pooled = _all_unseen(reports)
    return pooled and pooled.figure(COMBINED)


def _all_unseen(reports: Sequence[Report]) -> Report | None:
    return next((report for report in reports if (report.data, report.boxes) == (ALL_UNSEEN, "detected")), None)


def print_combined(console: Console, reports: Sequence[Report]) -> None:
    """The unseen sets together, and last the number to decide by; nothing where there are none."""
    pooled, combined = _all_unseen(reports), combined_figure(reports)
    if pooled is None or combined is None:
        return
    found, side = (cell(pooled.figure(name)) for name in ("hands found", "side right"))
    said = f"found {found} %, side right {side} %, combined {cell(combined)}; 95 % intervals"
    console.print(f"{ALL_UNSEEN}, {combined.count} hands: {said}", highlight=False)
    console.print(f"[bold]combined (unseen): {combined.value:.3f}[/]", highlight=False)


def _print_setting(console: Console, setting: Setting, reports: Sequence[Report]) -> None:
    """How the figures came about."""
    for boxes in dict.fromkeys(report.boxes for report in reports):
        console.print(f"[bold]{boxes}[/]: {PROTOCOLS[boxes].format(box_scale=setting.box_scale)}", highlight=False)
    console.print(NOTE, highlight=False)
    height, width = setting.input_size
    runtime = f"ONNX Runtime {setting.onnxruntime}, {setting.threads} threads"
    console.print(f"crop {width}x{height}; {runtime}; {setting.machine}", highlight=False)
    for report in reports:
        if report.unreadable:
            console.print(f"[yellow]{report.data}: pictures that could not be read: {report.unreadable}[/]")


def _table(title: str, reports: Sequence[Report]) -> Table:
    """The reports on one data set: a row for each figure, a column for each crop protocol or each part of the set."""
    table = Table("", title=f"{title}, 95 % bootstrap intervals")
    for report in reports:
        table.add_column(report.part or ("" if report.boxes == "none" else f"{report.boxes} boxes"), justify="right")
    table.add_row("pictures", *(str(report.pictures) for report in reports))
    table.add_row("hands measured", *(str(report.hands) for report in reports), end_section=True)
    units = {figure.name: figure.unit for report in reports for figure in report.figures}
    for name, unit in units.items():
        table.add_row(f"{name}, {unit}" if unit else name, *(cell(report.figure(name)) for report in reports))
    return table


def cell(figure: Figure | None) -> str:
    """A figure with its interval, for a table."""
    if figure is None or math.isnan(figure.value):
        return "-"
    return f"{_short(figure.value)} ({_short(figure.low)}-{_short(figure.high)})"


def _short(value: float) -> str:
    return f"{value:.3f}" if 0 < abs(value) < 2 else f"{value:.1f}"


def write_metrics(path: Path, setting: Setting, reports: Sequence[Report]) -> None:
    """Write all figures as JSON; what could not be measured is null. Replaces the file in one step."""
    described = [_as_json(report, setting) for report in reports]
    content = {"setting": asdict(setting), "note": NOTE, "reports": described}
    combined = combined_figure(reports)
    write_json(path, content | ({"combined": combined.value} if combined else {}))


def _as_json(report: Report, setting: Setting) -> dict[str, object]:
    figures = figures_as_json(report.figures)
    protocol = PROTOCOLS[report.boxes].format(box_scale=setting.box_scale)
    fields = {"data": report.data, "boxes": report.boxes, "protocol": protocol, "pictures": report.pictures}
    fields |= {name: getattr(report, name) for name in ("part", "group") if getattr(report, name)}
    return fields | {"hands": report.hands, "unreadable": report.unreadable, "figures": figures}


def figures_as_json(figures: Sequence[Figure]) -> dict[str, dict[str, object]]:
    """Figures by name."""
    return {figure.name: {key: value for key, value in figure._asdict().items() if key != "name"} for figure in figures}
