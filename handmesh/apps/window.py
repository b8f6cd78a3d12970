"""A window on the screen that cannot take the program down with it, nor slow it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from handmesh.apps import window_process as messages
from handmesh.apps.window_process import MAX_SIDE

_PATIENCE_S = 30.0  # a cold start of the window's process on a busy machine
_CLOSING_S = 2.0


class WindowError(RuntimeError):
    """No window can be opened here; the message is one line."""


class Window:
    """Shows pictures and tells which keys were pressed. A process of its own draws and waits for the screen."""

    def __init__(self, title: str = "handmesh") -> None:
        """Raises WindowError where there is no display, it does not answer, or OpenCV cannot draw on it."""
        if _no_display():
            raise WindowError("no display: neither DISPLAY nor WAYLAND_DISPLAY is set")
        context = multiprocessing.get_context("spawn")  # a fork would share locks with our other threads
        memory = context.RawArray("B", MAX_SIDE * MAX_SIDE * 3)
        self._memory = np.frombuffer(memory, np.uint8)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=messages.serve, args=(title, memory, theirs), daemon=True, name=title)
        with _without_ctrl_c():  # it reaches the whole terminal, and would end the new process with a traceback
            self._process.start()
        theirs.close()
        self.closed = False
        """Whether the user has closed the window."""
        self.lost = False
        """Whether the window has gone away by itself, as with its display."""
        self.shown: messages.Shown | None = None
        """The last picture that is known to be on the screen."""
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
        if not isinstance(answer, messages.Ready):
            self.close()
            reason = answer.reason if isinstance(answer, messages.Failed) else "the display does not answer"
            raise WindowError(f"no window can be opened: {reason}")

    def show(self, picture_rgb: np.ndarray) -> int | None:
        """Hand over (H, W, 3) uint8, no side above `MAX_SIDE`; the stamp that `shown` will bear.

        None, and nothing is shown, while the window is still busy with the picture before, or is gone.
        """
        self._listen(0.0)
        if not self._free or self.closed or self.lost:
            return None
        height, width = picture_rgb.shape[:2]
        self._memory[: picture_rgb.size].reshape(picture_rgb.shape)[:] = picture_rgb
        self._free, self._stamp = False, self._stamp + 1
        try:
            self._connection.send(messages.Picture(width, height, self._stamp))
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
            case messages.Taken():
                self._free = True
            case messages.Shown():
                self.shown = message
            case messages.Key(code):
                self._keys.append(code)
            case messages.Closed():
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
