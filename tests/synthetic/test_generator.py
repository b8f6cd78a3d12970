"""The synthetic generator: same seed, same files; labels that agree with one another; both layouts."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mano_twin import twin
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.data.freihand import VERSIONS
from handmesh.data.shards import read_shards
from handmesh.geometry import project
from handmesh.hand.mano import convert_mano
from handmesh.hand.model import HandModel
from handmesh.synthetic import renderer, sensor, writer
from handmesh.synthetic.config import SETTINGS_FILE, GenerateConfig, SceneProbabilities, SettingsMismatchError, Sources
from handmesh.synthetic.generator import Generator
from handmesh.synthetic.hand_mesh import Arm
from handmesh.synthetic.renderer import EnvironmentMap, harmonics, random_light
from handmesh.synthetic.scene import Appearance, HandInstance
from handmesh.synthetic.skin import draw_skin, tone
from handmesh.synthetic.writer import LISTS, FreihandWriter, write
from handmesh.types import Camera

VIEW = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # fingers up, palm to the camera
BARE = SceneProbabilities(glove=0, torso=0, head=0, held=0, occluder=0, second_hand=0, cut_off=0)


@pytest.fixture(scope="module")
def arm() -> Arm:
    return Arm.load()


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(Sources(painted_skins=1), BARE)


@pytest.fixture(scope="module")
def samples(generator):
    return generator.samples(5, range(24), size=96)


def order(folder: Path, **changes) -> GenerateConfig:
    return replace(GenerateConfig(folder, count=5, size=48, shard_size=2, seed=3, painted_skins=1), **changes)


def files(folder: Path) -> dict[str, str]:
    """A hash of each file's content."""
    return {
        str(path.relative_to(folder)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SETTINGS_FILE
    }


def test_equal_seeds_give_equal_samples(generator, samples):
    again = generator.samples(5, range(24), size=96)[7]
    for one, other in zip(samples[7], again, strict=True):
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
    assert not np.array_equal(generator.sample(6, 7, size=96).image, samples[7].image)


def test_the_model_gives_the_labelled_joints_and_vertices(generator, samples):
    model = generator.stage.arm.model
    for sample in samples:
        rotations = torch.tensor(Rotation.from_rotvec(sample.pose).as_matrix()).float()
        output = model(rotations[None], torch.tensor(sample.shape).float()[None])
        assert np.abs(output.joints[0].numpy() + sample.translation_m - sample.joints_m).max() < 1e-5
        assert np.abs(output.vertices[0].numpy() + sample.translation_m - sample.vertices_m).max() < 1e-5


def test_the_camera_sees_the_labelled_pixels(samples):
    for sample in samples:
        assert np.abs(project(sample.joints_m, sample.camera) - sample.joints_px).max() < 0.01
        extent = np.ptp(sample.joints_px, axis=0).max() / sample.camera.width
        assert 0.44 < extent < 0.61
        assert 0.2 < sample.joints_m[:, 2].mean() < 1.3


def test_the_mask_covers_the_joints(samples):
    inner = [skeleton.KEYPOINTS.index(f"{finger}{k}") for finger in skeleton.FINGERS[1:] for k in (1, 2, 3)]
    inside = []
    for sample in samples:
        x, y = np.round(sample.joints_px[inner]).astype(int).T
        inside.append(sample.mask[y, x] == 255)
    assert set(np.unique([sample.mask for sample in samples])) == {0, 255}
    assert np.mean(inside) > 0.93
    assert all(0.02 < (sample.mask > 0).mean() < 0.4 for sample in samples)


def test_the_mask_is_where_the_mesh_projects(samples):
    """The mask and the projected vertices have nearly the same bounding box (the wrist's bend moves its end)."""
    for sample in samples:
        vertices = project(sample.vertices_m, sample.camera)
        y, x = np.nonzero(sample.mask)
        tips = vertices[list(skeleton.OPEN_HAND_TIP_VERTICES.values())]
        near = [np.hypot(x - tip[0], y - tip[1]).min() for tip in tips]
        assert np.median(near) < 2.0


def test_occluders_hide_the_hand_and_nothing_else_changes(generator, samples, monkeypatch):
    monkeypatch.setattr(generator, "probabilities", replace(BARE, occluder=1.0))
    hidden = generator.samples(5, range(24), size=96)
    for with_one, without in zip(hidden, samples, strict=True):
        assert np.array_equal(with_one.joints_px, without.joints_px)
        assert ((with_one.mask > 0) <= (without.mask > 0)).all()
    assert sum((s.mask > 0).sum() for s in hidden) < 0.97 * sum((s.mask > 0).sum() for s in samples)


def test_cutouts_are_transparent_outside(generator):
    rgba, joints, camera = generator.render_rgba(1, 2, size=128)
    assert rgba.shape == (128, 128, 4) and rgba.dtype == np.uint8
    assert (rgba[..., 3] == 0).mean() > 0.3
    assert joints.keys() == {"right"} and (camera.width, camera.height) == (128, 128)
    assert joints["right"].shape == (21, 2)


def test_a_pair_is_both_hands_of_one_person_where_their_joints_say(generator):
    for index in range(4):
        rgba, joints, _ = generator.render_rgba(1, index, 192, (0.2, 0.3), pair=True)
        assert joints.keys() == {"right", "left"}
        for side, points in joints.items():
            inside = points[((points > 1) & (points < 190)).all(1)].round().astype(int)
            assert len(inside) < 4 or rgba[inside[:, 1], inside[:, 0], 3].mean() > 200, (index, side)


def test_resumed_and_parallel_runs_write_the_same_files(tmp_path):
    write(order(tmp_path / "whole"))
    write(order(tmp_path / "parallel", workers=2))
    write(order(tmp_path / "resumed"))
    (tmp_path / "resumed" / "shard-00001.tar").unlink()
    (tmp_path / "resumed" / "shard-00002.tar").rename(tmp_path / "resumed" / "shard-00002.tar.123.part")
    untouched = (tmp_path / "resumed" / "shard-00000.tar").stat().st_mtime_ns
    write(order(tmp_path / "resumed"))
    assert files(tmp_path / "whole") == files(tmp_path / "parallel") == files(tmp_path / "resumed")
    assert (tmp_path / "resumed" / "shard-00000.tar").stat().st_mtime_ns == untouched


def test_a_folder_begun_with_other_settings_is_refused(tmp_path):
    write(order(tmp_path, count=1))
    with pytest.raises(SettingsMismatchError, match="seed 3 there, 4 now"):
        write(order(tmp_path, count=1, seed=4))


def test_shards_are_read_by_the_training_reader(tmp_path):
    write(order(tmp_path))
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        assert tar.getnames() == [f"0000000{k}.{suffix}" for k in (0, 1) for suffix in ("jpg", "png", "json")]
    shards = read_shards(tmp_path)
    assert len(shards) == 5 and list(shards.seeds) == [0, 1, 2, 3, 4]
    assert shards.decode(4).shape == (48, 48, 3) and shards.mask(4).shape == (48, 48)
    assert np.abs(project(shards.joints_m[4], shards.camera_of(4)) - shards.joints_px[4]).max() < 0.02


@pytest.fixture(scope="module")
def twin_mano(tmp_path_factory) -> Path:
    """The stand-in for MANO, converted."""
    path = tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl"
    twin.write_twin(path)
    return convert_mano(path).path


def freihand_config(folder: Path, **changes) -> GenerateConfig:
    return order(folder, layout="freihand", count=3, evaluation_count=2, **changes)


@pytest.fixture(scope="module", params=["open hand", "mano"])
def freihand(request, tmp_path_factory, twin_mano) -> tuple[Path, HandModel]:
    """A set in FreiHAND's layout and the hand model that it was made with."""
    hand_model = twin_mano if request.param == "mano" else None
    folder = tmp_path_factory.mktemp("freihand")
    write(freihand_config(folder, hand_model=hand_model))
    return folder, HandModel.load(hand_model)


def freihand_lists(folder: Path, split: str) -> dict[str, list]:
    return {path.stem.partition("_")[2]: json.loads(path.read_text()) for path in folder.glob(f"{split}_*.json")}


def test_freihand_layout(freihand):
    folder, model = freihand
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} - {SETTINGS_FILE}
    lists = {f"{split}_{name}.json" for split in ("training", "evaluation") for name in LISTS}
    images = {f"training/rgb/{k:08d}.jpg" for k in range(12)} | {f"evaluation/rgb/{k:08d}.jpg" for k in range(2)}
    assert names == lists | {"evaluation_errors.json"} | images | {f"training/mask/{k:08d}.jpg" for k in range(3)}
    for split, rows in (("training", 3), ("evaluation", 2)):
        shapes = {name: np.array(values).shape for name, values in freihand_lists(folder, split).items()}
        points = {"xyz": (rows, 21, 3), "verts": (rows, model.num_vertices, 3)}
        errors = {"errors": (rows,)} if split == "evaluation" else {}
        assert shapes == {"K": (rows, 3, 3), "scale": (rows,), "mano": (rows, 1, 61), **points, **errors}


def test_freihand_numbers_give_freihand_points(freihand):
    """The data set's own rules: mean pose, joint 9 from uv and scale, joints regressed from the posed vertices."""
    folder, model = freihand
    mean = Rotation.from_matrix(model.mean_pose.numpy()).as_rotvec()
    for split in ("training", "evaluation"):
        lists = {name: np.array(values) for name, values in freihand_lists(folder, split).items()}
        for K, scale, xyz, verts, numbers in zip(*(lists[name] for name in LISTS), strict=True):
            pose, shape, uv, size = np.split(numbers[0], [48, 58, 60])
            rotations = Rotation.from_rotvec(pose.reshape(16, 3) + np.vstack([np.zeros(3), mean])).as_matrix()
            output = model(torch.from_numpy(rotations)[None].float(), torch.from_numpy(shape)[None].float())
            root = np.append(uv - K[:2, 2], (K[0, 0] + K[1, 1]) / 2) / size
            shift = root - output.joints[0, 9].numpy()
            assert np.abs(output.joints[0].numpy() + shift - xyz).max() < 1e-5
            assert np.abs(output.vertices[0].numpy() + shift - verts).max() < 1e-5
            assert abs(scale - np.linalg.norm(xyz[9] - xyz[10])) < 2e-6
            assert np.array_equal(K[2], [0, 0, 1]) and xyz[:, 2].min() > 0.1


def test_freihand_tips_are_its_own_on_manos_mesh(freihand):
    folder, model = freihand
    tips = skeleton.FREIHAND_TIP_VERTICES if model.num_vertices == 778 else skeleton.OPEN_HAND_TIP_VERTICES
    lists = freihand_lists(folder, "training")
    for name, vertex in tips.items():
        joint = skeleton.KEYPOINTS.index(name)
        assert np.array_equal(np.array(lists["xyz"])[:, joint], np.array(lists["verts"])[:, vertex])


def test_all_versions_of_a_row_show_the_same_hand(tmp_path):
    write(order(tmp_path, layout="freihand", count=4, size=96))
    rgb, mask = tmp_path / "training" / "rgb", tmp_path / "training" / "mask"
    for row in range(4):
        hand = cv2.erode(cv2.imread(str(mask / f"{row:08d}.jpg"), 0), np.ones((3, 3))) > 127
        images = [cv2.imread(str(rgb / f"{row + 4 * version:08d}.jpg")) for version in range(len(VERSIONS))]
        grey = [cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (0, 0), 2)[hand] for image in images]
        assert np.corrcoef(grey).min() > 0.5
        behind = [image[:8, :8].reshape(-1, 3).mean(0) for image in images]
        assert behind[0].argmax() == 1 and behind[0][1] > 1.1 * behind[0][[0, 2]].max()  # the green screen
        assert min(np.abs(behind[0] - other).max() for other in behind[1:]) > 10


def test_freihand_evaluation_has_other_hands_than_training(freihand):
    folder, _ = freihand
    training, evaluation = (np.array(freihand_lists(folder, split)["mano"]) for split in ("training", "evaluation"))
    assert np.abs(training[:, None] - evaluation[None]).max((2, 3)).min() > 0.1


def test_freihand_images_have_its_size():
    assert GenerateConfig(Path("x"), layout="freihand").image_size == 224
    assert GenerateConfig(Path("x")).image_size == 160 and GenerateConfig(Path("x"), size=99).image_size == 99


def test_an_interrupted_freihand_set_is_taken_up_again(tmp_path, monkeypatch):
    """Killed in a chunk, between two chunks, between two lists: in the end the same files."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write(freihand_config(whole))
    with monkeypatch.context() as patch:  # as several workers would: chunks are done in any order
        patch.setattr(writer, "remaining_jobs", lambda order, jobs=writer.remaining_jobs: jobs(order)[::-1])
        write(freihand_config(tmp_path / "backwards"))
    assert files(tmp_path / "backwards") == files(whole)

    def stop_after(count: int, function: str) -> None:
        """The writer breaks off at the call after `count` of one of its functions."""
        original, calls = getattr(FreihandWriter, function), []

        def stopping(*arguments):
            calls.append(None)
            if len(calls) > count:
                raise KeyboardInterrupt
            return original(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(FreihandWriter, function, stopping)
            write(freihand_config(broken))

    stop_after(3, "_write_jpg")
    assert not list(broken.glob("parts/*"))
    stop_after(1, "write")
    first = broken / "parts" / "training-00000.npz"
    made = first.stat().st_mtime_ns
    for count in range(8):  # ever further into the merging
        stop_after(count, "_list")
        assert first.stat().st_mtime_ns == made  # nothing that was whole is made again
    stop_after(0, "tidy")
    write(freihand_config(broken))
    assert files(broken) == files(whole)
    write(freihand_config(broken))
    assert files(broken) == files(whole)


@pytest.mark.parametrize(
    ("field", "match"),
    [("skins", "skin texture"), ("backgrounds", "image"), ("environments", "environment map")],
)
def test_empty_folders_are_named(tmp_path, field, match):
    with pytest.raises(FileNotFoundError, match=match):
        Generator(Sources(painted_skins=1, **{field: tmp_path}))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(order(tmp_path / "out", **{field: tmp_path / "nowhere"}))


def test_impossible_orders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--count must be at least 1, got 0"):
        order(tmp_path, count=0)
    with pytest.raises(ValueError, match="--evaluation-count goes with --layout freihand"):
        order(tmp_path, evaluation_count=5)
    with pytest.raises(FileNotFoundError, match="open hand works"):
        write(order(tmp_path / "out", hand_model=tmp_path / "mano.npz"))
    assert not (tmp_path / "out").exists()


def test_settings_of_shards_are_those_of_before(tmp_path):
    """A folder of shards begun before FreiHAND's layout had more settings is still gone on with."""
    assert set(order(tmp_path).settings()) == {
        *("count", "size", "layout", "seed", "shard_size", "skins", "painted_skins", "backgrounds"),
        *("backgrounds_split", "environments", "hand_model", "version", "materials", "difficulty"),
    }
    assert GenerateConfig(tmp_path).settings()["size"] == 160 and order(tmp_path).settings()["version"] == 6


def test_backgrounds_from_a_folder_keep_to_their_split(tmp_path):
    for k in range(40):
        value = 255 if sensor.held_out(f"{k}.png") else 10
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((32, 32, 3), value, np.uint8))
    for split, value in (("train", 10), ("val", 255)):
        given = sensor.Backgrounds(tmp_path, split)
        means = [given.draw(np.random.default_rng(k), 16).mean() for k in range(40)]
        assert means.count(value) > 20 and 265 - value not in means  # the others are patterns


def test_surfaces_are_closed_and_face_outward(arm):
    for surface in (renderer.cylinder(0.02, 0.1), renderer.ball(0.03), renderer.slab(0.1, 0.2, 0.03)):
        a, b, c = (surface.vertices[surface.faces[:, k]] for k in range(3))
        assert np.einsum("fi,fi->f", a, np.cross(b, c)).sum() > 0  # signed volume
    sides = [tuple(side) for k in range(3) for side in arm.faces[:, [k, (k + 1) % 3]].tolist()]
    directed = set(sides)
    assert len(directed) == len(sides)  # each side once in each direction: consistently oriented
    assert sum((b, a) not in directed for a, b in sides) == len(arm.loop)  # open at the elbow alone


def test_a_bent_wrist_moves_the_forearm_only(arm):
    vertices, joints = arm.skin(np.eye(3)[None, None].repeat(16, 1), np.zeros((1, 10)))
    bend = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    straight, bent = (arm.pose(vertices[0], joints[0], rotation).surface.vertices for rotation in (np.eye(3), bend))
    moved = np.linalg.norm(straight - bent, axis=1)
    assert moved[list(skeleton.OPEN_HAND_TIP_VERTICES.values())].max() == 0
    assert moved[-1] > 0.2


def test_given_hands_are_drawn_where_they_are_put(generator):
    rotations = np.concatenate([VIEW[None], np.eye(3)[None].repeat(15, 0)])
    appearance = Appearance(draw_skin(np.random.default_rng(0), generator.skins))
    hand_instance = HandInstance(rotations, np.zeros(10), np.array([0.02, 0.0, 0.5]), np.eye(3), appearance)
    camera, light = Camera(150, 150, 63.5, 63.5, 128, 128), random_light(np.random.default_rng(1))
    right = generator.stage.render([hand_instance], camera, light)
    left = generator.stage.render([hand_instance._replace(side="left")], camera, light)
    assert np.abs(right.rgba[:, ::-1, 3].astype(int) - left.rgba[..., 3]).max() <= 64  # a sample of four
    joints = project(generator.stage.pose([hand_instance])[0].joints, camera).round().astype(int)
    assert (right.rgba[joints[:, 1], joints[:, 0], 3] == 255).mean() > 0.7


def test_a_hand_without_texture_coordinates_is_laid_out(tmp_path):
    with np.load(OPEN_HAND) as fields:
        np.savez(tmp_path / "bare.npz", **{name: fields[name] for name in fields.files if name not in ("uv", "ft")})
    sample = Generator(Sources(tmp_path / "bare.npz", painted_skins=1), BARE).sample(1, 1, size=64)
    assert (sample.mask > 0).mean() > 0.02


def test_harmonics_light_every_direction_alike_under_an_even_sky():
    light = EnvironmentMap(np.ones((64, 128, 3), np.float32)).light(np.random.default_rng(0))
    directions = np.random.default_rng(1).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shade = harmonics(directions) @ light.surround
    assert np.ptp(shade, axis=0).max() < 0.05 * shade.mean()


def test_tones_darken_steadily():
    tones = np.stack([tone(depth) for depth in np.linspace(0, 1, 11)])
    assert (np.diff(tones, axis=0) < 0).all()
    assert (tones[:, 0] > tones[:, 1]).all() and (tones[:, 1] > tones[:, 2]).all()
