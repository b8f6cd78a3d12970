"""The browser's rooms, each against the Python room that it mirrors, where a clip does not lead them."""

from __future__ import annotations

import base64
import json
import math
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hand_scenes import hand_constants, network_outputs, posed_hand
from scipy.spatial.transform import Rotation

from handmesh.crop import crop_affine, letterbox, warp
from handmesh.geometry import place_root
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.alignment import Alignment
from handmesh.tracking.association import Rules
from handmesh.tracking.estimator import Crop, lift
from handmesh.tracking.smoothing import Cutoff, RotationOneEuro
from handmesh.types import Box, Camera

PAGE = Path(__file__).parents[2] / "demo" / "web" / "browser"
ROOMS = Path(__file__).parents[1] / "web" / "browser" / "rooms.mjs"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """The page's modules as JavaScript."""
    if not (shutil.which("npx") and (PAGE / "node_modules").is_dir()):
        pytest.skip("needs node, and `npm ci` in demo/web/browser")
    folder = tmp_path_factory.mktemp("rooms")
    subprocess.run(["npx", "tsc", "--noEmit", "false", "--outDir", str(folder)], cwd=PAGE, check=True)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture
def ask(compiled):
    """Cases to the page's room of this name, answers back."""

    def asked(room: str, cases: list[dict]) -> list:
        text = json.dumps([{"room": room, **case} for case in cases])
        command = ["node", str(ROOMS), str(compiled)]
        return json.loads(subprocess.run(command, input=text, capture_output=True, check=True, text=True).stdout)

    return asked


def smooth_picture(width: int, height: int) -> np.ndarray:
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
    Box((160.0, 90.0), 900.0, 3.0),  # four times, larger than the picture
]


@pytest.mark.parametrize("size", [(333, 201), (320, 240)])
def test_crops(ask, size):
    image = smooth_picture(*size)
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
    image = smooth_picture(*size)
    (given,) = ask("letterbox", [{"image": as_given(image), "height": 192, "width": 256}])
    expected = letterbox(image, 192, 256)
    off = np.abs(np.reshape(given["image"], (192, 256, 3)) - expected.image.astype(int))
    assert off.max() <= 2 and off.mean() < 0.3
    assert given["scale"] == pytest.approx(expected.scale)
    assert given["shiftPx"] == pytest.approx(expected.shift_px)


def test_places_in_space_also_where_the_picture_tells_none(ask):
    camera = Camera(520.0, 500.0, 310.0, 242.0, 640, 480)
    joints = RNG.normal(0, 0.05, (21, 3))
    seen = (joints + [0.05, -0.02, 0.6])[:, :2] / (joints[:, 2:] + 0.6) * 510 + [310, 242]
    pictures = [seen, np.full((21, 2), 200.0), 620 - seen, RNG.uniform(0, 600, (21, 2)), seen * 1e-3]
    cases = [
        {"joints": joints.ravel().tolist(), "pixels": p.ravel().tolist(), "camera": asdict(camera)} for p in pictures
    ]
    expected = [place_root(joints, pixels, camera) for pixels in pictures]
    np.testing.assert_allclose(ask("root", cases), expected, rtol=1e-9)


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
    """Both sides, crops on the camera's axis and beside it, joints found near where the hand has them and far off."""
    camera = Camera(520.0, 500.0, 310.0, 242.0, 640, 480)
    cases, expected = [], []
    for side in ("right", "left"):
        for place, noise in (((0.0, 0.0, 0.5), 0.03), ((-0.3, 0.2, 0.6), 0.1), ((0.1, 0.0, 0.3), 2.0)):
            hand = posed_hand(place, (0.3, 0.8, 0.4), side, camera=camera)
            crop = Crop(Box.around(hand.joints_px, 1.5), side, 128)
            outputs = network_outputs(hand, crop.box, crop.mirrored, crop.size, camera)
            outputs["joints_crop"] += RNG.normal(0, noise, (1, 21, 2)).astype(np.float32)
            outputs["spread"] = RNG.uniform(0.01, 0.2, (1, 21, 2)).astype(np.float32)
            flat = {name: value.ravel().tolist() for name, value in outputs.items()}
            case = {"outputs": flat, "box": as_box(crop.box), "side": side, "size": 128, "camera": asdict(camera)}
            constants = {name: value.ravel().tolist() for name, value in hand_constants().items() if name != "faces"}
            cases.append({**case, "constants": constants} if align else case)
            alignment = Alignment(SkinnedHand.open_hand()) if align else None
            expected.append(lift(outputs, crop, camera, hand.faces, alignment))
    for given, hand in zip(ask("lift", cases), expected, strict=True):
        np.testing.assert_allclose(np.reshape(given["pose"], (16, 3, 3)), hand.pose, atol=2e-5)
        np.testing.assert_allclose(np.reshape(given["jointsM"], (21, 3)), hand.joints_m, atol=2e-5)
        np.testing.assert_allclose(np.reshape(given["verticesM"], (-1, 3)), hand.vertices_m, atol=2e-5)
        np.testing.assert_allclose(np.reshape(given["jointsPx"], (21, 2)), hand.joints_px, atol=0.02)


def test_rules_are_the_same(ask):
    (given,) = ask("rules", [{}])
    assert given == {_camel_case(name): value for name, value in asdict(Rules()).items()}


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def test_turns_are_smoothed_alike(ask):
    """A slow turn, a jump, a pause and a new beginning."""
    angles = [0.0, 0.05, 0.12, 0.16, 2.0, 2.02, 2.1, 2.1]
    rotations = Rotation.from_rotvec(np.outer(angles, [0.3, -0.5, math.sqrt(0.66)])).as_matrix()
    steps = [None, 0.03, 0.03, 0.07, 0.03, 0.03, None, 0.03]
    (given,) = ask("turns", [{"rotations": rotations.reshape(-1, 9).tolist(), "steps": steps}])
    smoother = RotationOneEuro(Cutoff(2.0, 3.0, jump=1.0))
    expected = [smoother(rotation[None], dt_s).ravel() for rotation, dt_s in zip(rotations, steps, strict=True)]
    np.testing.assert_allclose(given, expected, atol=1e-12)
