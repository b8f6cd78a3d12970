"""Posed hands that are known exactly, and labels of them with the noise of a labeller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from handmesh.crop import view_rotation
from handmesh.data.photos import LabelledHand
from handmesh.geometry import mirror_points_m, mirror_rotations, project
from handmesh.hand import anatomy
from handmesh.hand.model import HandModel
from handmesh.skeleton import PALM_TO_CAMERA, ROOT
from handmesh.types import Box, Camera, Hand, Side

CAMERA = Camera.from_fov(320, 240)


@dataclass(frozen=True, eq=False)
class Truth:
    """A hand before `CAMERA`."""

    side: Side
    rotations: np.ndarray
    shape: np.ndarray
    joints_m: np.ndarray

    @property
    def joints_px(self) -> np.ndarray:
        """(21, 2)."""
        return project(self.joints_m, CAMERA)

    def label(self, rng: np.random.Generator, noise: float = 0.008, weak_3d_m: float = 0.006) -> LabelledHand:
        """A label whose points are off by a fraction of the box and whose depths are off and too flat."""
        px = self.joints_px + rng.normal(scale=noise * np.ptp(self.joints_px, axis=0).max(), size=(21, 2))
        seen = self.joints_m @ view_rotation(CAMERA, Box.around(px, rotation=False))
        weak_3d = (seen - seen.mean(0)) * [1, 1, 0.8] + rng.normal(scale=weak_3d_m, size=(21, 3))
        return LabelledHand(self.side, 1.0, px.astype(np.float32), weak_3d.astype(np.float32))

    def proposal(self, rng: np.random.Generator, rotation: float = 0.2, bend: float = 0.25) -> Hand:
        """What a network might say: every joint turned by some radians, no shape, too far away."""
        off = Rotation.from_rotvec(rng.normal(scale=[[rotation]] + 15 * [[bend]], size=(16, 3))).as_matrix()
        nothing = np.zeros((0, 3), np.float32)
        return Hand(
            nothing, (1.2 * self.joints_m).astype(np.float32), self.joints_px.astype(np.float32), self.side, 1.0,
            (off @ self.rotations).astype(np.float32), np.zeros(10, np.float32), nothing,
        )  # fmt: skip


def truths(count: int, model: HandModel, seed: int = 0, side: Side = "right") -> list[Truth]:
    """Hands within the limits, palm more or less to the camera."""
    rng = np.random.default_rng(seed)
    low, high = anatomy.limits_deg()
    angles = rng.uniform(0.8 * low, 0.8 * high, (count, 15, 3))
    rest = model(torch.eye(3).expand(1, 16, 3, 3), torch.zeros(1, 10)).joints[0].numpy()
    fingers = anatomy.rotations_from_angles(angles, anatomy.joint_frames(rest))
    roots = Rotation.from_rotvec(rng.normal(scale=0.5, size=(count, 3))).as_matrix() @ np.array(PALM_TO_CAMERA)
    rotations = np.concatenate([roots[:, None], fingers], axis=1).astype(np.float32)
    shapes = rng.normal(scale=0.6, size=(count, 10)).astype(np.float32)
    joints = model(torch.from_numpy(rotations), torch.from_numpy(shapes)).joints.numpy()
    joints = joints - joints[:, ROOT, None] + rng.uniform([-0.05, -0.04, 0.4], [0.05, 0.04, 0.7], (count, 1, 3))
    if side == "left":
        rotations, joints = mirror_rotations(rotations), mirror_points_m(joints)
    return [Truth(side, *parts) for parts in zip(rotations, shapes, joints, strict=True)]
