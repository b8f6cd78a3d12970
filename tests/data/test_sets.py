"""Research data sets in their own layouts: conventions, what is known of whom, the cache, the check, the mix."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from set_files import CAMERA, another_hand, open_hand, true_hand, write_dexycb, write_ho3d  # noqa: E402

from handmesh.cli import main  # noqa: E402
from handmesh.data.cache import CACHE_FOLDER  # noqa: E402
from handmesh.data.loader import MixConfig, SetConfig  # noqa: E402
from handmesh.data.mixture import sources_of  # noqa: E402
from handmesh.data.samples import collate, make_crop_sample  # noqa: E402
from handmesh.data.sets import SETS, dexycb, read_set  # noqa: E402
from handmesh.data.sets.table import JOINT_ORDERS, SetError, TableSource, keypoints_from, keypoints_to  # noqa: E402
from handmesh.geometry import project  # noqa: E402
from handmesh.skeleton import KEYPOINTS, ROOT  # noqa: E402

WRITERS = {"ho3d": write_ho3d, "dexycb": write_dexycb}


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """Each set once; no test changes them."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


@pytest.mark.parametrize("order", JOINT_ORDERS)
def test_orders_of_joints_lead_there_and_back(order):
    names = JOINT_ORDERS[order]
    assert sorted(names) == sorted(KEYPOINTS)
    points = np.random.default_rng(0).normal(size=(2, 21, 3))
    np.testing.assert_array_equal(keypoints_from(keypoints_to(points, order), order), points)
    assert names[3] == {"keypoints": "thumb3", "mano": "index3", "tips-first": "thumb2", "interhand": "thumb1"}[order]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore:.*lacks subjects")
def test_every_label_says_the_same_hand(roots, name):
    """In space, in the image and as parameters; and what a network is told of it."""
    table = read_set(name, roots[name])
    source = TableSource(table, open_hand(), masks=True)
    assert len(source) == {"ho3d": 4, "dexycb": 8}[name] and source.known.all()
    for i in range(len(source)):
        item = source[i]
        assert np.abs(project(item.joints_m, item.camera) - item.joints_px).max() < 0.1
        sample = make_crop_sample(item, 96, 1.5, None, np.random.default_rng(0))
        posed = open_hand()(torch.from_numpy(sample.rotations)[None], torch.from_numpy(sample.shape)[None]).joints[0]
        np.testing.assert_allclose(posed - posed[ROOT], sample.joints_m, atol=2e-5)
        assert sample.has_joints_m == sample.has_parameters == sample.right == 1 and sample.has_joints_crop.all()


def test_ho3d_comes_as_it_was_posed(roots):
    table = read_set("ho3d", roots["ho3d"])
    assert [table.sequence[k].decode() for k in range(4)] == ["SM1", "ABF10", "SM1", "ABF10"]
    for k in range(4):
        truth = true_hand(len("train") + k)
        np.testing.assert_allclose(table.joints_m[k], truth.joints_m, atol=1e-6)
        assert table.camera_of(k) == CAMERA and table.image(k).shape == (480, 640, 3)


def test_ho3d_evaluation_has_its_truth_or_the_wrist_and_a_box(roots, tmp_path):
    truth = true_hand(len("evaluation") + 1).joints_m
    np.testing.assert_allclose(read_set("ho3d", roots["ho3d"], "evaluation").joints_m[1], truth, atol=1e-6)
    bare = read_set("ho3d", write_ho3d(tmp_path, truth=False, suffix=".png"), "evaluation")
    np.testing.assert_allclose(bare.joints_m[1, 0], truth[0], atol=1e-6)
    assert np.isnan(bare.joints_m[:, 1:]).all() and (bare.box[:, 2:] > bare.box[:, :2]).all()
    item = TableSource(bare, open_hand())[1]
    assert item.joints_m is None and item.box.centre_px == pytest.approx(bare.box[1].reshape(2, 2).mean(0))


class Evil:
    def __reduce__(self):
        return os.system, ("echo a pickle was run",)


@pytest.mark.parametrize("data", [pickle.dumps({"handPose": Evil()}), b"", b"\x80\x02}q"])
def test_hostile_and_damaged_pickles_are_refused(tmp_path, data, capfd):
    root = write_ho3d(tmp_path, train=2, evaluation=0)
    path = root / "train/ABF10/meta/0001.pkl"
    path.write_bytes(data)
    with pytest.raises(SetError, match=r"0001\.pkl is not read: .*unpack the set again"):
        read_set("ho3d", root)
    assert "was run" not in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore:.*lacks subjects")
def test_dexycb_has_both_hands_the_toolkits_numbers_and_masks(roots):
    table = read_set("dexycb", roots["dexycb"], "s2_train")
    assert len(table) == 12 and table.left.all()
    assert table.ids.tolist() == list(range(0, 24, 2)), "frames without a hand have numbers, too"
    right = read_set("dexycb", write_dexycb(roots["dexycb"].parent / "right", sequences=(1,)))
    assert not right.left.any() and read_set("dexycb", roots["dexycb"], "s0_val").left.all()
    np.testing.assert_allclose(table.joints_m[0], true_hand(0, "left").joints_m, atol=1e-6)
    column, row = table.joints_px[0, ROOT].round().astype(int)
    assert table.mask(0)[row, column] == 255 and set(np.unique(table.mask(0))) == {0, 255}


def test_dexycb_splits_share_nothing():
    for setup in ("s0", "s1", "s2", "s3"):
        cells = [
            {(a, b, c) for a in part.subjects for b in part.serials for c in part.sequences}
            for part in (dexycb.PARTS[f"{setup}_{split}"] for split in ("train", "val", "test"))
        ]
        assert sum(map(len, cells)) == len(set.union(*cells)) == 8000


@pytest.mark.filterwarnings("ignore:.*lacks subjects")
@pytest.mark.parametrize("name", WRITERS)
def test_parameters_count_for_their_own_hand_alone(roots, name):
    """The same numbers pose another model otherwise: only joints and the image then teach."""
    item = TableSource(read_set(name, roots[name]), another_hand())[0]
    assert item.rotations is item.shape is None and item.joints_m is not None
    sample = make_crop_sample(item, 96, 1.5, None, np.random.default_rng(0))
    assert (sample.has_parameters, sample.has_joints_m) == (0, 1)


def test_joints_that_are_not_labelled_do_not_count(roots):
    source = TableSource(read_set("ho3d", roots["ho3d"]), None)
    item = source[0]
    some = item.joints_px.copy()
    some[[4, 8]] = np.nan
    rng = np.random.default_rng(0)
    samples = [make_crop_sample(each, 96, 1.5, None, rng) for each in (item, item._replace(joints_px=some))]
    batch = collate(samples)
    assert batch.has_joints_crop.sum(1).tolist() == [21, 19] and torch.isfinite(batch.joints_crop).all()


def test_the_cache_saves_reading_and_notices_new_files(tmp_path, monkeypatch):
    root = write_ho3d(tmp_path, train=2, evaluation=0)
    first = read_set("ho3d", root)
    with monkeypatch.context() as patched:
        patched.setattr("handmesh.data.sets.ho3d.read_pickle", lambda *_: pytest.fail("read again"))
        np.testing.assert_array_equal(read_set("ho3d", root).joints_m, first.joints_m)
    write_ho3d(root, train=3, evaluation=0)
    assert len(read_set("ho3d", root)) == 3
    assert len(list((root / CACHE_FOLDER).glob("ho3d_train.*"))) == 1, "the old one is removed"


def test_a_table_survives_pickling(roots):
    table = pickle.loads(pickle.dumps(read_set("ho3d", roots["ho3d"])))
    assert len(table.rows(table.sequence == b"SM1")) == 2


@pytest.mark.filterwarnings("ignore:.*lacks subjects")
def test_the_mix_takes_sets_with_their_fractions(roots):
    sets = {"ho3d": SetConfig(roots["ho3d"], fraction=0.3), "dexycb": SetConfig(roots["dexycb"], "s2_train", 0.7)}
    found = sources_of(MixConfig(sets=sets, background_fraction=0), open_hand(), 1.5)
    assert [(fraction, source.table.name) for fraction, source in found] == [
        (0.3, "HO-3D train"), (0.7, "DexYCB s2_train"),
    ]  # fmt: skip
    assert found[0][1].draw(np.random.default_rng(0)).image.shape == (480, 640, 3)


# the check


@pytest.mark.filterwarnings("ignore:.*lacks subjects")
@pytest.mark.parametrize("name", WRITERS)
def test_the_check_passes_a_whole_set_and_draws_it(roots, name, tmp_path, capsys):
    assert main(["data", "check", name, str(roots[name]), "--output", str(tmp_path / "sheet.png")]) == 0
    said = capsys.readouterr().out
    assert "nothing is broken" in said and SETS[name].page in said and SETS[name].licence in said
    assert (tmp_path / "sheet.png").stat().st_size > 50_000


def test_the_check_names_what_is_missing(roots, tmp_path, capsys):
    root = shutil.copytree(roots["ho3d"], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    (root / "train/SM1/rgb/0002.jpg").unlink()
    (root / "evaluation.txt").unlink()
    assert main(["data", "check", "ho3d", str(root), "--splits", "train", "evaluation"]) == 1
    said = capsys.readouterr().out
    assert "images: 1 of 4 missing, the first train/SM1/rgb/0002.jpg" in said
    assert f"HO-3D evaluation: {root} lacks evaluation.txt; HO-3D is to be had at https" in said


@pytest.mark.parametrize("args, reason", [
    (("dexycb", "."), "has none of the subjects"), (("nothing", "."), "unknown data set"),
    (("ho3d", "/nowhere"), "there is no folder"),
])  # fmt: skip
def test_wrong_folders_and_names_are_told_in_a_line(args, reason, capsys):
    assert main(["data", "check", *args]) != 0
    said = capsys.readouterr()
    assert reason in said.out + said.err and "Traceback" not in said.err


def test_dexycb_needs_all_sequences_and_warns_of_missing_subjects(roots, tmp_path):
    root = shutil.copytree(roots["dexycb"], tmp_path / "set", ignore=shutil.ignore_patterns(CACHE_FOLDER))
    with pytest.warns(UserWarning, match="lacks subjects of s0_train, which are left out: 20200813-subject-02"):
        read_set("dexycb", root)
    shutil.rmtree(root / dexycb.SUBJECTS[0] / "20200709_140099")
    with pytest.warns(UserWarning), pytest.raises(SetError, match="has 99 sequences, not the 100"):
        read_set("dexycb", root)
