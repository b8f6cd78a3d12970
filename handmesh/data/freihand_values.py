"""Do FreiHAND's labels make sense, and do they agree with each other and with the hand model?

Limits are those of the real set with room to spare. There the MANO numbers miss `xyz` and `verts`
by 0.6 mm on average and 6 mm at most; everything else agrees to rounding.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from handmesh import skeleton
from handmesh.data.freihand import PLACE, SHAPE, rotations_from_mano
from handmesh.hand_model import HandModel

Verdict = Literal["ok", "note", "broken"]
Lists = dict[str, np.ndarray]

DEPTH_M = (0.1, 3.0)
BONE_M = (0.01, 0.1)
FIT_MEAN_M, FIT_MAX_M = 1.5e-3, 10e-3
"""How well MANO numbers must give the points."""
EXACT_M = 1e-4
"""How well two records of the same thing must agree."""
TIP_M = 0.5e-3
"""Where the mean error of one joint exceeds this, that joint is another point of the mesh."""
NEAR = 0.25
"""How far outside the picture, in picture sizes, a hand's root may lie."""

_CHUNK = 256
_MIXED = "the lists are not of one set: unpack them all again"


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def check_values(split: str, lists: Lists, size_px: tuple[int, int]) -> list[Finding]:
    """Ranges and agreements that need no hand model. size_px: width and height of the pictures."""
    findings = [_cameras(lists["K"], size_px)]
    if "xyz" in lists:
        findings += [_depths(lists["xyz"]), _projections(lists["xyz"], lists["K"], size_px)]
    if "xyz" in lists and "scale" in lists:
        findings.append(_bones(lists["xyz"], lists["scale"]))
    if "xyz" in lists and "verts" in lists:
        findings.append(_meshes(lists["xyz"], lists["verts"]))
    if "xyz" in lists and "mano" in lists:
        findings.append(_roots(lists["xyz"], lists["mano"], lists["K"]))
    return [finding._replace(what=f"{split} {finding.what}") for finding in findings]


def _in_range(what: str, values: np.ndarray, limits: tuple[float, float], unit: str, remedy: str) -> Finding:
    """values: (N,), one a row."""
    outside = (values < limits[0]) | (values > limits[1])
    found = f"{values.min():.3g} to {values.max():.3g} {unit}"
    if not outside.any():
        return Finding(what, "ok", found)
    where = f"{outside.sum():,} rows outside {limits[0]:g} to {limits[1]:g}, the first {outside.argmax()}"
    return Finding(what, "broken", f"{found}; {where}", remedy)


def _agree(what: str, errors_m: np.ndarray, mean_m: float, max_m: float, remedy: str) -> Finding:
    """errors_m: (N, ...) distances; the finding states and judges their mean and maximum."""
    worst = np.unravel_index(errors_m.argmax(), errors_m.shape)[0]
    found = f"mean {1000 * errors_m.mean():.3g} mm, max {1000 * errors_m.max():.3g} mm (row {worst})"
    good = errors_m.mean() <= mean_m and errors_m.max() <= max_m
    return Finding(what, "ok" if good else "broken", found, "" if good else remedy)


def _cameras(K: np.ndarray, size_px: tuple[int, int]) -> Finding:
    upper = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
    regular = np.allclose(K[:, ~upper], [0, 0, 0, 0, 1], atol=1e-4)
    centred = (np.abs(K[:, :2, 2] - np.array(size_px) / 2) < np.array(size_px) / 2).all()
    focal = K[:, [0, 1], [0, 1]]
    alike = (focal > 0).all() and (np.abs(focal[:, 0] / focal[:, 1] - 1) < 0.1).all()
    found = f"focal lengths {focal.min():.0f} to {focal.max():.0f} px"
    if regular and centred and alike:
        return Finding("cameras", "ok", found)
    reason = "not (fx 0 cx; 0 fy cy; 0 0 1) with fx near fy and the centre in the picture"
    return Finding("cameras", "broken", f"{found}; {reason}", _MIXED)


def _depths(xyz: np.ndarray) -> Finding:
    remedy = "points must be metres in the camera's frame, x right, y down, z forward"
    return _in_range("depth of joints", xyz[:, :, 2].min(1), DEPTH_M, "m", remedy)


def _projections(xyz: np.ndarray, K: np.ndarray, size_px: tuple[int, int]) -> Finding:
    seen = xyz @ K.transpose(0, 2, 1)
    pixels = seen[..., :2] / np.where(np.abs(seen[..., 2:]) < 1e-6, 1e-6, seen[..., 2:])
    beyond = np.abs((pixels + 0.5) / np.array(size_px) - 0.5).max(-1) - 0.5  # in picture sizes; below 0: inside
    inside = f"{100 * (beyond < 0).mean():.1f} % of joints inside the picture"
    away = beyond[:, skeleton.ROOT] > NEAR
    if not away.any():
        return Finding("projected joints", "ok", inside)
    where = f"{away.sum():,} hands far from it, the first in row {away.argmax()}"
    return Finding("projected joints", "broken", f"{inside}; {where}", f"K and xyz do not belong together: {_MIXED}")


def bone_lengths_m(xyz: np.ndarray) -> np.ndarray:
    """(N,) length of the middle finger's first bone, which `scale` records."""
    return np.linalg.norm(xyz[:, skeleton.ROOT] - xyz[:, skeleton.KEYPOINTS.index("middle2")], axis=1)


def _bones(xyz: np.ndarray, scale: np.ndarray) -> Finding:
    lengths = bone_lengths_m(xyz)
    size = _in_range("middle finger's first bone", lengths, BONE_M, "m", "xyz must be metres")
    if size.verdict != "ok":
        return size
    return _agree("scale = |xyz9 - xyz10|", np.abs(lengths - scale), EXACT_M, 10 * EXACT_M, _MIXED)


def _meshes(xyz: np.ndarray, verts: np.ndarray) -> Finding:
    middles = np.concatenate([verts[k : k + _CHUNK].mean(1) for k in range(0, len(verts), _CHUNK)])
    return _agree("meshes lie at their joints", np.linalg.norm(middles - xyz.mean(1), axis=1), 0.06, 0.08, _MIXED)


def roots_m(mano: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(N, 3) where the MANO numbers place joint 9: [u - cx, v - cy, focal] / scale, focal the mean of fx and fy."""
    u_v, scale = mano[:, PLACE][:, :2], mano[:, PLACE][:, 2:]
    focal = K[:, [0, 1], [0, 1]].mean(1, keepdims=True)
    return np.concatenate([u_v - K[:, :2, 2], focal], axis=1) / scale


def _roots(xyz: np.ndarray, mano: np.ndarray, K: np.ndarray) -> Finding:
    errors_m = np.linalg.norm(roots_m(mano, K) - xyz[:, skeleton.ROOT], axis=1)
    return _agree("mano's root is joint 9", errors_m, FIT_MEAN_M, FIT_MAX_M, _MIXED)


def check_model(split: str, lists: Lists, hand: HandModel | None) -> list[Finding]:
    """The MANO numbers through the hand model against `xyz` and `verts`, and the joints against the vertices.

    hand: the model that the set was made with; without one, the bundled open hand if its mesh is like the set's.
    """
    if not lists.keys() >= {"xyz", "verts", "mano"}:
        return []
    what, count = f"{split} hand model", lists["verts"].shape[1]
    model = hand or HandModel.load()
    if model.num_vertices != count:
        found = f"not checked: the model has {model.num_vertices} vertices, the set's meshes have {count}"
        remedy = "give the model that the set was made with, --hand-model (MANO's right hand has 778)"
        return [Finding(what, "broken" if hand else "note", found, remedy)]
    wrong = "another hand model: is it MANO's right hand, of the version that the set was made with?"
    joints_m, vertices_m, regressed_m = model_errors(lists, model)
    return [
        _agree(f"{split} mano gives xyz", joints_m, FIT_MEAN_M, FIT_MAX_M, wrong),
        _agree(f"{split} mano gives verts", vertices_m, FIT_MEAN_M, FIT_MAX_M, wrong),
        _regressed(f"{split} joints of verts are xyz", regressed_m, wrong),
    ]


def _regressed(what: str, errors_m: np.ndarray, remedy: str) -> Finding:
    """errors_m: (N, 21). Fingertips are a choice of vertices; a wrong one moves that joint in every row."""
    means_m = errors_m.mean(0)
    moved = [skeleton.KEYPOINTS[k] for k in np.flatnonzero(means_m > TIP_M)]
    found = f"mean {1000 * errors_m.mean():.3g} mm, worst joint {1000 * means_m.max():.3g} mm"
    if not moved:
        return Finding(what, "ok", found)
    only_tips = all(name in skeleton.TIPS for name in moved)
    return Finding(what, "broken", f"{found}: {', '.join(moved)}", "other fingertip vertices" if only_tips else remedy)


def model_errors(lists: Lists, hand: HandModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances in metres: (N, 21) and (N, V) of the joints and vertices that `mano` gives, with its own root,
    from `xyz` and `verts`; (N, 21) of the joints that the model finds in `verts` from `xyz`."""
    errors = [_chunk_errors({name: lists[name][k : k + _CHUNK] for name in lists}, hand) for k in _starts(lists)]
    joints_m, vertices_m, regressed_m = (np.concatenate(column) for column in zip(*errors, strict=True))
    return joints_m, vertices_m, regressed_m


def _starts(lists: Lists) -> range:
    return range(0, len(lists["K"]), _CHUNK)


def _chunk_errors(rows: Lists, hand: HandModel) -> list[np.ndarray]:
    mano, xyz, verts = rows["mano"], rows["xyz"], rows["verts"]
    with torch.inference_mode():
        posed = hand(torch.from_numpy(rotations_from_mano(mano, hand)), torch.from_numpy(mano[:, SHAPE].copy()))
        regressed = (hand.keypoint_regressor @ torch.from_numpy(np.array(verts))).numpy()
    joints, vertices = posed.joints.numpy(), posed.vertices.numpy()
    shift = (roots_m(mano, rows["K"]) - joints[:, skeleton.ROOT])[:, None]
    pairs = ((joints + shift, xyz), (vertices + shift, verts), (regressed, xyz))
    return [np.linalg.norm(one - other, axis=2) for one, other in pairs]
