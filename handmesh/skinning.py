"""The parametric hand in NumPy: what the tracker, the exports and the streams pose hands with, without torch.

The same function as `hand_model.HandModel`, which trains and is frozen into the exported graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.crop import mirror_points_m, mirror_rotations
from handmesh.structs import Side


class Rest(NamedTuple):
    """A hand of one shape before it is posed, in the model's frame."""

    vertices_m: np.ndarray  # (V, 3) float32
    joints_m: np.ndarray  # (16, 3) float32, MANO order
    shares: np.ndarray  # (V, 64) float32: each joint's weight times x, y, z and 1, so that posing is one product
    keypoint_shares: np.ndarray  # (21, 64) the same for the joints in keypoint order


@dataclass(frozen=True, eq=False)
class SkinnedHand:
    """A right hand with V vertices, 16 rotating joints and 10 shape parameters; float32 throughout.

    The rest frame of MANO and of the open hand: -x along the fingers, +y the back of the hand, +z the
    thumb's side. A left hand is the mirrored right one: see `crop.mirror_points_m`.
    """

    faces: np.ndarray  # (F, 3) int32, outward
    template: np.ndarray  # (V, 3) metres, the mean shape
    shapedirs: np.ndarray  # (V, 3, 10) metres per standard deviation
    weights: np.ndarray  # (V, 16) how much each joint moves a vertex; rows sum to 1
    keypoint_regressor: np.ndarray  # (21, V) from vertices to joints, keypoint order
    posedirs: np.ndarray | None = None  # (V, 3, 135) metres per entry of the finger rotations less identity

    @staticmethod
    @cache
    def open_hand() -> SkinnedHand:
        """The bundled hand."""
        with np.load(OPEN_HAND, allow_pickle=False) as fields:
            return SkinnedHand.from_mano(fields, skeleton.OPEN_HAND_TIP_VERTICES)

    @staticmethod
    def from_mano(fields: Mapping[str, np.ndarray], tips: Mapping[str, int]) -> SkinnedHand:
        """The hand of MANO's fields (see `mano.FIELDS`); `tips` names a vertex for each of `skeleton.TIPS`."""
        regressor = np.float32(fields["J_regressor"])
        one_hot = np.eye(regressor.shape[1], dtype=np.float32)[[tips[name] for name in skeleton.TIPS]]
        posedirs = np.float32(fields["posedirs"])
        return SkinnedHand(
            faces=fields["f"].astype(np.int32),
            template=np.float32(fields["v_template"]),
            shapedirs=np.float32(fields["shapedirs"]),
            weights=np.float32(fields["weights"]),
            keypoint_regressor=np.concatenate([regressor, one_hot])[list(skeleton.MANO_TO_KEYPOINTS)],
            posedirs=posedirs if posedirs.any() else None,
        )

    @cached_property
    def joint_regressor(self) -> np.ndarray:
        """(16, V) from rest vertices to the rotating joints, MANO order."""
        return self.keypoint_regressor[list(skeleton.KEYPOINT_OF_MANO)]

    def rest(self, shape: np.ndarray) -> Rest:
        """The unposed hand of (10,) shape parameters."""
        shape = np.asarray(shape, np.float32)
        joints, joint_dirs, keypoint_shares, keypoint_share_dirs = self._joints_by_shape
        vertices = self.template + self.shapedirs @ shape
        return Rest(
            vertices, joints + joint_dirs @ shape, self._shares(vertices), keypoint_shares + keypoint_share_dirs @ shape
        )

    @cached_property
    def _joints_by_shape(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rest joints (16, 3) and keypoint shares (21, 64) of the mean shape, each before what a unit of every shape
        adds, (16, 3, 10) and (21, 64, 10). Both are linear, and products over all vertices take too long in a frame:
        where other programs are busy, a BLAS with threads of its own waits for them for a tenth of a second."""
        by_shape = np.moveaxis(self.shapedirs, 2, 0)
        mean, shares = self.template, self._shares(self.template)
        grown = np.stack([self._shares(mean + step) - shares for step in by_shape], axis=-1)
        joint_dirs = np.stack([self.joint_regressor @ step for step in by_shape], axis=-1)
        keypoint_dirs = np.stack([self.keypoint_regressor @ grown[..., k] for k in range(grown.shape[-1])], axis=-1)
        return self.joint_regressor @ mean, joint_dirs, self.keypoint_regressor @ shares, keypoint_dirs

    def posed(self, rotations: np.ndarray, rest: Rest, side: Side = "right") -> tuple[np.ndarray, np.ndarray]:
        """(V, 3) vertices and (21, 3) joints in keypoint order; the rest wrist stays where it was.

        rotations: (16, 3, 3) relative to the parent joint, MANO order, of a hand of `side` as it is seen: a
        left one is posed as its mirror image. Linear blend skinning as in Romero, Tzionas and Black,
        Embodied Hands (2017).
        """
        if side == "left":
            vertices, joints = self.posed(mirror_rotations(rotations), rest)
            return mirror_points_m(vertices), mirror_points_m(joints)
        rotations = np.asarray(rotations, np.float32)
        shares, keypoint_shares = rest.shares, rest.keypoint_shares
        if self.posedirs is not None:
            bend = self.posedirs @ (rotations[1:] - np.eye(3, dtype=np.float32)).reshape(-1)
            shares = self._shares(rest.vertices_m + bend)
            keypoint_shares = self.keypoint_regressor @ shares
        columns = joint_transforms(rotations, rest.joints_m).transpose(0, 2, 1).reshape(64, 3)
        return _product(shares, columns), keypoint_shares @ columns

    def _shares(self, vertices: np.ndarray) -> np.ndarray:
        homogeneous = np.concatenate([vertices, np.ones_like(vertices[:, :1])], axis=1)
        return (self.weights[:, :, None] * homogeneous[:, None]).reshape(len(vertices), 64)


def _product(shares: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(V, 64) @ (64, 3), in parts so small that a BLAS takes one thread: others would spin for longer than they help,
    and hold up the networks meanwhile (a frame in 7.6 ms in place of 6.5)."""
    product = np.empty((len(shares), 3), np.float32)
    for start in range(0, len(shares), _ROWS):
        np.matmul(shares[start : start + _ROWS], columns, out=product[start : start + _ROWS])
    return product


_ROWS = 850  # times 64 times 3 is below 2^18, from where OpenBLAS takes several threads


def joint_transforms(rotations: np.ndarray, joints_m: np.ndarray) -> np.ndarray:
    """(16, 3, 4) from the rest pose to the posed hand, MANO order.

    rotations: (16, 3, 3) relative to the parent; joints_m: (16, 3) at rest. All five fingers move
    together, level by level.
    """
    turns, places = np.array(rotations), np.array(joints_m)
    for level in skeleton.LEVELS:
        children = list(level)
        parents = [skeleton.PARENTS[joint] for joint in children]
        bones = (joints_m[children] - joints_m[parents])[..., None]
        places[children] = places[parents] + (turns[parents] @ bones)[..., 0]
        turns[children] = turns[parents] @ rotations[children]
    shift = places[..., None] - turns @ joints_m[..., None]
    return np.concatenate([turns, shift], axis=-1)
