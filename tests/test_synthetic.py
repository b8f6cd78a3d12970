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
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.camera import project
from handmesh.data.shards import read_shards
from handmesh.data.synthetic import backgrounds, mesh, writer
from handmesh.data.synthetic.arm import Arm
from handmesh.data.synthetic.freihand_layout import LISTS
from handmesh.data.synthetic.generator import Chances, Generator, Sources
from handmesh.data.synthetic.lighting import EnvironmentMap, harmonics, random_light
from handmesh.data.synthetic.skin import draw_skin, tone
from handmesh.data.synthetic.stage import Actor, Outfit
from handmesh.data.synthetic.writer import Order, SettingsMismatchError, write
from handmesh.structs import Camera

VIEW = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # fingers up, palm to the camera
BARE = Chances(held=0, occluder=0, second_hand=0)


@pytest.fixture(scope="module")
def arm() -> Arm:
    return Arm.load()


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(Sources(painted_skins=1), BARE)


@pytest.fixture(scope="module")
def samples(generator):
    return generator.samples(5, range(24), size=96)


def order(folder: Path, **changes) -> Order:
    return replace(Order(folder, count=5, size=48, shard_size=2, seed=3, painted_skins=1), **changes)


def files(folder: Path) -> dict[str, str]:
    """A hash of each file's content."""
    return {
        str(path.relative_to(folder)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != writer.SETTINGS_FILE
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
    monkeypatch.setattr(generator, "chances", replace(BARE, occluder=1.0))
    hidden = generator.samples(5, range(24), size=96)
    for with_one, without in zip(hidden, samples, strict=True):
        assert np.array_equal(with_one.joints_px, without.joints_px)
        assert ((with_one.mask > 0) <= (without.mask > 0)).all()
    assert sum((s.mask > 0).sum() for s in hidden) < 0.97 * sum((s.mask > 0).sum() for s in samples)


def test_sprites_are_transparent_outside(generator):
    rgba, joints, camera = generator.render_rgba(1, 2, size=128)
    assert rgba.shape == (128, 128, 4) and rgba.dtype == np.uint8
    assert (rgba[..., 3] == 0).mean() > 0.3
    assert joints.shape == (21, 2) and (camera.width, camera.height) == (128, 128)


def test_resumed_and_parallel_runs_write_the_same_files(tmp_path):
    write(order(tmp_path / "whole"))
    write(order(tmp_path / "parallel", workers=2))
    write(order(tmp_path / "resumed"))
    (tmp_path / "resumed" / "shard-00001.tar").unlink()
    (tmp_path / "resumed" / "shard-00002.tar").rename(tmp_path / "resumed" / "shard-00002.tar.tmp")
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


def test_freihand_layout(tmp_path):
    write(order(tmp_path, layout="freihand", count=3))
    lists = {name: json.loads((tmp_path / f"training_{name}.json").read_text()) for name in LISTS}
    assert all(len(rows) == 3 for rows in lists.values())
    xyz, K = np.array(lists["xyz"]), np.array(lists["K"])
    mano = np.array(lists["mano"])
    assert mano.shape == (3, 1, 61) and np.array(lists["verts"]).shape[2] == 3
    assert np.allclose(lists["scale"], np.linalg.norm(xyz[:, 9] - xyz[:, 10], axis=1), atol=2e-6)
    root = np.concatenate([mano[:, 0, 58:60] - K[:, :2, 2], K[:, :1, 0]], 1) / mano[:, 0, 60:]
    assert np.abs(root - xyz[:, 9]).max() < 1e-4  # the data set's own rule for the root
    assert cv2.imread(str(tmp_path / "training" / "rgb" / "00000002.jpg")).shape == (48, 48, 3)
    assert cv2.imread(str(tmp_path / "training" / "mask" / "00000002.jpg"), 0).max() > 200
    before = files(tmp_path)
    write(order(tmp_path, layout="freihand", count=3))
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("field", "match"),
    [("skins", "skin texture"), ("backgrounds", "picture"), ("environments", "environment map")],
)
def test_empty_folders_are_named(tmp_path, field, match):
    with pytest.raises(FileNotFoundError, match=match):
        Generator(Sources(painted_skins=1, **{field: tmp_path}))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(order(tmp_path / "out", **{field: tmp_path / "nowhere"}))


def test_impossible_orders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--count must be at least 1, got 0"):
        order(tmp_path, count=0)


def test_backgrounds_from_a_folder_keep_to_their_split(tmp_path):
    for k in range(40):
        value = 255 if backgrounds.held_out(f"{k}.png") else 10
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((32, 32, 3), value, np.uint8))
    for split, value in (("train", 10), ("val", 255)):
        given = backgrounds.Backgrounds(tmp_path, split)
        assert all(given._photograph(np.random.default_rng(k), 16).mean() == value for k in range(20))


def test_surfaces_are_closed_and_face_outward(arm):
    for surface in (mesh.cylinder(0.02, 0.1), mesh.ball(0.03), mesh.slab(0.1, 0.2, 0.03)):
        a, b, c = (surface.vertices[surface.faces[:, k]] for k in range(3))
        assert np.einsum("fi,fi->f", a, np.cross(b, c)).sum() > 0  # signed volume
    sides = [tuple(side) for k in range(3) for side in arm.faces[:, [k, (k + 1) % 3]].tolist()]
    directed = set(sides)
    assert len(directed) == len(sides)  # each side once in each direction: consistently oriented
    assert sum((b, a) not in directed for a, b in sides) == len(arm.loop)  # open at the elbow alone


def test_a_bent_wrist_moves_the_forearm_only(arm):
    vertices, joints = arm.skin(np.eye(3)[None, None].repeat(16, 1), np.zeros((1, 10)))
    bend = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    straight, bent = (arm.pose(vertices[0], joints[0], turn).surface.vertices for turn in (np.eye(3), bend))
    moved = np.linalg.norm(straight - bent, axis=1)
    assert moved[list(skeleton.OPEN_HAND_TIP_VERTICES.values())].max() == 0
    assert moved[-1] > 0.2


def test_given_actors_are_drawn_where_they_are_put(generator):
    rotations = np.concatenate([VIEW[None], np.eye(3)[None].repeat(15, 0)])
    outfit = Outfit(draw_skin(np.random.default_rng(0), generator.skins))
    actor = Actor(rotations, np.zeros(10), np.array([0.02, 0.0, 0.5]), np.eye(3), outfit)
    camera, light = Camera(150, 150, 63.5, 63.5, 128, 128), random_light(np.random.default_rng(1))
    right = generator.stage.render([actor], camera, light)
    left = generator.stage.render([actor._replace(side="left")], camera, light)
    assert np.abs(right.rgba[:, ::-1, 3].astype(int) - left.rgba[..., 3]).max() <= 64  # a sample of four
    joints = project(generator.stage.pose([actor])[0].joints, camera).round().astype(int)
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
