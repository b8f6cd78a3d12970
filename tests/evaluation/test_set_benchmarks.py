"""HO-3D's and DexYCB's benchmarks against slow twins written from the sets' own evaluation code, and whole runs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from hand_scenes import network_outputs  # noqa: E402
from set_files import CAMERA, FLIP, TrueHand, mano_order, open_hand, true_hand, write_dexycb, write_ho3d  # noqa: E402
from test_freihand_score import CASES, TRUE_JOINTS, TRUE_VERTICES, slow_mean_and_area, slow_scores, slowly_aligned  # noqa: E402

from handmesh.cli import main  # noqa: E402
from handmesh.data.sets import dexycb, read_set  # noqa: E402
from handmesh.evaluation.hands import Predictions  # noqa: E402
from handmesh.evaluation.metrics import align, errors  # noqa: E402
from handmesh.evaluation.predictor import Predictor  # noqa: E402
from handmesh.evaluation.published import FREIHAND  # noqa: E402
from handmesh.evaluation.sets import dexycb_score, ho3d_score, with_tips  # noqa: E402
from handmesh.geometry import mirror_faces, project  # noqa: E402
from handmesh.types import Box, Hand  # noqa: E402

SIZE, BOX_SCALE = 64, 1.5


def slow_ho3d(joints, vertices, true_joints, true_vertices) -> dict[str, float]:
    """HO-3D's metrics by its own names, of joints in MANO's order before an OpenGL camera, one sample at a time."""
    of_freihand = slow_scores(joints, vertices, true_joints, true_vertices)
    renamed = {name.replace("xyz_al", "xyz_procrustes_al"): value for name, value in of_freihand.items()}
    moved = []
    for truth, points in zip(true_joints, joints, strict=True):
        length = np.sqrt(((points[4] - points[0]) ** 2).sum())
        scaled = points / length if length > 0 else points
        scaled = scaled * np.sqrt(((truth[4] - truth[0]) ** 2).sum())
        moved.append(scaled - scaled[0:1] + truth[0:1])
    mean, area = slow_mean_and_area(list(zip(true_joints, moved, strict=True)))
    return renamed | {"xyz_scale_trans_al_mean3d": 100 * mean, "xyz_scale_trans_al_auc3d": area}


def slow_dexycb(joints_mm, true_mm) -> list[tuple[float, float]]:
    """Mean error in mm and area of: absolute, root-relative, Procrustes, one sample at a time."""
    kinds = ([], [], [])
    for truth, points in zip(true_mm, joints_mm, strict=True):
        kinds[0].append((truth, points))
        kinds[1].append((truth - truth[0], points - points[0]))
        kinds[2].append((truth, slowly_aligned(truth, points)))
    # the thresholds are 0 to 50 mm in 100 steps: FreiHAND's, a thousand times as large
    pairs = [[(1e-3 * truth, 1e-3 * points) for truth, points in kind] for kind in kinds]
    return [(1000 * mean, area) for mean, area in map(slow_mean_and_area, pairs)]


def parsed(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (line.split(": ") for line in text.splitlines())}


def as_ho3d(points: np.ndarray) -> list[np.ndarray]:
    """Official order and axes."""
    return [mano_order(each @ FLIP) for each in points]


@pytest.mark.parametrize("case", CASES)
def test_ho3d_against_the_slow_twin(case):
    joints, vertices = CASES[case]
    expected = slow_ho3d(as_ho3d(joints), vertices @ FLIP, as_ho3d(TRUE_JOINTS), TRUE_VERTICES @ FLIP)
    given = ho3d_score(joints, TRUE_JOINTS, (vertices, TRUE_VERTICES))
    assert parsed(given.text) == {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}
    for one in given.measured:
        assert 100 * one.errors_m.mean() == pytest.approx(expected[f"{one.name}_mean3d"], abs=1e-9)
    assert list(parsed(given.text))[4] == "xyz_scale_trans_al_mean3d" and len(parsed(given.text)) == 14


@pytest.mark.parametrize("case", CASES)
def test_dexycb_against_the_slow_twin(case):
    joints = CASES[case][0]
    given = dexycb_score(joints, TRUE_JOINTS)
    for one, (mean, _) in zip(given.measured, slow_dexycb(1000 * joints, 1000 * TRUE_JOINTS), strict=True):
        assert one.metric().value == pytest.approx(mean, abs=1e-6)
    rows = [line.split(" | ") for line in given.text.splitlines()[2:]]
    areas = [area for _, area in slow_dexycb(1000 * joints, 1000 * TRUE_JOINTS)]
    assert [float(row[2].strip(" |")) for row in rows] == pytest.approx(areas, abs=5.1e-5)


def test_alignments_are_told_apart():
    score = dexycb_score(*CASES["near"][:1], TRUE_JOINTS)
    means = [one.errors_m.mean() for one in score.measured]
    assert len({round(mean, 5) for mean in means}) == 3 and means[2] < min(means[:2])


def test_tips_are_the_sets_own_vertices_on_manos_mesh_alone():
    rng = np.random.default_rng(0)
    for count, moved in ((778, 5), (1689, 0)):
        joints, vertices = rng.normal(size=(2, 21, 3)), rng.normal(size=(2, count, 3))
        found = with_tips(Predictions(joints, vertices, np.ones(2, bool), np.ones(2, bool), 1.0), dexycb.TIP_VERTICES)
        assert (found != joints).all(-1).sum(1).tolist() == [moved] * 2
        if moved:
            np.testing.assert_array_equal(found[:, 8], vertices[:, 317])


# whole runs


def knowing(hands: list[TrueHand]) -> Predictor:
    """A network that knows what the next crop shows, boxed upright around its joints."""
    faces = open_hand().faces
    left: Iterator[TrueHand] = iter(hands)

    def see(true: TrueHand) -> dict[str, np.ndarray]:
        joints_px = project(true.joints_m, CAMERA)
        mirrored = true.side == "left"
        hand = Hand(
            true.vertices_m, true.joints_m, joints_px, true.side, 1.0, true.rotations, true.shape,
            mirror_faces(faces) if mirrored else faces,
        )  # fmt: skip
        box = Box.around(joints_px, BOX_SCALE, rotation=False)
        return network_outputs(hand, box, mirrored, SIZE, CAMERA)

    def run(crops: np.ndarray) -> dict[str, np.ndarray]:
        parts = [see(next(left)) for _ in crops]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return Predictor("knowing", "0" * 64, "none", "", SIZE, BOX_SCALE, faces, open_hand().num_vertices, "a test", run)


@pytest.mark.filterwarnings("ignore:.*lacks subjects")
@pytest.mark.parametrize("side, sequence", [("left", 0), ("right", 1)])
def test_a_network_that_knows_has_no_error_on_either_hand(side, sequence, tmp_path, monkeypatch):
    root = write_dexycb(tmp_path / "set", sequences=(sequence,))
    knows = knowing([true_hand(sequence, side)] * 8)
    monkeypatch.setattr("handmesh.evaluation.sets.open_predictor", lambda *_: knows)
    out = tmp_path / "out"
    assert main(["evaluate", "dexycb", str(root), "--split", "s0_train", "--output", str(out), "--submission"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert all(one["value"] < 0.05 for one in metrics["metrics"].values()) and metrics["samples"] == 8
    assert "not to be compared" in metrics["notes"][0]
    lines = [line.split(",") for line in (out / "results.txt").read_text().splitlines()]
    assert [int(line[0]) for line in lines] == read_set("dexycb", root).ids.tolist()
    joints_mm = np.array(lines[3][1:], float).reshape(21, 3)
    assert np.abs(joints_mm - 1000 * true_hand(sequence, side).joints_m).max() < 0.1


def test_the_submission_scores_by_ho3ds_own_rules_as_the_report_says(tmp_path, capsys):
    """The server's order and axes: the zip against the released lists as they are."""
    root, out = write_ho3d(tmp_path / "set", train=0, evaluation=2), tmp_path / "out"
    args = ["--model", "fast", "--output", str(out), "--submission", "--device", "cpu"]
    assert main(["evaluate", "ho3d", str(root), *args]) == 0
    with zipfile.ZipFile(out / "pred.zip") as archive:
        joints, vertices = map(np.array, json.loads(archive.read("pred.json")))
    truth = [np.array(json.loads((root / f"evaluation_{name}.json").read_text())) for name in ("xyz", "verts")]
    assert joints.shape == truth[0].shape == (2, 21, 3) and (joints[..., 2] < 0).all()
    scores = parsed((out / "scores.txt").read_text())
    expected = slow_ho3d(list(joints), vertices, list(truth[0]), truth[1])
    assert scores == {name: pytest.approx(value, abs=2e-5) for name, value in expected.items()}
    said = capsys.readouterr().out
    assert "given-box" in said and "scale and translation" in said and (out / "report.html").is_file()
    assert "pred.zip holds 2 samples" in said


def test_ho3d_without_its_truth_gives_the_submission_alone(tmp_path, capsys):
    root, out = write_ho3d(tmp_path / "set", train=0, truth=False), tmp_path / "out"
    assert main(["evaluate", "ho3d", str(root), "--model", "fast", "--output", str(out), "--submission"]) == 0
    assert (out / "pred.zip").is_file() and not (out / "scores.txt").exists()
    assert "nothing can be measured here" in capsys.readouterr().out
    assert main(["evaluate", "ho3d", str(root), "--crop", "gt-keypoints", "--output", str(tmp_path / "no")]) != 0
    assert "take --crop given-box" in capsys.readouterr().err


def test_published_rows_have_sources_and_none_twice():
    assert all(row.source for row in FREIHAND)
    assert len({row[1:5] for row in FREIHAND if row.f_5}) == sum(row.f_5 is not None for row in FREIHAND)
    np.testing.assert_allclose(errors(align(TRUE_JOINTS, TRUE_JOINTS), TRUE_JOINTS), 0, atol=1e-8)
