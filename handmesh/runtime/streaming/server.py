"""The stream's server: a thread of its own, fed by the tracker's loop, which never waits for it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import quote

from handmesh.assets import VIEWER
from handmesh.runtime import console
from handmesh.runtime.media.frames import Frame
from handmesh.runtime.streaming.access import Access
from handmesh.runtime.streaming.binding import bind_message
from handmesh.runtime.streaming.datagrams import Datagrams, json_datagram, osc_datagram
from handmesh.runtime.streaming.moment import Moment, Poser
from handmesh.runtime.streaming.pages import read_pages
from handmesh.runtime.streaming.refusals import Note, Notes
from handmesh.runtime.streaming.service import Service
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera, Hand

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
    """HOST:PORT to send JSON datagrams to, as Unity's receiver wants them."""
    osc: tuple[str, ...] = ()
    """HOST:PORT to send OSC bundles to."""


class StreamServer:
    """Gives every frame that is published to all who listen: WebSockets, UDP and OSC.

    >>> with StreamServer(SkinnedHand.open_hand()) as server:
    ...     print(server.url)
    ...     server.publish(frame, hands, camera)
    """

    def __init__(self, hand: SkinnedHand, addresses: Addresses | None = None, note: Note = console.warn) -> None:
        """Listen, and return when that works. note: takes a line for each connection that is refused.

        Raises OSError where the port is taken, ValueError for an address that is none.
        """
        self.addresses = addresses or Addresses()
        access = Access(self.addresses.host, self.addresses.allow_origin, self.addresses.token)
        self._notes = Notes(note)
        pages = read_pages(VIEWER)
        self._service = Service(bind_message(hand), access, pages, self._notes, self.addresses.max_clients)
        self._datagrams = [Datagrams(place, json_datagram) for place in self.addresses.udp]
        self._datagrams += [Datagrams(place, osc_datagram) for place in self.addresses.osc]
        self._poser = Poser()
        self._sequence, self._newest, self._woken = 0, None, False
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda _, context: self._notes(f"stream: {_described(context)}"))
        self._listening: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()
        self.port = self._listening.result(_PATIENCE_S)

    def publish(self, frame: Frame, hands: Sequence[Hand], camera: Camera, metric: bool = False) -> None:
        """Give out a frame's hands. Returns at once: what clients have no time for, they miss.

        frame: for its times; one without `captured_s` counts as captured now. metric: whether the
        hands' metres are metres, not only up to a scale.
        """
        self._sequence += 1
        captured_s = time.perf_counter() if frame.captured_s is None else frame.captured_s
        self._newest = Moment(self._sequence, frame.time_s, captured_s, camera, hands, metric, self._poser)
        if not self._woken and not self._loop.is_closed():
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        for place in (self._service, *self._datagrams):
            place.deliver(self._newest)

    @property
    def num_clients(self) -> int:
        """How many WebSockets follow the stream."""
        return self._service.num_clients

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
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_PATIENCE_S)

    def __enter__(self) -> StreamServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._loop.close)
            for place in self._datagrams:
                stack.callback(place.close)
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        try:
            async with self._service.listening(self.addresses.host, self.addresses.port) as port:
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
