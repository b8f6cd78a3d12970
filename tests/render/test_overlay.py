"""What is drawn, and that both renderers draw it at the same place."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from posed_hand import posed_hand

from handmesh import skeleton
from handmesh.geometry import project
from handmesh.render import pyrender, rasterizer
from handmesh.render.overlay import SIDE_COLOURS, Style, overlay, shade
from handmesh.types import Camera

CAMERA = Camera.from_fov(320, 240)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)


def grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def test_shade_gives_colour_and_depth_in_the_same_places():
    hand = posed_hand(CAMERA)
    rgba, depth = shade(hand.vertices_m, hand.faces, CAMERA, colour=(0.2, 0.9, 0.2))
    assert rgba.shape == (240, 320, 4) and rgba.dtype == np.uint8 and depth.dtype == np.float32
    np.testing.assert_array_equal(rgba[..., 3] > 0, np.isfinite(depth))
    x, y = np.round(hand.joints_px[skeleton.ROOT]).astype(int)
    assert rgba[y, x, 3] == 255 and rgba[y, x, 1] > 1.5 * rgba[y, x, 0]
    assert depth[y, x] == pytest.approx(hand.joints_m[skeleton.ROOT, 2], abs=0.03)


@pytest.mark.parametrize("side", ["right", "left"])
def test_lit_from_outside(side):
    """Where the camera sees the outside, normals point to it: nothing of an upright hand is in the dark."""
    hand = posed_hand(CAMERA, side=side)
    normals = rasterizer.vertex_normals(hand.vertices_m, hand.faces)
    outward = hand.vertices_m - hand.vertices_m.mean(0)
    assert (np.sign((normals * outward).sum(1)) > 0).mean() > 0.7
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    points = np.concatenate([project(hand.vertices_m, CAMERA), hand.vertices_m[:, 2:]], 1).astype(np.float32)
    fragments = rasterizer.rasterize(points, hand.faces, 240, 320)
    inside = rasterizer.seen_from_within(points, hand.faces)
    assert inside[fragments.face[fragments.face >= 0]].mean() < 0.02


def test_a_hand_cut_by_the_border_or_out_of_sight(image):
    whole = posed_hand(CAMERA)
    x = float(whole.joints_m[skeleton.WRIST, 2]) * 160 / CAMERA.fx  # half of it leaves the image
    cut = posed_hand(CAMERA, position_m=(x, 0.0, 0.5))
    covered = np.isfinite(shade(cut.vertices_m, cut.faces, CAMERA)[1])
    assert 0 < covered.sum() < np.isfinite(shade(whole.vertices_m, whole.faces, CAMERA)[1]).sum()
    assert covered[:, -1].any()
    for position in ((5.0, 0.0, 0.5), (0.0, 0.0, -0.5), (0.0, 0.0, 0.0)):
        gone = posed_hand(CAMERA, position_m=position)
        drawn = overlay(image, [gone], CAMERA, Style(wireframe=True, skeleton=False))
        assert drawn.shape == image.shape
        if position[2] != 0:
            np.testing.assert_array_equal(drawn, image)


def test_overlay_changes_only_the_hand_and_not_its_input(image):
    before, hand = image.copy(), posed_hand(CAMERA)
    drawn = overlay(image, [hand], CAMERA)
    np.testing.assert_array_equal(image, before)
    covered = np.isfinite(shade(hand.vertices_m, hand.faces, CAMERA)[1])
    np.testing.assert_array_equal(drawn[~covered], image[~covered])
    assert (drawn[covered] != image[covered]).any(1).mean() > 0.95
    np.testing.assert_array_equal(overlay(image, []), image)
    np.testing.assert_array_equal(overlay(image, [hand], CAMERA, Style(opacity=0.0)), image)


def test_without_a_camera_the_usual_one_is_assumed(image):
    hand = posed_hand(CAMERA)
    np.testing.assert_array_equal(overlay(image, [hand]), overlay(image, [hand], CAMERA))


def test_the_nearer_hand_hides_the_farther_in_any_order(image):
    near, far = posed_hand(CAMERA, (0, 0, 0.4)), posed_hand(CAMERA, (0, 0, 0.6), side="left")
    drawn = overlay(image, [near, far], CAMERA, Style(opacity=1.0))
    np.testing.assert_array_equal(drawn, overlay(image, [far, near], CAMERA, Style(opacity=1.0)))
    x, y = np.round(near.joints_px[skeleton.ROOT]).astype(int)
    red, _, blue = drawn[y, x].astype(int)
    assert blue > red and SIDE_COLOURS["right"][2] > SIDE_COLOURS["right"][0]


def test_wireframe_shows_lines_and_only_lines_without_the_mesh(image):
    hand = posed_hand(CAMERA, (0, 0, 0.25))
    mesh, both, lines, nothing = (
        overlay(image, [hand], CAMERA, Style(mesh=m, wireframe=w)) for m, w in ((1, 0), (1, 1), (0, 1), (0, 0))
    )
    covered = np.isfinite(shade(hand.vertices_m, hand.faces, CAMERA)[1])
    assert both[covered].mean() < mesh[covered].mean() - 5
    changed = (lines != image).any(-1)
    assert 0.1 < changed[covered].mean() < 0.9
    np.testing.assert_array_equal(nothing, image)


def test_skeleton_marks_the_joints_and_survives_bad_ones(image):
    hand = posed_hand(CAMERA)
    drawn = overlay(image, [hand], CAMERA, Style(mesh=False, skeleton=True))
    for x, y in np.round(hand.joints_px).astype(int):
        assert (drawn[y, x] != image[y, x]).any()
    for bad in (np.nan, np.inf, 1e9):
        broken = replace(hand, joints_px=np.full((21, 2), bad, np.float32))
        np.testing.assert_array_equal(overlay(image, [broken], CAMERA, Style(mesh=False, skeleton=True)), image)


def test_outline_is_smooth():
    hand = posed_hand(CAMERA)
    alpha = shade(hand.vertices_m, hand.faces, CAMERA)[0][..., 3]
    inner = cv2.erode((alpha > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert (alpha[inner] == 255).all()
    assert (alpha[(alpha > 0) & ~inner] < 255).all()


def test_unknown_renderers_are_named():
    hand = posed_hand(CAMERA)
    with pytest.raises(ValueError, match="'opengl'; known are zbuffer, pyrender"):
        shade(hand.vertices_m, hand.faces, CAMERA, renderer="opengl")


@pytest.mark.parametrize("rotation_deg", [(0, 0, 0), (60, -30, 40), (100, 10, 10)])
def test_pyrender_has_the_same_silhouette_within_a_pixel(rotation_deg):
    camera = replace(CAMERA, fx=300.0, cx=150.0, cy=130.5)
    hand = posed_hand(camera, (0.01, -0.02, 0.4), rotation_deg)
    _, fast = shade(hand.vertices_m, hand.faces, camera)
    try:
        rgba, slow = shade(hand.vertices_m, hand.faces, camera, renderer="pyrender")
    except pyrender.RendererError as error:
        pytest.skip(str(error))
    a, b = np.isfinite(fast), np.isfinite(slow)
    assert a.sum() > 3000
    assert not (a & ~grown(b)).any() and not (b & ~grown(a)).any()
    assert np.median(np.abs(fast[a & b] - slow[a & b])) < 1e-3  # pyrender's is of a sample beside the pixel's centre
    np.testing.assert_array_equal(rgba[..., 3] > 0, rgba[..., :3].any(-1))


def test_pyrender_without_opengl_says_so_in_one_line(monkeypatch):
    class Broken:
        def OffscreenRenderer(self, *size: int) -> None:
            raise ImportError("Unable to load EGL library")

    monkeypatch.setattr(pyrender, "of_this_thread", type("Empty", (), {})())
    with pytest.raises(pyrender.RendererError, match=r"use the renderer 'zbuffer'") as caught:
        pyrender.offscreen_renderer(Broken(), CAMERA)
    assert "\n" not in str(caught.value)
