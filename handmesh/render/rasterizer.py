"""The compiled z-buffer, and what is drawn with it: light, normals, blending. NumPy in, NumPy out."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.machine import compiled

_compiled = compiled()


class Fragments(NamedTuple):
    """What the camera sees at each pixel centre."""

    face: np.ndarray  # (H, W) int32, the nearest face's index; -1 where there is none
    barycentric: np.ndarray  # (H, W, 2) float32, perspective-correct weights of its 2nd and 3rd vertex
    depth: np.ndarray  # (H, W) float32, z of the surface; infinity where there is none


def rasterize(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> Fragments:
    """The nearest surface at each pixel of a `height` x `width` image.

    points: (V, 3) float32: pixel x, pixel y (the centre of the top-left pixel is (0, 0)) and z > 0
    along the view. faces: (F, 3) int32; both orientations are drawn. Faces with a vertex at
    z <= 0 or at a non-finite position are left out.
    """
    face = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    _draw(np.ascontiguousarray(points, np.float32), np.ascontiguousarray(faces, np.int32), face, barycentric, depth)
    return Fragments(face, barycentric, depth)


# Bare literals are 64-bit floats to numba, and would drag all that they meet along with them.
_ZERO, _ONE = np.float32(0), np.float32(1)
_SMALLEST_AREA, _LARGEST = np.float32(1e-12), np.float32(1e12)


@_compiled
def _draw(points, faces, face, barycentric, depth):
    for k in range(len(faces)):
        a, b, c = points[faces[k, 0]], points[faces[k, 1]], points[faces[k, 2]]
        _draw_face(k, (a[0], a[1], a[2]), (b[0], b[1], b[2]), (c[0], c[1], c[2]), face, barycentric, depth)


@_compiled
def _draw_face(k, a, b, c, face, barycentric, depth):
    """Draw one triangle, row by row, between the places where the row crosses its sides.

    Triangles that share a side compute that place from the same two points in the same order, and
    so leave no gap between them. Weights in the image's plane are linear in x
    and y, and so is 1/z.
    """
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = a, b, c
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    in_front = min(az, bz, cz) > _ZERO and max(az, bz, cz) < _LARGEST
    if not (in_front and _SMALLEST_AREA < abs(area) < _LARGEST):
        return
    v_dx, v_dy = (cy - ay) / area, (ax - cx) / area
    w_dx, w_dy = (ay - by) / area, (bx - ax) / area
    near_a, near_b, near_c = _ONE / az, _ONE / bz, _ONE / cz
    (tx, ty), (mx, my), (lx, ly) = _from_top((ax, ay), (bx, by), (cx, cy))
    long, upper, lower = (lx - tx) / (ly - ty), (mx - tx) / (my - ty), (lx - mx) / (ly - my)
    for y in range(int(max(_ZERO, np.ceil(ty))), int(min(np.float32(face.shape[0] - 1), np.floor(ly))) + 1):
        row = np.float32(y)
        x0 = tx + (row - ty) * long
        x1 = tx + (row - ty) * upper if row < my or my == ly else mx + (row - my) * lower
        first = int(max(_ZERO, np.ceil(min(x0, x1))))
        last = int(min(np.float32(face.shape[1] - 1), np.floor(max(x0, x1))))
        for x in range(first, last + 1):
            dx, dy = np.float32(x) - ax, row - ay
            v = min(max(dx * v_dx + dy * v_dy, _ZERO), _ONE)
            w = min(max(dx * w_dx + dy * w_dy, _ZERO), _ONE - v)
            z = _ONE / ((_ONE - v - w) * near_a + v * near_b + w * near_c)
            if z < depth[y, x]:
                depth[y, x] = z
                face[y, x] = k
                barycentric[y, x, 0] = v * near_b * z
                barycentric[y, x, 1] = w * near_c * z


@_compiled
def _from_top(a, b, c):
    """Three (x, y) points by rising y, then x."""
    if (b[1], b[0]) < (a[1], a[0]):
        a, b = b, a
    if (c[1], c[0]) < (b[1], b[0]):
        b, c = c, b
    if (b[1], b[0]) < (a[1], a[0]):
        a, b = b, a
    return a, b, c


# Light on a mesh, and its pixels on an image: the compiled loops behind `render.overlay`.


# Bare literals are 64-bit floats to numba, and would drag all that they meet along with them.
_ZERO, _HALF, _ONE, _WHITE = np.float32(0), np.float32(0.5), np.float32(1), np.float32(255)
_TINY = np.float32(1e-20)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float32 unit normals of (V, 3) float32 vertices: adjacent faces' normals, weighted by area."""
    normals = np.zeros(vertices.shape, np.float32)
    _sum_face_normals(vertices, faces, normals)
    return normals / np.maximum(np.sqrt(np.einsum("vi,vi->v", normals, normals)), _TINY)[:, None]


@_compiled
def _sum_face_normals(vertices, faces, normals):
    for k in range(len(faces)):
        a, b, c = vertices[faces[k, 0]], vertices[faces[k, 1]], vertices[faces[k, 2]]
        px, py, pz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        qx, qy, qz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        for corner in range(3):
            normal = normals[faces[k, corner]]
            normal[0] += py * qz - pz * qy
            normal[1] += pz * qx - px * qz
            normal[2] += px * qy - py * qx


KEY = np.array([-0.45, -0.75, -0.5]) / math.hypot(0.45, 0.75, 0.5)
"""Unit direction towards a lamp up and to the left of the camera."""


def light(vertices_m: np.ndarray, normals: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    """(V, 3) float32 colours 0..1 of lit vertices in the camera's frame; all arguments (V, 3) float32.

    A soft light at the camera, a lamp up and to the left of it, and the sky; a faint gloss of the
    lamp; and a bright rim where the surface turns away, which sets the hand off from the image.
    """
    to_eye = -_normalised(vertices_m)
    facing = np.abs(_dot(normals, to_eye))
    key = np.maximum(normals @ KEY.astype(np.float32), _ZERO)
    gloss = np.maximum(_dot(normals, _normalised(to_eye + KEY.astype(np.float32))), _ZERO) ** 24
    sky = 0.5 - 0.5 * normals[:, 1]
    diffuse = 0.08 + 0.15 * sky + 0.32 * facing + 0.75 * key
    white = 0.09 * gloss + 0.20 * (1 - facing) ** 3
    return np.sqrt(np.minimum(albedo**2 * diffuse[:, None] + white[:, None], _ONE))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("vi,vi->v", a, b)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt(_dot(vectors, vectors)), _TINY)[:, None]


_DARKEST_DEPTH_OCCLUSION = np.float32(0.45)
_DEEP_M = np.float32(0.015)  # this far behind its surroundings, a place is at its darkest


def depth_occlusion(depth: np.ndarray, radius_px: float) -> np.ndarray:
    """(H, W) float32 shadow, 0..1, where the surface lies behind its surroundings: it tells fingers from palm.

    depth: (H, W) float32 metres, infinity where there is nothing; radius_px: how far the
    surroundings reach. Source: Luft, Colditz and Deussen, Image enhancement by unsharp masking the
    depth buffer (2006).
    """
    size = (2 * round(radius_px / 2) + 1,) * 2
    coarse = depth[::2, ::2]  # a blur needs no more
    covered = np.isfinite(coarse)
    fraction = cv2.blur(covered.astype(np.float32), size, borderType=cv2.BORDER_REPLICATE)
    around = cv2.blur(np.where(covered, coarse, _ZERO), size, borderType=cv2.BORDER_REPLICATE)
    around = cv2.resize(around / np.maximum(fraction, _TINY), depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip((depth - around) * (_DARKEST_DEPTH_OCCLUSION / _DEEP_M), _ZERO, _DARKEST_DEPTH_OCCLUSION)


def seen_from_within(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) bool: whether outward (F, 3) `faces` on (V, 2 or 3) pixel `points` show their inner side."""
    inside = np.zeros(len(faces), np.bool_)
    _mark_clockwise(points, faces, inside)
    return inside


@_compiled
def _mark_clockwise(points, faces, clockwise):
    for k in range(len(faces)):
        a, b, c = points[faces[k, 0]], points[faces[k, 1]], points[faces[k, 2]]
        clockwise[k] = (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def paint(
    fragments: Fragments, faces: np.ndarray, colours: np.ndarray, inside: np.ndarray, shadow: np.ndarray
) -> np.ndarray:
    """(H, W, 4) uint8 RGBA, straight alpha: vertex `colours` (V, 3) between the vertices of each face.

    inside: (F,) bool, the faces seen from within (through the open wrist), which lie in the dark.
    shadow: (H, W) 0..1, what else darkens each pixel. Alpha falls off over the mask's outermost
    pixels, so that the outline is smooth.
    """
    covered = (fragments.face >= 0).view(np.uint8) * np.uint8(255)
    alpha = cv2.blur(covered, (3, 3), borderType=cv2.BORDER_REPLICATE)
    rgba = np.zeros((*covered.shape, 4), np.uint8)
    _paint(fragments.face, fragments.barycentric, faces, colours, inside, shadow, alpha, rgba)
    return rgba


_LIGHT_WITHIN = np.float32(0.43)


@_compiled
def _paint(face, barycentric, faces, colours, inside, shadow, alpha, rgba):
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            k = face[y, x]
            if k < 0:
                continue
            v, w = barycentric[y, x, 0], barycentric[y, x, 1]
            a, b, c = colours[faces[k, 0]], colours[faces[k, 1]], colours[faces[k, 2]]
            scale = _WHITE * (_ONE - shadow[y, x]) * (_LIGHT_WITHIN if inside[k] else _ONE)
            for channel in range(3):
                value = (_ONE - v - w) * a[channel] + v * b[channel] + w * c[channel]
                rgba[y, x, channel] = np.uint8(max(value, _ZERO) * scale + _HALF)
            rgba[y, x, 3] = alpha[y, x]


def edge_weights(fragments: Fragments, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(H, W) float32: 1 on the sides of the visible faces, falling to 0 one pixel away; hidden sides are hidden.

    points: (V, 2 or 3) the vertices in the pixels of the fragments.
    """
    weights = np.zeros(fragments.face.shape, np.float32)
    _weigh_edges(fragments.face, points, faces, weights)
    return weights


@_compiled
def _weigh_edges(face, points, faces, weights):
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            k = face[y, x]
            if k < 0:
                continue
            for side in range(3):
                a, b = points[faces[k, side]], points[faces[k, (side + 1) % 3]]
                dx, dy = b[0] - a[0], b[1] - a[1]
                across = abs(dx * (np.float32(y) - a[1]) - dy * (np.float32(x) - a[0]))
                distance = across / max(np.sqrt(dx * dx + dy * dy), _TINY)
                weights[y, x] = max(weights[y, x], _ONE - distance)


def blend(image: np.ndarray, rgba: np.ndarray, opacity: float) -> None:
    """Put (H, W, 4) `rgba`, its alpha times `opacity` (0..1), over (H, W, 3) `image`, both uint8, in place."""
    _blend(image, rgba, np.float32(opacity) / _WHITE)


@_compiled
def _blend(image, rgba, fraction):
    for y in range(rgba.shape[0]):
        for x in range(rgba.shape[1]):
            if rgba[y, x, 3] == 0:
                continue
            alpha = np.float32(rgba[y, x, 3]) * fraction
            for channel in range(3):
                under, over = np.float32(image[y, x, channel]), np.float32(rgba[y, x, channel])
                image[y, x, channel] = np.uint8(under + alpha * (over - under) + _HALF)
