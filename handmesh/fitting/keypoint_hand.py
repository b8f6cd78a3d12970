"""A hand model reduced to its 21 joints, with the derivatives that fitting needs. NumPy, float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.data import anatomy
from handmesh.hand_model import HandModel

ROOT, FINGERS, SHAPE, PLACE = slice(0, 3), slice(3, 48), slice(48, 58), slice(58, 61)
"""Where a hand's parameters stand among the 61: turns of the root, finger angles, shape and place."""


class Posed(NamedTuple):
    """The parameters of B hands."""

    root: np.ndarray  # (B, 3, 3) to the camera
    angles: np.ndarray  # (B, 15, 3) radians
    shape: np.ndarray  # (B, 10)
    place_m: np.ndarray  # (B, 3) from the model's frame to the camera's

    def take(self, mask: np.ndarray, other: Posed) -> Posed:
        """These where a (B,) mask is true, the other's elsewhere."""
        return Posed(*(np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(self, other, strict=True)))


class Limits(NamedTuple):
    """What finger angles may be, and how a search keeps to it."""

    low: np.ndarray  # (15, 3) radians
    high: np.ndarray  # (15, 3) radians

    def held(self, posed: Posed, gradient: np.ndarray) -> np.ndarray:
        """(B, P) whether a parameter is an angle at its limit that a step against the (B, P) gradient would take
        beyond it; the parameters are the 61 and any that follow them."""
        uphill, held = gradient[:, FINGERS].reshape(-1, 15, 3), np.zeros(gradient.shape, bool)
        stuck = (posed.angles <= self.low) & (uphill > 0) | (posed.angles >= self.high) & (uphill < 0)
        held[:, FINGERS] = stuck.reshape(-1, 45)
        return held

    def moved(self, posed: Posed, step: np.ndarray) -> Posed:
        """The hands after a (B, P) step, their angles within the limits."""
        turn = Rotation.from_rotvec(step[:, ROOT]).as_matrix()
        angles = posed.angles + step[:, FINGERS].reshape(-1, 15, 3)
        shape, place = posed.shape + step[:, SHAPE], posed.place_m + step[:, PLACE]
        return Posed(turn @ posed.root, angles.clip(self.low, self.high), shape, place)


class KeypointHand:
    """A hand model reduced to its 21 joints: exact, and with derivatives.

    A joint is a weighted sum of skinned vertices, so of points that ride on the 16 bones.
    """

    def __init__(self, hand: HandModel) -> None:
        """Raises ValueError for a model whose vertices depend on the pose (MANO)."""
        if hand.posedirs is not None:
            raise ValueError("fits need a hand without pose-dependent corrections, such as the bundled one")
        order = np.argsort(hand.level_order.numpy())
        regressor, weights = hand.keypoint_regressor.double().numpy(), hand.weights.double().numpy()[:, order]
        template, shapes = hand.template.double().numpy(), hand.shapedirs.double().numpy().reshape(10, -1, 3)
        self.joints = hand.joint_template.double().numpy()[order]
        self.joint_shapes = hand.joint_shapedirs.double().numpy().reshape(10, 16, 3)[:, order]
        self.share = regressor @ weights  # (21, 16) of each joint that rides on each bone
        riding = regressor[:, None, :] * weights.T  # (21, 16, V)
        self.points = riding @ template - self.share[..., None] * self.joints
        self.point_shapes = riding @ shapes[:, None] - self.share[..., None] * self.joint_shapes[:, None]
        self.rest_joints_m = regressor @ template  # (21, 3)
        self.frames = anatomy.joint_frames(self.rest_joints_m)
        self.moves = _subtrees()

    def rotations(self, posed: Posed) -> np.ndarray:
        """(B, 16, 3, 3) relative to the parent, the first to the camera."""
        fingers = anatomy.rotations_from_angles(np.degrees(posed.angles), self.frames)
        return np.concatenate([posed.root[:, None], fingers], axis=1)

    def joints_m(self, posed: Posed) -> np.ndarray:
        """(B, 21, 3) in the camera's frame."""
        return self._pose(posed)[0] + posed.place_m[:, None]

    def joints_and_slopes(self, posed: Posed) -> tuple[np.ndarray, np.ndarray]:
        """`joints_m` and their (B, 21, 3, 61) derivatives by turns of the root, angles, shape and place."""
        joints, parts, turns, places = self._pose(posed)
        levers = np.einsum("ij,bkjc->bikc", self.moves, parts, optimize=True)
        levers -= (self.moves @ self.share.T)[..., None] * places[:, :, None]
        slopes = np.empty((*joints.shape, 61))
        by_angle = np.cross(self._axes(posed, turns)[:, :, None], levers[:, :, :, None])  # (B, 16, 21, 3 axes, 3)
        slopes[..., :48] = by_angle.transpose(0, 2, 4, 1, 3).reshape(*joints.shape, 48)
        slopes[..., SHAPE] = self._shape_slopes(turns)
        slopes[..., PLACE] = np.eye(3)
        return joints + posed.place_m[:, None], slopes

    def _pose(self, posed: Posed) -> tuple[np.ndarray, ...]:
        """(B, 21, 3) joints, what each bone gives to them, and the bones' (B, 16, 3, 3) turns and (B, 16, 3) places."""
        rest = self.joints + np.tensordot(posed.shape, self.joint_shapes, 1)
        points = self.points + np.tensordot(posed.shape, self.point_shapes, 1)
        turns, places = self.rotations(posed), rest.copy()
        for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
            bone = rest[:, joint] - rest[:, parent]
            places[:, joint] = places[:, parent] + (turns[:, parent] @ bone[..., None])[..., 0]
            turns[:, joint] = turns[:, parent] @ turns[:, joint]
        parts = self.share[..., None] * places[:, None] + np.einsum("bjcd,bkjd->bkjc", turns, points, optimize=True)
        return parts.sum(2), parts, turns, places

    def _axes(self, posed: Posed, turns: np.ndarray) -> np.ndarray:
        """(B, 16, 3, 3): the three axes of each joint, as rows, in the camera's frame."""
        axes = np.broadcast_to(np.eye(3), turns.shape).copy()
        before = turns[:, list(skeleton.PARENTS[1:])] @ self.frames
        flexion = posed.angles[..., :1]
        axes[:, 1:, 0] = before[..., 0]
        axes[:, 1:, 1] = before[..., 1] * np.cos(flexion) + before[..., 2] * np.sin(flexion)
        axes[:, 1:, 2] = (turns[:, 1:] @ self.frames)[..., 2]
        return axes

    def _shape_slopes(self, turns: np.ndarray) -> np.ndarray:
        """(B, 21, 3, 10) derivatives of the joints by the shape."""
        shapes = self.joint_shapes.transpose(1, 2, 0)  # (16, 3, 10)
        places = np.broadcast_to(shapes, (len(turns), 16, 3, 10)).copy()
        for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
            places[:, joint] = places[:, parent] + turns[:, parent] @ (shapes[joint] - shapes[parent])
        riding = np.einsum("bjcd,mkjd->bkcm", turns, self.point_shapes, optimize=True)
        return riding + np.einsum("kj,bjcm->bkcm", self.share, places, optimize=True)


def _subtrees() -> np.ndarray:
    """(16, 16): 1 where turning the first joint moves the second."""
    moves = np.eye(16)
    for joint, parent in reversed(list(enumerate(skeleton.PARENTS))[1:]):
        moves[parent] += moves[joint]
    return moves
