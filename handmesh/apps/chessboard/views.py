"""Views of the board: which are worth keeping, what of the picture they cover, and what is still missing."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from handmesh.apps.chessboard.board import Board

CELLS = (6, 8)
"""Rows and columns of the grid on which coverage is counted."""

LEAST_NEWS = 0.12
"""A view is new where the board's middle moved by this share of the picture, or its looks changed by as much."""

LEAST_TILT = 0.12
"""Of a side to the opposite one, as a logarithm: about what a board at arm's length shows at 20 degrees."""

_PLACES = np.array(
    [["top left", "top", "top right"], ["left", "middle", "right"], ["bottom left", "bottom", "bottom right"]]
)


class View(NamedTuple):
    """The board in one picture."""

    name: str
    corners_px: np.ndarray  # (N, 2) float32


class Looks(NamedTuple):
    """What a view can differ in from another, all about 0 to 1."""

    right: float  # of the board's middle, in picture widths
    down: float  # in picture heights
    size: float  # the root of the share of the picture that the board fills
    lean: float  # how much longer its left side is than its right one, as a logarithm
    nod: float  # how much longer its upper side is than its lower one
    narrow: float  # how much narrower it is than the board


class Views:
    """The views kept so far, of pictures of one size."""

    def __init__(self, board: Board, width: int, height: int) -> None:
        self.board, self.width, self.height = board, width, height
        self.kept: list[View] = []
        self.covered = np.zeros(CELLS, bool)
        self._looks: list[Looks] = []

    def adds(self, corners_px: np.ndarray) -> bool:
        """Whether a view differs from all that are kept."""
        looks = np.array(self.looks(corners_px))
        return all(np.abs(looks - other).max() > LEAST_NEWS for other in self._looks)

    def keep(self, name: str, corners_px: np.ndarray) -> None:
        """Keep a view."""
        self.kept.append(View(name, corners_px))
        self._looks.append(self.looks(corners_px))
        self.covered |= self._cells_in(corners_px)

    def looks(self, corners_px: np.ndarray) -> Looks:
        """What the view is like."""
        quad = corners_px[list(self.board.outer)]
        across, right, back, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
        middle_x, middle_y = quad.mean(0) / (self.width, self.height)
        share = cv2.contourArea(quad.astype(np.float32)) / (self.width * self.height)
        shape = (self.board.columns - 1) / (self.board.rows - 1)
        narrow = np.log((across + back) / (left + right) / shape)
        return Looks(middle_x, middle_y, np.sqrt(share), np.log(left / right), np.log(across / back), narrow)

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
        """The share of the picture in which the board has been, 0 to 1."""
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
        if max((looks.size for looks in self._looks), default=0.0) < 0.45:
            wishes.append("bring it nearer")
        return wishes

    @property
    def tilted(self) -> tuple[int, int]:
        """How many views are tilted to a side, and how many up or down."""
        tilts = np.abs([(looks.lean, looks.nod) for looks in self._looks]).reshape(-1, 2)
        to_side, up_or_down = (tilts > LEAST_TILT).sum(0).tolist()
        return to_side, up_or_down

    def _emptiest(self, mirrored: bool) -> str:
        """The name of the ninth of the picture that the board has covered least."""
        thirds = cv2.resize(self.covered.astype(np.float32), (3, 3), interpolation=cv2.INTER_AREA)
        places = _PLACES[:, ::-1] if mirrored else _PLACES
        return str(places.ravel()[thirds.argmin()])
