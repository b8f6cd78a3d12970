"""Measure what is fast and what is not on this machine.

python scripts/benchmark.py latency       # the bundled networks, crop to vertices and whole frames
python scripts/benchmark.py backbones     # FastViT and RepViT against other backbones, by resolution
python scripts/benchmark.py loader        # training pictures a second
python scripts/benchmark.py training      # crops a second of whole training steps, presets in turns
python scripts/benchmark.py tracking      # jitter, lag, lost frames and depth on sequences with ground truth
python scripts/benchmark.py soak          # memory, slowdown and threads over half an hour
python scripts/benchmark.py stream        # age of frames at 20 clients, and what they cost the tracker
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import onnxruntime
import tyro
from rich.console import Console

from handmesh.assets import Device, bundled_models, model_help
from handmesh.benchmark.backbones import Options
from handmesh.benchmark.latency import (
    Boxes,
    Clock,
    drawn_frames,
    latency_table,
    markdown_table,
    measure_latency,
    open_contender,
    read_accuracy,
    recorded_frames,
    size_row,
)
from handmesh.benchmark.soak import SoakOptions, run_soak
from handmesh.console import guarded
from handmesh.evaluation.tracking import TrackingOptions
from handmesh.machine import machine, peak_memory_mb
from handmesh.tracking.backends import default_threads

app = tyro.extras.SubcommandApp()

DEFAULTS = Options()
TRACKING_DEFAULTS = TrackingOptions()
SOAK_DEFAULTS = SoakOptions()


@app.command
def latency(
    model: Annotated[
        tuple[str, ...], tyro.conf.arg(help=f"{model_help()} Several take turns; by default all bundled.")
    ] = (),
    source: str | None = None,
    frames: int = 300,
    num_hands: int = 2,
    threads: int | None = None,
    device: Device = "auto",
    markdown: bool = False,
    metrics: tuple[Path, ...] = (),
    boxes: Boxes = "given",
    clock: Clock = "wall",
) -> None:
    """Time mesh networks in turn at 640x480: crop to vertices, and the whole of `HandTracker.track`.

    Args:
        source: A video, camera index, folder or glob; without one, frames with one hand are drawn.
        frames: How many frames to show, the ten that warm up included.
        num_hands: How many hands to look for.
        threads: Cores that a network may use; all but one by default.
        device: Where the networks run.
        markdown: Print the README's table instead.
        metrics: For the README's table: metrics.json of evaluations of these networks.
        boxes: Which of their figures: of hands in given boxes, or in detected ones.
        clock: For the README's table: time on the wall, or of the processor where other programs are busy.
    """
    names, threads = model or tuple(bundled_models()), threads or default_threads()
    if clock == "processor" and threads > 1:
        raise ValueError("the processor's time says how long one thread takes; add --threads 1")
    accuracy = read_accuracy(metrics, names, boxes)
    contenders = {name: open_contender(name, num_hands, threads, device) for name in names}
    pictures = drawn_frames(frames) if source is None else recorded_frames(source, frames)
    reports = measure_latency(contenders, pictures)
    rows = [size_row(name, contenders[name], reports[name]) for name in names]
    setting = f"ONNX Runtime {onnxruntime.__version__}, batch 1, {threads} thread{'s' if threads > 1 else ''}"
    seen = f"looking for {num_hands} hands in {source or 'drawn frames'}, 640x480"
    console = Console()
    if markdown:
        print(markdown_table(rows, accuracy, clock))
        print(f"\nMedians of {clock} time; {machine()}; {setting}; {seen}.")
        return
    console.print(f"{machine()}\n{setting}, {seen}", highlight=False)
    console.print(latency_table(rows))
    console.print(f"peak memory {peak_memory_mb():.0f} MB with {len(rows)} of them loaded")


@app.command
def backbones(options: tyro.conf.OmitArgPrefixes[Options] = DEFAULTS) -> None:
    """Parameters, MACs and latency of backbones by resolution, fused and unfused, and of token mixers.

    Nothing is downloaded: weights are random, and latency does not depend on them. Stopped, the same
    command goes on where it was.
    """
    from handmesh.benchmark.backbone_report import print_report, write_files
    from handmesh.benchmark.backbone_runs import measure, open_results

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
    from handmesh.benchmark.loader import measure_loader

    console = Console()
    console.print(machine(), highlight=False)
    console.print(measure_loader(root, size, workers, seconds, hand_model), highlight=False)


@app.command
def training(presets: tyro.conf.Positional[tuple[Path, ...]], steps: int = 8, rounds: int = 5) -> None:
    """Time whole training steps of the mesh network, loader included, presets in turns.

    Their data must be there. OMP_NUM_THREADS says how many threads a step takes; 1 is best on a shared machine.

    Args:
        presets: Configs to compare; the first is what the others are related to.
        steps: Steps of each preset in a turn.
        rounds: Turns; medians over them are given.
    """
    import tempfile

    import torch

    from handmesh.benchmark.loader import measure_training, pace_table
    from handmesh.training.config import MeshConfig, read_config

    configs = {preset.stem: read_config(MeshConfig, preset) for preset in presets}
    with tempfile.TemporaryDirectory() as folder:
        paces = measure_training(configs, steps, rounds, Path(folder))
    console = Console()
    console.print(f"{machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads", highlight=False)
    console.print(pace_table(paces))


@app.command
def tracking(options: tyro.conf.OmitArgPrefixes[TrackingOptions] = TRACKING_DEFAULTS) -> None:
    """Steadiness on generated sequences with ground truth: still, waving, turning, crossing and leaving hands.

    Jitter, lag, acceleration error, lost frames, switches of id and side, false hands, returns, root depth and
    accuracy of each preset of smoothing. The sequences are rendered here, in about two minutes; --frames keeps them.
    """
    from handmesh.evaluation.tracking_report import run_tracking

    run_tracking(options)


@app.command
def stream(clients: int = 20, rate: float = 60.0, seconds: float = 10.0, frames: int = 300) -> None:
    """Stream two hands to local clients: how old frames are when they come, and what it costs the tracker.

    Args:
        clients: How many listen, half of them to JSON, half to binary frames; one more never reads.
        rate: Frames a second.
        seconds: For how long.
        frames: Of the tracker, of which half are tracked while streaming.
    """
    from handmesh.benchmark.streaming import measure_stream, stream_table

    console = Console()
    console.print(machine(), highlight=False)
    pictures = list(drawn_frames(frames // 2))
    console.print(stream_table(measure_stream(pictures, clients, rate, seconds)), highlight=False)


@app.command
def soak(options: tyro.conf.OmitArgPrefixes[SoakOptions] = SOAK_DEFAULTS) -> int:
    """Tracker, overlay and recording on looped clips for long: does memory grow, does it slow down, is anything left?

    Ends with exit code 1 where a limit is broken: 10 MB of growth or 10 % of slowdown after the
    warm-up, threads or files that pile up or are left behind. Ctrl-C reports on the time so far.
    """
    from handmesh.tracking.tracker import HandTracker

    report = run_soak(options, lambda: HandTracker.load(options.model, options.num_hands))
    report.write(options.output)
    Console().print(machine(), *report.lines(), f"wrote {options.output}", sep="\n", highlight=False)
    return int(bool(report.failures))


def main() -> int:
    try:
        return guarded(lambda: app.cli() or 0)
    except ModuleNotFoundError as error:
        print(f"error: this needs more packages ({error}): pip install -e '.[train]'", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
