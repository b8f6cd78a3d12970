"""The parametric hand in NumPy: linear blend skinning for the tracker, the exports and the streams. No torch.

The same function as `model.HandModel`, which trains and is frozen into the exported graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.geometry import mirror_points_m, mirror_rotations
from handmesh.types import Side


@dataclass(frozen=True, eq=False)
class Rest:
    """A hand of one shape before it is posed, in the model's frame; what nobody asks for is not computed."""

    hand: SkinnedHand
    shape: np.ndarray  # (10,) float32

    @cached_property
    def vertices_m(self) -> np.ndarray:
        """(V, 3) float32."""
        template, directions, _ = self.hand._planes
        return (template + (directions @ self.shape).reshape(template.shape)).T

    @cached_property
    def joints_m(self) -> np.ndarray:
        """(16, 3) float32, MANO order."""
        mean, by_shape, *_ = self.hand._joints_by_shape
        return mean + by_shape @ self.shape

    @cached_property
    def keypoint_weights(self) -> np.ndarray:
        """(21, 64) float32: what each of the 21 joints has of each rotating joint's x, y, z and 1, keypoint order, so
        that posing them is one product."""
        *_, mean, by_shape = self.hand._joints_by_shape
        return mean + by_shape @ self.shape


@dataclass(frozen=True, eq=False)
class SkinnedHand:
    """A right hand with V vertices, 16 rotating joints and 10 shape parameters; float32 throughout.

    The rest frame of MANO and of the open hand: -x along the fingers, +y the back of the hand, +z the
    thumb's side. A left hand is the mirrored right one: see `geometry.mirror_points_m`.
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
        return Rest(self, np.asarray(shape, np.float32))

    @cached_property
    def _planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Template (3, V), shape directions (3 V, 10) and weights (16, V): all x, then all y, then all z of the
        vertices, as whole rows are added and multiplied ten times as fast as short ones."""
        by_axis = self.shapedirs.transpose(1, 0, 2)
        template, weights = (np.ascontiguousarray(values.T, np.float32) for values in (self.template, self.weights))
        return template, np.ascontiguousarray(by_axis, np.float32).reshape(-1, by_axis.shape[2]), weights

    @cached_property
    def _joints_by_shape(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rest joints (16, 3) and keypoint shares (21, 64) of the mean shape, each before what a unit of every shape
        adds, (16, 3, 10) and (21, 64, 10). Both are linear, and products over all vertices take too long in a frame:
        where other programs are busy, a BLAS with threads of its own waits for them for a tenth of a second."""
        by_shape = np.moveaxis(self.shapedirs, 2, 0)
        mean, weights = self.template, self._weighted(self.template)
        grown = np.stack([self._weighted(mean + step) - weights for step in by_shape], axis=-1)
        joint_dirs = np.stack([self.joint_regressor @ step for step in by_shape], axis=-1)
        keypoint_dirs = np.stack([self.keypoint_regressor @ grown[..., k] for k in range(grown.shape[-1])], axis=-1)
        return self.joint_regressor @ mean, joint_dirs, self.keypoint_regressor @ weights, keypoint_dirs

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
        transforms = joint_transforms(rotations, rest.joints_m)
        if self.posedirs is None:
            joints = rest.keypoint_weights @ transforms.transpose(0, 2, 1).reshape(64, 3)
            return self._skinned(rest.vertices_m, transforms), joints
        bend = self.posedirs @ (rotations[1:] - np.eye(3, dtype=np.float32)).reshape(-1)
        vertices = self._skinned(rest.vertices_m + bend, transforms)
        return vertices, self.keypoint_regressor @ vertices

    def posed_joints(self, rotations: np.ndarray, rest: Rest) -> np.ndarray:
        """(21, 3) the joints of `posed`, of a right hand."""
        rotations = np.asarray(rotations, np.float32)
        if self.posedirs is not None:  # a joint hangs on vertices that its pose moves
            return self.posed(rotations, rest)[1]
        return rest.keypoint_weights @ joint_transforms(rotations, rest.joints_m).transpose(0, 2, 1).reshape(64, 3)

    def _skinned(self, vertices_m: np.ndarray, transforms: np.ndarray) -> np.ndarray:
        """(V, 3) rest vertices, each moved by its own mean of the (16, 3, 4) transforms.

        Axis by axis, also because products so small are left to one thread by a BLAS: others would spin for longer than
        they help, and hold up the networks meanwhile (a frame in 7.6 ms in place of 6.5).
        """
        x, y, z = np.ascontiguousarray(vertices_m.T)
        *_, weights = self._planes
        skinned = np.empty((3, len(x)), np.float32)
        for axis, position in enumerate(skinned):
            by_x, by_y, by_z, shift = transforms[:, axis].T @ weights
            np.multiply(by_x, x, out=position)
            position += by_y * y
            position += by_z * z
            position += shift
        return np.ascontiguousarray(skinned.T)

    def _weighted(self, vertices: np.ndarray) -> np.ndarray:
        homogeneous = np.concatenate([vertices, np.ones_like(vertices[:, :1])], axis=1)
        return (self.weights[:, :, None] * homogeneous[:, None]).reshape(len(vertices), 64)


def joint_transforms(rotations: np.ndarray, joints_m: np.ndarray) -> np.ndarray:
    """(16, 3, 4) from the rest pose to the posed hand, MANO order.

    rotations: (16, 3, 3) relative to the parent; joints_m: (16, 3) at rest.
    """
    global_rotations, global_positions = joint_chain(rotations, joints_m)
    shift = global_positions[..., None] - global_rotations @ joints_m[..., None]
    return np.concatenate([global_rotations, shift], axis=-1)


def joint_chain(rotations: np.ndarray, joints_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(16, 3, 3) turns and (16, 3) places of the posed joints in the model's frame, MANO order.

    rotations, joints_m: as for `joint_transforms`. All five fingers move together, level by level.
    """
    global_rotations, global_positions = np.array(rotations), np.array(joints_m)
    for children, parents in _LEVELS:
        above = global_rotations[parents]
        bones = (joints_m[children] - joints_m[parents])[..., None]
        global_positions[children] = global_positions[parents] + (above @ bones)[..., 0]
        global_rotations[children] = above @ rotations[children]
    return global_rotations, global_positions


def strongest_joints(weights: np.ndarray, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(V, count) joints and (V, count) float32 weights, strongest first, of (V, J) blend weights; rows sum to 1.

    A vertex that fewer joints move has joint 0 with weight 0 in the rest of its row.
    """
    order = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(weights.astype(np.float64), order, axis=1)
    kept /= kept.sum(1, keepdims=True)
    return np.where(kept > 0, order, 0), kept.astype(np.float32)


def _evenly(indices: tuple[int, ...]) -> slice:
    """The slice of evenly spaced indices; of one index, a single item that broadcasts."""
    first, *others = sorted(set(indices))
    chosen = slice(first, others[-1] + 1, others[0] - first) if others else slice(first, first + 1)
    assert tuple(range(16)[chosen]) == tuple(sorted(set(indices)))
    return chosen


_LEVELS = [(_evenly(level), _evenly(tuple(skeleton.PARENTS[joint] for joint in level))) for level in skeleton.LEVELS]
"""Children and parents of each level; slices take a third of the time of lists."""
