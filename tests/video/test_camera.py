"""The newest frame of a camera, whatever the camera does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from simulated_camera import SIZE, CameraPort, numbered

from handmesh.assets import DEMO_CLIP
from handmesh.types import SourceError
from handmesh.video import camera
from handmesh.video.camera import CameraFeed, CameraInfo, list_cameras, rgb_of


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(camera, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(camera, "JOIN_S", 0.2)
    before = set(threading.enumerate())
    yield
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("camera")]


def feed(port: CameraPort, **options: float) -> CameraFeed:
    return CameraFeed(0, **{"patience_s": 1.0, "return_s": 10.0, "open_capture": port.open, **options})


def test_whoever_asks_gets_the_newest_frame():
    port = CameraPort(period_s=0.01)
    source = feed(port)
    frames = iter(source)
    next(frames)
    time.sleep(0.2)
    taken, frame = port.taken, next(frames)
    age_s = time.perf_counter() - frame.captured_s
    assert taken > 5 and int(frame.name) >= taken - 2 and 0 <= age_s < 1
    assert frame.image_rgb[0, 0].tolist() == [0, 0, int(frame.name) % 256]  # BGR became RGB
    assert 0.15 < frame.time_s < 5 and source.live and source.fps == 30 and source.length is None
    source.close()
    assert port.released == 1 and not source.warnings


def test_frames_that_were_given_never_change():
    source = feed(CameraPort())
    frames = list(islice(source, 30))
    source.close()
    assert [frame.image_rgb[0, 0, 2] for frame in frames] == [int(frame.name) % 256 for frame in frames]
    assert all(a.captured_s < b.captured_s for a, b in pairwise(frames))


def test_opencv_itself_reads_into_the_memory_that_it_is_given():
    source = CameraFeed(0, open_capture=lambda _: cv2.VideoCapture(str(DEMO_CLIP)))
    frames, copies = [], []
    for frame in islice(source, 12):
        frames.append(frame.image_rgb)
        copies.append(frame.image_rgb.copy())
        time.sleep(0.005)
    source.close()
    assert source.fps == 30
    np.testing.assert_array_equal(frames, copies)
    assert all((a != b).any() for a, b in pairwise(frames))


def test_a_camera_that_returns_goes_on():
    port = CameraPort()
    source = feed(port)
    frames = iter(source)
    before = next(frames)
    port.unplug_for(0.3)
    after = next(f for f in frames if f.time_s > before.time_s + 0.3)
    assert int(after.name) > int(before.name) and port.opened == 2
    assert source.warnings[0] == "camera 0 gives no frames; waiting 10 s for it to return"
    assert source.warnings[1].startswith("camera 0 is back after ") and len(source.warnings) == 2
    source.close()


def test_a_camera_that_stays_away_ends_the_source():
    port = CameraPort()
    source = feed(port, return_s=0.3)
    frames = iter(source)
    next(frames)
    port.plugged = False
    assert len(list(frames)) <= 1
    assert source.warnings[-1] == "camera 0 stopped giving frames and did not return in 0.3 s"
    source.close()


def test_a_driver_that_raises_is_a_camera_that_went_away():
    def image(number: int) -> np.ndarray:
        if number == 5:
            port.taken += 1
            raise cv2.error("a driver's own words")
        return numbered(number)

    port = CameraPort(image)
    source = feed(port)
    assert [f for f in islice(source, 20) if int(f.name) > 8] and port.opened == 2
    source.close()


def test_a_read_that_hangs_hangs_nobody():
    port = CameraPort()
    source = feed(port, return_s=0.3)
    frames = iter(source)
    next(frames)
    port.goes_on.clear()
    begin_s = time.perf_counter()
    assert len(list(frames)) <= 2
    source.close()
    assert time.perf_counter() - begin_s < 5
    assert source.warnings[-1] == "camera 0 does not answer and was left behind"
    port.goes_on.set()
    time.sleep(0.05)
    assert port.released == 1  # by the thread itself, once the driver answered


def test_who_waits_can_do_something_and_stop():
    port = CameraPort()
    source = feed(port)
    calls = []
    source.while_waiting = lambda: calls.append(1) or len(calls) < 3
    frames = iter(source)
    next(frames)
    port.plugged = False
    assert len(list(frames)) <= 1 and len(calls) == 3
    source.close()


ODD = {
    "grey": (np.full(SIZE, 7, np.uint8), 7, "grey images, which become RGB"),
    "grey in 3D": (np.full((*SIZE, 1), 7, np.uint8), 7, "grey images, which become RGB"),
    "alpha": (np.full((*SIZE, 4), 7, np.uint8), 7, "images with alpha, which is dropped"),
    "16 bits": (np.full((*SIZE, 3), 7 * 257, np.uint16), 7, "uint16 images, which become 8 bits"),
    "floats to 1": (np.full((*SIZE, 3), 0.2), 51, "float64 images, which become 8 bits"),
    "floats to 255": (np.full((*SIZE, 3), 300.0, np.float32), 255, "float32 images, which become 8 bits"),
    "every other row": (np.full((2 * SIZE[0], SIZE[1], 3), 7, np.uint8)[::-2], 7, ""),
    "NaN": (np.full((*SIZE, 3), np.nan), None, "float64 images that are no colours, which are skipped"),
    "complex": (np.ones((*SIZE, 3), complex), None, "complex128 images that are no colours, which are skipped"),
    "empty": (np.empty((0, 0, 3), np.uint8), None, "empty images, which are skipped"),
    "nothing": (None, None, "empty images, which are skipped"),
    "flat": (np.ones(99, np.uint8), None, "torn images, which are skipped"),
    "two channels": (np.ones((*SIZE, 2), np.uint8), None, "torn images, which are skipped"),
    "tiny": (np.ones((4, 64, 3), np.uint8), None, "images too small or too large to track, which are skipped"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_images_are_read_or_refused(case):
    image, level, oddity = ODD[case]
    image_rgb, said = rgb_of(image)
    assert said == oddity
    if level is None:
        assert image_rgb is None
    else:
        np.testing.assert_array_equal(image_rgb, np.full((*SIZE, 3), level, np.uint8))
        assert image_rgb.flags.c_contiguous and not np.shares_memory(image_rgb, image)


def test_odd_images_among_others_are_noted_once():
    odd = [case[0] for case in ODD.values()]
    source = feed(CameraPort(lambda n: odd[n // 2 % len(odd)] if n % 2 else numbered(n)))
    for frame in islice(source, 80):
        assert frame.image_rgb.shape == (*SIZE, 3) and frame.image_rgb.dtype == np.uint8
    source.close()
    assert len(set(source.warnings)) == len(source.warnings) <= len({case[2] for case in ODD.values()})


def test_one_image_of_another_size_is_torn_and_several_are_a_new_size():
    torn = (2, 5, 8, 11)

    def image(number: int) -> np.ndarray:
        return np.zeros((30 if number in torn or number > 14 else 48, 64, 3), np.uint8)

    source = feed(CameraPort(image, period_s=0.02))
    heights = {int(frame.name): len(frame.image_rgb) for frame in islice(source, 15)}
    source.close()
    assert not set(torn) & set(heights)
    assert all(height == (30 if number > 14 else 48) for number, height in heights.items())
    assert [warning[14:] for warning in source.warnings] == [
        "torn images, which are skipped",
        "images of another size than before",
    ]


def test_requests_come_in_the_order_that_drivers_want():
    port = CameraPort()
    source = feed(port, size=(1280, 720), fps=60)
    next(iter(source))
    source.close()
    names = [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert port.set_to == list(zip(names, [cv2.VideoWriter.fourcc(*"MJPG"), 1280, 720, 60], strict=True))
    assert source.warnings == ["camera 0 gave images of 64x48 where 1280x720 was asked for"]
    port.set_to.clear()
    feed(port, size=(64, 48)).close()
    assert cv2.CAP_PROP_FOURCC not in dict(port.set_to)


def test_a_camera_that_is_not_there_or_silent():
    port = CameraPort(lambda _: None)
    with pytest.raises(SourceError, match=r"camera 0 gives no frames.*gave empty images"):
        feed(port, patience_s=0.1)
    port.plugged = False
    with pytest.raises(SourceError, match="camera 0 cannot be opened"):
        feed(port)


def test_cameras_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for index, name, node in (("10", "Far", "0"), ("2", "Near", "0"), ("3", "Near", "1")):
        (tmp_path / f"video{index}").mkdir()
        (tmp_path / f"video{index}" / "name").write_text(f"{name}\n")
        (tmp_path / f"video{index}" / "index").write_text(f"{node}\n")
    ports = {2: CameraPort(), 3: CameraPort(), 10: CameraPort()}
    ports[3].plugged = ports[10].plugged = False  # one for metadata alone, one in use
    found = list_cameras(lambda index: ports[index].open(index), tmp_path)
    assert found == [CameraInfo(2, "Near", 64, 48, 0.0), CameraInfo(10, "Far", 0, 0, 0.0)]
    assert ports[2].released == 1
    assert list_cameras(sysfs=Path("nowhere")) == []
    monkeypatch.setattr("sys.platform", "darwin")
    ports = {0: CameraPort(), 1: ports[10], 2: CameraPort(), 3: ports[10]}
    assert [c.name for c in list_cameras(lambda index: ports[index].open(index))] == ["camera 0", "camera 2"]
