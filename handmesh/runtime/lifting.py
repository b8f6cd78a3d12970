"""From what the network says of a crop to a hand in the camera's frame. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.camera import project, root_translation, unproject
from handmesh.chance import logistic
from handmesh.crop import (
    crop_affine,
    mirror_points_m,
    mirror_rotations,
    picture_px_from_normalised,
    view_rotation,
)
from handmesh.runtime.alignment import LEAST_SPREAD, Alignment
from handmesh.structs import Box, Camera, Hand, Side

NEAREST_M = 0.05
"""No joint is placed nearer to the camera than this."""

FARTHEST_M = 20.0

SMALLEST_M = 0.01
"""No hand's joints lie closer together than this, along the axis that tells them best apart."""

_LARGEST = {
    "joints_m": 1.0,
    "joints_crop": 8.0,
    "rotations": 1.01,
    "shape": 100.0,
    "presence": 1e6,
    "right": 1e6,
    "spread": 10.0,
}
"""Beyond these the numbers describe no hand: one metre from the root, several crops away."""


class Crop(NamedTuple):
    """How a crop was taken: the square of the picture, whose hand it shows, and its side in crop pixels."""

    box: Box
    side: Side
    size: int

    @property
    def mirrored(self) -> bool:
        """Whether the crop shows its hand mirrored, which makes a left hand a right one."""
        return self.side == "left"

    @property
    def affine(self) -> np.ndarray:
        """(2, 3) from picture pixels to crop pixels."""
        return crop_affine(self.box, self.size, self.mirrored)


def lift(
    outputs: Mapping[str, np.ndarray], crop: Crop, camera: Camera, faces: np.ndarray,
    alignment: Alignment | None = None, mesh: bool = True,
) -> Hand | None:  # fmt: skip
    """The hand that the network saw in `crop`, in the camera's frame; None where its numbers are no hand.

    outputs: the exported mesh network's (see `backend.MESH_OUTPUTS`), batch of one. faces: (F, 3),
    outward for the crop's side. alignment: of the network's own hand, which is then bent towards the joints found in
    the crop. mesh: bend the vertices, too; without, they stay the network's, for who poses them anew. The place in
    space is the one from which the joints look as in the picture; `joints_px` is their projection from there, so that
    mesh, joints and picture agree.
    """
    if not is_plausible(outputs):
        return None
    to_camera, found_px = view_rotation(camera, crop.box), picture_joints_px(outputs, crop)
    trust = 1.0 / np.sqrt(_found_spread(outputs))
    if alignment is not None:
        outputs = {**outputs, **_bent(outputs, crop, _rays(found_px, camera) @ to_camera, camera, alignment, mesh)}
    vertices, joints, rotations = _in_camera_axes(outputs, crop, to_camera)
    root = place_root(joints, found_px, camera, trust)
    joints_m = joints + root
    return Hand(
        vertices_m=vertices + root.astype(np.float32),
        joints_m=joints_m.astype(np.float32),
        joints_px=project(joints_m, camera).astype(np.float32),
        side=crop.side,
        score=probability(outputs["presence"]),
        pose=rotations.astype(np.float32),
        shape=outputs["shape"][0].astype(np.float32),
        faces=faces,
        **_spreads(outputs, crop),
    )


def _rays(points_px: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) what lies at (N, 2) pixels one metre ahead, in the camera's axes."""
    return unproject(points_px, np.ones(len(points_px)), camera)


def _found_spread(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(21,) the errors to expect of the joints found in the crop, in half crop sides, none of them too small."""
    return outputs["spread"][0, :, 0].astype(np.float64).clip(LEAST_SPREAD)


def _bent(
    outputs: Mapping[str, np.ndarray], crop: Crop, rays: np.ndarray, camera: Camera, alignment: Alignment, mesh: bool
) -> dict[str, np.ndarray]:
    """The outputs that change where the hand is bent towards the joints found, at (21, 3) rays in the crop's view.

    The network's hand is a right one in the crop's own view: there, a left hand is met as its mirror image.
    """
    if rays[:, 2].min() < _LEAST_AHEAD * np.abs(rays).max():
        return {}  # the view of a crop so oblique, or joints so far from it, has them beside it or behind
    found = rays[:, :2] / rays[:, 2:] * ((-1, 1) if crop.mirrored else (1, 1))
    spread = _found_spread(outputs)
    root = place_root(outputs["joints_m"][0].astype(np.float64), found, _VIEW, 1.0 / np.sqrt(spread))
    rest = alignment.hand.rest(outputs["shape"][0])
    spread_seen = spread * (crop.box.size_px / (camera.fx + camera.fy))
    rotations = alignment.bent(outputs["rotations"][0], rest, found, spread_seen, root)
    if mesh:
        vertices, joints = alignment.hand.posed(rotations, rest)
        bent = {"vertices_m": (vertices - joints[skeleton.ROOT])[None]}
    else:
        joints, bent = alignment.hand.posed_joints(rotations, rest), {}
    return bent | {"rotations": rotations[None], "joints_m": (joints - joints[skeleton.ROOT])[None]}


_VIEW = Camera(1.0, 1.0, 0.0, 0.0, 1, 1)
"""The crop's own view as a camera, whose pixels are x / z and y / z."""

_LEAST_AHEAD = 0.1


def _spreads(outputs: Mapping[str, np.ndarray], crop: Crop) -> dict[str, np.ndarray]:
    """The errors that the network expects of the joints, in pixels of the picture and in metres."""
    in_crop, in_space = outputs["spread"][0].astype(np.float32).T
    return {"joints_spread_px": in_crop * (crop.box.size_px / 2), "joints_spread_m": in_space / 10}


def probability(logit: np.ndarray) -> float:
    """The chance of a single logit."""
    return float(logistic(float(np.squeeze(logit))))


def is_plausible(outputs: Mapping[str, np.ndarray]) -> bool:
    """Whether all numbers are finite, of a hand's size, and the rotations rotate."""
    values = np.concatenate([outputs[name].ravel() for name in _LARGEST])
    vertices = outputs["vertices_m"]
    if not abs(float(vertices.sum())) <= vertices.size:  # they follow from the rest: a look at all would only take long
        return False
    if not (np.abs(values) <= _limits(tuple(outputs[name].size for name in _LARGEST))).all():  # false for NaN too
        return False
    return bool(np.ptp(outputs["joints_m"][0], axis=0).max() >= SMALLEST_M) and _are_rotations(outputs["rotations"][0])


def _are_rotations(matrices: np.ndarray) -> bool:
    """Whether the first two rows of each are orthonormal and the third is their cross product."""
    first, second, third = matrices[:, 0], matrices[:, 1], matrices[:, 2]
    cross = first[:, [1, 2, 0]] * second[:, [2, 0, 1]] - first[:, [2, 0, 1]] * second[:, [1, 2, 0]]
    lengths = (matrices * matrices).sum(-1)
    departures = (np.abs(cross - third).max(), np.abs(lengths - 1).max(), np.abs((first * second).sum(-1)).max())
    return max(departures) < 1e-2


@cache
def _limits(sizes: tuple[int, ...]) -> np.ndarray:
    """The limits of `_LARGEST`, each as often as its output has values."""
    return np.repeat(np.float32([*_LARGEST.values()]), sizes)


def picture_joints_px(outputs: Mapping[str, np.ndarray], crop: Crop) -> np.ndarray:
    """(21, 2) the joints that the network saw in the crop, in pixels of the picture."""
    return picture_px_from_normalised(outputs["joints_crop"][0].astype(np.float64), crop.box, crop.mirrored)


def _in_camera_axes(
    outputs: Mapping[str, np.ndarray], crop: Crop, to_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, joints (still relative to the root) and rotations, un-mirrored, in the camera's axes."""
    names = ("vertices_m", "joints_m", "rotations")
    vertices, joints, rotations = (outputs[name][0] for name in names)
    if crop.mirrored:
        vertices, joints, rotations = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(rotations)
    rotations = rotations.astype(np.float64)
    rotations[0] = to_camera @ rotations[0]
    return vertices @ to_camera.T.astype(np.float32), joints @ to_camera.T, rotations


def _trust(name: str) -> float:
    """How much a joint says about the hand's place, as the inverse of its usual error.

    Errors grow along a finger; where wrist and thumb base lie is a matter of convention.
    """
    if name in ("wrist", "thumb1"):
        return 0.6
    return {"1": 1.0, "2": 0.7, "3": 0.5, "4": 0.4}[name[-1]]


_TRUST = np.array([_trust(name) for name in skeleton.KEYPOINTS])


def place_root(
    joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, trust: np.ndarray | None = None
) -> np.ndarray:
    """(3,) where the root lies in the camera's frame; always finite and in front of the camera.

    joints_m: (21, 3) relative to the root, in the camera's axes; joints_px: (21, 2); trust: (21,) how far each joint is
    believed, where that is known better than from its name. Where least squares places the hand behind or far from the
    camera, its apparent size decides.
    """
    nearest = NEAREST_M - joints_m[:, 2].min()
    try:
        root = root_translation(joints_m, joints_px, camera, _TRUST if trust is None else trust)
    except ValueError:
        return _root_by_size(joints_m, joints_px, camera, nearest)
    if nearest <= root[2] <= FARTHEST_M:
        return root
    return _root_by_size(joints_m, joints_px, camera, nearest)


def _root_by_size(joints_m: np.ndarray, joints_px: np.ndarray, camera: Camera, nearest: float) -> np.ndarray:
    """The root on the ray through its own pixel, as far away as the joints' spread in the picture says."""
    spread_m = joints_m[:, :2].std(0).max()
    spread_px = max(float(joints_px.std(0).max()), 1e-6)
    depth = np.clip(max(camera.fx, camera.fy) * spread_m / spread_px, nearest, FARTHEST_M)
    return unproject(joints_px[skeleton.ROOT], depth, camera)
