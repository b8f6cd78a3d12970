"""Files: written whole or not at all; JSON, CSV and hashes; images read and written. Errors are one line that names
the file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

READABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
WRITABLE = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of image files."""

LARGEST_PIXELS = 16_000_000
"""Larger images are shrunk by `read_shrunk`, which bounds memory."""

REFUSED_PIXELS = 120_000_000
"""Larger images are not read at all: decoding them alone takes more than half a gigabyte."""

Mode = Literal["RGB", "RGBA", "L"]


class ImageError(ValueError):
    """An image file that cannot be read; the message is one line that names it."""


class OutputError(ValueError):
    """A path that cannot be written to; the message is one line that names it."""


# Writing


@contextmanager
def atomic_write(path: Path, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to: renamed onto it at the end, removed after an error.

    Readers, and whoever comes after a kill, find the old file or the whole new one. durable: after a power cut, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def remove_parts(folder: Path, stem: str = "", older_s: float = 0.0) -> None:
    """Remove what writers that were killed left in `folder`, of files whose names begin with `stem`.

    Parts of living processes are left alone. older_s: seconds since the last write, where other machines write too.
    """
    for part in folder.glob(f"{stem}*.part"):
        with suppress(OSError):
            if part.is_file() and time.time() - part.stat().st_mtime >= older_s and not _is_being_written(part):
                part.unlink()


def _is_being_written(part: Path) -> bool:
    """Whether the process whose number `atomic_write` put into the name lives on this machine."""
    pid, _, thread = part.name.removesuffix(".part").rpartition(".")[2].partition("-")
    if os.name != "posix" or not (pid.isdecimal() and thread.isdecimal()):
        return False  # not on Windows: there the question itself could end the process
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Raise OutputError where the disk or the folder refuses what is written inside."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, data: bytes, durable: bool = False) -> None:
    """Write a file in one step. Raises OutputError."""
    with output_errors(path), atomic_write(path, durable) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step. Raises OutputError."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """Write JSON in one step; numbers that are not finite become null. Raises OutputError."""
    write_text(path, json.dumps(_finite(content), indent=indent, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    """Write named columns of one length in one step, numbers with all their digits. Raises OutputError."""
    plain = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    with output_errors(path), atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*plain, strict=True))


def write_npz(path: Path, compressed: bool = False, **arrays: np.ndarray) -> None:
    """Write named arrays in one step. Raises OutputError."""
    with output_errors(path), atomic_write(path) as part, part.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


def make_folder(path: Path) -> None:
    """Make the folder and those above it. Raises OutputError where it cannot be made or written to."""
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: permission denied")


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Images: uint8 in memory, whatever the file holds


class ShrunkImage(NamedTuple):
    """An image that may be smaller than its file says."""

    image_rgb: np.ndarray  # (H, W, 3) uint8
    shrink: int  # how many pixels of the file, along each side, make one of `image_rgb`


def read_image(path: Path, mode: Mode = "RGB") -> np.ndarray:
    """(H, W, 3) uint8 RGB, (H, W, 4) RGBA or (H, W) grey, upright as the file's EXIF orientation says.

    Grey becomes RGB, alpha is dropped, 16 bits become 8. Raises ImageError for a file that is missing, empty, cut
    short, no image, or above `REFUSED_PIXELS`.
    """
    with _opened(path) as file:
        return _decoded(file, mode)


def read_shrunk(path: Path) -> ShrunkImage:
    """`read_image`, with images above `LARGEST_PIXELS` shrunk to a half or a quarter of their sides."""
    with _opened(path) as file:
        width, height = file.size
        shrink = 2 ** max(0, math.ceil(math.log2(width * height / LARGEST_PIXELS) / 2))
        file.draft("RGB", (width // shrink, height // shrink))  # JPEG decodes at halves of its size, others ignore this
        remaining = round(shrink * file.size[0] / width)
        return ShrunkImage(_decoded(file.reduce(remaining) if remaining > 1 else file, "RGB"), shrink)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image file; whatever goes wrong inside is an ImageError."""
    if not path.is_file():
        raise ImageError(f"no image at {path}")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have our own limit
            with Image.open(path) as file:
                width, height = file.size
                if width * height > REFUSED_PIXELS:
                    limit = f"more than {REFUSED_PIXELS:,}: shrink it first"
                    raise ImageError(f"{path} has {width}x{height} pixels, {limit}")
                yield file
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image of a known format") from error
    except Exception as error:  # broken files make decoders raise almost anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ImageError(f"{path} cannot be read: {reason}") from error


def _decoded(image: Image.Image, mode: Mode) -> np.ndarray:
    if mode == "L":
        image.draft("L", image.size)  # a JPEG's own luminance, not one made of its colours
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    return np.array(image.convert(mode))


def write_image(path: Path, image_rgb: np.ndarray, jpeg_quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W, 4) RGBA in one step, in the format of the path's suffix.

    Raises OutputError for a suffix that is not in `WRITABLE` and for a path that cannot be written.
    """
    check_writable(path)
    order = cv2.COLOR_RGBA2BGRA if image_rgb.shape[2:] == (4,) else cv2.COLOR_RGB2BGR
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")  # OpenCV warns of a quality where there is none
    quality = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if jpeg else []
    encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(image_rgb, order), quality)
    if not encoded:
        raise OutputError(f"cannot write {path}: OpenCV cannot encode a {image_rgb.shape} image as {path.suffix}")
    write_bytes(path, data.tobytes())


def check_writable(path: Path) -> None:
    """Raise OutputError unless images can be written as the path's suffix says."""
    if path.suffix.lower() not in WRITABLE:
        raise OutputError(f"cannot write {path}: images are written as {', '.join(WRITABLE)}")
