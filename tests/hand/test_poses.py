"""Sampled poses are plausible: rotations, within the limits, free of clashes, the same for the same seed."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.gestures import contacts
from handmesh.hand import anatomy, poses
from handmesh.hand.lbs import SkinnedHand


@pytest.fixture(scope="module")
def sampler() -> poses.PoseSampler:
    return poses.default_sampler()


@pytest.fixture(scope="module")
def sampled(sampler) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([poses.sample_pose(rng) for _ in range(600)])


def is_rotation(matrices: np.ndarray) -> bool:
    orthonormal = np.allclose(matrices @ matrices.swapaxes(-1, -2), np.eye(3), atol=1e-9)
    return orthonormal and np.allclose(np.linalg.det(matrices), 1)


def joint(name: str) -> int:
    return anatomy.JOINTS.index(name)


def bend(sampler, name: str, **angles: float) -> np.ndarray:
    """The (5, 4, 3) finger points with one joint turned."""
    degrees = np.zeros((15, 3))
    for axis, value in angles.items():
        degrees[joint(name), getattr(anatomy, axis.upper())] = value
    return anatomy.pose_joints(anatomy.rotations_from_angles(degrees, sampler.frames), sampler.joints_m)[0]


def test_poses_are_finite_rotations(sampled) -> None:
    assert sampled.shape == (600, 15, 3, 3) and np.isfinite(sampled).all() and is_rotation(sampled)


def test_limits_are_respected(sampler, sampled) -> None:
    low, high = anatomy.limits_deg()
    angles = anatomy.angles_from_rotations(sampled, sampler.frames)
    assert (low < high).all() and (low <= 0).all() and (high >= 0).all()
    assert (angles >= low - 1e-6).all() and (angles <= high + 1e-6).all()


def test_equal_seeds_give_equal_poses_and_views() -> None:
    a, b = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(20):
        np.testing.assert_array_equal(poses.sample_pose(a), poses.sample_pose(b))
        np.testing.assert_array_equal(poses.sample_view(a), poses.sample_view(b))


def test_a_new_sampler_for_the_same_joints_is_the_same(sampler) -> None:
    again = poses.PoseSampler(sampler.joints_m)
    np.testing.assert_array_equal(
        again.sample(np.random.default_rng(1)), poses.sample_pose(np.random.default_rng(1), sampler)
    )


def test_angles_and_rotations_are_inverse(sampler) -> None:
    angles = np.random.default_rng(3).uniform(*anatomy.limits_deg(), (20, 15, 3))
    rotations = anatomy.rotations_from_angles(angles, sampler.frames)
    euler = Rotation.from_euler("XYZ", angles.reshape(-1, 3), degrees=True).as_matrix().reshape(20, 15, 3, 3)
    np.testing.assert_allclose(rotations, sampler.frames @ euler @ sampler.frames.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(anatomy.angles_from_rotations(rotations, sampler.frames), angles, atol=1e-9)


def test_axes_mean_what_they_say(sampler) -> None:
    rest = bend(sampler, "index1")
    for number, finger in enumerate(skeleton.FINGERS[1:], start=1):
        tip = bend(sampler, f"{finger}1", flexion=30)[number, 3] - rest[number, 3]
        assert tip[1] < -0.02, f"flexion takes {finger} towards the palm"
        tip = bend(sampler, f"{finger}1", abduction=20)[number, 3] - rest[number, 3]
        assert tip[2] > 0.015, f"abduction takes {finger} towards the thumb's side"
    across = bend(sampler, "thumb1", flexion=30)[0, 3] - rest[0, 3]
    assert across[2] < -0.02, "flexion takes the thumb across the palm"
    away = bend(sampler, "thumb1", abduction=30)[0, 3] - rest[0, 3]
    assert away[1] < -0.01, "abduction takes the thumb away from the palm"


def test_forward_kinematics_agrees_with_the_hand_model(sampler, sampled) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("smplx")
    from handmesh.hand.model import HandModel

    model = HandModel.load()
    rotations = torch.eye(3).repeat(8, 16, 1, 1)
    rotations[:, 1:] = torch.from_numpy(sampled[:8])
    joints = model(rotations, torch.zeros(8, 10)).joints.numpy()
    points, _ = anatomy.pose_joints(sampled[:8], sampler.joints_m)
    np.testing.assert_allclose(points[:, :, 3], joints[:, list(skeleton.KEYPOINT_TIPS)], atol=1e-3)
    assert np.linalg.norm(points.reshape(8, 20, 3) - joints[:, 1:], axis=-1).mean() < 0.002


def test_straight_and_curled_fingers_occur_in_every_mixture(sampler, sampled) -> None:
    flexion = anatomy.angles_from_rotations(sampled, sampler.frames)[..., anatomy.FLEXION]
    curled = np.stack([flexion[:, joint(f"{f}2")] > 60 for f in skeleton.FINGERS[1:]], axis=1)
    patterns = {tuple(row) for row in curled.tolist()}
    assert len(patterns) >= 13, "nearly each of the 16 subsets of curled fingers appears"
    assert 0.15 < curled.mean() < 0.6


def test_pinching_pads_meet(sampler) -> None:
    for number, table in enumerate(sampler.pinches, start=1):
        assert len(table) >= 32
        hands = np.zeros((len(table), 5, 3, 3))
        hands[:, 0], hands[:, number] = table[:, 0], table[:, 1]
        angles = np.empty((len(table), 15, 3))
        angles[:, anatomy.FINGER_JOINTS] = hands
        points, _ = anatomy.pose_joints(anatomy.rotations_from_angles(angles, sampler.frames), sampler.joints_m)
        gap = np.linalg.norm(points[:, 0, 3] - points[:, number, 3], axis=-1)
        assert gap.max() < 0.035, "the tips of a pinch lie close together"
        assert gap.min() < 0.02


@pytest.mark.parametrize("gesture", sorted(set(poses.FRACTIONS) - {"pinch"}))
def test_thumbs_do_not_run_through_fingers(sampler, gesture) -> None:
    rng = np.random.default_rng(4)
    hands = [sampler.gesture_deg(gesture, rng)[anatomy.FINGER_JOINTS] for _ in range(20)]
    depth = np.array([sampler.clearance.depth(hand[None])[0] for hand in hands])
    assert np.quantile(depth, 0.9) < 0.0035 and depth.max() < 0.008


def test_the_library_is_of_many_poses_within_the_limits(sampler) -> None:
    library = poses.library_deg()
    low, high = (limit[anatomy.FINGER_JOINTS] for limit in anatomy.limits_deg())
    assert len(library) >= 300 and library.shape[1:] == (5, 3, 3)
    assert (library >= low).all() and (library <= high).all()
    flexion = library[..., anatomy.FLEXION].reshape(len(library), -1)
    apart = np.sqrt(((flexion[:, None] - flexion) ** 2).mean(-1))[~np.eye(len(library), dtype=bool)]
    assert apart.min() > 0 and np.median(apart) > 15
    assert max(map(sampler.clearance.fingers_depth, library)) < 0.007, "what is shipped is rounded to whole degrees"


def test_half_of_the_draws_come_from_the_library(sampler, monkeypatch) -> None:
    assert poses.FRACTIONS["library"] == pytest.approx(sum(poses.FRACTIONS.values()) / 2)
    drawn, fingers = [], sampler.fingers_deg
    monkeypatch.setattr(sampler, "fingers_deg", lambda name, rng: drawn.append(name) or fingers(name, rng))
    rng = np.random.default_rng(8)
    for _ in range(600):
        sampler.angles_deg(rng)
    counts = Counter(drawn)
    assert counts["library"] / len(drawn) == pytest.approx(0.5, abs=0.07)
    assert counts.keys() == {name for name, fraction in poses.FRACTIONS.items() if fraction}


def test_poses_of_the_library_are_near_it_and_differ(sampler) -> None:
    rng = np.random.default_rng(9)
    drawn = np.stack([sampler.gesture_deg("library", rng)[anatomy.FINGER_JOINTS][1:, :, 0] for _ in range(100)])
    library = poses.library_deg()[:, 1:, :, anatomy.FLEXION]
    off = np.abs(drawn[:, None] - library).max(-1)  # (drawn, poses, fingers)
    assert np.quantile(off.min(1), 0.95) < 10, "each finger is one of the library's"
    whole = (off.max(-1).min(1) < 12).mean()
    assert 0.3 < whole < 0.95, "some poses are whole, some have the fingers of two"


def test_fingers_of_two_poses_keep_clear(sampler) -> None:
    rng = np.random.default_rng(10)
    hands = [sampler.gesture_deg("library", rng)[anatomy.FINGER_JOINTS] for _ in range(200)]
    depth = np.array([sampler.clearance.fingers_depth(hand) for hand in hands])
    assert np.quantile(depth, 0.9) < 0.006 and depth.max() < 0.012, "the noise comes on top"


def test_crossing_fingers_are_deep_in_one_another(sampler) -> None:
    hand = np.zeros((5, 3, 3))
    assert sampler.clearance.fingers_depth(hand) < 0.002
    hand[1:3, 0, anatomy.ABDUCTION] = -14, 14
    assert sampler.clearance.fingers_depth(hand) > 0.008


def test_each_finger_alone_can_be_straight(sampler) -> None:
    rng = np.random.default_rng(11)
    second = np.array([sampler.gesture_deg("single", rng)[anatomy.FINGER_JOINTS[1:, 1], 0] for _ in range(60)])
    assert set(second.argmin(1)) == {0, 1, 2, 3}
    assert np.diff(np.sort(second, axis=1), axis=1)[:, 0].min() > 15, "it is much straighter than the others"


@pytest.mark.parametrize("table", [poses.LETTERS.values(), [way for grip in poses.GRIPS.values() for way in grip]])
def test_tables_of_gestures_name_known_states(table) -> None:
    for fingers, thumb, (narrow, wide) in table:
        assert len(fingers) == 4 and all(poses.INITIALS[initial] in poses.FINGER_STATES for initial in fingers)
        assert thumb in poses.THUMB_STATES and -1 <= narrow < wide <= 1.2


def test_shares_without_the_library_draw_none_of_it(sampler) -> None:
    drawn = poses.PoseSampler(sampler.joints_m, {"fist": 1.0}).angles_deg(np.random.default_rng(0))
    assert (drawn[anatomy.FINGER_JOINTS[1:, 1], anatomy.FLEXION] > 60).all()


def test_tips_of_crossed_fingers_lie_before_one_another(sampler) -> None:
    rng = np.random.default_rng(6)
    pairs = [anatomy.pose_joints(sampler.sample(rng, "crossed"), sampler.joints_m)[0][1:3] for _ in range(30)]
    index, middle = np.swapaxes(pairs, 0, 1)
    assert (index[:, 0, 2] - middle[:, 0, 2] > 0.02).all(), "knuckles lie side by side"
    assert (np.abs(index[:, 3, 2] - middle[:, 3, 2]) < 0.01).all()
    assert (np.abs(index[:, 3, 1] - middle[:, 3, 1]) > 0.015).all(), "they do not run through each other"


def test_a_thumb_in_the_way_is_lifted(sampler) -> None:
    hand = np.zeros((5, 3, 3))
    hand[1:, :2, 0] = [70, 92]
    hand[0, 0], hand[0, 1, 0] = [40, -35, 10], 40
    assert sampler.clearance.depth(hand[None])[0] > 0.008
    assert sampler.clearance.depth(sampler.clearance.lift_thumb(hand)[None])[0] < 0.0035


def test_views_cover_palm_back_and_edge() -> None:
    rng = np.random.default_rng(5)
    rotations = np.stack([poses.sample_view(rng) for _ in range(2000)])
    assert is_rotation(rotations)
    palm_away = rotations[:, 2, 1]  # the canonical +y, the back of the hand, along the camera's forward axis
    assert 0.4 < (palm_away > 0.5).mean() < 0.6
    assert 0.2 < (palm_away < -0.5).mean() < 0.45
    assert (np.abs(rotations[:, 2, 0]) > 0.8).mean() > 0.04, "fingers pointing at the camera or away"
    assert (rotations[:, 1, 0] > 0.7).mean() > 0.3, "fingers up"


def test_sampling_is_fast(sampler) -> None:
    rng = np.random.default_rng(6)
    started = time.process_time()
    for _ in range(300):
        sampler.sample(rng)
    assert (time.process_time() - started) / 300 < 0.003  # 0.3 ms on an idle core; ten times that on a busy one


def test_challenging_views_show_what_they_say() -> None:
    rng = np.random.default_rng(7)
    edge, first, worn, offered = (
        np.stack([draw(rng) for _ in range(100)])
        for draw in (poses.edge_on_view, poses.fingers_first_view, poses.head_mounted_view, poses.offered_view)
    )
    assert is_rotation(edge) and is_rotation(first) and is_rotation(worn) and is_rotation(offered)
    assert (offered[:, 2, 0] > 0.3).mean() > 0.9, "the fingers point at the camera, raised or lowered"
    assert (offered[:, 1, 1] > 0.3).mean() > 0.9, "the palm, along -y, looks up or to its owner"
    assert (np.abs(edge[:, 2, 1]) < 0.35).all(), "neither palm nor back is seen"
    assert (first[:, 2, 0] > 0.81).all(), "the fingers, along -x, point at the camera"
    assert (worn[:, 2, 0] < 0.02).mean() > 0.9, "the fingers point away from the eyes"


def test_almost_a_pinch_is_hardly_ever_one(sampler) -> None:
    rng = np.random.default_rng(10)
    model = SkinnedHand.open_hand()
    rest = model.rest(np.zeros(10))

    def touching(gesture: str) -> float:
        poses_of = [np.concatenate([np.eye(3)[None], sampler.sample(rng, gesture)]) for _ in range(60)]
        return float(np.mean([contacts(model.posed_joints(pose, rest))[0].any() for pose in poses_of]))

    assert touching("pinch") > 0.95 and touching("almost pinch") < 0.4
