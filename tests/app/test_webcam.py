"""The front door, from its arguments to its files, with a tracker that always sees one hand."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import trimesh
from PIL import Image
from posed_hand import FakeTracker, posed_hand

from handmesh import console
from handmesh.app import image as image_app
from handmesh.app import options as options_module
from handmesh.app import webcam as app
from handmesh.app.player import HandSizing
from handmesh.files import OutputError, read_image
from handmesh.types import Camera, Frame, SourceError
from handmesh.video import clips
from handmesh.video.camera import CameraInfo
from handmesh.video.clips import read_clip
from handmesh.video.sinks import GrowingFile, VideoRecorder
from handmesh.video.sources import Video

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """Work in an empty folder, without a display and without a camera."""

    def no_camera(index: int) -> None:
        raise SourceError(f"camera {index} cannot be opened")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(app, "CameraFeed", no_camera)
    return tmp_path


def clip(path: Path, count: int = 6) -> Path:
    recorder = VideoRecorder(path, 30)
    for k in range(count):
        recorder.write(Frame(str(k), k / 30, np.zeros(0)), np.full((96, 128, 3), 40, np.uint8))
    recorder.close()
    return path


def images(folder: Path, count: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    for k in range(count):
        Image.new("RGB", (128, 96), (40, 40, 40)).save(folder / f"{k}.png")
    return folder


class FakeCamera:
    """Gives ten frames a second, grey as told or as given, then ends."""

    title, live, stills, length, fps = "camera 0", True, False, None, 10.0

    def __init__(self, frames: Sequence[int | np.ndarray]) -> None:
        self._frames, self.warnings, self.closed = frames, [], False
        self.files: dict[str, Path] = {}

    def __iter__(self) -> Iterator[Frame]:
        for k, given in enumerate(self._frames):
            time.sleep(0.002)  # so that writing can keep up
            image = np.full((96, 128, 3), given, np.uint8) if isinstance(given, int) else given
            yield Frame(str(k), k / 10, image, captured_s=time.perf_counter())

    def close(self) -> None:
        self.closed = True


def run(*source: object, tracker: FakeTracker | None = None, **options: object) -> int:
    chosen = options_module.Options(source=tuple(str(spec) for spec in source), **options)
    return console.guarded(lambda: app.run(chosen, lambda _: tracker or FakeTracker()))


def test_without_camera_and_display_the_bundled_clip_becomes_a_video(elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(app, "DEMO_CLIP", clip(elsewhere / "clip.mp4"))
    tracker = FakeTracker()
    assert run(tracker=tracker) == 0
    said = capsys.readouterr().err
    assert "bundled clip" in said and "outputs/webcam.mp4" in said and "with hands: 6" in said
    frames = list(Video(elsewhere / "outputs" / "webcam.mp4"))
    assert tracker.calls == ["track"] * 6 and len(frames) == 6
    assert frames[3].image_rgb.max() > 150  # the hand is brighter than the clip


def test_a_folder_gets_an_overlay_an_image_and_the_hands(elsewhere, capsys):
    folder = images(elsewhere / "in", 3)
    (folder / "text.jpg").write_text("no image")
    Image.new("RGB", (8, 8)).save(folder / "tiny.png")
    tracker = FakeTracker()
    assert run(folder, output=Path("out"), tracker=tracker) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["0.png", "1.png", "2.png", "hands.json"]
    assert tracker.calls == ["detect"] * 3
    records = json.loads(Path("out/hands.json").read_text())
    assert [record["file"] for record in records] == ["0.png", "1.png", "2.png"]
    assert set(records[0]["hands"][0]) == {"side", "score", "joints_px", "joints_m"}
    said = capsys.readouterr().err
    assert "images: 3 (2 skipped)" in said and "text.jpg" in said and "tiny.png" in said


def test_one_image_to_one_file_and_to_the_default_place(elsewhere):
    image = images(elsewhere / "in", 1) / "0.png"
    assert run(image, output=Path("x.jpg"), wireframe=True, skeleton=True) == 0
    assert (read_image(Path("x.jpg")) > 100).any()
    assert run(image) == 0
    assert Path("outputs/overlays/0.png").exists()


def test_a_video_to_a_folder(elsewhere):
    assert run(clip(elsewhere / "clip.mp4", 3), output=Path("out")) == 0
    assert len(json.loads(Path("out/hands.json").read_text())) == 3


BAD = {
    "missing": (["nowhere.jpg"], {}, "nowhere.jpg"),
    "text": (["text.jpg"], {}, "text.jpg"),
    "empty": (["empty.png"], {}, "empty.png"),
    "cut video": (["text.mp4"], {}, "text.mp4"),
    "all skipped": (["text.jpg", "empty.png"], {}, "nothing in 2 images"),
    "unwritable": (["in/0.png"], {"output": Path("text.jpg/out")}, "text.jpg"),
    "format": (["in/0.png"], {"output": Path("x.gif")}, "x.gif"),
    "many in one": (["in"], {"output": Path("x.png")}, "x.png"),
    "angle": (["in/0.png"], {"fov_deg": 200.0}, "field of view"),
    "camera": (["9"], {}, "camera 9"),
    "two lenses": (["in/0.png"], {"fov_deg": 50.0, "intrinsics": Path("text.jpg")}, "--intrinsics"),
    "lens": (["in/0.png"], {"intrinsics": Path("text.jpg")}, "text.jpg"),
    "distance": (["in/0.png"], {"calibrate_hand": 50.0}, "distance in metres"),
    "recording": (["in/0.png"], {"record": Path("x.avi")}, "x.avi"),
    "recording into a folder": (["in/0.png"], {"record": Path("folder.mp4")}, "folder.mp4"),
    "export": (["in/0.png"], {"export": Path("x.csv")}, "x.csv"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_clear_line(elsewhere, capsys, case):
    images(elsewhere / "in")
    for name in ("text.jpg", "text.mp4"):
        Path(name).write_text("no image")
    Path("empty.png").touch()
    Path("folder.mp4").mkdir()
    source, options, named = BAD[case]
    assert run(*source, **{"output": Path("out"), **options}) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert error.startswith("error: ") and named in error


ONTO_INPUTS = {
    "the same folder": (["in"], {"output": Path("in")}),
    "a link to the folder": (["in"], {"output": Path("link")}),
    "a glob's folder": (["in/*.png"], {"output": Path("in")}),
    "deeper files": (["*/*.png"], {"output": Path(".")}),
    "the image": (["in/0.png"], {"output": Path("in/../in/0.png")}),
    "its folder": (["in/0.png"], {"output": Path("in")}),
    "the video": (["clip.mp4"], {"record": Path("clip.mp4")}),
    "a hard link to the video": (["clip.mp4"], {"output": Path("same.mp4")}),
    "the camera": (["clip.mp4"], {"intrinsics": Path("camera.json"), "export": Path("camera.json")}),
}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
@pytest.mark.parametrize("case", ONTO_INPUTS)
def test_nothing_is_written_over_what_is_read(elsewhere, capsys, case):
    images(elsewhere / "in")
    clip(Path("clip.mp4"))
    Path("same.mp4").hardlink_to("clip.mp4")
    Path("link").symlink_to("in")
    Path("camera.json").write_text('{"fx": 100, "fy": 100, "cx": 64, "cy": 48, "width": 128, "height": 96}')
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    source, options = ONTO_INPUTS[case]
    assert run(*source, **options) == 1
    assert "being read; name another place" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_default_places_are_numbered_where_something_lies_there(elsewhere, capsys):
    assert run(clip(elsewhere / "clip.mp4", 2)) == 0
    kept = Path("outputs/webcam.mp4").read_bytes()
    Path("outputs/webcam-2.part.mp4").write_text("what a killed run left")
    assert run("outputs/webcam.mp4") == 0  # also where the last result is the source
    assert Path("outputs/webcam.mp4").read_bytes() == kept and len(list(Video(Path("outputs/webcam-3.mp4")))) == 2
    assert "writing outputs/webcam-3.mp4" in capsys.readouterr().err
    for _ in range(2):
        assert run(images(elsewhere / "in", 1)) == 0
    assert Path("outputs/overlays/0.png").exists() and Path("outputs/overlays-2/0.png").exists()


def test_one_file_is_not_asked_for_twice(elsewhere, capsys):
    assert run(clip(elsewhere / "clip.mp4", 2), record=Path("v.mp4"), output=Path("v.mp4")) == 1
    assert "v.mp4 twice" in capsys.readouterr().err and not list(Path().glob("v*"))


def test_a_broken_model_file_is_one_line(elsewhere, capsys):
    def load(_: options_module.Options) -> FakeTracker:
        raise ValueError("model.onnx is not\na readable ONNX model")

    options = options_module.Options(source=(str(images(elsewhere / "in")),), output=Path("v.mp4"))
    assert console.guarded(lambda: app.run(options, load)) == 1
    assert capsys.readouterr().err == "error: model.onnx is not a readable ONNX model\n"
    assert not Path("v.mp4").exists() and not Path("v.part.mp4").exists()


class Interrupted(FakeTracker):
    def track(self, *args: object, **kwargs: object) -> list:
        if len(self.calls) == 4:
            raise KeyboardInterrupt
        return super().track(*args, **kwargs)


def test_ctrl_c_leaves_a_playable_recording(elsewhere):
    source = clip(elsewhere / "clip.mp4", 9)
    assert run(source, output=Path("v.mp4"), tracker=Interrupted()) == console.INTERRUPTED
    assert len(list(Video(Path("v.mp4")))) == 4


def test_output_that_breaks_off_keeps_what_is_written(elsewhere, monkeypatch, capsys):
    written = []

    def refuse_third(path: Path, image: np.ndarray) -> None:
        if len(written) == 2:
            raise OutputError(f"cannot write {path}: No space left on device")
        written.append(path)

    monkeypatch.setattr("handmesh.video.sinks.write_image", refuse_third)
    assert run(images(elsewhere / "in", 4), output=Path("out")) == 1
    assert "No space left" in capsys.readouterr().err
    assert len(json.loads(Path("out/hands.json").read_text())) == 2


def test_a_camera_frame_that_is_refused_is_skipped_and_counted(elsewhere, monkeypatch, capsys):
    class Choosy(FakeTracker):
        def track(self, frame_rgb: np.ndarray, *args: object, **kwargs: object) -> list:
            if frame_rgb.max() == 0:
                raise ValueError("a torn frame")
            return super().track(frame_rgb, *args, **kwargs)

    monkeypatch.setattr(app, "CameraFeed", lambda index: FakeCamera([0, 40, 0, 0, 40]))
    assert run(record=Path("v.mp4"), tracker=Choosy()) == 0
    said = capsys.readouterr().err
    assert "frames: 2 (3 skipped)" in said and said.count("torn frame") == 1
    assert len(list(Video(Path("v.mp4")))) == 2


def test_a_video_frame_that_is_refused_ends_the_run(elsewhere, capsys):
    class Refusing(FakeTracker):
        def track(self, *args: object, **kwargs: object) -> list:
            raise ValueError("no such size")

    assert run(clip(elsewhere / "clip.mp4"), record=Path("v.mp4"), tracker=Refusing()) == 1
    assert "no such size" in capsys.readouterr().err and not list(Path().glob("v*.mp4"))


def test_everything_is_closed_and_no_thread_is_left(elsewhere, monkeypatch):
    camera, tracker, before = FakeCamera([40] * 3), FakeTracker(), set(threading.enumerate())
    monkeypatch.setattr(app, "CameraFeed", lambda index: camera)
    assert run(record=Path("v.mp4"), export=Path("h.npz"), output=Path("out"), tracker=tracker) == 0
    assert camera.closed and tracker.closed
    for thread in set(threading.enumerate()) - before:  # the spinner's ends a moment after it was told to
        thread.join(2.0)
    assert set(threading.enumerate()) <= before


def test_record_export_and_output_at_once(elsewhere, capsys):
    source = clip(elsewhere / "clip.mp4", 5)
    assert run(source, record=Path("v.mp4"), export=Path("h.npz"), output=Path("out")) == 0
    said = capsys.readouterr().err
    assert len(list(Video(Path("v.mp4")))) == len(json.loads(Path("out/hands.json").read_text())) == 5
    assert all(f"wrote {path}" in said for path in ("v.mp4", "h.npz", "out")) and not Path("outputs").exists()
    assert "up to scale" in said
    with np.load("h.npz") as exported:
        assert exported["vertices_m"].shape == (5, 1689, 3) and np.isfinite(exported["vertices_m"]).all()


@pytest.mark.parametrize("view, width", [("overlay", 128), ("side", 256), ("mesh", 128)])
def test_a_recording_shows_the_view(elsewhere, view, width):
    assert run(clip(elsewhere / "clip.mp4", 3), record=Path("v.mp4"), view=view) == 0
    image = list(Video(Path("v.mp4")))[2].image_rgb
    assert image.shape == (96, width, 3)
    assert (np.abs(image[2, 2].astype(int) - 40).max() < 8) == (view != "mesh")  # the clip is grey, the ground bluish


def test_recordings_of_a_camera_are_not_mirrored(elsewhere, monkeypatch):
    left = np.full((96, 128, 3), 40, np.uint8)
    left[:, :20] = 250
    monkeypatch.setattr(app, "CameraFeed", lambda index: FakeCamera([left] * 3))
    assert run(record=Path("v.mp4"), mirror=True) == 0
    image = next(iter(Video(Path("v.mp4")))).image_rgb
    assert image[50, 5].min() > 200 and image[50, -5].max() < 80


def test_a_full_disk_ends_the_run_and_keeps_the_rest(elsewhere, monkeypatch, capsys):
    source, original = clip(elsewhere / "clip.mp4", 40), VideoRecorder.write

    def full(self: VideoRecorder, frame: Frame, *args: object) -> None:
        if int(frame.name) == 3:
            raise OutputError("cannot write v.mp4: No space left on device")
        original(self, frame, *args)

    monkeypatch.setattr(VideoRecorder, "write", full)
    tracker = FakeTracker()
    assert run(source, record=Path("v.mp4"), export=Path("h.json"), tracker=tracker) == 1
    said = capsys.readouterr().err
    assert "No space left" in said.splitlines()[-1] and "wrote h.json" in said and tracker.closed
    assert len(list(Video(Path("v.mp4")))) == 3
    assert 3 <= len(json.loads(Path("h.json").read_text())["frames"]) < 40


def test_a_full_disk_is_told_of_every_file_and_where_their_frames_are(elsewhere, monkeypatch, capsys):
    source, original = clip(elsewhere / "clip.mp4", 40), GrowingFile.write

    def write(self: GrowingFile, data: bytes) -> int:
        if self.tell() > 12_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(self, data)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GrowingFile, "write", write)
    monkeypatch.setattr(clips, "write_npz", refuse)
    assert run(source, record=Path("v.mp4"), export=Path("h.npz")) == 1
    said = capsys.readouterr().err
    assert "what was recorded is in h.npz.part" in said and "cannot write to h.npz.part: No space left" in said
    assert len(read_clip("h.npz.part").heads) >= 1 and "wrote v.mp4" in said


def test_the_scale_is_stated_and_measured(elsewhere, monkeypatch, capsys):
    def stated(**options: object) -> str:
        assert run(clip(elsewhere / "clip.mp4", 2), record=Path("v.mp4"), **options) == 0
        return capsys.readouterr().err.splitlines()[-1]

    assert "60 degrees assumed" in stated() and "70 degrees (--fov-deg)" in stated(fov_deg=70.0)
    frames = FakeCamera([40] * 80)  # eight seconds
    monkeypatch.setattr(app, "CameraFeed", lambda index: frames)
    tracker = FakeTracker()
    tracker.track = lambda frame, time_s, camera: [posed_hand(camera)]
    assert run(record=Path("v.mp4"), calibrate_hand=0.5, tracker=tracker) == 0
    usual = posed_hand(Camera.from_fov(128, 96))
    assert tracker.hand_size_m == pytest.approx(usual.size_m * 0.5 / usual.joints_m[9, 2], rel=1e-3)
    assert "distances are in metres" in capsys.readouterr().err


def test_a_measurement_that_fails_or_does_not_end_is_told(elsewhere, capsys):
    assert run(clip(elsewhere / "clip.mp4", 3), record=Path("v.mp4"), calibrate_hand=0.5) == 0
    assert "warning: your hand was not measured, 1 % were done" in capsys.readouterr().err
    tracker, sizing = FakeTracker(), HandSizing(0.5)
    camera = Camera.from_fov(128, 96)
    for k in range(60):  # seconds; in which the hand comes and goes
        sizing.add(tracker, [posed_hand(camera, (0.0, 0.0, 0.3 + 0.4 * (k % 2)))], k / 8)
    assert sizing.news and sizing.news in capsys.readouterr().err and not sizing.unfinished
    assert tracker.hand_size_m is None and not sizing.measured


def test_cameras_are_listed(monkeypatch, capsys):
    found = [CameraInfo(0, "Front", 1280, 720, 30.0), CameraInfo(2, "Rear", 0, 0, 0.0)]
    monkeypatch.setattr(app, "list_cameras", lambda: found)
    assert run(list_cameras=True) == 0
    assert capsys.readouterr().out == "0  Front  1280x720 at 30 FPS\n2  Rear  busy, or not permitted\n"
    monkeypatch.setattr(app, "list_cameras", list)
    assert run(list_cameras=True) == 0 and "no cameras here" in capsys.readouterr().err


def test_choices_are_those_of_the_tracker():
    from handmesh.assets import Backend, Device
    from handmesh.tracking.smoothing import Smooth

    types = get_type_hints(options_module.Options)
    assert (types["backend"], types["device"], types["smooth"]) == (Backend, Device, Smooth)


_INTERRUPTED = """
import os, signal, sys, threading, time
sys.path[:0] = [{tests!r}]
from pathlib import Path
from posed_hand import FakeTracker
from handmesh.app import webcam as app
from handmesh import console
from handmesh.video import sinks as recording

class Struck(FakeTracker):
    def track(self, *args, **kwargs):
        if len(self.calls) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return super().track(*args, **kwargs)

original = recording.VideoRecorder.close
def close(self):  # a second Ctrl-C while the files are being finished
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    original(self)
recording.VideoRecorder.close = close

signal.signal(signal.SIGINT, signal.default_int_handler)
options = app.Options(source=("clip.mp4",), record=Path("v.mp4"), export=Path("h.json"))
sys.exit(console.guarded(lambda: app.run(options, lambda _: Struck())))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_two_ctrl_c_leave_a_playable_recording_and_a_complete_export(elsewhere):
    clip(elsewhere / "clip.mp4", 40)
    done = python("-c", _INTERRUPTED.format(tests=str(ROOT / "tests")), PYTHONPATH=str(ROOT))
    assert done.returncode == console.INTERRUPTED, done.stderr
    assert "stopped" in done.stderr and "Traceback" not in done.stderr
    exported = json.loads(Path("h.json").read_text())["frames"]
    assert len(list(Video(Path("v.mp4")))) == len(exported) == 21  # the frame at hand is finished too
    assert not list(Path().glob("*.part*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_ctrl_c_at_any_moment_leaves_whole_files_and_no_hang():
    done = python(str(ROOT / "tests" / "interrupted_sessions.py"), "4", PYTHONPATH=str(ROOT))
    assert done.returncode == 0 and "4 rounds" in done.stdout, done.stderr


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_image_writes_an_overlay_and_an_upright_mesh(elsewhere, suffix, capsys):
    image = images(elsewhere / "in", 1) / "0.png"
    options = image_app.Options(images=(image,), mesh=Path(f"hand{suffix}"))
    assert console.guarded(lambda: image_app.run(options, lambda _: FakeTracker())) == 0
    assert Path("outputs/0.png").exists() and "right hand, score 0.97, 0.5" in capsys.readouterr().err
    mesh = trimesh.load(f"hand{suffix}", force="mesh")
    low, high = mesh.bounds
    assert high[1] - low[1] == pytest.approx(0.25, abs=0.03) and high[2] < 0  # metres, before a camera along -z
    assert mesh.volume > 0  # outward
    fingers = mesh.vertices[mesh.vertices[:, 1] > low[1] + 0.8 * (high[1] - low[1])]
    assert np.ptp(fingers[:, 0]) < np.ptp(mesh.vertices[:, 0])


def test_a_mesh_lies_beside_the_overlay_that_was_asked_for(elsewhere):
    one = images(elsewhere / "in", 2)
    assert image(str(one / "0.png"), output=Path("there/x.jpg")) == 0
    assert sorted(path.name for path in Path("there").iterdir()) == ["x.glb", "x.jpg"]
    assert image(str(one / "0.png"), str(one / "1.png"), output=Path("both")) == 0
    assert sorted(path.name for path in Path("both").iterdir()) == ["0.glb", "0.png", "1.glb", "1.png"]
    assert not Path("outputs").exists()


def image(*names: str, **options: object) -> int:
    chosen = image_app.Options(images=tuple(map(Path, names)), **options)
    return console.guarded(lambda: image_app.run(chosen, lambda _: FakeTracker()))


def test_image_writes_over_no_image(elsewhere, capsys):
    images(elsewhere / "outputs", 1)
    assert image("outputs/0.png") == 0  # a default name gives way
    names = ["0-2.glb", "0-2.png", "0.png"]
    assert sorted(path.name for path in Path("outputs").iterdir()) == names
    assert image("outputs/0.png", output=Path("outputs/0.png")) == 1
    assert "outputs/0.png is being read" in capsys.readouterr().err
    assert image("outputs/0.png", "outputs/0-2.png", output=Path("outputs")) == 1
    assert image("outputs/0.png", "outputs/0-2.png") == 0
    assert (read_image(Path("outputs/0.png")) == 40).all()
    names += ["0-2-2.glb", "0-2-2.png", "0-3.glb", "0-3.png"]
    assert sorted(path.name for path in Path("outputs").iterdir()) == sorted(names)


def test_image_without_a_hand_and_with_a_bad_mesh_name(elsewhere, capsys):
    class Blind(FakeTracker):
        def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list:
            return []

    image = images(elsewhere / "in", 1) / "0.png"
    assert console.guarded(lambda: image_app.run(image_app.Options(images=(image,)), lambda _: Blind())) == 0
    assert "no hand found" in capsys.readouterr().err and not Path("outputs/0.glb").exists()
    bad = image_app.Options(images=(image,), mesh=Path("x.fbx"))
    assert console.guarded(lambda: image_app.run(bad, lambda _: FakeTracker())) == 1
    assert "x.fbx: meshes are written as .glb" in capsys.readouterr().err


def python(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.parametrize("script", ["webcam", "image"])
def test_the_scripts_run_from_a_clone_and_explain_themselves(script):
    done = python(str(ROOT / "demo" / f"{script}.py"), "--help")
    assert done.returncode == 0, done.stderr
    assert "--fov-deg" in done.stdout and "--renderer" in done.stdout


def test_the_front_door_loads_neither_torch_nor_what_it_may_not_need():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import handmesh.app.webcam, handmesh.app.image; "
    done = python("-c", code + "print(*{'torch', 'pyrender', 'trimesh', 'av', 'onnxruntime'} & set(sys.modules))")
    assert done.returncode == 0 and done.stdout.split() == [], done.stderr + done.stdout


def test_the_bundled_clip_with_the_bundled_weights(elsewhere):
    assets = ROOT / "handmesh" / "assets"
    missing = [name for name in ("balanced.onnx", "detector.onnx", "demo.mp4") if not (assets / name).exists()]
    if missing:
        pytest.skip(f"not built yet: {', '.join(missing)} in {assets}")
    recorder = VideoRecorder(Path("begin.mp4"), 30)
    for frame in islice(Video(assets / "demo.mp4"), 40):
        recorder.write(frame, frame.image_rgb)
    recorder.close()
    done = python(str(ROOT / "demo" / "webcam.py"), "--source", "begin.mp4", "--output", "v.mp4", "--export", "h.glb")
    assert done.returncode == 0 and "frames: 40, with hands: 40" in done.stderr, done.stderr
    assert len(list(Video(Path("v.mp4")))) == 40 and Path("h.glb").exists()
