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
    """The nearest surface at each pixel of a `height` x `width` picture.

    points: (V, 3) float32: pixel x, pixel y (the centre of the top-left pixel is (0, 0)) and z > 0
    along the view. faces: (F, 3) int32; both orientations are drawn. Faces with a vertex at
    z <= 0 or at a non-finite place are left out.
    """
    face = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 2), np.float32)
    depth = np.zeros((height, width), np.float32)
    _fill(np.ascontiguousarray(points, np.float32), np.ascontiguousarray(faces, np.int32), face, barycentric, depth)
    _divide(barycentric, depth)
    return Fragments(face, barycentric, depth)


_ZERO, _ONE = np.float32(0), np.float32(1)
_SMALLEST_AREA, _LARGEST_AREA = np.float32(1e-12), np.float32(1e12)
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _fill(points, faces, face, weighted, nearness):
    """Draw all faces: `nearness` is 1/z and `weighted` the barycentric weights times 1/z of their vertex.

    Both are linear in the picture, so that a pixel needs no division. A pixel is covered when it
    lies between the places where its row crosses the triangle's sides. Triangles that share a side
    compute that place from the same two points in the same order, hence leave no gap between them.
    """
    height, width = face.shape
    for k in range(len(faces)):
        ax, ay, az = points[faces[k, 0]]
        bx, by, bz = points[faces[k, 1]]
        cx, cy, cz = points[faces[k, 2]]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not (min(az, bz, cz) > _ZERO and _SMALLEST_AREA < abs(area) < _LARGEST_AREA):
            continue
        per_area = _ONE / area
        v_dx, v_dy = (cy - ay) * per_area, (ax - cx) * per_area
        w_dx, w_dy = (ay - by) * per_area, (bx - ax) * per_area
        near_a, near_b, near_c = _ONE / az, _ONE / bz, _ONE / cz
        (tx, ty), (mx, my), (lx, ly) = _from_top((ax, ay), (bx, by), (cx, cy))
        long, upper, lower = (lx - tx) / (ly - ty), (mx - tx) / (my - ty), (lx - mx) / (ly - my)
        for y in range(int(max(_ZERO, np.ceil(ty))), int(min(np.float32(height - 1), np.floor(ly))) + 1):
            row = np.float32(y)
            x0 = tx + (row - ty) * long
            x1 = tx + (row - ty) * upper if row < my or my == ly else mx + (row - my) * lower
            first = int(max(_ZERO, np.ceil(min(x0, x1))))
            last = int(min(np.float32(width - 1), np.floor(max(x0, x1))))
            for x in range(first, last + 1):
                dx, dy = np.float32(x) - ax, row - ay
                v = min(max(dx * v_dx + dy * v_dy, _ZERO), _ONE)
                w = min(max(dx * w_dx + dy * w_dy, _ZERO), _ONE - v)
                near = (_ONE - v - w) * near_a + v * near_b + w * near_c
                if near > nearness[y, x]:
                    nearness[y, x] = near
                    face[y, x] = k
                    weighted[y, x, 0] = v * near_b
                    weighted[y, x, 1] = w * near_c


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


@_compiled
def _divide(weighted, nearness):
    """In place: 1/z to z, and weights times 1/z to weights."""
    for y in range(nearness.shape[0]):
        for x in range(nearness.shape[1]):
            near = nearness[y, x]
            z = _ONE / near
            nearness[y, x] = z
            if near > _ZERO:
                weighted[y, x, 0] *= z
                weighted[y, x, 1] *= z
