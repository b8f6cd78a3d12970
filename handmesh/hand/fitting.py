"""Fits the posed hand to keypoints: a hand reduced to its joints, and a Levenberg-Marquardt solver for many hands
at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.hand import anatomy
from handmesh.hand.model import HandModel

# A hand model reduced to its 21 joints, with the derivatives that fitting needs. NumPy, float64.


ROOT, FINGERS, SHAPE, POSITION = slice(0, 3), slice(3, 48), slice(48, 58), slice(58, 61)
"""Where a hand's parameters stand among the 61: rotations of the root, finger angles, shape and position."""


class Posed(NamedTuple):
    """The parameters of B hands."""

    root: np.ndarray  # (B, 3, 3) to the camera
    angles: np.ndarray  # (B, 15, 3) radians
    shape: np.ndarray  # (B, 10)
    position_m: np.ndarray  # (B, 3) from the model's frame to the camera's

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
        rotation = Rotation.from_rotvec(step[:, ROOT]).as_matrix()
        angles = posed.angles + step[:, FINGERS].reshape(-1, 15, 3)
        shape, position = posed.shape + step[:, SHAPE], posed.position_m + step[:, POSITION]
        return Posed(rotation @ posed.root, angles.clip(self.low, self.high), shape, position)


class KeypointHand:
    """A hand model reduced to its 21 joints: exact, and with derivatives.

    A joint is a weighted sum of skinned vertices, so of points that ride on the 16 bones.
    """

    def __init__(self, hand: HandModel) -> None:
        """Raises ValueError for a model whose vertices depend on the pose (MANO)."""
        if hand.posedirs is not None:
            raise ValueError("fits need a hand without pose-dependent corrections, such as the bundled one")
        order = np.argsort(hand.level_order.numpy())
        regressor, weights = hand.keypoint_regressor.double().numpy(), hand.weights.double().numpy()[order].T
        template, shapes = hand.template.double().numpy(), hand.shapedirs.double().numpy().reshape(10, -1, 3)
        self.joints = hand.joint_template.double().numpy()[order]
        self.joint_shapes = hand.joint_shapedirs.double().numpy().reshape(10, 16, 3)[:, order]
        self.weight = regressor @ weights  # (21, 16) of each joint that rides on each bone
        riding = regressor[:, None, :] * weights.T  # (21, 16, V)
        self.points = riding @ template - self.weight[..., None] * self.joints
        self.point_shapes = riding @ shapes[:, None] - self.weight[..., None] * self.joint_shapes[:, None]
        self.rest_joints_m = regressor @ template  # (21, 3)
        self.frames = anatomy.joint_frames(self.rest_joints_m)
        self.moves = _subtrees()

    def rotations(self, posed: Posed) -> np.ndarray:
        """(B, 16, 3, 3) relative to the parent, the first to the camera."""
        fingers = anatomy.rotations_from_angles(np.degrees(posed.angles), self.frames)
        return np.concatenate([posed.root[:, None], fingers], axis=1)

    def joints_m(self, posed: Posed) -> np.ndarray:
        """(B, 21, 3) in the camera's frame."""
        return self._pose(posed)[0] + posed.position_m[:, None]

    def joints_and_slopes(self, posed: Posed) -> tuple[np.ndarray, np.ndarray]:
        """`joints_m` and their (B, 21, 3, 61) derivatives by rotations of the root, angles, shape and position."""
        joints, parts, global_rotations, global_positions = self._pose(posed)
        levers = np.einsum("ij,bkjc->bikc", self.moves, parts, optimize=True)
        levers -= (self.moves @ self.weight.T)[..., None] * global_positions[:, :, None]
        slopes = np.empty((*joints.shape, 61))
        by_angle = np.cross(
            self._axes(posed, global_rotations)[:, :, None], levers[:, :, :, None]
        )  # (B, 16, 21, 3 axes, 3)
        slopes[..., :48] = by_angle.transpose(0, 2, 4, 1, 3).reshape(*joints.shape, 48)
        slopes[..., SHAPE] = self._shape_slopes(global_rotations)
        slopes[..., POSITION] = np.eye(3)
        return joints + posed.position_m[:, None], slopes

    def _pose(self, posed: Posed) -> tuple[np.ndarray, ...]:
        """(B, 21, 3) joints, what each bone gives to them, and the bones' (B, 16, 3, 3) turns and (B, 16, 3) places."""
        rest = self.joints + np.tensordot(posed.shape, self.joint_shapes, 1)
        points = self.points + np.tensordot(posed.shape, self.point_shapes, 1)
        global_rotations, global_positions = self.rotations(posed), rest.copy()
        for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
            bone = rest[:, joint] - rest[:, parent]
            global_positions[:, joint] = (
                global_positions[:, parent] + (global_rotations[:, parent] @ bone[..., None])[..., 0]
            )
            global_rotations[:, joint] = global_rotations[:, parent] @ global_rotations[:, joint]
        parts = self.weight[..., None] * global_positions[:, None] + np.einsum(
            "bjcd,bkjd->bkjc", global_rotations, points, optimize=True
        )
        return parts.sum(2), parts, global_rotations, global_positions

    def _axes(self, posed: Posed, global_rotations: np.ndarray) -> np.ndarray:
        """(B, 16, 3, 3): the three axes of each joint, as rows, in the camera's frame."""
        axes = np.broadcast_to(np.eye(3), global_rotations.shape).copy()
        before = global_rotations[:, list(skeleton.PARENTS[1:])] @ self.frames
        flexion = posed.angles[..., :1]
        axes[:, 1:, 0] = before[..., 0]
        axes[:, 1:, 1] = before[..., 1] * np.cos(flexion) + before[..., 2] * np.sin(flexion)
        axes[:, 1:, 2] = (global_rotations[:, 1:] @ self.frames)[..., 2]
        return axes

    def _shape_slopes(self, global_rotations: np.ndarray) -> np.ndarray:
        """(B, 21, 3, 10) derivatives of the joints by the shape."""
        shapes = self.joint_shapes.transpose(1, 2, 0)  # (16, 3, 10)
        global_positions = np.broadcast_to(shapes, (len(global_rotations), 16, 3, 10)).copy()
        for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
            global_positions[:, joint] = global_positions[:, parent] + global_rotations[:, parent] @ (
                shapes[joint] - shapes[parent]
            )
        riding = np.einsum("bjcd,mkjd->bkcm", global_rotations, self.point_shapes, optimize=True)
        return riding + np.einsum("kj,bjcm->bkcm", self.weight, global_positions, optimize=True)


def _subtrees() -> np.ndarray:
    """(16, 16): 1 where turning the first joint moves the second."""
    moves = np.eye(16)
    for joint, parent in reversed(list(enumerate(skeleton.PARENTS))[1:]):
        moves[parent] += moves[joint]
    return moves


# Fitting the posed hand to labelled joints: rotations, shape and position that explain them, for many hands at once.
#
# Levenberg and Marquardt's method with analytic derivatives, in NumPy. Fingers turn by their anatomical
# angles (see `hand.anatomy`), which never leave their limits. Everything here is of right hands.


NEAREST_M = 0.03
"""No joint is fitted nearer to the camera than this."""

THUMB_BASE = skeleton.KEYPOINTS.index("thumb1")


@dataclass(frozen=True)
class FitConfig:
    """How far each kind of evidence is believed, as standard deviations, and how long to search."""

    joints_2d: float = 0.02
    """Of labelled joints in the image, in sides of the tight box."""
    weak_3d_m: float = 0.02
    """Of weak 3D joints in space, metres, after scaling and centring."""
    pose_deg: float = 30.0
    """Of each finger angle, about where the search starts."""
    shape: float = 1.0
    thumb_base: float = 0.1
    """Weight of the thumb's base, whose position is a matter of convention."""
    outlier: float = 2.0
    """From so many deviations on, an error counts linearly (Huber)."""
    slack: float = 0.15
    """Fraction of its range by which each finger angle may go beyond the limits of the synthetic poses."""
    iterations: int = 16


class Evidence(NamedTuple):
    """What is known of B right hands."""

    joints_px: np.ndarray  # (B, 21, 2)
    side_px: np.ndarray  # (B,) the longer side of the tight box
    weak_3d_m: np.ndarray  # (B, 21, 3) in the camera's axes, up to scale and position
    focal_px: np.ndarray  # (B,)
    centre_px: np.ndarray  # (B, 2) the principal point


def drawn(joints_m: np.ndarray, evidence: Evidence) -> np.ndarray:
    """(B, 21, 2) pixels at which the cameras see (B, 21, 3) joints."""
    return joints_m[..., :2] / joints_m[..., 2:] * evidence.focal_px[:, None, None] + evidence.centre_px[:, None]


class Fitter:
    """Finds the hands that explain labels."""

    def __init__(self, hand: HandModel, config: FitConfig | None = None) -> None:
        """Raises ValueError where `hand` is MANO; see `KeypointHand`."""
        self.hand, self.config = KeypointHand(hand), config or FitConfig()
        low, high = np.radians(anatomy.limits_deg())
        slack = self.config.slack * (high - low)
        self.limits = Limits(low - slack, high + slack)
        self._reliability = np.ones((21, 1))
        self._reliability[THUMB_BASE] = self.config.thumb_base

    def start(self, rotations: np.ndarray, shape: np.ndarray, root_m: np.ndarray) -> Posed:
        """Parameters within the limits.

        rotations: (B, 16, 3, 3), the first to the camera; shape: (B, 10); root_m: (B, 3) the root joint's position.
        """
        angles = np.radians(anatomy.angles_from_rotations(rotations[:, 1:], self.hand.frames))
        posed = Posed(rotations[:, 0], angles.clip(*self.limits), shape, np.zeros_like(root_m))
        return posed._replace(position_m=root_m - self.hand.joints_m(posed)[:, skeleton.ROOT])

    def fit(self, evidence: Evidence, start: Posed) -> tuple[Posed, np.ndarray]:
        """The best parameters near `start`, and their (B,) costs; these do not count the way from the start."""
        posed, damping = start, np.full(len(start.root), 1e-2)
        cost = self._cost(evidence, posed, start)
        for _ in range(self.config.iterations):
            moved = self.limits.moved(posed, self._step(evidence, posed, start, damping))
            new_cost = self._cost(evidence, moved, start)
            better = new_cost < cost
            posed, cost = moved.take(better, posed), np.where(better, new_cost, cost)
            damping = np.where(better, damping / 3, damping * 4).clip(1e-6, 1e6)
        return posed, self._cost(evidence, posed, posed)

    def weak_3d_errors_m(self, evidence: Evidence, posed: Posed) -> np.ndarray:
        """(B,) mean distances to the weak 3D joints, which are scaled and moved, not turned."""
        off = self._off_weak_3d(evidence, self.hand.joints_m(posed))
        return np.linalg.norm(off, axis=-1).mean(1) * self.config.weak_3d_m

    def _cost(self, evidence: Evidence, posed: Posed, start: Posed) -> np.ndarray:
        joints, limit = self.hand.joints_m(posed), self.config.outlier
        errors = np.stack([self._sizes(off(evidence, joints)) for off in (self._off_image, self._off_weak_3d)])
        huber = np.where(errors < limit, errors**2, limit * (2 * errors - limit))
        prior, weights = self._prior(posed, start)
        cost = (self._reliability * huber).sum((0, 2, 3)) + (weights * prior**2).sum(1)
        return np.where(joints[..., 2].min(1) > NEAREST_M, cost, np.inf)

    @staticmethod
    def _sizes(off: np.ndarray) -> np.ndarray:
        return np.linalg.norm(off, axis=-1, keepdims=True)

    def _off_image(self, evidence: Evidence, joints: np.ndarray) -> np.ndarray:
        """(B, 21, 2) in standard deviations."""
        deviation_px = self.config.joints_2d * evidence.side_px[:, None, None]
        return (drawn(joints, evidence) - evidence.joints_px) / deviation_px

    def _off_weak_3d(self, evidence: Evidence, joints: np.ndarray) -> np.ndarray:
        """(B, 21, 3) in standard deviations, from the weak 3D joints at the fitted hand's size and position."""
        own, weak_3d = self._centred(joints), self._centred(evidence.weak_3d_m)
        product = (self._reliability * own * weak_3d).sum((1, 2))
        scale = product / (self._reliability * weak_3d**2).sum((1, 2)).clip(1e-12)
        return (own - scale.clip(0.5, 2.0)[:, None, None] * weak_3d) / self.config.weak_3d_m

    def _centred(self, points: np.ndarray) -> np.ndarray:
        weight = self._reliability[:, 0] / self._reliability.sum()
        return points - np.tensordot(points, weight, ((1,), (0,)))[:, None]

    def _prior(self, posed: Posed, start: Posed) -> tuple[np.ndarray, np.ndarray]:
        """(B, 61) how far the parameters are from where they are expected, and the (61,) weights of the squares."""
        off, weights = np.zeros((len(posed.root), 61)), np.zeros(61)
        off[:, FINGERS], off[:, SHAPE] = (posed.angles - start.angles).reshape(-1, 45), posed.shape
        weights[FINGERS], weights[SHAPE] = np.radians(self.config.pose_deg) ** -2, self.config.shape**-2
        return off, weights

    def _step(self, evidence: Evidence, posed: Posed, start: Posed, damping: np.ndarray) -> np.ndarray:
        """(B, 61) the damped Gauss-Newton step; angles at a limit that would go beyond it stay."""
        normal, gradient = self._normal_equations(evidence, posed, start)
        held = self.limits.held(posed, gradient)
        normal[held[:, :, None] | held[:, None, :]] = 0.0
        diagonal = np.einsum("bii->bi", normal)
        diagonal += damping[:, None] * diagonal + held
        return -np.linalg.solve(normal, np.where(held, 0.0, gradient)[..., None])[..., 0]

    def _normal_equations(self, evidence: Evidence, posed: Posed, start: Posed) -> tuple[np.ndarray, np.ndarray]:
        """(B, 61, 61) and (B, 61), with outlying joints weighed down (iteratively reweighted least squares)."""
        joints, slopes = self.hand.joints_and_slopes(posed)
        prior, weights = self._prior(posed, start)
        normal, gradient = np.tile(np.diag(weights), (len(prior), 1, 1)), prior * weights
        for off, slope in (
            (self._off_image(evidence, joints), self._image_slopes(evidence, joints, slopes)),
            (self._off_weak_3d(evidence, joints), self._centred(slopes) / self.config.weak_3d_m),
        ):
            reliability = self._reliability * np.minimum(1.0, self.config.outlier / self._sizes(off).clip(1e-9))
            weighted = (slope * reliability[..., None]).reshape(len(prior), -1, 61).transpose(0, 2, 1)
            normal += weighted @ slope.reshape(len(prior), -1, 61)
            gradient += (weighted @ off.reshape(len(prior), -1, 1))[..., 0]
        return normal, gradient

    def _image_slopes(self, evidence: Evidence, joints: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """(B, 21, 2, 61) derivatives of `_off_image`."""
        depth = joints[..., 2, None, None].clip(NEAREST_M)
        scale = evidence.focal_px / (self.config.joints_2d * evidence.side_px)
        across = slopes[:, :, :2] - joints[..., :2, None] / depth * slopes[:, :, 2:]
        return across * (scale[:, None, None, None] / depth)
