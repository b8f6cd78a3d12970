"""Frames from all kinds of sources, and one clear line from each bad one."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from handmesh import files
from handmesh.files import ImageError, read_image, read_shrunk
from handmesh.types import Frame, SourceError
from handmesh.video import sources
from handmesh.video.sinks import VideoRecorder
from handmesh.video.sources import Video, open_source

SIZE = (48, 64)


@pytest.fixture
def image() -> np.ndarray:
    """Smooth, and different in every channel."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([4 * x, 5 * y, np.full_like(x, 90)], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, image: np.ndarray) -> Path:
    for name in ("b.png", "a.jpg", "c.bmp"):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes((tmp_path / "b.png").read_bytes())
    return tmp_path


def record(path: Path, count: int = 12, fps: float = 10.0) -> Path:
    recorder = VideoRecorder(path, fps)
    for k in range(count):
        recorder.write(Frame(str(k), k / fps, np.zeros(0)), np.full((*SIZE, 3), 6 * k, np.uint8))
    recorder.close()
    return path


def test_a_folder_gives_its_images_in_order(folder, image):
    source = open_source(folder)
    frames = list(source)
    assert [frame.name for frame in frames] == ["a.jpg", "b.png", "c.bmp"]
    assert source.length == 3 and source.stills and not source.live and not source.warnings
    np.testing.assert_array_equal(frames[1].image_rgb, image)


def test_globs_and_lists_name_files_below_what_they_share(folder):
    (folder / "deep").mkdir()
    (folder / "b.png").rename(folder / "deep" / "b.png")
    assert [f.name for f in open_source(f"{folder}/**/*.png")] == ["b.png"]
    assert [f.name for f in open_source(f"{folder}/**/*.*")] == ["a.jpg", "c.bmp", "deep/b.png"]
    assert [f.name for f in open_source(folder / "c.bmp", folder / "a.jpg")] == ["c.bmp", "a.jpg"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "CMYK"])
def test_every_kind_of_image_becomes_rgb(tmp_path, image, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.fromarray(image).convert(mode).save(path)
    read = read_image(path)
    assert read.shape == (*SIZE, 3) and read.dtype == np.uint8
    if mode == "RGBA":
        np.testing.assert_array_equal(read, image)


def test_sixteen_bits_become_eight(tmp_path, image):
    grey = image[..., 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "colour.png"), image.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(read_image(tmp_path / "colour.png"), image[..., ::-1])


def test_exif_turns_an_image_upright(tmp_path, image):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned: to be shown turned clockwise
    Image.fromarray(image).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.rot90(image, -1))


@pytest.mark.parametrize(("suffix", "size"), [("png", (400, 300)), ("jpg", (400, 300)), ("jpg", (1001, 333))])
def test_large_images_are_shrunk(tmp_path, monkeypatch, suffix, size):
    monkeypatch.setattr(files, "LARGEST_PIXELS", 10_000)
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / f"x.{suffix}")
    image = read_shrunk(tmp_path / f"x.{suffix}")
    height, width = image.image_rgb.shape[:2]
    assert width * height <= 10_000 * 1.05 and image.shrink in (4, 8)
    assert abs(width * image.shrink - size[0]) < 2 * image.shrink
    assert abs(image.image_rgb.astype(int) - (200, 100, 50)).max() < 4


def test_far_too_large_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REFUSED_PIXELS", 1000)
    Image.new("RGB", (50, 40)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"x\.png has 50x40 pixels"):
        read_image(tmp_path / "x.png")


def broken_images(folder: Path, image: np.ndarray) -> dict[str, str]:
    """Files that are no images, and what is to be said of them."""
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is a text")
    for suffix in ("jpg", "png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(
            folder / f"whole.{suffix}"
        )
        data = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
        (folder / f"whole.{suffix}").unlink()
    return {"empty.jpg": "empty", "text.jpg": "not an image", "cut.jpg": "truncated", "cut.png": "truncated"}


def test_a_broken_image_alone_is_an_error_of_one_line(tmp_path, image):
    for name, reason in broken_images(tmp_path, image).items():
        with pytest.raises(ImageError, match=reason) as caught:
            list(open_source(tmp_path / name))
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_broken_images_among_others_are_skipped_and_noted(folder, image):
    broken = broken_images(folder, image)
    source = open_source(folder)
    assert [frame.name for frame in source] == ["a.jpg", "b.png", "c.bmp"]
    assert len(source.warnings) == len(broken)
    for name in broken:
        assert any(name in warning for warning in source.warnings)


@pytest.mark.parametrize("spec", ["missing.jpg", "missing", "*.png", "empty"])
def test_sources_without_images_are_errors_that_name_them(tmp_path, spec):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=rf"(?s){spec.replace('*', '.')}"):
        open_source(tmp_path / spec)


def test_a_video_gives_frames_with_times_and_can_be_played_again(tmp_path):
    source = open_source(record(tmp_path / "v.mp4"))
    assert source.length == 12 and source.fps == 10 and not source.stills
    for _ in range(2):
        frames = list(source)
        np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 10, atol=1e-4)
        assert [round(frame.image_rgb.mean() / 6) for frame in frames] == list(range(12))
    assert not source.warnings


def test_a_video_that_ends_early_gives_what_there_is(tmp_path):
    whole, cut = record(tmp_path / "whole.mp4", 40), tmp_path / "cut.mp4"
    with av.open(str(whole)) as given, av.open(str(cut), "w", options={"movflags": "faststart"}) as copied:
        stream = copied.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copied.mux(packet)
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 4])  # the index at its beginning still promises 40 frames
    source = Video(cut)
    assert 0 < len(list(source)) < 40
    (warning,) = source.warnings
    assert "cut.mp4 ended early" in warning and "of 40 frames" in warning


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"just text", "neither an image nor a video")])
def test_files_that_are_no_video(tmp_path, content, reason):
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=rf"v\.mp4 .*{reason}"):
        open_source(tmp_path / "v.mp4")
    with pytest.raises(SourceError, match="no video at"):
        Video(tmp_path / "none.mp4")


def test_rotation_of_a_video_is_undone():
    image = np.arange(6).reshape(2, 3, 1)
    assert sources.upright(image, 0).tolist() == image.tolist()
    assert sources.upright(image, 90).tolist() == np.rot90(image).tolist()
    assert sources.upright(image, -90).tolist() == np.rot90(image, -1).tolist()


def test_a_number_is_a_camera(monkeypatch):
    monkeypatch.setattr(sources, "CameraFeed", lambda index: f"camera {index}")
    assert open_source("3") == open_source(Path("3")) == "camera 3"
