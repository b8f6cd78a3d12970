"""pyrender behind the interface of `render.overlay`: for stills, and as the reference of the z-buffer."""

from __future__ import annotations

import ctypes.util
import os
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.render.rasterizer import KEY, vertex_normals
from handmesh.types import Camera

if TYPE_CHECKING:
    import pyrender

_NEAR_M, _FAR_M = 0.01, 100.0
_CAMERA_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's cameras look along -z, with y up
_LIGHTS = (((0.0, 0.0, -1.0), 1.2), (KEY, 2.6))  # direction towards the light, strength

of_this_thread = threading.local()  # an EGL context belongs to the thread that made it


class RendererError(RuntimeError):
    """pyrender cannot draw on this machine; the message says why and what to do."""


def render_pyrender(
    vertices_m: np.ndarray, faces: np.ndarray, albedo: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 4) uint8 RGBA with straight alpha and (H, W) float32 depth, infinity where there is nothing.

    vertices_m: (V, 3) in the camera's frame; faces: (F, 3); albedo: (V, 3) 0..1.
    Raises RendererError where no OpenGL context can be made.
    """
    pyrender = _import_pyrender()
    scene = _scene(pyrender, vertices_m, faces, albedo, camera)
    flags = pyrender.RenderFlags.RGBA | pyrender.RenderFlags.SKIP_CULL_FACES
    colour, depth = offscreen_renderer(pyrender, camera).render(scene, flags)
    return _straight_alpha(colour), np.where(depth > 0, depth, np.inf).astype(np.float32)


def _import_pyrender() -> ModuleType:
    """pyrender, with OpenGL's platform chosen before its first import and NumPy 2 made to fit it."""
    if "OpenGL" not in sys.modules and sys.platform.startswith("linux"):
        platform = "egl" if ctypes.util.find_library("EGL") else "osmesa"
        os.environ.setdefault("PYOPENGL_PLATFORM", platform)
    if not hasattr(np, "infty"):
        np.infty = np.inf  # pyrender 0.1.45 still spells it so
    try:
        import pyrender
    except Exception as error:  # PyOpenGL raises what it likes: ImportError, AttributeError, OSError
        raise _unavailable(error) from error
    return pyrender


def offscreen_renderer(pyrender: ModuleType, camera: Camera) -> pyrender.OffscreenRenderer:
    """This thread's renderer, set to the camera's image size; making one is slow, so it is kept."""
    renderer = getattr(of_this_thread, "renderer", None)
    if renderer is None:
        try:
            renderer = pyrender.OffscreenRenderer(camera.width, camera.height)
        except Exception as error:  # as above, and pyglet's own where there is no display
            raise _unavailable(error) from error
        of_this_thread.renderer = renderer
    renderer.viewport_width, renderer.viewport_height = camera.width, camera.height
    return renderer


def _unavailable(error: Exception) -> RendererError:
    platform = os.environ.get("PYOPENGL_PLATFORM", "the system's own")
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return RendererError(
        f"pyrender finds no OpenGL here (platform {platform}; {reason}): use the renderer 'zbuffer', "
        "or install EGL (Debian, Ubuntu: apt install libegl1 libgl1) and leave PYOPENGL_PLATFORM unset"
    )


def _scene(
    pyrender: ModuleType,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    albedo: np.ndarray,
    camera: Camera,
) -> pyrender.Scene:
    scene = pyrender.Scene(bg_color=np.zeros(4), ambient_light=np.full(3, 0.25))
    if len(faces):
        scene.add(_mesh(pyrender, vertices_m, faces, albedo))
    # pyrender measures the principal point from the image's outer border, we from a pixel's centre.
    intrinsics = (camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5)
    scene.add(pyrender.IntrinsicsCamera(*intrinsics, znear=_NEAR_M, zfar=_FAR_M), pose=_CAMERA_FROM_OPENGL)
    for towards, strength in _LIGHTS:
        pose = np.eye(4)
        pose[:3, :3] = Rotation.align_vectors([towards], [(0, 0, 1)])[0].as_matrix()
        scene.add(pyrender.DirectionalLight(color=np.ones(3), intensity=strength), pose=pose)
    return scene


def _mesh(pyrender: ModuleType, vertices_m: np.ndarray, faces: np.ndarray, albedo: np.ndarray) -> pyrender.Mesh:
    body = pyrender.Primitive(
        positions=vertices_m,
        normals=vertex_normals(vertices_m, faces),
        indices=faces,
        color_0=albedo**2.2,  # pyrender reckons in linear light
        mode=pyrender.GLTF.TRIANGLES,
        material=pyrender.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=0.6),
    )
    return pyrender.Mesh([body])


def _straight_alpha(rgba: np.ndarray) -> np.ndarray:
    """Undo the mixing of the outline's smoothed pixels with the black, empty background."""
    alpha = np.maximum(rgba[..., 3:].astype(np.float32) / 255, 1e-3)
    colour = np.minimum(rgba[..., :3] / alpha, 255) * (rgba[..., 3:] > 0)
    return np.concatenate([colour.round().astype(np.uint8), rgba[..., 3:]], axis=-1)
