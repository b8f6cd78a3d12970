"""The joints that XR names, and where each of them is found on our 21: all derived from names.

OpenXR's 26 joints set the order here, palm and wrist first; WebXR has the same without the palm, and
Unity puts the wrist before the palm. Each joint, and each bone that leaves one, is a sum of weighted
points: one matrix gives all positions, another all bones.
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

VRM_BONES: tuple[str, ...] = tuple(
    "Hand" if joint.part == "wrist" else joint.finger.title() + joint.part.title() for joint in JOINTS[1:]
)
"""For each joint of WebXR, the bone of a VRM 1.0 humanoid, without its side; VRM has no finger's metacarpal, no tip."""

UNITY_ORDER: tuple[int, ...] = (1, 0, *range(2, len(JOINTS)))
"""`array[list(UNITY_ORDER)]` takes OpenXR's order to that of Unity's XR Hands."""

UNITY_JOINTS: tuple[str, ...] = tuple("".join(word.title() for word in JOINTS[k]) for k in UNITY_ORDER)
"""The 26 names of `XRHandJointID`, in the order of their values, which begin at 1."""

_METACARPALS: dict[str, tuple[float, float, float]] = {
    "index": (0.37, 0.15, 0.09),
    "middle": (0.375, 0.01, 0.08),
    "ring": (0.43, -0.135, 0.025),
    "little": (0.475, -0.12, 0.025),
}
"""Where the bases of the metacarpals lie, which no keypoint shows: how far along the line from the wrist to the
finger's knuckle; how far across, of the way from the little finger's knuckle to the index finger's; and how deep in
the palm, of the length from the wrist to the middle knuckle. Means of the three poses of a Quest that Meta publishes
with IWER 2.5 (`relaxed`, `pinch`, `point`)."""

LITTLE_TWIST_DEG = 23.0
"""How far the little finger's metacarpal is rolled outwards about its bone, against the wrist: 23.4 degrees in those
poses, 22.9 and 23.6 in the two hands of WebXR's `generic-hand`. Those of the other three are not rolled."""

POINTS: tuple[str, ...] = (*skeleton.KEYPOINTS, "palmar")
"""What all joints are sums of: the keypoints, and a point out of the palm, as far from the wrist as the middle knuckle
is."""

_POINT_WEIGHTS = np.eye(len(POINTS))


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


def _point(name: str) -> np.ndarray:
    return _POINT_WEIGHTS[POINTS.index(name)]


def _position(joint: Joint) -> np.ndarray:
    """(22,) weights of the points whose sum is the joint's position."""
    name = keypoint_name(joint)
    if name:
        return _point(name)
    finger, wrist = joint.finger or "middle", _point("wrist")
    along, across, deep = _METACARPALS[finger]
    base = wrist + along * (_point(f"{finger}1") - wrist) + across * (_point("index1") - _point("little1"))
    base += deep * (_point("palmar") - wrist)
    return (base + _point("middle1")) / 2 if joint.part == "palm" else base


def _bone(joint: Joint) -> np.ndarray:
    """(22,) weights of the points whose sum is the bone towards the fingertip; a tip has its last phalanx's."""
    if not joint.finger:
        return _point("middle1") - _point("wrist")
    parts = THUMB_PARTS if joint.finger == "thumb" else FINGER_PARTS
    start = min(parts.index(joint.part), len(parts) - 2)
    return _position(Joint(joint.finger, parts[start + 1])) - _position(Joint(joint.finger, parts[start]))


def _rotated_by(joint: Joint) -> int:
    """The rotating joint, in MANO's order, that moves the bone."""
    name = keypoint_name(joint) or "wrist"
    return skeleton.MANO_JOINTS.index(name.replace("4", "3"))


def _back(joint: Joint) -> tuple[float, ...]:
    if joint == Joint("little", "metacarpal"):
        twist = np.radians(LITTLE_TWIST_DEG)
        return (0.0, np.cos(twist), -np.sin(twist))
    return skeleton.THUMBNAIL if joint.finger == "thumb" else skeleton.BACK_OF_HAND


POSITIONS: np.ndarray = np.stack([_position(joint) for joint in JOINTS])
"""(26, 22): `POSITIONS @ points` are the joints, tips on the skin."""

BONES: np.ndarray = np.stack([_bone(joint) for joint in JOINTS])
"""(26, 22): `BONES @ points` are vectors from each joint along its bone towards the fingertip."""

ROTATED_BY: tuple[int, ...] = tuple(_rotated_by(joint) for joint in JOINTS)
"""For each joint, the rotating joint in MANO's order that carries it."""

BACKS: np.ndarray = np.array([_back(joint) for joint in JOINTS])
"""(26, 3) where the back of each joint's bone faces at rest. Without an x, so the same on a mirrored hand."""

IS_TIP: np.ndarray = np.array([joint.part == "tip" for joint in JOINTS])
"""(26,) bool."""
