"""A followed hand as BVH, the format of motion capture: a skeleton at rest, and angles for every frame.

Source: Meredith and Maddock, Motion Capture File Formats Explained (2001). Metres, y up, the camera at the origin
looking along -z. At rest the wrist lies at the origin, the fingers point along -z and the back of the hand faces +y.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from handmesh import skeleton
from handmesh.hand.lbs import SkinnedHand
from handmesh.xr.gltf import VIEW_FROM_CAMERA, Fit, Track, fit_rig
from handmesh.xr.joints import WEBXR_JOINTS, WEBXR_OF_MANO, WEBXR_PARENTS

_ORDER = "ZXY"
_ROTATIONS = " ".join(f"{axis}rotation" for axis in _ORDER)
_CHANNELS = {True: f"6 Xposition Yposition Zposition {_ROTATIONS}", False: f"3 {_ROTATIONS}"}
_CHILDREN = [[child for child, parent in enumerate(WEBXR_PARENTS) if parent == k] for k in range(len(WEBXR_PARENTS))]
_MOVING = [k for k, children in enumerate(_CHILDREN) if children]
"""The joints that have channels, parents first, as they stand in a file; tips are its end sites."""


def bvh_of(track: Track, times_s: np.ndarray, fps: float, hand: SkinnedHand | None = None) -> str:
    """The track's hand from the first frame that shows it to the last, `fps` times a second.

    times_s: (N,) of the clip's frames. Joints are those of WebXR; metacarpals stand still. Between frames, and where
    the hand was away, it moves evenly. One shape and size, as `gltf.animated_glb` has it.
    """
    fit = fit_rig(track, hand or SkinnedHand.open_hand())
    seen_s = np.asarray(times_s, np.float64)[track.frames]
    shown_s = seen_s[0] + np.arange(round((seen_s[-1] - seen_s[0]) * fps) + 1) / fps
    values = _channels(fit, track, seen_s, np.minimum(shown_s, seen_s[-1]))
    lines = ["HIERARCHY", *_joint(fit, 0), "MOTION", f"Frames: {len(values)}", f"Frame Time: {1 / fps:.7f}"]
    lines += [" ".join(f"{value:.5f}" for value in row) for row in values.tolist()]
    return "\n".join(lines) + "\n"


def _joint(fit: Fit, k: int, depth: int = 0) -> Iterator[str]:
    """The lines of a joint of the skeleton and of those that hang from it."""
    indent, parent = "\t" * depth, WEBXR_PARENTS[k]
    offset = fit.rig.positions_m[k] - fit.rig.positions_m[max(parent, 0)]
    yield indent + ("End Site" if k not in _MOVING else f"{'ROOT' if k == 0 else 'JOINT'} {WEBXR_JOINTS[k]}")
    yield indent + "{"
    yield f"{indent}\tOFFSET {offset[0]:.6f} {offset[1]:.6f} {offset[2]:.6f}"
    if k in _MOVING:
        yield f"{indent}\tCHANNELS {_CHANNELS[k == 0]}"
    for child in _CHILDREN[k]:
        yield from _joint(fit, child, depth + 1)
    yield indent + "}"


def _channels(fit: Fit, track: Track, seen_s: np.ndarray, shown_s: np.ndarray) -> np.ndarray:
    """(T, C) the numbers of each frame: metres and degrees, joints in the order of the file."""
    angles = np.zeros((len(shown_s), len(WEBXR_JOINTS), 3))
    poses = np.asarray(track.poses, np.float64)
    axes = fit.rig.axes[0]  # at rest all joints of a BVH have the axes of its root
    for number, node in enumerate(WEBXR_OF_MANO):
        before = VIEW_FROM_CAMERA if number == skeleton.WRIST else axes.T
        angles[:, node] = _angles_deg(before @ poses[:, number] @ axes, seen_s, shown_s)
    wrist = np.stack([np.interp(shown_s, seen_s, column) for column in fit.wrists_m.T], axis=1)
    return np.concatenate([wrist, angles[:, _MOVING].reshape(len(shown_s), -1)], axis=1)


def _angles_deg(rotations: np.ndarray, seen_s: np.ndarray, shown_s: np.ndarray) -> np.ndarray:
    """(T, 3) angles about Z, X and Y that never jump by a turn, of (N, 3, 3) rotations at other times."""
    turned = Rotation.from_matrix(rotations)
    if len(seen_s) > 1:
        turned = Slerp(seen_s, turned)(shown_s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where two axes fall together, any split of the angle is right
        return np.degrees(np.unwrap(turned.as_euler(_ORDER), axis=0))
