"""The chessboard: what is printed, and where its corners are in a picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SEARCH_PX = 640  # the board is looked for in a picture of at most this length, which bounds the time
_FLAGS = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
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
        found, corners = cv2.findChessboardCorners(small, (self.columns, self.rows), flags=_FLAGS)
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
