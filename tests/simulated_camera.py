"""A camera port for tests: what is plugged into it can be pulled out, put back, or hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from handmesh.video.camera import Capture

SIZE = (48, 64)  # height, width


def numbered(number: int) -> np.ndarray:
    """(48, 64, 3) uint8 BGR whose blue is the image's number."""
    return np.full((*SIZE, 3), (number % 256, 0, 0), np.uint8)


class CameraPort:
    """`open` is what a `CameraFeed` takes as `open_capture`; all that it opens see the same images."""

    def __init__(self, image: Callable[[int], object] = numbered, period_s: float = 0.002) -> None:
        """image: what the camera gives, by number; raises what a driver would raise."""
        self.image, self.period_s = image, period_s
        self.plugged = True
        self.taken = self.opened = self.released = 0
        self.set_to: list[tuple[int, float]] = []
        self.goes_on = threading.Event()  # cleared: reading hangs
        self.goes_on.set()

    def open(self, index: int) -> Capture:
        """A capture of this port."""
        self.opened += self.plugged
        return _SimulatedCapture(self)

    def unplug_for(self, seconds: float) -> None:
        """Pull the camera out now, and put it back by itself."""
        self.plugged = False
        threading.Timer(seconds, setattr, (self, "plugged", True)).start()


class _SimulatedCapture:
    def __init__(self, port: CameraPort) -> None:
        self._port, self._connected = port, port.plugged

    def isOpened(self) -> bool:
        return self._connected

    def get(self, property_id: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}.get(property_id, 0.0)

    def set(self, property_id: int, value: float) -> bool:
        self._port.set_to.append((property_id, value))
        return True

    def read(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]:
        """As OpenCV does, into the memory given where it fits."""
        port = self._port
        time.sleep(port.period_s)
        port.goes_on.wait()
        self._connected = self._connected and port.plugged
        if not self._connected:
            return False, None
        frame = port.image(port.taken)
        port.taken += 1
        if image is not None and (image.shape, image.dtype) == (np.shape(frame), np.asarray(frame).dtype):
            image[:] = frame
            return True, image
        return True, frame

    def release(self) -> None:
        self._port.released += 1
