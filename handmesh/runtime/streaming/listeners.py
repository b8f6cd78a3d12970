"""Clients that only listen, in a process of their own, and say how old each message was when it came."""

from __future__ import annotations

import asyncio
import multiprocessing
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from handmesh.runtime.streaming.binary import MAGIC

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
        request = request_for(port, ("json", "binary")[number % 2])
        await loop.create_connection(lambda request=request: Listener(request, ages_ms), "127.0.0.1", port)
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
