"""`handmesh stream`: a camera, video or images in, hands to everyone who listens out."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import tyro

from handmesh import console
from handmesh.app.options import SourceOptions
from handmesh.app.player import HandSizing, Pacer, Tracker
from handmesh.app.webcam import choose_source
from handmesh.streaming.server import Addresses, StreamServer
from handmesh.types import Camera, Frame, Hand, Source, SourceError
from handmesh.video.lens import Lens


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass(frozen=True)
class Options:
    """Hands as a stream: a page to look at, WebSockets for programs, UDP for Unity, OSC for instruments.

    Ctrl-C stops. docs/stream.md describes the messages.
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
        player = Player(tracker, source, lens, server, sizing)
        try:
            player.play(options.repeat)
        except KeyboardInterrupt:
            console.say("stopped")
        console.say(f"frames streamed: {player.frames}")
    return 0


def _greet(server: StreamServer) -> None:
    console.say(f"open {server.url} in a browser; Ctrl-C stops")
    for kind, places in (("UDP", server.addresses.udp), ("OSC", server.addresses.osc)):
        if places:
            console.say(f"{kind} to {', '.join(places)}")
    if not (server.addresses.token or _is_private(server.addresses.host)):
        console.warn("everyone in this network can see these hands; --token WORD keeps others out")


def _is_private(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Player:
    """Takes a source's frames through the tracker to the server, at the source's own pace."""

    tracker: Tracker
    source: Source
    lens: Lens
    server: StreamServer
    sizing: HandSizing | None = None
    frames: int = 0  # streamed so far
    _told: set[str] = field(default_factory=set)

    def play(self, repeat: bool) -> None:
        """Stream all frames; for ever, if `repeat` and the source is a file. Raises SourceError if none is usable."""
        pacer = Pacer(0.0 if self.source.live else 1 / self.source.fps)
        for frame in self._frames(repeat):
            self._take(frame)
            time.sleep(pacer.wait_s())
        if not self.frames:
            raise SourceError(f"nothing in {self.source.title} could be used")

    def _frames(self, repeat: bool) -> Iterator[Frame]:
        """The source's frames, with a clock that goes on where the source begins again."""
        start_s = 0.0
        while True:
            frame_s, before = 0.0, self.frames
            for frame in self.source:
                self._tell_troubles()
                frame_s = frame.time_s
                captured_s = time.perf_counter() if frame.captured_s is None else frame.captured_s
                yield frame._replace(time_s=start_s + frame_s, captured_s=captured_s)
            self._tell_troubles()
            if self.source.live or not repeat or self.frames == before:
                return
            start_s += frame_s + 1 / self.source.fps

    def _tell_troubles(self) -> None:
        """Warn of what went wrong at the source, once of each."""
        for trouble in self.source.troubles:
            if trouble not in self._told:
                console.warn(trouble)
                self._told.add(trouble)
        self.source.troubles.clear()

    def _take(self, frame: Frame) -> None:
        try:
            hands, camera = self._look_at(frame)
        except ValueError as error:
            if self.source.length == 1 or not (self.source.live or self.source.stills):
                raise
            name = self.source.title if self.source.live else frame.name
            self.source.troubles.append(f"skipped: {name}: {error}")
            return
        if self.sizing:
            self.sizing.add(self.tracker, hands, frame.time_s)
        metric = self.lens.known and self.tracker.hand_size_m is not None
        self.server.publish(frame, hands, camera, metric)
        self.frames += 1

    def _look_at(self, frame: Frame) -> tuple[list[Hand], Camera]:
        height, width = frame.image_rgb.shape[:2]
        camera = self.lens.camera_for(width, height)
        image_rgb = self.lens.rectified(frame.image_rgb)
        if self.source.stills:
            return self.tracker.detect(image_rgb, camera), camera
        return self.tracker.track(image_rgb, frame.time_s, camera), camera
