"""`handmesh evaluate score` against a slow twin that follows FreiHAND's definitions to the letter, and its errors."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handmesh.evaluation.freihand import ScoreOptions, official_scores, official_text, score
from handmesh.evaluation.hands import Scores, score_samples
from handmesh.evaluation.predictor import PredictionError, PredictionFile, write_submission

NAMES = [
    *("xyz_mean3d", "xyz_auc3d", "xyz_al_mean3d", "xyz_al_auc3d"),
    *("mesh_mean3d", "mesh_auc3d", "mesh_al_mean3d", "mesh_al_auc3d"),
    *("f_score_5", "f_al_score_5", "f_score_15", "f_al_score_15"),
]
SAMPLES, VERTICES = 5, 60


def slow_alignment(truth: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float, float, np.ndarray]:
    """Rotation from the right, scale, the truth's norm, and the shift from the points' mean to the truth's."""
    truth_norm = np.sqrt(sum((truth - truth.mean(0)).ravel() ** 2)) + 1e-8
    points_norm = np.sqrt(sum((points - points.mean(0)).ravel() ** 2)) + 1e-8
    u, weights, vt = np.linalg.svd(((points - points.mean(0)) / points_norm).T @ ((truth - truth.mean(0)) / truth_norm))
    return u @ vt, sum(weights), truth_norm, truth.mean(0) - points.mean(0)


def slowly_aligned(truth: np.ndarray, points: np.ndarray) -> np.ndarray:
    rotation, scale, truth_norm, _ = slow_alignment(truth, points)
    points_norm = np.sqrt(sum((points - points.mean(0)).ravel() ** 2)) + 1e-8
    return (points - points.mean(0)) / points_norm @ rotation * scale * truth_norm + truth.mean(0)


def slow_mean_and_area(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Of each point over the samples: its mean error and the area under its own curve; then means over the points."""
    thresholds = np.linspace(0.0, 0.05, 100)
    means, areas = [], []
    for k in range(len(pairs[0][0])):
        distances = [float(np.sqrt(((truth[k] - points[k]) ** 2).sum())) for truth, points in pairs]
        curve = [sum(d <= t for d in distances) / len(distances) for t in thresholds]
        steps = [
            (b - a) * (y + z) / 2 for a, b, y, z in zip(thresholds, thresholds[1:], curve, curve[1:], strict=False)
        ]
        means.append(sum(distances) / len(distances))
        areas.append(sum(steps) / sum(np.diff(thresholds)))
    return sum(means) / len(means), sum(areas) / len(areas)


def slow_f_score(truth: np.ndarray, points: np.ndarray, threshold: float) -> float:
    table = np.sqrt(((points[:, None] - truth[None]) ** 2).sum(-1))
    recall, precision = (table.min(1) < threshold).mean(), (table.min(0) < threshold).mean()
    return 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0


def slow_scores(joints, vertices, true_joints, true_vertices) -> dict[str, float]:
    """The twelve metrics as the data set defines them, one sample and one point at a time."""
    one_mesh = len(vertices[0]) == len(true_vertices[0])
    aligned_joints = [slowly_aligned(truth, points) for truth, points in zip(true_joints, joints, strict=True)]
    if one_mesh:
        aligned = [slowly_aligned(truth, points) for truth, points in zip(true_vertices, vertices, strict=True)]
    else:
        aligned = []
        for truth, points, mesh in zip(true_joints, joints, vertices, strict=True):
            rotation, scale, truth_norm, shift = slow_alignment(truth, points)
            aligned.append((mesh - mesh.mean(0)) @ rotation * scale * truth_norm + shift + mesh.mean(0))
    meshes = {"mesh": vertices, "mesh_al": aligned} if one_mesh else {}
    scores = {}
    for name, points in ({"xyz": joints, "xyz_al": aligned_joints} | meshes).items():
        truth = true_joints if "xyz" in name else true_vertices
        mean, scores[f"{name}_auc3d"] = slow_mean_and_area(list(zip(truth, points, strict=True)))
        scores[f"{name}_mean3d"] = 100 * mean
    if not one_mesh:
        scores |= {"mesh_mean3d": -100, "mesh_auc3d": -1, "mesh_al_mean3d": -100, "mesh_al_auc3d": -1}
    for threshold in (5, 15):
        for name, points in (("f_score", vertices), ("f_al_score", aligned)):
            each = [slow_f_score(t, p, threshold / 1000) for t, p in zip(true_vertices, points, strict=True)]
            scores[f"{name}_{threshold}"] = sum(each) / len(each)
    return scores


def hands(seed: int, points: int, spread_m: float = 0.03) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=spread_m, size=(SAMPLES, points, 3)) + rng.normal([0, 0, 0.7], 0.02, (SAMPLES, 1, 3))


def near(truth: np.ndarray, seed: int) -> np.ndarray:
    """The truth with errors of some millimetres, turned and moved a little."""
    rng = np.random.default_rng(seed)
    rotated = (truth - truth.mean(1, keepdims=True)) @ Rotation.from_rotvec([0.1, 0.05, -0.1]).as_matrix()
    return 1.07 * rotated + truth.mean(1, keepdims=True) + rng.normal(scale=0.006, size=truth.shape)


TRUE_JOINTS, TRUE_VERTICES = hands(0, 21), hands(1, VERTICES)
CASES = {
    "near": (near(TRUE_JOINTS, 2), near(TRUE_VERTICES, 3)),
    "far": (hands(4, 21), hands(5, VERTICES)),
    "reflected": (near(TRUE_JOINTS * [-1, 1, 1], 6), near(TRUE_VERTICES * [-1, 1, 1], 7)),
    "the truth": (TRUE_JOINTS, TRUE_VERTICES),
    "zeros": (np.zeros_like(TRUE_JOINTS), np.zeros_like(TRUE_VERTICES)),
    "fewer vertices": (near(TRUE_JOINTS, 2), near(TRUE_VERTICES, 3)[:, :37]),
    "more vertices": (near(TRUE_JOINTS, 2), np.concatenate([near(TRUE_VERTICES, 3), near(TRUE_VERTICES, 8)], axis=1)),
    "small and other vertices": (0.3 * near(TRUE_JOINTS, 2), near(TRUE_VERTICES, 3)[:, 1:]),
    "zeros, other vertices": (np.zeros_like(TRUE_JOINTS), np.zeros((SAMPLES, 9, 3))),
}


@pytest.mark.parametrize("case", CASES)
def test_the_twelve_metrics_against_the_slow_twin(case):
    joints, vertices = CASES[case]
    expected = slow_scores(joints, vertices, TRUE_JOINTS, TRUE_VERTICES)
    given = official_scores(score_samples(joints, vertices, TRUE_JOINTS, TRUE_VERTICES))
    assert list(given) == NAMES
    assert given == {name: pytest.approx(expected[name], abs=1e-9) for name in NAMES}


def test_the_cases_tell_definitions_apart():
    """What the comparison with the twin rests on: metrics between their bounds, and cases that differ."""
    near_scores, mirrored = (slow_scores(*CASES[name], TRUE_JOINTS, TRUE_VERTICES) for name in ("near", "reflected"))
    assert all(0.01 < near_scores[name] < 0.99 for name in NAMES if "mean" not in name)
    assert near_scores["xyz_mean3d"] > 1.2 * near_scores["xyz_al_mean3d"]
    assert mirrored["xyz_al_mean3d"] < 1.3 < mirrored["xyz_mean3d"]


def test_meshes_of_changing_size_are_scored_by_the_joints_alignment():
    """The first sample decides, as on the server: here it has another count than the truth, the rest have not."""
    joints, vertices = CASES["near"]
    ragged = [vertices[0][:-1], *vertices[1:]]
    expected = slow_scores(joints, ragged, TRUE_JOINTS, TRUE_VERTICES)
    given = official_scores(score_samples(joints, ragged, TRUE_JOINTS, TRUE_VERTICES))
    assert given == {name: pytest.approx(expected[name], abs=1e-9) for name in NAMES}
    with pytest.raises(ValueError, match="sample 4 has 59 vertices, its truth 60"):
        score_samples(joints, [*vertices[:4], vertices[4][1:]], TRUE_JOINTS, TRUE_VERTICES)


def test_errors_about_the_root():
    joints = TRUE_JOINTS + np.array([0.003, 0.0, 0.004])
    scores = score_samples(joints, TRUE_VERTICES, TRUE_JOINTS, TRUE_VERTICES)
    columns = scores.per_sample()
    np.testing.assert_allclose(columns["RA-MPJPE"], 0, atol=1e-9)
    np.testing.assert_allclose(columns["RA-MPVPE"], 5, atol=1e-9)  # the mesh did not move with its root
    np.testing.assert_allclose(columns["root error"], 5, atol=1e-9)
    np.testing.assert_allclose(columns["root depth error"], 4, atol=1e-9)
    np.testing.assert_allclose(scores.per_joint_mm()["camera"], 5, atol=1e-9)


def write_truth(folder: Path) -> Path:
    folder.mkdir()
    for name, points in (("xyz", TRUE_JOINTS), ("verts", TRUE_VERTICES)):
        (folder / f"evaluation_{name}.json").write_text(json.dumps(points.tolist()))
    return folder


def write_predictions(path: Path, joints: object, vertices: object) -> Path:
    path.write_text(json.dumps([np.asarray(joints).tolist(), np.asarray(vertices).tolist()]))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "truth")


def score_file(truth: Path, pred: Path, output: Path) -> Scores:
    return score(ScoreOptions(truth, pred, output))


def test_files_are_scored_and_written(truth, tmp_path, capsys):
    pred, out = write_predictions(tmp_path / "pred.json", *CASES["near"]), tmp_path / "out"
    score_file(truth, pred, out)
    expected = slow_scores(*CASES["near"], TRUE_JOINTS, TRUE_VERTICES)
    assert (out / "scores.txt").read_text() == "".join(f"{name}: {expected[name]:.6f}\n" for name in NAMES)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["official"] == {name: pytest.approx(expected[name], abs=1e-9) for name in NAMES}
    assert metrics["samples"] == SAMPLES and metrics["setting"]["vertices"] == {"predicted": 60, "true": 60}
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == list("01234")
    assert np.mean([float(row["PA-MPJPE"]) for row in rows]) / 10 == pytest.approx(expected["xyz_al_mean3d"], abs=1e-9)
    assert len(metrics["per_joint_mm"]["root"]) == 21 and metrics["per_joint_mm"]["root"]["middle1"] == 0
    assert "the true one" not in capsys.readouterr().out
    assert "the server's name" in (out / "report.md").read_text()


def test_a_mesh_of_another_count_is_said_to_be_one(truth, tmp_path, capsys):
    pred, out = write_predictions(tmp_path / "pred.json", *CASES["fewer vertices"]), tmp_path / "out"
    score_file(truth, pred, out)
    lines = (out / "scores.txt").read_text().splitlines()
    assert lines[4:8] == ["mesh_mean3d: -100.000000", "mesh_auc3d: -1.000000",
                          "mesh_al_mean3d: -100.000000", "mesh_al_auc3d: -1.000000"]  # fmt: skip
    assert "37 vertices, the true one 60" in " ".join(capsys.readouterr().out.split())


def test_a_submission_is_read_back(truth, tmp_path):
    joints, vertices = CASES["near"]
    path = tmp_path / "pred.zip"
    write_submission(path, np.float32(joints), np.float32(vertices))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["pred.json"]
        content = json.loads(archive.read("pred.json"))
    assert np.shape(content[0]) == (SAMPLES, 21, 3) and np.shape(content[1]) == (SAMPLES, VERTICES, 3)
    back = PredictionFile(path)
    np.testing.assert_allclose(back.joints_m, joints, atol=1e-7)
    np.testing.assert_allclose(np.stack(list(back.vertices())), vertices, atol=1e-7)
    assert len(score_file(truth, path, tmp_path / "out")) == SAMPLES


GOOD = [TRUE_JOINTS.tolist(), TRUE_VERTICES.tolist()]
with_nan = json.dumps(GOOD).replace(json.dumps(GOOD[1][3][2][1]), "NaN", 1)
BROKEN = {
    "cut off in the joints": (json.dumps(GOOD)[:900], "joints of sample 0 .* in the middle"),
    "cut off in the vertices": (json.dumps(GOOD)[:-900], "vertices of sample 4 .* in the middle"),
    "cut off between samples": (json.dumps(GOOD)[:-2], "sample 5 should follow, the file ends there"),
    "not finite": (with_nan, "vertices of sample 3: point 2 is not finite"),
    "joints alone": (json.dumps(GOOD[0]), "joints of sample 0: expected 21 x 3 numbers, found shape 3"),
    "pairs": (json.dumps([[j, v] for j, v in zip(*GOOD, strict=True)]), "joints of sample 1: .* found shape 60x3"),
    "three lists": (json.dumps([*GOOD, []]), "the end behind the list of vertices should follow, found ', \\[\\]"),
    "named": (json.dumps({"xyz": GOOD[0]}), 'a list of two should follow, found \'{"xyz"'),
    "text for numbers": (json.dumps([[[["1", "2", "3"]] * 21], []]), "found something else"),
    "ragged": (json.dumps([[[[1, 2, 3]] * 20 + [[1, 2]]], []]), "joints of sample 0: .* found something else"),
    "nothing": ("[[], []]", "holds no samples"),
    "empty": ("", "the file ends there"),
    "fewer samples": (json.dumps([GOOD[0][:4], GOOD[1][:4]]), "joints of 4 samples, .* truth of 5"),
    "fewer meshes": (json.dumps([GOOD[0], GOOD[1][:3]]), "expected 5 predicted meshes.* got 3"),
    "more meshes": (json.dumps([GOOD[0], GOOD[1] + GOOD[1]]), "expected 5 predicted meshes.* got more"),
    "no vertices": (json.dumps([GOOD[0], [[]] * 5]), "vertices of sample 0: expected V x 3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_predictions_are_refused(name, truth, tmp_path):
    text, message = BROKEN[name]
    path = tmp_path / "pred.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        score_file(truth, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_none_are_refused(truth, tmp_path):
    good = write_predictions(tmp_path / "pred.json", *CASES["near"])
    with pytest.raises(PredictionError, match="no prediction file"):
        score_file(truth, tmp_path / "missing.json", tmp_path)
    (tmp_path / "image").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(PredictionError, match="neither JSON nor a zip"):
        score_file(truth, tmp_path / "image", tmp_path)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    with pytest.raises(PredictionError, match=r"holds \['a.json', 'b.json'\]; expected one"):
        score_file(truth, tmp_path / "two.zip", tmp_path)
    with pytest.raises(PredictionError, match=r"no evaluation_xyz.json .* unpack FreiHAND's evaluation archive"):
        score_file(tmp_path, good, tmp_path)
    half = (truth / "evaluation_verts.json").read_text()[:-500]
    (truth / "evaluation_verts.json").write_text(half)
    with pytest.raises(PredictionError, match=r"evaluation_verts\.json ends in the middle, after 4 rows"):
        score_file(truth, good, tmp_path)


def test_the_text_of_known_metrics():
    assert official_text({"xyz_mean3d": 70.786, "mesh_auc3d": -1.0}) == "xyz_mean3d: 70.786000\nmesh_auc3d: -1.000000\n"
