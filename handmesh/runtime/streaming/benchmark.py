"""What the stream costs: how old frames are when clients have them, and how much slower the tracker gets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np

from handmesh.runtime.machine import peak_memory_mb
from handmesh.runtime.media.frames import Frame
from handmesh.runtime.streaming.binding import bound_hand
from handmesh.runtime.streaming.listeners import Heard, heard, listening, request_for
from handmesh.runtime.streaming.server import Addresses, StreamServer
from handmesh.runtime.tracker import HandTracker
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera, Hand

TURN_FRAMES = 15
_CAMERA = Camera.from_fov(640, 480)
_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


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

    frames: (H, W, 3) uint8 RGB for the tracker. Publishing goes on and off in turns of 15 frames, so
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
        return StreamReport(report, publish_ms, *_track_in_turns(server, hands, frames), grown_mb)


def two_hands() -> list[Hand]:
    """A left and a right hand half a metre before the camera."""
    hands = []
    for number, (side, place) in enumerate({"right": (-0.1, 0.1, 0.5), "left": (0.1, 0.1, 0.5)}.items()):
        hand, place_m = bound_hand(SkinnedHand.open_hand(), side), np.float32(place)
        hands.append(replace(hand, vertices_m=hand.vertices_m + place_m, joints_m=hand.joints_m + place_m, id=number))
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
    server.publish(Frame("", time_s, _NO_PICTURE, captured_s=called_s), hands, _CAMERA)
    return (time.perf_counter() - called_s) * 1000


def _track_in_turns(
    server: StreamServer, hands: Sequence[Hand], frames: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The tracker's times in ms, while nothing is published and while every frame is."""
    spent_ms: tuple[list[float], list[float]] = ([], [])
    with HandTracker.load() as tracker:
        for number, image_rgb in enumerate(islice(cycle(frames), 2 * len(frames))):
            streaming = number // TURN_FRAMES % 2
            tracker.track(image_rgb, number / 30)
            if number >= TURN_FRAMES:  # the first turn warms up
                spent_ms[streaming].append(tracker.timings_ms["total"])
            if streaming:
                _publish(server, hands, number / 30)
            time.sleep(0.001)  # where a camera would be waited for
    return np.array(spent_ms[0]), np.array(spent_ms[1])


def stream_table(report: StreamReport) -> str:
    """The figures as lines."""
    p50, p99 = np.percentile(report.heard.ages_ms, (50, 99))
    alone_ms, streaming_ms = np.median(report.track_alone_ms), np.median(report.track_streaming_ms)
    lines = [
        f"{report.heard.clients} clients got {report.heard.per_client_s:.1f} messages a second each",
        f"added latency: median {p50:.2f} ms, 99 % below {p99:.2f} ms",
        f"publish: median {np.median(report.publish_ms):.3f} ms, 99 % below {np.percentile(report.publish_ms, 99):.3f}",
        f"tracker: {alone_ms:.2f} ms alone, {streaming_ms:.2f} ms streaming: {100 * (report.slowdown - 1):+.1f} %",
        f"peak memory with a client that took nothing: {report.grown_mb:+.1f} MB",
    ]
    return "\n".join(lines)
