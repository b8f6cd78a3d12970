"""Values that are no numbers are refused where they come in."""

from __future__ import annotations

import numpy as np
import pytest

from handmesh.types import Camera

GIVEN = {"fx": 500.0, "fy": 500.0, "cx": 320, "cy": np.float32(240), "width": 640, "height": np.int64(480)}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("value", [None, "500", 1j, 10**400, [500.0]], ids=repr)
def test_a_camera_of_what_are_no_numbers_is_refused_at_once(name, value):
    assert Camera(**GIVEN).K.shape == (3, 3)
    with pytest.raises(ValueError, match=f"^a camera's {name} must be .*$"):
        Camera(**{**GIVEN, name: value})


@pytest.mark.parametrize("name", ["width", "height"])
@pytest.mark.parametrize("value", [640.5, -1, 10**7])
def test_a_camera_has_whole_pixels(name, value):
    with pytest.raises(ValueError, match=f"^a camera's {name} must be .*$"):
        Camera(**{**GIVEN, name: value})


@pytest.mark.parametrize("size", [(None, 480), ("640", 480), (640, 1j), (10**400, 480)])
def test_a_camera_by_its_view_is_of_numbers(size):
    with pytest.raises(ValueError, match=r"^an image's side must be .*$"):
        Camera.from_fov(*size)


def test_a_camera_of_its_matrix():
    camera = Camera(**GIVEN)
    assert Camera.from_matrix(camera.K, 640, 480) == camera
    assert Camera.from_matrix(camera.K.tolist(), 640, 480).K.tolist() == camera.K.tolist()


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.zeros((2, 2)), "expected a (3, 3) intrinsic matrix of numbers, got (2, 2)"),
        ("500", "got ()"),
        ([[500, 0], [0, 500, 0]], "got (0,): [[500"),
        (np.full((3, 3), np.nan), "of numbers"),
        ([[500, 3, 320], [0, 500, 240], [0, 0, 1]], "a camera's matrix is"),
        ([[-500, 0, 320], [0, 500, 240], [0, 0, 1]], "a camera's matrix is"),
        ([[500, 0, 320], [0, 500, 240], [0, 0, 2]], "a camera's matrix is"),
    ],
)
def test_what_is_no_cameras_matrix_is_refused(matrix, reason):
    with pytest.raises(ValueError) as caught:
        Camera.from_matrix(matrix, 640, 480)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fov_deg", [None, "60", 10**400, 1j, float("nan"), 0])
def test_fields_of_view_that_none_has_are_refused(fov_deg):
    with pytest.raises(ValueError, match=r"^the field of view must .*$"):
        Camera.from_fov(640, 480, fov_deg)
