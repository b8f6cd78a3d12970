"""The example that reads gestures from hands."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.geometry import mirror_points_m, mirror_rotations, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.hand.poses import default_sampler
from handmesh.types import Camera, Hand, Side

DEMO = Path(__file__).parents[2] / "demo" / "gestures.py"
CAMERA = Camera.from_fov(640, 480)
THUMB = [skeleton.KEYPOINTS.index(name) for name in ("thumb3", "thumb4")]


@pytest.fixture(scope="module")
def gestures() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("gestures", DEMO)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gestures"] = module  # where dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


def hand_doing(gesture: str, rng: np.random.Generator, side: Side = "right", thumb_to: tuple = (0, 0, 1)) -> Hand:
    """A hand in a pose of that gesture, turned so that the last phalanx of the thumb points to `thumb_to`."""
    model = SkinnedHand.open_hand()
    shape = rng.normal(0, 0.7, 10)
    pose = np.concatenate([np.eye(3)[None], default_sampler().sample(rng, gesture)])
    vertices, joints = model.posed(pose, model.rest(shape))
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
    rotation = Rotation.align_vectors([thumb_to], [joints[THUMB[1]] - joints[THUMB[0]]])[0].as_matrix()
    pose = np.concatenate([rotation @ pose[:1], pose[1:]])
    vertices, joints = vertices @ rotation.T + (0, 0, 0.5), joints @ rotation.T + (0, 0, 0.5)
    return Hand(vertices, joints, project(joints, CAMERA), side, 1.0, pose, shape, model.faces)


def fraction(gestures: ModuleType, expected: str, drawn: str, **kwargs) -> float:
    """How many of 40 hands in poses of the gesture `drawn` are read as `expected`."""
    rng = np.random.default_rng(0)
    hands = [hand_doing(drawn, rng, "left" if k % 2 else "right", **kwargs) for k in range(40)]
    return float(np.mean([gestures.GestureReader().read(hand).gesture == expected for hand in hands]))


@pytest.mark.parametrize("gesture", ["open", "fist", "point"])
def test_gestures_are_recognised(gestures, gesture: str):
    assert fraction(gestures, gesture, gesture) >= 0.9


def test_a_thumb_is_up_only_where_it_points_upwards(gestures):
    assert fraction(gestures, "thumb up", "thumb up", thumb_to=(0, -1, 0)) >= 0.9
    assert fraction(gestures, "fist", "thumb up", thumb_to=(0, 1, 0)) >= 0.9
    assert fraction(gestures, "thumb up", "fist", thumb_to=(0, -1, 0)) <= 0.1


@pytest.mark.parametrize("gesture", ["relaxed", "victory", "grasp", "claw"])
def test_other_poses_are_none_of_them(gestures, gesture: str):
    assert fraction(gestures, "", gesture) >= 0.9


def test_pinches_are_told_by_the_pads(gestures):
    """The sampler's pinches are of any finger with the thumb; 55 in 100 of the index finger."""
    assert 0.4 <= fraction(gestures, "pinch", "pinch") <= 0.7


def pinching_hand(gestures: ModuleType) -> tuple[Hand, np.ndarray, float]:
    """A hand that pinches, the direction in which its thumb leaves the index finger, and their distance."""
    rng = np.random.default_rng(1)
    while True:
        hand = hand_doing("pinch", rng)
        distance = gestures.GestureReader().read(hand).pinch_distance_m
        if distance < 0.008:
            tip = skeleton.KEYPOINTS.index("index4")
            away = hand.joints_m[THUMB[1]] - hand.joints_m[tip]
            return hand, away / np.linalg.norm(away), distance


def test_a_pinch_begins_at_15_and_ends_at_20_millimetres(gestures):
    hand, away, _ = pinching_hand(gestures)
    reader, fresh = gestures.GestureReader(), gestures.GestureReader
    readings = []
    for step_m in np.concatenate([np.arange(0, 0.04, 0.0005), np.arange(0.04, 0, -0.0005)]):
        joints = hand.joints_m.copy()
        joints[THUMB] += step_m * away
        moved = replace(hand, joints_m=joints)
        readings.append((reader.read(moved), fresh().read(moved)))
    pinching = [reading.pinch_distance_m for reading, _ in readings if reading.gesture == "pinch"]
    assert 0.018 < max(pinching) < 0.020
    for reading, without_past in readings:
        assert (without_past.gesture == "pinch") == (reading.pinch_distance_m < 0.015)
        assert (reading.pinch_strength == 1) == (reading.pinch_distance_m <= 0.015)
    changes = sum(a[0].gesture != b[0].gesture for a, b in pairwise(readings))
    assert changes == 2, "one end and one beginning"


def test_strengths_run_from_open_to_closed(gestures):
    rng = np.random.default_rng(2)
    read = gestures.GestureReader().read
    for side in ("right", "left"):
        flat, half, fist = (read(hand_doing(name, rng, side)) for name in ("open", "grasp", "fist"))
        assert flat.grab_strength < 0.05 < 0.2 < half.grab_strength < 0.8 < 0.95 < fist.grab_strength
        assert flat.pinch_strength < 0.2


def test_the_program_says_and_draws_what_it_reads(gestures, tmp_path, monkeypatch, capsys):
    hand = hand_doing("open", np.random.default_rng(3))

    class OneOpenHand:
        def track(self, frame_rgb: np.ndarray, time_s: float | None = None) -> list[Hand]:
            return [hand]

    monkeypatch.setattr(gestures.Options, "load", lambda options: OneOpenHand())
    image = tmp_path / "in.png"
    gestures.cv2.imwrite(str(image), np.zeros((480, 640, 3), np.uint8))
    written = tmp_path / "out.png"
    assert gestures.main([f"--source={image}", "--no-window", f"--output={written}"]) == 0
    assert "right hand 0: open" in capsys.readouterr().err
    assert gestures.cv2.imread(str(written)).max() > 200
    assert gestures.main(["--source", str(tmp_path / "missing.mp4"), "--no-window"]) == 1
