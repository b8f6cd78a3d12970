"""The stream's binary frame, version 1, little-endian: joints in single precision, vertices in half.

A client's reader is `read_frame`; docs/stream.md has the same layout as a table. Vertices are relative
to the wrist, so that half precision is good to 0.06 mm.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from handmesh.runtime.streaming.messages import VERSION, MessageError
from handmesh.runtime.streaming.moment import Moment
from handmesh.structs import Side
from handmesh.xr import WEBXR_JOINTS

MAGIC = b"HMF" + bytes([VERSION])

_HEADER = struct.Struct("<4sIddddffffHHBB2x")
_HAND = struct.Struct("<IBBHfff")
_JOINTS = len(WEBXR_JOINTS)
_JOINT_FLOATS = 8
_PIXEL_FLOATS = 2 * 21
_SIDES: tuple[Side, Side] = ("left", "right")
_METRIC = _PREDICTED = 1


class BinaryHand(NamedTuple):
    """One hand of a binary frame, in the frame of an OpenXR view."""

    id: int
    side: Side
    predicted: bool
    score: float
    visible_s: float
    pinch_m: float
    positions_m: np.ndarray  # (25, 3)
    orientations_xyzw: np.ndarray  # (25, 4)
    radii_m: np.ndarray  # (25,)
    joints_px: np.ndarray  # (21, 2)
    vertices_m: np.ndarray  # (V, 3)


class BinaryFrame(NamedTuple):
    """A binary frame, read."""

    sequence: int
    time_s: float
    captured_unix_ms: float
    captured_monotonic_ms: float
    sent_unix_ms: float
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    size_px: tuple[int, int]  # width, height
    metric: bool
    hands: list[BinaryHand]


def frame_bytes(moment: Moment) -> bytes:
    """A frame with joints and vertices as one binary message."""
    camera = moment.camera
    times = (moment.time_s, moment.captured_unix_ms, moment.captured_s * 1000, moment.sent_unix_ms)
    lens = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    parts = [_HEADER.pack(MAGIC, moment.sequence, *times, *lens, len(moment.hands), _METRIC * moment.metric)]
    for index in range(len(moment.hands)):
        parts += _hand_parts(moment, index)
    return b"".join(parts)


def _hand_parts(moment: Moment, index: int) -> list[bytes]:
    hand, pose = moment.hands[index], moment.poses[index]
    vertices_m = moment.vertices_m(index)
    numbers = (hand.score, hand.visible_s, moment.pinch_m(index))
    flags = _PREDICTED * hand.predicted
    head = _HAND.pack(hand.id, _SIDES.index(hand.side), flags, len(vertices_m), *numbers)
    joints = np.concatenate([pose.positions_m, pose.orientations_xyzw, pose.radii_m[:, None]], axis=1)
    halves = (vertices_m - pose.positions_m[0]).astype("<f2").tobytes()
    padding = bytes(-len(halves) % 4)
    return [head, joints.astype("<f4").tobytes(), hand.joints_px.astype("<f4").tobytes(), halves, padding]


def read_frame(message: bytes) -> BinaryFrame:
    """What a binary message says; the arrays are new. Raises MessageError where it is not a whole one."""
    try:
        magic, sequence, *rest = _HEADER.unpack_from(message)
        if magic != MAGIC:
            raise MessageError(f"expected a frame that begins with {MAGIC!r}, got {magic!r}")
        *numbers, count, metric = rest
        hands, offset = [], _HEADER.size
        for _ in range(count):
            hand, offset = _read_hand(message, offset)
            hands.append(hand)
    except (struct.error, ValueError, IndexError) as error:
        raise MessageError(f"not a whole binary frame: {error}") from error
    times, (fx, fy, cx, cy, width, height) = numbers[:4], numbers[4:]
    return BinaryFrame(sequence, *times, (fx, fy), (cx, cy), (width, height), bool(metric & _METRIC), hands)


def _read_hand(message: bytes, offset: int) -> tuple[BinaryHand, int]:
    hand_id, side, flags, count, score, visible_s, pinch_m = _HAND.unpack_from(message, offset)
    offset += _HAND.size
    joints = np.frombuffer(message, "<f4", _JOINTS * _JOINT_FLOATS, offset).reshape(_JOINTS, _JOINT_FLOATS).copy()
    offset += joints.nbytes
    joints_px = np.frombuffer(message, "<f4", _PIXEL_FLOATS, offset).reshape(-1, 2).copy()
    offset += joints_px.nbytes
    halves = np.frombuffer(message, "<f2", 3 * count, offset).reshape(-1, 3)
    offset += halves.nbytes + -halves.nbytes % 4
    positions_m = joints[:, :3]
    vertices_m = halves.astype(np.float32) + positions_m[0]
    numbers = (bool(flags & _PREDICTED), score, visible_s, pinch_m)
    read = BinaryHand(hand_id, _SIDES[side], *numbers, positions_m, joints[:, 3:7], joints[:, 7], joints_px, vertices_m)
    return read, offset
