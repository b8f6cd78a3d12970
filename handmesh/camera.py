"""Pinhole projection and the closed-form distance of a hand from its picture. NumPy only."""

from __future__ import annotations

import numpy as np

from handmesh.structs import Camera


def project(points_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 3) points in the camera's frame to (..., 2) pixels."""
    focal = np.array([camera.fx, camera.fy])
    return points_m[..., :2] / points_m[..., 2:] * focal + np.array([camera.cx, camera.cy])


def unproject(points_px: np.ndarray, depth_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 2) pixels at (...) depths along z to (..., 3) points in the camera's frame."""
    xy = (points_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    return np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) * np.asarray(depth_m)[..., None]


def root_translation(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, weights: np.ndarray | None = None
) -> np.ndarray:
    """The (3,) translation that makes root-relative joints project to their pixels, least squares.

    joints_m: (J, 3) in the camera's axes; joints_px: (J, 2); weights: (J,) non-negative.
    With normalised picture coordinates a = (u - cx) / fx the pinhole equation is linear in the
    translation: X + tx = a (Z + tz), two such rows a joint. Given tz, the best tx and ty are means; what
    is left of the rows determines tz. Raises ValueError where it does not (all joints at one pixel).
    """
    rays = (joints_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    squares = np.ones((len(rays), 1)) if weights is None else np.square(weights)[:, None]
    share = squares / squares.sum()
    ahead = rays * joints_m[:, 2:] - joints_m[:, :2]  # what tx and ty would be with tz = 0
    mean_ray, mean_ahead = (share * rays).sum(0), (share * ahead).sum(0)
    off = rays - mean_ray
    weighed = share * off
    spread = float((weighed * off).sum())
    if not spread > _LEAST_SPREAD * (1.0 + float(mean_ray @ mean_ray)):  # true for what is no number, too
        raise ValueError("the joints do not determine a distance: they all lie at one pixel")
    tz = -float((weighed * ahead).sum()) / spread
    return np.append(mean_ahead + mean_ray * tz, tz)


_LEAST_SPREAD = 1e-12
"""The variance of rays, of their own squared length, below which they are all one."""
