"""What the web pages compute as Python does, each piece on the same numbers in both languages.

Python makes the cases, `web/twins.mjs` answers them with the page's own modules in plain node.
"""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import web_workspace
from gesture_hands import apart, pinching
from hand_scenes import hand_constants, network_outputs, posed_hand
from scipy.spatial.transform import Rotation

from handmesh.assets import DEMO_CLIP, detector_path, model_path
from handmesh.crop import Letterbox, crop_affine, letterbox, warp
from handmesh.detection import Detector, read_maps
from handmesh.geometry import least_squares_translation, logistic, solve_translation
from handmesh.gestures import FINGERS, GestureReader
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.alignment import Alignment
from handmesh.tracking.association import Track, deduplicate, is_covered, overlap, same_hand, track_of
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import Confidence, Crop, Estimate, Estimator, is_plausible, is_usable, to_camera_frame
from handmesh.tracking.smoothing import PRESETS, Cutoff, HandSmoother, RotationOneEuro
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Box, Camera, Hand
from handmesh.video.sources import Video
from handmesh.xr import to_webxr

TWINS = Path(__file__).parent / "twins.mjs"
RNG = np.random.default_rng(0)
START = RNG.bit_generator.state
CAMERA = Camera(520.0, 500.0, 310.0, 242.0, 640, 480)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """For each test, whichever ran before."""
    RNG.bit_generator.state = START


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """The pages' modules as JavaScript."""
    web_workspace.require_packages()
    folder = tmp_path_factory.mktemp("compiled")
    web_workspace.npx("tsc", "--noEmit", "false", "--outDir", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture
def ask(compiled):
    """Cases to the page's twin of this name, answers back."""

    def asked(twin: str, cases: list[dict]) -> list:
        text = json.dumps([{"twin": twin, **case} for case in cases])
        command = ["node", str(TWINS), str(compiled)]
        return json.loads(subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True, text=True).stdout)

    return asked


def numbers(array: np.ndarray) -> list:
    """A flat list; what JSON cannot hold as the text that JavaScript makes the same number of."""
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return [v if math.isfinite(v) else names.get(v, "NaN") for v in np.ravel(array).tolist()]


def flat(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
    return {name: numbers(value) for name, value in arrays.items()}


CONSTANTS = flat({name: value for name, value in hand_constants().items() if name != "faces"})


def smooth_image(width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 with structure of all sizes."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + k) + np.cos(y / 7 - k) + np.sin((x + y) / 60) for k in range(3)]
    return (np.stack(waves, axis=2) * 35 + 128 + RNG.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


def as_given(image: np.ndarray) -> dict:
    rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    return {"width": image.shape[1], "height": image.shape[0], "rgba": base64.b64encode(rgba.tobytes()).decode()}


def as_box(box: Box) -> dict:
    return {"centrePx": box.centre_px, "sizePx": box.size_px, "angleRad": box.angle_rad}


BOXES = [
    Box((150.0, 101.3), 96.0),
    Box((120.4, 80.0), 60.0, 0.7),
    Box((150.0, 90.0), 215.0, -2.1),  # halved once
    Box((20.0, 180.0), 400.0, 0.3),  # twice, far over the border
    Box((160.0, 90.0), 900.0, 3.0),  # four times, larger than the image
]


@pytest.mark.parametrize("size", [(333, 201), (320, 240)])
def test_crops(ask, size):
    image = smooth_image(*size)
    cases = [
        {"image": as_given(image), "box": as_box(b), "size": 96, "mirror": m} for b in BOXES for m in (False, True)
    ]
    for case, given in zip(cases, ask("warp", cases), strict=True):
        box = Box(case["box"]["centrePx"], case["box"]["sizePx"], case["box"]["angleRad"])
        expected = warp(image, crop_affine(box, 96, case["mirror"]), 96)
        off = np.abs(np.reshape(given, (96, 96, 3)) - expected.astype(int))
        assert off.max() <= 3 and off.mean() < 0.3, f"{box}: {off.max()} at most, {off.mean():.2f} on average"


@pytest.mark.parametrize("size", [(640, 480), (641, 333), (512, 384), (120, 90), (90, 200), (257, 193)])
def test_letterboxes(ask, size):
    image = smooth_image(*size)
    (given,) = ask("letterbox", [{"image": as_given(image), "height": 192, "width": 256}])
    expected = letterbox(image, 192, 256)
    off = np.abs(np.reshape(given["image"], (192, 256, 3)) - expected.image.astype(int))
    assert off.max() <= 2 and off.mean() < 0.3
    assert given["scale"] == pytest.approx(expected.scale)
    assert given["shiftPx"] == pytest.approx(expected.shift_px)


def test_places_in_space_also_where_the_image_tells_none(ask):
    camera = Camera(520.0, 500.0, 310.0, 242.0, 640, 480)
    joints = RNG.normal(0, 0.05, (21, 3))
    seen = (joints + [0.05, -0.02, 0.6])[:, :2] / (joints[:, 2:] + 0.6) * 510 + [310, 242]
    images = [seen, np.full((21, 2), 200.0), 620 - seen, RNG.uniform(0, 600, (21, 2)), seen * 1e-3]
    misfits = [seen + RNG.normal(0, 4 * k, (21, 2)) for k in range(20)]  # of which some are held to what the size gives
    images += misfits
    cases = [
        {"joints": joints.ravel().tolist(), "pixels": p.ravel().tolist(), "camera": asdict(camera)} for p in images
    ]
    expected = [solve_translation(joints, pixels, camera) for pixels in images]
    np.testing.assert_allclose(ask("root", cases), expected, rtol=1e-9)
    free = [least_squares_translation(joints, pixels, camera) for pixels in misfits]
    placed = [solve_translation(joints, pixels, camera, np.ones(21)) for pixels in misfits]
    held = [not np.allclose(one, other) for one, other in zip(free, placed, strict=True)]
    assert any(held) and not all(held)


def test_boxes_around_joints(ask):
    hands = [RNG.uniform(0, 600, (21, 2)) for _ in range(5)]
    for given, joints in zip(ask("box", [{"pixels": hand.ravel().tolist()} for hand in hands]), hands, strict=True):
        expected = Box.around(joints)
        assert given["centrePx"] == pytest.approx(expected.centre_px)
        assert given["sizePx"] == pytest.approx(expected.size_px)
        assert given["angleRad"] == pytest.approx(expected.angle_rad)


@pytest.mark.parametrize("bends", [False, True])
def test_posed_hands(ask, bends):
    """With what a pose adds to the vertices, as MANO has it, and without."""
    hand = SkinnedHand.open_hand()
    posedirs = RNG.normal(0, 1e-3, (len(hand.template), 3, 135)).astype(np.float32) if bends else None
    hand = replace(hand, posedirs=posedirs)
    names = ("template", "shapedirs", "weights", "keypoint_regressor", *(("posedirs",) if bends else ()))
    constants = {f"hand_{name}": getattr(hand, name).ravel().tolist() for name in names}
    rotations, shape = Rotation.random(16, random_state=1).as_matrix(), RNG.normal(size=10)
    case = {"constants": constants, "rotations": rotations.ravel().tolist(), "shape": shape.tolist()}
    (given,) = ask("posed", [case])
    vertices, joints = hand.posed(rotations, hand.rest(shape))
    np.testing.assert_allclose(np.reshape(given["vertices"], (-1, 3)), vertices, atol=2e-6)
    np.testing.assert_allclose(np.reshape(given["joints"], (21, 3)), joints, atol=2e-6)


@pytest.mark.parametrize("align", [False, True])
def test_hands_are_lifted_and_bent_alike(ask, align):
    """Both sides, crops on the camera's axis and beside it, joints found near where the hand has them and far off.

    Of every second hand it is told which fingers the thumb touches.
    """
    camera = Camera(520.0, 500.0, 310.0, 242.0, 640, 480)
    cases, expected = [], []
    for side in ("right", "left"):
        for position, noise in (((0.0, 0.0, 0.5), 0.03), ((-0.3, 0.2, 0.6), 0.1), ((0.1, 0.0, 0.3), 2.0)):
            hand = posed_hand(position, (0.3, 0.8, 0.4), side, camera=camera)
            crop = Crop(Box.around(hand.joints_px, 1.5), side, 128)
            outputs = network_outputs(hand, crop.box, crop.mirrored, crop.size, camera)
            outputs["joints_crop"] += RNG.normal(0, noise, (1, 21, 2)).astype(np.float32)
            outputs["spread"] = RNG.uniform(0.01, 0.2, (1, 21, 2)).astype(np.float32)
            if len(cases) % 2:
                outputs["contact"] = RNG.uniform(-4, 4, (1, 4)).astype(np.float32)
            flat = {name: value.ravel().tolist() for name, value in outputs.items()}
            case = {"outputs": flat, "box": as_box(crop.box), "side": side, "size": 128, "camera": asdict(camera)}
            cases.append({**case, "constants": CONSTANTS} if align else case)
            alignment = Alignment(SkinnedHand.open_hand()) if align else None
            expected.append(to_camera_frame(outputs, crop, camera, hand.faces, alignment))
    for given, hand in zip(ask("lift", cases), expected, strict=True):
        np.testing.assert_allclose(np.reshape(given["pose"], (16, 3, 3)), hand.pose, atol=2e-5)
        np.testing.assert_allclose(np.reshape(given["jointsM"], (21, 3)), hand.joints_m, atol=2e-5)
        np.testing.assert_allclose(np.reshape(given["verticesM"], (-1, 3)), hand.vertices_m, atol=2e-5)
        np.testing.assert_allclose(np.reshape(given["jointsPx"], (21, 2)), hand.joints_px, atol=0.02)
        assert_contact_alike(given, hand)


def test_pinches_are_read_alike(ask):
    """Hands whose thumb leaves the index finger and comes back, with and without what is told of contact."""
    going = [*apart(pinching(0, 0))]
    hands = [*going, *reversed(going), *(pinching(finger, 8, "left") for finger in range(4))]
    for contacts in (None, RNG.uniform(0, 1, (len(hands), 4)).astype(np.float32) ** 2):
        told = [replace(h, contact=None if contacts is None else contacts[k]) for k, h in enumerate(hands)]
        plain = [
            {"jointsM": numbers(h.joints_m), "contact": None if h.contact is None else numbers(h.contact)} for h in told
        ]
        reader = GestureReader()
        readings = [reader.read([hand])[0] for hand in told]
        expected = [[finger in reading.pinches for finger in FINGERS] for reading in readings]
        assert ask("pinches", [{"hands": plain}]) == [expected] and 4 < np.sum(expected) < 3 * len(hands)


def assert_contact_alike(given: dict, hand: Hand) -> None:
    assert given["contact"] == (None if hand.contact is None else pytest.approx(hand.contact.tolist(), abs=1e-6))


def outputs_of(hand: Hand, box: Box) -> dict[str, np.ndarray]:
    return network_outputs(hand, box, hand.side == "left", 128, CAMERA)


def test_what_is_no_hand_is_refused_alike(ask):
    """Each output with a number that is none, at its limit and beyond it, and hands too small or beside themselves."""
    hand = posed_hand((0.0, 0.0, 0.5), (0.3, 0.8, 0.4), camera=CAMERA)
    good = outputs_of(hand, Box.around(hand.joints_px, 1.5)) | {"contact": np.zeros((1, 4), np.float32)}
    cases = [good, {name: value for name, value in good.items() if name != "contact"}]
    for name, value in good.items():
        for number in (np.nan, np.inf, -np.inf, 0.99, 1.02, 7.9, 8.1, 9.9, 10.1, 99.0, 101.0, 9.9e5, 1.1e6, 3e7):
            changed = value.copy()
            changed.flat[value.size // 2] = number
            cases.append({**good, name: changed})
    for factor in (0.01, 0.05, 0.1, 0.3, 9.0, 20.0):
        cases.append({**good, "joints_m": good["joints_m"] * np.float32(factor)})
    for step in (0.001, 0.01, 0.1):
        noise = RNG.normal(0, step, (1, 16, 3, 3)).astype(np.float32)
        cases.append({**good, "rotations": good["rotations"] + noise})
        cases.append({**good, "rotations": good["rotations"] * np.float32(1 - step)})
    cases.append({**good, "rotations": good["rotations"] * np.float32([1, 1, -1])[:, None]})
    cases.append({**good, "vertices_m": good["vertices_m"] + np.float32(0.9)})
    expected = [is_plausible(case) for case in cases]
    assert ask("plausible", [{"outputs": flat(case)} for case in cases]) == expected
    assert all(expected[:2]) and 20 < sum(expected) < len(expected) - 20


def test_maps_are_read_alike(ask):
    """Random maps with many peaks, equal neighbours, peaks of one hand and sizes beyond all bounds among them."""
    cases, expected = [], []
    for threshold in (0.2, 0.5, 0.9):
        maps = {name: RNG.normal(0, 2, (24, 32)).astype(np.float32) for name in ("heat", "log_size", "right")}
        maps |= {name: RNG.normal(0, 0.5, (2, 24, 32)).astype(np.float32) for name in ("offset", "direction")}
        maps["heat"][5, 5:8] = 5.0
        maps["log_size"][5, 6] = 40.0
        boxed = Letterbox(np.zeros((0, 0, 3), np.uint8), 0.4, (0.0, 12.3))
        plain = {"scale": boxed.scale, "shiftPx": boxed.shift_px}
        cases.append({"maps": flat(maps), "columns": 32, "boxed": plain, "threshold": threshold})
        found = read_maps(maps, boxed, threshold)
        expected.append([{**as_box(d.box), "side": d.side, "score": d.score, "sideScore": d.side_score} for d in found])
    assert min(map(len, expected)) > 2
    for given, hands in zip(ask("maps", cases), expected, strict=True):
        plain = [{**hand.pop("box"), **hand} for hand in given]
        assert [hand.pop("side") for hand in plain] == [hand.pop("side") for hand in hands]
        for one, other in zip(plain, hands, strict=True):
            assert one.pop("centrePx") == pytest.approx(other.pop("centrePx"), rel=1e-9)
            assert one == pytest.approx(other, rel=1e-9)


def test_probabilities_are_weighed_alike(ask):
    """Those of the bundled network and those of one that says nothing; certain probabilities, too."""
    (given,) = ask("logistic", [{"logits": [-1000.0, -3.0, 0.0, 0.1, 40.0]}])
    np.testing.assert_allclose(given, logistic(np.array([-1000.0, -3.0, 0.0, 0.1, 40.0])), rtol=1e-12)
    cases, expected = [], []
    for metadata in ({}, open_session(model_path("fast"), "mesh", threads=1).metadata):
        for probabilities in RNG.uniform(0, 1, (6, 3)).tolist() + [[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]]:
            named = dict(zip(("detector", "presence", "handedness_probability"), probabilities, strict=True))
            confidence = Confidence.of(metadata)
            cases.append({"metadata": metadata, "given": named | {"agreement": named["handedness_probability"]}})
            expected.append([confidence.found(**named), confidence.followed(**named), confidence.proposed])
    np.testing.assert_allclose(ask("confidence", cases), expected, rtol=1e-9, atol=1e-12)  # tanh, near one


def test_boxes_are_usable_alike(ask):
    boxes = [
        Box((x, y), size) for x in (-60.0, -10.0, 300.0, 700.0) for y in (-9.0, 100.0) for size in (7.9, 100, 2000)
    ]
    image = np.zeros((480, 640, 3), np.uint8)
    cases = [{"box": as_box(box), "size": {"width": 640, "height": 480}} for box in boxes]
    expected = [is_usable(box, image) for box in boxes]
    assert ask("usable", cases) == expected and 0 < sum(expected) < len(expected)


def estimates(count: int, apart_m: float = 0.015) -> list[Estimate]:
    """Hands near one another, of both sides, that the network believes more and less."""
    found = []
    for side in RNG.choice(["left", "right"], count).tolist():
        position = (*RNG.normal(0, apart_m, 2), 0.5)
        hand = posed_hand(position, (0.3, 0.8, 0.4), side, seed=int(RNG.integers(3)), camera=CAMERA)
        presence, handedness_probability = RNG.uniform(0.2, 1, 2).tolist()
        found.append(Estimate(hand, Box.around(hand.joints_px), presence, handedness_probability))
    return found


def as_hand(hand: Hand) -> dict:
    arrays = {"jointsM": hand.joints_m, "jointsPx": hand.joints_px, "pose": hand.pose, "shape": hand.shape}
    return {**flat(arrays), "side": hand.side, "score": hand.score}


def as_estimate(estimate: Estimate) -> dict:
    believed = {"presence": estimate.presence, "agreement": estimate.handedness_probability}
    return {"hand": as_hand(estimate.hand), "box": as_box(estimate.box), **believed}


def test_hands_are_the_same_alike(ask):
    pairs = [(one, other) for one, other in zip(estimates(80, 0.03), estimates(80, 0.03), strict=True)]
    expected = [
        (same_hand(*pair), is_covered(pair[0].box, pair[1:]), overlap(*(one.box for one in pair))) for pair in pairs
    ]
    given = ask("same", [{"a": as_estimate(one), "b": as_estimate(other)} for one, other in pairs])
    for k in (0, 1):
        assert [one[k] for one in given] == [one[k] for one in expected] and 3 < sum(one[k] for one in expected) < 77
    np.testing.assert_allclose([one[2] for one in given], [one[2] for one in expected], rtol=1e-9)


def test_hands_are_followed_alike(ask):
    """What is left of several tracks that see one hand, some of which had missed it; and who gets a hand back."""
    cases, expected = [], []
    for _ in range(20):
        begun, seen = estimates(4), estimates(4)
        misses, times = RNG.integers(0, 3, 4).tolist(), RNG.uniform(0, 0.9, 4).tolist()
        tracks = [
            Track.begin(k, lambda hand, *_: hand, estimate, CAMERA, time_s)
            for k, (estimate, time_s) in enumerate(zip(begun, times, strict=True))
        ]
        for track, missed in zip(tracks, misses, strict=True):
            track.misses = missed
        kept = deduplicate(dict(zip(tracks, seen, strict=True)), 1.0)
        nearest = [track_of(tracks, estimate, 1.0) for estimate in seen]
        expected.append(
            {"kept": sorted(track.id for track in kept), "nearest": [track and track.id for track in nearest]}
        )
        plain = [
            {"estimate": as_estimate(estimate), "timeS": time_s, "misses": missed}
            for estimate, time_s, missed in zip(begun, times, misses, strict=True)
        ]
        cases.append({"tracks": plain, "seen": [*map(as_estimate, seen)], "camera": asdict(CAMERA), "timeS": 1.0})
    assert ask("associate", cases) == expected


def test_turns_are_smoothed_alike(ask):
    """A slow rotation, a jump, a pause and a new beginning."""
    angles = [0.0, 0.05, 0.12, 0.16, 2.0, 2.02, 2.1, 2.1]
    rotations = Rotation.from_rotvec(np.outer(angles, [0.3, -0.5, math.sqrt(0.66)])).as_matrix()
    steps = [None, 0.03, 0.03, 0.07, 0.03, 0.03, None, 0.03]
    cutoff = {"minCutoffHz": 2, "beta": 3, "jump": 1}
    (given,) = ask("turns", [{"cutoff": cutoff, "rotations": rotations.reshape(-1, 9).tolist(), "steps": steps}])
    smoother = RotationOneEuro(Cutoff(2.0, 3.0, jump=1.0))
    expected = [smoother(rotation[None], dt_s).ravel() for rotation, dt_s in zip(rotations, steps, strict=True)]
    np.testing.assert_allclose(given, expected, atol=1e-12)


def assert_hands_alike(given: dict, hand: Hand, atol: float) -> None:
    """Joints, vertices, pose and shape; pixels as far as their joints."""
    assert given["side"] == hand.side
    pairs = (("jointsM", hand.joints_m), ("verticesM", hand.vertices_m), ("pose", hand.pose), ("shape", hand.shape))
    for name, expected in pairs:
        np.testing.assert_allclose(np.reshape(given[name], expected.shape), expected, atol=atol, err_msg=name)
    np.testing.assert_allclose(np.reshape(given["jointsPx"], (21, 2)), hand.joints_px, atol=2e3 * atol)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_hands_are_smoothed_alike(ask, preset, side):
    """A hand that moves and turns, is away for a while, comes back another way round, and reaches for the camera."""
    steps = [None, 0.03, 0.03, 0.05, 0.03, None, 0.03, 2.0, 2.0, 0.03]
    positions = np.cumsum(RNG.normal(0, 0.01, (10, 3)), 0) + [0.1, 0.0, 0.4]
    positions[-2:] = 0.0, 0.0, 0.06
    hands = [posed_hand(at, RNG.normal(0, 0.3, 3), side, seed=k, camera=CAMERA) for k, at in enumerate(positions)]
    plain = [{**as_hand(hand), "verticesM": numbers(hand.vertices_m)} for hand in hands]
    case = {"constants": CONSTANTS, "preset": preset, "hands": plain, "steps": steps}
    (given,) = ask("smooth", [{**case, "camera": asdict(CAMERA)}])
    smoother = HandSmoother(preset, SkinnedHand.open_hand())
    for one, hand, dt_s in zip(given, hands, steps, strict=True):
        assert_hands_alike(one, smoother(hand, CAMERA, dt_s), atol=2e-6)


class Recorded:
    """A network whose answers are changed now and then, and kept as they were given."""

    def __init__(self, path: Path, kind: str, upset: bool) -> None:
        self._session = open_session(path, kind, threads=1)
        self._rng = np.random.default_rng(7)
        self._upset = upset
        self.input_size, self.metadata = self._session.input_size, self._session.metadata
        self.constants = self._session.constants
        self.runs: list[dict[str, np.ndarray]] = []

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {name: value.copy() for name, value in self._session.run(image_nhwc).items()}
        if self._upset:
            doubt, probability = self._rng.uniform(size=2)
            outputs["right"] *= -1 if probability < 0.3 else 1
            outputs["presence"] -= 12 * (0.3 < probability < 0.4)
            outputs["rotations"] *= np.nan if probability > 0.97 else 1
            outputs["joints_crop"] += np.float32(0.1 * doubt)
            if "rotations" in outputs and probability > 0.5:
                outputs["contact"] = self._rng.uniform(-4, 4, (1, 4)).astype(np.float32)
        self.runs.append(outputs)
        return outputs

    def as_session(self) -> dict:
        height, width = self.input_size
        return {"height": height, "width": width, "metadata": self.metadata, "runs": [*map(flat, self.runs)]}


@pytest.mark.parametrize("preset", ["low", "off"])
def test_whole_videos_are_tracked_alike(ask, monkeypatch, preset):
    """The bundled clip with what the networks say of it, made worse now and then; for a while nothing is to be seen."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # one look after the other, in order
    mesh, finder = Recorded(model_path("fast"), "mesh", True), Recorded(detector_path(), "detector", False)
    tracker = HandTracker(Estimator(mesh), Detector(finder), smooth=preset)
    times = [0.1 * k + (1.5 if k > 12 else 0.0) for k in range(24)]
    with tracker:
        frames = [frame.image_rgb.copy() for frame in islice(Video(DEMO_CLIP), 0, 3 * len(times), 3)]
        for image in frames[9:13]:
            image[:] = 128
        height, width = frames[0].shape[:2]
        camera = Camera.from_fov(width, height, 70)
        expected = [tracker.track(image, time_s, camera) for image, time_s in zip(frames, times, strict=True)]
    case = {"constants": flat({k: v for k, v in mesh.constants.items() if k != "faces"}), "preset": preset}
    sessions = {"mesh": mesh.as_session(), "detector": finder.as_session()}
    (given,) = ask("track", [{**case, **sessions, "camera": asdict(camera), "times": times}])
    seen = [[(hand["id"], hand["side"], hand["predicted"]) for hand in frame] for frame in given]
    assert seen == [[(hand.id, hand.side, hand.predicted) for hand in hands] for hands in expected]
    for frame, hands in zip(given, expected, strict=True):
        for one, hand in zip(frame, hands, strict=True):
            assert_hands_alike(one, hand, atol=2e-5)
            assert_contact_alike(one, hand)
            assert one["score"] == pytest.approx(hand.score, abs=1e-6)
            assert one["visibleS"] == pytest.approx(hand.visible_s, abs=1e-9)
    assert max(hand.id for hands in expected for hand in hands) > 1  # some were lost
    assert any(hand.predicted for hands in expected for hand in hands)


@pytest.mark.parametrize("side", ["left", "right"])
def test_hands_are_those_of_webxr_alike(ask, side):
    """In poses at random, with radii measured, known, and of a hand without a mesh."""
    hands = [posed_hand((0.1, -0.1, 0.5), RNG.normal(0, 2, 3), side, seed=k, camera=CAMERA) for k in range(8)]
    hands.append(replace(hands[0], vertices_m=hands[0].vertices_m[:0]))
    cases = [{"hand": {**as_hand(hand), "verticesM": numbers(hand.vertices_m)}} for hand in hands]
    known = np.full(25, 0.007, np.float32)
    given = ask("webxr", [*cases, {**cases[1], "radii": numbers(known)}])
    expected = [*(hand.to_webxr() for hand in hands), to_webxr(hands[1], known)]
    for ours, theirs in zip(given, expected, strict=True):
        assert tuple(ours["names"]) == theirs.names
        np.testing.assert_allclose(np.reshape(ours["positionsM"], (25, 3)), theirs.positions_m, atol=2e-6)
        np.testing.assert_allclose(np.reshape(ours["radiiM"], 25), theirs.radii_m, atol=2e-6)
        alike = (np.reshape(ours["orientationsXyzw"], (25, 4)) * theirs.orientations_xyzw).sum(1)
        np.testing.assert_allclose(np.abs(alike), 1, atol=1e-6)


def test_frames_of_the_stream_are_read_alike(ask):
    """By the page and by Python, in binary; and the same hands as JSON, which has fewer digits."""
    pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")
    from stream_clients import update

    from handmesh.streaming.protocol import frame_bytes, frame_message, read_frame

    message = frame_bytes(update())
    binary, text = ask("frame", [{"binary": base64.b64encode(message).decode()}, {"text": frame_message(update())}])
    expected = read_frame(message)
    assert binary["sequence"] == text["sequence"] == expected.sequence
    assert binary["capturedMs"] == expected.captured_unix_ms
    assert (binary["camera"]["width"], binary["camera"]["height"]) == expected.size_px
    for one, other, hand in zip(binary["hands"], text["hands"], expected.hands, strict=True):
        assert (one["id"], one["side"], one["predicted"]) == (hand.id, hand.side, hand.predicted)
        assert other["vertices"] is None
        np.testing.assert_array_equal(np.float32(one["vertices"]), hand.vertices_m.ravel())
        names = (("positions", "positions_m"), ("orientations", "orientations_xyzw"), ("radii", "radii_m"))
        for name, attribute in names:
            np.testing.assert_array_equal(np.float32(one[name]), getattr(hand, attribute).ravel())
            np.testing.assert_allclose(other[name], one[name], atol=1e-4)
