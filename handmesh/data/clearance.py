"""Keeps the thumb out of the fingers and the palm: a thumb that would run into them is lifted until it touches.

How far fingers run into one another is measured, too.
"""

from __future__ import annotations

import numpy as np

from handmesh import skeleton
from handmesh.data import anatomy

_LIFTED_DEG = np.array([-12.0, 14.0, 8.0])
"""The thumb's first joint when it is well away from everything; clashes are resolved on the way there."""
_STEPS = np.linspace(0, 1, 8)
_SQUEEZE_M = 0.002  # flesh yields this much

# Each bone's flesh is a capsule, its axis moved from the joints towards the palm. Measured on the open hand.
_DOWN_M = np.array([[0, 0.0030, 0.0045]] + [[0.0055, 0.0050, 0.0035]] * 4)
_RADIUS_M = np.array([[0, 0.0105, 0.0090], *[[0.0100, 0.0092, 0.0075]] * 3, [0.0083, 0.0075, 0.0062]])
_PALM_DOWN_M, _PALM_RADIUS_M, _PALM_START = 0.003, 0.017, 0.35
_CAPSULE_RADIUS_M = np.append(_RADIUS_M[1:].ravel(), np.full(4, _PALM_RADIUS_M))

_BONE, _SHARE = np.array([1, 2, 2, 2]), np.array([0.5, 0.0, 0.4, 0.75])
"""The tested points of the thumb: on which bone, and at what share of its length."""
_REACH_M = _RADIUS_M[0, _BONE][:, None] + _CAPSULE_RADIUS_M
_REACH_M[0, -4:] = -1  # the thumb's own base lies beside the palm by right

_FINGER_SHARES = np.array([0.5, 1.0])
"""The tested points of a finger's bone, by shares of its length."""
_FINGER_RADIUS_M, _FINGER_OF = _RADIUS_M[1:].ravel(), np.repeat(np.arange(4), 3)
_FINGER_REACH_M = np.where(
    np.equal.outer(_FINGER_OF, _FINGER_OF), -1.0, np.add.outer(_FINGER_RADIUS_M, _FINGER_RADIUS_M)
).repeat(len(_FINGER_SHARES), axis=0)


class Clearance:
    """Moves thumbs out of the way, for a hand with the given (21, 3) rest joints."""

    def __init__(self, joints_m: np.ndarray) -> None:
        self.joints_m = joints_m
        self.frames = anatomy.joint_frames(joints_m)
        wrist, knuckles = joints_m[skeleton.WRIST], joints_m[5::4]
        down = np.array([0, -_PALM_DOWN_M, 0])
        self._palm = np.stack([wrist + _PALM_START * (knuckles - wrist), knuckles]) + down

    def lift_thumb(self, fingers_deg: np.ndarray) -> np.ndarray:
        """(5, 3, 3) angles by `skeleton.FINGERS`, with the thumb opened as little as keeps it free."""
        candidates = np.repeat(fingers_deg[None], len(_STEPS), axis=0)
        candidates[:, 0, 0] += _STEPS[:, None] * (_LIFTED_DEG - fingers_deg[0, 0])
        share = _first_free(self.depth(candidates))
        lifted = fingers_deg.copy()
        lifted[0, 0] += share * (_LIFTED_DEG - fingers_deg[0, 0])
        return lifted

    def depth(self, fingers_deg: np.ndarray) -> np.ndarray:
        """(N,) metres by which the thumb runs into the rest; (N, 5, 3, 3) angles of hands that differ
        in nothing but the thumb."""
        starts, ends = self._bones(fingers_deg)
        thumb = starts[:, 0, _BONE] + _SHARE[:, None] * (ends - starts)[:, 0, _BONE]
        start = np.concatenate([starts[0, 1:].reshape(-1, 3), self._palm[0]])
        end = np.concatenate([ends[0, 1:].reshape(-1, 3), self._palm[1]])
        return (_REACH_M - _distance(thumb, start, end)).max((1, 2))

    def fingers_depth(self, fingers_deg: np.ndarray) -> float:
        """Metres by which the four fingers run into one another; (5, 3, 3) angles of one hand."""
        starts, ends = (points[0, 1:].reshape(-1, 3) for points in self._bones(fingers_deg[None]))
        points = starts[:, None] + _FINGER_SHARES[:, None] * (ends - starts)[:, None]
        return float((_FINGER_REACH_M - _distance(points.reshape(-1, 3), starts, ends)).max())

    def _bones(self, fingers_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 5, 3, 3) where the axes of the fingers' capsules begin and end."""
        angles = np.empty((len(fingers_deg), 15, 3))
        angles[:, anatomy.FINGER_JOINTS] = fingers_deg
        points, turns = anatomy.pose_joints(anatomy.rotations_from_angles(angles, self.frames), self.joints_m)
        back = (turns @ self.frames[anatomy.FINGER_JOINTS])[..., anatomy.ABDUCTION]
        shift = -_DOWN_M[..., None] * back
        return points[:, :, :3] + shift, points[:, :, 1:] + shift


def _distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., S) distances of (..., 3) points from the segments from (S, 3) `start` to (S, 3) `end`."""
    span, from_start = end - start, points[..., None, :] - start
    along = np.clip((from_start * span).sum(-1) / (span * span).sum(-1), 0, 1)
    away = from_start - along[..., None] * span
    return np.sqrt((away * away).sum(-1))


def _first_free(depth: np.ndarray) -> float:
    """Where along the steps the depth first falls to the squeeze allowed; the shallowest step if nowhere."""
    free = np.flatnonzero(depth <= _SQUEEZE_M)
    if len(free) == 0:
        return float(_STEPS[depth.argmin()])
    k = int(free[0])
    if k == 0:
        return 0.0
    before = (_SQUEEZE_M - depth[k]) / (depth[k - 1] - depth[k])
    return float(_STEPS[k] - before * (_STEPS[k] - _STEPS[k - 1]))
