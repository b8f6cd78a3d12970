"""`handmesh bench`: the stage table, what it is beside MediaPipe and on a busy machine, and the pace of a demo."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro
from rich.console import Console

from handmesh.apps.bench import report
from handmesh.apps.bench.burden import Burden
from handmesh.apps.bench.contenders import (
    MEDIAPIPE,
    Contender,
    MediaPipeContender,
    MediaPipeUnavailable,
    TrackerContender,
    load_mediapipe,
)
from handmesh.apps.bench.paced import Pace, keep_pace
from handmesh.apps.bench.pictures import SIZE, scenes_of, taken_frames
from handmesh.apps.bench.turns import Case, Measured, measure
from handmesh.apps.session import Tracker
from handmesh.render import warm_up
from handmesh.runtime import console
from handmesh.runtime.backend import default_threads
from handmesh.runtime.machine import machine, peak_memory_mb
from handmesh.runtime.media.pictures import make_folder
from handmesh.runtime.media.recording import VideoRecorder
from handmesh.runtime.models import Backend, Device, model_help


@dataclass(frozen=True)
class Options:
    """How long each stage of a frame takes on this machine, at 640x480.

    All settings see the same frames in turn, so that their ratios hold where their times drift. The
    bundled clip is shown as it is, with two hands, and with one of them covered.
    """

    source: str | None = None
    """A video or a camera's index instead of the bundled clip."""
    frames: int = 240
    """How many frames to show to each setting, the ten that warm up included."""
    model: Annotated[tuple[str, ...], tyro.conf.arg(help=f"{model_help()} Several take turns.")] = ("fast", "balanced")
    backend: Backend = "onnxruntime"
    """What runs the networks."""
    device: Device = "auto"
    """Where the networks run."""
    threads: int | None = None
    """Cores that a network may use; all but one by default."""
    mediapipe: bool = True
    """Time MediaPipe Hands as well, where it is installed."""
    busy: int = 0
    """Keep so many cores busy in every other turn, and say what that does."""
    encode: bool = False
    """Record the overlays as a demo would."""
    seconds: float = 5.0
    """How long to play a camera of 30 frames a second to each model; 0 leaves it out."""
    json: Path | None = None
    """Keep all figures in this file."""


Load = Callable[[str, int], Tracker]
"""From a model's name and the hands to look for to a tracker."""


def main(args: Sequence[str] | None = None) -> int:
    """Parse `args` (None: the command line's), measure, print, and return the exit code."""
    options = tyro.cli(Options, prog="handmesh bench", args=args)
    return console.guarded(lambda: run(options, lambda model, num_hands: load_tracker(options, model, num_hands)))


def load_tracker(options: Options, model: str, num_hands: int) -> Tracker:
    """The tracker that the options describe."""
    from handmesh.runtime.tracker import HandTracker

    return HandTracker.load(
        model, num_hands=num_hands, backend=options.backend, device=options.device, threads=options.threads
    )


def run(options: Options, load: Load) -> int:
    """Measure with the trackers that `load` gives, and print; the exit code.

    Raises ValueError or OSError, with one clear line, where that cannot be done.
    """
    if options.json:
        make_folder(options.json.parent)  # what cannot be written should be known now, not in a minute
    out = Console(highlight=False, soft_wrap=True)
    setting = setting_of(options)
    out.print("\n".join(f"{name}: {value}" for name, value in setting.items()), markup=False)
    with ExitStack() as stack:
        burden = stack.enter_context(Burden(options.busy))
        with console.waiting("loading; the first run compiles the renderer"):
            warm_up()
            contenders = open_contenders(options, load, stack)
        with console.waiting("measuring"):
            measured = measure(contenders, taken_frames(options.source, options.frames), burden)
        print_measured(out, measured, options)
        paces = _paces(options, contenders)
        for case, pace in paces.items():
            out.print(report.pace_line(case, pace, os.cpu_count() or 1), markup=False)
    out.print(f"peak memory {peak_memory_mb():.0f} MB with {len(contenders)} settings loaded")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(setting, measured, paces), indent=1) + "\n")
        out.print(f"wrote {options.json}", markup=False)
    return 0


def setting_of(options: Options) -> dict[str, str]:
    """What was measured on and how, as it is printed and kept."""
    threads = default_threads() if options.threads is None else options.threads
    parts = ("capture", "colour", "track with its own stages", "overlay", *(["encode"] if options.encode else []))
    return {
        "machine": machine(),
        "handmesh": f"{_version('handmesh')}, models {', '.join(options.model)}, batch 1",
        "runtime": f"{options.backend} {_version(options.backend)}, device {options.device}, threads {threads}",
        "frames": f"{options.frames} of {options.source or 'the bundled clip'}, {SIZE[0]}x{SIZE[1]}",
        "stages": ", ".join(parts),
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def cases_of(name: str, source: str | None) -> list[Case]:
    """The settings of a contender: as many hands asked for as are in view, and one more than there are."""
    scenes = scenes_of(source)
    return [
        Case(name, num_hands, scene)
        for scene in scenes
        for num_hands in (1, 2)
        if scene.hands_in_view is None or num_hands >= scene.hands_in_view
    ]


def open_contenders(options: Options, load: Load, stack: ExitStack) -> dict[Case, Contender]:
    """All settings of all models, and those of MediaPipe where it is there; `stack` closes them."""
    contenders: dict[Case, Contender] = {}
    folder = Path(stack.enter_context(TemporaryDirectory())) if options.encode else None
    for model in options.model:
        for case in cases_of(model, options.source):
            output = VideoRecorder(folder / f"{len(contenders)}.mp4") if folder else None
            contenders[case] = TrackerContender(load(model, case.num_hands), output)
            stack.callback(contenders[case].close)
    for case, contender in _open_mediapipe(options).items():
        contenders[case] = contender
        stack.callback(contender.close)
    return contenders


def _open_mediapipe(options: Options) -> Mapping[Case, Contender]:
    if not options.mediapipe:
        return {}
    try:
        module = load_mediapipe()
    except MediaPipeUnavailable as error:
        console.say(f"without {MEDIAPIPE}: {error}")
        return {}
    cases = cases_of(MEDIAPIPE, options.source)
    console.say(f"beside {MEDIAPIPE} Hands {module.__version__}: full model, video mode, threads as it chooses")
    return {case: MediaPipeContender(case.num_hands, module) for case in cases}


def _paces(options: Options, contenders: Mapping[Case, Contender]) -> dict[Case, Pace]:
    """Each model's demo with its default of two hands, in each scene."""
    if options.seconds <= 0:
        return {}
    with console.waiting("playing a camera"):
        return {
            case: keep_pace(contender, options.source, case.scene, options.seconds)
            for case, contender in contenders.items()
            if case.name != MEDIAPIPE and case.num_hands == 2
        }


def print_measured(out: Console, measured: Measured, options: Options) -> None:
    """All tables."""
    for name in dict.fromkeys(case.name for case, _ in measured):
        out.print(report.stage_table(measured, name))
    out.print("Stages of two hands that ran side by side add up to more than `track`.\n", markup=False)
    kept_busy = f"{options.busy} core{'s' if options.busy > 1 else ''} busy"
    for title, ratios, over, under in (
        (f"Beside {MEDIAPIPE}, which draws nothing", report.against_mediapipe(measured), "ours", MEDIAPIPE),
        ("Two hands beside one", report.two_against_one(measured), "two", "one"),
        (f"With {kept_busy}", report.busy_against_idle(measured), "busy", "idle"),
    ):
        if ratios:
            out.print(report.ratio_table(title, ratios, over, under))
            out.print()
