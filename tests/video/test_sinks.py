"""What is written is whole, plays, and survives whatever ends the program."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from posed_hand import posed_hand

from handmesh.files import OutputError, read_image, write_image
from handmesh.types import Camera, Frame
from handmesh.video.sinks import GrowingFile, HandsFile, VideoRecorder, fitted, open_sink, overlay_name
from handmesh.video.sources import Video


def frame(name: str = "x.jpg", time_s: float = 0.0, shrink: int = 1, size: tuple[int, int] = (48, 64)) -> Frame:
    return Frame(name, time_s, np.full((*size, 3), 100, np.uint8), shrink)


def record(path: Path, times_s: np.ndarray, size: tuple[int, int] = (48, 64)) -> None:
    recorder = VideoRecorder(path, 30)
    for time_s in times_s:
        recorder.write(frame(time_s=time_s), np.full((*size, 3), 200, np.uint8))
    recorder.close()


def test_video_is_what_browsers_play_and_keeps_the_times(tmp_path):
    times = np.array([0, 0.033, 0.1, 0.4, 0.45])
    record(tmp_path / "deep" / "v.mp4", times)
    with av.open(str(tmp_path / "deep" / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        np.testing.assert_allclose([f.time for f in container.decode(stream)], times, atol=1e-4)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["v.mp4"]


def test_odd_sides_and_times_that_stand_still(tmp_path):
    record(tmp_path / "v.mp4", np.zeros(3), size=(47, 63))
    frames = list(Video(tmp_path / "v.mp4"))
    assert len(frames) == 3 and frames[0].image_rgb.shape == (48, 64, 3)


def test_images_of_other_sizes_are_fitted():
    wide = np.full((10, 40, 3), 9, np.uint8)
    framed = fitted(wide, (20, 20))
    assert framed.shape == (20, 20, 3) and (framed[:7] == 0).all() and (framed[9:11] == 9).all()
    assert fitted(wide, (40, 10)) is wide
    assert (fitted(wide[:9, :39], (40, 10)) == 9).all()


def test_a_recorder_without_frames_leaves_nothing(tmp_path):
    VideoRecorder(tmp_path / "v.mp4").close()
    assert not list(tmp_path.iterdir())


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from handmesh.video.sinks import OverlayFolder, VideoRecorder
from handmesh.video.sources import Frame
video, folder = VideoRecorder(Path(sys.argv[1]) / "v.mp4", 10), OverlayFolder(Path(sys.argv[1]) / "out")
for k in range(60):
    image = np.random.default_rng(k).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    video.write(Frame(f"{k}.png", k / 10, image), image)
    folder.write(Frame(f"{k}.png", k / 10, image), image, [])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_written_survives_a_kill(tmp_path):
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True)
    assert done.returncode == -9, done.stderr
    assert len(list(Video(tmp_path / "v.part.mp4"))) >= 20
    assert len(json.loads((tmp_path / "out" / "hands.json").read_text())) == 60


def test_what_a_killed_process_left_is_kept(tmp_path):
    for name in ("v.part.mp4", "v.part-2.mp4"):
        (tmp_path / name).write_text("left")
    record(tmp_path / "v.mp4", np.arange(3) / 10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.mp4", "v.part-2.mp4", "v.part.mp4"]
    assert (tmp_path / "v.part.mp4").read_text() == (tmp_path / "v.part-2.mp4").read_text() == "left"
    assert len(list(Video(tmp_path / "v.mp4"))) == 3


def test_the_index_comes_first_so_that_browsers_begin_at_once(tmp_path):
    record(tmp_path / "v.mp4", np.arange(20) / 10)
    data = (tmp_path / "v.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat") and b"moof" not in data


CLOCKS = {
    "begins late": ([1e9, 1e9 + 0.5], [0, 0.5]),
    "runs back": ([5, 5.5, 0, 0.5, 1], [0, 0.5, 0.6, 1.1, 1.6]),
    "stands still": ([1, 1, 1], [0, 0.1, 0.2]),
    "jumps ahead": ([0, 1e6, 1e6 + 1], [0, 0.1, 1.1]),
    "gives no number": ([float("nan"), 3, float("inf"), 3.5, -1e300], [0, 0.1, 0.2, 0.6, 0.7]),
}


@pytest.mark.parametrize("case", CLOCKS)
def test_a_clock_that_misbehaves_does_not_spoil_the_recording(tmp_path, case):
    times_s, shown_s = CLOCKS[case]
    recorder = VideoRecorder(tmp_path / "v.mp4", 10)
    for time_s in times_s:
        recorder.write(frame(time_s=time_s), np.zeros((48, 64, 3), np.uint8))
    recorder.close()
    with av.open(str(tmp_path / "v.mp4")) as container:
        np.testing.assert_allclose([f.time for f in container.decode(video=0)], shown_s, atol=1e-4)


_FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from handmesh.files import OutputError
from handmesh.video.sinks import VideoRecorder
from handmesh.video.sources import Frame
images = [np.random.default_rng(k).integers(0, 255, (48, 64, 3), dtype=np.uint8) for k in range(60)]
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    video = VideoRecorder(Path(sys.argv[1]) / str(limit) / "v.mp4", 10)
    try:
        for k, image in enumerate(images):
            video.write(Frame(f"{k}.png", k / 10, image), image)
    except OutputError as error:
        print(error)
    try:
        video.close()
    except OutputError as error:
        print(error)
"""


def test_a_full_disk_keeps_all_that_there_was_room_for(tmp_path):
    pytest.importorskip("resource", reason="the size of files can be limited on Unix alone")
    limits = {0: 0, 500: 0, 20_000: 5, 55_000: 20, 100_000: 40, 110_000: 48}  # bytes, and the frames that fit at least
    done = subprocess.run([sys.executable, "-c", _FULL, tmp_path, *map(str, limits)], capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert done.returncode == 0 and len(said) == len(limits), done.stderr + done.stdout
    assert all(os.strerror(errno.EFBIG) in line for line in said)
    for line, (limit, least) in zip(said, limits.items(), strict=True):
        assert [p.name for p in (tmp_path / str(limit)).iterdir()] == ["v.mp4"] * (least > 0)
        assert line.endswith("what was recorded before is kept") == (least > 0)
        if least:  # PyAV is strict: a torn end would raise
            with av.open(str(tmp_path / str(limit) / "v.mp4")) as container:
                assert sum(1 for _ in container.decode(video=0)) >= least


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
def test_a_folder_that_is_removed_comes_back_with_all_that_was_recorded(tmp_path):
    folder, image = tmp_path / "out", np.full((48, 64, 3), 9, np.uint8)
    video, hands = VideoRecorder(folder / "v.mp4"), HandsFile(folder / "hands.json")
    for k in range(40):
        if k == 20:
            shutil.rmtree(folder)
        video.write(frame(time_s=k / 30), image)
        hands.append({"n": k})
    video.close()
    hands.close()
    assert len(list(Video(folder / "v.mp4"))) == 40
    assert [record["n"] for record in json.loads((folder / "hands.json").read_text())] == list(range(40))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_ctrl_c_waits_until_what_is_written_is_whole(tmp_path, monkeypatch):
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler), signal.getsignal(signal.SIGINT)
    original, interrupts = GrowingFile.write, []

    def write(file: GrowingFile, data: bytes) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        return original(file, data)

    monkeypatch.setattr(GrowingFile, "write", write)
    video = VideoRecorder(tmp_path / "v.mp4", 10)
    for step in [lambda k=k: video.write(frame(time_s=k / 10), np.full((48, 64, 3), k, np.uint8)) for k in range(40)]:
        with interrupted(interrupts):
            step()
    with interrupted(interrupts):
        video.close()
    assert len(interrupts) >= 3 and len(list(Video(tmp_path / "v.mp4"))) == 40
    assert signal.signal(signal.SIGTERM, usual[0]) == signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) == usual[1]


@contextmanager
def interrupted(interrupts: list[str]) -> Iterator[None]:
    """Note Ctrl-C and go on."""
    try:
        yield
    except KeyboardInterrupt:
        interrupts.append("Ctrl-C")


def test_a_folder_gets_overlays_and_the_hands(tmp_path):
    camera = Camera.from_fov(64, 48)
    hand, image = posed_hand(camera, side="left"), np.full((48, 64, 3), 7, np.uint8)
    output = open_sink(tmp_path / "out", many=True)
    output.write(frame("deep/a.png"), image, [hand])
    output.write(frame("b.tif", shrink=4), image, [hand])
    output.write(frame("c.jpg"), image, [])
    output.close()
    np.testing.assert_array_equal(read_image(tmp_path / "out/deep/a.png"), image)
    assert (tmp_path / "out/b.tif.png").exists() and (tmp_path / "out/c.jpg").exists()
    a, b, c = json.loads((tmp_path / "out/hands.json").read_text())
    assert a["file"] == "deep/a.png" and (a["width"], a["height"]) == (64, 48)
    assert a["hands"][0]["side"] == "left" and a["hands"][0]["score"] == pytest.approx(0.97)
    np.testing.assert_allclose(a["hands"][0]["joints_px"], hand.joints_px, atol=0.01)
    np.testing.assert_allclose(a["hands"][0]["joints_m"], hand.joints_m, atol=1e-5)
    assert (b["width"], b["height"]) == (256, 192)  # pixels of the file, not of what was read
    np.testing.assert_allclose(b["hands"][0]["joints_px"], (hand.joints_px + 0.5) * 4 - 0.5, atol=0.01)
    assert c["hands"] == []


def test_hands_are_valid_json_after_every_record_and_replace_an_older_list(tmp_path):
    path = tmp_path / "hands.json"
    path.write_text(json.dumps([{"old": "x" * 10_000}]))
    hands = HandsFile(path)
    assert len(json.loads(path.read_text())) == 1  # not yet replaced
    for count in range(1, 4):
        hands.append({"n": count})
        assert [record["n"] for record in json.loads(path.read_text())] == list(range(1, count + 1))
    hands.close()


def test_a_full_disk_costs_only_the_record_at_hand(tmp_path, monkeypatch):
    hands = HandsFile(tmp_path / "hands.json")
    hands.append({"n": 1})

    class Full:
        def __init__(self, file) -> None:
            self.file, self.full = file, True

        def write(self, data: bytes) -> int:
            if self.full and len(data) > 8:
                return self.file.write(data[:8])
            return self.file.write(data)

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    monkeypatch.setattr(hands, "file", Full(hands.file))
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
        hands.append({"n": 2})
    assert json.loads((tmp_path / "hands.json").read_text()) == [{"n": 1}]
    hands.file.full = False
    hands.append({"n": 3})
    assert json.loads((tmp_path / "hands.json").read_text()) == [{"n": 1}, {"n": 3}]


def test_an_image_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path, old = tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8)
    write_image(path, old)

    def refuse(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*x\.png: No space left"):
        write_image(path, old + 9)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    np.testing.assert_array_equal(read_image(path), old)


def test_names_of_overlays():
    assert overlay_name("a/b.JPG") == "a/b.JPG" and overlay_name("c.tif") == "c.tif.png"
    assert overlay_name("000012") == "000012.jpg"


@pytest.mark.parametrize(
    ("name", "many", "reason"),
    [
        ("x.gif", True, "give a folder, or a file as .mp4, .png"),
        ("x.png", True, "can hold one image"),
        ("file/x.png", False, "cannot write"),
        ("file/x.mp4", True, "cannot write"),
        ("file/out", True, "cannot write"),
    ],
)
def test_bad_outputs_are_refused_at_once(tmp_path, name, many, reason):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=reason) as caught:
        open_sink(tmp_path / name, many)
    assert "\n" not in str(caught.value)
