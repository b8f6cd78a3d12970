"""The compiled z-buffer against a plain one, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from posed_hand import posed_hand

from handmesh.geometry import project
from handmesh.render.rasterizer import Fragments, rasterize
from handmesh.types import Camera


def plain_rasterize(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> Fragments:
    """The slow twin: each face at each pixel of the box around it, in double precision."""
    rows_columns = np.mgrid[:height, :width].astype(np.float64)
    face, depth = np.full((height, width), -1, np.int32), np.full((height, width), np.inf)
    barycentric = np.zeros((height, width, 2))
    for k, corners in enumerate(points.astype(np.float64)[faces]):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if corners[:, 2].min() <= 0 or abs(area) < 1e-12:
            continue
        low, high = np.maximum(corners.min(0), 0).astype(int), np.maximum(corners.max(0) + 1, 0).astype(int)
        box = np.s_[low[1] : high[1], low[0] : high[0]]
        y, x = rows_columns[(slice(None), *box)]
        v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        w = ((y - ay) * (bx - ax) - (x - ax) * (by - ay)) / area
        z = 1 / ((1 - v - w) / az + v / bz + w / cz)
        drawn = (v >= 0) & (w >= 0) & (v + w <= 1) & (z < depth[box])
        face[box][drawn], depth[box][drawn] = k, z[drawn]
        barycentric[box][drawn] = np.stack([v * z / bz, w * z / cz], -1)[drawn]
    return Fragments(face, barycentric, depth)


@pytest.fixture(params=[(0, 0, 0), (60, 20, 30), (100, -30, 10)])
def hand_points(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    camera = Camera.from_fov(96, 80, 30)
    hand = posed_hand(camera, rotation_deg=request.param)
    pixels = project(hand.vertices_m, camera)
    return np.concatenate([pixels, hand.vertices_m[:, 2:]], axis=1).astype(np.float32), hand.faces[
        ::3
    ]  # holes do no harm here


def test_agrees_with_the_plain_z_buffer(hand_points):
    points, faces = hand_points
    fast, slow = rasterize(points, faces, 80, 96), plain_rasterize(points, faces, 80, 96)
    assert (slow.face >= 0).sum() > 400
    assert ((fast.face >= 0) != (slow.face >= 0)).sum() <= 2  # pixels that a side runs through
    same = (fast.face == slow.face) & (slow.face >= 0)
    assert same.sum() >= (slow.face >= 0).sum() - 10  # edge-on neighbours at the same depth
    np.testing.assert_allclose(fast.depth[same], slow.depth[same], atol=1e-5)
    # Where a face is seen from its edge, its weights are ill-determined, and its depth is what counts.
    assert np.percentile(np.abs(fast.barycentric - slow.barycentric)[same], 99) < 1e-3


def test_neighbours_leave_no_gap_and_cover_what_they_span():
    rng = np.random.default_rng(0)
    inner = rng.uniform(1, 62, (60, 2))
    square = np.array([[0, 0], [63, 0], [63, 63], [0, 63]], float)
    from scipy.spatial import Delaunay

    plane = np.concatenate([square, inner])
    points = np.column_stack([plane, np.ones(len(plane))]).astype(np.float32)
    fragments = rasterize(points, Delaunay(plane).simplices.astype(np.int32), 64, 64)
    assert (fragments.face >= 0).all()


def test_weights_are_perspective_correct():
    points = np.array([[0, 0, 1.0], [40, 0, 3.0], [0, 40, 1.0]], np.float32)
    fragments = rasterize(points, np.array([[0, 1, 2]], np.int32), 41, 41)
    v, w = fragments.barycentric[10, 20]
    assert fragments.depth[10, 20] == pytest.approx(1 + 2 * v, rel=1e-5)  # z is linear on the surface
    assert v == pytest.approx((20 / 40 / 3) / (20 / 40 / 3 + 20 / 40), rel=1e-5)
    assert 1 - v - w == pytest.approx(3 * v / 2, rel=1e-4)


def test_the_nearest_wins_in_any_order():
    near = np.array([[0, 0, 1.0], [9, 0, 1.0], [0, 9, 1.0]])
    points = np.concatenate([near, near + [0, 0, 1]]).astype(np.float32)
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        fragments = rasterize(points, np.array(faces, np.int32), 10, 10)
        assert fragments.depth[2, 2] == 1.0


def test_both_orientations_are_drawn():
    points = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1]], np.float32)
    for order in ([0, 1, 2], [0, 2, 1]):
        assert (rasterize(points, np.array([order], np.int32), 10, 10).face == 0).sum() == 55


@pytest.mark.parametrize("bad", [(5, 5, -1), (5, 5, 0), (np.nan, 5, 1), (5, np.inf, 1), (5, 5, np.nan), (5, 5, np.inf)])
def test_faces_behind_the_camera_or_nowhere_are_left_out(bad):
    points = np.array([[0, 0, 1], [9, 0, 1], bad, [0, 9, 1]], np.float32)
    fragments = rasterize(points, np.array([[0, 1, 2], [0, 2, 1], [2, 0, 1]], np.int32), 10, 10)
    assert (fragments.face == -1).all() and np.isinf(fragments.depth).all()
    assert (rasterize(points, np.array([[0, 1, 2], [0, 1, 3]], np.int32), 10, 10).face == 1).any()


def test_what_lies_outside_the_image_is_cut_off():
    points = np.array([[-1e6, -1e6, 1], [1e5, -10, 1], [-10, 1e5, 1]], np.float32)
    assert (rasterize(points, np.array([[0, 1, 2]], np.int32), 12, 7).face == 0).all()
    assert (rasterize(points + [2e6, 0, 0], np.array([[0, 1, 2]], np.int32), 12, 7).face == -1).all()


def test_no_faces_and_no_pixels():
    assert (rasterize(np.zeros((0, 3)), np.zeros((0, 3), int), 4, 5).face == -1).all()
    assert rasterize(np.ones((3, 3)), np.array([[0, 1, 2]]), 0, 0).depth.shape == (0, 0)
