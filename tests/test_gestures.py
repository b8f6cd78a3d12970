"""Gestures, read off joints; and the example that says and draws them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from gesture_hands import THUMB, apart, hand_doing, pinching, reading_of

from handmesh import skeleton
from handmesh.gestures import (
    CONTACT_HELD,
    CONTACT_LENGTH,
    FINGERS,
    PINCH_BEGINS,
    PINCH_ENDS,
    GestureReader,
    contacts,
    pinch_distances,
)
from handmesh.hand import anatomy
from handmesh.hand.lbs import SkinnedHand
from handmesh.hand.poses import default_sampler
from handmesh.types import Hand

DEMO = Path(__file__).parents[1] / "demo" / "gestures.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("gestures_example", DEMO)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gestures_example"] = module  # where dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


def fraction(expected: str, drawn: str, **kwargs) -> float:
    """How many of 40 hands in poses of the gesture `drawn` are read as `expected`."""
    rng = np.random.default_rng(0)
    hands = [hand_doing(drawn, rng, "left" if k % 2 else "right", **kwargs) for k in range(40)]
    return float(np.mean([reading_of(hand).gesture == expected for hand in hands]))


@pytest.mark.parametrize("gesture", ["open", "fist", "point", "pinch"])
def test_gestures_are_recognised(gesture: str):
    assert fraction(gesture, gesture) >= 0.9


def test_a_thumb_is_up_only_where_it_points_upwards():
    assert fraction("thumb up", "thumb up", thumb_to=(0, -1, 0)) >= 0.9
    assert fraction("fist", "thumb up", thumb_to=(0, 1, 0)) >= 0.9
    assert fraction("thumb up", "fist", thumb_to=(0, -1, 0)) <= 0.1


@pytest.mark.parametrize("gesture", ["relaxed", "victory", "grasp", "claw"])
def test_other_poses_are_none_of_them(gesture: str):
    assert fraction("", gesture) >= 0.9


@pytest.mark.parametrize("finger", range(4))
def test_each_finger_pinches(finger: int):
    for row in range(0, 40, 4):
        assert reading_of(pinching(finger, row, "left" if row % 8 else "right")).pinches == (FINGERS[finger],), row


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_sizes_do_not_count(scale: float):
    """A child's hand, or one seen at a wrong scale, does the same."""
    rng = np.random.default_rng(4)
    for drawn in ("pinch", "open", "fist", "point"):
        hand = hand_doing(drawn, rng)
        scaled = reading_of(replace(hand, joints_m=scale * hand.joints_m))
        expected = reading_of(hand)
        assert (scaled.gesture, scaled.pinches) == (expected.gesture, expected.pinches)
        assert scaled[3:] == pytest.approx(expected[3:])


def test_distances_are_those_of_the_nearest_points():
    """Against all pairs of 200 points of either line."""
    rng, fractions = np.random.default_rng(5), np.linspace(0, 1, 200)[:, None]
    for _ in range(20):
        joints = rng.normal(size=(21, 3))
        thumb = joints[3] + fractions * (joints[4] - joints[3])
        for finger, distance in enumerate(pinch_distances(joints)):
            first, last = joints[[7 + 4 * finger, 8 + 4 * finger]]
            line = first + fractions * (last - first)
            slow = np.linalg.norm(thumb[:, None] - line, axis=2).min()
            assert slow - 0.03 < distance <= slow + 1e-9


def test_a_pinch_ends_farther_apart_than_it_begins():
    hand = pinching(0, 0)
    away = hand.joints_m[THUMB[1]] - hand.joints_m[skeleton.KEYPOINTS.index("index4")]
    away /= np.linalg.norm(away)
    reader, readings = GestureReader(), []
    for step_m in np.concatenate([np.arange(0, 0.05, 0.0005), np.arange(0.05, 0, -0.0005)]):
        joints = hand.joints_m.copy()
        joints[THUMB] += step_m * away
        moved = replace(hand, joints_m=joints)
        readings.append((*reader.read([moved]), reading_of(moved)))
    held = [reading.pinch_distances[0] for reading, _ in readings if "index" in reading.pinches]
    assert PINCH_ENDS - 0.005 < max(held) < PINCH_ENDS
    for _, fresh in readings:
        assert ("index" in fresh.pinches) == (fresh.pinch_distances[0] < PINCH_BEGINS)
        assert (fresh.pinch_strength == 1) == (fresh.pinch_distances[0] <= PINCH_BEGINS)
    changes = sum(a[0].pinches != b[0].pinches for a, b in pairwise(readings))
    assert changes == 2, "one end and one beginning"


@pytest.mark.parametrize("drawn", ["open", "fist", "point"])
def test_forms_do_not_flicker(drawn: str):
    """A hand that closes slowly, with five degrees of noise at each joint, changes from form to form once each."""
    sampler, model, rng = default_sampler(), SkinnedHand.open_hand(), np.random.default_rng(6)
    first, last = sampler.gesture_deg(drawn, rng), sampler.gesture_deg("grasp", rng)
    reader, held, fresh = GestureReader(), [], []
    for fraction in np.linspace(0, 1, 120):
        angles = (1 - fraction) * first + fraction * last + rng.normal(0, 1.5, (15, 3))
        pose = np.concatenate([np.eye(3)[None], anatomy.rotations_from_angles(angles, sampler.frames)])
        _, joints = model.posed(pose, model.rest(np.zeros(10)))
        hand = Hand(joints, joints, joints[:, :2], "right", 1.0, pose, np.zeros(10), model.faces)
        held.append(reader.read([hand])[0].gesture == drawn)
        fresh.append(reading_of(hand).gesture == drawn)
    assert held[0] and not held[-1]
    assert sum(a != b for a, b in pairwise(held)) == 1
    assert sum(held) > sum(fresh), "what is there may lack more than what begins"


def contact_of(finger: int, probability: float) -> np.ndarray:
    return np.where(np.arange(4) == finger, probability, 0.01).astype(np.float32)


@pytest.mark.parametrize("finger", range(4))
def test_contact_speaks_beside_the_distance(finger: int):
    """What surely touches pinches from farther away, and what surely does not, though it be near, does not."""
    far = next(hand for hand in apart(pinching(0, 0)) if reading_of(hand).pinch_distances[0] > 1.5 * PINCH_ENDS)
    assert not reading_of(far).pinches
    assert reading_of(replace(far, contact=contact_of(0, 0.99))).pinches == ("index",)
    near = pinching(finger, 0)
    assert not reading_of(replace(near, contact=np.full(4, 0.001, np.float32))).pinches
    assert reading_of(replace(near, contact=contact_of(finger, 0.99))).pinches == (FINGERS[finger],)


def test_contact_has_hysteresis_too():
    """A probability that goes down and up by steps ends a pinch once and begins one once, at different values."""
    hand = pinching(0, 0)
    near = next(one for one in apart(hand) if reading_of(one).pinch_distances[0] > PINCH_ENDS)
    logits = np.linspace(8, -8, 161)
    reader = GestureReader()
    read = [
        bool(reader.read([replace(near, contact=contact_of(0, 1 / (1 + np.exp(-logit))))])[0].pinches)
        for logit in [*logits, *logits[::-1]]
    ]
    assert sum(a != b for a, b in pairwise(read)) == 2
    ended, began = logits[read.index(False)], logits[::-1][read[161:].index(True)]
    assert began - ended == pytest.approx(CONTACT_HELD + (PINCH_ENDS - PINCH_BEGINS) / CONTACT_LENGTH, abs=0.21)


def test_hands_that_went_are_forgotten():
    near, reader = pinching(0, 0), GestureReader()
    between = next(hand for hand in apart(near) if PINCH_BEGINS < reading_of(hand).pinch_distances[0] < PINCH_ENDS)
    assert reader.read([near])[0].pinches and reader.read([between])[0].pinches
    assert not reader.read([between, replace(between, id=1)])[1].pinches, "another hand was not pinching"
    assert reader.read([]) == []
    assert not reader.read([between])[0].pinches


def test_bounds_are_checked():
    with pytest.raises(ValueError, match="begins nearer than it ends"):
        GestureReader(0.2, 0.1)


def test_strengths_run_from_open_to_closed():
    rng = np.random.default_rng(2)
    for side in ("right", "left"):
        flat, half, fist = (reading_of(hand_doing(name, rng, side)) for name in ("open", "grasp", "fist"))
        assert flat.grab_strength < 0.05 < 0.2 < half.grab_strength < 0.8 < 0.95 < fist.grab_strength
        assert flat.pinch_strength < 0.2


def test_the_program_says_and_draws_what_it_reads(example, tmp_path, monkeypatch, capsys):
    hand = hand_doing("open", np.random.default_rng(3))

    class OneOpenHand:
        def track(self, frame_rgb: np.ndarray, time_s: float | None = None) -> list[Hand]:
            return [hand]

    monkeypatch.setattr(example.Options, "load", lambda options: OneOpenHand())
    image = tmp_path / "in.png"
    example.cv2.imwrite(str(image), np.zeros((480, 640, 3), np.uint8))
    written = tmp_path / "out.png"
    assert example.main([f"--source={image}", "--no-window", f"--output={written}"]) == 0
    assert "right hand 0: open" in capsys.readouterr().err
    assert example.cv2.imread(str(written)).max() > 200
    assert example.main(["--source", str(tmp_path / "missing.mp4"), "--no-window"]) == 1


@pytest.mark.parametrize("finger", range(4))
def test_contact_is_labelled_where_a_pinch_is_and_unclear_only_as_it_opens(finger: int):
    touched, clear = contacts(pinching(finger, 3).joints_m)
    assert touched[finger] == clear[finger] == 1
    labels = [contacts(hand.joints_m) for hand in apart(pinching(0, 3))]
    states = [(int(touched[0]), int(clear[0])) for touched, clear in labels]
    assert [state for state, _ in groupby(states)] == [(1, 1), (0, 0), (0, 1)]


def test_a_thumb_on_a_fist_touches_no_finger():
    rng = np.random.default_rng(1)
    labels = [contacts(hand_doing("fist", rng).joints_m) for _ in range(30)]
    assert not any(touched.any() for touched, _ in labels)
