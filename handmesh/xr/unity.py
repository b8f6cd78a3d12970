"""Unity's XR Hands: the same joints, wrist before palm, in Unity's left-handed frame."""

from __future__ import annotations

import numpy as np

from handmesh.xr import joints as xr
from handmesh.xr.poses import XRHand

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
