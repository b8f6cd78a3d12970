"""Rigged and animated hands as glTF 2.0 (`.glb`); see docs/exports.md."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations
from handmesh.hand.lbs import SkinnedHand, joint_transforms, strongest_joints
from handmesh.render.rasterizer import vertex_normals
from handmesh.types import Hand, Side
from handmesh.xr import WEBXR_JOINTS, to_webxr
from handmesh.xr.joints import VRM_BONES, WEBXR_OF_MANO, WEBXR_PARENTS
from handmesh.xr.poses import FROM_CAMERA

# A glTF 2.0 file in the making: its JSON, and the one buffer of numbers that follows it in a `.glb`.
#
# Source: Khronos, glTF 2.0 Specification. Written here because trimesh writes no skins and pygltflib, which
# holds the JSON's fields as classes, leaves packing, bounds and alignment to its callers.


ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
"""What a buffer view is for: vertex attributes, or indices."""

_COMPONENTS = {np.dtype("u1"): 5121, np.dtype("u2"): 5123, np.dtype("u4"): 5125, np.dtype("f4"): 5126}
_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942


class Document:
    """Collects what a file holds; everything added is known by its index.

    >>> document = Document()
    >>> document.add("nodes", name="wrist"), document.add("nodes", name="thumb-tip")
    (0, 1)
    """

    def __init__(self) -> None:
        self._json: dict[str, object] = {"asset": {"version": "2.0", "generator": "handmesh"}}
        self._buffer = bytearray()

    def add(self, kind: str, **fields: object) -> int:
        """Append an object to one of the JSON's lists ("nodes", "meshes", ...); its index there."""
        objects = self._json.setdefault(kind, [])
        objects.append({name: value for name, value in fields.items() if value is not None})
        return len(objects) - 1

    def next_index(self, kind: str) -> int:
        """The index that the next object of a kind will get."""
        return len(self._json.get(kind, ()))

    def add_numbers(self, numbers: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """An accessor of (N, ...) numbers, uint8, uint16, uint32 or float32; its index.

        Matrices are (N, 4, 4) with rows first, as NumPy has them. target: for vertex attributes and
        indices. bounds: state the smallest and largest, as positions and key times must.
        """
        numbers = np.ascontiguousarray(numbers)
        stored = numbers.swapaxes(1, 2) if numbers.ndim == 3 else numbers  # glTF has columns first
        accessor = {
            "bufferView": self._add_view(stored.tobytes(), target),
            "componentType": _COMPONENTS[numbers.dtype],
            "count": len(numbers),
            "type": _TYPES[numbers.shape[1:]],
        }
        if bounds:
            accessor["min"] = np.atleast_1d(numbers.min(0)).tolist()
            accessor["max"] = np.atleast_1d(numbers.max(0)).tolist()
        return self.add("accessors", **accessor)

    def _add_view(self, data: bytes, target: int | None) -> int:
        start = len(self._buffer)
        self._buffer += data + b"\0" * (-len(data) % 4)
        return self.add("bufferViews", buffer=0, byteOffset=start, byteLength=len(data), target=target)

    def glb(self, roots: list[int]) -> bytes:
        """The file whose scene shows the nodes `roots`."""
        whole = {**self._json, "scene": 0, "scenes": [{"nodes": roots}], "buffers": [{"byteLength": len(self._buffer)}]}
        text = json.dumps(whole, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), _JSON) + text
        chunks += struct.pack("<II", len(self._buffer), _BINARY) + self._buffer
        return struct.pack("<III", _MAGIC, _VERSION, 12 + len(chunks)) + chunks


# A hand's skin as glTF draws it: one normal and one texture coordinate a vertex, a few joints that move it.


INFLUENCES_A_SET = 4
"""JOINTS_0 and WEIGHTS_0 hold four joints a vertex; JOINTS_1 and WEIGHTS_1 four more."""

TOLERATED_M = 0.0003
"""Joints are left out where that moves no vertex by more."""

_REACH_M = 0.1  # how far apart two joints would take a vertex: about a finger's length, in a fist


class Seams(NamedTuple):
    """Vertices split where the texture is cut: each has one texture coordinate."""

    vertex: np.ndarray  # (S,) which of the hand's vertices each is
    uv: np.ndarray | None  # (S, 2) float32, (0, 0) the image's top left; None for a hand without texture
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


def influences(weights: np.ndarray) -> int:
    """How many joints a vertex needs, four or a multiple, of (V, J) blend weights: as many as it takes for what the
    others weigh, and so what leaving them out can move a vertex, to stay within `TOLERATED_M`."""
    weakest_first = np.sort(weights.astype(np.float64), axis=1)
    count = INFLUENCES_A_SET
    while weakest_first[:, :-count].sum(1).max(initial=0.0) * _REACH_M > TOLERATED_M:
        count += INFLUENCES_A_SET
    return count


# A hand that nodes move: WebXR's joints, each with WebXR's axes, and the skin bound to them.
#
# Every joint of WebXR Hand Input is a node by its name there. Sixteen of them turn, as MANO's joints do;
# the metacarpals of the four fingers are carried by the wrist, and the tips by the last phalanx. At rest
# the nodes have the axes that `to_webxr` gives them (-Z along the bone, +Y out of the back of the hand).


VIEW_FROM_CAMERA = np.diag(FROM_CAMERA)
"""From the camera's frame (y down, z forward) to glTF's: y up, the camera at the origin looking along -z."""


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
    def rotations(self) -> np.ndarray:
        """(25, 3, 3) rotations of the nodes at rest; the wrist's is the identity."""
        return self.axes[0].T @ self.axes

    def scaled(self, factor: float) -> Rig:
        """The same hand `factor` times as large."""
        skin = self.skin._replace(vertices_m=self.skin.vertices_m * np.float32(factor))
        return self._replace(positions_m=self.positions_m * factor, skin=skin)

    def inverse_binds(self) -> np.ndarray:
        """(25, 4, 4) from the rest frame to each node's own."""
        matrices = np.tile(np.eye(4), (len(WEBXR_PARENTS), 1, 1))
        matrices[:, :3, :3] = self.rotations.swapaxes(1, 2)
        matrices[:, :3, 3] = -(matrices[:, :3, :3] @ self.positions_m[..., None])[..., 0]
        return matrices

    def local_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """(25, 3) translations and (25, 3, 3) rotations of the nodes at rest, relative to their parents."""
        children, parents = np.arange(1, len(WEBXR_PARENTS)), np.array(WEBXR_PARENTS[1:])
        to_parent = self.rotations[parents].swapaxes(1, 2)
        positions, rotations = np.zeros((len(WEBXR_PARENTS), 3)), self.rotations.copy()
        bones = self.positions_m[children] - self.positions_m[parents]
        positions[1:], rotations[1:] = (to_parent @ bones[..., None])[..., 0], to_parent @ self.rotations[children]
        return positions, rotations

    def local_rotations(self, poses: np.ndarray) -> np.ndarray:
        """(T, 16, 3, 3) rotations of the nodes `WEBXR_OF_MANO` relative to their parents, in a hand posed by
        (T, 16, 3, 3): `Hand.pose` of T frames, of this rig's side. The wrist's is relative to the scene."""
        own = self.axes[list(WEBXR_OF_MANO)]
        parents = [WEBXR_PARENTS[node] for node in WEBXR_OF_MANO[1:]]
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
    positions = (poses.positions_m - poses.positions_m[0]).astype(np.float64) @ view_axes[0]
    skin = _skin(hand, (vertices_m - centres_m[0]) @ axes[0], side)
    return Rig(side, centres_m[0], axes, positions, skin)


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
    joints, weights = strongest_joints(hand.weights, influences(hand.weights))
    nodes = np.where(weights > 0, np.array(WEBXR_OF_MANO, np.uint8)[joints], 0).astype(np.uint8)
    return Skin(
        vertices_m[seams.vertex],
        vertex_normals(vertices_m, faces)[seams.vertex],
        seams.uv,
        seams.faces if side == "right" else mirror_faces(seams.faces),
        nodes[seams.vertex],
        weights[seams.vertex],
    )


# Puts rigged hands into a glTF document: mesh, skin, material and nodes. One call makes a whole file of one.


Colour = tuple[float, float, float]

SKIN_COLOUR: Colour = (0.85, 0.68, 0.58)
"""sRGB."""

ROUGHNESS = 0.6


class HandNodes(NamedTuple):
    """Where a hand is in a document."""

    roots: list[int]  # the nodes that a scene must show
    joints: list[int]  # in the order of `WEBXR_JOINTS`


def rigged_glb(
    hand: SkinnedHand | None = None,
    shape: np.ndarray | None = None,
    side: Side = "right",
    scale: float = 1.0,
    colour: Colour = SKIN_COLOUR,
    flat: bool = False,
) -> bytes:
    """A `.glb` of one hand at rest, ready to be posed: the wrist at the origin, fingers along -z, back up (+y).

    hand: by default the bundled open hand. shape: (10,), by default the mean. scale: metres to a metre of
    the model (`Hand.size_m` over the model's). flat: all joints beside one another, as WebXR's
    `generic-hand` has them, each posed in the scene's frame; otherwise each joint is its parent's child.
    """
    rig = build_rig(hand or SkinnedHand.open_hand(), np.zeros(10) if shape is None else shape, side).scaled(scale)
    document = Document()
    return document.glb(add_hand(document, rig, f"{side}_hand", colour, flat=flat).roots)


def add_hand(
    document: Document, rig: Rig, name: str, colour: Colour = SKIN_COLOUR, prefix: str = "", flat: bool = False
) -> HandNodes:
    """Add a hand at rest to the document. prefix: of its joints' names, where a file has several hands."""
    joints = _add_flat_joints(document, rig, prefix) if flat else _add_joint_tree(document, rig, prefix)
    binds = document.add_numbers(rig.inverse_binds().astype(np.float32))
    skin = document.add("skins", name=name, inverseBindMatrices=binds, joints=joints)
    mesh = document.add("meshes", name=name, primitives=[_add_primitive(document, rig.skin, name, colour)])
    shown = document.add("nodes", name=f"{name}_mesh", mesh=mesh, skin=skin)
    if flat:  # three.js looks for the mesh and its joints below the scene's first child
        return HandNodes([document.add("nodes", name=name, children=[shown, *joints])], joints)
    return HandNodes([document.add("nodes", name=name, children=joints[:1]), shown], joints)


def _add_primitive(document: Document, skin: Skin, name: str, colour: Colour) -> dict[str, object]:
    def attribute(numbers: np.ndarray, bounds: bool = False) -> int:
        return document.add_numbers(numbers, ARRAY_BUFFER, bounds)

    attributes = {"POSITION": attribute(skin.vertices_m, bounds=True), "NORMAL": attribute(skin.normals)}
    if skin.uv is not None:
        attributes["TEXCOORD_0"] = attribute(skin.uv)
    for number, start in enumerate(range(0, skin.nodes.shape[1], INFLUENCES_A_SET)):
        chosen = slice(start, start + INFLUENCES_A_SET)
        attributes[f"JOINTS_{number}"] = attribute(skin.nodes[:, chosen])
        attributes[f"WEIGHTS_{number}"] = attribute(skin.weights[:, chosen])
    indices = skin.faces.ravel().astype(np.uint16 if len(skin.vertices_m) < 65_535 else np.uint32)
    return {
        "attributes": attributes,
        "indices": document.add_numbers(indices, ELEMENT_ARRAY_BUFFER),
        "material": add_material(document, name, colour),
    }


def linear(srgb: Colour) -> list[float]:
    """An sRGB colour in linear light (IEC 61966-2-1)."""
    encoded = np.array(srgb)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).round(4).tolist()


def add_material(document: Document, name: str, colour: Colour) -> int:
    """Add a skin's material in an sRGB colour; its index."""
    return document.add(
        "materials",
        name=name,
        pbrMetallicRoughness={
            "baseColorFactor": [*linear(colour), 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": ROUGHNESS,
        },
        doubleSided=True,  # the wrist is open: one can look in
    )


def _add_joint_tree(document: Document, rig: Rig, prefix: str) -> list[int]:
    positions, rotations = rig.local_positions()
    first = document.next_index("nodes")
    for k in range(len(WEBXR_PARENTS)):
        children = [first + child for child, parent in enumerate(WEBXR_PARENTS) if parent == k]
        _add_joint(document, rig, k, prefix, (positions[k], rotations[k]), children or None)
    return list(range(first, first + len(WEBXR_PARENTS)))


def _add_flat_joints(document: Document, rig: Rig, prefix: str) -> list[int]:
    positions = zip(rig.positions_m, rig.rotations, strict=True)
    return [_add_joint(document, rig, k, prefix, position) for k, position in enumerate(positions)]


def _add_joint(
    document: Document,
    rig: Rig,
    number: int,
    prefix: str,
    position: tuple[np.ndarray, np.ndarray],
    children: list[int] | None = None,
) -> int:
    """Add one of the nodes, at its translation and rotation relative to what it hangs from.

    A joint that turns says which joint of `Hand.pose` it is, how its axes lie in the hand model's frame, and which
    bone of a VRM's humanoid.
    """
    extras = None
    if number in WEBXR_OF_MANO:
        joint = skeleton.MANO_JOINTS[WEBXR_OF_MANO.index(number)]
        axes = _quaternion(rig.axes[number])
        extras = {"joint": joint, "axes_xyzw": axes, "vrm_bone": rig.side + VRM_BONES[number]}
    translation, rotation = position
    return document.add(
        "nodes",
        name=prefix + WEBXR_JOINTS[number],
        translation=translation.tolist(),
        rotation=_quaternion(rotation),
        children=children,
        extras=extras,
    )


def _quaternion(rotation: np.ndarray) -> list[float]:
    return Rotation.from_matrix(rotation).as_quat(canonical=True).tolist()


# A recorded clip as glTF: every hand that was followed is a skin of its own, its joints turned over time.
#
# One shape and one size a hand, the mean and the median over the time it was followed, for a skin cannot
# change its bones. Joints turn and the wrist moves linearly between the recorded frames (for rotations glTF
# means along the shortest arc). A hand that is away has its wrist scaled to zero, which the specification
# names as the way to hide: all joints of the skin are then at one point, and no viewer draws anything.


class Track(NamedTuple):
    """One hand for as long as it was followed: in T of the clip's frames."""

    name: str
    side: Side
    frames: np.ndarray  # (T,) which of the clip's frames, rising
    poses: np.ndarray  # (T, 16, 3, 3) as `Hand.pose`
    shapes: np.ndarray  # (T, 10)
    joints_m: np.ndarray  # (T, 21, 3) in the camera's frame


def animated_glb(
    tracks: Sequence[Track],
    times_s: np.ndarray,
    hand: SkinnedHand | None = None,
    colours: Mapping[Side, Colour] | None = None,
) -> bytes:
    """A `.glb` that plays the tracks: y up, metres, the camera at the origin looking along -z.

    times_s: (N,) of the clip's frames; the animation begins at 0 with the first. hand: the model that the
    poses belong to, by default the bundled open hand; pose-dependent corrections, which MANO has and the
    open hand has not, are left out. Raises ValueError where there are no tracks, and where the times do
    not rise.
    """
    if not tracks:
        raise ValueError("there is no hand to animate: the clip has none in any frame")
    times = (np.asarray(times_s, np.float64) - times_s[0]).astype(np.float32)
    if not (np.diff(times) > 0).all():
        raise ValueError("the frames' times must rise, each by at least what a float32 of seconds can tell")
    hand, document, roots = hand or SkinnedHand.open_hand(), Document(), []
    animation = _Animation(document)
    for track in tracks:
        fit = fit_rig(track, hand)
        colour = (colours or {}).get(track.side, SKIN_COLOUR)
        nodes = add_hand(document, fit.rig, track.name, colour, prefix=f"{track.name}_")
        roots += nodes.roots
        _animate(animation, nodes.joints, fit, track, times)
    animation.finish()
    return document.glb(roots)


class Fit(NamedTuple):
    """A track's hand as a rig that fits all of its frames."""

    rig: Rig
    scale: float  # metres to a metre of the hand model
    wrists_m: np.ndarray  # (T, 3) in glTF's frame


def fit_rig(track: Track, hand: SkinnedHand) -> Fit:
    """The rig in the track's mean shape and median size, placed where its 21 joints lie on the recorded ones."""
    shape = track.shapes.mean(0, dtype=np.float64)
    rig = build_rig(hand, shape, track.side)
    joints_m = posed_joints(hand, shape, track)
    seen_middle, middle = track.joints_m.mean(1, dtype=np.float64), joints_m.mean(1)
    seen_spread = np.linalg.norm(track.joints_m - seen_middle[:, None], axis=(1, 2))
    scale = float(np.median(seen_spread / np.linalg.norm(joints_m - middle[:, None], axis=(1, 2))))
    wrists_m = seen_middle + scale * (rig.wrist_m - middle)
    return Fit(rig.scaled(scale), scale, wrists_m @ VIEW_FROM_CAMERA)


def posed_joints(hand: SkinnedHand, shape: np.ndarray, track: Track) -> np.ndarray:
    """(T, 21, 3) joints of a hand in (10,) `shape` and the track's poses, in the model's frame, mirrored for a left
    hand: those of `SkinnedHand.posed`, without the mesh and without pose-dependent corrections."""
    rest = hand.rest(shape)
    left = track.side == "left"
    poses = mirror_rotations(track.poses) if left else track.poses
    by_joint = np.asarray(poses, np.float32).swapaxes(0, 1)
    centres_m = np.broadcast_to(rest.joints_m[:, None], by_joint.shape[:3])
    columns = joint_transforms(by_joint, centres_m).transpose(1, 0, 3, 2).reshape(len(poses), -1, 3)
    joints_m = rest.keypoint_weights @ columns
    return mirror_points_m(joints_m) if left else joints_m


class _Animation:
    """The channels of a document's one animation."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._channels: list[dict[str, object]] = []
        self._samplers: list[dict[str, object]] = []

    def clock(self, times_s: np.ndarray) -> int:
        """Key times, which several channels may share."""
        return self._document.add_numbers(times_s, bounds=True)

    def add(
        self, node: int, path: str, clock: int, values: np.ndarray, interpolation: Literal["LINEAR", "STEP"] = "LINEAR"
    ) -> None:
        """Let a node's "translation", "rotation" or "scale" take `values` at the key times."""
        output = self._document.add_numbers(values.astype(np.float32))
        self._channels.append({"sampler": len(self._samplers), "target": {"node": node, "path": path}})
        self._samplers.append({"input": clock, "output": output, "interpolation": interpolation})

    def finish(self) -> None:
        """Put the animation into the document."""
        self._document.add("animations", name="clip", channels=self._channels, samplers=self._samplers)


def _animate(animation: _Animation, joints: list[int], fit: Fit, track: Track, times: np.ndarray) -> None:
    clock = animation.clock(times[track.frames])
    animation.add(joints[0], "translation", clock, fit.wrists_m)
    rotations = fit.rig.local_rotations(track.poses)
    for number, node in enumerate(WEBXR_OF_MANO):
        animation.add(joints[node], "rotation", clock, continuous_quaternions(rotations[:, number]))
    present = np.zeros(len(times), bool)
    present[track.frames] = True
    if not present.all():
        changes = np.flatnonzero(np.diff(present)) + 1
        keys = np.unique([0, *changes, len(times) - 1])
        scales = np.repeat(present[keys, None], 3, axis=1)
        animation.add(joints[0], "scale", animation.clock(times[keys]), scales, "STEP")


def continuous_quaternions(rotations: np.ndarray) -> np.ndarray:
    """(T, 4) xyzw of (T, 3, 3) rotations, each the one of its two signs that is nearer to the one before."""
    quaternions = Rotation.from_matrix(rotations).as_quat()
    flips = np.einsum("tq,tq->t", quaternions[1:], quaternions[:-1]) < 0
    quaternions[1:] *= np.where(np.cumsum(flips) % 2, -1.0, 1.0)[:, None]
    return quaternions
