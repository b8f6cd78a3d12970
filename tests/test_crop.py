"""Boxes, crops, mirrors and the crop's own view."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from handmesh import crop, geometry, skeleton
from handmesh.types import Box, Camera, upright_angle_rad

BOX = Box((310.5, 97.25), 83.0, 0.6)


def test_box_corners_become_crop_corners():
    affine = crop.crop_affine(BOX, 96)
    corners = geometry.apply_affine(affine, BOX.corners_px())
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [95.5, -0.5], [95.5, 95.5], [-0.5, 95.5]], atol=1e-9)


@pytest.mark.parametrize("mirror", [False, True])
def test_affine_round_trip(mirror):
    points = np.random.default_rng(0).uniform(0, 400, (50, 2))
    affine = crop.crop_affine(BOX, 128, mirror)
    back = geometry.apply_affine(geometry.invert_affine(affine), geometry.apply_affine(affine, points))
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_mirror_flips_the_crop_left_to_right():
    image = np.random.default_rng(1).integers(0, 255, (200, 400, 3)).astype(np.uint8)
    box = Box((200.0, 100.0), 90.0, 0.3)
    plain = crop.warp(image, crop.crop_affine(box, 90), 90)
    mirrored = crop.warp(image, crop.crop_affine(box, 90, mirror=True), 90)
    assert np.abs(plain[:, ::-1].astype(int) - mirrored).max() <= 2


@pytest.mark.parametrize("shrink", [1, 4, 16])
def test_warp_puts_a_disc_where_the_affine_says(shrink):
    image = np.zeros((960, 960, 3), np.uint8)
    centre = np.array([400.0, 520.0])
    cv2.circle(image, (400, 520), 8 * shrink, (255, 255, 255), -1)
    box = Box((400.0 + 5 * shrink, 520.0 - 3 * shrink), 60.0 * shrink, -0.4)
    affine = crop.crop_affine(box, 60)
    ys, xs = np.nonzero(crop.warp(image, affine, 60)[..., 0] > 127)
    np.testing.assert_allclose([xs.mean(), ys.mean()], geometry.apply_affine(affine, centre), atol=0.3)


def test_normalised_coordinates_round_trip():
    points = np.array([[-0.5, -0.5], [95.5, 95.5], [47.5, 47.5]])
    normalised = crop.normalised_from_px(points, 96)
    np.testing.assert_allclose(normalised, [[-1, -1], [1, 1], [0, 0]])
    np.testing.assert_allclose(crop.px_from_normalised(normalised, 96), points)


def test_view_rotation_looks_at_the_box_and_rolls_with_it():
    cam = Camera.from_fov(640, 480)
    R = crop.view_rotation(cam, BOX)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(geometry.project(R @ [0, 0, 1.0], cam), BOX.centre_px, atol=1e-9)
    step = geometry.project(R @ [0, -1e-4, 1.0], cam) - BOX.centre_px
    up = np.array([math.sin(BOX.angle_rad), -math.cos(BOX.angle_rad)])
    assert step @ up / np.linalg.norm(step) > 0.98  # an oblique ray shears the image a little


def test_view_rotation_at_the_principal_point_is_a_roll():
    cam = Camera.from_fov(640, 480)
    R = crop.view_rotation(cam, Box((cam.cx, cam.cy), 50.0, 0.5))
    np.testing.assert_allclose(R, [[math.cos(0.5), -math.sin(0.5), 0], [math.sin(0.5), math.cos(0.5), 0], [0, 0, 1]])


def test_mirrors_undo_themselves_and_agree():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(5, 3))
    R, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    np.testing.assert_allclose(geometry.mirror_points_m(geometry.mirror_points_m(points)), points)
    np.testing.assert_allclose(
        geometry.mirror_points_m(points @ R.T),
        geometry.mirror_points_m(points) @ geometry.mirror_rotations(R).T,
        atol=1e-12,
    )


def test_box_around_stands_the_hand_upright():
    joints = np.zeros((21, 2))
    joints[:, 0] = np.linspace(100, 180, 21)  # a hand that points to the right
    joints[:, 1] = 50
    assert upright_angle_rad(joints) == pytest.approx(math.pi / 2)
    box = Box.around(joints, scale=1.5)
    in_crop = geometry.apply_affine(crop.crop_affine(box, 100), joints)
    assert in_crop[skeleton.WRIST, 1] > in_crop[9, 1]
    assert box.size_px == pytest.approx(120)
    np.testing.assert_allclose(in_crop.mean(0), [49.5, 49.5], atol=1e-6)


@pytest.mark.parametrize("size", [0.0, -3.0, math.nan, math.inf])
def test_a_box_without_a_side_is_refused(size):
    with pytest.raises(ValueError, match="positive, finite side"):
        crop.crop_affine(Box((0.0, 0.0), size), 96)


@pytest.mark.parametrize("box", [Box((300, 200), 400, 0.4), Box((20, 470), 700, -2.0), Box((620, 10), 1300, 3.0)])
def test_halving_the_part_under_the_crop_gives_what_halving_the_whole_image_does(box):
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    affine = crop.crop_affine(box, 96)
    halved, to_crop, shrink = image, affine, box.size_px / 96
    while shrink > 2:
        halved = cv2.resize(halved, (halved.shape[1] // 2, halved.shape[0] // 2), interpolation=cv2.INTER_AREA)
        to_crop, shrink = to_crop @ np.array([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]]), shrink / 2
    expected = cv2.warpAffine(halved, to_crop, (96, 96), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(crop.warp(image, affine, 96).astype(int) - expected).max() <= 1
