"""Held-out and hard synthetic sets, what is around the hand, and the sheet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from handmesh import geometry
from handmesh.data.shards import read_shards
from handmesh.gestures import contacts
from handmesh.skeleton import KEYPOINTS
from handmesh.synthetic import config, objects, scene, sensor
from handmesh.synthetic.config import HARD_CASES, GenerateConfig, SceneProbabilities, Sources
from handmesh.synthetic.generator import Generator
from handmesh.synthetic.renderer import random_light
from handmesh.synthetic.scene import Appearance, HandInstance
from handmesh.synthetic.skin import draw_skin
from handmesh.synthetic.writer import encode, label, write_shard, write_sheet
from handmesh.types import Camera

BARE = SceneProbabilities(glove=0, torso=0, head=0, held=0, occluder=0, second_hand=0, cut_off=0)
SIZE = 64


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(Sources(painted_skins=1, materials="train"), BARE)


@pytest.fixture(scope="module")
def hard() -> Generator:
    return Generator(Sources(painted_skins=1, materials="test", difficulty="hard"))


@pytest.fixture(scope="module")
def hard_samples(hard):
    return hard.samples(8, range(40), size=SIZE)


def of(samples, hard_case: str):
    return [sample for sample in samples if sample.hard_case == hard_case]


def test_training_and_test_share_no_ingredient():
    assert not set(config.painted_numbers("train", 500)) & set(config.painted_numbers("test", 500))
    assert not set(objects.SHAPES["train"]) & set(objects.SHAPES["test"])
    assert set(objects.SHAPES["train"]) | set(objects.SHAPES["test"]) == set(objects.SHAPES["all"])
    files = [Path(f"{k}.hdr") for k in range(200)]
    train, test = config.files_of(files, "train"), config.files_of(files, "test")
    assert not set(train) & set(test) and {*train, *test} == set(files)
    assert config.files_of(files, "all") == files
    assert 20 < len(test) < 65


def test_training_and_test_have_other_skins_and_samples(generator, hard):
    assert not np.array_equal(generator.skins[0].levels[0], hard.skins[0].levels[0])
    same_seed = generator.sample(8, 2, size=SIZE), hard.sample(8, 2, size=SIZE)
    assert not np.allclose(same_seed[0].shape, same_seed[1].shape, atol=0.01)


def test_given_files_keep_to_their_materials(tmp_path):
    for k in range(12):
        held_out = not config.files_of([Path(f"{k}.png")], "train")
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((8, 8, 3), 200 if held_out else 50, np.uint8))
    for name, value in (("train", 50), ("test", 200)):
        made = Generator(Sources(skins=tmp_path, painted_skins=0, materials=name))
        assert {int(skin.mean[0]) for skin in made.skins} == {value}


def test_contradicting_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--materials test takes the backgrounds of the split 'val'"):
        GenerateConfig(tmp_path, materials="test", backgrounds_split="train")
    with pytest.raises(ValueError, match="--difficulty hard goes with --layout shards"):
        GenerateConfig(tmp_path, difficulty="hard", layout="freihand")


def test_hard_samples_take_the_hard_cases_in_turn(hard, hard_samples):
    assert [sample.hard_case for sample in hard_samples[:10]] == [*HARD_CASES, *HARD_CASES]
    again = hard.samples(8, range(5, 9), size=SIZE)
    assert np.array_equal(again[2].image, hard_samples[7].image)
    assert label(hard_samples[3])["challenge"] == "cut off"


def test_the_border_cuts_what_is_cut_off(hard_samples):
    for sample in hard_samples:
        outside = (np.abs(sample.joints_px - (SIZE - 1) / 2) > SIZE / 2).any(1).mean()
        assert outside >= 0.04 if sample.hard_case == "cut off" else outside < 0.7
        assert outside < 0.8
    assert np.mean([sample.mask.any() for sample in of(hard_samples, "cut off")]) > 0.7


def test_views_are_as_the_hard_case_says(hard_samples):
    for hard_case, axis, least in (("edge-on", 2, 0.93), ("fingers first", 0, 0.8)):
        rotations = Rotation.from_rotvec([sample.pose[0] for sample in of(hard_samples, hard_case)]).as_matrix()
        assert (np.abs(rotations[:, 2, axis]) > least).all(), hard_case
    assert (rotations[:, 2, 0] > 0).all(), "fingers point from -x of the canonical frame: to the camera, not away"


def test_two_hands_are_one_persons(monkeypatch):
    made = Generator(Sources(painted_skins=2, materials="train", difficulty="two-hands"), BARE)
    drawn, render = [], made.stage.render_scene

    def render_scene(posed, *rest):
        drawn.append([hand for hand, _ in posed])
        return render(posed, *rest)

    monkeypatch.setattr(made.stage, "render_scene", render_scene)
    assert {sample.hard_case for sample in made.samples(3, range(6), size=48)} == {config.TWO_HANDS}
    for first, other in drawn:
        assert (first.side, other.side) == ("right", "left") and np.array_equal(first.shape, other.shape)
        assert first.appearance.skin is other.appearance.skin


def test_hands_that_touch_meet_but_do_not_pass_through(generator):
    gaps = []
    for k in range(6):
        rng = np.random.default_rng(k)
        first, second = (generator.draw_actor(rng, None) for _ in range(2))
        hands = generator.stage.pose([first, second])
        _, hand, _ = scene.aim(rng, generator.stage.arm, first, hands[0], SIZE, (0.5, 0.5))
        _, other = scene.beside(rng, generator.stage.arm, hand, second._replace(side="left"), hands[1], touching=True)
        gaps.append(cKDTree(hand.vertices).query(other.vertices * [-1, 1, 1])[0].min())
    assert max(gaps) < 2 * scene.TOUCH_M and np.median(gaps) > 0.0005


def test_the_owner_stands_behind_the_hand(generator, monkeypatch):
    alone = generator.samples(5, range(12), size=SIZE)
    monkeypatch.setattr(generator, "probabilities", replace(BARE, torso=1.0, head=1.0))
    owned = generator.samples(5, range(12), size=SIZE)
    for one, other in zip(alone, owned, strict=True):
        assert (one.mask != other.mask).mean() < 0.002
        assert np.array_equal(one.joints_px, other.joints_px)
    assert np.mean([np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(alone, owned, strict=True)]) > 10


def test_a_glove_covers_the_labelled_hand_alone(generator):
    rotation = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    rotations = np.concatenate([rotation[None], np.eye(3)[None].repeat(15, 0)])
    rng = np.random.default_rng(0)
    bare = Appearance(draw_skin(rng, generator.skins))
    cloth = objects.coloured(rng, np.zeros((4, 4, 3), np.uint8), 0.0)
    blue = cloth._replace(albedo=np.tile(np.float32([0, 0, 0.5]), (256, 1)))
    camera, light = Camera(150, 150, 63.5, 63.5, 128, 128), random_light(np.random.default_rng(1))
    hand_instance = HandInstance(rotations, np.zeros(10), np.array([0.02, 0.0, 0.5]), np.eye(3), bare)
    skin = generator.stage.render([hand_instance], camera, light)
    glove = generator.stage.render([hand_instance._replace(appearance=bare._replace(glove=blue))], camera, light)
    assert np.array_equal(skin.hand, glove.hand)
    on_hand, on_arm = glove.hand == 255, (glove.hand == 0) & (glove.rgba[..., 3] == 255)
    assert (glove.rgba[on_hand][:, 0] == 0).all() and on_arm.sum() > 50
    assert np.abs(glove.rgba[on_arm].astype(int) - skin.rgba[on_arm]).mean() < 3


def test_a_shadow_darkens_only_what_lies_behind():
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[20:40, 20:40] = 255
    wall = np.full((64, 64, 3), 200, np.uint8)
    images = [sensor.composite(rgba, wall, np.random.default_rng(k), motion=0.0) for k in range(24)]
    assert all((image[24:36, 24:36] >= 253).all() for image in images)
    shadowed = [image for image in images if (image < 190).any()]
    assert 4 <= len(shadowed) <= 20


def test_the_camera_keeps_the_size_and_follows_the_seed():
    image = np.random.default_rng(0).integers(0, 256, (75, 75, 3), dtype=np.uint8)
    for k in range(30):
        one, other = (sensor.photograph(image, np.random.default_rng(k)) for _ in range(2))
        assert one.shape == image.shape and one.dtype == np.uint8 and np.array_equal(one, other)


def test_shards_of_hard_samples_are_read_as_others(hard_samples, tmp_path):
    write_shard(tmp_path / "shard-00000.tar", iter(hard_samples[:5]))
    assert len(read_shards(tmp_path)) == 5
    assert "challenge" in json.loads(encode(hard_samples[0])["json"])


def test_labels_of_ordinary_samples_are_as_before_and_list_the_other_hand(generator):
    assert set(label(generator.sample(1, 1, size=SIZE))) == {
        *("pose", "shape", "joints_m", "joints_px", "translation_m", "camera", "seed", "others"),
    }


def test_some_pairs_hold_out_a_bowl(monkeypatch):
    made = Generator(Sources(painted_skins=1, materials="train", difficulty="two-hands"), BARE)

    def held_out(always: float) -> np.ndarray:
        """Of a few pairs, which point at the camera with the palm up, and in which the other does, too."""
        monkeypatch.setattr("handmesh.synthetic.generator.MIRRORED", always)
        monkeypatch.setattr("handmesh.synthetic.generator.OFFERED", always)
        poses = np.stack([sample.pose.reshape(16, 3)[0] for sample in made.samples(3, range(16), size=32)])
        rotations = Rotation.from_rotvec(poses).as_matrix()
        return (rotations[:, 2, 0] > 0.3) & (rotations[:, 1, 1] > 0.3)

    assert held_out(1.0).mean() > 0.8 > 0.4 > held_out(0.0).mean()


def test_bowls_are_two_hands_side_by_side_and_in_view():
    made = Generator(Sources(painted_skins=1, materials="train", difficulty="bowls"), BARE)
    samples = made.samples(3, range(12), size=96)
    right = np.stack([sample.joints_px for sample in samples])
    left = np.stack([sample.others_px["left"] for sample in samples])
    for joints in (right, left):
        assert ((joints > -1) & (joints < 96)).all()
    apart = np.linalg.norm(right.mean(1) - left.mean(1), axis=1) / np.ptp(right, axis=1).max(1)
    assert 0.4 < np.median(apart) < 1.6
    little, index = (KEYPOINTS.index(name) for name in ("little1", "index1"))
    between = np.linalg.norm(right - left, axis=-1)
    assert (between[:, little] < between[:, index]).mean() > 0.8
    projected = [geometry.project(sample.joints_m, sample.camera) for sample in samples]
    np.testing.assert_allclose(right, projected, atol=1e-3)


def test_shards_say_where_both_hands_of_a_pair_are(tmp_path):
    made = Generator(Sources(painted_skins=1, materials="train", difficulty="two-hands"), BARE)
    samples = made.samples(3, range(3), size=48)
    write_shard(tmp_path / "shard-00000.tar", iter(samples))
    read = read_shards(tmp_path)
    assert read.knows_others.all() and read.other_left.all()
    for sample, other_px in zip(samples, read.other_px, strict=True):
        assert np.abs(sample.others_px["left"] - other_px).max() < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_hands_are_mirror_images_that_touch(generator, seed):
    rng = np.random.default_rng(seed)
    first = generator.draw_actor(rng, None)
    other = scene.mirror_image(rng, first, generator.draw_actor(rng, None), noise_rad=0.0)
    stage = generator.stage
    _, hand, _ = scene.aim(rng, stage.arm, first, stage.pose([first])[0], SIZE, (0.5, 0.5))
    other, left = scene.beside(rng, stage.arm, hand, other, stage.pose([other])[0])
    joints, vertices = left.joints * [-1, 1, 1], left.vertices * [-1, 1, 1]
    apart = joints.mean(0) - hand.joints.mean(0)
    normal = apart / np.linalg.norm(apart)
    middle = (joints.mean(0) + hand.joints.mean(0)) / 2
    mirrored = hand.joints - 2 * ((hand.joints - middle) @ normal)[:, None] * normal
    assert np.abs(mirrored - joints).max() < 1e-3 and np.allclose(normal, other.towards, atol=1e-3)
    assert cKDTree(hand.vertices).query(vertices)[0].min() < 2 * scene.TOUCH_M


def test_a_sheet_is_one_image_of_crops(tmp_path):
    sheet = GenerateConfig(tmp_path / "sheet.jpg", count=14, size=48, painted_skins=1, sheet=True)
    write_sheet(sheet)
    assert cv2.imread(str(sheet.output)).shape == (192, 1152, 3)
    with pytest.raises(ValueError, match=r"must be a \.jpg file"):
        write_sheet(replace(sheet, output=tmp_path / "sheet"))


def test_signs_are_shown_to_the_camera():
    made = Generator(Sources(painted_skins=1, materials="train", difficulty="signs"), BARE)
    rng = np.random.default_rng(0)
    actors = [made.draw_actor(rng, config.hard_case_of("signs", k)) for k in range(200)]
    palm_normal, fingers = ((np.array([actor.rotations[0] @ axis for actor in actors])) for axis in -np.eye(3)[[1, 0]])
    facing = np.abs(palm_normal[:, 2]) > np.cos(np.radians(72))
    assert 0.68 < facing.mean() < 0.82, "all but those that point at the camera or are seen from an edge"
    assert 0.5 < (palm_normal[facing, 2] < 0).mean() < 0.7, "of these three in five show the palm"
    lying = np.abs(fingers[facing, 0]) > np.abs(fingers[facing, 1])
    assert 0.25 < lying.mean() < 0.5, "three in ten and those that lean most lie"
    assert np.median(fingers[facing][~lying, 1]) < -0.7, "and the others stand upright"


def test_gestures_are_of_hands_that_touch_and_almost_touch():
    made = Generator(Sources(painted_skins=2, materials="train", difficulty="gestures"), BARE)
    samples = list(made.samples(3, range(24), size=48))
    assert {sample.hard_case for sample in samples} == {config.GESTURE}
    touching = [contacts(sample.joints_m)[0].any() for sample in samples]
    assert 0.15 < np.mean(touching) < 0.65, "a third of them pinch"
