"""What the server's port answers: the viewer's pages, the mesh's data, and WebSockets that get every frame."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import SplitResult, parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from handmesh.runtime.streaming.access import Access, Refusal, quoted
from handmesh.runtime.streaming.binary import frame_bytes
from handmesh.runtime.streaming.client import FORMATS, SUBPROTOCOLS, Client, Format
from handmesh.runtime.streaming.messages import MessageError, frame_message, pong_message
from handmesh.runtime.streaming.moment import Moment
from handmesh.runtime.streaming.pages import SAFETY_HEADERS, Page
from handmesh.runtime.streaming.refusals import Notes

STREAM_PATH, BIND_PATH = "/stream", "/bind.json"

LARGEST_MESSAGE_BYTES = 1024
"""Of what clients send: they have only pings to send."""

_ENCODERS = {"json": frame_message, "binary": frame_bytes}
_SPARE_CONNECTIONS = 32  # for pages and for requests that are about to be refused
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
    open_timeout_s: float = 10.0
    _clients: dict[Format, set[Client]] = field(default_factory=lambda: {name: set() for name in FORMATS})
    _connections: int = 0
    _moment: Moment | None = None
    _encoded: dict[Format, str | bytes] = field(default_factory=dict)

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while in it; gives the port, which the system chooses where `port` is 0."""
        listener = serve(
            self._attend,
            host,
            port,
            compression=None,  # costs each client's share of the processor, and milliseconds
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
        return sum(map(len, self._clients.values()))

    def deliver(self, moment: Moment) -> None:
        """Send a frame to everyone whose last one has left; the others get the newest when they have room."""
        self._moment = moment
        self._encoded.clear()
        for name, clients in self._clients.items():
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
        if name not in self._encoded and self._moment:
            self._encoded[name] = _ENCODERS[name](self._moment)
        return self._encoded[name]

    def _catch_up(self, client: Client) -> None:
        client.behind = False
        if self._moment:
            broadcast([client], self._message(client.format))

    # Connections

    def _connection(self, *args: object, **options: object) -> Client:
        client = Client(*args, **options)
        client.on_made, client.on_lost, client.on_ready = self._count, self._uncount, self._catch_up
        return client

    def _count(self, client: Client) -> None:
        self._connections += 1
        if self._connections > self.max_clients + _SPARE_CONNECTIONS:
            self._refuse(client, "too many connections")
            client.transport.abort()

    def _uncount(self, client: Client) -> None:
        self._connections -= 1
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
        headers = request.headers
        is_data = url.path == BIND_PATH
        refusal = self.access.refusal_of_data(headers, url) if is_data else self.access.refusal_of_page(headers)
        if refusal:
            return refusal
        if getattr(request, "method", "GET") != "GET":
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "pages can be got and nothing else")
        if is_data:
            return _response(HTTPStatus.OK, Page("application/json", self.bind.encode()), *headers.get_all("Origin"))
        page = self.pages.get(url.path)
        return _response(HTTPStatus.OK, page) if page else _response(HTTPStatus.NOT_FOUND, _NOT_FOUND)

    def _stream(self, client: Client, request: Request, url: SplitResult) -> Refusal | None:
        refusal = self.access.refusal_of_data(request.headers, url)
        if refusal:
            return refusal
        if url.path != STREAM_PATH:
            return Refusal(HTTPStatus.NOT_FOUND, f"the stream is at {STREAM_PATH}, not at {quoted(url.path)}")
        if self.num_clients >= self.max_clients:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.max_clients} clients are here already")
        wanted = parse_qs(url.query).get("format", ["json"])[-1]
        if wanted not in FORMATS:
            return Refusal(HTTPStatus.BAD_REQUEST, f"format must be {' or '.join(FORMATS)}, got {quoted(wanted)}")
        client.format = wanted
        return None

    # WebSockets

    async def _attend(self, connection: ServerConnection) -> None:
        """Stay with one client until it goes."""
        assert isinstance(connection, Client)
        client, clients = connection, self._clients
        if client.subprotocol:
            client.format = SUBPROTOCOLS[client.subprotocol]
        if self.num_clients >= self.max_clients:  # others were let in during the handshake
            await client.close(CloseCode.TRY_AGAIN_LATER, "too many clients")
            return
        if client.format == "binary":
            broadcast([client], self.bind)
        clients[client.format].add(client)
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
