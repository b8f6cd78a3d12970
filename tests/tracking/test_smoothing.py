"""Steadier at rest, not late in motion, and still one hand afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_scenes import CAMERA, posed_hand
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.geometry import project
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.smoothing import PRESETS, Cutoff, HandSmoother, OneEuro, RotationOneEuro

DT = 1 / 30
OPEN_HAND = SkinnedHand.open_hand()
TIMES = np.arange(240) * DT


def filtered(one_euro, values):
    return np.stack([one_euro(value, None if i == 0 else DT) for i, value in enumerate(values)])


def lag_frames(truth, smooth):
    """The delay of `smooth` behind `truth`, both (N, D), that explains it best."""
    lags = np.linspace(0, 4, 81)
    delayed = [np.stack([np.interp(TIMES - lag * DT, TIMES, x) for x in truth.T], 1) for lag in lags]
    return lags[np.argmin([np.square(d - smooth)[30:].sum() for d in delayed])]


def test_one_euro_is_the_published_filter():
    """Against the paper's pseudo-code, written out for one number."""
    cutoff, values = Cutoff(1.5, 0.7), np.sin(TIMES * 5)
    smooth = filtered(OneEuro(cutoff), values[:, None])[:, 0]

    def alpha(hz):
        tau = 1 / (2 * np.pi * hz)
        return 1 / (1 + tau / DT)

    expected, derivative = values[0], 0.0
    for i, value in enumerate(values):
        if i:
            derivative = alpha(3.0) * (value - values[i - 1]) / DT + (1 - alpha(3.0)) * derivative
            a = alpha(cutoff.min_cutoff_hz + cutoff.beta * abs(derivative))
            expected = a * value + (1 - a) * expected
        assert smooth[i] == pytest.approx(expected)


def test_none_starts_anew():
    one_euro = OneEuro(Cutoff(1.0, 0.0))
    one_euro(np.zeros(3), None)
    assert np.all(one_euro(np.ones(3), DT) < 0.5)
    assert np.all(one_euro(np.ones(3), None) == 1)


def test_vectors_are_filtered_apart():
    values = np.zeros((60, 2, 3))
    values[:, 1, 0] = 100 * TIMES[:60]
    smooth = filtered(OneEuro(Cutoff(1.0, 1.0)), values)
    assert np.all(smooth[:, 0] == 0)
    assert smooth[-1, 1, 0] > 0.9 * values[-1, 1, 0]


def test_rotations_stay_rotations_and_take_the_short_way():
    rotations = Rotation.from_rotvec(np.linspace(0, 4 * np.pi, 240)[:, None] * [0, 0, 1])
    smooth = filtered(RotationOneEuro(PRESETS["low"].rotation), rotations.as_matrix()[:, None])[:, 0]
    assert np.abs(smooth @ np.swapaxes(smooth, 1, 2) - np.eye(3)).max() < 1e-9
    behind = (rotations.inv() * Rotation.from_matrix(smooth)).magnitude()
    assert np.degrees(behind).max() < 8  # two turns in eight seconds: 3 degrees a frame


@pytest.mark.parametrize(("smooth", "remains"), [("low", 0.65), ("high", 0.5)])
def test_a_still_hand_jitters_less(smooth, remains):
    rng = np.random.default_rng(0)
    truth = posed_hand()
    noisy = [jittered(truth, rng) for _ in TIMES]
    smoother = HandSmoother(smooth, OPEN_HAND)
    steady = [smoother(hand, CAMERA, None if i == 0 else DT) for i, hand in enumerate(noisy)]
    for name in ("joints_m", "vertices_m", "joints_px", "pose", "shape"):
        before, after = (np.stack([getattr(h, name) for h in hands[60:]]).std(0).mean() for hands in (noisy, steady))
        assert after < remains * before, name


def jittered(hand, rng):
    """`hand` with the kind of noise that a network has: most in its distance."""
    rotation = Rotation.from_rotvec(rng.normal(0, 0.02, 3)).as_matrix()
    root = hand.joints_m[skeleton.ROOT]
    position = root * (1 + rng.normal(0, 0.01)) + rng.normal(0, 0.001, 3)
    joints, vertices = (
        (points - root) @ rotation.T + position + rng.normal(0, 0.001, points.shape)
        for points in (hand.joints_m, hand.vertices_m)
    )
    pose = hand.pose @ Rotation.from_rotvec(rng.normal(0, 0.02, (16, 3))).as_matrix()
    pose[0] = rotation @ hand.pose[0]
    shape = hand.shape + rng.normal(0, 0.1, 10)
    return replace(
        hand, joints_m=joints, vertices_m=vertices, joints_px=project(joints, CAMERA), pose=pose, shape=shape
    )


def test_low_lags_less_than_a_frame_in_a_fast_wave():
    smoother = HandSmoother("low", OPEN_HAND)
    waves = np.sin(2 * np.pi * 2 * TIMES)
    hands = [posed_hand((0.12 * wave, 0, 0.5), (0, 0, 0.5 * wave)) for wave in waves]
    smooth = [smoother(hand, CAMERA, None if i == 0 else DT) for i, hand in enumerate(hands)]
    for joint in (skeleton.ROOT, skeleton.KEYPOINT_TIPS[1]):
        truth, given = (np.stack([hand.joints_px[joint] for hand in series]) for series in (hands, smooth))
        assert lag_frames(truth, given) < 0.5


def test_a_smoothed_hand_is_still_one_hand():
    """A quick rotation: bones keep their length, joints their position in the mesh, pixels their points."""
    smoother = HandSmoother("high", OPEN_HAND)
    for i in range(40):
        raw = posed_hand((0.1, 0.0, 0.5), (0.0, 0.15 * i, 0.0), seed=2)
        hand = smoother(raw, CAMERA, None if i == 0 else DT)
        bones = np.array(skeleton.BONES)
        lengths = [np.linalg.norm(h.joints_m[bones[:, 1]] - h.joints_m[bones[:, 0]], axis=1) for h in (raw, hand)]
        assert np.abs(lengths[1] - lengths[0]).max() < 1e-5
        tips = list(skeleton.OPEN_HAND_TIP_VERTICES.values())
        assert np.abs(hand.vertices_m[tips] - hand.joints_m[list(skeleton.KEYPOINT_TIPS)]).max() < 1e-6
        assert np.allclose(hand.joints_px, project(hand.joints_m.astype(float), CAMERA), atol=1e-2)


@pytest.mark.parametrize("smooth", PRESETS)
def test_a_hand_is_carried_ahead_to_where_it_will_be(smooth):
    """One that moves and turns evenly: most of the way and of the turn of the next 50 ms is foreseen."""

    def at(time_s):
        return posed_hand((0.3 * time_s - 0.3, 0.1, 0.6 - 0.1 * time_s), (0, 0, 1.5 * time_s), "left", seed=4)

    smoother = HandSmoother(smooth, OPEN_HAND)
    for time_s in TIMES[:45]:
        now = smoother(at(time_s), CAMERA, DT if time_s else None)
    later, truth = smoother.ahead(now, CAMERA, 0.05), at(TIMES[44] + 0.05)
    for name in ("joints_m", "vertices_m", "joints_px", "pose"):
        off, moved = (np.abs(getattr(hand, name) - getattr(truth, name)).mean() for hand in (later, now))
        assert off < (0.6 if smooth == "high" else 0.4) * moved, name
    bones = np.array(skeleton.BONES)
    lengths = [np.linalg.norm(np.diff(hand.joints_m[bones], axis=1), axis=2) for hand in (now, later)]
    assert np.abs(lengths[1] - lengths[0]).max() < 1e-6
    assert np.allclose(smoother.ahead(now, CAMERA, 0.0).joints_m, now.joints_m, atol=1e-5)


def test_what_turned_by_mistake_is_not_carried_ahead():
    """Half a turn from one frame to the next is no motion: nothing goes on from there."""
    rotations = RotationOneEuro(PRESETS["low"].rotation)
    turned = Rotation.from_rotvec([[0, 0, 0.0], [0, 0, 3.1]]).as_matrix()
    for matrix, dt_s in zip(turned, (None, DT), strict=True):
        rotations(matrix[None], dt_s)
    assert np.allclose(rotations.ahead(0.1)[0], turned[1], atol=1e-6)


def test_off_changes_nothing():
    smoother, hand = HandSmoother("off", OPEN_HAND), posed_hand()
    smoother(posed_hand((0.1, 0, 0.4)), CAMERA, None)
    assert smoother(hand, CAMERA, DT) is hand


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="'medium'; known are off, low, high"):
        HandSmoother("medium", OPEN_HAND)
