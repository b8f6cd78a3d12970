"""`handmesh calibrate-camera`: a chessboard before a camera in, the camera's numbers out; and the board on paper."""

from __future__ import annotations

import io
import math
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
import tyro
from PIL import Image, ImageDraw

from handmesh import console
from handmesh.app.hud import GREY, Panel, font, text_width
from handmesh.app.window import Window, WindowError
from handmesh.files import OutputError, write_bytes
from handmesh.types import Camera, Frame, Source
from handmesh.video.lens import Intrinsics, LensError, write_intrinsics
from handmesh.video.sources import open_source

# The chessboard, and where its corners are in an image.

_SEARCH_PX = 640  # the board is looked for in an image of at most this length, which bounds the time
_CORNER_FLAGS = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 30, 0.001)


@dataclass(frozen=True)
class Board:
    """A chessboard, counted by its inner corners, where four squares meet."""

    columns: int = 9
    rows: int = 6
    square_m: float = 0.025

    def __post_init__(self) -> None:
        """Raises ValueError for a board that cannot be found or printed."""
        if min(self.columns, self.rows) < 3 or max(self.columns, self.rows) > 40:
            raise ValueError(f"a board has 3 to 40 inner corners a side, got {self.columns}x{self.rows}")
        if not 0.002 <= self.square_m <= 1.0:
            raise ValueError(f"a board's squares measure 2 to 1000 mm, got {1000 * self.square_m:g} mm")

    @property
    def points_m(self) -> np.ndarray:
        """(N, 3) float32, the inner corners row by row, on the board's own plane z = 0."""
        grid = np.mgrid[: self.columns, : self.rows].T.reshape(-1, 2)
        return np.concatenate([grid * self.square_m, np.zeros((len(grid), 1))], axis=1).astype(np.float32)

    def find(self, image_rgb: np.ndarray) -> np.ndarray | None:
        """(N, 2) float32 pixels of the inner corners, in the order of `points_m`; None where they are not all seen.

        image_rgb: (H, W, 3) uint8.
        """
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        shrink = min(1.0, _SEARCH_PX / max(grey.shape))
        small = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else grey
        found, corners = cv2.findChessboardCorners(small, (self.columns, self.rows), flags=_CORNER_FLAGS)
        if not found:
            return None
        corners_px = (np.asarray(corners, np.float32).reshape(-1, 2) + 0.5) / np.float32(shrink) - 0.5
        # To a fraction of a pixel, each looked for in a window that holds no other.
        grid = corners_px.reshape(self.rows, self.columns, 2)
        step_px = min(np.linalg.norm(np.diff(grid, axis=axis), axis=-1).min() for axis in (0, 1))
        half = int(np.clip(step_px / 3, 2, 11))
        return cv2.cornerSubPix(grey, corners_px.reshape(-1, 1, 2), (half, half), (-1, -1), _STOP).reshape(-1, 2)


# Views of the board: which are worth keeping, what of the image they cover, and what is still missing.

CELLS = (6, 8)
"""Rows and columns of the grid on which coverage is counted."""

LEAST_NEWS = 0.12
"""A view is new where the board's middle moved by this fraction of the image, or its looks changed by as much."""

LEAST_TILT = 0.12
"""Of a side to the opposite one, as a logarithm: about what a board at arm's length shows at 20 degrees."""

_POSITIONS = np.array(
    [["top left", "top", "top right"], ["left", "middle", "right"], ["bottom left", "bottom", "bottom right"]]
)


class View(NamedTuple):
    """The board in one image."""

    name: str
    corners_px: np.ndarray  # (N, 2) float32


class BoardViews:
    """The views kept so far, of images of one size."""

    def __init__(self, board: Board, width: int, height: int) -> None:
        self.board, self.width, self.height = board, width, height
        self.kept: list[View] = []
        self.covered = np.zeros(CELLS, bool)
        self._poses = np.zeros((0, 6))

    def adds(self, corners_px: np.ndarray) -> bool:
        """Whether a view differs from all that are kept; corners_px: (N, 2) float32."""
        return bool((np.abs(self._poses - self._pose(corners_px)).max(1) > LEAST_NEWS).all())

    def keep(self, name: str, corners_px: np.ndarray) -> None:
        """Keep a view; corners_px: (N, 2) float32. Covered are the cells that have their middle within the board."""
        self.kept.append(View(name, corners_px))
        self._poses = np.vstack([self._poses, self._pose(corners_px)])
        rows, columns = CELLS
        mask = np.zeros((10 * rows, 10 * columns), np.uint8)
        hull = cv2.convexHull(corners_px.astype(np.float32))[:, 0]
        scale = np.array([10 * columns / self.width, 10 * rows / self.height])
        cv2.fillConvexPoly(mask, np.rint(hull * scale).astype(np.int32), 1)
        self.covered |= mask[5::10, 5::10] > 0

    def _pose(self, corners_px: np.ndarray) -> np.ndarray:
        """(6,) what a view can differ in from another, all about 0 to 1.

        Where the board's middle is, in image widths and heights; the root of the fraction of the image that it fills;
        as logarithms, how much longer its left side is than its right one, its upper side than its lower one, and how
        much narrower it is than the board.
        """
        columns, rows = self.board.columns, self.board.rows
        quad = corners_px[[0, columns - 1, columns * rows - 1, columns * (rows - 1)]]
        upper, right, lower, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
        fraction = cv2.contourArea(quad.astype(np.float32)) / (self.width * self.height)
        narrow = (upper + lower) / (left + right) / ((columns - 1) / (rows - 1))
        shape = np.log([left / right, upper / lower, narrow])
        return np.array([*quad.mean(0) / (self.width, self.height), np.sqrt(fraction), *shape])

    @property
    def coverage(self) -> float:
        """The fraction of the image in which the board has been, 0 to 1."""
        return float(self.covered.mean())

    @property
    def tilted(self) -> tuple[int, int]:
        """How many views are tilted to a side, and how many up or down."""
        return tuple((np.abs(self._poses[:, 3:5]) > LEAST_TILT).sum(0).tolist())

    def missing(self, mirrored: bool = False) -> list[str]:
        """What would add most, as requests to the user, the most wanted first; empty where nothing does.

        mirrored: the user sees left and right exchanged.
        """
        wishes = []
        if min(self.tilted) < 2:
            wishes.append("tilt it: left, right, up, down")
        if self.coverage < 0.7:  # the ninth of the image that is covered least
            thirds = cv2.resize(self.covered.astype(np.float32), (3, 3), interpolation=cv2.INTER_AREA)
            positions = _POSITIONS[:, ::-1] if mirrored else _POSITIONS
            wishes.append(f"show it at the {positions.ravel()[thirds.argmin()]}")
        if self._poses[:, 2].max(initial=0.0) < 0.45:
            wishes.append("bring it nearer")
        return wishes


# From views of a board to the camera that saw them, and how far that is to be trusted.

Bend = Literal["none", "usual", "wide"]
"""How the lens may bend: not at all; by k1, k2, p1, p2; for wide lenses by k3 too (OpenCV's names)."""

LEAST_VIEWS = 4
"""Two would do in theory; with so few, an error cannot be seen."""

POOR_ERROR, POOR_COVERAGE, POOR_FOCAL = 0.001, 0.5, 0.01
"""A reprojection error above this fraction of the image's longer side (0.64 px at 640x480), a coverage below this one,
and a standard deviation above this fraction of the focal length are poor."""

_BENDS: dict[Bend, tuple[int, int]] = {  # OpenCV's flags, and how many coefficients there are
    "none": (cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST, 0),
    "usual": (cv2.CALIB_FIX_K3, 4),
    "wide": (0, 5),
}
_REMEDY = "tilt the board about both of its axes and show it near and far, in all parts of the image"


class Solution(NamedTuple):
    """The camera, and what to say of it."""

    intrinsics: Intrinsics
    errors_px: dict[str, float]  # by view, root mean square
    dropped: dict[str, float]  # views that did not fit the others, with the error for which they were left out
    fx_sigma_px: float  # standard deviation of the focal length
    warnings: list[str]


def solve(views: BoardViews, bend: Bend = "usual") -> Solution:
    """The camera that saw the kept views (Zhang 2000, as OpenCV's `calibrateCamera` has it).

    Views with an error out of all proportion, blurred or with a corner mistaken, are left out, once. Raises LensError
    with too few views, or with views that determine no camera.
    """
    kept, dropped = views.kept, {}
    found, fx_sigma_px, errors_px = _fitted(views, kept, bend)
    fits = errors_px <= np.maximum(0.5, 3 * np.median(errors_px))
    if LEAST_VIEWS <= fits.sum() < len(fits):
        dropped = {kept[k].name: float(errors_px[k]) for k in np.flatnonzero(~fits)}
        kept = [kept[k] for k in np.flatnonzero(fits)]
        found, fx_sigma_px, errors_px = _fitted(views, kept, bend)
    by_view = {view.name: float(error_px) for view, error_px in zip(kept, errors_px, strict=True)}
    return Solution(found, by_view, dropped, fx_sigma_px, _warnings(found, fx_sigma_px, views))


def _fitted(views: BoardViews, kept: list[View], bend: Bend) -> tuple[Intrinsics, float, np.ndarray]:
    """The camera that saw the `kept` ones, its focal length's standard deviation, (views,) errors; in pixels."""
    if len(kept) < LEAST_VIEWS:
        raise LensError(f"a calibration needs {LEAST_VIEWS} different views of the board, better 15; got {len(kept)}")
    seen = [view.corners_px.reshape(-1, 1, 2).astype(np.float32) for view in kept]
    points_m, size, (flags, count) = [views.board.points_m] * len(kept), (views.width, views.height), _BENDS[bend]
    try:
        error_px, K, bends, _, _, sigmas, _, errors_px = cv2.calibrateCameraExtended(
            points_m, seen, size, None, None, flags=flags
        )
    except cv2.error as error:
        raise LensError(f"these views determine no camera ({error.err}): {_REMEDY}") from error
    if not np.isfinite(K).all() or K[0, 0] <= 0:
        raise LensError(f"these views determine no camera: {_REMEDY}")
    camera = Camera(*K[(0, 1, 0, 1), (0, 1, 2, 2)].tolist(), *size)
    found = Intrinsics(camera, tuple(bends.ravel()[:count].tolist()), float(error_px), date.today().isoformat())
    return found, float(sigmas.ravel()[0]), errors_px.ravel()


def _warnings(found: Intrinsics, fx_sigma_px: float, views: BoardViews) -> list[str]:
    """What the user should know before trusting the camera, a line each."""
    camera, warnings = found.camera, []
    if found.error_px > POOR_ERROR * max(camera.width, camera.height):
        warnings.append(
            f"the reprojection error of {found.error_px:.2f} px is poor: is the board flat, the focus fixed, "
            "and nothing blurred?"
        )
    if sum(views.tilted) < 2:  # the standard deviation does not tell: the fit may rest in a wrong place
        warnings.append(f"the views are too alike, the focal length may be wrong by any factor: {_REMEDY}")
    elif fx_sigma_px > POOR_FOCAL * camera.fx:
        percent = 100 * fx_sigma_px / camera.fx
        warnings.append(f"the focal length is known to +-{percent:.1f} % only, the views are too alike: {_REMEDY}")
    if views.coverage < POOR_COVERAGE:
        warnings.append(f"the board covered {views.coverage:.0%} of the image; beyond that, the bending is a guess")
    if not _unbends(found):
        warnings.append("the bending found is impossible towards the image's rim: show the board there")
    return warnings


def _unbends(found: Intrinsics) -> bool:
    """Whether the distortion can be undone all over the image, which a polynomial that folds cannot."""
    camera, bends = found.camera, np.array(found.distortion or (0.0,) * 4)
    across, down = np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 9)
    pixels = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 1, 2)
    rays = cv2.convertPointsToHomogeneous(cv2.undistortPoints(pixels, camera.K, bends))
    back = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.K, bends)[0]
    return bool(np.abs(back - pixels).max() < 1.0)


# The board on paper, in true size: PDF, SVG or PNG.

Paper = Literal["a4", "a3", "letter"]

PAPERS_MM: dict[Paper, tuple[float, float]] = {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "letter": (279.4, 215.9)}
"""Width and height of the sheets, lying."""

_DPI = 300
_FOOT_MM = 12.0  # room under the board for the ruler and the text
_RULER_MM, _LINE_MM, _TEXT_MM = 100.0, 0.25, 3.2


def write_board(path: Path, board: Board, paper: Paper = "a4") -> None:
    """Write the sheet as the suffix says. Raises OutputError for another suffix, ValueError for a board too large."""
    black, (x, y) = _black(board, paper)
    squares = f"{board.columns}x{board.rows} inner corners, squares of {1000 * board.square_m:g} mm"
    text = f"{squares}. Print at 100 %, then measure: the line is {_RULER_MM:g} mm long."
    suffix, (wide, high) = path.suffix.lower(), PAPERS_MM[paper]
    if suffix == ".svg":
        outlines = "".join(f"M{left:g} {top:g}h{w:g}v{h:g}h{-w:g}z" for left, top, w, h in black)
        data = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}mm" height="{high:g}mm" '
            f'viewBox="0 0 {wide:g} {high:g}"><rect width="100%" height="100%" fill="#fff"/><path d="{outlines}"/>'
            f'<text x="{x:g}" y="{y + 1:g}" font-family="sans-serif" font-size="{_TEXT_MM:g}">{text}</text></svg>\n'
        )
        return write_bytes(path, data.encode())
    if suffix not in (".pdf", ".png"):
        raise OutputError(f"cannot write {path}: boards are written as .pdf, .svg, .png")
    image = Image.new("1", (_dots(wide), _dots(high)), 1)
    pen = ImageDraw.Draw(image)
    for left, top, width, height in black:
        pen.rectangle((_dots(left), _dots(top), _dots(left + width) - 1, _dots(top + height) - 1), fill=0)
    pen.text((_dots(x), _dots(y)), text, fill=0, font=font(_dots(_TEXT_MM)), anchor="lm")
    options = {".pdf": {"resolution": _DPI, "title": "handmesh calibration board"}, ".png": {"dpi": (_DPI, _DPI)}}
    encoded = io.BytesIO()
    image.save(encoded, suffix[1:].upper(), **options[suffix])
    write_bytes(path, encoded.getvalue())


def _black(board: Board, paper: Paper) -> tuple[list[tuple[float, ...]], tuple[float, float]]:
    """What is black on the sheet, and where the text begins: the board in the middle, a ruler under it.

    Left, top, width and height of each square and of the ruler's lines, in millimetres. Raises ValueError where there
    is no room.
    """
    side, (wide, high) = 1000 * board.square_m, PAPERS_MM[paper]
    width, height = side * (board.columns + 1), side * (board.rows + 1)
    left, top = (wide - width) / 2, (high - _FOOT_MM - height) / 2
    if min(left, top) < max(4.0, min(side / 3, 8.0)):  # white round the board, without which it is not found
        raise ValueError(
            f"a board of {width:g}x{height:g} mm does not fit {paper} of {wide:g}x{high:g} mm with a margin: "
            f"take smaller squares or another paper ({', '.join(PAPERS_MM)})"
        )
    places = ((x, y) for y, x in product(range(board.rows + 1), range(board.columns + 1)) if (x + y) % 2 == 0)
    squares = [(left + x * side, top + y * side, side, side) for x, y in places]
    foot = top + height + 7.0
    ends = [(x, foot - 1.5, _LINE_MM, 3.0) for x in (left, left + _RULER_MM - _LINE_MM)]
    return [*squares, (left, foot, _RULER_MM, _LINE_MM), *ends], (left + _RULER_MM + 4, foot)


def _dots(mm: float) -> int:
    return round(mm * _DPI / 25.4)


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
        self.views = BoardViews(board, 1, 1)  # until the first frame says its size
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
        fault = self._fault(frame, corners_px)
        if not fault:
            self.views.keep(frame.name, corners_px)
        self._last = BoardFrame(frame, corners_px, fault or "kept", not fault)
        return self._last

    def _fault(self, frame: Frame, corners_px: np.ndarray | None) -> str:
        """Why a view is not kept; empty where it is."""
        if corners_px is None:
            return "show the whole board"
        if not self.views.adds(corners_px):
            return "like one that is kept: move or tilt the board"
        if self._stills:
            return ""
        if self._last is None or self._last.corners_px is None:
            return "hold it still"
        moved_px = np.linalg.norm(corners_px - self._last.corners_px, axis=1).mean()
        elapsed_s = max(frame.time_s - self._last.frame.time_s, 1e-3)
        is_still = moved_px < STILL * elapsed_s * max(self.views.width, self.views.height)
        return "" if is_still else "hold it still"

    def keep_last(self) -> None:
        """Keep the last view that was seen, however much it is like the others."""
        if self._last is not None and self._last.corners_px is not None and not self._last.kept:
            self.views.keep(self._last.frame.name, self._last.corners_px)
            self._last = self._last._replace(kept=True)


# The window: the corners found, what the board has covered, what is still wanted.

KEY_LINE = "space keep this view    q calculate and end"

_LONGEST_PX = 960
COVERED = (0, 158, 115)  # Okabe and Ito's bluish green, which the colour-blind can tell from the next
FOUND = (230, 159, 0)  # their orange
_GRID, _FLASH = (128, 128, 128), (255, 255, 255)


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
        self._window.close()


def draw(look: BoardFrame, collector: Collector, mirror: bool) -> np.ndarray:
    """(h, w, 3) uint8 RGB, the frame at the window's size with all that the user should see."""
    views, (height, width) = collector.views, look.frame.image_rgb.shape[:2]
    scale = _LONGEST_PX / max(height, width)
    size = wide, high = round(width * scale), round(height * scale)
    image = cv2.resize(look.frame.image_rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    covered = cv2.resize(views.covered.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    image[covered] = image[covered] * 0.7 + np.array(COVERED) * 0.3
    for x in np.linspace(0, wide - 1, CELLS[1] + 1).round().astype(int):
        cv2.line(image, (x, 0), (x, high), _GRID, 1)
    for y in np.linspace(0, high - 1, CELLS[0] + 1).round().astype(int):
        cv2.line(image, (0, y), (wide, y), _GRID, 1)
    if look.corners_px is not None:
        corners = np.rint(look.corners_px * scale).astype(np.int32)
        for row in corners.reshape(views.board.rows, views.board.columns, 2):
            cv2.polylines(image, [row], False, FOUND, 1, cv2.LINE_AA)
        for corner in corners.tolist():
            cv2.circle(image, corner, 4, FOUND, 2, cv2.LINE_AA)
    if look.kept:
        cv2.rectangle(image, (0, 0), (wide - 1, high - 1), _FLASH, 12)
    image = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    _write(image, look, collector, mirror)
    return image


def _write(image: np.ndarray, look: BoardFrame, collector: Collector, mirror: bool) -> None:
    """Write what is kept, covered and wanted at the top, in place, and the keys at the bottom."""
    kept = f"{len(collector.views.kept)} of {collector.wanted} views kept, {collector.views.coverage:.0%} covered"
    wishes = collector.views.missing(mirror)
    lines = [(kept, 20), (look.note, 20)] + [(f"still wanted: {wish}", 16) for wish in wishes[:2]]
    panel = Panel(24 + max(text_width(text, size) for text, size in lines), 14 + 27 * len(lines))
    for k, (text, size) in enumerate(lines):
        panel.text(12, 9 + 27 * k, text, size)
    panel.onto(image, 10, 10)
    keys = Panel(24 + text_width(KEY_LINE, 16), 32)
    keys.text(12, 6, KEY_LINE, 16, GREY)
    keys.onto(image, 10, image.shape[0] - 42)


# The command.


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
    views = _collected(options, board)
    with console.waiting("calculating"):
        solution = solve(views, options.bend)
    _report(solution, views)
    write_intrinsics(options.output, solution.intrinsics)
    console.say(f"wrote {options.output}: use it with --intrinsics {options.output}")
    return 0


def _collected(options: Options, board: Board) -> BoardViews:
    """The views of the source, until it ends, there are enough, or the user ends it. Raises LensError without any."""
    with ExitStack() as stack:
        source = open_source(*options.source)
        stack.callback(source.close)
        collector = Collector(board, options.views, source.live, source.stills)
        preview = None
        if options.window and not source.stills:
            with suppress(WindowError):  # there is no display
                preview = Preview(options.mirror and source.live)
                stack.callback(preview.close)
        if source.live and not preview:
            console.say("no window: hold the board before the camera; Ctrl-C calculates")
        try:
            _watch(source, collector, preview)
        except KeyboardInterrupt:
            console.say("stopped: calculating with the views kept so far")
    for warning in source.warnings:
        console.warn(warning)
    if collector.misfits:
        console.warn(f"{collector.misfits} of {collector.looked} frames are left out: the first had another size")
    if not collector.seen:
        raise LensError(
            f"no board of {board.columns}x{board.rows} inner corners in {collector.looked} frames of {source.title}: "
            "show it whole, with its white margin, and count where four squares meet (--columns, --rows)"
        )
    return collector.views


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
    for errors_px, end in ((solution.errors_px, ""), (solution.dropped, ", left out")):
        for name, error_px in errors_px.items():
            console.say(f"view {name}: {error_px:.2f} px{end}")
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
