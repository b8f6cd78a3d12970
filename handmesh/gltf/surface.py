"""A hand's skin as glTF draws it: one normal and one texture coordinate a vertex, a few joints that move it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from handmesh.assets import OPEN_HAND
from handmesh.skinning import SkinnedHand

INFLUENCES_A_SET = 4
"""JOINTS_0 and WEIGHTS_0 hold four joints a vertex; JOINTS_1 and WEIGHTS_1 four more."""

TOLERATED_M = 0.0003
"""Joints are left out where that moves no vertex by more."""

_REACH_M = 0.1  # how far apart two joints would take a vertex: about a finger's length, in a fist


class Seams(NamedTuple):
    """Vertices split where the texture is cut: each has one texture coordinate."""

    vertex: np.ndarray  # (S,) which of the hand's vertices each is
    uv: np.ndarray | None  # (S, 2) float32, (0, 0) the picture's top left; None for a hand without texture
    faces: np.ndarray  # (F, 3) uint32 into the split vertices, outward for a right hand


def split_at_seams(hand: SkinnedHand) -> Seams:
    """The hand's vertices as glTF needs them. Only the bundled hand has texture coordinates."""
    with np.load(OPEN_HAND, allow_pickle=False) as archive:
        if not np.array_equal(archive["f"], hand.faces):
            return Seams(np.arange(len(hand.template)), None, hand.faces.astype(np.uint32))
        uv, uv_faces = archive["uv"], archive["ft"]
    corners = np.stack([hand.faces.ravel(), uv_faces.ravel()], axis=1)
    pairs, faces = np.unique(corners, axis=0, return_inverse=True)
    flipped = uv[pairs[:, 1]] * (1, -1) + (0, 1)  # the asset's v points up
    return Seams(pairs[:, 0], flipped.astype(np.float32), faces.reshape(-1, 3).astype(np.uint32))


def strongest_joints(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, 4 k) joints and their weights, strongest first, of (V, J) weights; rows sum to 1.

    k is 1 where four joints a vertex are enough: where what the others weigh, and so what leaving them
    out can move a vertex, stays within `TOLERATED_M`. Unused places hold joint 0 with weight 0.
    """
    order = np.argsort(-weights, axis=1, kind="stable")
    sorted_weights = np.take_along_axis(weights.astype(np.float64), order, axis=1)
    count = INFLUENCES_A_SET
    while sorted_weights[:, count:].sum(1).max(initial=0.0) * _REACH_M > TOLERATED_M:
        count += INFLUENCES_A_SET
    kept = sorted_weights[:, :count] / sorted_weights[:, :count].sum(1, keepdims=True)
    return np.where(kept > 0, order[:, :count], 0).astype(np.uint8), kept.astype(np.float32)
