"""The front door, from its arguments to its files, with a tracker that always sees one hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image
from posed_hand import FakeTracker, posed_hand

from handmesh.render import Style
from handmesh.runtime import app, console, image_app, session, viewer
from handmesh.runtime.pictures import OutputError, read_picture
from handmesh.runtime.recording import VideoRecorder
from handmesh.runtime.sources import Frame, SourceError, Video
from handmesh.runtime.viewer import Controls, Seen, Viewer
from handmesh.structs import Camera

ROOT = Path(__file__).parent.parent


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


def pictures(folder: Path, count: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    for k in range(count):
        Image.new("RGB", (128, 96), (40, 40, 40)).save(folder / f"{k}.png")
    return folder


def run(*source: object, tracker: FakeTracker | None = None, **options: object) -> int:
    chosen = app.Options(source=tuple(str(spec) for spec in source), **options)
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


def test_a_folder_gets_an_overlay_a_picture_and_the_hands(elsewhere, capsys):
    folder = pictures(elsewhere / "in", 3)
    (folder / "text.jpg").write_text("no picture")
    Image.new("RGB", (8, 8)).save(folder / "tiny.png")
    tracker = FakeTracker()
    assert run(folder, output=Path("out"), tracker=tracker) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["0.png", "1.png", "2.png", "hands.json"]
    assert tracker.calls == ["detect"] * 3
    records = json.loads(Path("out/hands.json").read_text())
    assert [record["file"] for record in records] == ["0.png", "1.png", "2.png"]
    assert set(records[0]["hands"][0]) == {"side", "score", "joints_px", "joints_m"}
    said = capsys.readouterr().err
    assert "pictures: 3 (2 skipped)" in said and "text.jpg" in said and "tiny.png" in said


def test_one_picture_to_one_file_and_to_the_default_place(elsewhere):
    picture = pictures(elsewhere / "in", 1) / "0.png"
    assert run(picture, output=Path("x.jpg"), wireframe=True, skeleton=True) == 0
    assert (read_picture(Path("x.jpg")).image_rgb > 100).any()
    assert run(picture) == 0
    assert Path("outputs/overlays/0.png").exists()


def test_a_video_to_a_folder(elsewhere):
    assert run(clip(elsewhere / "clip.mp4", 3), output=Path("out")) == 0
    assert len(json.loads(Path("out/hands.json").read_text())) == 3


BAD = {
    "missing": (["nowhere.jpg"], {}, "nowhere.jpg"),
    "text": (["text.jpg"], {}, "text.jpg"),
    "empty": (["empty.png"], {}, "empty.png"),
    "cut video": (["text.mp4"], {}, "text.mp4"),
    "all skipped": (["text.jpg", "empty.png"], {}, "nothing in 2 pictures"),
    "unwritable": (["in/0.png"], {"output": Path("text.jpg/out")}, "text.jpg"),
    "format": (["in/0.png"], {"output": Path("x.gif")}, "x.gif"),
    "many in one": (["in"], {"output": Path("x.png")}, "x.png"),
    "angle": (["in/0.png"], {"fov_deg": 200.0}, "field of view"),
    "camera": (["9"], {}, "camera 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_clear_line(elsewhere, capsys, case):
    pictures(elsewhere / "in")
    for name in ("text.jpg", "text.mp4"):
        Path(name).write_text("no picture")
    Path("empty.png").touch()
    source, options, named = BAD[case]
    assert run(*source, **{"output": Path("out"), **options}) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert error.startswith("error: ") and named in error


def test_a_broken_model_file_is_one_line(elsewhere, capsys):
    def load(_: app.Options) -> FakeTracker:
        raise ValueError("model.onnx is not\na readable ONNX model")

    options = app.Options(source=(str(pictures(elsewhere / "in")),), output=Path("v.mp4"))
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

    monkeypatch.setattr("handmesh.runtime.recording.write_picture", refuse_third)
    assert run(pictures(elsewhere / "in", 4), output=Path("out")) == 1
    assert "No space left" in capsys.readouterr().err
    assert len(json.loads(Path("out/hands.json").read_text())) == 2


def test_keys():
    controls = Controls()
    for key, name in (("m", "mesh"), ("w", "wireframe"), ("k", "skeleton")):
        assert getattr(controls.after(key).style, name) != getattr(controls.style, name)
        assert controls.after(key).after(key) == controls
    assert controls.after("q").quit and controls.after("space").paused and controls.after("s").snapshot
    assert controls.after("h").help != controls.help and controls.after("x") == controls.after("") == controls
    assert all(controls.after(key) != controls for key in viewer.KEYS)


class FakeWindow:
    """OpenCV's window, with a user who presses the given keys one after another and then quits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
        self.keys, self.shown = iter(keys + "q"), []
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
        monkeypatch.setattr(cv2, "imshow", lambda _, picture: self.shown.append(picture))
        monkeypatch.setattr(cv2, "waitKey", lambda _: ord(next(self.keys)))


@pytest.fixture
def seen() -> Seen:
    camera = Camera.from_fov(320, 240)
    hand = posed_hand(camera, (0.1, 0.0, 0.5))
    return Seen(np.zeros((240, 320, 3), np.uint8), [hand], camera, {"network": 8.0, "total": 8.5})


def test_only_the_window_is_mirrored(monkeypatch, seen, elsewhere):
    window = FakeWindow(monkeypatch, "hs")
    shown = Viewer(Style(), mirror=True, stills=False, snapshots=elsewhere / "shots")
    assert shown.show(seen, wait_s=1e6) is False  # h, s, then q
    plain = seen.overlay(Style())
    np.testing.assert_array_equal(window.shown[-1][..., ::-1], plain[:, ::-1])
    assert (window.shown[0] != window.shown[-1]).any()  # with and without the head-up display
    (snapshot,) = shown.saved
    np.testing.assert_array_equal(read_picture(snapshot).image_rgb, plain)


def test_pause_holds_a_frame_and_stills_wait_for_a_key(monkeypatch, seen):
    window = FakeWindow(monkeypatch, " wk ")
    live = Viewer(Style(), mirror=False, stills=False)
    assert live.show(seen) is True and len(window.shown) == 4
    assert live.style == Style(wireframe=True, skeleton=True)
    window = FakeWindow(monkeypatch, "m \r")
    stills = Viewer(Style(), mirror=False, stills=True)
    assert stills.show(seen) is True and len(window.shown) == 2
    assert stills.show(seen) is True and len(window.shown) == 3
    assert stills.show(seen) is False


def test_a_window_shows_every_frame_and_needs_no_output(elsewhere, monkeypatch):
    window = FakeWindow(monkeypatch, "....")
    monkeypatch.setattr(app, "has_display", lambda: True)
    monkeypatch.setattr(app, "DEMO_CLIP", clip(elsewhere / "clip.mp4", 2))
    monkeypatch.setattr(session.Pacer, "wait_s", lambda _: 0.0)
    assert run() == 0
    assert len(window.shown) == 5  # the bundled clip is played again until q
    assert not Path("outputs").exists()


def test_status_lines(seen):
    lines = viewer.status_lines(seen, 29.7, paused=False)
    assert lines == ["30 FPS", "8.5 ms (network 8.0)", "right 0.97"]
    assert viewer.status_lines(replace(seen, hands=[]), 0, paused=True)[::2] == ["paused", "no hand"]
    assert viewer.draw_hud(seen.image_rgb, lines, viewer.KEY_LINE).max() > 200


def test_no_display_is_noticed_and_a_dead_one_too(monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("displays are found by environment variables on Linux alone")
    assert not viewer.has_display()
    monkeypatch.setenv("DISPLAY", ":4321")
    assert not viewer.has_display()


def test_a_video_is_not_shown_faster_than_it_was_taken():
    pacer = session.Pacer(10.0)
    pacer.wait_s()
    assert 19 < pacer.wait_s() <= 20
    assert session.Pacer(0.0).wait_s() == 0.0


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_image_writes_an_overlay_and_an_upright_mesh(elsewhere, suffix, capsys):
    picture = pictures(elsewhere / "in", 1) / "0.png"
    options = image_app.Options(picture, mesh=Path(f"hand{suffix}"))
    assert console.guarded(lambda: image_app.run(options, lambda _: FakeTracker())) == 0
    assert Path("outputs/0.png").exists() and "right hand, score 0.97, 0.5" in capsys.readouterr().err
    mesh = trimesh.load(f"hand{suffix}", force="mesh")
    low, high = mesh.bounds
    assert high[1] - low[1] == pytest.approx(0.25, abs=0.03) and high[2] < 0  # metres, before a camera along -z
    assert mesh.volume > 0  # outward
    fingers = mesh.vertices[mesh.vertices[:, 1] > low[1] + 0.8 * (high[1] - low[1])]
    assert np.ptp(fingers[:, 0]) < np.ptp(mesh.vertices[:, 0])


def test_image_without_a_hand_and_with_a_bad_mesh_name(elsewhere, capsys):
    class Blind(FakeTracker):
        def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list:
            return []

    picture = pictures(elsewhere / "in", 1) / "0.png"
    assert console.guarded(lambda: image_app.run(image_app.Options(picture), lambda _: Blind())) == 0
    assert "no hand found" in capsys.readouterr().err and not Path("outputs/0.glb").exists()
    bad = image_app.Options(picture, mesh=Path("x.fbx"))
    assert console.guarded(lambda: image_app.run(bad, lambda _: FakeTracker())) == 1
    assert "x.fbx: meshes are written as .glb" in capsys.readouterr().err


def python(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.parametrize("script", ["webcam", "image"])
def test_the_scripts_run_from_a_clone_and_explain_themselves(script):
    done = python(str(ROOT / "demo" / f"{script}.py"), "--help")
    assert done.returncode == 0, done.stderr
    assert "--fov-deg" in done.stdout and "--renderer" in done.stdout


def test_the_front_door_loads_neither_torch_nor_what_it_may_not_need():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import handmesh.runtime.app, handmesh.runtime.image_app; "
    done = python("-c", code + "print(*{'torch', 'pyrender', 'trimesh', 'av', 'onnxruntime'} & set(sys.modules))")
    assert done.returncode == 0 and done.stdout.split() == [], done.stderr + done.stdout


def test_the_bundled_clip_with_the_bundled_weights(elsewhere):
    assets = ROOT / "handmesh" / "assets"
    missing = [name for name in ("balanced.onnx", "detector.onnx", "demo.mp4") if not (assets / name).exists()]
    if missing:
        pytest.skip(f"not built yet: {', '.join(missing)} in {assets}")
    done = python(str(ROOT / "demo" / "webcam.py"), "--source", str(assets / "demo.mp4"), "--output", "v.mp4")
    assert done.returncode == 0, done.stderr
    assert len(list(Video(Path("v.mp4")))) == Video(assets / "demo.mp4").length
