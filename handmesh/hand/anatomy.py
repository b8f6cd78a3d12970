"""The hand's anatomy: joint axes and limits, forward kinematics, thumb clearance, pinches. NumPy and SciPy only."""

from __future__ import annotations

from functools import cache

import numpy as np

from handmesh import skeleton

# The hand's hinges: anatomical axes, joint limits and fast forward kinematics. NumPy and SciPy only.
#
# Each of the 15 finger joints turns by three angles, in degrees, measured from the model's rest pose:
#
# * *flexion*: positive towards the palm;
# * *abduction*: positive towards the thumb's side; of the thumb, away from the palm;
# * *twist*: about the bone, positive by the right-hand rule towards the tip.
#
# They are the intrinsic Euler angles about the axes of the joint's frame, in that order.


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
    rotated = np.empty((*angles.shape, 3))  # Rx Ry Rz in closed form: SciPy's call costs more than the product
    rotated[..., 0, 0], rotated[..., 0, 1], rotated[..., 0, 2] = cb * cc, -cb * sc, sb
    rotated[..., 1, 0], rotated[..., 1, 1], rotated[..., 1, 2] = (
        ca * sc + sa * sb * cc,
        ca * cc - sa * sb * sc,
        -sa * cb,
    )
    rotated[..., 2, 0], rotated[..., 2, 1], rotated[..., 2, 2] = sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb
    return frames @ rotated @ frames.transpose(0, 2, 1)


def angles_from_rotations(rotations: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The inverse of `rotations_from_angles`, for abduction within 90 degrees."""
    from scipy.spatial.transform import Rotation  # a tracker, which never comes here, is spared its import

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
    rotation, point = np.eye(3), np.broadcast_to(rest[:, 0], local[..., 0, 0].shape)
    global_rotations, points = [], [point]
    for k in range(3):
        rotation = rotation @ local[..., k, :, :]
        point = point + (rotation @ (rest[:, k + 1] - rest[:, k])[..., None])[..., 0]
        global_rotations.append(rotation)
        points.append(point)
    return np.stack(points, axis=-2), np.stack(global_rotations, axis=-3)


FINGER_JOINTS = np.array([[JOINTS.index(f"{finger}{k}") for k in (1, 2, 3)] for finger in skeleton.FINGERS])
"""(5, 3) place in `JOINTS` of each finger's joints, by `skeleton.FINGERS`."""


# Poses in which the pad of the thumb meets the pad of a finger, found once by search.


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
    angles = np.clip(angles, *(limit[FINGER_JOINTS] for limit in limits_deg()))
    pads, palmward = _pads(angles, joints_m)
    return [_meeting(angles, pads, palmward, finger) for finger in range(1, 5)]


def _pads(angles: np.ndarray, joints_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 5, 3) points on the skin of the fingers' pads and the (N, 5, 3) directions in which they face."""
    frames = joint_frames(joints_m)
    flat = np.empty((len(angles), 15, 3))
    flat[:, FINGER_JOINTS] = angles
    points, global_rotations = pose_joints(rotations_from_angles(flat, frames), joints_m)
    last = global_rotations[:, :, 2] @ frames[FINGER_JOINTS[:, 2]]
    palmward, along = -last[..., ABDUCTION], last[..., TWIST]
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


# Keeps the thumb out of the fingers and the palm: a thumb that would run into them is lifted until it touches.
#
# How far fingers run into one another is measured, too.


_LIFTED_DEG = np.array([-12.0, 14.0, 8.0])
"""The thumb's first joint when it is well away from everything; clashes are resolved on the way there."""
_STEPS = np.linspace(0, 1, 8)
_SQUEEZE_M = 0.002  # flesh yields this much

# Each bone's flesh is a capsule, its axis moved from the joints towards the palm. Measured on the open hand.
_DOWN_M = np.array([[0, 0.0030, 0.0045]] + [[0.0055, 0.0050, 0.0035]] * 4)
_RADIUS_M = np.array([[0, 0.0105, 0.0090], *[[0.0100, 0.0092, 0.0075]] * 3, [0.0083, 0.0075, 0.0062]])
_PALM_DOWN_M, _PALM_RADIUS_M, _PALM_START = 0.003, 0.017, 0.35
_CAPSULE_RADIUS_M = np.append(_RADIUS_M[1:].ravel(), np.full(4, _PALM_RADIUS_M))

_BONE, _FRACTION = np.array([1, 2, 2, 2]), np.array([0.5, 0.0, 0.4, 0.75])
"""The tested points of the thumb: on which bone, and at what fraction of its length."""
_REACH_M = _RADIUS_M[0, _BONE][:, None] + _CAPSULE_RADIUS_M
_REACH_M[0, -4:] = -1  # the thumb's own base lies beside the palm by right

_FINGER_FRACTIONS = np.array([0.5, 1.0])
"""The tested points of a finger's bone, by fractions of its length."""
_FINGER_RADIUS_M, _FINGER_OF = _RADIUS_M[1:].ravel(), np.repeat(np.arange(4), 3)
_FINGER_REACH_M = np.where(
    np.equal.outer(_FINGER_OF, _FINGER_OF), -1.0, np.add.outer(_FINGER_RADIUS_M, _FINGER_RADIUS_M)
).repeat(len(_FINGER_FRACTIONS), axis=0)


class Clearance:
    """Moves thumbs out of the way, for a hand with the given (21, 3) rest joints."""

    def __init__(self, joints_m: np.ndarray) -> None:
        self.joints_m = joints_m
        self.frames = joint_frames(joints_m)
        wrist, knuckles = joints_m[skeleton.WRIST], joints_m[5::4]
        down = np.array([0, -_PALM_DOWN_M, 0])
        self._palm = np.stack([wrist + _PALM_START * (knuckles - wrist), knuckles]) + down

    def lift_thumb(self, fingers_deg: np.ndarray) -> np.ndarray:
        """(5, 3, 3) angles by `skeleton.FINGERS`, with the thumb opened as little as keeps it free."""
        candidates = np.repeat(fingers_deg[None], len(_STEPS), axis=0)
        candidates[:, 0, 0] += _STEPS[:, None] * (_LIFTED_DEG - fingers_deg[0, 0])
        fraction = _first_free(self.depth(candidates))
        lifted = fingers_deg.copy()
        lifted[0, 0] += fraction * (_LIFTED_DEG - fingers_deg[0, 0])
        return lifted

    def depth(self, fingers_deg: np.ndarray) -> np.ndarray:
        """(N,) metres by which the thumb runs into the rest; (N, 5, 3, 3) angles of hands that differ
        in nothing but the thumb."""
        starts, ends = self._bones(fingers_deg)
        thumb = starts[:, 0, _BONE] + _FRACTION[:, None] * (ends - starts)[:, 0, _BONE]
        start = np.concatenate([starts[0, 1:].reshape(-1, 3), self._palm[0]])
        end = np.concatenate([ends[0, 1:].reshape(-1, 3), self._palm[1]])
        return (_REACH_M - _distance(thumb, start, end)).max((1, 2))

    def fingers_depth(self, fingers_deg: np.ndarray) -> float:
        """Metres by which the four fingers run into one another; (5, 3, 3) angles of one hand."""
        starts, ends = (points[0, 1:].reshape(-1, 3) for points in self._bones(fingers_deg[None]))
        points = starts[:, None] + _FINGER_FRACTIONS[:, None] * (ends - starts)[:, None]
        return float((_FINGER_REACH_M - _distance(points.reshape(-1, 3), starts, ends)).max())

    def _bones(self, fingers_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 5, 3, 3) where the axes of the fingers' capsules begin and end."""
        angles = np.empty((len(fingers_deg), 15, 3))
        angles[:, FINGER_JOINTS] = fingers_deg
        points, global_rotations = pose_joints(rotations_from_angles(angles, self.frames), self.joints_m)
        back = (global_rotations @ self.frames[FINGER_JOINTS])[..., ABDUCTION]
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
