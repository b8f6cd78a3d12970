"""The joints that XR names, and where each of them is found on our 21: all derived from names.

OpenXR's 26 joints set the order here, palm and wrist first; WebXR has the same without the palm, and
Unity puts the wrist before the palm. Each joint, and each bone that leaves one, is a sum of weighted
keypoints: one matrix gives all positions, another all bones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from handmesh import skeleton

THUMB_PARTS = ("metacarpal", "proximal", "distal", "tip")
FINGER_PARTS = ("metacarpal", "proximal", "intermediate", "distal", "tip")


class Joint(NamedTuple):
    """A joint of OpenXR; palm and wrist belong to no finger."""

    finger: str
    part: str


JOINTS: tuple[Joint, ...] = (
    Joint("", "palm"),
    Joint("", "wrist"),
    *(Joint("thumb", part) for part in THUMB_PARTS),
    *(Joint(finger, part) for finger in skeleton.FINGERS[1:] for part in FINGER_PARTS),
)
"""In the order of `XrHandJointEXT`."""


def _webxr_name(joint: Joint) -> str:
    finger = {"": "", "thumb": "thumb", "little": "pinky-finger"}.get(joint.finger, f"{joint.finger}-finger")
    bone = "phalanx" if joint.part in ("proximal", "intermediate", "distal") else ""
    return "-".join(filter(None, (finger, bone, joint.part)))


OPENXR_JOINTS: tuple[str, ...] = tuple(
    "_".join(("XR_HAND_JOINT", *filter(None, joint), "EXT")).upper() for joint in JOINTS
)
"""The 26 names of `XrHandJointEXT`, in the order of their values."""

WEBXR_JOINTS: tuple[str, ...] = tuple(_webxr_name(joint) for joint in JOINTS[1:])
"""The 25 names of `XRHandJoint`, in the specification's order."""

WEBXR_PARENTS: tuple[int, ...] = tuple(
    -1 if joint.part == "wrist" else 0 if joint.part == "metacarpal" else index - 1
    for index, joint in enumerate(JOINTS[1:])
)
"""The parent of each joint of WebXR, in its order; the wrist's is -1."""

UNITY_ORDER: tuple[int, ...] = (1, 0, *range(2, len(JOINTS)))
"""`array[list(UNITY_ORDER)]` takes OpenXR's order to that of Unity's XR Hands."""

UNITY_JOINTS: tuple[str, ...] = tuple("".join(word.title() for word in JOINTS[k]) for k in UNITY_ORDER)
"""The 26 names of `XRHandJointID`, in the order of their values, which begin at 1."""

_METACARPAL_START = 0.25  # of the way from the wrist to the middle knuckle, as Monado places it
_METACARPAL_SPREAD = 0.6  # of the knuckles' distance from the middle one

_KEYPOINT_WEIGHTS = np.eye(len(skeleton.KEYPOINTS))


def keypoint_name(joint: Joint) -> str | None:
    """The keypoint that `joint` is; None for the palm and the emulated metacarpals, which are none."""
    if joint.part == "wrist":
        return "wrist"
    if joint.finger == "thumb":
        return f"thumb{THUMB_PARTS.index(joint.part) + 1}"
    knuckle = FINGER_PARTS.index(joint.part) if joint.finger else 0
    return f"{joint.finger}{knuckle}" if knuckle else None


WEBXR_OF_MANO: tuple[int, ...] = tuple(
    [keypoint_name(joint) for joint in JOINTS[1:]].index(name) for name in skeleton.MANO_JOINTS
)
"""The joints of WebXR that rotate, in MANO's order."""


def _keypoint(name: str) -> np.ndarray:
    return _KEYPOINT_WEIGHTS[skeleton.KEYPOINTS.index(name)]


def _position(joint: Joint) -> np.ndarray:
    """(21,) weights of the keypoints whose sum is the joint's position."""
    name = keypoint_name(joint)
    if name:
        return _keypoint(name)
    middle = _keypoint("middle1")
    start = _keypoint("wrist") + _METACARPAL_START * (middle - _keypoint("wrist"))
    if joint.part == "palm":
        return (start + middle) / 2
    return start + _METACARPAL_SPREAD * (_keypoint(f"{joint.finger}1") - middle)


def _bone(joint: Joint) -> np.ndarray:
    """(21,) weights of the keypoints whose sum is the bone towards the fingertip; a tip has its last phalanx's."""
    if not joint.finger:
        return _keypoint("middle1") - _keypoint("wrist")
    parts = THUMB_PARTS if joint.finger == "thumb" else FINGER_PARTS
    start = min(parts.index(joint.part), len(parts) - 2)
    return _position(Joint(joint.finger, parts[start + 1])) - _position(Joint(joint.finger, parts[start]))


def _rotated_by(joint: Joint) -> int:
    """The rotating joint, in MANO's order, that moves the bone."""
    name = keypoint_name(joint) or "wrist"
    return skeleton.MANO_JOINTS.index(name.replace("4", "3"))


POSITIONS: np.ndarray = np.stack([_position(joint) for joint in JOINTS])
"""(26, 21): `POSITIONS @ joints_m` are the joints."""

BONES: np.ndarray = np.stack([_bone(joint) for joint in JOINTS])
"""(26, 21): `BONES @ joints_m` are vectors from each joint along its bone towards the fingertip."""

ROTATED_BY: tuple[int, ...] = tuple(_rotated_by(joint) for joint in JOINTS)
"""For each joint, the rotating joint in MANO's order that carries it."""

BACKS: np.ndarray = np.array(
    [skeleton.THUMBNAIL if joint.finger == "thumb" else skeleton.BACK_OF_HAND for joint in JOINTS]
)
"""(26, 3) where the back of each joint's bone faces at rest. Without an x, so the same on a mirrored hand."""
