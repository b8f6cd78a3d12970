"""From crop to camera and back: exact where the network is exact, finite where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hand_scenes import CAMERA, network_outputs, posed_hand

from handmesh import skeleton
from handmesh.geometry import FARTHEST_M, NEAREST_M, place_root, project, root_translation
from handmesh.tracking.estimator import Crop, is_plausible, lift
from handmesh.types import Box, Camera

PLACES = [(0.0, 0.0, 0.5), (0.2, -0.12, 0.6), (-0.5, 0.35, 0.9), (0.02, 0.03, 0.2)]


def lifted(hand, box, camera=CAMERA, **changes):
    crop = Crop(box, hand.side, 160)
    outputs = network_outputs(hand, box, crop.mirrored, crop.size, camera)
    return lift({**outputs, **changes}, crop, camera, hand.faces)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, 1.2, 0.4), (0.5, -0.3, 2.5)])
def test_exact_outputs_give_the_hand_back(side, place, turn):
    truth = posed_hand(place, turn, side, seed=1)
    hand = lifted(truth, Box.around(truth.joints_px).scaled(1.5))
    assert np.abs(hand.joints_m - truth.joints_m).max() < 1e-4
    assert np.abs(hand.vertices_m - truth.vertices_m).max() < 1e-4
    assert np.abs(hand.joints_px - truth.joints_px).max() < 0.02
    assert np.abs(hand.pose - truth.pose).max() < 1e-5
    assert hand.side == side
    assert hand.score > 0.999
    assert np.array_equal(hand.faces, truth.faces)


@pytest.mark.parametrize("side", ["left", "right"])
def test_any_box_gives_the_same_hand(side):
    truth = posed_hand((0.15, -0.1, 0.6), (0.2, 0.5, -0.4), side)
    x, y = Box.around(truth.joints_px).centre_px
    for box in (Box((x, y), 300), Box((x + 40, y - 25), 260, 0.8), Box((x - 30, y), 400, math.pi)):
        assert np.abs(lifted(truth, box).vertices_m - truth.vertices_m).max() < 1e-4


def test_camera_with_unequal_focal_lengths():
    camera = Camera(700.0, 500.0, 300.0, 260.0, 640, 480)
    truth = posed_hand((0.1, 0.05, 0.5), camera=camera)
    assert np.abs(lifted(truth, Box.around(truth.joints_px, 1.5), camera).joints_m - truth.joints_m).max() < 1e-4


def test_outward_faces_of_both_sides():
    for side in ("left", "right"):
        truth = posed_hand((0.1, 0.0, 0.5), (0.2, 0.1, 0.0), side)
        hand = lifted(truth, Box.around(truth.joints_px, 1.5))
        assert hand.to_trimesh().volume > 0


def test_joints_px_are_the_projection_of_joints_m_also_with_noise():
    truth = posed_hand((0.1, 0.05, 0.5), seed=3)
    box = Box.around(truth.joints_px, 1.5)
    joints_crop = network_outputs(truth, box, False, 160, CAMERA)["joints_crop"]
    noisy = joints_crop + np.random.default_rng(0).normal(0, 0.03, joints_crop.shape)
    hand = lifted(truth, box, joints_crop=noisy)
    assert np.allclose(hand.joints_px, project(hand.joints_m.astype(float), CAMERA), atol=0.02)
    assert np.linalg.norm(hand.joints_px - truth.joints_px, axis=1).mean() < 4  # the noise is 5 px


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize(
    "name", ["vertices_m", "joints_m", "joints_crop", "rotations", "shape", "presence", "right", "spread"]
)
def test_numbers_of_no_hand_give_none(name, bad):
    truth = posed_hand()
    box = Box.around(truth.joints_px, 1.5)
    value = network_outputs(truth, box, False, 160, CAMERA)[name].copy()
    value.reshape(-1)[-1] = bad
    assert lifted(truth, box, **{name: value}) is None


def test_rotations_must_rotate():
    outputs = network_outputs(posed_hand(), Box((320, 240), 200), False, 160, CAMERA)
    assert is_plausible(outputs)
    for rotations in (outputs["rotations"] * 0, outputs["rotations"] * 0.9, outputs["rotations"] * [-1, 1, 1]):
        assert not is_plausible({**outputs, "rotations": rotations})


def relative(hand):
    return hand.joints_m - hand.joints_m[skeleton.ROOT]


@pytest.mark.parametrize(
    "joints_px",
    [
        np.full((21, 2), 100.0),  # one point: infinitely far
        np.full((21, 2), 100.0) + np.arange(21)[:, None],  # a line
        np.random.default_rng(0).uniform(0, 480, (21, 2)),  # no hand at all
        -np.random.default_rng(1).uniform(1e4, 1e5, (21, 2)),  # far outside, larger than the view
    ],
)
def test_place_is_always_finite_and_in_front(joints_px):
    for seed in range(5):
        hand = relative(posed_hand(seed=seed, turn_rad=(0, seed, 0)))
        root = place_root(hand, joints_px, CAMERA)
        assert np.isfinite(root).all()
        assert root[2] + hand[:, 2].min() >= NEAREST_M - 1e-9
        assert root[2] <= FARTHEST_M


def test_a_hand_seen_as_its_own_mirror_image_is_placed_by_its_size():
    truth = posed_hand((0.1, 0.0, 0.5), (0, 0.4, 0))
    picture = truth.joints_px.copy()
    picture = 2 * picture[skeleton.ROOT] - picture  # turned by half a turn: least squares finds it behind the camera
    root = place_root(relative(truth), picture, CAMERA)
    assert root[2] == pytest.approx(0.5, rel=0.15)
    assert np.allclose(project(root, CAMERA), picture[skeleton.ROOT])


def test_weighing_the_joints_helps_where_errors_grow_along_the_fingers():
    rng = np.random.default_rng(0)
    growth = np.array([1.5 if name == "wrist" else float(name[-1]) for name in skeleton.KEYPOINTS])[:, None]
    errors = []
    for seed in range(100):
        truth = posed_hand((0, 0, 0.5), rng.normal(0, 0.6, 3), seed=seed)
        joints = relative(truth) + rng.normal(0, 0.003, (21, 3)) * growth
        picture = truth.joints_px + rng.normal(0, 1.2, (21, 2)) * growth
        places = place_root(joints, picture, CAMERA), root_translation(joints, picture, CAMERA)
        errors.append([place[2] - 0.5 for place in places])
    weighed, plain = np.sqrt(np.square(errors).mean(0))
    assert weighed < min(0.02, 0.9 * plain)


def test_lift_leaves_its_inputs_alone():
    truth = posed_hand(side="left")
    box = Box.around(truth.joints_px, 1.5)
    outputs = network_outputs(truth, box, True, 160, CAMERA)
    before = {name: value.copy() for name, value in outputs.items()}
    lift(outputs, Crop(box, "left", 160), CAMERA, truth.faces)
    assert all(np.array_equal(before[name], outputs[name]) for name in before)


def test_expected_errors_are_in_pixels_of_the_picture_and_metres():
    truth = posed_hand()
    box = Box.around(truth.joints_px, 1.5)
    spread = np.stack([np.full((1, 21), 0.04), np.full((1, 21), 0.1)], -1)
    hand = lifted(truth, box, spread=spread)
    assert np.allclose(hand.joints_spread_px, 0.02 * box.size_px) and np.allclose(hand.joints_spread_m, 0.01)
