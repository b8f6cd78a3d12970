"""InterHand2.6M and the Rendered Handpose Dataset in their own layouts: two hands of an image are two samples."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from interhand_files import CAPTURE, KEYPOINT_OF, UNLABELLED, views, write_interhand  # noqa: E402
from rhd_files import write_rhd  # noqa: E402

from handmesh.data.cache import CACHE_FOLDER  # noqa: E402
from handmesh.data.samples import make_crop_sample  # noqa: E402
from handmesh.data.sets import read_set  # noqa: E402
from handmesh.data.sets.interhand import to_camera_m, to_world_mm  # noqa: E402
from handmesh.data.sets.table import SetError, TableSource  # noqa: E402
from handmesh.geometry import project  # noqa: E402
from handmesh.hand.mano import read_pickle  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.skeleton import ROOT  # noqa: E402


@pytest.fixture(scope="module")
def interhand(tmp_path_factory):
    """The folder and the true hands of each of its files."""
    root = tmp_path_factory.mktemp("interhand")
    return root, write_interhand(root)


@pytest.fixture(scope="module")
def rhd(tmp_path_factory):
    root = tmp_path_factory.mktemp("rhd")
    return root, write_rhd(root)


def true_hand(truth, table, i):
    """The drawn hand that row `i` is of."""
    hands = truth[table.images[i].decode().removeprefix("images/train/")]
    return next(hand for hand in hands if hand.side == table.side(i))


# InterHand2.6M


def test_each_hand_of_interhand_is_a_sample_where_it_was_drawn(interhand):
    root, truth = interhand
    table = read_set("interhand", root)
    assert sorted(zip(table.images.tolist(), table.left.tolist(), strict=True)) == sorted(
        (f"images/train/{file}".encode(), hand.side == "left") for file, hands in truth.items() for hand in hands
    )
    missing = np.zeros((len(table), 21), bool)
    for i in range(len(table)):
        hand, camera = true_hand(truth, table, i), table.camera_of(i)
        known = np.isfinite(table.joints_m[i]).all(-1)
        missing[i] = ~known
        np.testing.assert_allclose(table.joints_m[i][known], hand.joints_m[known], atol=1e-5)
        assert np.abs(table.joints_px[i] - hand.joints_px)[known].max() < 0.1
        assert np.abs(project(table.joints_m[i], camera) - table.joints_px[i])[known].max() < 0.1
        assert table.image(i).shape == (camera.height, camera.width, 3)
    assert missing.sum(0).tolist() == [2 * (k == KEYPOINT_OF[UNLABELLED]) for k in range(21)]
    assert not missing[table.left].any() and set(table.sequence) == {f"{CAPTURE}/0390_dh_touchROM".encode()}


def test_interhands_numbers_pose_the_hand_that_it_labels(interhand):
    """MANO's numbers of the world, of left hands about the mirrored mean pose, in the camera's frame and the crop's."""
    hand = HandModel.load()
    source = TableSource(read_set("interhand", interhand[0]), hand)
    incomplete = ~source.has_3d
    assert incomplete.sum() == 2 and (source.known == ~incomplete).all()
    for i in np.flatnonzero(source.known):
        sample = make_crop_sample(source[i], 96, 1.5, None, np.random.default_rng(0))
        posed = hand(torch.from_numpy(sample.rotations)[None], torch.from_numpy(sample.shape)[None]).joints[0]
        np.testing.assert_allclose(posed - posed[ROOT], sample.joints_m, atol=3e-5)
        assert sample.right == sample.has_parameters == 1 and sample.has_joints_crop.all()
    flat = make_crop_sample(source[int(np.flatnonzero(incomplete)[0])], 96, 1.5, None, np.random.default_rng(0))
    assert (flat.has_joints_m, flat.has_parameters, flat.has_joints_crop.sum()) == (0, 0, 20)


def test_from_the_world_to_a_camera_and_back():
    rng = np.random.default_rng(0)
    world = rng.normal(scale=500, size=(2, 21, 3))
    rotation = np.stack([view.rotation for view in views()])
    position = np.stack([view.position_mm for view in views()])
    seen = to_camera_m(world, rotation, position)
    np.testing.assert_allclose(to_world_mm(seen, rotation, position), world, atol=1e-9)
    for k, view in enumerate(views()):  # the set's own words: R (x - campos), point by point
        expected = [view.rotation @ (point - view.position_mm) / 1000 for point in world[k]]
        np.testing.assert_allclose(seen[k], expected, atol=1e-12)


def test_interhand_does_without_fits_and_keeps_a_cache(interhand, tmp_path, monkeypatch):
    root = shutil.copytree(interhand[0], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    (root / "annotations/train/InterHand2.6M_train_MANO_NeuralAnnot.json").unlink()
    source = TableSource(read_set("interhand", root), HandModel.load())
    assert source[0].rotations is None and source[0].joints_m is not None
    monkeypatch.setattr("handmesh.data.sets.interhand.read_labels", lambda *_: pytest.fail("read again"))
    assert len(read_set("interhand", root)) == len(source)


def test_hands_outside_the_image_are_left_out(interhand, tmp_path):
    root = shutil.copytree(interhand[0], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    path = root / "annotations/train/InterHand2.6M_train_data.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["joint_valid"][21:] = [[int(k < 10)] for k in range(21)]
    path.write_text(json.dumps(content))
    assert not read_set("interhand", root).left.any()


@pytest.mark.parametrize("part, text, reason", [
    ("data", None, r"lacks annotations.*data\.json; InterHand2\.6M is to be had at https"),
    ("joint_3d", "{}", f"do not agree .no '{CAPTURE}'"),
    ("camera", '{"3": ', r"camera\.json is damaged or cut short"),
    ("data", "[]", "expected an object, got a list"),
])  # fmt: skip
def test_what_is_wrong_with_interhand_is_said_in_a_line(interhand, tmp_path, part, text, reason):
    root = shutil.copytree(interhand[0], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    path = root / f"annotations/train/InterHand2.6M_train_{part}.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(SetError, match=reason):
        read_set("interhand", root)


# RHD


def test_rhds_hands_in_view_are_samples_with_their_own_masks(rhd):
    root, truth = rhd
    table = read_set("rhd", root)
    assert table.ids.tolist() == [0, 0, 1, 1, 2] and table.left.tolist() == [True, False, True, False, True]
    source = TableSource(table, None, masks=True)
    for i in range(len(table)):
        hand = truth[table.ids[i]][0 if table.left[i] else 1]
        item = source[i]
        np.testing.assert_allclose(item.joints_m, hand.joints_m, atol=1e-6)
        assert np.abs(item.joints_px - hand.joints_px).max() < 0.1
        assert np.abs(project(item.joints_m, item.camera) - item.joints_px).max() < 0.1
        assert item.side == hand.side and item.rotations is None
        near = cv2.dilate(item.mask, np.ones((9, 9)))
        column, row = item.joints_px.round().astype(int).T
        assert near[row, column].mean() > 200 and set(np.unique(item.mask)) == {0, 255}, "most joints lie on the hand"
    both = source[0].mask.astype(bool) & source[1].mask.astype(bool)
    assert not both.any()


class Evil:
    def __reduce__(self):
        return os.system, ("echo a pickle was run",)


@pytest.mark.parametrize("content, reason", [
    ({0: {"K": Evil()}}, r"names posix\.system"),
    ({0: {"K": np.eye(3), "xyz": np.zeros((21, 3)), "uv_vis": np.zeros((42, 3))}}, r"xyz must be \(42, 3\)"),
    ({0: {"K": np.eye(3)}}, "'xyz'"),
    ({0: 5}, "unpack RHD again"),
])  # fmt: skip
def test_rhds_pickle_is_read_and_never_run(tmp_path, content, reason, capfd):
    path = tmp_path / "training" / "anno_training.pickle"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(SetError, match=reason):
        read_set("rhd", tmp_path)
    assert "was run" not in capfd.readouterr().out


def test_dictionaries_within_a_pickle_are_read_once_each():
    """However often one stands there, even in itself: a small file does not become a large one."""
    inner = {str(k): np.arange(3) for k in range(100)}
    content = {str(k): inner for k in range(1000)}
    inner["itself"] = inner
    read = read_pickle(pickle.dumps(content, protocol=2))
    assert read["0"] is read["999"] and read["0"]["itself"] is read["0"]
    np.testing.assert_array_equal(read["7"]["3"], [0, 1, 2])


def test_an_empty_folder_is_told_where_to_get_rhd(tmp_path: Path):
    with pytest.raises(SetError, match=r"lacks training/anno_training\.pickle; .*no registration"):
        read_set("rhd", tmp_path)
