"""The bundled sizes side by side: what each costs and, from evaluations, how good it is. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from rich.table import Table

from handmesh.evaluation.files import sha256_of
from handmesh.runtime.benchmark import Contender, Latency, LatencyReport
from handmesh.runtime.models import model_path

Clock = Literal["wall", "processor"]
Boxes = Literal["given", "detected"]

FIGURES = ("PA-MPVPE", "2D error, median")
"""The figures that stand for a whole evaluation in the table; the first that it has."""

UNKNOWN = "-"


class SizeRow(NamedTuple):
    """One network of the table."""

    name: str
    crop_px: int
    file_bytes: int
    file_sha256: str
    latency: LatencyReport


def size_row(model: str, contender: Contender, latency: LatencyReport) -> SizeRow:
    """The row of a bundled (by name) or exported (by path) network that was measured."""
    path = model_path(model)
    crop_px = contender.estimator.session.input_size[0]
    return SizeRow(path.stem, crop_px, path.stat().st_size, sha256_of(path), latency)


def latency_table(rows: Sequence[SizeRow]) -> Table:
    """All times, for the screen: a column a network."""
    table = Table("", title="median / 90th percentile, ms")
    for row in rows:
        table.add_column(row.name, justify="right")
    table.add_row("crop", *(f"{row.crop_px} px" for row in rows))
    table.add_row("file", *(_megabytes(row) for row in rows), end_section=True)
    reports = [row.latency for row in rows]
    _add_group(table, "crop to vertices", [report.look for report in reports], ("crop", "network", "lift"))
    stages = ("crop", "network", "lift", "smooth")
    _add_group(table, "track, following", [report.following for report in reports], stages)
    _add_group(table, "track, also searching", [report.searching for report in reports], ("detect", *stages))
    table.add_row("hands a frame", *(f"{report.hands_per_frame:.2f}" for report in reports))
    return table


def _add_group(table: Table, title: str, group: Sequence[Latency], stages: Sequence[str]) -> None:
    """The total, its stages, and the processor's own time below them."""
    if not any(latency.frames for latency in group):
        return
    table.add_row(title, *(_spread(latency, "total") for latency in group), style="bold")
    for stage in stages:
        table.add_row(f"  {stage}", *(_spread(latency, stage) for latency in group))
    table.add_row("  processor time", *(_number(latency.processor_ms, 2) for latency in group))
    table.add_row("  frames", *(str(latency.frames) for latency in group), end_section=True)


def _spread(latency: Latency, stage: str) -> str:
    if not latency.frames:
        return UNKNOWN
    median, high = latency.stages_ms[stage]
    return f"{median:.2f} / {high:.2f}"


def markdown_table(rows: Sequence[SizeRow], accuracy: Mapping[str, Mapping[str, float]], clock: Clock = "wall") -> str:
    """The README's table: a row a network.

    accuracy: see `read_accuracy`. clock: which median times to show.
    """
    figures = list(dict.fromkeys(name for row in rows for name in accuracy.get(row.file_sha256, {})))
    header = ["`--model`", "crop", "file", "crop to vertices, ms", "`track`, ms", *figures]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        times = (_median_ms(latency, clock) for latency in (row.latency.look, row.latency.following))
        known = accuracy.get(row.file_sha256, {})
        cells = [row.name, f"{row.crop_px} px", _megabytes(row), *(_number(ms, 1) for ms in times)]
        lines.append(cells + [_figure(known.get(name, math.nan)) for name in figures])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median_ms(latency: Latency, clock: Clock) -> float:
    if not latency.frames:
        return math.nan
    return latency.processor_ms if clock == "processor" else latency.stages_ms["total"][0]


def _megabytes(row: SizeRow) -> str:
    return f"{row.file_bytes / 1e6:.1f} MB"


def _figure(value: float) -> str:
    return _number(value, 3 if abs(value) < 1 else 1)


def _number(value: float, digits: int) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"


def read_accuracy(paths: Sequence[Path], models: Sequence[str], boxes: Boxes = "given") -> dict[str, dict[str, float]]:
    """Figures by their titles by the SHA-256 of the network's file, from the metrics.json of evaluations.

    One figure for each data set, see `FIGURES`, of hands in boxes that were given or detected. Raises
    ValueError for an evaluation of a file that is none of the `models`: its figures would be stale.
    """
    known = {sha256_of(model_path(model)) for model in models} if paths else set()
    accuracy: dict[str, dict[str, float]] = {}
    for path in paths:
        setting, reports = _read_metrics(path)
        sha256 = setting["model_sha256"]
        if sha256 not in known:
            raise ValueError(f"{path} is of another file than {', '.join(models)} now are: evaluate again")
        accuracy.setdefault(sha256, {}).update(_figures(reports, boxes))
    return accuracy


def _read_metrics(path: Path) -> tuple[dict, list[dict]]:
    try:
        content = json.loads(path.read_text())
        return content["setting"], content["reports"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a metrics.json of `scripts/evaluate.py photos` or `synthetic`") from error


def _figures(reports: Sequence[Mapping], boxes: Boxes) -> dict[str, float]:
    found = {}
    for report in reports:
        if report["boxes"] != boxes or report.get("part"):
            continue
        name = next((name for name in FIGURES if name in report["figures"]), None)
        if name is not None:
            figure = report["figures"][name]
            unit = f", {figure['unit']}" if figure["unit"] else ""
            found[f"{report['data']}: {name}{unit}"] = math.nan if figure["value"] is None else figure["value"]
    return found
