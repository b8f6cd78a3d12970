"""A few samples in FreiHAND's exact layout, with labels that agree: for tests of what reads the set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.geometry import project
from handmesh.hand.model import HandModel
from handmesh.types import Camera

LISTS = ("K", "scale", "xyz", "verts", "mano")
_SKIN = np.array([205, 150, 120])


def write_freihand(
    root: Path, rows: int = 6, evaluation: int = 3, versions: int = 4, size: int = 224, hand: HandModel | None = None
) -> Path:
    """Write `rows` training samples of `versions` images each and `evaluation` samples under `root`; gives `root`.

    hand: whose vertices and MANO numbers are written; the bundled open hand by default. The same
    arguments give the same files.
    """
    hand = hand or HandModel.load()
    for split, count, copies in (("training", rows, versions), ("evaluation", evaluation, 1)):
        labels = [make_label(hand, seed, size) for seed in range(len(split), len(split) + count)]
        for name in LISTS if count else ():
            write_list(root, split, name, [label[name] for label in labels])
        for row, label in enumerate(labels):
            write_images(root / split, row, count, copies, label, hand.faces, size)
    return root


def write_list(root: Path, split: str, name: str, rows: list[Any]) -> Path:
    """Write one list of labels."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{split}_{name}.json"
    path.write_text(json.dumps(rows))
    return path


def read_list(root: Path, split: str, name: str) -> list[Any]:
    """One list of labels as it was written."""
    return json.loads((root / f"{split}_{name}.json").read_text())


def make_label(hand: HandModel, seed: int, size: int = 224) -> dict[str, Any]:
    """One row of each list: a random hand before a random camera, as plain numbers."""
    rng = np.random.default_rng(seed)
    focal = rng.uniform(1.9, 2.3) * size
    K = np.array([[focal, 0, (size - 1) / 2], [0, focal * rng.uniform(0.99, 1.01), (size - 1) / 2], [0, 0, 1]])
    bend = rng.normal(scale=0.25, size=(16, 3))
    bend[0] = Rotation.random(random_state=seed).as_rotvec()
    shape = rng.normal(scale=0.7, size=10)
    mean = Rotation.from_matrix(hand.mean_pose.numpy()).as_rotvec()
    rotations = Rotation.from_rotvec(bend + np.concatenate([np.zeros((1, 3)), mean])).as_matrix()
    with torch.no_grad():
        output = hand(torch.tensor(rotations[None]).float(), torch.tensor(shape[None]).float())
    vertices, joints = (points[0].double().numpy() for points in output)
    middle = joints.mean(0) - joints[skeleton.ROOT]
    root = np.append(rng.uniform(-0.03, 0.03, 2), rng.uniform(0.55, 0.75)) - middle * [1, 1, 0]
    focal = (K[0, 0] + K[1, 1]) / 2
    placed = [*(K[:2, 2] + root[:2] * focal / root[2]), focal / root[2]]
    shift = root - joints[skeleton.ROOT]
    length = np.linalg.norm(joints[skeleton.ROOT] - joints[skeleton.KEYPOINTS.index("middle2")])
    mano = [np.concatenate([bend.ravel(), shape, placed])]
    values = {"K": K, "scale": length, "xyz": joints + shift, "verts": vertices + shift, "mano": np.array(mano)}
    return {name: np.round(values[name], 8).tolist() for name in LISTS}


def write_images(
    folder: Path, row: int, rows: int, versions: int, label: dict[str, Any], faces: np.ndarray, size: int
) -> None:
    """The images of one row, alike but for their colours, and, beside training images, its mask."""
    mask, shading = _silhouette(label, faces, size)
    for version in range(versions):
        rng = np.random.default_rng([row, version])
        coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        skin = _SKIN * rng.uniform(0.8, 1.2, 3)
        image[mask > 0] = np.clip(skin * shading[mask > 0][:, None], 0, 255).astype(np.uint8)
        _write(folder / "rgb" / f"{row + rows * version:08d}.jpg", image[..., ::-1])
    if folder.name == "training":
        _write(folder / "mask" / f"{row:08d}.jpg", mask)


def _silhouette(label: dict[str, Any], faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) uint8 mask of the mesh and (S, S) float brightness of its faces, far ones drawn first."""
    K, vertices = np.array(label["K"]), np.array(label["verts"])
    pixels = project(vertices, Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], size, size))
    mask, shading = np.zeros((size, size), np.uint8), np.zeros((size, size))
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = -normals[:, 2] / np.linalg.norm(normals, axis=1).clip(1e-12)
    for face in np.argsort(-corners[:, :, 2].mean(1)):
        if facing[face] > 0:
            triangle = np.round(pixels[faces[face]]).astype(np.int32)
            cv2.fillConvexPoly(mask, triangle, 255)
            cv2.fillConvexPoly(shading, triangle, 0.5 + 0.5 * facing[face])
    return mask, shading


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
