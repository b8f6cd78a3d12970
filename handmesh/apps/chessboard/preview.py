"""The window of the calibration: the corners found, what the board has covered, what is still wanted."""

from __future__ import annotations

import cv2
import numpy as np

from handmesh.apps.chessboard.collecting import Collector, Look
from handmesh.apps.chessboard.views import CELLS, Views
from handmesh.apps.lettering import GREY, Panel, text_width
from handmesh.apps.window import Window

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

    def show(self, look: Look, collector: Collector) -> list[str]:
        """Show a frame, and return the keys pressed; 'q' where the window was closed."""
        self._window.show(draw(look, collector, self._mirror))
        keys = [chr(code).lower() for code in self._window.keys(0.0)]
        ended = self._window.closed or self._window.lost
        return ["q" if ended or key == "\x1b" else key for key in keys + ["q"] * ended]

    def close(self) -> None:
        """Close the window."""
        self._window.close()


def draw(look: Look, collector: Collector, mirror: bool) -> np.ndarray:
    """(h, w, 3) uint8 RGB, the frame at the window's size with all that the user should see."""
    height, width = look.frame.image_rgb.shape[:2]
    scale = _LONGEST_PX / max(height, width)
    size = (round(width * scale), round(height * scale))
    picture = cv2.resize(look.frame.image_rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    _draw_coverage(picture, collector.views)
    if look.corners_px is not None:
        _draw_corners(picture, look.corners_px * scale, collector.views)
    if look.kept:
        cv2.rectangle(picture, (0, 0), (size[0] - 1, size[1] - 1), _FLASH, 12)
    picture = np.ascontiguousarray(picture[:, ::-1]) if mirror else picture
    _write(picture, look, collector, mirror)
    return picture


def _draw_coverage(picture: np.ndarray, views: Views) -> None:
    """Tint the cells in which the board has been, in place, with a grid over all."""
    size = (picture.shape[1], picture.shape[0])
    covered = cv2.resize(views.covered.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    picture[covered] = picture[covered] * 0.7 + np.array(COVERED) * 0.3
    rows, columns = CELLS
    for x in np.linspace(0, size[0] - 1, columns + 1).round().astype(int):
        cv2.line(picture, (x, 0), (x, size[1]), (128, 128, 128), 1)
    for y in np.linspace(0, size[1] - 1, rows + 1).round().astype(int):
        cv2.line(picture, (0, y), (size[0], y), (128, 128, 128), 1)


def _draw_corners(picture: np.ndarray, corners: np.ndarray, views: Views) -> None:
    """Draw the corners and the board's rows, in place. corners: (N, 2) in the picture's pixels."""
    for row in corners.reshape(views.board.rows, views.board.columns, 2):
        cv2.polylines(picture, [np.rint(row).astype(np.int32)], False, FOUND, 1, cv2.LINE_AA)
    for x, y in np.rint(corners).astype(int).tolist():
        cv2.circle(picture, (x, y), 4, FOUND, 2, cv2.LINE_AA)


def _write(picture: np.ndarray, look: Look, collector: Collector, mirror: bool) -> None:
    """Write what is kept, covered and wanted at the top, in place, and the keys at the bottom."""
    wishes = collector.views.missing(mirror)
    kept = f"{len(collector.views.kept)} of {collector.wanted} views kept, {collector.views.coverage:.0%} covered"
    lines = [(kept, 20), (look.note, 20)] + [(f"still wanted: {wish}", 16) for wish in wishes[:2]]
    width = 24 + max(text_width(text, size) for text, size in lines)
    panel = Panel(width, 14 + 27 * len(lines))
    for k, (text, size) in enumerate(lines):
        panel.text(12, 9 + 27 * k, text, size)
    panel.onto(picture, 10, 10)
    keys = Panel(24 + text_width(KEY_LINE, 16), 32)
    keys.text(12, 6, KEY_LINE, 16, GREY)
    keys.onto(picture, 10, picture.shape[0] - 42)
