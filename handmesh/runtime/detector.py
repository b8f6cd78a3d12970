"""Finds hands in a whole picture with the exported network. NumPy in, boxes out; no torch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from handmesh.detection import THRESHOLD, Detection, letterbox, read_maps

__all__ = ["THRESHOLD", "Detection", "Detector"]


class DetectorSession(Protocol):
    """The part of `backend.Session` that the detector uses."""

    input_size: tuple[int, int]

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]: ...


class Detector:
    """Finds all hands in a picture, whatever its size."""

    def __init__(self, session: DetectorSession) -> None:
        """session: `backend.open_session(path, "detector")`."""
        self._session = session

    def detect(self, image_rgb: np.ndarray, threshold: float = THRESHOLD) -> list[Detection]:
        """The hands in an (H, W, 3) uint8 RGB picture, best first, each once.

        threshold: the least score, between 0 and 1; ValueError outside.
        """
        boxed = letterbox(image_rgb, *self._session.input_size)
        maps = {name: value[0] for name, value in self._session.run(boxed.image[None]).items()}
        return read_maps(maps, boxed, threshold)
