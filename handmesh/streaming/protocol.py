"""The stream's messages, version 1: frames as JSON and in binary, and what is bound once. docs/stream.md says what
they mean.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.files import parsed_json
from handmesh.geometry import mirror_faces, mirror_rotations, project
from handmesh.gestures import FINGERS, GESTURES, Finger, Gesture, GestureReader, Reading
from handmesh.hand.lbs import SkinnedHand, strongest_joints
from handmesh.render.overlay import SIDE_COLOURS
from handmesh.types import Camera, Hand, Side, TrackedFrame
from handmesh.xr import WEBXR_JOINTS, XRHand, to_webxr
from handmesh.xr.joints import WEBXR_OF_MANO, WEBXR_PARENTS
from handmesh.xr.poses import FROM_CAMERA

# What one frame gave, at its positions in time: the one thing that every message is made of.


RADII_EVERY = 15
"""Frames from one measurement of a hand's thickness to the next: it hardly changes, and takes longest of all."""

_PINCH = [skeleton.KEYPOINTS.index(name) for name in ("thumb4", "index4")]
_NO_VERTICES = np.zeros((0, 3), np.float32)


class Poser:
    """Hands to WebXR poses and gestures, frame by frame; keeps each hand's radii for some frames."""

    def __init__(self) -> None:
        self.gestures = GestureReader()
        self._radii: dict[tuple[int, str], tuple[int, np.ndarray]] = {}  # when they are due again, and they

    def poses(self, hands: Sequence[Hand], sequence: int) -> list[XRHand]:
        """The 25 joints of each hand of the frame of this number, in the frame of an OpenXR view."""
        poses = [self._pose(hand, sequence) for hand in hands]
        present = {(hand.id, hand.side) for hand in hands}
        self._radii = {key: kept for key, kept in self._radii.items() if key in present}
        return poses

    def _pose(self, hand: Hand, sequence: int) -> XRHand:
        due, radii_m = self._radii.get((hand.id, hand.side), (0, None))
        if radii_m is not None and sequence < due:
            return to_webxr(hand, radii_m)
        pose = to_webxr(hand)
        self._radii[hand.id, hand.side] = (sequence + RADII_EVERY, pose.radii_m)
        return pose


@dataclass(frozen=True, eq=False)
class Update:
    """A tracked frame to be sent. What costs time is worked out when a message asks for it, and once."""

    tracked: TrackedFrame
    sequence: int  # counts the frames published, from 1
    captured_s: float  # on the clock of `time.perf_counter`
    metric: bool = False  # metres are metres; otherwise they are up to a common scale
    poser: Poser = field(default_factory=Poser)

    @property
    def hands(self) -> Sequence[Hand]:
        """The frame's hands."""
        return self.tracked.hands

    @cached_property
    def poses(self) -> list[XRHand]:
        """The 25 WebXR joints of each hand, in the frame of an OpenXR view."""
        return self.poser.poses(self.hands, self.sequence)

    @cached_property
    def readings(self) -> list[Reading]:
        """What each hand does."""
        return self.poser.gestures.read(self.hands)

    def vertices_m(self, index: int) -> np.ndarray:
        """(V, 3) float32 vertices of a hand, in the frame of its poses."""
        return self.hands[index].vertices_m * FROM_CAMERA.astype(np.float32)

    def pinch_m(self, index: int) -> float:
        """From the tip of a hand's thumb to that of its index finger."""
        thumb, finger = self.hands[index].joints_m[_PINCH]
        return float(np.linalg.norm(thumb - finger))

    @cached_property
    def sent_unix_ms(self) -> float:
        """When the first message of this frame was made, in milliseconds since 1970 on this machine's clock."""
        return time.time() * 1000

    @cached_property
    def captured_unix_ms(self) -> float:
        """When the image came in, on the same clock as `sent_unix_ms`."""
        return self.sent_unix_ms - (time.perf_counter() - self.captured_s) * 1000


# The stream's text messages, version 1: docs/stream.md says what they mean, docs/stream.schema.json checks them.


VERSION = 1
"""Grows when a client of the version before could misread a message. New fields alone do not count."""

Fields = dict[str, object]


class MessageError(ValueError):
    """What a client sent is not a message that the server knows."""


def dumped(fields: Fields) -> str:
    """JSON without blanks. Raises ValueError for what JSON cannot hold: NaN and infinity."""
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def rounded(array: np.ndarray, decimals: int) -> list[float]:
    """All numbers of an array (...) in one flat list, which Unity's JsonUtility and typed arrays read as they are."""
    return np.round(np.asarray(array, np.float64), decimals).ravel().tolist()


def frame_message(update: Update, pixels: bool = True) -> str:
    """The joints of a frame as JSON; `pixels` False leaves out those of the image, for short datagrams."""
    hands = [_hand_fields(update, index, pixels) for index in range(len(update.hands))]
    return dumped(
        {
            "type": "frame",
            "version": VERSION,
            "sequence": update.sequence,
            "time_s": round(update.tracked.frame.time_s, 4),
            "captured_unix_ms": round(update.captured_unix_ms, 3),
            "captured_monotonic_ms": round(update.captured_s * 1000, 3),
            "sent_unix_ms": round(update.sent_unix_ms, 3),
            "metric": update.metric,
            "camera": asdict(update.tracked.camera),
            "hands": hands,
        }
    )


def _hand_fields(update: Update, index: int, pixels: bool) -> Fields:
    hand, pose, reading = update.hands[index], update.poses[index], update.readings[index]
    fields: Fields = {
        "id": int(hand.id),
        "side": hand.side,
        "score": round(float(hand.score), 3),
        "visible_s": round(float(hand.visible_s), 3),
        "predicted": bool(hand.predicted),
        "pinch_m": round(update.pinch_m(index), 5),
        "gesture": reading.gesture,
        "pinches": list(reading.pinches),
        "pinch_strength": round(reading.pinch_strength, 3),
        "grab_strength": round(reading.grab_strength, 3),
        "positions_m": rounded(pose.positions_m, 5),
        "orientations_xyzw": rounded(pose.orientations_xyzw, 5),
        "radii_m": rounded(pose.radii_m, 4),
    }
    if pixels:
        fields["joints_px"] = rounded(hand.joints_px, 1)
    return fields


def pong_message(ping: str | bytes) -> str:
    """The answer to a client's ping, by which it learns the way's length and this machine's time.

    Raises MessageError where `ping` is anything else.
    """
    try:
        fields = parsed_json(ping, "it")
        known = fields["type"] == "ping"
        client_ms = fields["client_ms"]
    except (ValueError, TypeError, KeyError) as error:
        raise MessageError("not JSON of the form {'type': 'ping', 'client_ms': NUMBER}") from error
    if not known or isinstance(client_ms, bool) or not isinstance(client_ms, (int, float)):
        raise MessageError("clients may send pings only")
    if not np.isfinite(float(client_ms)) or abs(client_ms) > 1e15:
        raise MessageError("client_ms is not a time")
    pong = {"type": "pong", "version": VERSION, "client_ms": client_ms, "server_unix_ms": round(time.time() * 1000, 3)}
    return dumped(pong)


# The stream's binary frame, version 1, little-endian: joints in single precision, vertices in half.
#
# A client's reader is `read_frame`; docs/stream.md has the same layout as a table. Vertices are relative
# to the wrist, so that half precision is good to 0.06 mm.


MAGIC = b"HMF" + bytes([VERSION])

_HEADER = struct.Struct("<4sIddddffffHHBB2x")
_HAND = struct.Struct("<IBBHfff")
_JOINTS = len(WEBXR_JOINTS)
_JOINT_FLOATS = 8
_PIXEL_FLOATS = 2 * 21
_SIDES: tuple[Side, Side] = ("left", "right")
_METRIC = _PREDICTED = 1
_PINCH_BIT, _GESTURE_BIT = 1, 5  # the flags' bits 1 to 4 are fingers, index first; 5 to 7 a place in `GESTURES`


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
    gesture: Gesture
    pinches: tuple[Finger, ...]


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


def frame_bytes(update: Update, vertices: bool = True) -> bytes:
    """A frame with joints and vertices as one binary message; `vertices` False leaves those out, for datagrams."""
    camera = update.tracked.camera
    times = (update.tracked.frame.time_s, update.captured_unix_ms, update.captured_s * 1000, update.sent_unix_ms)
    lens = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    parts = [_HEADER.pack(MAGIC, update.sequence, *times, *lens, len(update.hands), _METRIC * update.metric)]
    for index in range(len(update.hands)):
        parts += _hand_parts(update, index, update.vertices_m(index) if vertices else _NO_VERTICES)
    return b"".join(parts)


def _hand_parts(update: Update, index: int, vertices_m: np.ndarray) -> list[bytes]:
    hand, pose, reading = update.hands[index], update.poses[index], update.readings[index]
    numbers = (hand.score, hand.visible_s, update.pinch_m(index))
    flags = _PREDICTED * hand.predicted + (GESTURES.index(reading.gesture) << _GESTURE_BIT)
    flags += sum(1 << _PINCH_BIT + FINGERS.index(finger) for finger in reading.pinches)
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
    arrays = (positions_m, joints[:, 3:7], joints[:, 7], joints_px, vertices_m)
    pinches = tuple(finger for k, finger in enumerate(FINGERS) if flags >> _PINCH_BIT + k & 1)
    return BinaryHand(hand_id, _SIDES[side], *numbers, *arrays, GESTURES[flags >> _GESTURE_BIT], pinches), offset


# What never changes while a stream runs: joint names, the mesh's topology and the pose it is bound in.
#
# The stream's counterpart of `XR_FB_hand_tracking_mesh`: with it, the 25 joint poses of a frame are
# enough to move a skinned mesh, and the vertices of a binary frame have faces.


def bind_message(hand: SkinnedHand) -> str:
    """The message that tells clients of the hand in use, in its mean shape; both sides of it."""
    joints, weights = strongest_joints(hand.weights)  # four, as game engines have it
    fields: Fields = {
        "type": "bind",
        "version": VERSION,
        "joints": list(WEBXR_JOINTS),
        "parents": list(WEBXR_PARENTS),
        "keypoints": list(skeleton.KEYPOINTS),
        "weight_joints": np.array(WEBXR_OF_MANO)[joints].ravel().tolist(),
        "weights": rounded(weights, 5),
        "hands": {side: _side_fields(hand, side) for side in ("left", "right")},
    }
    return dumped(fields)


def bound_hand(hand: SkinnedHand, side: Side) -> Hand:
    """The mean hand as it is bound: flat, fingers up, palm to the camera, its wrist at the camera's centre."""
    rotations = np.tile(np.eye(3, dtype=np.float32), (16, 1, 1))
    rotations[0] = skeleton.PALM_TO_CAMERA
    rotations = rotations if side == "right" else mirror_rotations(rotations)
    vertices, joints = hand.posed(rotations, hand.rest(np.zeros(10)), side)
    vertices, joints = vertices - joints[skeleton.WRIST], joints - joints[skeleton.WRIST]
    faces = hand.faces if side == "right" else mirror_faces(hand.faces)
    camera = Camera.from_fov(640, 480)
    joints_px = project(joints + [0, 0, 1], camera)
    return Hand(vertices, joints, joints_px, side, 1.0, rotations, np.zeros(10, np.float32), faces)


def _side_fields(hand: SkinnedHand, side: Side) -> Fields:
    bound = bound_hand(hand, side)
    pose = to_webxr(bound)
    fields: Fields = {
        "colour_rgb": [round(channel, 3) for channel in SIDE_COLOURS[side]],
        "positions_m": rounded(pose.positions_m, 5),
        "orientations_xyzw": rounded(pose.orientations_xyzw, 6),
        "radii_m": rounded(pose.radii_m, 4),
        "vertices_m": rounded(bound.vertices_m * FROM_CAMERA, 5),
        "faces": bound.faces.ravel().tolist(),
    }
    return fields | _texture_fields(hand, side)


def _texture_fields(hand: SkinnedHand, side: Side) -> Fields:
    """The bundled hand's texture coordinates, v up; a user's own hand, whose triangles are others, has none here."""
    if not np.array_equal(hand.faces, SkinnedHand.open_hand().faces):
        return {}
    with np.load(OPEN_HAND, allow_pickle=False) as data:
        uv, uv_faces = data["uv"], data["ft"].astype(np.int64)
    uv_faces = mirror_faces(uv_faces) if side == "left" else uv_faces
    return {"uvs": rounded(uv, 5), "uv_faces": uv_faces.ravel().tolist()}
