"""The named crop protocols give the boxes that they promise."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from handmesh.data.freihand import CropProtocol, crop_box
from handmesh.types import Box

JOINTS = np.random.default_rng(0).uniform((40, 60), (140, 120), (21, 2))


def test_gt_keypoints_is_the_upright_square_around_the_points():
    box = crop_box("gt-keypoints", JOINTS, 224, 224, 1.25)
    low, high = JOINTS.min(0), JOINTS.max(0)
    assert box.angle_rad == 0, "turning by the truth would give the pose away"
    assert box.size_px == pytest.approx(1.25 * (high - low).max())
    assert box.centre_px == pytest.approx((low + high) / 2)


def test_the_points_order_does_not_matter():
    shuffled = np.random.default_rng(1).permutation(JOINTS)
    assert crop_box("gt-keypoints", shuffled, 224, 224, 1.5) == crop_box("gt-keypoints", JOINTS, 224, 224, 1.5)


@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize("joints_px", [None, JOINTS])
def test_centre_130_knows_nothing_of_the_hand(scale, joints_px):
    assert crop_box("centre-130", joints_px, 224, 200, scale) == Box((111.5, 99.5), 130.0)


def test_the_130_pixels_are_those_in_the_middle():
    corners = crop_box("centre-130", None, 224, 224, 1.0).corners_px()
    np.testing.assert_allclose([corners.min(), corners.max()], [46.5, 176.5])  # the outer borders of pixels 47 and 176


def test_every_name_is_dealt_with_and_no_other():
    assert set(get_args(CropProtocol)) == {"gt-keypoints", "given-box", "centre-130", "detected"}
    with pytest.raises(ValueError, match="needs labelled points; without labels take centre-130"):
        crop_box("gt-keypoints", None, 224, 224, 1.5)
    with pytest.raises(ValueError, match="from the detector"):
        crop_box("detected", JOINTS, 224, 224, 1.5)
    with pytest.raises(
        ValueError, match="unknown crop protocol 'gt'; valid: gt-keypoints, given-box, centre-130, detected"
    ):
        crop_box("gt", JOINTS, 224, 224, 1.5)


def test_a_given_box_is_made_a_square_about_its_middle():
    box = crop_box("given-box", np.array([[10.0, 20.0], [50.0, 100.0]]), 640, 480, 1.5)
    assert box == Box((30.0, 60.0), 120.0)
    with pytest.raises(ValueError, match="given-box needs a given box"):
        crop_box("given-box", None, 640, 480, 1.5)
