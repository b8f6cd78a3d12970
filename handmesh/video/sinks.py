"""Where results go: an MP4, one image, or a folder of overlays with `hands.json`. What is written stays written."""

from __future__ import annotations

import errno
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import cv2
import numpy as np

from handmesh.console import uninterrupted
from handmesh.files import (
    WRITABLE,
    OutputError,
    atomic_write,
    check_not_input,
    free_path,
    make_folder,
    write_image,
)
from handmesh.types import Frame, Hand

if TYPE_CHECKING:
    import av

# Records an MP4 so that neither a full disk, nor Ctrl-C, nor a kill costs more than its last second.


LONGEST_PAUSE_S = 60.0
"""A longer one between two frames is a clock that jumped; the second is shown right after the first."""

_TIME_BASE = Fraction(1, 90_000)
_LEAST_STEP_S = 2 / 90_000
_H264 = {"crf": "20", "preset": "veryfast", "bf": "0", "rc-lookahead": "10"}
_GROWING = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "500000",  # microseconds
    "flush_packets": "1",
}
"""A file of fragments that play as soon as they are written: half a second each, or less."""

_LARGEST_FRAGMENT = 16 << 20
"""Bytes up to which a fragment is written in one go; nothing is taken before it is needed."""


PART_SUFFIX = ".part.mp4"
"""Of a video while it grows."""


class VideoRecorder:
    """An MP4 that plays everywhere: H.264, 4:2:0, even sides, its index first, each frame at its own time.

    It grows as `name.part.mp4`, fragment by fragment: a process that is killed, or a disk that is
    full, leaves a playable file. Closing it makes a plain MP4 of it and gives it its own name. What an
    earlier process left is kept: the next one grows as `name.part-2.mp4`.
    Ctrl-C waits until a frame is written or the file is closed.
    """

    def __init__(self, path: Path, fps: float = 30.0) -> None:
        """Raises OutputError where the file cannot be written."""
        import av

        make_folder(path.parent)
        self.path = path
        self._part = free_path(path.with_suffix(PART_SUFFIX))
        self._fps = Fraction(min(max(fps, 1.0), 240.0)).limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        self._clock = FrameClock(float(self._fps))
        self._failed = self._closed = False
        self.seconds = 0.0
        """How long what has been recorded is shown."""
        try:
            self._part.touch(exist_ok=False)
            self._file = GrowingFile(self._part, "r+")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        self._container = av.open(self._file, "w", format="mp4", options=_GROWING, buffer_size=_LARGEST_FRAGMENT)

    def write(self, frame: Frame, image_rgb: np.ndarray, hands: Sequence[Hand] = ()) -> None:
        """Add an image, (H, W, 3) uint8, at its frame's time; one of another size is fitted into the first's."""
        import av

        with uninterrupted(), self._disk_errors():
            if self._stream is None:
                self._stream = self._open_stream(image_rgb)
            size = (self._stream.width, self._stream.height)
            shown = av.VideoFrame.from_ndarray(fitted(image_rgb, size), format="rgb24")
            shown_s = self._clock.shown_s(frame.time_s)
            shown.pts, shown.time_base = round(shown_s / _TIME_BASE), _TIME_BASE
            self._container.mux(self._stream.encode(shown))
            self.seconds = shown_s + float(1 / self._fps)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise OutputError for what the disk refuses; what was written before stays."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._failed = True
            kept = "; what was recorded before is kept" if self._file.plays else ""
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}{kept}") from error

    def _open_stream(self, image_rgb: np.ndarray) -> av.VideoStream:
        height, width = image_rgb.shape[:2]
        stream = self._container.add_stream("libx264", rate=self._fps)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        stream.options = {**_H264, "g": str(max(1, round(self._fps)))}
        return stream

    def close(self) -> None:
        """Finish the video and give it its name; without a frame, nothing is left.

        Raises OutputError where its end or its name is refused; the rest is kept.
        """
        if self._closed:
            return
        self._closed = True
        with uninterrupted():
            try:
                self._end_stream()
            finally:
                self._publish()

    def _end_stream(self) -> None:
        import av

        if self._failed:  # the encoder still has to be given back
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
            return
        with self._disk_errors():
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    def _publish(self) -> None:
        """Give the recording its name: as a plain file where the disk has room for it, as it grew otherwise."""
        empty = not self._file.plays
        made = not empty and _made_plain(self._file, self.path)
        self._file.close()
        try:
            if made or empty:
                self._part.unlink(missing_ok=True)
            else:
                os.replace(self._part, self.path)
        except OSError as error:
            raise OutputError(f"cannot name {self.path}: {error.strerror or error}; see {self._part}") from error


class FrameClock:
    """When frames are shown: as far apart as they were taken, whatever their clock does."""

    def __init__(self, fps: float) -> None:
        self._period_s = 1 / fps
        self._origin_s: float | None = None
        self._last_s = -self._period_s

    def shown_s(self, time_s: float) -> float:
        """Seconds from the first frame to this one, more than to the one before.

        Where the clock stands still, runs back, jumps or gives no number, a frame is shown a period after the last.
        """
        finite = math.isfinite(time_s)
        if self._origin_s is None and finite:
            self._origin_s = time_s - self._last_s - self._period_s
        shown_s = time_s - self._origin_s if finite else math.nan
        if not _LEAST_STEP_S <= shown_s - self._last_s <= LONGEST_PAUSE_S:  # true for NaN too
            shown_s = self._last_s + self._period_s
            self._origin_s = time_s - shown_s if finite else self._origin_s
        self._last_s = shown_s
        return shown_s


class GrowingFile(io.FileIO):
    """A file to which data is added wholly or not at all: what a full disk cuts short is taken back."""

    plays = False
    """Whether a fragment of a video has been added."""

    def write(self, data: bytes) -> int:
        """Add `data` and return its length. Raises OSError where there is no room for all of it."""
        start, rest = self.tell(), memoryview(data)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError:
            self.truncate(start)
            self.seek(start)
            raise
        self.plays = self.plays or bytes(data[4:8]) == b"moof"
        return len(data)


def _made_plain(growing: io.FileIO, path: Path) -> bool:
    """Copy an MP4 of fragments to `path` as one whose index comes first; False, and nothing new, where that fails."""
    import av

    try:
        with atomic_write(path) as part:  # which makes the folder anew, if someone has removed it while we recorded
            growing.seek(0)
            faststart = {"movflags": "faststart"}
            with av.open(growing) as given, av.open(str(part), "w", format="mp4", options=faststart) as copied:
                stream = copied.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = stream
                        copied.mux(packet)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The (H, W, 3) image in a (width, height) one: as it is and repeated at the border if nearly so large,
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


# Where results go: an MP4, one image, or a folder of overlays with `hands.json`. What is written stays written.


HANDS_FILE = "hands.json"


@runtime_checkable
class Sink(Protocol):
    """What all outputs have in common."""

    path: Path

    def write(self, frame: Frame, image_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Keep what was seen in `frame`; image_rgb: (H, W, 3) uint8, the frame with the hands drawn over it."""

    def close(self) -> None:
        """Finish the files."""


def open_sink(path: str | Path, many: bool, fps: float = 30.0, inputs: Mapping[str, Path] | None = None) -> Sink:
    """The output that a path describes: `.mp4` a video, an image's suffix an image, none a folder.

    many: whether more than one frame is to come. inputs: what is read, by the names of frames, as a source's `files`.
    Raises OutputError for another suffix, for an image where many frames come, for a place that cannot be written to,
    and where an input would be written over.
    """
    path, inputs = Path(path), inputs or {}
    in_folder = (path / name for name in (HANDS_FILE, *map(overlay_name, inputs)))
    check_not_input([path, *in_folder], inputs.values())
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return OverlayFolder(path)
    if suffix == ".mp4":
        return VideoRecorder(path, fps)
    if suffix not in WRITABLE:
        raise OutputError(f"cannot write {path}: give a folder, or a file as .mp4, {', '.join(WRITABLE)}")
    if many:
        raise OutputError(f"{path} can hold one image, and the source has more: give a folder or an .mp4 file")
    return OverlayImage(path)


class OverlayImage:
    """One overlay in one image file."""

    def __init__(self, path: Path) -> None:
        """Raises OutputError where the folder cannot be written to."""
        make_folder(path.parent)
        self.path = path

    def write(self, frame: Frame, image_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Write the (H, W, 3) uint8 image, whole or not at all."""
        write_image(self.path, image_rgb)

    def close(self) -> None:
        """Nothing is held open."""


class OverlayFolder:
    """An overlay per frame under the frame's own name, and `hands.json` beside them."""

    def __init__(self, path: Path) -> None:
        """Raises OutputError where the folder cannot be made or written to."""
        make_folder(path)
        self.path = path
        self._hands = HandsFile(path / HANDS_FILE)

    def write(self, frame: Frame, image_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Write the overlay, (H, W, 3) uint8, then note its hands."""
        write_image(self.path / overlay_name(frame.name), image_rgb)
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
        self.file: io.FileIO | None = None
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
        if self.file is not None and self.path.exists():
            return
        held = b""
        if self.file is not None:
            self.file.seek(0)
            held = self.file.read(self._end)
            self.file.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self._end = io.FileIO(self.path, "r+" if self.path.exists() else "w+"), 0
        if held:
            self._put(held)

    def _put(self, text: bytes) -> None:
        """Write `text` and the closing bracket at the list's end, and cut off what follows."""
        assert self.file is not None
        data = text + self._CLOSING
        self.file.seek(self._end)
        if self.file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.truncate()
        self._end += len(text)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self.file is not None:
            self.file.close()
