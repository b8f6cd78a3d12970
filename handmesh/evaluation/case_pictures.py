"""One sample as three squares: what is labelled, what was predicted, and both from the side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.camera import project
from handmesh.crop import apply_affine, crop_affine, warp
from handmesh.evaluation.sheet import zoomed
from handmesh.render import Colour, draw_skeleton, shade
from handmesh.shading import blend
from handmesh.structs import Box, Camera

MARGIN = 1.6  # a square's side in sides of the tight box
SIDE_VIEW_M = 0.24
"""What the side of the view from the side spans."""

PREDICTED: Colour = (0.58, 0.80, 1.0)
TRUE: Colour = (0.72, 0.72, 0.72)

_GROUND = 248
_DISTANCE_M = 2.0


class Posed(NamedTuple):
    """A hand in the camera's frame, metres."""

    joints_m: np.ndarray  # (21, 3)
    vertices_m: np.ndarray  # (V, 3)


def case_picture(
    image: np.ndarray, camera: Camera, predicted: Posed, truth: Posed | None, faces: np.ndarray, size: int = 192
) -> np.ndarray:
    """(S, 3 S, 3) uint8: the picture with the true joints, with the predicted mesh, and the meshes seen from the side.

    faces: of the predicted mesh. The true mesh is drawn where it has as many vertices. From the
    side the two roots lie together; the eye is to the picture's right, and depth runs to the right.
    """
    joints_px = project((truth or predicted).joints_m, camera)
    affine = crop_affine(Box.around(joints_px, MARGIN, turn=False), size)
    plain = warp(image, affine, size)
    labelled, drawn = plain.copy(), plain.copy()
    if truth is not None:
        draw_skeleton(labelled, apply_affine(affine, joints_px))
    rgba, _ = shade(predicted.vertices_m, faces, zoomed(camera, affine, size), PREDICTED)
    blend(drawn, rgba, 0.9)
    return np.concatenate([labelled, drawn, _from_the_side(predicted, truth, faces, size)], axis=1)


def _from_the_side(predicted: Posed, truth: Posed | None, faces: np.ndarray, size: int) -> np.ndarray:
    hands = [(predicted, PREDICTED)]
    if truth is not None and len(truth.vertices_m) == len(predicted.vertices_m):
        hands.append((truth, TRUE))
    focal = size / SIDE_VIEW_M * _DISTANCE_M
    camera = Camera(focal, focal, (size - 1) / 2, (size - 1) / 2, size, size)
    centre = (truth or predicted).vertices_m.mean(0) - (truth or predicted).joints_m[skeleton.ROOT]
    layers = [shade(_turned(hand, centre), faces, camera, colour) for hand, colour in hands]
    return _nearest(layers, size)


def _turned(hand: Posed, centre_m: np.ndarray) -> np.ndarray:
    """Vertices about the hand's own root, seen along the picture's x axis: depth runs to the right."""
    x, y, z = (hand.vertices_m - hand.joints_m[skeleton.ROOT] - centre_m).T
    return np.stack([z, y, _DISTANCE_M - x], axis=1)


def _nearest(layers: Sequence[tuple[np.ndarray, np.ndarray]], size: int) -> np.ndarray:
    """RGBA pictures with their depths over one ground, each hiding what lies behind it."""
    picture = np.full((size, size, 3), _GROUND, np.uint8)
    depths = np.stack([depth for _, depth in layers])
    for rgba, depth in layers:
        blend(picture, np.where((depth <= depths.min(0))[..., None], rgba, np.uint8(0)), 1.0)
    return picture
