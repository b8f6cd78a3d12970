"""Projection, the distance of a hand from its joints in an image, affines, mirroring, logits. NumPy in, NumPy out."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from handmesh import skeleton
from handmesh.machine import compiled
from handmesh.types import Camera

# Pinhole projection and the closed-form distance of a hand from its image.


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
    sight = _sight(*_seen(joints_m, joints_px, camera, np.ones(len(joints_m)) if weights is None else weights))
    if not _tells_distance(sight):
        raise ValueError("the joints do not determine a distance: they all lie at one pixel")
    return np.array(_at(sight, -sight.lean / sight.variance))


def _seen(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the compiled loops take: joints, their rays x / z and y / z, and the square of what each counts."""
    rays = (joints_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    joints_m, rays = (np.ascontiguousarray(points, np.float64) for points in (joints_m, rays))
    return joints_m, rays, np.square(weights, dtype=np.float64)


_LEAST_SPREAD = 1e-12
"""The variance of rays, of their own squared length, below which they are all one."""

_LEAST_VARIANCE = 1e-18
"""Rays are never taken to lie closer together than this."""


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


DISTANCE_BAND = (0.8, 1.25)
"""Of the distance from which a hand is seen as large as it is: least squares alone places joints that do not fit their
image far nearer or farther, and draws them boxes away from where they were seen."""


def solve_translation(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, reliability: np.ndarray | None = None
) -> np.ndarray:
    """(3,) where the root lies in the camera's frame; always finite and in front of the camera.

    joints_m: (21, 3) relative to the root, in the camera's axes; joints_px: (21, 2); reliability: (21,) how far each
    joint is believed, where that is known better than from its name. Least squares; its distance is held to
    `DISTANCE_BAND`, and where it is none, behind the camera or out of reach, the hand's size alone decides.
    """
    weights = _RELIABILITY if reliability is None else reliability
    return np.array(_translation(*_seen(joints_m, joints_px, camera, weights)))


# The compiled loops: of so few joints NumPy takes ten times as long, nearly all of it to begin.

_compiled = compiled()


class _Sight(NamedTuple):
    """What a least-squares fit needs of joints and their rays."""

    mean: tuple[float, float]  # of the rays
    variance: float  # of the rays, both axes together
    ahead: tuple[float, float]  # what tx and ty would be with tz = 0
    lean: float  # the sum that tz depends on


@_compiled
def _translation(joints_m, rays, squares):
    """`solve_translation` of what `_seen` gives."""
    sight = _sight(joints_m, rays, squares)
    nearest = NEAREST_M - joints_m[:, 2].min()
    by_size = _distance_by_size(sight, joints_m, squares, nearest)
    if not _tells_distance(sight):
        return _at(sight, by_size)
    z = -sight.lean / sight.variance
    if not nearest <= z <= FARTHEST_M:
        return _at(sight, by_size)
    least, most = DISTANCE_BAND
    if not 1 / most <= _larger_from(sight, joints_m, squares, z) <= 1 / least:
        z = min(max(z, least * by_size, nearest), most * by_size, FARTHEST_M)
    return _at(sight, z)


@_compiled
def _sight(joints_m, rays, squares):
    total = squares.sum()
    mean_x = mean_y = ahead_x = ahead_y = variance = lean = 0.0
    for k in range(len(rays)):
        mean_x += squares[k] / total * rays[k, 0]
        mean_y += squares[k] / total * rays[k, 1]
    for k in range(len(rays)):
        fraction = squares[k] / total
        x, y = rays[k, 0] * joints_m[k, 2] - joints_m[k, 0], rays[k, 1] * joints_m[k, 2] - joints_m[k, 1]
        off_x, off_y = rays[k, 0] - mean_x, rays[k, 1] - mean_y
        ahead_x += fraction * x
        ahead_y += fraction * y
        variance += fraction * (off_x * off_x + off_y * off_y)
        lean += fraction * (off_x * x + off_y * y)
    return _Sight((mean_x, mean_y), variance, (ahead_x, ahead_y), lean)


@_compiled
def _tells_distance(sight):
    """Whether the joints determine a distance: false where they all lie at one pixel, and for what is no number."""
    return sight.variance > _LEAST_SPREAD * (1.0 + sight.mean[0] ** 2 + sight.mean[1] ** 2)


@_compiled
def _at(sight, z):
    """The translation of this depth: given it, the best x and y are means."""
    return sight.ahead[0] + sight.mean[0] * z, sight.ahead[1] + sight.mean[1] * z, z


@_compiled
def _larger_from(sight, joints_m, squares, z):
    """How many times as far apart the joints would be seen from there."""
    x, y, _ = _at(sight, z)
    seen = np.empty((len(joints_m), 2))
    for k in range(len(joints_m)):
        ahead = joints_m[k, 2] + z
        seen[k, 0], seen[k, 1] = (joints_m[k, 0] + x) / ahead, (joints_m[k, 1] + y) / ahead
    return math.sqrt(_variance(seen, squares) / max(sight.variance, _LEAST_VARIANCE))


@_compiled
def _variance(points, squares):
    """Of (J, 2) or more columns, the first two together."""
    total, x, y, square = squares.sum(), 0.0, 0.0, 0.0
    for k in range(len(points)):
        x += squares[k] / total * points[k, 0]
        y += squares[k] / total * points[k, 1]
    for k in range(len(points)):
        square += squares[k] / total * ((points[k, 0] - x) ** 2 + (points[k, 1] - y) ** 2)
    return square


@_compiled
def _distance_by_size(sight, joints_m, squares, nearest):
    """The root's depth from which the joints are seen as far apart as they are: that of a weak perspective, about their
    mean depth, corrected by how far apart they would be seen there."""
    middle = (squares * joints_m[:, 2]).sum() / squares.sum()
    apart = math.sqrt(_variance(joints_m, squares) / max(sight.variance, _LEAST_VARIANCE))
    weak = min(max(apart - middle, nearest), FARTHEST_M)
    exact = (weak + middle) * _larger_from(sight, joints_m, squares, weak) - middle
    return min(max(exact, nearest), FARTHEST_M)


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


@_compiled
def turned(rotations, vectors):
    """(N, 3, 3) rotations, each turned on about its own axes by a rotation vector of (N, 3), by Rodrigues' formula."""
    result = np.empty_like(rotations)
    for k in range(len(rotations)):
        x, y, z = vectors[k]
        square = x * x + y * y + z * z
        angle = math.sqrt(square)
        a, b = (math.sin(angle) / angle, (1.0 - math.cos(angle)) / square) if angle > 1e-4 else (1.0, 0.5)
        for i in range(3):
            row_x, row_y, row_z = rotations[k, i]
            along = b * (row_x * x + row_y * y + row_z * z)
            result[k, i, 0] = (1.0 - b * square) * row_x + a * (row_y * z - row_z * y) + along * x
            result[k, i, 1] = (1.0 - b * square) * row_y + a * (row_z * x - row_x * z) + along * y
            result[k, i, 2] = (1.0 - b * square) * row_z + a * (row_x * y - row_y * x) + along * z
    return result


def mirror_faces(faces: np.ndarray) -> np.ndarray:
    """(F, 3) faces with their orientation reversed, so that a reflected mesh still faces outward."""
    return np.ascontiguousarray(faces[:, ::-1])


# Probabilities and their logits.


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
