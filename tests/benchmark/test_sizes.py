"""The README's table of sizes from recorded numbers: latencies beside the metrics of evaluations of the same files."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from handmesh.benchmark.latency import Times, Timings
from handmesh.benchmark.sizes import LatencyReport, SizeRow, latency_tables, markdown_table, read_accuracy
from handmesh.files import sha256_of

STAGES = ("detect", "crop", "network", "lift", "smooth")


def latency(total_ms: float, frames: int = 290) -> Timings:
    stages = {stage: Times(total_ms / 2, total_ms, total_ms) for stage in STAGES}
    stages |= {
        "track": Times(total_ms, 2 * total_ms, math.nan),
        "processor": Times(total_ms + 0.25, math.nan, math.nan),
    }
    return Timings(frames, 1.0, stages)


def row(name: str, crop_px: int, total_ms: float, sha256: str = "") -> SizeRow:
    nothing = Timings(0, math.nan, {})
    return SizeRow(name, crop_px, 12_743_564, sha256, LatencyReport(latency(total_ms), latency(7.04), nothing, 1.0))


def evaluation(path: Path, sha256: str, **timings_of: dict[str, float | None]) -> Path:
    """A metrics.json as `handmesh evaluate` writes it: both protocols, a part of each set, another network beside."""

    def report(data: str, boxes: str, metrics: dict[str, float | None], factor: float) -> dict:
        values = {name: value and value * factor for name, value in metrics.items()}
        unit = {"PA-MPVPE": "mm", "2D error, median": "of box"}
        described = {name: {"value": value, "unit": unit.get(name, "")} for name, value in values.items()}
        return {"data": data, "boxes": boxes, "metrics": described}

    reports = []
    for data, metrics in timings_of.items():
        reports += [report(data, "given", metrics, 1), report(data, "detected", metrics, 2)]
        reports += [report(data, "given", metrics, 9) | other for other in ({"part": "fists"}, {"by": "fast"})]
    path.write_text(json.dumps({"setting": {"model": "a.onnx", "model_sha256": sha256}, "reports": reports}))
    return path


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for name in ("small.onnx", "large.onnx"):
        Path(name).write_text(name)
    return ["small.onnx", "large.onnx"]


def test_the_table_of_recorded_numbers(files):
    small, large = (sha256_of(Path(name)) for name in files)
    rows = [row("small", 96, 5.94, small), row("large", 160, 12.35, large)]
    photos = evaluation(Path("photos.json"), small, digits={"found": 100.0, "2D error, median": 0.04351})
    shards = evaluation(Path("shards.json"), large, val={"2D error, median": 0.07, "PA-MPVPE": 10.44})
    assert markdown_table(rows, read_accuracy([photos, shards], files)).splitlines() == [
        "| `--model` | crop | file | crop to vertices, ms | `track`, ms "
        "| digits: 2D error, median, of box | val: PA-MPVPE, mm |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| small | 96 px | 12.7 MB | 5.9 | 7.0 | 0.044 | - |",
        "| large | 160 px | 12.7 MB | 12.3 | 7.0 | - | 10.4 |",
    ]
    detected = markdown_table(rows, read_accuracy([photos], files, "detected"), clock="processor")
    assert "| small | 96 px | 12.7 MB | 6.2 | 7.3 | 0.087 |" in detected


def test_without_evaluations_there_are_costs_alone(files):
    assert markdown_table([row("small", 96, 5.94)], read_accuracy([], files)).splitlines()[-1] == (
        "| small | 96 px | 12.7 MB | 5.9 | 7.0 |"
    )


def test_what_was_not_measured_is_a_dash(files):
    photos = evaluation(Path("photos.json"), sha256_of(Path("small.onnx")), digits={"2D error, median": None})
    table = markdown_table([row("small", 96, 5.94, sha256_of(Path("small.onnx")))], read_accuracy([photos], files))
    assert table.endswith("| 5.9 | 7.0 | - |")


def test_metrics_of_another_file_are_refused(files):
    stale = evaluation(Path("metrics.json"), "0" * 64, digits={"2D error, median": 0.04})
    with pytest.raises(ValueError, match=r"of another file than small.onnx, large.onnx now are: evaluate again"):
        read_accuracy([stale], files)


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"setting": {}}'])
def test_other_files_are_one_clear_line(files, content):
    Path("other.json").write_text(content)
    with pytest.raises(ValueError, match=r"other.json is not a metrics.json"):
        read_accuracy([Path("other.json")], files)


def test_all_times_on_the_screen():
    console = Console(width=100, record=True, file=io.StringIO())
    for table in latency_tables([row("small", 96, 5.94), row("large", 160, 12.35)]):
        console.print(table)
    shown = console.export_text()
    for text in (
        "crop to vertices",
        " 5.94  11.9",
        " 12.3  24.7",
        "processor",
        " 6.19",
        "12.7 MB",
        "160 px",
        "track, following",
    ):
        assert text in shown
    assert "searching" not in shown, "no frame was searched"
