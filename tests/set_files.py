"""A few hands in the exact layouts of research data sets, with labels that agree: for tests of what reads them."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import yaml
from scipy.spatial.transform import Rotation

from handmesh.data.sets.dexycb import HEIGHT, SEQUENCES, SERIALS, SUBJECTS, WIDTH
from handmesh.geometry import mirror_points_m, mirror_rotations, project
from handmesh.hand.model import HandModel
from handmesh.types import Camera, Side

CAMERA = Camera(613.0, 612.0, 313.0, 245.0, WIDTH, HEIGHT)
FLIP = np.diag([1.0, -1.0, -1.0])


class TrueHand(NamedTuple):
    """A posed hand before `CAMERA`."""

    side: Side
    joints_m: np.ndarray  # (21, 3)
    vertices_m: np.ndarray  # (V, 3)
    whole: np.ndarray  # (3, 3) rotation to the camera
    fingers: np.ndarray  # (45,) axis-angles, relative to the mean pose, of this side
    coefficients: np.ndarray  # (45,) of the pose components
    shape: np.ndarray  # (10,)
    rotations: np.ndarray  # (16, 3, 3) as `HandSample` has them


@cache
def open_hand() -> HandModel:
    """The bundled hand, loaded once."""
    return HandModel.load()


def another_hand() -> HandModel:
    """A hand like the bundled one but a tenth larger: the same numbers make other joints of it."""
    hand = HandModel.load()
    for name in ("template", "joint_template"):
        getattr(hand, name).mul_(1.1)
    return hand


def true_hand(seed: int, side: Side = "right") -> TrueHand:
    """A random open hand in the middle of the image; the same arguments give the same one."""
    hand, rng = open_hand(), np.random.default_rng(seed)
    components = hand.pose_components.double().numpy()
    coefficients = rng.normal(scale=0.3, size=45)
    bend = coefficients @ components
    mean = Rotation.from_matrix(hand.mean_pose.numpy()).as_rotvec()
    whole = Rotation.random(random_state=seed).as_matrix()
    fingers = Rotation.from_rotvec(bend.reshape(15, 3) + mean).as_matrix()
    rotations = np.concatenate([whole[None], fingers])
    shape = rng.normal(scale=0.7, size=10)
    with torch.no_grad():
        posed = hand(torch.tensor(rotations[None]).float(), torch.tensor(shape[None]).float())
    vertices, joints = (points[0].double().numpy() for points in posed)
    if side == "left":
        joints, vertices, rotations = mirror_points_m(joints), mirror_points_m(vertices), mirror_rotations(rotations)
        bend = (bend.reshape(15, 3) * [1, -1, -1]).ravel()
    shift = [*rng.uniform(-0.05, 0.05, 2), rng.uniform(0.5, 0.8)] - joints.mean(0)
    return TrueHand(side, joints + shift, vertices + shift, rotations[0], bend, coefficients, shape, rotations)


def write_picture(path: Path, hand: TrueHand, camera: Camera = CAMERA) -> np.ndarray:
    """An image with discs at the joints; gives the (H, W) mask of the mesh's vertices."""
    image = np.full((camera.height, camera.width, 3), 90, np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    for x, y in project(hand.vertices_m, camera).round().astype(int).tolist():
        cv2.circle(mask, (x, y), 4, 255, cv2.FILLED)
    image[mask > 0] = (120, 160, 210)
    for x, y in project(hand.joints_m, camera).round().astype(int).tolist():
        cv2.circle(image, (x, y), 2, (40, 60, 90), cv2.FILLED)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return mask


def mano_order(points: np.ndarray) -> np.ndarray:
    """(21, D) in keypoint order to MANO's order with the tips behind, by the published numbers."""
    published = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
    moved = np.empty_like(points)
    moved[published] = points
    return moved


# HO-3D.


def write_ho3d(root: Path, train: int = 4, evaluation: int = 3, truth: bool = True, suffix: str = ".jpg") -> Path:
    """`train` and `evaluation` frames in HO-3D's layout; truth: also the lists of the released ground truth."""
    joints, vertices = [], []
    root.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("evaluation", evaluation)):
        frames = [f"{'ABF10' if k % 2 else 'SM1'}/{k:04d}" for k in range(count)]
        for k, frame in enumerate(frames):
            hand = true_hand(len(split) + k)
            sequence, number = frame.split("/")
            write_picture(root / split / sequence / "rgb" / f"{number}{suffix}", hand)
            meta = root / split / sequence / "meta" / f"{number}.pkl"
            meta.parent.mkdir(parents=True, exist_ok=True)
            meta.write_bytes(pickle.dumps(ho3d_label(hand, split), protocol=2))
            if split == "evaluation":
                joints.append(mano_order(hand.joints_m @ FLIP).tolist())
                vertices.append((hand.vertices_m @ FLIP).tolist())
        (root / f"{split}.txt").write_text("".join(f"{frame}\n" for frame in frames))
    if truth:
        (root / "evaluation_xyz.json").write_text(json.dumps(joints))
        (root / "evaluation_verts.json").write_text(json.dumps(vertices))
    return root


def ho3d_label(hand: TrueHand, split: str) -> dict[str, object]:
    """A frame's dictionary as HO-3D's pickles hold it: OpenGL's axes, MANO's order, absolute axis-angles."""
    label = {"camMat": CAMERA.K, "objName": "010_potted_meat_can", "objRot": np.zeros((3, 1)), "objTrans": np.zeros(3)}
    if split == "evaluation":
        box = [*project(hand.joints_m, CAMERA).min(0), *project(hand.joints_m, CAMERA).max(0)]
        return label | {"handJoints3D": hand.joints_m[0] @ FLIP, "handBoundingBox": [int(side) for side in box]}
    mean = Rotation.from_matrix(open_hand().mean_pose.numpy()).as_rotvec().ravel()
    whole = Rotation.from_matrix(FLIP @ hand.whole).as_rotvec()
    pose = np.concatenate([whole, hand.fingers + mean])
    return label | {
        "handJoints3D": mano_order(hand.joints_m @ FLIP), "handPose": pose, "handBeta": hand.shape,
        "handTrans": np.zeros(3), "handVertContact": np.zeros(778, bool),
    }  # fmt: skip


# DexYCB.


def write_dexycb(
    root: Path, subjects: tuple[int, ...] = (0,), frames: int = 2, sequences: tuple[int, ...] = (0, 4)
) -> Path:
    """DexYCB's layout: some subjects, whose other sequences are empty; the last frame of each shows no hand."""
    for serial in SERIALS:
        colour = {"fx": CAMERA.fx, "fy": CAMERA.fy, "ppx": CAMERA.cx, "ppy": CAMERA.cy}
        _write_yaml(root / "calibration" / "intrinsics" / f"{serial}_640x480.yml", {"color": colour, "depth": colour})
    for subject in subjects:
        for k in range(SEQUENCES):
            folder = root / SUBJECTS[subject] / f"20200709_{140000 + k}"
            hand = true_hand(100 * subject + k, "left" if k % 2 == 0 else "right") if k in sequences else None
            name = f"{SUBJECTS[subject]}_{k if hand else sequences[0]}"
            sides = [hand.side] if hand else ["right"]
            _write_yaml(folder / "meta.yml", {
                "num_frames": frames if hand else 0, "mano_sides": sides, "mano_calib": [name], "ycb_ids": [1],
            })  # fmt: skip
            if hand:
                _write_yaml(root / "calibration" / f"mano_{name}" / "mano.yml", {"betas": hand.shape.tolist()})
                for serial in SERIALS:
                    _write_frames(folder / serial, hand, frames)
    return root


def _write_frames(folder: Path, hand: TrueHand, frames: int) -> None:
    for frame in range(frames):
        mask = write_picture(folder / f"color_{frame:06d}.jpg", hand)
        whole = Rotation.from_matrix(hand.whole).as_rotvec()
        label = {
            "seg": mask, "pose_y": np.zeros((1, 3, 4), np.float32),
            "pose_m": np.concatenate([whole, hand.coefficients, np.zeros(3)])[None].astype(np.float32),
            "joint_3d": hand.joints_m[None].astype(np.float32),
            "joint_2d": project(hand.joints_m, CAMERA)[None].astype(np.float32),
        }  # fmt: skip
        if frame == frames - 1:
            label |= {"joint_3d": np.full((1, 21, 3), -1, np.float32), "joint_2d": np.full((1, 21, 2), -1, np.float32)}
            label["pose_m"] = np.zeros((1, 51), np.float32)
        np.savez_compressed(folder / f"labels_{frame:06d}.npz", **label)


def _write_yaml(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
