"""Projection, the distance of a hand from its joints in an image, affines, mirroring, logits. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from handmesh import skeleton
from handmesh.types import Camera

# Pinhole projection and the closed-form distance of a hand from its image. NumPy only.


def project(points_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 3) points in the camera's frame to (..., 2) pixels."""
    focal = np.array([camera.fx, camera.fy])
    return points_m[..., :2] / points_m[..., 2:] * focal + np.array([camera.cx, camera.cy])


def unproject(points_px: np.ndarray, depth_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 2) pixels at (...) depths along z to (..., 3) points in the camera's frame."""
    xy = (points_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    return np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) * np.asarray(depth_m)[..., None]


def least_squares_translation(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, weights: np.ndarray | None = None
) -> np.ndarray:
    """The (3,) translation that makes root-relative joints project to their pixels, least squares.

    joints_m: (J, 3) in the camera's axes; joints_px: (J, 2); weights: (J,) non-negative.
    With normalised image coordinates a = (u - cx) / fx the pinhole equation is linear in the
    translation: X + tx = a (Z + tz), two such rows a joint. Given tz, the best tx and ty are means; what
    is left of the rows determines tz. Raises ValueError where it does not (all joints at one pixel).
    """
    rays = (joints_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    squares = np.ones((len(rays), 1)) if weights is None else np.square(weights)[:, None]
    fraction = squares / squares.sum()
    ahead = rays * joints_m[:, 2:] - joints_m[:, :2]  # what tx and ty would be with tz = 0
    mean_ray, mean_ahead = (fraction * rays).sum(0), (fraction * ahead).sum(0)
    off = rays - mean_ray
    weighed = fraction * off
    spread = float((weighed * off).sum())
    if not spread > _LEAST_SPREAD * (1.0 + float(mean_ray @ mean_ray)):  # true for what is no number, too
        raise ValueError("the joints do not determine a distance: they all lie at one pixel")
    tz = -float((weighed * ahead).sum()) / spread
    return np.append(mean_ahead + mean_ray * tz, tz)


_LEAST_SPREAD = 1e-12
"""The variance of rays, of their own squared length, below which they are all one."""


NEAREST_M = 0.05
"""No joint is placed nearer to the camera than this."""

FARTHEST_M = 20.0


def _reliability(name: str) -> float:
    """How much a joint says about the hand's position, as the inverse of its usual error.

    Errors grow along a finger; where wrist and thumb base lie is a matter of convention.
    """
    if name in ("wrist", "thumb1"):
        return 0.6
    return {"1": 1.0, "2": 0.7, "3": 0.5, "4": 0.4}[name[-1]]


_RELIABILITY = np.array([_reliability(name) for name in skeleton.KEYPOINTS])


def solve_translation(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, reliability: np.ndarray | None = None
) -> np.ndarray:
    """(3,) where the root lies in the camera's frame; always finite and in front of the camera.

    joints_m: (21, 3) relative to the root, in the camera's axes; joints_px: (21, 2); trust: (21,) how far each joint is
    believed, where that is known better than from its name. Where least squares places the hand behind or far from the
    camera, its apparent size decides.
    """
    nearest = NEAREST_M - joints_m[:, 2].min()
    try:
        root = least_squares_translation(
            joints_m, joints_px, camera, _RELIABILITY if reliability is None else reliability
        )
    except ValueError:
        return _root_by_size(joints_m, joints_px, camera, nearest)
    if nearest <= root[2] <= FARTHEST_M:
        return root
    return _root_by_size(joints_m, joints_px, camera, nearest)


def _root_by_size(joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, nearest: float) -> np.ndarray:
    """The root on the ray through its own pixel, as far away as the joints' spread in the image says."""
    spread_m = joints_m[:, :2].std(0).max()
    spread_px = max(float(joints_px.std(0).max()), 1e-6)
    depth = np.clip(max(camera.fx, camera.fy) * spread_m / spread_px, nearest, FARTHEST_M)
    return unproject(joints_px[skeleton.ROOT], depth, camera)


MIRROR = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)

_MIRRORED_SIGNS = np.outer(MIRROR.diagonal(), MIRROR.diagonal())


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., 2) points through a (2, 3) affine."""
    return points @ affine[:, :2].T + affine[:, 2]


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """The (2, 3) affine that undoes `affine`."""
    (a, b, c), (d, e, f) = affine.tolist()
    scale = 1.0 / (a * e - b * d)
    return np.array([[e, -b, b * f - c * e], [-d, a, c * d - a * f]]) * scale


def mirror_points_m(points_m: np.ndarray) -> np.ndarray:
    """(..., 3) points reflected left to right."""
    return points_m * MIRROR.diagonal()


def mirror_rotations(rotations: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of the reflected hand: M R M."""
    return rotations * _MIRRORED_SIGNS


def mirror_faces(faces: np.ndarray) -> np.ndarray:
    """(F, 3) faces with their orientation reversed, so that a reflected mesh still faces outward."""
    return np.ascontiguousarray(faces[:, ::-1])


# Probabilities and their logits. NumPy only.


def logistic(logit: ArrayLike) -> np.ndarray:
    """The probability of a logit, any shape; without overflow, however large it is.

    >>> float(logistic(0.0))
    0.5
    """
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(logit))


SUREST = 1e-6
"""Probabilities nearer to 0 or 1 than this are taken for this: beyond it a network's logits mean nothing."""


def logit(probability: ArrayLike) -> np.ndarray:
    """The logarithm of the odds, any shape."""
    bounded = np.minimum(
        np.maximum(probability, SUREST), 1 - SUREST
    )  # np.clip takes several times as long for one number
    return np.log(bounded / (1 - bounded))
