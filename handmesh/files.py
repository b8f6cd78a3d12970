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
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

READABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".avif")
HEIF = (".heic", ".heif", ".hif")
WRITABLE = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of image files; those of HEIF can be read where `pillow-heif` is installed."""

LARGEST_PIXELS = 16_000_000
"""Larger images are shrunk by `read_shrunk`, which bounds memory."""

REFUSED_PIXELS = 65_000_000
"""Images and frames of videos with more are refused before memory is taken: the costliest, WebP, need 16 bytes each."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "AVIF", "HEIF")  # Pillow's names
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # of these, a second image is a second frame

Mode = Literal["RGB", "RGBA", "L"]

Picture = np.ndarray | str | Path | Image.Image
"""What can be taken for an image: (H, W, 3) uint8 RGB, a file's path, or what Pillow holds."""


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


def visible(paths: Iterable[Path]) -> list[Path]:
    """Those that somebody put there, sorted: not `.DS_Store` and the `._*` that macOS copies beside each file."""
    return sorted(path for path in paths if not path.name.startswith("."))


def check_not_input(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError where writing one of the outputs would replace an input, by whichever name or link."""
    read = {_identity(path): path for path in inputs}
    read.pop(None, None)
    for output in outputs:
        if source := read.get(_identity(output)):
            same = f"{source} is being read" if output == source else f"it is the same as {source}, which is being read"
            raise OutputError(f"cannot write {output}: {same}; name another place")


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file or folder is, however it is called; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def free_path(path: Path, *suffixes: str, taken: Container[Path] = ()) -> Path:
    """The path, or with -2, -3, ... after its name, so that nothing lies there, nor beside it with other suffixes.

    taken: paths that are going to be written. What the user named is used as it is; this is for names of our own.
    """
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        beside = [free, *(free.with_suffix(suffix) for suffix in suffixes)]
        if free not in taken and not any(os.path.lexists(other) for other in beside):
            return free
    raise AssertionError


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# JSON of others


def parsed_json(data: str | bytes, name: object) -> Any:
    """What JSON stands for. Raises ValueError, one line that names it, where it is none or nests too deeply."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError(f"{name} cannot be read: its JSON nests too deeply") from error
    except ValueError as error:  # also of its encoding, and of numbers with thousands of digits
        raise ValueError(f"{name} is not JSON: {error}") from error


# Images: uint8 in memory, whatever the file holds


class ShrunkImage(NamedTuple):
    """An image that may be smaller than its file says."""

    image_rgb: np.ndarray  # (H, W, 3) uint8
    shrink: int  # how many pixels of the file, along each side, make one of `image_rgb`
    note: str = ""  # what of the file was left out, as one line that names it


def read_image(path: Path, mode: Mode = "RGB") -> np.ndarray:
    """(H, W, 3) uint8 RGB, (H, W, 4) RGBA or (H, W) grey, upright as the file's EXIF orientation says.

    Grey becomes RGB, alpha is dropped, 16 bits become 8, of an animation the first frame is taken. Raises ImageError
    for a file that is missing, empty, cut short, no image, or above `REFUSED_PIXELS`.
    """
    with open_image(path) as file:
        return _decoded(file, mode)


_WHOLE = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n": b"IEND"}
"""How JPEG and PNG files begin, and what stands at the end of those that are not cut short."""


def read_quickly(path: Path, mode: Literal["RGB", "L"] = "RGB") -> np.ndarray:
    """(H, W, 3) uint8 RGB or (H, W) grey as `read_image` gives it, but decoded by OpenCV in less than half the time.

    For the many files of training data. Those that OpenCV does not decode or that are cut short, which it would not
    notice, are left to `read_image`, with its errors.
    """
    data = path.read_bytes() if path.is_file() else b""
    for begin, end in _WHOLE.items():
        if data.startswith(begin) and end in data[-32:]:
            flags = cv2.IMREAD_COLOR_RGB if mode == "RGB" else cv2.IMREAD_GRAYSCALE
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if image is not None:
                return image
    return read_image(path, mode)


def pixels(image: Picture) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image's file, or of one that Pillow holds, upright; an array is given back as it is."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    return _decoded(image, "RGB") if isinstance(image, Image.Image) else image


def read_shrunk(path: Path) -> ShrunkImage:
    """`read_image`, with images above `LARGEST_PIXELS` shrunk to a half or a quarter of their sides."""
    with open_image(path) as file:
        width, height = file.size
        moves = file.format in _MOVING and getattr(file, "is_animated", False)
        shrink = 2 ** max(0, math.ceil(math.log2(width * height / LARGEST_PIXELS) / 2))
        file.draft("RGB", (width // shrink, height // shrink))  # JPEG decodes at halves of its size, others ignore this
        remaining = max(1, round(shrink * file.size[0] / width))
        note = f"{path} is animated: its first frame is taken" if moves else ""
        return ShrunkImage(_decoded(file, "RGB", remaining), shrink, note)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The image file, not decoded yet and not too large to be; whatever goes wrong inside is an ImageError."""
    try:
        if not path.is_file():
            raise ImageError(f"no image at {path}")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decompression bombs, for which we have our own limit, and odd metadata
            with Image.open(path, formats=_formats()) as file:
                if refusal := too_large(*file.size):
                    raise ImageError(f"{path} {refusal}")
                yield file
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher, and looked at first
        raise ImageError(f"{path} has more than {REFUSED_PIXELS:,} pixels: shrink it first") from error
    except UnidentifiedImageError as error:
        heif = "of the HEIF kind, which needs `pip install pillow-heif`"
        raise ImageError(f"{path} is {heif if is_heif(path) else 'not an image of a known format'}") from error
    except Exception as error:  # broken files make decoders raise almost anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ImageError(f"{path} cannot be read: {reason}") from error


def too_large(width: int, height: int) -> str:
    """What is wrong with an image or a frame of this size, to follow its name; empty where nothing is."""
    if width * height <= REFUSED_PIXELS:
        return ""
    return f"has {width}x{height} pixels, more than {REFUSED_PIXELS:,}: shrink it first"


@cache
def _formats() -> tuple[str, ...]:
    """What Pillow may take a file for: left to itself, it would start Ghostscript for an EPS file of any name."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def readable_suffixes() -> tuple[str, ...]:
    """The suffixes of images that can be read here."""
    return READABLE + HEIF * ("HEIF" in _formats())


def is_heif(path: Path) -> bool:
    """Whether a file holds an image as phones write them, HEIC or AVIF, which decoders of videos take for one."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS


_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
_STRIP_PIXELS = 1_000_000


def _decoded(file: Image.Image, mode: Mode, shrink: int = 1) -> np.ndarray:
    """The image in `mode`, upright, `shrink` times smaller: strip by strip, since conversions need memory, too."""
    if mode == "L":
        file.draft("L", file.size)  # a JPEG's own luminance, not one made of its colours
    file.load()
    width, height = file.size
    channels = () if mode == "L" else (len(mode),)
    image = np.empty((-(-height // shrink), -(-width // shrink), *channels), np.uint8)
    rows = shrink * max(1, _STRIP_PIXELS // (width * shrink))
    for top in range(0, height, rows):
        strip = _eight_bits(file.crop((0, top, width, min(top + rows, height)))).convert(mode)
        first = top // shrink
        image[first : first + rows // shrink] = strip if shrink == 1 else strip.reduce(shrink)
    return upright(image, file.getexif().get(ExifTags.Base.Orientation, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8 bits, which Pillow's own conversion would clip; others as they are."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) or (H, W, C) turned and mirrored as EXIF's `orientation`, 1 to 8, says; of any other number, as it is."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


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
