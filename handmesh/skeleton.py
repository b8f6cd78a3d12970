"""Joint names of the hand conventions in use, and every permutation between them, derived from names.

Two conventions meet here. *MANO order* has the 16 joints that rotate. *Keypoint order* has the
21 points that data sets label (FreiHAND, OpenPose and MediaPipe agree on it): the 16 joints
re-ordered, with the five fingertips added.
"""

from __future__ import annotations

from enum import IntEnum

FINGERS = ("thumb", "index", "middle", "ring", "little")

_MANO_FINGERS = ("index", "middle", "little", "ring", "thumb")

MANO_JOINTS: tuple[str, ...] = ("wrist", *(f"{finger}{k}" for finger in _MANO_FINGERS for k in (1, 2, 3)))
"""The 16 rotating joints in MANO's order; `index1` is the finger's joint nearest to the wrist."""

TIPS: tuple[str, ...] = tuple(f"{finger}4" for finger in FINGERS)

KEYPOINTS: tuple[str, ...] = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3, 4)))
"""The 21 labelled points; `index4` is the fingertip."""


class Joint(IntEnum):
    """The 21 points by their anatomical names: `hand.joints_m[Joint.INDEX_TIP]`. docs/joints.png shows them."""

    WRIST = 0
    THUMB_CMC = 1
    THUMB_MCP = 2
    THUMB_IP = 3
    THUMB_TIP = 4
    INDEX_MCP = 5
    INDEX_PIP = 6
    INDEX_DIP = 7
    INDEX_TIP = 8
    MIDDLE_MCP = 9
    MIDDLE_PIP = 10
    MIDDLE_DIP = 11
    MIDDLE_TIP = 12
    RING_MCP = 13
    RING_PIP = 14
    RING_DIP = 15
    RING_TIP = 16
    LITTLE_MCP = 17
    LITTLE_PIP = 18
    LITTLE_DIP = 19
    LITTLE_TIP = 20


MANO_WITH_TIPS: tuple[str, ...] = MANO_JOINTS + TIPS

MANO_TO_KEYPOINTS: tuple[int, ...] = tuple(MANO_WITH_TIPS.index(name) for name in KEYPOINTS)
"""`points_mano_with_tips[MANO_TO_KEYPOINTS]` is in keypoint order."""

KEYPOINT_OF_MANO: tuple[int, ...] = tuple(KEYPOINTS.index(name) for name in MANO_JOINTS)
"""`points_keypoints[KEYPOINT_OF_MANO]` gives the 16 rotating joints in MANO's order."""


def _parent(name: str) -> str:
    finger, k = name[:-1], int(name[-1])
    return "wrist" if k == 1 else f"{finger}{k - 1}"


PARENTS: tuple[int, ...] = (-1, *(MANO_JOINTS.index(_parent(name)) for name in MANO_JOINTS[1:]))
"""Parent of each joint, in MANO's order; the wrist's is -1."""

LEVELS: tuple[tuple[int, ...], ...] = tuple(
    tuple(MANO_JOINTS.index(f"{finger}{k}") for finger in _MANO_FINGERS) for k in (1, 2, 3)
)
"""The joints of each tree level below the wrist, five at a time, parents before children."""

BONES: tuple[tuple[int, int], ...] = tuple(
    (KEYPOINTS.index(_parent(name)), KEYPOINTS.index(name)) for name in KEYPOINTS[1:]
)
"""The 20 bones as (parent, child) in keypoint order."""

WRIST = KEYPOINTS.index("wrist")
ROOT = KEYPOINTS.index("middle1")
"""The point that root-relative coordinates are relative to (FreiHAND's choice)."""

MIDDLE_CHAIN: tuple[int, ...] = (WRIST, *(KEYPOINTS.index(f"middle{k}") for k in (1, 2, 3, 4)))
"""From the wrist along the bones of the middle finger to its tip, in keypoint order."""

KEYPOINT_TIPS: tuple[int, ...] = tuple(KEYPOINTS.index(name) for name in TIPS)

PALM_TO_CAMERA = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""Rotation from the canonical frame to the camera's: fingers up in the image, the palm facing the camera."""

BACK_OF_HAND = (0.0, 1.0, 0.0)
THUMBNAIL = (0.0, 0.26, 0.97)
"""Where the back of the palm and fingers and the thumb's nail face in the canonical frame at rest, before they
are made perpendicular to a bone. The thumbnail's was measured on the open hand: 75 degrees round, where the skin
is nearest to the last phalanx; the mean normal of the nail itself is 10 degrees further round."""

OPEN_HAND_TIP_VERTICES = {"thumb4": 744, "index4": 320, "middle4": 443, "ring4": 554, "little4": 671}
FREIHAND_TIP_VERTICES = {"thumb4": 744, "index4": 320, "middle4": 443, "ring4": 555, "little4": 672}
"""FreiHAND's own choice of fingertip vertices on MANO's mesh."""
