"""The tool behind `scripts/calibrate_camera.py`: a chessboard before a camera in, the camera's numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handmesh.apps.chessboard.board import Board
from handmesh.apps.chessboard.collecting import Collector
from handmesh.apps.chessboard.preview import Preview
from handmesh.apps.chessboard.printing import Paper, write_board
from handmesh.apps.chessboard.solving import Bend, Solution, solve
from handmesh.apps.chessboard.views import Views
from handmesh.apps.window import WindowError
from handmesh.runtime import console
from handmesh.runtime.media.pictures import OutputError
from handmesh.runtime.media.sources import Source, open_source
from handmesh.runtime.optics.intrinsics import LensError
from handmesh.runtime.optics.intrinsics_files import write_intrinsics


@dataclass(frozen=True)
class Options:
    """Measure a camera with a printed chessboard.

    Print the board (--print-board board.pdf), glue it to something flat, and move it before the camera:
    near and far, tilted all ways, into every corner. With a window, it shows what is still wanted; views
    that add something are kept by themselves. q or Ctrl-C calculates with what is there.
    """

    source: tuple[str, ...] = ("0",)
    """A camera's index, a video, or a folder of pictures that show the board."""
    output: Path = Path("camera.json")
    """Where the camera's numbers go, for --intrinsics of the demos."""
    columns: int = 9
    """Inner corners of the board along its longer side, where four squares meet."""
    rows: int = 6
    """Inner corners along its shorter side."""
    square_mm: float = 25.0
    """A square's side as measured on paper. It changes no focal length, only the board that is printed."""
    views: int = 15
    """How many views to keep of a camera; a video or folder is gone through to its end."""
    bend: Bend = "usual"
    """How the lens may bend straight lines: none, usual (k1 k2 p1 p2), wide (k3 too)."""
    window: bool = True
    """Open a window where there is a display."""
    mirror: bool = True
    """Show a camera's picture as a mirror does."""
    print_board: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the board for printing (.pdf, .svg, .png), and do nothing else."""
    paper: Paper = "a4"
    """The sheet to print on."""


def main(args: Sequence[str] | None = None) -> int:
    """Parse `args` (None: the command line's), run, and return the exit code."""
    options = tyro.cli(Options, prog="calibrate_camera.py", args=args)
    return console.guarded(lambda: run(options))


def run(options: Options) -> int:
    """Do what the options say; the exit code.

    Raises ValueError, OSError or RuntimeError, with one clear line, where that cannot be done.
    """
    board = Board(options.columns, options.rows, options.square_mm / 1000)
    if options.print_board:
        write_board(options.print_board, board, options.paper)
        console.say(f"wrote {options.print_board}: print it at 100 % on {options.paper}, and measure a square")
        return 0
    if options.output.suffix.lower() != ".json":
        raise OutputError(f"cannot write {options.output}: a camera is written as .json")
    views = _collect(options, board)
    with console.waiting("calculating"):
        solution = solve(views, options.bend)
    _report(solution, views)
    write_intrinsics(options.output, solution.intrinsics)
    console.say(f"wrote {options.output}: use it with --intrinsics {options.output}")
    return 0


def _collect(options: Options, board: Board) -> Views:
    """The views of the source, until it ends, there are enough, or the user ends it. Raises LensError without any."""
    with ExitStack() as stack:
        source = open_source(*options.source)
        stack.callback(source.close)
        collector = Collector(board, options.views, source.live, source.stills)
        preview = _open_preview(options, source)
        if preview:
            stack.callback(preview.close)
        elif source.live:
            console.say("no window: hold the board before the camera; Ctrl-C calculates")
        try:
            _watch(source, collector, preview)
        except KeyboardInterrupt:
            console.say("stopped: calculating with the views kept so far")
    _check(collector, source)
    return collector.views


def _check(collector: Collector, source: Source) -> None:
    """Warn of frames that could not be used. Raises LensError where the board was never seen."""
    for trouble in source.troubles:
        console.warn(trouble)
    if collector.misfits:
        console.warn(f"{collector.misfits} of {collector.looked} frames are left out: the first had another size")
    if not collector.seen:
        board = collector.views.board
        raise LensError(
            f"no board of {board.columns}x{board.rows} inner corners in {collector.looked} frames of {source.title}: "
            "show it whole, with its white margin, and count where four squares meet (--columns, --rows)"
        )


def _open_preview(options: Options, source: Source) -> Preview | None:
    """The window, for what moves; None where it is not wanted or there is no display."""
    if not options.window or source.stills:
        return None
    try:
        return Preview(options.mirror and source.live)
    except WindowError:
        return None


def _watch(source: Source, collector: Collector, preview: Preview | None) -> None:
    """Look at the frames until there are enough."""
    for frame in source:
        if collector.skips(frame):
            continue
        look = collector.look(frame)
        if look.kept and source.live and not preview:
            wishes = "".join(f"; {wish}" for wish in collector.views.missing()[:1])
            console.say(f"{len(collector.views.kept)} of {collector.wanted} views{wishes}")
        keys = preview.show(look, collector) if preview else []
        if " " in keys:
            collector.keep_last()
        if "q" in keys or collector.done:
            return


def _report(solution: Solution, views: Views) -> None:
    """Say how well each view fits, what the camera is, and what to doubt."""
    for name, error_px in solution.errors_px.items():
        console.say(f"view {name}: {error_px:.2f} px")
    for name, error_px in solution.dropped.items():
        console.say(f"view {name}: {error_px:.2f} px, left out")
    found, camera = solution.intrinsics, solution.intrinsics.camera
    fov_deg = 2 * math.degrees(math.atan(max(camera.width / camera.fx, camera.height / camera.fy) / 2))
    console.say(
        f"{len(solution.errors_px)} views, {views.coverage:.0%} of the picture covered, "
        f"reprojection error {found.error_px:.2f} px"
    )
    console.say(
        f"focal length {camera.fx:.1f} +- {solution.fx_sigma_px:.1f} px at {camera.width}x{camera.height}, "
        f"a field of view of {fov_deg:.1f} degrees"
    )
    for warning in solution.warnings:
        console.warn(warning)
