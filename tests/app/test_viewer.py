"""The demo's window: keys, views, what is written over them, and a display that goes away."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from posed_hand import FakeTracker, posed_hand

from handmesh import console
from handmesh.app import hud
from handmesh.app import options as options_module
from handmesh.app import viewer as viewer_module
from handmesh.app import webcam as app
from handmesh.app.capture import Snapshots
from handmesh.app.hud import Hud, HudState, Panel, text_width, wrapped
from handmesh.app.keys import ANGLES, KEYS, Controls, Orbit, ViewSettings, key_name
from handmesh.app.player import Meter, Pacer, RateMeter, Readings
from handmesh.app.viewer import SessionState, Viewer, ViewRenderer, canvas, ground, joined
from handmesh.app.window import MAX_SIDE, Shown, Window, WindowError, first_size, has_display, letter
from handmesh.geometry import project
from handmesh.render.overlay import Style
from handmesh.types import Camera, Frame, Hand, TrackedFrame
from handmesh.video.sources import Video


def scene(width: int = 320, height: int = 240, level: int = 90, hands: int = 1) -> TrackedFrame:
    camera = Camera.from_fov(width, height)
    left = replace(posed_hand(camera, (-0.1, 0.0, 0.6), side="left"), id=1)
    found = [posed_hand(camera, (0.1, 0.0, 0.5)), left][:hands]
    image = np.full((height, width, 3), level, np.uint8)
    return TrackedFrame(Frame("0", 0.0, image, captured_s=time.perf_counter()), found, camera)


# Keys.


def test_keys_switch_what_they_say():
    controls = Controls()
    for key, name in (("m", "mesh"), ("w", "wireframe"), ("k", "skeleton")):
        assert getattr(controls.after(key).settings.style, name) != getattr(controls.settings.style, name)
        assert controls.after(key).after(key) == controls
    assert controls.after("q").quit and controls.after("space").paused and controls.after("i").info is False
    assert [controls.after(key).action for key in "src"] == ["snapshot", "record", "calibrate"]
    assert controls.after("h").help and controls.after("x") == controls.after("") == controls
    assert [key_name(ord(c)) for c in " \x1b\r\n?HQ"] == ["space", "q", "space", "space", "h", "h", "q"]


ARROWS = {"GTK and Qt": (0xFF51, 0xFF52, 0xFF53, 0xFF54), "Windows": (0x250000, 0x260000, 0x270000, 0x280000),
          "macOS": (63234, 63232, 63235, 63233)}  # fmt: skip


@pytest.mark.parametrize("system", ARROWS)
def test_arrows_are_no_letters(system):
    codes = [*ARROWS[system], *(code | 0x100000 for code in ARROWS[system] if system == "GTK and Qt"), -1]
    assert [letter(code) for code in codes] == [None] * len(codes)
    assert letter(ord("q")) == letter(ord("q") | 0x100000) == ord("q")  # with NumLock
    assert letter(0x6CA) is None  # a Cyrillic letter


def test_every_key_of_the_help_does_something_and_no_other():
    told = {key_name(ord(k)) if len(k) == 1 else k for keys in KEYS for k in keys.split()}
    start = Controls(ViewSettings(view="side"))  # in which every view is another one or another angle
    assert told - {"2"} == {
        k for k in [*map(chr, range(33, 127)), "space"] if start.after(k.lower()) != start and k == k.lower()
    }


def test_views_and_angles_go_round():
    controls = Controls()
    assert [controls.after(k).settings.view for k in "123"] == ["overlay", "side", "mesh"]
    assert [controls.after("v").settings.view, controls.after("v").after("v").after("v").settings.view] == [
        "side",
        "overlay",
    ]
    rotated = controls.after("o").settings  # the overlay has no other angle
    assert (rotated.view, rotated.seen_from) == ("side", "side")
    mesh, angles = controls.after("3"), []
    for _ in ANGLES:
        angles.append(mesh.settings.seen_from)
        mesh = mesh.after("o")
    assert tuple(angles) == ANGLES and mesh.settings.seen_from == "front"


# Views.


def test_the_overlay_is_drawn_once_and_the_mesh_view_from_the_camera_shows_the_same():
    tracked, renderer = scene(), ViewRenderer()
    (first,), (again,) = (renderer.panes(tracked, ViewSettings(), 0.0) for _ in range(2))
    assert first is again
    (mesh,) = renderer.panes(tracked, ViewSettings(Style(opacity=1.0), view="mesh"), 0.0)
    changed = np.abs(mesh.astype(int) - ground(320, 240)).max(-1) > 12
    overlaid = np.abs(first.astype(int) - 90).max(-1) > 12
    assert (changed & overlaid).sum() / (changed | overlaid).sum() > 0.97


def test_side_by_side_has_the_camera_on_the_left_also_in_the_mirror():
    tracked = scene(level=90)
    panes = ViewRenderer().panes(tracked, ViewSettings(view="side"), 0.0)
    recorded = joined(panes)
    assert recorded.shape == (240, 640, 3) and (recorded[:, :320] == panes[0]).all()
    shown, plain = canvas(panes, mirror=True), canvas(panes, mirror=False)
    assert shown.shape == (480, 1280, 3) and (shown[0, 0] == 90).all()
    np.testing.assert_array_equal(shown[:, :640], plain[:, :640][:, ::-1])
    np.testing.assert_array_equal(shown[:, 640:], plain[:, 640:][:, ::-1])


@pytest.mark.parametrize(
    "size", [(160, 120), (320, 240), (640, 480), (1080, 1920), (1920, 1080), (3840, 2160), (2000, 50)]
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_canvas_is_large_enough_to_write_on_and_fits_the_window(size, count):
    given = tuple(np.zeros((size[1], size[0], 3), np.uint8) for _ in range(count))
    drawn = canvas(given, mirror=False)
    assert max(drawn.shape[:2]) <= MAX_SIDE and drawn.shape[1] // count >= min(640, MAX_SIDE // count)
    assert drawn.shape[1] / count / drawn.shape[0] == pytest.approx(size[0] / size[1], rel=0.02)
    drawn += 1  # a canvas is its own
    assert not any(pane.any() for pane in given)


def settled(orbit: Orbit, angle: str, hands: list[Hand], camera: Camera) -> list[Hand]:
    return [orbit.seen_from(angle, hands, camera, t) for t in np.arange(0, 5, 0.1)][-1]


def test_from_the_front_hands_are_where_the_camera_sees_them():
    tracked = scene(hands=2)
    assert settled(Orbit(), "front", tracked.hands, tracked.camera) == tracked.hands


@pytest.mark.parametrize("angle", ["side", "above", "back"])
@pytest.mark.parametrize("hands", [1, 2])
@pytest.mark.parametrize("size", [(320, 240), (240, 320)])
def test_from_elsewhere_hands_keep_their_shape_and_fill_the_image(angle, hands, size):
    tracked = scene(*size, hands=hands)
    moved = settled(Orbit(), angle, tracked.hands, tracked.camera)
    both = np.concatenate([hand.vertices_m for hand in tracked.hands]).astype(float)
    rotated = np.concatenate([hand.vertices_m for hand in moved]).astype(float)
    pick = np.random.default_rng(0).integers(0, len(both), (2, 500))
    np.testing.assert_allclose(
        np.linalg.norm(rotated[pick[0]] - rotated[pick[1]], axis=1),
        np.linalg.norm(both[pick[0]] - both[pick[1]], axis=1),
        atol=1e-5,
    )
    pixels = project(rotated, tracked.camera)
    assert (pixels > -1).all() and (pixels < size).all() and np.ptp(pixels, axis=0).max() > 0.3 * min(size)
    np.testing.assert_allclose(moved[0].joints_px, project(moved[0].joints_m, tracked.camera), atol=1e-2)


def test_which_way_the_angles_look():
    camera = Camera.from_fov(320, 240)
    near = posed_hand(camera, (0.0, 0.0, 0.4))
    far = replace(posed_hand(camera, (0.0, 0.0, 0.8)), id=1)
    above, side, back = (settled(Orbit(), angle, [near, far], camera) for angle in ("above", "side", "back"))
    middle = [[hand.joints_px.mean(0) for hand in hands] for hands in (above, side, back)]
    assert middle[0][1][1] < middle[0][0][1] - 20  # what is far is up
    assert middle[1][1][0] > middle[1][0][0] + 20  # from the camera's right, what is far is right
    assert back[1].joints_m[:, 2].mean() < back[0].joints_m[:, 2].mean()  # what was far is near


def test_a_turn_is_smooth_and_ends():
    tracked, orbit = scene(), Orbit()
    orbit.seen_from("front", tracked.hands, tracked.camera, 0.0)
    yaws = []
    for k in range(1, 60):
        orbit.seen_from("back", tracked.hands, tracked.camera, k / 30)
        yaws.append(orbit.state.yaw_deg)
    steps = np.diff([0.0, *yaws])
    assert (steps >= 0).all() and 5 < steps[0] < 60 and yaws[-1] == 180.0


def test_the_eye_follows_hands_calmly_but_finds_a_new_one_at_once():
    camera, orbit = Camera.from_fov(320, 240), Orbit()
    orbit.seen_from("side", [], camera, 0.0)
    orbit.seen_from("side", [posed_hand(camera, (0.2, 0.0, 0.5))], camera, 0.03)
    assert orbit.state.x_m == pytest.approx(0.2, abs=0.05)
    orbit.seen_from("side", [posed_hand(camera, (-0.2, 0.0, 0.5))], camera, 0.06)
    assert orbit.state.x_m > 0.1


def test_a_predicted_hand_is_drawn_fainter():
    tracked = scene(level=0)
    guessed = TrackedFrame(tracked.frame, [replace(tracked.hands[0], predicted=True)], tracked.camera)
    for style in (Style(), Style(mesh=False, wireframe=True), Style(mesh=False, skeleton=True)):
        solid, translucent = (ViewRenderer().overlay(each, style).astype(float) for each in (tracked, guessed))
        assert 0.2 < translucent.sum() / solid.sum() < 0.6 and (translucent <= solid + 1).all()


# What is written over them.


READINGS = Readings(29.7, 42.0, {"network": 8.04, "wait": 20.0, "show": 3.0}, 1)


def test_rows_of_hands():
    hand = scene().hands[0]
    assert hud.hand_row(hand) == ("right", "97 %", "0.50 m", f"{100 * hand.size_m:.1f} cm")
    assert hud.hand_row(replace(hand, predicted=True))[1] == "unseen"


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(320, 240), (1920, 1080)])
def test_letters_stand_out_from_any_image(level, size):
    image = canvas((np.full((size[1], size[0], 3), level, np.uint8),), mirror=False)
    hands = scene(hands=2).hands
    Hud().draw(image, READINGS, HudState(hands, "up to scale"), info=True, help=False)
    letter = hud.letter_size(image.shape[1], image.shape[0])
    corner = image[letter : 2 * letter, letter : 4 * letter].astype(float) / 255  # the first number
    assert contrast(corner.max(), np.median(corner)) > 4.5  # WCAG 2's level AA
    assert letter * first_size(image.shape[1], image.shape[0])[0] / image.shape[1] >= 13


def contrast(bright: float, dark: float) -> float:
    """WCAG 2's ratio of two greys, 0..1."""
    bright, dark = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (bright, dark))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (1920, 1080), (1000, 60)])
def test_panels_keep_to_the_edges_and_may_be_cut(size):
    image = canvas((np.zeros((size[1], size[0], 3), np.uint8),), mirror=False)
    status = HudState(
        scene(hands=2).hands, "a long line " * 30, "paused", "REC 0:12", "saved " + "x" * 80, "hold " * 40, 0.4
    )
    Hud().draw(image, READINGS, status, info=True, help=True)
    assert image.max() > 200


def test_nothing_lies_under_the_help():
    def drawn(**shown: bool) -> np.ndarray:
        image = np.zeros((480, 640, 3), np.uint8)
        Hud().draw(image, READINGS, HudState(scene().hands, "up to scale"), **shown)
        return image

    np.testing.assert_array_equal(drawn(info=True, help=True), drawn(info=False, help=True))


def test_a_panel_is_made_again_only_for_other_words(monkeypatch):
    made = []
    monkeypatch.setattr(hud, "times_panel", lambda *args: made.append("times") or Panel(50, 20))
    monkeypatch.setattr(hud, "hands_panel", lambda *args: made.append("hands") or Panel(50, 20))
    drawn, image, tracked = Hud(), np.zeros((240, 320, 3), np.uint8), scene()
    nearer = [replace(tracked.hands[0], joints_m=tracked.hands[0].joints_m * 0.9)]
    for hands in (tracked.hands, tracked.hands, nearer):  # numbers change with new readings only
        drawn.draw(image, READINGS, HudState(hands, ""), info=True, help=False)
    assert made == ["times", "hands"]
    drawn.draw(image, READINGS, HudState([], ""), info=True, help=False)
    assert made == ["times", "hands", "hands"]
    drawn.draw(image, READINGS._replace(number=2), HudState([], ""), info=True, help=False)
    assert made == ["times", "hands", "hands", "times"]


def test_the_stages_are_those_of_the_tracker_and_the_session():
    from handmesh.tracking.estimator import STAGES

    assert set(hud.STAGE_COLOURS) == {*STAGES, "wait", "read", "draw", "write", "show"} - {"total"}


def test_lines_are_broken_between_words():
    text = "field of view of 60 degrees assumed: sizes and distances are up to scale"
    lines = wrapped(text, 14, 200)
    assert " ".join(lines) == text and len(lines) > 1 and all(text_width(line, 14) <= 200 for line in lines)
    assert wrapped("", 14, 200) == [] and wrapped("unbreakable", 14, 5) == ["unbreakable"]


def test_readings_are_means_and_calm(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meter, published = Meter(), set()
    for k in range(100):
        now[0] += 1 / 30
        meter.add({"network": 8.0 + k % 2, "total": 99.0})
        if k % 2:
            meter.add_shown(way_s=0.004, age_s=0.040)
        meter.end_frame()
        published.add(meter.readings.number)
    assert 6 <= len(published) <= 10  # in 3.3 s
    assert meter.readings.fps == pytest.approx(30) and meter.readings.age_ms == pytest.approx(40)
    assert meter.readings.stages_ms == pytest.approx({"network": 8.5, "show": 4.0}, abs=0.1)


def test_the_rate_forgets_a_pause():
    rate = RateMeter()
    for now_s in (0.0, 0.1, 0.2, 60.0, 60.1, 60.2):
        rate.tick(now_s)
    assert rate.fps == pytest.approx(10)


# The loop.


class FakeWindow:
    """A window whose user presses the given keys, one each time they are asked for, and then q."""

    def __init__(self, keys: str = "") -> None:
        self.pressed, self.images = deque(keys), []
        self.closed = self.lost = False
        self.shown: Shown | None = None

    def show(self, image_rgb: np.ndarray) -> int:
        self.images.append(image_rgb.copy())
        self.shown = Shown(len(self.images), time.perf_counter())
        return len(self.images)

    def key(self, wait_s: float) -> int | None:
        key = self.pressed.popleft() if self.pressed else "q"
        return None if key == "." else ord(key)

    def close(self) -> None:
        self.closed = True


def viewer_of(window: FakeWindow, folder: Path, mirror: bool = False, stills: bool = False) -> Viewer:
    return Viewer(window, ViewSettings(), ViewRenderer(), Meter(), Snapshots(folder), mirror, stills)


def test_only_the_window_is_mirrored(tmp_path):
    tracked, window, snapshots = scene(640, 480), FakeWindow("hi.s"), Snapshots(tmp_path)
    shown = Viewer(window, ViewSettings(), ViewRenderer(), Meter(), snapshots, mirror=True, stills=False)
    assert shown.show(tracked, wait_s=1e6) is False  # help off, info off, snapshot, then q
    np.testing.assert_array_equal(window.images[-1], ViewRenderer().overlay(tracked, Style())[:, ::-1])
    assert (window.images[0] != window.images[-1]).any()  # with and without the head-up display
    snapshots.close()
    from handmesh.files import read_image

    np.testing.assert_array_equal(read_image(snapshots.saved[0]), ViewRenderer().overlay(tracked, Style()))


def test_what_is_written_on_the_window_is_not_mirrored(tmp_path):
    empty = TrackedFrame(scene().frame, [], Camera.from_fov(320, 240))
    plain, mirrored = FakeWindow("h"), FakeWindow("h")
    viewer_of(plain, tmp_path).show(empty)
    viewer_of(mirrored, tmp_path, mirror=True).show(empty)
    np.testing.assert_array_equal(plain.images[-1], mirrored.images[-1])


def test_pause_holds_a_frame_and_stills_wait_for_a_key(tmp_path):
    window = FakeWindow(". wk ")
    live = viewer_of(window, tmp_path)
    assert live.show(scene()) is True and not window.pressed
    assert live.settings.style == Style(wireframe=True, skeleton=True) and not live.controls.paused
    window = FakeWindow(".m.\r. q")
    stills = viewer_of(window, tmp_path, stills=True)
    assert stills.show(scene()) is True and stills.show(scene()) is True and stills.show(scene()) is False


def test_ctrl_c_ends_a_pause(tmp_path):
    with console.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        assert viewer_of(FakeWindow("." * 99), tmp_path, stills=True).show(scene()) is False
        assert console.take_interrupt()


def test_keys_turn_the_view_of_a_frame_that_stays(tmp_path):
    window = FakeWindow("h2.o.")
    viewer_of(window, tmp_path).show(scene(640, 480), wait_s=1e6)
    assert window.images[0].shape == (480, 640, 3) and window.images[-1].shape == (480, 1280, 3)


def test_the_help_shows_itself_at_first_and_goes(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(viewer_module.time, "perf_counter", lambda: clock[0])
    shown = viewer_of(FakeWindow("." * 8 + "h"), tmp_path)
    tracked, helped = scene(), []
    for _ in range(3):
        shown.show(tracked)
        helped.append(shown.controls.help)
        clock[0] += 3.0
    assert helped == [True, True, False]


def test_the_help_hides_neither_images_that_stay_nor_what_the_user_should_do(tmp_path):
    stills = viewer_of(FakeWindow("."), tmp_path, stills=True)
    stills.show(scene())
    assert not stills.controls.help
    measuring = viewer_of(FakeWindow("."), tmp_path)
    measuring.session_state = lambda: SessionState(task="hold still")
    measuring.show(scene())
    assert not measuring.controls.help


def test_a_pause_makes_no_frame_slower(tmp_path):
    meter = Meter()
    shown = Viewer(FakeWindow(" " + "." * 20), ViewSettings(), ViewRenderer(), meter, Snapshots(tmp_path), False, False)
    stages = []
    with_stage = meter.stage
    meter.stage = lambda name: stages.append(name) or with_stage(name)
    shown.show(scene())
    assert stages == ["draw"]


def test_actions_are_done_and_told(tmp_path):
    window, done = FakeWindow("rc."), []
    shown = viewer_of(window, tmp_path)
    shown.actions = {"record": lambda: done.append("r") or "recording x", "calibrate": lambda: done.append("c") or ""}
    shown.session_state = lambda: SessionState("up to scale", "REC 0:01", "hold still", 0.5)
    shown.show(scene(), wait_s=1e6)
    assert done == ["r", "c"]


def test_a_window_that_goes_away_ends_the_loop(tmp_path):
    window = FakeWindow("......")
    shown = viewer_of(window, tmp_path)
    window.lost = True
    assert shown.show(scene(), wait_s=1e6) is False and shown.lost


def test_a_camera_that_gives_nothing_is_waited_for_until_the_user_quits(tmp_path, monkeypatch):
    clock, window = [0.0], FakeWindow("....")
    monkeypatch.setattr(viewer_module.time, "perf_counter", lambda: clock[0])
    shown = viewer_of(window, tmp_path)
    shown.show(scene())
    clock[0] = 0.4  # a slow camera is no silent one
    assert shown.idle() and len(window.images) == 1
    clock[0] = 1.5
    assert shown.idle() and len(window.images) == 2 and (window.images[0] != window.images[1]).any()
    assert not shown.idle()


def test_a_video_is_not_shown_faster_than_it_was_taken():
    pacer = Pacer(10.0)
    pacer.wait_s()
    assert 19 < pacer.wait_s() <= 20
    assert Pacer(0.0).wait_s() == 0.0


# A real window.


def test_no_display_is_noticed_and_a_dead_one_too(monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("displays are found by environment variables on Linux alone")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(WindowError, match="no display"):
        Window()
    monkeypatch.setenv("DISPLAY", ":4321")
    assert not has_display()


def test_first_sizes_fit_a_usual_screen():
    assert first_size(640, 480) == (640, 480) and first_size(320, 240) == (480, 360)
    assert first_size(1920, 1080) == (1280, 720) and first_size(1080, 1920) == (450, 800)


@pytest.fixture
def display(monkeypatch) -> Iterator[subprocess.Popen]:
    """A screen of our own, which a test may take away."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb, a screen in memory, is not installed")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1024x768x24"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    monkeypatch.setenv("DISPLAY", f":{server.stdout.readline().strip()}")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    yield server
    server.kill()
    server.wait()


def test_a_real_window_shows_images_and_notices_that_its_display_is_gone(display):
    window = Window()
    stamp = window.show(np.full((240, 320, 3), 90, np.uint8))
    assert stamp == 1 and window.show(np.zeros((240, 320, 3), np.uint8)) in (None, 2)
    until_s = time.perf_counter() + 20
    while (window.shown is None or window.shown.stamp < stamp) and time.perf_counter() < until_s:
        window.key(0.1)
    assert window.shown and window.shown.stamp >= stamp and not window.closed and not window.lost
    display.kill()
    while not window.lost and time.perf_counter() < until_s:
        window.show(np.zeros((240, 320, 3), np.uint8))
        window.key(0.1)
    assert window.lost and window.show(np.zeros((8, 8, 3), np.uint8)) is None and window.key(0.0) is None
    window.close()


def test_the_demo_goes_on_recording_when_its_display_is_gone(display, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    class Camera40:
        title, live, stills, length, fps, warnings = "camera 0", True, False, None, 30.0, ()
        files = MappingProxyType({})

        def __iter__(self) -> Iterator[Frame]:
            for k in range(40):
                if k == 20:
                    display.kill()
                    display.wait()
                    time.sleep(0.5)
                yield Frame(str(k), k / 30, np.full((96, 128, 3), 40, np.uint8), captured_s=time.perf_counter())
                time.sleep(0.01)

        def close(self) -> None:
            pass

    monkeypatch.setattr(app, "CameraFeed", lambda index: Camera40())
    options = options_module.Options(record=Path("v.mp4"))
    assert console.guarded(lambda: app.run(options, lambda _: FakeTracker())) == 0
    assert "the window is gone" in capsys.readouterr().err
    assert len(list(Video(Path("v.mp4")))) == 40
