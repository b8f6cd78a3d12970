"""Projection and the closed-form distance."""

from __future__ import annotations

import numpy as np
import pytest

from handmesh import geometry
from handmesh.types import Camera

CAM = Camera(610.0, 590.0, 322.0, 236.0, 640, 480)


def test_project_and_unproject_are_inverse():
    points = np.random.default_rng(0).uniform([-0.2, -0.2, 0.3], [0.2, 0.2, 1.0], (30, 3))
    pixels = geometry.project(points, CAM)
    np.testing.assert_allclose(geometry.unproject(pixels, points[:, 2], CAM), points, atol=1e-12)
    np.testing.assert_allclose(np.array([0, 0, 2.0]) @ CAM.K.T / 2, [CAM.cx, CAM.cy, 1])


def test_root_translation_is_exact_without_noise():
    rng = np.random.default_rng(1)
    for _ in range(50):
        joints = rng.normal(scale=0.05, size=(21, 3))
        root = rng.uniform([-0.3, -0.2, 0.3], [0.3, 0.2, 1.2])
        pixels = geometry.project(joints + root, CAM)
        np.testing.assert_allclose(geometry.least_squares_translation(joints, pixels, CAM), root, atol=1e-9)


def test_root_translation_ignores_points_without_weight():
    rng = np.random.default_rng(2)
    joints, root = rng.normal(scale=0.05, size=(21, 3)), np.array([0.05, -0.02, 0.5])
    pixels = geometry.project(joints + root, CAM)
    pixels[3] += 200
    weights = np.ones(21)
    weights[3] = 0
    np.testing.assert_allclose(geometry.least_squares_translation(joints, pixels, CAM, weights), root, atol=1e-9)


def test_one_pixel_has_no_distance():
    with pytest.raises(ValueError, match="do not determine"):
        geometry.least_squares_translation(np.zeros((21, 3)), np.full((21, 2), 100.0), CAM)


def test_field_of_view_spans_the_longer_side():
    cam = Camera.from_fov(640, 480, 90.0)
    edge = geometry.unproject(np.array([639.5, cam.cy]), np.array(1.0), cam)
    assert edge[0] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="field of view"):
        Camera.from_fov(640, 480, 180.0)
