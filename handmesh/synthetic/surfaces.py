"""Surfaces with texture coordinates and materials: tubes, balls, slabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Surface(NamedTuple):
    """A triangle mesh with texture coordinates of its own indexing, metres."""

    vertices: np.ndarray  # (V, 3) float32
    faces: np.ndarray  # (F, 3) int32 into `vertices`
    uv: np.ndarray  # (U, 2) float32, u right and v up
    uv_faces: np.ndarray  # (F, 3) int32 into `uv`

    def moved(self, rotation: np.ndarray, translation: np.ndarray) -> Surface:
        """The same surface turned by (3, 3) `rotation`, then shifted by (3,) `translation`."""
        return self._replace(vertices=(self.vertices @ rotation.T + translation).astype(np.float32))

    def mirrored(self) -> Surface:
        """The surface reflected left to right, still facing outward."""
        return self._replace(
            vertices=self.vertices * np.float32([-1, 1, 1]),
            faces=np.ascontiguousarray(self.faces[:, ::-1]),
            uv_faces=np.ascontiguousarray(self.uv_faces[:, ::-1]),
        )


def grid_faces(rows: int, columns: int, stride: int) -> np.ndarray:
    """(F, 3) triangles between consecutive rings of a tube.

    Vertex (row, column) has index `row * stride + column`. With `stride == columns` the last
    column joins the first; with `stride == columns + 1` the tube is slit, as texture needs.
    """
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    following = (column + 1) % stride
    a, b = row * stride + column, row * stride + following
    c, d = a + stride, b + stride
    return np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3).astype(np.int32)


def tube(rings: np.ndarray, repeat: tuple[float, float] = (1.0, 1.0)) -> Surface:
    """A tube through (R, N, 3) rings of points; the texture repeats `repeat` times around and along."""
    rows, columns = rings.shape[:2]
    u, v = np.meshgrid(np.linspace(0, repeat[0], columns + 1), np.linspace(0, repeat[1], rows))
    uv = np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)
    uv_faces = grid_faces(rows, columns, columns + 1)
    return Surface(rings.reshape(-1, 3).astype(np.float32), grid_faces(rows, columns, columns), uv, uv_faces)


def lathe(profile: Sequence[tuple[float, float]], sides: int = 20) -> Surface:
    """The surface swept by (radius, height) points about the z axis."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    rings = [np.column_stack([radius * circle, np.full(sides, height)]) for radius, height in profile]
    return tube(np.stack(rings))


def cylinder(radius: float, length: float) -> Surface:
    """A closed cylinder about the z axis, its edges slightly rounded, centred on the origin."""
    h, e = length / 2, min(radius, length) * 0.12
    return lathe([(1e-4, -h), (radius - e, -h), (radius, e - h), (radius, h - e), (radius - e, h), (1e-4, h)])


def ball(radius: float, sides: int = 20) -> Surface:
    """A sphere centred on the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)
    return lathe([(max(radius * np.cos(a), 1e-4), radius * np.sin(a)) for a in angle], sides)


def slab(width: float, height: float, depth: float) -> Surface:
    """A box with sides along the axes, centred on the origin; each side shows the whole texture."""
    corners, faces, uv_faces = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            base = len(corners)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corners.append(np.roll([sign, a, b], axis))
            order = [(0, 1, 2), (0, 2, 3)] if sign > 0 else [(0, 2, 1), (0, 3, 2)]
            faces += [[base + k for k in triangle] for triangle in order]
            uv_faces += order
    vertices = np.array(corners) * np.array([width, height, depth]) / 2
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    return Surface(vertices.astype(np.float32), np.int32(faces), uv.astype(np.float32), np.int32(uv_faces))


class Material(NamedTuple):
    """How a surface answers light."""

    texture: np.ndarray  # (T, T, 3) uint8
    albedo: np.ndarray  # (256, 3) float32, reflectance of each texture value
    finish: np.ndarray  # (5,) float32: gloss, squarings of the highlight, wrap red, green, blue
