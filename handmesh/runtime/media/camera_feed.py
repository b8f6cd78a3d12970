"""A camera as a source: always its newest frame, whatever it does between frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from handmesh.runtime.media.camera_pictures import TORN, rgb_of
from handmesh.runtime.media.cameras import Capture, OpenCapture, open_camera, opencv_capture, rate_of
from handmesh.runtime.media.frames import Frame, SourceError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 2.0
"""Between tries to open a camera that went away; each pause is twice the one before."""

_TICK_S = 0.1
"""How often someone who waits for a frame looks up."""

_JOIN_S = 2.0
"""How long closing waits for a camera that does not answer."""


class _Taken(NamedTuple):
    number: int
    captured_s: float
    picture: np.ndarray | None  # as the driver gave it


class Grabber:
    """A thread that takes a camera's pictures and keeps the newest, so that no queue builds up.

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
        self._spare: np.ndarray | None = None  # memory that nobody looks at, for the next picture
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        self._thread.start()

    def newest(self, timeout_s: float) -> _Taken | None:
        """The newest picture that was not yet given; None where none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None, timeout_s)
            taken, self._newest = self._newest, None
            return taken

    def reuse(self, picture: np.ndarray | None) -> None:
        """Take back the memory of a picture that is no longer looked at."""
        with self._changed:
            self._spare = picture

    def stop(self, timeout_s: float) -> bool:
        """End the thread and give the camera back; False where the camera does not let go of the thread."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        number, pause_s = 0, _FIRST_PAUSE_S
        while not self._stopping.is_set():
            taken, picture = self._read()
            if taken:
                self._publish(_Taken(number, time.perf_counter(), picture))
                number, pause_s, self.lost = number + 1, _FIRST_PAUSE_S, False
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
        except Exception:  # drivers fail in ways of their own; all of them mean that there is no picture
            return False, None

    def _publish(self, taken: _Taken) -> None:
        with self._changed:
            if self._newest is not None:
                self._spare = self._newest.picture
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
        self.troubles: list[str] = []
        self.while_waiting: Callable[[], bool] | None = None
        """Called some ten times a second while no frame comes, as to keep a window alive; False ends the source."""
        self._patience_s, self._return_s, self._asked_size = patience_s, return_s, size
        self._size: tuple[int, int] | None = None  # (width, height) of the pictures, those of another left out
        self._other_size = False  # whether the last picture had another size
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
        raise SourceError("; ".join([f"{self.title} gives no frames: is another program using it?", *self.troubles]))

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
                    self.troubles.append(f"{self.title} is back after {silent_s:.1f} s")
                return frame
            if silent_s > self._return_s:
                self.troubles.append(f"{self.title} stopped giving frames and did not return in {self._return_s:g} s")
                return None
            if not missed and (self._grabber.lost or silent_s > self._patience_s):
                self.troubles.append(f"{self.title} gives no frames; waiting {self._return_s:g} s for it to return")
                missed = True
            if self.while_waiting and not self.while_waiting():
                return None
        return None

    def _look(self, timeout_s: float = _TICK_S) -> Frame | None:
        """The newest frame, if one that can be used comes in time."""
        taken = self._grabber.newest(timeout_s)
        if taken is None:
            return None
        image_rgb, oddity = rgb_of(taken.picture)
        if oddity:
            self._note(oddity)
        else:
            self._grabber.reuse(taken.picture)
        if image_rgb is None or not self._is_settled((image_rgb.shape[1], image_rgb.shape[0])):
            return None
        return Frame(f"{taken.number:06d}", taken.captured_s - self._start_s, image_rgb, captured_s=taken.captured_s)

    def _is_settled(self, size: tuple[int, int]) -> bool:
        """Whether pictures have this (width, height); a single one of another size was torn on its way."""
        if self._size is None:
            if self._asked_size not in (None, size):
                self._note("pictures of {}x{} where {}x{} was asked for".format(*size, *self._asked_size))
        elif size != self._size and not self._other_size:
            self._other_size = True
            return False
        elif size != self._size:
            self._note("pictures of another size than before")
        elif self._other_size:
            self._note(TORN)
        self._size, self._other_size = size, False
        return True

    def _note(self, oddity: str) -> None:
        """Say once what was odd about the pictures, however often it happens."""
        trouble = f"{self.title} gave {oddity}"
        if trouble not in self.troubles:
            self.troubles.append(trouble)

    def close(self) -> None:
        """Stop the thread and free the camera; one that hangs in its driver is left behind after two seconds."""
        self._closed = True
        if not self._grabber.stop(_JOIN_S):
            self.troubles.append(f"{self.title} does not answer and was left behind")
