"""Where results go: an MP4, one picture, or a folder of overlays with `hands.json`. What is written stays written."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from handmesh.runtime.media.frames import Frame
from handmesh.runtime.media.interrupts import uninterrupted
from handmesh.runtime.media.pictures import WRITABLE, OutputError, make_folder, write_picture
from handmesh.runtime.media.video_recorder import VideoRecorder
from handmesh.structs import Hand

__all__ = ["HandsFile", "Output", "OverlayFolder", "OverlayPicture", "VideoRecorder", "open_output"]

HANDS_FILE = "hands.json"


@runtime_checkable
class Output(Protocol):
    """What all outputs have in common."""

    path: Path

    def write(self, frame: Frame, picture_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Keep what was seen in `frame`; `picture_rgb` is the frame with the hands drawn over it."""

    def close(self) -> None:
        """Finish the files."""


def open_output(path: str | Path, many: bool, fps: float = 30.0) -> Output:
    """The output that a path describes: `.mp4` a video, a picture's suffix a picture, none a folder.

    many: whether more than one frame is to come. Raises OutputError for another suffix, for a
    picture where many frames come, and for a place that cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return OverlayFolder(path)
    if suffix == ".mp4":
        return VideoRecorder(path, fps)
    if suffix not in WRITABLE:
        raise OutputError(f"cannot write {path}: give a folder, or a file as .mp4, {', '.join(WRITABLE)}")
    if many:
        raise OutputError(f"{path} can hold one picture, and the source has more: give a folder or an .mp4 file")
    return OverlayPicture(path)


class OverlayPicture:
    """One overlay in one picture file."""

    def __init__(self, path: Path) -> None:
        """Raises OutputError where the folder cannot be written to."""
        make_folder(path.parent)
        self.path = path

    def write(self, frame: Frame, picture_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Write the picture, whole or not at all."""
        write_picture(self.path, picture_rgb)

    def close(self) -> None:
        """Nothing is held open."""


class OverlayFolder:
    """An overlay per frame under the frame's own name, and `hands.json` beside them."""

    def __init__(self, path: Path) -> None:
        """Raises OutputError where the folder cannot be made or written to."""
        make_folder(path)
        self.path = path
        self._hands = HandsFile(path / HANDS_FILE)

    def write(self, frame: Frame, picture_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Write the overlay, then note its hands."""
        write_picture(self.path / overlay_name(frame.name), picture_rgb)
        self._hands.append(describe(frame, hands))

    def close(self) -> None:
        """Close `hands.json`, which is complete after every frame anyway."""
        self._hands.close()


def overlay_name(name: str) -> str:
    """What the overlay of a file is called: its own name, with a suffix that can be written.

    >>> overlay_name("a/b.jpg"), overlay_name("c.tif"), overlay_name("000012")
    ('a/b.jpg', 'c.tif.png', '000012.jpg')
    """
    suffix = Path(name).suffix.lower()
    if not suffix:
        return f"{name}.jpg"
    return name if suffix in WRITABLE else f"{name}.png"


def describe(frame: Frame, hands: Sequence[Hand]) -> dict[str, object]:
    """What `hands.json` says of a file; pixels are those of the file, also where it was shrunk to be read."""
    height, width = frame.image_rgb.shape[:2]
    return {
        "file": frame.name,
        "width": width * frame.shrink,
        "height": height * frame.shrink,
        "hands": [_describe_hand(hand, frame.shrink) for hand in hands],
    }


def _describe_hand(hand: Hand, shrink: int) -> dict[str, object]:
    joints_px = (hand.joints_px.astype(np.float64) + 0.5) * shrink - 0.5
    return {
        "side": hand.side,
        "score": round(hand.score, 4),
        "joints_px": joints_px.round(2).tolist(),
        "joints_m": hand.joints_m.astype(np.float64).round(5).tolist(),
    }


class HandsFile:
    """A JSON list of records, one a line, that is whole and valid after every record.

    A record is written over the closing bracket, together with a new one, in one call: a process
    that is killed leaves all records but the current one. The list that an earlier run left is
    replaced by the first record, not before.
    """

    _OPENING, _CLOSING = b"[\n", b"\n]\n"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: io.FileIO | None = None
        self._end = 0  # where the closing bracket stands

    def append(self, record: dict[str, object]) -> None:
        """Add a record. Raises OutputError where it cannot be written; the records before it stay."""
        line = json.dumps(record).encode()
        with uninterrupted():
            try:
                self._open()
                self._put((b",\n" if self._end else self._OPENING) + line)
            except OSError as error:
                if self._end:
                    with suppress(OSError):
                        self._put(b"")
                raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _open(self) -> None:
        """Open the file, and once more, with what it held, where someone has removed it meanwhile."""
        if self._file is not None and self.path.exists():
            return
        held = b""
        if self._file is not None:
            self._file.seek(0)
            held = self._file.read(self._end)
            self._file.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._end = io.FileIO(self.path, "r+" if self.path.exists() else "w+"), 0
        if held:
            self._put(held)

    def _put(self, text: bytes) -> None:
        """Write `text` and the closing bracket at the list's end, and cut off what follows."""
        assert self._file is not None
        data = text + self._CLOSING
        self._file.seek(self._end)
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.truncate()
        self._end += len(text)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
