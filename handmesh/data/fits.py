"""Hands posed to agree with their labels (scripts/fit_photos.py): the file of them, and the labels that they become."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from handmesh import crop
from handmesh.structs import Camera


@dataclass(frozen=True, eq=False)
class Fit:
    """A posed hand that explains a label. A left hand's rotations are the mirrored ones, as in `Hand.pose`."""

    rotations: np.ndarray  # (16, 3, 3) float32, the first to the camera
    shape: np.ndarray  # (10,) float32
    joints_m: np.ndarray  # (21, 3) float32, in the camera's frame
    translation_m: np.ndarray  # (3,) float32, from the posed model (mirrored for a left hand) to the camera's frame
    rough_m: float  # mean distance to the rough joints, moved and scaled
    residual: float  # mean 2D distance to the label, as a share of the longer box side
    accepted: bool  # whether it is good enough to learn from
    camera: Camera  # that the picture is taken to be by

    def as_plain(self) -> dict[str, Any]:
        """Numbers and lists of them, for JSON."""
        plain = {name: np.asarray(getattr(self, name)).tolist() for name in _COLUMNS}
        return plain | {"camera": astuple(self.camera)}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Fit:
        """The inverse of `as_plain`."""
        arrays = (np.array(plain[name], np.float32) for name in _COLUMNS[:4])
        return Fit(*arrays, *(plain[name] for name in _COLUMNS[4:]), Camera(*plain["camera"]))

    def moved(self, affine: np.ndarray) -> Fit:
        """The same hand in the picture that an upright (2, 3) `affine` makes; the camera's size is left open."""
        scale, camera = float(affine[0, 0]), self.camera
        cx, cy = crop.apply_affine(affine, np.array([camera.cx, camera.cy])).tolist()
        return replace(self, camera=Camera(camera.fx * scale, camera.fy * scale, cx, cy, 0, 0))


Key = tuple[str, int]
"""A labelled hand: the base name of its picture, and its place among the hands of that picture."""

_COLUMNS = ("rotations", "shape", "joints_m", "translation_m", "rough_m", "residual", "accepted")


def write_fits(path: Path, fits: Mapping[Key, Fit]) -> None:
    """Write fits to an .npz file; an existing one is replaced last."""
    names, indices = zip(*fits, strict=True) if fits else ((), ())
    columns = {name: np.array([getattr(fit, name) for fit in fits.values()]) for name in _COLUMNS}
    columns["camera"] = np.array([astuple(fit.camera) for fit in fits.values()])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.part.npz")
    np.savez_compressed(partial, picture=np.array(names, np.str_), index=np.array(indices, np.int64), **columns)
    partial.replace(path)


def read_accepted(paths: Iterable[Path]) -> dict[Key, Fit]:
    """The accepted ones of `read_fits`."""
    return {key: fit for key, fit in read_fits(paths).items() if fit.accepted}


def read_fits(paths: Iterable[Path]) -> dict[Key, Fit]:
    """The fits of several files; ValueError where one is no such file or two speak of the same hand."""
    found: dict[Key, Fit] = {}
    for path in paths:
        fits = _read(path)
        if twice := found.keys() & fits.keys():
            raise ValueError(f"{path}: an earlier file already has a fit of {min(twice)}; name each picture's once")
        found |= fits
    return found


def _read(path: Path) -> dict[Key, Fit]:
    if not path.is_file():
        raise FileNotFoundError(f"no fits at {path}: make them with scripts/fit_photos.py")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or not a file of fits: make it anew with scripts/fit_photos.py")
    with np.load(path, allow_pickle=False) as archive:
        if missing := {"picture", "index", "camera", *_COLUMNS} - set(archive.files):
            raise ValueError(f"{path} is not a file of fits: it lacks {', '.join(sorted(missing))}")
        table = {name: archive[name] for name in archive.files}
    keys = zip(table["picture"].tolist(), table["index"].tolist(), strict=True)
    arrays = zip(*(table[name] for name in _COLUMNS[:4]), strict=True)
    values = zip(*(table[name].tolist() for name in _COLUMNS[4:]), strict=True)
    cameras = (Camera(*row[:4], *map(int, row[4:])) for row in table["camera"].tolist())
    return {key: Fit(*a, *b, camera) for key, a, b, camera in zip(keys, arrays, values, cameras, strict=True)}
