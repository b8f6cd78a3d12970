"""A compiled z-buffer: which triangle covers each pixel, where on it, and how far away."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np


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

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


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
