"""Hands as 3D files that other programs open the right way up: `.glb`, `.obj`, `.ply`, `.stl` and `.usdz`.

Metres, y up, the camera at the origin looking along -z, as in glTF: a viewer shows the hands as the camera saw them.
All but `.stl` have smooth normals and the colour of skin.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from handmesh.files import OutputError, write_bytes
from handmesh.render.rasterizer import vertex_normals
from handmesh.types import Hand
from handmesh.xr.gltf import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, ROUGHNESS, SKIN_COLOUR, Document, add_material, linear
from handmesh.xr.poses import FROM_CAMERA

if TYPE_CHECKING:
    import trimesh

MeshFrame = Literal["view", "camera"]

_SKIN_RGBA = np.array([*(round(255 * channel) for channel in SKIN_COLOUR), 255], np.uint8)
_LINEAR_RGBA = np.array([*(round(255 * channel) for channel in linear(SKIN_COLOUR)), 255], np.uint8)


class Mesh(NamedTuple):
    """A hand with V vertices in the frame of files."""

    name: str
    vertices_m: np.ndarray  # (V, 3) float32
    normals: np.ndarray  # (V, 3) float32, of length 1
    faces: np.ndarray  # (F, 3) int32, outward


def mesh_of(hand: Hand, frame: MeshFrame = "view") -> Mesh:
    """The hand's mesh with normals. frame: 'view', y up, or 'camera', as the hand has it.

    Raises ValueError for another frame.
    """
    if frame not in get_args(MeshFrame):
        raise ValueError(f"unknown frame {frame!r}; known are {', '.join(get_args(MeshFrame))}")
    vertices = hand.vertices_m * (FROM_CAMERA if frame == "view" else 1.0)
    vertices, faces = np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(hand.faces, np.int32)
    return Mesh(f"{hand.side}_{hand.id}", vertices, vertex_normals(vertices, faces), faces)


def to_trimesh(hand: Hand, frame: MeshFrame = "view") -> trimesh.Trimesh:
    """The same as a `trimesh.Trimesh` with a skin's material, which `.export` writes."""
    import trimesh
    from trimesh.visual.material import PBRMaterial

    mesh = mesh_of(hand, frame)
    skin = PBRMaterial("skin", baseColorFactor=_LINEAR_RGBA, metallicFactor=0.0, roughnessFactor=ROUGHNESS)
    skin.doubleSided = True
    visual = trimesh.visual.TextureVisuals(material=skin)
    return trimesh.Trimesh(mesh.vertices_m, mesh.faces, vertex_normals=mesh.normals, visual=visual, process=False)


def write_meshes(path: str | Path, hands: Sequence[Hand]) -> None:
    """Write the hands into one file, as its suffix says, whole or not at all.

    Raises OutputError for a suffix that is none of `WRITABLE`, for `.usdz` without the package that writes it, for no
    hands at all, and for a path that cannot be written.
    """
    path = Path(path)
    check_writable(path)
    if not hands:
        raise OutputError(f"cannot write {path}: there is no hand to write")
    write_bytes(path, _WRITERS[path.suffix.lower()]([mesh_of(hand) for hand in hands]))


def check_writable(path: Path) -> None:
    """Raise OutputError unless meshes can be written as the path's suffix says."""
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise OutputError(f"cannot write {path}: meshes are written as {', '.join(WRITABLE)}")
    if suffix == ".usdz":
        try:
            import pxr  # noqa: F401
        except ImportError:
            raise OutputError(f"cannot write {path}: USDZ needs Pixar's package, pip install 'handmesh[usd]'") from None


def _glb(meshes: Sequence[Mesh]) -> bytes:
    document = Document()
    material = add_material(document, "skin", SKIN_COLOUR)
    nodes = []
    for mesh in meshes:
        attributes = {
            "POSITION": document.add_numbers(mesh.vertices_m, ARRAY_BUFFER, bounds=True),
            "NORMAL": document.add_numbers(mesh.normals, ARRAY_BUFFER),
        }
        corners = mesh.faces.ravel().astype(np.uint16 if len(mesh.vertices_m) < 65_535 else np.uint32)
        indices = document.add_numbers(corners, ELEMENT_ARRAY_BUFFER)
        primitive = {"attributes": attributes, "indices": indices, "material": material}
        shown = document.add("meshes", name=mesh.name, primitives=[primitive])
        nodes.append(document.add("nodes", name=mesh.name, mesh=shown))
    return document.glb(nodes)


def _obj(meshes: Sequence[Mesh]) -> bytes:
    """Colours stand behind the positions, as MeshLab and Blender read them: a material would be a second file."""
    colour = " ".join(f"{channel:g}" for channel in SKIN_COLOUR)
    lines, first = ["# handmesh: metres, y up"], 1
    for mesh in meshes:
        lines.append(f"o {mesh.name}")
        lines += [f"v {x:.6f} {y:.6f} {z:.6f} {colour}" for x, y, z in mesh.vertices_m.tolist()]
        lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in mesh.normals.tolist()]
        lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in (mesh.faces + first).tolist()]
        first += len(mesh.vertices_m)
    return ("\n".join(lines) + "\n").encode()


def _joined(meshes: Sequence[Mesh]) -> trimesh.Trimesh:
    import trimesh

    offsets = np.cumsum([0, *(len(mesh.vertices_m) for mesh in meshes[:-1])])
    return trimesh.Trimesh(
        np.concatenate([mesh.vertices_m for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
        vertex_normals=np.concatenate([mesh.normals for mesh in meshes]),
        vertex_colors=_SKIN_RGBA,
        process=False,
    )


def _ply(meshes: Sequence[Mesh]) -> bytes:
    from trimesh.exchange.ply import export_ply

    return export_ply(_joined(meshes), vertex_normal=True)


def _stl(meshes: Sequence[Mesh]) -> bytes:
    return _joined(meshes).export(file_type="stl")


def _usdz(meshes: Sequence[Mesh]) -> bytes:
    """A package as Apple's AR Quick Look takes it: one binary layer, y up, a preview surface.

    Source: Pixar, UsdGeomMesh and UsdPreviewSurface; Apple's rules as `usdchecker --arkit` has them.
    """
    from pxr import Usd, UsdGeom, UsdUtils

    with tempfile.TemporaryDirectory(prefix="handmesh-") as folder:
        layer, package = Path(folder, "hands.usdc"), Path(folder, "hands.usdz")
        stage = Usd.Stage.CreateNew(str(layer))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/hands").GetPrim())
        skin = _usd_skin(stage)
        for mesh in meshes:
            _add_usd_mesh(stage, mesh, skin)
        stage.Save()
        UsdUtils.CreateNewUsdzPackage(str(layer), str(package))
        return package.read_bytes()


def _usd_skin(stage: object) -> object:
    """The one material of a stage."""
    from pxr import Gf, Sdf, UsdShade

    skin = UsdShade.Material.Define(stage, "/hands/skin")
    shader = UsdShade.Shader.Define(stage, "/hands/skin/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*linear(SKIN_COLOUR)))
    shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(ROUGHNESS)
    skin.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    return skin


def _add_usd_mesh(stage: object, mesh: Mesh, skin: object) -> None:
    from pxr import UsdGeom, UsdShade, Vt

    prim = UsdGeom.Mesh.Define(stage, f"/hands/{mesh.name}")
    prim.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(mesh.vertices_m))
    prim.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh.normals))
    prim.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    prim.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    prim.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.ravel()))
    prim.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([mesh.vertices_m.min(0), mesh.vertices_m.max(0)])))
    prim.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    prim.CreateDoubleSidedAttr(True)  # the wrist is open: one can look in
    UsdShade.MaterialBindingAPI.Apply(prim.GetPrim()).Bind(skin)


_WRITERS = {".glb": _glb, ".obj": _obj, ".ply": _ply, ".stl": _stl, ".usdz": _usdz}

WRITABLE = tuple(_WRITERS)
"""Suffixes of files of meshes."""
