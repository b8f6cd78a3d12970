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
    translation: X + tx = a (Z + tz), two such rows a joint. Raises ValueError where the joints
    do not determine it (all at one pixel).
    """
    rays = (joints_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    rows = np.zeros((len(rays), 2, 3))
    rows[:, 0, 0] = rows[:, 1, 1] = 1.0
    rows[:, :, 2] = -rays
    target = rays * joints_m[:, 2:] - joints_m[:, :2]
    if weights is not None:
        rows, target = rows * weights[:, None, None], target * weights[:, None]
    A, b = rows.reshape(-1, 3), target.reshape(-1)
    normal = A.T @ A
    if not np.isfinite(normal).all() or np.linalg.cond(normal) > 1e12:
        raise ValueError("the joints do not determine a distance: they all lie at one pixel")
    return np.linalg.solve(normal, A.T @ b)
