"""Several lit surfaces seen by one camera: RGBA and which pixels are the labelled hand's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handmesh.camera import project
from handmesh.data.synthetic import shading
from handmesh.data.synthetic.lighting import Light, harmonics
from handmesh.data.synthetic.mesh import Surface
from handmesh.data.synthetic.skin import Material
from handmesh.rasterizer import rasterize
from handmesh.structs import Camera

NEAR_M = 0.03

OCCLUSION_STRENGTH = 0.8
"""The rest stands for light that reaches hollows by way of the skin around them."""


class Part(NamedTuple):
    """One surface and what it is made of."""

    surface: Surface  # in the camera's frame
    material: Material
    tint: np.ndarray | None = None  # (V, 3) float32 factors on the reflectance


class Picture(NamedTuple):
    """A rendered scene on transparent ground."""

    rgba: np.ndarray  # (H, W, 4) uint8, straight alpha
    hand: np.ndarray  # (H, W) uint8, share of each pixel that shows the first part's first `hand_faces`


def render(
    parts: Sequence[Part],
    hand_faces: int,
    camera: Camera,
    light: Light,
    occlusion_directions: np.ndarray,
    focus: int | None = None,
    supersample: int = 2,
) -> Picture:
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
            attributes[v : v + len(part.tint), shading.TINT :] = part.tint
    height, width = camera.height * supersample, camera.width * supersample
    fragments = rasterize(_finer(vertices, camera, supersample), faces, height, width)
    linear = np.empty((height, width, 4), np.float32)
    for k, part in enumerate(parts):
        surface, material = part.surface, part.material
        shading.shade(
            *(fragments, faces, first_face[k], first_face[k + 1], surface.uv, surface.uv_faces, attributes),
            *(light.lights, shadow, material.texture, material.albedo, material.finish, linear),
        )
    return Picture(*shading.resolve(linear, fragments.face, hand_faces, supersample))


def _attributes(
    vertices: np.ndarray, faces: np.ndarray, light: Light, directions: np.ndarray, focus: int, shadow_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(V, ATTRIBUTES) what shading interpolates, and the first light's (N, N) shadow depth."""
    normals = shading.vertex_normals(vertices, faces)
    seen = shading.ambient_occlusion(vertices, normals, directions, focus)
    occlusion = 1 - OCCLUSION_STRENGTH * (1 - seen)
    points = shading.towards(vertices, light.lights[0, :3].tolist(), shadow_size, focus)
    shadow = rasterize(points, faces, shadow_size, shadow_size).depth
    attributes = np.ones((len(vertices), shading.ATTRIBUTES), np.float32)
    attributes[:, shading.POSITION : shading.POSITION + 3] = vertices
    attributes[:, shading.NORMAL : shading.NORMAL + 3] = normals
    ambient = (harmonics(normals) @ light.surround).clip(0) * occlusion[:, None]
    attributes[:, shading.AMBIENT : shading.AMBIENT + 3] = ambient
    attributes[:, shading.OCCLUSION] = occlusion
    attributes[:, shading.SHADOW : shading.SHADOW + 3] = points
    return attributes, shadow


def _shadow_size(camera: Camera) -> int:
    """Texels a side of the shadow map: a little finer than the hand usually is in the picture."""
    return int(min(1.2 * max(camera.width, camera.height), 800))


def _finer(vertices: np.ndarray, camera: Camera, supersample: int) -> np.ndarray:
    """(V, 3) float32 points for `rasterize` on a grid `supersample` times as fine; z <= 0 where too near."""
    depth = vertices[:, 2]
    ahead = depth > NEAR_M
    points = np.zeros((len(vertices), 3), np.float32)
    points[ahead, :2] = project(vertices[ahead], camera) * supersample + (supersample - 1) / 2
    points[:, 2] = np.where(ahead, depth, -1.0)
    return points
