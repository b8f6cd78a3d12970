"""Measure what is fast and what is not on this machine.

python scripts/benchmark.py latency       # the tracker's stages, on a video or on drawn frames
python scripts/benchmark.py backbones     # FastViT and RepViT against other backbones, by resolution
python scripts/benchmark.py loader        # training pictures a second
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from handmesh import HandTracker
from handmesh.evaluation.backbones.options import Options
from handmesh.runtime.backend import Device, default_threads
from handmesh.runtime.benchmark import LatencyReport, drawn_frames, machine, measure_latency, recorded_frames
from handmesh.runtime.console import guarded

app = tyro.extras.SubcommandApp()

DEFAULTS = Options()


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


@app.command
def backbones(options: tyro.conf.OmitArgPrefixes[Options] = DEFAULTS) -> None:
    """Parameters, MACs and latency of backbones by resolution, fused and unfused, and of token mixers.

    Nothing is downloaded: weights are random, and latency does not depend on them. Stopped, the same
    command goes on where it was.
    """
    from handmesh.evaluation.backbones.files import write_files
    from handmesh.evaluation.backbones.report import print_report
    from handmesh.evaluation.backbones.run import measure, open_results

    results = open_results(options)
    console = Console()
    try:
        measure(options, results)
    finally:
        if results.cells:
            print_report(console, results)
            console.print("wrote", *map(str, write_files(results)), highlight=False)


@app.command
def loader(
    root: Path, size: int = 224, workers: int = 2, seconds: float = 20.0, hand_model: Path | None = None
) -> None:
    """Count the training pictures a second that are read, augmented and cropped from a FreiHAND folder.

    Args:
        root: The folder that holds training/rgb and the JSON files, or one made in the same layout.
        size: Side of the crops in pixels.
        workers: Processes that load; 0 loads in this one.
        seconds: For how long to count.
        hand_model: The set's own hand as .npz, so that its vertices are read too; the bundled one by default.
    """
    from handmesh.data.loader_benchmark import measure_loader

    console = Console()
    console.print(machine(), highlight=False)
    console.print(measure_loader(root, size, workers, seconds, hand_model), highlight=False)


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


def main() -> int:
    try:
        return guarded(lambda: app.cli() or 0)
    except ModuleNotFoundError as error:
        print(f"error: this needs more packages ({error}): pip install -e '.[train]'", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
