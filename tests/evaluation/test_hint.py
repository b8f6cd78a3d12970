"""`handmesh evaluate hint`: its numbers against another implementation, and a network that knows the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="evaluations are part of the training extra")

from hand_scenes import coded_frame, decoded_crop, network_outputs
from hint_files import write_hint

from handmesh.cli import main
from handmesh.data.sets.hint import read_hint
from handmesh.data.sets.table import HandTable
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.hint import THRESHOLDS, distances_of, pck, predict
from handmesh.evaluation.predictor import CropPredictor, PredictOptions, Predictor
from handmesh.hand.lbs import SkinnedHand
from handmesh.types import Camera

SIZE = 96
CAMERA = Camera.from_fov(320, 240)


@pytest.fixture(scope="module")
def hint(tmp_path_factory):
    """The folder and the drawn hands by file."""
    root = tmp_path_factory.mktemp("hint")
    return root, write_hint(root)


def reference_pck(predicted, truth, confidence, sizes, threshold) -> float:
    """Hand by hand and point by point, as the words of HaMeR's evaluation have it."""
    fractions = []
    for joint in range(truth.shape[1]):
        found = counted = 0
        for k in range(len(truth)):
            if confidence[k, joint] > 0.5:
                dx, dy = predicted[k, joint] - truth[k, joint]
                counted += 1
                found += (dx * dx + dy * dy) ** 0.5 <= sizes[k] * threshold
        if counted:
            fractions.append(found / counted)
    return sum(fractions) / len(fractions)


def test_pck_is_that_of_another_implementation():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 400, (40, 21, 2))
    sizes = rng.uniform(30, 300, 40)
    predicted = truth + rng.normal(0, 0.09, (40, 21, 2)) * sizes[:, None, None]
    counts = rng.random((40, 21)) < 0.4
    counts[:, 3] = False  # a point that counts nowhere
    corner = rng.uniform(0, 9, (40, 2))
    box = np.concatenate([corner, corner + np.stack([sizes, 0.7 * sizes], 1)], axis=1)
    distances = distances_of(predicted, truth, box)
    for threshold in THRESHOLDS:
        expected = reference_pck(predicted, truth, counts, sizes, threshold)
        assert 0.1 < expected < 0.95 and pck(distances, counts, threshold) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(pck(distances, np.zeros_like(counts), 0.1))


def test_a_hand_is_as_large_as_its_labelled_points_and_a_missing_prediction_is_a_miss():
    truth = np.full((2, 21, 2), np.nan)
    truth[:, :3] = [[10, 10], [30, 20], [20, 50]]  # 40 px high
    predicted = np.zeros((2, 21, 2))
    predicted[0, :3] = truth[0, :3] + [[0, 4], [0, 0], [3, 0]]
    predicted[1] = np.nan
    distances = distances_of(predicted, truth)
    np.testing.assert_allclose(distances[0, :3], [0.1, 0, 0.075])
    assert np.isinf(distances[1, :3]).all() and np.isnan(distances[:, 3:]).all()


def knowing(truth) -> Predictor:
    """A network that reads off the colours of a coded image where its crop was taken, and answers with the truth."""

    def see(crop: np.ndarray) -> dict[str, np.ndarray]:
        number, box, mirrored = decoded_crop(crop, CAMERA)
        return network_outputs(truth[number], box, mirrored, SIZE, CAMERA)

    def run(crops: np.ndarray) -> dict[str, np.ndarray]:
        seen = [see(crop) for crop in crops]
        return {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}

    hand = SkinnedHand.open_hand()
    return Predictor("knowing", "", "", "", SIZE, 1.5, hand.faces, len(hand.template), "", run)


def test_left_and_right_hands_come_back_where_they_are(hint, tmp_path, monkeypatch):
    """Left ones are shown to the network as the mirror shows them, and are found in their own image."""
    root, truth = hint
    table = read_hint(root, "TEST_newdays_img")
    hands = [truth[name.decode().removesuffix(".jpg")] for name in table.images]
    assert [hand.side for hand in hands] == ["right", "left"]
    monkeypatch.setattr(HandTable, "image", lambda _, i: coded_frame(i, 320, 240))
    reader = CropPredictor(knowing(hands), PredictOptions())
    options = PredictOptions()
    found = predict(table, options, reader, ArrayCache(tmp_path, {}))
    assert np.abs(found - np.stack([hand.joints_px for hand in hands])).max() < 1.0
    monkeypatch.setattr(CropPredictor, "read", lambda *_: pytest.fail("done again"))
    np.testing.assert_array_equal(predict(table, options, reader, ArrayCache(tmp_path, {})), found)


def labels_of(root: Path, folder: str):
    """What the files say, read without the package."""
    for path in sorted((root / folder).glob("*.jpg")):
        yield json.loads(path.with_suffix(".json").read_text())[0]


def test_the_command_writes_the_numbers_that_its_predictions_have(hint, tmp_path, capsys):
    root, _ = hint
    assert (
        main(
            [
                "evaluate",
                "hint",
                str(root),
                "--model",
                "fast",
                "--output",
                str(tmp_path),
                "--size",
                "box",
                "--crop",
                "given-box",
            ]
        )
        == 0
    )
    written = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    for folder, title in (("TEST_newdays_img", "New Days"), ("TEST_epick_img", "VISOR")):
        labels = list(labels_of(root, folder))
        points, exists, hidden = (
            np.array([label[name] for label in labels], float) for name in ("keypoints", "existence", "occlusion")
        )
        boxes = np.array([label["bbox"][0] for label in labels])
        sizes = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        with np.load(tmp_path / "predictions" / folder / "00000000.npz") as kept:
            x, y, z = np.moveaxis(np.round(kept["joints_m"].astype(float), 7), -1, 0)
        predicted = np.stack([CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy], axis=-1)
        for kind, counts in (("all", exists), ("visible", exists * (1 - hidden)), ("occluded", exists * hidden)):
            for threshold in (0.05, 0.1, 0.15):
                expected = 100 * reference_pck(predicted, points, counts, sizes, threshold)
                assert written[f"{title}, {kind} @{threshold:g}"]["value"] == pytest.approx(expected, abs=1e-6)
    said = capsys.readouterr().out
    assert "holds 2 labels and none of their images" in " ".join(said.split())
    assert {"report.html", "report.md", "samples.csv", "joints.png", "visor worst.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


@pytest.mark.parametrize("options, reason", [
    (["--crop", "detected"], "take --crop given-box"),
    (["--folders", "TRAIN_newdays_img"], "unknown folders"),
    (["--folders", "TEST_ego4d_img"], "none of their images"),
])  # fmt: skip
def test_what_cannot_be_measured_is_told_in_a_line(hint, tmp_path, options, reason, capsys):
    assert main(["evaluate", "hint", str(hint[0]), "--output", str(tmp_path), *options]) != 0
    assert reason in " ".join(capsys.readouterr().err.split())
