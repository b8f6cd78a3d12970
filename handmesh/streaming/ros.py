"""Frames of the stream in the layout of ROS 2's messages: plain dictionaries, as rosbridge takes them. No ROS here.

What a message has beyond the fields that are given is as its type has it by default. Poses are in the camera's
optical frame, as REP 103 has it: x right, y down, z forward. Joints keep WebXR's axes: -Z along the bone to the
fingertip, +Y out of the back of the hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handmesh.render.overlay import SIDE_COLOURS
from handmesh.xr.joints import WEBXR_JOINTS, WEBXR_PARENTS
from handmesh.xr.poses import FROM_CAMERA

Message = dict[str, Any]

TOPICS: dict[str, str] = {
    "/handmesh/left": "geometry_msgs/msg/PoseArray",
    "/handmesh/right": "geometry_msgs/msg/PoseArray",
    "/handmesh/markers": "visualization_msgs/msg/MarkerArray",
}
"""What `messages` gives, and the type of each. Poses are in the order of `WEBXR_JOINTS`; none: no hand of that side."""

FRAME_ID = "camera_optical_frame"

_ADD, _DELETE_ALL, _LINE_LIST, _SPHERE_LIST = 0, 3, 5, 7  # of visualization_msgs/msg/Marker
_SIDES = ("left", "right")
_BONES = [(parent, joint) for joint, parent in enumerate(WEBXR_PARENTS) if parent >= 0]
_BALL_M, _BONE_M = 0.008, 0.003


def messages(frame: Mapping[str, Any], frame_id: str = FRAME_ID) -> dict[str, Message]:
    """A message for each of `TOPICS`, of a frame of the stream as JSON has it; of two hands of a side, the surer.

    frame_id: the camera's optical frame in your tree. Raises KeyError for what is no frame.
    """
    seconds, nanoseconds = divmod(round(frame["captured_unix_ms"] * 1e6), 10**9)
    header = {"stamp": {"sec": seconds, "nanosec": nanoseconds}, "frame_id": frame_id}
    hands: dict[str, Mapping[str, Any]] = {}
    for hand in sorted(frame["hands"], key=lambda hand: hand["score"]):
        hands[hand["side"]] = hand
    arrays = {side: {"header": header, "poses": _poses(hands[side]) if side in hands else []} for side in _SIDES}
    markers: list[Message] = [{"header": header, "action": _DELETE_ALL}]  # of the frame before
    for side, hand in hands.items():
        markers += _markers(header, side, hand)
    topics = (*(arrays[side] for side in _SIDES), {"markers": markers})
    return dict(zip(TOPICS, topics, strict=True))


def _poses(hand: Mapping[str, Any]) -> list[Message]:
    """The 25 joints as geometry_msgs/msg/Pose: turned by 180 degrees about x, from the view's frame to the camera's."""
    orientations = np.reshape(hand["orientations_xyzw"], (len(WEBXR_JOINTS), 4))
    turned = orientations[:, [3, 2, 1, 0]] * (1, -1, 1, -1)  # the quaternion (1, 0, 0, 0) times each
    poses = zip(_points(hand), turned.tolist(), strict=True)
    return [{"position": p, "orientation": dict(zip("xyzw", q, strict=True))} for p, q in poses]


def _points(hand: Mapping[str, Any]) -> list[Message]:
    positions = np.reshape(hand["positions_m"], (len(WEBXR_JOINTS), 3)) * FROM_CAMERA
    return [dict(zip("xyz", position, strict=True)) for position in positions.tolist()]


def _markers(header: Message, side: str, hand: Mapping[str, Any]) -> list[Message]:
    """Joints and bones as visualization_msgs/msg/Marker, in the side's colour."""
    points = _points(hand)
    bones = [points[end] for bone in _BONES for end in bone]
    common = {
        "header": header,
        "ns": side,
        "action": _ADD,
        "pose": {"orientation": {"w": 1.0}},
        "color": {**dict(zip("rgb", SIDE_COLOURS[side], strict=True)), "a": 1.0},
    }
    return [
        {**common, "id": 0, "type": _SPHERE_LIST, "scale": dict.fromkeys("xyz", _BALL_M), "points": points},
        {**common, "id": 1, "type": _LINE_LIST, "scale": {"x": _BONE_M}, "points": bones},
    ]
