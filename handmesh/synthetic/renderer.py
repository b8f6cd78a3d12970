"""Surfaces (tubes, balls, slabs), light, and what one camera sees of them: shading, shadows, occlusion. Compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.files import visible
from handmesh.geometry import project
from handmesh.machine import compiled
from handmesh.render.rasterizer import Fragments, rasterize
from handmesh.synthetic.config import Materials, files_of
from handmesh.types import Camera


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


# Renders several lit surfaces seen by one camera: compiled shading, shadows and occlusion over the z-buffer.


class Light(NamedTuple):
    """Light in the camera's frame (x right, y down, z forward), brightness about 1."""

    lights: np.ndarray  # (L, 6) float32, L >= 1: unit direction to the light and its RGB
    surround: np.ndarray  # (9, 3) float32: irradiance / pi in real spherical harmonics


def harmonics(directions: np.ndarray) -> np.ndarray:
    """(N, 3) unit directions to (N, 9) real spherical harmonics up to degree 2.

    Source: Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps (2001).
    """
    x, y, z = directions.T
    one = np.full_like(x, 0.282095)
    first = [0.488603 * y, 0.488603 * z, 0.488603 * x]
    second = [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z]
    return np.stack([one, *first, *second, 0.546274 * (x * x - y * y)], -1)


_COSINE_LOBE = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)[:, None]
"""What a clamped cosine, divided by pi, keeps of each degree: radiance 1 all round gives irradiance / pi of 1."""


def random_light(rng: np.random.Generator) -> Light:
    """One to three lights, mostly from above and from the camera's side, in a sky-and-ground surround."""
    count = int(rng.integers(1, 4))
    directions = rng.normal(size=(count, 3)) - [0, 0.8, 0.5]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    strength = np.sort(rng.dirichlet(np.ones(count)))[::-1, None]
    colours = strength * np.clip(rng.normal(1, 0.1, (count, 3)), 0.7, 1.3)
    surround_fraction = rng.uniform(0.25, 0.75)
    sky, ground = np.clip(rng.normal(1.2, 0.12, 3), 0.6, 1.8), np.clip(rng.normal(0.7, 0.15, 3), 0.25, 1.3)
    surround = np.zeros((9, 3))
    surround[0] = (sky + ground) / 2 / 0.282095
    surround[1] = (ground - sky) / 2 / 0.488603
    lights = np.concatenate([directions, colours * (1 - surround_fraction) * 1.6], 1)
    return _exposed(lights, surround * surround_fraction, rng)


def _exposed(lights: np.ndarray, surround: np.ndarray, rng: np.random.Generator) -> Light:
    """The light scaled to a random brightness, as a camera's exposure leaves it."""
    bright = 0.282095 * surround[0].mean() + 0.5 * lights[:, 3:].mean(1).sum()
    gain = np.exp(min(rng.normal(0.0, 0.26), 0.4)) / max(bright, 1e-6)
    lights = np.concatenate([lights[:, :3], lights[:, 3:] * gain], 1)
    return Light(lights.astype(np.float32), (surround * gain).astype(np.float32))


class EnvironmentMap:
    """A panorama reduced to its brightest lights and a smooth rest."""

    WIDTH, HEIGHT = 64, 32

    def __init__(self, radiance: np.ndarray) -> None:
        """radiance: (H, 2H, 3) linear RGB, equirectangular, up at the top."""
        small = cv2.resize(radiance, (self.WIDTH, self.HEIGHT), interpolation=cv2.INTER_AREA)
        theta = (np.arange(self.HEIGHT) + 0.5) / self.HEIGHT * np.pi
        phi = (np.arange(self.WIDTH) + 0.5) / self.WIDTH * 2 * np.pi
        theta, phi = (angle.ravel() for angle in np.meshgrid(theta, phi, indexing="ij"))
        self._directions = np.stack([np.sin(theta) * np.cos(phi), -np.cos(theta), np.sin(theta) * np.sin(phi)], -1)
        solid_angle = np.sin(theta) * (np.pi / self.HEIGHT) * (2 * np.pi / self.WIDTH)
        self._power = small.reshape(-1, 3).astype(np.float64) * solid_angle[:, None]
        self._lights = [self._take_brightest() for _ in range(3)]

    def _take_brightest(self) -> tuple[np.ndarray, np.ndarray]:
        """Remove the brightest spot and what lies within 25 degrees above twice the mean; (direction, RGB)."""
        grey = self._power.mean(1)
        near = self._directions @ self._directions[grey.argmax()] > np.cos(np.radians(25))
        spot = near & (grey > 2 * grey.mean())
        spot[grey.argmax()] = True
        direction = (grey[spot, None] * self._directions[spot]).sum(0)
        colour = self._power[spot].sum(0) / np.pi
        self._power[spot] = np.median(self._power, axis=0)
        return direction / np.linalg.norm(direction), colour

    def light(self, rng: np.random.Generator) -> Light:
        """The panorama seen by a camera that faces anywhere and is pitched a little."""
        rotation = Rotation.from_euler("yxz", [rng.uniform(0, 360), rng.normal(0, 15), rng.normal(0, 8)], degrees=True)
        surround = _COSINE_LOBE * (harmonics(rotation.apply(self._directions)).T @ self._power)
        lights = np.stack([np.concatenate([rotation.apply(d), colour]) for d, colour in self._lights])
        lights[:, 3:] *= rng.uniform(0.5, 1.2)
        return _exposed(lights, surround, rng)


def load_environments(folder: Path | str, materials: Materials = "all") -> list[EnvironmentMap]:
    """The `.hdr` panoramas in a folder that belong to `materials`; it may be none.

    Raises FileNotFoundError where the folder holds no panorama at all.
    """
    files = visible(Path(folder).glob("*.hdr"))
    if not files:
        raise FileNotFoundError(f"no .hdr environment map in {folder}: give a folder of equirectangular panoramas")
    return [EnvironmentMap(_read_radiance(file)) for file in files_of(files, materials)]


def _read_radiance(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        raise ValueError(f"{file} is not a readable Radiance .hdr image")
    return image[..., 2::-1].astype(np.float32)


def draw_light(rng: np.random.Generator, environments: Sequence[EnvironmentMap]) -> Light:
    """Light for one image: half the time from an environment map where there are any."""
    if environments and rng.random() < 0.5:
        return environments[rng.integers(len(environments))].light(rng)
    return random_light(rng)


# Renders several lit surfaces seen by one camera: compiled shading, shadows and occlusion over the z-buffer.


# Compiled shading: normals, ambient occlusion, shadows, texture and light on what the z-buffer found.


_fast = compiled(fastmath=True)

FAR = np.float32(10.0)
"""Orthographic depth is measured from a plane this far away, where 1/z is linear enough."""

POSITION, NORMAL, AMBIENT, OCCLUSION, SHADOW, TINT = 0, 3, 6, 9, 10, 13
ATTRIBUTES = 16
"""Columns of a vertex's attributes, and how many there are."""


@_fast
def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
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
def shade(
    fragments: Fragments, faces: np.ndarray, first: int, last: int, uv: np.ndarray, uv_faces: np.ndarray,
    attributes: np.ndarray, lights: np.ndarray, shadow: np.ndarray, texture: np.ndarray, albedo: np.ndarray,
    finish: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
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
def resolve(linear: np.ndarray, face: np.ndarray, hand_faces: int, supersample: int) -> tuple[np.ndarray, np.ndarray]:
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
