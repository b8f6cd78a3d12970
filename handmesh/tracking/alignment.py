"""Bends the posed hand towards the joints that the network found in the crop. NumPy in, NumPy out, compiled between.

A network says twice where the joints are: as positions in the crop, and by the hand that it poses. The two
err in part independently, so a hand between them lies nearer to the truth in the image than either, and in
space no farther. It is the one that minimises

    sum over joints j   |p_j(theta, t) - q_j|^2 / s_j^2   +   sum over rotations k   theta_k^2 / d_k^2

where p_j is the posed joint as it is seen from the hand's position t, q_j the joint found in the crop, both on the
plane at unit distance, and s_j the network's own expected error of q_j. The 23 rotations theta are small ones from the
network's own pose: of the wrist about three axes, of each finger joint about its axis of flexion, and of its first one
about that of abduction, too; d_k is how far each usually goes. The position is free, as it follows anyway. One step of
Gauss and Newton from theta = 0 is taken; further ones gain nothing that can be measured:

    theta, t  =  (A' A + diag(1 / d^2))^-1  A' r,    A and r: slopes of p and q - p, each over s

Where the network tells which fingers the thumb touches, each of them adds

    c_f^2 (g_f(theta) - TOUCHING_M)^2 / TOUCH_M^2

to the sum: c_f is the probability, g_f the distance between the last phalanges, as lines, where it is longer than that
of touching ones. What the image says of single joints draws thumb and finger less closely together than they are.
"""

from __future__ import annotations

import math

import numpy as np

from handmesh import skeleton
from handmesh.geometry import turned
from handmesh.gestures import nearest_weights
from handmesh.hand import anatomy
from handmesh.hand.lbs import Rest, SkinnedHand
from handmesh.machine import compiled

ALIGN = True
"""Whether the tracker bends its hands at all."""

FINGER_RAD, WRIST_RAD = math.radians(4.0), math.radians(2.5)
"""Deviations d of the rotations. Weaker ones gain less in the image; stronger ones gain there, and lose in space."""

LEAST_UNCERTAINTY = 0.03
"""No joint found in the crop is trusted as if it were nearer to the truth, in half crop sides."""

TOUCHING_M, TOUCH_M = 0.006, 0.003
"""Between the last phalanges of thumb and finger that touch, as lines (the median of rendered pinches), and how far
from that a finger is that surely touches."""

LEAST_CONTACT = 0.1
"""Probabilities below this would move nothing that can be measured."""

_MOST = 4.0  # deviations that a rotation may go at most: what is found in a crop without a hand may lie anywhere

_POSITION_M = 10.0  # a deviation so large that the position is free, and finite that the equations can always be solved


class Alignment:
    """Bends one parametric hand. Holds no state between calls."""

    def __init__(self, hand: SkinnedHand) -> None:
        self.hand = hand
        rest = hand.rest(np.zeros(hand.shapedirs.shape[2]))
        frames = anatomy.joint_frames(np.float64(hand.keypoint_regressor @ rest.vertices_m))
        angles = [(0, axis, WRIST_RAD) for axis in np.eye(3)]
        for joint, name in enumerate(anatomy.JOINTS, 1):
            axes_of = (anatomy.FLEXION, anatomy.ABDUCTION) if name.endswith("1") else (anatomy.FLEXION,)
            angles += [(joint, frames[joint - 1, :, angle], FINGER_RAD) for angle in axes_of]
        joints, axes, deviations = zip(*angles, strict=True)
        self.joints = np.array(joints)
        """(23,) the joint, in MANO's order, that each rotation is of."""
        self.axes = np.array(axes)
        """(23, 3) the axis of each rotation, in its joint's own bone's frame."""
        self.deviations = np.array(deviations)
        """(23,) radians"""
        self._of_joint = np.eye(16)[:, self.joints]
        self._precision = np.append(self.deviations, [_POSITION_M] * 3) ** -2

    def bent(
        self, rotations: np.ndarray, rest: Rest, found: np.ndarray, uncertainty: np.ndarray, root_m: np.ndarray,
        contact: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """(16, 3, 3) float64: `rotations`, bent towards the joints found.

        rotations: (16, 3, 3) relative to the parent joint, MANO order, the first to the axes of a camera; rest: the
        unposed hand; found: (21, 2) the joints' x / z and y / z as that camera sees them; uncertainty: (21,) the error
        to expect of each of their coordinates, positive; root_m: (3,) the place of `skeleton.ROOT`, with all
        joints before the camera; contact: (4,) probabilities that the thumb touches each of `gestures.FINGERS`.
        """
        angles = self.angles(rotations, rest, found, uncertainty, root_m, contact)
        return turned(_plain(rotations), self._of_joint @ (angles[:, None] * self.axes))

    def angles(
        self, rotations: np.ndarray, rest: Rest, found: np.ndarray, uncertainty: np.ndarray, root_m: np.ndarray,
        contact: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """(23,) the rotations that `bent` makes, in radians; see there."""
        joints, slopes = self.joints_and_slopes(rotations, rest)
        equations, right = _equations(joints, slopes, _plain(found), _plain(uncertainty), _plain(root_m))
        if contact is not None and contact.max() > LEAST_CONTACT:
            nearer, apart = _nearer(joints, slopes, contact)
            count = slopes.shape[1]
            equations[:count, :count] += nearer.T @ nearer
            right[:count] += nearer.T @ apart
        step = _solved(equations, self._precision, right)[: len(self.joints)]
        return step.clip(-_MOST * self.deviations, _MOST * self.deviations)

    def joints_and_slopes(self, rotations: np.ndarray, rest: Rest) -> tuple[np.ndarray, np.ndarray]:
        """(21, 3) joints in keypoint order, as `SkinnedHand.posed` has them, and their (3, 23, 21) slopes by rotations.

        Axis first, then rotation, then joint; metres a radian. What a pose itself adds to the vertices, as MANO has it,
        counts as none here.
        """
        weights = rest.keypoint_weights.reshape(21, 16, 4)
        return _joints_and_slopes(_plain(rotations), _plain(rest.joints_m), weights, self.joints, self.axes)


def _plain(values: np.ndarray) -> np.ndarray:
    """As the compiled loops want them, which would be compiled anew for another kind of array."""
    return np.ascontiguousarray(values, np.float64)


def _nearer(joints: np.ndarray, slopes: np.ndarray, contact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 23) slopes of the distances between thumb and fingers, and (4,) what these lack of touching; weighted."""
    weights = nearest_weights(joints)
    gaps = weights @ joints
    distances = np.sqrt((gaps * gaps).sum(1))
    lacking = np.minimum(TOUCHING_M - distances, 0.0)
    weight = contact * (lacking < 0) / TOUCH_M
    towards = gaps.T * (weight / np.maximum(distances, 1e-9))
    return np.einsum("xf,xkf->fk", towards, slopes @ weights.T), lacking * weight


# The compiled loops: in so many small sums NumPy spends ten times as long on beginning as on summing.

_compiled = compiled()

_PARENTS = np.array(skeleton.PARENTS)
_ROOT = int(skeleton.ROOT)


@_compiled
def _joints_and_slopes(rotations, rest_m, weights, turning, axes):
    """See `Alignment.joints_and_slopes`; weights: (21, 16, 4) what each joint has of each bone's x, y, z and 1."""
    turns, places = rotations.copy(), rest_m.copy()  # of the bones, in the hand's frame
    for k in range(1, len(turns)):
        parent = _PARENTS[k]
        for i in range(3):
            places[k, i] = places[parent, i]
            for j in range(3):
                places[k, i] += turns[parent, i, j] * (rest_m[k, j] - rest_m[parent, j])
                turns[k, i, j] = 0.0
                for m in range(3):
                    turns[k, i, j] += turns[parent, i, m] * rotations[k, m, j]
    moved = np.zeros((len(turns), len(weights), 4))  # what each joint has of each bone: x, y, z, and how much of it
    for k in range(len(turns) - 1, -1, -1):  # and of all bones farther out, which move along with it
        for point in range(len(weights)):
            share = weights[point, k, 3]
            moved[k, point, 3] += share
            for i in range(3):
                moved[k, point, i] += share * places[k, i]
                for j in range(3):
                    moved[k, point, i] += turns[k, i, j] * (weights[point, k, j] - share * rest_m[k, j])
            for i in range(4 if k else 0):
                moved[_PARENTS[k], point, i] += moved[k, point, i]
    slopes = np.empty((3, len(turning), len(weights)))
    for r in range(len(turning)):
        k = turning[r]
        x, y, z = _rotated(turns[k], axes[r])
        for point in range(len(weights)):
            share = moved[k, point, 3]
            to_x = moved[k, point, 0] - share * places[k, 0]
            to_y = moved[k, point, 1] - share * places[k, 1]
            to_z = moved[k, point, 2] - share * places[k, 2]
            slopes[0, r, point] = y * to_z - z * to_y
            slopes[1, r, point] = z * to_x - x * to_z
            slopes[2, r, point] = x * to_y - y * to_x
    joints = np.empty((len(weights), 3))
    for point in range(len(weights)):
        for i in range(3):
            joints[point, i] = moved[0, point, i]
    return joints, slopes


@_compiled
def _rotated(matrix, vector):
    x, y, z = vector[0], vector[1], vector[2]
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z,
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z,
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z,
    )


@_compiled
def _equations(joints, slopes, found, uncertainty, root_m):
    """A' A and A' r of rotations and position, as the module says."""
    points, rotations = len(joints), slopes.shape[1]
    size = rotations + 3
    rows, off = np.zeros((size, 2 * points)), np.empty(2 * points)
    for point in range(points):
        z = joints[point, 2] + root_m[2] - joints[_ROOT, 2]
        near = 1.0 / (z * uncertainty[point])
        for axis in range(2):
            seen, column = (joints[point, axis] + root_m[axis] - joints[_ROOT, axis]) / z, 2 * point + axis
            off[column] = (found[point, axis] - seen) / uncertainty[point]
            for r in range(rotations):
                rows[r, column] = (slopes[axis, r, point] - seen * slopes[2, r, point]) * near
            rows[rotations + axis, column] = near
            rows[rotations + 2, column] = -seen * near
    normal, right = np.empty((size, size)), np.empty(size)
    for r in range(size):
        right[r] = _product(rows[r], off)
        for other in range(r + 1):
            normal[r, other] = normal[other, r] = _product(rows[r], rows[other])
    return normal, right


@compiled(fastmath=True)
def _product(a, b):
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@_compiled
def _solved(matrix, precision, right):
    """x of (matrix + diag(precision)) x = right, of a symmetric matrix that is positive with it, by Cholesky."""
    lower, x = matrix.copy(), right.copy()
    for i in range(len(x)):
        lower[i, i] += precision[i]
        for j in range(i + 1):
            for k in range(j):
                lower[i, j] -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(lower[i, i]) if i == j else lower[i, j] / lower[j, j]
        for k in range(i):
            x[i] -= lower[i, k] * x[k]
        x[i] /= lower[i, i]
    for i in range(len(x) - 1, -1, -1):
        for k in range(i + 1, len(x)):
            x[i] -= lower[k, i] * x[k]
        x[i] /= lower[i, i]
    return x
