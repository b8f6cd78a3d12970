"""Metrics against closed forms and against slow twins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handmesh.evaluation import metrics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def hand_like(rng: np.random.Generator, samples: int = 4, points: int = 21) -> np.ndarray:
    return rng.normal(scale=0.04, size=(samples, points, 3)) + np.array([0.0, 0.0, 0.6])


def test_a_shift_is_the_error(rng):
    truth = hand_like(rng)
    np.testing.assert_allclose(metrics.errors(truth + np.array([0.003, 0.0, 0.004]), truth), 0.005, atol=1e-12)


def test_alignment_undoes_a_similarity(rng):
    truth = hand_like(rng)
    rotation = Rotation.random(4, random_state=1).as_matrix()
    moved = 1.7 * truth @ rotation + rng.normal(size=(4, 1, 3))
    assert metrics.errors(metrics.align(moved, truth), truth).max() < 1e-7  # FreiHAND's 1e-8 in the norms stays


def test_alignment_allows_a_reflection(rng):
    truth = hand_like(rng)
    assert metrics.errors(metrics.align(truth * [-1.0, 1, 1], truth), truth).max() < 1e-7


def test_alignment_does_not_change_with_how_the_prediction_lies(rng):
    truth, predicted = hand_like(rng), hand_like(rng)
    rotation = Rotation.from_rotvec([0.4, -1.0, 2.0]).as_matrix()
    aligned = metrics.align(predicted, truth)
    np.testing.assert_allclose(metrics.align(3.0 * predicted @ rotation + 0.2, truth), aligned, atol=1e-7)


def test_alignment_is_the_best_of_its_kind(rng):
    """No similarity nearby does better in the least-squares sense."""
    truth, predicted = hand_like(rng, 1), hand_like(rng, 1)
    aligned = metrics.align(predicted, truth)
    best = np.square(aligned - truth).sum()
    for _ in range(50):
        rotation = Rotation.from_rotvec(rng.normal(scale=0.02, size=3)).as_matrix()
        other = (
            (aligned - truth.mean(1)) @ rotation * rng.normal(1, 0.02) + truth.mean(1) + rng.normal(scale=1e-3, size=3)
        )
        assert np.square(other - truth).sum() >= best


def test_a_prediction_of_zeros_aligns_to_the_centroid(rng):
    truth = hand_like(rng)
    zeros = np.zeros_like(truth)
    to_centroid = np.linalg.norm(truth - truth.mean(1, keepdims=True), axis=-1)
    np.testing.assert_allclose(metrics.errors(metrics.align(zeros, truth), truth), to_centroid, atol=1e-12)
    np.testing.assert_allclose(metrics.errors(zeros, truth), np.linalg.norm(truth, axis=-1), atol=1e-12)


def f_score_by_brute_force(predicted: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    distance = np.linalg.norm(predicted[:, None] - truth[None], axis=-1)
    precision, recall = (distance.min(1) < threshold).mean(), (distance.min(0) < threshold).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@pytest.mark.parametrize("count", [60, 45])
def test_f_scores_against_brute_force(rng, count):
    truth, predicted = rng.uniform(0, 0.06, (60, 3)), rng.uniform(0, 0.06, (count, 3))
    expected = [f_score_by_brute_force(predicted, truth, threshold) for threshold in metrics.F_THRESHOLDS_M]
    assert 0 < expected[0] < expected[1] < 1
    np.testing.assert_allclose(metrics.f_scores(predicted, truth), expected, atol=1e-12)


def test_f_scores_are_strict_at_the_threshold():
    truth, half_away = np.zeros((1, 3)), np.array([[0.5, 0, 0]])
    assert metrics.f_scores(half_away, truth, (0.5,)) == 0
    assert metrics.f_scores(half_away, truth, (np.nextafter(0.5, 1),)) == 1
    assert metrics.f_scores(truth + 9.0, truth, (0.5,)) == 0


def auc_by_brute_force(errors_m: np.ndarray) -> float:
    """Per point: the fraction of samples at or below each threshold, its trapezoids; then the mean over points."""
    thresholds = np.linspace(0, 0.05, 100)
    areas = []
    for point in errors_m.T:
        fractions = [np.mean([error <= threshold for error in point]) for threshold in thresholds]
        steps = zip(thresholds, thresholds[1:], fractions, fractions[1:], strict=False)
        areas.append(sum((right - left) * (a + b) / 2 for left, right, a, b in steps) / 0.05)
    return float(np.mean(areas))


def test_auc_against_brute_force(rng):
    values = rng.uniform(0, 0.06, (12, 5))
    values[0] = metrics.PCK_THRESHOLDS_M[[0, 1, 40, 98, 99]]  # at a threshold counts as below it
    assert metrics.auc(values) == pytest.approx(auc_by_brute_force(values), abs=1e-12)


def test_auc_of_perfect_and_hopeless():
    assert metrics.auc(np.zeros((3, 21))) == pytest.approx(1.0, abs=1e-12)
    assert metrics.auc(np.full((3, 21), 0.0500001)) == 0.0


def means(errors: metrics.MeshErrors) -> dict[str, float]:
    return {name: float(column.mean()) for name, column in errors.per_sample().items()}


def test_mesh_errors_of_the_truth(rng):
    joints, vertices = hand_like(rng), hand_like(rng, points=50)
    summary = means(metrics.mesh_errors(joints, vertices, joints, vertices))
    lengths = {name: value for name, value in summary.items() if "MP" in name}
    assert set(lengths) == {"MPJPE", "PA-MPJPE", "MPVPE", "PA-MPVPE"} and max(lengths.values()) < 1e-3
    fractions = {name: value for name, value in summary.items() if name not in lengths}
    assert set(fractions) == {"F@5", "PA-F@5", "F@15", "PA-F@15", "AUC-J", "PA-AUC-J", "AUC-V", "PA-AUC-V"}
    assert min(fractions.values()) > 0.99


def test_joints_and_vertices_are_aligned_separately(rng):
    """Two different moves leave no error."""
    joints, vertices = hand_like(rng), hand_like(rng, points=50)
    summary = means(metrics.mesh_errors(joints + 0.05, 1.4 * vertices - 0.1, joints, vertices))
    assert summary["PA-MPJPE"] < 1e-3 and summary["PA-MPVPE"] < 1e-3
    assert summary["MPJPE"] == pytest.approx(1000 * 0.05 * 3**0.5)


def test_unequal_vertex_counts_take_the_joints_alignment(rng):
    joints, vertices = hand_like(rng, 2), hand_like(rng, 2, points=50)
    predicted_joints, predicted_vertices = hand_like(rng, 2), hand_like(rng, 2, points=40)
    result = metrics.mesh_errors(predicted_joints, predicted_vertices, joints, vertices)
    assert result.vertices_m is None and not {"MPVPE", "AUC-V"} & set(result.per_sample())
    for i in range(2):
        centred, target = predicted_joints[i] - predicted_joints[i].mean(0), joints[i] - joints[i].mean(0)
        u, weights, vt = np.linalg.svd(centred.T @ target)
        rotated = (predicted_vertices[i] - predicted_vertices[i].mean(0)) @ (u @ vt)
        # The trace of the norm-scaled problem times the target's norm, not divided by the source's.
        moved = rotated * weights.sum() / np.linalg.norm(centred)
        moved += joints[i].mean(0) - predicted_joints[i].mean(0) + predicted_vertices[i].mean(0)
        expected = [f_score_by_brute_force(moved, vertices[i], threshold) for threshold in metrics.F_THRESHOLDS_M]
        assert expected[1] > 0
        np.testing.assert_allclose(result.f_scores_aligned[i], expected, atol=1e-9)


def test_errors_2d_are_fractions_of_the_longer_side():
    truth = np.zeros((1, 21, 2))
    truth[0, 0], truth[0, 1] = [100, 0], [0, 50]
    np.testing.assert_allclose(metrics.errors_2d(truth + np.array([0, 10]), truth), 0.1)
    with pytest.raises(ValueError, match="one pixel"):
        metrics.errors_2d(truth, np.zeros((1, 21, 2)))


def test_shapes_are_checked(rng):
    with pytest.raises(ValueError, match="one shape"):
        metrics.errors(hand_like(rng), hand_like(rng, points=20))
    with pytest.raises(ValueError, match=r"got \(21, 3\)"):
        metrics.align(hand_like(rng)[0], hand_like(rng)[0])
    with pytest.raises(ValueError, match="number of samples"):
        metrics.mesh_errors(*[hand_like(rng, k) for k in (2, 2, 3, 2)])


def test_bootstrap_covers_the_mean_and_repeats(rng):
    values = rng.normal(3.0, 1.0, 400)
    low, high = metrics.bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert metrics.bootstrap(values) == (low, high)
    assert metrics.bootstrap(values, np.median) != (low, high)


def test_fingertips_along_their_fingers_are_signed():
    """Five fingers upwards; their tips are moved by hand, in pixels of a box whose longer side is 100."""
    truth = np.zeros((1, 21, 2))
    truth[0, 1:] = [(20 * finger, -25 * k) for finger in range(5) for k in range(1, 5)]
    predicted = truth + 0.0
    predicted[0, [4, 8, 12, 16]] += [(0, 10), (0, -5), (7, 0), (3, 10)]  # short, long, beside, short and beside
    predicted[0, 7] += 50  # no tip
    found = metrics.tip_errors_along_finger(predicted, truth)
    np.testing.assert_allclose(found, [[-0.1, 0.05, 0, -0.1, 0]], atol=1e-12)


def test_a_fingertip_on_its_joint_has_no_direction():
    truth = np.zeros((1, 21, 2))
    truth[0, 0] = (10, 10)
    assert (metrics.tip_errors_along_finger(truth + 3, truth) == 0).all()


def test_pairs_are_taken_nearest_first_or_in_turn():
    distances = np.array([[0.3, 0.1, 0.9], [0.2, 0.4, 0.2]])
    assert metrics.nearest_pairs(distances, 0.5) == {0: 1, 1: 0}
    assert metrics.nearest_pairs(distances, 0.5, in_turn=True) == {1: 0, 0: 1}
    assert metrics.nearest_pairs(np.array([[0.3, 0.1], [0.4, 0.2]]), 0.5, in_turn=True) == {0: 0, 1: 1}
    assert metrics.nearest_pairs(distances, 0.15) == {0: 1} and metrics.nearest_pairs(np.zeros((2, 0)), 0.5) == {}
