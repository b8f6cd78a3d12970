"""A few frames in InterHand2.6M's exact layout (v1.0), with labels that agree: for tests of what reads the set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from drawn_hands import draw_hands, inside, random_hand
from scipy.spatial.transform import Rotation

from handmesh.assets import OPEN_HAND
from handmesh.files import write_image
from handmesh.geometry import mirror_points_m, mirror_rotations, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.types import Camera, Hand

KEYPOINT_OF = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]
"""The keypoint that each of a hand's 21 joints is, in the set's order (skeleton.txt); the right hand's come first."""
UNLABELLED = 4
"""Of the set's joints: the tip of the right hand's index finger, in the last frame."""

CAPTURE, SEQUENCE = 3, "0390_dh_touchROM"


class View(NamedTuple):
    """A calibrated camera of the set: `x_camera = rotation @ (x_world - position)`, millimetres."""

    name: str
    camera: Camera
    rotation: np.ndarray  # (3, 3)
    position_mm: np.ndarray  # (3,)

    def to_world_m(self, points_m: np.ndarray) -> np.ndarray:
        """(N, 3) points of the camera's frame in the world's."""
        return points_m @ self.rotation + self.position_mm / 1000

    def to_camera_m(self, points_m: np.ndarray) -> np.ndarray:
        """The inverse."""
        return (points_m - self.position_mm / 1000) @ self.rotation.T


def views(seed: int = 5) -> tuple[View, View]:
    """An upright and a lying camera that look at the same place."""
    rng = np.random.default_rng(seed)
    found = []
    for name, (width, height) in (("400026", (334, 512)), ("410028", (512, 334))):
        rotation = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        camera = Camera(1260.5, 1262.0, width / 2 + 3.2, height / 2 - 4.6, width, height)
        found.append(View(name, camera, rotation, -1000 * rotation.T @ np.array([0.01, -0.02, 1.0]) + [30, 900, -20]))
    return tuple(found)


def write_interhand(root: Path, frames: int = 3, split: str = "train") -> dict[str, list[Hand]]:
    """Write `frames` frames of two cameras: right, left, both hands in turn; the hands by file, in the camera's frame.

    In the last frame a fingertip of the right hand is not labelled, see `UNLABELLED`.
    """
    rng = np.random.default_rng(11)
    data: dict[str, Any] = {"images": [], "annotations": []}
    joints_3d: dict[str, Any] = {}
    mano: dict[str, Any] = {}
    truth: dict[str, list[Hand]] = {}
    for frame in range(frames):
        kind = ("right", "left", "interacting")[frame % 3]
        hands = _hands(rng, kind)
        name = str(20000 + 15 * frame)
        labelled = np.repeat([int(kind != "left"), int(kind != "right")], 21)
        if frame == frames - 1:
            labelled[UNLABELLED] = 0
        joints_3d[name] = _joints_3d(hands, labelled, kind)
        mano[name] = {side: _mano(next((h for h in hands if h.side == side), None)) for side in ("right", "left")}
        for view in views():
            file, seen = _write_view(root, split, view, frame, hands, labelled, kind, data, rng)
            truth[file] = seen
    folder = root / "annotations" / split
    folder.mkdir(parents=True)
    contents = {"data": data, "camera": _cameras(), "joint_3d": {str(CAPTURE): joints_3d}}
    for part, content in (contents | {"MANO_NeuralAnnot": {str(CAPTURE): mano}}).items():
        (folder / f"InterHand2.6M_{split}_{part}.json").write_text(json.dumps(content))
    return truth


def _hands(rng: np.random.Generator, kind: str) -> list[Hand]:
    """Hands in the first camera's frame, moved to the world's."""
    view = views()[0]
    cx, cy = view.camera.cx, view.camera.cy
    offset = 55 if kind == "interacting" else 0
    sides = ("right", "left") if kind == "interacting" else (kind,)
    placed = [random_hand(rng, view.camera, side, (cx + (offset if side == "left" else -offset), cy), 1.0)
              for side in sides]  # fmt: skip
    return [_turned(hand, view.rotation.T, view.to_world_m) for hand in placed]


def _turned(hand: Hand, rotation: np.ndarray, move: Any) -> Hand:
    pose = np.concatenate([(rotation @ hand.pose[0])[None], hand.pose[1:]])
    return Hand(move(hand.vertices_m), move(hand.joints_m), hand.joints_px, hand.side, 1.0, pose, hand.shape,
                hand.faces)  # fmt: skip


def _joints_3d(hands: list[Hand], labelled: np.ndarray, kind: str) -> dict[str, Any]:
    world = np.ones((42, 3))  # where nothing is labelled the set has no meaningful numbers
    for hand in hands:
        start = 0 if hand.side == "right" else 21
        world[start : start + 21] = 1000 * hand.joints_m[KEYPOINT_OF]
    return {"world_coord": np.where(labelled[:, None], world, 1.0).tolist(), "joint_valid": labelled[:, None].tolist(),
            "hand_type": kind, "hand_type_valid": 1}  # fmt: skip


def _mano(hand: Hand | None) -> dict[str, Any] | None:
    """pose: 48 numbers of axis-angles, the fingers' less the mean pose's; trans: metres. A left hand's are mirrored."""
    if hand is None:
        return None
    model = SkinnedHand.open_hand()
    mirrored = mirror_rotations if hand.side == "left" else (lambda rotations: rotations)
    vertices, _ = model.posed(mirrored(hand.pose), model.rest(hand.shape))
    vertices = mirror_points_m(vertices) if hand.side == "left" else vertices
    pose = Rotation.from_matrix(hand.pose).as_rotvec()
    with np.load(OPEN_HAND, allow_pickle=False) as fields:
        pose[1:] -= fields["hands_mean"].reshape(15, 3) * ((1, -1, -1) if hand.side == "left" else 1)
    trans = (hand.vertices_m - vertices)[0]
    return {"pose": pose.ravel().tolist(), "shape": hand.shape.tolist(), "trans": trans.tolist()}


def _cameras() -> dict[str, Any]:
    return {str(CAPTURE): {
        "campos": {view.name: view.position_mm.tolist() for view in views()},
        "camrot": {view.name: view.rotation.tolist() for view in views()},
        "focal": {view.name: [view.camera.fx, view.camera.fy] for view in views()},
        "princpt": {view.name: [view.camera.cx, view.camera.cy] for view in views()},
    }}  # fmt: skip


def _write_view(
    root: Path, split: str, view: View, frame: int, world: list[Hand], labelled: np.ndarray, kind: str,
    data: dict[str, Any], rng: np.random.Generator,
) -> tuple[str, list[Hand]]:  # fmt: skip
    """One image and its two entries; the image's file and the hands in the camera's frame."""
    hands = [_turned(hand, view.rotation, view.to_camera_m) for hand in world]
    hands = [Hand(hand.vertices_m, hand.joints_m, project(hand.joints_m, view.camera), hand.side, 1.0, hand.pose,
                  hand.shape, hand.faces) for hand in hands]  # fmt: skip
    number, frame_idx = len(data["images"]) + 700, 20000 + 15 * frame
    file = f"Capture{CAPTURE}/{SEQUENCE}/cam{view.name}/image{frame_idx}.jpg"
    image, _ = draw_hands(hands, view.camera, rng)
    write_image(root / "images" / split / file, image)
    valid = labelled.copy()
    for hand in hands:
        part = slice(0, 21) if hand.side == "right" else slice(21, 42)
        valid[part] &= inside(hand.joints_px, view.camera)[KEYPOINT_OF]
    shown = np.concatenate([hand.joints_px for hand in hands])
    low, high = shown.min(0), shown.max(0)
    data["images"].append({"id": number, "file_name": file, "width": view.camera.width, "height": view.camera.height,
                           "capture": CAPTURE, "subject": 3, "seq_name": SEQUENCE, "camera": view.name,
                           "frame_idx": frame_idx})  # fmt: skip
    data["annotations"].append({"id": number, "image_id": number, "bbox": [*low.tolist(), *(high - low).tolist()],
                                "joint_valid": valid[:, None].tolist(), "hand_type": kind,
                                "hand_type_valid": 1})  # fmt: skip
    return file, hands
