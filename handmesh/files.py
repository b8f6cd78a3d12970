"""Files: written whole or not at all, JSON and CSV, hashes, images read and written with one clear line where that
fails.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Files that are either whole or not there: written beside their place, then moved onto it. No torch.


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved onto it at the end, removed on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    """Write named columns of one length; numbers with all their digits."""
    plain = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    with replaced(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*plain, strict=True))


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file beside `path`, then rename: a kill leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# Reads and writes picture files: RGB uint8 in memory, whatever the file holds, and one clear line where it fails.


READABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
WRITABLE = (".png", ".jpg", ".jpeg", ".webp")

LARGEST_PIXELS = 16_000_000
"""Larger pictures are shrunk while they are read, which bounds memory."""

REFUSED_PIXELS = 120_000_000
"""Larger pictures are not read at all: decoding them alone takes more than half a gigabyte."""


class PictureError(ValueError):
    """A picture file that cannot be read; the message is one line that names it."""


class OutputError(ValueError):
    """A place that cannot be written to; the message is one line that names it."""


class Picture(NamedTuple):
    """A picture as read from its file."""

    image_rgb: np.ndarray  # (H, W, 3) uint8
    shrink: int  # how many pixels of the file, along each side, make one of `image_rgb`


def read_picture(path: Path) -> Picture:
    """The picture in a file, upright as its EXIF orientation says.

    Grey becomes RGB, alpha is dropped, 16 bits become 8. Pictures above `LARGEST_PIXELS` are shrunk
    to a half or a quarter of their sides. Raises PictureError for a file that is missing, empty, cut short, no picture,
    or above `REFUSED_PIXELS`.
    """
    if not path.is_file():
        raise PictureError(f"no picture at {path}")
    if path.stat().st_size == 0:
        raise PictureError(f"{path} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have our own limit
            with Image.open(path) as file:
                return _decode(path, file)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a picture of a known format") from error
    except Exception as error:  # broken files make decoders raise almost anything
        raise PictureError(f"{path} cannot be read: {_one_line(error)}") from error


def _decode(path: Path, file: Image.Image) -> Picture:
    width, height = file.size
    if width * height > REFUSED_PIXELS:
        raise PictureError(f"{path} has {width}x{height} pixels, more than {REFUSED_PIXELS:,}: shrink it first")
    shrink = 2 ** max(0, math.ceil(math.log2(width * height / LARGEST_PIXELS) / 2))
    file.draft("RGB", (width // shrink, height // shrink))  # JPEG decodes at halves of its size, others ignore this
    remaining = round(shrink * file.size[0] / width)
    if remaining > 1:
        file = file.reduce(remaining)
    return Picture(_to_rgb(ImageOps.exif_transpose(file)), shrink)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def write_picture(path: Path, image_rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as the format of the path's suffix, whole or not at all.

    Raises OutputError for a suffix that is not in `WRITABLE` and for a path that cannot be written.
    """
    check_writable(path)
    encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise OutputError(f"cannot write {path}: OpenCV cannot encode a {image_rgb.shape} picture as {path.suffix}")
    write_whole(path, data.tobytes())


def check_writable(path: Path) -> None:
    """Raise OutputError unless pictures can be written as the path's suffix says."""
    if path.suffix.lower() not in WRITABLE:
        raise OutputError(f"cannot write {path}: pictures are written as {', '.join(WRITABLE)}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that whoever looks finds the old one or the whole new one. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make the folder and those above it. Raises OutputError where it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
    if not os.access(path, os.W_OK):
        raise OutputError(f"cannot write to {path}: permission denied")


def _umask() -> int:
    """The process's file mode mask, which temporary files do not follow by themselves."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
