"""Fewer vertices for a textured, posable mesh: half-edge collapses, so that the vertices that stay keep their rows.

The cost of moving a vertex onto its neighbour is the quadric error of Garland and Heckbert (Surface
simplification using quadric error metrics, 1997), here the mean over several poses of the mesh, plus
a little for long edges. A collapse that would fold a face in any of the poses or in the texture, or
change the surface's topology, is not made.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

LENGTH_COST = 2e-3
"""Weight of an edge's squared length beside its quadric error: keeps triangles even on flat skin."""

MOST_ROTATION = 0.35
"""The least cosine between a face's normals before and after a collapse."""

LEAST_SHAPE = 0.12
"""The least ratio of a new triangle's doubled area to its longest edge squared; 0.87 is equilateral."""

MOST_FACES_AROUND = 9


class TexturedMesh(NamedTuple):
    """What a collapse changes."""

    faces: np.ndarray  # (F, 3) int into the vertices
    uv_faces: np.ndarray  # (F, 3) int into the texture coordinates


def decimate(
    poses_m: np.ndarray, mesh: TexturedMesh, uv: np.ndarray, count: int, border: int, keep: Collection[int]
) -> TexturedMesh:
    """The mesh with `count` vertices left, still numbered as before.

    poses_m: (P, V, 3) the vertices in some poses, the first at rest; uv: (U, 2); border: how many
    vertices the one open border is to have; keep: vertices that stay. Raises ValueError where no more
    collapse is possible.
    """
    work = _Collapser(poses_m, mesh, uv, keep)
    work.run(work.border_size() - border, on_border=True)
    work.run(work.size() - count, on_border=False)
    alive = sorted(set().union(*work.around.values()))
    return TexturedMesh(work.faces[alive], work.uv_faces[alive])


class _Collapser:
    def __init__(self, poses_m: np.ndarray, mesh: TexturedMesh, uv: np.ndarray, keep: Collection[int]) -> None:
        self.poses, self.uv, self.keep = poses_m.astype(np.float64), uv.astype(np.float64), set(keep)
        self.faces, self.uv_faces = mesh.faces.astype(int), mesh.uv_faces.astype(int)
        self.around: dict[int, set[int]] = {}
        for number, face in enumerate(self.faces.tolist()):
            for vertex in face:
                self.around.setdefault(vertex, set()).add(number)
        self.quadrics = _quadrics(self.poses, self.faces)
        self.moved_onto = dict.fromkeys(self.around, 0)

    def size(self) -> int:
        return len(self.around)

    def border_size(self) -> int:
        return sum(self._on_border(vertex) for vertex in self.around)

    def run(self, collapses: int, on_border: bool) -> None:
        """Make the cheapest sound collapses, one after another."""
        queue: list[tuple[float, int, int, int]] = []
        for vertex in self.around:
            self._queue(queue, vertex, self._neighbours(vertex), on_border)
        while collapses:
            if not queue:
                raise ValueError(f"{collapses} more collapses are wanted than the mesh allows")
            _, gone, stays, stamp = heapq.heappop(queue)
            if stamp != self._stamp(gone, stays) or not self._is_sound(gone, stays):
                continue
            self._collapse(gone, stays)
            collapses -= 1
            self._queue(queue, stays, self._neighbours(stays), on_border)
            for vertex in self._neighbours(stays):
                self._queue(queue, vertex, {stays}, on_border)

    def _queue(self, queue: list[tuple[float, int, int, int]], gone: int, ends: set[int], on_border: bool) -> None:
        if gone in self.keep or self._on_border(gone) != on_border:
            return
        for stays in ends:
            heapq.heappush(queue, (self._cost(gone, stays), gone, stays, self._stamp(gone, stays)))

    def _stamp(self, gone: int, stays: int) -> int:
        """A queued cost is stale where a vertex was moved onto one of the two since, or one is gone."""
        return self.moved_onto.get(gone, -(2**30)) + self.moved_onto.get(stays, -(2**30))

    def _neighbours(self, vertex: int) -> set[int]:
        return {int(other) for face in self.around[vertex] for other in self.faces[face]} - {vertex}

    def _on_border(self, vertex: int) -> bool:
        return len(self._neighbours(vertex)) != len(self.around[vertex])

    def _texture_moves(self, gone: int, stays: int) -> dict[int, int] | None:
        """Which texture vertex of `stays` each one of `gone` becomes; None where the texture would tear."""
        moves: dict[int, int] = {}
        for face in self.around[gone] & self.around[stays]:
            old, new = (int(self.uv_faces[face][self.faces[face] == end][0]) for end in (gone, stays))
            if moves.setdefault(old, new) != new:
                return None
        wedges = {int(self.uv_faces[face][self.faces[face] == gone][0]) for face in self.around[gone]}
        return moves if wedges == set(moves) else None

    def _is_sound(self, gone: int, stays: int) -> bool:
        """Whether surface and texture stay one sheet, no face folds over and none becomes a sliver."""
        moves = self._texture_moves(gone, stays)
        shared = self.around[gone] & self.around[stays]
        if moves is None or len(self._neighbours(gone) & self._neighbours(stays)) != len(shared):
            return False
        if self._on_border(gone) and len(shared) != 1:
            return False
        if len(self.around[gone] | self.around[stays]) - 2 * len(shared) > MOST_FACES_AROUND:
            return False
        moved = sorted(self.around[gone] - shared)
        before = self.faces[moved]
        after = np.where(before == gone, stays, before)
        return _keeps_facing(self.poses, before, after) and self._texture_keeps_facing(self.uv_faces[moved], moves)

    def _texture_keeps_facing(self, before: np.ndarray, moves: dict[int, int]) -> bool:
        after = np.vectorize(lambda wedge: moves.get(wedge, wedge), otypes=[int])(before)
        old, new = (_doubled_area(self.uv[faces]) for faces in (before, after))
        return bool((old * new > 0).all() and (abs(new) > 1e-9).all())

    def _cost(self, gone: int, stays: int) -> float:
        ends = np.append(self.poses[:, stays], np.ones((len(self.poses), 1)), 1)
        quadric = self.quadrics[:, gone] + self.quadrics[:, stays]
        error = np.einsum("pi,pij,pj->p", ends, quadric, ends).mean()
        length = np.square(self.poses[0, gone] - self.poses[0, stays]).sum()
        return float(error + LENGTH_COST * length**2)

    def _collapse(self, gone: int, stays: int) -> None:
        moves = self._texture_moves(gone, stays)
        for face in self.around[gone] & self.around[stays]:
            for vertex in self.faces[face].tolist():
                self.around[vertex].discard(face)
        for face in self.around.pop(gone):
            corner = self.faces[face] == gone
            self.uv_faces[face, corner] = moves[int(self.uv_faces[face][corner][0])]
            self.faces[face, corner] = stays
            self.around[stays].add(face)
        self.quadrics[:, stays] += self.quadrics[:, gone]
        self.moved_onto[stays] += 1
        del self.moved_onto[gone]


def _quadrics(poses: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(P, V, 4, 4) sums of the area-weighted plane quadrics around each vertex, the border held by upright planes."""
    quadrics = np.zeros((*poses.shape[:2], 4, 4))
    sides = {(int(f[k]), int(f[(k + 1) % 3])): f for f in faces for k in range(3)}
    for points, total in zip(poses, quadrics, strict=True):
        cross = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
        quadric = _plane(cross, points[faces[:, 0]])
        for corner in range(3):
            np.add.at(total, faces[:, corner], quadric)
        for a, b in (side for side in sides if side[::-1] not in sides):
            corners = points[sides[a, b]]
            normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
            upright = np.cross(points[b] - points[a], normal / np.linalg.norm(normal))
            total[[a, b]] += _plane(upright[None] * np.linalg.norm(upright), points[a][None])
    return quadrics


def _plane(doubled_area: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(N, 4, 4) quadrics of the planes with (N, 3) normals, as long as their weights, through (N, 3) points."""
    weight = np.linalg.norm(doubled_area, axis=1)
    unit = doubled_area / np.maximum(weight, 1e-18)[:, None]
    plane = np.append(unit, -(unit * point).sum(1, keepdims=True), 1)
    return weight[:, None, None] * plane[:, :, None] * plane[:, None]


def _keeps_facing(poses: np.ndarray, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether (N, 3) faces still face the same way in every pose, and are no slivers at rest."""
    old, new = (_doubled_normals(poses[:, faces]) for faces in (before, after))
    lengths = np.linalg.norm(old, axis=-1) * np.linalg.norm(new, axis=-1)
    corners = poses[0, after]
    longest = np.square(corners - np.roll(corners, 1, axis=1)).sum(-1).max(-1)
    shape = np.linalg.norm(new[0], axis=-1) / longest
    return bool(((old * new).sum(-1) > MOST_ROTATION * lengths).all() and (shape > LEAST_SHAPE).all())


def _doubled_normals(corners: np.ndarray) -> np.ndarray:
    """(..., 3, 3) triangles to (..., 3) normals as long as twice their areas."""
    return np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])


def _doubled_area(corners: np.ndarray) -> np.ndarray:
    """(..., 3, 2) flat triangles to (...) signed doubled areas."""
    a, b = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
