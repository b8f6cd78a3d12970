"""`handmesh evaluate freihand` on images that tell where a crop was taken, on a fixture set, and its errors."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from freihand_files import write_freihand

from handmesh import skeleton
from handmesh.crop import normalised_from_px, view_rotation
from handmesh.data.freihand import FreihandError, FreihandSet, read_freihand
from handmesh.evaluation.datasets import ArrayCache, CacheMismatch
from handmesh.evaluation.freihand import (
    SCALE_BONE,
    FreihandOptions,
    ScoreOptions,
    evaluate_freihand,
    predict,
    score,
    view_of,
)
from handmesh.evaluation.predictor import (
    CropPredictor,
    PredictOptions,
    Predictor,
    each,
    mean_hand,
    open_predictor,
    with_bone_length,
)
from handmesh.geometry import apply_affine, project
from handmesh.models.checkpoint import save_weights
from handmesh.models.mesh_net import HandNet, NetworkConfig
from handmesh.tracking.estimator import Crop
from handmesh.types import Box, Camera

SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_freihand(tmp_path_factory.mktemp("freihand"), rows=0, evaluation=4)


@pytest.fixture(scope="module")
def freihand(root) -> FreihandSet:
    return read_freihand(root, "evaluation", progress=False)


def coded_image(freihand: FreihandSet, i: int) -> np.ndarray:
    """An image whose red and green say where a pixel is, to fractions, and whose blue says which image it is."""
    width, height = freihand.size_px
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, np.full_like(x, 10 * i)], axis=-1).astype(np.float32)


def box_of(crop: np.ndarray) -> Box:
    """Where a crop of a coded image was taken, read from its colours."""
    y, x = np.mgrid[:SIZE, :SIZE].reshape(2, -1)
    colours = crop.reshape(-1, 3)[:, :2].astype(float)
    inside = ((colours > 2) & (colours < 220)).all(1)  # beyond the image its border is repeated
    terms = np.stack([x, y, np.ones_like(x)], axis=1)[inside]
    across, down, start = np.linalg.lstsq(terms, colours[inside], rcond=None)[0]
    centre = start + (across + down) * (SIZE - 1) / 2
    return Box((centre[0], centre[1]), SIZE * float(np.linalg.norm(across)), float(np.arctan2(across[1], across[0])))


def seeing(freihand: FreihandSet) -> Predictor:
    """A network that knows the truth of coded images, and says it about the crop it is given."""

    def see(crop: np.ndarray) -> dict[str, np.ndarray]:
        i, box = round(crop[SIZE // 2, SIZE // 2, 2] / 10), box_of(crop)
        view, root = view_rotation(freihand.camera(i), box), freihand.xyz[i, skeleton.ROOT]
        joints_px = apply_affine(Crop(box, "right", SIZE).affine, project(freihand.xyz[i], freihand.camera(i)))
        outputs = {
            "vertices_m": (freihand.verts[i] - root) @ view,
            "joints_m": (freihand.xyz[i] - root) @ view,
            "joints_crop": normalised_from_px(joints_px, SIZE),
            "rotations": np.tile(np.eye(3), (16, 1, 1)),
            "shape": np.zeros(10),
            "presence": np.array(3.0),
            "right": np.array(3.0),
            "spread": np.full((21, 2), 0.04),
        }
        return {name: np.float32(value)[None] for name, value in outputs.items()}

    def run(crops: np.ndarray) -> dict[str, np.ndarray]:
        parts = [see(crop) for crop in crops]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    faces = np.array([[0, 1, 2]], np.int32)
    return Predictor("seeing", "0" * 64, "none", "", SIZE, 1.3, faces, freihand.verts.shape[1], "a test", run)


@pytest.fixture
def coded(freihand, monkeypatch) -> Predictor:
    """Coded images in place of those on disk, and the network that reads them in place of any other."""
    predictor = seeing(freihand)
    monkeypatch.setattr(FreihandSet, "image", coded_image)
    monkeypatch.setattr("handmesh.evaluation.freihand.open_predictor", lambda *_: predictor)
    return predictor


@pytest.mark.parametrize(
    "predict_options",
    [
        PredictOptions(),
        PredictOptions("centre-130"),
        PredictOptions("centre-130", passes=2),
        PredictOptions(tta=4),
        PredictOptions(passes=3, tta=2),
    ],
)
def test_what_the_network_sees_comes_back_in_metres(freihand, predict_options, coded):
    """Crop, rotations and lifting undo each other, whatever the protocol: the truth comes back."""
    reader = CropPredictor(coded, predict_options, batch=3)
    seen = reader.read([view_of(freihand, i, freihand.image(i)) for i in range(4)])
    for i, (hand, located) in enumerate(seen):
        assert located
        np.testing.assert_allclose(hand.vertices_m, freihand.verts[i], atol=1e-4)
        np.testing.assert_allclose(hand.joints_m, freihand.xyz[i], atol=1e-4)


def test_crops_are_taken_where_the_protocol_says(freihand, coded):
    boxes: list[Box] = []

    def run(crops):
        boxes.extend(box_of(crop) for crop in crops)
        return coded.run(crops)

    def look(predict_options, find=None):
        boxes.clear()
        return CropPredictor(replace(coded, run=run), predict_options, find).read(
            [view_of(freihand, 1, freihand.image(1))]
        )

    look(PredictOptions("centre-130"))
    assert boxes[0].size_px == pytest.approx(130, abs=1e-3) and boxes[0].centre_px == pytest.approx(
        (111.5, 111.5), abs=0.1
    )
    look(PredictOptions())
    tight = Box.around(project(freihand.xyz[1], freihand.camera(1)), 1.3, rotation=False)
    assert boxes[0].size_px == pytest.approx(tight.size_px, rel=1e-4) and abs(boxes[0].angle_rad) < 1e-3
    look(PredictOptions(tta=3))
    assert [round(np.degrees(box.angle_rad)) for box in boxes] == [-30, 0, 30]
    (seen,) = look(PredictOptions("detected"), lambda image: Box((100.0, 90.0), 80.0, 0.5))
    assert seen.located and boxes[0].size_px == pytest.approx(104, rel=1e-4)
    assert boxes[0].angle_rad == pytest.approx(0.5, abs=1e-4)
    (seen,) = look(PredictOptions("detected"), lambda image: None)
    assert not seen.located and boxes[0].size_px == pytest.approx(130, abs=1e-3)
    with pytest.raises(ValueError, match="a finder belongs"):
        CropPredictor(coded, PredictOptions("detected"))


def test_a_mean_hand_and_a_hand_of_known_bone_length(freihand, coded):
    (seen,) = CropPredictor(coded, PredictOptions()).read([view_of(freihand, 0, freihand.image(0))])
    hand = seen.hand
    other = replace(hand, vertices_m=hand.vertices_m + 0.02, joints_m=hand.joints_m + 0.02, score=0.0)
    mean = mean_hand([hand, None, other])
    np.testing.assert_allclose(mean.vertices_m, hand.vertices_m + 0.01, atol=1e-6)
    assert mean.score == pytest.approx(hand.score / 2) and mean_hand([None]) is None and mean_hand([hand]) is hand
    long = with_bone_length(hand, 0.05, SCALE_BONE)
    assert np.linalg.norm(long.joints_m[9] - long.joints_m[10]) == pytest.approx(0.05, abs=1e-6)
    camera = freihand.camera(0)
    np.testing.assert_allclose(project(long.vertices_m, camera), project(hand.vertices_m, camera), atol=1e-3)


def test_a_killed_prediction_goes_on(freihand, coded, tmp_path, monkeypatch):
    monkeypatch.setattr("handmesh.evaluation.hands.PART", 2)
    asked = []

    def run(crops):
        asked.append(len(crops))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return coded.run(crops)

    def go(limit=None):
        reader = CropPredictor(replace(coded, run=run), PredictOptions())
        return predict(freihand, reader, ArrayCache(tmp_path, {"a": 1}), True, limit)

    with pytest.raises(KeyboardInterrupt):
        go()
    assert len(go(limit=3)) == 3 and asked == [2, 2, 1]
    predictions = go()
    assert asked == [2, 2, 1, 2], "the first part is kept, the one that was made for fewer is not"
    assert len(go(limit=1)) == 1 and len(asked) == 4
    lengths = np.linalg.norm(predictions.joints_m[:, 9] - predictions.joints_m[:, 10], axis=1)
    np.testing.assert_allclose(lengths, freihand.scale, atol=1e-6)
    np.testing.assert_allclose(predictions.vertices_m, freihand.verts, atol=1e-4)


def test_numbers_that_are_no_hand_become_zeros(freihand, tmp_path, coded):

    def run(crops):
        outputs = coded.run(crops)
        outputs["joints_m"][2] = np.nan
        return outputs

    reader = CropPredictor(replace(coded, run=run), PredictOptions())
    predictions = predict(freihand, reader, ArrayCache(tmp_path, {}), True, None)
    assert predictions.is_hand.tolist() == [True, True, False, True]
    assert not predictions.vertices_m[2].any() and predictions.vertices_m[3].any()


def test_a_cache_belongs_to_one_configuration(tmp_path):
    folder = tmp_path / "cache"
    ArrayCache(folder, {"crop": "centre-130", "tta": 1}).put("a", values=np.arange(3))
    cache = ArrayCache(folder, {"crop": "centre-130", "tta": 1})
    assert cache.get("a")["values"].tolist() == [0, 1, 2] and cache.get("b") is None
    with pytest.raises(CacheMismatch, match=r"tta was 1, is now 2.*; take another --output, or --overwrite"):
        ArrayCache(folder, {"crop": "centre-130", "tta": 2})
    assert ArrayCache(folder, {"crop": "centre-130", "tta": 2}, overwrite=True).get("a") is None
    (folder / "c.npz").write_bytes(b"PK half a file")
    assert cache.get("c") is None
    (folder / "configuration.json").write_text("{")
    with pytest.raises(CacheMismatch):
        ArrayCache(folder, {"crop": "centre-130", "tta": 2})


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """An untrained network at 64 pixels, as a training run leaves it."""
    torch.manual_seed(0)
    config = NetworkConfig(backbone="repvit_m0_9")
    network = {name: getattr(config, name) for name in config.__dataclass_fields__}
    run = {"schedule": [[10, 64, 8]]}
    described = {"task": "mesh", "network": network, "run": run, "hand_model": None, "box_scale": 1.4}
    path = tmp_path_factory.mktemp("run") / "weights.safetensors"
    save_weights(path, HandNet(config).state_dict(), {"config": described})
    return path


def options_for(root: Path, output: Path, **changes) -> FreihandOptions:
    return FreihandOptions(root, batch=3, device="cpu", output=output, **changes)


def test_a_whole_evaluation(root, weights, tmp_path, capsys):
    output = tmp_path / "out"
    scores = evaluate_freihand(options_for(root, output, model=str(weights), submission=True))
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("gt-keypoints: upright square around the labelled keypoints x 1.4", "augmentation: none", "batch: 3",
                 "FreiHAND's server takes 3960", "cpu"):  # fmt: skip
        assert text in printed
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["samples"] == len(scores) == 4 and metrics["setting"]["crop size"].startswith("64 x 64")
    with (output / "samples.csv").open() as file:
        column = [float(row["PA-MPJPE"]) for row in csv.DictReader(file)]
    assert np.mean(column) == pytest.approx(10 * metrics["official"]["xyz_al_mean3d"], abs=1e-9)
    with zipfile.ZipFile(output / "pred.zip") as archive:
        joints, vertices = json.loads(archive.read("pred.json"))
    assert np.shape(joints) == (4, 21, 3) and np.shape(vertices) == (4, 1689, 3)
    score(ScoreOptions(root, output / "pred.zip", tmp_path / "again"))
    assert (tmp_path / "again/scores.txt").read_text() == (output / "scores.txt").read_text()
    html = (output / "report.html").read_text()
    assert html.count("<figure>") == 5 and 'src="http' not in html and "not to be compared" in html
    assert "HaMeR" in html and "published" in html and "measured" in html


def test_predictions_of_another_configuration_are_not_taken(root, coded, tmp_path):
    output = tmp_path / "out"
    evaluate_freihand(options_for(root, output, limit=2))
    with pytest.raises(CacheMismatch, match="crop was 'gt-keypoints', is now 'centre-130'"):
        evaluate_freihand(options_for(root, output, limit=2, predict_options=PredictOptions("centre-130")))
    with pytest.raises(CacheMismatch, match="use_scale was False, is now True"):
        evaluate_freihand(options_for(root, output, limit=2, use_scale=True))
    assert len(evaluate_freihand(options_for(root, output, limit=1, use_scale=True, overwrite=True))) == 1


def without_labels(root: Path, folder: Path, *names: str) -> Path:
    """The set without the lists `names`."""
    folder.mkdir()
    (folder / "evaluation").symlink_to(root / "evaluation")
    for path in root.glob("evaluation_*.json"):
        if path.stem.removeprefix("evaluation_") not in names:
            (folder / path.name).symlink_to(path)
    return folder


def test_without_labels_there_is_a_submission_and_nothing_measured(root, coded, tmp_path, capsys):
    bare, output = without_labels(root, tmp_path / "bare", "xyz", "verts", "mano"), tmp_path / "out"
    with pytest.raises(FreihandError, match=r"lacks evaluation_xyz\.json"):
        evaluate_freihand(options_for(bare, output, submission=True))
    predict_options = PredictOptions("centre-130")
    assert evaluate_freihand(options_for(bare, output, submission=True, predict_options=predict_options)) is None
    assert "nothing can be measured" in capsys.readouterr().out
    assert (output / "pred.zip").is_file() and not (output / "scores.txt").exists()
    html = (output / "report.html").read_text()
    assert "What was predicted" in html and "PA-MPJPE" not in html and html.count("<figure>") == 1


def test_a_mesh_of_another_count_is_said_to_be_one(root, coded, tmp_path, capsys):
    """Ground truth with MANO's 778 vertices, a network with the open hand's 1,689."""
    other, output = without_labels(root, tmp_path / "other", "verts"), tmp_path / "out"
    vertices = np.array(json.loads((root / "evaluation_verts.json").read_text()))[:, :778]
    (other / "evaluation_verts.json").write_text(json.dumps(vertices.tolist()))
    scores = evaluate_freihand(options_for(other, output))
    assert scores.vertices_rooted_m is None
    assert "mesh_mean3d: -100.000000" in (output / "scores.txt").read_text()
    assert "1689 vertices, the true one 778" in " ".join(capsys.readouterr().out.split())
    html = (output / "report.html").read_text()
    assert "1689 vertices, the true one 778" in html and "PA-MPVPE)" not in html


def test_the_bundled_network_looks_at_detected_boxes(root, tmp_path):
    options = FreihandOptions(
        root, "balanced", threads=1, limit=2, predict_options=PredictOptions("detected", passes=2), output=tmp_path
    )
    assert len(evaluate_freihand(options)) == 2
    assert (
        "bundled detector's box x 1.38"
        in json.loads((tmp_path / "metrics.json").read_text())["setting"]["crop protocol"]
    )


def test_weights_and_graph_give_the_same():
    """The bundled weights and the bundled graph, through one function."""
    from handmesh.assets import ASSETS
    from handmesh.export.onnx import CLIP, VERTEX_TOLERANCE_MM, images_for

    graph, torch_net = open_predictor("balanced", threads=1), open_predictor(str(ASSETS / "balanced.safetensors"))
    assert graph.crop_size == torch_net.crop_size
    assert (graph.box_scale, torch_net.box_scale) == (1.38, 1.5), "it is shown tighter crops than its training"
    assert graph.num_vertices == torch_net.num_vertices and (graph.faces == torch_net.faces).all()
    size = (graph.crop_size, graph.crop_size)
    crops = np.concatenate(images_for("mesh", size, graph.box_scale)[CLIP])
    one, other = graph(crops, batch=2), torch_net(crops, batch=2)
    assert set(one) == set(other) and [len(hand["shape"]) for hand in each(one)] == [1] * len(crops)
    # the graph computes in eight bits: its vertices are as near as an export must be, the others in proportion
    assert 1000 * np.abs(one["vertices_m"] - other["vertices_m"]).max() < VERTEX_TOLERANCE_MM["int8"]
    for name, values in one.items():
        assert np.abs(values - other[name]).mean() < 0.05 * np.abs(other[name]).mean(), name


def test_what_cannot_be_opened_is_said(root, weights, tmp_path):
    with pytest.raises(ValueError, match="exported graph with its own hand"):
        open_predictor("balanced", hand_model=tmp_path / "mano.npz")
    with pytest.raises(ValueError, match="not on 'coreml'"):
        open_predictor(str(weights), device="coreml")
    with pytest.raises(ValueError, match="no weights at"):
        open_predictor(str(tmp_path / "weights.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"mano\.npz"):
        open_predictor(str(weights), hand_model=tmp_path / "mano.npz")
    with pytest.raises(ValueError, match="--limit must be at least 1"):
        FreihandOptions(root, limit=0)
    with pytest.raises(ValueError, match="tta must be at least 1"):
        PredictOptions(tta=0)
    with pytest.raises(FreihandError, match="is not FreiHAND's folder"):
        evaluate_freihand(options_for(tmp_path, tmp_path / "out"))


def test_another_camera_is_not_needed_to_see_the_same(freihand):
    """A guard of the fixture: its cameras differ, so that a lost K would show."""
    cameras = {freihand.camera(i) for i in range(4)}
    assert len(cameras) == 4 and all(isinstance(camera, Camera) for camera in cameras)
