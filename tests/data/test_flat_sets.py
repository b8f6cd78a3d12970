"""COCO-WholeBody, OneHand10K and HInt in their own layouts: labels in two dimensions, of some joints."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch", reason="training data is part of the training extra")

from coco_files import UNLABELLED, write_coco_wholebody, write_onehand10k
from hint_files import write_hint

from handmesh.data.cache import CACHE_FOLDER
from handmesh.data.loader import MixConfig
from handmesh.data.samples import collate, make_crop_sample
from handmesh.data.sets import read_set
from handmesh.data.sets.table import SetError, TableSource
from handmesh.hand.model import HandModel


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Each set once, with the hands that were drawn."""
    writers = {"coco_wholebody": write_coco_wholebody, "onehand10k": write_onehand10k, "hint": write_hint}
    folders = {name: tmp_path_factory.mktemp(name) for name in writers}
    return {name: (folders[name], write(folders[name])) for name, write in writers.items()}


def check_flat(table, i, hand):
    """Row `i` is the drawn hand, but for the joints that nobody labelled, and says nothing of space."""
    labelled = np.isfinite(table.joints_px[i]).all(-1)
    assert np.flatnonzero(~labelled).tolist() == list(UNLABELLED[hand.side])
    assert np.abs(table.joints_px[i] - hand.joints_px)[labelled].max() < 0.1
    assert np.isnan(table.joints_m[i]).all() and table.camera_of(i) is None and table.pose is None
    low, high = hand.joints_px.min(0), hand.joints_px.max(0)
    np.testing.assert_allclose(table.box[i], [*low, *high], atol=0.1)
    assert table.box_of(i).centre_px == pytest.approx((low + high) / 2, abs=0.1)


def test_coco_wholebody_has_both_hands_of_its_people(roots):
    root, truth = roots["coco_wholebody"]
    table = read_set("coco_wholebody", root)
    assert table.ids.tolist() == [139, 139, 285] and table.left.tolist() == [False, True, False]
    for i, hand in enumerate(hand for hands in truth for hand in hands):
        check_flat(table, i, hand)
        assert table.side(i) == hand.side and table.image(i).shape == (240, 320, 3)


def test_onehand10k_has_no_sides(roots):
    root, truth = roots["onehand10k"]
    table = read_set("onehand10k", root)
    assert [name.decode() for name in table.images] == ["Train/source/0.jpg", "Train/source/1.jpg"]
    for i, hand in enumerate(truth):
        check_flat(table, i, hand)
        assert table.image(i).shape == (339, 226, 3)
    assert len(read_set("onehand10k", root, "test")) == 2


@pytest.mark.parametrize("name, sides", [("coco_wholebody", 1.0), ("onehand10k", 0.0)])
def test_two_dimensional_sets_teach_two_dimensions_alone(roots, name, sides):
    source = TableSource(read_set(name, roots[name][0]), HandModel.load(), masks=True)
    rng = np.random.default_rng(0)
    batch = collate([make_crop_sample(source[i], 64, 1.5, None, rng) for i in range(2)])
    counts = [21 - len(UNLABELLED[side]) for side in ("right", "left")]
    assert batch.has_joints_crop.sum(1).tolist() == counts and batch.presence.tolist() == [1, 1]
    for field in ("has_joints_m", "has_weak_3d", "has_vertices", "has_parameters", "has_mask"):
        assert getattr(batch, field).sum() == 0, field
    assert batch.has_side.tolist() == [sides] * 2


def test_hint_says_what_exists_and_what_is_hidden(roots):
    root, truth = roots["hint"]
    table = read_set("hint", root, "TEST_epick_img")
    assert len(table) == 2 and table.left.tolist() == [False, True]
    for i in range(2):
        stem = table.images[i].decode().removesuffix(".jpg")
        label = json.loads((root / f"{stem}.json").read_text())[0]
        exists = np.array(label["existence"]) == 1
        np.testing.assert_array_equal(np.isfinite(table.joints_px[i]).all(-1), exists)
        np.testing.assert_allclose(table.joints_px[i][exists], truth[stem].joints_px[exists], atol=1e-3)
        np.testing.assert_array_equal(table.visible[i], exists & (np.array(label["occlusion"]) == 0))


def test_hint_is_not_to_be_trained_on():
    assert "hint" not in MixConfig().sets and "coco_wholebody" in MixConfig().sets


@pytest.mark.parametrize("name, broken, reason", [
    ("coco_wholebody", {"annotations/coco_wholebody_train_v1.0.json": '{"annotations": [{"id": 3}], "images": []}'},
     "is not COCO-WholeBody's .'righthand_valid'"),
    ("onehand10k", {"annotations/onehand10k_train.json": '{"annotations": [{"keypoints": [1, 2, 3]}]}'},
     "is not OneHand10K's"),
    ("onehand10k", {"annotations/onehand10k_train.json": '{"annotations": [{"keyp'}, "damaged or cut short"),
])  # fmt: skip
def test_damaged_labels_are_told_in_a_line(roots, tmp_path, name, broken, reason):
    root = shutil.copytree(roots[name][0], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    for file, text in broken.items():
        (root / file).write_text(text)
    with pytest.raises(SetError, match=reason):
        read_set(name, root)


@pytest.mark.parametrize("label, reason", [
    ("{}", "no label of HInt's"), ("[{}]", "no label of HInt's"), ("[", "is not JSON"),
    ('[{"keypoints": [[1, 2]], "existence": [1], "occlusion": [0], "bbox": [[0, 0, 1, 1]]}]', r"must be \(21, 2\)"),
])  # fmt: skip
def test_damaged_labels_of_hint_are_named(roots, tmp_path, label, reason):
    root = shutil.copytree(roots["hint"][0], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    next((root / "TEST_newdays_img").glob("*_l.json")).write_text(label)
    with pytest.raises(SetError, match=f"_l.json.*{reason}"):
        read_set("hint", root)


def test_what_is_missing_is_told_with_where_to_get_it(roots, tmp_path):
    with pytest.raises(SetError, match=r"none of their images: Ego4D's are not in the archive"):
        read_set("hint", roots["hint"][0], "TEST_ego4d_img")
    for name, reason in (("hint", "no labels in TEST_newdays_img/"), ("onehand10k", "lacks annotations/onehand10k_")):
        with pytest.raises(SetError, match=f"{reason}.*is to be had at https://"):
            read_set(name, tmp_path)
    (tmp_path / "annotations").mkdir()
    shutil.copy(roots["coco_wholebody"][0] / "annotations/coco_wholebody_train_v1.0.json", tmp_path / "annotations")
    with pytest.raises(SetError, match="lacks train2017/; COCO-WholeBody is to be had at"):
        read_set("coco_wholebody", tmp_path)
