"""Projection, the distance of a hand from its joints in an image, affines, mirroring, logits. NumPy only."""

from __future__ import annotations

import math
from typing import NamedTuple

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


class _Sight(NamedTuple):
    """How joints are seen: rays x / z and y / z, and what a least-squares fit needs of them."""

    joints_m: np.ndarray  # (J, 3)
    fraction: np.ndarray  # (J, 1) that each counts
    mean: np.ndarray  # (2,) of the rays
    variance: float  # of the rays, both axes together
    mean_ahead: np.ndarray  # (2,) what tx and ty would be with tz = 0
    lean: float  # the sum that tz depends on

    @staticmethod
    def of(joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, weights: np.ndarray | None) -> _Sight:
        rays = (joints_px - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
        squares = np.ones((len(rays), 1)) if weights is None else np.square(weights)[:, None]
        fraction = squares / squares.sum()
        aheads = rays * joints_m[:, 2:] - joints_m[:, :2]
        mean = (fraction * rays).sum(0)
        off = rays - mean
        weighed = fraction * off
        variance, lean = float((weighed * off).sum()), float((weighed * aheads).sum())
        return _Sight(joints_m, fraction, mean, variance, (fraction * aheads).sum(0), lean)

    def at(self, tz: float) -> np.ndarray:
        """The (3,) translation of this tz: given it, the best tx and ty are means."""
        return np.append(self.mean_ahead + self.mean * tz, tz)

    def least_squares(self) -> np.ndarray:
        """The best (3,) translation. Raises ValueError where the joints do not determine it."""
        if not self.variance > _LEAST_SPREAD * (1.0 + float(self.mean @ self.mean)):  # true for what is no number, too
            raise ValueError("the joints do not determine a distance: they all lie at one pixel")
        return self.at(-self.lean / self.variance)

    def larger_from(self, translation: np.ndarray) -> float:
        """How many times as far apart the joints would be seen from there."""
        placed = self.joints_m + translation
        return math.sqrt(self.variance_of(placed[:, :2] / placed[:, 2:]) / max(self.variance, _LEAST_VARIANCE))

    def variance_of(self, points: np.ndarray) -> float:
        """Of (J, 2) points, both axes together."""
        return float((self.fraction * np.square(points - (self.fraction * points).sum(0))).sum())


def least_squares_translation(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, weights: np.ndarray | None = None
) -> np.ndarray:
    """The (3,) translation that makes root-relative joints project to their pixels, least squares.

    joints_m: (J, 3) in the camera's axes; joints_px: (J, 2); weights: (J,) non-negative.
    With normalised image coordinates a = (u - cx) / fx the pinhole equation is linear in the
    translation: X + tx = a (Z + tz), two such rows a joint. Given tz, the best tx and ty are means; what
    is left of the rows determines tz. Raises ValueError where it does not (all joints at one pixel).
    """
    return _Sight.of(joints_m, joints_px, camera, weights).least_squares()


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
    nearest = NEAREST_M - float(joints_m[:, 2].min())
    sight = _Sight.of(joints_m, joints_px, camera, _RELIABILITY if reliability is None else reliability)
    least, most = DISTANCE_BAND
    try:
        root = sight.least_squares()
    except ValueError:
        return sight.at(_distance_by_size(sight, nearest))
    if not nearest <= root[2] <= FARTHEST_M:
        return sight.at(_distance_by_size(sight, nearest))
    if 1 / most <= sight.larger_from(root) <= 1 / least:
        return root
    by_size = _distance_by_size(sight, nearest)
    return sight.at(min(max(float(root[2]), least * by_size, nearest), most * by_size, FARTHEST_M))


def _distance_by_size(sight: _Sight, nearest: float) -> float:
    """The root's depth from which the joints are seen as far apart as they are: that of a weak perspective, about their
    mean depth, corrected by how far apart they would be seen there."""
    middle = float((sight.fraction[:, 0] * sight.joints_m[:, 2]).sum())
    spread_m = math.sqrt(sight.variance_of(sight.joints_m[:, :2]))
    weak = min(max(spread_m / math.sqrt(max(sight.variance, _LEAST_VARIANCE)) - middle, nearest), FARTHEST_M)
    exact = (weak + middle) * sight.larger_from(sight.at(weak)) - middle
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
