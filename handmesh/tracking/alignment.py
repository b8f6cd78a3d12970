"""Bends the posed hand towards the joints that the network found in the crop. NumPy only.

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
from handmesh.gestures import nearest_weights
from handmesh.hand import anatomy
from handmesh.hand.lbs import Rest, SkinnedHand, joint_chain

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
        self._vectors = np.zeros((16, 3, len(angles)))  # of all rotations together, one for each joint
        self._vectors[self.joints, :, range(len(angles))] = self.axes
        self._vectors = self._vectors.reshape(48, -1)
        weight = rest.keypoint_weights.reshape(21, 16, 4)[..., 3].astype(np.float64)  # of a keypoint, on each bone
        self._moved_weight = (_MOVES @ weight.T)[self.joints]
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
        return rotations @ _rotations((self._vectors @ angles).reshape(16, 3))

    def angles(
        self, rotations: np.ndarray, rest: Rest, found: np.ndarray, uncertainty: np.ndarray, root_m: np.ndarray,
        contact: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """(23,) the rotations that `bent` makes, in radians; see there."""
        joints, slopes = self.joints_and_slopes(rotations, rest)
        x, y, z = (joints + (root_m - joints[skeleton.ROOT])).T
        count, weight = len(slopes[0]), 1.0 / uncertainty
        x, y, weight_near = x / z, y / z, weight / z
        matrix = np.zeros((count + 3, 2, 21))
        matrix[:count, 0] = slopes[0] - x * slopes[2]
        matrix[:count, 1] = slopes[1] - y * slopes[2]
        matrix[count, 0] = matrix[count + 1, 1] = 1.0
        matrix[count + 2, 0], matrix[count + 2, 1] = -x, -y
        matrix *= weight_near
        off = np.concatenate([(found[:, 0] - x) * weight, (found[:, 1] - y) * weight])
        rows = matrix.reshape(-1, 42)
        normal, right = rows @ rows.T, rows @ off
        if contact is not None and contact.max() > LEAST_CONTACT:
            nearer, apart = _nearer(joints, slopes, contact)
            normal[:count, :count] += nearer.T @ nearer
            right[:count] += nearer.T @ apart
        normal.ravel()[:: len(rows) + 1] += self._precision
        step = np.linalg.solve(normal, right)[:count]
        return step.clip(-_MOST * self.deviations, _MOST * self.deviations)

    def joints_and_slopes(self, rotations: np.ndarray, rest: Rest) -> tuple[np.ndarray, np.ndarray]:
        """(21, 3) joints in keypoint order, as `SkinnedHand.posed` has them, and their (3, 23, 21) slopes by rotations.

        Axis first, then rotation, then joint; metres a radian. What a pose itself adds to the vertices, as MANO has it,
        counts as none here.
        """
        rotated, global_positions = joint_chain(
            np.asarray(rotations, np.float64), np.asarray(rest.joints_m, np.float64)
        )
        shift = global_positions - (rotated @ rest.joints_m[..., None])[..., 0]
        weights = rest.keypoint_weights.reshape(21, 16, 4).transpose(1, 0, 2)
        parts = (
            weights[..., :3] @ rotated.transpose(0, 2, 1) + weights[..., 3:] * shift[:, None]
        )  # of each bone, (16, 21, 3)
        moved = (_MOVES @ parts.reshape(16, 63)).reshape(16, 21, 3)[self.joints]
        arm = (moved - self._moved_weight[..., None] * global_positions[self.joints][:, None]).transpose(2, 0, 1)
        axis = (rotated[self.joints] @ self.axes[..., None]).transpose(1, 0, 2)
        slopes = np.empty_like(arm)
        for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
            slopes[k] = axis[i] * arm[j] - axis[j] * arm[i]
        return parts.sum(0), slopes


def _nearer(joints: np.ndarray, slopes: np.ndarray, contact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 23) slopes of the distances between thumb and fingers, and (4,) what these lack of touching; weighted."""
    weights = nearest_weights(joints)
    gaps = weights @ joints
    distances = np.sqrt((gaps * gaps).sum(1))
    lacking = np.minimum(TOUCHING_M - distances, 0.0)
    weight = contact * (lacking < 0) / TOUCH_M
    towards = gaps.T * (weight / np.maximum(distances, 1e-9))
    return np.einsum("xf,xkf->fk", towards, slopes @ weights.T), lacking * weight


def _moves() -> np.ndarray:
    """(16, 16): 1 where turning the first joint moves the second one's bone."""
    moves = np.eye(16)
    for joint, parent in reversed(list(enumerate(skeleton.PARENTS))[1:]):
        moves[parent] += moves[joint]
    return moves


_MOVES = _moves()

_CROSS = np.zeros((3, 9))  # takes a vector to the matrix of its cross product
_CROSS[[0, 0, 1, 1, 2, 2], [7, 5, 2, 6, 3, 1]] = 1.0, -1.0, 1.0, -1.0, 1.0, -1.0


def _rotations(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) rotation vectors to (N, 3, 3) matrices, by Rodrigues' formula."""
    cross = (vectors @ _CROSS).reshape(-1, 3, 3)
    angle = np.sqrt((vectors * vectors).sum(1))[:, None, None]
    by_sine, by_cosine = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + by_sine * cross + by_cosine * (cross @ cross)
