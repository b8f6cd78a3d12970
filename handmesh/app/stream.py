"""`handmesh stream`: a camera, video or images in, hands to everyone who listens out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import tyro

from handmesh import console
from handmesh.app.options import SourceOptions
from handmesh.app.player import Consumer, HandSizing, Pacer, Player, Tracker
from handmesh.app.webcam import choose_source
from handmesh.streaming.server import Addresses, StreamServer
from handmesh.types import TrackedFrame


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass(frozen=True)
class Options:
    """Hands as a stream: a page to look at, WebSockets for programs, UDP for engines, OSC for instruments.

    VMC is for avatars. Ctrl-C stops. docs/stream.md describes the messages.
    """

    tracker: SourceOptions = field(default_factory=SourceOptions)
    addresses: Addresses = field(default_factory=Addresses)
    repeat: bool = True
    """Begin a video or images again at their end."""


def run(options: Options, load: Callable[[SourceOptions], Tracker] = SourceOptions.load) -> int:
    """`handmesh stream`: stream with the tracker that `load` gives until the source ends or Ctrl-C; the exit code.

    Raises ValueError, OSError or RuntimeError, with one clear line, where that cannot be done.
    """
    lens, calibrated_at_m = options.tracker.lens(), options.tracker.calibrate_hand
    sizing = None if calibrated_at_m is None else HandSizing(calibrated_at_m)
    with ExitStack() as stack:
        source, _ = choose_source(options.tracker)
        stack.callback(source.close)
        with console.waiting("getting ready"):
            tracker = load(options.tracker)
            stack.callback(tracker.close)
            server = stack.enter_context(StreamServer(tracker.hand, options.addresses))
        _greet(server)
        player = Player(tracker, source, lens, sizing, options.repeat, Pacer.of(source))
        if not player.play(publishing(player, server)):
            console.say("stopped")
        console.say(f"frames streamed: {player.tally.frames}")
    return 0


def _greet(server: StreamServer) -> None:
    console.say(f"open {server.url} in a browser; Ctrl-C stops")
    to = server.addresses
    for kind, positions in (("UDP", (*to.udp, *to.udp_binary)), ("OSC", to.osc), ("VMC", to.vmc)):
        if positions:
            console.say(f"{kind} to {', '.join(positions)}")
    if not (server.addresses.token or _is_private(server.addresses.host)):
        console.warn("everyone in this network can see these hands; --token WORD keeps others out")


def _is_private(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def publishing(player: Player, server: StreamServer) -> Consumer:
    """What gives each tracked frame to the server; frames of a file count as captured when they were read."""

    def publish(tracked: TrackedFrame) -> None:
        frame = tracked.frame
        if frame.captured_s is None:
            frame = frame._replace(captured_s=player.taken_s)
        server.publish(tracked._replace(frame=frame), player.metric)

    return publish
