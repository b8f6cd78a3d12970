"""The frames of the stream as datagrams: JSON and binary over UDP, OSC, and VMC for avatars. Nobody listening is no error."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import numpy as np

from handmesh.streaming.protocol import Update, frame_message

Encoder = Callable[[Update], bytes]


class Datagrams:
    """Sends one datagram a frame to one address and never waits; what cannot be sent at once is lost."""

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
        """Send a frame."""
        datagram = self._encode(update)
        with suppress(OSError):  # a full buffer, no route or no listener: the next frame may fare better
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


def osc_datagram(update: Update) -> bytes:
    """The frame as one OSC bundle: about 5 kB for two hands; docs/stream.md has the addresses."""
    messages = [_osc("/handmesh/frame", "idi", update.sequence, update.captured_unix_ms, len(update.hands))]
    for side in ("left", "right"):
        shown = [index for index, hand in enumerate(update.hands) if hand.side == side]
        messages.append(_osc(f"/handmesh/{side}/present", "i", bool(shown)))
        if shown:
            surest = max(shown, key=lambda index: update.hands[index].score)
            messages += _osc_hand(f"/handmesh/{side}", update, surest)
    return _BUNDLE + b"".join(struct.pack(">i", len(message)) + message for message in messages)


_BUNDLE = struct.pack(">8sQ", b"#bundle", 1)  # 1: to be handled at once


def _osc_hand(address: str, update: Update, index: int) -> list[bytes]:
    hand, pose = update.hands[index], update.poses[index]
    joints = np.concatenate([pose.positions_m, pose.orientations_xyzw, pose.radii_m[:, None]], axis=1).tolist()
    return [
        _osc(f"{address}/hand", "iff", hand.id, hand.score, hand.visible_s),
        _osc(f"{address}/pinch", "f", update.pinch_m(index)),
        *(_osc(f"{address}/joint/{name}", "f" * 8, *joint) for name, joint in zip(pose.names, joints, strict=True)),
    ]


def _osc(address: str, types: str, *values: float) -> bytes:
    """A message; OSC's letters for 32-bit integers, floats and doubles are those of `struct`."""
    return _osc_head(address, types) + struct.pack(f">{types}", *values)


@cache
def _osc_head(address: str, types: str) -> bytes:
    """A message up to its numbers, laid out by python-osc, which takes too long to be asked in every frame."""
    from pythonosc.osc_message_builder import OscMessageBuilder

    message = OscMessageBuilder(address)
    for kind in types:
        message.add_arg(0 if kind == "i" else 0.0, kind)
    return message.build().dgram[: -struct.calcsize(f">{types}")]
