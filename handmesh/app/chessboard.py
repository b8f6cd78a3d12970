"""The chessboard of a camera calibration: its corners, its views, the camera that these tell of, and the board on
paper.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from handmesh.app.hud import font
from handmesh.files import OutputError, write_bytes
from handmesh.types import Camera
from handmesh.video.lens import Intrinsics, LensError

# The chessboard: what is printed, and where its corners are in an image.


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

    @property
    def outer(self) -> tuple[int, int, int, int]:
        """Where among `points_m` the four outermost corners are, round the board."""
        return 0, self.columns - 1, self.columns * self.rows - 1, self.columns * (self.rows - 1)

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
        return self._refined(grey, corners_px)

    def _refined(self, grey: np.ndarray, corners_px: np.ndarray) -> np.ndarray:
        """Corners to a fraction of a pixel, each looked for in a window that holds no other."""
        grid = corners_px.reshape(self.rows, self.columns, 2)
        steps = [np.linalg.norm(np.diff(grid, axis=axis), axis=-1).min() for axis in (0, 1)]
        half = int(np.clip(min(steps) / 3, 2, 11))
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


class BoardPose(NamedTuple):
    """What a view can differ in from another, all about 0 to 1."""

    right: float  # of the board's middle, in image widths
    down: float  # in image heights
    size: float  # the root of the fraction of the image that the board fills
    lean: float  # how much longer its left side is than its right one, as a logarithm
    nod: float  # how much longer its upper side is than its lower one
    narrow: float  # how much narrower it is than the board


class BoardViews:
    """The views kept so far, of images of one size."""

    def __init__(self, board: Board, width: int, height: int) -> None:
        self.board, self.width, self.height = board, width, height
        self.kept: list[View] = []
        self.covered = np.zeros(CELLS, bool)
        self._poses: list[BoardPose] = []

    def adds(self, corners_px: np.ndarray) -> bool:
        """Whether a view differs from all that are kept; corners_px: (N, 2) float32."""
        pose = np.array(self.pose(corners_px))
        return all(np.abs(pose - other).max() > LEAST_NEWS for other in self._poses)

    def keep(self, name: str, corners_px: np.ndarray) -> None:
        """Keep a view; corners_px: (N, 2) float32."""
        self.kept.append(View(name, corners_px))
        self._poses.append(self.pose(corners_px))
        self.covered |= self._cells_in(corners_px)

    def pose(self, corners_px: np.ndarray) -> BoardPose:
        """What the view of (N, 2) corners is like."""
        quad = corners_px[list(self.board.outer)]
        across, right, back, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
        middle_x, middle_y = quad.mean(0) / (self.width, self.height)
        fraction = cv2.contourArea(quad.astype(np.float32)) / (self.width * self.height)
        shape = (self.board.columns - 1) / (self.board.rows - 1)
        narrow = np.log((across + back) / (left + right) / shape)
        return BoardPose(middle_x, middle_y, np.sqrt(fraction), np.log(left / right), np.log(across / back), narrow)

    def _cells_in(self, corners_px: np.ndarray) -> np.ndarray:
        """Which cells have their middle within the board."""
        rows, columns = CELLS
        mask = np.zeros((10 * rows, 10 * columns), np.uint8)
        hull = cv2.convexHull(corners_px.astype(np.float32))[:, 0]
        scale = np.array([10 * columns / self.width, 10 * rows / self.height])
        cv2.fillConvexPoly(mask, np.rint(hull * scale).astype(np.int32), 1)
        return mask[5::10, 5::10] > 0

    @property
    def coverage(self) -> float:
        """The fraction of the image in which the board has been, 0 to 1."""
        return float(self.covered.mean())

    def missing(self, mirrored: bool = False) -> list[str]:
        """What would add most, as requests to the user, the most wanted first; empty where nothing does.

        mirrored: the user sees left and right exchanged.
        """
        wishes = []
        if min(self.tilted) < 2:
            wishes.append("tilt it: left, right, up, down")
        if self.coverage < 0.7:
            wishes.append(f"show it at the {self._emptiest(mirrored)}")
        if max((pose.size for pose in self._poses), default=0.0) < 0.45:
            wishes.append("bring it nearer")
        return wishes

    @property
    def tilted(self) -> tuple[int, int]:
        """How many views are tilted to a side, and how many up or down."""
        tilts = np.abs([(pose.lean, pose.nod) for pose in self._poses]).reshape(-1, 2)
        to_side, up_or_down = (tilts > LEAST_TILT).sum(0).tolist()
        return to_side, up_or_down

    def _emptiest(self, mirrored: bool) -> str:
        """The name of the ninth of the image that the board has covered least."""
        thirds = cv2.resize(self.covered.astype(np.float32), (3, 3), interpolation=cv2.INTER_AREA)
        positions = _POSITIONS[:, ::-1] if mirrored else _POSITIONS
        return str(positions.ravel()[thirds.argmin()])


# From views of a board to the camera that saw them, and how far that is to be trusted.


Bend = Literal["none", "usual", "wide"]
"""How the lens may bend: not at all; by k1, k2, p1, p2; for wide lenses by k3 too (OpenCV's names)."""

LEAST_VIEWS = 4
"""Two would do in theory; with so few, an error cannot be seen."""

POOR_ERROR = 0.001
"""Of the image's longer side: a poor reprojection error, 0.64 px at 640x480."""

POOR_COVERAGE = 0.5

POOR_FOCAL = 0.01
"""Of the focal length: a standard deviation above it is poor."""

_DISTORTION_FLAGS = {
    "none": cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST,
    "usual": cv2.CALIB_FIX_K3,
    "wide": 0,
}
_COUNTS = {"none": 0, "usual": 4, "wide": 5}


class Solution(NamedTuple):
    """The camera, and what to say of it."""

    intrinsics: Intrinsics
    errors_px: dict[str, float]  # by view, root mean square
    dropped: dict[str, float]  # views that did not fit the others, with the error for which they were left out
    fx_sigma_px: float  # standard deviation of the focal length
    warnings: list[str]


class _Fit(NamedTuple):
    rms_px: float
    K: np.ndarray  # (3, 3)
    bends: np.ndarray
    errors_px: np.ndarray  # (views,)
    fx_sigma_px: float


def solve(views: BoardViews, bend: Bend = "usual") -> Solution:
    """The camera that saw the kept views (Zhang 2000, as OpenCV's `calibrateCamera` has it).

    Views that fit much worse than the others are left out, once. Raises LensError with too few views, or
    with views that determine no camera.
    """
    kept, dropped = views.kept, {}
    fit = _fit(views, kept, bend)
    bad = _misfits(fit.errors_px)
    if bad.any() and (~bad).sum() >= LEAST_VIEWS:
        dropped = {view.name: float(error) for view, error, out in zip(kept, fit.errors_px, bad, strict=True) if out}
        kept = [view for view, out in zip(kept, bad, strict=True) if not out]
        fit = _fit(views, kept, bend)
    camera = Camera(*(float(fit.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))), views.width, views.height)
    bends = tuple(float(number) for number in fit.bends.ravel()[: _COUNTS[bend]])
    found = Intrinsics(camera, bends, fit.rms_px, date.today().isoformat())
    errors_px = {view.name: float(error) for view, error in zip(kept, fit.errors_px, strict=True)}
    return Solution(found, errors_px, dropped, fit.fx_sigma_px, _warnings(found, fit.fx_sigma_px, views))


def _fit(views: BoardViews, kept: list[View], bend: Bend) -> _Fit:
    if len(kept) < LEAST_VIEWS:
        raise LensError(f"a calibration needs {LEAST_VIEWS} different views of the board, better 15; got {len(kept)}")
    board: Board = views.board
    seen = [view.corners_px.reshape(-1, 1, 2).astype(np.float32) for view in kept]
    size = (views.width, views.height)
    try:
        rms, K, bends, _, _, sigmas, _, errors = cv2.calibrateCameraExtended(
            [board.points_m] * len(kept), seen, size, None, None, flags=_DISTORTION_FLAGS[bend]
        )
    except cv2.error as error:
        raise LensError(f"these views determine no camera ({error.err}): {_REMEDY}") from error
    if not np.isfinite(K).all() or K[0, 0] <= 0:
        raise LensError(f"these views determine no camera: {_REMEDY}")
    return _Fit(float(rms), K, bends, errors.ravel(), float(sigmas.ravel()[0]))


_REMEDY = "tilt the board about both of its axes and show it near and far, in all parts of the image"


def _misfits(errors_px: np.ndarray) -> np.ndarray:
    """(views,) bool, those with an error out of all proportion: blurred, or with a corner mistaken."""
    return errors_px > np.maximum(0.5, 3 * np.median(errors_px))


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
    if not unbends(found):
        warnings.append("the bending found is impossible towards the image's rim: show the board there")
    return warnings


def unbends(found: Intrinsics) -> bool:
    """Whether the distortion can be undone all over the image, which a polynomial that folds cannot."""
    camera, bends = found.camera, np.array(found.distortion or (0.0,) * 4)
    across, down = np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 9)
    pixels = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(pixels, camera.K, bends)
    rays = np.concatenate([rays[:, 0], np.ones((len(rays), 1))], axis=1)
    back = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.K, bends)[0]
    return bool(np.abs(back - pixels).max() < 1.0)


# The board on paper, in true size: PDF, SVG or PNG.


Paper = Literal["a4", "a3", "letter"]

PAPERS_MM: dict[Paper, tuple[float, float]] = {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "letter": (279.4, 215.9)}
"""Width and height of the sheets, lying."""

_DPI = 300
_FOOT_MM = 12.0  # room under the board for the ruler and the text
_RULER_MM = 100.0


def board_text(board: Board) -> str:
    """What stands under the board."""
    size = f"{board.columns}x{board.rows} inner corners, squares of {1000 * board.square_m:g} mm"
    return f"{size}. Print at 100 %, then measure: the line is {_RULER_MM:g} mm long."


def write_board(path: Path, board: Board, paper: Paper = "a4") -> None:
    """Write the sheet as the suffix says. Raises OutputError for another suffix, ValueError for a board too large."""
    origin_mm = _origin_mm(board, paper)
    suffix = path.suffix.lower()
    if suffix == ".svg":
        return write_bytes(path, _svg(board, paper, origin_mm).encode())
    if suffix not in (".pdf", ".png"):
        raise OutputError(f"cannot write {path}: boards are written as .pdf, .svg, .png")
    data = io.BytesIO()
    sheet = _sheet(board, paper, origin_mm)
    if suffix == ".pdf":
        sheet.save(data, "PDF", resolution=_DPI, title="handmesh calibration board")
    else:
        sheet.save(data, "PNG", dpi=(_DPI, _DPI))
    write_bytes(path, data.getvalue())


def _size_mm(board: Board) -> tuple[float, float]:
    return 1000 * board.square_m * (board.columns + 1), 1000 * board.square_m * (board.rows + 1)


def _origin_mm(board: Board, paper: Paper) -> tuple[float, float]:
    """The board's upper left corner on the sheet, which it is in the middle of. Raises ValueError."""
    (width, height), (wide, high) = _size_mm(board), PAPERS_MM[paper]
    left, top = (wide - width) / 2, (high - _FOOT_MM - height) / 2
    margin = 1000 * board.square_m / 3  # white round the board, without which it is not found
    if min(left, top) < max(4.0, min(margin, 8.0)):
        raise ValueError(
            f"a board of {width:g}x{height:g} mm does not fit {paper} of {wide:g}x{high:g} mm with a margin: "
            f"take smaller squares or another paper ({', '.join(PAPERS_MM)})"
        )
    return left, top


def _black_squares(board: Board) -> list[tuple[int, int]]:
    """(column, row) of each black square."""
    return [(x, y) for y in range(board.rows + 1) for x in range(board.columns + 1) if (x + y) % 2 == 0]


def _ruler_mm(board: Board, origin_mm: tuple[float, float]) -> tuple[float, float]:
    """Where the ruler begins."""
    return origin_mm[0], origin_mm[1] + _size_mm(board)[1] + 7.0


def _sheet(board: Board, paper: Paper, origin_mm: tuple[float, float]) -> Image.Image:
    """The sheet as black and white dots, `_DPI` an inch."""

    def fill(left_mm: float, top_mm: float, width_mm: float, height_mm: float) -> None:
        pen.rectangle((dots(left_mm), dots(top_mm), dots(left_mm + width_mm) - 1, dots(top_mm + height_mm) - 1), fill=0)

    def dots(mm: float) -> int:
        return round(mm * _DPI / 25.4)

    sheet = Image.new("1", tuple(dots(mm) for mm in PAPERS_MM[paper]), 1)
    pen = ImageDraw.Draw(sheet)
    side_mm = 1000 * board.square_m
    for column, row in _black_squares(board):
        fill(origin_mm[0] + column * side_mm, origin_mm[1] + row * side_mm, side_mm, side_mm)
    left, top = _ruler_mm(board, origin_mm)
    fill(left, top, _RULER_MM, 0.25)
    for end in (left, left + _RULER_MM - 0.25):
        fill(end, top - 1.5, 0.25, 3)
    pen.text((dots(left + _RULER_MM + 4), dots(top)), board_text(board), fill=0, font=font(dots(3.2)), anchor="lm")
    return sheet


def _svg(board: Board, paper: Paper, origin_mm: tuple[float, float]) -> str:
    """The sheet as a drawing whose unit is the millimetre."""
    wide, high = PAPERS_MM[paper]
    side_mm = 1000 * board.square_m
    squares = "".join(
        f"M{origin_mm[0] + x * side_mm:g} {origin_mm[1] + y * side_mm:g}h{side_mm:g}v{side_mm:g}h{-side_mm:g}z"
        for x, y in _black_squares(board)
    )
    left, top = _ruler_mm(board, origin_mm)
    ruler = f"M{left:g} {top - 1.5:g}v3M{left:g} {top:g}h{_RULER_MM:g}M{left + _RULER_MM:g} {top - 1.5:g}v3"
    position = f'x="{left + _RULER_MM + 4:g}" y="{top + 1:g}" font-family="sans-serif" font-size="3.2"'
    size = f'width="{wide:g}mm" height="{high:g}mm" viewBox="0 0 {wide:g} {high:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><rect width="100%" height="100%" fill="#fff"/>'
        f'<path d="{squares}"/><path d="{ruler}" stroke="#000" stroke-width="0.25" fill="none"/>'
        f"<text {position}>{board_text(board)}</text></svg>\n"
    )
