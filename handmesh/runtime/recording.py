"""Where results go: an MP4, one picture, or a folder of overlays with `hands.json`. What is written stays written."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from handmesh.runtime.pictures import WRITABLE, OutputError, write_picture
from handmesh.runtime.sources import Frame
from handmesh.structs import Hand

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
        _make_folder(path.parent)
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
        _make_folder(path)
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
        try:
            if self._file is None:
                self._file = io.FileIO(self.path, "r+" if self.path.exists() else "w+")
            self._put((b",\n" if self._end else self._OPENING) + line)
        except OSError as error:
            if self._end:
                self._put(b"")
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

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


class VideoRecorder:
    """An MP4 that plays everywhere: H.264, 4:2:0, even sides, each frame at its own time.

    It grows as `name.part.mp4`, in fragments: a process that is killed leaves a playable file of
    that name. Closing it makes a plain MP4 of it and gives it its own name.
    """

    def __init__(self, path: Path, fps: float = 30.0) -> None:
        """Raises OutputError where the file cannot be written."""
        import av

        _make_folder(path.parent)
        self.path = path
        self._part = path.with_suffix(f".part{path.suffix}")
        try:
            self._part.touch()  # PyAV itself would find out at the first frame
            self._container = av.open(str(self._part), "w", options=_MP4)
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        self._fps = Fraction(fps).limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        self._last_pts = -1
        self._failed = False

    def write(self, frame: Frame, picture_rgb: np.ndarray, hands: Sequence[Hand] = ()) -> None:
        """Add a picture at its frame's time. One of another size than the first is fitted into its size."""
        import av

        with self._disk_errors():
            if self._stream is None:
                self._open_stream(picture_rgb)
            size = (self._stream.width, self._stream.height)
            shown = av.VideoFrame.from_ndarray(fitted(picture_rgb, size), format="rgb24")
            shown.pts = max(self._last_pts + 1, round(frame.time_s / _TIME_BASE))
            shown.time_base = _TIME_BASE
            self._last_pts = shown.pts
            self._container.mux(self._stream.encode(shown))

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise OutputError for what the disk refuses, and say where the recording so far is."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._failed = True
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; what was recorded is in {self._part}"
            ) from error

    def _open_stream(self, picture_rgb: np.ndarray) -> None:
        height, width = picture_rgb.shape[:2]
        self._stream = self._container.add_stream("libx264", rate=self._fps)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TIME_BASE
        self._stream.options = {**_H264, "g": str(max(1, round(self._fps)))}

    def close(self) -> None:
        """Finish the video and give it its name; without a frame, nothing is left."""
        if self._failed:
            return  # the fragments written so far are playable as they are
        with self._disk_errors():
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if self._stream is None:
                self._part.unlink(missing_ok=True)
            else:
                os.replace(self._part, self.path)


_TIME_BASE = Fraction(1, 90_000)
_H264 = {"crf": "20", "preset": "veryfast", "bf": "0", "rc-lookahead": "10"}
_MP4 = {
    "movflags": "hybrid_fragmented+frag_keyframe",
    "flush_packets": "1",
}  # each second is on the disk when it is over


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The (H, W, 3) picture in a (width, height) one: as it is and repeated at the border if nearly so large,
    scaled and framed in black otherwise."""
    width, height = size
    if not (0 <= width - image.shape[1] <= 1 and 0 <= height - image.shape[0] <= 1):
        scale = min(width / image.shape[1], height / image.shape[0])
        inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        framed = np.zeros((height, width, 3), np.uint8)
        left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
        framed[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
        return framed
    right, bottom = width - image.shape[1], height - image.shape[0]
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if right or bottom else image


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
    if not os.access(path, os.W_OK):
        raise OutputError(f"cannot write to {path}: permission denied")
