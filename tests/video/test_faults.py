"""Whole sessions in which something goes wrong: each says so, goes on or ends cleanly, and keeps what was recorded."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_hand import FakeTracker
from simulated_camera import CameraPort, numbered

from handmesh import console
from handmesh.app import options as options_module
from handmesh.app import webcam as app
from handmesh.assets import DEMO_CLIP, model_path
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Frame
from handmesh.video import camera, sinks, sources
from handmesh.video.camera import CameraFeed
from handmesh.video.sinks import GrowingFile
from handmesh.video.sources import Video


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """Work in an empty folder without a display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(camera, "FIRST_PAUSE_S", 0.02)
    return tmp_path


@pytest.fixture
def plugged_in(monkeypatch) -> Callable[..., None]:
    """Makes a simulated camera the one that sources open."""

    def plug_in(port: CameraPort, **options: float) -> None:
        feed = partial(CameraFeed, open_capture=port.open, **options)
        monkeypatch.setattr(sources, "CameraFeed", feed)

    return plug_in


class Watching(FakeTracker):
    """Does something before its `number`-th frame, and something else at its end by Ctrl-C."""

    def __init__(self, at: dict[int, Callable[[], object]], last: int = 30) -> None:
        super().__init__()
        self._at, self._last = at, last

    def track(self, *args: object, **kwargs: object) -> list:
        number = len(self.calls)
        if number == self._last:
            raise KeyboardInterrupt
        self._at.get(number, lambda: None)()
        return super().track(*args, **kwargs)


def run(source: str, tracker: FakeTracker, **options: object) -> int:
    chosen = options_module.Options(source=(source,), window=False, **options)
    return console.guarded(lambda: app.run(chosen, lambda _: tracker))


def recorded(path: Path) -> list[Frame]:
    """The frames of a recording, every one of which must decode."""
    video = Video(path)
    frames = list(video)
    assert not video.warnings
    return frames


def test_a_camera_vanishes_and_returns(plugged_in, capsys):
    port = CameraPort(period_s=0.01)
    plugged_in(port)
    assert run("0", Watching({10: lambda: port.unplug_for(0.3)}), record=Path("v.mp4")) == 0
    frames, said = recorded(Path("v.mp4")), capsys.readouterr().err
    assert len(frames) >= 20 and np.diff([frame.time_s for frame in frames]).max() > 0.25
    assert "camera 0 gives no frames; waiting" in said and "camera 0 is back after" in said


def test_a_camera_vanishes_for_good(plugged_in, capsys):
    port = CameraPort(period_s=0.01)
    plugged_in(port, return_s=0.3)
    tracker = Watching({10: lambda: setattr(port, "plugged", False)})
    assert run("0", tracker, record=Path("v.mp4")) == 0
    assert 10 <= len(recorded(Path("v.mp4"))) <= 13
    assert "camera 0 stopped giving frames and did not return in 0.3 s" in capsys.readouterr().err


def test_a_camera_that_gives_odd_images_of_changing_size(plugged_in, capsys):
    def image(number: int) -> object:
        sizes = [(48, 64), (60, 80), (24, 32)]
        odd = [None, np.full((48, 64, 3), np.nan), np.zeros((48, 64), np.uint8), np.zeros((48, 64, 4), np.uint8)]
        if number % 5 == 4:
            return odd[number // 5 % 4]
        return np.full((*sizes[number // 20 % 3], 3), 0 if number % 2 else 90, np.uint8)

    plugged_in(CameraPort(image, period_s=0.01))
    assert run("0", Watching({}, last=50), record=Path("v.mp4")) == 0
    frames, said = recorded(Path("v.mp4")), capsys.readouterr().err
    assert len({frame.image_rgb.shape for frame in frames}) == 1 and len(frames) >= 40
    for oddity in ("another size", "empty images", "no colours", "grey images", "alpha"):
        assert said.count(oddity) == 1


def test_only_images_that_are_left_out_are_counted_as_skipped(elsewhere, capsys):
    (elsewhere / "in").mkdir()
    first, second = (Image.new("RGB", (64, 48), (k, 40, 40)) for k in (0, 200))
    first.save(elsewhere / "in" / "a.webp", save_all=True, append_images=[second])
    first.save(elsewhere / "in" / "b.png")
    (elsewhere / "in" / "c.png").write_text("no image")
    (elsewhere / "in" / "d.mov").touch()
    assert run("in", FakeTracker(), output=Path("out")) == 0
    said = capsys.readouterr().err
    assert "a.webp is animated" in said and "left out: 1 .mov" in said and "skipped: in/c.png" in said
    assert "images: 2 (1 skipped)" in said


class Clip:
    """A source with the times that it is given."""

    title, live, stills, fps = "clip", False, False, 10.0

    def __init__(self, times_s: list[float]) -> None:
        self._times_s, self.length, self.warnings = times_s, len(times_s), []
        self.files: dict[str, Path] = {}

    def __iter__(self) -> Iterator[Frame]:
        for k, time_s in enumerate(self._times_s):
            yield Frame(str(k), time_s, numbered(k).repeat(2, 0))

    def close(self) -> None:
        """Nothing is held."""


def test_a_clock_that_runs_back(monkeypatch):
    times_s = [*np.arange(20) / 10 + 1e6, *np.arange(20) / 10 - 5, *np.arange(5) / 10 - 1e9]
    monkeypatch.setattr(app, "open_source", lambda *_: Clip(times_s))
    assert run("clip", FakeTracker(), record=Path("v.mp4"), export=Path("hands.json")) == 0
    shown_s = [frame.time_s for frame in recorded(Path("v.mp4"))]
    np.testing.assert_allclose(shown_s, np.arange(45) / 10, atol=1e-3)
    assert json.loads(Path("hands.json").read_text())


def test_the_disk_is_full(monkeypatch, capsys):
    class Full(GrowingFile):
        def write(self, data: bytes) -> int:
            if self.tell() > 20_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    class Noisy(FakeTracker):  # noise takes room
        def track(self, frame_rgb: np.ndarray, *args: object, **kwargs: object) -> list:
            frame_rgb[:] = np.random.default_rng(len(self.calls)).integers(0, 255, frame_rgb.shape)
            return super().track(frame_rgb, *args, **kwargs)

    monkeypatch.setattr(sinks, "GrowingFile", Full)
    monkeypatch.setattr(app, "open_source", lambda *_: Clip(list(np.arange(300) / 10)))
    assert run("clip", Noisy(), record=Path("v.mp4"), export=Path("hands.json")) == 1
    assert len(recorded(Path("v.mp4"))) >= 5 and json.loads(Path("hands.json").read_text())
    said = capsys.readouterr().err
    assert f"v.mp4: {os.strerror(errno.ENOSPC)}; what was recorded before is kept" in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
@pytest.mark.parametrize("name", ["v.mp4", ""])
def test_the_output_folder_is_removed(monkeypatch, name):
    monkeypatch.setattr(app, "open_source", lambda *_: Clip(list(np.arange(40) / 10)))
    tracker = Watching({20: lambda: os.rename("out", "gone")}, last=99)  # at once, while a thread writes there
    assert run("clip", tracker, output=Path("out") / name) == 0
    if name:
        assert len(recorded(Path("out/v.mp4"))) == 40
    else:
        assert len(json.loads(Path("out/hands.json").read_text())) == 40 and len(list(Path("out").glob("*.jpg"))) >= 15


def test_a_video_that_shrinks_while_it_is_read(capsys):
    shutil.copy(DEMO_CLIP, "clip.mp4")
    tracker = Watching({5: lambda: os.truncate("clip.mp4", 60_000)}, last=10_000)
    assert run("clip.mp4", tracker, record=Path("v.mp4")) == 0
    assert 5 < len(recorded(Path("v.mp4"))) < Video(DEMO_CLIP).length
    assert "ended early" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
def test_the_model_files_are_removed_while_they_run(tmp_path):
    shutil.copy(model_path("fast"), tmp_path / "mine.onnx")
    with HandTracker.load(tmp_path / "mine.onnx", threads=1) as tracker:
        (tmp_path / "mine.onnx").unlink()
        frames = list(Video(DEMO_CLIP))[:12]
        assert any([tracker.track(frame.image_rgb, frame.time_s) for frame in frames])


def test_no_thread_outlives_a_session(plugged_in):
    before = set(threading.enumerate())
    plugged_in(CameraPort())
    assert run("0", Watching({}), record=Path("v.mp4")) == 0
    assert set(threading.enumerate()) <= before
