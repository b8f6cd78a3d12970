"""`handmesh benchmark stages`: a frame's stages, beside MediaPipe's and on a busy machine, and the pace of a demo."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from handmesh import console
from handmesh.app.options import RuntimeOptions, TrackerOptions
from handmesh.app.player import Tracker
from handmesh.assets import model_help
from handmesh.benchmark.interleaved import (
    DRAWN,
    FRAME,
    MEDIAPIPE,
    PROCESSOR,
    SIZE,
    TRACK,
    Burden,
    Case,
    Contender,
    Figures,
    Measured,
    MediaPipeContender,
    MediaPipeUnavailable,
    Pace,
    Times,
    TrackerContender,
    keep_pace,
    load_mediapipe,
    measure,
    scenes_of,
    taken_frames,
)
from handmesh.files import make_folder
from handmesh.machine import machine, peak_memory_mb
from handmesh.render.overlay import warm_up
from handmesh.tracking.backends import default_threads
from handmesh.video.sinks import VideoRecorder

# What was measured, as tables to read and as JSON to keep.


_SUMS = (TRACK, DRAWN, FRAME, PROCESSOR)
_ORDER = ("capture", "resize", "colour", "detect", "crop", "network", "lift", "smooth", TRACK, "overlay", DRAWN)


class Ratio(NamedTuple):
    """A median divided by another, of one stage."""

    what: str
    stage: str
    ms: float
    to_ms: float

    @property
    def value(self) -> float:
        """NaN where there is nothing to divide by."""
        return self.ms / self.to_ms if self.to_ms else math.nan


def stage_table(measured: Measured, name: str, busy: bool = False) -> Table:
    """The stages of one contender, a column a case: median, 90th and 99th percentile in milliseconds."""
    columns = {
        case: figures for (case, was_busy), figures in measured.items() if case.name == name and was_busy == busy
    }
    table = _table(f"{name}{', cores kept busy' if busy else ''}: milliseconds at the median, 90 and 99 %")
    table.add_column("stage")
    for case in columns:
        table.add_column(_heading(case), justify="right")
    for stage in _stages(columns.values()):
        cells = (_spread(figures.stages_ms.get(stage)) for figures in columns.values())
        table.add_row(stage, *cells, style="bold" if stage in _SUMS else None)
    table.add_row("hands found", *(f"{figures.hands_per_frame:.2f} a frame" for figures in columns.values()))
    return table


def _heading(case: Case) -> str:
    return f"{case.scene.name},\nnum_hands {case.num_hands}"


def _stages(columns: Iterable[Figures]) -> list[str]:
    """All stages, in the order in which they come."""
    known = list(dict.fromkeys(stage for figures in columns for stage in figures.stages_ms))
    first = [stage for stage in _ORDER if stage in known]
    return first + [stage for stage in known if stage not in first]


def _spread(times: Times | None) -> str:
    return "-" if times is None else " ".join(f"{_digits(ms):>5}" for ms in times)


def _digits(ms: float) -> str:
    """Three digits: 0.33, 6.18, 37.6, 145."""
    return f"{ms:.{2 if ms < 9.995 else 1 if ms < 99.95 else 0}f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, show_edge=False)


def against_mediapipe(measured: Measured) -> list[Ratio]:
    """Our medians beside MediaPipe's in the same setting: `track`, with our drawing, and the processor's time."""
    ratios = []
    for (case, busy), ours in measured.items():
        theirs = measured.get((case._replace(name=MEDIAPIPE), busy))
        if case.name != MEDIAPIPE and not busy and theirs is not None:
            pairs = ((TRACK, TRACK), (DRAWN, TRACK), (PROCESSOR, PROCESSOR))
            ratios += [Ratio(_label(case), a, ours.median(a), theirs.median(b)) for a, b in pairs]
    return ratios


def two_against_one(measured: Measured) -> list[Ratio]:
    """What following two hands costs, beside following one that was asked for alone."""
    ones = {case.name: one for (case, busy), one in measured.items() if not busy and _is_full(case, 1)}
    twos = {case.name: two for (case, busy), two in measured.items() if not busy and _is_full(case, 2)}
    names = [name for name in twos if name in ones]
    return [Ratio(name, stage, twos[name].median(stage), ones[name].median(stage)) for name in names for stage in _BOTH]


def _is_full(case: Case, hands: int) -> bool:
    return case.num_hands == case.scene.hands_in_view == hands


def busy_against_idle(measured: Measured) -> list[Ratio]:
    """What a busy machine does."""
    busy = [case for case, was_busy in measured if was_busy]
    both = [(case, measured[case, True], measured[case, False]) for case in busy]
    return [Ratio(_label(case), TRACK, slow.median(), fast.median()) for case, slow, fast in both]


_BOTH = (TRACK, PROCESSOR)


def _label(case: Case) -> str:
    return f"{case.name}, {case.scene.name}, {case.num_hands} asked for"


def ratio_table(title: str, ratios: Sequence[Ratio], over: str, under: str) -> Table:
    """Ratios, a row a setting and a column a stage; the milliseconds that the first stage's are made of."""
    table = _table(title)
    table.add_column("medians")
    rows = {what: [ratio for ratio in ratios if ratio.what == what] for what in dict.fromkeys(r.what for r in ratios)}
    first = ratios[0].stage
    headings = [f"{first},\n{over}", f"{first},\n{under}", *(f"{r.stage},\nratio" for r in rows[ratios[0].what])]
    for heading in headings:
        table.add_column(heading, justify="right")
    for what, row in rows.items():
        table.add_row(what, _digits(row[0].ms), _digits(row[0].to_ms), *(f"{ratio.value:.2f}" for ratio in row))
    return table


def pace_line(case: Case, pace: Pace, cores: int) -> str:
    """One line on a camera of 30 frames a second."""
    each = f" ({100 * pace.cores_used / cores:.0f} % of each)"
    others = ", ".join(f"{100 * share:.0f} %" for share in pace.cores_busy)
    told = f"; all programs together: {others}" if others else ""
    return (
        f"{_label(case)}: {pace.fps:.1f} of 30 FPS, drawn {pace.age_ms.median:.0f} ms after capture "
        f"(99 %: {pace.age_ms.p99:.0f}), {pace.cores_used:.2f} of {cores} cores{each}{told}"
    )


def as_json(setting: Mapping[str, object], measured: Measured, paces: Mapping[Case, Pace]) -> dict[str, object]:
    """All of it, for `json.dump`."""
    return {
        "setting": dict(setting),
        "cases": [_case_json(case, figures, busy) for (case, busy), figures in measured.items()],
        "against_mediapipe": _ratios_json(against_mediapipe(measured)),
        "two_against_one": _ratios_json(two_against_one(measured)),
        "busy_against_idle": _ratios_json(busy_against_idle(measured)),
        "paced": [{**_named(case), **pace._asdict(), "age_ms": pace.age_ms._asdict()} for case, pace in paces.items()],
    }


def _named(case: Case) -> dict[str, object]:
    return {"name": case.name, "num_hands": case.num_hands, "scene": case.scene.name}


def _case_json(case: Case, figures: Figures, busy: bool) -> dict[str, object]:
    stages = {stage: times._asdict() for stage, times in figures.stages_ms.items()}
    counts = {"busy": busy, "frames": figures.frames, "hands_per_frame": figures.hands_per_frame}
    return {**_named(case), **counts, "stages_ms": stages}


def _ratios_json(ratios: Iterable[Ratio]) -> list[dict[str, object]]:
    return [{**ratio._asdict(), "ratio": None if math.isnan(ratio.value) else ratio.value} for ratio in ratios]


# `handmesh benchmark stages`: the stage table, beside MediaPipe's and on a busy machine, and the pace of a demo.


@dataclass(frozen=True)
class Options(RuntimeOptions):
    """How long each stage of a frame takes on this machine, at 640x480.

    All settings see the same frames in turn, so that their ratios hold where their times drift. The
    bundled clip is shown as it is, with two hands, and with one of them covered.
    """

    source: str | None = None
    """A video or a camera's index. Default: the bundled clip."""
    frames: int = 240
    """How many frames to show to each setting, the ten that warm up included."""
    model: Annotated[tuple[str, ...], tyro.conf.arg(help=f"{model_help()} Several take turns.")] = ("fast", "balanced")
    mediapipe: bool = True
    """Time MediaPipe Hands as well, where it is installed."""
    busy: int = 0
    """Keep so many cores busy in every other turn, and say what that does."""
    encode: bool = False
    """Record the overlays as a demo would."""
    seconds: float = 5.0
    """How long to play a camera of 30 frames a second to each model; 0 leaves it out."""
    output: Path | None = None
    """Keep all metrics in this .json file."""


Load = Callable[[str, int], Tracker]
"""From a model's name and the hands to look for to a tracker."""


def load_tracker(options: Options, model: str, num_hands: int) -> Tracker:
    """The tracker that the options describe."""
    tracker = TrackerOptions(options.backend, options.device, options.threads, model, num_hands)
    return tracker.load()


def run(options: Options, load: Load | None = None) -> int:
    """`handmesh benchmark stages`: measure with the trackers that `load` gives, and print; the exit code.

    Raises ValueError or OSError, with one clear line, where that cannot be done.
    """
    load = load or partial(load_tracker, options)
    if options.output:
        make_folder(options.output.parent)  # what cannot be written should be known now, not in a minute
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
            out.print(pace_line(case, pace, os.cpu_count() or 1), markup=False)
    out.print(f"peak memory {peak_memory_mb():.0f} MB with {len(contenders)} settings loaded")
    if options.output:
        options.output.write_text(json.dumps(as_json(setting, measured, paces), indent=1) + "\n")
        out.print(f"wrote {options.output}", markup=False)
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
        out.print(stage_table(measured, name))
    out.print("Stages of two hands that ran side by side add up to more than `track`.\n", markup=False)
    kept_busy = f"{options.busy} core{'s' if options.busy > 1 else ''} busy"
    for title, ratios, over, under in (
        (f"Beside {MEDIAPIPE}, which draws nothing", against_mediapipe(measured), "ours", MEDIAPIPE),
        ("Two hands beside one", two_against_one(measured), "two", "one"),
        (f"With {kept_busy}", busy_against_idle(measured), "busy", "idle"),
    ):
        if ratios:
            out.print(ratio_table(title, ratios, over, under))
            out.print()
