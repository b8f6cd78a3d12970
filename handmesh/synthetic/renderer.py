"""Renders several lit surfaces seen by one camera: compiled shading, shadows and occlusion over the z-buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from handmesh.geometry import project
from handmesh.render.rasterizer import rasterize
from handmesh.synthetic.lighting import Light, harmonics
from handmesh.synthetic.surfaces import Material, Surface
from handmesh.types import Camera

# Compiled shading: normals, ambient occlusion, shadows, texture and light on what the z-buffer found.


_fast = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

FAR = np.float32(10.0)
"""Orthographic depth is measured from a plane this far away, where 1/z is linear enough."""

POSITION, NORMAL, AMBIENT, OCCLUSION, SHADOW, TINT = 0, 3, 6, 9, 10, 13
ATTRIBUTES = 16
"""Columns of a vertex's attributes, and how many there are."""


@_fast
def vertex_normals(vertices, faces):
    """(V, 3) float32 unit normals: the area-weighted mean of the faces around each vertex."""
    normals = np.zeros_like(vertices)
    for k in range(len(faces)):
        a, b, c = faces[k, 0], faces[k, 1], faces[k, 2]
        ex, ey, ez = vertices[b] - vertices[a]
        gx, gy, gz = vertices[c] - vertices[a]
        nx, ny, nz = ey * gz - ez * gy, ez * gx - ex * gz, ex * gy - ey * gx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        normals[i] /= max(length, np.float32(1e-12))
    return normals


def towards(vertices: np.ndarray, direction: np.ndarray, size: int, focus: int) -> np.ndarray:
    """(V, 3) float32 points for `rasterize`: the vertices seen from far away in the unit `direction`.

    The first `focus` vertices fill a `size` x `size` image; others may lie outside.
    """
    return _rotation(vertices, _frame(direction), size, focus)


def _frame(direction: np.ndarray) -> np.ndarray:
    """(3, 3) float32 rows right, down and forward of a view from `direction` on."""
    x, y, z = direction
    side = np.array([z, 0, -x] if abs(y) < 0.9 else [-y, x, 0])
    side /= np.linalg.norm(side)
    down = (y * side[2] - z * side[1], z * side[0] - x * side[2], x * side[1] - y * side[0])
    return np.array([side, down, (-x, -y, -z)], np.float32)


@_fast
def _rotation(vertices, frame, size, focus):
    points = np.empty_like(vertices)
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for c in range(3):
            points[i, c] = frame[c, 0] * x + frame[c, 1] * y + frame[c, 2] * z
            if i < focus:
                low[c] = min(low[c], points[i, c])
                high[c] = max(high[c], points[i, c])
    scale = np.float32(size - 1) / max(high[0] - low[0], high[1] - low[1], np.float32(1e-6))
    away = FAR - (low[2] + high[2]) / np.float32(2)
    for i in range(len(points)):
        points[i, 0] = (points[i, 0] - low[0]) * scale
        points[i, 1] = (points[i, 1] - low[1]) * scale
        points[i, 2] += away
    return points


OCCLUSION_GRID = 48
"""Cells a side of the maps that ambient occlusion is read from; about a vertex's distance on a hand."""

OCCLUSION_GAP_M, OCCLUSION_CELL_M = 0.004, 0.006
"""What lies this little before a surface, or on its own slope as far as a drawn vertex reaches, does not hide it."""


def ambient_occlusion(vertices: np.ndarray, normals: np.ndarray, directions: np.ndarray, focus: int) -> np.ndarray:
    """(V,) float32 fraction of the (D, 3) directions above each vertex from which it is seen.

    Measured around the first `focus` vertices; what lies far outside counts as seen. Vertices alone
    are drawn, each over its neighbouring cells: coarse, but many times as fast as triangles.
    """
    seen = np.full(len(vertices), 0.05, np.float32)
    total = np.full(len(vertices), 0.05, np.float32)
    for direction in directions:
        points = towards(vertices, direction, OCCLUSION_GRID - 2, focus)
        _count_seen(points, normals, direction.astype(np.float32), seen, total)
    return seen / total


@_fast
def _count_seen(points, normals, direction, seen, total):
    depth = np.full((OCCLUSION_GRID, OCCLUSION_GRID), np.inf, np.float32)
    half, end, one = np.float32(1.5), np.float32(OCCLUSION_GRID - 1), np.float32(1)
    for i in range(len(points)):
        x, y = points[i, 0] + half, points[i, 1] + half
        if 1 <= x < end and 1 <= y < end:
            for v in range(int(y) - 1, int(y) + 2):
                for u in range(int(x) - 1, int(x) + 2):
                    depth[v, u] = min(depth[v, u], points[i, 2])
    for i in range(len(points)):
        facing = normals[i, 0] * direction[0] + normals[i, 1] * direction[1] + normals[i, 2] * direction[2]
        if facing > 0:
            total[i] += facing
            slope = np.sqrt(max(one - facing * facing, np.float32(0))) / max(facing, np.float32(0.1))
            gap = np.float32(OCCLUSION_GAP_M) + np.float32(OCCLUSION_CELL_M) * slope
            x, y = points[i, 0] + half, points[i, 1] + half
            inside = 1 <= x < end and 1 <= y < end
            if not inside or points[i, 2] < depth[int(y), int(x)] + gap:
                seen[i] += facing


@_fast
def shade(fragments, faces, first, last, uv, uv_faces, attributes, lights, shadow, texture, albedo, finish, out):
    """Write linear RGB and coverage of the pixels whose face is in [first, last) to (H, W, 4) `out`.

    fragments: of the whole scene; faces: (F, 3). uv, uv_faces: of this part, its faces counted from
    `first`. attributes: (V, ATTRIBUTES) float32. lights: (L, 6) float32, the unit direction to each
    light and its colour; the first casts the (N, N) `shadow` depth. texture: (T, T, 3) uint8, seen
    through (256, 3) float32 `albedo`. finish: (5,) float32 gloss, the number of
    times that the highlight's cosine is squared, and the light that wraps around the terminator in
    red, green and blue, as it does where it spreads in skin.
    """
    face, barycentric, _ = fragments
    a = np.empty(ATTRIBUTES, np.float32)
    base = np.empty(3, np.float32)
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            k = face[y, x]
            if k < first or k >= last:
                continue
            v, w = barycentric[y, x, 0], barycentric[y, x, 1]
            u = np.float32(1) - v - w
            i, j, m = faces[k, 0], faces[k, 1], faces[k, 2]
            for n in range(ATTRIBUTES):
                a[n] = u * attributes[i, n] + v * attributes[j, n] + w * attributes[m, n]
            i, j, m = uv_faces[k - first, 0], uv_faces[k - first, 1], uv_faces[k - first, 2]
            s = u * uv[i, 0] + v * uv[j, 0] + w * uv[m, 0]
            t = u * uv[i, 1] + v * uv[j, 1] + w * uv[m, 1]
            _look_up(texture, albedo, s, t, base)
            _light(a, base, lights, shadow, finish, out[y, x])


@_fast
def _look_up(texture, albedo, s, t, base):
    """Bilinear texture, repeated beyond [0, 1), its values turned into reflectances."""
    height, width = texture.shape[:2]
    px = (s - np.floor(s)) * (width - 1)
    py = (np.float32(1) - (t - np.floor(t))) * (height - 1)
    x, y = min(int(px), width - 2), min(int(py), height - 2)
    fx, fy = px - np.float32(x), py - np.float32(y)
    for c in range(3):
        top = albedo[texture[y, x, c], c] * (np.float32(1) - fx) + albedo[texture[y, x + 1, c], c] * fx
        low = albedo[texture[y + 1, x, c], c] * (np.float32(1) - fx) + albedo[texture[y + 1, x + 1, c], c] * fx
        base[c] = top * (np.float32(1) - fy) + low * fy


@_fast
def _lit_fraction(shadow, px, py, near):
    """Fraction of the four nearest shadow texels that lie beyond `near`, weighted bilinearly."""
    end = np.float32(shadow.shape[0] - 1.01)
    if not (0 <= px <= end and 0 <= py <= end):
        return np.float32(1)
    x, y = int(px), int(py)
    fx, fy = px - np.float32(x), py - np.float32(y)
    top = (np.float32(1) - fx) * (near < shadow[y, x]) + fx * (near < shadow[y, x + 1])
    low = (np.float32(1) - fx) * (near < shadow[y + 1, x]) + fx * (near < shadow[y + 1, x + 1])
    return top * (np.float32(1) - fy) + low * fy


@_fast
def _light(a, base, lights, shadow, finish, pixel):
    """Light one point: ambient, wrapped diffuse and a Blinn-Phong highlight, into `pixel`."""
    one = np.float32(1)
    nx, ny, nz = a[NORMAL], a[NORMAL + 1], a[NORMAL + 2]
    ex, ey, ez = -a[POSITION], -a[POSITION + 1], -a[POSITION + 2]
    n_scale = one / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
    e_scale = one / np.sqrt(ex * ex + ey * ey + ez * ez + np.float32(1e-12))
    nx, ny, nz, ex, ey, ez = nx * n_scale, ny * n_scale, nz * n_scale, ex * e_scale, ey * e_scale, ez * e_scale
    if nx * ex + ny * ey + nz * ez < 0:
        nx, ny, nz = -nx, -ny, -nz
    red, green, blue = a[AMBIENT], a[AMBIENT + 1], a[AMBIENT + 2]
    shine_r = shine_g = shine_b = np.float32(0)
    for k in range(len(lights)):
        lx, ly, lz = lights[k, 0], lights[k, 1], lights[k, 2]
        facing = nx * lx + ny * ly + nz * lz
        seen = a[OCCLUSION]
        if k == 0:
            bias = np.float32(0.005) + np.float32(0.01) * (one - max(facing, np.float32(0)))
            seen = _lit_fraction(shadow, a[SHADOW], a[SHADOW + 1], a[SHADOW + 2] - bias)
        red += lights[k, 3] * seen * max((facing + finish[2]) / (one + finish[2]), np.float32(0))
        green += lights[k, 4] * seen * max((facing + finish[3]) / (one + finish[3]), np.float32(0))
        blue += lights[k, 5] * seen * max((facing + finish[4]) / (one + finish[4]), np.float32(0))
        if facing > 0 and finish[0] > 0:
            hx, hy, hz = lx + ex, ly + ey, lz + ez
            towards_half = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-9))
            glint = max(towards_half, np.float32(0))
            for _ in range(int(finish[1])):
                glint *= glint
            glint *= finish[0] * seen
            shine_r += glint * lights[k, 3]
            shine_g += glint * lights[k, 4]
            shine_b += glint * lights[k, 5]
    pixel[0] = base[0] * a[TINT] * red + shine_r
    pixel[1] = base[1] * a[TINT + 1] * green + shine_g
    pixel[2] = base[2] * a[TINT + 2] * blue + shine_b
    pixel[3] = one


@_fast
def resolve(linear, face, hand_faces, supersample):
    """Average `supersample` squared samples a pixel.

    linear: (sH, sW, 4) float32 RGB and coverage. Gives (H, W, 4) uint8 RGBA, straight alpha, with
    gamma 2 applied before averaging, and (H, W) uint8 coverage by faces below `hand_faces`.
    """
    height, width = linear.shape[0] // supersample, linear.shape[1] // supersample
    rgba = np.zeros((height, width, 4), np.uint8)
    hand = np.zeros((height, width), np.uint8)
    full = np.float32(255) / np.float32(supersample * supersample)
    for y in range(height):
        for x in range(width):
            red = green = blue = covered = owned = np.float32(0)
            for v in range(y * supersample, (y + 1) * supersample):
                for u in range(x * supersample, (x + 1) * supersample):
                    if face[v, u] < 0:
                        continue
                    red += np.sqrt(min(linear[v, u, 0], np.float32(1)))
                    green += np.sqrt(min(linear[v, u, 1], np.float32(1)))
                    blue += np.sqrt(min(linear[v, u, 2], np.float32(1)))
                    covered += np.float32(1)
                    owned += np.float32(face[v, u] < hand_faces)
            if covered > 0:
                rgba[y, x, 0] = np.uint8(np.float32(255) * red / covered)
                rgba[y, x, 1] = np.uint8(np.float32(255) * green / covered)
                rgba[y, x, 2] = np.uint8(np.float32(255) * blue / covered)
                rgba[y, x, 3] = np.uint8(full * covered)
                hand[y, x] = np.uint8(full * owned)
    return rgba, hand


# Several lit surfaces seen by one camera: RGBA and which pixels are the labelled hand's.


NEAR_M = 0.03

OCCLUSION_STRENGTH = 0.8
"""The rest stands for light that reaches hollows by way of the skin around them."""


class Part(NamedTuple):
    """One surface and what it is made of."""

    surface: Surface  # in the camera's frame
    material: Material
    tint: np.ndarray | None = None  # (V, 3) float32 factors on the reflectance


class RenderedScene(NamedTuple):
    """A rendered scene on transparent ground."""

    rgba: np.ndarray  # (H, W, 4) uint8, straight alpha
    hand: np.ndarray  # (H, W) uint8, fraction of each pixel that shows the first part's first `hand_faces`


def render(
    parts: Sequence[Part],
    hand_faces: int,
    camera: Camera,
    light: Light,
    occlusion_directions: np.ndarray,
    focus: int | None = None,
    supersample: int = 2,
) -> RenderedScene:
    """Draw `parts` together: they cover one another, shade one another and cast shadows.

    occlusion_directions: (D, 3) unit vectors over which ambient occlusion is measured;
    focus: how many of the first vertices its maps and the shadow's are framed on, by default the first part's.
    """
    vertices = np.concatenate([part.surface.vertices for part in parts])
    first_vertex = np.cumsum([0] + [len(part.surface.vertices) for part in parts])
    first_face = np.cumsum([0] + [len(part.surface.faces) for part in parts])
    faces = np.concatenate([part.surface.faces + np.int32(v) for part, v in zip(parts, first_vertex, strict=False)])
    focus = len(parts[0].surface.vertices) if focus is None else focus
    attributes, shadow = _attributes(vertices, faces, light, occlusion_directions, focus, _shadow_size(camera))
    for part, v in zip(parts, first_vertex, strict=False):
        if part.tint is not None:
            attributes[v : v + len(part.tint), TINT:] = part.tint
    height, width = camera.height * supersample, camera.width * supersample
    fragments = rasterize(_finer(vertices, camera, supersample), faces, height, width)
    linear = np.empty((height, width, 4), np.float32)
    for k, part in enumerate(parts):
        surface, material = part.surface, part.material
        shade(
            *(fragments, faces, first_face[k], first_face[k + 1], surface.uv, surface.uv_faces, attributes),
            *(light.lights, shadow, material.texture, material.albedo, material.finish, linear),
        )
    return RenderedScene(*resolve(linear, fragments.face, hand_faces, supersample))


def _attributes(
    vertices: np.ndarray, faces: np.ndarray, light: Light, directions: np.ndarray, focus: int, shadow_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(V, ATTRIBUTES) what shading interpolates, and the first light's (N, N) shadow depth."""
    normals = vertex_normals(vertices, faces)
    seen = ambient_occlusion(vertices, normals, directions, focus)
    occlusion = 1 - OCCLUSION_STRENGTH * (1 - seen)
    points = towards(vertices, light.lights[0, :3].tolist(), shadow_size, focus)
    shadow = rasterize(points, faces, shadow_size, shadow_size).depth
    attributes = np.ones((len(vertices), ATTRIBUTES), np.float32)
    attributes[:, POSITION : POSITION + 3] = vertices
    attributes[:, NORMAL : NORMAL + 3] = normals
    ambient = (harmonics(normals) @ light.surround).clip(0) * occlusion[:, None]
    attributes[:, AMBIENT : AMBIENT + 3] = ambient
    attributes[:, OCCLUSION] = occlusion
    attributes[:, SHADOW : SHADOW + 3] = points
    return attributes, shadow


def _shadow_size(camera: Camera) -> int:
    """Texels a side of the shadow map: a little finer than the hand usually is in the image."""
    return int(min(1.2 * max(camera.width, camera.height), 800))


def _finer(vertices: np.ndarray, camera: Camera, supersample: int) -> np.ndarray:
    """(V, 3) float32 points for `rasterize` on a grid `supersample` times as fine; z <= 0 where too near."""
    depth = vertices[:, 2]
    ahead = depth > NEAR_M
    points = np.zeros((len(vertices), 3), np.float32)
    points[ahead, :2] = project(vertices[ahead], camera) * supersample + (supersample - 1) / 2
    points[:, 2] = np.where(ahead, depth, -1.0)
    return points
