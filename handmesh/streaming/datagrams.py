"""The stream's frames as datagrams: JSON, binary, OSC, and VMC for avatars. Nobody listening is no error."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.streaming.protocol import Update, frame_bytes, frame_message
from handmesh.types import Side
from handmesh.xr.poses import global_rotations

Encoder = Callable[[Update], bytes]


class Datagrams:
    """Sends a datagram a frame to one address and never waits; what cannot be sent at once is lost."""

    def __init__(self, address: str, encode: Encoder) -> None:
        """address: HOST:PORT. Raises ValueError for one that is not, or that cannot be found."""
        host, port = split_address(address)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise ValueError(f"cannot find {address}: {error.strerror or error}") from error
        family, kind, _, _, position = min(found, key=lambda entry: entry[0] != socket.AF_INET)  # as Unity listens
        self._encode, self._position = encode, position
        self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)
        if family == socket.AF_INET:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def deliver(self, update: Update) -> None:
        """Send a frame, unless there is nothing to say."""
        datagram = self._encode(update)
        with suppress(OSError):  # a full buffer, no route or no listener: the next frame may fare better
            if datagram:
                self._socket.sendto(datagram, self._position)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def split_address(address: str) -> tuple[str, int]:
    """'HOST:PORT' or '[IPv6]:PORT' in its parts. Raises ValueError for anything else."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"an address is HOST:PORT, like 127.0.0.1:9000; got {address!r}")
    return host.strip("[]"), int(port)


def json_datagram(update: Update) -> bytes:
    """The JSON frame without the joints in the image: about 3 kB for two hands."""
    return frame_message(update, pixels=False).encode()


def binary_datagram(update: Update) -> bytes:
    """The binary frame without vertices: 2 kB for two hands, which are read without a parser."""
    return frame_bytes(update, vertices=False)


def osc_datagram(update: Update) -> bytes:
    """The frame as one OSC bundle: about 5 kB for two hands; docs/stream.md has the addresses."""
    messages = [_osc("/handmesh/frame", "idi", update.sequence, update.captured_unix_ms, len(update.hands))]
    for side in ("left", "right"):
        index = surest(update, side)
        messages.append(_osc(f"/handmesh/{side}/present", "i", index is not None))
        if index is not None:
            messages += _osc_hand(f"/handmesh/{side}", update, index)
    return _bundle(messages)


def surest(update: Update, side: Side) -> int | None:
    """Which hand of a side to show where one is wanted."""
    shown = [index for index, hand in enumerate(update.hands) if hand.side == side]
    return max(shown, key=lambda index: update.hands[index].score, default=None)


def _osc_hand(address: str, update: Update, index: int) -> list[bytes]:
    hand, pose, reading = update.hands[index], update.poses[index], update.readings[index]
    joints = np.concatenate([pose.positions_m, pose.orientations_xyzw, pose.radii_m[:, None]], axis=1).tolist()
    return [
        _osc(f"{address}/hand", "iff", hand.id, hand.score, hand.visible_s),
        _osc(f"{address}/pinch", "f", update.pinch_m(index)),
        _osc(f"{address}/gesture", "", text=reading.gesture),
        *(_osc(f"{address}/joint/{name}", "f" * 8, *joint) for name, joint in zip(pose.names, joints, strict=True)),
    ]


# VMC, the protocol of avatars: https://protocol.vmc.info. Bones are named as Unity's HumanBodyBones.


_VMC_BONES = {"1": "Proximal", "2": "Intermediate", "3": "Distal"}
_T_POSE = np.array([-1.0, 1.0, 1.0])
"""From the frame of the hand at rest (fingers along -x, or +x on a left hand; y out of the back; z to the thumb) to
that of an avatar in T-pose that looks along z in Unity's left-handed frame: its right hand reaches along +x."""


def vmc_bones(side: Side) -> list[str]:
    """The 15 bones of a hand's fingers, in MANO's order."""
    names = skeleton.MANO_JOINTS[1:]
    return [f"{side.title()}{name[:-1].title()}{_VMC_BONES[name[-1]]}" for name in names]


def vmc_datagram(update: Update, side: Side) -> bytes:
    """The fingers of one hand as a VMC bundle of 1.4 kB; nothing where it is not seen, which leaves the avatar's as is.

    Rotations and positions are relative to the bone before, as the avatar's in T-pose. The wrist comes as a tracker,
    in the camera's frame: without the arm, no bone can be told.
    """
    index = surest(update, side)
    if index is None:
        return b""
    hand, pose = update.hands[index], update.poses[index]
    joints = np.asarray(hand.joints_m, np.float64)[list(skeleton.KEYPOINT_OF_MANO)]
    parents = list(skeleton.PARENTS[1:])
    turned = global_rotations(hand.pose)[parents]
    offsets = np.einsum("kba,kb->ka", turned, joints[1:] - joints[parents]) * _T_POSE
    turns = Rotation.from_matrix(hand.pose[1:]).as_quat(canonical=True) * (1, -1, -1, 1)
    moves = np.concatenate([offsets, turns], axis=1).tolist()
    wrist = (*(pose.positions_m[0] * (1, 1, -1)), *(pose.orientations_xyzw[0] * (-1, -1, 1, 1)))
    messages = [
        _osc("/VMC/Ext/OK", "i", 1),
        _osc("/VMC/Ext/T", "f", update.captured_s),
        _osc("/VMC/Ext/Tra/Pos", "f" * 7, *wrist, text=f"handmesh-{side}"),
    ]
    for name, move in zip(vmc_bones(side), moves, strict=True):
        messages.append(_osc("/VMC/Ext/Bone/Pos", "f" * 7, *move, text=name))
    return _bundle(messages)


def _bundle(messages: list[bytes]) -> bytes:
    return _BUNDLE + b"".join(struct.pack(">i", len(message)) + message for message in messages)


_BUNDLE = struct.pack(">8sQ", b"#bundle", 1)  # 1: to be handled at once


def _osc(address: str, types: str, *values: float, text: str | None = None) -> bytes:
    """A message, `text` before its numbers; OSC's letters for 32-bit integers, floats and doubles are `struct`'s."""
    return _osc_head(address, types, text) + struct.pack(f">{types}", *values)


@cache
def _osc_head(address: str, types: str, text: str | None) -> bytes:
    """A message up to its numbers, laid out by python-osc, which takes too long to be asked in every frame."""
    from pythonosc.osc_message_builder import OscMessageBuilder

    message = OscMessageBuilder(address)
    if text is not None:
        message.add_arg(text, "s")
    for kind in types:
        message.add_arg(0 if kind == "i" else 0.0, kind)
    dgram = message.build().dgram
    return dgram[: len(dgram) - struct.calcsize(f">{types}")]
