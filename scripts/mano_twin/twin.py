"""A stand-in for MANO's licensed files, in their exact format. It is NOT MANO, nor made from it.

Everything that reads MANO_RIGHT.pkl can so be tried and tested without the licence: the pickle has
MANO's keys, classes, shapes and conventions (778 vertices, 1,538 faces with one open wrist of 16
edges, a mean pose, pose correctives, FreiHAND's fingertip vertices), but its numbers come from the
bundled open hand alone, whose data are CC0. Shape and pose numbers mean different things on the two.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from handmesh import geometry, skeleton
from handmesh.assets import OPEN_HAND
from handmesh.files import write_bytes
from handmesh.hand import anatomy
from handmesh.hand.mano import FIELDS
from handmesh.hand.model import HandModel
from handmesh.hand.poses import default_sampler
from handmesh.types import Side
from mano_twin.decimate import TexturedMesh, decimate
from mano_twin.python2_pickle import Global, Instance, dumps

BORDER = 16
"""Edges around MANO's open wrist."""

SMPLX_TIPS = {"ring4": 554, "little4": 671}
"""smplx takes these for the tips of ring and little finger; here they are neighbours of FreiHAND's 555 and 672."""

_DECIMATION_POSES, _REGRESSION_POSES = 5, 120
_REGRESSION_NEAR = 80
_BULGE_M, _PULL_M, _REACH_M = 0.0018, 0.0012, 0.009
"""Of the pose correctives: how far bent skin bulges on the palm's side and is pulled flat on the back, and how
far from a joint they reach."""


@cache
def twin_fields() -> dict[str, np.ndarray]:
    """The right hand's arrays by MANO's names, and `uv` and `ft`; equal on every call. Do not write to them."""
    with np.load(OPEN_HAND) as archive:
        hand = {name: archive[name] for name in archive.files}
    poses, joints = _posed_hands(_REGRESSION_POSES)
    mesh = _coarse_mesh(hand, poses)
    order = _vertex_order(mesh.faces)
    texture, uv_faces = np.unique(mesh.uv_faces, return_inverse=True)
    faces = np.argsort(order, kind="stable")[np.searchsorted(np.sort(order), mesh.faces)]
    regressor = _joint_regressor(poses[:, order], joints)
    template = hand["v_template"][order].astype(np.float64)
    weights = hand["weights"][order].astype(np.float64)
    return {
        "v_template": template,
        "shapedirs": hand["shapedirs"][order].astype(np.float64),
        "posedirs": _pose_correctives(template, faces, regressor @ template, weights),
        "J_regressor": regressor,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": hand["kintree_table"],
        **{name: hand[name].astype(np.float64) for name in ("hands_components", "hands_mean", "hands_coeffs")},
        "f": faces.astype(np.uint32),
        "J": regressor @ template,
        "uv": hand["uv"][texture],
        "ft": uv_faces.reshape(-1, 3).astype(np.uint32),
    }


def _posed_hands(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, V, 3) vertices and (N, 16, 3) joints, MANO order, of the open hand: at rest first, then posed and shaped."""
    model, sampler, rng = HandModel.load(), default_sampler(), np.random.default_rng(0)
    rest = np.tile(np.eye(3), (1, 16, 1, 1))
    rotations = [rest, *(np.concatenate([np.eye(3)[None], sampler.sample(rng)])[None] for _ in range(count))]
    shapes = np.concatenate(
        [np.zeros((1 + _DECIMATION_POSES, 10)), rng.normal(0, 1.5, (count - _DECIMATION_POSES, 10))]
    )
    with torch.inference_mode():
        output = model(torch.from_numpy(np.concatenate(rotations)).float(), torch.from_numpy(shapes).float())
    joints = output.joints.numpy()[:, list(skeleton.KEYPOINT_OF_MANO)]
    return output.vertices.numpy().astype(np.float64), joints.astype(np.float64)


def _coarse_mesh(hand: dict[str, np.ndarray], poses: np.ndarray) -> TexturedMesh:
    whole = TexturedMesh(hand["f"].astype(int), hand["ft"].astype(int))
    keep = list(skeleton.OPEN_HAND_TIP_VERTICES.values())
    return decimate(poses[: 1 + _DECIMATION_POSES], whole, hand["uv"], FIELDS["v_template"][0], BORDER, keep)


def _vertex_order(faces: np.ndarray) -> np.ndarray:
    """(778,) open hand's vertex of each new one: the fingertips at FreiHAND's numbers, their neighbours at smplx's."""
    positions = {number: skeleton.OPEN_HAND_TIP_VERTICES[tip] for tip, number in skeleton.FREIHAND_TIP_VERTICES.items()}
    for tip, number in SMPLX_TIPS.items():
        vertex = skeleton.OPEN_HAND_TIP_VERTICES[tip]
        positions[number] = min(set(faces[(faces == vertex).any(1)].ravel().tolist()) - {vertex})
    order = np.unique(faces)
    for number, vertex in positions.items():
        there = int(np.flatnonzero(order == vertex)[0])
        order[[number, there]] = order[[there, number]]
    return order


def _joint_regressor(vertices: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(16, 778) non-negative rows of sum 1 that give (N, 16, 3) joints from (N, 778, 3) vertices in many poses."""
    regressor = np.zeros((joints.shape[1], vertices.shape[1]))
    for row, target in zip(regressor, np.moveaxis(joints, 1, 0), strict=True):
        distance = np.linalg.norm(vertices[0] - target[0], axis=1)
        near = np.argsort(distance, kind="stable")[:_REGRESSION_NEAR]
        equations = vertices[:, near].transpose(0, 2, 1).reshape(-1, _REGRESSION_NEAR)
        at_rest = 100.0  # times as important as a pose: MANO's rest joints decide what rotations mean
        equations = np.vstack([equations, at_rest * equations[:3], np.full(_REGRESSION_NEAR, at_rest)])
        found, _ = nnls(equations, np.concatenate([target.ravel(), at_rest * target[0], [at_rest]]), maxiter=20000)
        row[near] = found / found.sum()
    return regressor


def _pose_correctives(template: np.ndarray, faces: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(778, 3, 135) for the 15 finger joints' rotations minus the identity, row by row.

    A joint that flexes by t moves the skin around it along its normals: out by (1 - cos t) on the palm's
    side, in by sin t on the back. Both are linear in the rotation: the trace gives the cosine, the
    skew part along the axis of flexion the sine.
    """
    normals = _vertex_normals(template, faces)
    tips = template[[skeleton.FREIHAND_TIP_VERTICES[name] for name in skeleton.TIPS]]
    frames = anatomy.joint_frames(np.concatenate([joints, tips])[list(skeleton.MANO_TO_KEYPOINTS)])
    directions = np.zeros((*template.shape, 15, 3, 3))
    for k, (joint, frame) in enumerate(zip(joints[1:], frames, strict=True)):
        turning = weights[:, k + 1] * (1 - weights[:, k + 1]) * 4  # skin that follows both bones
        near = turning * np.exp(-np.square(np.linalg.norm(template - joint, axis=1) / _REACH_M))
        back = normals @ frame[:, anatomy.ABDUCTION]
        flexion = frame[:, anatomy.FLEXION]
        skew = np.cross(np.eye(3), flexion) / 2  # its product with a rotation, entry by entry, is sin t
        out, flat = (near * np.clip(side, 0, 1) for side in (-back, back))
        bulge = -0.5 * _BULGE_M * out[:, None, None] * np.eye(3)
        pull = -_PULL_M * flat[:, None, None] * skew
        directions[:, :, k] = normals[:, :, None, None] * (bulge + pull)[:, None]
    return directions.reshape(*template.shape, 135)


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], cross)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def mirrored_fields(fields: dict[str, np.ndarray], faulty_shapes: bool) -> dict[str, np.ndarray]:
    """The left hand of a right one, or the reverse.

    faulty_shapes: leave the sign of the shape directions' x as it was, as in the distributed MANO_LEFT.
    """
    signs = geometry.mirror_points_m(np.ones(3))
    rotated = -signs  # of a rotation vector: the reflection turns it about, then keeps its x
    pose_signs = np.tile(np.outer(signs, signs).ravel(), 15)
    return {
        **fields,
        "v_template": fields["v_template"] * signs,
        "shapedirs": fields["shapedirs"] * (np.ones(3) if faulty_shapes else signs)[:, None],
        "posedirs": fields["posedirs"] * signs[:, None] * pose_signs,
        "hands_mean": fields["hands_mean"] * np.tile(rotated, 15),
        "hands_components": fields["hands_components"] * np.tile(rotated, 15),
        "f": geometry.mirror_faces(fields["f"]),
        "ft": geometry.mirror_faces(fields["ft"]),
        "J": fields["J"] * signs,
    }


def write_twin(path: Path, side: Side = "right", faulty_shapes: bool = False, texture: bool = True) -> None:
    """Write the stand-in's pickle as Python 2 and chumpy wrote MANO's.

    faulty_shapes: of a left hand, see `mirrored_fields`. texture: add `uv` and `ft`, which MANO has not,
    so that the generator can paint it.
    """
    fields = twin_fields() if side == "right" else mirrored_fields(twin_fields(), faulty_shapes)
    write_bytes(path, dumps(pickled(fields, texture)))


def pickled(fields: dict[str, np.ndarray], texture: bool) -> dict[str, object]:
    """MANO's keys in MANO's classes."""
    plain = ("hands_components", "f", "kintree_table", "J", "hands_coeffs", "weights", "hands_mean", "v_template")
    return {
        **{name: fields[name] for name in (*plain, *(("uv", "ft") if texture else ()))},
        "posedirs": np.asfortranarray(fields["posedirs"]),
        "J_regressor": _csc(fields["J_regressor"]),
        "shapedirs": _select(fields["shapedirs"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def _csc(dense: np.ndarray) -> Instance:
    columns, rows = np.nonzero(dense.T)
    starts = np.searchsorted(columns, np.arange(dense.shape[1] + 1)).astype(np.int32)
    parts = {"data": dense[rows, columns], "indices": rows.astype(np.int32), "indptr": starts}
    return Instance(Global("scipy.sparse.csc", "csc_matrix"), {"_shape": dense.shape, "maxprint": 50, **parts})


def _select(shapes: np.ndarray) -> Instance:
    """The first 10 of 20 directions, as chumpy's slicing leaves them: the whole array and the entries chosen."""
    count = shapes.shape[2]
    whole = np.concatenate([shapes, -shapes], axis=2)
    chosen = np.arange(whole.size).reshape(whole.shape)[:, :, :count]
    books = {"_dirty_vars": set(), "_itr": None}
    array = Instance(Global("chumpy.ch", "Ch"), {"x": whole, **books})
    state = {"a": array, "idxs": chosen.ravel(), "preferred_shape": chosen.shape, **books}
    return Instance(Global("chumpy.reordering", "Select"), state)
