"""What a report consists of, on the screen and in `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import onnxruntime
from rich.console import Console
from rich.table import Table

from handmesh.data.photos import Split
from handmesh.evaluation.figures import Figure
from handmesh.evaluation.files import sha256_of, write_json
from handmesh.runtime.backend import Session, default_threads
from handmesh.runtime.benchmark import machine

Boxes = Literal["given", "detected", "none"]

PROTOCOLS: dict[Boxes, str] = {
    "given": "turned square around the labelled joints x {box_scale}, told which side; errors over all labelled hands",
    "detected": "the product's own detector in the whole picture; errors over the hands found",
    "none": "the product's own detector; no hand is in any picture",
}

NOTE = "3D errors are about the root (the middle finger's knuckle); PA-: after similarity alignment"


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


@dataclass(frozen=True)
class Setting:
    """What was scored, and on what."""

    model: str
    model_sha256: str
    box_scale: float
    input_size: tuple[int, int]
    machine: str
    threads: int
    onnxruntime: str


def setting_of(model: Path, session: Session, threads: int | None) -> Setting:
    """The setting of a run of the file `model`, opened as `session`, on this machine."""
    return Setting(
        model=str(model),
        model_sha256=sha256_of(model),
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
        found = [next((figure for figure in report.figures if figure.name == name), None) for report in reports]
        table.add_row(f"{name}, {unit}" if unit else name, *map(cell, found))
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
    write_json(path, content)


def _as_json(report: Report, setting: Setting) -> dict[str, object]:
    figures = figures_as_json(report.figures)
    protocol = PROTOCOLS[report.boxes].format(box_scale=setting.box_scale)
    fields = {"data": report.data, "boxes": report.boxes, "protocol": protocol, "pictures": report.pictures}
    fields |= {"part": report.part} if report.part else {}
    return fields | {"hands": report.hands, "unreadable": report.unreadable, "figures": figures}


def figures_as_json(figures: Sequence[Figure]) -> dict[str, dict[str, object]]:
    """Figures by name."""
    return {figure.name: {key: value for key, value in figure._asdict().items() if key != "name"} for figure in figures}
