"""Scenes and clients for tests of the stream."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from hand_scenes import CAMERA, posed_hand
from websockets.sync.client import ClientConnection, connect

from handmesh.hand.lbs import SkinnedHand
from handmesh.streaming.protocol import Update
from handmesh.streaming.server import Addresses, StreamServer
from handmesh.types import Frame, Hand, TrackedFrame

NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


def two_hands() -> list[Hand]:
    """A right and a left hand, bent at random."""
    hands = [posed_hand((-0.1, 0, 0.5), (0.2, 0.3, 0.1), "right", 1), posed_hand((0.1, 0, 0.6), (0.4, 0, 0), "left", 2)]
    return [_single(replace(hand, id=k, score=0.9, visible_s=1.5)) for k, hand in enumerate(hands)]


def _single(hand: Hand) -> Hand:
    return replace(hand, vertices_m=np.float32(hand.vertices_m), joints_m=np.float32(hand.joints_m))


def update(hands: list[Hand] | None = None, sequence: int = 7) -> Update:
    """A frame with two hands, unless others are given."""
    frame = Frame("", 0.25, NO_IMAGE)
    return Update(TrackedFrame(frame, two_hands() if hands is None else hands, CAMERA), sequence, time.perf_counter())


@contextmanager
def streaming(port: int = 0, **addresses: object) -> Iterator[tuple[StreamServer, list[str]]]:
    """A server at a free port, and the lines that it says."""
    lines: list[str] = []
    with StreamServer(SkinnedHand.open_hand(), Addresses(port=port, **addresses), lines.append) as server:
        yield server, lines


def publish(server: StreamServer, hands: list[Hand] | None = None) -> None:
    """One frame of two hands, captured now."""
    frame = Frame("", 0.0, NO_IMAGE, captured_s=time.perf_counter())
    server.publish(TrackedFrame(frame, two_hands() if hands is None else hands, CAMERA))


def follow(server: StreamServer, query: str = "", **options: object) -> ClientConnection:
    """A WebSocket client of the stream."""
    url = f"ws://127.0.0.1:{server.port}/stream{query}"
    return connect(url, compression=None, max_size=None, proxy=None, open_timeout=10, close_timeout=0.5, **options)


def get(server: StreamServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def send_raw(server: StreamServer, data: bytes) -> bytes:
    """What the server answers to bytes, up to where it ends the connection or says nothing for a moment."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as raw:
        try:
            raw.sendall(data)
            while chunk := raw.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


def eventually(condition: object, seconds: float = 10.0) -> bool:
    """Whether `condition()` comes true in time."""
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True
