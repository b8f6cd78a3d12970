"""Skinning weights: MakeHuman's, with the knuckles moved and the thumb's base spread over the thenar."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from handmesh import skeleton

from .body import JOINT_BONES, KNUCKLE_SHIFT_M, KNUCKLES, METACARPALS, WRIST

_BLEND_M = 0.004
"""Half the width over which a knuckle's weight rises."""
_THUMB = tuple(skeleton.MANO_JOINTS.index(f"thumb{k}") for k in (1, 2, 3))
_STIFFNESS = 1.0
"""How strongly a vertex holds to its nearest bone; lower is smoother."""
_MAX_JOINTS = 4


def skin_weights(
    vertices: np.ndarray, faces: np.ndarray, joints: np.ndarray, thumb_tip: np.ndarray, bones: dict[str, np.ndarray]
) -> np.ndarray:
    """(V, 16) weights in MANO order; each row sums to 1 and has at most four that are not 0.

    vertices: (V, 3) rest; joints: (16, 3) rest; thumb_tip: (3,); bones: MakeHuman's (V,) weights by name.
    """
    weights = np.stack([bones[name] for name in JOINT_BONES], axis=1)
    for knuckle, metacarpal in zip(KNUCKLES, METACARPALS, strict=True):
        along_m = (vertices - joints[knuckle]) @ _unit(joints[knuckle + 1] - joints[knuckle])
        weights[:, knuckle] = _move_knuckle(weights[:, knuckle], bones[metacarpal], along_m)
    fingers = weights[:, [j for j in range(16) if j != WRIST and j not in _THUMB]].sum(1)
    weights /= np.maximum(1, fingers)[:, None]
    rest = np.maximum(0, 1 - fingers)
    heat = _heat(vertices, faces, _palm_and_thumb(joints, thumb_tip))
    weights[:, [WRIST, *_THUMB]] = rest[:, None] * heat
    return _keep_largest(weights)


def _move_knuckle(finger: np.ndarray, metacarpal: np.ndarray, along_m: np.ndarray) -> np.ndarray:
    """The finger's weight once its joint has moved towards the wrist.

    along_m: the vertices' distances past the moved joint, along the finger. Where finger and
    metacarpal share a vertex, the finger's part follows a logistic curve; the curve is moved.
    """
    both = finger + metacarpal
    part = finger / np.maximum(both, 1e-9)
    blended = (both > 0.3) & (part > 0.3) & (part < 0.7)
    centre = np.median(along_m[blended]) - KNUCKLE_SHIFT_M
    return both * np.maximum(part, 1 / (1 + np.exp(-(along_m - centre) / _BLEND_M)))


def _palm_and_thumb(joints: np.ndarray, thumb_tip: np.ndarray) -> list[np.ndarray]:
    """For the palm and for each of the thumb's bones, an (S, 2, 3) array of the segments that stand for it."""
    wrist = joints[WRIST]
    forearm = wrist + np.array([0.1, 0, 0])
    palm = [(wrist, joints[knuckle]) for knuckle in KNUCKLES] + [(wrist, forearm)]
    thumb = [*joints[list(_THUMB)], thumb_tip]
    return [np.array(palm)] + [np.array([pair]) for pair in pairwise(thumb)]


def _heat(vertices: np.ndarray, faces: np.ndarray, bones: list[np.ndarray]) -> np.ndarray:
    """(V, bones) weights: the equilibrium of heat that each bone feeds to the vertices nearest to it.

    Source: Baran and Popovic, Automatic Rigging and Animation of 3D Characters (2007), section 4.
    """
    distance = np.stack([_distance(vertices, segments) for segments in bones], axis=1)
    nearest = distance.argmin(1)
    stiffness, area = _laplacian(vertices, faces)
    hold = area * _STIFFNESS / np.maximum(distance.min(1), 1e-3) ** 2
    source = np.zeros_like(distance)
    source[np.arange(len(vertices)), nearest] = hold
    heat = np.clip(splu((stiffness + sp.diags(hold)).tocsc()).solve(source), 0, 1)
    return heat / heat.sum(1, keepdims=True)


def _distance(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """(N,) distances from (N, 3) points to the nearest of (S, 2, 3) segments."""
    start, span = segments[:, 0], segments[:, 1] - segments[:, 0]
    along = np.einsum("nsc,sc->ns", points[:, None] - start, span) / (span**2).sum(1)
    foot = start + np.clip(along, 0, 1)[..., None] * span
    return np.linalg.norm(points[:, None] - foot, axis=-1).min(1)


def _laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """The (V, V) cotangent stiffness matrix and the (V,) areas around each vertex."""
    corners = vertices[faces]
    rows, columns, values, area = [], [], [], np.zeros(len(vertices))
    for k in range(3):
        a, b = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        double_area = np.linalg.norm(np.cross(a, b), axis=1)
        np.add.at(area, faces[:, k], double_area / 6)
        weight = np.maximum((a * b).sum(1) / double_area, 0.01) / 2
        i, j = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-weight, -weight, weight, weight]
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(entries, shape=(len(vertices),) * 2), area


def _keep_largest(weights: np.ndarray) -> np.ndarray:
    """Each row's `_MAX_JOINTS` largest weights, with a sum of 1."""
    weights = np.where(weights < 1e-3, 0, weights)
    threshold = np.sort(weights, axis=1)[:, -_MAX_JOINTS, None]
    weights = np.where(weights < threshold, 0, weights)
    return weights / weights.sum(1, keepdims=True)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
