"""A hand as WebXR and OpenXR have it: a position, an orientation and a radius for each joint.

The frame is that of an OpenXR view: x right, y up, z towards the viewer, in metres; it is the camera's
frame turned by 180 degrees about x. At each joint -Z runs along the bone to the fingertip, +Y leaves the
back of the hand (of the thumb: its nail), and X = Y x Z: towards the little finger on a right hand,
towards the thumb on a left one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.xr import joints as xr
from handmesh.xr.radii import joint_radii_m

FROM_CAMERA = np.array([1.0, -1.0, -1.0])
"""The diagonal of the rotation from the camera's frame (y down, z forward) to the OpenXR view's."""


class PosedHand(Protocol):
    """What is needed of a `Hand`: arrays in the camera's frame."""

    @property
    def joints_m(self) -> np.ndarray: ...  # (21, 3) keypoint order

    @property
    def joints_px(self) -> np.ndarray: ...  # (21, 2)

    @property
    def vertices_m(self) -> np.ndarray: ...  # (V, 3)

    @property
    def pose(self) -> np.ndarray: ...  # (16, 3, 3) relative to the parent joint; the first to the camera

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


def to_webxr(hand: PosedHand) -> XRHand:
    """The 25 joints of WebXR Hand Input, in its order; see the module for the axes."""
    poses = to_openxr(hand)
    return XRHand(xr.WEBXR_JOINTS, *(array[1:] for array in poses[1:4]))


def to_openxr(hand: PosedHand, previous: XRHand | None = None, elapsed_s: float | None = None) -> XRHand:
    """The 26 joints of `XR_EXT_hand_tracking`, in the order of `XrHandJointEXT`.

    previous: what this function gave for the same hand `elapsed_s` seconds before; with it come the
    velocities, mean ones over that time. Raises ValueError where only one of the two is given, or
    where no time has passed.
    """
    points = np.asarray(hand.joints_m, np.float64)
    places = xr.PLACES @ points
    turns = _joint_axes(points, np.asarray(hand.pose, np.float64))
    still = XRHand(
        xr.OPENXR_JOINTS,
        (places * FROM_CAMERA).astype(np.float32),
        Rotation.from_matrix(turns).as_quat(canonical=True).astype(np.float32),
        joint_radii_m(points, hand.vertices_m),
    )
    if previous is None and elapsed_s is None:
        return still
    return _with_velocities(still, previous, elapsed_s)


def _joint_axes(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(26, 3, 3) whose columns are the axes X, Y, Z of each joint, in the view's frame."""
    back = (global_rotations(pose)[list(xr.TURNED_BY)] @ xr.BACKS[..., None])[..., 0] * FROM_CAMERA
    z = _unit(-(xr.BONES @ points) * FROM_CAMERA)
    y = _unit(back - (back * z).sum(1, keepdims=True) * z)
    return np.stack([np.cross(y, z), y, z], axis=2)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def global_rotations(pose: np.ndarray) -> np.ndarray:
    """(16, 3, 3) rotations relative to the parent joint, MANO order, to those relative to the camera."""
    turns = np.array(pose)
    for level in skeleton.LEVELS:
        parents = [skeleton.PARENTS[joint] for joint in level]
        turns[list(level)] = turns[parents] @ pose[list(level)]
    return turns


def _with_velocities(now: XRHand, previous: XRHand | None, elapsed_s: float | None) -> XRHand:
    if previous is None or elapsed_s is None:
        raise ValueError("velocities need both the previous poses and the seconds since them; got one of the two")
    if len(previous.names) != len(now.names):
        raise ValueError(f"the previous poses must be those of `to_openxr`, 26 joints; got {len(previous.names)}")
    if not elapsed_s > 0:
        raise ValueError(f"the time since the previous poses must be more than 0 seconds, got {elapsed_s}")
    turn = Rotation.from_quat(now.orientations_xyzw) * Rotation.from_quat(previous.orientations_xyzw).inv()
    return now._replace(
        linear_velocities_m_s=((now.positions_m - previous.positions_m) / elapsed_s).astype(np.float32),
        angular_velocities_rad_s=(turn.as_rotvec() / elapsed_s).astype(np.float32),
    )
