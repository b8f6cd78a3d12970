"""Puts rigged hands into a glTF document: mesh, skin, material and nodes. One call makes a whole file of one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.gltf.document import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Document
from handmesh.gltf.rig import NODE_OF_MANO, PARENTS, Rig, Skin, build_rig
from handmesh.gltf.surface import INFLUENCES_A_SET
from handmesh.skinning import SkinnedHand
from handmesh.structs import Side
from handmesh.xr import WEBXR_JOINTS

Colour = tuple[float, float, float]

SKIN_COLOUR: Colour = (0.85, 0.68, 0.58)
"""sRGB."""


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
        "material": _add_material(document, name, colour),
    }


def _add_material(document: Document, name: str, colour: Colour) -> int:
    srgb = np.array(colour)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return document.add(
        "materials",
        name=name,
        pbrMetallicRoughness={
            "baseColorFactor": [*linear.round(4).tolist(), 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.6,
        },
        doubleSided=True,  # the wrist is open: one can look in
    )


def _add_joint_tree(document: Document, rig: Rig, prefix: str) -> list[int]:
    places, turns = rig.local_places()
    first = document.next_index("nodes")
    for k in range(len(PARENTS)):
        children = [first + child for child, parent in enumerate(PARENTS) if parent == k]
        _add_joint(document, rig, k, prefix, (places[k], turns[k]), children or None)
    return list(range(first, first + len(PARENTS)))


def _add_flat_joints(document: Document, rig: Rig, prefix: str) -> list[int]:
    places = zip(rig.positions_m, rig.turns, strict=True)
    return [_add_joint(document, rig, k, prefix, place) for k, place in enumerate(places)]


def _add_joint(
    document: Document,
    rig: Rig,
    number: int,
    prefix: str,
    place: tuple[np.ndarray, np.ndarray],
    children: list[int] | None = None,
) -> int:
    """Add one of the nodes, at its translation and rotation relative to what it hangs from.

    A joint that turns says which joint of `Hand.pose` it is, and how its axes lie in the hand model's frame.
    """
    extras = None
    if number in NODE_OF_MANO:
        joint = skeleton.MANO_JOINTS[NODE_OF_MANO.index(number)]
        extras = {"joint": joint, "axes_xyzw": _quaternion(rig.axes[number])}
    translation, turn = place
    return document.add(
        "nodes",
        name=prefix + WEBXR_JOINTS[number],
        translation=translation.tolist(),
        rotation=_quaternion(turn),
        children=children,
        extras=extras,
    )


def _quaternion(turn: np.ndarray) -> list[float]:
    return Rotation.from_matrix(turn).as_quat(canonical=True).tolist()
