"""A window on the screen, in a process of its own, that cannot take the program down with it, nor slow it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import NamedTuple

import cv2
import numpy as np

# The process that holds the window. It is one of its own since a toolkit whose display goes away ends its process.


MAX_SIDE = 1920
"""Longest side, in pixels, of an image that is sent to the window."""

_LARGEST_FIRST = (1280, 800)  # (width, height) of what fits a usual screen
_SMALLEST_FIRST = 480  # pixels wide

_TICK_S = 0.01
"""How often the window looks for keys while no image comes."""


class SharedImage(NamedTuple):
    """To the window: an image lies in the shared memory, (height, width, 3) uint8 RGB."""

    width: int
    height: int
    stamp: int  # given back with `Shown`


class Ready(NamedTuple):
    """From the window: it is open."""


class Failed(NamedTuple):
    """From the window: it cannot be opened."""

    reason: str


class Taken(NamedTuple):
    """From the window: the shared memory may be written again."""


class Shown(NamedTuple):
    """From the window: an image is on the screen."""

    stamp: int
    at_s: float  # `time.perf_counter()`, which all processes of a machine share


class Key(NamedTuple):
    """From the window: a key was pressed."""

    code: int  # ASCII


class Closed(NamedTuple):
    """From the window: the user has closed it."""


def serve(title: str, memory: RawArray, connection: Connection) -> None:
    """Show the images that are announced on `connection` until it closes, the user closes, or the display is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; ours is told otherwise
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # toolkits complain of fonts that nobody needs
    try:
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.waitKey(1)
    except cv2.error as error:
        connection.send(Failed(" ".join(str(error).split())[:160]))
        return
    try:
        connection.send(Ready())
        _loop(title, np.frombuffer(memory, np.uint8), connection)
    except (EOFError, OSError):  # who opened the window is gone
        pass
    cv2.destroyAllWindows()


def _loop(title: str, memory: np.ndarray, connection: Connection) -> None:
    sizes = _Sizes(title)
    while True:
        if connection.poll(_TICK_S):
            image: SharedImage = connection.recv()
            sizes.adapt_to(image.width / image.height, first_size(image.width, image.height))
            shape = (image.height, image.width, 3)
            image_bgr = cv2.cvtColor(memory[: np.prod(shape)].reshape(shape), cv2.COLOR_RGB2BGR)
            connection.send(Taken())
            cv2.imshow(title, image_bgr)
            code = letter(cv2.waitKeyEx(1))
            connection.send(Shown(image.stamp, time.perf_counter()))
        else:
            code = letter(cv2.waitKeyEx(1))
        if code is not None:
            connection.send(Key(code))
        if cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            connection.send(Closed())
            return


def letter(code: int) -> int | None:
    """The letter, in ASCII, of what `cv2.waitKeyEx` gives; None for arrows and others that have none.

    Their lowest bytes are those of letters: taken for these, an arrow to the left would quit.
    """
    code &= 0xFFFF  # without modifiers; Windows has keys without a letter there as well
    return code if 0 < code < 128 else None


class _Sizes:
    """Gives the window the shape of its images, and for each shape the size that the user last gave it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._shape: float | None = None
        self._sizes: dict[float, tuple[int, int]] = {}  # (width, height) by width / height of the images

    def adapt_to(self, shape: float, first: tuple[int, int]) -> None:
        """shape: width / height of the next image; first: (width, height) of a window that has seen none such."""
        if shape == self._shape:
            return
        if self._shape is not None:
            self._sizes[self._shape] = cv2.getWindowImageRect(self._title)[2:]
        cv2.resizeWindow(self._title, *self._sizes.get(shape, first))
        self._shape = shape


def first_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in which an image of this size is first shown: its own, within what fits a usual screen."""
    scale = min(1.0, _LARGEST_FIRST[0] / width, _LARGEST_FIRST[1] / height)
    scale = scale if width >= _SMALLEST_FIRST else _SMALLEST_FIRST / width
    return round(width * scale), round(height * scale)


# A window on the screen that cannot take the program down with it, nor slow it.


_PATIENCE_S = 30.0  # a cold start of the window's process on a busy machine
_CLOSING_S = 2.0


class WindowError(RuntimeError):
    """No window can be opened here; the message is one line."""


class Window:
    """Shows images and tells which keys were pressed. A process of its own draws and waits for the screen."""

    def __init__(self, title: str = "handmesh") -> None:
        """Raises WindowError where there is no display, it does not answer, or OpenCV cannot draw on it."""
        if _no_display():
            raise WindowError("no display: neither DISPLAY nor WAYLAND_DISPLAY is set")
        context = multiprocessing.get_context("spawn")  # a fork would share locks with our other threads
        memory = context.RawArray("B", MAX_SIDE * MAX_SIDE * 3)
        self._memory = np.frombuffer(memory, np.uint8)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(title, memory, theirs), daemon=True, name=title)
        with _without_ctrl_c():  # it reaches the whole terminal, and would end the new process with a traceback
            self._process.start()
        theirs.close()
        self.closed = False
        """Whether the user has closed the window."""
        self.lost = False
        """Whether the window has gone away by itself, as with its display."""
        self.shown: Shown | None = None
        """The last image that is known to be on the screen."""
        self._free, self._stamp = True, 0
        self._keys: deque[int] = deque()
        self._await_ready()

    def _await_ready(self) -> None:
        answer = None
        try:
            if self._connection.poll(_PATIENCE_S):
                answer = self._connection.recv()
        except (EOFError, OSError):
            pass
        if not isinstance(answer, Ready):
            self.close()
            reason = answer.reason if isinstance(answer, Failed) else "the display does not answer"
            raise WindowError(f"no window can be opened: {reason}")

    def show(self, image_rgb: np.ndarray) -> int | None:
        """Hand over (H, W, 3) uint8, no side above `MAX_SIDE`; the stamp that `shown` will bear.

        None, and nothing is shown, while the window is still busy with the image before, or is gone.
        """
        self._listen(0.0)
        if not self._free or self.closed or self.lost:
            return None
        height, width = image_rgb.shape[:2]
        self._memory[: image_rgb.size].reshape(image_rgb.shape)[:] = image_rgb
        self._free, self._stamp = False, self._stamp + 1
        try:
            self._connection.send(SharedImage(width, height, self._stamp))
        except OSError:
            self.lost = True
            return None
        return self._stamp

    def key(self, wait_s: float) -> int | None:
        """The code of the next key pressed; None where none is within the wait, or something else happens before."""
        self._listen(0.0 if self._keys else wait_s)
        return self._keys.popleft() if self._keys else None

    def keys(self, wait_s: float) -> list[int]:
        """The codes of all keys pressed since the last call; waits as `key` does."""
        self._listen(0.0 if self._keys else wait_s)
        keys = list(self._keys)
        self._keys.clear()
        return keys

    def _listen(self, wait_s: float) -> None:
        """Take in what the window has said, and wait until it says something."""
        try:
            while not self.closed and not self.lost and self._connection.poll(wait_s):
                self._hear(self._connection.recv())
                wait_s = 0.0
        except (EOFError, OSError):
            self.lost = True

    def _hear(self, message: tuple) -> None:
        match message:
            case Taken():
                self._free = True
            case Shown():
                self.shown = message
            case Key(code):
                self._keys.append(code)
            case Closed():
                self.closed = True

    def close(self) -> None:
        """Close the window and end its process."""
        self._connection.close()
        self._process.join(_CLOSING_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_CLOSING_S)


def has_display() -> bool:
    """Whether a window can be opened here: there is a display, it answers, and OpenCV can draw on it."""
    try:
        Window("handmesh probe").close()
    except WindowError:
        return False
    return True


def _no_display() -> bool:
    return sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes started inside ignore SIGINT from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
