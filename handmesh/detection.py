"""Hands found in a whole image: the detector's network as exported, and how its maps are decoded. NumPy and OpenCV
only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from handmesh.crop import Letterbox, letterbox
from handmesh.geometry import logistic
from handmesh.types import Box, Side

# Hands found in an image: the letterbox before the detector's network, and the reading of its maps after it.
#
# NumPy and OpenCV only; the runtime and the validation during training share it.


STRIDE = 8
"""Pixels of the network's input that one cell of its maps covers, along each side."""

THRESHOLD = 0.5
"""The score from which a hand counts; chosen on held-out images (`handmesh evaluate detector`)."""

_SAME_HAND = 0.4
"""Two boxes whose centres are nearer than this fraction of their mean side are of one hand."""

_LARGEST_LOG_SIZE = 6.0


class Detection(NamedTuple):
    """A hand found in an image."""

    box: Box  # turned, around the 21 joints, without margin
    side: Side  # the subject's own hand in an unmirrored image
    score: float  # 0..1
    side_score: float = 0.95  # 0.5..1, how sure the side is


def read_maps(maps: Mapping[str, np.ndarray], boxed: Letterbox, threshold: float) -> list[Detection]:
    """The hands that the network's maps tell of, best first, each once.

    maps: `heat`, `log_size`, `right` (h, w) and `offset`, `direction` (2, h, w), see
    `detector_net.DetectorOutput`. threshold: the least score, 0..1.
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
    centre = boxed.to_image((column + dx + 0.5) * STRIDE - 0.5, (row + dy + 0.5) * STRIDE - 0.5)
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


# Finds hands in a whole image with the exported network. NumPy in, boxes out; no torch.


class DetectorSession(Protocol):
    """The part of `backends.Session` that the detector uses."""

    input_size: tuple[int, int]

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]: ...


class Detector:
    """Finds all hands in an image, whatever its size."""

    def __init__(self, session: DetectorSession) -> None:
        """session: `backends.open_session(path, "detector")`."""
        self._session = session

    def detect(self, image_rgb: np.ndarray, threshold: float = THRESHOLD) -> list[Detection]:
        """The hands in an (H, W, 3) uint8 RGB image, best first, each once.

        threshold: the least score, between 0 and 1; ValueError outside.
        """
        boxed = letterbox(image_rgb, *self._session.input_size)
        maps = {name: value[0] for name, value in self._session.run(boxed.image[None]).items()}
        return read_maps(maps, boxed, threshold)
