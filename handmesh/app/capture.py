"""What is kept of a run: recordings, exports and snapshots, by writers that work beside the loop and never slow it."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from handmesh import console
from handmesh.console import uninterrupted
from handmesh.files import OutputError, free_path, make_folder, write_image
from handmesh.hand.lbs import SkinnedHand
from handmesh.types import Hand, TrackedFrame
from handmesh.video.clips import (
    SPOOL_SUFFIX,
    FrameHead,
    MeshFolder,
    Spool,
    check_savable,
    is_mesh_folder,
    read_clip,
    save_clip,
)
from handmesh.video.sinks import PART_SUFFIX, FrameClock, Sink, VideoRecorder, open_sink
from handmesh.xr.mesh_files import write_meshes

# Writes a session's hands to a file with all their parameters, frame by frame, and loses nothing of them.


@runtime_checkable
class HandSink(Protocol):
    """What all exports have in common."""

    path: Path

    def add(self, tracked: TrackedFrame) -> None:
        """Keep the hands of a frame."""

    def close(self) -> None:
        """Finish the files."""


def open_hand_sink(
    path: str | Path, source_title: str = "", fps: float = 30.0, model: SkinnedHand | None = None
) -> HandSink:
    """An export to the file or folder that `path` names; see `clips.save_clip` for what a suffix means.

    fps: how far apart frames are where their clock does not say. model: the tracker's hand, by default the
    bundled one. Raises OutputError for another suffix, for a place that cannot be written to, and where
    a recording that was never finished is in the way.
    """
    path, model = Path(path), model or SkinnedHand.open_hand()
    check_savable(path)
    if is_mesh_folder(path):
        return MeshSink(path)
    return ClipSink(path, source_title, fps, model)


class MeshSink:
    """A mesh file for every frame with a hand."""

    def __init__(self, path: Path) -> None:
        self._folder = MeshFolder(path)
        self.path = self._folder.path

    def add(self, tracked: TrackedFrame) -> None:
        """Write the frame's hands, if there are any. Raises OutputError."""
        self._folder.write(tracked.frame.name, tracked.hands)

    def close(self) -> None:
        """Nothing is held open between frames."""


class ClipSink:
    """A clip in one file.

    It grows as a folder `NAME.part` beside it, whole after every frame: after a kill or a full disk,
    `handmesh convert-clip` makes a file of that. Closing makes the file and removes the folder.
    """

    def __init__(self, path: Path, title: str, fps: float, model: SkinnedHand) -> None:
        make_folder(path.parent)
        self.path = path
        self._model, self._clock, self._closed = model, FrameClock(fps), False
        keeps_meshes = path.suffix.lower() == ".npz"
        self._spool = Spool(path.with_name(path.name + SPOOL_SUFFIX), title, fps, model, keeps_meshes)

    def add(self, tracked: TrackedFrame) -> None:
        """Keep a frame; its time counts from the first one and always rises. Raises OutputError."""
        frame, hands, camera = tracked
        with uninterrupted():
            self._spool.add(FrameHead(frame.name, self._clock.shown_s(frame.time_s), camera), hands)

    def close(self) -> None:
        """Make the file; without a frame, nothing is left. Raises OutputError, and then the folder stays."""
        if self._closed:
            return
        self._closed = True
        with uninterrupted():
            self._spool.close()
            if self._spool.frames:
                self._finish()
            self._spool.remove()

    def _finish(self) -> None:
        clip = read_clip(self._spool.folder, self._model)
        if not len(clip.rows) and self.path.suffix.lower() in (".glb", ".bvh"):
            self._spool.remove()
            raise OutputError(f"{self.path} was not written: no hand was seen")
        try:
            save_clip(clip, self.path)
        except OutputError as error:
            raise OutputError(f"{error}; what was recorded is in {self._spool.folder}") from error


# Keeps what is seen: writers that work beside the loop and neither slow it nor break off with it.


_WAITING = 8
"""The most items that wait to be written, which bounds memory: two images each."""

STUCK_S, FINISHING_S = 60.0, 600.0
"""How long a disk may take nothing at all, and how long completing all files may take."""

_LOOK_UP_S = 0.002


class Drawn(NamedTuple):
    """A tracked frame and what was drawn of it."""

    tracked: TrackedFrame
    image_rgb: np.ndarray  # (H, W, 3) uint8


Item = TypeVar("Item")


class AsyncSink(Generic[Item]):
    """One file or folder, written by a thread: encoding takes longer than the loop can wait.

    Of a file's frames none is lost: who writes faster than the disk waits. Of live ones, those that
    come while eight wait are left out and counted. Ctrl-C does not reach the thread: no frame is
    written by half. Nobody waits for a disk that hangs for ever.
    """

    def __init__(self, path: Path, take: Callable[[Item], None], finish: Callable[[], None], live: bool) -> None:
        """take: writes a frame; finish: completes the file. Both are called by the thread alone."""
        self.path = path
        self.dropped = 0
        """Frames of a live source that were left out."""
        self.ended = False
        self._take, self._finish, self._live = take, finish, live
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()  # no exception leaves it locked
        self._failures: deque[Exception] = deque()
        self._thread = threading.Thread(target=self._work, name=f"writes {path.name}", daemon=True)
        with uninterrupted():
            self._thread.start()

    def write(self, item: Item) -> None:
        """Have a frame written. Raises what went wrong with an earlier one, and OutputError where the disk hangs."""
        if self._failures:
            raise self._failures.popleft()
        if self._live and self._is_full():
            self.dropped += 1
            return
        self._wait_for_room()
        self._queue.put(item)

    def end(self) -> None:
        """No frame is to come: what waits is still written, and the file completed, while others go on."""
        if not self.ended:
            self.ended = True
            self._queue.put(None)

    def close(self, timeout_s: float = FINISHING_S) -> None:
        """End, and wait until all is written. Raises what went wrong, unless it was raised before."""
        if failures := self.complete(timeout_s):
            raise failures[0]

    def complete(self, timeout_s: float) -> list[Exception]:
        """The same; all that went wrong and was not raised before."""
        self.end()
        self._thread.join(timeout_s)
        failures = [self._failures.popleft() for _ in range(len(self._failures))]
        if self._thread.is_alive():
            remedy = f"what was recorded is in {self.path.parent}/*.part*"
            failures.append(OutputError(f"{self.path} is not complete: the disk does not answer; {remedy}"))
        return failures

    def _is_full(self) -> bool:
        return self._queue.qsize() >= _WAITING

    def _wait_for_room(self) -> None:
        """The thread takes from the queue until its end, also after a failure."""
        until_s = time.monotonic() + STUCK_S
        while self._is_full():
            if time.monotonic() > until_s:
                raise OutputError(f"cannot write {self.path}: the disk has taken nothing for {STUCK_S:g} s")
            time.sleep(_LOOK_UP_S)

    def _work(self) -> None:
        failed = False
        for item in iter(self._queue.get, None):
            failed = failed or not self._attempt(lambda item=item: self._take(item))
        self._attempt(self._finish)

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether `work` succeeds; a failure is kept for whoever writes or closes."""
        try:
            work()
        except Exception as error:  # raised again in the thread that can say it
            self._failures.append(error)
            return False
        return True


class Outputs:
    """All that is written of a session."""

    def __init__(self, live: bool) -> None:
        """live: whether frames come when they come, and may be left out."""
        self._live = live
        self._writers: list[AsyncSink[Drawn]] = []

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

    def add(self, path: Path, take: Callable[[Drawn], None], finish: Callable[[], None]) -> AsyncSink[Drawn]:
        """Keep every frame from now on; see `AsyncSink`."""
        with uninterrupted():
            writer = AsyncSink(path, take, finish, self._live)
            self._writers.append(writer)
        return writer

    def write(self, drawn: Drawn) -> None:
        """Have a frame written everywhere. Raises what went wrong with an earlier one."""
        with uninterrupted():  # all get the frame, or none
            for writer in self._writers:
                if not writer.ended:
                    writer.write(drawn)

    def close(self) -> None:
        """Complete all files, also where one of them fails; then raise the first failure and tell the others.

        Ctrl-C waits for it.
        """
        failures: list[Exception] = []
        until_s = time.monotonic() + FINISHING_S
        with uninterrupted():
            for writer in self._writers:
                writer.end()
            for writer in self._writers:
                failures += writer.complete(max(0.0, until_s - time.monotonic()))
        for failure in failures[1:]:
            console.warn(str(failure))
        if failures:
            raise failures[0]


def add_output(outputs: Outputs, output: Sink) -> AsyncSink[Drawn]:
    """Keep the images of all frames in an output."""

    def take(drawn: Drawn) -> None:
        output.write(drawn.tracked.frame, drawn.image_rgb, drawn.tracked.hands)

    return outputs.add(output.path, take, output.close)


# The recording that the user starts and stops with a key.


class ClipRecording:
    """A video at a time, each in a file of its own; or the one that was asked for from the start."""

    def __init__(self, outputs: Outputs, folder: Path, fps: float) -> None:
        self._outputs, self._folder, self._fps = outputs, folder, fps
        self._writer: AsyncSink[Drawn] | None = None
        self._recorder: VideoRecorder | None = None

    def start(self, path: Path, inputs: Mapping[str, Path] | None = None) -> None:
        """Record from now on. inputs: as `open_sink` takes them.

        Raises OutputError for what is no .mp4, cannot be written, or is an input.
        """
        if path.suffix.lower() != ".mp4" or path.is_dir():
            raise OutputError(f"cannot record to {path}: give a file as .mp4")
        self._recorder = open_sink(path, True, self._fps, inputs)
        self._writer = add_output(self._outputs, self._recorder)

    @property
    def seconds(self) -> float | None:
        """How long what has been recorded is shown; None where nothing is being recorded."""
        return self._recorder.seconds if self._writer and self._recorder else None

    def toggle(self) -> str:
        """Start or stop; a notice for the user."""
        if self._writer:
            ended, self._writer = self._writer, None
            ended.end()
            return f"recorded {ended.path}"
        path = free_path(self._folder / f"recording-{datetime.now():%Y%m%d-%H%M%S}.mp4", PART_SUFFIX)
        try:
            self.start(path)
        except OutputError as error:
            return str(error)
        return f"recording {path}"


# Snapshots: what is seen as an image, and the hands beside it as meshes.


class _Snapshot(NamedTuple):
    path: Path  # without a suffix
    image_rgb: np.ndarray
    hands: list[Hand]


class Snapshots:
    """Writes them beside the loop, which does not wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: AsyncSink[_Snapshot] | None = None  # starts with the first
        self._news: deque[str] = deque()
        self.saved: list[Path] = []
        """What was written so far."""

    def take(self, image_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Have an image, (H, W, 3) uint8, and its hands written."""
        name = f"snapshot-{datetime.now():%Y%m%d-%H%M%S-%f}"
        self._writer = self._writer or AsyncSink(self._folder, self._write, lambda: None, live=True)
        dropped = self._writer.dropped
        self._writer.write(_Snapshot(self._folder / name, image_rgb, list(hands)))
        if self._writer.dropped > dropped:
            self._news.append("no snapshot: those before are still being written")

    def news(self) -> list[str]:
        """A line for each snapshot that was finished since the last call, or could not be written."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def close(self) -> list[str]:
        """Wait for the last ones, and tell of them. Raises OutputError where the disk hangs."""
        if self._writer:
            self._writer.close()
        return self.news()

    def _write(self, snapshot: _Snapshot) -> None:
        """Write `path`.png, and `path`.glb where there are hands."""
        path, image_rgb, hands = snapshot
        try:
            written = [path.with_suffix(".png")]
            write_image(written[0], image_rgb)
            if hands:
                written.append(path.with_suffix(".glb"))
                write_meshes(written[1], hands)
        except (OSError, ValueError) as error:
            self._news.append(str(error))
            return
        self.saved += written
        self._news.append(f"saved {written[0]}" + (" and .glb" if hands else ""))
