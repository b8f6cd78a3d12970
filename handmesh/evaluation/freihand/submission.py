"""Prediction files as FreiHAND's server takes them: `[joints, vertices]`, N x 21 x 3 and N x V x 3, JSON or zipped."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from handmesh.data.freihand_lists import read_rows
from handmesh.evaluation.files import replaced
from handmesh.skeleton import KEYPOINTS

FORMAT = "expected [N x 21 x 3 joints, N x V x 3 vertices], metres in the camera's frame"
OFFICIAL_COUNT = 3960
"""Samples of FreiHAND's own evaluation set, all of which the server wants."""

_NAME_IN_ZIP = "pred.json"
_SPACE = re.compile(r"\s*")
_decode = json.JSONDecoder().raw_decode


class PredictionError(ValueError):
    """A prediction file, or the truth that it is compared with, that cannot be scored; the message says why."""


class PredictionFile:
    """A prediction file: its joints at once, its meshes one by one, so that they are never all in memory."""

    def __init__(self, path: Path) -> None:
        """Read the joints. Raises PredictionError where the file is not of the format."""
        self.path, self._text, self._at = path, _text(path), 0
        self._expect("[", "a list of two")
        joints = list(self._rows("joints", len(KEYPOINTS)))
        self._expect(",", "the list of vertices behind that of joints")
        if not joints:
            raise self._error("it holds no samples")
        self.joints_m = np.stack(joints)  # (N, 21, 3) float64

    def vertices(self) -> Iterator[np.ndarray]:
        """The (V, 3) float64 mesh of each sample, once."""
        yield from self._rows("vertices", None)
        self._expect("]", "the end behind the list of vertices")
        if self._at < len(self._text):
            raise self._error("there is more behind the two lists")

    def _rows(self, what: str, count: int | None) -> Iterator[np.ndarray]:
        """The samples of one of the two lists, (count, 3) each."""
        self._expect("[", f"the list of {what}")
        sample = 0
        while not self._finds("]"):
            if sample:
                self._expect(",", f"the {what} of sample {sample}")
            yield self._points(f"the {what} of sample {sample}", count)
            sample += 1

    def _points(self, what: str, count: int | None) -> np.ndarray:
        try:
            value, self._at = _decode(self._text, self._skip())
        except ValueError:
            raise self._error(
                f"{what} are not JSON, or the file ends in the middle of them; write or copy it again"
            ) from None
        try:
            return points_of(value, count)
        except ValueError as error:
            raise self._error(f"{what}: {error}") from None

    def _expect(self, sign: str, what: str) -> None:
        if not self._finds(sign):
            found = self._text[self._at : self._at + 12]
            where = f"found {found!r}" if found else "the file ends there; write or copy it again"
            raise self._error(f"{what} should follow, {where}")

    def _finds(self, sign: str) -> bool:
        """Whether `sign` comes next; then it is passed."""
        found = self._text.startswith(sign, self._skip())
        self._at += len(sign) if found else 0
        self._skip()
        return found

    def _skip(self) -> int:
        self._at = _SPACE.match(self._text, self._at).end()
        return self._at

    def _error(self, reason: str) -> PredictionError:
        return PredictionError(f"{self.path}: {reason} ({FORMAT})")


def points_of(value: Any, count: int | None) -> np.ndarray:
    """(K, 3) float64 of one sample's JSON. ValueError where it is not `count` (or any positive number of) points."""
    try:
        points = np.array(value)
    except ValueError:  # rows of unequal length
        points = np.array(None)
    if points.dtype.kind not in "fi" or points.ndim != 2 or points.shape[1] != 3 or count not in (None, len(points)):
        wanted = "V" if count is None else count
        found = f"shape {'x'.join(map(str, points.shape))}" if points.dtype.kind in "fi" else "something else"
        raise ValueError(f"expected {wanted} x 3 numbers, found {found}")
    if not np.isfinite(points).all():
        raise ValueError(f"point {int(np.argmin(np.isfinite(points).all(1)))} is not finite")
    return points.astype(np.float64)


def _text(path: Path) -> str:
    """The JSON text of a file, or of the only JSON in a zip."""
    if not path.is_file():
        raise PredictionError(f"no prediction file at {path}")
    try:
        data = _from_zip(path) if zipfile.is_zipfile(path) else path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PredictionError(f"{path} is neither JSON nor a zip with JSON in it ({FORMAT})") from None
    except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
        raise PredictionError(f"{path} is a damaged or locked zip ({error}); write it again") from None


def _from_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json") and not name.startswith("__MACOSX")]
        if _NAME_IN_ZIP in names:
            names = [_NAME_IN_ZIP]
        if len(names) != 1:
            raise PredictionError(f"{path} holds {names or 'no JSON file'}; expected one, {_NAME_IN_ZIP}")
        return archive.read(names[0])


def true_points(folder: Path, name: str, count: int | None) -> Iterator[np.ndarray]:
    """The rows of `evaluation_{name}.json` in `folder`, each (K, 3) float64, one by one.

    Raises PredictionError where the list is missing, cut off or of another kind.
    """
    path = folder / f"evaluation_{name}.json"
    if not path.is_file():
        raise PredictionError(
            f"no {path.name} in {folder}: unpack FreiHAND's evaluation archive (FreiHAND_pub_v2_eval.zip) there"
        )
    rows = 0
    try:
        with path.open(encoding="utf-8") as stream:
            for value in read_rows(stream):
                yield points_of(value, count)
                rows += 1
    except EOFError:
        raise PredictionError(f"{path} ends in the middle, after {rows} rows; unpack it again") from None
    except ValueError as error:
        raise PredictionError(f"{path}, row {rows}: {error}; unpack it again") from None


def write_submission(path: Path, joints_m: np.ndarray, vertices_m: Iterable[np.ndarray]) -> None:
    """Write (N, 21, 3) joints and N meshes (V, 3) as the zip that the server takes. Replaces the file in one step."""
    with (
        replaced(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_NAME_IN_ZIP, "w", force_zip64=True) as file,
    ):
        for before, samples in ((b"[[", joints_m), (b"], [", vertices_m)):
            file.write(before)
            for i, points in enumerate(samples):
                file.write((b", " if i else b"") + json.dumps(rounded(points).tolist()).encode())
        file.write(b"]]")


def rounded(points_m: np.ndarray) -> np.ndarray:
    """Float64 points to a tenth of a micrometre, far below what can be measured: the file is half as large."""
    return np.round(np.asarray(points_m, np.float64), 7)
