"""What the stream costs: how old frames are when clients have them, and how much slower the tracker gets."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from handmesh.benchmark.latency import drawn_frames
from handmesh.hand.lbs import SkinnedHand
from handmesh.machine import machine, peak_memory_mb
from handmesh.streaming.protocol import MAGIC, bound_hand
from handmesh.streaming.server import Addresses, StreamServer
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Camera, Frame, Hand, TrackedFrame

# Clients that only listen, in a process of their own, and say how old each message was when it came.

_PATIENCE_S = 60.0
_JSON_TIME = b'"captured_unix_ms":'
_JSON_HEAD_BYTES = 300
_BINARY_TIME_OFFSET = 16
_PING, _PONG, _MASKED = 0x89, 0x8A, 0x80  # RFC 6455: whole control frames; a mask of zeros changes nothing


class Heard(NamedTuple):
    """What a number of clients got."""

    ages_ms: np.ndarray  # (N,) of all messages, from the call of `publish` to having them whole
    seconds: float
    clients: int

    @property
    def per_client_s(self) -> float:
        """Messages a second that a client got."""
        return len(self.ages_ms) / self.clients / self.seconds


@contextmanager
def listening(port: int, clients: int) -> Iterator[Connection]:
    """Clients of both formats in turn at a local server. Send True to begin anew, then False to get a `Heard`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(theirs, port, clients), daemon=True)
    process.start()
    try:
        if not ours.poll(_PATIENCE_S):
            raise RuntimeError(f"the {clients} clients did not connect within {_PATIENCE_S:.0f} seconds")
        ours.recv()
        yield ours
    finally:
        process.terminate()
        process.join(_PATIENCE_S)


def heard(clients: Connection) -> Heard:
    """What the clients got since they began."""
    clients.send(False)
    if not clients.poll(_PATIENCE_S):
        raise RuntimeError("the clients do not answer")
    return clients.recv()


def _listen(parent: Connection, port: int, clients: int) -> None:
    asyncio.run(_listen_all(parent, port, clients))


async def _listen_all(parent: Connection, port: int, clients: int) -> None:
    ages_ms: list[float] = []
    loop = asyncio.get_running_loop()
    for number in range(clients):
        listener = Listener(request_for(port, ("json", "binary")[number % 2]), ages_ms)
        await loop.create_connection(lambda listener=listener: listener, "127.0.0.1", port)
    parent.send(True)
    begin_s = time.perf_counter()
    while True:
        if await asyncio.to_thread(parent.recv):
            begin_s = time.perf_counter()
        else:
            parent.send(Heard(np.array(ages_ms), time.perf_counter() - begin_s, clients))
        ages_ms.clear()


def request_for(port: int, message_format: str) -> bytes:
    """What a client says to follow a local stream."""
    lines = (
        f"GET /stream?format={message_format} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    return "\r\n".join((*lines, "", "")).encode()


class Listener(asyncio.Protocol):
    """A WebSocket client as cheap as can be, so that what is measured is the server: it finds messages' ends only."""

    def __init__(self, request: bytes, ages_ms: list[float]) -> None:
        self._request, self._ages_ms = request, ages_ms
        self._received, self._is_open = bytearray(), False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the age of each frame that is now whole."""
        self._received += data
        if not self._is_open:
            _, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            self._received, self._is_open = rest, True
        while (message := self._next_message()) is not None:
            captured_ms = _captured_unix_ms(message)
            if captured_ms is not None:
                self._ages_ms.append(time.time() * 1000 - captured_ms)

    def _next_message(self) -> bytes | None:
        """A whole message, taken from what was received; a server's are not masked (RFC 6455, 5.2)."""
        received, begin = self._received, 2
        if len(received) < begin:
            return None
        length = received[1]
        if length > 125:
            begin, code = (4, ">H") if length == 126 else (10, ">Q")
            if len(received) < begin:
                return None
            length = struct.unpack_from(code, received, 2)[0]
        if len(received) < begin + length:
            return None
        message, is_ping = bytes(received[begin : begin + length]), received[0] == _PING
        del received[: begin + length]
        if is_ping:
            self._transport.write(bytes([_PONG, _MASKED | length, 0, 0, 0, 0]) + message)
        return message


def _captured_unix_ms(message: bytes) -> float | None:
    """When a frame was captured, found without reading all of it; None for other messages."""
    if message.startswith(MAGIC):
        return struct.unpack_from("<d", message, _BINARY_TIME_OFFSET)[0]
    _, found, rest = message[:_JSON_HEAD_BYTES].partition(_JSON_TIME)
    return float(rest.partition(b",")[0]) if found else None


# The server and the tracker beside it.

ROUND_FRAMES = 15
_CAMERA = Camera.from_fov(640, 480)
_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


class StreamReport(NamedTuple):
    """What `measure_stream` found."""

    heard: Heard  # by the clients, of two hands at a steady rate
    publish_ms: np.ndarray  # (N,) how long `publish` held its caller up
    track_alone_ms: np.ndarray  # (M,) of the tracker while nothing was published
    track_streaming_ms: np.ndarray  # (M,) while every frame of two hands went to all clients
    grown_mb: float  # of this process's peak memory while one client took nothing

    @property
    def slowdown(self) -> float:
        """Of the tracker's median, by the stream: 1 for none."""
        return float(np.median(self.track_streaming_ms) / np.median(self.track_alone_ms))


def measure_stream(
    frames: Sequence[np.ndarray], clients: int = 20, rate: float = 60.0, seconds: float = 10.0
) -> StreamReport:
    """Stream two hands to local clients and one that never reads; then beside a tracker at work.

    frames: (H, W, 3) uint8 RGB for the tracker. Publishing goes on and off in rounds of 15 frames, so
    that slow spells of the machine hit both alike.
    """
    hands = two_hands()
    with ExitStack() as stack:
        server = stack.enter_context(StreamServer(SkinnedHand.open_hand(), Addresses(port=0, max_clients=clients + 1)))
        connection = stack.enter_context(listening(server.port, clients))
        stack.enter_context(never_reading(server.port))
        _publish_for(server, hands, rate, min(1.0, seconds))
        memory_mb = peak_memory_mb()
        connection.send(True)
        publish_ms = _publish_for(server, hands, rate, seconds)
        report, grown_mb = heard(connection), peak_memory_mb() - memory_mb
        return StreamReport(report, publish_ms, *_track_in_rounds(server, hands, frames), grown_mb)


def two_hands() -> list[Hand]:
    """A left and a right hand half a metre before the camera."""
    hands = []
    for number, (side, x_m) in enumerate({"right": -0.1, "left": 0.1}.items()):
        hand, position_m = bound_hand(SkinnedHand.open_hand(), side), np.float32((x_m, 0.1, 0.5))
        moved = {name: getattr(hand, name) + position_m for name in ("vertices_m", "joints_m")}
        hands.append(replace(hand, **moved, id=number))
    return hands


@contextmanager
def never_reading(port: int) -> Iterator[socket.socket]:
    """A client that asks for frames and takes none."""
    with socket.create_connection(("127.0.0.1", port)) as stuck:
        stuck.sendall(request_for(port, "binary"))
        yield stuck


def _publish_for(server: StreamServer, hands: Sequence[Hand], rate: float, seconds: float) -> np.ndarray:
    """Publish at a steady rate; how long each call took, in ms."""
    begin_s, spent_ms = time.perf_counter(), []
    for number in range(round(rate * seconds)):
        time.sleep(max(0.0, begin_s + number / rate - time.perf_counter()))
        spent_ms.append(_publish(server, hands, number / rate))
    return np.array(spent_ms)


def _publish(server: StreamServer, hands: Sequence[Hand], time_s: float) -> float:
    called_s = time.perf_counter()
    server.publish(TrackedFrame(Frame("", time_s, _NO_IMAGE, captured_s=called_s), hands, _CAMERA))
    return (time.perf_counter() - called_s) * 1000


def _track_in_rounds(
    server: StreamServer, hands: Sequence[Hand], frames: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The tracker's times in ms, while nothing is published and while every frame is."""
    spent_ms: tuple[list[float], list[float]] = ([], [])
    with HandTracker.load() as tracker:
        for number, image_rgb in enumerate(islice(cycle(frames), 2 * len(frames))):
            streaming = number // ROUND_FRAMES % 2
            tracker.track(image_rgb, number / 30)
            if number >= ROUND_FRAMES:  # the first round warms up
                spent_ms[streaming].append(tracker.timings_ms["total"])
            if streaming:
                _publish(server, hands, number / 30)
            time.sleep(0.001)  # where a camera would be waited for
    return np.array(spent_ms[0]), np.array(spent_ms[1])


def stream_lines(report: StreamReport) -> str:
    """The metrics as lines."""
    heard, publish_ms = report.heard, report.publish_ms
    p50, p99 = np.percentile(heard.ages_ms, (50, 99))
    alone_ms, streaming_ms = np.median(report.track_alone_ms), np.median(report.track_streaming_ms)
    return (
        f"{heard.clients} clients got {heard.per_client_s:.1f} messages a second each\n"
        f"added latency: median {p50:.2f} ms, 99 % below {p99:.2f} ms\n"
        f"publish: median {np.median(publish_ms):.3f} ms, 99 % below {np.percentile(publish_ms, 99):.3f}\n"
        f"tracker: {alone_ms:.2f} ms alone, {streaming_ms:.2f} ms streaming: {100 * (report.slowdown - 1):+.1f} %\n"
        f"peak memory with a client that took nothing: {report.grown_mb:+.1f} MB"
    )


@dataclass(frozen=True)
class Options:
    """Stream two hands to local clients: how old frames are when they come, and what it costs the tracker."""

    clients: int = 20
    """How many listen, half of them to JSON, half to binary frames; one more never reads."""
    rate: float = 60.0
    """Frames a second."""
    seconds: float = 10.0
    """For how long."""
    frames: int = 300
    """Of the tracker, of which half are tracked while streaming."""


def time_stream(options: Options) -> None:
    """`handmesh benchmark stream`: measure and print."""
    frames = list(drawn_frames(options.frames // 2))
    report = measure_stream(frames, options.clients, options.rate, options.seconds)
    print(machine(), stream_lines(report), sep="\n")
