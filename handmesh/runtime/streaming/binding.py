"""What never changes while a stream runs: joint names, the mesh's topology and the pose it is bound in.

The stream's counterpart of `XR_FB_hand_tracking_mesh`: with it, the 25 joint poses of a frame are
enough to move a skinned mesh, and the vertices of a binary frame have faces.
"""

from __future__ import annotations

import numpy as np

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.camera import project
from handmesh.crop import mirror_faces, mirror_rotations
from handmesh.render import SIDE_COLOURS
from handmesh.runtime.streaming.messages import VERSION, Fields, dumped, rounded
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera, Hand, Side
from handmesh.xr import WEBXR_JOINTS, to_webxr
from handmesh.xr.joints import JOINTS, keypoint_name
from handmesh.xr.poses import FROM_CAMERA

INFLUENCES = 4
"""Joints that may move one vertex, as glTF and game engines have it."""

WEBXR_PARENTS: tuple[int, ...] = tuple(
    -1 if joint.part == "wrist" else 0 if joint.part == "metacarpal" else index - 1
    for index, joint in enumerate(JOINTS[1:])
)
"""The parent of each of the 25 joints; the wrist's is -1."""

_XR_OF_MANO = [[keypoint_name(joint) for joint in JOINTS[1:]].index(name) for name in skeleton.MANO_JOINTS]


def bind_message(hand: SkinnedHand) -> str:
    """The message that tells clients of the hand in use, in its mean shape; both sides of it."""
    joints, weights = strongest_weights(hand.weights)
    fields: Fields = {
        "type": "bind",
        "version": VERSION,
        "joints": list(WEBXR_JOINTS),
        "parents": list(WEBXR_PARENTS),
        "keypoints": list(skeleton.KEYPOINTS),
        "weight_joints": joints.ravel().tolist(),
        "weights": rounded(weights, 5),
        "hands": {side: _side_fields(hand, side) for side in ("left", "right")},
    }
    return dumped(fields)


def bound_hand(hand: SkinnedHand, side: Side) -> Hand:
    """The mean hand as it is bound: flat, fingers up, palm to the camera, its wrist at the camera's centre."""
    rotations = np.tile(np.eye(3, dtype=np.float32), (16, 1, 1))
    rotations[0] = skeleton.PALM_TO_CAMERA
    rotations = rotations if side == "right" else mirror_rotations(rotations)
    vertices, joints = hand.posed(rotations, hand.rest(np.zeros(10)), side)
    vertices, joints = vertices - joints[skeleton.WRIST], joints - joints[skeleton.WRIST]
    faces = hand.faces if side == "right" else mirror_faces(hand.faces)
    camera = Camera.from_fov(640, 480)
    joints_px = project(joints + [0, 0, 1], camera)
    return Hand(vertices, joints, joints_px, side, 1.0, rotations, np.zeros(10, np.float32), faces)


def strongest_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, 16) blend weights in MANO order to (V, 4) WebXR joints and (V, 4) weights that sum to 1."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    kept = np.take_along_axis(weights, order, axis=1)
    return np.array(_XR_OF_MANO)[order], kept / kept.sum(1, keepdims=True)


def _side_fields(hand: SkinnedHand, side: Side) -> Fields:
    bound = bound_hand(hand, side)
    pose = to_webxr(bound)
    fields: Fields = {
        "colour_rgb": [round(channel, 3) for channel in SIDE_COLOURS[side]],
        "positions_m": rounded(pose.positions_m, 5),
        "orientations_xyzw": rounded(pose.orientations_xyzw, 6),
        "radii_m": rounded(pose.radii_m, 4),
        "vertices_m": rounded(bound.vertices_m * FROM_CAMERA, 5),
        "faces": bound.faces.ravel().tolist(),
    }
    return fields | _texture_fields(hand, side)


def _texture_fields(hand: SkinnedHand, side: Side) -> Fields:
    """The bundled hand's texture coordinates, v up; a user's own hand has none here."""
    if hand is not SkinnedHand.open_hand():
        return {}
    with np.load(OPEN_HAND, allow_pickle=False) as data:
        uv, uv_faces = data["uv"], data["ft"].astype(np.int64)
    uv_faces = mirror_faces(uv_faces) if side == "left" else uv_faces
    return {"uvs": rounded(uv, 5), "uv_faces": uv_faces.ravel().tolist()}
