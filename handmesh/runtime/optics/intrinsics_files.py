"""The file that holds a measured camera."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handmesh.runtime.media.pictures import write_whole
from handmesh.runtime.optics import opencv_calibration
from handmesh.runtime.optics.intrinsics import COEFFICIENTS, COUNTS, Intrinsics, LensError, number
from handmesh.structs import Camera

FORMAT = "handmesh camera 1"
"""What the key `format` of our own files says."""

_REMEDY = "write it with scripts/calibrate_camera.py"


def write_intrinsics(path: Path, intrinsics: Intrinsics) -> None:
    """Write the file that `read_intrinsics` reads. Raises OutputError where that cannot be done."""
    record = {"format": FORMAT, **asdict(intrinsics.camera)}
    record["distortion"] = dict(zip(COEFFICIENTS, intrinsics.distortion, strict=False))
    record["reprojection_error_px"] = intrinsics.error_px
    record["date"] = intrinsics.date
    write_whole(path, (json.dumps(record, indent=2) + "\n").encode())


def read_intrinsics(path: Path) -> Intrinsics:
    """The camera in a file: our own JSON, or YAML, XML or JSON as OpenCV's and ROS's calibrations write it.

    Raises LensError, with one line that names the file, where it is missing or holds no camera.
    """
    if not path.is_file():
        raise LensError(f"no camera file at {path}: {_REMEDY}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LensError(f"{path} is not a text file that can be read: {_REMEDY}") from error
    try:
        ours = _parsed(text)
        return _from_record(ours) if ours else opencv_calibration.parsed(text)
    except LensError as error:
        raise LensError(f"{path}: {error}") from error


def _parsed(text: str) -> dict[str, Any] | None:
    """The record of our own file, None for another kind. Raises LensError for broken JSON."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        record = json.loads(text)
    except ValueError as error:
        raise LensError(f"broken JSON ({error}): {_REMEDY}") from error
    return None if "camera_matrix" in map(str.lower, record) else record


def _from_record(record: dict[str, Any]) -> Intrinsics:
    names = ("fx", "fy", "cx", "cy", "width", "height")
    missing = [name for name in names if name not in record]
    if missing:
        raise LensError(f"no {', '.join(missing)} in it, expected {', '.join(names)}: {_REMEDY}")
    fx, fy, cx, cy, width, height = (number(record[name], name) for name in names)
    camera = Camera(fx, fy, cx, cy, int(width), int(height))
    error_px = record.get("reprojection_error_px")
    return Intrinsics(
        camera,
        _distortion(record.get("distortion") or {}),
        error_px if error_px is None else number(error_px, "reprojection_error_px"),
        str(record.get("date", "")),
    )


def _distortion(by_name: Any) -> tuple[float, ...]:
    """Named coefficients in OpenCV's order, those not named 0."""
    if not isinstance(by_name, dict):
        raise LensError(f"expected distortion as names and numbers, got {by_name!r}")
    unknown = [name for name in by_name if name not in COEFFICIENTS]
    if unknown:
        raise LensError(f"unknown distortion {', '.join(unknown)}; known are {', '.join(COEFFICIENTS)}")
    needed = max((COEFFICIENTS.index(name) + 1 for name in by_name), default=0)
    count = next(count for count in COUNTS if count >= needed)
    return tuple(number(by_name.get(name, 0.0), name) for name in COEFFICIENTS[:count])
