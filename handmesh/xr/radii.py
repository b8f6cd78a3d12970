"""How far the skin is from each joint, measured on the hand's mesh."""

from __future__ import annotations

import numpy as np

from handmesh.xr import joints as xr

SMALLEST_M, LARGEST_M = 0.004, 0.030

_NEAREST_SHARE = 1 / 64
"""Of the mesh's vertices, as many as ring a finger's joint. Our joints lie closer to the back of a finger
than to its pad: the mean over the ring is a sphere that fits the finger, the nearest vertex alone is not."""

_TIP_INSIDE = 1 / 3
"""A tip lies on the skin; its thickness is measured this share of the last phalanx before it."""

_THUMB_M = {"metacarpal": 0.016, "proximal": 0.014, "distal": 0.013, "tip": 0.012}
_OTHERS_M = {
    "palm": 0.016,
    "wrist": 0.020,
    "metacarpal": 0.016,
    "proximal": 0.011,
    "intermediate": 0.0105,
    "distal": 0.010,
    "tip": 0.010,
}

DEFAULT_M: np.ndarray = np.array(
    [(_THUMB_M if joint.finger == "thumb" else _OTHERS_M)[joint.part] for joint in xr.JOINTS], np.float32
)
"""(26,) the radii of a hand without a mesh."""

_IS_TIP = np.array([[joint.part == "tip"] for joint in xr.JOINTS])
_CENTRES = xr.PLACES - _TIP_INSIDE * _IS_TIP * xr.BONES


def joint_radii_m(joints_m: np.ndarray, vertices_m: np.ndarray) -> np.ndarray:
    """(26,) float32, in the order of OpenXR: the mean distance of the nearest 64th of the vertices, 4 to 30 mm.

    joints_m: (21, 3) in keypoint order; vertices_m: (V, 3) of the same hand, in the same frame. Without
    vertices it is `DEFAULT_M`.
    """
    if len(vertices_m) == 0:
        return DEFAULT_M.copy()
    middle = joints_m[0]  # float32 keeps micrometres only near the origin
    centres = (_CENTRES @ (joints_m - middle)).astype(np.float32)
    skin = (vertices_m - middle).astype(np.float32)
    squared = (centres * centres).sum(1)[:, None] - 2 * centres @ skin.T + (skin * skin).sum(1)
    count = max(1, round(len(skin) * _NEAREST_SHARE))
    squared.partition(count - 1, axis=1)
    distances = np.sqrt(np.maximum(squared[:, :count], 0)).mean(1)
    return np.clip(distances, SMALLEST_M, LARGEST_M)
