"""A hand as WebXR, OpenXR and Unity have it: a position, an orientation and a radius for each joint; and as
MediaPipe's landmarks.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.xr import joints as xr

# How far the skin is from each joint, measured on the hand's mesh.


SMALLEST_M, LARGEST_M = 0.004, 0.030

_NEAREST_FRACTION = 1 / 64
"""Of the mesh's vertices, as many as ring a finger's joint. Our joints lie closer to the back of a finger
than to its pad: the mean over the ring is a sphere that fits the finger, the nearest vertex alone is not."""

_TIP_INSIDE = 1 / 3
"""A tip lies on the skin; its thickness is measured this fraction of the last phalanx before it."""

_THUMB_M = {"metacarpal": 0.016, "proximal": 0.014, "distal": 0.013, "tip": 0.012}
_OTHERS_M = {
    "palm": 0.016,
    "wrist": 0.020,
    "metacarpal": 0.016,
    "proximal": 0.011,
    "intermediate": 0.0105,
    "distal": 0.010,
    "tip": 0.010,
}

DEFAULT_M: np.ndarray = np.array(
    [(_THUMB_M if joint.finger == "thumb" else _OTHERS_M)[joint.part] for joint in xr.JOINTS], np.float32
)
"""(26,) the radii of a hand without a mesh."""

_CENTRES = xr.POSITIONS - _TIP_INSIDE * xr.IS_TIP[:, None] * xr.BONES


def joint_radii_m(points_m: np.ndarray, vertices_m: np.ndarray) -> np.ndarray:
    """(26,) float32, in the order of OpenXR: the mean distance of the nearest 64th of the vertices, 4 to 30 mm.

    points_m: (22, 3), `joints.POINTS`; vertices_m: (V, 3) of the same hand, in the same frame. Without
    vertices it is `DEFAULT_M`.
    """
    if len(vertices_m) == 0:
        return DEFAULT_M.copy()
    middle = points_m[0]  # float32 keeps micrometres only near the origin
    centres = (_CENTRES @ (points_m - middle)).astype(np.float32)
    skin = (vertices_m - middle).astype(np.float32)
    squared = (centres * centres).sum(1)[:, None] - 2 * centres @ skin.T + (skin * skin).sum(1)
    count = max(1, round(len(skin) * _NEAREST_FRACTION))
    squared.partition(count - 1, axis=1)
    distances = np.sqrt(np.maximum(squared[:, :count], 0)).mean(1)
    return np.clip(distances, SMALLEST_M, LARGEST_M)


# A hand as WebXR and OpenXR have it: a position, an orientation and a radius for each joint.
#
# The frame is that of an OpenXR view: x right, y up, z towards the viewer, in metres; it is the camera's
# frame turned by 180 degrees about x. At each joint -Z runs along the bone to the fingertip, +Y leaves the
# back of the hand (of the thumb: its nail), and X = Y x Z: towards the little finger on a right hand,
# towards the thumb on a left one.


FROM_CAMERA = np.array([1.0, -1.0, -1.0])
"""The diagonal of the rotation from the camera's frame (y down, z forward) to the OpenXR view's."""


class PosedHand(Protocol):
    """What is needed of a `Hand`: arrays in the camera's frame."""

    @property
    def joints_m(self) -> np.ndarray:
        """(21, 3) in keypoint order."""

    @property
    def joints_px(self) -> np.ndarray:
        """(21, 2)."""

    @property
    def vertices_m(self) -> np.ndarray:
        """(V, 3)."""

    @property
    def pose(self) -> np.ndarray:
        """(16, 3, 3) relative to the parent joint; the first to the camera."""

    @property
    def side(self) -> Literal["left", "right"]: ...


class XRHand(NamedTuple):
    """N joints of one hand, in the frame of an OpenXR view; arrays are float32."""

    names: tuple[str, ...]
    positions_m: np.ndarray  # (N, 3)
    orientations_xyzw: np.ndarray  # (N, 4) unit quaternions, w not negative
    radii_m: np.ndarray  # (N,) from the joint to the skin about it, 4 to 30 mm
    linear_velocities_m_s: np.ndarray | None = None  # (N, 3); None: no hand before this one was given
    angular_velocities_rad_s: np.ndarray | None = None  # (N, 3) axis times angle a second, right-handed


def to_webxr(hand: PosedHand, radii_m: np.ndarray | None = None) -> XRHand:
    """The 25 joints of WebXR Hand Input, in its order; see the module for the axes.

    radii_m: (25,) what this function gave for the same hand before; None measures them on the mesh.
    """
    radii_m = None if radii_m is None else np.concatenate([DEFAULT_M[:1], radii_m])
    return XRHand(xr.WEBXR_JOINTS, *(array[1:] for array in _posed(hand, radii_m)))


def to_openxr(hand: PosedHand, previous: XRHand | None = None, elapsed_s: float | None = None) -> XRHand:
    """The 26 joints of `XR_EXT_hand_tracking`, in the order of `XrHandJointEXT`.

    previous: what this function gave for the same hand `elapsed_s` seconds before; with it come the
    velocities, mean ones over that time. Raises ValueError where only one of the two is given, or
    where no time has passed.
    """
    still = XRHand(xr.OPENXR_JOINTS, *_posed(hand, None))
    if previous is None and elapsed_s is None:
        return still
    return _with_velocities(still, previous, elapsed_s)


def _posed(hand: PosedHand, radii_m: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(26, 3) positions, (26, 4) orientations and (26,) radii of OpenXR's joints, float32, in the view's frame."""
    joints, pose = np.asarray(hand.joints_m, np.float64), np.asarray(hand.pose, np.float64)
    points = np.vstack([joints, _palmar(joints, pose[0])])
    radii_m = joint_radii_m(points, hand.vertices_m) if radii_m is None else radii_m
    axes = _joint_axes(points, pose)
    inwards = (xr.IS_TIP * radii_m)[:, None] * axes[:, :, 2]  # the last keypoints lie on the skin
    positions = xr.POSITIONS @ points * FROM_CAMERA + inwards
    orientations = Rotation.from_matrix(axes).as_quat(canonical=True)
    return positions.astype(np.float32), orientations.astype(np.float32), radii_m


def _palmar(joints: np.ndarray, wrist: np.ndarray) -> np.ndarray:
    """(3,) the last of `joints.POINTS`, by (21, 3) joints and the wrist's (3, 3) rotation."""
    bone = joints[skeleton.ROOT] - joints[skeleton.WRIST]
    back = wrist @ np.array(skeleton.BACK_OF_HAND)
    back = np.cross(bone, np.cross(back, bone))
    return joints[skeleton.WRIST] - back * np.linalg.norm(bone) / np.linalg.norm(back)


def _joint_axes(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(26, 3, 3) whose columns are the axes X, Y, Z of each joint, in the view's frame."""
    back = (global_rotations(pose)[list(xr.ROTATED_BY)] @ xr.BACKS[..., None])[..., 0] * FROM_CAMERA
    z = _unit(-(xr.BONES @ points) * FROM_CAMERA)
    y = _unit(back - (back * z).sum(1, keepdims=True) * z)
    return np.stack([np.cross(y, z), y, z], axis=2)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def global_rotations(pose: np.ndarray) -> np.ndarray:
    """(16, 3, 3) rotations relative to the parent joint, MANO order, to those relative to the camera."""
    rotations = np.array(pose)
    for level in skeleton.LEVELS:
        parents = [skeleton.PARENTS[joint] for joint in level]
        rotations[list(level)] = rotations[parents] @ pose[list(level)]
    return rotations


def _with_velocities(now: XRHand, previous: XRHand | None, elapsed_s: float | None) -> XRHand:
    if previous is None or elapsed_s is None:
        raise ValueError("velocities need both the previous poses and the seconds since them; got one of the two")
    if len(previous.names) != len(now.names):
        raise ValueError(f"the previous poses must be those of `to_openxr`, 26 joints; got {len(previous.names)}")
    if not elapsed_s > 0:
        raise ValueError(f"the time since the previous poses must be more than 0 seconds, got {elapsed_s}")
    rotation = Rotation.from_quat(now.orientations_xyzw) * Rotation.from_quat(previous.orientations_xyzw).inv()
    return now._replace(
        linear_velocities_m_s=((now.positions_m - previous.positions_m) / elapsed_s).astype(np.float32),
        angular_velocities_rad_s=(rotation.as_rotvec() / elapsed_s).astype(np.float32),
    )


# Unity's XR Hands: the same joints, wrist before palm, in Unity's left-handed frame.


_POLAR = np.array([1.0, 1.0, -1.0], np.float32)  # z is turned round
_AXIAL = -_POLAR  # an axis of rotation is mirrored the other way
_QUATERNION = np.append(_AXIAL, np.float32(1))


def to_unity(hand: XRHand) -> XRHand:
    """The 26 joints of `to_openxr` in the order of `XRHandJointID` and in Unity's frame: x right, y up, z forward.

    At each joint +Z now runs along the bone to the fingertip, +Y still leaves the back of the hand. This
    is what Unity's OpenXR plug-in does: z of positions and x, y of quaternions change sign. Raises
    ValueError for a hand that is not in OpenXR's order.
    """
    if hand.names != xr.OPENXR_JOINTS:
        raise ValueError(f"expected the 26 joints of to_openxr, got {len(hand.names)} that begin with {hand.names[0]}")
    order = list(xr.UNITY_ORDER)
    linear, angular = hand.linear_velocities_m_s, hand.angular_velocities_rad_s
    return XRHand(
        xr.UNITY_JOINTS,
        hand.positions_m[order] * _POLAR,
        hand.orientations_xyzw[order] * _QUATERNION,
        hand.radii_m[order],
        None if linear is None else linear[order] * _POLAR,
        None if angular is None else angular[order] * _AXIAL,
    )


# A hand as MediaPipe's Hand Landmarker gives it, for programs written for that.
#
# What differs: z in the image is that of perspective, not of a network's guess; world landmarks are in
# the tracker's metres and about the mean of the 21 joints; `handedness` is the subject's own hand, so
# never flip the image beforehand.


_THUMB = ("THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP")
_FINGERS = ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")

MEDIAPIPE_LANDMARKS: tuple[str, ...] = (
    "WRIST",
    *_THUMB,
    *(f"{finger}_{part}" for finger in _FINGERS for part in ("MCP", "PIP", "DIP", "TIP")),
)
"""The names of `HandLandmark`; `skeleton.KEYPOINTS` in other words."""


class MediaPipeHand(NamedTuple):
    """One hand of a `HandLandmarkerResult`, as arrays."""

    landmarks: np.ndarray  # (21, 3) float32: x, y 0..1 of the image; z from the wrist's depth, less is nearer
    world_landmarks_m: np.ndarray  # (21, 3) float32: x right, y down, z away, about the hand's centre
    handedness: str  # 'Left' | 'Right': the subject's own hand


def to_mediapipe(hand: PosedHand, width: int, height: int) -> MediaPipeHand:
    """The 21 landmarks of a hand that was seen in an image of `width` x `height` pixels.

    z in the image is the depth beyond the wrist's in the unit of x: metres, times the pixels that a
    metre at the wrist takes, over the image's width. Raises ValueError for an image without pixels.
    """
    if width < 1 or height < 1:
        raise ValueError(f"the image must have a width and a height of 1 pixel or more, got {width} x {height}")
    joints_m, joints_px = np.asarray(hand.joints_m, np.float64), np.asarray(hand.joints_px, np.float64)
    landmarks = np.empty((len(joints_m), 3), np.float32)
    landmarks[:, :2] = (joints_px + 0.5) / (width, height)  # our (0, 0) is the middle of the first pixel
    depth = joints_m[:, 2] - joints_m[skeleton.WRIST, 2]
    landmarks[:, 2] = depth * _px_per_metre(joints_m, joints_px) / width
    world = (joints_m - joints_m.mean(0)).astype(np.float32)
    return MediaPipeHand(landmarks, world, hand.side.title())


def _px_per_metre(joints_m: np.ndarray, joints_px: np.ndarray) -> float:
    """Pixels of a metre at the wrist's depth: the focal length, which the pixels tell, over that depth."""
    rays = joints_m[:, :2] / joints_m[:, 2:]
    rays, pixels = rays - rays.mean(0), joints_px - joints_px.mean(0)
    focal = (rays * pixels).sum() / max((rays * rays).sum(), 1e-12)
    return float(focal / joints_m[skeleton.WRIST, 2])
