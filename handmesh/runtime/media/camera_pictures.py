"""What drivers hand out for a picture, made an RGB one or refused: drivers send half a frame, grey, or nothing."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from handmesh.runtime.inputs import LARGEST_PX, SMALLEST_PX

_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
_COLOURS = {1: "grey pictures, which become RGB", 3: "", 4: "pictures with alpha, which is dropped"}

TORN = "torn pictures, which are skipped"


class Reading(NamedTuple):
    """What came of a camera's picture."""

    image_rgb: np.ndarray | None  # (H, W, 3) uint8, in memory of its own; None for nothing that can be used
    oddity: str  # what was odd about it, to follow 'the camera gave'; empty for an ordinary BGR picture


def rgb_of(picture: object) -> Reading:
    """Read what a camera gave: BGR, BGRA or grey, of 8 bits, 16 or floats, as OpenCV hands it out."""
    if not isinstance(picture, np.ndarray) or picture.size == 0:
        return Reading(None, "empty pictures, which are skipped")
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if picture.ndim not in (2, 3) or channels not in _TO_RGB:
        return Reading(None, TORN)
    if not SMALLEST_PX <= min(picture.shape[:2]) <= max(picture.shape[:2]) <= LARGEST_PX:
        return Reading(None, "pictures too small or too large to track, which are skipped")
    eight_bits = _eight_bits(picture)
    if eight_bits is None:
        return Reading(None, f"{picture.dtype} pictures that are no colours, which are skipped")
    oddity = f"{picture.dtype} pictures, which become 8 bits" if eight_bits is not picture else _COLOURS[channels]
    return Reading(cv2.cvtColor(np.ascontiguousarray(eight_bits), _TO_RGB[channels]), oddity)


def _eight_bits(picture: np.ndarray) -> np.ndarray | None:
    """The same picture in uint8; None where its numbers are no colours."""
    if picture.dtype == np.uint8:
        return picture
    if picture.dtype == np.uint16:
        return (picture >> 8).astype(np.uint8)
    if picture.dtype.kind not in "buif" or not np.isfinite(picture).all():
        return None
    scale = 255.0 if picture.dtype.kind in "bf" and picture.max() <= 1 else 1.0
    return np.clip(picture * scale, 0, 255).astype(np.uint8)
