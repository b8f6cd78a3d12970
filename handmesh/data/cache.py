"""Where what was parsed once is kept: beside the data or in the user's cache folder, under names that carry the
sources' sizes and times, so that data that was replaced is read anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from handmesh.files import OutputError, remove_parts

CACHE_FOLDER = "handmesh_cache"
_ABANDONED_S = 3600.0


def cache_folders(root: Path) -> tuple[Path, Path]:
    """Where the cache of the data in `root` may lie: beside it, or in a place of its own in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha1(str(root.resolve()).encode(), usedforsecurity=False).hexdigest()
    return root / CACHE_FOLDER, base / "handmesh" / "sets" / digest[:16]


def writable(folders: Sequence[Path]) -> Path:
    """The first of the folders that lets itself be written, made where need be. Raises OutputError where none does."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    tried = " nor ".join(str(folder) for folder in folders)
    raise OutputError(f"the cache can be written neither to {tried}: set XDG_CACHE_HOME to a folder that can")


def stamp_of(paths: Iterable[Path]) -> str:
    """16 digits that change when one of the files (or folders: what lies in them) is replaced, added or removed."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path in paths:
        stat = path.stat()
        size = 0 if path.is_dir() else stat.st_size
        digest.update(f"{path.name} {size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def tidy(cached: Path, stem: str) -> None:
    """Remove what older sources of this name and killed readings left beside a cached file."""
    remove_parts(cached.parent, f"{stem}.", _ABANDONED_S)
    for other in cached.parent.glob(f"{stem}.*"):
        if other != cached and other.suffix != ".part":
            with contextlib.suppress(OSError):
                other.unlink()
