"""Cameras from files, of every kind that is read; other sizes; straightened images; what is said of it all."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from posed_hand import FakeTracker

from handmesh import console
from handmesh.app import image as image_app
from handmesh.geometry import project
from handmesh.types import Camera
from handmesh.video.lens import Intrinsics, Lens, LensError, chosen_lens, fov_deg_of, read_intrinsics, write_intrinsics

CAMERA = Camera(600.5, 601.25, 318.0, 242.5, 640, 480)
BENDS = (-0.25, 0.08, 0.001, -0.0005, 0.01)
MEASURED = Intrinsics(CAMERA, BENDS, 0.21, "2025-03-01")

ROS = """image_width: 640
image_height: 480
camera_name: narrow
camera_matrix:
  rows: 3
  cols: 3
  data: [600.5, 0.0, 318.0, 0.0, 601.25, 242.5, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.25, 0.08, 0.001, -0.0005, 0.01]
"""


def written(path: Path, intrinsics: Intrinsics = MEASURED) -> Path:
    write_intrinsics(path, intrinsics)
    return path


def opencv_file(path: Path, matrix: str = "camera_matrix", bends: str = "distortion_coefficients") -> Path:
    """A file as OpenCV's calibration samples write it; old ones had capitals."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("calibration_time", "Sat Mar  1 12:00:00 2025")
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.write(matrix, CAMERA.K)
    storage.write(bends, np.array(BENDS)[:, None])
    storage.write("avg_reprojection_error", 0.21)
    storage.release()
    return path


def test_our_own_file_keeps_everything(tmp_path):
    assert read_intrinsics(written(tmp_path / "camera.json")) == MEASURED
    unbent = Intrinsics(CAMERA)
    assert read_intrinsics(written(tmp_path / "unbent.json", unbent)) == unbent


@pytest.mark.parametrize("name", ["c.yml", "c.yaml", "c.xml", "c.json"])
def test_files_of_opencv(tmp_path, name):
    found = read_intrinsics(opencv_file(tmp_path / name))
    assert found.camera == CAMERA and found.distortion == BENDS and found.error_px == 0.21
    assert found.date.endswith("2025")
    old = opencv_file(tmp_path / f"old_{name}", "Camera_Matrix", "Distortion_Coefficients")
    assert read_intrinsics(old).distortion == BENDS


@pytest.mark.parametrize("head", ["", "---\n", "# a comment\n"])
def test_files_of_ros(tmp_path, head):
    path = tmp_path / "c.yaml"
    path.write_text(head + ROS)
    assert read_intrinsics(path) == Intrinsics(CAMERA, BENDS)


def edited(**changes: object) -> str:
    """The text of our own file with entries changed, or left out where the change is None."""
    record = {"fx": 600, "fy": 600, "cx": 320, "cy": 240, "width": 640, "height": 480, "distortion": {"k1": 0.1}}
    record.update(changes)
    return json.dumps({name: value for name, value in record.items() if value is not None})


BAD = {
    "empty": ("", "neither YAML, XML nor JSON"),
    "prose": ("my camera is good", "neither YAML, XML nor JSON"),
    "broken JSON": ('{"fx": 600,', "it is not JSON"),
    "broken XML": ("<opencv_storage><camera_matrix>", "neither YAML, XML nor JSON"),
    "broken YAML": ("camera_matrix: [1, 2\n x", "neither YAML, XML nor JSON"),
    "no focal length": (edited(fx=None), "no fx in it"),
    "text for a number": (edited(fx="wide"), "expected a number for fx, got 'wide'"),
    "negative": (edited(fy=-600), "focal lengths must be positive"),
    "zero": (edited(fx=0), "focal lengths must be positive"),
    "NaN": (edited(cx=float("nan")), "expected a number for cx"),
    "infinite": (edited(fx=float("inf")), "expected a number for fx"),
    "not pixels": (edited(fx=0.9, fy=0.9), "give them in pixels"),
    "outside": (edited(cx=2000), "outside images of 640x480"),
    "no size": (edited(width=0), "expected an image size"),
    "unknown bend": (edited(distortion={"q7": 1.0}), "unknown distortion q7"),
    "bend without names": (edited(distortion=[0.1, 0.2]), "expected distortion as names and numbers"),
    "NaN in YAML": (ROS.replace("600.5", ".nan"), "finite"),
    "text in YAML": (ROS.replace("600.5", "wide"), "expected a number, got 'wide'"),
    "negative in YAML": (ROS.replace("600.5", "-600.5"), "focal lengths must be positive"),
    "short matrix": (ROS.replace(", 0, 0, 1]", "]"), "expected 9 numbers in camera_matrix, got 6"),
    "three bends": (ROS.replace(", -0.0005, 0.01", ""), "distortion coefficients, got 3"),
    "fisheye": (ROS.replace("plumb_bob", "equidistant"), "fisheye"),
    "deep lists": ("a: " + "[" * 60_000, "brackets, keys and entries, more than a camera has"),
    "deep keys": ("a: " * 60_000 + "1", "more than a camera has"),
    "deep entries": ("a:\n  " + "- " * 60_000 + "1", "more than a camera has"),
    "deep dashes": ("a:\n  " + "-" * 60_000, "more than a camera has"),
    "deep XML": ("<opencv_storage>" + "<a>" * 60_000, "more than a camera has"),
    "deep JSON": ('{"a":' + "[" * 60_000, "more than a camera has"),
    "deep, hidden by strings": ("a: " + '["]",' * 60_000, "more than a camera has"),
    "far too long": (" " * 1_000_001, "more than 1,000,000 bytes"),
    "no float": (edited(fx=10**400), "expected a number for fx, got 1000"),
    "no float in YAML": (ROS.replace("600.5", "1" + 400 * "0"), "focal lengths"),
    "infinite width in YAML": (ROS.replace("image_width: 640", "image_width: .inf"), "for image_width, got inf"),
    "no width": (ROS.replace("image_width", "breadth"), "no image_width in it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_end_in_one_line_that_names_them(tmp_path, case, capfd):
    text, said = BAD[case]
    path = tmp_path / "bad.camera"
    path.write_text(text)
    with pytest.raises(LensError) as caught:
        Lens.from_file(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(LensError, match=r"no camera file at .*calibrate-camera"):
        Lens.from_file(tmp_path / "nowhere.json")
    (tmp_path / "photo.json").write_bytes(bytes(range(256)))
    with pytest.raises(LensError, match="not a text file"):
        Lens.from_file(tmp_path / "photo.json")


def test_other_sizes_of_the_same_shape_see_the_same():
    lens = Lens.measured(MEASURED)
    assert lens.camera_for(640, 480) == CAMERA
    double = lens.camera_for(1280, 960)
    assert (double.width, double.height) == (1280, 960)
    points_m = np.array([[0.1, -0.05, 0.5], [-0.2, 0.1, 0.8]])
    # A pixel's middle at (0, 0) becomes the corner shared by four of the larger image, at (0.5, 0.5).
    np.testing.assert_allclose(project(points_m, double), 2 * project(points_m, CAMERA) + 0.5)
    assert lens.camera_for(320, 240).fx == pytest.approx(300.25)


@pytest.mark.parametrize("size", [(1280, 720), (480, 640), (640, 640)])
def test_another_shape_is_refused_with_a_remedy(size):
    lens = Lens.measured(MEASURED)
    with pytest.raises(LensError, match=r"640x480 .* these are \d+x\d+.*calibrate it at this one.*--fov-deg"):
        lens.camera_for(*size)
    with pytest.raises(LensError, match="another shape"):
        lens.rectified(np.zeros((size[1], size[0], 3), np.uint8))


def test_a_straightened_image_has_points_where_the_camera_says():
    lens = Lens.measured(MEASURED)
    for width, height in ((640, 480), (320, 240)):
        camera = lens.camera_for(width, height)
        for point_m in ([0.14, -0.1, 0.4], [-0.13, 0.09, 0.4], [0.0, 0.0, 0.4]):
            bent = cv2.projectPoints(np.array([point_m]), np.zeros(3), np.zeros(3), camera.K, np.array(BENDS))[
                0
            ].ravel()
            v, u = np.mgrid[:height, :width]
            spot = np.exp(-((u - bent[0]) ** 2 + (v - bent[1]) ** 2) / (2 * 3.0**2))
            straight = lens.rectified(np.repeat(np.uint8(np.rint(255 * spot))[..., None], 3, axis=2))[..., 0]
            weights = straight.astype(float) / straight.sum()
            centre = [(u * weights).sum(), (v * weights).sum()]
            np.testing.assert_allclose(centre, project(np.array(point_m), camera), atol=0.25)
    far = project(np.array([0.14, -0.1, 0.4]), CAMERA)
    bent = cv2.projectPoints(np.array([[0.14, -0.1, 0.4]]), np.zeros(3), np.zeros(3), CAMERA.K, np.array(BENDS))[
        0
    ].ravel()
    assert np.linalg.norm(far - bent) > 5  # else the test would pass without straightening


def test_what_is_not_bent_is_not_touched_and_maps_are_made_once(monkeypatch):
    image = np.zeros((480, 640, 3), np.uint8)
    assert Lens.from_fov(60).rectified(image) is image
    assert Lens.measured(Intrinsics(CAMERA, (0.0,) * 5)).rectified(image) is image
    made, lens = [], Lens.measured(MEASURED)
    make = cv2.initUndistortRectifyMap
    monkeypatch.setattr(cv2, "initUndistortRectifyMap", lambda *args: made.append(args[4]) or make(*args))
    for _ in range(3):
        assert lens.rectified(image).shape == image.shape
        lens.rectified(np.zeros((240, 320, 3), np.uint8))
    assert made == [(640, 480), (320, 240)]


def test_fields_of_view():
    assert Lens.from_fov(90).camera_for(640, 480).fx == pytest.approx(320)
    assert not Lens.from_fov(60).known and Lens.from_fov(60, "EXIF").known and Lens.measured(MEASURED).known
    with pytest.raises(ValueError, match="field of view"):
        Lens.from_fov(200)


def test_what_is_said_to_be_metric():
    assumed, told, measured = Lens.from_fov(60), Lens.from_fov(71.3, "EXIF"), Lens.measured(MEASURED, "mine.json")
    assert assumed.describe() == "field of view of 60 degrees assumed: sizes and distances are up to scale"
    assert assumed.describe("given").endswith("sizes are as given, distances are up to scale")
    assert assumed.describe("calibrated").endswith("distances are in metres, sizes are up to scale")
    assert told.describe() == (
        "field of view of 71.3 degrees (EXIF): sizes and distances are up to scale, that of a usual hand"
    )
    line = measured.describe("given")
    assert line.startswith(
        "camera of mine.json (focal length 600 px at 640x480, reprojection error 0.21 px, 2025-03-01)"
    )
    assert line.endswith("sizes and distances are in metres") and "\n" not in line


def photo(
    path: Path, focal_mm: object, size: tuple[int, int] = (600, 400), taken: tuple[int, int] | None = None
) -> Path:
    """A photograph whose EXIF tells its focal length on film, and the size that it had when taken."""
    exif = Image.Exif()
    inner = exif.get_ifd(0x8769)
    inner[0xA405] = focal_mm
    if taken:
        inner[0xA002], inner[0xA003] = taken
    Image.new("RGB", size).save(path, exif=exif)
    return path


def test_the_focal_length_in_exif(tmp_path):
    # An image of film's own shape: 36 mm of film before a lens of 18 mm span 90 degrees.
    assert fov_deg_of(photo(tmp_path / "film.jpg", 18)) == pytest.approx(90, abs=0.01)
    # 28 mm, 4:3: a focal length of 28 / 43.27 of the diagonal of 5 units, over a longer side of 4.
    wide = 2 * np.degrees(np.arctan(2 / (28 / 43.2666 * 5)))
    for name, size in (("l.jpg", (640, 480)), ("p.jpg", (480, 640))):
        assert fov_deg_of(photo(tmp_path / name, 28, size)) == pytest.approx(wide, abs=0.01)
    assert fov_deg_of(photo(tmp_path / "small.jpg", 28, (640, 480), (4032, 3024))) == pytest.approx(wide, abs=0.01)


def test_exif_that_does_not_tell(tmp_path):
    assert fov_deg_of(photo(tmp_path / "unknown.jpg", 0)) is None
    assert fov_deg_of(photo(tmp_path / "cropped.jpg", 28, (600, 600), (4032, 3024))) is None
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    (tmp_path / "text.jpg").write_text("no image")
    assert [fov_deg_of(tmp_path / name) for name in ("plain.png", "text.jpg", "nowhere.jpg")] == [None] * 3


def test_a_file_beats_exif_and_two_lenses_are_refused(tmp_path):
    told = photo(tmp_path / "photo.jpg", 18)
    path = written(tmp_path / "camera.json")
    assert "camera.json" in chosen_lens(path, None, told).describe()
    assert chosen_lens(None, 50.0, told).describe().startswith("field of view of 50 degrees (--fov-deg)")
    assert (
        chosen_lens(None, None, told).describe().startswith("field of view of 90 degrees (of the focal length in its")
    )
    assert chosen_lens(None, None).describe().startswith("field of view of 60 degrees assumed")
    with pytest.raises(ValueError, match="give one of them"):
        chosen_lens(path, 60.0)


class Watcher(FakeTracker):
    """Remembers what it was shown."""

    def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list:
        self.image_rgb, self.camera = image_rgb, camera
        return super().detect(image_rgb, camera)


def test_the_image_tool_straightens_and_says_which_camera(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)).save("noise.png")
    tracker = Watcher()

    def run(**options: object) -> int:
        chosen = image_app.Options(images=(Path("noise.png"),), **options)
        return console.guarded(lambda: image_app.run(chosen, lambda _: tracker))

    assert run() == 0
    assert "field of view of 60 degrees assumed: sizes and distances are up to scale" in capsys.readouterr().err
    plain = tracker.image_rgb
    assert run(intrinsics=written(Path("camera.json")), hand_size=0.18) == 0
    assert "sizes and distances are in metres" in capsys.readouterr().err
    assert tracker.camera == Lens.measured(MEASURED).camera_for(320, 240) and (tracker.image_rgb != plain).any()
    assert run(intrinsics=Path("nowhere.json")) == 1
    assert "error: no camera file at nowhere.json" in capsys.readouterr().err
