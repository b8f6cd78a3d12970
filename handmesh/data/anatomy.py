"""The hand's hinges: anatomical axes, joint limits and fast forward kinematics. NumPy and SciPy only.

Each of the 15 finger joints turns by three angles, in degrees, measured from the model's rest pose:

* *flexion*: positive towards the palm;
* *abduction*: positive towards the thumb's side; of the thumb, away from the palm;
* *twist*: about the bone, positive by the right-hand rule towards the tip.

They are the intrinsic Euler angles about the axes of the joint's frame, in that order.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton

JOINTS = skeleton.MANO_JOINTS[1:]
"""The 15 joints of a finger pose, in MANO's order."""

FLEXION, ABDUCTION, TWIST = range(3)

_LIMITS_DEG: dict[str, tuple[tuple[float, float], ...]] = {
    "thumb1": ((-30, 42), (-48, 30), (-15, 35)),
    "thumb2": ((-25, 55), (-12, 12), (-8, 8)),
    "thumb3": ((-25, 75), (-4, 4), (-4, 4)),
    "index1": ((-40, 78), (-14, 24), (-8, 8)),
    "middle1": ((-40, 80), (-14, 14), (-8, 8)),
    "ring1": ((-40, 80), (-20, 14), (-8, 8)),
    "little1": ((-40, 82), (-28, 14), (-10, 10)),
}
_MIDDLE_DEG = ((-15, 95), (-4, 4), (-4, 4))
_LAST_DEG = ((-14, 70), (-4, 4), (-4, 4))


@cache
def limits_deg() -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest angles, two (15, 3) arrays. The rest pose is relaxed: a straight
    finger stands at about (-15, -12, -3) degrees of flexion."""
    fallback = {"2": _MIDDLE_DEG, "3": _LAST_DEG}
    table = np.array([_LIMITS_DEG.get(name) or fallback[name[-1]] for name in JOINTS], dtype=np.float64)
    return table[..., 0], table[..., 1]


def joint_frames(joints_m: np.ndarray) -> np.ndarray:
    """(15, 3, 3) frames whose columns are each joint's axes of flexion, abduction and twist.

    joints_m: (21, 3) rest joints in keypoint order, in the open hand's canonical frame.
    """
    return np.stack([_frame(name, joints_m) for name in JOINTS])


def _frame(name: str, joints_m: np.ndarray) -> np.ndarray:
    start = skeleton.KEYPOINTS.index(name)
    bone = _unit(joints_m[start + 1] - joints_m[start])
    back = np.array(skeleton.THUMBNAIL if name.startswith("thumb") else skeleton.BACK_OF_HAND)
    back = _unit(back - (back @ bone) * bone)
    return np.stack([np.cross(back, bone), back, bone], axis=1)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def rotations_from_angles(angles_deg: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(..., 15, 3) angles to (..., 15, 3, 3) rotations relative to the parent joint."""
    angles = np.radians(angles_deg)
    (ca, cb, cc), (sa, sb, sc) = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    turned = np.empty((*angles.shape, 3))  # Rx Ry Rz in closed form: SciPy's call costs more than the product
    turned[..., 0, 0], turned[..., 0, 1], turned[..., 0, 2] = cb * cc, -cb * sc, sb
    turned[..., 1, 0], turned[..., 1, 1], turned[..., 1, 2] = ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb
    turned[..., 2, 0], turned[..., 2, 1], turned[..., 2, 2] = sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb
    return frames @ turned @ frames.transpose(0, 2, 1)


def angles_from_rotations(rotations: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The inverse of `rotations_from_angles`, for abduction within 90 degrees."""
    local = frames.transpose(0, 2, 1) @ rotations @ frames
    angles = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_euler("XYZ", degrees=True)
    return angles.reshape(*rotations.shape[:-1])


def pose_joints(rotations: np.ndarray, joints_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forward kinematics of the fingers about a wrist that stays.

    rotations: (..., 15, 3, 3) relative to the parent; joints_m: (21, 3) rest joints in keypoint
    order. Gives the (..., 5, 4, 3) posed points of each finger (`skeleton.FINGERS`, knuckle to tip)
    and the (..., 5, 3, 3, 3) rotations of its three bones in the model's frame.
    """
    local = rotations[..., FINGER_JOINTS, :, :]
    rest = joints_m[1:].reshape(5, 4, 3)
    turn, point = np.eye(3), np.broadcast_to(rest[:, 0], local[..., 0, 0].shape)
    turns, points = [], [point]
    for k in range(3):
        turn = turn @ local[..., k, :, :]
        point = point + (turn @ (rest[:, k + 1] - rest[:, k])[..., None])[..., 0]
        turns.append(turn)
        points.append(point)
    return np.stack(points, axis=-2), np.stack(turns, axis=-3)


FINGER_JOINTS = np.array([[JOINTS.index(f"{finger}{k}") for k in (1, 2, 3)] for finger in skeleton.FINGERS])
"""(5, 3) place in `JOINTS` of each finger's joints, by `skeleton.FINGERS`."""
