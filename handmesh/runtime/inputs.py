"""What users hand to the tracker, checked at the edge: pictures, cameras, times."""

from __future__ import annotations

import math

import numpy as np

from handmesh.structs import Camera

SMALLEST_PX, LARGEST_PX = 16, 32766
"""Sides of a picture that can be tracked; OpenCV warps nothing larger."""


def checked_frame(image: np.ndarray) -> np.ndarray:
    """`image` if it is (H, W, 3) uint8 of a size that can be tracked; ValueError otherwise."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"expected a picture as a NumPy array (H, W, 3) uint8 RGB, got {type(image).__name__}")
    remedy = _remedy(image)
    if remedy:
        raise ValueError(f"expected a picture (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}: {remedy}")
    return np.ascontiguousarray(image)


def _remedy(image: np.ndarray) -> str:
    """What to do about a picture that is not (H, W, 3) uint8 of a usable size; empty where it is."""
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return "repeat the grey channel three times"
    if image.ndim == 3 and image.shape[2] == 4:
        return "drop the alpha channel"
    if image.ndim != 3 or image.shape[2] != 3:
        return "give one picture, colour last"
    if image.dtype != np.uint8:
        return "scale it to 0..255 and convert it to uint8"
    if not SMALLEST_PX <= min(image.shape[:2]) <= max(image.shape[:2]) <= LARGEST_PX:
        return f"its sides must be {SMALLEST_PX} to {LARGEST_PX} pixels"
    return ""


LONGEST_FOCAL, FARTHEST_CENTRE = 1000.0, 100.0
"""What cameras can have, in longer picture sides: a telescope's focal length, the principal point of a far detail."""


def checked_camera(camera: Camera | None, image: np.ndarray) -> Camera:
    """`camera` if it is one for pictures of this size, a usual one if it is None; ValueError otherwise."""
    height, width = image.shape[:2]
    if camera is None:
        return Camera.from_fov(width, height)
    if not isinstance(camera, Camera):
        raise ValueError(f"expected a handmesh.Camera, got {type(camera).__name__}")
    if (camera.width, camera.height) != (width, height):
        raise ValueError(f"the camera is for {camera.width}x{camera.height} pictures, this one is {width}x{height}")
    side = max(width, height)
    focal_fits = all(side / LONGEST_FOCAL <= focal <= side * LONGEST_FOCAL for focal in (camera.fx, camera.fy))
    if not focal_fits or not max(abs(camera.cx), abs(camera.cy)) <= side * FARTHEST_CENTRE:  # false for NaN too
        raise ValueError(f"no camera has such focal lengths or such a centre, in pixels: {camera}")
    return camera


def checked_time(time_s: float) -> float:
    """`time_s` if it is a finite number; ValueError otherwise."""
    if not isinstance(time_s, (int, float, np.number)) or not math.isfinite(time_s):
        raise ValueError(f"time_s must be finite seconds, got {time_s!r}")
    return float(time_s)
