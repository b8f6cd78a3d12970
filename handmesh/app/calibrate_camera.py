"""`handmesh calibrate-camera`: a chessboard before a camera in, the camera's numbers out."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import tyro

from handmesh import console
from handmesh.app.chessboard import CELLS, Bend, Board, BoardViews, Paper, Solution, solve, write_board
from handmesh.app.hud import GREY, Panel, text_width
from handmesh.app.window import Window, WindowError
from handmesh.files import OutputError
from handmesh.types import Frame, Source
from handmesh.video.lens import LensError, write_intrinsics
from handmesh.video.sources import open_source

# Goes through frames and keeps the views of the board that add something.


STILL = 0.06
"""A board that moves by less than this fraction of the image's longer side a second is not blurred."""

_STEP_S = 0.09  # at least, between the frames of a video file that are looked at
_MOST = 3  # times the views wanted, after which it ends whatever is missing


class BoardFrame(NamedTuple):
    """What was made of a frame."""

    frame: Frame
    corners_px: np.ndarray | None  # (N, 2); None: no board
    note: str  # for the user, a few words
    kept: bool


class Collector:
    """Takes frames, finds the board in them, and keeps views until there are enough."""

    def __init__(self, board: Board, wanted: int, live: bool = False, stills: bool = False) -> None:
        """wanted: views. live: frames of a camera, which end when there are enough. stills: unconnected images."""
        self.views = BoardViews(board, 1, 1)
        self.wanted = wanted
        self.looked = self.seen = self.misfits = 0
        """Frames that were looked at; those with a board; those of another size than the first."""
        self._live, self._stills = live, stills
        self._last: BoardFrame | None = None

    @property
    def done(self) -> bool:
        """Whether a camera has shown enough. A file is always gone through to its end."""
        count = len(self.views.kept)
        return self._live and count >= self.wanted and (not self.views.missing() or count >= _MOST * self.wanted)

    def skips(self, frame: Frame) -> bool:
        """Whether a video's frame follows the last so closely that it shows nothing new."""
        if self._live or self._stills or self._last is None:
            return False
        return 0 <= frame.time_s - self._last.frame.time_s < _STEP_S

    def look(self, frame: Frame) -> BoardFrame:
        """Look for the board in a frame, and keep the view if it is worth it."""
        height, width = frame.image_rgb.shape[:2]
        if not self.looked:
            self.views = BoardViews(self.views.board, width, height)
        self.looked += 1
        if (width, height) != (self.views.width, self.views.height):
            self.misfits += 1
            return BoardFrame(frame, None, f"{width}x{height}, another size than the first", False)
        corners_px = self.views.board.find(frame.image_rgb)
        self.seen += corners_px is not None
        note = self._fault(frame, corners_px)
        if not note:
            self.views.keep(frame.name, corners_px)
        self._last = BoardFrame(frame, corners_px, note or "kept", not note)
        return self._last

    def _fault(self, frame: Frame, corners_px: np.ndarray | None) -> str:
        """Why a view is not kept; empty where it is."""
        if corners_px is None:
            return "show the whole board"
        if not self.views.adds(corners_px):
            return "like one that is kept: move or tilt the board"
        if not self._stills and not self._is_still(frame, corners_px):
            return "hold it still"
        return ""

    def _is_still(self, frame: Frame, corners_px: np.ndarray) -> bool:
        if self._last is None or self._last.corners_px is None:
            return False
        moved_px = np.linalg.norm(corners_px - self._last.corners_px, axis=1).mean()
        elapsed_s = max(frame.time_s - self._last.frame.time_s, 1e-3)
        return bool(moved_px < STILL * elapsed_s * max(self.views.width, self.views.height))

    def keep_last(self) -> None:
        """Keep the last view that was seen, however much it is like the others."""
        if self._last is not None and self._last.corners_px is not None and not self._last.kept:
            self.views.keep(self._last.frame.name, self._last.corners_px)
            self._last = self._last._replace(kept=True)


# The window of the calibration: the corners found, what the board has covered, what is still wanted.


KEY_LINE = "space keep this view    q calculate and end"

_LONGEST_PX = 960
COVERED = (0, 158, 115)  # Okabe and Ito's bluish green, which the colour-blind can tell from the next
FOUND = (230, 159, 0)  # their orange
_FLASH = (255, 255, 255)


class Preview:
    """A window on the calibration."""

    def __init__(self, mirror: bool) -> None:
        """Raises WindowError where no window can be opened."""
        self._mirror = mirror
        self._window = Window("handmesh calibration")

    def show(self, look: BoardFrame, collector: Collector) -> list[str]:
        """Show a frame, and return the keys pressed; 'q' where the window was closed."""
        self._window.show(draw(look, collector, self._mirror))
        keys = [chr(code).lower() for code in self._window.keys(0.0)]
        ended = self._window.closed or self._window.lost
        return ["q" if ended or key == "\x1b" else key for key in keys + ["q"] * ended]

    def close(self) -> None:
        """Close the window."""
        self._window.close()


def draw(look: BoardFrame, collector: Collector, mirror: bool) -> np.ndarray:
    """(h, w, 3) uint8 RGB, the frame at the window's size with all that the user should see."""
    height, width = look.frame.image_rgb.shape[:2]
    scale = _LONGEST_PX / max(height, width)
    size = (round(width * scale), round(height * scale))
    image = cv2.resize(look.frame.image_rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    _draw_coverage(image, collector.views)
    if look.corners_px is not None:
        _draw_corners(image, look.corners_px * scale, collector.views)
    if look.kept:
        cv2.rectangle(image, (0, 0), (size[0] - 1, size[1] - 1), _FLASH, 12)
    image = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    _write(image, look, collector, mirror)
    return image


def _draw_coverage(image: np.ndarray, views: BoardViews) -> None:
    """Tint the cells in which the board has been, in place, with a grid over all."""
    size = (image.shape[1], image.shape[0])
    covered = cv2.resize(views.covered.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    image[covered] = image[covered] * 0.7 + np.array(COVERED) * 0.3
    rows, columns = CELLS
    for x in np.linspace(0, size[0] - 1, columns + 1).round().astype(int):
        cv2.line(image, (x, 0), (x, size[1]), (128, 128, 128), 1)
    for y in np.linspace(0, size[1] - 1, rows + 1).round().astype(int):
        cv2.line(image, (0, y), (size[0], y), (128, 128, 128), 1)


def _draw_corners(image: np.ndarray, corners: np.ndarray, views: BoardViews) -> None:
    """Draw the corners and the board's rows, in place. corners: (N, 2) in the image's pixels."""
    for row in corners.reshape(views.board.rows, views.board.columns, 2):
        cv2.polylines(image, [np.rint(row).astype(np.int32)], False, FOUND, 1, cv2.LINE_AA)
    for x, y in np.rint(corners).astype(int).tolist():
        cv2.circle(image, (x, y), 4, FOUND, 2, cv2.LINE_AA)


def _write(image: np.ndarray, look: BoardFrame, collector: Collector, mirror: bool) -> None:
    """Write what is kept, covered and wanted at the top, in place, and the keys at the bottom."""
    wishes = collector.views.missing(mirror)
    kept = f"{len(collector.views.kept)} of {collector.wanted} views kept, {collector.views.coverage:.0%} covered"
    lines = [(kept, 20), (look.note, 20)] + [(f"still wanted: {wish}", 16) for wish in wishes[:2]]
    width = 24 + max(text_width(text, size) for text, size in lines)
    panel = Panel(width, 14 + 27 * len(lines))
    for k, (text, size) in enumerate(lines):
        panel.text(12, 9 + 27 * k, text, size)
    panel.onto(image, 10, 10)
    keys = Panel(24 + text_width(KEY_LINE, 16), 32)
    keys.text(12, 6, KEY_LINE, 16, GREY)
    keys.onto(image, 10, image.shape[0] - 42)


# `handmesh calibrate-camera`: a chessboard before a camera in, the camera's numbers out.


@dataclass(frozen=True)
class Options:
    """Measure a camera with a printed chessboard.

    Print the board (--print-board board.pdf), glue it to something flat, and move it before the camera:
    near and far, tilted all ways, into every corner. With a window, it shows what is still wanted; views
    that add something are kept by themselves. q or Ctrl-C calculates with what is there.
    """

    source: tuple[str, ...] = ("0",)
    """A camera's index, a video, or a folder of images that show the board."""
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
    """Show a camera's image as a mirror does."""
    print_board: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the board for printing (.pdf, .svg, .png), and do nothing else."""
    paper: Paper = "a4"
    """The sheet to print on."""


def run(options: Options) -> int:
    """`handmesh calibrate-camera`: do what the options say; the exit code.

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


def _collect(options: Options, board: Board) -> BoardViews:
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
    for warning in source.warnings:
        console.warn(warning)
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


def _report(solution: Solution, views: BoardViews) -> None:
    """Say how well each view fits, what the camera is, and what to doubt."""
    for name, error_px in solution.errors_px.items():
        console.say(f"view {name}: {error_px:.2f} px")
    for name, error_px in solution.dropped.items():
        console.say(f"view {name}: {error_px:.2f} px, left out")
    found, camera = solution.intrinsics, solution.intrinsics.camera
    fov_deg = 2 * math.degrees(math.atan(max(camera.width / camera.fx, camera.height / camera.fy) / 2))
    console.say(
        f"{len(solution.errors_px)} views, {views.coverage:.0%} of the image covered, "
        f"reprojection error {found.error_px:.2f} px"
    )
    console.say(
        f"focal length {camera.fx:.1f} +- {solution.fx_sigma_px:.1f} px at {camera.width}x{camera.height}, "
        f"a field of view of {fov_deg:.1f} degrees"
    )
    for warning in solution.warnings:
        console.warn(warning)
