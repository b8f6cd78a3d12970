"""The calibration, from rendered boards seen through a known lens to the file that holds it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from chessboard_scene import Photographer
from PIL import Image
from scipy.spatial.transform import Rotation

from handmesh import console
from handmesh.app import calibrate_camera
from handmesh.app.calibrate_camera import PAPERS_MM, Board, BoardViews, Collector, View, solve, write_board
from handmesh.app.window import WindowError
from handmesh.cli import main
from handmesh.files import write_image
from handmesh.geometry import project
from handmesh.types import Camera, Frame
from handmesh.video.lens import Lens, LensError

BOARD = Board()
CAMERA = Camera(560.0, 556.0, 327.0, 234.0, 640, 480)
BENDS = (-0.2, 0.06, 0.001, -0.0005)

Pose = tuple[tuple[float, float, float], tuple[float, float, float]]

POSES: list[Pose] = [
    ((0, 0, 0), (0.0, 0.0, 0.34)),
    ((0, 0, 10), (0.0, 0.0, 0.7)),
    ((30, 0, 0), (-0.08, -0.05, 0.42)),
    ((-30, 0, 5), (0.08, -0.06, 0.42)),
    ((0, 30, 0), (0.09, 0.05, 0.42)),
    ((0, -30, -5), (-0.09, 0.06, 0.42)),
    ((-20, -25, 10), (-0.1, 0.0, 0.4)),
    ((20, 25, 0), (0.1, 0.0, 0.4)),
    ((35, 10, 0), (0.0, 0.08, 0.4)),
    ((0, 0, 0), (0.11, -0.08, 0.4)),
    ((0, 0, 0), (-0.11, 0.08, 0.4)),
]
FLAT: list[Pose] = [((0, 0, 0), (x, y, z)) for x in (-0.08, 0.08) for y in (-0.06, 0.06) for z in (0.42, 0.6)]


@lru_cache
def photographer() -> Photographer:
    return Photographer(BOARD, CAMERA, BENDS)


@lru_cache
def image(pose: Pose) -> np.ndarray:
    return photographer().render_scene(*pose)


def board_points_m(pose: Pose) -> np.ndarray:
    """The corners in the camera's frame."""
    rotation = Rotation.from_euler("xyz", pose[0], degrees=True).as_matrix()
    return (BOARD.points_m - BOARD.points_m.mean(0)) @ rotation.T + pose[1]


def views_of(poses: list[Pose], noise_px: float = 0.0) -> BoardViews:
    """Views straight from geometry where the lens is not bent, from images where there is no noise."""
    views, rng = BoardViews(BOARD, 640, 480), np.random.default_rng(0)
    for k, pose in enumerate(poses):
        exact = project(board_points_m(pose), CAMERA) + noise_px * rng.normal(size=(len(BOARD.points_m), 2))
        views.keep(str(k), exact if noise_px else BOARD.find(image(pose)))
    return views


def folder(path: Path, poses: list[Pose] = POSES) -> Path:
    path.mkdir()
    for k, pose in enumerate(poses):
        write_image(path / f"{k:02d}.png", image(pose))
    return path


def run(*source: object, **options: object) -> int:
    chosen = calibrate_camera.Options(source=tuple(str(spec) for spec in source), **options)
    return console.guarded(lambda: calibrate_camera.run(chosen))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Work in an empty folder, without a display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def test_the_camera_comes_back_from_images(capsys):
    assert run(folder(Path("boards"))) == 0
    said = capsys.readouterr().err
    assert "view 00.png: 0.0" in said and "11 views" in said and "warning" not in said
    assert "--intrinsics camera.json" in said
    record = json.loads(Path("camera.json").read_text())
    found = Lens.from_file("camera.json").camera_for(640, 480)
    assert found.fx == pytest.approx(CAMERA.fx, rel=0.005) and found.fy == pytest.approx(CAMERA.fy, rel=0.005)
    assert (found.cx, found.cy) == pytest.approx((CAMERA.cx, CAMERA.cy), abs=2)
    assert record["distortion"]["k1"] == pytest.approx(BENDS[0], abs=0.02)
    assert record["reprojection_error_px"] < 0.15 and record["date"].count("-") == 2
    # What counts is where the lens puts a point, whatever the coefficients.
    straight = Lens.from_file("camera.json").rectified(image(POSES[9]))
    np.testing.assert_allclose(BOARD.find(straight), project(board_points_m(POSES[9]), CAMERA), atol=1.0)


def test_noisy_corners_give_the_focal_length_within_its_standard_deviation():
    solution = solve(views_of(POSES, noise_px=0.3))
    assert abs(solution.intrinsics.camera.fx - CAMERA.fx) < 3 * solution.fx_sigma_px
    assert 0.1 < solution.fx_sigma_px < 0.01 * CAMERA.fx and solution.warnings == []
    assert solution.intrinsics.error_px == pytest.approx(0.3 * np.sqrt(2), rel=0.15)


@pytest.mark.parametrize(("bend", "count"), [("none", 0), ("usual", 4), ("wide", 5)])
def test_as_many_coefficients_as_were_asked_for(bend, count):
    solution = solve(views_of(POSES, noise_px=0.1), bend)
    assert len(solution.intrinsics.distortion) == count
    assert solution.intrinsics.camera.fx == pytest.approx(CAMERA.fx, rel=0.01)


def test_views_without_tilt_are_not_trusted():
    """The focal length may come out at half or four times the true one, and its own deviation does not tell."""
    assert any("too alike" in warning and "tilt" in warning for warning in solve(views_of(FLAT, 0.1)).warnings)


def test_a_bent_board_is_poor_and_a_wrong_view_is_left_out():
    assert any("poor" in warning for warning in solve(views_of(POSES, noise_px=1.5)).warnings)
    views = views_of(POSES, noise_px=0.1)
    wrong = project(board_points_m(((10, 10, 0), (0.0, 0.0, 0.5))), CAMERA)
    wrong[10] += 40
    views.keep("wrong", wrong)
    solution = solve(views)
    assert list(solution.dropped) == ["wrong"] and "wrong" not in solution.errors_px
    assert solution.intrinsics.camera.fx == pytest.approx(CAMERA.fx, rel=0.01)


def test_too_little_of_the_image_is_told():
    middle = [(rotation, (0.0, 0.0, 0.8)) for rotation, _ in POSES[2:8]]
    assert any("of the image" in warning for warning in solve(views_of(middle, 0.05)).warnings)


def test_too_few_views_and_no_board_end_in_one_line(capsys):
    assert run(folder(Path("few"), POSES[:3])) == 1
    assert "needs 4 different views" in capsys.readouterr().err and not Path("camera.json").exists()
    assert run("few", columns=8) == 1
    assert "no board of 8x6 inner corners in 3 frames of few" in capsys.readouterr().err
    assert run("few", output=Path("camera.txt")) == 1
    assert "as .json" in capsys.readouterr().err


def test_other_sizes_and_broken_files_among_the_images(capsys):
    boards = folder(Path("boards"))
    Image.fromarray(image(POSES[0])[:400]).save(boards / "99.png")
    (boards / "98.png").write_text("no image")
    assert run(boards) == 0
    said = capsys.readouterr().err
    assert "1 of 12 frames are left out" in said and "98.png" in said


def test_corners_are_found_to_a_tenth_of_a_pixel_in_large_images_too():
    camera = Camera(1680.0, 1680.0, 959.5, 719.5, 1920, 1440)
    pose = ((20.0, -25.0, 8.0), (0.03, 0.01, 0.45))
    corners = BOARD.find(Photographer(BOARD, camera, (0.0,) * 4, finer=1).render_scene(*pose))
    assert np.linalg.norm(corners - project(board_points_m(pose), camera), axis=1).max() < 0.1


@pytest.mark.parametrize("fill", [0, 127, 255])
def test_no_board_in_empty_images(fill):
    assert BOARD.find(np.full((480, 640, 3), fill, np.uint8)) is None


def test_boards_that_cannot_be():
    for change in ({"columns": 2}, {"rows": 100}, {"square_m": 25.0}, {"square_m": float("nan")}):
        with pytest.raises(ValueError, match="a board"):
            Board(**change)


def frames(poses: list[Pose], fps: float = 15) -> Iterator[Frame]:
    for k, pose in enumerate(poses):
        yield Frame(f"{k:06d}", k / fps, image(pose))


def test_only_what_adds_something_is_kept():
    collector = Collector(BOARD, wanted=5, live=True)
    notes = [collector.look(frame).note for frame in frames([POSES[0]] * 3 + [POSES[2]] * 2 + [POSES[0]])]
    assert notes[:2] == ["hold it still", "kept"] and notes[2].startswith("like one that is kept")
    assert notes[3:5] == ["hold it still", "kept"] and len(collector.views.kept) == 2
    assert not collector.done
    collector.keep_last()
    collector.keep_last()
    assert len(collector.views.kept) == 3


def test_stills_need_not_be_still_and_videos_are_not_looked_at_in_full():
    stills = Collector(BOARD, wanted=5, stills=True)
    assert [stills.look(frame).kept for frame in frames(POSES[:3])] == [True] * 3
    video = Collector(BOARD, wanted=5)
    looked = [
        k for k, frame in enumerate(frames([POSES[0]] * 10, fps=30)) if not video.skips(frame) and video.look(frame)
    ]
    assert looked == [0, 3, 6, 9]


def test_a_camera_is_done_when_there_are_enough_and_nothing_is_missing():
    collector = Collector(BOARD, wanted=len(POSES), live=True)
    for pose in POSES:
        assert not collector.done
        for k in range(2):
            collector.look(Frame("x", 100 * POSES.index(pose) + k / 15, image(pose)))
    missing = collector.views.missing()
    assert len(collector.views.kept) == len(POSES) and collector.done == (not missing), missing


def test_what_is_missing():
    views = BoardViews(BOARD, 640, 480)
    assert views.missing()[0].startswith("tilt it") and len(views.missing()) == 3
    for pose in POSES[2:6]:
        views.keep("x", project(board_points_m(pose), CAMERA))
    assert min(views.tilted) == 2 and not any("tilt" in wish for wish in views.missing())
    left = BoardViews(BOARD, 640, 480)
    left.keep("x", project(board_points_m(((0, 0, 0), (0.2, 0.0, 0.6))), CAMERA))
    assert "show it at the top left" in left.missing() and "show it at the top right" in left.missing(mirrored=True)
    assert 0.05 < left.coverage < 0.3 and not left.covered[:, :3].any() and left.covered[2:4, 5:7].all()


class FakeCamera:
    """A camera before which a board is held still now and then; Ctrl-C comes after `patience` frames."""

    title, live, stills, length, fps = "camera 0", True, False, None, 15.0

    def __init__(self, patience: int) -> None:
        self.warnings: list[str] = []
        self.closed, self._patience = False, patience

    def __iter__(self) -> Iterator[Frame]:
        poses = [pose for pose in POSES for _ in range(2)]
        for k, frame in enumerate(frames(poses)):
            if k == self._patience:
                raise KeyboardInterrupt
            yield frame

    def close(self) -> None:
        self.closed = True


def test_ctrl_c_calculates_with_what_is_there(monkeypatch, capsys):
    camera = FakeCamera(patience=14)
    monkeypatch.setattr(calibrate_camera, "open_source", lambda *_: camera)
    assert run("0") == 0 and camera.closed
    said = capsys.readouterr().err
    assert "stopped: calculating" in said and "7 of 15 views; show it at the" in said
    assert Lens.from_file("camera.json").camera_for(640, 480).fx == pytest.approx(CAMERA.fx, rel=0.01)


class FakePreview:
    """A window whose user presses one key a frame."""

    def __init__(self, keys: str) -> None:
        self.keys, self.shown, self.closed = list(keys), 0, False

    def show(self, look: object, collector: Collector) -> list[str]:
        self.shown += 1
        assert calibrate_camera.draw(look, collector, mirror=True).shape == (720, 960, 3)
        return [self.keys.pop(0)] if self.keys else []

    def close(self) -> None:
        self.closed = True


def test_keys(monkeypatch, capsys):
    window = FakePreview(" . . . . . . . .q")
    monkeypatch.setattr(calibrate_camera, "open_source", lambda *_: FakeCamera(patience=99))
    monkeypatch.setattr(calibrate_camera, "Preview", lambda mirror: window)
    assert run("0") == 0
    assert window.shown == 17 and window.closed and "\n8 views" in capsys.readouterr().err


def test_the_window_shows_corners_coverage_and_wishes():
    collector = Collector(BOARD, wanted=5, stills=True)
    look = collector.look(next(frames([POSES[9]])))
    drawn = calibrate_camera.draw(look, collector, mirror=False)
    x, y = np.rint(look.corners_px[0] * 1.5).astype(int)
    assert (drawn[y - 5 : y + 6, x - 5 : x + 6] == calibrate_camera.FOUND).all(-1).any()
    plain = np.repeat(np.repeat(look.frame.image_rgb, 3, axis=0), 3, axis=1)[::2, ::2]
    greener = (drawn[..., 1].astype(int) - drawn[..., 0])[130:600, 400:950] > 10
    assert greener.any() and not (plain[..., 1] > plain[..., 0]).any()
    mirrored = calibrate_camera.draw(look, collector, mirror=True)
    assert (mirrored[300:600] == drawn[300:600, ::-1]).all() and (mirrored[:100] != drawn[:100, ::-1]).any()


def test_without_a_display_there_is_no_window():
    if not sys.platform.startswith("linux"):
        pytest.skip("displays are found by environment variables on Linux alone")
    with pytest.raises(WindowError, match="no display"):
        calibrate_camera.Preview(mirror=True)


@pytest.mark.parametrize("paper", PAPERS_MM)
def test_the_printed_board_has_its_size_and_is_found(paper):
    write_board(Path("board.png"), BOARD, paper)
    with Image.open("board.png") as file:
        dpi, sheet = file.info["dpi"][0], np.array(file.convert("RGB"))
    assert np.array(sheet.shape[1::-1]) / dpi * 25.4 == pytest.approx(PAPERS_MM[paper], abs=0.1)
    corners = BOARD.find(sheet)
    steps_mm = np.diff(corners.reshape(6, 9, 2), axis=1)[..., 0] / dpi * 25.4
    assert np.abs(steps_mm) == pytest.approx(np.full((6, 8), 25.0), abs=0.1)


def test_boards_as_pdf_and_svg():
    assert run(print_board=Path("board.pdf")) == 0 and run(print_board=Path("board.svg")) == 0
    data = Path("board.pdf").read_bytes()
    assert data.startswith(b"%PDF") and b"/MediaBox [ 0 0 841.92 595.2 ]" in data  # A4, in 72nds of an inch
    svg = Path("board.svg").read_text()
    assert 'width="297mm" height="210mm"' in svg and svg.count("h25v25h-25z") == 35
    assert not Path("camera.json").exists()


def test_boards_that_do_not_fit_and_unknown_formats(capsys):
    assert run(print_board=Path("board.pdf"), square_mm=40) == 1
    assert "does not fit a4" in capsys.readouterr().err
    assert run(print_board=Path("board.doc")) == 1
    assert "written as .pdf, .svg, .png" in capsys.readouterr().err


def test_views_that_determine_nothing_are_refused():
    views = BoardViews(BOARD, 640, 480)
    for k in range(4):
        views.kept.append(View(str(k), np.full((54, 2), 100.0 + k)))
    with pytest.raises(LensError, match="determine no camera"):
        solve(views)


def test_the_command_explains_itself(capsys):
    assert main(["calibrate-camera", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--print-board" in said and "--square-mm" in said
