"""From crop to camera and back: exact where the network is exact, finite where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hand_scenes import CAMERA, network_outputs, posed_hand

from handmesh import skeleton
from handmesh.geometry import FARTHEST_M, NEAREST_M, least_squares_translation, project, solve_translation
from handmesh.tracking.estimator import Crop, is_plausible, to_camera_frame
from handmesh.types import Box, Camera

POSITIONS = [(0.0, 0.0, 0.5), (0.2, -0.12, 0.6), (-0.5, 0.35, 0.9), (0.02, 0.03, 0.2)]


def lifted(hand, box, camera=CAMERA, **changes):
    crop = Crop(box, hand.side, 160)
    outputs = network_outputs(hand, box, crop.mirrored, crop.size, camera)
    return to_camera_frame({**outputs, **changes}, crop, camera, hand.faces)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("rotation", [(0, 0, 0), (0.3, 1.2, 0.4), (0.5, -0.3, 2.5)])
def test_exact_outputs_give_the_hand_back(side, position, rotation):
    truth = posed_hand(position, rotation, side, seed=1)
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
def test_position_is_always_finite_and_in_front(joints_px):
    for seed in range(5):
        hand = relative(posed_hand(seed=seed, rotation_rad=(0, seed, 0)))
        root = solve_translation(hand, joints_px, CAMERA)
        assert np.isfinite(root).all()
        assert root[2] + hand[:, 2].min() >= NEAREST_M - 1e-9
        assert root[2] <= FARTHEST_M


def test_a_hand_seen_as_its_own_mirror_image_is_placed_by_its_size():
    truth = posed_hand((0.1, 0.0, 0.5), (0, 0.4, 0))
    image = truth.joints_px.copy()
    image = 2 * image[skeleton.ROOT] - image  # turned by half a turn: least squares finds it behind the camera
    root = solve_translation(relative(truth), image, CAMERA)
    assert root[2] == pytest.approx(0.5, rel=0.15)
    drawn = project(relative(truth) + root, CAMERA)
    assert np.linalg.norm(drawn.mean(0) - image.mean(0)) < 0.1 * Box.around(image).size_px


def test_a_hand_that_does_not_fit_its_image_is_not_drawn_far_from_it():
    """Joints in space of one hand, joints in the image of another: the distance is held near what the size says."""
    off_boxes, alone_boxes, ratios = [], [], []
    rng = np.random.default_rng(0)
    for seed in range(60):
        joints = relative(posed_hand((0, 0, 0.5), rng.normal(0, 1.5, 3), seed=seed))
        seen = posed_hand((0.05, 0, 0.5), rng.normal(0, 1.5, 3), seed=seed + 500)
        box = Box.around(seen.joints_px)
        for places, off in ((solve_translation, off_boxes), (least_squares_translation, alone_boxes)):
            drawn = project(joints + places(joints, seen.joints_px, CAMERA), CAMERA)
            off.append(np.linalg.norm(drawn - seen.joints_px, axis=1).mean() / box.size_px)
        size = np.linalg.norm(joints[:, :2].std(0)) / np.linalg.norm(seen.joints_px.std(0)) * CAMERA.fx
        ratios.append(solve_translation(joints, seen.joints_px, CAMERA)[2] / size)
    assert max(off_boxes) < 0.7 < 1.7 < max(alone_boxes)
    assert min(ratios) > 0.6 and max(ratios) < 1.7  # of a weak perspective's distance, which no exact one is


@pytest.mark.parametrize("distance_m", [0.12, 0.2, 0.5, 3.0])
def test_an_exact_hand_is_placed_exactly_at_any_distance(distance_m):
    """The hold on the distance does not touch what fits, however strong the perspective."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = posed_hand((0.2 * distance_m, 0, distance_m), rng.normal(0, 1, 3), seed=seed)
        if truth.joints_m[:, 2].min() > NEAREST_M:
            assert np.allclose(
                solve_translation(relative(truth), truth.joints_px, CAMERA),
                [0.2 * distance_m, 0, distance_m],
                atol=1e-6,
            )


def test_weighing_the_joints_helps_where_errors_grow_along_the_fingers():
    rng = np.random.default_rng(0)
    growth = np.array([1.5 if name == "wrist" else float(name[-1]) for name in skeleton.KEYPOINTS])[:, None]
    errors = []
    for seed in range(100):
        truth = posed_hand((0, 0, 0.5), rng.normal(0, 0.6, 3), seed=seed)
        joints = relative(truth) + rng.normal(0, 0.003, (21, 3)) * growth
        image = truth.joints_px + rng.normal(0, 1.2, (21, 2)) * growth
        positions = solve_translation(joints, image, CAMERA), least_squares_translation(joints, image, CAMERA)
        errors.append([position[2] - 0.5 for position in positions])
    weighed, plain = np.sqrt(np.square(errors).mean(0))
    assert weighed < min(0.02, 0.9 * plain)


def test_lift_leaves_its_inputs_alone():
    truth = posed_hand(side="left")
    box = Box.around(truth.joints_px, 1.5)
    outputs = network_outputs(truth, box, True, 160, CAMERA)
    before = {name: value.copy() for name, value in outputs.items()}
    to_camera_frame(outputs, Crop(box, "left", 160), CAMERA, truth.faces)
    assert all(np.array_equal(before[name], outputs[name]) for name in before)


def test_contact_is_told_of_either_hand_where_the_network_tells_it():
    logits = np.float32([[-3, 0, 2, 9]])
    for side in ("left", "right"):
        truth = posed_hand(side=side)
        box = Box.around(truth.joints_px, 1.5)
        contact = lifted(truth, box, contact=logits).contact
        assert contact.dtype == np.float32 and contact == pytest.approx(1 / (1 + np.exp(-logits[0])))
        assert lifted(truth, box).contact is None
        assert lifted(truth, box, contact=logits * np.nan) is None


def test_expected_errors_are_in_pixels_of_the_image_and_metres():
    truth = posed_hand()
    box = Box.around(truth.joints_px, 1.5)
    uncertainty = np.stack([np.full((1, 21), 0.04), np.full((1, 21), 0.1)], -1)
    hand = lifted(truth, box, spread=uncertainty)
    assert np.allclose(hand.joints_uncertainty_px, 0.02 * box.size_px) and np.allclose(hand.joints_uncertainty_m, 0.01)
