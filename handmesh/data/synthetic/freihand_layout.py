"""Samples in FreiHAND's layout: numbered pictures and masks, and one list of numbers for each kind of label."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton

if TYPE_CHECKING:
    from handmesh.data.synthetic.generator import Sample
    from handmesh.hand_model import HandModel

LISTS = ("K", "scale", "xyz", "verts", "mano")
_MIDDLE1, _MIDDLE2 = skeleton.ROOT, skeleton.KEYPOINTS.index("middle2")


class FreihandWriter:
    """Writes chunk after chunk, then merges their labels into `training_*.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts = folder / "parts"

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk was written, in parts or in the merged lists."""
        return self._part(chunk).exists() or self._list("mano").exists()

    def write(self, chunk: int, samples: Iterable[Sample], model: HandModel) -> None:
        """Write pictures and masks, then the chunk's labels, which mark it as whole."""
        for name in ("rgb", "mask"):
            (self.folder / "training" / name).mkdir(parents=True, exist_ok=True)
        self._parts.mkdir(exist_ok=True)
        mean = Rotation.from_matrix(model.mean_pose.numpy()).as_rotvec()
        rows = []
        for sample in samples:
            self._write_pictures(sample)
            rows.append(labels(sample, mean))
        partial = self._part(chunk).with_suffix(".tmp")
        with open(partial, "wb") as file:
            np.savez(file, **{name: np.stack([row[name] for row in rows]) for name in LISTS})
        os.replace(partial, self._part(chunk))

    def merge(self, chunks: int) -> None:
        """Write the five lists from the chunks, in order, and remove the chunks' own."""
        if self._list("mano").exists():
            return
        for name in LISTS:
            partial = self._list(name).with_suffix(".tmp")
            with open(partial, "w") as file:
                rows = (json.dumps(row) for k in range(chunks) for row in np.load(self._part(k))[name].tolist())
                file.write("[" + next(rows))
                file.writelines(f", {row}" for row in rows)
                file.write("]")
            os.replace(partial, self._list(name))
        shutil.rmtree(self._parts)

    def _part(self, chunk: int) -> Path:
        return self._parts / f"{chunk:05d}.npz"

    def _list(self, name: str) -> Path:
        return self.folder / f"training_{name}.json"

    def _write_pictures(self, sample: Sample) -> None:
        bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
        for name, picture in (("rgb", bgr), ("mask", sample.mask)):
            path = self.folder / "training" / name / f"{sample.seed:08d}.jpg"
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
        "K": camera.K.round(6),
        "scale": np.linalg.norm(sample.joints_m[_MIDDLE1] - sample.joints_m[_MIDDLE2]).round(6),
        "xyz": sample.joints_m.astype(np.float64).round(6),
        "verts": sample.vertices_m.astype(np.float64).round(6),
        "mano": np.concatenate([pose.ravel(), sample.shape, placed])[None].round(6),
    }
