"""The process that holds the window. It is one of its own since a toolkit whose display goes away ends its process."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import NamedTuple

import cv2
import numpy as np

MAX_SIDE = 1920
"""Longest side, in pixels, of a picture that is sent to the window."""

_LARGEST_FIRST = (1280, 800)  # (width, height) of what fits a usual screen
_SMALLEST_FIRST = 480  # pixels wide

_TICK_S = 0.01
"""How often the window looks for keys while no picture comes."""


class Picture(NamedTuple):
    """To the window: a picture lies in the shared memory, (height, width, 3) uint8 RGB."""

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
    """From the window: a picture is on the screen."""

    stamp: int
    at_s: float  # `time.perf_counter()`, which all processes of a machine share


class Key(NamedTuple):
    """From the window: a key was pressed."""

    code: int  # OpenCV's, without modifiers


class Closed(NamedTuple):
    """From the window: the user has closed it."""


def serve(title: str, memory: RawArray, connection: Connection) -> None:
    """Show the pictures that are announced on `connection` until it closes, the user closes, or the display is gone."""
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
            picture: Picture = connection.recv()
            sizes.adapt_to(picture.width / picture.height, first_size(picture.width, picture.height))
            shape = (picture.height, picture.width, 3)
            picture_bgr = cv2.cvtColor(memory[: np.prod(shape)].reshape(shape), cv2.COLOR_RGB2BGR)
            connection.send(Taken())
            cv2.imshow(title, picture_bgr)
            code = cv2.waitKey(1)
            connection.send(Shown(picture.stamp, time.perf_counter()))
        else:
            code = cv2.waitKey(1)
        if code >= 0:
            connection.send(Key(code & 0xFF))
        if cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            connection.send(Closed())
            return


class _Sizes:
    """Gives the window the shape of its pictures, and for each shape the size that the user last gave it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._shape: float | None = None
        self._sizes: dict[float, tuple[int, int]] = {}  # (width, height) by width / height of the pictures

    def adapt_to(self, shape: float, first: tuple[int, int]) -> None:
        """shape: width / height of the next picture; first: (width, height) of a window that has seen none such."""
        if shape == self._shape:
            return
        if self._shape is not None:
            self._sizes[self._shape] = cv2.getWindowImageRect(self._title)[2:]
        cv2.resizeWindow(self._title, *self._sizes.get(shape, first))
        self._shape = shape


def first_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in which a picture of this size is first shown: its own, within what fits a usual screen."""
    scale = min(1.0, _LARGEST_FIRST[0] / width, _LARGEST_FIRST[1] / height)
    scale = scale if width >= _SMALLEST_FIRST else _SMALLEST_FIRST / width
    return round(width * scale), round(height * scale)
