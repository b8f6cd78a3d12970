"""Poses in which the pad of the thumb meets the pad of a finger, found once by search."""

from __future__ import annotations

import numpy as np

from handmesh.data import anatomy

_CANDIDATES = 3000
_KEPT = 256
_PAD_BACK_M, _PAD_DOWN_M = 0.009, 0.008  # from the tip: towards the wrist, and towards the pad's skin
_TOUCH_M = 0.003

_THUMB_LOW = np.array([[-5.0, -15, 0], [-10, -6, -5], [-15, -1, -1]])
_THUMB_HIGH = np.array([[42.0, 28, 35], [50, 8, 5], [50, 1, 1]])
_FINGER_LOW = np.array([[10.0, -10, -4], [10, -1, -1], [0, -1, -1]])
_FINGER_HIGH = np.array([[76.0, 14, 8], [75, 1, 1], [45, 1, 1]])


def build(joints_m: np.ndarray) -> list[np.ndarray]:
    """For index, middle, ring and little finger, (N, 2, 3, 3) angles in degrees of the thumb and that finger.

    joints_m: (21, 3) rest joints in keypoint order. The search draws the same candidates each time.
    """
    rng = np.random.default_rng(0)
    angles = np.empty((_CANDIDATES, 5, 3, 3))
    angles[:, 0] = rng.uniform(_THUMB_LOW, _THUMB_HIGH, (_CANDIDATES, 3, 3))
    angles[:, 1:] = rng.uniform(_FINGER_LOW, _FINGER_HIGH, (_CANDIDATES, 4, 3, 3))
    angles[:, 1:, 2, 0] = 0.5 * angles[:, 1:, 1, 0] * rng.uniform(0.3, 1.1, (_CANDIDATES, 4))
    angles = np.clip(angles, *(limit[anatomy.FINGER_JOINTS] for limit in anatomy.limits_deg()))
    pads, palmward = _pads(angles, joints_m)
    return [_meeting(angles, pads, palmward, finger) for finger in range(1, 5)]


def _pads(angles: np.ndarray, joints_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 5, 3) points on the skin of the fingers' pads and the (N, 5, 3) directions in which they face."""
    frames = anatomy.joint_frames(joints_m)
    flat = np.empty((len(angles), 15, 3))
    flat[:, anatomy.FINGER_JOINTS] = angles
    points, turns = anatomy.pose_joints(anatomy.rotations_from_angles(flat, frames), joints_m)
    last = turns[:, :, 2] @ frames[anatomy.FINGER_JOINTS[:, 2]]
    palmward, along = -last[..., anatomy.ABDUCTION], last[..., anatomy.TWIST]
    return points[:, :, 3] - _PAD_BACK_M * along + _PAD_DOWN_M * palmward, palmward


def _meeting(angles: np.ndarray, pads: np.ndarray, palmward: np.ndarray, finger: int) -> np.ndarray:
    """Pairs of candidates, each used once, whose pads touch and face each other, the closest first."""
    thumb, other = pads[:, 0], pads[:, finger]
    squared = (thumb**2).sum(1)[:, None] + (other**2).sum(1) - 2 * thumb @ other.T
    distance = np.sqrt(np.maximum(squared, 0))
    cost = distance + 0.004 * (1 + palmward[:, 0] @ palmward[:, finger].T)
    partner = cost.argmin(1)
    rows = np.flatnonzero(distance[np.arange(len(cost)), partner] < _TOUCH_M)
    rows = rows[np.argsort(cost[rows, partner[rows]], kind="stable")][:_KEPT]
    if len(rows) == 0:
        raise ValueError("on this skeleton the thumb reaches no finger; are the rest joints in the canonical frame?")
    return np.stack([angles[rows, 0], angles[partner[rows], finger]], axis=1)
