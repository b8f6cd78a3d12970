"""The cameras of this machine: which there are, and how one is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from handmesh.runtime.media.frames import SourceError

_SYSFS = Path("/sys/class/video4linux")
_PROBED = 4
"""How many indices are tried where the system does not list its cameras."""

_PLAIN_PIXELS_S = 640 * 480 * 30
"""Pixels a second above which USB carries compressed pictures only."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def isOpened(self) -> bool: ...

    def read(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]: ...

    def get(self, property_id: int) -> float: ...

    def set(self, property_id: int, value: float) -> bool: ...

    def release(self) -> None: ...


OpenCapture = Callable[[int], Capture]
"""Opens the camera of an index, or gives one that is not opened."""


class CameraInfo(NamedTuple):
    """A camera; width, height and fps are 0 where it is there but cannot be opened, being busy or not permitted."""

    index: int
    name: str
    width: int
    height: int
    fps: float


def opencv_capture(index: int) -> Capture:
    """OpenCV's capture of a camera, quietly: of one that is not there it says in many lines what we say in one."""
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(index)


def open_camera(
    index: int,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    open_capture: OpenCapture = opencv_capture,
) -> Capture:
    """An opened camera, asked for pictures of `size` (width, height) and for `fps`; it may give others.

    Raises SourceError where it cannot be opened.
    """
    capture = open_capture(index)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"camera {index} cannot be opened: is it plugged in, permitted, and free?")
    for property_id, value in _requests(size, fps):
        capture.set(property_id, value)
    return capture


def _requests(size: tuple[int, int] | None, fps: float | None) -> Iterator[tuple[int, float]]:
    """What to set, in the order that Video4Linux wants: the format, the size, the rate."""
    width, height = size or (640, 480)
    if width * height * (fps or 30) > _PLAIN_PIXELS_S:
        yield cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")
    if size:
        yield cv2.CAP_PROP_FRAME_WIDTH, width
        yield cv2.CAP_PROP_FRAME_HEIGHT, height
    if fps:
        yield cv2.CAP_PROP_FPS, fps


def rate_of(capture: Capture) -> float:
    """The frames a second that a camera claims to give; 0 where it does not say or cannot be believed."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return float(rate) if 1 <= rate <= 240 else 0.0


def list_cameras(open_capture: OpenCapture = opencv_capture, sysfs: Path = _SYSFS) -> list[CameraInfo]:
    """The cameras of this machine, by index. Each is opened for a moment, which its light may show."""
    if sys.platform.startswith("linux"):
        found = [_described(index, name, main, open_capture) for index, name, main in _listed(sysfs)]
    else:
        found = [_described(index, f"camera {index}", False, open_capture) for index in range(_PROBED)]
    return [camera for camera in found if camera is not None]


def _listed(sysfs: Path) -> list[tuple[int, str, bool]]:
    """Index, name, and whether it is its device's first node, of all that Linux lists; others seldom give pictures."""
    nodes = [node for node in sysfs.glob("video*") if node.name[5:].isdecimal()]
    listed = [(int(node.name[5:]), _text(node / "name"), _text(node / "index") in ("", "0")) for node in nodes]
    return sorted((index, name or f"camera {index}", main) for index, name, main in listed)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _described(index: int, name: str, listed_if_closed: bool, open_capture: OpenCapture) -> CameraInfo | None:
    """What a camera says of itself; None where there is none."""
    try:
        capture = open_camera(index, open_capture=open_capture)
    except SourceError:
        return CameraInfo(index, name, 0, 0, 0.0) if listed_if_closed else None
    try:
        width, height = (round(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        return CameraInfo(index, name, width, height, rate_of(capture))
    finally:
        capture.release()
