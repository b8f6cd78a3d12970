"""Measure the tracker: `benchmark.py latency` times its stages on a video or on drawn frames."""

from __future__ import annotations

import tyro
from rich.console import Console
from rich.table import Table

from handmesh import HandTracker
from handmesh.runtime.backend import Device, default_threads
from handmesh.runtime.benchmark import LatencyReport, drawn_frames, machine, measure_latency, recorded_frames

app = tyro.extras.SubcommandApp()


@app.command
def latency(
    source: str | None = None,
    model: str = "balanced",
    frames: int = 300,
    num_hands: int = 2,
    threads: int | None = None,
    device: Device = "auto",
) -> None:
    """Time `HandTracker.track` at 640x480, stage by stage.

    Args:
        source: A video, camera index, folder or glob; without one, frames are drawn.
        model: A bundled network or the path of an exported one.
        frames: How many frames to track, the ten that warm up included.
        num_hands: How many hands to look for.
        threads: Cores that a network may use; all but one by default.
        device: Where the networks run.
    """
    tracker = HandTracker.load(model, num_hands=num_hands, threads=threads, device=device)
    pictures = drawn_frames(frames) if source is None else recorded_frames(source, frames)
    report = measure_latency(tracker, pictures)
    console = Console()
    console.print(machine(), highlight=False)
    console.print(
        f"model {model}, batch 1, {threads or default_threads()} threads, looking for {num_hands} hands, "
        f"{source or 'drawn frames'}, 640x480",
        highlight=False,
    )
    console.print(_table(report))
    console.print(f"{report.hands_per_frame:.2f} hands a frame, peak memory {report.peak_memory_mb:.0f} MB")


def _table(report: LatencyReport) -> Table:
    table = Table("stage", title="median / 90th percentile, ms")
    groups = {"following": report.following, "also searching": report.searching}
    groups = {f"{name} ({group.frames} frames)": group for name, group in groups.items() if group.frames}
    for name in groups:
        table.add_column(name, justify="right")
    for stage in next(iter(groups.values())).stages_ms:
        cells = (group.stages_ms[stage] for group in groups.values())
        table.add_row(stage, *(f"{median:.2f} / {high:.2f}" for median, high in cells))
    return table


if __name__ == "__main__":
    try:
        app.cli()
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
