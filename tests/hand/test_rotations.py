"""Rotations and alignments against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch", reason="geometry is part of the training extra")

from handmesh.hand import rotations as rotations_module  # noqa: E402


def test_axis_angle_agrees_with_scipy():
    vectors = np.random.default_rng(0).normal(size=(100, 3))
    ours = rotations_module.rotation_from_axis_angle(torch.from_numpy(vectors))
    np.testing.assert_allclose(ours, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotations_module.rotation_from_axis_angle(torch.zeros(1, 3))[0], np.eye(3), atol=1e-7)


def test_six_numbers_round_trip_and_are_proper():
    rotations = torch.from_numpy(Rotation.random(50, random_state=1).as_matrix())
    torch.testing.assert_close(rotations_module.rotation_from_6d(rotations_module.rotation_to_6d(rotations)), rotations)
    made = rotations_module.rotation_from_6d(torch.randn(200, 6, dtype=torch.float64))
    torch.testing.assert_close(made @ made.mT, torch.eye(3).double().expand_as(made))
    torch.testing.assert_close(torch.det(made), torch.ones(200).double())


def test_degenerate_six_numbers_stay_finite():
    for six in (torch.zeros(1, 6), torch.ones(1, 6)):
        assert torch.isfinite(rotations_module.rotation_from_6d(six)).all()


def test_procrustes_undoes_a_similarity_but_no_reflection():
    source = torch.randn(4, 21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    R = torch.from_numpy(Rotation.random(4, random_state=2).as_matrix())
    moved = 1.7 * source @ R.mT + torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(rotations_module.procrustes(source, moved), moved)
    mirrored = source * torch.tensor([-1.0, 1, 1])
    assert (rotations_module.procrustes(mirrored, source) - source).abs().max() > 0.1


def test_weak_perspective_recovers_scale_and_shift_with_weights():
    points = torch.randn(3, 21, 3, dtype=torch.float64)
    target = 2.5 * points[..., :2] + torch.tensor([0.3, -0.1])
    weights = torch.ones(3, 21, dtype=torch.float64)
    target[:, 5] += 10
    weights[:, 5] = 0
    drawn = rotations_module.weak_perspective(points, target, weights)
    keep = [k for k in range(21) if k != 5]
    torch.testing.assert_close(drawn[:, keep], target[:, keep])
