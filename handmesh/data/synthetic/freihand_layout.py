"""Samples in FreiHAND's layout: numbered pictures and masks, and one list of numbers for each kind of label."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.data.freihand import SHAPE, FreihandSplit, rotations_from_mano
from handmesh.data.freihand_values import roots_m

if TYPE_CHECKING:
    from handmesh.data.synthetic.generator import Sample
    from handmesh.hand_model import HandModel

SPLITS: tuple[FreihandSplit, ...] = get_args(FreihandSplit)

LISTS = ("K", "scale", "xyz", "verts", "mano")
"""The kinds of labels; `mano` is written last and so says that all are there."""

LAYOUT_VERSION = 2
"""Of what is drawn and written for this layout alone; 2 has four versions of a row and an evaluation set."""

TOLERANCE_M = 1e-5
"""How well the stored parameters must reproduce the stored points."""

_DIGITS = 6  # a micrometre, a microradian
_MIDDLE1, _MIDDLE2 = skeleton.ROOT, skeleton.KEYPOINTS.index("middle2")


class FreihandWriter:
    """Writes one split chunk after chunk, then merges its labels into `{split}_*.json`."""

    def __init__(self, folder: Path, split: FreihandSplit, count: int) -> None:
        """count: rows of the split; the picture of row r and version v has the number r + count * v."""
        self.folder, self.split, self.count = folder, split, count
        self._parts = folder / "parts"

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk was written, in parts or in the merged lists."""
        return self._part(chunk).exists() or self._list("mano").exists()

    def write(self, chunk: int, samples: Iterable[Sample], model: HandModel) -> None:
        """Write pictures and masks, then the chunk's labels, which mark it as whole."""
        for name in ("rgb", "mask") if self.split == "training" else ("rgb",):
            (self.folder / self.split / name).mkdir(parents=True, exist_ok=True)
        self._parts.mkdir(exist_ok=True)
        mean = Rotation.from_matrix(model.mean_pose.numpy()).as_rotvec()
        rows = []
        for sample in samples:
            self._write_pictures(sample)
            rows.append(labels(sample, mean))
        columns = {name: np.stack([row[name] for row in rows]) for name in LISTS}
        columns["errors"] = reproduction_errors(columns, model)
        partial = self._part(chunk).with_suffix(".tmp")
        with open(partial, "wb") as file:
            np.savez(file, **columns)
        os.replace(partial, self._part(chunk))

    def merge(self, chunks: int) -> None:
        """Write the lists from the chunks, in order; `evaluation_errors.json` too, which training has not."""
        if self._list("mano").exists():
            return
        for name in LISTS if self.split == "training" else ("errors", *LISTS):
            partial = self._list(name).with_suffix(".tmp")
            with open(partial, "w") as file:
                rows = (json.dumps(row) for k in range(chunks) for row in np.load(self._part(k))[name].tolist())
                file.write("[" + next(rows))
                file.writelines(f", {row}" for row in rows)
                file.write("]")
            os.replace(partial, self._list(name))

    def tidy(self) -> None:
        """Remove the chunks' own labels, once every split is merged."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, chunk: int) -> Path:
        return self._parts / f"{self.split}-{chunk:05d}.npz"

    def _list(self, name: str) -> Path:
        return self.folder / f"{self.split}_{name}.json"

    def _write_pictures(self, sample: Sample) -> None:
        size = sample.image.shape[-3:]
        for version, image in enumerate(sample.image.reshape(-1, *size)):
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            self._write_jpg("rgb", sample.seed + self.count * version, bgr)
        if self.split == "training":
            self._write_jpg("mask", sample.seed, sample.mask)

    def _write_jpg(self, name: str, number: int, picture: np.ndarray) -> None:
        path = self.folder / self.split / name / f"{number:08d}.jpg"
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"cannot write {path}")


def labels(sample: Sample, mean_pose: np.ndarray) -> dict[str, np.ndarray]:
    """One sample's row in each list.

    mean_pose: (15, 3) axis-angle; FreiHAND's 48 pose numbers are relative to it. The last three of
    its 61 numbers are the root's pixel and focal length / depth.
    """
    camera, pose = sample.camera, sample.pose.copy()
    pose[1:] -= mean_pose
    focal = (camera.fx + camera.fy) / 2
    placed = [*sample.joints_px[_MIDDLE1], focal / sample.joints_m[_MIDDLE1, 2]]
    return {
        "K": camera.K.round(_DIGITS),
        "scale": np.linalg.norm(sample.joints_m[_MIDDLE1] - sample.joints_m[_MIDDLE2]).round(_DIGITS),
        "xyz": sample.joints_m.astype(np.float64).round(_DIGITS),
        "verts": sample.vertices_m.astype(np.float64).round(_DIGITS),
        "mano": np.concatenate([pose.ravel(), sample.shape, placed])[None].round(_DIGITS),
    }


def reproduction_errors(columns: dict[str, np.ndarray], model: HandModel) -> np.ndarray:
    """(N,) metres, the mean distance between the points of `xyz` and those that `mano` gives through the model.

    What the real archive's `evaluation_errors.json` holds is nowhere written down; this is what the
    name suggests. Raises ValueError where the parameters do not reproduce `xyz` and `verts`.
    """
    numbers = columns["mano"][:, 0]
    rotations = torch.from_numpy(rotations_from_mano(numbers, model))
    with torch.inference_mode():
        output = model(rotations, torch.from_numpy(numbers[:, SHAPE]).float())
    vertices, joints = (part.numpy().astype(np.float64) for part in output)
    shift = (roots_m(numbers, columns["K"]) - joints[:, _MIDDLE1])[:, None]
    distances = np.linalg.norm(joints + shift - columns["xyz"], axis=2)
    worst = max(distances.max(), np.linalg.norm(vertices + shift - columns["verts"], axis=2).max())
    if not worst < TOLERANCE_M:
        raise ValueError(f"stored parameters miss the stored points by {worst:.1e} m, not < {TOLERANCE_M:.0e} m")
    return distances.mean(1)
