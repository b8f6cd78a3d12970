"""Keeps what is seen: writers that work beside the loop and neither slow it nor break off with it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handmesh.runtime.media.frames import Frame
from handmesh.runtime.media.interrupts import uninterrupted
from handmesh.runtime.media.recording import Output
from handmesh.structs import Camera, Hand

_WAITING_FRAMES = 8  # bounds memory: two pictures each
_LOOK_UP_S = 0.1


class Kept(NamedTuple):
    """A frame and all that came of it."""

    frame: Frame
    picture_rgb: np.ndarray  # (H, W, 3) uint8, what was drawn of it
    hands: Sequence[Hand]
    camera: Camera


class Writer:
    """One file or folder, written by a thread: encoding takes longer than the loop can wait.

    Of a file's frames none is lost: who writes faster than the disk waits. Of live ones, those that
    come while eight wait are left out and counted. Ctrl-C does not reach the thread: no frame is
    written by half.
    """

    def __init__(self, path: Path, take: Callable[[Kept], None], finish: Callable[[], None], live: bool) -> None:
        """take: writes a frame; finish: completes the file. Both are called by the thread alone."""
        self.path = path
        self.dropped = 0
        """Frames of a live source that were left out."""
        self.ended = False
        self._take, self._finish, self._live = take, finish, live
        self._queue: queue.Queue[Kept | None] = queue.Queue(_WAITING_FRAMES)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name=f"writes {path.name}")
        self._thread.start()

    def write(self, kept: Kept) -> None:
        """Have a frame written. Raises what went wrong with an earlier one."""
        self._raise_failure()
        if not self._live:
            self._put(kept)
        elif not self._queue.full():  # nobody else fills it
            self._queue.put(kept)
        else:
            self.dropped += 1

    def end(self) -> None:
        """No frame is to come: what waits is still written, and the file completed, while others go on."""
        if not self.ended:
            self.ended = True
            self._put(None)

    def close(self) -> None:
        """End, and wait until all is written. Raises what went wrong, unless it was raised before."""
        self.end()
        self._thread.join()
        self._raise_failure()

    def _put(self, kept: Kept | None) -> None:
        """Wait for a free place; the thread takes from the queue until its end, also after a failure."""
        while self._thread.is_alive():
            try:
                return self._queue.put(kept, timeout=_LOOK_UP_S)
            except queue.Full:
                continue

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        failed = False
        for kept in iter(self._queue.get, None):
            failed = failed or not self._attempt(lambda kept=kept: self._take(kept))
        self._attempt(self._finish)

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether `work` succeeds; the first failure is kept for whoever writes or closes."""
        try:
            work()
        except Exception as error:  # raised again in the thread that can say it
            self._failure = self._failure or error
            return False
        return True


class Outputs:
    """All that is written of a session."""

    def __init__(self, live: bool) -> None:
        """live: whether frames come when they come, and may be left out."""
        self._live = live
        self._writers: list[Writer] = []

    def __bool__(self) -> bool:
        """Whether frames are being kept."""
        return any(not writer.ended for writer in self._writers)

    @property
    def paths(self) -> list[Path]:
        """What is or was written."""
        return [writer.path for writer in self._writers]

    @property
    def dropped(self) -> int:
        """The most frames that a file lacks since the disk or the processor could not keep up with a camera."""
        return max((writer.dropped for writer in self._writers), default=0)

    def add(self, path: Path, take: Callable[[Kept], None], finish: Callable[[], None]) -> Writer:
        """Keep every frame from now on; see `Writer`."""
        writer = Writer(path, take, finish, self._live)
        self._writers.append(writer)
        return writer

    def write(self, kept: Kept) -> None:
        """Have a frame written everywhere. Raises what went wrong with an earlier one."""
        for writer in self._writers:
            if not writer.ended:
                writer.write(kept)

    def close(self) -> None:
        """Complete all files, also where one of them fails; then raise the first failure. Ctrl-C waits for it."""
        failures: list[Exception] = []
        with uninterrupted():
            for writer in self._writers:
                writer.end()
            for writer in self._writers:
                try:
                    writer.close()
                except Exception as error:
                    failures.append(error)
        if failures:
            raise failures[0]


def add_output(outputs: Outputs, output: Output) -> Writer:
    """Keep the pictures of all frames in an output."""
    return outputs.add(output.path, lambda kept: output.write(kept.frame, kept.picture_rgb, kept.hands), output.close)
