"""Hands found in a picture: the letterbox before the detector's network, and the reading of its maps after it.

NumPy and OpenCV only; the runtime and the validation during training share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.chance import logistic
from handmesh.structs import Box, Side

STRIDE = 8
"""Pixels of the network's input that one cell of its maps covers, along each side."""

PADDING = 114
"""Grey level around a picture that does not fill the network's input."""

THRESHOLD = 0.5
"""The score from which a hand counts; chosen on held-out pictures (scripts/evaluate_detector.py)."""

_SAME_HAND = 0.4
"""Two boxes whose centres are nearer than this share of their mean side are of one hand."""

_LARGEST_LOG_SIZE = 6.0


class Detection(NamedTuple):
    """A hand found in a picture."""

    box: Box  # turned, around the 21 joints, without margin
    side: Side  # the subject's own hand in an unmirrored picture
    score: float  # 0..1
    side_score: float = 0.95  # 0.5..1, how sure the side is


class Letterbox(NamedTuple):
    """A picture fitted into the network's input, and how: input = scale * picture + shift, in pixels."""

    image: np.ndarray  # (H, W, 3) uint8
    scale: float
    shift_px: tuple[float, float]

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """A place in the input as a place in the picture."""
        return (x - self.shift_px[0]) / self.scale, (y - self.shift_px[1]) / self.scale


def letterbox(image_rgb: np.ndarray, height: int, width: int) -> Letterbox:
    """(H, W, 3) uint8 `image_rgb` as large as fits into `height` x `width`, centred, grey around it."""
    rows, columns = image_rgb.shape[:2]
    scale = min(width / columns, height / rows)
    fit = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    resized = cv2.resize(image_rgb, fit, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - fit[0]) // 2, (height - fit[1]) // 2
    canvas = np.full((height, width, 3), PADDING, np.uint8)
    canvas[top : top + fit[1], left : left + fit[0]] = resized
    half = 0.5 * scale - 0.5  # pixel centres, not corners, lie at whole numbers
    return Letterbox(canvas, scale, (left + half, top + half))


def read_maps(maps: Mapping[str, np.ndarray], boxed: Letterbox, threshold: float) -> list[Detection]:
    """The hands that the network's maps tell of, best first, each once.

    maps: `heat`, `log_size`, `right` (h, w) and `offset`, `direction` (2, h, w), see
    `detector_network.DetectorOutput`. threshold: the least score, 0..1.
    """
    found = [_read_cell(maps, row, column, boxed) for row, column in _peaks(maps["heat"], threshold).tolist()]
    return without_repeats(sorted(found, key=lambda hand: -hand.score))


def _peaks(heat: np.ndarray, threshold: float) -> np.ndarray:
    """(N, 2) rows and columns of the cells that reach the threshold and that no neighbour exceeds."""
    least = _logit(threshold)
    around = cv2.dilate(heat, np.ones((3, 3), np.uint8))
    return np.argwhere((heat >= around) & (heat >= least))


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        raise ValueError(f"a detection threshold must lie between 0 and 1, got {probability}")
    return math.log(probability / (1 - probability))


def _read_cell(maps: Mapping[str, np.ndarray], row: int, column: int, boxed: Letterbox) -> Detection:
    dx, dy = maps["offset"][:, row, column].tolist()
    centre = boxed.to_picture((column + dx + 0.5) * STRIDE - 0.5, (row + dy + 0.5) * STRIDE - 0.5)
    size = math.exp(min(float(maps["log_size"][row, column]), _LARGEST_LOG_SIZE)) * STRIDE / boxed.scale
    cosine, sine = maps["direction"][:, row, column].tolist()
    right = float(maps["right"][row, column])
    side: Side = "right" if right > 0 else "left"
    score = float(logistic(float(maps["heat"][row, column])))
    return Detection(Box(centre, size, math.atan2(sine, cosine)), side, score, float(logistic(abs(right))))


def without_repeats(found: list[Detection]) -> list[Detection]:
    """Those that are not of the same hand as a better one; `found` is sorted, best first."""
    kept: list[Detection] = []
    for hand in found:
        if not any(_same_hand(hand.box, other.box) for other in kept):
            kept.append(hand)
    return kept


def _same_hand(a: Box, b: Box) -> bool:
    return math.dist(a.centre_px, b.centre_px) < _SAME_HAND * (a.size_px + b.size_px) / 2
