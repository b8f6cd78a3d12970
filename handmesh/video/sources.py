"""Where frames come from: a camera, a video, one image or many."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handmesh.files import READABLE, ImageError, read_shrunk
from handmesh.types import Frame, Source, SourceError
from handmesh.video.camera import CameraFeed

if TYPE_CHECKING:
    import av


def open_source(*specs: str | Path) -> Source:
    """The source that `specs` describe: a camera's index, a video, an image, a folder or a glob.

    Several specs, as a shell makes them of a glob, must all be images. Raises SourceError, or
    ImageError for a single image that cannot be read.
    """
    if len(specs) != 1:
        return ImageFiles([Path(spec) for spec in specs], title=f"{len(specs)} images")
    spec = str(specs[0])
    if spec.isdecimal():
        return CameraFeed(int(spec))
    path = Path(spec)
    if path.is_dir():
        return ImageFiles(_images_in(path), base=path, title=spec)
    if path.is_file():
        return ImageFiles([path], title=spec) if path.suffix.lower() in READABLE else Video(path)
    if glob.has_magic(spec):
        return ImageFiles(_matching(spec), title=spec)
    raise SourceError(f"no file or folder at {spec}; a source is a camera index, video, image, folder or glob")


def _images_in(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in READABLE and not p.name.startswith(".") and p.is_file()]
    if not found:
        raise SourceError(f"no images in {folder}; known are {', '.join(READABLE)}")
    return sorted(found)


def _matching(pattern: str) -> list[Path]:
    found = [Path(p) for p in glob.glob(pattern, recursive=True)]
    images = sorted(p for p in found if p.suffix.lower() in READABLE and p.is_file())
    if not images:
        raise SourceError(f"{pattern} matches no images; known are {', '.join(READABLE)}")
    return images


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

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            try:
                image_rgb, shrink = read_shrunk(file)
            except ImageError as error:
                if len(self._files) == 1:
                    raise
                _note(self.warnings, f"skipped: {error}")
                continue
            yield Frame(self._name(file), float(index), image_rgb, shrink)

    def _name(self, file: Path) -> str:
        return file.absolute().relative_to(self._base.absolute()).as_posix()

    def close(self) -> None:
        """Nothing is held open between frames."""


class Video:
    """A video file, decoded by PyAV; frames are turned upright as the file says. It can be played again."""

    live, stills = False, False

    def __init__(self, path: Path) -> None:
        """Raises SourceError for a file without a readable video in it."""
        self.title = str(path)
        self.warnings: list[str] = []
        if not path.is_file():
            raise SourceError(f"no video at {path}")
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes)")
        with self._open() as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate or 30)
            self.length = stream.frames or None

    def _open(self) -> av.container.InputContainer:
        import av

        try:
            container = av.open(self.title)
        except (av.error.FFmpegError, OSError) as error:
            reason = error.strerror or error
            raise SourceError(f"{self.title} is neither an image nor a video that can be read ({reason})") from error
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.title} holds no video")
        return container

    def __iter__(self) -> Iterator[Frame]:
        import av

        count = 0
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    time_s = count / self.fps if frame.time is None else frame.time
                    yield Frame(f"{count:06d}", time_s, upright(frame.to_ndarray(format="rgb24"), frame.rotation))
                    count += 1
            except av.error.FFmpegError as error:
                self._ended_early(count, error.strerror)
                return
        if count < (self.length or 1) - _TOLERATED_MISSING_FRAMES or count == 0:
            self._ended_early(count, "the file is cut short")

    def _ended_early(self, count: int, reason: str) -> None:
        if count == 0:
            raise SourceError(f"{self.title} holds no frame that can be read ({reason})")
        _note(self.warnings, f"{self.title} ended early, after {count} of {self.length or '?'} frames ({reason})")

    def close(self) -> None:
        """Nothing is held open between plays."""


def _note(warnings: list[str], warning: str) -> None:
    """Once, however often the source is played."""
    if warning not in warnings:
        warnings.append(warning)


_TOLERATED_MISSING_FRAMES = 2  # containers count frames that decoders then do not show


def upright(image: np.ndarray, rotation_deg: int) -> np.ndarray:
    """The image turned as the video's display matrix says, `rotation_deg` counter-clockwise."""
    return np.ascontiguousarray(np.rot90(image, round(rotation_deg / 90)))
