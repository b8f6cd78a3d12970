"""A hand that nodes move: WebXR's joints, each with WebXR's axes, and the skin bound to them.

Every joint of WebXR Hand Input is a node by its name there. Sixteen of them turn, as MANO's joints do;
the metacarpals of the four fingers are carried by the wrist, and the tips by the last phalanx. At rest
the nodes have the axes that `to_webxr` gives them (-Z along the bone, +Y out of the back of the hand).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.crop import mirror_faces, mirror_points_m
from handmesh.gltf.surface import split_at_seams, strongest_joints
from handmesh.shading import vertex_normals
from handmesh.skinning import SkinnedHand
from handmesh.structs import Hand, Side
from handmesh.xr import to_webxr
from handmesh.xr.joints import JOINTS, keypoint_name
from handmesh.xr.poses import FROM_CAMERA

VIEW_FROM_CAMERA = np.diag(FROM_CAMERA)
"""From the camera's frame (y down, z forward) to glTF's: y up, the camera at the origin looking along -z."""

_NODES = JOINTS[1:]  # WebXR has no palm

PARENTS: tuple[int, ...] = tuple(
    k - 1 if joint.part not in ("wrist", "metacarpal") else (0 if k else -1) for k, joint in enumerate(_NODES)
)
"""The parent of each node, in the order of `WEBXR_JOINTS`; the wrist's is -1."""

_KEYPOINT_NAMES = [keypoint_name(joint) for joint in _NODES]

NODE_OF_MANO: tuple[int, ...] = tuple(_KEYPOINT_NAMES.index(name) for name in skeleton.MANO_JOINTS)
"""The nodes that turn, in MANO's order of joints."""


class Skin(NamedTuple):
    """The mesh at rest, S vertices."""

    vertices_m: np.ndarray  # (S, 3)
    normals: np.ndarray  # (S, 3)
    uv: np.ndarray | None  # (S, 2)
    faces: np.ndarray  # (F, 3) uint32, outward
    nodes: np.ndarray  # (S, 4 k) uint8 into `WEBXR_JOINTS`
    weights: np.ndarray  # (S, 4 k) float32


class Rig(NamedTuple):
    """A hand of one side, shape and size at rest; the frame is the wrist's own, as WebXR's axes have it."""

    side: Side
    wrist_m: np.ndarray  # (3,) where the wrist turns, in the hand model's size and frame, mirrored for a left hand
    axes: np.ndarray  # (25, 3, 3) whose columns are the nodes' axes, in the hand model's frame
    positions_m: np.ndarray  # (25, 3)
    skin: Skin

    @property
    def turns(self) -> np.ndarray:
        """(25, 3, 3) rotations of the nodes at rest; the wrist's is the identity."""
        return self.axes[0].T @ self.axes

    def scaled(self, factor: float) -> Rig:
        """The same hand `factor` times as large."""
        skin = self.skin._replace(vertices_m=self.skin.vertices_m * np.float32(factor))
        return self._replace(positions_m=self.positions_m * factor, skin=skin)

    def inverse_binds(self) -> np.ndarray:
        """(25, 4, 4) from the rest frame to each node's own."""
        matrices = np.tile(np.eye(4), (len(PARENTS), 1, 1))
        matrices[:, :3, :3] = self.turns.swapaxes(1, 2)
        matrices[:, :3, 3] = -(matrices[:, :3, :3] @ self.positions_m[..., None])[..., 0]
        return matrices

    def local_places(self) -> tuple[np.ndarray, np.ndarray]:
        """(25, 3) translations and (25, 3, 3) rotations of the nodes at rest, relative to their parents."""
        children, parents = np.arange(1, len(PARENTS)), np.array(PARENTS[1:])
        to_parent = self.turns[parents].swapaxes(1, 2)
        places, turns = np.zeros((len(PARENTS), 3)), self.turns.copy()
        bones = self.positions_m[children] - self.positions_m[parents]
        places[1:], turns[1:] = (to_parent @ bones[..., None])[..., 0], to_parent @ self.turns[children]
        return places, turns

    def local_turns(self, poses: np.ndarray) -> np.ndarray:
        """(T, 16, 3, 3) rotations of the nodes `NODE_OF_MANO` relative to their parents, in a hand posed by
        (T, 16, 3, 3): `Hand.pose` of T frames, of this rig's side. The wrist's is relative to the scene."""
        own = self.axes[list(NODE_OF_MANO)]
        parents = [PARENTS[node] for node in NODE_OF_MANO[1:]]
        above = np.concatenate([VIEW_FROM_CAMERA[None], self.axes[parents].swapaxes(1, 2)])
        return above @ np.asarray(poses, np.float64) @ own


def build_rig(hand: SkinnedHand, shape: np.ndarray, side: Side = "right") -> Rig:
    """The rig of a hand in (10,) `shape`, in the size that the model gives it."""
    rest = hand.rest(shape)
    vertices_m, centres_m, keypoints_m = (
        points if side == "right" else mirror_points_m(points)
        for points in (rest.vertices_m, rest.joints_m, hand.keypoint_regressor @ rest.vertices_m)
    )
    poses = to_webxr(_resting(vertices_m, keypoints_m, side))
    view_axes = Rotation.from_quat(poses.orientations_xyzw.astype(np.float64)).as_matrix()
    axes = VIEW_FROM_CAMERA @ view_axes
    places = (poses.positions_m - poses.positions_m[0]).astype(np.float64) @ view_axes[0]
    skin = _skin(hand, (vertices_m - centres_m[0]) @ axes[0], side)
    return Rig(side, centres_m[0], axes, places, skin)


def _resting(vertices_m: np.ndarray, keypoints_m: np.ndarray, side: Side) -> Hand:
    """The unposed hand as if the hand model's frame were the camera's."""
    pose = np.tile(np.eye(3), (len(skeleton.MANO_JOINTS), 1, 1))
    nowhere = np.zeros((len(keypoints_m), 2))
    return Hand(vertices_m, keypoints_m, nowhere, side, 1.0, pose, np.zeros(10), faces=np.empty((0, 3), np.int32))


def _skin(hand: SkinnedHand, vertices_m: np.ndarray, side: Side) -> Skin:
    """The skin of (V, 3) vertices at rest in the wrist's frame."""
    seams = split_at_seams(hand)
    vertices_m = vertices_m.astype(np.float32)
    faces = (hand.faces if side == "right" else mirror_faces(hand.faces)).astype(np.int32)
    joints, weights = strongest_joints(hand.weights)
    nodes = np.where(weights > 0, np.array(NODE_OF_MANO, np.uint8)[joints], 0).astype(np.uint8)
    return Skin(
        vertices_m[seams.vertex],
        vertex_normals(vertices_m, faces)[seams.vertex],
        seams.uv,
        seams.faces if side == "right" else mirror_faces(seams.faces),
        nodes[seams.vertex],
        weights[seams.vertex],
    )
