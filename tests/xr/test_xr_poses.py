"""Hands in the conventions of WebXR, OpenXR, Unity and MediaPipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handmesh import skeleton, xr
from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project
from handmesh.hand.lbs import SkinnedHand, joint_transforms
from handmesh.hand.poses import default_sampler
from handmesh.types import Camera, Hand, Side

CAMERA = Camera.from_fov(640, 480)
TO_VIEW = np.diag([1.0, -1.0, -1.0])
FINGERS = ("INDEX", "MIDDLE", "RING", "LITTLE")


def openxr_index(*words: str) -> int:
    return xr.OPENXR_JOINTS.index("_".join(("XR_HAND_JOINT", *words, "EXT")))


CHILDREN = {
    openxr_index(finger, part): openxr_index(finger, child)
    for finger in ("THUMB", *FINGERS)
    for part, child in zip(
        ("METACARPAL", "PROXIMAL", *(["INTERMEDIATE"] if finger != "THUMB" else []), "DISTAL"),
        ("PROXIMAL", *(["INTERMEDIATE"] if finger != "THUMB" else []), "DISTAL", "TIP"),
        strict=True,
    )
}
TIPS = {openxr_index(finger, "TIP"): openxr_index(finger, "DISTAL") for finger in ("THUMB", *FINGERS)}


def hand_of(pose: np.ndarray, shape: np.ndarray, position_m: np.ndarray, side: Side = "right") -> Hand:
    """The bundled hand, posed, with its root at `position_m`; a left one is the mirrored right one."""
    model = SkinnedHand.open_hand()
    vertices, joints = model.posed(pose, model.rest(shape))
    move = position_m - joints[skeleton.ROOT]
    vertices, joints, faces = vertices + move, joints + move, model.faces
    if side == "left":
        vertices, joints = mirror_points_m(vertices), mirror_points_m(joints)
        pose, faces = mirror_rotations(pose), mirror_faces(faces)
    pixels = project(joints, CAMERA)
    return Hand(vertices, joints, pixels, side, 1.0, np.float32(pose), np.float32(shape), faces)


def random_hand(rng: np.random.Generator, side: Side, gesture: str | None = None) -> Hand:
    wrist = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    pose = np.concatenate([wrist[None], default_sampler().sample(rng, gesture)])
    position = rng.uniform((-0.2, -0.2, 0.2), (0.2, 0.2, 1.0))
    return hand_of(pose, rng.normal(0, 1, 10), position.astype(np.float32), side)


def open_hand(side: Side) -> Hand:
    """At rest, its back to the camera, fingers up in the image."""
    back_to_camera = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
    pose = np.concatenate([back_to_camera[None], np.tile(np.eye(3), (15, 1, 1))])
    return hand_of(pose, np.zeros(10), np.array([0, 0, 0.5], np.float32), side)


def matrices(hand: xr.XRHand) -> np.ndarray:
    """(N, 3, 3); the columns are the axes."""
    return Rotation.from_quat(hand.orientations_xyzw).as_matrix()


def degrees_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


@pytest.fixture(scope="module")
def hands() -> list[tuple[Hand, xr.XRHand]]:
    """500 hands of both sides, in poses at random, with what OpenXR would say of them."""
    rng = np.random.default_rng(6)
    made = [random_hand(rng, "left" if k % 2 else "right") for k in range(500)]
    return [(hand, hand.to_openxr()) for hand in made]


@pytest.fixture(scope="module")
def all_hands(hands) -> list[tuple[Hand, xr.XRHand]]:
    """Those and 100 whose joints turn as no hand's can: what is mathematics must hold for them too."""
    rng = np.random.default_rng(7)
    wild = []
    for k in range(100):
        pose = Rotation.from_rotvec(rng.normal(0, 0.8, (16, 3))).as_matrix()
        wild.append(
            hand_of(pose, rng.normal(0, 2, 10), np.array([0, 0, 3.0], np.float32), "left" if k % 2 else "right")
        )
    return hands + [(hand, hand.to_openxr()) for hand in wild]


def test_names_are_those_of_the_specifications():
    assert len(xr.OPENXR_JOINTS) == 26 and len(xr.WEBXR_JOINTS) == 25 and len(set(xr.OPENXR_JOINTS)) == 26
    known = {0: "PALM", 1: "WRIST", 2: "THUMB_METACARPAL", 4: "THUMB_DISTAL", 6: "INDEX_METACARPAL"}
    known |= {13: "MIDDLE_INTERMEDIATE", 17: "RING_PROXIMAL", 24: "LITTLE_DISTAL", 25: "LITTLE_TIP"}
    assert all(xr.OPENXR_JOINTS[k] == f"XR_HAND_JOINT_{name}_EXT" for k, name in known.items())
    web = {0: "wrist", 1: "thumb-metacarpal", 2: "thumb-phalanx-proximal", 4: "thumb-tip"}
    web |= {5: "index-finger-metacarpal", 12: "middle-finger-phalanx-intermediate", 24: "pinky-finger-tip"}
    assert all(xr.WEBXR_JOINTS[k] == name for k, name in web.items())
    assert xr.UNITY_JOINTS[:3] == ("Wrist", "Palm", "ThumbMetacarpal") and xr.UNITY_JOINTS[-1] == "LittleTip"


def test_all_is_finite_and_orientations_are_rotations(all_hands):
    for _, poses in all_hands:
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in poses[1:4])
        rotations = matrices(poses)
        assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-6
        assert np.abs(np.linalg.det(rotations) - 1).max() < 1e-6
        assert np.abs(np.linalg.norm(poses.orientations_xyzw, axis=1) - 1).max() < 1e-6


def test_minus_z_runs_along_the_child_bone(all_hands):
    joints, children = list(CHILDREN), list(CHILDREN.values())
    for _, poses in all_hands:
        forward = -matrices(poses)[:, :, 2]
        bones = poses.positions_m[children] - poses.positions_m[joints]
        assert degrees_between(forward[joints], bones).max() < 0.01
        assert degrees_between(forward[list(TIPS)], forward[list(TIPS.values())]).max() < 0.01
        to_knuckle = poses.positions_m[openxr_index("MIDDLE", "PROXIMAL")] - poses.positions_m[1]
        assert degrees_between(forward[[0, 1]], to_knuckle).max() < 0.01


def test_plus_y_leaves_the_back(hands):
    knuckles = [openxr_index(finger, "PROXIMAL") for finger in FINGERS]
    tips = [openxr_index(finger, "TIP") for finger in FINGERS]
    rng = np.random.default_rng(1)
    for hand, poses in hands:
        back = hand.pose[0] @ np.array([0.0, 1, 0]) @ TO_VIEW
        metacarpals = [0, 1] + [openxr_index(finger, "METACARPAL") for finger in FINGERS]
        assert degrees_between(matrices(poses)[metacarpals, :, 1], back).max() < 30
    for side in ("right", "left"):  # fingers close away from their backs
        poses = random_hand(rng, side, "fist").to_openxr()
        towards_tips = poses.positions_m[tips] - poses.positions_m[knuckles]
        assert ((matrices(poses)[knuckles, :, 1] * towards_tips).sum(1) < 0).all()


@pytest.mark.parametrize("side", ["right", "left"])
def test_flat_hands_backs_face_the_camera(side: Side):
    poses = open_hand(side).to_webxr()
    fingers = [k for k, name in enumerate(xr.WEBXR_JOINTS) if "thumb" not in name]
    assert degrees_between(matrices(poses)[fingers, :, 1], np.array([0.0, 0, 1])).max() < 45
    wrist, middle = poses.positions_m[[0, xr.WEBXR_JOINTS.index("middle-finger-phalanx-proximal")]]
    assert (middle - wrist)[1] > 0.07, "fingers up in the image are up in the view"
    assert (poses.positions_m[:, 2] < -0.3).all(), "what is before the camera has a negative z"


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_thumbs_y_is_its_nails_normal(side: Side):
    """Where +Y leaves the last phalanx, the skin, which is the nail, faces +Y but for 10 degrees."""
    hand, model = open_hand(side), SkinnedHand.open_hand()
    poses = hand.to_openxr()
    joint, tip = openxr_index("THUMB", "DISTAL"), openxr_index("THUMB", "TIP")
    axes, vertices = matrices(poses)[joint], hand.vertices_m @ TO_VIEW
    local = (vertices - poses.positions_m[joint]) @ axes
    length = np.linalg.norm(poses.positions_m[tip] - poses.positions_m[joint])
    on_thumb = model.weights[:, skeleton.MANO_JOINTS.index("thumb3")] > 0.5
    nail = on_thumb & (local[:, 1] > 0) & (np.abs(local[:, 0]) < local[:, 1])
    nail &= (-local[:, 2] > 0.3 * length) & (-local[:, 2] < 0.9 * length)
    x, y, _ = replace(hand, vertices_m=vertices).to_trimesh("camera").vertex_normals[nail].mean(0) @ axes
    assert nail.sum() >= 5 and y > 0.8
    assert abs(np.degrees(np.arctan2(x, y))) < 11


def test_x_points_to_the_little_finger_of_a_right_hand_and_to_the_thumb_of_a_left_one(hands):
    for hand, poses in hands:
        index, little = openxr_index("INDEX", "PROXIMAL"), openxr_index("LITTLE", "PROXIMAL")
        across = poses.positions_m[little] - poses.positions_m[index]
        across = across if hand.side == "right" else -across
        rigid = [0, 1] + [openxr_index(finger, "METACARPAL") for finger in FINGERS]
        assert (matrices(poses)[rigid, :, 0] @ across > 0).all()
        proximal = [openxr_index(finger, "PROXIMAL") for finger in FINGERS]
        assert (matrices(poses)[proximal, :, 0] @ across > 0).all()


def test_a_mirrored_hand_gives_mirrored_poses(hands):
    for hand, poses in hands[:100]:
        other = replace(
            hand,
            vertices_m=mirror_points_m(hand.vertices_m),
            joints_m=mirror_points_m(hand.joints_m),
            pose=mirror_rotations(hand.pose),
            side="left" if hand.side == "right" else "right",
        ).to_openxr()
        flip = np.diag([-1.0, 1, 1])
        assert np.abs(other.positions_m - poses.positions_m @ flip).max() < 1e-7
        assert np.abs(matrices(other) - flip @ matrices(poses) @ flip).max() < 1e-5
        assert np.abs(other.radii_m - poses.radii_m).max() < 1e-5


def test_radii_are_those_of_a_hand(hands):
    radii = np.stack([poses.radii_m for _, poses in hands])
    assert radii.min() >= 0.004 and radii.max() <= 0.030
    mean_mm = dict(zip(xr.OPENXR_JOINTS, radii.mean(0) * 1000, strict=True))
    assert 15 < mean_mm["XR_HAND_JOINT_PALM_EXT"] < 25
    assert 4 < mean_mm["XR_HAND_JOINT_INDEX_TIP_EXT"] < 9
    assert mean_mm["XR_HAND_JOINT_INDEX_PROXIMAL_EXT"] > mean_mm["XR_HAND_JOINT_INDEX_DISTAL_EXT"]
    assert radii.std(0).max() < 0.004, "a hand does not swell when it closes"


def test_radii_follow_the_hands_size_within_bounds(hands):
    hand, poses = hands[0]
    small, giant, bare = (
        replace(hand, joints_m=hand.joints_m * scale, vertices_m=hand.vertices_m[:count] * scale).to_openxr()
        for scale, count in ((0.9, None), (30.0, None), (1.0, 0))
    )
    free = poses.radii_m > 0.005
    assert np.abs(small.radii_m / poses.radii_m - 0.9)[free].max() < 1e-3
    assert (giant.radii_m == np.float32(0.030)).all()
    assert ((bare.radii_m >= 0.010) & (bare.radii_m <= 0.020)).all()


def test_the_21_joints_come_back(hands):
    def keypoint(name: str) -> str:
        finger, part = ("thumb" if "thumb" in name else name.split("-")[0].replace("pinky", "little")), name
        order = ("metacarpal", "proximal", "distal", "tip")
        order = order if finger == "thumb" else ("metacarpal", "proximal", "intermediate", "distal", "tip")
        number = next(k for k, word in enumerate(order) if part.endswith(word))
        return f"{finger}{number + (finger == 'thumb')}"

    rows = {"wrist" if name == "wrist" else keypoint(name): k for k, name in enumerate(xr.WEBXR_JOINTS)}
    order = [rows[name] for name in skeleton.KEYPOINTS]
    assert len(set(order)) == 21
    for hand, _ in hands[:50]:
        webxr = hand.to_webxr()
        assert webxr.names == xr.WEBXR_JOINTS and len(webxr.radii_m) == 25
        is_tip = np.array([name.endswith("tip") for name in webxr.names])
        on_skin = webxr.positions_m - (is_tip * webxr.radii_m)[:, None] * matrices(webxr)[:, :, 2]
        assert np.abs(on_skin[order] @ TO_VIEW - hand.joints_m).max() < 1e-6


def test_tips_lie_within_the_skin(hands):
    """By their radius along the bone; a finger's joints lie nearer to its nail than to its pad."""
    tips = list(TIPS)
    on_skin = [skeleton.KEYPOINTS.index(name) for name in skeleton.TIPS]
    for hand, poses in hands[:60]:
        inwards = np.linalg.norm(poses.positions_m[tips] - hand.joints_m[on_skin] @ TO_VIEW, axis=1)
        assert np.abs(inwards - poses.radii_m[tips]).max() < 1e-6
        away = hand.vertices_m @ TO_VIEW - poses.positions_m[tips][:, None]
        assert np.linalg.norm(away, axis=2).min() > 0.001


def test_known_radii_need_no_mesh(hands):
    hand, _ = hands[0]
    measured = hand.to_webxr()
    again = xr.to_webxr(replace(hand, vertices_m=hand.vertices_m[:0]), measured.radii_m)
    for ours, theirs in zip(again[1:4], measured[1:4], strict=True):
        assert np.array_equal(ours, theirs)


# A left hand of the Meta Quest, from the three poses that Meta publishes with IWER 2.5 under the MIT licence
# (`relaxed`, `pinch`, `point`): in the wrist's own frame, in mm, the means over the poses.
QUEST_METACARPALS_MM = [[18.43, -10.53, -36.87], [2.22, -8.16, -34.71], [-14.99, -6.02, -34.78], [-23.0, -9.42, -34.07]]
QUEST_KNUCKLES_MM = [[23.55, -7.32, -96.0], [1.73, -2.54, -95.65], [-17.47, -6.53, -88.69], [-35.05, -13.69, -77.9]]
QUEST_TWISTS_DEG = [0.0, 0.0, 0.0, 23.4]


@pytest.mark.parametrize("side", ["left", "right"])
def test_metacarpals_are_where_a_quest_has_them(side: Side):
    """Their lengths within 3 mm, in the bundled hand's own size and in the Quest's; their twists within 5 degrees."""
    poses = open_hand(side).to_openxr()
    metacarpals = [openxr_index(finger, "METACARPAL") for finger in FINGERS]
    knuckles = [openxr_index(finger, "PROXIMAL") for finger in FINGERS]
    wrist = matrices(poses)[1]
    bases, ends = (1000 * (poses.positions_m[rows] - poses.positions_m[1]) @ wrist for rows in (metacarpals, knuckles))
    quest_bases, quest_ends = np.array(QUEST_METACARPALS_MM), np.array(QUEST_KNUCKLES_MM)
    from_wrist, quests = np.linalg.norm(bases, axis=1), np.linalg.norm(quest_bases, axis=1)
    assert np.abs(from_wrist - quests).max() < 3
    scale = np.linalg.norm(quest_ends[1]) / np.linalg.norm(ends[1])
    assert np.abs(scale * from_wrist - quests).max() < 3
    bones, quest_bones = np.linalg.norm(ends - bases, axis=1), np.linalg.norm(quest_ends - quest_bases, axis=1)
    assert np.abs(scale * bones - quest_bones).max() < 3
    twists = [twist_deg(wrist.T @ axes) for axes in matrices(poses)[metacarpals]]
    outwards = 1 if side == "left" else -1  # about Z, which points to the arm
    assert np.abs(np.array(twists) - outwards * np.array(QUEST_TWISTS_DEG)).max() < 5


def twist_deg(rotation: np.ndarray) -> float:
    """What a (3, 3) rotation turns about its own Z, when what turns Z is taken off: the twist of swing and twist."""
    _, _, z, w = Rotation.from_matrix(rotation).as_quat()
    return float(np.degrees(2 * np.arctan2(z, w)))


def test_agrees_with_constant_axes_carried_by_the_rest_pose():
    """The slow twin: axes fixed to the rest skeleton, turned by each joint, on a skeleton that moves rigidly."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        hand = random_hand(rng, "right")
        rest = SkinnedHand.open_hand().rest(hand.shape).joints_m
        transforms = joint_transforms(hand.pose, rest)
        rigid = np.array(hand.joints_m)
        positions = (transforms[:, :, :3] @ rest[..., None])[..., 0] + transforms[:, :, 3]
        rigid[list(skeleton.KEYPOINT_OF_MANO)] = positions
        rotations = matrices(replace(hand, joints_m=rigid).to_openxr())
        for name in ("index1", "middle2", "ring2", "little1", "thumb1", "thumb2"):
            joint = skeleton.MANO_JOINTS.index(name)
            z = rest[joint] - rest[skeleton.MANO_JOINTS.index(f"{name[:-1]}{int(name[-1]) + 1}")]
            z = z / np.linalg.norm(z)
            back = np.array(skeleton.THUMBNAIL if "thumb" in name else skeleton.BACK_OF_HAND)
            y = back - back @ z * z
            axes = np.stack([np.cross(y, z), y, z], axis=1) / np.array([np.linalg.norm(y), np.linalg.norm(y), 1])
            parts = ("METACARPAL", "PROXIMAL", "DISTAL") if "thumb" in name else ("PROXIMAL", "INTERMEDIATE", "DISTAL")
            found = rotations[openxr_index(name[:-1].upper(), parts[int(name[-1]) - 1])]
            assert np.abs(found - TO_VIEW @ transforms[joint, :, :3] @ axes).max() < 1e-4


def test_velocities_of_a_rigid_motion():
    rng = np.random.default_rng(3)
    hand = random_hand(rng, "left")
    rotation = Rotation.from_rotvec([0.02, -0.05, 0.03])
    moved = replace(
        hand,
        joints_m=rotation.apply(hand.joints_m) + (0.01, 0, 0),
        vertices_m=rotation.apply(hand.vertices_m) + (0.01, 0, 0),
        pose=np.concatenate([rotation.as_matrix() @ hand.pose[:1], hand.pose[1:]]),
    )
    before = hand.to_openxr()
    assert before.linear_velocities_m_s is None and before.angular_velocities_rad_s is None
    after = moved.to_openxr(before, 0.02)
    assert np.allclose(after.linear_velocities_m_s, (after.positions_m - before.positions_m) / 0.02, atol=1e-5)
    assert np.allclose(after.angular_velocities_rad_s, TO_VIEW @ rotation.as_rotvec() / 0.02, atol=1e-3)
    at_rest = hand.to_openxr(before, 0.02)
    assert np.abs(at_rest.linear_velocities_m_s).max() == 0 and np.abs(at_rest.angular_velocities_rad_s).max() < 1e-3


def test_velocities_need_a_past():
    hand = open_hand("right")
    before = hand.to_openxr()
    with pytest.raises(ValueError, match="both"):
        hand.to_openxr(before)
    with pytest.raises(ValueError, match="more than 0"):
        hand.to_openxr(before, 0.0)
    with pytest.raises(ValueError, match="26"):
        hand.to_openxr(hand.to_webxr(), 0.1)


def test_unity_sees_the_same_hand_in_its_left_handed_frame(hands):
    hand, before = hands[1]
    poses = hand.to_openxr(before, 0.1)
    unity, flip = xr.to_unity(poses), np.diag([1.0, 1, -1])
    assert unity.names == xr.UNITY_JOINTS
    order = [1, 0, *range(2, 26)]
    assert np.allclose(unity.positions_m, poses.positions_m[order] @ flip)
    assert (unity.positions_m[:, 2] > 0).all(), "before the camera is forward"
    assert np.allclose(matrices(unity), flip @ matrices(poses)[order] @ flip, atol=1e-6)
    metacarpal, proximal = unity.names.index("IndexMetacarpal"), unity.names.index("IndexProximal")
    bone = unity.positions_m[proximal] - unity.positions_m[metacarpal]
    assert degrees_between(matrices(unity)[metacarpal, :, 2], bone) < 0.01
    assert np.array_equal(unity.radii_m, poses.radii_m[order])
    with pytest.raises(ValueError, match="26 joints"):
        xr.to_unity(hand.to_webxr())


def test_unitys_angular_velocity_turns_unitys_poses():
    rng = np.random.default_rng(4)
    hand = random_hand(rng, "right")
    rotated = replace(
        hand, pose=np.concatenate([Rotation.from_rotvec([0, 0, 0.1]).as_matrix() @ hand.pose[:1], hand.pose[1:]])
    )
    before = hand.to_openxr()
    after = xr.to_unity(rotated.to_openxr(before, 0.5))
    moved = Rotation.from_rotvec(after.angular_velocities_rad_s * 0.5).as_matrix() @ matrices(xr.to_unity(before))
    assert np.abs(moved - matrices(after)).max() < 1e-5


def test_mediapipe_landmarks(hands):
    assert len(xr.MEDIAPIPE_LANDMARKS) == len(skeleton.KEYPOINTS)
    assert xr.MEDIAPIPE_LANDMARKS[8] == "INDEX_FINGER_TIP" and skeleton.KEYPOINTS[8] == "index4"
    for hand, _ in hands[:50]:
        seen = hand.to_mediapipe(CAMERA.width, CAMERA.height)
        assert seen.handedness == hand.side.title()
        assert np.allclose(seen.landmarks[:, :2] * (640, 480) - 0.5, hand.joints_px, atol=1e-3)
        wrist = hand.joints_m[0, 2]
        assert np.allclose(seen.landmarks[:, 2], (hand.joints_m[:, 2] - wrist) * CAMERA.fx / wrist / 640, atol=1e-4)
        assert seen.landmarks[0, 2] == 0
        assert np.abs(seen.world_landmarks_m.mean(0)).max() < 1e-6
        assert np.allclose(np.ptp(seen.world_landmarks_m, axis=0), np.ptp(hand.joints_m, axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="0 x 480"):
        hand.to_mediapipe(0, 480)
