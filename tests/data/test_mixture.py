"""What training crops are drawn from: the fractions of the sources, cutouts on other ground, boxes by protocol."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("torch", reason="training data is part of the training extra")

from freihand_files import write_freihand
from set_files import another_hand, true_hand

from handmesh.crop import crop_affine, warp
from handmesh.data.cutouts import Cutout, CutoutHand, CutoutSet, write_cutouts
from handmesh.data.freihand import FreihandSource, read_freihand
from handmesh.data.loader import MixConfig
from handmesh.data.mixture import CutoutSource, WithCropProtocol, mixed_sources, sources_of
from handmesh.data.samples import make_crop_sample
from handmesh.data.shards import write_tar
from handmesh.hand.model import HandModel
from handmesh.types import Box

RED, BLUE = (220, 30, 30), (20, 20, 200)


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    """A folder with one red disc for a hand, and one with a blue image to lie on."""
    folder = tmp_path_factory.mktemp("cutouts")
    rgba = np.zeros((100, 120, 4), np.uint8)
    rgba[..., :3] = RED
    cv2.circle(rgba, (60, 50), 30, (*RED, 255), -1)
    angles = np.linspace(0, 2 * np.pi, 21, endpoint=False)
    joints_px = np.stack([60 + 25 * np.cos(angles), 50 + 25 * np.sin(angles)], 1).astype(np.float32)
    joints_m = np.random.default_rng(0).normal(0, 0.04, (21, 3)).astype(np.float32)
    write_cutouts(folder / "cutouts", [Cutout(rgba, (CutoutHand("right", joints_px, joints_m=joints_m),))])
    (folder / "ground").mkdir()
    cv2.imwrite(str(folder / "ground" / "1.png"), np.full((200, 300, 3), BLUE[::-1], np.uint8))
    return folder


def test_cutouts_keep_their_weak_3d(cutouts):
    hand = CutoutSet(cutouts / "cutouts")[0].hands[0]
    assert hand.joints_m.shape == (21, 3) and 0.01 < np.abs(hand.joints_m).max() < 0.3


def test_a_cut_out_covers_its_joints_and_the_ground_shows_beside_it(cutouts):
    source = CutoutSource(CutoutSet(cutouts / "cutouts"), [cutouts / "ground"])
    item = source.draw(np.random.default_rng(1))
    column, row = np.round(item.joints_px).astype(int).T
    on_hand, corner = item.image[row, column].astype(int), item.image[2, 2].astype(int)
    assert (on_hand[:, 0] > on_hand[:, 2] + 80).all() and corner[2] > corner[0] + 80
    assert item.weak_3d and item.side == "right" and item.joints_m is not None


def test_a_cut_out_lies_beside_its_mirror_image(cutouts):
    """The image shows both; one is labelled, and of the other the box is known."""
    source = CutoutSource(CutoutSet(cutouts / "cutouts"), [cutouts / "ground"], mirrored=1.0)
    apart = []
    for seed in range(8):
        item = source.draw(np.random.default_rng(seed))
        assert item.other.size_px == pytest.approx(Box.around(item.joints_px).size_px, rel=0.05)
        x, y = np.round(item.other.centre_px).astype(int)
        if 0 <= x < item.image.shape[1] and 0 <= y < item.image.shape[0]:
            assert int(item.image[y, x, 0]) > int(item.image[y, x, 2]) + 60
        apart.append(np.linalg.norm(np.subtract(item.other.centre_px, item.joints_px.mean(0))) / item.other.size_px)
    assert min(apart) > 0.6 and max(apart) < 1.6
    assert source[0].other is None, "what a teacher has seen stays as it was"


def test_cut_outs_need_ground(cutouts):
    with pytest.raises(ValueError, match=r"data\.backgrounds"):
        CutoutSource(CutoutSet(cutouts / "cutouts"), [])


def test_sources_share_as_the_mix_says(cutouts, tmp_path):
    root = write_freihand(tmp_path, rows=2, evaluation=0)
    mix = MixConfig(
        freihand=root, freihand_fraction=0.5, cutouts=(cutouts / "cutouts",), backgrounds=(cutouts / "ground",),
        background_fraction=0.1,
    )  # fmt: skip
    fractions = {type(source).__name__: fraction for fraction, source in sources_of(mix, HandModel.load(), 1.5)}
    shares = {"WithCropProtocol": 0.5, "CutoutSource": 0.4, "BackgroundSource": 0.05, "BesideHands": 0.05}
    assert fractions == pytest.approx(shares)


def test_freihand_shows_what_is_no_hand_even_without_a_folder_of_backgrounds(tmp_path, capsys):
    root = write_freihand(tmp_path, rows=8, evaluation=0, versions=1)
    mix = MixConfig(freihand=root, freihand_versions=("gs",), backgrounds=(tmp_path / "nowhere",))
    hands, beside = mixed_sources(mix, HandModel.load(), 1.5, masks=True)
    assert "there is no folder" in capsys.readouterr().err
    assert (hands.name, beside.name, beside.fraction) == ("freihand", "beside freihand", mix.background_fraction)
    skin = []
    for seed in range(24):
        item = beside.source.draw(np.random.default_rng(seed))
        assert item.joints_px is None
        hand = next(hands.source[k] for k in range(8) if np.array_equal(hands.source[k].image, item.image))
        crop = warp(hand.mask, crop_affine(item.box.scaled(1.5), 32), 32)
        skin.append((crop > 127).mean())
    assert max(skin) < 0.1 and np.mean(skin) < 0.01
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mixed_sources(MixConfig(backgrounds=(tmp_path / "nowhere",)), HandModel.load(), 1.5)


@pytest.mark.parametrize("boxes, side_px", [("centre-130", 130.0), ("gt-keypoints", None), ("rotated", None)])
def test_freihand_is_boxed_by_the_protocol(boxes, side_px, tmp_path):
    root = write_freihand(tmp_path, rows=2, evaluation=0)
    hands = FreihandSource(read_freihand(root, "training", ["gs"]), HandModel.load())
    item, plain = WithCropProtocol(hands, boxes, 1.5)[0], hands[0]
    if side_px:
        assert item.box.scaled(1.5).size_px == pytest.approx(side_px)
    assert item.box.angle_rad == (plain.box.angle_rad if boxes == "rotated" else 0.0)


def test_synthetic_parameters_count_for_the_hand_that_was_rendered_alone(tmp_path):
    """Beside another hand, the open hand's shards teach joints and the image; its numbers would mean another pose."""
    truth, camera = true_hand(3), {"fx": 600.0, "fy": 600.0, "cx": 79.5, "cy": 79.5, "width": 160, "height": 160}
    label = {
        "pose": Rotation.from_matrix(truth.rotations).as_rotvec().tolist(), "shape": truth.shape.tolist(),
        "joints_m": truth.joints_m.tolist(), "translation_m": [0, 0, 0], "seed": 1, "camera": camera,
        "joints_px": (600 * truth.joints_m[:, :2] / truth.joints_m[:, 2:] + 79.5).tolist(),
    }  # fmt: skip
    pixels = {part: cv2.imencode(f".{part}", np.zeros((160, 160), np.uint8))[1].tobytes() for part in ("jpg", "png")}
    write_tar(tmp_path / "shard-00000.tar", [("0", pixels | {"json": json.dumps(label).encode()})])
    for hand, counts in ((HandModel.load(), 1), (another_hand(), 0)):
        ((_, source),) = sources_of(MixConfig(shards=(tmp_path,)), hand, 1.5)
        sample = make_crop_sample(source[0], 64, 1.5, None, np.random.default_rng(0))
        assert sample.has_parameters == counts and sample.has_joints_m == sample.has_joints_crop.min() == 1
