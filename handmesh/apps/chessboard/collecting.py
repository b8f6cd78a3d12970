"""Goes through frames and keeps the views of the board that add something."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from handmesh.apps.chessboard.board import Board
from handmesh.apps.chessboard.views import Views
from handmesh.runtime.media.frames import Frame

STILL = 0.06
"""A board that moves by less than this share of the picture's longer side a second is not blurred."""

_STEP_S = 0.09  # at least, between the frames of a video file that are looked at
_MOST = 3  # times the views wanted, after which it ends whatever is missing


class Look(NamedTuple):
    """What was made of a frame."""

    frame: Frame
    corners_px: np.ndarray | None  # (N, 2); None: no board
    note: str  # for the user, a few words
    kept: bool


class Collector:
    """Takes frames, finds the board in them, and keeps views until there are enough."""

    def __init__(self, board: Board, wanted: int, live: bool = False, stills: bool = False) -> None:
        """wanted: views. live: frames of a camera, which end when there are enough. stills: unconnected pictures."""
        self.views = Views(board, 1, 1)
        self.wanted = wanted
        self.looked = self.seen = self.misfits = 0
        """Frames that were looked at; those with a board; those of another size than the first."""
        self._live, self._stills = live, stills
        self._last: Look | None = None

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

    def look(self, frame: Frame) -> Look:
        """Look for the board in a frame, and keep the view if it is worth it."""
        height, width = frame.image_rgb.shape[:2]
        if not self.looked:
            self.views = Views(self.views.board, width, height)
        self.looked += 1
        if (width, height) != (self.views.width, self.views.height):
            self.misfits += 1
            return Look(frame, None, f"{width}x{height}, another size than the first", False)
        corners_px = self.views.board.find(frame.image_rgb)
        self.seen += corners_px is not None
        note = self._fault(frame, corners_px)
        if not note:
            self.views.keep(frame.name, corners_px)
        self._last = Look(frame, corners_px, note or "kept", not note)
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
