"""The detector's data: pasted scenes, views of photographs, and the maps made of them."""

import dataclasses
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from handmesh.data import detection
from handmesh.data.cutouts import Cutout, CutoutHand, CutoutSet, cut_out, fraction_inside, surroundings, write_cutouts
from handmesh.data.detection import Scene, SceneHand, Size
from handmesh.data.loader import Stage
from handmesh.data.photos import LabelledHand, Photo
from handmesh.data.shards import ShardSet
from handmesh.data.teacher import SceneTeacher
from handmesh.detection import STRIDE
from handmesh.skeleton import KEYPOINTS
from handmesh.synthetic import people
from handmesh.synthetic.people import Body, Rig, curl_fingers, hand_joints, pose_body, reach, rotation_between
from handmesh.types import Box, Camera

SIZE = Size(256, 192)


def upright_hand(centre=(100.0, 80.0), length=60.0):
    """(21, 2) joints of a flat hand with the fingers up."""
    fingers = [[(x, 0.3 - 0.26 * k) for k in range(4)] for x in (-0.3, -0.15, 0.0, 0.15, 0.3)]
    points = np.array([(0.0, 0.5), *(point for finger in fingers for point in finger)])
    return np.array(centre) + length * points


def one_hand_scene(side="right", **position):
    hand = SceneHand(side, upright_hand(**position), np.ones(21))
    return Scene(np.full((SIZE.height, SIZE.width, 3), 90, np.uint8), (hand,))


def test_maps_say_where_the_hand_is():
    scene = one_hand_scene()
    maps, box = detection.encode(scene), scene.hands[0].box
    assert maps["heat"].shape == (24, 32)
    row, column = np.argwhere(maps["heat"] == 1)[0]
    centre = (np.array([column, row]) + maps["offset"][:, row, column] + 0.5) * STRIDE - 0.5
    assert centre == pytest.approx(box.centre_px, abs=1e-3)
    assert np.exp(maps["log_size"][row, column]) * STRIDE == pytest.approx(box.size_px, rel=1e-5)
    assert maps["right"][row, column] == 1
    assert maps["near"][0, 0] == 0 and maps["sure"].all()


def test_a_half_hidden_hand_is_neither_wanted_nor_forbidden():
    hidden = np.r_[np.ones(7), np.zeros(14)]
    scene = one_hand_scene()
    scene = Scene(scene.image, (SceneHand("right", scene.hands[0].joints_px, hidden),))
    maps = detection.encode(scene)
    assert maps["heat"].max() == 0
    assert maps["sure"][10, 12] == 0 and maps["sure"][0, 0] == 1


def test_a_hardly_visible_hand_counts_as_background():
    scene = one_hand_scene()
    scene = Scene(scene.image, (SceneHand("right", scene.hands[0].joints_px, np.r_[np.ones(3), np.zeros(18)]),))
    assert detection.encode(scene)["sure"].all()


def test_unsure_places_are_left_out_except_at_labelled_hands():
    scene = one_hand_scene(centre=(100, 140))
    lower = np.array([[0, 96], [256, 96], [256, 192], [0, 192]])
    maps = detection.encode(Scene(scene.image, scene.hands, (lower,)))
    assert maps["sure"][20, 28] == 0 and maps["sure"][3, 28] == 1
    assert maps["sure"][17, 12] == 1


def test_an_unlabelled_other_hand_may_hang_beside_the_body():
    photo = Photo(Path("a.jpg"), 256, 192, ())
    for side, sign in (("right", 1), ("left", -1)):
        position = detection.other_hand_position(SceneHand(side, upright_hand((128, 60), 20), np.ones(21)), photo)
        assert cv2.pointPolygonTest(position.astype(np.float32), (128 + sign * 60, 150), False) > 0
        assert cv2.pointPolygonTest(position.astype(np.float32), (128 - sign * 60, 150), False) < 0
        assert cv2.pointPolygonTest(position.astype(np.float32), (128 + sign * 60, 50), False) < 0


@pytest.mark.parametrize("mirror", [False, True])
def test_a_view_moves_labels_with_the_image(mirror):
    scene = one_hand_scene("left", centre=(128, 96))
    image = scene.image.copy()
    middle = scene.hands[0].joints_px[9]
    cv2.circle(image, np.round(middle).astype(int).tolist(), 4, (255, 0, 0), -1)
    for seed in range(6):
        seen = detection.viewed(Scene(image, scene.hands), SIZE, np.random.default_rng(seed), mirror)
        x, y = np.round(seen.hands[0].joints_px[9]).astype(int)
        if 3 < x < 252 and 3 < y < 188:
            assert seen.image[y, x, 0] > 180 and seen.image[y, x, 1] < 60
        assert seen.hands[0].side == ("right" if mirror else "left")


def square_cutout():
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[8:56, 8:56] = (200, 40, 40, 255)
    return Cutout(rgba, (CutoutHand("right", upright_hand((31.5, 31.5), 40).astype(np.float32)),))


def test_pasting_labels_what_it_shows():
    blank = Scene(np.zeros((SIZE.height, SIZE.width, 3), np.uint8))
    sides = set()
    for seed in range(12):
        scene = detection.paste(blank, square_cutout(), np.random.default_rng(seed))
        hand = scene.hands[0]
        sides.add(hand.side)
        seen = hand.joints_px[hand.in_sight > 0]
        column, row = np.round(seen).astype(int).clip(0, [255, 191]).T
        assert (scene.image[row, column, 0] > 60).mean() >= 0.9 or len(seen) == 0
    assert sides == {"left", "right"}


def test_a_hand_is_pasted_beside_its_mirror_image():
    """Of the other side, as large, and where the image shows it: before the first or behind it."""
    blank, sights = Scene(np.zeros((SIZE.height, SIZE.width, 3), np.uint8)), []
    for seed in range(12):
        scene = detection.paste(blank, square_cutout(), np.random.default_rng(seed), mirrored=1.0)
        first, second = scene.hands
        assert {first.side, second.side} == {"left", "right"}
        assert first.box.size_px == pytest.approx(second.box.size_px, rel=1e-6)
        assert 0.5 < np.linalg.norm(np.subtract(first.box.centre_px, second.box.centre_px)) / first.box.size_px < 1.6
        for hand in scene.hands:
            column, row = np.round(hand.joints_px[hand.in_sight > 0]).astype(int).clip(0, [255, 191]).T
            assert (scene.image[row, column, 0] > 60).sum() >= 0.9 * len(row)
        sights.append((first.in_sight.mean(), second.in_sight.mean()))
    assert any(first < second for first, second in sights)
    pair = Cutout(square_cutout().rgba, square_cutout().hands * 2)
    assert len(detection.paste(blank, pair, np.random.default_rng(0), mirrored=1.0).hands) == 2


def test_what_is_pasted_over_a_hand_hides_it():
    scene = one_hand_scene()
    cover = np.zeros((SIZE.height, SIZE.width), np.float32)
    cover[:, :100] = 1
    hidden = detection.covered(scene.hands[0], cover)
    assert (hidden.in_sight == (hidden.joints_px[:, 0] > 99.5)).all()


def shards_of(joints_px, image, mask, **changes):
    """One sample of a right hand, and of a left one a hundred pixels to its right."""
    several = {"joints_px": joints_px[None], "other_px": joints_px[None] + [100.0, 0.0], "other_left": np.array([True])}
    names = {field.name: None for field in dataclasses.fields(ShardSet) if field.init and field.name != "_maps"}
    made = ShardSet(**{**names, "files": (Path("set/0.tar"),), "knows_others": np.array([True])} | several | changes)
    object.__setattr__(made, "decode", lambda i: image)
    object.__setattr__(made, "mask", lambda i: mask)
    return made


def test_synthetic_scenes_have_both_hands_as_far_as_they_are_seen():
    joints_px = upright_hand((60, 96), 60)
    image = np.zeros((192, 256, 3), np.uint8)
    mask = cv2.fillConvexPoly(np.zeros((192, 256), np.uint8), cv2.convexHull(np.int32(joints_px)), 255)
    left, right = sorted(detection.ShardScenes(shards_of(joints_px, image, mask)).scene(0).hands, key=lambda h: h.side)
    assert (left.side, right.side) == ("left", "right")
    assert right.in_sight.all() and left.in_sight.all()
    assert np.array_equal(left.joints_px, joints_px + [100, 0])
    mask[:96] = 0  # something is before the fingers
    right = detection.ShardScenes(shards_of(joints_px, image, mask)).scene(0).hands[0]
    assert (right.in_sight == (joints_px[:, 1] >= 93)).all()
    behind = shards_of(joints_px, image, mask, other_px=joints_px[None] + [4.0, 0.0])
    left = detection.ShardScenes(behind).scene(0).hands[1]
    assert 0 < left.in_sight.mean() < 1, "where the first hand is seen, the other is not"
    alone = shards_of(joints_px, image, mask, other_px=np.full((1, 21, 2), np.nan))
    assert len(detection.ShardScenes(alone).scene(0).hands) == 1


def test_shards_that_do_not_list_every_hand_are_refused():
    image = np.zeros((192, 256, 3), np.uint8)
    old = shards_of(upright_hand(), image, image[..., 0], knows_others=np.array([False]))
    with pytest.raises(ValueError, match="set was made before labels listed every hand"):
        detection.ShardScenes(old)


@pytest.fixture
def folders(tmp_path):
    """Cutouts, photographs and backgrounds in small."""
    write_cutouts(tmp_path / "cutouts", [square_cutout()])
    rng = np.random.default_rng(0)
    (tmp_path / "empty").mkdir()
    photos = tmp_path / "photos"
    (photos / "images").mkdir(parents=True)
    entries = []
    for k in range(12):
        image = rng.integers(0, 255, (96, 128, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "empty" / f"{k}.png"), image)
        cv2.imwrite(str(photos / "images" / f"{k}.png"), image)
        joints = upright_hand((60, 40), 40).tolist()
        hand = {"hand": "left", "score": 1.0, "uv": joints, "xyz": [[0, 0, 0]] * 21}
        entries.append({"file": f"images/{k}.png", "width": 128, "height": 96, "hands": [hand]})
    (photos / "pseudo_labels.json").write_text(json.dumps(entries))
    return detection.SceneConfig((tmp_path / "cutouts",), (photos,), (photos,), (tmp_path / "empty",))


def test_batches_depend_on_seed_and_step_only(folders):
    sources = detection.scene_sources(folders)
    kinds = [type(source).__name__ for _, source in sources]
    assert kinds == ["PastedScenes", "PhotoScenes", "PhotoScenes", "EmptyScenes"]
    stages = [Stage(2, 128, 6), Stage(2, 256, 4)]
    batches = detection.DetectionBatches(sources, stages, seed=3)
    again = detection.DetectionBatches(sources, stages, seed=3)
    batches[0]
    both = zip(batches[1][:-1], again[1][:-1], strict=True)  # all but the teacher's maps, of which there are none
    assert all(torch.equal(a, b) for a, b in both)
    assert batches[1].image.shape == (6, 3, 96, 128) and batches[2].image.shape == (4, 3, 192, 256)
    fractions = [detection.DetectionBatches(sources, stages, seed=3, rank=rank, world=2)[1].image for rank in (0, 1)]
    assert torch.equal(fractions[1], batches[1].image[1::2])


def test_no_data_is_an_error():
    with pytest.raises(ValueError, match="no training data"):
        detection.DetectionBatches(detection.scene_sources(detection.SceneConfig()), [Stage(1, 128, 2)])


def test_cutouts_survive_the_disk(tmp_path):
    cutout = square_cutout()
    assert write_cutouts(tmp_path, [cutout]) == 1
    (back,) = (CutoutSet(tmp_path)[i] for i in range(1))
    assert (back.rgba == cutout.rgba).all() and back.hands[0].side == "right"
    assert back.hands[0].joints_px == pytest.approx(cutout.hands[0].joints_px, abs=0.01)
    with pytest.raises(FileNotFoundError, match="data people"):
        CutoutSet(tmp_path / "nowhere")


def test_cutting_out_keeps_the_hand_and_drops_the_wall():
    image = np.full((100, 100, 3), 235, np.uint8)
    joints = upright_hand((50, 50), 60)
    hull = cv2.convexHull(np.round(joints).astype(np.int32))
    cv2.fillConvexPoly(image, hull, (170, 110, 80))
    alpha = cut_out(image, LabelledHand("right", 1.0, joints.astype(np.float32), np.zeros((21, 3)))).rgba[..., 3]
    assert alpha[45, 50] == 255 and alpha[5, 5] == 0 and alpha[95, 5] == 0


CHAIN = {"upperarm01": 0.15, "lowerarm01": 0.45, "lowerarm02": 0.55, "wrist": 0.7}
TRUNK = {"spine05": 0.0, "spine01": 0.35, "neck01": 0.5, "head": 0.6}


def stick_person():
    """A rig with a trunk and two arms, and a small tetrahedron at each bone's head."""
    names, parents, heads = (
        ["root", *TRUNK],
        [-1, 0, 1, 2, 3],
        [(0.0, 0.0, 0.0), *((0.0, 0.0, z) for z in TRUNK.values())],
    )
    for suffix, sign in ((".L", 1), (".R", -1)):
        for name, x in CHAIN.items():
            parents.append(2 if name == "upperarm01" else len(names) - 1)
            names.append(name + suffix)
            heads.append((sign * x, 0.0, 0.3))
        wrist = len(names) - 1
        for finger in range(1, 6):
            for k in (1, 2, 3):
                parents.append(wrist if k == 1 else len(names) - 1)
                names.append(f"finger{finger}-{k}{suffix}")
                heads.append((sign * (0.75 + 0.03 * k), 0.02 * (finger - 3), 0.3 - 0.004 * k * k))
    heads = np.array(heads, np.float32)
    corners = 0.01 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])[None] + 4 * np.arange(len(names))[:, None, None]
    faces, bones = faces.reshape(-1, 3).astype(np.int32), np.repeat(np.arange(len(names)), 4)[:, None]
    uv = np.full((4 * len(names), 2), 0.5, np.float32)
    rig = Rig(tuple(names), tuple(parents), faces, uv, faces, bones, np.ones((len(bones), 1), np.float32))
    return rig, Body((heads[:, None] + corners).reshape(-1, 3), heads)


def test_people_are_drawn_where_their_hands_are_labelled():
    rig, body = stick_person()
    studio = people.Studio(rig, [body], np.full((8, 8, 3), 200, np.uint8))
    camera = Camera.from_fov(160, 120, 60)
    view = people.View(camera, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([0.0, -2.0, 0.3]))
    cutout = studio.render(body, view, np.random.default_rng(0))
    assert cutout.rgba.shape == (120, 160, 4)
    left, right = sorted(cutout.hands, key=lambda hand: hand.side)
    assert (left.side, right.side) == ("left", "right") and left.visible > 0.8
    assert right.joints_px[0, 0] < 80 < left.joints_px[0, 0]  # the person faces the camera
    column, row = np.round(left.joints_px[[0, 1, 5]]).astype(int).T
    assert (cutout.rgba[row, column, 3] > 100).all()
    behind = view._replace(eye_m=np.array([0.0, 1.2, 0.3]))
    assert studio.render(body, behind, np.random.default_rng(0)).hands == ()


def test_people_are_deterministic():
    rig, body = stick_person()
    studio = people.Studio(rig, [body], np.full((8, 8, 3), 200, np.uint8))
    view = people.View(
        Camera.from_fov(64, 48), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([0, -1.2, 0.3])
    )
    once, again = (studio.render(people.random_pose(rig, body, "bust", rng), view, rng).rgba
                   for rng in (np.random.default_rng(5), np.random.default_rng(5)))  # fmt: skip
    assert (once == again).all() and once[..., 3].any()


@pytest.mark.parametrize("together", [0.0, 1.0])
def test_people_bring_their_hands_together(monkeypatch, together):
    monkeypatch.setattr(people, "TOGETHER", together)
    rig, body = stick_person()
    wrists = [rig.bone("wrist", side) for side in ("left", "right")]
    posed = [people.random_pose(rig, body, "bust", np.random.default_rng(k)) for k in range(40)]
    apart = [np.linalg.norm(np.subtract(*one.heads_m[wrists])) for one in posed]
    assert (np.mean(np.array(apart) < 0.35) > 0.95) == (together == 1.0)


@pytest.mark.parametrize("cupped", [0.0, 1.0])
def test_cupped_hands_meet_at_the_little_fingers(monkeypatch, cupped):
    monkeypatch.setattr(people, "TOGETHER", 1.0)
    monkeypatch.setattr(people, "CUPPED", cupped)
    rig, body = stick_person()
    posed = [people.random_pose(rig, body, "bust", np.random.default_rng(k)) for k in range(60)]
    hands = [[hand_joints(rig, one, side) for side in ("left", "right")] for one in posed]
    apart = np.linalg.norm([left - right for left, right in hands], axis=-1)
    meet = apart[:, KEYPOINTS.index("little1")] < apart[:, KEYPOINTS.index("index1")]
    assert (meet.mean() > 0.8) == (cupped == 1.0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_arm_reaches_its_place(side):
    rig, body = stick_person()
    sign = -1 if side == "right" else 1
    position = np.array([sign * 0.3, -0.35, 0.1])
    posed = pose_body(rig, body, reach(rig, body, side, position, 0.3))
    assert posed.heads_m[rig.bone("wrist", side)] == pytest.approx(position, abs=1e-5)
    upper = posed.heads_m[rig.bone("lowerarm01", side)] - posed.heads_m[rig.bone("upperarm01", side)]
    assert np.linalg.norm(upper) == pytest.approx(0.3, abs=1e-5)
    other = "left" if side == "right" else "right"
    assert (posed.heads_m[rig.bone("wrist", other)] == body.heads_m[rig.bone("wrist", other)]).all()


def test_fingers_close():
    rig, body = stick_person()
    reachable = {}
    for curl in (0.0, 1.0):
        posed = pose_body(rig, body, curl_fingers(rig, body, "right", np.full((5, 3), curl), np.zeros(5)))
        joints = hand_joints(rig, posed, "right")
        assert joints.shape == (21, 3)
        reachable[curl] = np.linalg.norm(joints[12] - joints[0])
    assert reachable[1.0] < 0.75 * reachable[0.0]


def test_turn_between_turns():
    a, b = np.array([1.0, 2, 3]), np.array([-2.0, 0.5, 1])
    rotated = rotation_between(a, b) @ a / np.linalg.norm(a)
    assert rotated == pytest.approx(b / np.linalg.norm(b))
    assert rotation_between(a, a) == pytest.approx(np.eye(3))


def test_box_of_the_test_hand_is_upright():
    assert Box.around(upright_hand()).angle_rad == pytest.approx(0, abs=0.3)


def test_surroundings_keep_the_hand_in_place_and_bad_cutouts_show():
    image = np.zeros((200, 300, 3), np.uint8)
    joints = np.linspace((140, 90), (180, 130), 21).astype(np.float32)
    rows, columns = np.round(joints).astype(int).T[::-1]
    image[rows, columns] = 255
    part, moved = surroundings(image, LabelledHand("right", 1.0, joints, np.zeros((21, 3))))
    assert max(part.shape) < 110
    x, y = np.round(moved.joints_px).astype(int).T
    assert (part[y, x] == 255).all()
    half = np.dstack([part, np.where(np.arange(part.shape[1]) < x.mean(), 255, 0)[None].repeat(len(part), 0)])
    assert 0.3 < fraction_inside(Cutout(half.astype(np.uint8), (CutoutHand("right", moved.joints_px),))) < 0.7


def write_detector(path: Path) -> None:
    """A teacher of one map: its images themselves, shrunk to a quarter by averaging."""
    onnx = pytest.importorskip("onnx", reason="a teacher is an ONNX file")
    value, of = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[16, 16], strides=[16, 16])
    shapes = ["n", 3, "h", "w"], ["n", 3, "i", "j"]
    graph = onnx.helper.make_graph([node], "t", [value("x", of, shapes[0])], [value("y", of, shapes[1])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), path)


def test_a_teacher_says_its_maps_in_deviations(tmp_path):
    write_detector(tmp_path / "teacher.onnx")
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 64, 96)).astype(np.uint8)
    teacher = SceneTeacher(tmp_path / "teacher.onnx", images)
    (map_,) = teacher(images)
    assert teacher.channels == (3,) and map_.shape == (6, 3, 4, 6)
    assert map_.mean((0, 2, 3)) == pytest.approx(0, abs=1e-4) and map_.std((0, 2, 3)) == pytest.approx(1, abs=1e-4)
    again = pickle.loads(pickle.dumps(teacher))(images)[0]
    np.testing.assert_array_equal(again, map_)
    some = SceneTeacher(tmp_path / "teacher.onnx", images, fraction=0.5)(images)[0]
    np.testing.assert_array_equal(some, map_[:3])


def test_a_teacher_sees_scenes_before_their_colours_are_varied(tmp_path):
    write_detector(tmp_path / "teacher.onnx")
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 64, 96)).astype(np.uint8)
    teacher = SceneTeacher(tmp_path / "teacher.onnx", images)

    class Fixed:
        def draw(self, size, rng):
            return detection.Scene(images[0].transpose(1, 2, 0))

    batches = detection.DetectionBatches([(1.0, Fixed())], [Stage(1, 96, 2)], teacher=teacher)
    np.testing.assert_array_equal(batches[0].taught[0][1], teacher(images[:1])[0][0])
    assert np.abs(batches[0].image[1].numpy().astype(int) - images[0]).mean() > 5, "the student sees other colours"


def test_a_teacher_that_is_none_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    images = np.zeros((1, 3, 64, 96), np.uint8)
    for name, message in (("none.onnx", "no teacher"), ("text.onnx", "not a readable ONNX")):
        with pytest.raises(ValueError, match=message):
            SceneTeacher(tmp_path / name, images)


def test_a_taught_detector_learns_the_maps_and_keeps_nothing_of_it(tmp_path):
    pytest.importorskip("lightning_fabric", reason="training needs the training extra")
    from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig
    from handmesh.training.detector import TaughtDetector
    from handmesh.training.losses import map_matching_loss

    write_detector(tmp_path / "teacher.onnx")
    batch = detection.collate([one_hand_scene(), one_hand_scene(side="left")])
    assert batch.taught == ()
    teacher = SceneTeacher(tmp_path / "teacher.onnx", batch.image.numpy())
    batch = detection.collate([one_hand_scene(), one_hand_scene(side="left")], teacher)
    torch.manual_seed(0)
    config = DetectorNetworkConfig(widths=(8, 16, 24, 32), depths=(1, 1, 1, 1), width=16)
    student = TaughtDetector(DetectorNet(config), teacher.channels).train()
    optimiser = torch.optim.AdamW(student.parameters(), 5e-3)
    losses = []
    for _ in range(10):
        output, projected = student(batch.image.float() / 255)
        assert output.heat.shape == batch.heat.shape
        loss = map_matching_loss(projected, batch.taught)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]
    assert student.network.state_dict().keys() == DetectorNet(config).state_dict().keys()


def test_pairs_are_spread_over_the_rendered_hands(tmp_path):
    people.write_hands(people.HandCutoutOptions(tmp_path, count=7, size=48, pairs=0.3))
    cutouts = detection.CutoutSet(tmp_path)
    assert [len(cutouts[k].hands) for k in range(7)] == [1, 1, 1, 2, 1, 1, 2]
