"""Hands of known joints before a camera, and images of them: what the twins of public data sets are made of."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project, unproject
from handmesh.hand.lbs import SkinnedHand
from handmesh.render.rasterizer import rasterize, vertex_normals
from handmesh.types import Camera, Hand, Side

_SKIN = np.array([205, 150, 120])


def random_hand(
    rng: np.random.Generator, camera: Camera, side: Side, middle_px: tuple[float, float], depth_m: float = 0.6
) -> Hand:
    """A random pose and shape, however turned, the middle of its joints at a pixel."""
    bends = rng.normal(scale=0.25, size=(15, 3))
    wrist = Rotation.random(random_state=int(rng.integers(2**31)))
    pose = np.concatenate([wrist.as_matrix()[None], Rotation.from_rotvec(bends).as_matrix()])
    return placed_hand(pose, rng.normal(0, 0.7, 10), camera, side, middle_px, depth_m)


def placed_hand(
    pose: np.ndarray, shape: np.ndarray, camera: Camera, side: Side, middle_px: tuple[float, float], depth_m: float
) -> Hand:
    """The open hand of (16, 3, 3) rotations, of a right hand, and (10,) shape; mirrored for a left one."""
    model, faces = SkinnedHand.open_hand(), SkinnedHand.open_hand().faces
    vertices, joints = (points.astype(np.float64) for points in model.posed(pose, model.rest(shape)))
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
        faces = mirror_faces(faces)
    move = unproject(np.array(middle_px), np.array(depth_m), camera) - joints.mean(0)
    joints = joints + move
    return Hand(vertices + move, joints, project(joints, camera), side, 1.0, pose, np.asarray(shape), faces)


def draw_hands(
    hands: Sequence[Hand], camera: Camera, rng: np.random.Generator, ground: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB of hands over coloured ground, and (H, W) int of which hand a pixel shows; -1: none."""
    coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC)
    image = image if ground is None else ground.copy()
    owner, nearest = np.full(image.shape[:2], -1), np.full(image.shape[:2], np.inf)
    for k, hand in enumerate(hands):
        points = np.concatenate([project(hand.vertices_m, camera), hand.vertices_m[:, 2:]], 1).astype(np.float32)
        seen = rasterize(points, hand.faces, *image.shape[:2])
        normals = vertex_normals(hand.vertices_m.astype(np.float32), hand.faces)
        facing = -normals[hand.faces[seen.face, 0], 2]
        shown = (seen.face >= 0) & (seen.depth < nearest)
        image[shown] = np.clip(_SKIN * (0.5 + 0.5 * np.clip(facing[shown], 0, 1))[:, None], 0, 255)
        owner[shown], nearest[shown] = k, seen.depth[shown]
    return image, owner


def inside(joints_px: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., J, 2) pixels: which lie in the image."""
    return ((joints_px >= 0) & (joints_px < [camera.width, camera.height])).all(-1)
