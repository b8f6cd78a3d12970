"""A teacher's features of cached views: of which crop they are, and that a student learns from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")
onnx = pytest.importorskip("onnx", reason="a teacher is an ONNX file")
pytest.importorskip("lightning_fabric", reason="distillation needs the training extra")

from handmesh.data.cutouts import Cutout, CutoutHand, CutoutSet, write_cutouts  # noqa: E402
from handmesh.data.mixture import CutoutSource  # noqa: E402
from handmesh.data.samples import (  # noqa: E402
    AugmentConfig,
    HandSample,
    collate,
    make_crop_sample,
)
from handmesh.data.teacher import (  # noqa: E402
    CELLS,
    STRETCH,
    Bank,
    TaughtSource,
    Teacher,
    TeacherFeatures,
    open_landmark_teacher,
    read_banks,
    teach,
    view_stretches,
    write_bank,
)
from handmesh.files import write_image  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.models.mesh_net import HandNet, NetworkConfig  # noqa: E402
from handmesh.training.losses import FeatureStudent, matching_losses  # noqa: E402
from handmesh.types import Box  # noqa: E402


def colours_of(crops: np.ndarray) -> TeacherFeatures:
    """A teacher whose map is the image in 14 x 14 cells, and whose mean feature is the mean colour."""
    cells = crops.reshape(len(crops), 3, 14, 16, 14, 16).mean((3, 5))
    return TeacherFeatures(cells.mean((2, 3)), cells)


TEACHER = Teacher(colours_of, 224, 2.0, "colours")


class Ramps:
    """Three images that grow redder to the right and greener downwards, with a hand in the middle of each."""

    def __init__(self, side: str = "right", count: int = 3) -> None:
        x, y = np.meshgrid(np.linspace(0, 255, 300), np.linspace(0, 255, 300))
        self.image = np.stack([x, y, np.full_like(x, 80)], -1).astype(np.uint8)
        self.side, self.count = side, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> HandSample:
        joints = np.random.default_rng(i).uniform(110, 190, (21, 2)).astype(np.float32)
        return HandSample(self.image, Box.around(joints), joints, self.side)

    def draw(self, rng: np.random.Generator) -> HandSample:
        return self[int(rng.integers(len(self)))]


@pytest.fixture
def bank(tmp_path) -> Bank:
    write_bank(tmp_path / "ramps", Ramps(), "ramps", TEACHER, 1.5, 4, None, iter)
    return Bank(tmp_path / "ramps")


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("wrong_side", [False, True])
@pytest.mark.parametrize("stretch", [None, np.array([[1.3, 0.15], [0.15, 0.79]])])
def test_the_map_covers_the_students_crop(side, wrong_side, stretch):
    """Shown the same box, the student's own crop in as many cells has the colours of the teacher's map."""
    item = Ramps(side)[1]
    box = Box((150.0, 140.0), 70.0, 0.3)
    seen = teach(item, [box], [wrong_side], 1.5, TEACHER, None if stretch is None else stretch[None])
    sample = make_crop_sample(
        item._replace(view=box, wrong_side=wrong_side, stretch=stretch),
        CELLS * 16,
        1.5,
        AugmentConfig(colour=False, wrong_side=1.0),
        None,
    )
    own = sample.image.reshape(3, CELLS, 16, CELLS, 16).mean((2, 4)) / 255
    np.testing.assert_allclose(seen.map[0], own, atol=0.012)
    assert np.ptp(own[0]) > 0.1 and np.ptp(own[1]) > 0.1, "the ramps tell places apart"
    assert sample.right == (0.0 if wrong_side else 1.0)


def test_views_are_stretched_about_their_middle(bank):
    """What is labelled moves with what is seen; how the hand turns in space is not known any more."""
    stretches = view_stretches(400, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.det(stretches), 1, atol=1e-9)
    changed = np.abs(stretches - np.eye(2)).max((1, 2)) > 1e-9
    assert 0.28 < changed.mean() < 0.42 and np.linalg.eigvalsh(stretches).max() < STRETCH + 1e-9
    joints_m = np.random.default_rng(1).normal(0, 0.05, (21, 3))
    item = Ramps()[0]._replace(view=Box((150.0, 140.0), 70.0, 0.3), joints_m=joints_m)
    plain, seen = (
        make_crop_sample(item._replace(stretch=stretch), 64, 1.5, AugmentConfig(colour=False), np.random.default_rng(0))
        for stretch in (None, np.diag([1.25, 0.8]))
    )
    np.testing.assert_allclose(seen.joints_crop, plain.joints_crop * (1.25, 0.8), atol=1e-5)
    assert plain.has_joints_m == 1 and seen.has_joints_m == 0
    kept = [bank[row].stretch for row in range(len(bank))]
    assert any(each is None for each in kept) and any(each is not None for each in kept)


def test_banks_are_told_on_one_scale(tmp_path):
    """What tells one bank from another must not be scaled away: hands from places that are none."""
    for name, count in (("a", 3), ("b", 2)):
        write_bank(tmp_path / name, Ramps(count=count), name, TEACHER, 1.5, 4, None, iter)
    brighter = np.load(tmp_path / "b" / "mean.npy") + 1
    np.save(tmp_path / "b" / "mean.npy", brighter)
    info = json.loads((tmp_path / "b" / "bank.json").read_text())
    info["mean"]["centre"] = brighter.astype(float).mean(0).tolist()
    (tmp_path / "b" / "bank.json").write_text(json.dumps(info))
    a, b = read_banks([tmp_path / "a", tmp_path / "b"])
    assert b[0].taught.mean[0] - a[0].taught.mean[0] > 1
    assert a.standards["map"] is b.standards["map"]


def test_places_without_a_hand_are_taught(tmp_path):
    from handmesh.data.mixture import HardNegative, HardNegativeSource, write_hard_negatives

    position = HardNegative(np.full((200, 200, 3), 90, np.uint8), Box((99.5, 99.5), 77.0), 0.3)
    write_hard_negatives(tmp_path / "false", [position] * 2)
    source = HardNegativeSource(tmp_path / "false")
    write_bank(tmp_path / "bank", source, "false", TEACHER, 1.5, 2, None, iter)
    item = TaughtSource(source, Bank(tmp_path / "bank"), fraction=1.0).draw(np.random.default_rng(0))
    sample = make_crop_sample(item, 64, 1.5, AugmentConfig(), np.random.default_rng(0))
    assert sample.has_taught == 1 and sample.presence == sample.has_joints_crop.max() == 0


def test_a_draw_is_the_view_that_was_taught(bank):
    source = TaughtSource(Ramps(), bank, fraction=1.0)
    item = source.draw(np.random.default_rng(0))
    sample = make_crop_sample(item, 80, 1.5, AugmentConfig(colour=False), np.random.default_rng(1))
    centre, spread = (np.array(bank.info["mean"][key]) for key in ("centre", "spread"))
    red, green = (item.taught.mean * spread + centre)[:2]
    own = sample.image.mean((1, 2)) / 255  # the middle part of the teacher's crop: of a ramp, the same mean
    assert (red, green) == pytest.approx(own[:2], abs=0.02) and sample.has_taught == 1
    assert len({tuple(source.draw(np.random.default_rng(k)).view.centre_px) for k in range(40)}) > 8


def test_a_fraction_of_the_draws_is_free(bank):
    source = TaughtSource(Ramps(), bank, fraction=0.5)
    taught = [source.draw(np.random.default_rng(k)).taught is not None for k in range(200)]
    assert 0.4 < np.mean(taught) < 0.6


def test_a_bank_of_other_samples_is_refused(bank):
    with pytest.raises(ValueError, match="was made of 3 samples"):
        TaughtSource(Ramps(count=2), bank, fraction=1.0)
    others = Ramps()
    others.image = others.image[:, ::-1, ::-1]
    with pytest.raises(ValueError, match="or other images"):
        TaughtSource(others, bank, fraction=1.0)


def test_pasted_cutouts_are_taught_as_they_are_shown(tmp_path):
    """Each version of a cutout is pasted alike for teacher and student, and unlike the other versions."""
    rgba = np.full((90, 90, 4), 200, np.uint8)
    joints = np.random.default_rng(0).uniform(15, 75, (21, 2)).astype(np.float32)
    write_cutouts(tmp_path / "cut", [Cutout(rgba, (CutoutHand("right", joints),))] * 2)
    for k in range(12):
        write_image(tmp_path / "grounds" / f"{k}.png", np.full((120, 160, 3), 20 * k, np.uint8))
    source = CutoutSource(CutoutSet(tmp_path / "cut"), [tmp_path / "grounds"])
    shown = [source[i].image for i in range(len(source))]
    assert len(source) == 8 and len({image.tobytes() for image in shown}) == 8
    np.testing.assert_array_equal(shown[5], source[5].image)
    write_bank(tmp_path / "bank", source, "cut", TEACHER, 1.5, 1, None, iter)
    assert TaughtSource(source, Bank(tmp_path / "bank"), 1.0).draw(np.random.default_rng(0)).taught is not None


def test_a_finished_bank_is_left_alone_and_an_unfinished_one_made_anew(bank):
    before = (bank.folder / "map.npy").stat().st_mtime_ns
    assert write_bank(bank.folder, Ramps(), "ramps", TEACHER, 1.5, 4, None, iter) == 12
    assert (bank.folder / "map.npy").stat().st_mtime_ns == before
    assert write_bank(bank.folder, Ramps(), "ramps", TEACHER, 1.5, 2, None, iter) == 6
    (bank.folder / "bank.json").unlink()
    with pytest.raises(FileNotFoundError, match="cache-teacher"):
        Bank(bank.folder)


def test_a_student_learns_to_match_and_keeps_nothing_of_it(bank):
    source, rng = TaughtSource(Ramps(), bank, fraction=0.8), np.random.default_rng(0)
    samples = [make_crop_sample(source.draw(rng), 64, 1.5, AugmentConfig(), rng) for _ in range(12)]
    batch = collate(samples)
    assert 0 < batch.has_taught.sum() < 12 and batch.taught_map.shape == (12, 3, CELLS, CELLS)
    torch.manual_seed(0)
    network = HandNet(NetworkConfig(), HandModel.load().mean_pose)
    student = FeatureStudent(network, 3, 3).train()
    optimiser = torch.optim.AdamW(student.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        found = matching_losses(student(batch.image.float() / 255), batch)
        losses.append(sum(found.values()).item())
        optimiser.zero_grad()
        sum(found.values()).backward()
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]
    assert student.network.state_dict().keys() == HandNet(NetworkConfig()).state_dict().keys()


def test_without_taught_crops_nothing_is_matched():
    samples = [make_crop_sample(Ramps()[k], 64, 1.5, None, np.random.default_rng(0)) for k in range(2)]
    matched = FeatureStudent(HandNet(NetworkConfig()), 3, 3).eval()(torch.rand(2, 3, 64, 64))
    assert matching_losses(matched, collate(samples)) == {}


def test_a_landmark_network_is_asked_for_its_last_map_and_mean(tmp_path):
    path = tmp_path / "teacher.onnx"
    _write_landmark_network(path)
    seen = open_landmark_teacher(path).run(np.full((2, 3, 224, 224), 0.5, np.float32))
    assert seen.mean.shape == (2, 3) and seen.map.shape == (2, 3, 224, 224)
    np.testing.assert_allclose(seen.map, 1.0)
    for bad, message in ((tmp_path / "none.onnx", "no teacher"), (_text(tmp_path), "not a readable ONNX")):
        with pytest.raises(ValueError, match=message):
            open_landmark_teacher(bad)


def _write_landmark_network(path: Path) -> None:
    """x + x, then its mean over positions."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])
    nodes = [node("Add", ["x", "x"], ["sum"]), node("ReduceMean", ["sum", "axes"], ["mean"], keepdims=0)]
    nodes.append(node("Identity", ["mean"], ["y"]))
    shape = ["n", 3, 224, 224]
    of = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(nodes, "t", [value("x", of, shape)], [value("y", of, ["n", 3])], [axes])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), path)


def _text(folder: Path) -> Path:
    path = folder / "text.onnx"
    path.write_text("no network")
    return path
