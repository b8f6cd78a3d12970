"""The hand lengthened by a forearm that bends at the wrist, and what is worn around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.hand.mano import read_texture
from handmesh.hand.model import HandModel
from handmesh.synthetic.renderer import Surface, grid_faces, tube, vertex_normals

RING_GAPS_M = (0.015, 0.02, 0.025, 0.03, 0.03, 0.03, 0.04, 0.04, 0.05, 0.05, 0.05, 0.06)
"""Distances between the rings that continue the hand's open end, about 0.44 m in all."""

BEND_FROM_M, BEND_TO_M = -0.012, 0.026
"""Where the skin begins and ends to follow the forearm instead of the palm, measured up the arm from the wrist."""


class PosedHand(NamedTuple):
    """One hand and its forearm in the camera's frame, metres."""

    vertices: np.ndarray  # (V, 3) float32: the hand model's own output, without the wrist's bend
    joints: np.ndarray  # (21, 3) float32, keypoint order
    surface: Surface  # hand with forearm; its first faces are the hand model's
    wrist: np.ndarray  # (3,) about where the forearm bends
    section: np.ndarray  # (N, 3) the hand's open end relative to its centre, bent with the forearm
    axis: np.ndarray  # (3,) unit, from the wrist up the forearm
    stump_m: float  # how far up the forearm the hand model's own mesh reaches


@dataclass(frozen=True, eq=False)
class Arm:
    """What is the same for every pose: topology, texture coordinates, the wrist's blending."""

    model: HandModel
    faces: np.ndarray  # (F, 3) int32 hand first, then forearm
    uv: np.ndarray  # (U, 2) float32
    uv_faces: np.ndarray  # (F, 3) int32
    loop: np.ndarray  # (N,) int, the vertices around the hand's open end
    bend_weight: np.ndarray  # (V, 1) float32, 1 where the hand's mesh follows the forearm
    rest: np.ndarray  # (V', 3) float32 rest vertices, forearm included
    rest_joints: np.ndarray  # (21, 3) float32
    rest_normals: np.ndarray  # (V', 3) float32

    @property
    def hand_faces(self) -> int:
        """How many of the first faces are the hand model's own."""
        return len(self.model.faces)

    @staticmethod
    def load(path: Path | str | None = None) -> Arm:
        """The arm of the hand model at `path`, of the bundled open hand without one."""
        model = HandModel.load(path)
        uv, uv_faces = _read_uv(OPEN_HAND if path is None else Path(path), model)
        return _build(model, uv, uv_faces)

    def skin(self, rotations: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 16, 3, 3) and (B, 10) to the model's (B, V, 3) vertices and (B, 21, 3) joints, float32."""
        with torch.inference_mode():
            output = self.model(torch.from_numpy(rotations).float(), torch.from_numpy(shapes).float())
        return output.vertices.numpy(), output.joints.numpy()

    def pose(self, vertices: np.ndarray, joints: np.ndarray, bend: np.ndarray) -> PosedHand:
        """Lengthen one skinned hand by its forearm.

        vertices: (V, 3); joints: (21, 3); bend: (3, 3) rotation of the forearm about the wrist, in
        the same axes as the vertices.
        """
        wrist = joints[skeleton.WRIST]
        bent = (vertices - wrist) @ bend.T.astype(np.float32) + wrist
        skin = vertices + self.bend_weight * (bent - vertices)
        end = skin[self.loop]
        centre = end.mean(0)
        stump = float(np.linalg.norm(centre - wrist))
        axis = (centre - wrist) / stump
        rings = _forearm(end, centre, axis)
        surface = Surface(np.concatenate([skin, rings.reshape(-1, 3)]), self.faces, self.uv, self.uv_faces)
        return PosedHand(vertices, joints, surface, wrist, end - centre, axis, stump)


def _forearm(end: np.ndarray, centre: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(R, N, 3) rings beyond the open end, widening towards the elbow."""
    up = np.cumsum(RING_GAPS_M)[:, None, None].astype(np.float32)
    flat = (end - centre) - ((end - centre) @ axis)[:, None] * axis
    level = np.minimum(up / 0.03, 1)
    ring = level * flat + (1 - level) * (end - centre)
    return ring * widening(up) + centre + axis * up


def widening(up: np.ndarray) -> np.ndarray:
    """How much wider than the hand's open end the forearm is `up` metres beyond it."""
    fraction = np.clip(up / 0.16, 0, 1)
    return (1 + 0.32 * fraction * fraction * (3 - 2 * fraction)).astype(np.float32)


def sleeve(hand: PosedHand, start_m: float, width: float, folds: np.ndarray) -> Surface:
    """A sleeve from `start_m` up the forearm to its end, `width` times as wide as the arm.

    folds: (R, N) relative changes of the radius. Its edge is turned in, so that no gap shows
    between cloth and arm.
    """
    along = np.concatenate([[0.012, 0.0, 0.004], np.linspace(0.02, 0.40, len(folds) - 3)]) + start_m
    scale = np.concatenate([[0.97, width * 0.985, width], np.full(len(folds) - 3, width)])
    scale = scale[:, None] * (1 + folds)
    scale[0] = 0.97
    return tube(_rings(hand, along, scale), repeat=(2.0, 3.0))


def band(hand: PosedHand, start_m: float, length_m: float, width: float) -> Surface:
    """A bracelet or a watch's strap around the forearm."""
    along = start_m + length_m * np.array([0.02, 0.0, 0.1, 0.9, 1.0, 0.98])
    scale = np.array([0.95, width - 0.03, width, width, width - 0.03, 0.95])
    return tube(_rings(hand, along, scale[:, None]), repeat=(4.0, 1.0))


def _rings(hand: PosedHand, along: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(R, N, 3) cross-sections of the forearm at distances from the wrist, scaled about its axis."""
    flat = hand.section - (hand.section @ hand.axis)[:, None] * hand.axis
    wide = scale * widening(along - hand.stump_m)[:, None]
    return wide[..., None] * flat + hand.wrist + along[:, None, None] * hand.axis


def _build(model: HandModel, uv: np.ndarray, uv_faces: np.ndarray) -> Arm:
    eye = torch.eye(3).expand(1, 16, 3, 3)
    with torch.inference_mode():
        vertices, joints = (part[0].numpy() for part in model(eye, torch.zeros(1, 10)))
    loop, uv_loop = _open_end(model.faces, uv_faces)
    arm_faces = _joined_faces(loop, len(vertices), len(loop))
    arm_uv, arm_uv_faces = _forearm_uv(uv, uv_faces, uv_loop, loop, vertices)
    faces = np.concatenate([model.faces, arm_faces])
    axis = vertices[loop].mean(0) - joints[skeleton.WRIST]
    up = (vertices - joints[skeleton.WRIST]) @ axis / np.linalg.norm(axis)
    fraction = np.clip((up - BEND_FROM_M) / (BEND_TO_M - BEND_FROM_M), 0, 1)[:, None]
    weight = (fraction * fraction * (3 - 2 * fraction)).astype(np.float32)
    rings = _forearm(vertices[loop], vertices[loop].mean(0), axis / np.linalg.norm(axis))
    rest = np.concatenate([vertices, rings.reshape(-1, 3)]).astype(np.float32)
    normals = vertex_normals(rest, faces)
    return Arm(model, faces, arm_uv, np.concatenate([uv_faces, arm_uv_faces]), loop, weight, rest, joints, normals)


def _open_end(faces: np.ndarray, uv_faces: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The (N,) loop of vertices around the only hole, and each of its sides' two texture vertices."""
    sides = {}
    for corner in range(3):
        following = (corner + 1) % 3
        for face, uv_face in zip(faces, uv_faces, strict=True):
            ends = int(face[corner]), int(face[following])
            sides[ends] = int(uv_face[corner]), int(uv_face[following])
    border = {b: (a, sides[a, b]) for a, b in sides if (b, a) not in sides}
    if not border:
        raise ValueError("the hand's mesh is closed: a forearm needs an open end at the wrist")
    loop, uv_loop = [next(iter(border))], []
    while True:
        vertex, (uv_a, uv_b) = border[loop[-1]]
        uv_loop.append((uv_b, uv_a))
        if vertex == loop[0]:
            break
        loop.append(vertex)
    if len(loop) != len(border):
        raise ValueError(f"the hand's mesh has more than one hole: a loop of {len(loop)} of {len(border)} sides")
    return np.array(loop), uv_loop


def _joined_faces(loop: np.ndarray, first: int, columns: int) -> np.ndarray:
    """Faces from the open end to the first ring, whose vertices start at `first`, and between the rings."""
    rows = len(RING_GAPS_M) + 1
    index = np.concatenate([loop, first + np.arange((rows - 1) * columns)])
    return index[grid_faces(rows, columns, columns)].astype(np.int32)


def _forearm_uv(
    uv: np.ndarray, uv_faces: np.ndarray, uv_loop: list[tuple[int, int]], loop: np.ndarray, vertices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates continued along the arm at the density that they have at the open end."""
    columns = len(loop)
    start = np.array([uv[a] for a, _ in uv_loop])
    stop = np.array([uv[b] for _, b in uv_loop])
    around = np.linalg.norm(vertices[np.roll(loop, -1)] - vertices[loop], axis=1).sum()
    density = np.linalg.norm(stop - start, axis=1).sum() / around
    outward = start.mean(0) - uv[_neighbourhood(uv_faces, {a for a, _ in uv_loop})].mean(0)
    outward /= np.linalg.norm(outward)
    up = np.concatenate([[0], np.cumsum(RING_GAPS_M)])[:, None, None]
    rings = np.concatenate([start[:, None], stop[:, None]], 1)[None] + (density * up * outward)[:, :, None]
    index = len(uv) + np.arange(len(up) * columns * 2).reshape(len(up), columns, 2)
    a, b, c, d = index[:-1, :, 0], index[:-1, :, 1], index[1:, :, 0], index[1:, :, 1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3)
    return np.concatenate([uv, rings.reshape(-1, 2)]).astype(np.float32), faces.astype(np.int32)


def _neighbourhood(uv_faces: np.ndarray, seeds: set[int], steps: int = 3) -> list[int]:
    """Texture vertices within a few faces of the given ones, and not those themselves."""
    reached = set(seeds)
    for _ in range(steps):
        touched = np.isin(uv_faces, list(reached)).any(1)
        reached |= set(uv_faces[touched].ravel().tolist())
    return sorted(reached - seeds)


def _read_uv(path: Path, model: HandModel) -> tuple[np.ndarray, np.ndarray]:
    """The file's own texture coordinates where it has some; else back and palm laid out side by side."""
    texture = read_texture(path)
    if texture is not None:
        return texture
    corners = model.template.numpy()[model.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = corners[..., [0, 2]].copy()
    flat -= flat.min((0, 1))
    flat /= flat.max() * 2.2
    flat[normal[:, 1] < 0, :, 0] += 0.5
    return flat.reshape(-1, 2).astype(np.float32), np.arange(flat.shape[0] * 3, dtype=np.int32).reshape(-1, 3)
