"""Frames from all kinds of sources, and one clear line from each bad one."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from handmesh import files
from handmesh.files import READABLE, ImageError, read_image, read_shrunk, readable_suffixes
from handmesh.types import SKIPPED, Frame, SourceError
from handmesh.video import sources
from handmesh.video.lens import fov_deg_of
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


def film(path: Path, image: np.ndarray, count: int = 6, pix_fmt: str = "yuv420p", **settings: object) -> Path:
    """A film of one image; settings: of the encoder, and `matrix`, a display matrix."""
    matrix = settings.pop("matrix", None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 10, options={"qp": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], pix_fmt
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        if matrix:
            stream.set_display_matrix(matrix)
        shown = av.VideoFrame.from_ndarray(image, "rgb24" if image.dtype == np.uint8 else "rgb48le")
        for k in range(count):
            frame = shown.reformat(format=pix_fmt, dst_colorspace="bt2020" if "color_trc" in settings else None)
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("turn", [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_films_are_shown_turned_and_mirrored_as_they_say(tmp_path, image, turn, transposed):
    """x' = a x + c y and y' = b x + d y, up to a displacement."""
    a, b, c, d = (turn[1], turn[0], turn[3], turn[2]) if transposed else turn
    matrix = [v << 16 for v in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]
    plain = next(iter(Video(film(tmp_path / "plain.mp4", image)))).image_rgb
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    right, down = a * x + c * y, b * x + d * y
    expected = np.empty((*(SIZE[::-1] if transposed else SIZE), 3), np.uint8)
    expected[down - down.min(), right - right.min()] = plain
    np.testing.assert_array_equal(next(iter(Video(film(tmp_path / "v.mp4", image, matrix=matrix)))).image_rgb, expected)


def joined(path: Path, *films: Path, cover: bool = False) -> Path:
    """The streams of films in one file; cover: the last is the picture on its box."""
    with av.open(str(path), "w") as container:
        given = [av.open(str(part)) for part in films]
        streams = [container.add_stream_from_template(part.streams.video[0]) for part in given]
        if cover:
            streams[-1].disposition = av.stream.Disposition.attached_pic
        for part, stream in zip(given, streams, strict=True):
            for packet in part.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
            part.close()
    return path


def test_the_film_is_taken_not_its_proxy(tmp_path, image):
    small, large = film(tmp_path / "a.mp4", image[::2, ::2]), film(tmp_path / "b.mp4", image)
    source = Video(joined(tmp_path / "both.mp4", small, large))
    assert [frame.image_rgb.shape for frame in source] == [image.shape] * 6 and not source.warnings


def test_a_cover_is_no_film(tmp_path, image):
    cover, plain = tmp_path / "cover.mkv", film(tmp_path / "a.mp4", image)
    with av.open(str(cover), "w") as container:
        stream = container.add_stream("mjpeg", 1)
        stream.height, stream.width, stream.pix_fmt = 2 * SIZE[0], 2 * SIZE[1], "yuvj420p"
        large = av.VideoFrame.from_ndarray(image.repeat(2, 0).repeat(2, 1), "rgb24")
        container.mux(stream.encode(large.reformat(format="yuvj420p")))
        container.mux(stream.encode())
    source = Video(joined(tmp_path / "both.mp4", plain, cover, cover=True))
    assert [frame.image_rgb.shape for frame in source] == [image.shape] * 6


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(2), (48, 128)), (Fraction(1, 2), (96, 64))])
def test_pixels_become_square(tmp_path, image, aspect, size):
    path = film(tmp_path / "v.mp4", image, sample_aspect_ratio=aspect)
    assert next(iter(Video(path))).image_rgb.shape == (*size, 3)


@pytest.mark.parametrize(("transfer", "paper"), [(16, 0.58), (18, 0.75)])
def test_high_dynamic_range_becomes_srgb(tmp_path, transfer, paper):
    """White paper, at 203 nits (BT.2408), is nearly white, a tenth of its light grey; they were 148 or 191 and less."""
    tenth = {16: 0.356, 18: 0.3415}[transfer]  # codes of 20.3 nits (BT.2100)
    image = np.empty((*SIZE, 3), np.uint16)
    image[:, :32], image[:, 32:] = round(paper * 65535), round(tenth * 65535)
    settings = {"pix_fmt": "yuv420p10le", "color_trc": transfer, "color_primaries": 9, "colorspace": 9}
    shown = next(iter(Video(film(tmp_path / "v.mp4", image, **settings)))).image_rgb
    assert shown.dtype == np.uint8 and np.ptp(shown[:, :30], -1).max() < 8
    assert abs(shown[:, :30].mean() - 243) < 5 and abs(shown[:, 34:].mean() - 89) < 6


def test_a_trimmed_film_is_whole(tmp_path, image):
    data = bytearray(film(tmp_path / "v.mp4", image, count=40).read_bytes())
    at = data.index(b"elst") + 12  # the edit list's one segment, in milliseconds
    assert int.from_bytes(data[at : at + 4]) == 4000
    data[at : at + 4] = (2000).to_bytes(4)
    (tmp_path / "v.mp4").write_bytes(data)
    source = Video(tmp_path / "v.mp4")
    assert len(list(source)) == 20 == source.length and not source.warnings


def test_names_with_colons_and_tags_in_other_alphabets(tmp_path, monkeypatch, image):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "take:1.mp4"
    with av.open(str(film(tmp_path / "plain.mp4", image))) as given, av.open("tagged.mp4", "w") as copied:
        copied.metadata["title"] = "Zürich"
        stream = copied.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copied.mux(packet)
    data = Path("tagged.mp4").read_bytes()
    assert "Zürich".encode() in data
    path.write_bytes(data.replace("Zürich".encode(), "Zürich ".encode("latin1")))
    assert len(list(open_source("take:1.mp4"))) == 6


def test_films_with_far_too_large_frames_are_refused(tmp_path, monkeypatch, image):
    path = film(tmp_path / "v.mp4", image)
    monkeypatch.setattr(files, "REFUSED_PIXELS", 1000)
    with pytest.raises(SourceError, match=r"v\.mp4 has 64x48 pixels, more than 1,000"):
        Video(path)


def gif_bomb(path: Path, side: int) -> Path:
    """35 bytes that promise `side` x `side` pixels."""
    size = side.to_bytes(2, "little") * 2
    path.write_bytes(
        b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"," + bytes(4) + size + b"\0\x02\x02L\x01\0;"
    )
    return path


@pytest.mark.parametrize(("side", "reason"), [(9000, "has 9000x9000 pixels, more"), (16000, "has more")])
def test_a_small_file_cannot_ask_for_much_memory(tmp_path, side, reason):
    path = gif_bomb(tmp_path / "x.gif", side)
    assert path.stat().st_size < 40
    with pytest.raises(ImageError, match=f"{reason} than 65,000,000"):
        read_image(path)
    with pytest.raises(SourceError, match="holds no frame of up to"):
        list(open_source(path))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
def test_reading_an_image_takes_little_more_memory_than_the_image(tmp_path):
    Image.new("P", (4000, 4000)).save(tmp_path / "x.gif")
    code = (
        "import pathlib, resource, sys; from handmesh.files import read_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "path, before = pathlib.Path(sys.argv[1]), peak()\n"
        "size = read_image(path).nbytes; print((peak() - before) / size)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "x.gif"], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 2.2


def test_no_other_program_reads_an_image(tmp_path):
    """Pillow would call Ghostscript for it, whatever it is named."""
    path = tmp_path / "x.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n")
    with pytest.raises(ImageError, match="not an image of a known format"):
        read_image(path)
    assert fov_deg_of(path) is None


@pytest.mark.parametrize("mode", ["P", "1", "L", "I;16", "RGBA"])
def test_large_images_of_every_mode_are_shrunk(tmp_path, monkeypatch, image, mode):
    monkeypatch.setattr(files, "LARGEST_PIXELS", 1000)
    Image.fromarray(np.full(SIZE, 70 * 257, np.uint16) if mode == "I;16" else image).convert(mode).save(
        tmp_path / "x.png"
    )
    found = read_shrunk(tmp_path / "x.png")
    assert found.image_rgb.shape == (SIZE[0] // 2, SIZE[1] // 2, 3) and found.shrink == 2
    whole = read_image(tmp_path / "x.png").reshape(SIZE[0] // 2, 2, SIZE[1] // 2, 2, 3).mean((1, 3))
    assert abs(found.image_rgb - whole).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_orientation_is_undone(tmp_path, image, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / f"x.{suffix}", exif=exif)
    with Image.open(tmp_path / f"x.{suffix}") as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    np.testing.assert_array_equal(read_image(tmp_path / f"x.{suffix}"), expected)


@pytest.mark.parametrize("suffix", ["webp", "png", "gif", "avif"])
def test_of_an_animated_image_the_first_frame_is_taken_and_that_is_said(folder, image, suffix):
    (folder / "moving").mkdir()
    first, *others = (Image.new("RGB", (64, 48), (90 * k, 40, 40)) for k in range(3))
    for name, more in (("still", []), ("moving", others)):
        options = {"save_all": True, "append_images": more} if more else {}
        first.save(folder / "moving" / f"{name}.{suffix}", **options)
    source = open_source(folder / "moving")
    (moving, still), (warning,) = list(source), source.warnings
    assert abs(moving.image_rgb.astype(int) - still.image_rgb).max() < 3
    assert f"moving.{suffix} is animated: its first frame is taken" in warning
    assert not warning.startswith(SKIPPED)


def test_a_gif_alone_is_played(tmp_path):
    first, *others = (Image.new("RGB", (64, 48), (90 * k, 40, 40)) for k in range(3))
    first.save(tmp_path / "x.gif", save_all=True, append_images=others)
    source = open_source(tmp_path / "x.gif")
    assert len(list(source)) == 3 and not source.stills


def test_images_and_films_that_a_folder_leaves_out_are_counted(folder, monkeypatch):
    monkeypatch.setattr(sources, "readable_suffixes", lambda: READABLE)  # as without pillow-heif
    for name in ("a.heic", "b.HEIC", "c.mov"):
        (folder / name).write_bytes(b"x")
    for source in (open_source(folder), open_source(f"{folder}/*")):
        (warning,) = source.warnings
        assert "left out: 2 .heic, 1 .mov; `pip install pillow-heif` reads .heic" in warning
        assert source.length == 3
    for name in ("a.jpg", "b.png", "c.bmp"):
        (folder / name).unlink()
    with pytest.raises(SourceError, match=r"no images in .* but 2 \.heic, 1 \.mov; `pip install pillow-heif`"):
        open_source(folder)


@pytest.mark.parametrize("name", ["x.heic", "x.jpg", "x.mov"])
def test_a_heic_is_never_taken_for_a_video(tmp_path, name):
    """Decoders of videos find its tiles, and would show one of them as the image."""
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(ImageError, match=name) as caught:
        list(open_source(tmp_path / name))
    if ".heic" not in readable_suffixes():
        assert "pip install pillow-heif" in str(caught.value)


def test_a_heic_is_read_whole(tmp_path, image):
    pytest.importorskip("pillow_heif", reason="pillow-heif is an extra: handmesh[heif]")
    readable_suffixes()
    Image.fromarray(image).save(tmp_path / "x.heic", quality=-1)
    (frame,) = open_source(tmp_path / "x.heic")
    assert frame.image_rgb.shape == image.shape and abs(frame.image_rgb.astype(int) - image).mean() < 6


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text_or_too_long_to_add_to(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    for letter in ("x", "y"):
        Image.fromarray(image).save(tmp_path / f"{250 * letter}.png")
    Image.fromarray(image).save(tmp_path / f"{250 * 'x'}.bmp")
    names = [frame.name for frame in open_source(tmp_path)]
    assert len(set(names)) == 4 and "\\udcff.png" in names
    for name in names:
        (tmp_path / f"{name}.123456-123456789012.part").write_text(name, encoding="utf-8")


def test_a_number_is_a_camera(monkeypatch):
    monkeypatch.setattr(sources, "CameraFeed", lambda index: f"camera {index}")
    assert open_source("3") == open_source(Path("3")) == "camera 3"


def test_a_number_that_no_camera_can_have():
    with pytest.raises(SourceError, match="there can be no camera 3000000000"):
        open_source("3000000000")
