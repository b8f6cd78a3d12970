"""Rigged and animated hands: what is written, skinned again as glTF says, is our own hand."""

from __future__ import annotations

import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import web_workspace
from gltf_reader import Glb
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.geometry import mirror_points_m, mirror_rotations
from handmesh.hand.lbs import SkinnedHand, joint_transforms, strongest_joints
from handmesh.types import Side
from handmesh.xr import WEBXR_JOINTS
from handmesh.xr.gltf import (
    VIEW_FROM_CAMERA,
    Track,
    animated_glb,
    rigged_glb,
    split_at_seams,
)
from handmesh.xr.joints import WEBXR_OF_MANO, WEBXR_PARENTS

SIDES = ("left", "right")
HAND = SkinnedHand.open_hand()
SEAMS = split_at_seams(HAND)
KEYPOINT_OF_MANO = list(skeleton.KEYPOINT_OF_MANO)


def random_poses(count: int, seed: int, side: Side) -> np.ndarray:
    """(T, 16, 3, 3) fingers bent by up to 70 degrees at each joint, and the whole hand turned anyhow."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.1, (count * 15, 3))
    vectors[:, 2] += rng.uniform(-0.1, 1.2, count * 15)  # about the thumb's side: towards the palm
    fingers = Rotation.from_rotvec(vectors).as_matrix().reshape(count, 15, 3, 3)
    rotations = Rotation.random(count, random_state=seed).as_matrix()
    poses = np.concatenate([rotations[:, None], fingers], axis=1)
    return poses if side == "right" else mirror_rotations(poses)


def posed(
    pose: np.ndarray, shape: np.ndarray, side: Side, scale: float = 1.0, hand: SkinnedHand = HAND
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints in the camera's frame, the slow way: as the tracker has them."""
    if side == "right":
        vertices, joints = hand.posed(pose, hand.rest(shape))
    else:
        vertices, joints = map(mirror_points_m, hand.posed(mirror_rotations(pose), hand.rest(shape)))
    return vertices * scale, joints * scale


def track(
    side: Side, frames: np.ndarray, scale: float = 1.0, seed: int = 3, hand: SkinnedHand = HAND
) -> tuple[Track, np.ndarray]:
    """A hand of one shape and size in random poses and positions; its (T, V, 3) vertices."""
    rng = np.random.default_rng(seed)
    poses, shape = random_poses(len(frames), seed, side), rng.normal(0, 1, 10)
    positions = np.array([0, 0, 0.6]) + rng.uniform(-0.2, 0.2, (len(frames), 3))
    meshes = [posed(pose, shape, side, scale, hand) for pose in poses]
    vertices = np.stack([v + position for (v, _), position in zip(meshes, positions, strict=True)])
    joints = np.stack([j + position for (_, j), position in zip(meshes, positions, strict=True)])
    return Track(f"{side}_1", side, frames, poses, np.tile(shape, (len(frames), 1)), joints), vertices


@pytest.mark.parametrize("side", SIDES)
def test_a_rigged_hand_at_rest_is_the_model_at_rest(side):
    shape = np.random.default_rng(0).normal(0, 1, 10)
    glb = Glb(rigged_glb(HAND, shape, side, scale=1.1))
    expected, _ = posed(np.tile(np.eye(3), (16, 1, 1)), shape, side, 1.1)
    found, expected = glb.skinned(), expected[SEAMS.vertex]
    distances = np.linalg.norm(found - found[0], axis=1) - np.linalg.norm(expected - expected[0], axis=1)
    assert np.abs(distances).max() < 1e-6
    assert np.abs(found - glb.numbers(_primitive(glb)["attributes"]["POSITION"])).max() < 1e-6
    middle = glb.globals()[glb.node("middle-finger-phalanx-proximal"), :3, 3]
    thumb = glb.globals()[glb.node("thumb-tip"), :3, 3]
    assert abs(middle[0]) < 1e-6 and middle[2] < -0.05  # the wrist's -z runs along the middle metacarpal
    assert (thumb[0] < 0) == (side == "right")  # palm down, a right hand's thumb is to the left


def _primitive(glb: Glb) -> dict:
    return glb.json["meshes"][0]["primitives"][0]


@pytest.mark.parametrize("flat", [False, True])
def test_a_rigged_hand_has_the_joints_of_webxr(flat):
    glb = Glb(rigged_glb(flat=flat))
    nodes, (skin,) = glb.json["nodes"], glb.json["skins"]
    assert [nodes[k]["name"] for k in skin["joints"]] == list(WEBXR_JOINTS)
    rotated = {nodes[k]["name"]: nodes[k]["extras"]["joint"] for k in skin["joints"] if "extras" in nodes[k]}
    assert rotated["ring-finger-phalanx-proximal"] == "ring1" and rotated["thumb-metacarpal"] == "thumb1"
    assert sorted(rotated.values()) == sorted(skeleton.MANO_JOINTS)
    below = {child for node in nodes for child in node.get("children", ()) if node["name"] in WEBXR_JOINTS}
    assert len(below) == (0 if flat else 24)
    binds = glb.numbers(skin["inverseBindMatrices"]) @ glb.globals()[skin["joints"]]
    assert np.abs(binds - np.eye(4)).max() < 1e-6


@pytest.mark.parametrize("side", SIDES)
def test_joints_name_the_bones_of_a_vrms_humanoid(side):
    """The names of VRM 1.0, in the tree that its specification has."""
    glb = Glb(rigged_glb(side=side))
    nodes = glb.json["nodes"]
    bones = {k: node["extras"]["vrm_bone"] for k, node in enumerate(nodes) if "vrm_bone" in node.get("extras", {})}
    above = {child: k for k, node in enumerate(nodes) for child in node.get("children", ())}
    parents = {}
    for k, bone in bones.items():
        parent = above[k]
        while parent in above and parent not in bones:  # VRM has no metacarpals of the fingers
            parent = above[parent]
        parents[bone] = bones.get(parent)
    thumb = ("ThumbMetacarpal", "ThumbProximal", "ThumbDistal")
    fingers = [thumb, *([f"{f}{p}" for p in ("Proximal", "Intermediate", "Distal")] for f in _VRM_FINGERS)]
    expected = {f"{side}Hand": None}
    for chain in fingers:
        for bone, parent in zip(chain, ("Hand", *chain), strict=False):
            expected[side + bone] = side + parent
    assert parents == expected


_VRM_FINGERS = ("Index", "Middle", "Ring", "Little")


def test_a_tip_lies_within_its_fingers_end():
    glb = Glb(rigged_glb())
    positions, skin = glb.globals()[:, :3, 3], glb.skinned()
    for name in (n for n in WEBXR_JOINTS if n.endswith("tip")):
        assert 0.0015 < np.linalg.norm(skin - positions[glb.node(name)], axis=1).min() < 0.008


@pytest.mark.parametrize("side", SIDES)
def test_the_mesh_is_one_that_viewers_draw_well(side):
    glb = Glb(rigged_glb(side=side))
    attributes = _primitive(glb)["attributes"]
    points, normals, uv, weights = (
        glb.numbers(attributes[name]) for name in ("POSITION", "NORMAL", "TEXCOORD_0", "WEIGHTS_0")
    )
    assert len(points) > len(HAND.template) and np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-5
    assert uv.min() >= 0 and uv.max() <= 1 and np.abs(weights.sum(1) - 1).max() < 1e-6
    bounds = glb.json["accessors"][attributes["POSITION"]]
    assert bounds["min"] == points.min(0).tolist() and bounds["max"] == points.max(0).tolist()
    faces = glb.numbers(_primitive(glb)["indices"]).reshape(-1, 3)
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    outward = np.einsum("fi,fi->f", np.cross(b - a, c - a), normals[faces].mean(1))
    assert (outward > 0).mean() > 0.99
    middle = points.mean(0)
    assert np.einsum("fi,fi->", np.cross(b - a, c - a), a - middle) > 0  # its volume is not negative


def test_uv_are_those_of_the_asset():
    with np.load(Path(skeleton.__file__).parent / "assets" / "open_hand_right.npz") as asset:
        corners = asset["uv"][asset["ft"]]
    assert np.abs(SEAMS.uv[SEAMS.faces] - (corners * [1, -1] + [0, 1])).max() < 1e-6
    assert (SEAMS.vertex[SEAMS.faces] == HAND.faces).all()


@pytest.mark.parametrize(("side", "scale"), [("right", 1.0), ("left", 1.0), ("left", 0.87)])
def test_an_animated_hand_is_ours_at_every_key(side, scale):
    frames = np.arange(5)
    recorded, vertices = track(side, frames, scale)
    times = 3.0 + np.array([0, 0.04, 0.07, 0.4, 0.44])
    glb = Glb(animated_glb([recorded], times, HAND))
    for k, time_s in enumerate(times):
        glb.play(time_s - times[0])
        found = glb.skinned()
        assert np.abs(found @ VIEW_FROM_CAMERA - vertices[k][SEAMS.vertex]).max() < 1e-5
        unsplit = np.zeros_like(vertices[k])
        unsplit[SEAMS.vertex] = found @ VIEW_FROM_CAMERA
        joints = HAND.keypoint_regressor @ unsplit
        assert np.linalg.norm(joints - recorded.joints_m[k], axis=1).max() < 5e-5


def test_nodes_are_the_centres_that_the_skin_turns_about():
    """Our 21 joints are regressed from the posed skin, and lie a little beside these: 1 mm at the wrist."""
    recorded, _ = track("right", np.arange(5))
    glb = Glb(animated_glb([recorded], np.arange(5) / 30, HAND))
    nodes = [glb.node(f"right_1_{WEBXR_JOINTS[node]}") for node in WEBXR_OF_MANO]
    rest = HAND.rest(recorded.shapes[0])
    for k in range(5):
        glb.play(k / 30)
        positions = glb.globals()[nodes, :3, 3] @ VIEW_FROM_CAMERA
        moved = joint_transforms(recorded.poses[k].astype(np.float32), rest.joints_m)
        centres = (moved[:, :, :3] @ rest.joints_m[..., None])[..., 0] + moved[:, :, 3]
        assert np.abs((positions - positions[0]) - (centres - centres[0])).max() < 1e-6
        assert np.median(np.linalg.norm(positions - recorded.joints_m[k][KEYPOINT_OF_MANO], axis=1)) < 0.0008


def test_motion_between_keys_takes_the_short_way_and_halves_the_path():
    recorded, _ = track("right", np.arange(30))
    glb = Glb(animated_glb([recorded], np.arange(30) / 30, HAND))
    animation = glb.json["animations"][0]
    for channel in animation["channels"]:
        values = glb.numbers(animation["samplers"][channel["sampler"]]["output"])
        if channel["target"]["path"] == "rotation":
            assert (np.einsum("tq,tq->t", values[1:], values[:-1]) >= 0).all()
            assert np.abs(np.linalg.norm(values, axis=1) - 1).max() < 1e-6
    wrist = glb.node("right_1_wrist")
    positions = []
    for time_s in (3 / 30, 3.5 / 30, 4 / 30):
        glb.play(time_s)
        positions.append(glb.globals()[wrist, :3, 3])
    np.testing.assert_allclose(positions[1], (positions[0] + positions[2]) / 2, atol=1e-6)


def test_a_hand_that_is_away_is_hidden_and_times_are_real():
    here, _ = track("left", np.arange(8))
    away, vertices = track("right", np.array([2, 3, 6]), seed=5)
    times = np.array([10.0, 10.1, 10.3, 10.4, 10.5, 10.6, 10.9, 11.0])
    glb = Glb(animated_glb([here, away], times, HAND))
    assert len(glb.json["skins"]) == 2
    ends = [glb.json["accessors"][s["input"]]["max"][0] for s in glb.json["animations"][0]["samplers"]]
    assert max(ends) == pytest.approx(1.0)
    for time_s, shown in [(0, None), (0.29, None), (0.3, 0), (0.4, 1), (0.49, 1), (0.5, None), (0.9, 2), (1.0, None)]:
        glb.play(time_s)
        extent = np.ptp(glb.skinned(1), axis=0).max()
        assert (extent > 0.05) == (shown is not None), time_s
        if shown is not None and time_s in (0.3, 0.4, 0.9):
            expected = vertices[shown][SEAMS.vertex] @ VIEW_FROM_CAMERA
            assert np.abs(glb.skinned(1) - expected).max() < 1e-5
        assert np.ptp(glb.skinned(0), axis=0).max() > 0.05


def test_a_changing_shape_becomes_its_mean():
    recorded, _ = track("right", np.arange(4))
    shapes = recorded.shapes + np.array([-0.2, 0.2, -0.2, 0.2])[:, None]
    glb = Glb(animated_glb([recorded._replace(shapes=shapes)], np.arange(4) / 30, HAND))
    expected = Glb(animated_glb([recorded], np.arange(4) / 30, HAND))
    for file in (glb, expected):
        file.play(0.0)
    assert np.abs(glb.skinned() - expected.skinned()).max() < 1e-5


def test_four_joints_a_vertex_are_enough_or_eight_are_written():
    joints, weights = strongest_joints(HAND.weights)
    assert joints.shape[1] == 4
    whole = np.zeros_like(HAND.weights)
    np.add.at(whole, (np.arange(len(whole))[:, None], joints), weights)
    assert np.abs(whole - HAND.weights).max() < 1e-6  # the open hand has four anyway: nothing is lost
    smeared = 0.85 * HAND.weights + 0.15 / 6 * np.isin(np.arange(16), [1, 4, 7, 10, 13, 0])
    dense = replace(HAND, weights=smeared.astype(np.float32))
    recorded, vertices = track("right", np.arange(1), hand=dense)
    glb = Glb(animated_glb([recorded], np.zeros(1), dense))
    assert "JOINTS_1" in _primitive(glb)["attributes"]
    glb.play(0.0)
    found = glb.skinned() @ VIEW_FROM_CAMERA
    assert np.abs(found - vertices[0][SEAMS.vertex]).max() < 0.0003


def test_a_hand_without_texture_has_no_uv():
    bare = replace(HAND, faces=HAND.faces[:-1])
    attributes = _primitive(Glb(rigged_glb(bare)))["attributes"]
    assert "TEXCOORD_0" not in attributes and "NORMAL" in attributes


def test_nothing_to_animate_and_times_that_stand_still_are_refused():
    with pytest.raises(ValueError, match="no hand"):
        animated_glb([], np.arange(3.0))
    with pytest.raises(ValueError, match="rise"):
        animated_glb([track("right", np.arange(2))[0]], np.array([1.0, 1.0]))


def test_trimesh_opens_both_kinds():
    import trimesh

    recorded, _ = track("right", np.arange(2))
    for data in (rigged_glb(side="left"), animated_glb([recorded], np.arange(2) / 30)):
        scene = trimesh.load(io.BytesIO(data), file_type="glb")
        (mesh,) = scene.geometry.values()
        assert mesh.faces.shape == HAND.faces.shape and mesh.volume > 0


def test_parents_are_those_of_a_hand():
    names = dict(enumerate(WEBXR_JOINTS))
    parents = {names[k]: names.get(parent) for k, parent in enumerate(WEBXR_PARENTS)}
    assert parents["wrist"] is None and parents["thumb-metacarpal"] == parents["pinky-finger-metacarpal"] == "wrist"
    assert parents["index-finger-tip"] == "index-finger-phalanx-distal"


_VALIDATE = """
const fs = require('fs'), validator = require('gltf-validator')
const all = process.argv.slice(1).map((f) => validator.validateBytes(new Uint8Array(fs.readFileSync(f))))
Promise.all(all).then((reports) => console.log(JSON.stringify(reports.map((r) => r.issues))))
"""


def test_the_khronos_validator_finds_no_error_and_no_warning(tmp_path):
    web_workspace.require_packages()
    away, _ = track("right", np.array([1, 2]), seed=5)
    files = {
        "rigged": rigged_glb(side="left"),
        "animated": animated_glb([track("left", np.arange(5))[0], away], np.arange(5) / 30),
        "flat": rigged_glb(flat=True),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.glb").write_bytes(data)
    paths = [str(tmp_path / f"{name}.glb") for name in files]
    environment = {**os.environ, "NODE_PATH": str(web_workspace.NODE_MODULES)}
    done = subprocess.run(["node", "-e", _VALIDATE, *paths], env=environment, capture_output=True, check=True)
    rigged, animated, flat = json.loads(done.stdout)
    for report in (rigged, animated):
        assert report["numErrors"] == report["numWarnings"] == 0, report["messages"]
        assert {m["code"] for m in report["messages"]} == {"UNUSED_OBJECT"}  # texture coordinates, no texture
    # three.js' WebXR hands want mesh and joints below one node; the validator would have the mesh at the top.
    warnings = [m["code"] for m in flat["messages"] if m["severity"] < 2]
    assert flat["numErrors"] == 0 and warnings == ["NODE_SKINNED_MESH_NON_ROOT"]
