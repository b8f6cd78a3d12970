"""FreiHAND's lists of labels as arrays: JSON read row by row, once, and kept in a cache.

The list of vertices is 1.6 GB of text, so no list is ever held as Python objects as a whole. A
cached list is an .npy file whose name carries the size and the time of the list it was made of: a
list that was replaced is read anew, and a reader never sees half a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import rich.progress
from rich.console import Console

LISTS: dict[str, tuple[int | None, ...]] = {
    "K": (3, 3),
    "scale": (),
    "xyz": (21, 3),
    "verts": (None, 3),
    "mano": (61,),
}
"""Each list and the shape of one of its rows; None: any number, the same in each row."""

CACHE_FOLDER = "handmesh_cache"
_CACHE_VERSION = 1
_CHUNK = 1 << 24
_ABANDONED_S = 3600.0
_AFTER_ROW = re.compile(r"\s*([,\]])\s*")


class FreihandError(ValueError):
    """A FreiHAND folder that is damaged, incomplete or something else; the message says what to do."""


def load_list(path: Path, name: str, progress: bool = True) -> np.ndarray:
    """(N, ...) float32, memory-mapped: the list at `path`, whose rows have the shape `LISTS[name]`.

    The first reading parses it (35 s for the 1.6 GB of vertices) and writes the cache,
    in `handmesh_cache` beside the list or, where that cannot be written, in the user's cache
    folder. Raises FreihandError where the list is truncated or not of its kind.
    """
    stat = path.stat()
    file = f"{path.stem}.{_CACHE_VERSION}-{stat.st_size}-{stat.st_mtime_ns}.npy"
    folders = (path.parent / CACHE_FOLDER, _user_folder(path.parent))
    for folder in folders:
        array = _load(folder / file)
        if array is not None:
            return array
    cached = _writable(folders) / file
    _write(cached, _rows(path, name, progress))
    _tidy(cached, path.stem)
    return np.load(cached, mmap_mode="r")


def _user_folder(root: Path) -> Path:
    """A place of its own in the user's cache folder for the lists of `root`."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha1(str(root.resolve()).encode(), usedforsecurity=False).hexdigest()
    return base / "handmesh" / "freihand" / digest[:16]


def _load(cached: Path) -> np.ndarray | None:
    try:
        return np.load(cached, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or damaged: it is made again
        return None


def _writable(folders: Sequence[Path]) -> Path:
    """The first of the folders that lets itself be written, made where need be."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    tried = " nor ".join(str(folder) for folder in folders)
    raise FreihandError(f"the cache can be written neither to {tried}: set XDG_CACHE_HOME to a folder that can")


def _write(path: Path, rows: Iterator[np.ndarray]) -> None:
    """Write the rows as one array, in one step: an error or a kill leaves no half file of that name."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
    try:
        with open(descriptor, "wb") as file:
            _write_npy(file, rows)
        os.chmod(part, 0o644)  # temporary files are for their owner alone
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _tidy(cached: Path, stem: str) -> None:
    """Remove what older lists of this name and killed readings left beside the cached list."""
    for other in cached.parent.glob(f"{stem}.*"):
        with contextlib.suppress(OSError):
            abandoned = other.suffix != ".part" or time.time() - other.stat().st_mtime > _ABANDONED_S
            if other != cached and abandoned:
                other.unlink()


def _write_npy(file: BinaryIO, rows: Iterator[np.ndarray]) -> None:
    """Write rows of one shape as one array. NumPy leaves room in the header for the count to grow."""
    first = next(rows)
    _write_header(file, 0, first.shape)
    start = file.tell()
    file.write(first.tobytes())
    count = 1
    for row in rows:
        file.write(row.tobytes())
        count += 1
    file.seek(0)
    _write_header(file, count, first.shape)
    assert file.tell() == start, "NumPy's header grew"


def _write_header(file: BinaryIO, count: int, row: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, *row)})


def _rows(path: Path, name: str, progress: bool) -> Iterator[np.ndarray]:
    """The rows of the list at `path`, checked, each float32 of one and the same shape."""
    count, shape = 0, LISTS[name]
    bar = Console(stderr=True)
    try:
        with rich.progress.open(
            path, "r", encoding="utf-8", description=f"reading {path.name}, once",
            console=bar, transient=True, disable=not (progress and bar.is_terminal),
        ) as stream:  # fmt: skip
            for value in read_rows(stream):
                row = _row(value, shape)
                shape = row.shape
                yield row
                count += 1
    except EOFError:
        reason = f"it ends in the middle, after {count} rows: its download or unpacking stopped. Unpack it again"
        raise FreihandError(f"{path}: {reason}") from None
    except (ValueError, TypeError) as error:
        raise FreihandError(f"{path}: row {count}: {error}. Unpack it again") from None


def _row(value: Any, expected: tuple[int | None, ...]) -> np.ndarray:
    row = np.squeeze(np.array(value, np.float32))  # FreiHAND wraps the MANO numbers in a list of one
    fits = row.ndim == len(expected) and all(want in (None, got) for want, got in zip(expected, row.shape, strict=True))
    if not fits or not np.isfinite(row).all():
        wanted = " x ".join("V" if n is None else str(n) for n in expected) or "one"
        raise ValueError(f"expected {wanted} finite numbers, got shape {row.shape}")
    return row


def read_rows(stream: TextIO) -> Iterator[Any]:
    """The elements of the JSON list that `stream` holds, one at a time.

    Raises EOFError where the text ends before the list does, ValueError where it is not a list of
    JSON values.

    >>> import io
    >>> list(read_rows(io.StringIO("[[1, 2], [3, 4.5]]")))
    [[1, 2], [3, 4.5]]
    """
    decode = json.JSONDecoder().raw_decode
    text = stream.read(_CHUNK).lstrip()
    if text and text[0] != "[":
        raise ValueError(f"expected a list in JSON, found {text[:20]!r}")
    text, at = text[1:].lstrip(), 0
    while True:
        try:
            row, end = decode(text, at)
            after = _AFTER_ROW.match(text, end)  # a number may go on in the next chunk
        except ValueError:
            after = None
        if after is None:
            text, at = _refill(stream, text[at:]), 0
            continue
        yield row
        at = after.end()
        if after[1] == "]":
            return


def _refill(stream: TextIO, rest: str) -> str:
    """More text behind a row that is not whole. A row longer than a chunk is none."""
    if len(rest) >= _CHUNK:
        raise ValueError(f"not JSON: {rest[:40]!r}")
    more = stream.read(_CHUNK)
    if not more:
        raise EOFError
    return (rest + more).lstrip()
