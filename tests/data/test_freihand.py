"""FreiHAND on disk: labels and images as written, the cache of its lists, and sets that are not whole."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from freihand_files import LISTS, make_label, read_list, write_freihand, write_list  # noqa: E402

from handmesh import skeleton  # noqa: E402
from handmesh.data import freihand  # noqa: E402
from handmesh.data.cache import CACHE_FOLDER  # noqa: E402
from handmesh.data.freihand import (  # noqa: E402  # noqa: E402
    VERSIONS,
    FreihandError,
    FreihandSource,
    load_list,
    read_freihand,
    read_rows,
)
from handmesh.data.samples import (  # noqa: E402
    AugmentConfig,
    HandSample,
    make_crop_sample,
    mirrored,
)
from handmesh.files import OutputError  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.types import Box  # noqa: E402

ROWS, EVALUATION, SIZE = 3, 2, 96


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return HandModel.load()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A set that no test changes."""
    return write_freihand(tmp_path_factory.mktemp("freihand"), ROWS, EVALUATION, size=SIZE)


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A set to be damaged."""
    return shutil.copytree(whole, tmp_path / "freihand", ignore=shutil.ignore_patterns(CACHE_FOLDER))


def test_labels_are_as_written(whole):
    for split, rows in (("training", ROWS), ("evaluation", EVALUATION)):
        freihand = read_freihand(whole, split)
        for name in LISTS:
            written = np.array(read_list(whole, split, name), np.float32)
            np.testing.assert_array_equal(getattr(freihand, name), written.reshape(getattr(freihand, name).shape))
        assert freihand.xyz.shape == (rows, 21, 3) and freihand.mano.shape == (rows, 61)
        assert freihand.scale.shape == (rows,) and freihand.size_px == (SIZE, SIZE)


def test_images_are_numbered_by_row_and_version(whole):
    freihand = read_freihand(whole, "training")
    assert len(freihand) == ROWS * 4
    for i in range(len(freihand)):
        row, version = i % ROWS, i // ROWS
        assert freihand.row(i) == row
        assert freihand.image_path(i).name == f"{row + ROWS * version:08d}.jpg"
        expected = cv2.imread(str(whole / f"training/rgb/{i:08d}.jpg"))[..., ::-1]
        np.testing.assert_array_equal(freihand.image(i), expected)
    with pytest.raises(IndexError):
        freihand.row(len(freihand))


def test_chosen_versions_keep_their_ids(whole):
    freihand = read_freihand(whole, "training", ("auto", "hom"))
    assert [freihand.image_path(i).name for i in (0, ROWS)] == [f"{ROWS * 3:08d}.jpg", f"{ROWS:08d}.jpg"]
    assert len(freihand) == ROWS * 2
    for versions in ((), ("gs", "homm")):
        with pytest.raises(ValueError, match="at least one of gs, hom, sample, auto"):
            read_freihand(whole, "training", versions)
    with pytest.raises(ValueError, match="valid: training, evaluation"):
        read_freihand(whole, "test")


def test_every_version_has_its_rows_mask_and_evaluation_has_none(whole):
    freihand = read_freihand(whole, "training")
    assert set(np.unique(freihand.mask(0))) == {0, 255}
    np.testing.assert_array_equal(freihand.mask(1), freihand.mask(1 + 2 * ROWS))
    evaluation = read_freihand(whole, "evaluation")
    assert len(evaluation) == EVALUATION and evaluation.mask(0) is None
    assert evaluation.image_path(1) == whole / "evaluation/rgb/00000001.jpg"


def test_the_camera_sees_the_hand_where_the_mask_is(whole, hand):
    freihand = read_freihand(whole, "training")
    source = FreihandSource(freihand, hand)
    for i in range(ROWS):
        item = source[i]
        K = read_list(whole, "training", "K")[i]
        assert (item.camera.fx, item.camera.cy) == pytest.approx((K[0][0], K[1][2]), rel=1e-6)
        pixels = (np.array(read_list(whole, "training", "xyz")[i]) @ np.array(K).T)[:, :2]
        np.testing.assert_allclose(item.joints_px, pixels / item.joints_m[:, 2:], atol=1e-3)
        column, line = item.joints_px[[skeleton.ROOT, skeleton.WRIST]].mean(0).round().astype(int)
        assert item.mask[line, column] == 255


def test_mano_numbers_give_the_labelled_mesh(whole, hand):
    source = FreihandSource(read_freihand(whole, "training"), hand)
    for i in range(ROWS):
        item = source[i]
        output = hand(torch.from_numpy(item.rotations)[None], torch.from_numpy(item.shape)[None])
        joints, vertices = output.joints[0].numpy(), output.vertices[0].numpy()
        shift = item.joints_m[skeleton.ROOT] - joints[skeleton.ROOT]
        np.testing.assert_allclose(joints + shift, item.joints_m, atol=1e-6)
        np.testing.assert_allclose(vertices + shift, item.vertices_m, atol=1e-6)


def test_a_hand_of_another_mesh_keeps_the_joints_alone(root, hand):
    freihand = read_freihand(root, "training")
    write_list(root, "training", "verts", np.zeros((ROWS, 778, 3)).tolist())
    with pytest.warns(UserWarning, match="778 vertices, the hand model has 1689"):
        item = FreihandSource(read_freihand(root, "training"), hand)[0]
    assert item.vertices_m is item.rotations is item.shape is None
    np.testing.assert_array_equal(item.joints_m, freihand.xyz[0])


def test_draws_depend_on_the_generator_alone(whole, hand):
    source = FreihandSource(read_freihand(whole, "training"), hand)
    first, again = (source.draw(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    drawn = {source.draw(np.random.default_rng(k)).image.tobytes() for k in range(60)}
    assert len(drawn) == len(source)


def test_survives_pickling_for_worker_processes(whole, hand):
    source = FreihandSource(read_freihand(whole, "training", ("hom",)), hand)
    data = pickle.dumps(source.freihand)
    assert len(data) < 2000, "a worker maps the vertices for itself"
    copy = pickle.loads(data)
    assert copy.versions == ("hom",)
    np.testing.assert_array_equal(copy.verts, source.freihand.verts)


# mirror


def test_the_training_crop_of_a_mirrored_item_is_the_originals(whole, hand):
    item = FreihandSource(read_freihand(whole, "training"), hand)[1]
    image = (item.image.astype(int) + np.arange(SIZE)[:, None]).clip(0, 255).astype(np.uint8)
    item = item._replace(image=image)
    samples = [make_crop_sample(each, 64, 1.4, None, np.random.default_rng(0)) for each in (item, mirrored(item))]
    for name, one, other in zip(samples[0]._fields, *samples, strict=True):
        tolerance = 1 if name == "image" else 1e-5
        np.testing.assert_allclose(np.float64(one), np.float64(other), atol=tolerance, err_msg=name)
    assert samples[0].presence == samples[0].has_parameters == samples[0].has_mask == 1


def test_a_mirrored_item_is_a_left_hand_before_a_mirrored_camera(whole, hand):
    item = FreihandSource(read_freihand(whole, "training"), hand)[0]
    flipped = mirrored(item)
    assert flipped.side == "left" and mirrored(flipped).side == "right"
    np.testing.assert_array_equal(flipped.image[:, 0], item.image[:, -1])
    np.testing.assert_array_equal(flipped.mask[:, 3], item.mask[:, -4])
    focal, centre = (flipped.camera.fx, flipped.camera.fy), (flipped.camera.cx, flipped.camera.cy)
    seen = flipped.joints_m[:, :2] / flipped.joints_m[:, 2:] * focal + centre
    np.testing.assert_allclose(seen, flipped.joints_px, atol=1e-3)
    np.testing.assert_allclose(seen[:, 0], SIZE - 1 - item.joints_px[:, 0], atol=1e-3)
    np.testing.assert_allclose(mirrored(flipped).joints_px, item.joints_px, atol=1e-4)
    around = Box.around(flipped.joints_px)
    assert flipped.box.centre_px == pytest.approx(around.centre_px, abs=1e-3)
    assert flipped.box.angle_rad == pytest.approx(around.angle_rad, abs=1e-5)


def test_an_image_without_a_hand_can_be_mirrored():
    empty = HandSample(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), Box((1.0, 2.0), 3.0))
    assert mirrored(empty).box == Box((3.0, 2.0), 3.0, -0.0)
    np.testing.assert_array_equal(mirrored(mirrored(empty)).image, empty.image)


def test_flipped_and_plain_draws_make_equal_targets_under_augmentation(whole, hand):
    """A flip changes nothing that the network is told: not the side, and not the hand's own shape."""
    item = FreihandSource(read_freihand(whole, "training"), hand)[0]
    plain = AugmentConfig(rotation_deg=0, any_rotation=0, shift=0, colour=False, wrong_side=0)
    one, other = (make_crop_sample(each, 64, 1.4, plain, np.random.default_rng(5)) for each in (item, mirrored(item)))
    np.testing.assert_allclose(one.vertices_m, other.vertices_m, atol=1e-5)
    np.testing.assert_allclose(one.joints_crop, other.joints_crop, atol=1e-4)
    assert one.right == other.right == 1


# the cache


def test_the_cache_saves_parsing_and_notices_a_new_list(root, monkeypatch):
    first = read_freihand(root, "training")
    with monkeypatch.context() as patched:
        patched.setattr(freihand, "parsed_rows", lambda *_: pytest.fail("parsed again"))
        again = read_freihand(root, "training")
    for name in LISTS:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert isinstance(again.verts, np.memmap), "the vertices stay on disk"
    other = [make_label(HandModel.load(), seed)["xyz"] for seed in (50, 51, 52)]
    write_list(root, "training", "xyz", other)
    np.testing.assert_array_equal(read_freihand(root, "training").xyz, np.float32(other))
    assert len(list((root / CACHE_FOLDER).glob("training_xyz.*"))) == 1, "the old one is removed"


def test_a_list_of_the_same_length_but_newer_is_read_again(root):
    path = root / "training_scale.json"
    read_freihand(root, "training")
    write_list(root, "training", "scale", [1.5, 2.5, 3.5])
    size = path.stat().st_size
    np.testing.assert_array_equal(read_freihand(root, "training").scale, [1.5, 2.5, 3.5])
    write_list(root, "training", "scale", [1.5, 2.5, 4.5])
    assert path.stat().st_size == size
    np.testing.assert_array_equal(read_freihand(root, "training").scale, [1.5, 2.5, 4.5])


def test_a_damaged_cache_is_replaced(root):
    read_freihand(root, "training")
    for cached in (root / CACHE_FOLDER).iterdir():
        cached.write_bytes(cached.read_bytes()[: -200 if "verts" in cached.name else 10])
    np.testing.assert_array_equal(read_freihand(root, "training").xyz, np.float32(read_list(root, "training", "xyz")))


def test_a_kill_leaves_no_half_cache(root, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            load_list(root / "training_xyz.json", "xyz")
    assert list((root / CACHE_FOLDER).iterdir()) == []
    left_by_a_kill = root / CACHE_FOLDER / "training_xyz.1-2-3.npy.abc.part"
    being_written = left_by_a_kill.with_suffix(".def.part")
    for part, age_s in ((left_by_a_kill, 7200), (being_written, 5)):
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age_s,) * 2)
    load_list(root / "training_xyz.json", "xyz")
    assert not left_by_a_kill.exists() and being_written.exists()


def test_a_folder_that_cannot_be_written_is_cached_for_the_user(root, tmp_path, monkeypatch):
    (root / CACHE_FOLDER).write_text("a file: no folder can be made here, not even by root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = read_freihand(root, "training")
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == len(LISTS)
    monkeypatch.setattr(freihand, "parsed_rows", lambda *_: pytest.fail("parsed again"))
    np.testing.assert_array_equal(read_freihand(root, "training").verts, first.verts)


def test_no_place_for_the_cache(root, tmp_path, monkeypatch):
    (root / CACHE_FOLDER).write_text("")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"written neither to .* nor .*XDG_CACHE_HOME"):
        read_freihand(root, "training")


def test_start_up_from_the_cache_is_quick(tmp_path):
    """32,560 rows must open within 3 s: so a tenth of them within 0.3 s, with a parse of seconds before."""
    rows = 3256
    rng = np.random.default_rng(0)
    for name, shape in {"K": (3, 3), "scale": (), "xyz": (21, 3), "verts": (100, 3), "mano": (1, 61)}.items():
        row = json.dumps(rng.normal(size=shape).tolist())
        (tmp_path / f"training_{name}.json").write_text(f"[{', '.join([row] * rows)}]")
    image = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for folder in ("rgb", "mask"):
        (tmp_path / "training" / folder).mkdir(parents=True)
        for row in (0, rows - 1):
            (tmp_path / f"training/{folder}/{row:08d}.jpg").write_bytes(image)
    parsing, starting = (_seconds(lambda: read_freihand(tmp_path, "training", ["gs"])) for _ in range(2))
    assert starting < 0.3 and starting < parsing / 5


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.parametrize("chunk", [1, 3, 7, 50, 10_000])
def test_rows_are_the_same_however_the_text_is_cut(chunk):
    rows = [[1.25, -2e-3], 17, 3.5, [[], [[4]]], 120]

    class Dribble(io.StringIO):
        def read(self, size: int = -1) -> str:
            return super().read(min(size, chunk))

    for text in (json.dumps(rows), json.dumps(rows, indent=2), json.dumps(rows, separators=(",", ":")) + "\n"):
        assert list(read_rows(Dribble(text))) == rows


@pytest.mark.parametrize("text", ["", "[", "[1, 2", "[1, 2,", "[[1, 2], [3"])
def test_a_cut_list_is_noticed(text):
    with pytest.raises(EOFError):
        list(read_rows(io.StringIO(text)))


@pytest.mark.parametrize("text", ["<html>", '{"K": 1}'])
def test_what_is_no_list_is_noticed(text):
    with pytest.raises(ValueError, match="expected a list"):
        list(read_rows(io.StringIO(text)))


def test_text_that_is_no_json_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(freihand, "CHUNK", 64)
    stream = io.StringIO("[1, 2, oops" + "x" * 10_000)
    with pytest.raises(ValueError, match="not JSON: 'oops"):
        list(read_rows(stream))
    assert stream.tell() < 1000


# sets that are not whole


def test_wrong_paths_say_what_to_do(root, tmp_path):
    archive = tmp_path / "FreiHAND_pub_v2.zip"
    archive.write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    for path, remedy in {
        root.parent: rf"holds training_K\.json and training/rgb: name {root} instead",
        root / "training": f"name {root} instead",
        root / "training" / "rgb": f"name {root} instead",
        tmp_path / "nothing": "no such folder; the set is to be had at https",
        tmp_path / "empty": r"unpack FreiHAND_pub_v2\.zip there, to be had at https",
        archive: f"unpack it .unzip {archive}",
    }.items():
        with pytest.raises(FreihandError, match=remedy):
            read_freihand(path, "training")


def test_a_missing_list_is_named(root):
    (root / "training_mano.json").unlink()
    with pytest.raises(FreihandError, match=r"lacks training_mano\.json: unpack FreiHAND_pub_v2\.zip again"):
        read_freihand(root, "training")


@pytest.mark.parametrize("name", ["rgb/00000011.jpg", "rgb/00000000.jpg", "mask/00000002.jpg"])
def test_missing_images_are_noticed(root, name):
    (root / "training" / name).unlink()
    with pytest.raises(FreihandError, match=rf"{name} is missing: .*check-freihand"):
        read_freihand(root, "training")


def test_a_version_that_is_not_needed_may_be_missing(root):
    for row in range(ROWS):
        (root / f"training/rgb/{row + 3 * ROWS:08d}.jpg").unlink()
    assert len(read_freihand(root, "training", VERSIONS[:3])) == 3 * ROWS


def test_a_truncated_list_is_named(root):
    path = root / "training_verts.json"
    path.write_text(path.read_text()[:-100])
    with pytest.raises(FreihandError, match=r"training_verts\.json: it ends in the middle, after 2 rows.*Unpack"):
        read_freihand(root, "training")
    assert not list((root / CACHE_FOLDER).glob("*verts*"))


@pytest.mark.parametrize(
    ("name", "rows", "reason"),
    [
        ("K", [np.eye(3).tolist()] * 2 + [[1, 2]], r"training_K\.json: row 2: expected 3 x 3 finite numbers"),
        ("xyz", [[[0.0, 0, float("nan")]] * 21] * 3, r"training_xyz\.json: row 0: expected 21 x 3 finite"),
        ("verts", [[[0, 0, 1]] * 9, [[0, 0, 1]] * 8, []], r"training_verts\.json: row 1: expected 9 x 3 finite"),
        ("mano", [[["a"] * 61]] * 3, r"training_mano\.json: row 0: could not convert"),
        ("scale", [0.03, 0.03], r"different numbers of rows \(K: 3, scale: 2"),
    ],
)
def test_bad_rows_are_named(root, name, rows, reason):
    write_list(root, "training", name, rows)
    with pytest.raises(FreihandError, match=reason):
        read_freihand(root, "training")


def test_evaluation_without_labels_still_serves_a_submission(root, hand):
    for name in ("xyz", "verts", "mano"):
        (root / f"evaluation_{name}.json").unlink()
    freihand = read_freihand(root, "evaluation")
    assert freihand.image(1).shape == (SIZE, SIZE, 3) and freihand.camera(1).fx > 0
    with pytest.raises(FreihandError, match=r"lacks evaluation_xyz\.json: .*FreiHAND_pub_v2_eval\.zip.*submission"):
        FreihandSource(freihand, hand)
    with pytest.raises(FreihandError, match=r"evaluation_xyz\.json, evaluation_verts\.json"):
        freihand.require("xyz", "verts")


def test_evaluation_needs_K_and_scale(root):
    (root / "evaluation_K.json").unlink()
    with pytest.raises(FreihandError, match=r"lacks evaluation_K\.json: unpack FreiHAND_pub_v2\.zip"):
        read_freihand(root, "evaluation")


def test_a_damaged_image_is_named(root):
    path = root / "training/rgb/00000001.jpg"
    path.write_bytes(path.read_bytes()[:50])
    freihand = read_freihand(root, "training")
    with pytest.raises(FreihandError, match=r"00000001\.jpg.*check-freihand"):
        freihand.image(1)
    path.unlink()
    with pytest.raises(FreihandError, match=r"00000001\.jpg.*check-freihand"):
        freihand.image(1)
    (root / "training/mask/00000001.jpg").write_bytes(b"")
    with pytest.raises(FreihandError, match=r"mask.00000001\.jpg.*unpack it again"):
        freihand.mask(1)
