"""The tool that streams: what it publishes of a source, when it ends, what it says."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")
pytest.importorskip("pythonosc", reason="the stream is an extra: pip install 'handmesh[stream]'")

import tyro
from posed_hand import FakeTracker

from handmesh.app.options import SourceOptions
from handmesh.app.player import Pacer, Player
from handmesh.app.stream import Options, publishing, run
from handmesh.streaming.server import Addresses
from handmesh.types import Frame, Hand, SourceError, TrackedFrame
from handmesh.video.lens import Lens

ROOT = Path(__file__).parents[2]


class Listed:
    """A source of a few plain images."""

    title, live, stills, fps = "a list", False, False, 200.0

    def __init__(self, count: int, size: int = 32, live: bool = False) -> None:
        self.warnings: list[str] = []
        self.length, self.live = count, live
        self._image = np.zeros((size, size, 3), np.uint8)

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self.length):
            yield Frame(f"{number}", number / self.fps, self._image, captured_s=1.0 if self.live else None)

    def close(self) -> None:
        """Nothing is open."""


class FakeServer:
    """A server that keeps what is published, and has had enough after some frames."""

    def __init__(self, enough: int = 1000) -> None:
        self.enough = enough
        self.published: list[tuple[TrackedFrame, bool]] = []

    def publish(self, tracked: TrackedFrame, metric: bool = False) -> None:
        self.published.append((tracked, metric))
        if len(self.published) == self.enough:
            raise KeyboardInterrupt

    @property
    def frames(self) -> list[Frame]:
        return [tracked.frame for tracked, _ in self.published]


def stream(source: Listed, server: FakeServer, tracker: FakeTracker | None = None, **options: object) -> bool:
    player = Player(tracker or FakeTracker(), source, pacer=Pacer.of(source), **options)
    return player.play(publishing(player, server))


def test_every_frame_is_published_with_its_times() -> None:
    server = FakeServer()
    assert stream(Listed(4), server)
    frames = server.frames
    assert [frame.time_s for frame in frames] == [0, 1 / 200, 2 / 200, 3 / 200]
    assert frames[-1].captured_s - frames[0].captured_s > 0.8 * 3 / 200  # at the source's own pace
    assert all(len(tracked.hands) == 1 and tracked.camera.width == 32 for tracked, _ in server.published)


def test_a_camera_tells_when_its_frames_came() -> None:
    server = FakeServer()
    stream(Listed(3, live=True), server, repeat=True)
    assert [frame.captured_s for frame in server.frames] == [1.0] * 3  # and it does not begin again


def test_a_file_begins_again_and_time_goes_on() -> None:
    server = FakeServer(enough=7)
    assert not stream(Listed(3), server, repeat=True)
    np.testing.assert_allclose(np.diff([frame.time_s for frame in server.frames]), 1 / 200)


@pytest.mark.parametrize(
    ("lens", "size_m", "metric"),
    [(Lens.from_fov(), None, False), (Lens.from_fov(), 0.18, False), (Lens.from_fov(70, "--fov-deg"), 0.18, True)],
)
def test_metric_needs_camera_and_hand(lens, size_m, metric) -> None:
    tracker, server = FakeTracker(), FakeServer()
    tracker.hand_size_m = size_m
    stream(Listed(1), server, tracker, lens=lens)
    assert server.published[0][1] is metric


class Refusing(FakeTracker):
    def track(self, *_: object, **__: object) -> list[Hand]:
        raise ValueError("too small")


def test_frames_that_the_tracker_refuses(capsys) -> None:
    with pytest.raises(ValueError, match="too small"):
        stream(Listed(3), FakeServer(), Refusing(), repeat=True)
    with pytest.raises(SourceError, match="a list"):
        stream(Listed(3, live=True), FakeServer(), Refusing(), repeat=True)
    assert capsys.readouterr().err.count("too small") == 1  # said once, not of every frame


def test_run_streams_images(tmp_path, capsys) -> None:
    for number in range(2):
        Image.new("RGB", (48, 32)).save(tmp_path / f"{number}.png")
    tracker = FakeTracker()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unity:
        unity.bind(("127.0.0.1", 0))
        unity.settimeout(10)
        position = f"127.0.0.1:{unity.getsockname()[1]}"
        addresses = Addresses(port=0, udp=(position,), host="0.0.0.0")
        options = Options(SourceOptions(source=(str(tmp_path),)), addresses, repeat=False)
        assert run(options, lambda _: tracker) == 0
        frames = [json.loads(unity.recv(65536)) for _ in range(2)]
    assert [frame["sequence"] for frame in frames] == [1, 2]
    assert frames[0]["camera"]["width"] == 48
    assert tracker.calls == ["detect", "detect"] and tracker.closed
    said = capsys.readouterr().err
    assert re.search(r"open http://[\d.]+:\d+/ in a browser", said)
    assert position in said and "--token" in said and "frames streamed: 2" in said


def test_options_are_those_of_the_tracker_and_of_the_server() -> None:
    args = ["--source", "1", "--num-hands", "1", "--fov-deg", "70", "--port", "9", "--udp", "a:1", "b:2", "--no-repeat"]
    options = tyro.cli(Options, args=args)
    assert (options.tracker.source, options.tracker.num_hands, options.tracker.fov_deg) == (("1",), 1, 70.0)
    assert (options.addresses.port, options.addresses.udp, options.repeat) == (9, ("a:1", "b:2"), False)
    assert Options().addresses.host == "127.0.0.1"


def test_the_script_streams_the_bundled_clip_until_it_is_stopped() -> None:
    websockets = pytest.importorskip("websockets.sync.client")
    command = [sys.executable, str(ROOT / "demo" / "stream.py"), "--port", "0", "--threads", "1"]
    command += ["--source", str(ROOT / "handmesh" / "assets" / "demo.mp4")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        try:
            line = next(line for line in program.stderr if "open http" in line)
            address = re.search(r"http://(127\.0\.0\.1:\d+)/", line)[1]
            with websockets.connect(f"ws://{address}/stream", proxy=None) as client:
                frames = [json.loads(client.recv(timeout=60)) for _ in range(3)]
        finally:
            program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=60)[1]
    assert program.returncode == 0, said
    assert "stopped" in said and "Traceback" not in said
    assert frames[0]["sequence"] < frames[1]["sequence"] < frames[2]["sequence"]
    assert any(frame["hands"] for frame in frames)
