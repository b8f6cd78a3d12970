"""The cameras of this machine: which there are, how one is opened, and its newest frame at any time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from handmesh.console import interrupted
from handmesh.types import LARGEST_PX, SMALLEST_PX, Frame, SourceError

# The cameras of this machine: which there are, and how one is opened.


_SYSFS = Path("/sys/class/video4linux")
_PROBED = 4
"""How many indices are tried where the system does not list its cameras."""

_PLAIN_PIXELS_S = 640 * 480 * 30
"""Pixels a second above which USB carries compressed images only."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def isOpened(self) -> bool: ...

    def read(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]: ...  # (H, W, 3) uint8 BGR

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
    """An opened camera, asked for images of `size` (width, height) and for `fps`; it may give others.

    Raises SourceError where it cannot be opened.
    """
    try:
        capture = open_capture(index)
    except cv2.error as error:  # of a number that is too large for it
        raise SourceError(f"there can be no camera {index}: they are counted from 0") from error
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
    """Index, name, and whether it is its device's first node, of all that Linux lists; others seldom give images."""
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


# What drivers hand out for an image, made an RGB one or refused: drivers send half a frame, grey, or nothing.


_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
_COLOURS = {1: "grey images, which become RGB", 3: "", 4: "images with alpha, which is dropped"}

TORN = "torn images, which are skipped"


class Reading(NamedTuple):
    """What came of a camera's image."""

    image_rgb: np.ndarray | None  # (H, W, 3) uint8, in memory of its own; None for nothing that can be used
    oddity: str  # what was odd about it, to follow 'the camera gave'; empty for an ordinary BGR image


def rgb_of(image: object) -> Reading:
    """Read what a camera gave: BGR, BGRA or grey, of 8 bits, 16 or floats, as OpenCV hands it out."""
    if not isinstance(image, np.ndarray) or image.size == 0:
        return Reading(None, "empty images, which are skipped")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in _TO_RGB:
        return Reading(None, TORN)
    if not SMALLEST_PX <= min(image.shape[:2]) <= max(image.shape[:2]) <= LARGEST_PX:
        return Reading(None, "images too small or too large to track, which are skipped")
    eight_bits = _eight_bits(image)
    if eight_bits is None:
        return Reading(None, f"{image.dtype} images that are no colours, which are skipped")
    oddity = f"{image.dtype} images, which become 8 bits" if eight_bits is not image else _COLOURS[channels]
    return Reading(cv2.cvtColor(np.ascontiguousarray(eight_bits), _TO_RGB[channels]), oddity)


def _eight_bits(image: np.ndarray) -> np.ndarray | None:
    """The same image in uint8; None where its numbers are no colours."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    if image.dtype.kind not in "buif" or not np.isfinite(image).all():
        return None
    scale = 255.0 if image.dtype.kind in "bf" and image.max() <= 1 else 1.0
    return np.clip(image * scale, 0, 255).astype(np.uint8)


# A camera as a source: always its newest frame, whatever it does between frames.


FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 2.0
"""Between tries to open a camera that went away; each pause is twice the one before."""

_TICK_S = 0.1
"""How often someone who waits for a frame looks up."""

JOIN_S = 2.0
"""How long closing waits for a camera that does not answer."""


class _Taken(NamedTuple):
    number: int
    captured_s: float
    image: np.ndarray | None  # as the driver gave it


class Grabber:
    """A thread that takes a camera's images and keeps the newest, so that no queue builds up.

    The thread alone touches the camera: it reads, opens again what went away, and gives it back at
    its end. One that hangs in the driver is left behind, and ends if the driver ever answers.
    """

    def __init__(self, capture: Capture, reopen: Callable[[], Capture], name: str) -> None:
        """capture: an opened one. reopen: opens another; raises SourceError where it cannot."""
        self.lost = False
        """Whether the camera has gone away and has not returned."""
        self._capture: Capture | None = capture
        self._reopen = reopen
        self._newest: _Taken | None = None
        self._spare: np.ndarray | None = None  # memory that nobody looks at, for the next image
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        self._thread.start()

    def newest(self, timeout_s: float) -> _Taken | None:
        """The newest image that was not yet given; None where none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None, timeout_s)
            taken, self._newest = self._newest, None
            return taken

    def reuse(self, image: np.ndarray | None) -> None:
        """Take back the memory of an image, (H, W, 3) uint8, that is no longer looked at."""
        with self._changed:
            self._spare = image

    def stop(self, timeout_s: float) -> bool:
        """End the thread and give the camera back; False where the camera does not let go of the thread."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        number, pause_s = 0, FIRST_PAUSE_S
        while not self._stopping.is_set():
            taken, image = self._read()
            if taken:
                self._publish(_Taken(number, time.perf_counter(), image))
                number, pause_s, self.lost = number + 1, FIRST_PAUSE_S, False
            else:
                self.lost = True
                self._open_again(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._release()

    def _read(self) -> tuple[bool, np.ndarray | None]:
        if self._capture is None:
            return False, None
        with self._changed:
            memory, self._spare = self._spare, None
        try:
            return self._capture.read(memory)
        except Exception:  # drivers fail in ways of their own; all of them mean that there is no image
            return False, None

    def _publish(self, taken: _Taken) -> None:
        with self._changed:
            if self._newest is not None:
                self._spare = self._newest.image
            self._newest = taken
            self._changed.notify()

    def _open_again(self, pause_s: float) -> None:
        self._release()
        if self._stopping.wait(pause_s):
            return
        try:
            self._capture = self._reopen()
        except Exception:  # as above: it is not there
            self._capture = None

    def _release(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()


class CameraFeed:
    """A camera. Whoever asks gets the newest frame; one that goes away is waited for and goes on when it returns."""

    live, stills, length = True, False, None

    def __init__(
        self,
        index: int,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        patience_s: float = 5.0,
        return_s: float = 30.0,
        open_capture: OpenCapture = opencv_capture,
    ) -> None:
        """Raises SourceError where there is no such camera or it gives no frame for `patience_s`.

        size: (width, height) and fps: what to ask the camera for; it may give others, which is noted.
        return_s: how long to wait for a camera that went away before the source ends.
        """
        self.title = f"camera {index}"
        self.files: dict[str, Path] = {}
        self.warnings: list[str] = []
        self.while_waiting: Callable[[], bool] | None = None
        """Called some ten times a second while no frame comes, as to keep a window alive; False ends the source."""
        self._patience_s, self._return_s, self._asked_size = patience_s, return_s, size
        self._size: tuple[int, int] | None = None  # (width, height) of the images, those of another left out
        self._other_size = False  # whether the last image had another size
        self._closed = False

        def opened() -> Capture:
            return open_camera(index, size, fps, open_capture)

        capture = opened()
        self.fps = rate_of(capture) or 30.0
        self._start_s = time.perf_counter()
        self._grabber = Grabber(capture, opened, self.title)
        try:
            self._first = self._await_first()
        except BaseException:  # Ctrl-C as well
            self.close()
            raise

    def _await_first(self) -> Frame:
        until_s = self._start_s + self._patience_s
        while time.perf_counter() < until_s:
            frame = self._look()
            if frame is not None:
                return frame
        raise SourceError("; ".join([f"{self.title} gives no frames: is another program using it?", *self.warnings]))

    def __iter__(self) -> Iterator[Frame]:
        frame = self._look(0) or self._first
        while frame is not None:
            yield frame
            frame = self._next()

    def _next(self) -> Frame | None:
        """The next frame; None where the camera is gone for good or the source was closed."""
        since_s, missed = time.perf_counter(), False
        while not self._closed:
            frame, silent_s = self._look(), time.perf_counter() - since_s
            if frame is not None:
                if missed:
                    self.warnings.append(f"{self.title} is back after {silent_s:.1f} s")
                return frame
            if silent_s > self._return_s:
                self.warnings.append(f"{self.title} stopped giving frames and did not return in {self._return_s:g} s")
                return None
            if not missed and (self._grabber.lost or silent_s > self._patience_s):
                self.warnings.append(f"{self.title} gives no frames; waiting {self._return_s:g} s for it to return")
                missed = True
            if interrupted() or (self.while_waiting and not self.while_waiting()):
                return None
        return None

    def _look(self, timeout_s: float = _TICK_S) -> Frame | None:
        """The newest frame, if one that can be used comes in time."""
        taken = self._grabber.newest(timeout_s)
        if taken is None:
            return None
        image_rgb, oddity = rgb_of(taken.image)
        if oddity:
            self._note(oddity)
        else:
            self._grabber.reuse(taken.image)
        if image_rgb is None or not self._is_settled((image_rgb.shape[1], image_rgb.shape[0])):
            return None
        return Frame(f"{taken.number:06d}", taken.captured_s - self._start_s, image_rgb, captured_s=taken.captured_s)

    def _is_settled(self, size: tuple[int, int]) -> bool:
        """Whether images have this (width, height); a single one of another size was torn on its way."""
        if self._size is None:
            if self._asked_size not in (None, size):
                self._note("images of {}x{} where {}x{} was asked for".format(*size, *self._asked_size))
        elif size != self._size and not self._other_size:
            self._other_size = True
            return False
        elif size != self._size:
            self._note("images of another size than before")
        elif self._other_size:
            self._note(TORN)
        self._size, self._other_size = size, False
        return True

    def _note(self, oddity: str) -> None:
        """Say once what was odd about the images, however often it happens."""
        warning = f"{self.title} gave {oddity}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def close(self) -> None:
        """Stop the thread and free the camera; one that hangs in its driver is left behind after two seconds."""
        self._closed = True
        if not self._grabber.stop(JOIN_S):
            self.warnings.append(f"{self.title} does not answer and was left behind")
