"""HO-3D, versions 2 and 3 (Hampali et al., HOnnotate, CVPR 2020; arXiv:2107.00887): right hands that hold objects.

The labels of a frame are a pickle of OpenGL's axes (y up, z towards the viewer), metres, joints in MANO's order, 48
absolute axis-angles. Evaluation frames have the wrist and a box alone; since the ground truth was released,
`evaluation_xyz.json` and `evaluation_verts.json` may lie beside them, in the same axes and order. Source: the set's own
repository, https://github.com/shreyashampali/ho3d.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handmesh import skeleton
from handmesh.data.freihand import read_rows
from handmesh.data.sets.table import (
    OPENGL_TO_CAMERA,
    HandSet,
    HandTable,
    SetError,
    cached_table,
    check_numbers,
    keypoints_from,
    turned_pose,
    with_bar,
)
from handmesh.files import ImageError, read_image
from handmesh.geometry import project
from handmesh.hand.mano import DamagedPickleError, RefusedPickleError, read_pickle
from handmesh.types import Camera

TIP_VERTICES = {"thumb4": 744, "index4": 333, "middle4": 444, "ring4": 555, "little4": 672}
"""The vertices of MANO's mesh that HO-3D takes for fingertips (its `setup_mano.py`)."""

SIZES = {"train": {66_034: "version 2", 83_325: "version 3"}, "evaluation": {11_524: "version 2", 20_137: "version 3"}}
"""Frames of each split, and which version has so many."""

TRUE_JOINTS, TRUE_VERTICES = "evaluation_xyz.json", "evaluation_verts.json"

_LABELS = {"handJoints3D": (21, 3), "handPose": (48,), "handBeta": (10,), "camMat": (3, 3)}
_EVALUATION = {"handJoints3D": (3,), "handBoundingBox": (4,), "camMat": (3, 3)}
_SUFFIXES = (".jpg", ".png")  # version 3's images, version 2's


def read_ho3d(root: Path, split: str) -> HandTable:
    """The frames that `root`/`split`.txt lists, in its order; those without labels are left out of training."""
    frames = frame_names(root, split)
    folders = sorted({root / split / frame.split("/")[0] / "meta" for frame in frames})
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise SetError(f"{root} lacks {missing[0].relative_to(root)}, which {split}.txt lists; {HO3D.help()}")
    sources = [root / f"{split}.txt", *folders]
    if split == "evaluation":
        sources += [path for path in (root / TRUE_JOINTS,) if path.is_file()]
    table = partial(HandTable, f"HO-3D {split}", root)
    return cached_table(table, root, f"ho3d_{split}", sources, partial(_columns, root, split, frames))


def frame_names(root: Path, split: str) -> list[str]:
    """The frames of a split as `SEQUENCE/NUMBER`, in the official order."""
    path = root / f"{split}.txt"
    if not path.is_file():
        raise SetError(f"{root} lacks {path.name}; {HO3D.help()}")
    frames = path.read_text().split()
    if not frames or any(frame.count("/") != 1 for frame in frames):
        raise SetError(f"{path} is no list of SEQUENCE/NUMBER lines: unpack it again")
    return frames


def image_name(root: Path, split: str, frame: str) -> str:
    """The file of a frame's image below `root`, whichever version it is of."""
    sequence, number = frame.split("/")
    names = [f"{split}/{sequence}/rgb/{number}{suffix}" for suffix in _SUFFIXES]
    return next((name for name in names if (root / name).is_file()), names[0])


def _columns(root: Path, split: str, frames: Sequence[str]) -> dict[str, np.ndarray]:
    wanted = _LABELS if split == "train" else _EVALUATION
    labels = [_read_label(root / split / _meta(frame), wanted) for frame in with_bar(frames, f"HO-3D {split}")]
    rows = [k for k, label in enumerate(labels) if label is not None]
    if not rows:
        raise SetError(f"none of the {len(frames):,} frames that {split}.txt lists has labels: unpack {root} again")
    of = {name: np.stack([labels[k][name] for k in rows]) for name in wanted}
    images = [image_name(root, split, frames[k]) for k in rows]
    try:
        height, width = read_image(root / images[0]).shape[:2]
    except ImageError as error:
        raise SetError(f"{error}: unpack it again") from None
    K = of["camMat"]
    sizes = np.tile([width, height], (len(rows), 1))
    columns = {
        "images": np.array(images, np.bytes_),
        "left": np.zeros(len(rows), bool),
        "camera": np.column_stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], sizes]).astype(np.float32),
        "ids": np.array(rows, np.int64),
        "sequence": np.array([frames[k].split("/")[0] for k in rows], np.bytes_),
    }
    if split == "train":
        joints_m = keypoints_from(of["handJoints3D"] @ OPENGL_TO_CAMERA, "mano")
        columns["pose"] = turned_pose(of["handPose"], OPENGL_TO_CAMERA).astype(np.float32)
        columns["shape"] = of["handBeta"].astype(np.float32)
    else:
        joints_m = _evaluation_joints(root, len(frames), of["handJoints3D"], rows)
        columns["box"] = of["handBoundingBox"].astype(np.float32)
    joints_px = np.stack([project(*pair) for pair in zip(joints_m, _cameras(columns["camera"]), strict=True)])
    return columns | {"joints_m": joints_m.astype(np.float32), "joints_px": joints_px.astype(np.float32)}


def _cameras(rows: np.ndarray) -> list[Camera]:
    return [Camera(*row[:4], *map(int, row[4:])) for row in rows.tolist()]


def _evaluation_joints(root: Path, frames: int, wrists: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """(N, 21, 3) the released ground truth where it is there, else the wrist alone."""
    joints_m = np.full((len(rows), 21, 3), np.nan)
    joints_m[:, skeleton.WRIST] = wrists @ OPENGL_TO_CAMERA
    path = root / TRUE_JOINTS
    if path.is_file():
        try:
            with path.open(encoding="utf-8") as stream:
                truth = np.array(list(read_rows(stream)), np.float64)
        except (ValueError, EOFError) as error:
            raise SetError(f"{path} is damaged or cut short ({error}): unpack it again") from None
        if truth.shape != (frames, 21, 3):
            raise SetError(f"{path}: expected {frames} x 21 x 3 numbers, as evaluation.txt lists, got {truth.shape}")
        joints_m = keypoints_from(truth @ OPENGL_TO_CAMERA, "mano")[rows]
    return joints_m


def _meta(frame: str) -> str:
    sequence, number = frame.split("/")
    return f"{sequence}/meta/{number}.pkl"


def _read_label(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray] | None:
    """The labels of a frame in float64; None where it has none. Nothing that the file says is run."""
    try:
        content: dict[str, Any] = read_pickle(path.read_bytes(), wanted)
    except FileNotFoundError:
        raise SetError(f"{path} is missing: unpack the set again") from None
    except (RefusedPickleError, DamagedPickleError) as error:
        raise SetError(f"{path} is not read: {error}; unpack the set again") from None
    if any(content.get(name) is None for name in wanted):
        return None
    labels = {name: np.asarray(content[name], np.float64) for name in wanted}
    labels = {name: values.reshape(-1) if len(wanted[name]) == 1 else values for name, values in labels.items()}
    check_numbers(path, labels, wanted)
    return labels


HO3D = HandSet(
    title="HO-3D",
    page="https://github.com/shreyashampali/ho3d",
    licence="non-commercial academic research only, no redistribution",
    labels="21 joints in 2D and 3D, MANO; evaluation: box and wrist",
    splits=("train", "evaluation"),
    layout="train.txt, evaluation.txt, train/SEQUENCE/{rgb,meta} and evaluation/SEQUENCE/{rgb,meta}",
    read=read_ho3d,
)
