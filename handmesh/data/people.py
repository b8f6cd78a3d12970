"""Pictures of dressed, gesturing people as cut-outs with labelled hands, for training the detector.

Faces, bare arms and feet are in them on purpose: a detector must not take skin for a hand.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.camera import project
from handmesh.data.bodies import Body, Rig, bend_wrist, curl_fingers, hand_joints, pose_body, reach
from handmesh.data.clothing import Outfit, Wardrobe, dress
from handmesh.data.sprites import Sprite, SpriteHand
from handmesh.rasterizer import Fragments, rasterize
from handmesh.structs import Camera, Side

Framing = Literal["body", "bust", "hand", "own"]
"""What a picture shows: a person, head and shoulders, one hand close by, or one's own hands."""

_SHARES: dict[Framing, float] = {"body": 0.25, "bust": 0.3, "hand": 0.3, "own": 0.15}
_SUPERSAMPLING = 2
_HIDDEN_BEHIND_M = 0.045  # a joint lies up to this deep under the hand's own skin


class Studio:
    """Renders one random person after the other from bodies, a skin texture and a random generator."""

    def __init__(self, rig: Rig, bodies: list[Body], skin_rgb: np.ndarray) -> None:
        """skin_rgb: (H, W, 3) uint8, MakeHuman's texture layout."""
        self.rig, self.bodies, self.wardrobe = rig, bodies, Wardrobe.of(rig, bodies[0])
        self.skin = skin_rgb.astype(np.float32) / 255

    def sprite(self, rng: np.random.Generator) -> Sprite:
        """One random picture, 192 to 384 pixels wide; at least part of a person is in it."""
        while True:
            framing: Framing = rng.choice(list(_SHARES), p=list(_SHARES.values()))
            body = random_pose(self.rig, self.bodies[rng.integers(len(self.bodies))], framing, rng)
            view = _random_view(self.rig, body, framing, rng)
            sprite = self.render(body, view, rng)
            if (sprite.rgba[..., 3] > 0).mean() > 0.03:
                return sprite

    def render(self, body: Body, view: View, rng: np.random.Generator) -> Sprite:
        """Dress, light and draw one posed body."""
        outfit = dress(self.wardrobe, body, rng)
        normals = _vertex_normals(body.vertices_m, self.rig.faces)
        vertices_m = view.to_camera(body.vertices_m + outfit.thickness_m[:, None] * normals)
        large = _enlarged(view.camera, _SUPERSAMPLING)
        seen = np.concatenate([project(vertices_m, large), vertices_m[:, 2:]], 1)
        seen[vertices_m[:, 2] < 0.05] = -1
        fragments = rasterize(seen, self.rig.faces, large.height, large.width)
        shades = _vertex_light(normals @ view.rotation.T, rng)
        rgba = self._paint(fragments, outfit, shades, _skin_tone(rng))
        size = (view.camera.width, view.camera.height)
        rgba = _straight_alpha(cv2.resize(rgba, size, interpolation=cv2.INTER_AREA))
        hands = tuple(self._label(body, side, view, fragments) for side in ("left", "right"))
        return Sprite(rgba, tuple(hand for hand in hands if hand is not None))

    def _paint(self, seen: Fragments, outfit: Outfit, shades: np.ndarray, tone: np.ndarray) -> np.ndarray:
        """(H, W, 4) float32 0..1, colour premultiplied with alpha."""
        inside = seen.face >= 0
        corners = self.rig.faces[seen.face[inside]]
        b = seen.barycentric[inside]
        weights = np.stack([1 - b[:, 0] - b[:, 1], b[:, 0], b[:, 1]], 1)

        def blend(values: np.ndarray, index: np.ndarray) -> np.ndarray:
            return np.einsum("nk,nkc->nc", weights, values[index])

        uv = blend(self.rig.uv, self.rig.face_uv[seen.face[inside]])
        skin = _lookup(self.skin, uv) * tone
        cover = blend(np.column_stack([outfit.colours, outfit.bare, shades]).astype(np.float32), corners)
        bare = cover[:, 3:4] > 0.5  # sharp hems
        albedo = np.where(bare, skin, cover[:, :3])
        rgba = np.zeros((*seen.face.shape, 4), np.float32)
        rgba[inside, :3] = np.clip(albedo * cover[:, 4:], 0, 1)
        rgba[inside, 3] = 1
        return rgba

    def _label(self, body: Body, side: Side, view: View, seen: Fragments) -> SpriteHand | None:
        """The hand as it can be seen; None where hardly anything of it can."""
        joints_m = view.to_camera(hand_joints(self.rig, body, side))
        if joints_m[:, 2].min() < 0.06:
            return None
        joints_px = project(joints_m, view.camera)
        column, row = np.round(joints_px * _SUPERSAMPLING).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < seen.depth.shape[1]) & (row < seen.depth.shape[0])
        front = seen.depth[row.clip(0, seen.depth.shape[0] - 1), column.clip(0, seen.depth.shape[1] - 1)]
        visible = inside & (front > joints_m[:, 2] - _HIDDEN_BEHIND_M)
        return SpriteHand(side, joints_px.astype(np.float32), float(visible.mean())) if visible.any() else None


class View(NamedTuple):
    """A camera and where it stands: x_camera = rotation (x - eye_m)."""

    camera: Camera
    rotation: np.ndarray  # (3, 3)
    eye_m: np.ndarray  # (3,)

    def to_camera(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) points of the body's frame in the camera's (x right, y down, z forward)."""
        return (points_m - self.eye_m) @ self.rotation.T


def random_pose(rig: Rig, body: Body, framing: Framing, rng: np.random.Generator) -> Body:
    """A body with both arms and all fingers somewhere that people put them."""
    turns: dict[int, np.ndarray] = {}
    for side in ("left", "right"):
        place = _wrist_place(rig, body, side, framing, rng)
        turns |= reach(rig, body, side, place, rng.normal(0.0, 0.6))
        turns |= bend_wrist(rig, body, side, rng.uniform(-1.7, 1.7), rng.normal(0, 0.45), rng.normal(0, 0.2))
        turns |= curl_fingers(rig, body, side, _random_curl(rng), rng.normal(0, 0.08, 5))
    turns[rig.bone("neck01")] = Rotation.from_rotvec(rng.normal(0, [0.15, 0.1, 0.25])).as_matrix()
    return pose_body(rig, body, turns)


def _wrist_place(rig: Rig, body: Body, side: Side, framing: Framing, rng: np.random.Generator) -> np.ndarray:
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
        return rng.random(5)
    preset = np.array(_CURLS[rng.choice(list(_CURLS))], float)
    return np.clip(preset + rng.normal(0, 0.1, 5), -0.1, 1.05)


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
