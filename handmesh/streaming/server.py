"""The stream's server: a thread of its own, fed by the tracker's loop, which never waits for it or for a slow
client.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from handmesh import console
from handmesh.assets import VIEWER
from handmesh.hand.lbs import SkinnedHand
from handmesh.streaming.access import Access, Note, Notes, Refusal, quoted
from handmesh.streaming.datagrams import (
    Datagrams,
    Encoder,
    binary_datagram,
    json_datagram,
    osc_datagram,
    vmc_datagram,
)
from handmesh.streaming.protocol import (
    MessageError,
    Poser,
    Update,
    bind_message,
    frame_bytes,
    frame_message,
    pong_message,
)
from handmesh.types import TrackedFrame

# The viewer's files, read once at the start: nothing that a request says is ever a path.


TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

SAFETY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of every answer: the page loads nothing from elsewhere, and tells no one else its address, which may hold a token."""


class Page(NamedTuple):
    """One file as it is served."""

    content_type: str
    body: bytes


def read_pages(folder: Path) -> dict[str, Page]:
    """The files right in `folder` by their path in a URL; index.html is also '/'.

    Files of a type that is not in `TYPES` are left out. Raises FileNotFoundError without an index.html.
    """
    files = [file for file in sorted(folder.glob("*")) if file.suffix in TYPES and file.is_file()]
    pages = {f"/{file.name}": Page(TYPES[file.suffix], file.read_bytes()) for file in files}
    if "/index.html" not in pages:
        raise FileNotFoundError(f"no index.html in {folder}; build the viewer: npm ci && npm run build in its folder")
    return {"/": pages["/index.html"], **pages}


# One client's connection, which holds at most one message: a slow client misses frames, no one waits for it.


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

    @property
    def host(self) -> str:
        """The address without its port."""
        return self.address.rpartition(":")[0]


# What the server's port answers: the viewer's pages, the mesh's data, and WebSockets that get every frame.


STREAM_PATH, BIND_PATH = "/stream", "/bind.json"

LARGEST_MESSAGE_BYTES = 1024
"""Of what clients send: they have only pings to send."""

_ENCODERS = {"json": frame_message, "binary": frame_bytes}
_MOST_GUESTS = 32
"""Connections that follow no stream: pages on their way, requests about to be refused, and those that say nothing."""
_MESSAGES_A_SECOND = 20
_FAULTS = (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.MESSAGE_TOO_BIG)


@dataclass
class Service:
    """Runs inside one event loop; `deliver` and everything else is called there."""

    bind: str  # the message that tells of the mesh
    access: Access
    pages: Mapping[str, Page]
    notes: Notes
    max_clients: int = 32
    stuck_s: float = 20.0  # after which a client that takes nothing is dropped
    open_timeout_s: float = 3.0
    clients: dict[Format, set[Client]] = field(default_factory=lambda: {name: set() for name in FORMATS})
    _guests: dict[Client, str] = field(default_factory=dict)  # their hosts, the first to come first
    _update: Update | None = None
    _encoded: dict[Format, str | bytes] = field(default_factory=dict)

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while in it; gives the port, which the system chooses where `port` is 0."""
        listener = serve(
            self._attend,
            host,
            port,
            compression=None,  # costs each client's fraction of the processor, and milliseconds
            select_subprotocol=lambda _, offered: next((name for name in SUBPROTOCOLS if name in offered), None),
            subprotocols=list(SUBPROTOCOLS),
            process_request=self._admit,
            server_header=None,
            open_timeout=self.open_timeout_s,
            close_timeout=2,
            max_size=LARGEST_MESSAGE_BYTES,
            max_queue=4,
            write_limit=(0, 0),  # a client tells at once when the kernel takes no more, and when it does again
            create_connection=self._connection,
            logger=_silent_logger(),
        )
        async with listener as server:
            yield server.sockets[0].getsockname()[1]

    @property
    def num_clients(self) -> int:
        """How many follow the stream now."""
        return sum(map(len, self.clients.values()))

    def deliver(self, update: Update) -> None:
        """Send a frame to everyone whose last one has left; the others get the newest when they have room."""
        self._update = update
        self._encoded.clear()
        for name, clients in self.clients.items():
            ready = [client for client in clients if self._has_room(client)]
            if ready:
                broadcast(ready, self._message(name))

    def _has_room(self, client: Client) -> bool:
        client.behind = not client.ready
        if client.stuck_s > self.stuck_s:
            self._refuse(client, f"took nothing for {client.stuck_s:.0f} seconds", "dropped")
            client.transport.abort()
        return not client.behind

    def _message(self, name: Format) -> str | bytes:
        if name not in self._encoded and self._update:
            self._encoded[name] = _ENCODERS[name](self._update)
        return self._encoded[name]

    def _catch_up(self, client: Client) -> None:
        client.behind = False
        if self._update:
            broadcast([client], self._message(client.format))

    # Connections

    def _connection(self, *args: object, **options: object) -> Client:
        client = Client(*args, **options)
        client.on_made, client.on_lost, client.on_ready = self._welcome, self._see_off, self._catch_up
        return client

    def _welcome(self, client: Client) -> None:
        """Where there is no room, whoever has been here longest goes, of the address that has most of it."""
        self._guests[client] = client.host
        if len(self._guests) > _MOST_GUESTS:
            (crowd, _), *_ = Counter(self._guests.values()).most_common(1)
            eldest = next(guest for guest, host in self._guests.items() if host == crowd)
            del self._guests[eldest]
            self._refuse(eldest, "too many connections, and this one was the oldest")
            eldest.transport.abort()

    def _see_off(self, client: Client) -> None:
        self._guests.pop(client, None)
        fault, sent = client.protocol.handshake_exc, client.protocol.close_sent
        if fault is not None:
            self._refuse(client, f"malformed request: {quoted(str(fault.__cause__ or fault))}")
        elif sent and sent.code in _FAULTS:
            self._refuse(client, f"malformed message: {CloseCode(sent.code).name.lower()} {quoted(sent.reason)}")
        elif sent and sent.code == CloseCode.INTERNAL_ERROR:  # so websockets ends a connection that answers no pings
            self._refuse(client, sent.reason, "dropped")

    def _refuse(self, client: Client, reason: str, verb: str = "refused") -> None:
        if not client.refused:
            client.refused = True
            self.notes(f"{verb} {client.address}: {reason}")

    # Requests

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """None opens a WebSocket; anything else is the answer."""
        assert isinstance(connection, Client)
        try:
            url = urlsplit(request.path)
            wants_stream = any("websocket" in value.lower() for value in request.headers.get_all("Upgrade"))
            outcome = self._stream(connection, request, url) if wants_stream else self._page(request, url)
        except ValueError as error:
            outcome = Refusal(HTTPStatus.BAD_REQUEST, f"malformed request: {quoted(str(error))}")
        if isinstance(outcome, Refusal):
            self._refuse(connection, outcome.reason)
            return _response(outcome.status, Page("text/plain; charset=utf-8", f"{outcome.reason}\n".encode()))
        return outcome

    def _page(self, request: Request, url: SplitResult) -> Response | Refusal:
        headers, method = request.headers, request.method
        is_data = url.path == BIND_PATH
        refusal = self.access.refusal_of_data(headers, url) if is_data else self.access.refusal_of_page(headers)
        if refusal:
            return refusal
        if method not in ("GET", "HEAD"):
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "pages can be got and nothing else")
        if is_data:
            answer = _response(HTTPStatus.OK, Page("application/json", self.bind.encode()), *headers.get_all("Origin"))
        else:
            page = self.pages.get(url.path)
            answer = _response(HTTPStatus.OK, page) if page else _response(HTTPStatus.NOT_FOUND, _NOT_FOUND)
        if method == "HEAD":
            answer.body = b""
        return answer

    def _stream(self, client: Client, request: Request, url: SplitResult) -> Refusal | None:
        refusal = self.access.refusal_of_data(request.headers, url)
        if refusal:
            return refusal
        if url.path != STREAM_PATH:
            return Refusal(HTTPStatus.NOT_FOUND, f"the stream is at {STREAM_PATH}, not at {quoted(url.path)}")
        wanted = parse_qs(url.query).get("format", ["json"])[-1]
        if wanted not in FORMATS:
            return Refusal(HTTPStatus.BAD_REQUEST, f"format must be {' or '.join(FORMATS)}, got {quoted(wanted)}")
        client.format = wanted
        return None

    # WebSockets

    async def _attend(self, connection: ServerConnection) -> None:
        """Stay with one client until it goes."""
        assert isinstance(connection, Client)
        client, clients = connection, self.clients
        if client.subprotocol:
            client.format = SUBPROTOCOLS[client.subprotocol]
        if self.num_clients >= self.max_clients:  # told now, as browsers tell pages nothing of a refused handshake
            reason = f"{self.max_clients} clients are here already"
            self._refuse(client, reason)
            await client.close(CloseCode.TRY_AGAIN_LATER, reason)
            return
        if client.format == "binary":
            broadcast([client], self.bind)
        clients[client.format].add(client)
        self._guests.pop(client, None)
        try:
            if client.ready:
                self._catch_up(client)
            client.behind = not client.ready
            await self._answer_all(client)
        except ConnectionClosed:
            pass
        finally:
            clients[client.format].discard(client)

    async def _answer_all(self, client: Client) -> None:
        """Answer pings; close on anything else, and on more of them than anyone needs."""
        second, count = 0, 0
        async for message in client:
            now = int(client.loop.time())
            second, count = (second, count + 1) if now == second else (now, 1)
            try:
                if count > _MESSAGES_A_SECOND:
                    raise MessageError(f"more than {_MESSAGES_A_SECOND} messages a second")
                pong = pong_message(message)
            except MessageError as error:
                self._refuse(client, f"malformed message: {error}")
                await client.close(CloseCode.POLICY_VIOLATION, str(error))
                return
            if client.ready:
                broadcast([client], pong)


_NOT_FOUND = Page("text/plain; charset=utf-8", b"there is no such page\n")


def _response(status: HTTPStatus, page: Page, *origins: str) -> Response:
    """An HTTP answer; `origins`: the page, already checked, that may read it from elsewhere."""
    headers = Headers(SAFETY_HEADERS)
    headers["Content-Type"], headers["Content-Length"] = page.content_type, str(len(page.body))
    headers["Connection"] = "close"
    for origin in origins:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Vary"] = "Origin"
        del headers["Cross-Origin-Resource-Policy"]
    return Response(status.value, status.phrase, headers, page.body)


def _silent_logger() -> logging.Logger:
    """For websockets, which tells of strangers' mistakes with tracebacks; ours are the `notes`."""
    return logging.Logger("handmesh.stream", logging.CRITICAL + 1)


# The stream's server: a thread of its own, fed by the tracker's loop, which never waits for it.


_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Addresses:
    """Where a stream is to be had, and by whom."""

    host: str = "127.0.0.1"
    """The address to listen at: 127.0.0.1 for this machine alone, 0.0.0.0 for the whole network."""
    port: int = 8765
    """The port of the viewer and of the WebSockets; 0 takes a free one."""
    allow_origin: tuple[str, ...] = ()
    """Other web pages that may connect, like http://localhost:5173; * for any."""
    token: str | None = None
    """A word that clients must know; the address that is printed has it."""
    max_clients: int = 32
    """The most that may follow at once."""
    udp: tuple[str, ...] = ()
    """HOST:PORT to send JSON datagrams to."""
    udp_binary: tuple[str, ...] = ()
    """HOST:PORT to send binary datagrams to, as Unity's receiver wants them."""
    osc: tuple[str, ...] = ()
    """HOST:PORT to send OSC bundles to."""
    vmc: tuple[str, ...] = ()
    """HOST:PORT to send an avatar's fingers to, by VMC: most programs listen at 39539 or 39540."""

    @property
    def datagrams(self) -> list[tuple[tuple[str, ...], Encoder]]:
        """Who gets datagrams, and what makes them."""
        vmc = [(self.vmc, partial(vmc_datagram, side=side)) for side in ("left", "right")]
        return [(self.udp, json_datagram), (self.udp_binary, binary_datagram), (self.osc, osc_datagram), *vmc]


class StreamServer:
    """Gives every frame that is published to all who listen: WebSockets, UDP, OSC and VMC.

    >>> with StreamServer(SkinnedHand.open_hand()) as server:
    ...     print(server.url)
    ...     server.publish(TrackedFrame(frame, hands, camera))
    """

    def __init__(self, hand: SkinnedHand, addresses: Addresses | None = None, note: Note = console.warn) -> None:
        """Listen, and return when that works. note: takes a line for each connection that is refused.

        Raises OSError where the port is taken, ValueError for an address that is none.
        """
        self.addresses = addresses or Addresses()
        access = Access(self.addresses.host, self.addresses.allow_origin, self.addresses.token)
        self._notes = Notes(note)
        pages = read_pages(VIEWER)
        self.service = Service(bind_message(hand), access, pages, self._notes, self.addresses.max_clients)
        self._datagrams = [
            Datagrams(position, encode) for positions, encode in self.addresses.datagrams for position in positions
        ]
        self._poser = Poser()
        self.sequence, self._newest, self._woken = 0, None, False
        self.loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self.loop.set_exception_handler(lambda _, context: self._notes(f"stream: {_described(context)}"))
        self._listening: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()
        self.port = self._listening.result(_PATIENCE_S)

    def publish(self, tracked: TrackedFrame, metric: bool = False) -> None:
        """Give out a frame's hands. Returns at once: what clients have no time for, they miss.

        A frame without `captured_s` counts as captured now. metric: whether the hands' metres are
        metres, not only up to a scale.
        """
        self.sequence += 1
        captured_s = tracked.frame.captured_s
        if captured_s is None:
            captured_s = time.perf_counter()
        self._newest = Update(tracked, self.sequence, captured_s, metric, self._poser)
        if not self._woken and not self.loop.is_closed():
            self._woken = True
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        for position in (self.service, *self._datagrams):
            position.deliver(self._newest)

    @property
    def num_clients(self) -> int:
        """How many WebSockets follow the stream."""
        return self.service.num_clients

    @property
    def url(self) -> str:
        """The viewer's address, the token included, which stays in the browser that it is given to."""
        host = self.addresses.host
        host = _own_address() if host in ("0.0.0.0", "::", "") else host
        token = f"#token={quote(self.addresses.token, safe='')}" if self.addresses.token else ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{token}"

    def close(self) -> None:
        """Say goodbye to all clients and end the thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_PATIENCE_S)

    def __enter__(self) -> StreamServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with ExitStack() as stack:
            stack.callback(self.loop.close)
            for position in self._datagrams:
                stack.callback(position.close)
            self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        try:
            async with self.service.listening(self.addresses.host, self.addresses.port) as port:
                self._listening.set_result(port)
                await self._stop.wait()
        except OSError as error:
            where = f"{self.addresses.host}:{self.addresses.port}"
            reason = error.strerror or error
            self._listening.set_exception(
                OSError(f"cannot listen at {where} ({reason}); choose another --host or --port")
            )


def _described(context: dict[str, object]) -> str:
    error = context.get("exception")
    return f"{type(error).__name__}: {error}" if error else str(context.get("message"))


def _own_address() -> str:
    """This machine's address as others see it: that of the way out, which asks for no packet to be sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        try:
            way_out.connect(("192.0.2.1", 9))  # an address for documentation: nobody's
        except OSError:
            return "127.0.0.1"
        return str(way_out.getsockname()[0])
