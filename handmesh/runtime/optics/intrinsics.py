"""A measured camera: its numbers, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmesh.structs import Camera

COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty")
"""OpenCV's distortion coefficients in OpenCV's order (its documentation of `calib3d`)."""

COUNTS = (0, 4, 5, 8, 12, 14)
"""How many of them OpenCV takes."""


class LensError(ValueError):
    """A camera's numbers that cannot be right, or do not fit the picture; the message is one line."""


@dataclass(frozen=True)
class Intrinsics:
    """What a calibration measured of a camera."""

    camera: Camera  # of the pictures that it was calibrated with
    distortion: tuple[float, ...] = ()  # as many of `COEFFICIENTS` as OpenCV takes
    error_px: float | None = None  # root mean square of the reprojection, in pixels of those pictures
    date: str = ""  # of the calibration

    def __post_init__(self) -> None:
        """Raises LensError for numbers that no camera has."""
        _check_camera(self.camera)
        if len(self.distortion) not in COUNTS:
            raise LensError(f"expected 4, 5, 8, 12 or 14 distortion coefficients, got {len(self.distortion)}")
        if not np.isfinite(self.distortion).all():
            raise LensError(f"expected finite distortion coefficients, got {self.distortion}")

    @property
    def bent(self) -> bool:
        """Whether the lens bends straight lines."""
        return any(self.distortion)


def _check_camera(camera: Camera) -> None:
    """Raise LensError unless the camera's numbers are possible ones, in pixels."""
    if camera.width < 1 or camera.height < 1:
        raise LensError(f"expected a picture size in pixels, got {camera.width}x{camera.height}")
    if not np.isfinite(camera.K).all():
        raise LensError(f"expected finite focal lengths and centre, got {camera}")
    if camera.fx <= 0 or camera.fy <= 0:
        raise LensError(f"focal lengths must be positive, got {camera.fx:g} and {camera.fy:g}")
    longer = max(camera.width, camera.height)
    if not 0.05 * longer < min(camera.fx, camera.fy) <= max(camera.fx, camera.fy) < 50 * longer:
        raise LensError(
            f"focal lengths {camera.fx:g} and {camera.fy:g} do not go with pictures of {camera.width}x{camera.height}: "
            "give them in pixels of these pictures"
        )
    if not (-1 < camera.cx < camera.width and -1 < camera.cy < camera.height):
        raise LensError(
            f"the centre ({camera.cx:g}, {camera.cy:g}) lies outside pictures of {camera.width}x{camera.height}"
        )


def scaled_camera(camera: Camera, width: int, height: int) -> Camera:
    """The camera whose pictures of another size show the same view. Raises LensError for another shape.

    Pixels are points with (0, 0) at the centre of the first, hence the halves. One per cent of difference
    in shape is taken for rounding.
    """
    right, down = width / camera.width, height / camera.height
    if abs(right / down - 1) > 0.01:
        raise LensError(
            f"the camera was calibrated for {camera.width}x{camera.height} pictures, these are {width}x{height}, "
            "another shape, and what a camera crops cannot be known: set the camera to the same shape, "
            "calibrate it at this one, or give a field of view (--fov-deg)"
        )
    cx, cy = (camera.cx + 0.5) * right - 0.5, (camera.cy + 0.5) * down - 0.5
    return Camera(camera.fx * right, camera.fy * down, cx, cy, width, height)


def number(value: Any, name: str) -> float:
    """`value` as a finite number. Raises LensError where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LensError(f"expected a number for {name}, got {value!r}")
    return float(value)
