"""What is written beside the loop: nothing of a file is lost, a camera never waits, failures are told."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from posed_hand import posed_hand

from handmesh.app import capture
from handmesh.app.capture import AsyncSink, ClipRecording, Drawn, Outputs, Snapshots
from handmesh.files import OutputError, read_image
from handmesh.types import Camera, Frame, TrackedFrame
from handmesh.video.sources import Video


def recorded(number: int = 0) -> Drawn:
    image = np.full((48, 64, 3), number, np.uint8)
    return Drawn(TrackedFrame(Frame(str(number), number / 30, image), [], Camera.from_fov(64, 48)), image)


class SlowFile:
    """Takes frames only while it is let to."""

    def __init__(self) -> None:
        self.let, self.taken, self.finished = threading.Event(), [], 0

    def take(self, drawn: Drawn) -> None:
        assert self.let.wait(10)
        self.taken.append(int(drawn.tracked.frame.name))

    def finish(self) -> None:
        self.finished += 1


def test_a_camera_never_waits_and_what_is_left_out_is_counted():
    file = SlowFile()
    writer = AsyncSink(Path("x"), file.take, file.finish, live=True)
    for k in range(40):
        writer.write(recorded(k))
    assert 30 <= writer.dropped <= 32  # eight wait, one is being written
    file.let.set()
    writer.close()
    assert len(file.taken) + writer.dropped == 40 and file.taken[:8] == list(range(8)) and file.finished == 1


def test_of_a_file_no_frame_is_lost_however_slow_the_disk_is():
    file = SlowFile()
    writer = AsyncSink(Path("x"), file.take, file.finish, live=False)
    threading.Timer(0.3, file.let.set).start()
    for k in range(40):
        writer.write(recorded(k))
    writer.close()
    assert file.taken == list(range(40)) and writer.dropped == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_an_exception_in_the_middle_of_writing_does_not_lock_the_writer():
    """From a signal's handler, as Ctrl-C raises one: it may arise between any two steps of the interpreter."""
    usual = signal.signal(signal.SIGALRM, signal.default_int_handler)
    dice = random.Random(1)
    try:
        for _ in range(100):
            writer = AsyncSink(Path("x"), lambda _: None, lambda: None, live=False)
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-4, 2e-3))
                while True:
                    writer.write(recorded())
            writer.close(timeout_s=10)
    finally:
        signal.signal(signal.SIGALRM, usual)


def test_nobody_waits_for_ever_for_a_disk_that_hangs(monkeypatch):
    monkeypatch.setattr(capture, "STUCK_S", 0.1)
    file = SlowFile()
    writer = AsyncSink(Path("x.mp4"), file.take, file.finish, live=False)
    with pytest.raises(OutputError, match=r"x\.mp4: the disk has taken nothing for 0\.1 s"):
        for k in range(20):
            writer.write(recorded(k))
    with pytest.raises(OutputError, match=r"x\.mp4 is not complete: the disk does not answer"):
        writer.close(timeout_s=0.1)
    file.let.set()
    writer.close()
    assert file.finished == 1


def test_a_failure_is_told_once_and_the_file_still_finished():
    def refuse(_: Drawn) -> None:
        raise OutputError("no space left")

    file = SlowFile()
    writer = AsyncSink(Path("x"), refuse, file.finish, live=False)
    with pytest.raises(OutputError, match="no space left"):
        for _ in range(100):
            writer.write(recorded())
            time.sleep(0.005)
    writer.close()
    assert file.finished == 1


def test_all_files_are_completed_where_some_fail_and_every_failure_is_told(capsys):
    def fail() -> None:
        raise OutputError("cannot finish")

    def lose() -> None:
        raise OutputError("what was recorded is in worse.part")

    good, outputs = SlowFile(), Outputs(live=False)
    good.let.set()
    outputs.add(Path("bad"), lambda _: None, fail)
    outputs.add(Path("good"), good.take, good.finish)
    outputs.add(Path("worse"), lambda _: None, lose)
    outputs.write(recorded(7))
    with pytest.raises(OutputError, match="cannot finish"):
        outputs.close()
    assert good.taken == [7] and good.finished == 1 and outputs.paths == [Path("bad"), Path("good"), Path("worse")]
    assert capsys.readouterr().err == "warning: what was recorded is in worse.part\n"


def test_a_key_starts_and_stops_a_recording(tmp_path):
    outputs = Outputs(live=False)
    recording = ClipRecording(outputs, tmp_path / "outputs", fps=30.0)
    assert recording.seconds is None and not outputs
    outputs.write(recorded(0))
    assert recording.toggle().startswith("recording ") and outputs and recording.seconds is not None
    for k in range(100, 104):
        outputs.write(recorded(k))
    time.sleep(0.3)  # what is shown of a recording is how long it is, not since when it is being made
    assert recording.seconds == pytest.approx(4 / 30, abs=1e-3)
    assert recording.toggle().startswith("recorded ") and not outputs and recording.seconds is None
    outputs.write(recorded(200))
    outputs.close()
    (path,) = outputs.paths
    frames = list(Video(path))
    assert len(frames) == 4 and frames[0].time_s == 0  # the recording begins with its first frame, not the session's


def test_a_recording_that_cannot_be_begun_is_a_notice(tmp_path):
    (tmp_path / "outputs").write_text("a file in the way")
    recording = ClipRecording(Outputs(live=True), tmp_path / "outputs", fps=30.0)
    assert "cannot write" in recording.toggle() and recording.seconds is None


def test_a_snapshot_is_an_image_and_its_meshes(tmp_path):
    camera, snapshots = Camera.from_fov(64, 48), Snapshots(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    snapshots.take(image, [posed_hand(camera)])
    (news,) = snapshots.close()
    png, glb = snapshots.saved
    np.testing.assert_array_equal(read_image(png), image)
    assert len(trimesh.load(glb, force="mesh").vertices) >= 1689 and png.stem == glb.stem
    assert news == f"saved {png} and .glb"


def test_a_snapshot_without_hands_and_one_without_room(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.take(np.zeros((48, 64, 3), np.uint8), [])
    (news,) = snapshots.close()
    assert news == f"saved {snapshots.saved[0]}" and len(snapshots.saved) == 1
    (tmp_path / "file").touch()
    blocked = Snapshots(tmp_path / "file")
    blocked.take(np.zeros((48, 64, 3), np.uint8), [])
    assert "cannot write" in blocked.close()[0] and blocked.saved == []
