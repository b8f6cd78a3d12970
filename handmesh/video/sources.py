"""Where frames come from: a camera, a video, one image or many."""

from __future__ import annotations

import glob
import math
import mimetypes
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from handmesh.files import (
    HEIF,
    REFUSED_PIXELS,
    ImageError,
    is_heif,
    read_shrunk,
    readable_suffixes,
    too_large,
    upright,
)
from handmesh.types import SKIPPED, Frame, Source, SourceError
from handmesh.video.camera import CameraFeed

if TYPE_CHECKING:
    import av


def open_source(*specs: str | Path) -> Source:
    """The source that `specs` describe: a camera's index, a video, an image, a folder or a glob.

    Several specs, as a shell makes them of a glob, must all be images. Of a folder or a glob the images are taken; a
    warning counts its other files. Raises SourceError, or ImageError for a single image that cannot be read.
    """
    if len(specs) != 1:
        return ImageFiles([Path(spec) for spec in specs], title=f"{len(specs)} images")
    spec = str(specs[0])
    if spec.isdecimal():
        return CameraFeed(int(spec))
    path = Path(spec)
    if path.is_dir():
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
        return _images_among(files, spec, base=path)
    if path.is_file():
        return ImageFiles([path], title=spec) if _is_still(path) else Video(path)
    if glob.has_magic(spec):
        return _images_among(map(Path, glob.glob(spec, recursive=True)), spec)
    raise SourceError(f"no file or folder at {spec}; a source is a camera index, video, image, folder or glob")


def _is_still(path: Path) -> bool:
    """Whether a file is taken as an image; a GIF alone is played."""
    suffix = path.suffix.lower()
    return suffix != ".gif" and (suffix in readable_suffixes() + HEIF or is_heif(path))


def _images_among(files: Iterable[Path], title: str, base: Path | None = None) -> ImageFiles:
    """The images of `files`, in order of their names, with a warning of what else could be meant."""
    files, known = sorted(file for file in files if file.is_file()), readable_suffixes()
    images = [file for file in files if file.suffix.lower() in known]
    others = Counter(file.suffix.lower() for file in files if file.suffix.lower() not in known and _is_visual(file))
    left_out = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
    remedy = "; `pip install pillow-heif` reads .heic" if others.keys() & set(HEIF) else ""
    if not images:
        but = f" but {left_out}{remedy}" if others else ""
        raise SourceError(f"no images in {title}{but}; known are {', '.join(known)}")
    source = ImageFiles(images, base, title)
    if others:
        source.warnings.append(f"{title} holds files that are left out: {left_out}{remedy}")
    return source


def _is_visual(file: Path) -> bool:
    kind, _ = mimetypes.guess_type(file.name)
    return file.suffix.lower() in HEIF or (kind or "").startswith(("image/", "video/"))


class ImageFiles:
    """Image files. One alone must be readable; of several, the unreadable are skipped and noted."""

    live, stills, fps = False, True, 1.0

    def __init__(self, files: Sequence[Path], base: Path | None = None, title: str = "images") -> None:
        """base: what the frames' names are relative to; None takes the files' common folder."""
        self.title = title
        self.length = len(files)
        self.warnings: list[str] = []
        self._files = list(files)
        self._base = base or Path(os.path.commonpath([file.parent.absolute() for file in files]))
        self.files = {self._name(file, index): file for index, file in enumerate(files)}

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            try:
                image = read_shrunk(file)
            except ImageError as error:
                if len(self._files) == 1:
                    raise
                _note(self.warnings, f"{SKIPPED}{error}")
                continue
            if image.note:
                _note(self.warnings, image.note)
            yield Frame(self._name(file, index), float(index), image.image_rgb, image.shrink)

    def _name(self, file: Path, index: int) -> str:
        """The path below the base as text of which files can be made: others' bytes escaped, its end not too long."""
        name = file.absolute().relative_to(self._base.absolute()).as_posix()
        path = Path(name.encode(errors="backslashreplace").decode())
        if len(path.name.encode()) <= _LONGEST_NAME:
            return path.as_posix()
        kept = path.stem.encode()[: _LONGEST_NAME - 40].decode(errors="ignore")
        return path.with_name(f"{kept}~{index}{path.suffix[:20]}").as_posix()

    def close(self) -> None:
        """Nothing is held open between frames."""


_LONGEST_NAME = 200  # bytes, of the 255 that most disks allow: what is written adds to it


class Video:
    """A video file, decoded by PyAV: its largest stream, upright, unmirrored and with square pixels as the file says,
    high dynamic range brought to sRGB. It can be played again.
    """

    live, stills = False, False

    def __init__(self, path: Path) -> None:
        """Raises SourceError for a file without a readable video in it, or with frames above `REFUSED_PIXELS`."""
        self.title = str(path)
        self.files = {self.title: path}
        self.warnings: list[str] = []
        self._path = path
        if not path.is_file():
            raise SourceError(f"no video at {path}")
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes)")
        with self._open() as container:
            stream = self._film(container)
            self.fps = float(stream.average_rate or 30)
            self.length = _expected_frames(stream)

    def _open(self) -> av.container.InputContainer:
        import av

        try:  # absolute, since what precedes a colon is taken for a protocol
            return av.open(str(self._path.absolute()), options=_LIMITS, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{self.title} is neither an image nor a video that can be read ({reason})") from error

    def _film(self, container: av.container.InputContainer) -> av.VideoStream:
        """The largest stream that moves: covers, thumbnails and proxies can come first."""
        from av.stream import Disposition

        covers = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
        decodable = [stream for stream in container.streams.video if stream.codec_context is not None]
        films = [stream for stream in decodable if not stream.disposition & covers]
        if not films:
            raise SourceError(
                f"{self.title} holds no video" + (" but a cover" if decodable else " that can be decoded")
            )
        film = max(films, key=lambda stream: stream.width * stream.height)
        if refusal := too_large(*_shown_size(film, film)):
            raise SourceError(f"{self.title} {refusal}")
        return film

    def __iter__(self) -> Iterator[Frame]:
        import av

        count, time_s = 0, 0.0
        with self._open() as container:
            stream = self._film(container)
            stream.thread_type = "AUTO"
            stream.codec_context.options = _LIMITS
            try:
                for frame in container.decode(stream):
                    time_s = count / self.fps if frame.time is None else frame.time
                    image_rgb = upright(_rgb(frame, stream), _orientation(frame))
                    yield Frame(f"{count:06d}", time_s, image_rgb)
                    count += 1
            except av.error.FFmpegError as error:
                self._ended_early(count, error.strerror)
                return
            missing = (self.length or 1) - count > _TOLERATED_MISSING_FRAMES
            if count == 0 or (missing and time_s + _TOLERATED_MISSING_FRAMES / self.fps < _last_s(stream)):
                self._ended_early(count, "the file is cut short")

    def _ended_early(self, count: int, reason: str) -> None:
        if count == 0:
            raise SourceError(
                f"{self.title} holds no frame of up to {REFUSED_PIXELS:,} pixels that can be read ({reason})"
            )
        _note(self.warnings, f"{self.title} ended early, after {count} of {self.length or '?'} frames ({reason})")

    def close(self) -> None:
        """Nothing is held open between plays."""


def _note(warnings: list[str], warning: str) -> None:
    """Once, however often the source is played."""
    if warning not in warnings:
        warnings.append(warning)


_TOLERATED_MISSING_FRAMES = 2  # containers count frames that decoders then do not show
_LIMITS = {"max_pixels": str(REFUSED_PIXELS)}  # decoders refuse larger frames before they take memory


def _expected_frames(stream: av.VideoStream) -> int | None:
    """How many frames there should be: those stored, or fewer where the file says that a part of them is shown."""
    if not (stream.duration and stream.average_rate):
        return stream.frames or None
    return min(stream.frames, math.ceil(stream.duration * stream.time_base * stream.average_rate)) or None


def _last_s(stream: av.VideoStream) -> float:
    """When the last frame should be shown; infinite where the file does not say."""
    if not (stream.duration and stream.average_rate):
        return math.inf
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base - 1 / stream.average_rate)


def _shown_size(stored: av.VideoStream | av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    """Width and height of what is stored in a stream with square pixels, neither smaller than it was."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width, height = stored.width, stored.height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def _orientation(frame: av.VideoFrame) -> int:
    """The frame's display matrix as one of EXIF's eight orientations, the nearest one."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV does not know; mirrors are seldom
        return {1: 8, 2: 3, 3: 6}.get(round(frame.rotation / 90) % 4, 1)
    if data is None:
        return 1
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):
        return {(False, False): 5, (True, False): 6, (True, True): 7, (False, True): 8}[c < 0, b < 0]
    return {(False, False): 1, (True, False): 2, (True, True): 3, (False, True): 4}[a < 0, d < 0]


def _rgb(frame: av.VideoFrame, stream: av.VideoStream) -> np.ndarray:
    """(H, W, 3) uint8 sRGB with square pixels, not turned yet."""
    width, height = _shown_size(frame, stream)
    transfer = stream.codec_context.color_trc
    if transfer in (_PQ, _HLG):
        return _tone_mapped(frame.to_ndarray(format="rgb48le", width=width, height=height), transfer)
    return frame.to_ndarray(format="rgb24", width=width, height=height)


# High dynamic range, brought to what screens show and the networks know.


_PQ, _HLG = 16, 18  # transfer functions, as ITU-T H.273 numbers them
_PAPER_NITS = 203.0  # how bright white paper is meant to be (ITU-R BT.2408)
_BRIGHTEST = 8.0  # what is brighter is shown alike, in terms of paper
_CODES = 4096
_TO_BT709 = np.array(  # from BT.2020's primaries (ITU-R BT.2087, inverted)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def _tone_mapped(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """(H, W, 3) uint16 of PQ or HLG with BT.2020's primaries as uint8 sRGB; highlights are compressed, not cut off."""
    light = cv2.transform(_light(transfer)[rgb >> 4], _TO_BT709)
    steps = cv2.sqrt(np.clip(light, 0, _BRIGHTEST)) * ((_CODES - 1) / math.sqrt(_BRIGHTEST))
    return _srgb()[steps.astype(np.uint16)]


@cache
def _light(transfer: int) -> np.ndarray:
    """(_CODES,) float32: the light that each code stands for, 1 being white paper's (ITU-R BT.2100, tables 4 and 5)."""
    code = np.linspace(0, 1, _CODES)
    if transfer == _PQ:
        power = code ** (32 / 2523)
        nits = 10_000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)
    else:
        bright = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
        nits = 1000 * np.where(code <= 0.5, code**2 / 3, bright) ** 1.2
    return (nits / _PAPER_NITS).astype(np.float32)


@cache
def _srgb() -> np.ndarray:
    """(_CODES,) uint8: what is shown for evenly spaced roots of light from 0 to `_BRIGHTEST`."""
    light, knee = np.linspace(0, math.sqrt(_BRIGHTEST), _CODES) ** 2, 0.7
    rolled = knee + (1 - knee) * -np.expm1(-(light - knee) / (1 - knee))
    shown = np.where(light <= knee, light, rolled)
    encoded = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)
