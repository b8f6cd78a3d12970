"""Files of hands open the right way up, smooth and skin-coloured, in readers that are not ours."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from gltf_reader import Glb
from posed_hand import posed_hand

from handmesh.files import OutputError
from handmesh.types import Camera, Hand
from handmesh.xr.gltf import SKIN_COLOUR, linear
from handmesh.xr.mesh_files import write_meshes

CAMERA = Camera.from_fov(640, 480)
TO_VIEW = np.array([1, -1, -1])
USD = "needs usd-core, part of the usd extra: pip install 'handmesh[usd]'"


def two_hands() -> list[Hand]:
    """A left and a right one side by side, fingers up in the image."""
    right = posed_hand(CAMERA, (0.1, 0.02, 0.5))
    return [right, replace(posed_hand(CAMERA, (-0.1, 0.02, 0.5), side="left"), id=1)]


def assert_ours(vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, hand: Hand) -> None:
    """Upright, before a camera along -z, wound outwards, with normals that are those of a smooth skin."""
    assert np.abs(vertices - hand.vertices_m * TO_VIEW).max() < 1e-5
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    assert np.einsum("fi,fi->", flat, a - vertices.mean(0)) > 0
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-3
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert np.einsum("fi,fi->f", flat, normals[faces].mean(1)).mean() > 0.95
    used = np.unique(faces)
    assert len(used) == len(vertices), "neighbouring triangles share vertices: no facets"


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
@pytest.mark.parametrize("k", [0, 1], ids=["right", "left"])
def test_trimesh_opens_what_save_writes(tmp_path, suffix, k):
    hand = two_hands()[k]
    hand.save(tmp_path / f"hand{suffix}")
    mesh = trimesh.load(tmp_path / f"hand{suffix}", force="mesh", process=False, maintain_order=True)
    assert_ours(mesh.vertices, normals_in(tmp_path / f"hand{suffix}"), mesh.faces, hand)
    is_linear = suffix == ".glb"
    colour = mesh.visual.material.main_color if is_linear else mesh.visual.main_color
    assert np.abs(colour[:3] / 255 - (linear(SKIN_COLOUR) if is_linear else SKIN_COLOUR)).max() < 0.01


def normals_in(path: Path) -> np.ndarray:
    """The normals that the file itself holds: trimesh makes its own where there are none."""
    if path.suffix == ".obj":
        return np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("vn ")], float)
    if path.suffix == ".glb":
        glb = Glb(path.read_bytes())
        return glb.numbers(glb.json["meshes"][0]["primitives"][0]["attributes"]["NORMAL"])
    raw = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"]
    return np.stack([raw[name] for name in ("nx", "ny", "nz")], axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_two_hands_are_two_meshes_of_one_file(tmp_path, suffix):
    write_meshes(tmp_path / f"hands{suffix}", two_hands())
    mesh = trimesh.load(tmp_path / f"hands{suffix}", force="mesh")
    assert mesh.body_count == 2 and mesh.volume > 0
    assert mesh.bounds[1, 2] < -0.4 and np.ptp(mesh.vertices[:, 0]) > 0.25
    if suffix == ".glb":
        names = [node["name"] for node in Glb((tmp_path / "hands.glb").read_bytes()).json["nodes"]]
        assert names == ["right_0", "left_1"]


def test_a_trimesh_is_upright_and_a_users_export_of_it_too(tmp_path):
    hand = two_hands()[0]
    mesh = hand.to_trimesh()
    assert_ours(mesh.vertices, mesh.vertex_normals, mesh.faces, hand)
    mesh.export(tmp_path / "hand.glb")
    glb = Glb((tmp_path / "hand.glb").read_bytes())
    (material,) = glb.json["materials"]
    assert material["doubleSided"] and material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert "NORMAL" in glb.json["meshes"][0]["primitives"][0]["attributes"]
    assert np.array_equal(np.float32(hand.to_trimesh("camera").vertices), hand.vertices_m)
    with pytest.raises(ValueError, match="unknown frame 'blender'; known are view, camera"):
        hand.to_trimesh("blender")


def test_pixars_own_checks_find_nothing_in_a_usdz(tmp_path):
    pytest.importorskip("pxr", reason=USD)
    from pxr import Usd, UsdGeom, UsdShade, UsdValidation

    right, left = two_hands()
    write_meshes(tmp_path / "hands.usdz", [right, left])
    stage = Usd.Stage.Open(str(tmp_path / "hands.usdz"))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert len(validators) > 20 and [error.GetMessage() for error in found] == []
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    for name, hand in (("right_0", right), ("left_1", left)):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/hands/{name}"))
        points, normals, corners = (
            np.array(attribute.Get())
            for attribute in (mesh.GetPointsAttr(), mesh.GetNormalsAttr(), mesh.GetFaceVertexIndicesAttr())
        )
        assert_ours(points, normals, corners.reshape(-1, 3), hand)
        material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
        colour = material.ComputeSurfaceSource()[0].GetInput("diffuseColor").Get()
        assert np.abs(np.array(colour) - linear(SKIN_COLOUR)).max() < 1e-4


def test_what_cannot_be_written_is_said_in_a_line(tmp_path, monkeypatch):
    hand = two_hands()[0]
    with pytest.raises(OutputError, match=r"meshes are written as \.glb, \.obj, \.ply, \.stl, \.usdz"):
        hand.save(tmp_path / "hand.fbx")
    with pytest.raises(OutputError, match="no hand"):
        write_meshes(tmp_path / "hand.glb", [])
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(OutputError, match=r"pip install 'handmesh\[usd\]'"):
        hand.save(tmp_path / "hand.usdz")
    assert list(tmp_path.iterdir()) == []
