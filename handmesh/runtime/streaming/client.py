"""One client's connection, which holds at most one message: a slow client misses frames, no one waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Literal, get_args

from websockets.asyncio.server import ServerConnection

Format = Literal["json", "binary"]
FORMATS: tuple[Format, ...] = get_args(Format)

SUBPROTOCOLS: dict[str, Format] = {f"handmesh.v1.{name}": name for name in FORMATS}
"""The WebSocket subprotocols, by which a client may ask for its format."""

_KERNEL_BUFFER_BYTES = 64 * 1024  # three binary frames of two hands: more would only be old frames
_MOST_UNSENT_BYTES = 1 << 20  # the mesh's data at the start and all; answers to a flood of pings stop here


class Client(ServerConnection):
    """A connection that knows whether all it was given has left for the client."""

    format: Format = "json"
    behind = False  # a newer frame came while the last was still on its way
    on_ready: Callable[[Client], None] | None = None  # told when a client that was behind has room again
    on_made: Callable[[Client], None] | None = None
    on_lost: Callable[[Client], None] | None = None
    refused = False  # the reason has been noted
    _full_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the kernel's own queue short."""
        super().connection_made(transport)
        endpoint = transport.get_extra_info("socket")
        if endpoint is not None:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER_BYTES)
        if self.on_made:
            self.on_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who keeps count."""
        super().connection_lost(exc)
        if self.on_lost:
            self.on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Drop who asks for answers and never takes them."""
        super().data_received(data)
        if self.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self.transport.abort()

    @property
    def ready(self) -> bool:
        """Whether nothing is waiting to be sent."""
        return self._full_since_s is None and self.transport.get_write_buffer_size() == 0

    @property
    def stuck_s(self) -> float:
        """For how long the client has taken nothing of what it was given."""
        return 0.0 if self._full_since_s is None else self.loop.time() - self._full_since_s

    def pause_writing(self) -> None:
        """The kernel takes no more: the client is slow."""
        super().pause_writing()
        self._full_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """All that was waiting has left."""
        super().resume_writing()
        self._full_since_s = None
        if self.behind and self.on_ready:
            self.on_ready(self)

    @property
    def address(self) -> str:
        """Whom a line of the log is about."""
        peer = self.remote_address
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unknown"
