"""Arrays kept beside the configuration that they came from, so that a killed run goes on and no other is mixed in."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from handmesh.evaluation.files import replaced, write_json


class CacheMismatch(ValueError):
    """A folder holds results of another configuration."""


class ArrayCache:
    """Named groups of arrays in a folder that belongs to one configuration."""

    def __init__(self, folder: Path, configuration: Mapping[str, object], overwrite: bool = False) -> None:
        """Open or begin the cache in `folder`.

        configuration: all that the arrays depend on, of plain JSON values. overwrite: forget what
        another one left there. Raises CacheMismatch, naming what differs, where it is not to be forgotten.
        """
        self._folder, self._record = folder, folder / "configuration.json"
        given = json.loads(json.dumps(configuration))
        kept = self._kept()
        if kept not in (None, given) or (kept is None and any(folder.glob("*.npz"))):
            if not overwrite:
                raise CacheMismatch(_difference(folder, kept or {}, given))
            shutil.rmtree(folder)
        elif overwrite and folder.exists():
            shutil.rmtree(folder)
        write_json(self._record, given)

    def _kept(self) -> dict[str, object] | None:
        try:
            return json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays kept under `name`; None where there are none, or where the file is damaged."""
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def put(self, name: str, **arrays: np.ndarray) -> None:
        """Keep arrays under `name`."""
        with replaced(self._folder / f"{name}.npz") as part, part.open("wb") as file:
            np.savez(file, **arrays)


def _difference(folder: Path, kept: Mapping[str, object], given: Mapping[str, object]) -> str:
    names = [name for name in dict.fromkeys([*kept, *given]) if kept.get(name) != given.get(name)]
    differences = "; ".join(f"{name} was {kept.get(name)!r}, is now {given.get(name)!r}" for name in names)
    return (
        f"{folder} holds results of another configuration ({differences}); take another --output, "
        "or --overwrite to do them again"
    )
