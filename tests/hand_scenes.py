"""Scenes of known hands, and stand-ins for the networks that read them off the pixels they are given.

A `coded_frame` tells each pixel's position by its red and green and the frame's number by its blue.
From a crop of it `SceneSession` recovers how the crop was taken, so that it can answer with the
ground truth exactly as a perfect network would: the crop, the mirror and the way back are all used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.crop import crop_affine, normalised_from_px, view_rotation
from handmesh.detection import Detection
from handmesh.geometry import apply_affine, invert_affine, mirror_faces, mirror_points_m, mirror_rotations, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.types import Box, Camera, Hand, Side

CAMERA = Camera.from_fov(640, 480)
BOX_SCALE = 1.5

_FACES = SkinnedHand.open_hand().faces
_FINGERS_UP_PALM_TO_CAMERA = Rotation.from_matrix(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]))


def posed_hand(
    position_m: Sequence[float] = (0.0, 0.0, 0.5),
    rotation_rad: Sequence[float] = (0.0, 0.0, 0.0),
    side: Side = "right",
    seed: int = 0,
    camera: Camera = CAMERA,
) -> Hand:
    """The bundled hand with its root at `position_m`, fingers up and palm to the camera but for `rotation_rad`."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(0, 0.5, 10)
    bends = rng.normal(0, 0.25, (15, 3))
    wrist = Rotation.from_rotvec(rotation_rad) * _FINGERS_UP_PALM_TO_CAMERA
    pose = np.concatenate([wrist.as_matrix()[None], Rotation.from_rotvec(bends).as_matrix()])
    model = SkinnedHand.open_hand()
    vertices, joints = model.posed(pose, model.rest(shape))
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
    move = np.asarray(position_m) - joints[skeleton.ROOT]
    faces = _FACES if side == "right" else mirror_faces(_FACES)
    joints = joints + move
    return Hand(vertices + move, joints, project(joints, camera), side, 1.0, pose, shape, faces)


def network_outputs(hand: Hand, crop_box: Box, mirrored: bool, size: int, camera: Camera) -> dict[str, np.ndarray]:
    """What a perfect mesh network says of a crop that shows `hand`."""
    to_view = view_rotation(camera, crop_box).T
    root = hand.joints_m[skeleton.ROOT]
    vertices, joints = (hand.vertices_m - root) @ to_view.T, (hand.joints_m - root) @ to_view.T
    rotations = np.concatenate([to_view @ hand.pose[:1], hand.pose[1:]])
    if mirrored:
        vertices, joints, rotations = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(rotations)
    joints_crop_px = apply_affine(crop_affine(crop_box, size, mirrored), hand.joints_px)
    shown_right = (hand.side == "right") != mirrored
    return {
        "vertices_m": vertices[None].astype(np.float32),
        "joints_m": joints[None].astype(np.float32),
        "joints_crop": normalised_from_px(joints_crop_px, size)[None].astype(np.float32),
        "rotations": rotations[None].astype(np.float32),
        "shape": hand.shape[None].astype(np.float32),
        "presence": np.array([8.0], np.float32),
        "right": np.array([6.0 if shown_right else -6.0], np.float32),
        "spread": np.full((1, 21, 2), 0.04, np.float32),
    }


def hand_constants() -> dict[str, np.ndarray]:
    """The bundled hand as it stands in the file of an exported network."""
    hand = SkinnedHand.open_hand()
    return {"faces": hand.faces} | {
        f"hand_{name}": getattr(hand, name) for name in ("template", "shapedirs", "weights", "keypoint_regressor")
    }


def coded_frame(number: int, width: int = 640, height: int = 480) -> np.ndarray:
    """(H, W, 3) uint8: red is the column's fraction of the width, green the row's of the height, blue `number`."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[..., 0] = np.round(np.linspace(0, 255, width))
    frame[..., 1] = np.round(np.linspace(0, 255, height))[:, None]
    frame[..., 2] = number
    return frame


def decoded_crop(pixels: np.ndarray, camera: Camera = CAMERA) -> tuple[int, Box, bool] | None:
    """The frame's number, the crop's box and whether it is mirrored; None where nothing of the frame shows."""
    rows, columns = np.nonzero((pixels[..., :2] % 255 > 0).all(-1))  # 0 and 255 may be repeated border
    if len(rows) < 100:
        return None
    scale = np.array([camera.width - 1, camera.height - 1]) / 255
    positions = pixels[rows, columns, :2] * scale
    grid = np.stack([columns, rows, np.ones_like(rows)], 1).astype(np.float64)
    fit = np.linalg.solve(grid.T @ grid, grid.T @ positions).T
    to_crop = invert_affine(fit)[:, :2]
    mirrored = bool(np.linalg.det(to_crop) < 0)
    cos, sin = to_crop[0] * (-1 if mirrored else 1)
    size = len(pixels)
    centre = apply_affine(fit, np.array([(size - 1) / 2] * 2))
    box = Box((float(centre[0]), float(centre[1])), size / math.hypot(cos, sin), math.atan2(sin, cos))
    return int(np.median(pixels[..., 2])), box, mirrored


Scene = Callable[[int], Sequence[Hand]]
"""The hands that are in view in a frame, by its number."""


class SceneSession:
    """A perfect mesh network for coded frames of `scene`."""

    def __init__(self, scene: Scene, camera: Camera = CAMERA) -> None:
        self.scene, self.camera = scene, camera
        self.input_size, self.metadata = (224, 224), {"format": 1, "kind": "mesh", "box_scale": BOX_SCALE}
        self.constants = hand_constants()
        self.runs = 0
        self.nothing = network_outputs(posed_hand(), Box((320, 240), 200), False, 224, CAMERA)
        self.nothing["presence"] = np.array([-8.0], np.float32)

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        assert image_nhwc.shape == (1, 224, 224, 3)
        assert image_nhwc.dtype == np.uint8
        self.runs += 1
        decoded = decoded_crop(image_nhwc[0], self.camera)
        if decoded is None:
            return dict(self.nothing)
        number, crop_box, mirrored = decoded
        hand = _hand_shown(self.scene(number), crop_box)
        return network_outputs(hand, crop_box, mirrored, 224, self.camera) if hand else dict(self.nothing)


def _hand_shown(hands: Sequence[Hand], crop_box: Box) -> Hand | None:
    """The hand nearest to the crop's middle, if it is there and neither far too small nor too large."""

    def is_shown(hand: Hand) -> bool:
        box = Box.around(hand.joints_px)
        return _apart(box, crop_box) < 0.3 * crop_box.size_px and 0.3 < box.size_px / crop_box.size_px < 1.2

    shown = [hand for hand in hands if is_shown(hand)]
    return min(shown, key=lambda hand: _apart(Box.around(hand.joints_px), crop_box), default=None)


def _apart(a: Box, b: Box) -> float:
    return math.dist(a.centre_px, b.centre_px)


class SceneDetector:
    """A perfect detector for coded frames of `scene`; counts its calls."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.calls = 0

    def detect(self, image_rgb: np.ndarray, threshold: float = 0.5) -> list[Detection]:
        self.calls += 1
        hands = self.scene(int(image_rgb[0, 0, 2]))
        return [Detection(Box.around(hand.joints_px), hand.side, 0.9) for hand in hands]
