"""The hand bent towards the joints found: slopes and step against slow twins, and what it does to a hand."""

from __future__ import annotations

import numpy as np
import pytest
from gesture_hands import pinching
from hand_scenes import CAMERA, SceneDetector, SceneSession, coded_frame, network_outputs, posed_hand
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project
from handmesh.gestures import pinch_distances
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking import estimator as estimator_module
from handmesh.tracking.alignment import (
    FINGER_RAD,
    LEAST_UNCERTAINTY,
    TOUCH_M,
    TOUCHING_M,
    WRIST_RAD,
    Alignment,
)
from handmesh.tracking.estimator import Crop, Estimator, to_camera_frame
from handmesh.types import Box, Camera

HAND = SkinnedHand.open_hand()
ALIGNMENT = Alignment(HAND)
ROOT_M = np.array([0.03, -0.02, 0.5])
TIP = skeleton.KEYPOINTS.index("index4")


def rotated(rotations: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """The rotations after the (23,) rotations, one joint at a time."""
    vectors = np.zeros((16, 3))
    for joint, axis, rotation in zip(ALIGNMENT.joints, ALIGNMENT.axes, angles, strict=True):
        vectors[joint] += rotation * axis
    return rotations @ Rotation.from_rotvec(vectors).as_matrix()


def case(seed: int):
    """Rotations, the unposed hand, joints found, and their spread."""
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.4, (16, 3))).as_matrix()
    rest = HAND.rest(rng.normal(0, 1, 10))
    found = seen(rotations, rest, ROOT_M) + rng.normal(0, 0.008, (21, 2))
    return rotations, rest, found, rng.uniform(0.005, 0.02, 21)


def seen(rotations, rest, root_m) -> np.ndarray:
    """(21, 2) x / z and y / z of the joints, with the root at a position."""
    joints = HAND.posed(rotations, rest)[1].astype(float)
    joints += root_m - joints[skeleton.ROOT]
    return joints[:, :2] / joints[:, 2:]


def residuals(rotations, rest, found, spread, contact=None):
    """The sum that a bent hand minimises, as a function of its 26 parameters: the vector that is squared."""

    def of(parameters: np.ndarray) -> np.ndarray:
        angles, move = parameters[:23], parameters[23:]
        start = HAND.posed(rotations, rest)[1][skeleton.ROOT]
        joints = HAND.posed(rotated(rotations, angles), rest)[1] - start + ROOT_M + move
        off = (joints[:, :2] / joints[:, 2:] - found) / spread[:, None]
        parts = [off.ravel(), angles / ALIGNMENT.deviations]
        if contact is not None:
            parts.append(contact * np.maximum(pinch_distances(joints) - TOUCHING_M, 0) / TOUCH_M)
        return np.concatenate(parts)

    return of


def test_turns_are_of_the_wrist_and_of_the_fingers_hinges():
    names = [skeleton.MANO_JOINTS[joint] for joint in ALIGNMENT.joints]
    assert len(names) == 3 + 15 + 5
    for name in skeleton.MANO_JOINTS:
        assert names.count(name) == (3 if name == "wrist" else 2 if name.endswith("1") else 1)
    assert set(ALIGNMENT.deviations) == {FINGER_RAD, WRIST_RAD}
    np.testing.assert_allclose(np.linalg.norm(ALIGNMENT.axes, axis=1), 1)


@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_finite_differences(seed):
    rotations, rest, *_ = case(seed)
    joints, slopes = ALIGNMENT.joints_and_slopes(rotations, rest)
    assert np.abs(joints - HAND.posed(rotations, rest)[1]).max() < 1e-6
    for k, step in enumerate(0.01 * np.eye(23)):
        ahead, behind = (HAND.posed(rotated(rotations, sign * step), rest)[1].astype(float) for sign in (1, -1))
        np.testing.assert_allclose(slopes[:, k].T, (ahead - behind) / 0.02, atol=3e-5)


@pytest.mark.parametrize("contact", [None, np.array([0.02, 0.9, 0.4, 0.0])])
@pytest.mark.parametrize("seed", range(5))
def test_the_step_is_that_of_least_squares(seed, contact):
    """A finite-difference Jacobian, and the linear problem solved without normal equations."""
    given = case(seed)
    of, size = residuals(*given, contact), 26
    steps = 0.003 * np.eye(size)
    jacobian = np.stack([(of(step) - of(-step)) / 0.006 for step in steps], axis=1)
    expected = np.linalg.lstsq(jacobian, -of(np.zeros(size)), rcond=None)[0][:23]
    expected = expected.clip(-4 * ALIGNMENT.deviations, 4 * ALIGNMENT.deviations)
    np.testing.assert_allclose(ALIGNMENT.angles(*given, ROOT_M, contact), expected, atol=3e-4)


@pytest.mark.parametrize("seed", range(3))
def test_one_step_comes_near_to_the_minimum(seed):
    given = case(seed)
    of, scale = residuals(*given), np.append(ALIGNMENT.deviations, [0.01] * 3)
    best = least_squares(lambda units: of(scale * (units - 1)), np.ones(26), diff_step=0.03)
    angles = ALIGNMENT.angles(*given, ROOT_M)
    placed = least_squares(lambda units: of(np.append(angles, 0.01 * (units - 1))), np.ones(3), diff_step=0.03)
    gained = np.square(of(np.zeros(26))).sum() / 2 - best.cost
    assert gained > 1 and placed.cost < best.cost + 0.02 * gained
    np.testing.assert_allclose(angles, scale[:23] * (best.x[:23] - 1), atol=0.1 * FINGER_RAD)


def test_bent_hands_have_turned_by_the_rotations():
    given = case(0)
    expected = rotated(given[0], ALIGNMENT.angles(*given, ROOT_M))
    np.testing.assert_allclose(ALIGNMENT.bent(*given, ROOT_M), expected, atol=1e-12)


def test_no_joint_that_lies_where_it_was_found_moves_the_hand():
    rotations, rest, *_ = case(1)
    bent = ALIGNMENT.bent(rotations, rest, seen(rotations, rest, ROOT_M), np.full(21, 0.01), ROOT_M)
    np.testing.assert_allclose(bent, rotations, atol=1e-6)


def test_joints_far_off_turn_the_hand_no_farther_than_it_can():
    rotations, rest, found, spread = case(2)
    wild = np.random.default_rng(0).uniform(-5, 5, found.shape)
    angles = ALIGNMENT.angles(rotations, rest, wild, spread, ROOT_M)
    assert (np.abs(angles) <= 4.0 * ALIGNMENT.deviations).all()


def lifted(hand, box, alignment=ALIGNMENT, camera=CAMERA, mesh=True, **changes):
    crop = Crop(box, hand.side, 160)
    outputs = network_outputs(hand, box, crop.mirrored, crop.size, camera)
    return to_camera_frame({**outputs, **changes}, crop, camera, hand.faces, alignment, mesh)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("position", [(0.0, 0.0, 0.5), (-0.5, 0.35, 0.9), (0.02, 0.03, 0.2)])
def test_exact_outputs_give_the_hand_back(side, position):
    """Also beside the camera's axis, where the crop's view is oblique, and with unequal focal lengths."""
    for camera in (CAMERA, Camera(700.0, 500.0, 300.0, 260.0, 640, 480)):
        truth = posed_hand(position, (0.3, 0.8, 0.4), side, seed=1, camera=camera)
        hand = lifted(truth, Box.around(truth.joints_px, 1.5), camera=camera)
        assert np.abs(hand.joints_m - truth.joints_m).max() < 2e-4
        assert np.abs(hand.vertices_m - truth.vertices_m).max() < 2e-4
        assert np.abs(hand.pose - truth.pose).max() < 1e-4


def test_a_fingertip_moves_towards_where_it_was_found_as_far_as_that_is_trusted():
    truth = posed_hand((0.05, 0.0, 0.5), (0.3, 0.2, 0.1))
    box = Box.around(truth.joints_px, 1.5)
    joints_crop = network_outputs(truth, box, False, 160, CAMERA)["joints_crop"].copy()
    joints_crop[0, TIP, 1] += 0.1
    ways = []
    for expected in (0.03, 0.06, 0.3):
        spread = np.full((1, 21, 2), 0.06, np.float32)
        spread[0, TIP, 0] = expected
        way = lifted(truth, box, joints_crop=joints_crop, spread=spread).joints_px - truth.joints_px
        ways.append(np.linalg.norm(way[TIP]))
        others = [k for k, name in enumerate(skeleton.KEYPOINTS) if not name.startswith("index")]
        assert np.linalg.norm(way[others], axis=1).mean() < 0.4 * ways[0]
    assert ways[0] > 1.5 * ways[1] > 3 * ways[2]
    assert 0.2 < ways[0] / (0.05 * box.size_px) < 1


def test_mesh_joints_and_pose_stay_those_of_one_hand():
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        truth = posed_hand((0.1, 0.05, 0.5), (0.2, 0.4, 0.1), side)
        box = Box.around(truth.joints_px, 1.5)
        joints_crop = network_outputs(truth, box, side == "left", 160, CAMERA)["joints_crop"]
        noisy = joints_crop + rng.normal(0, 0.05, joints_crop.shape)
        hand = lifted(truth, box, joints_crop=noisy)
        assert np.abs(hand.pose - truth.pose).max() > 0.01
        vertices, joints = HAND.posed(hand.pose, HAND.rest(hand.shape), side)
        move = hand.joints_m[skeleton.ROOT] - joints[skeleton.ROOT]
        assert np.abs(vertices + move - hand.vertices_m).max() < 1e-5
        assert np.abs(joints + move - hand.joints_m).max() < 1e-5
        assert np.allclose(hand.joints_px, project(hand.joints_m.astype(float), CAMERA), atol=0.02)
        bare = lifted(truth, box, mesh=False, joints_crop=noisy)
        assert np.abs(bare.joints_m - hand.joints_m).max() < 1e-5 and np.abs(bare.pose - hand.pose).max() < 1e-5
        assert np.abs(bare.vertices_m - hand.vertices_m).max() > 1e-3, "for a smoother, which poses them anew"


def test_a_left_hand_is_bent_as_its_mirror_image():
    rng = np.random.default_rng(0)
    right = posed_hand((0.1, 0.05, 0.5), (0.2, 0.4, 0.1))
    joints = mirror_points_m(right.joints_m)
    left = type(right)(
        mirror_points_m(right.vertices_m), joints, project(joints, CAMERA), "left", 1.0,
        mirror_rotations(right.pose), right.shape, mirror_faces(right.faces),
    )  # fmt: skip
    x, y = Box.around(right.joints_px).centre_px
    noise = rng.normal(0, 0.05, (1, 21, 2))
    hands = []
    for truth, box in ((right, Box((x, y), 250, 0.3)), (left, Box((2 * CAMERA.cx - x, y), 250, -0.3))):
        found = network_outputs(truth, box, truth.side == "left", 160, CAMERA)["joints_crop"]
        hands.append(lifted(truth, box, joints_crop=found + noise))
    assert np.abs(mirror_points_m(hands[0].joints_m) - hands[1].joints_m).max() < 1e-4
    assert np.abs(mirror_rotations(hands[0].pose) - hands[1].pose).max() < 1e-4


def test_two_opinions_are_better_than_one():
    """Poses and found joints that err on their own: the bent hand is nearer in the image, and no farther in space."""
    rng = np.random.default_rng(0)
    errors = []
    for seed in range(60):
        truth = posed_hand((0, 0, 0.5), rng.normal(0, 0.6, 3), seed=seed)
        box = Box.around(truth.joints_px, 1.5)
        changes = mistaken(truth, box, rng)
        hands = (lifted(truth, box, alignment, **changes) for alignment in (None, ALIGNMENT))
        errors.append([(_off(h.joints_px, truth.joints_px), _off(_about(h), _about(truth))) for h in hands])
    (plain_px, plain_m), (bent_px, bent_m) = np.mean(errors, axis=0)
    assert bent_px < 0.8 * plain_px and bent_m < plain_m


def mistaken(truth, box: Box, rng: np.random.Generator, deviations: float = 1.0) -> dict[str, np.ndarray]:
    """Outputs of a network that errs in pose and joints, each on its own."""
    outputs = network_outputs(truth, box, truth.side == "left", 160, CAMERA)
    bends = deviations * rng.normal(0, 1, 23) * ALIGNMENT.deviations
    rotations = rotated(outputs["rotations"][0].astype(float), bends)
    vertices, joints = HAND.posed(rotations, HAND.rest(truth.shape))
    root = joints[skeleton.ROOT].copy()
    return {
        "rotations": rotations[None].astype(np.float32),
        "vertices_m": (vertices - root)[None],
        "joints_m": (joints - root)[None],
        "joints_crop": outputs["joints_crop"] + rng.normal(0, 0.04, (1, 21, 2)).astype(np.float32),
    }


def _off(points: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(points - truth, axis=1).mean())


def _about(hand) -> np.ndarray:
    return hand.joints_m - hand.joints_m[skeleton.ROOT]


@pytest.mark.parametrize("finger", range(4))
def test_where_the_thumb_is_told_to_touch_it_comes_nearer(finger):
    """Pinches in poses that err, the joints found as well: nearer to touching, and no farther off in the image."""
    rng = np.random.default_rng(finger)
    errors = []
    for row in range(0, 40, 4):
        truth = pinching(finger, row, "left" if row % 8 else "right")
        box = Box.around(truth.joints_px, 1.5)
        changes = mistaken(truth, box, rng, deviations=3.0)
        for logit in (-9.0, 4.0):
            contact = np.where(np.arange(4) == finger, logit, -9.0)[None].astype(np.float32)
            hand = lifted(truth, box, contact=contact, **changes)
            lacking = np.maximum(pinch_distances(hand.joints_m)[finger] - TOUCHING_M, 0)
            errors.append((lacking, _off(hand.joints_px, truth.joints_px)))
    apart, together = np.mean(errors[::2], axis=0), np.mean(errors[1::2], axis=0)
    assert together[0] < 0.55 * apart[0] and together[1] < 1.02 * apart[1]


def test_what_lies_beside_the_view_bends_nothing():
    truth = posed_hand((0.1, 0.0, 0.5))
    box = Box.around(truth.joints_px, 1.5)
    wide = Camera(40.0, 40.0, 320.0, 240.0, 640, 480)
    for joints_crop in (np.full((1, 21, 2), 7.9), np.linspace(-7.9, 7.9, 42).reshape(1, 21, 2)):
        hand = lifted(truth, box, camera=wide, joints_crop=joints_crop)
        assert np.isfinite(hand.vertices_m).all() and np.isfinite(hand.joints_px).all()


def test_a_constant_switches_it_off(monkeypatch):
    truth = posed_hand((0.0, 0.0, 0.5), seed=2)
    poses = {}
    for is_on in (True, False):
        monkeypatch.setattr(estimator_module, "ALIGN", is_on)
        session = _Doubting(lambda _: [truth])
        estimate = Estimator(session).estimate(
            coded_frame(0), CAMERA, SceneDetector(session.scene).detect(coded_frame(0))[0].box, truth.side
        )
        poses[is_on] = estimate.hand.pose
    assert np.abs(poses[False][1:] - truth.pose[1:]).max() < 1e-5 < 1e-3 < np.abs(poses[True] - poses[False]).max()


class _Doubting(SceneSession):
    """Finds the joints beside where it poses them."""

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super().run(image_nhwc)
        outputs["joints_crop"] = outputs["joints_crop"] + np.random.default_rng(0).normal(0, 0.05, (1, 21, 2))
        return outputs


def test_the_least_spread_is_taken_for_less():
    truth = posed_hand((0.05, 0.0, 0.5))
    box = Box.around(truth.joints_px, 1.5)
    found = network_outputs(truth, box, False, 160, CAMERA)["joints_crop"] + 0.02 * np.sin(np.arange(42)).reshape(21, 2)
    poses = [
        lifted(truth, box, joints_crop=found, spread=np.full((1, 21, 2), value, np.float32)).pose
        for value in (LEAST_UNCERTAINTY, LEAST_UNCERTAINTY / 10, 0.0)
    ]
    assert np.allclose(poses[0], poses[1]) and np.allclose(poses[0], poses[2])
